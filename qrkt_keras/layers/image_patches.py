"""Images cut into patches, as they are."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from qrkt_keras.layers.diff_augment import check_images
from qrkt_keras.layers.projection import positive_integer


@keras.saving.register_keras_serializable(package="qrkt_keras")
class ImagePatches(keras.layers.Layer):
    """Cuts images into square patches, which may overlap; it has no weights.

    Patch `(i, j)` has the pixels `stride * i ... stride * i + patch_size - 1` down and likewise
    across; patches are counted row by row, and so are their pixels. This is
    `keras.ops.image.extract_patches` without its convolution, which on TensorFlow takes no empty
    batch.

    Args:
        patch_size: Side of a patch in pixels.
        stride: Pixels from one patch to the next; by default `patch_size`.

    Call arguments:
        inputs: Images, a tensor of shape `(B, height, width, channels)`, of one known size.

    Returns:
        A tensor of shape `(B, rows * columns, patch_size**2 * channels)`, with `rows = 1 + (height
        - patch_size) // stride`, and likewise the columns. Where patches leave pixels unused, a
        warning says how many, when the layer is built.

    Raises:
        ValueError: If a number is less than 1, the input is not a batch of images of known size,
            or of another size than the first one, or an image is smaller than a patch.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import ImagePatches
    >>> images = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> ImagePatches(2, stride=1)(images)[0, :2].numpy()
    array([[0., 1., 4., 5.],
           [1., 2., 5., 6.]], dtype=float32)
    """

    def __init__(self, patch_size: int, stride: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = positive_integer("patch_size", patch_size)
        self.stride = self.patch_size if stride is None else positive_integer("stride", stride)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rows, columns = self._grid(input_shape)
        unused = num_unused_pixels(input_shape[1:3], self.patch_size, self.stride)
        if unused:
            warnings.warn(
                f"{unused} of {input_shape[1] * input_shape[2]} pixels are in no patch. Received: "
                f"patch_size={self.patch_size}, stride={self.stride} with an image of "
                f"{input_shape[1]}x{input_shape[2]} pixels, which has {rows}x{columns} patches",
                stacklevel=2,
            )
        # What is left unused was told of this size.
        self.input_spec = keras.layers.InputSpec(shape=(None, *input_shape[1:]))
        self.built = True

    def _grid(self, input_shape: tuple[int | None, ...]) -> tuple[int, int]:
        check_images(input_shape)
        return patch_grid(input_shape[1:3], self.patch_size, self.stride)

    def call(self, inputs: Any) -> Any:
        return cut_patches(inputs, self.patch_size, self.stride, self._grid(inputs.shape))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rows, columns = self._grid(input_shape)
        return (input_shape[0], rows * columns, self.patch_size**2 * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size, "stride": self.stride}


def patch_grid(sides: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """Returns the number of whole patches down and across, or refuses too small an image."""
    if min(sides) < patch_size:
        raise ValueError(
            "An image must not be smaller than a patch. "
            f"Received: patch_size={patch_size} with an image of {sides[0]}x{sides[1]} pixels"
        )
    rows, columns = (1 + (side - patch_size) // stride for side in sides)
    return rows, columns


def num_unused_pixels(sides: tuple[int, int], patch_size: int, stride: int) -> int:
    """Returns how many pixels are in no patch."""
    used = [
        min(stride, patch_size) * (number - 1) + patch_size
        for number in patch_grid(sides, patch_size, stride)
    ]
    return sides[0] * sides[1] - used[0] * used[1]


def cut_patches(images: Any, patch_size: int, stride: int, grid: tuple[int, int]) -> Any:
    """Returns the patches of images, `(B, rows * columns, patch_size**2 * channels)`."""
    rows, columns = grid
    for axis, number in ((1, rows), (2, columns)):
        if stride != patch_size or images.shape[axis] != number * patch_size:
            pixels = stride * np.arange(number)[:, None] + np.arange(patch_size)
            images = ops.take(images, pixels.ravel(), axis=axis)
    channels = images.shape[-1]
    patches = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
    patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (-1, rows * columns, patch_size**2 * channels))
