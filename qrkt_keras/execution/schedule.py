"""Schedule: layers of a circuit as the operations of an evolution, and what their parameters are.

Single-qubit gates become one matrix a block of qubits. Where a diagonal gate stands between two
layers of them it becomes part of a matrix too: a diagonal on leading qubits and a block is, for
each basis state of the leading qubits, a diagonal on the block.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from qrkt_keras.circuits import CircuitSpec, Rotation, Unitary
from qrkt_keras.execution import spins
from qrkt_keras.execution.evolution import Block, PauliRotation, Permutation, Phases, Rows
from qrkt_keras.execution.layering import Layer, Step

# Up to this many qubits, one matrix acts on all of them.
_ONE_BLOCK = 5
# Up to this many, two, and diagonal gates between them are part of the second.
_TWO_BLOCKS = 10
# How many qubits a matrix acts on at most beyond that.
_LARGEST_BLOCK = 5
_TOLERANCE = 1e-12

# Real and imaginary part, in the order of a table `(2, 2**n)`.
_PARTS = np.array([[0], [1]])


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of a block's matrix.

    Args:
        constant: `(1 or leading states, d, d)`, complex, or None.
        sequences: else, the steps of each qubit of the block that weights drive.
    """

    constant: np.ndarray | None = None
    sequences: tuple[tuple[Step, ...], ...] = ()

    @functools.cached_property
    def kinds(self) -> tuple[int, ...] | None:
        """`spins.real_kind` of each sequence, or None if not all are real."""
        kinds = tuple(spins.real_kind(sequence) for sequence in self.sequences)
        return None if None in kinds else kinds

    @property
    def is_real(self) -> bool:
        """Whether the factor is a real matrix."""
        return self.kinds is not None if self.constant is None else not self.constant.imag.any()

    @property
    def signature(self):
        """What blocks have in common whose matrices are made together."""
        return self.kinds if self.constant is None else self.constant.tobytes()


@dataclass(frozen=True, eq=False)
class Scheduled:
    """An operation, and where its parameter comes from.

    Args:
        operation: of `evolution`.
        factors: of a block's matrix, the first to act first; the matrix is its parameter.
        angles: of phases or a rotation; they are its parameter.
        is_driven: whether data drive it.
        signature: equal for operations that a loop may take for one.
    """

    operation: Block | Phases | Permutation | PauliRotation
    factors: tuple[Factor, ...] = ()
    angles: tuple[sympy.Expr, ...] = ()
    is_driven: bool = False
    signature: tuple = ()

    @property
    def multiply_adds(self) -> float:
        """Estimated multiply-adds a column of the state, forward."""
        rows = self.operation.rows.size
        if isinstance(self.operation, Block):
            dim = 2**self.operation.size
            return float(rows * (dim if self.operation.is_real else 2 * dim))
        return {Phases: 8.0, PauliRotation: 6.0, Permutation: 3.0}[type(self.operation)] * rows


