"""How many circuits a model runs."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.layers import PQC


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
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, PQC)]
    counters = {id(layer): _Counter(layer.spec) for layer in layers}
    executors = {id(layer): layer._executor for layer in layers}
    length = getattr(model, "num_tokens", 1)

    def zeros(tensor) -> np.ndarray:
        shape = (1, *(length if size is None else size for size in tensor.shape[1:]))
        return np.zeros(shape, keras.backend.standardize_dtype(tensor.dtype))

    if not layers:
        return {}
    # A Sequential model has inputs, but no `input` before it is called.
    tensors = model.inputs[0] if len(model.inputs) == 1 else model.input
    example = keras.tree.map_structure(zeros, tensors)
    try:
        for layer in layers:
            layer._executor = counters[id(layer)]
        model(example, training=False)
    finally:
        for layer in layers:
            layer._executor = executors[id(layer)]
    rows: dict[CircuitSpec, int] = {}
    for layer in layers:
        rows[layer.spec] = rows.get(layer.spec, 0) + counters[id(layer)].rows
    return rows


class _Counter:
    """An engine that counts rows and gives zeros."""

    def __init__(self, spec: CircuitSpec):
        self.spec = spec
        self.rows = 0

    def expectation(self, inputs, weights):
        shape = (inputs.shape[0], weights.shape[0], self.spec.num_observables)
        self.rows += shape[0] * shape[1]
        return ops.zeros(shape, dtype=inputs.dtype)
