"""A function of NumPy arrays in the middle of a model, on every backend of Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops


def host_call(function: Callable[..., np.ndarray], tensors: Sequence, shape: Sequence, dtype: str):
    """Calls a function outside of the backend, also where a graph is being traced.

    It has no gradient of its own. In a TensorFlow graph calls keep their order.

    Args:
        function: of arrays, one a tensor, returning an array.
        tensors: its arguments.
        shape: of what it returns; entries may be tensors where a graph does not know them.
        dtype: of what it returns.

    Returns:
        The result, as a tensor.
    """

    def call(*arrays):
        return np.asarray(function(*map(np.asarray, arrays)), dtype)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            result = tf.numpy_function(call, tensors, dtype)
            known = [size if isinstance(size, int) else None for size in shape]
            return tf.ensure_shape(result, known)
    if backend == "jax":
        import jax

        if any(isinstance(tensor, jax.core.Tracer) for tensor in tensors):
            result = jax.ShapeDtypeStruct(tuple(shape), dtype)
            return jax.pure_callback(call, result, *tensors)
    arrays = [ops.convert_to_numpy(ops.stop_gradient(tensor)) for tensor in tensors]
    return ops.convert_to_tensor(call(*arrays), dtype=dtype)
