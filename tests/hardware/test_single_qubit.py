"""Products of single-qubit gates as the angles of one."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy

from qrkt_keras.hardware.single_qubit import Run, constant_gate, is_diagonal, phased_xz_exponents

Q = cirq.LineQubit(0)
EDGES = [cirq.I, cirq.X, cirq.Y, cirq.Z, cirq.H, cirq.S, cirq.X**0.5, cirq.Y**-0.5, cirq.X**1e-12]


def gate_of(exponents):
    x, z, a = (float(value) for value in exponents)
    return cirq.PhasedXZGate(x_exponent=x, z_exponent=z, axis_phase_exponent=a)


def overlap(u, v):
    return abs(np.trace(np.conj(u).T @ v)) / 2


def test_any_unitary():
    unitaries = np.array([cirq.testing.random_unitary(2, random_state=seed) for seed in range(50)])
    unitaries = np.concatenate([unitaries, [cirq.unitary(gate) for gate in EDGES]])
    exponents = phased_xz_exponents(unitaries)
    for unitary, row in zip(unitaries, exponents, strict=True):
        assert overlap(unitary, cirq.unitary(gate_of(row))) == pytest.approx(1, abs=1e-9)
    assert np.all((exponents[:, 0] >= 0) & (exponents[:, 0] <= 1))
    assert np.all(np.abs(exponents[:, 1:]) <= 1)


@pytest.mark.parametrize("size", [1e-7, 1e-9, 1e-10, 1e-12])
@pytest.mark.parametrize("flip", [False, True])
def test_near_what_has_no_axis(size, flip):
    unitary = cirq.unitary(cirq.ry(size)) @ (cirq.unitary(cirq.X) if flip else np.eye(2))
    row = phased_xz_exponents(unitary[None])[0]
    assert overlap(unitary, cirq.unitary(gate_of(row))) == pytest.approx(1, abs=1e-9)


def test_constants_are_one_gate_or_none():
    gates = [cirq.H(Q), cirq.T(Q), cirq.H(Q)]
    product = cirq.unitary(cirq.Circuit(gates))
    assert overlap(cirq.unitary(constant_gate(gates)), product) == pytest.approx(1, abs=1e-9)
    assert constant_gate([cirq.H(Q), cirq.H(Q)]) is None
    assert constant_gate([]) is None
    assert isinstance(constant_gate([cirq.S(Q), cirq.T(Q)]), cirq.ZPowGate)


def test_a_run_for_many_rows():
    s, t = sympy.symbols("s t")
    gates = [cirq.rx(np.pi * s)(Q), cirq.H(Q), cirq.Z(Q) ** (t / 2 + 0.25), cirq.Y(Q) ** -s]
    run = Run(cirq.FrozenCircuit(gates), ("x", "z", "a"))
    exponents = np.random.default_rng(0).uniform(-2, 2, (20, 3))
    values = run.values({"s": 2, "t": 0}, exponents)
    for row, value in zip(exponents, values, strict=True):
        circuit = cirq.resolve_parameters(cirq.Circuit(gates), {"s": row[2], "t": row[0]})
        gate = cirq.resolve_parameters(
            run.gate(), dict(zip(run.symbols, value.tolist(), strict=True))
        )
        assert overlap(cirq.unitary(circuit), cirq.unitary(gate)) == pytest.approx(1, abs=1e-9)


def test_phases_alone_are_virtual():
    s = sympy.Symbol("s")
    run = Run(cirq.FrozenCircuit(cirq.rz(np.pi * s)(Q), cirq.T(Q)), ("z",))
    assert run.is_virtual and run.gate() == cirq.Z ** sympy.Symbol("z")
    np.testing.assert_allclose(run.values({"s": 0}, np.array([[0.5], [0.25]])), [[0.75], [0.5]])
    assert is_diagonal(cirq.rz(s)(Q)) and is_diagonal(cirq.T(Q)) and is_diagonal(cirq.I(Q))
    assert not is_diagonal(cirq.rx(s)(Q)) and not is_diagonal(cirq.X(Q))
