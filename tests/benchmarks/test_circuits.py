"""The peers' circuits are this package's templates."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
from benchmarks import circuits

from qrkt_keras.circuits import templates

SMALL = [
    ("rx_ring", 2, 1),
    ("rx_ring", 4, 3),
    ("ry_ring", 4, 1),
    ("hardware_efficient", 3, 1),
    ("hardware_efficient", 4, 3),
    ("patch", 8, 1),
    ("patch", 8, 2),
]


def values(circuit, qubits, symbols, observables) -> list[float]:
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, len(symbols))
    resolver = dict(zip(symbols, angles, strict=True))
    simulator = cirq.Simulator(dtype=np.complex128)
    # A qubit that no gate touches still has its place.
    state = simulator.simulate(circuit, resolver, qubit_order=qubits).final_state_vector
    index = {qubit: i for i, qubit in enumerate(qubits)}
    sums = [cirq.PauliSum.wrap(observable) for observable in observables]
    return [o.expectation_from_state_vector(state, index).real for o in sums]


@pytest.mark.parametrize("template, num_qubits, num_layers", SMALL)
def test_is_the_template(template, num_qubits, num_layers):
    mine = circuits.get(template, num_qubits, num_layers)
    if template == "patch":
        spec = templates.patch(num_layers)
    else:
        spec = templates.get(template, num_qubits, num_layers)
    assert (mine.num_qubits, mine.num_inputs, mine.num_weights, len(mine.observables)) == (
        spec.num_qubits,
        spec.num_inputs,
        spec.num_weights,
        spec.num_observables,
    )
    qubits = cirq.LineQubit.range(num_qubits)
    gates = {"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}
    fixed = {"h": cirq.H, "cnot": cirq.CNOT, "cz": cirq.CZ}
    built = cirq.Circuit()
    for gate in mine.gates:
        operation = fixed.get(gate.name)
        if operation is None:
            operation = gates[gate.name](sympy.Symbol(f"{gate.source}{gate.index}"))
        built.append(operation(*(qubits[qubit] for qubit in gate.qubits)))
    paulis = {"X": cirq.X, "Z": cirq.Z}
    observables = [paulis[pauli](qubits[qubit]) for pauli, qubit in mine.observables]
    names = [f"x{i}" for i in range(mine.num_inputs)] + [f"w{i}" for i in range(mine.num_weights)]
    expected = values(
        spec.circuit, spec.qubits, [s.name for s in (*spec.inputs, *spec.weights)], spec.observables
    )
    np.testing.assert_allclose(values(built, qubits, names, observables), expected, atol=1e-12)
