"""Independent references: Cirq's simulator in complex128 and finite differences."""

from __future__ import annotations

import cirq
import numpy as np


def cirq_expectation(spec, inputs, weights) -> np.ndarray:
    """Expectation values of one example, `(num_observables,)`, by cirq.Simulator in complex128."""
    values = dict(zip(spec.inputs, np.ravel(inputs).tolist(), strict=True))
    values |= dict(zip(spec.weights, np.ravel(weights).tolist(), strict=True))
    # Keeping what is not entangled apart costs more than it saves at these sizes.
    simulator = cirq.Simulator(dtype=np.complex128, split_untangled_states=False)
    results = simulator.simulate_expectation_values(
        spec.circuit.unfreeze(),
        list(spec.observables),
        param_resolver=cirq.ParamResolver({symbol.name: v for symbol, v in values.items()}),
        qubit_order=spec.qubits,
    )
    return np.real(results)


def cirq_gradient(spec, inputs, weights, upstream, columns=None, step=1e-4) -> np.ndarray:
    """Central differences of `sum(upstream * values)` by inputs and weights, in float64.

    `columns` picks some of the concatenated (inputs, weights).
    """
    point = np.concatenate([np.ravel(inputs), np.ravel(weights)]).astype(np.float64)
    size = spec.num_inputs

    def loss(vector):
        return float(upstream @ cirq_expectation(spec, vector[:size], vector[size:]))

    gradient = []
    for column in range(len(point)) if columns is None else columns:
        shift = np.zeros_like(point)
        shift[column] = step
        gradient.append((loss(point + shift) - loss(point - shift)) / (2 * step))
    return np.array(gradient)
