"""State vector: exact, batched simulation in real arithmetic, pure `keras.ops`."""

from __future__ import annotations

import functools
import os
from collections import Counter, defaultdict
from decimal import Decimal
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Unitary
from qrkt_keras.execution import evolution, spins
from qrkt_keras.execution.angles import Angles, neighbours, select
from qrkt_keras.execution.chunks import in_chunks
from qrkt_keras.execution.contract import fill, lowered
from qrkt_keras.execution.errors import UnsupportedCircuitError
from qrkt_keras.execution.evolution import Block, Conditioned, Repeat
from qrkt_keras.execution.layering import BASES, Layer, layers, repetitions, split_prefix
from qrkt_keras.execution.schedule import (
    Scheduled,
    layout,
    matrix_on_rows,
    schedule,
)

NAME = "state_vector"
# A batch whose states take more goes through in chunks, and is found by undoing on the way back.
CHUNK_BYTES = 2**31

# How many states value and gradient hold at a time, an estimate from above: 14 to 27 were measured.
_STATES = 24
# A pattern that comes this often is a loop.
_REPEATS = 8
# Up to so many matrices are taken apart at once; of more, most belong to a loop.
_UNSTACKED = 32
# Up to so many qubits, the signs of all rows and observables are one table.
_ONE_TABLE = 10
# The batch to plan for where it is not known.
_UNKNOWN_BATCH = 256


def machine_memory() -> int:
    """The bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def state_bytes(num_qubits: int, dtype: str = "float32") -> int:
    """The bytes of one state."""
    return 2 ** (num_qubits + 1) * np.dtype(dtype).itemsize


def check_memory(spec: CircuitSpec, copies: int = 1, dtype: str = "float32") -> None:
    """Refuse a circuit of which one example does not fit this machine's memory, with figures."""
    state = state_bytes(spec.num_qubits, dtype)
    needed, memory = _STATES * copies * state, machine_memory()
    if needed > memory:
        received = f"num_qubits={spec.num_qubits}" + (f", copies={copies}" if copies > 1 else "")
        raise UnsupportedCircuitError(
            NAME,
            f"a state of {spec.num_qubits} qubits takes {_gigabytes(state)}, and "
            f"value and gradient of one example {_gigabytes(needed)}; this machine has "
            f"{_gigabytes(memory)}. Received: {received}",
        )


def _gigabytes(num_bytes: int) -> str:
    # A float ends at about 1,000 qubits.
    size = num_bytes / 10**9 if num_bytes < 2**1000 else Decimal(num_bytes).scaleb(-9)
    return f"{size:.3g} GB"


