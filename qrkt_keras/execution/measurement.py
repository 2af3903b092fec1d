"""Measurement: observables as parities of measured qubits, grouped by what is measured together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cirq
import numpy as np

from qrkt_keras.circuits import CircuitSpec


@dataclass(frozen=True)
class Term:
    """One Pauli string of an observable.

    Args:
        observable: index of the observable.
        coefficient: of the string.
        qubits: where the string has a letter; its value is the parity of their outcomes.
    """

    observable: int
    coefficient: float
    qubits: tuple[cirq.Qid, ...]


@dataclass(frozen=True)
class Group:
    """Pauli strings that one measurement gives: each qubit is measured in one basis.

    Args:
        bases: pairs of qubit and "X", "Y" or "Z", sorted by qubit.
        terms: the strings.
    """

    bases: tuple[tuple[cirq.Qid, str], ...]
    terms: tuple[Term, ...]

    @property
    def qubits(self) -> tuple[cirq.Qid, ...]:
        """The measured qubits."""
        return tuple(qubit for qubit, _ in self.bases)

    def rotations(self) -> list[cirq.Operation]:
        """What turns each qubit's basis into that of Z: a Clifford gate, or nothing."""
        turns = {"X": cirq.Y**-0.5, "Y": cirq.X**0.5}
        return [turns[letter].on(qubit) for qubit, letter in self.bases if letter in turns]

    def scaled(self, factor: float) -> Group:
        """The same measurement with all coefficients times a factor."""
        terms = [replace(term, coefficient=factor * term.coefficient) for term in self.terms]
        return Group(self.bases, tuple(terms))


@dataclass(frozen=True)
class Measurements:
    """All that must be measured for the observables of a spec.

    Args:
        groups: the measurements.
        constants: what each observable has without measuring, `(num_observables,)`.
    """

    groups: tuple[Group, ...]
    constants: tuple[float, ...]


def measurements(spec: CircuitSpec) -> Measurements:
    """The observables' Pauli strings, in groups that commute qubit by qubit.

    Each string joins the first group where no qubit has another letter, longest strings first.
    Strings commute as a whole more often than qubit by qubit, but then two-qubit gates would have
    to come before the measurement.

    Args:
        spec: the circuit.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> [len(group.terms) for group in measurements(templates.patch(1)).groups]
        [5, 5]
    """
    constants = [0.0] * spec.num_observables
    strings = []
    for index, observable in enumerate(spec.observables):
        for string in observable:
            letters = tuple(sorted((qubit, str(pauli)) for qubit, pauli in string.items()))
            coefficient = float(np.real(string.coefficient))
            if letters:
                qubits = tuple(qubit for qubit, _ in letters)
                strings.append((letters, Term(index, coefficient, qubits)))
            else:
                constants[index] += coefficient
    groups: list[tuple[dict[cirq.Qid, str], list[Term]]] = []
    for letters, term in sorted(strings, key=lambda string: -len(string[0])):
        for bases, terms in groups:
            if all(bases.get(qubit, letter) == letter for qubit, letter in letters):
                bases.update(letters)
                terms.append(term)
                break
        else:
            groups.append((dict(letters), [term]))
    return Measurements(
        tuple(
            Group(
                tuple(sorted(bases.items())),
                tuple(sorted(terms, key=lambda term: (term.observable, term.qubits))),
            )
            for bases, terms in groups
        ),
        tuple(constants),
    )


def repetitions_for(
    standard_error: float,
    groups: Sequence[Group],
    factors: Sequence[Mapping[cirq.Qid, float]] | None = None,
) -> tuple[int, ...]:
    """How often each group must be measured for every observable's standard error to be at most so.

    The error is bounded, not estimated: the terms of an observable that a group gives vary by at
    most the sum `L_g` of their |coefficients|, so that of `n_g` repetitions is at most
    `L_g / sqrt(n_g)`, and the smallest sum of `n_g` with `sum_g L_g^2 / n_g <= s^2` is
    `n_g = L_g sum_h L_h / s^2`.

    Args:
        standard_error: `s`, positive.
        groups: the measurements.
        factors: of each group, the root of the mean square of a qubit's sign, where readout errors
            are corrected; 1 without.

    Returns:
        A number for each group.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> repetitions_for(0.02, measurements(templates.rx_ring(3)).groups)
        (2500,)
    """
    lengths: list[dict[int, float]] = []
    for group, factor_of in zip(groups, factors or [{}] * len(groups), strict=True):
        sums: dict[int, float] = {}
        for term in group.terms:
            factor = math.prod(factor_of.get(qubit, 1.0) for qubit in term.qubits)
            length = abs(term.coefficient) * factor
            sums[term.observable] = sums.get(term.observable, 0.0) + length
        lengths.append(sums)
    totals: dict[int, float] = {}
    for sums in lengths:
        for observable, length in sums.items():
            totals[observable] = totals.get(observable, 0.0) + length
    return tuple(
        max(
            1,
            # Rounded first: 1 / 0.02**2 is 2500.0000000000005.
            *(
                math.ceil(round(length * totals[observable] / standard_error**2, 6))
                for observable, length in sums.items()
            ),
        )
        for sums in lengths
    )
