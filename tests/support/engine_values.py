"""Run under KERAS_BACKEND=jax: values and gradients of every engine, to a file."""

from __future__ import annotations

import sys

import numpy as np

from qrkt_keras.circuits import templates
from qrkt_keras.execution import PauliPropagation, StateVector, UnsupportedCircuitError, make_engine

SPECS = {
    "rx_ring": templates.rx_ring(5),
    "ry_ring": templates.ry_ring(5),
    "hardware_efficient": templates.hardware_efficient(4, num_layers=2),
}


def point(spec, copies=2):
    """Inputs `(3, 1, n)` and weights `(copies, m)`."""
    rng = np.random.default_rng(spec.num_weights)
    inputs = rng.normal(size=(3, 1, spec.num_inputs)).astype("float32")
    return inputs, rng.normal(size=(copies, spec.num_weights)).astype("float32")


def main(path: str) -> None:
    """Write `<template>/<engine>/<what>` arrays."""
    import jax

    results = {}
    for name, spec in SPECS.items():
        for engine in (PauliPropagation(spec), StateVector(spec)):

            def loss(inputs, weights, engine=engine):
                values = engine.expectation(inputs, weights)
                return (values**2).sum(), values

            function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
            (_, values), gradients = function(*map(jax.numpy.asarray, point(spec)))
            key = f"{name}/{engine.name}"
            results |= {f"{key}/values": values}
            results |= {f"{key}/{i}": gradient for i, gradient in enumerate(gradients)}
    try:
        make_engine(SPECS["rx_ring"], "tfq")
    except UnsupportedCircuitError as error:
        assert "KERAS_BACKEND=tensorflow" in str(error)
    else:
        sys.exit("tfq was not refused")
    if "tensorflow" in sys.modules:
        sys.exit("TensorFlow was loaded")
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