class StateVector:
    """Expectation values from the state `psi`, kept as real numbers, layer by layer.

    Single-qubit gates between entanglers are one matrix a block of qubits, data rotations are
    phases, CNOTs are permutations; patterns that repeat are loops. What no data drive is made into
    one matrix where the batch is larger than the state. A batch whose states would take more than
    `CHUNK_BYTES` goes through in chunks. See docs/engines.md.

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
        UnsupportedCircuitError: one example's state does not fit the machine's memory, or a gate
            has no Pauli form.

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
        check_memory(spec)
        self.spec = spec
        self._gradient = gradient
        self._rows = layout(spec.num_qubits)
        prefix, body = {}, lowered(spec, NAME)
        # An outer product takes fewer passes over the state, and more operations.
        if self._rows.size > evolution.FEW_ROWS:
            prefix, body = split_prefix(body)
        self._product = _ProductState(spec, prefix)
        items = schedule(layers(body, spec.inputs), spec)
        first_driven = 0
        if not self._product.is_driven:
            driven = [i for i, item in enumerate(items) if item.is_driven]
            first_driven = driven[0] if driven else len(items)
        # What comes before any data acts on one state, not on a batch.
        at_least = {None: _REPEATS, True: 2, False: len(items) + 1}[scan]
        parts = [_runs(some, at_least) for some in (items[:first_driven], items[first_driven:])]
        looped = {
            id(item)
            for runs in parts
            for turns in runs
            for turn in turns
            for item in turn
            if len(turns) > 1
        }
        self._matrices = _Matrices(items, looped, spec)
        self.before, self.after = (_Part(runs, self._matrices, spec) for runs in parts)
        self._read_out = _ReadOut(spec)

    def multiply_adds(self, batch: int) -> float:
        """Estimated, of a forward pass, one copy; what is fused counts as it is computed."""
        rest = 4.0 * self._rows.size + self._read_out.multiply_adds
        return batch * rest + self.after.multiply_adds(self._rows, batch)

    @property
    def num_operations(self) -> int:
        """How many operations one forward pass runs one after the other, loops unrolled."""
        return 4 + self.before.num_operations + self.after.num_operations

    def num_bytes(self, batch: int) -> float:
        """Estimated peak of value and gradient in float32.

        Args:
            batch: how many examples, times copies.
        """
        state = float(state_bytes(self.spec.num_qubits))
        whole = max(float(CHUNK_BYTES), _STATES * state)
        return min(batch * _STATES * state, whole)

    def matrix_products(self, batch: int, copies: int = 1) -> list[tuple[int, int, int, int]]:
        """The real matrix products of one forward pass, `(rows, inner, columns, count)`.

        Args:
            batch: how many examples.
            copies: how many circuits.
        """
        return self.after.matrix_products(self._rows, batch, copies)

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        copies, batch = weights.shape[0], inputs.shape[0]
        dtype = keras.backend.standardize_dtype(weights.dtype)
        check_memory(self.spec, copies, dtype)
        matrices = self._matrices(inputs, weights)
        example = _STATES * copies * state_bytes(self.spec.num_qubits, dtype)
        most = max(1, CHUNK_BYTES // example)
        is_large = batch > most if batch is not None else most < _UNKNOWN_BATCH
        is_driven = self._product.is_driven or any(self.after.is_driven)
        if is_large and is_driven and self._gradient != "backprop":
            if batch is None:
                # So that a small batch, which is one chunk, is not filled up.
                most = ops.minimum(most, ops.maximum(ops.shape(inputs)[0], 1))
            values = self._in_chunks(most, inputs, weights, matrices)
        else:
            values = self._at_once(inputs, weights, matrices)
        return fill(ops.transpose(values, (2, 0, 1)), inputs, weights)

    def _at_once(self, inputs, weights, matrices):
        if self._product.is_driven:
            state = _alike(self._product(inputs, weights), weights.shape[0])
        else:
            state = self._first_state(inputs, weights, matrices)
        batch = inputs.shape[0]
        if state.shape[2] == 1 and batch != 1 and self.after.operations:
            state = ops.broadcast_to(state, (*state.shape[:2], ops.shape(inputs)[0]))
        operations, slots = self._fused(self.after, inputs, weights, matrices, batch)
        how = self._how(operations, batch, weights.shape[0])
        return self._read_out(evolution.evolve(state, operations, slots, how))

    def _first_state(self, inputs, weights, matrices):
        """The state before any data: one, not a batch."""
        state = _alike(self._product(inputs, weights), weights.shape[0])
        operations, slots = self._fused(self.before, inputs, weights, matrices, 1)
        how = self._how(operations, 1, weights.shape[0])
        return evolution.evolve(state, operations, slots, how)

    def _in_chunks(self, size, inputs, weights, matrices):
        """The same, a chunk of the batch at a time; each is computed again on the way back."""
        operations, slots = self._fused(self.after, inputs, weights, matrices, inputs.shape[0])
        if self._product.is_driven:
            factors = self._product.factors(inputs, weights)
            start = [_alike(part, weights.shape[0]) for part in factors]
        else:
            start = [self._first_state(inputs, weights, matrices)]
        tensors = [*start, *slots]
        batched = [True] * len(start)
        for operation in operations:
            batched += operation.batched
        batched = [flag and t.shape[-1] != 1 for flag, t in zip(batched, tensors, strict=True)]

        def merge(own, shared):
            own, shared = iter(own), iter(shared)
            return [next(own) if flag else next(shared) for flag in batched]

        def split(tensors):
            pairs = list(zip(tensors, batched, strict=True))
            return [t for t, flag in pairs if flag], [t for t, flag in pairs if not flag]

        def chunk(own, shared):
            merged = merge(own, shared)
            first, rest = merged[: len(start)], merged[len(start) :]
            if self._product.is_driven:
                state = self._product.state(first)
            else:
                state = ops.broadcast_to(first[0], (*first[0].shape[:2], size))
            ready = evolution.prepare(operations, rest, state.dtype)
            for operation, mine in zip(operations, ready, strict=True):
                state = operation.apply(state, mine)

            def pull(upstream):
                cotangent = self._read_out.pull(state, upstream)
                grouped = evolution.by_operation(operations, rest)
                _, cotangent, found = evolution.pull(operations, state, cotangent, grouped, ready)
                if self._product.is_driven:
                    by_start = self._product.pull(first, cotangent)
                else:
                    by_start = [ops.sum(cotangent, axis=2, keepdims=True)]
                return split([*by_start, *found])

            return self._read_out(state), pull

        shape = (weights.shape[0], self.spec.num_observables, size)
        return in_chunks(chunk, size, shape, *split(tensors))

    def _fused(self, part, inputs, weights, matrices, batch):
        """A part's operations and flat parameters; runs that no data drive are one matrix each."""
        slots = part.slots(inputs, weights, matrices)
        operations, flat = [], []
        for piece in part.pieces(self._rows, _UNKNOWN_BATCH if batch is None else batch):
            taken = part.operations[piece.start : piece.stop]
            own = slots[piece.start : piece.stop]
            if not piece.is_fused:
                operations += taken
                flat += [slot for group in own for slot in group]
            else:
                operations.append(Block(self._rows, 0, self.spec.num_qubits))
                flat.append(self._unitary(taken, own, weights))
        return operations, flat

    def _how(self, operations, batch, copies) -> str:
        if self._gradient != "auto":
            return self._gradient
        state = copies * state_bytes(self.spec.num_qubits)
        saved = (batch or _UNKNOWN_BATCH) * state * len(operations)
        is_long = any(isinstance(operation, Repeat) for operation in operations)
        return "adjoint" if is_long or saved > CHUNK_BYTES else "saved"

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
        how = self._how(operations, size, weights.shape[0])
        columns = evolution.evolve(columns, operations, flat, how)
        columns = ops.reshape(columns, (-1, first, 2, last, first, last))
        real, imag = ops.split(columns, 2, axis=2)
        times_i = ops.concatenate([-imag, real], axis=2)
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
        self._spins = spins.Spins(sequences, spec) if prefix else None

    def __call__(self, inputs, weights):
        """`(copies or C or 1, rows, B or 1)`."""
        if self._spins is None:
            first = np.eye(1, self._rows.size).reshape(1, -1, 1)
            return ops.convert_to_tensor(first, dtype=weights.dtype)
        return self.state(self.factors(inputs, weights))

    def factors(self, inputs, weights) -> list:
        """Real and imaginary parts of the qubits' amplitudes, `(copies, qubits, 2, batch)`."""
        return list(spins.spinor(self._spins(inputs, weights)))

    def state(self, factors):
        """Their outer product, with a gradient that sums where a backend's would first multiply."""
        if keras.backend.backend() == "torch":
            return self._outer(factors)

        @ops.custom_gradient
        def run(*factors):
            def backward(*arguments, upstream=None):
                cotangent = arguments[0] if upstream is None else upstream
                return tuple(self.pull(factors, cotangent))

            return self._outer(factors), backward

        return run(*factors)

    def _outer(self, factors):
        leading, others = self._halves(factors)
        (a, b), (c, d) = evolution.outer(leading), evolution.outer(others)
        a, b, c, d = a[:, :, None], b[:, :, None], c[:, None], d[:, None]
        state = ops.stack([a * c - b * d, a * d + b * c], axis=2)
        return ops.reshape(state, (state.shape[0], self._rows.size, -1))

    def _halves(self, factors):
        real, imag = factors
        size = self._rows.num_qubits
        pairs = list(zip(ops.unstack(real, size, 1), ops.unstack(imag, size, 1), strict=True))
        leading = pairs[: self._rows.leading]
        if not leading:  # a factor for the qubits that are not there
            one = ops.ones_like(pairs[0][0][:, :1])
            leading = [(one, ops.zeros_like(one))]
        return leading, pairs[self._rows.leading :]

    def pull(self, factors, cotangent) -> list:
        """The gradients by the factors."""
        leading, others = self._halves(factors)
        cotangent = ops.reshape(cotangent, (cotangent.shape[0], *self._rows.shape, -1))
        size = (cotangent.shape[0], 2**self._rows.num_qubits, -1)
        pair = [ops.reshape(cotangent[:, :, part], size) for part in range(2)]
        by_factor = evolution.outer_pull(leading, others, pair)[-self._rows.num_qubits :]
        return [ops.stack([pair[part] for pair in by_factor], axis=1) for part in range(2)]


