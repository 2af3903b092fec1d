"""The parameter-shift rule against derivatives in closed form, and the published four-term rule."""

from __future__ import annotations

import math

import cirq
import numpy as np
import pytest
import sympy
from support.circuits import random_spec

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.circuits.separation import separate
from qrkt_keras.execution import Sampling
from qrkt_keras.execution.parameter_shift import reached, rounds, shift_rule


@pytest.mark.parametrize(
    "frequencies",
    [(1.0,), (2.5,), (1.0, 2.0), (1.0, 2.0, 3.0), (0.5, 1.0), (1.0, 3.0), (1.0, 2**0.5, 5.0)],
)
def test_it_differentiates_trigonometric_polynomials(frequencies):
    rng = np.random.default_rng(len(frequencies))
    a, b = rng.normal(size=(2, len(frequencies)))
    omega = np.asarray(frequencies)

    def f(t):
        return 0.3 + np.sum(a * np.cos(omega * t) + b * np.sin(omega * t))

    for t in rng.uniform(-3, 3, 5):
        exact = np.sum(omega * (b * np.cos(omega * t) - a * np.sin(omega * t)))
        rule = sum(c * (f(t + s) - f(t - s)) for s, c in shift_rule(frequencies))
        assert rule == pytest.approx(exact, abs=1e-9)
    assert len(shift_rule(frequencies)) == len(frequencies)


def test_two_and_four_terms_are_the_published_ones():
    assert shift_rule((1.0,)) == ((pytest.approx(math.pi / 2), pytest.approx(0.5)),)
    # Anselmetti et al., New J. Phys. 23, 113010 (2021), of controlled rotations.
    root = math.sqrt(2)
    first, second = shift_rule((0.5, 1.0))
    assert first == pytest.approx((math.pi / 2, (root + 1) / (4 * root)))
    assert second == pytest.approx((3 * math.pi / 2, -(root - 1) / (4 * root)))


def test_no_frequency_is_no_term():
    assert shift_rule(()) == ()


@pytest.mark.parametrize("frequencies", [(0.0,), (-1.0,), (1.0, 1.0), (math.inf,), (math.nan,)])
def test_bad_frequencies(frequencies):
    with pytest.raises(ValueError, match="Received: frequencies="):
        shift_rule(frequencies)


@pytest.mark.parametrize(
    "spec",
    [
        templates.hardware_efficient(6, 1),
        templates.patch(1, num_qubits=3, num_features=12, num_values=4),
        random_spec(3, 4, 12),
    ],
    ids=["hardware_efficient", "patch", "random"],
)
def test_what_a_gate_does_not_reach_does_not_depend_on_it(spec):
    """By Cirq's values, with each gate turned; and gates of one round share no observable."""
    separated = separate(spec)
    reach = reached(separated.circuit, separated.symbols, spec.observables)
    rng = np.random.default_rng(0)
    point = dict(zip(separated.symbols, rng.uniform(-1, 1, len(separated.symbols)), strict=True))

    def values(changed):
        return np.real(
            cirq.Simulator(dtype=np.complex128).simulate_expectation_values(
                separated.circuit, list(spec.observables), cirq.ParamResolver(point | changed)
            )
        )

    before, depends = values({}), []
    for symbol in separated.symbols:
        depends.append(np.abs(values({symbol: point[symbol] + 0.37}) - before) > 1e-9)
    assert not np.any(depends & ~reach)
    rules = [shift_rule(frequencies) for frequencies in separated.frequencies]
    found = rounds(range(len(reach)), reach, rules)
    assert sorted(gate for gates in found for gate in gates) == [
        gate for gate in range(len(reach)) if reach[gate].any()
    ]
    for gates in found:
        assert reach[gates].sum(axis=0).max() == 1
        assert len({rules[gate] for gate in gates}) == 1


def test_a_ring_without_entangling_gates_takes_one_round():
    ring = cirq.Circuit(cirq.rx(sympy.Symbol(f"w{q.x}"))(q) for q in cirq.LineQubit.range(5))
    weights = [f"w{i}" for i in range(5)]
    spec = CircuitSpec(ring, [], weights, [cirq.Z(q) for q in cirq.LineQubit.range(5)])
    assert Sampling(spec, cirq.Simulator()).num_shifts == 2
