"""The parameter-shift rule: a derivative as a difference of values at other angles."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import cirq
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


def reached(
    circuit: cirq.AbstractCircuit,
    symbols: Sequence[str],
    observables: Sequence[cirq.PauliSum],
) -> np.ndarray:
    """Which observables have a gate in their causal cone; the others do not depend on it.

    Args:
        circuit: with each of the symbols in one gate.
        symbols: the gates.
        observables: what is read at the end.

    Returns:
        `(gates, observables)` bool.

    Example:
        >>> import sympy
        >>> a, b = cirq.LineQubit.range(2)
        >>> v, w = sympy.symbols("v w")
        >>> circuit = cirq.Circuit(cirq.rx(v)(a), cirq.CNOT(a, b), cirq.rx(w)(b))
        >>> reached(circuit, ["v", "w"], [cirq.PauliSum() + cirq.Z(a), cirq.PauliSum() + cirq.Z(b)])
        array([[ True,  True],
               [False,  True]])
    """
    seen = {qubit: np.zeros(len(observables), bool) for qubit in circuit.all_qubits()}
    for index, observable in enumerate(observables):
        for qubit in observable.qubits:
            seen[qubit][index] = True
    found = np.zeros((len(symbols), len(observables)), bool)
    places = {symbol: place for place, symbol in enumerate(symbols)}
    for operation in reversed(list(circuit.all_operations())):
        together = np.any([seen[qubit] for qubit in operation.qubits], axis=0)
        for qubit in operation.qubits:
            seen[qubit] = together
        for name in cirq.parameter_names(operation):
            found[places[name]] = together
    return found


def rounds(gates: Iterable[int], reach: np.ndarray, rules: Sequence[tuple]) -> list[list[int]]:
    """Gates that are shifted at once, as no observable depends on two of them.

    Args:
        gates: which of the gates to shift; one that no observable depends on never is.
        reach: see `reached`.
        rules: of each gate, see `shift_rule`; those that are shifted at once have the same.

    Example:
        >>> import numpy as np
        >>> reach = np.array([[True, False], [False, True], [True, True], [False, False]])
        >>> rounds(range(4), reach, [shift_rule((1.0,))] * 4)
        [[0, 1], [2]]
    """
    found: list[list[int]] = []
    taken: list[np.ndarray] = []
    for gate in gates:
        if not reach[gate].any():
            continue
        for members, busy in zip(found, taken, strict=True):
            if rules[members[0]] == rules[gate] and not (busy & reach[gate]).any():
                members.append(gate)
                busy |= reach[gate]
                break
        else:
            found.append([gate])
            taken.append(reach[gate].copy())
    return found
