"""The parameter-shift rule against derivatives in closed form, and the published four-term rule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qrkt_keras.execution.parameter_shift import shift_rule


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
