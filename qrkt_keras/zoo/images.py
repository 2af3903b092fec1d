"""What the image classifiers accept, and what `predict` checks in every pixel."""

from __future__ import annotations

import contextlib
import numbers
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_FLOATS = ("float16", "bfloat16", "float32", "float64")

# What is no source of images, and has no dtype that would say so.
_NO_ARRAYS = (list, tuple, dict, str, int, float)

# Resizing leaves a pixel of 1 a rounding error above 1.
_TOLERANCE = 1e-6

Shape = tuple[int, int, int]


class TakesImages:
    """The part of a classifier of images that checks them; to stand before a `Classifier`.

    The model must have an `image_shape`, `(height, width, channels)`.
    """

    image_shape: Shape

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_form(inputs, self.image_shape)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        # Keras would convert whole numbers to floats as they are.
        if dtype_name(inputs) == "uint8":
            inputs = keras.ops.cast(inputs, self.input.dtype) / 255.0
        return super().call(inputs, training=training, mask=mask)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Returns the logits of many images, after checking every pixel.

        Args:
            x: Images as the model takes them: an array, a tensor, a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator of batches.
            batch_size, verbose, steps, callbacks: As of `keras.Model.predict`.

        Returns:
            An array of shape `(number of images, num_classes)`.

        Raises:
            TypeError: If the images are neither floats nor uint8.
            ValueError: If their shape is wrong, or a float pixel is NaN, infinite or outside
                [0, 1].
        """
        with checked_pixels(x, self.image_shape) as x:
            return super().predict(
                x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
            )

    def _serving_inputs(self) -> dict[str, tf.TensorSpec]:
        import tensorflow as tf

        shape = (None, *self.image_shape)
        return {
            "serving_default": tf.TensorSpec(shape, tf.float32, name="images"),
            "serving_uint8": tf.TensorSpec(shape, tf.uint8, name="images"),
        }


def image_shape_of(shape: Any) -> Shape:
    """Returns `(height, width, channels)`, or refuses what is none."""
    if not isinstance(shape, str) and hasattr(shape, "__iter__"):
        shape = tuple(shape)  # an array's or a tensor's shape is welcome
    whole = isinstance(shape, tuple) and all(
        isinstance(size, numbers.Integral) and not isinstance(size, bool) and size > 0
        for size in shape
    )
    if not whole or len(shape) != 3:
        raise ValueError(
            "`image_shape` must be (height, width, channels), positive integers. "
            f"Received: image_shape={shape!r}"
        )
    return tuple(int(size) for size in shape)


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


@contextlib.contextmanager
def checked_pixels(source: Any, image_shape: Shape) -> Iterator[Any]:
    """Puts `check_pixels` on all images that `predict` is given.

    Arrays and tensors are checked at once. A `tf.data.Dataset`, a `keras.utils.PyDataset` and a
    generator are checked batch by batch, when they are read. Sources of other libraries pass as
    they are.

    Args:
        source: What Keras' `predict` takes.
        image_shape: Height, width and channels.

    Yields:
        The source to be read in its place.

    Raises:
        TypeError, ValueError: As `check_pixels`, also from the block in which batches are read.
    """
    refusals: list[Exception] = []

    def check(images: Any) -> None:
        try:
            check_pixels(images, image_shape)
        except (TypeError, ValueError) as error:
            refusals.append(error)
            raise

    if isinstance(source, types.GeneratorType):
        source = (_checked_batch(batch, check) for batch in source)
    elif isinstance(source, keras.utils.PyDataset):
        source = _CheckedPyDataset(source, check)
    elif _is_tensorflow_dataset(source):
        source = _checked_dataset(source, check, image_shape)
    elif source is None or hasattr(source, "dtype") or isinstance(source, _NO_ARRAYS):
        check(source)
    try:
        yield source
    except Exception:
        # Whoever read the batch, tf.data above all, wraps the error in one of its own.
        if refusals:
            raise refusals[0] from None
        raise


def dtype_name(images: Any) -> str:
    """Returns the name of an array's or a tensor's dtype."""
    try:
        return keras.backend.standardize_dtype(images.dtype)
    except ValueError:  # one that Keras does not know
        return str(images.dtype)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _checked_batch(batch: Any, check: Callable[[Any], None]) -> Any:
    check(batch[0] if isinstance(batch, list | tuple) else batch)
    return batch


class _CheckedPyDataset(keras.utils.PyDataset):
    """Another `PyDataset`, whose batches are checked where they are made."""

    def __init__(self, source: keras.utils.PyDataset, check: Callable[[Any], None]) -> None:
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self._source = source
        self._check = check

    @property
    def num_batches(self) -> int | None:
        return self._source.num_batches

    def __getitem__(self, index: int) -> Any:
        return _checked_batch(self._source[index], self._check)

    def on_epoch_begin(self) -> None:
        self._source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._source.on_epoch_end()


def _is_tensorflow_dataset(source: Any) -> bool:
    # A tf.data.Dataset can only come from a process that has TensorFlow already.
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(source, tensorflow.data.Dataset)


def _checked_dataset(dataset: Any, check: Callable[[Any], None], image_shape: Shape) -> Any:
    import tensorflow as tf

    def checked(pixels: np.ndarray) -> np.ndarray:
        check(pixels)
        return pixels

    def check_element(*element: Any) -> Any:
        images = element[0]
        check_form(images, image_shape)
        if images.dtype == tf.uint8:  # every value is good
            return element if len(element) > 1 else images
        pixels = tf.numpy_function(checked, [images], images.dtype, stateful=False)
        pixels.set_shape(images.shape)
        return (pixels, *element[1:]) if len(element) > 1 else pixels

    return dataset.map(check_element)
