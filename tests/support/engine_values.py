"""Run under KERAS_BACKEND=jax: values and derivatives of the engines, to a file."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from unittest import mock

import numpy as np
from support.circuits import random_spec, scaled_reupload, weights_around_data

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import (
    PauliPropagation,
    StateVector,
    UnsupportedCircuitError,
    make_engine,
    state_vector,
)
from qrkt_keras.execution.plan import reduced_state_vector

ENGINES = {
    "pauli_propagation": PauliPropagation,
    "state_vector": StateVector,
    "light cones": reduced_state_vector,
}


@dataclass(frozen=True)
class Case:
    """What is run, on every backend alike.

    Args:
        spec: the circuit.
        engines: those that run it, see `ENGINES`.
        batch, copies: the shape of a call.
        own_inputs: whether every copy has inputs of its own.
        chunk: how many examples go through at a time; None for all.
        second: whether there is a second derivative too.
    """

    spec: CircuitSpec
    engines: tuple[str, ...] = ("state_vector",)
    batch: int = 3
    copies: int = 2
    own_inputs: bool = False
    chunk: int | None = None
    second: bool = False

    def arrays(self) -> list[np.ndarray]:
        """Inputs and weights, then a direction in each."""
        rng = np.random.default_rng(self.spec.num_weights)
        copies = self.copies if self.own_inputs else 1
        shapes = [(self.batch, copies, self.spec.num_inputs), (self.copies, self.spec.num_weights)]
        return [rng.normal(size=shape).astype("float32") for shape in 2 * shapes]

    def chunks(self):
        """A context in which the batch goes through in chunks, if it is to."""
        if self.chunk is None:
            return contextlib.nullcontext()
        state = state_vector.state_bytes(self.spec.num_qubits)
        limit = state_vector._STATES * self.copies * self.chunk * state
        return mock.patch.object(state_vector, "CHUNK_BYTES", limit)


BOTH = ("pauli_propagation", "state_vector")
CASES = {
    "rx_ring": Case(templates.rx_ring(5), BOTH),
    "ry_ring": Case(templates.ry_ring(5), BOTH),
    "one block": Case(templates.hardware_efficient(4, num_layers=2), BOTH, second=True),
    "two blocks": Case(templates.hardware_efficient(6, num_layers=3), own_inputs=True),
    "loops": Case(templates.hardware_efficient(6, num_layers=10)),
    "loops after weights": Case(templates.patch(9)),
    "permutations": Case(templates.rx_ring(7, num_layers=3)),
    "rotations": Case(scaled_reupload(6, 2)),
    "rotations in loops": Case(scaled_reupload(3, 8), own_inputs=True, second=True),
    "gates of every kind": Case(random_spec(3, 6, num_moments=40)),
    "fusion": Case(weights_around_data(6, 9), batch=300),
    "small chunks": Case(
        templates.hardware_efficient(3, num_layers=2), batch=5, chunk=2, second=True
    ),
    "chunks": Case(templates.hardware_efficient(6, num_layers=3), batch=7, chunk=2),
    "chunks after weights": Case(weights_around_data(6, 2), batch=7, chunk=2),
    "chunks of loops": Case(scaled_reupload(3, 8), batch=7, chunk=2, own_inputs=True),
    "chunks and fusion": Case(weights_around_data(3, 4), batch=300, chunk=128),
    "light cones": Case(
        templates.hardware_efficient(16, num_layers=2), ("light cones",), second=True
    ),
}


def main(path: str) -> None:
    """Write `<case>/<engine>/<what>` arrays."""
    import jax

    results = {}
    for name, case in CASES.items():
        for engine_name in case.engines:
            engine = ENGINES[engine_name](case.spec)

            def loss(inputs, weights, engine=engine):
                values = engine.expectation(inputs, weights)
                return (values**2).sum(), values

            gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)

            def slope(inputs, weights, *direction, gradient=gradient):
                _, gradients = gradient(inputs, weights)
                return sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))

            with case.chunks():
                arrays = [jax.numpy.asarray(array) for array in case.arrays()]
                (_, values), first = jax.jit(gradient)(*arrays[:2])
                found = {"values": values, "by inputs": first[0], "by weights": first[1]}
                if case.second:
                    second = jax.jit(jax.grad(slope, argnums=(0, 1)))(*arrays)
                    found |= {"second by inputs": second[0], "second by weights": second[1]}
            results |= {f"{name}/{engine_name}/{what}": array for what, array in found.items()}
    try:
        make_engine(CASES["rx_ring"].spec, "tfq")
    except UnsupportedCircuitError as error:
        assert "KERAS_BACKEND=tensorflow" in str(error)
    else:
        sys.exit("tfq was not refused")
    if "tensorflow" in sys.modules:
        sys.exit("TensorFlow was loaded")
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
