"""Angles: sympy expressions of a circuit's symbols, evaluated for a whole batch at once."""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec

# A list of indices with at most this many runs of neighbours is slices, a longer one a gather,
# whose gradient is a slow scatter.
_MOST_SLICES = 8


def select(x, indices: Sequence[int], axis: int = -1):
    """`x[..., indices]`, as nothing or as slices where the indices allow it.

    Args:
        x: a tensor.
        indices: which entries.
        axis: along which axis.
    """
    runs: list[range] = []
    for index in indices:
        last = runs[-1] if runs else range(0)
        step = index - last[-1] if last else 0
        if step > 0 and (len(last) == 1 or step == last.step):
            runs[-1] = range(last.start, index + 1, step)
        else:
            runs.append(range(index, index + 1))
    if runs == [range(x.shape[axis])]:
        return x
    if len(runs) > _MOST_SLICES:
        return ops.take(x, np.asarray(indices, dtype="int32"), axis=axis)
    before = (slice(None),) * (axis % len(x.shape))
    parts = [
        x[(*before, slice(run.start, run.stop, run.step))]
        if run.step > 1
        else neighbours(x, run.start, run.stop, axis)
        for run in runs
    ]
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis)


def neighbours(x, start: int, stop: int, axis: int = -1):
    """`x[..., start:stop]`, by a split: a slice's gradient is several times slower in TensorFlow.

    Args:
        x: a tensor.
        start: the first entry, at least 0.
        stop: the one after the last.
        axis: along which axis.
    """
    cuts = [cut for cut in (start, stop) if 0 < cut < x.shape[axis]]
    return ops.split(x, cuts, axis)[1 if start else 0] if cuts else x


class Angles:
    """A list of angles as one function of inputs and weights.

    An angle that is linear, `a = A x + B w + c`, costs a slice or a small product. Products of
    symbols, `c w x`, are made together where they have as many factors of each kind; powers and
    products of sums are evaluated term by term.

    Args:
        expressions: sympy expressions, radians.
        spec: the circuit whose symbols they use.

    Call arguments:
        inputs: `(B, C, num_inputs)`.
        weights: `(copies, num_weights)`.

    Returns:
        `(B or 1, C or copies or 1, len(expressions))`, broadcasting against inputs and weights.
    """

    def __init__(self, expressions: Sequence[sympy.Expr], spec: CircuitSpec):
        self.expressions = tuple(expressions)
        self.size = len(expressions)
        columns = {symbol: (0, i) for i, symbol in enumerate(spec.inputs)}
        columns |= {symbol: (1, i) for i, symbol in enumerate(spec.weights)}
        # By row and column: a deep circuit's table would be mostly zeros.
        linear: tuple[list[dict[int, float]], ...] = tuple(
            [{} for _ in expressions] for _ in range(2)
        )
        products: dict[tuple[int, ...], dict[int, list]] = defaultdict(lambda: defaultdict(list))
        self._constant = np.zeros(self.size)
        self._terms: list[tuple[int, sympy.Expr]] = []
        self._columns = columns
        for row, expression in enumerate(expressions):
            for term in sympy.Add.make_args(expression):
                coefficient, rest = (
                    (sympy.S.One, term) if term.is_Symbol else term.as_independent(sympy.Symbol)
                )
                if rest == 1:
                    self._constant[row] += float(coefficient)
                elif rest.is_Symbol:
                    source, column = columns[rest]
                    entries = linear[source][row]
                    entries[column] = entries.get(column, 0.0) + float(coefficient)
                elif rest.is_Mul and all(factor.is_Symbol for factor in rest.args):
                    # Weights first, so that what has no batch is multiplied before what has one.
                    factors = sorted((columns[symbol] for symbol in rest.args), reverse=True)
                    kind, indices = zip(*factors, strict=True)
                    products[kind][row].append((float(coefficient), indices))
                else:
                    self._terms.append((row, term))
        widths = (spec.num_inputs, spec.num_weights)
        self._linear = tuple(map(LinearMap, linear, widths))
        self._products = []
        for kind, by_row in products.items():
            # Rows with as many terms are one table without gaps.
            for count in sorted({len(terms) for terms in by_row.values()}):
                alike = {row: terms for row, terms in by_row.items() if len(terms) == count}
                self._products.append(_ProductPart(kind, count, alike, self.size))

    def __call__(self, inputs, weights):
        sources = (inputs, ops.expand_dims(weights, 0))
        parts = [
            part(source)
            for part, source in zip(self._linear, sources, strict=True)
            if not part.is_zero
        ]
        parts += [part(sources) for part in self._products]
        for row, term in self._terms:
            column = np.eye(1, self.size, row)
            value = _evaluate(term, sources, self._columns)
            parts.append(value * ops.convert_to_tensor(column[0], dtype=inputs.dtype))
        if self._constant.any() or not parts:
            constant = self._constant.reshape(1, 1, -1)
            parts.append(ops.convert_to_tensor(constant, dtype=inputs.dtype))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class LinearMap:
    """`x A^T` along the last axis: a choice of columns where each row of A has one number.

    Args:
        rows: of A, its numbers by column.
        width: how many columns A has.
    """

    def __init__(self, rows: Sequence[Mapping[int, float]], width: int):
        self.is_zero = not any(rows)
        self._scale = np.array([sum(entries.values()) for entries in rows])
        self._indices = self._matrix = None
        if all(len(entries) <= 1 for entries in rows):
            self._indices = [next(iter(entries), 0) for entries in rows]
            return
        self._matrix = np.zeros((len(rows), width))
        for row, entries in enumerate(rows):
            for column, coefficient in entries.items():
                self._matrix[row, column] = coefficient

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> LinearMap:
        """`x M` for a matrix M with a row for each entry of `x`."""
        rows = [{int(i): float(column[i]) for i in column.nonzero()[0]} for column in matrix.T]
        return cls(rows, len(matrix))

    @property
    def flops(self) -> int:
        """Multiply-adds for one `x`."""
        return 0 if self._matrix is None else self._matrix.size

    def __call__(self, x):
        """`(…, width)` to `(…, rows)`."""
        if self._indices is None:
            return ops.matmul(x, ops.convert_to_tensor(self._matrix.T, dtype=x.dtype))
        x = select(x, self._indices)
        if (self._scale == 1.0).all():
            return x
        return x * ops.convert_to_tensor(self._scale, dtype=x.dtype)


