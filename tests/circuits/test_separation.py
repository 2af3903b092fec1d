"""A symbol of its own for every gate: the same unitary, and the frequencies of each."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
from support.circuits import random_spec

from qrkt_keras.circuits import CircuitSpec, UnsupportedGateError, templates
from qrkt_keras.circuits.separation import folded, separate

X, W = sympy.symbols("x w")
A, B, C = cirq.LineQubit.range(3)


def resolved(spec, seed=0):
    """The circuit and its separation at one random point."""
    rng = np.random.default_rng(seed)
    symbols = [symbol.name for symbol in (*spec.inputs, *spec.weights)]
    values = dict(zip(symbols, rng.uniform(-3, 3, len(symbols)).tolist(), strict=True))
    separated = separate(spec)
    exponents = [complex(exponent.subs(values)).real for exponent in separated.exponents]
    return (
        cirq.resolve_parameters(spec.circuit, values),
        separated,
        dict(zip(separated.symbols, exponents, strict=True)),
    )


def spec_of(*operations, observables=None):
    circuit = cirq.Circuit(operations)
    used = cirq.parameter_names(circuit)
    return CircuitSpec(
        circuit,
        sorted(used & {"x"}),
        sorted(used & {"w"}),
        observables or [cirq.Z(sorted(circuit.all_qubits())[0])],
    )


SPECS = {
    "rx_ring": templates.rx_ring(4, 2),
    "ry_ring": templates.ry_ring(4),
    "hardware_efficient": templates.hardware_efficient(3),
    "patch": templates.patch(1, num_qubits=4, num_features=16, num_values=3),
    **{f"random_{seed}": random_spec(seed, 4, 20) for seed in range(4)},
    "several parameters": spec_of(
        cirq.FSimGate(W, X)(A, B),
        cirq.PhasedXPowGate(phase_exponent=X, exponent=W)(A),
        cirq.PhasedXZGate(x_exponent=X, z_exponent=W, axis_phase_exponent=0.2)(B),
        cirq.PhasedISwapPowGate(phase_exponent=0.25, exponent=X)(A, B),
        cirq.CCZ(A, B, C) ** W,
        cirq.ry(W * X)(C).controlled_by(A, control_values=[0]),
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("scale", [1, 3])
def test_it_is_the_same_unitary(name, scale):
    spec = SPECS[name]
    circuit, separated, values = resolved(spec)
    separated = folded(separated, scale)
    ours = cirq.resolve_parameters(separated.circuit, values)
    theirs = circuit.unitary(qubit_order=spec.qubits)
    overlap = np.trace(theirs.conj().T @ ours.unitary(qubit_order=spec.qubits)) / len(theirs)
    assert abs(overlap) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SPECS)
def test_every_symbol_is_in_one_gate(name):
    separated = separate(SPECS[name])
    uses = [
        name
        for operation in separated.circuit.all_operations()
        for name in cirq.parameter_names(operation)
    ]
    assert sorted(uses) == sorted(separated.symbols)


def test_powers_that_meet_are_one_gate():
    separated = separate(templates.rx_ring(3))
    x, w = sympy.symbols("x0:3"), sympy.symbols("w0:3")
    sums = tuple(a / sympy.pi + b / sympy.pi for a, b in zip(x, w, strict=True))
    assert separated.exponents == sums
    # Not where another gate is between, or on other qubits.
    spec = spec_of(cirq.rx(X)(A), cirq.rx(W)(B), cirq.CZ(A, B), cirq.rx(X)(A), cirq.ZZ(A, B) ** W)
    assert len(separate(spec).symbols) == 4


@pytest.mark.parametrize(
    "operation, differences",
    [
        (cirq.rx(X)(A), [1]),
        (cirq.H(A) ** X, [1]),
        (cirq.CZ(A, B) ** X, [1]),
        (cirq.SWAP(A, B) ** X, [1]),
        (cirq.ZZ(A, B) ** X, [1]),
        (cirq.ISWAP(A, B) ** X, [0.5, 1]),
        (cirq.rz(X)(B).controlled_by(A), [0.5, 1]),
        (cirq.ControlledGate(cirq.ISWAP**X)(A, B, C), [0.5, 1]),
    ],
)
def test_frequencies_are_those_of_the_gate(operation, differences):
    separated = separate(spec_of(operation))
    assert separated.frequencies == (pytest.approx([np.pi * d for d in differences]),)
    # Against the eigenphases of the gate's matrix at a small exponent.
    small = cirq.resolve_parameters(separated.circuit, {"g0": 1e-3})
    phases = np.angle(np.linalg.eigvals(cirq.unitary(small))) / 1e-3
    found = np.abs(np.subtract.outer(phases, phases)).round(6)
    assert sorted(set(found.ravel()) - {0.0}) == pytest.approx([np.pi * d for d in differences])


def test_folding_repeats_gates_on_several_qubits():
    separated = separate(templates.hardware_efficient(4))

    def count(circuit, size):
        return sum(len(operation.qubits) == size for operation in circuit.all_operations())

    assert count(folded(separated, 5).circuit, 2) == 5 * count(separated.circuit, 2)
    assert count(folded(separated, 5).circuit, 1) == count(separated.circuit, 1)
    assert folded(separated, 1).circuit == separated.circuit


def test_a_qubit_without_gates_stays():
    spec = spec_of(cirq.rx(X)(A), cirq.I(B), observables=[cirq.Z(B)])
    assert separate(spec).circuit.all_qubits() == {A, B}


def test_a_gate_that_does_not_decompose_is_named(monkeypatch):
    monkeypatch.setattr(cirq, "decompose_once", lambda operation, default: default)
    separate.cache_clear()
    with pytest.raises(UnsupportedGateError, match=r"Received: cirq.FSimGate"):
        separate(spec_of(cirq.FSimGate(X, W)(A, B)))