def _alike(x, copies: int):
    """With an axis of all copies."""
    return x if x.shape[0] == copies else ops.repeat(x, copies, axis=0)


class _Matrices:
    """The matrices of all blocks with weights; those of one form are made together."""

    def __init__(self, items: list[Scheduled], looped: set[int], spec: CircuitSpec):
        forms: dict[tuple, list[Scheduled]] = defaultdict(list)
        for item in items:
            if item.factors:
                forms[item.signature, id(item) in looped].append(item)
        sequences: list = []
        self._place: dict[int, tuple[int, int]] = {}
        self._forms = []
        for form, ((_, is_looped), members) in enumerate(forms.items()):
            for i, item in enumerate(members):
                self._place[id(item)] = form, i
            self._forms.append(_Form(members, is_looped, sequences))
        self._spins = spins.Spins(sequences, spec) if sequences else None

    def place(self, item: Scheduled) -> tuple[int, int]:
        """The form of a block, and its place among those of that form."""
        return self._place[id(item)]

    def operation(self, item: Scheduled):
        """What acts for an item."""
        return self._forms[self.place(item)[0]].operation if item.factors else item.operation

    def __call__(self, inputs, weights):
        """For every form, the parameter of its operation, `(members, copies, …)`."""
        if self._spins is None:
            return []
        value = self._spins(inputs, weights)
        # No data drive them, so there is one for the whole batch.
        value = ops.reshape(value, (4, *value.shape[2:4]))
        value = ops.transpose(value, (2, 1, 0))
        return [form(value) for form in self._forms]


