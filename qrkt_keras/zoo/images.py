"""What the image classifiers accept, and what `predict` checks in every pixel."""

from __future__ import annotations

import sys
import types
from typing import Any

import keras
import numpy as np

_FLOATS = ("float16", "bfloat16", "float32", "float64")

# Resizing leaves a pixel of 1 a rounding error above 1.
_TOLERANCE = 1e-6

Shape = tuple[int, int, int]


def check_form(images: Any, image_shape: Shape) -> None:
    """Refuses what is no batch of images, by its shape and dtype alone.

    Args:
        images: An array, or a tensor of any backend, symbolic or not.
        image_shape: Height, width and channels.

    Raises:
        TypeError: If it is no array or tensor, or neither of floats nor of uint8.
        ValueError: If the shape is not `(batch, *image_shape)`.

    Example:

    >>> import numpy as np
    >>> check_form(np.zeros((2, 28, 28), "uint8"), (28, 28, 1))
    Traceback (most recent call last):
    ...
    ValueError: Images must have the shape (batch, 28, 28, 1). Received: images of shape (2, 28, 28)
    """
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise TypeError(
            "Images must be an array or a tensor. "
            f"Received: {_shortened(images)} of type {type(images).__name__}"
        )
    expected = f"(batch, {', '.join(map(str, image_shape))})"
    try:
        shape = tuple(images.shape)
    except ValueError:  # TensorFlow's shape of unknown rank
        raise ValueError(
            f"Images must have the shape {expected}. Received: images of unknown shape"
        ) from None
    fits = len(shape) == 4 and all(
        size is None or size == wanted for size, wanted in zip(shape[1:], image_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Images must have the shape {expected}. Received: images of shape {shape}"
        )
    dtype = dtype_name(images)
    if dtype != "uint8" and dtype not in _FLOATS:
        raise TypeError(
            f"Images must be floats in [0, 1] or uint8. Received: images of dtype {dtype}"
        )


def check_pixels(images: Any, image_shape: Shape) -> None:
    """Refuses images of the wrong form, and floats that are not finite or not in [0, 1].

    Args:
        images: An array or an eager tensor.
        image_shape: Height, width and channels.

    Raises:
        TypeError: As `check_form`.
        ValueError: As `check_form`, or if a pixel is out of range; the message names it.

    Example:

    >>> import numpy as np
    >>> check_pixels(np.full((1, 2, 2, 1), 255.0), (2, 2, 1))
    Traceback (most recent call last):
    ...
    ValueError: Pixels given as floats must lie in [0, 1] (uint8 pixels in 0..255).
    Received: 255.0 at image 0, row 0, column 0, channel 0
    """
    check_form(images, image_shape)
    if dtype_name(images) == "uint8":
        return
    pixels = keras.ops.convert_to_numpy(images)
    # NaN passes through both, so that good images cost two passes and no copy.
    if pixels.size == 0 or (pixels.min() >= -_TOLERANCE and pixels.max() <= 1 + _TOLERANCE):
        return
    bad = ~((pixels >= -_TOLERANCE) & (pixels <= 1 + _TOLERANCE))
    image, row, column, channel = np.unravel_index(bad.argmax(), bad.shape)
    value = pixels[image, row, column, channel]
    rule = "must lie in [0, 1] (uint8 pixels in 0..255)" if np.isfinite(value) else "must be finite"
    raise ValueError(
        f"Pixels given as floats {rule}. Received: {value} at image {image}, row {row}, "
        f"column {column}, channel {channel}"
    )


def with_checked_pixels(source: Any, image_shape: Shape) -> Any:
    """Returns what `predict` was given, with `check_pixels` on each of its images.

    Arrays and tensors are checked at once. A `tf.data.Dataset`, a `keras.utils.PyDataset` and a
    generator are checked batch by batch, when they are read. Sources of other libraries pass as
    they are.

    Args:
        source: What Keras' `predict` takes.
        image_shape: Height, width and channels.

    Raises:
        TypeError, ValueError: As `check_pixels`, here or when a batch is read.
    """
    if isinstance(source, types.GeneratorType):
        return (_checked_batch(batch, image_shape) for batch in source)
    if isinstance(source, keras.utils.PyDataset):
        return _CheckedPyDataset(source, image_shape)
    if _is_tensorflow_dataset(source):
        return _checked_dataset(source, image_shape)
    if hasattr(source, "dtype") or isinstance(source, list | tuple | dict | str | int | float):
        check_pixels(source, image_shape)
    return source


def dtype_name(images: Any) -> str:
    """Returns the name of an array's or a tensor's dtype."""
    try:
        return keras.backend.standardize_dtype(images.dtype)
    except ValueError:  # one that Keras does not know
        return str(images.dtype)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _checked_batch(batch: Any, image_shape: Shape) -> Any:
    check_pixels(batch[0] if isinstance(batch, list | tuple) else batch, image_shape)
    return batch


class _CheckedPyDataset(keras.utils.PyDataset):
    """Another `PyDataset`, whose batches are checked where they are made."""

    def __init__(self, source: keras.utils.PyDataset, image_shape: Shape) -> None:
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self._source = source
        self._image_shape = image_shape

    @property
    def num_batches(self) -> int | None:
        return self._source.num_batches

    def __getitem__(self, index: int) -> Any:
        return _checked_batch(self._source[index], self._image_shape)

    def on_epoch_begin(self) -> None:
        self._source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._source.on_epoch_end()


def _is_tensorflow_dataset(source: Any) -> bool:
    # A tf.data.Dataset can only come from a process that has TensorFlow already.
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(source, tensorflow.data.Dataset)


def _checked_dataset(dataset: Any, image_shape: Shape) -> Any:
    import tensorflow as tf

    def check(pixels: np.ndarray) -> np.ndarray:
        check_pixels(pixels, image_shape)
        return pixels

    def check_element(*element: Any) -> Any:
        images = element[0]
        check_form(images, image_shape)
        checked = tf.numpy_function(check, [images], images.dtype, stateful=False)
        checked.set_shape(images.shape)
        return (checked, *element[1:]) if len(element) > 1 else checked

    return dataset.map(check_element)
