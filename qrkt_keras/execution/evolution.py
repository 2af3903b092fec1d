"""Evolution: real orthogonal operations on a batch of states, with gradients by the adjoint method.

A state of n qubits is a real tensor `(copies, rows, batch)`. Its `2 * 2**n` rows are the basis
states of the first qubits, then real and imaginary part, then the basis states of the other qubits;
so a matrix on the first qubits and one on the next are each one product of matrices over contiguous
memory, and no operation moves the batch.

Every operation is orthogonal as a real matrix: to undo it is to multiply by its transpose, and that
also carries a cotangent back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

# Of so many small products a sum is taken one by one; of more, they would outgrow the state.
_MANY = 64
# Of a state of up to so many rows, few operations count, not few passes or few functions.
FEW_ROWS = 128


@dataclass(frozen=True)
class Rows:
    """How the rows of a state are laid out.

    Args:
        num_qubits: n.
        leading: how many qubits stand before real and imaginary part.
    """

    num_qubits: int
    leading: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Leading basis states, real and imaginary part, the other basis states."""
        return 2**self.leading, 2, 2 ** (self.num_qubits - self.leading)

    @property
    def size(self) -> int:
        """The number of rows."""
        return 2 ** (self.num_qubits + 1)

    def number(self, part: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The row of a part (0 real, 1 imaginary) of a basis state's amplitude."""
        last = self.shape[2]
        return (state // last * 2 + part) * last + state % last

    def arrange(self, table: np.ndarray) -> np.ndarray:
        """A table `(2, 2**n)`, by part and basis state, in the order of the rows."""
        first, _, last = self.shape
        return table.reshape(2, first, last).transpose(1, 0, 2).reshape(-1)


def _reshape(x, *shape):
    """The state with other axes between the first and the last."""
    return ops.reshape(x, (*shape, -1))


def _shared(gradient, parameter):
    """The gradient, summed over the axes along which the parameter was shared."""
    for axis in (0, -1):
        if parameter.shape[axis] == 1 and gradient.shape[axis] != 1:
            gradient = ops.sum(gradient, axis=axis, keepdims=True)
    return gradient


@dataclass(frozen=True, eq=False)
class Block:
    """A matrix on a run of qubits, as a real matrix on their part of the rows.

    Args:
        rows: the layout.
        start: the first qubit, 0 or at least `rows.leading`.
        size: how many qubits; those of a block at 0 are the leading ones, or all.
        constant: the matrix, if it does not depend on weights: `(1, 1 or others, d, d)`.
        is_real: whether real and imaginary part stay apart; then `d = 2**size`, else twice that.

    The matrix `(copies, 1 or others, d, d)` of a block with weights is its parameter. A block past
    the leading qubits may have one for each of their basis states (and, if it is real, for each of
    the two parts): that is how a diagonal gate between the two is had for nothing.
    """

    rows: Rows
    start: int
    size: int
    constant: np.ndarray | None = None
    is_real: bool = False

    @property
    def num_slots(self) -> int:
        """How many parameters it takes."""
        return 0 if self.constant is not None else 1

    @property
    def batched(self) -> list[bool]:
        """Whether each parameter's last axis is the batch."""
        return [False] * self.num_slots

    @property
    def leads(self) -> bool:
        """Whether its rows are its basis states, each with real and imaginary part."""
        return self.start == 0 and self.size == self.rows.leading

    def _move(self, x):
        """Axes (copies, others, the block's rows, columns)."""
        copies, (first, _, _), dim = x.shape[0], self.rows.shape, 2**self.size
        if self.size == self.rows.num_qubits and not self.is_real:
            return ops.expand_dims(x, 1)
        if self.start == 0 and self.rows.leading:
            return ops.reshape(x, (copies, 1, dim if self.is_real else 2 * dim, -1))
        between = 2 ** (self.start - self.rows.leading)
        if self.is_real:
            return ops.reshape(x, (copies, first * 2 * between, dim, -1))
        if between > 1:
            x = ops.reshape(x, (copies, first, 2, between, dim, -1))
            x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (copies, first * between, 2 * dim, -1))

    def _move_back(self, y):
        copies, (first, _, _), dim = y.shape[0], self.rows.shape, 2**self.size
        past = self.start >= self.rows.leading and self.size < self.rows.num_qubits
        between = 2 ** (self.start - self.rows.leading) if past else 1
        if between > 1 and not self.is_real:
            y = ops.reshape(y, (copies, first, between, 2, dim, -1))
            y = ops.transpose(y, (0, 1, 3, 2, 4, 5))
        return ops.reshape(y, (copies, self.rows.size, -1))

    def prepare(self, slots, dtype):
        """The matrix."""
        if self.constant is None:
            return slots[0]
        return ops.convert_to_tensor(self.constant, dtype=dtype)

    def apply(self, x, matrix):
        """`M x`."""
        return self._move_back(_product_of(matrix, self._move(x)))

    def undo(self, x, matrix):
        """`M^T x`."""
        return self._move_back(_product_of(ops.swapaxes(matrix, -1, -2), self._move(x)))

    def pull(self, before, after, cotangent, slots, matrix):
        """By the matrix: `cotangent before^T`."""
        del after
        by_state = self.undo(cotangent, matrix)
        if not slots:
            return by_state, ()
        moved = self._move(cotangent), self._move(before)
        if slots[0].shape[1] == 1 and moved[0].shape[1] > _MANY:
            result = ops.expand_dims(ops.einsum("cqip,cqjp->cij", *moved), 1)
        else:
            result = _outer_sum(*moved)
            if slots[0].shape[1] != result.shape[1]:
                result = ops.sum(result, axis=1, keepdims=True)
        return by_state, (result,)


def _product_of(matrix, x):
    """Matrices times a state's parts, `(copies, others, d, columns)`."""
    if matrix.shape[:2] == x.shape[:2] == (1, 1):
        # A product without leading axes is a faster operation of TensorFlow's.
        size = x.shape[2]
        product = ops.matmul(ops.reshape(matrix, (size, size)), ops.reshape(x, (size, -1)))
        return ops.reshape(product, (1, 1, size, -1))
    return ops.matmul(matrix, x)


def _outer_sum(x, y):
    """`x y^T` of states' parts, `(copies, others, d, columns)`."""
    if keras.backend.backend() == "torch":
        return ops.einsum("cqip,cqjp->cqij", x, y)

    # A backend's own gradient by y would be made transposed, and a state be turned round again.
    @ops.custom_gradient
    def run(x, y):
        def backward(*arguments, upstream=None):
            cotangent = arguments[0] if upstream is None else upstream
            return ops.matmul(cotangent, y), ops.matmul(ops.swapaxes(cotangent, -1, -2), x)

        return ops.einsum("cqip,cqjp->cqij", x, y), backward

    return run(x, y)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A block whose matrices for the leading basis states are made of one: `M_q = L_q P R_q`.

    In a loop that keeps a matrix a turn instead of one a leading basis state, and makes the others
    when their turn comes.

    Args:
        block: what the matrices act as.
        left, right: L and R, `(1 or others, d, d)`, or `(1 or others, d)` if diagonal, or None.

    P `(copies, 1, d, d)` is its parameter.
    """

    block: Block
    left: np.ndarray | None
    right: np.ndarray | None
    num_slots = 1
    batched = (False,)

    def prepare(self, slots, dtype):
        """The matrices."""
        matrix = _times(self.left, slots[0], dtype)
        return _times(self.right, matrix, dtype, on_the_right=True)

    def apply(self, x, matrix):
        """`M x`."""
        return self.block.apply(x, matrix)

    def undo(self, x, matrix):
        """`M^T x`."""
        return self.block.undo(x, matrix)

    def pull(self, before, after, cotangent, slots, matrix):
        """By P."""
        del slots
        by_state, (gradient,) = self.block.pull(before, after, cotangent, (matrix,), matrix)
        dtype = gradient.dtype
        gradient = _times(self.left, gradient, dtype, transpose=True)
        gradient = _times(self.right, gradient, dtype, transpose=True, on_the_right=True)
        return by_state, (ops.sum(gradient, axis=1, keepdims=True),)


def _times(table, x, dtype, transpose=False, on_the_right=False):
    """Constant matrices, or diagonals, times matrices `(copies, others, d, d)`; None is 1."""
    if table is None:
        return x
    if table.ndim == 2:
        table = table[:, None] if on_the_right else table[..., None]
        return x * ops.convert_to_tensor(table, dtype=dtype)
    table = ops.convert_to_tensor(table.swapaxes(-1, -2) if transpose else table, dtype=dtype)
    return ops.matmul(x, table) if on_the_right else ops.matmul(table, x)


@dataclass(frozen=True, eq=False)
class Phases:
    """Rotations about strings of Z, and a constant diagonal: `d exp(-i/2 S a)` on the diagonal.

    Args:
        rows: the layout.
        strings: `(k, 2**n)` of 1 and -1: the eigenvalues of each string, S transposed.
        qubits: the qubit of each string if all act on one, else None.
        constant: `(2**n,)`, complex, or None.

    The angles `(copies or 1, k, batch or 1)` are its parameter, if there are any.
    """

    rows: Rows
    strings: np.ndarray
    qubits: tuple[int, ...] | None
    constant: np.ndarray | None

    @property
    def num_slots(self) -> int:
        """How many parameters it takes."""
        return int(len(self.strings) > 0)

    @property
    def batched(self) -> list[bool]:
        """Whether each parameter's last axis is the batch."""
        return [True] * self.num_slots

    @functools.cached_property
    def signature(self):
        """Equal for operations that make the same of the same angles."""
        constant = None if self.constant is None else self.constant.tobytes()
        return self.strings.tobytes(), constant

    def _split(self, x):
        x = _reshape(x, x.shape[0], *self.rows.shape)
        # Not slices: the gradient of each would be a whole state, filled up with zeros.
        return tuple(ops.squeeze(part, 2) for part in ops.split(x, 2, axis=2))

    def prepare(self, slots, dtype):
        """The diagonal's two parts, `(copies, leading states, other states, batch)`; None is 0."""
        first, _, last = self.rows.shape
        real = imag = None
        if slots:
            real, imag = self._rotations(slots[0] / 2)
            real, imag = (_reshape(part, part.shape[0], first, last) for part in (real, imag))
        if self.constant is None:
            return real, imag
        shape = (1, first, last, 1)
        a = ops.convert_to_tensor(self.constant.real.reshape(shape), dtype=dtype)
        is_real = not self.constant.imag.any()
        b = ops.convert_to_tensor(self.constant.imag.reshape(shape), dtype=dtype)
        if real is None:
            return a, None if is_real else b
        if is_real:
            return a * real, a * imag
        return a * real - b * imag, a * imag + b * real

    def _rotations(self, half):
        """`exp(-i S a / 2)` as `(copies, 2**n, batch)`."""
        if self.qubits is None or self.rows.size <= FEW_ROWS:
            strings = ops.convert_to_tensor(self.strings.T, dtype=half.dtype)
            angles = ops.matmul(strings, half)
            return ops.cos(angles), -ops.sin(angles)
        cos, sin = ops.cos(half), ops.sin(half)
        place = {qubit: i for i, qubit in enumerate(self.qubits)}
        factors = []
        for qubit in range(self.rows.num_qubits):
            if qubit in place:
                at = slice(place[qubit], place[qubit] + 1)
                c, s = cos[:, at], sin[:, at]
                factors.append((ops.concatenate([c, c], 1), ops.concatenate([-s, s], 1)))
            else:
                factors.append((ops.ones((1, 2, 1), dtype=half.dtype), None))
        return outer(factors)

    def apply(self, x, diagonal):
        """`D x`."""
        real, imag = diagonal
        if imag is None:
            return self._scale(x, real)
        re, im = self._split(x)
        return self._join(real * re - imag * im, real * im + imag * re)

    def undo(self, x, diagonal):
        """`conj(D) x`."""
        real, imag = diagonal
        if imag is None:
            return self._scale(x, real)
        re, im = self._split(x)
        return self._join(real * re + imag * im, real * im - imag * re)

    def _scale(self, x, real):
        y = _reshape(x, x.shape[0], *self.rows.shape) * ops.expand_dims(real, 2)
        return _reshape(y, y.shape[0], self.rows.size)

    def _join(self, re, im):
        y = ops.stack([re, im], 2)
        return _reshape(y, y.shape[0], self.rows.size)

    def pull(self, before, after, cotangent, slots, diagonal):
        """By the angles: `S^T Im(conj(c) psi) / 2`, the same before and after a diagonal.

        Taken before it, where the parts of both are at hand: splitting a state is a pass over it.
        """
        del after
        real, imag = diagonal
        if not slots:
            return self.undo(cotangent, diagonal), ()
        cre, cim = self._split(cotangent)
        cre, cim = real * cre + imag * cim, real * cim - imag * cre
        re, im = self._split(before)
        value = cre * im - cim * re
        value = _reshape(value, value.shape[0], 2**self.rows.num_qubits)
        strings = ops.convert_to_tensor(self.strings / 2, dtype=value.dtype)
        return self._join(cre, cim), (_shared(ops.matmul(strings, value), slots[0]),)


def outer(factors):
    """The outer product of complex factors `(copies, d_i, batch)`, each a pair; None is a zero."""
    if len(factors) == 1:
        return factors[0]
    half = len(factors) // 2
    (a, b), (c, d) = outer(factors[:half]), outer(factors[half:])
    a, b = (None if part is None else part[:, :, None] for part in (a, b))
    c, d = (None if part is None else part[:, None] for part in (c, d))
    real, imag = _complex_product((a, b), (c, d))
    size = real.shape[1] * real.shape[2]
    return tuple(
        None if part is None else _reshape(part, part.shape[0], size) for part in (real, imag)
    )


def outer_pull(first, second, cotangent) -> list:
    """The gradients by the factors of an outer product, from the one by it; all are pairs.

    Args:
        first, second: the factors, cut in two runs of at least one.
        cotangent: `(copies, product of all d_i, batch)`.
    """
    (a, b), (c, d) = outer(first), outer(second)
    copies, sizes = cotangent[0].shape[0], (a.shape[1], c.shape[1])
    re, im = (_reshape(x, copies, *sizes) for x in cotangent)
    a, b, c, d = a[:, :, None], b[:, :, None], c[:, None], d[:, None]
    parts = (
        (ops.sum(re * c + im * d, axis=2), ops.sum(im * c - re * d, axis=2)),
        (ops.sum(re * a + im * b, axis=1), ops.sum(im * a - re * b, axis=1)),
    )
    result = []
    for run, part in zip((first, second), parts, strict=True):
        half = len(run) // 2
        result += [part] if len(run) == 1 else outer_pull(run[:half], run[half:], part)
    return result


def _complex_product(x, y):
    """A product of complex numbers, as pairs of parts; None is a zero."""

    def product(u, v):
        return None if u is None or v is None else u * v

    (a, b), (c, d) = x, y
    ac, bd, ad, bc = product(a, c), product(b, d), product(a, d), product(b, c)
    real = ac if bd is None else (-bd if ac is None else ac - bd)
    imag = ad if bc is None else (bc if ad is None else ad + bc)
    return real, imag


@dataclass(frozen=True, eq=False)
class Permutation:
    """Rows in another order.

    Args:
        rows: the layout.
        source: `(rows,)`, the row that each row comes from.
    """

    rows: Rows
    source: np.ndarray
    num_slots = 0
    batched = ()

    def prepare(self, slots, dtype):
        """Nothing."""

    def apply(self, x, ready):
        """`P x`."""
        return ops.take(x, self.source.astype("int32"), axis=1)

    def undo(self, x, ready):
        """`P^T x`."""
        return ops.take(x, np.argsort(self.source).astype("int32"), axis=1)

    def pull(self, before, after, cotangent, slots, ready):
        """It has no parameter."""
        del before, after, slots
        return self.undo(cotangent, ready), ()


@dataclass(frozen=True, eq=False)
class PauliRotation:
    """`exp(-i a/2 P)` about any string: `cos(a/2) x + sin(a/2) G x`, G = -iP a signed permutation.

    Args:
        rows: the layout.
        source: `(rows,)`, the row that each row of `G x` comes from.
        sign: `(rows,)`, its sign.

    The angle `(copies or 1, 1, batch or 1)` is its parameter.
    """

    rows: Rows
    source: np.ndarray
    sign: np.ndarray
    num_slots = 1
    batched = (True,)

    def _generator(self, x):
        sign = ops.convert_to_tensor(self.sign.reshape(1, -1, 1), dtype=x.dtype)
        return sign * ops.take(x, self.source.astype("int32"), axis=1)

    def prepare(self, slots, dtype):
        """Cosine and sine of half the angle."""
        return ops.cos(slots[0] / 2), ops.sin(slots[0] / 2)

    def apply(self, x, turn):
        """`R(a) x`."""
        cos, sin = turn
        return cos * x + sin * self._generator(x)

    def undo(self, x, turn):
        """`R(-a) x`."""
        cos, sin = turn
        return cos * x - sin * self._generator(x)

    def pull(self, before, after, cotangent, slots, turn):
        """By the angle: `<cotangent, G after> / 2`."""
        del before
        value = ops.sum(cotangent * self._generator(after), axis=1, keepdims=True) * 0.5
        return self.undo(cotangent, turn), (_shared(value, slots[0]),)


@dataclass(frozen=True, eq=False)
class Repeat:
    """A pattern of operations that comes several times, in a loop that is compiled once.

    Args:
        body: the operations of the pattern.
        count: how often it comes.
        is_stacked: for each parameter of the body, whether every turn has its own, along a leading
            axis; else all turns share one.
    """

    body: tuple
    count: int
    is_stacked: tuple[bool, ...]

    @property
    def num_slots(self) -> int:
        """How many parameters it takes."""
        return len(self.is_stacked)

    @property
    def batched(self) -> list[bool]:
        """Whether each parameter's last axis is the batch."""
        return [flag for operation in self.body for flag in operation.batched]

    def prepare(self, slots, dtype):
        """What the turns share, and the parameters."""
        shared = [
            None if any(stacked) else operation.prepare(own, dtype)
            for operation, own, stacked in zip(
                self.body,
                by_operation(self.body, slots),
                by_operation(self.body, self.is_stacked),
                strict=True,
            )
        ]
        return shared, slots

    def _turn(self, ready, i, dtype):
        """One turn's parameters, an operation's at a time, and what they prepare."""
        shared, slots = ready
        own = [
            _at(slot, i) if stacked else slot
            for slot, stacked in zip(slots, self.is_stacked, strict=True)
        ]
        own = by_operation(self.body, own)
        stacked = by_operation(self.body, self.is_stacked)
        prepared = [
            operation.prepare(mine, dtype) if any(flags) else known
            for operation, mine, flags, known in zip(self.body, own, stacked, shared, strict=True)
        ]
        return own, prepared

    def apply(self, x, ready):
        """All turns, one after the other."""

        def turn(i, carry):
            (x,) = carry
            _, prepared = self._turn(ready, i, x.dtype)
            for operation, mine in zip(self.body, prepared, strict=True):
                x = operation.apply(x, mine)
            return (x,)

        return loop(self.count, turn, (x,))[0]

    def pull(self, after, cotangent, ready):
        """State and cotangent before, and the gradients by the parameters."""

        def turn(i, carry):
            i = self.count - 1 - i
            after, cotangent, *totals = carry
            own, prepared = self._turn(ready, i, after.dtype)
            after, cotangent, gradients = pull(self.body, after, cotangent, own, prepared)
            totals = [
                put(total, i, gradient) if stacked else total + gradient
                for total, gradient, stacked in zip(totals, gradients, self.is_stacked, strict=True)
            ]
            return (after, cotangent, *totals)

        zeros = [ops.zeros_like(slot) for slot in ready[1]]
        before, cotangent, *totals = loop(self.count, turn, (after, cotangent, *zeros))
        return before, cotangent, totals


def _at(x, i):
    return ops.take(x, i, axis=0)


def put(total, i, value):
    """The total with its entry i, along the first axis, replaced."""
    return ops.scatter_update(total, ops.reshape(i, (1, 1)), ops.expand_dims(value, 0))


def loop(count, body, carry):
    """`carry = body(i, carry)` for i = 0 … count - 1, differentiable on every backend."""
    if keras.backend.backend() == "jax":
        return ops.fori_loop(0, count, body, carry)
    # TensorFlow differentiates a loop under XLA only where the number of turns is a constant.
    _, *carry = ops.while_loop(
        lambda i, *carry: i < count,
        lambda i, *carry: (i + 1, *body(i, carry)),
        (ops.convert_to_tensor(0, dtype="int32"), *carry),
        maximum_iterations=count if isinstance(count, int) else None,
    )
    return tuple(carry)


def by_operation(operations, slots) -> list[tuple]:
    """Flat parameters as one tuple an operation."""
    result, start = [], 0
    for operation in operations:
        result.append(tuple(slots[start : start + operation.num_slots]))
        start += operation.num_slots
    return result


def prepare(operations: Sequence, slots: Sequence, dtype) -> list:
    """What each operation makes of its parameters before it acts, once for equal ones."""
    made: dict = {}
    ready = []
    for operation, own in zip(operations, by_operation(operations, slots), strict=True):
        same = operation.signature if isinstance(operation, Phases) and own else id(operation)
        key = (same, *map(id, own))
        if key not in made:
            made[key] = operation.prepare(own, dtype)
        ready.append(made[key])
    return ready


def pull(operations: Sequence, after, cotangent, slots: Sequence[tuple], ready, saved=None):
    """Go back through operations: state and cotangent before them, and flat gradients.

    Args:
        operations: those that were applied.
        after, cotangent: the state after them, and the loss' gradient by it.
        slots: their parameters, a tuple an operation.
        ready: what they prepared.
        saved: the states before each, where they were kept; else they are found by undoing.
    """
    gradients: list = []
    for i in reversed(range(len(operations))):
        operation = operations[i]
        if isinstance(operation, Repeat):
            after, cotangent, found = operation.pull(after, cotangent, ready[i])
        else:
            before = operation.undo(after, ready[i]) if saved is None else saved[i]
            cotangent, found = operation.pull(before, after, cotangent, slots[i], ready[i])
            after = before
        gradients = [*found, *gradients]
    return after, cotangent, gradients


def evolve(state, operations: Sequence, slots: Sequence, gradient: str = "adjoint"):
    """The state after all operations.

    Args:
        state: `(copies, rows, batch)`.
        operations: what acts, the first first.
        slots: their parameters, flat.
        gradient: "adjoint" goes back by undoing, so that memory does not grow with depth; "saved"
            goes back over saved states, which is faster where they fit; "backprop" leaves it to the
            backend.

    All three have every derivative: what goes back is itself made of differentiable operations.
    """
    if not operations:
        return state

    def forward(state, ready):
        saved = []
        for operation, mine in zip(operations, ready, strict=True):
            saved.append(state)
            state = operation.apply(state, mine)
        return state, saved

    if gradient == "backprop" or keras.backend.backend() == "torch":
        # Torch's custom functions have no second derivative.
        return forward(state, prepare(operations, slots, state.dtype))[0]

    @ops.custom_gradient
    def run(state, *slots):
        ready = prepare(operations, slots, state.dtype)
        result, saved = forward(state, ready)

        def backward(*arguments, upstream=None):
            cotangent = arguments[0] if upstream is None else upstream
            kept = saved if gradient == "saved" else None
            own = by_operation(operations, slots)
            _, cotangent, gradients = pull(operations, result, cotangent, own, ready, kept)
            return (cotangent, *gradients)

        return result, backward

    return run(state, *slots)
