"""What the engines of our own share: how they read a circuit, and the shape that they answer in."""

from __future__ import annotations

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
