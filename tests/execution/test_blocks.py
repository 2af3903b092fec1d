"""Blocks whose matrices are real, and blocks in loops, which make theirs when their turn comes."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import StateVector
from qrkt_keras.execution.evolution import Block, Conditioned, Repeat

# Turns of every qubit between two rings, where a letter is a rotation by a weight of its own, and
# the ring's gate.
ANSAETZE = {
    "real": ("Y", cirq.CZ),
    "real, Hadamard gates": ("YhY", cirq.CZ),
    "complex": ("XY", cirq.CZ),
    "complex, Hadamard gates": ("ZXh", cirq.CZ),
    "phases": ("YX", cirq.CZ**0.3),
    "real turns, phases": ("Y", cirq.CZ**0.3),
}
TURNS = {"X": cirq.rx, "Y": cirq.ry, "Z": cirq.rz}


def ansatz(name: str, num_qubits: int, num_layers: int = 9) -> CircuitSpec:
    """Data once, then rings and turns over and over."""
    letters, ring = ANSAETZE[name]
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols(f"x0:{num_qubits}")
    weights, circuit = [], cirq.Circuit()
    circuit.append(cirq.rx(x).on(qubit) for x, qubit in zip(inputs, qubits, strict=True))
    for _ in range(num_layers):
        circuit.append(ring(a, b) for a, b in zip(qubits, qubits[1:] + qubits[:1], strict=True))
        for letter in letters:
            for qubit in qubits:
                if letter == "h":
                    circuit.append(cirq.H(qubit))
                else:
                    weights.append(sympy.Symbol(f"w{len(weights)}"))
                    circuit.append(TURNS[letter](weights[-1]).on(qubit))
    observables = [cirq.Z(qubits[0]) * cirq.X(qubits[1]), *(cirq.Y(qubit) for qubit in qubits[2:])]
    return CircuitSpec(circuit, inputs, weights, observables)


def point(spec: CircuitSpec, copies: int = 2):
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-np.pi, np.pi, (3, 1, spec.num_inputs))
    return inputs, rng.uniform(-np.pi, np.pi, (copies, spec.num_weights))


def values_and_gradient(engine, inputs, weights):
    @tf.function(autograph=False)
    def run(inputs, weights):
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            values = engine.expectation(inputs, weights)
            loss = tf.reduce_sum(tf.sin(3 * values))
        return values, *tape.gradient(loss, (inputs, weights))

    return run(tf.constant(inputs), tf.constant(weights))


def operations(engine) -> list:
    """All of them, those in loops too."""
    found = []
    for operation in (*engine.before.operations, *engine.after.operations):
        found += operation.body if isinstance(operation, Repeat) else [operation]
    return found


@pytest.mark.parametrize("name", ANSAETZE)
@pytest.mark.parametrize("num_qubits", [4, 6])
def test_blocks_against_cirq_and_each_other(name, num_qubits):
    spec = ansatz(name, num_qubits)
    inputs, weights = point(spec)
    loops = values_and_gradient(StateVector(spec, scan=True), inputs, weights)
    expected = [[cirq_expectation(spec, row, w) for w in weights] for row in inputs]
    np.testing.assert_allclose(loops[0], expected, atol=1e-6)
    # Unrolled, every block's matrices are made outside, and the backend goes back by itself.
    unrolled = StateVector(spec, gradient="backprop", scan=False)
    for found, reference in zip(loops, values_and_gradient(unrolled, inputs, weights), strict=True):
        np.testing.assert_allclose(found, reference, atol=1e-10)


@pytest.mark.parametrize("name", ANSAETZE)
def test_blocks_in_loops_keep_one_matrix_a_turn(name):
    blocks = [o for o in operations(StateVector(ansatz(name, 6))) if isinstance(o, Conditioned)]
    assert blocks
    for block in blocks:
        tables = [table for table in (block.left, block.right) if table is not None]
        assert max(len(table) for table in tables) > 1


def test_real_turns_are_real_matrices():
    spec = ansatz("real, Hadamard gates", 4)
    blocks = [o for o in operations(StateVector(spec, scan=False)) if isinstance(o, Block)]
    driven = [block for block in blocks if block.constant is None]
    assert driven and all(block.is_real for block in driven)
    spec = ansatz("complex", 4)
    blocks = [o for o in operations(StateVector(spec, scan=False)) if isinstance(o, Block)]
    assert not any(block.is_real for block in blocks if block.constant is None)
