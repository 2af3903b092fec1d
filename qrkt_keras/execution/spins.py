"""Spins: sequences of single-qubit gates as unit quaternions, many sequences at once.

`U = a - i (b X + c Y + d Z)` with `a² + b² + c² + d² = 1`, up to a global phase; the product of two
such matrices is Hamilton's product of the quaternions.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation
from qrkt_keras.circuits.lowering import pauli_matrix
from qrkt_keras.execution.angles import Angles
from qrkt_keras.execution.layering import Step

# `e_axis * (a, b, c, d)`: which component each comes from, and its sign.
_TIMES = {
    "X": ((1, -1), (0, 1), (3, -1), (2, 1)),
    "Y": ((2, -1), (3, 1), (0, 1), (1, -1)),
    "Z": ((3, -1), (2, -1), (1, 1), (0, 1)),
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
        Four tensors `(copies or C or 1, len(sequences), B or 1)`.
    """

    def __init__(self, sequences: Sequence[Sequence[Step]], spec: CircuitSpec):
        alike: dict[tuple, list[int]] = defaultdict(list)
        for i, sequence in enumerate(sequences):
            alike[_structure(sequence)].append(i)
        self._groups = []
        for structure, members in alike.items():
            columns = zip(*(_rotations(sequences[i]) for i in members), strict=True)
            angles = [Angles([step.angle for step in column], spec) for column in columns]
            self._groups.append((structure, len(members), angles))
        self._order = np.argsort([i for members in alike.values() for i in members])

    def __call__(self, inputs, weights):
        groups = []
        for structure, size, angles in self._groups:
            value = _sequence(structure, angles, inputs, weights)
            groups.append([_whole(part, value, size, inputs.dtype) for part in value])
        if len(groups) == 1:
            return tuple(groups[0])
        shapes = [[group[0].shape[axis] for group in groups] for axis in (0, 2)]
        copies = max(shapes[0])
        batch = next((ops.shape(g[0])[2] for g in groups if g[0].shape[2] != 1), 1)
        return tuple(
            ops.take(
                ops.concatenate(
                    [ops.broadcast_to(p, (copies, p.shape[1], batch)) for p in parts], axis=1
                ),
                self._order.astype("int32"),
                axis=1,
            )
            for parts in zip(*groups, strict=True)
        )


def _rotations(sequence):
    return [step for step in sequence if isinstance(step, Rotation)]


def _structure(sequence) -> tuple:
    return tuple(
        step.pauli[0][1] if isinstance(step, Rotation) else tuple(quaternion(step.matrix).tolist())
        for step in sequence
    )


def _sequence(structure, angles, inputs, weights):
    value: list = [1.0, None, None, None]
    made: dict = {}
    angles = iter(angles)
    for item in structure:
        if isinstance(item, str):
            angle = next(angles)
            if angle.expressions not in made:
                half = ops.transpose(angle(inputs, weights), (1, 2, 0)) / 2
                made[angle.expressions] = ops.cos(half), ops.sin(half)
            cos, sin = made[angle.expressions]
            times = [(value[source], sign) for source, sign in _TIMES[item]]
            value = [
                _add(_scale(cos, old), _scale(sin, other, sign))
                for old, (other, sign) in zip(value, times, strict=True)
            ]
        else:
            terms = [[_scale(item[0], part) if item[0] else None for part in value]]
            for axis, number in zip("XYZ", item[1:], strict=True):
                if number:
                    terms.append([_scale(number, value[s], sign) for s, sign in _TIMES[axis]])
            value = [_sum(column) for column in zip(*terms, strict=True)]
    return value


def _scale(factor, x, sign=1):
    if x is None:
        return None
    return factor * x if sign > 0 else -(factor * x)


def _add(x, y):
    return _sum((x, y))


def _sum(terms):
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _whole(part, value, size: int, dtype):
    """A component with all its axes; what constants alone have made is a number or None."""
    tensors = [x for x in value if x is not None and not isinstance(x, float)]
    if part is not None and not isinstance(part, float):
        return part
    number = 0.0 if part is None else part
    if tensors:
        return ops.full_like(tensors[0], number)
    return ops.full((1, size, 1), number, dtype=dtype)


def spinor(value):
    """The two amplitudes of `U |0>`, pairs of real and imaginary part, on a new second axis."""
    a, b, c, d = value
    return ops.stack([a, c], 2), ops.stack([-d, -b], 2)


def kronecker(value, kinds: Sequence[int] | None = None):
    """Products of matrices over the last axis: `(…, g)` to a pair `(…, 2**g, 2**g)`.

    Args:
        value: quaternions.
        kinds: where all matrices are real, what `real_kind` says of each; the second of the pair is
            then None.
    """
    a, b, c, d = value
    if kinds is not None:
        odd = np.array(kinds, dtype=bool)
        parts = [[a, -c, c, a], [d, b, b, -d]]
        if odd.any() and not odd.all():
            parts = [[ops.where(odd, y, x) for x, y in zip(*parts, strict=True)]]
        entries = parts[-1 if odd.all() else 0]
        rows = ops.stack([ops.stack(entries[:2], -1), ops.stack(entries[2:], -1)], -2)
        return functools.reduce(_kron, ops.unstack(rows, a.shape[-1], axis=-3)), None
    real = ops.stack([ops.stack([a, -c], -1), ops.stack([c, a], -1)], -2)
    imag = ops.stack([ops.stack([-d, -b], -1), ops.stack([-b, d], -1)], -2)
    matrices = zip(*(ops.unstack(part, a.shape[-1], axis=-3) for part in (real, imag)), strict=True)
    return functools.reduce(_complex_kron, matrices)


def _kron(x, y):
    product = x[..., :, None, :, None] * y[..., None, :, None, :]
    size = x.shape[-1] * y.shape[-1]
    return ops.reshape(product, (*product.shape[:-4], size, size))


def _complex_kron(x, y):
    (a, b), (c, d) = x, y
    return _kron(a, c) - _kron(b, d), _kron(a, d) + _kron(b, c)
