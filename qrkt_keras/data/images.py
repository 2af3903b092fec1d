"""Image files as model input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from qrkt_keras.data.errors import UnreadableImageError

if TYPE_CHECKING:
    import tensorflow as tf

# Images that are resized at once, as floats.
_AT_ONCE = 10_000


def read_image(path: str | os.PathLike[str], image_shape: tuple[int, int, int]) -> np.ndarray:
    """Reads an image file into the shape that a model takes.

    The camera's orientation is applied, transparent parts become white, the centre is cropped to
    the target's aspect ratio and resized with antialiasing. One channel means grey by luma
    (ITU-R 601). Light and dark are kept as they are: a model that was trained on white digits on
    black wants white digits on black.

    Args:
        path: A file of any format that Pillow reads; of several frames, the first.
        image_shape: `(height, width, channels)` with 1 or 3 channels.

    Returns:
        uint8 array of shape `image_shape`, in `[0, 255]`.

    Raises:
        ValueError: If `image_shape` is not such a shape.
        UnreadableImageError: If the file is missing, or is not a whole image.

    Example:

    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "grey.png"
    ...     Image.fromarray(np.full((16, 16), 100, np.uint8)).save(path)
    ...     read_image(path, (8, 8, 1)).mean()
    np.float64(100.0)
    """
    from PIL import Image, ImageOps

    shape = tuple(image_shape)
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
        raise ValueError(
            "image_shape must be (height, width, channels) with 1 or 3 channels. "
            f"Received: image_shape={image_shape}"
        )
    height, width, channels = shape
    try:
        with Image.open(path) as opened:
            image = _flatten(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    # Pillow raises SyntaxError, EOFError, struct.error and more on damaged files.
    except Exception as error:
        raise UnreadableImageError(
            f"The file cannot be read as an image ({error}). Received: {os.fspath(path)}"
        ) from error
    resized = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8).reshape(shape)


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images of another size, by bilinear interpolation with antialiasing.

    Args:
        images: uint8 images `(n, height, width, channels)`.
        size: Their new height and width.

    Returns:
        uint8 images `(n, *size, channels)`; the images themselves if they have that size.

    Example:

    >>> import numpy as np
    >>> resized(np.full((2, 28, 28, 1), 7, np.uint8), (16, 16)).shape
    (2, 16, 16, 1)
    """
    if images.shape[1:3] == tuple(size):
        return images

    import tensorflow as tf

    parts = [
        tf.image.resize(images[start : start + _AT_ONCE], size, antialias=True).numpy()
        for start in range(0, len(images), _AT_ONCE)
    ]
    return np.rint(np.concatenate(parts)).astype(np.uint8)


def fitted(images: tf.Tensor | np.ndarray, size: tuple[int, int]) -> tf.Tensor:
    """One image, or a batch, cut at the centre to a size's aspect ratio and resized to it.

    It is what `read_image` does to a file, in TensorFlow's operations.

    Args:
        images: uint8 `(..., height, width, channels)`.
        size: The new height and width.

    Returns:
        uint8 `(..., *size, channels)`.

    Example:

    >>> import numpy as np
    >>> tuple(fitted(np.full((20, 30, 3), 7, np.uint8), (8, 8)).shape)
    (8, 8, 3)
    """
    import tensorflow as tf

    images = tf.convert_to_tensor(images)
    if images.shape[-3:-1] == size:
        return images
    here = tf.shape(images)[-3:-1]
    # The largest part of the size's aspect ratio.
    scale = tf.reduce_min(here / tf.constant(size))
    part = tf.clip_by_value(tf.cast(tf.round(scale * size), tf.int32), 1, here)
    start = (here - part) // 2
    images = images[..., start[0] : start[0] + part[0], start[1] : start[1] + part[1], :]
    small = tf.image.resize(images, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's pixels, on the `[0, 1]` scale.

    Exact, and without a copy of the images as floats: from how often each of the 256 values is
    there.

    Example:

    >>> import numpy as np
    >>> channel_statistics(np.array([0, 255], np.uint8).reshape(1, 2, 1, 1))
    ((0.5,), (0.5,))
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        counts = sum(
            np.bincount(images[start : start + _AT_ONCE, ..., channel].ravel(), minlength=256)
            for start in range(0, len(images), _AT_ONCE)
        )
        mean = float(np.average(values, weights=counts))
        means.append(mean)
        deviations.append(float(np.sqrt(np.average((values - mean) ** 2, weights=counts))))
    return tuple(means), tuple(deviations)


def _flatten(image, mode: str):
    """An opaque 8-bit picture of the wanted mode."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert(mode)


def _from_deep(image):
    """8 bits from 16: Pillow's own conversion would clip at 255 instead of scaling."""
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"deep grey values must lie in 0..65535, these lie in {values.min()}..{values.max()}"
        )
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