class _Form:
    """Blocks that differ in their angles alone, and how their matrices are made at once.

    Args:
        members: the blocks.
        is_looped: whether they are a loop's.
        sequences: of single-qubit gates; theirs are added.
    """

    def __init__(self, members: list[Scheduled], is_looped: bool, sequences: list):
        self._block = block = members[0].operation
        self._num_members = len(members)
        columns = list(zip(*(item.factors for item in members), strict=True))
        places = [i for i, column in enumerate(columns) if column[0].constant is None]
        # (factor with weights, where the members' sequences begin, constants around it): it takes
        # those that follow it, the first one also those before it.
        self._steps: list[tuple] = []
        for place, end in zip(places, [*places[1:], len(columns)], strict=True):
            before = columns[:place] if place == places[0] else []
            left, right = self._constant(columns[place + 1 : end]), self._constant(before)
            around = Conditioned(block, left, right)
            self._steps.append((columns[place][0], len(sequences), around))
            for factor in columns[place]:
                sequences += factor.sequences
        # A loop's blocks that depend on the leading qubits' state have one factor with weights.
        tables = [table for table in (around.left, around.right) if table is not None]
        self._is_apart = is_looped and any(len(table) > 1 for table in tables)
        self.operation = around if self._is_apart else block

    def _constant(self, columns: list[tuple]) -> np.ndarray | None:
        """Constant factors as one table for `Conditioned`."""
        if not columns:
            return None
        constants = [column[0].constant for column in columns]
        product = functools.reduce(lambda done, constant: constant @ done, constants)
        table = matrix_on_rows(product, self._block)
        diagonal = np.diagonal(table, axis1=-2, axis2=-1)
        is_diagonal = not (table - diagonal[..., None] * np.eye(table.shape[-1])).any()
        return diagonal if is_diagonal else table

    def __call__(self, value):
        """The parameter of all members, from all quaternions `(sequences, copies, 4)`."""
        matrix = None
        for factor, first, around in self._steps:
            size = len(factor.sequences)
            chosen = select(value, range(first, first + self._num_members * size), axis=0)
            chosen = ops.reshape(chosen, (self._num_members, size, *value.shape[1:]))
            kinds = factor.kinds if self._block.is_real else None
            made = spins.kronecker(ops.unstack(chosen, size, axis=1), kinds, self._block.leads)
            made = ops.expand_dims(made, 2)
            if not self._is_apart:
                made = around.prepare((made,), made.dtype)
            matrix = made if matrix is None else ops.matmul(made, matrix)
        return matrix


