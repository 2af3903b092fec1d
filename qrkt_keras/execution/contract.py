"""What the engines of our own share: how they read a circuit, and the shape that they answer in."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation, Unitary, UnsupportedGateError, lower
from qrkt_keras.execution.errors import UnsupportedCircuitError


def lowered(spec: CircuitSpec, engine: str) -> tuple[Rotation | Unitary, ...]:
    """The circuit's steps; a gate that has none is refused in the engine's name."""
    try:
        return lower(spec)
    except UnsupportedGateError as error:
        raise UnsupportedCircuitError(engine, str(error)) from error


def fill(values, inputs, weights):
    """Values `(B or 1, copies or 1, K)` as `(B, copies, K)`, by repetition."""
    if tuple(values.shape[:2]) == (inputs.shape[0], weights.shape[0]):
        return values
    shape = (ops.shape(inputs)[0], ops.shape(weights)[0], values.shape[-1])
    return ops.broadcast_to(values, shape)


def traced_once(method: Callable) -> Callable:
    """An engine's method that TensorFlow traces once for shapes, however many layers call it.

    Layers of one circuit share an engine; a transformer of mixing circuits would otherwise trace
    thousands of operations for each. The graph that runs is the same: TensorFlow inlines calls.
    """
    if keras.backend.backend() != "tensorflow":
        return method
    import tensorflow as tf

    @functools.wraps(method)
    def call(engine, *tensors):
        # In eager mode every size of a last batch would be another trace.
        if tf.executing_eagerly():
            return method(engine, *tensors)
        if not hasattr(engine, "_traced"):
            engine._traced = tf.function(functools.partial(method, engine), autograph=False)
        return engine._traced(*tensors)

    return call
