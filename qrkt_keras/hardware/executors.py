"""What computes a model's circuits, changed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from qrkt_keras.layers import PQC
from qrkt_keras.layers.pqc import circuit_layers


@contextlib.contextmanager
def executors(model: keras.Model, make: Callable[[PQC], Any]) -> Iterator[None]:
    """Has other engines compute a model's circuits within a `with` block, eagerly.

    Functions that Keras has compiled are made anew within, and again after it.

    Args:
        model: A built model.
        make: An engine for each layer with a circuit.
    """
    layers = circuit_layers(model)
    before = [layer._executor for layer in layers]
    run_eagerly, jit_compile = model.run_eagerly, model.jit_compile
    try:
        for layer in layers:
            layer._executor = make(layer)
        model.run_eagerly, model.jit_compile = True, False
        model.train_function = model.test_function = model.predict_function = None
        yield
    finally:
        for layer, executor in zip(layers, before, strict=True):
            layer._executor = executor
        model.run_eagerly, model.jit_compile = run_eagerly, jit_compile
        model.train_function = model.test_function = model.predict_function = None
