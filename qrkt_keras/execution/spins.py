"""Spins: sequences of single-qubit gates as unit quaternions, many sequences at once.

`U = a - i (b X + c Y + d Z)` with `a² + b² + c² + d² = 1`, up to a global phase; the product of two
such matrices is Hamilton's product of the quaternions.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation
from qrkt_keras.circuits.lowering import pauli_matrix
from qrkt_keras.execution.angles import Angles, select
from qrkt_keras.execution.layering import Step

# `e_axis * (a, b; c, d)`: the axes along which that table of components is flipped, and the signs
# that it takes then.
_TIMES = {
    "X": ((1,), ((-1, 1), (-1, 1))),
    "Y": ((0,), ((-1, 1), (1, -1))),
    "Z": ((0, 1), ((-1, -1), (1, 1))),
}
_TOLERANCE = 1e-12


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """A 2x2 unitary as four real numbers, up to its global phase."""
    special = matrix / np.sqrt(np.linalg.det(matrix) + 0j)
    parts = [np.trace(special @ pauli_matrix(letter)) / 2 for letter in "IXYZ"]
    result = np.array([parts[0].real, *((1j * part).real for part in parts[1:])])
    return np.where(np.abs(result) < _TOLERANCE, 0.0, result)


def is_constant(sequence: Sequence[Step]) -> bool:
    """Whether no symbol drives the sequence."""
    return all(not (isinstance(step, Rotation) and step.angle.free_symbols) for step in sequence)


def constant_matrix(sequence: Sequence[Step]) -> np.ndarray:
    """The 2x2 matrix of a constant sequence."""
    result = np.eye(2, dtype=np.complex128)
    for step in sequence:
        if isinstance(step, Rotation):
            half = float(step.angle) / 2
            matrix = np.cos(half) * np.eye(2) - 1j * np.sin(half) * pauli_matrix(step.pauli[0][1])
        else:
            matrix = step.matrix
        result = matrix @ result
    return result


def real_kind(sequence: Sequence[Step]) -> int | None:
    """Which real matrix a sequence is, whatever its angles are; None if it is none.

    Rotations about Y stay in the span of 1 and Y (kind 0), a Hadamard gate leads to that of X and Z
    and back (kind 1): up to a global phase, both are real.
    """
    kind = 0
    for step in sequence:
        if isinstance(step, Rotation):
            letter = step.pauli[0][1]
            if letter != "Y":
                return None
            continue
        a, b, c, d = quaternion(step.matrix)
        if (a or c) and (b or d):
            return None
        kind ^= int(bool(b or d))
    return kind


class Spins:
    """Quaternions of sequences of single-qubit gates; those of one structure are one computation.

    Args:
        sequences: steps in order, a list each.
        spec: the circuit whose symbols they use.

    Call arguments:
        inputs: `(B, C, num_inputs)`.
        weights: `(copies, num_weights)`.

    Returns:
        `(2, 2, copies or C or 1, len(sequences), B or 1)`: the components as `(a, b; c, d)`.
    """

    def __init__(self, sequences: Sequence[Sequence[Step]], spec: CircuitSpec):
        alike: dict[tuple, list[int]] = defaultdict(list)
        for i, sequence in enumerate(sequences):
            alike[_structure(sequence)].append(i)
        # Angles without and with data: all of a kind are computed at once.
        expressions: tuple[list, list] = ([], [])
        places: dict[tuple, tuple[int, range]] = {}
        # (structure, number of members, where the angles of each rotation stand)
        self._groups = []
        for structure, members in alike.items():
            columns = []
            for steps in zip(*(_rotations(sequences[i]) for i in members), strict=True):
                angles = tuple(step.angle for step in steps)
                if angles not in places:
                    kind = int(any(not a.free_symbols.isdisjoint(spec.inputs) for a in angles))
                    first = len(expressions[kind])
                    expressions[kind].extend(angles)
                    places[angles] = kind, range(first, first + len(angles))
                columns.append(places[angles])
            self._groups.append((structure, len(members), columns))
        self._angles = [Angles(some, spec) if some else None for some in expressions]
        self._order = np.argsort([i for members in alike.values() for i in members]).tolist()

    def __call__(self, inputs, weights):
        turns = []
        for angles in self._angles:
            if angles is None:
                turns.append(None)
                continue
            half = ops.transpose(angles(inputs, weights), (1, 2, 0)) / 2
            turns.append((ops.cos(half), ops.sin(half)))
        groups = [
            _sequence(structure, size, columns, turns, inputs.dtype)
            for structure, size, columns in self._groups
        ]
        copies = max(group.shape[2] for group in groups)
        batched = next((group for group in groups if group.shape[4] != 1), None)
        batch = 1 if batched is None else ops.shape(batched)[4]
        alike = [
            group
            if group.shape[2] == copies and (batched is None or group.shape[4] != 1)
            else ops.broadcast_to(group, (2, 2, copies, group.shape[3], batch))
            for group in groups
        ]
        value = alike[0] if len(alike) == 1 else ops.concatenate(alike, axis=3)
        return select(value, self._order, axis=3)


def _rotations(sequence):
    return [step for step in sequence if isinstance(step, Rotation)]


def _structure(sequence) -> tuple:
    return tuple(
        step.pauli[0][1] if isinstance(step, Rotation) else tuple(quaternion(step.matrix).tolist())
        for step in sequence
    )


def _sequence(structure, size: int, columns, turns, dtype):
    """The quaternions of sequences of one structure, `(2, 2, copies, size, batch)`."""
    # A table of numbers until the first rotation by an angle.
    value = np.array([[1.0, 0.0], [0.0, 0.0]]).reshape(2, 2, 1, 1, 1)
    columns = iter(columns)
    for item in structure:
        if isinstance(item, str):
            kind, place = next(columns)
            cos, sin = (select(part, place, axis=1) for part in turns[kind])
            turned = ops.convert_to_tensor(_times(item, value), dtype=dtype)
            value = cos * ops.convert_to_tensor(value, dtype=dtype) + sin * turned
        else:
            terms = [item[0] * value] if item[0] else []
            for letter, number in zip("XYZ", item[1:], strict=True):
                if number:
                    terms.append(number * _times(letter, value))
            value = sum(terms[1:], terms[0])
    if isinstance(value, np.ndarray):
        return ops.convert_to_tensor(np.repeat(value, size, axis=3), dtype=dtype)
    return value


def _times(letter: str, value):
    """The product of a generator, -i times a Pauli matrix, and quaternions."""
    axes, signs = _TIMES[letter]
    flip = np.flip if isinstance(value, np.ndarray) else ops.flip
    for axis in axes:
        value = flip(value, axis)
    signs = np.array(signs, dtype="float64").reshape(2, 2, 1, 1, 1)
    if not isinstance(value, np.ndarray):
        signs = ops.convert_to_tensor(signs, dtype=value.dtype)
    return signs * value


def spinor(value):
    """The two amplitudes of `U |0>`, real and imaginary parts: `(copies, sequences, 2, batch)`."""
    real, imag = ops.unstack(value, 2, axis=1)
    parts = real, -ops.flip(imag, 0)
    return tuple(ops.transpose(part, (1, 2, 0, 3)) for part in parts)


def kronecker(factors: Sequence, kinds: Sequence[int] | None = None, leads: bool = False):
    """The product of single-qubit gates as a real matrix on the rows of their block.

    The product of quaternions' components, `q_i r_j …`, is a sum of few terms away from the entries
    of the matrix; and with `R = (Re, -Im; Im, Re)` for each entry, the product of two such matrices
    is one of real matrices: `R(A ⊗ B) = R(A) R(B)`.

    Args:
        factors: a tensor `(…, 4)` a qubit: `a, b, c, d`.
        kinds: where all gates are real, what `real_kind` says of each.
        leads: of the block.

    Returns:
        `(…, d, d)`, d = 2**g if the gates are real, else twice that.
    """
    leading = factors[0].shape[:-1]
    parts = 2 if kinds is None else 1
    kinds = kinds or (None,) * len(factors)
    cut = -(-len(factors) // 2)
    first, second = 2**cut, 2 ** (len(factors) - cut)
    product = _entries(factors[:cut], kinds[:cut], is_left=True)
    product = ops.reshape(product, (*leading, parts * first**2, parts))
    if second > 1:
        right = _entries(factors[cut:], kinds[cut:], is_left=False)
        right = ops.reshape(right, (*leading, parts, parts * second**2))
        product = ops.matmul(product, right)
    count = len(leading)
    product = ops.reshape(product, (*leading, parts, first, first, parts, second, second))
    order = (1, 4, 0, 2, 5, 3) if leads else (0, 1, 4, 3, 2, 5)
    product = ops.transpose(product, (*range(count), *(count + axis for axis in order)))
    size = parts * first * second
    return ops.reshape(product, (*leading, size, size))


def _entries(factors, kinds, is_left: bool):
    """All entries of a product of gates, R of each, on the last axis; see `_table`."""
    value = factors[0]
    for factor in factors[1:]:
        value = ops.expand_dims(value, -1) * ops.expand_dims(factor, -2)
        value = ops.reshape(value, (*value.shape[:-2], value.shape[-2] * value.shape[-1]))
    table = ops.convert_to_tensor(_table(tuple(kinds), is_left), dtype=value.dtype)
    rows = ops.reshape(value, (-1, value.shape[-1]))
    return ops.reshape(ops.matmul(rows, table), (*value.shape[:-1], table.shape[-1]))


@functools.cache
def _table(kinds: tuple, is_left: bool) -> np.ndarray:
    """`(4**g, entries)`: the entries for each product of generators.

    Entries are in the order (row of R, row, column, column of R) for a left factor, and (row of R,
    column of R, row, column) for a right one.
    """
    table = []
    for letters in itertools.product("IXYZ", repeat=len(kinds)):
        gates = []
        for letter, kind in zip(letters, kinds, strict=True):
            gate = pauli_matrix(letter) * (1 if letter == "I" else -1j)
            # A gate of kind 1 is real but for a global phase.
            gates.append(1j * gate if kind == 1 else gate)
        matrix = functools.reduce(np.kron, gates)
        real, imag = matrix.real, matrix.imag
        entries = np.array([[real, -imag], [imag, real]] if kinds[0] is None else [[real]])
        table.append((entries.transpose(0, 2, 3, 1) if is_left else entries).reshape(-1))
    return np.stack(table)
