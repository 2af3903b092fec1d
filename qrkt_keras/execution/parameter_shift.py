"""The parameter-shift rule: a derivative as a difference of values at other angles."""

from __future__ import annotations

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=256)
def shift_rule(frequencies: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    r"""Shifts and coefficients that give the derivative of a trigonometric polynomial exactly.

    For $f(t) = c + \sum_r a_r \cos(\Omega_r t) + b_r \sin(\Omega_r t)$ with $R$ frequencies,

    $$f'(t) = \sum_{m=1}^{R} c_m \left[f(t + s_m) - f(t - s_m)\right], \qquad
      \sum_m 2 \sin(\Omega_r s_m)\, c_m = \Omega_r$$

    so a gate with two eigenphases, one difference apart, needs two values, an iSWAP's power or a
    controlled rotation four. For frequencies $\Omega, 2\Omega, \ldots, R\Omega$ the shifts are
    $(2m - 1) \pi / (2 R \Omega)$, which are the best for shots of equal number. Source: D.
    Wierichs, J. Izaac, C. Wang and C. Y.-Y. Lin, *General parameter-shift rules for quantum
    gradients*, Quantum 6, 677 (2022), arXiv 2107.12390.

    Args:
        frequencies: the positive frequencies, in radians a unit of the parameter.

    Returns:
        Pairs of shift and coefficient, each to be used at plus and, negated, at minus the shift;
        as many as frequencies.

    Raises:
        ValueError: a frequency is not positive, or comes twice.

    Example:
        >>> [(round(shift, 3), round(coefficient, 3)) for shift, coefficient in shift_rule((1.0,))]
        [(1.571, 0.5)]
    """
    if len(set(frequencies)) < len(frequencies) or not all(
        0 < frequency < math.inf for frequency in frequencies
    ):
        raise ValueError(
            f"Frequencies must be positive and distinct. Received: frequencies={frequencies}"
        )
    size = len(frequencies)
    if not size:
        return ()
    # Of other frequencies too, shifts spaced by the largest one give a system that can be solved.
    shifts = (2 * np.arange(1, size + 1) - 1) * math.pi / (2 * max(frequencies))
    system = 2 * np.sin(np.outer(frequencies, shifts))
    coefficients = np.linalg.solve(system, np.asarray(frequencies))
    return tuple(zip(shifts.tolist(), coefficients.tolist(), strict=True))
