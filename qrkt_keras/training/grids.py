"""Pictures of many images at once."""

from __future__ import annotations

import math
import os
from pathlib import Path

import keras
import numpy as np

from qrkt_keras.layers.projection import positive_integer
from qrkt_keras.training.files import atomic_write
from qrkt_keras.training.job import is_due
from qrkt_keras.training.summaries import EVENT_FILES, Summaries

# A grid's longer side is enlarged to about so many pixels, by whole factors.
_SIDE = 512

# What `SampleGrids` leaves in its folder.
GRID_FILES = (f"epoch_{'[0-9]' * 4}.png", EVENT_FILES)


def image_grid(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Many images as one, row by row.

    Args:
        images: uint8 images `(n, height, width, channels)`.
        columns: Images in a row; by default as many as make the grid a square.
        gap: Pixels of white between two images.

    Returns:
        A uint8 image `(rows * (height + gap) - gap, columns * (width + gap) - gap, channels)`.

    Raises:
        ValueError: If the images have another form.

    Example:

    >>> import numpy as np
    >>> image_grid(np.zeros((6, 8, 8, 1), np.uint8), columns=3).shape
    (17, 26, 1)
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            "images must be uint8 (n, height, width, channels). "
            f"Received: shape {images.shape}, dtype {images.dtype}"
        )
    number, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grid = np.full((rows, height + gap, columns, width + gap, channels), 255, np.uint8)
    filled = np.full((rows * columns, height, width, channels), 255, np.uint8)
    filled[:number] = images
    filled = filled.reshape(rows, columns, height, width, channels)
    grid[:, :height, :, :width] = filled.transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * (height + gap), columns * (width + gap), channels)
    return grid[: rows * (height + gap) - gap, : columns * (width + gap) - gap]


def grid_picture(
    images: np.ndarray, path: str | os.PathLike[str], *, columns: int | None = None
) -> None:
    """Writes many images as one PNG, enlarged by a whole factor where they are small.

    Args:
        images: uint8 images `(n, height, width, channels)` of one or three channels.
        path: The file to write.
        columns: Images in a row; by default as many as make the grid a square.

    Raises:
        ValueError: If the images have another form.
    """
    from PIL import Image

    grid = image_grid(images, columns)
    factor = max(1, _SIDE // max(grid.shape[:2]))
    grid = grid.repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic_write(path) as file:
        Image.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid).save(file, format="PNG")


class SampleGrids(keras.callbacks.Callback):
    """Pictures of what a GAN makes of the same noise, epoch by epoch.

    Args:
        folder: Where the pictures go, `epoch_0001.png` and so on; for TensorBoard too, if
            `tensorboard` says so.
        every: Epochs between two pictures; the last epoch always has one.
        num: Images of a picture.
        seed: Seed of the noise.
        tensorboard: Whether the pictures, and the logs of every epoch, are written for TensorBoard,
            into the folder.

    Raises:
        ValueError: If `every` or `num` is not a positive integer.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 1,
        num: int = 64,
        seed: int = 0,
        tensorboard: bool = False,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.every = positive_integer("every", every)
        self.num = positive_integer("num", num)
        self.seed = seed
        self._summaries = Summaries(folder) if tensorboard else None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done, images = epoch + 1, None
        self.folder.mkdir(parents=True, exist_ok=True)
        if is_due(done, self.every, self.params["epochs"]):
            images = self.model.generate(self.num, seed=self.seed)
            grid_picture(images, self.folder / f"epoch_{done:04d}.png")
        if self._summaries is not None:
            pictures = {} if images is None else {"samples": image_grid(images)}
            self._summaries.write(done, logs, pictures)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._summaries is not None:
            self._summaries.close()
