"""TensorFlow's mean and variance, as normalisations take them, with all of their derivatives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def exact_moments() -> Iterator[None]:
    """Within it, what is computed through `tf.nn.moments` has second derivatives that are right.

    `tf.nn.moments` holds the mean constant in `mean((x - stop_gradient(mean))²)`: the first
    derivative by the mean is zero anyway, the second is not. Keras' layers LayerNormalization and
    GroupNormalization go through it, so whoever differentiates twice calls the model in here.
    Operations that a `tf.function` has traced before stay as they are.

    Example:

    >>> import tensorflow as tf
    >>> x = tf.constant([1.0, 2.0])
    >>> with exact_moments(), tf.GradientTape() as outer:
    ...     outer.watch(x)
    ...     with tf.GradientTape() as inner:
    ...         inner.watch(x)
    ...         variance = tf.nn.moments(x, 0)[1]
    ...     slope = inner.gradient(variance, x)
    >>> outer.jacobian(slope, x).numpy().tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    import tensorflow as tf

    def moments(
        x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
    ) -> tuple[Any, Any]:
        del shift  # not used by TensorFlow either
        x = tf.convert_to_tensor(x)
        # As TensorFlow's own, half precision is summed in float32.
        wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
        with tf.name_scope(name or "moments"):
            mean = tf.reduce_mean(wide, axes, keepdims=True)
            variance = tf.reduce_mean(tf.square(wide - mean), axes, keepdims=keepdims)
            if not keepdims:
                mean = tf.squeeze(mean, axes)
            return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)

    original = tf.nn.moments
    tf.nn.moments = moments
    try:
        yield
    finally:
        tf.nn.moments = original
