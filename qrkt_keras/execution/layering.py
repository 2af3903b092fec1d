"""Layering: a lowered circuit as few, wide layers.

A state-vector engine that runs gate by gate passes over memory once a gate. Here gates that can act
together become one layer: all single-qubit gates between two entanglers, all diagonal gates and
data rotations, all CNOTs and swaps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from qrkt_keras.circuits import Rotation, Unitary

_TOLERANCE = 1e-9
# The longest pattern whose repetition is looked for.
_LONGEST_PERIOD = 32

# V with P = V Z V^dagger: a rotation about P is V^dagger, a rotation about Z, then V.
BASES = {
    "X": np.array([[1, 1], [1, -1]], dtype=np.complex128) / np.sqrt(2),
    "Y": np.array([[1, 1], [1j, -1j]], dtype=np.complex128) / np.sqrt(2),
}

Step = Rotation | Unitary


@dataclass(frozen=True)
class Layer:
    """Steps that one pass over the state can do.

    Args:
        kind: "turns" (single-qubit steps that no data drive, in order), "diagonal" (rotations about
            strings of Z, and diagonal constants), "permutation" (constants that permute basis
            states), "rotation" (one, about any other string) or "dense" (one constant).
        steps: the steps, in order.
    """

    kind: str
    steps: tuple[Step, ...]

    @property
    def qubits(self) -> frozenset[int]:
        """The qubits that the layer touches."""
        return frozenset(qubit for step in self.steps for qubit in step.qubits)


def split_prefix(steps: Sequence[Step]) -> tuple[dict[int, list[Step]], list[Step]]:
    """Single-qubit steps before their qubit's first entangler, by qubit, and all the others.

    After the former the state is a product, whatever data drive it.
    """
    prefix: dict[int, list[Step]] = defaultdict(list)
    body = []
    entangled: set[int] = set()
    for step in steps:
        if len(step.qubits) == 1 and step.qubits[0] not in entangled:
            prefix[step.qubits[0]].append(step)
        else:
            body.append(step)
            entangled.update(step.qubits)
    return dict(prefix), body


def layers(steps: Sequence[Step], inputs: Sequence[sympy.Symbol]) -> list[Layer]:
    """The steps as layers, in an order of execution that gives the same unitary.

    A rotation of one qubit by data, about X or Y, is a change of basis, a rotation about Z, and the
    change back, so that all data rotations of a layer are one vector of phases.

    Args:
        steps: lowered steps.
        inputs: the symbols that stand for data.

    Returns:
        The layers, the first to act first.
    """
    found: list[tuple[str, list[Step], set[int]]] = []
    for step in steps:
        for kind, part in _parts(step, frozenset(inputs)):
            _place(found, kind, part)
    return [Layer(kind, tuple(parts)) for kind, parts, _ in found]


def _parts(step: Step, data: frozenset[sympy.Symbol]) -> list[tuple[str, Step]]:
    """A step as parts, each with the kind of layer that it belongs to."""
    if isinstance(step, Unitary):
        if len(step.qubits) == 1:
            return [("turns", step)]
        if np.allclose(step.matrix, np.diag(np.diagonal(step.matrix)), rtol=0, atol=_TOLERANCE):
            return [("diagonal", step)]
        zeros_and_ones = np.where(np.abs(step.matrix) > 0.5, 1.0, 0.0)
        is_permutation = np.allclose(step.matrix, zeros_and_ones, rtol=0, atol=_TOLERANCE)
        return [("permutation" if is_permutation else "dense", step)]
    letters = {letter for _, letter in step.pauli}
    if len(step.pauli) > 1:
        return [("diagonal" if letters == {"Z"} else "rotation", step)]
    (letter,) = letters
    driven, free = [], []
    for term in sympy.Add.make_args(step.angle):
        (free if term.free_symbols.isdisjoint(data) else driven).append(term)
    parts = []
    if driven:
        about_z = Rotation(((step.qubits[0], "Z"),), sympy.Add(*driven))
        if letter == "Z":
            parts = [("diagonal", about_z)]
        else:
            basis = BASES[letter]
            parts = [
                ("turns", Unitary(step.qubits, basis.conj().T)),
                ("diagonal", about_z),
                ("turns", Unitary(step.qubits, basis)),
            ]
    if free:
        parts.append(("turns", Rotation(step.pauli, sympy.Add(*free))))
    return parts


def _place(found, kind: str, part: Step) -> None:
    """Add a part to the first layer of its kind that nothing after keeps it from."""
    qubits = set(part.qubits)
    place = None
    for layer in reversed(found) if kind in ("turns", "diagonal", "permutation") else ():
        other, _, touched = layer
        if other == kind:
            place = layer
        if touched & qubits and not other == kind == "diagonal":
            break
    if place is None:
        found.append((kind, [part], qubits))
    else:
        place[1].append(part)
        place[2].update(qubits)


def repetitions(signatures: Sequence[Hashable], at_least: int) -> list[tuple[int, int, int]]:
    """Runs of one pattern: `(start, period, count)`, one after the other, covering everything.

    What does not repeat `at_least` times has period 1 and count 1.

    Args:
        signatures: what is compared.
        at_least: how often a pattern must come to count.

    Example:
        >>> repetitions("xababab", at_least=3)
        [(0, 1, 1), (1, 2, 3)]
    """
    runs = []
    start, size = 0, len(signatures)
    while start < size:
        best = (start, 1, 1)
        for period in range(1, min(_LONGEST_PERIOD, (size - start) // at_least) + 1):
            end = start + period
            while end < size and signatures[end] == signatures[end - period]:
                end += 1
            count = (end - start) // period
            if count >= at_least and count * period > best[1] * best[2]:
                best = (start, period, count)
        runs.append(best)
        start += best[1] * best[2]
    return runs