class _ProductPart:
    """Rows that are sums of equally many products, each of as many inputs and weights."""

    def __init__(self, kind: tuple[int, ...], count: int, by_row: dict[int, list], size: int):
        terms = [term for row in by_row.values() for term in row]
        self._kind = kind
        self._count = count
        self._scale = np.array([coefficient for coefficient, _ in terms])
        self._indices = list(zip(*(indices for _, indices in terms), strict=True))
        # Every row's place among the results; other rows take the zero behind them.
        self._places = None
        if list(by_row) != list(range(size)):
            self._places = np.full(size, len(by_row), dtype="int32")
            self._places[list(by_row)] = np.arange(len(by_row))

    def __call__(self, sources):
        pairs = zip(self._kind, self._indices, strict=True)
        factors = [select(sources[source], indices) for source, indices in pairs]
        if (self._scale != 1.0).any():
            factors[0] = factors[0] * ops.convert_to_tensor(self._scale, dtype=factors[0].dtype)
        result = functools.reduce(operator.mul, factors)
        if self._count > 1:
            leading = ops.shape(result)[:-1]
            result = ops.reshape(result, (*leading, len(self._scale) // self._count, self._count))
            result = ops.sum(result, axis=-1)
        if self._places is not None:
            result = ops.pad(result, [(0, 0), (0, 0), (0, 1)])
            result = ops.take(result, self._places, axis=-1)
        return result


def _evaluate(expression: sympy.Expr, sources, columns):
    if expression.is_Symbol:
        source, column = columns[expression]
        return sources[source][..., column : column + 1]
    if expression.is_number:
        return float(expression)
    values = [_evaluate(argument, sources, columns) for argument in expression.args]
    if expression.is_Add:
        return sum(values[1:], values[0])
    if expression.is_Mul:
        product = values[0]
        for value in values[1:]:
            product = product * value
        return product
    if expression.is_Pow:
        return ops.power(values[0], values[1])
    raise ValueError(
        "An angle may use sums, products and powers of symbols and numbers only. "
        f"Received: {expression}"
    )
