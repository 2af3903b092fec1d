"""Groups of observables, and how often each must be measured."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
from support.circuits import random_spec

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution.measurement import Group, Term, measurements, repetitions_for

A, B, C = cirq.LineQubit.range(3)


def spec_with(*observables):
    w = sympy.Symbol("w")
    circuit = cirq.Circuit(cirq.rx(w)(A), cirq.H(B), cirq.H(C))
    return CircuitSpec(circuit, [], [w], list(observables))


def test_every_term_is_in_one_group_that_measures_it():
    spec = random_spec(3, 4, 12)
    groups = measurements(spec).groups
    found = {}
    for group in groups:
        bases = dict(group.bases)
        for term in group.terms:
            letters = tuple((qubit, bases[qubit]) for qubit in term.qubits)
            assert (term.observable, letters) not in found
            found[term.observable, letters] = term.coefficient
    wanted = {
        (index, tuple(sorted((q, str(p)) for q, p in string.items()))): string.coefficient.real
        for index, observable in enumerate(spec.observables)
        for string in observable
        if len(string)
    }
    assert found == pytest.approx(wanted)


def test_constants_need_no_measurement():
    spec = spec_with(2.0 * cirq.Z(A) + cirq.PauliString(coefficient=0.25), cirq.PauliString())
    measured = measurements(spec)
    assert measured.constants == (0.25, 1.0)
    assert [term.observable for group in measured.groups for term in group.terms] == [0]


def test_strings_that_commute_qubit_by_qubit_share_a_group():
    z, x = cirq.Z, cirq.X
    spec = spec_with(z(A), z(B), z(A) * z(B), x(A), x(A) * z(C))
    groups = measurements(spec).groups
    assert sorted(len(group.terms) for group in groups) == [2, 3]
    # XX and ZZ commute as a whole, but not qubit by qubit.
    assert len(measurements(spec_with(z(A) * z(B), x(A) * x(B))).groups) == 2


@pytest.mark.parametrize("letter, pauli", [("X", cirq.X), ("Y", cirq.Y), ("Z", cirq.Z)])
def test_rotations_turn_a_basis_into_that_of_z(letter, pauli):
    rotations = Group(((A, letter),), ()).rotations()
    turn = cirq.unitary(cirq.Circuit(cirq.I(A), rotations))
    z = cirq.unitary(cirq.Z)
    np.testing.assert_allclose(turn.conj().T @ z @ turn, cirq.unitary(pauli), atol=1e-9)


def test_repetitions_keep_the_bound():
    groups = (
        Group(((A, "Z"), (B, "Z")), (Term(0, 0.5, (A,)), Term(0, -1.0, (B,)), Term(1, 1.0, (A,)))),
        Group(((A, "X"),), (Term(0, 2.0, (A,)),)),
    )
    numbers = repetitions_for(0.1, groups)
    bound = 1.5**2 / numbers[0] + 2.0**2 / numbers[1]
    assert bound <= 0.1**2 * (1 + 1e-9)
    # One less of either, and it would not be kept.
    for less in ((1, 0), (0, 1)):
        first, second = (n - 40 * k for n, k in zip(numbers, less, strict=True))
        assert 1.5**2 / first + 2.0**2 / second > 0.1**2


def test_one_string_needs_one_over_the_error_squared():
    groups = measurements(templates.rx_ring(4)).groups
    assert repetitions_for(0.02, groups) == (2500,)
    # A correction by a factor of two a qubit.
    doubled = [dict.fromkeys(groups[0].qubits, 2.0)]
    assert repetitions_for(0.02, groups, doubled) == (10_000,)