def blocks(num_qubits: int) -> tuple[tuple[int, int], ...]:
    """Start and size of the runs of qubits that a matrix acts on.

    Example:
        >>> blocks(8)
        ((0, 4), (4, 4))
    """
    if num_qubits <= _ONE_BLOCK:
        return ((0, num_qubits),)
    count = 2 if num_qubits <= _TWO_BLOCKS else -(-num_qubits // _LARGEST_BLOCK)
    bounds = [round(i * num_qubits / count) for i in range(count + 1)]
    return tuple((a, b - a) for a, b in zip(bounds, bounds[1:], strict=False))


def layout(num_qubits: int) -> Rows:
    """How the rows of a state are laid out for these blocks."""
    runs = blocks(num_qubits)
    return Rows(num_qubits, runs[0][1] if len(runs) > 1 else 0)


def basis_bits(num_qubits: int) -> np.ndarray:
    """`(num_qubits, 2**num_qubits)`: the value of each qubit in each basis state."""
    bits = np.empty((num_qubits, 2**num_qubits), dtype=np.int8)
    for qubit in range(num_qubits):
        pattern = np.repeat(np.array([0, 1], dtype=np.int8), 2 ** (num_qubits - 1 - qubit))
        bits[qubit] = np.tile(pattern, 2**qubit)
    return bits


class _Builder:
    """Takes layers in order; keeps the matrices of the first two blocks open while it can."""

    def __init__(self, spec: CircuitSpec):
        self.spec = spec
        self.rows = layout(spec.num_qubits)
        self.items: list[Scheduled] = []
        first, *others = blocks(spec.num_qubits)
        # `lead` is on the first qubits and acts before `main`, which may depend on their state.
        self._lead = first if others else (0, 0)
        self._main, *self._others = others or [first]
        self._absorbs = spec.num_qubits <= _TWO_BLOCKS
        self._open: dict[str, list[Factor]] = {"lead": [], "main": []}
        self._mixes = False

    def add(self, layer: Layer) -> None:
        getattr(self, "_" + layer.kind)(layer)

    def _turns(self, layer: Layer) -> None:
        sequences: dict[int, list[Step]] = defaultdict(list)
        for step in layer.steps:
            sequences[step.qubits[0]].append(step)

        def factor(run):
            return _turns_factor([sequences.get(q, []) for q in range(run[0], sum(run))])

        def touches(run):
            return any(run[0] <= qubit < sum(run) for qubit in sequences)

        if touches(self._main):
            part = factor(self._main)
            # One with weights at most, so that deep circuits are many equal blocks: a loop.
            if part.sequences and any(other.sequences for other in self._open["main"]):
                self.flush()
            self._open["main"].append(part)
        if touches(self._lead):
            if self._mixes:
                self.flush()
            self._open["lead"].append(factor(self._lead))
        for run in self._others:
            if touches(run):
                self._emit_block(run, [factor(run)])

    def _diagonal(self, layer: Layer) -> None:
        constants = [step for step in layer.steps if isinstance(step, Unitary)]
        rotations = [step for step in layer.steps if isinstance(step, Rotation)]
        diagonal = self._constant_diagonal(constants)
        touched = {qubit for gate in constants for qubit in gate.qubits}
        if (
            diagonal is not None
            and self._absorbs
            and not (rotations and self._has_nothing_open(touched))
        ):
            self._absorb_diagonal(diagonal, touched)
            diagonal = None
        if diagonal is not None or rotations:
            self.flush()
            self._emit_phases(rotations, diagonal)

    def _has_nothing_open(self, touched: set[int]) -> bool:
        """Whether nothing is open that a diagonal could join."""
        return not (touched and (self._open["lead"] or self._open["main"]))

    def _absorb_diagonal(self, diagonal: np.ndarray, touched: set[int]) -> None:
        table = diagonal.reshape(2 ** self._lead[1], 2 ** self._main[1])
        if all(qubit >= self._main[0] for qubit in touched):
            table = table[:1]
        elif not self._mixes and all(qubit < self._main[0] for qubit in touched):
            self._open["lead"].append(Factor(np.diag(table[:, 0])[None]))
            return
        else:
            self._mixes = True
        self._open["main"].append(Factor(np.stack([np.diag(row) for row in table])))

    def _permutation(self, layer: Layer) -> None:
        if not self._lead[1]:
            size = self.spec.num_qubits
            for step in layer.steps:
                self._open["main"].append(Factor(embedded(step.matrix, step.qubits, size)[None]))
            return
        self.flush()
        source = source_states(layer.steps, self.spec.num_qubits)
        self._emit_permutation(self.rows.arrange(self.rows.number(_PARTS, source)))

    def _dense(self, layer: Layer) -> None:
        (step,) = layer.steps
        if not self._lead[1]:
            matrix = embedded(step.matrix, step.qubits, self.spec.num_qubits)
            self._open["main"].append(Factor(matrix[None]))
            return
        self.flush()
        # Bring the gate's qubits to the front, where one block is on them, and back.
        size, count = self.spec.num_qubits, len(step.qubits)
        order = [*step.qubits, *(q for q in range(size) if q not in step.qubits)]
        states = np.arange(2**size).reshape((2,) * size).transpose(order).reshape(-1)
        front = Rows(size, count)
        forth = front.arrange(self.rows.number(_PARTS, states))
        matrix = _real_matrix(step.matrix, leads=True)
        self._emit_permutation(forth)
        self._emit(
            Block(front, 0, count, matrix[None, None]),
            signature=("dense", count, matrix.tobytes()),
        )
        self._emit_permutation(np.argsort(forth))

    def _rotation(self, layer: Layer) -> None:
        self.flush()
        (step,) = layer.steps
        size, bits = self.spec.num_qubits, basis_bits(self.spec.num_qubits)
        letters = dict(step.pauli)
        flipped = sum(1 << (size - 1 - q) for q, letter in letters.items() if letter != "Z")
        source = np.arange(2**size) ^ flipped
        # (P psi)[k] = i**num_y * sign[k] * psi[k ^ flipped], and G = -i P.
        sign = np.ones(2**size)
        for qubit, letter in letters.items():
            if letter == "Z":
                sign *= 1 - 2 * bits[qubit]
            elif letter == "Y":
                sign *= 2 * bits[qubit] - 1
        power = (sum(letter == "Y" for letter in letters.values()) + 3) % 4
        # i**power on (re, im): 0 keeps, 2 negates, 1 gives (-im, re), 3 gives (im, -re).
        swaps = power % 2 == 1
        source = self.rows.number(1 - _PARTS if swaps else _PARTS, source)
        signs = np.array({0: (1, 1), 1: (-1, 1), 2: (-1, -1), 3: (1, -1)}[power])
        self._emit(
            PauliRotation(
                self.rows, self.rows.arrange(source), self.rows.arrange(signs[:, None] * sign)
            ),
            angles=(step.angle,),
            signature=("rotation", step.pauli),
        )

    def _emit_permutation(self, source: np.ndarray) -> None:
        self._emit(Permutation(self.rows, source), signature=("permutation", source.tobytes()))

    def flush(self) -> None:
        """Emit what is open."""
        for name, run in (("lead", self._lead), ("main", self._main)):
            if self._open[name]:
                self._emit_block(run, self._open[name])
                self._open[name] = []
        self._mixes = False

    def _constant_diagonal(self, constants: Sequence[Unitary]) -> np.ndarray | None:
        if not constants:
            return None
        bits = basis_bits(self.spec.num_qubits)
        diagonal = np.ones(2**self.spec.num_qubits, dtype=np.complex128)
        for step in constants:
            rows = sum(
                bits[q].astype(np.int64) << (len(step.qubits) - 1 - i)
                for i, q in enumerate(step.qubits)
            )
            diagonal *= (np.diagonal(step.matrix) / step.matrix[0, 0])[rows]
        return _clean(diagonal)

    def _emit_phases(self, rotations: Sequence[Rotation], diagonal) -> None:
        bits = basis_bits(self.spec.num_qubits)
        angles: dict[tuple[int, ...], sympy.Expr] = {}
        for step in rotations:
            angles[step.qubits] = angles.get(step.qubits, sympy.S.Zero) + step.angle
        strings = sorted(angles)
        table = np.array([np.prod(1 - 2 * bits[list(string)], axis=0) for string in strings])
        table = table.reshape(len(strings), 2**self.spec.num_qubits)
        single = all(len(string) == 1 for string in strings)
        qubits = tuple(string[0] for string in strings) if single else None
        constant = None if diagonal is None else diagonal.tobytes()
        self._emit(
            Phases(self.rows, table, qubits, diagonal),
            angles=tuple(angles[string] for string in strings),
            signature=("phases", tuple(strings), constant),
        )

    def _emit_block(self, run, factors: Sequence[Factor]) -> None:
        start, size = run
        if all(factor.constant is not None for factor in factors):
            matrix = _clean(functools.reduce(lambda m, f: f.constant @ m, factors, np.eye(2**size)))
            block = Block(self.rows, start, size, is_real=not matrix.imag.any())
            matrix = matrix_on_rows(matrix, block)
            block = dataclasses.replace(block, constant=matrix[None])
            self._emit(block, signature=("constant", run, matrix.tobytes()))
            return
        signature = ("block", run, tuple(factor.signature for factor in factors))
        is_real = all(factor.is_real for factor in factors)
        block = Block(self.rows, start, size, is_real=is_real)
        self._emit(block, factors=tuple(factors), signature=signature)

    def _emit(self, operation, factors=(), angles=(), signature=()) -> None:
        data = set(self.spec.inputs)
        is_driven = any(not angle.free_symbols.isdisjoint(data) for angle in angles)
        signature = (*signature, is_driven)
        self.items.append(Scheduled(operation, tuple(factors), tuple(angles), is_driven, signature))


def schedule(layers: Sequence[Layer], spec: CircuitSpec) -> list[Scheduled]:
    """The operations that do what the layers do, the first to act first.

    Args:
        layers: of `layering.layers`.
        spec: their circuit.

    Example:
        >>> from qrkt_keras.circuits import lower, templates
        >>> from qrkt_keras.execution.layering import layers
        >>> spec = templates.hardware_efficient(8, num_layers=2)
        >>> [type(item.operation).__name__ for item in schedule(layers(lower(spec), ()), spec)]
        ['Block', 'Block', 'Block', 'Block']
    """
    builder = _Builder(spec)
    for layer in layers:
        builder.add(layer)
    builder.flush()
    return builder.items


def _turns_factor(sequences) -> Factor:
    if all(spins.is_constant(sequence) for sequence in sequences):
        matrices = [spins.constant_matrix(sequence) for sequence in sequences]
        return Factor(functools.reduce(np.kron, matrices)[None])
    return Factor(sequences=tuple(tuple(sequence) for sequence in sequences))


def _clean(x: np.ndarray) -> np.ndarray:
    """Without the global phase and the rounding errors that would hide that it is real."""
    phase = x.reshape(-1)[np.argmax(np.abs(x.reshape(-1)) > 0.5 * np.abs(x).max())]
    x = x * (np.abs(phase) / phase)
    real, imag = (np.where(np.abs(part) < _TOLERANCE, 0.0, part) for part in (x.real, x.imag))
    return real + 1j * imag


def matrix_on_rows(matrix: np.ndarray, block: Block) -> np.ndarray:
    """A complex matrix `(1 or leading states, d, d)` as the real one that a block acts by."""
    if not block.is_real:
        return _real_matrix(matrix, block.leads)
    # One for each basis state of the leading qubits is one for each of their rows.
    return np.repeat(matrix.real, min(len(matrix), 2), axis=0)


def _real_matrix(matrix: np.ndarray, leads: bool) -> np.ndarray:
    """A complex matrix `(…, d, d)` as a real one, `(…, 2d, 2d)`.

    The rows of a leading block are its basis states, each with real and imaginary part; of another,
    the real parts of all its basis states, then the imaginary ones.
    """
    column, row = (-1, -3) if leads else (-2, -4)
    real, imag = matrix.real, matrix.imag
    both = np.stack(
        [np.stack([real, -imag], axis=column), np.stack([imag, real], axis=column)], axis=row
    )
    size = 2 * matrix.shape[-1]
    return both.reshape(*matrix.shape[:-2], size, size)


def embedded(matrix: np.ndarray, places: Sequence[int], size: int) -> np.ndarray:
    """The matrix of a gate on some of `size` qubits as one on all of them."""
    places = [*places, *(q for q in range(size) if q not in places)]
    identity = np.eye(2**size // len(matrix))
    return reordered(np.kron(matrix, identity), np.argsort(places))


def reordered(matrix: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The matrix with its qubits in another order, given as their places in the present one."""
    count = len(order)
    axes = [*order, *(place + count for place in order)]
    return matrix.reshape((2,) * (2 * count)).transpose(axes).reshape(matrix.shape)


def source_states(steps: Sequence[Unitary], num_qubits: int) -> np.ndarray:
    """The basis state that each basis state comes from, under permutations one after the other.

    Where they are affine over the bits, as CNOT, SWAP and X are, the table is made by doubling:
    `f(s + 2**i) = f(s) ^ f(2**i) ^ f(0)` for the states `s < 2**i`.
    """
    is_affine = all(map(_is_affine, steps))
    ones = [0, *(1 << i for i in range(num_qubits))]
    states = np.array(ones) if is_affine else np.arange(2**num_qubits)
    for step in reversed(steps):
        states = _sources(step, states, num_qubits)
    return _doubled(states[0], states[1:] ^ states[0]) if is_affine else states


def _doubled(first: int, differences: np.ndarray) -> np.ndarray:
    table = np.empty(2 ** len(differences), int)
    table[0] = first
    for i, difference in enumerate(differences):
        table[2**i : 2 ** (i + 1)] = table[: 2**i] ^ difference
    return table


def _is_affine(step: Unitary) -> bool:
    local = _local_sources(step)
    ones = local[1 << np.arange(len(step.qubits))] ^ local[0]
    return np.array_equal(_doubled(local[0], ones), local)


def _local_sources(step: Unitary) -> np.ndarray:
    """The same on the step's own qubits."""
    return np.argmax(np.abs(step.matrix), axis=1)


def _sources(step: Unitary, states: np.ndarray, num_qubits: int) -> np.ndarray:
    """The states that states come from, under one permutation."""
    count = len(step.qubits)
    places = [num_qubits - 1 - qubit for qubit in step.qubits]
    local = sum((states >> place & 1) << (count - 1 - i) for i, place in enumerate(places))
    source = _local_sources(step)[local]
    for i, place in enumerate(places):
        states = states & ~(1 << place) | (source >> (count - 1 - i) & 1) << place
    return states