class _Piece(NamedTuple):
    start: int
    stop: int
    is_fused: bool


class _Part:
    """A part of the circuit: operations, loops among them, and where their parameters come from."""

    def __init__(self, runs: list[list[list[Scheduled]]], matrices: _Matrices, spec):
        self.operations: list = []
        self._sources: list[list] = []
        self.is_driven: list[bool] = []
        self._costs: list[float] = []
        self._counts: list[int] = []
        for turns in runs:
            count, first = len(turns), turns[0]
            self._costs.append(sum(item.multiply_adds for turn in turns for item in turn))
            self._counts.append(len(first) * count)
            self.is_driven.append(any(item.is_driven for item in first))
            columns = [column for column in zip(*turns, strict=True) if _has_slot(column[0])]
            sources = [_source(column, matrices, spec, stack=count > 1) for column in columns]
            self._sources.append(sources)
            body = tuple(matrices.operation(item) for item in first)
            if count == 1:
                (operation,) = body
            else:
                operation = Repeat(body, count, tuple(source.is_stacked for source in sources))
            self.operations.append(operation)

    def multiply_adds(self, rows, batch: int) -> float:
        """Estimated, forward."""
        total = 0.0
        for piece in self.pieces(rows, batch):
            direct = sum(self._costs[piece.start : piece.stop])
            columns = 2**rows.num_qubits
            total += columns * direct + batch * rows.size**2 if piece.is_fused else batch * direct
        return total

    @property
    def num_operations(self) -> int:
        """With the turns of loops."""
        return sum(self._counts)

    def matrix_products(self, rows, batch: int, copies: int) -> list[tuple[int, int, int, int]]:
        """`(rows, inner, columns, count)` of the real products of one forward pass."""
        products: Counter = Counter()
        for piece in self.pieces(rows, batch):
            columns = batch
            if piece.is_fused:
                columns = 2**rows.num_qubits
                products[(rows.size, rows.size, batch)] += copies
            for operation in self.operations[piece.start : piece.stop]:
                body = operation.body if isinstance(operation, Repeat) else (operation,)
                times = operation.count if isinstance(operation, Repeat) else 1
                for block in body:
                    block = block.block if isinstance(block, Conditioned) else block
                    if isinstance(block, Block):
                        dim = 2**block.size * (1 if block.is_real else 2)
                        products[(dim, dim, rows.size // dim * columns)] += times * copies
        return [(*shape, count) for shape, count in products.items()]

    def slots(self, inputs, weights, matrices) -> list[tuple]:
        """The parameters, a tuple an operation; angles that are used twice are made once."""
        made: dict = {}
        return [
            tuple(source(inputs, weights, matrices, made) for source in sources)
            for sources in self._sources
        ]

    def pieces(self, rows, batch: int) -> list[_Piece]:
        """Runs of operations, as they are or to be one matrix."""
        pieces = []
        start = 0
        while start < len(self.operations):
            stop = start
            while stop < len(self.operations) and not self.is_driven[stop]:
                stop += 1
            if self._fuses(start, stop, rows, batch):
                pieces.append(_Piece(start, stop, is_fused=True))
            else:
                stop = max(stop, start + 1)
                pieces.append(_Piece(start, stop, is_fused=False))
            start = stop
        return pieces

    def _fuses(self, start: int, stop: int, rows, batch: int) -> bool:
        # Making the matrix costs as much as so many columns, applying it as much as one product.
        columns = 2**rows.num_qubits
        direct = sum(self._costs[start:stop])
        return batch * direct > 1.2 * (columns * direct + batch * rows.size**2)


def _runs(items: list[Scheduled], at_least: int) -> list[list[list[Scheduled]]]:
    """The items in turns: one of one item, or those of a loop."""
    runs = repetitions([item.signature for item in items], at_least)
    return [
        [items[start + i * period : start + (i + 1) * period] for i in range(count)]
        for start, period, count in runs
    ]


class _MatrixSource:
    def __init__(self, places, stack: bool):
        self._form = places[0][0]
        self._indices = [i for _, i in places]
        self.is_stacked = stack

    def __call__(self, inputs, weights, matrices, made):
        stack = matrices[self._form]
        if not self.is_stacked:
            if stack.shape[0] > _UNSTACKED:
                return stack[self._indices[0]]
            key = ("matrices", self._form)
            if key not in made:
                made[key] = ops.unstack(stack, num=stack.shape[0], axis=0)
            return made[key][self._indices[0]]
        first, last = self._indices[0], self._indices[-1] + 1
        if self._indices == list(range(first, last)):
            return neighbours(stack, first, last, axis=0)
        return ops.take(stack, np.array(self._indices, dtype="int32"), axis=0)


class _AngleSource:
    def __init__(self, angles, spec, stack: bool):
        self.is_stacked = stack and len(set(angles)) > 1
        turns = angles if self.is_stacked else angles[:1]
        self._shape = (len(turns), len(turns[0]))
        self._angles = Angles([angle for turn in turns for angle in turn], spec)

    def __call__(self, inputs, weights, matrices, made):
        key = (self._angles.expressions, self.is_stacked, self._shape)
        if key not in made:
            value = ops.transpose(self._angles(inputs, weights), (1, 2, 0))
            if self.is_stacked:
                value = ops.reshape(value, (value.shape[0], *self._shape, -1))
                value = ops.transpose(value, (1, 0, 2, 3))
            made[key] = value
        return made[key]


def _has_slot(item: Scheduled) -> bool:
    return item.operation.num_slots > 0


def _source(column, matrices: _Matrices, spec, stack: bool):
    """Where the parameter of an operation comes from, or those of a loop's turns."""
    if column[0].factors:
        return _MatrixSource([matrices.place(item) for item in column], stack)
    return _AngleSource([item.angles for item in column], spec, stack)


class _ReadOut:
    """`<P>` from probabilities, in as few bases as the observables' strings need."""

    def __init__(self, spec: CircuitSpec):
        index = {qubit: i for i, qubit in enumerate(spec.qubits)}
        # A basis, and for every observable its strings' qubits and coefficients there.
        bases: list[tuple[dict[int, str], list[list]]] = []
        for column, observable in enumerate(spec.observables):
            for term in observable:
                letters = {index[qubit]: str(letter) for qubit, letter in term.items()}
                for basis, strings in bases:  # noqa: B007
                    if all(basis.get(qubit, letter) == letter for qubit, letter in letters.items()):
                        break
                else:
                    basis, strings = {}, [[] for _ in spec.observables]
                    bases.append((basis, strings))
                basis.update(letters)
                strings[column].append((tuple(letters), term.coefficient.real))
        rows = layout(spec.num_qubits)
        self.multiply_adds = 0.0
        self._bases = []
        for basis, strings in bases:
            items = _change_of_basis(basis, spec)
            signs = _Signs(rows, strings)
            self._bases.append(([item.operation for item in items], signs))
            self.multiply_adds += rows.size + signs.multiply_adds
            self.multiply_adds += sum(item.multiply_adds for item in items)

    def _rotated(self, state):
        """For every basis: the operations into it, what they prepare, the state, the signs."""
        for operations, signs in self._bases:
            ready = evolution.prepare(operations, (), state.dtype)
            rotated = state
            for operation, mine in zip(operations, ready, strict=True):
                rotated = operation.apply(rotated, mine)
            yield operations, ready, rotated, signs

    def __call__(self, state):
        """`(copies, num_observables, batch)`."""
        if keras.backend.backend() == "torch":
            return self._values(state)

        # A backend's own gradient would pass over the state more often.
        @ops.custom_gradient
        def run(state):
            def backward(*arguments, upstream=None):
                return self.pull(state, arguments[0] if upstream is None else upstream)

            return self._values(state), backward

        return run(state)

    def _values(self, state):
        values = [signs(ops.square(rotated)) for *_, rotated, signs in self._rotated(state)]
        return sum(values[1:], values[0])

    def pull(self, state, upstream):
        """The loss' gradient by the state, from the one by the values."""
        total = None
        for operations, ready, rotated, signs in self._rotated(state):
            cotangent = rotated * signs.transposed(2 * upstream)
            _, cotangent, _ = evolution.pull(
                operations, rotated, cotangent, [()] * len(operations), ready
            )
            total = cotangent if total is None else total + cotangent
        return total


class _Signs:
    """Sums of strings of Z as a table of eigenvalues, `S p` from the squares p of a state's rows.

    A string's eigenvalue is that of its leading qubits times that of the others. So for many qubits
    there are two small tables, A and B, in place of a large one: `S p = C (A p B^T)`, with C the
    coefficient of each pair of rows of A and B in each sum.

    Args:
        rows: the layout.
        strings: for every sum its strings' qubits and coefficients.
    """

    def __init__(self, rows, strings: list[list]):
        self._shape = _, parts, _ = rows.shape
        cut, size = rows.leading, rows.num_qubits
        if size <= _ONE_TABLE:
            eigenvalues = [
                sum((c * _parities(own, 0, size) for own, c in sum_), np.zeros(2**size))
                for sum_ in strings
            ]
            tables = [rows.arrange(np.stack([row, row])) for row in eigenvalues]
            self._one = np.stack(tables)
            self.multiply_adds = float(self._one.size)
            return
        self._one = None
        # (sum, qubits of the string among the leading ones, those among the others, coefficient)
        terms = [
            (i, tuple(q for q in own if q < cut), tuple(q for q in own if q >= cut), coefficient)
            for i, sum_ in enumerate(strings)
            for own, coefficient in sum_
        ]
        leading, others = (sorted({term[half] for term in terms}) for half in (1, 2))
        self._leading = np.stack([np.repeat(_parities(own, 0, cut), parts) for own in leading])
        self._others = np.stack([_parities(own, cut, size) for own in others])
        self._pairs = np.zeros((len(strings), len(leading), len(others)))
        for i, one, other, coefficient in terms:
            self._pairs[i, leading.index(one), others.index(other)] += coefficient
        self._pairs = self._pairs.reshape(len(strings), -1)
        self.multiply_adds = float(rows.size * len(self._others))

    def __call__(self, squares):
        """`(copies, rows, batch)` to `(copies, number of sums, batch)`."""
        if self._one is not None:
            return ops.matmul(self._tensor(self._one, squares), squares)
        first, parts, last = self._shape
        leading, others, pairs = self._tables(squares)
        copies = squares.shape[0]
        x = ops.matmul(others, ops.reshape(squares, (copies, first * parts, last, -1)))
        x = ops.matmul(leading, ops.reshape(x, (copies, first * parts, -1)))
        return ops.matmul(pairs, ops.reshape(x, (copies, pairs.shape[1], -1)))

    def transposed(self, sums):
        """`S^T`: `(copies, number of sums, batch)` to `(copies, rows, batch)`."""
        if self._one is not None:
            return ops.matmul(self._tensor(self._one.T, sums), sums)
        first, parts, last = self._shape
        leading, others, pairs = (ops.transpose(table) for table in self._tables(sums))
        copies = sums.shape[0]
        x = ops.reshape(ops.matmul(pairs, sums), (copies, leading.shape[1], -1))
        x = ops.reshape(ops.matmul(leading, x), (copies, first * parts, others.shape[1], -1))
        return ops.reshape(ops.matmul(others, x), (copies, first * parts * last, -1))

    def _tables(self, like):
        return [self._tensor(table, like) for table in (self._leading, self._others, self._pairs)]

    @staticmethod
    def _tensor(table, like):
        return ops.convert_to_tensor(table, dtype=like.dtype)


def _parities(qubits, start: int, stop: int) -> np.ndarray:
    """The eigenvalues of a string of Z on some of the qubits from `start` to `stop`."""
    signs = [np.array([1.0, -1.0 if q in qubits else 1.0]) for q in range(start, stop)]
    return functools.reduce(np.kron, signs, np.ones(1))


def _change_of_basis(basis: dict[int, str], spec: CircuitSpec) -> list[Scheduled]:
    steps = [
        Unitary((qubit,), BASES[letter].conj().T)
        for qubit, letter in basis.items()
        if letter in BASES
    ]
    return schedule([Layer("turns", tuple(steps))], spec) if steps else []
