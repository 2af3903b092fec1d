"""How many circuits a model runs."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.hardware.executors import executors
from qrkt_keras.layers.pqc import circuit_layers


def rows_per_example(model: keras.Model) -> dict[CircuitSpec, int]:
    """How often each circuit of a model runs for one example, as its layers call them.

    The model is called once, on an example of zeros, with circuits that count and give zeros. An
    example of unknown length is as long as the model says (`num_tokens`), or has a length of one.

    Args:
        model: A built model.

    Returns:
        Rows by circuit, in the order of the layers; one row is one circuit with one set of angles.

    Example:

    >>> from qrkt_keras.zoo import PatchQNN
    >>> list(rows_per_example(PatchQNN(num_blocks=1)).values())
    [4]
    """
    layers = circuit_layers(model)
    if not layers:
        return {}
    length = getattr(model, "num_tokens", 1)

    def zeros(tensor) -> np.ndarray:
        shape = (1, *(length if size is None else size for size in tensor.shape[1:]))
        return np.zeros(shape, keras.backend.standardize_dtype(tensor.dtype))

    if not getattr(model, "inputs", None):
        raise ValueError(
            "The model must be a functional or a Sequential one, which know what they take; of a "
            "GAN that is its generator, or its discriminator. "
            f"Received: {model.name!r} of type {type(model).__name__}"
        )
    # A Sequential model has inputs, but no `input` before it is called.
    tensors = model.inputs[0] if len(model.inputs) == 1 else model.input
    example = keras.tree.map_structure(zeros, tensors)
    rows: Counter[CircuitSpec] = Counter({layer.spec: 0 for layer in layers})
    with executors(model, lambda layer: _Counting(layer.spec, rows)):
        model(example, training=False)
    return dict(rows)


class _Counting:
    """An engine that counts rows and gives zeros."""

    def __init__(self, spec: CircuitSpec, rows: Counter[CircuitSpec]):
        self.spec = spec
        self._rows = rows

    def expectation(self, inputs, weights):
        shape = (inputs.shape[0], weights.shape[0], self.spec.num_observables)
        self._rows[self.spec] += shape[0] * shape[1]
        return ops.zeros(shape, dtype=inputs.dtype)
