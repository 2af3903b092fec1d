"""State vector: exact, batched simulation in real arithmetic, pure `keras.ops`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import evolution, spins
from qrkt_keras.execution.angles import Angles
from qrkt_keras.execution.contract import fill, lowered
from qrkt_keras.execution.errors import UnsupportedCircuitError
from qrkt_keras.execution.evolution import Block, Repeat
from qrkt_keras.execution.layering import layers, repetitions, split_prefix
from qrkt_keras.execution.schedule import (
    Scheduled,
    basis_bits,
    blocks,
    layout,
    real_matrix,
    schedule,
)

NAME = "state_vector"
MAX_QUBITS = 24

# A pattern that comes this often is a loop.
_REPEATS = 8
# The states before at most this many operations are kept for the way back.
_SAVED = 48
# The batch to plan for where it is not known.
_UNKNOWN_BATCH = 256


class StateVector:
    """Expectation values from the state `psi`, kept as real numbers, layer by layer.

    Args:
        spec: the circuit.
        gradient: "auto", or how to go back: "adjoint", "saved" or "backprop", see
            `evolution.evolve`.
        scan: whether patterns that repeat are loops; None decides by their number.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`.

    Raises:
        UnsupportedCircuitError: more than `MAX_QUBITS` qubits, or a gate without Pauli form.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> engine = StateVector(templates.hardware_efficient(4))
        >>> engine.expectation(np.zeros((2, 1, 4), "float32"), np.zeros((1, 32), "float32")).shape
        TensorShape([2, 1, 4])
    """

    name = NAME
    supports_jit = True

    def __init__(self, spec: CircuitSpec, gradient: str = "auto", scan: bool | None = None):
        if spec.num_qubits > MAX_QUBITS:
            gigabytes = 2 ** (spec.num_qubits + 3) / 1e9
            raise UnsupportedCircuitError(
                NAME,
                f"a state of {spec.num_qubits} qubits takes {gigabytes:.3g} GB an example, the "
                f"limit is {MAX_QUBITS} qubits. Received: num_qubits={spec.num_qubits}",
            )
        self.spec = spec
        self._gradient = gradient
        prefix, body = split_prefix(lowered(spec, NAME))
        self._rows = layout(spec.num_qubits)
        self._product = _ProductState(spec, prefix)
        items = schedule(layers(body, spec.inputs), spec)
        first_driven = 0
        if not self._product.is_driven:
            driven = [i for i, item in enumerate(items) if item.is_driven]
            first_driven = driven[0] if driven else len(items)
        # What comes before any data acts on one state, not on a batch.
        at_least = {None: _REPEATS, True: 2, False: len(items) + 1}[scan]
        self._matrices = _Matrices(items, spec, self._rows)
        self._before = _Part(items[:first_driven], at_least, self._matrices, spec)
        self._after = _Part(items[first_driven:], at_least, self._matrices, spec)
        self._read_out = _ReadOut(spec)

    @property
    def flops(self) -> float:
        """Estimated multiply-adds per example and copy."""
        return self._after.multiply_adds + self._read_out.multiply_adds

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        copies = weights.shape[0]
        matrices = self._matrices(inputs, weights)
        state = self._product(inputs, weights)
        if state.shape[0] != copies:
            state = ops.repeat(state, copies, axis=0)
        state = self._run(self._before, state, inputs, weights, matrices, 1)
        batch = inputs.shape[0]
        if state.shape[2] == 1 and batch != 1 and self._after.operations:
            state = ops.repeat(state, ops.shape(inputs)[0], axis=2)
        state = self._run(self._after, state, inputs, weights, matrices, batch)
        values = ops.transpose(self._read_out(state), (2, 0, 1))
        return fill(values, inputs, weights)

    def _run(self, part, state, inputs, weights, matrices, batch):
        """The state after a part of the circuit, with what can be fused over the batch fused."""
        slots = part.slots(inputs, weights, matrices)
        operations, flat = [], []
        for piece in part.pieces(self._rows, _UNKNOWN_BATCH if batch is None else batch):
            taken = part.operations[piece.start : piece.stop]
            own = slots[piece.start : piece.stop]
            if piece.step == 1:
                operations += taken
                flat += [slot for group in own for slot in group]
            else:
                matrix = self._unitary(taken, own, weights)
                operations.append(Block(self._rows, 0, self.spec.num_qubits))
                flat.append(matrix)
        return evolution.evolve(state, operations, flat, self._how(operations))

    def _how(self, operations) -> str:
        if self._gradient != "auto":
            return self._gradient
        is_short = len(operations) <= _SAVED and not any(
            isinstance(operation, Repeat) for operation in operations
        )
        return "saved" if is_short else "adjoint"

    def _unitary(self, operations, slots, weights):
        """A run of operations that no data drive as one matrix, made of its columns."""
        size = 2**self.spec.num_qubits
        identity = np.zeros((2, size, size))
        identity[0] = np.eye(size)
        first, _, last = self._rows.shape
        identity = identity.reshape(2, first, last, size).transpose(1, 0, 2, 3)
        columns = ops.convert_to_tensor(identity.reshape(1, 2 * size, size), dtype=weights.dtype)
        columns = ops.repeat(columns, weights.shape[0], axis=0)
        flat = [slot for group in slots for slot in group]
        columns = evolution.evolve(columns, operations, flat, self._how(operations))
        columns = ops.reshape(columns, (-1, first, 2, last, first, last))
        times_i = ops.stack([-columns[:, :, 1], columns[:, :, 0]], axis=2)
        matrix = ops.stack([columns, times_i], axis=5)
        return ops.reshape(matrix, (-1, 1, 2 * size, 2 * size))


class _ProductState:
    """The state before the first entangler: the outer product of its qubits' amplitudes."""

    def __init__(self, spec: CircuitSpec, prefix):
        self._rows = layout(spec.num_qubits)
        sequences = [prefix.get(qubit, []) for qubit in range(spec.num_qubits)]
        symbols = {
            symbol
            for sequence in sequences
            for step in sequence
            for symbol in getattr(getattr(step, "angle", None), "free_symbols", ())
        }
        self.is_driven = not symbols.isdisjoint(spec.inputs)
        self._spins = spins.Spins(sequences, spec)

    def __call__(self, inputs, weights):
        real, imag = spins.spinor(self._spins(inputs, weights))
        factors = [(real[:, q], imag[:, q]) for q in range(self._rows.num_qubits)]
        leading = self._rows.leading
        (a, b), (c, d) = (
            evolution.outer(group) if group else (ops.ones_like(real[:, 0, :1]), None)
            for group in (factors[:leading], factors[leading:])
        )
        c, d = c[:, None], d[:, None]
        if b is None:
            real, imag = c, d
        else:
            a, b = a[:, :, None], b[:, :, None]
            real, imag = a * c - b * d, a * d + b * c
        state = ops.stack([real, imag], axis=2)
        shape = (state.shape[0], self._rows.size, ops.shape(state)[-1])
        return ops.reshape(state, shape)


class _Matrices:
    """The matrices of all blocks with weights; those of one form are made together."""

    def __init__(self, items: list[Scheduled], spec: CircuitSpec, rows):
        self._rows = rows
        forms: dict[tuple, list[Scheduled]] = defaultdict(list)
        self.place: dict[int, tuple[int, int]] = {}
        for item in items:
            if item.factors:
                members = forms[item.signature]
                members.append(item)
        sequences: list = []
        self._forms = []
        for form, members in enumerate(forms.values()):
            factors = []
            for column in zip(*(item.factors for item in members), strict=True):
                if column[0].constant is not None:
                    factors.append(column[0].constant)
                    continue
                index = []
                for factor in column:
                    index.append(range(len(sequences), len(sequences) + len(factor.sequences)))
                    sequences += factor.sequences
                factors.append(np.array(index, dtype="int32"))
            for i, item in enumerate(members):
                self.place[id(item)] = form, i
            block = members[0].operation
            self._forms.append((block, factors))
        self._spins = spins.Spins(sequences, spec) if sequences else None

    def __call__(self, inputs, weights):
        """For every form, `(members, copies, 1 or leading states, d, d)`."""
        if self._spins is None:
            return []
        value = [part[:, :, 0] for part in self._spins(inputs, weights)]
        return [self._make(block, factors, value) for block, factors in self._forms]

    def _make(self, block, factors, value):
        result = None
        for factor in factors:
            if factor.dtype == "int32":
                # (copies, members, g) -> (members, copies, 1, g)
                chosen = [ops.take(part, factor, axis=1)[:, :, None] for part in value]
                pair = spins.kronecker([ops.transpose(part, (1, 0, 2, 3)) for part in chosen])
                result = pair if result is None else _multiply(pair, result)
            else:
                result = _multiply_constant(factor, result, value[0].dtype)
        leads = block.start == 0 and block.size == self._rows.leading
        return real_matrix(result, leads)


def _multiply(x, y):
    (a, b), (c, d) = x, y
    return (
        ops.matmul(a, c) - ops.matmul(b, d),
        ops.matmul(a, d) + ops.matmul(b, c),
    )


def _multiply_constant(constant: np.ndarray, result, dtype):
    """A constant factor `(q, d, d)` times what stands so far."""
    diagonal = np.diagonal(constant, axis1=-2, axis2=-1)
    is_diagonal = np.allclose(constant, diagonal[..., None] * np.eye(constant.shape[-1]))

    def tensor(part):
        return ops.convert_to_tensor(part, dtype=dtype) if part.any() else None

    if result is None:
        shape = (1, 1, *constant.shape)
        return tuple(
            ops.convert_to_tensor(part.reshape(shape), dtype=dtype)
            for part in (constant.real, constant.imag)
        )
    times = (lambda x, y: x * y) if is_diagonal else ops.matmul
    table = diagonal[..., None] if is_diagonal else constant
    a, b = tensor(table.real), tensor(table.imag)
    re, im = result
    if b is None:
        return times(a, re), times(a, im)
    if a is None:
        return -times(b, im), times(b, re)
    return times(a, re) - times(b, im), times(a, im) + times(b, re)


class _Part:
    """A part of the circuit: operations, loops among them, and where their parameters come from."""

    def __init__(self, items: list[Scheduled], at_least: int, matrices: _Matrices, spec):
        self.operations: list = []
        self._sources: list[list] = []
        self._is_driven: list[bool] = []
        self._costs: list[float] = []
        for start, period, count in repetitions([item.signature for item in items], at_least):
            turns = [
                items[start + i * period : start + (i + 1) * period] for i in range(count)
            ]
            cost = sum(item.multiply_adds for turn in turns for item in turn)
            self._costs.append(cost)
            self._is_driven.append(any(item.is_driven for item in turns[0]))
            columns = [column for column in zip(*turns, strict=True) if _has_slot(column[0])]
            if count == 1:
                self.operations.append(turns[0][0].operation)
                self._sources.append([_source(column, matrices, spec) for column in columns])
                continue
            sources = [_source(column, matrices, spec, stack=True) for column in columns]
            stacked = tuple(source.is_stacked for source in sources)
            body = tuple(item.operation for item in turns[0])
            self.operations.append(Repeat(body, count, stacked))
            self._sources.append(sources)

    @property
    def multiply_adds(self) -> float:
        return sum(self._costs)

    def slots(self, inputs, weights, matrices) -> list[tuple]:
        """The parameters, a tuple an operation; angles that are used twice are made once."""
        made: dict = {}
        return [
            tuple(source(inputs, weights, matrices, made) for source in sources)
            for sources in self._sources
        ]

    def pieces(self, rows, batch: int) -> list[range]:
        """Runs of operations: as they are (step 1), or to be one matrix (step 2, see `_fuses`)."""
        pieces = []
        start = 0
        while start < len(self.operations):
            stop = start
            while stop < len(self.operations) and not self._is_driven[stop]:
                stop += 1
            if self._fuses(start, stop, rows, batch):
                pieces.append(slice(start, stop, 2))
            else:
                stop = max(stop, start + 1)
                pieces.append(slice(start, stop, 1))
            start = stop
        return pieces

    def _fuses(self, start: int, stop: int, rows, batch: int) -> bool:
        # Making the matrix costs as much as so many columns, applying it as much as one product.
        columns = 2**rows.num_qubits
        direct = sum(self._costs[start:stop])
        return batch * direct > 1.2 * (columns * direct + batch * rows.size**2)


def _has_slot(item: Scheduled) -> bool:
    return item.operation.num_slots > 0


class _MatrixSource:
    def __init__(self, places, stack: bool):
        self._form = places[0][0]
        self._indices = [i for _, i in places]
        self.is_stacked = stack

    def __call__(self, inputs, weights, matrices, made):
        stack = matrices[self._form]
        if not self.is_stacked:
            key = ("matrices", self._form)
            if key not in made:
                made[key] = ops.unstack(stack, num=stack.shape[0], axis=0)
            return made[key][self._indices[0]]
        first, last = self._indices[0], self._indices[-1] + 1
        if self._indices == list(range(first, last)):
            return stack if last - first == stack.shape[0] else stack[first:last]
        return ops.take(stack, np.array(self._indices, dtype="int32"), axis=0)


class _AngleSource:
    def __init__(self, angles, spec, stack: bool):
        self.is_stacked = stack and len(set(angles)) > 1
        turns = angles if self.is_stacked else angles[:1]
        self._shape = (len(turns), len(turns[0]))
        self._angles = Angles([angle for turn in turns for angle in turn], spec)

    def __call__(self, inputs, weights, matrices, made):
        key = (self._angles.expressions, self.is_stacked)
        if key not in made:
            value = ops.transpose(self._angles(inputs, weights), (1, 2, 0))
            if self.is_stacked:
                copies, _, batch = ops.shape(value)
                value = ops.reshape(value, (copies, *self._shape, batch))
                value = ops.transpose(value, (1, 0, 2, 3))
            made[key] = value
        return made[key]


def _source(column, matrices: _Matrices, spec, stack: bool = False):
    if column[0].factors:
        return _MatrixSource([matrices.place[id(item)] for item in column], stack)
    return _AngleSource([item.angles for item in column], spec, stack)


class _ReadOut:
    """`<P>` from probabilities, in as few bases as the observables' strings need."""

    def __init__(self, spec: CircuitSpec):
        index = {qubit: i for i, qubit in enumerate(spec.qubits)}
        self._rows = layout(spec.num_qubits)
        bits = basis_bits(spec.num_qubits)
        bases: list[dict[int, str]] = []
        tables: list[np.ndarray] = []
        for column, observable in enumerate(spec.observables):
            for term in observable:
                letters = {index[qubit]: str(letter) for qubit, letter in term.items()}
                for basis, table in zip(bases, tables, strict=True):
                    if all(basis.get(qubit, letter) == letter for qubit, letter in letters.items()):
                        break
                else:
                    basis, table = {}, np.zeros((spec.num_observables, 2**spec.num_qubits))
                    bases.append(basis)
                    tables.append(table)
                basis.update(letters)
                signs = np.prod([1 - 2 * bits[qubit] for qubit in letters], axis=0)
                table[column] += term.coefficient.real * signs
        self._bases = []
        for basis, table in zip(bases, tables, strict=True):
            signs = np.stack([self._rows.arrange(np.stack([row, row])) for row in table])
            self._bases.append((_change_of_basis(basis, spec), signs))

    @property
    def multiply_adds(self) -> float:
        return sum(
            self._rows.size * (1 + len(signs)) + sum(item.multiply_adds for item in items)
            for items, signs in self._bases
        )

    def __call__(self, state):
        total = None
        for items, signs in self._bases:
            rotated = state
            for item in items:
                rotated = item.operation.apply(rotated, ())
            signs = ops.convert_to_tensor(signs, dtype=state.dtype)
            value = ops.matmul(signs, ops.square(rotated))
            total = value if total is None else total + value
        return total


def _change_of_basis(basis: dict[int, str], spec: CircuitSpec) -> list[Scheduled]:
    from qrkt_keras.circuits import Unitary
    from qrkt_keras.execution.layering import BASES, Layer

    steps = [
        Unitary((qubit,), BASES[letter].conj().T) for qubit, letter in basis.items() if letter in BASES
    ]
    return schedule([Layer("turns", tuple(steps))], spec) if steps else []
