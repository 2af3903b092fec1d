"""Final Clifford gates in the observables: the same values from a shorter circuit."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
from support.circuits import random_spec
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec, absorb_cliffords, templates

SPECS = [
    templates.rx_ring(4),
    templates.ry_ring(5),
    templates.hardware_efficient(3),
    templates.patch(1, num_qubits=4, num_features=16, num_values=3),
    *(random_spec(seed, 4, 15) for seed in range(3)),
]


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_values_stay(number):
    spec = SPECS[number]
    rng = np.random.default_rng(number)
    inputs = rng.uniform(-3, 3, spec.num_inputs)
    weights = rng.uniform(-3, 3, spec.num_weights)
    shorter = absorb_cliffords(spec)
    assert (shorter.inputs, shorter.weight_shape) == (spec.inputs, spec.weight_shape)
    np.testing.assert_allclose(
        cirq_expectation(shorter, inputs, weights),
        cirq_expectation(spec, inputs, weights),
        atol=1e-9,
    )


def test_random_clifford_circuits_are_moved_whole():
    rng = np.random.default_rng(0)
    qubits = cirq.LineQubit.range(4)
    w = sympy.Symbol("w")
    one, two = [cirq.H, cirq.S, cirq.X**0.5, cirq.Y**-0.5], [cirq.CNOT, cirq.CZ, cirq.SWAP]
    for _ in range(10):
        operations = [cirq.ry(w)(qubits[0]), cirq.T(qubits[1]), cirq.H(qubits[1])]
        for _ in range(12):
            pair = rng.permutation(4)[:2]
            operations.append(rng.choice(one)(qubits[pair[0]]))
            operations.append(rng.choice(two)(*(qubits[i] for i in pair)))
        observables = [cirq.X(qubits[0]) * cirq.Y(qubits[2]) + 0.5 * cirq.Z(qubits[3])]
        spec = CircuitSpec(cirq.Circuit(operations), [], [w], observables)
        shorter = absorb_cliffords(spec)
        assert all(len(operation.qubits) == 1 for operation in shorter.circuit.all_operations())
        np.testing.assert_allclose(
            cirq_expectation(shorter, [], [0.7]), cirq_expectation(spec, [], [0.7]), atol=1e-9
        )


@pytest.mark.parametrize(
    "gate",
    [cirq.PhasedXPowGate(phase_exponent=0.25), cirq.givens(np.pi / 2), cirq.ISWAP, cirq.H**3,
     cirq.MatrixGate(cirq.unitary(cirq.CZ)), cirq.PhasedXZGate.from_matrix(cirq.unitary(cirq.H))],
)  # fmt: skip
def test_gates_that_cirq_does_not_know_as_clifford_stay(gate):
    qubits = cirq.LineQubit.range(cirq.num_qubits(gate))
    w = sympy.Symbol("w")
    circuit = cirq.Circuit(cirq.ry(w).on_each(*qubits), gate.on(*qubits))
    spec = CircuitSpec(circuit, [], [w], [cirq.X(qubits[0]), cirq.Z(qubits[-1])])
    np.testing.assert_allclose(
        cirq_expectation(absorb_cliffords(spec), [], [0.4]),
        cirq_expectation(spec, [], [0.4]),
        atol=1e-9,
    )


def test_only_the_end_is_moved():
    spec = templates.hardware_efficient(4, num_layers=2)
    shorter = absorb_cliffords(spec)
    pairs = [sum(len(op.qubits) == 2 for op in s.circuit.all_operations()) for s in (spec, shorter)]
    assert pairs == [8, 4]


def test_nothing_to_move():
    w = sympy.Symbol("w")
    qubit = cirq.LineQubit(0)
    spec = CircuitSpec(cirq.Circuit(cirq.H(qubit), cirq.ry(w)(qubit)), [], [w], cirq.Z(qubit))
    assert absorb_cliffords(spec) is spec
