"""Many products of few factors, each multiplication made once.

Every derivative is right where a factor is zero, because nothing is ever divided. (A product and
its gradient by division, as in TensorFlow's `cumprod`, fail there.)
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from keras import ops

from qrkt_keras.execution.angles import neighbours, select

# Products of at most this many factors are taken column by column, if all are.
_SHORT = 3
# Of so many runs of neighbours at most they are made a run at a time.
_MOST_RUNS = 8
# A scan takes so many steps in a row, each a pass over 1/8 of the data, level by level; a whole
# level of at most `_LEAF` factors is not cut any more.
_RADIX = 8
_LEAF = 16
# Each scan, and each range in one that starts elsewhere, costs a dozen small operations.
_MOST_SCANS = 4
_MOST_EXTRAS = 4


class Products:
    """Products of columns: `(..., factors) -> (..., products)`.

    - Ranges of neighbouring factors that start together are one scan (see `_scan`), and a few
      ranges that start inside it are taken from its parts.
    - Short products are taken a run of neighbouring columns at a time (see `_Runs`) where they are
      few runs, and column by column where they are many.
    - All others are built by pairs: a level multiplies neighbours, and a pair that several products
      share is made once. The batch is the last axis there, so that a factor is a row.

    Args:
        products: of each product the columns of its factors. Neighbours in it are multiplied first:
            an order in which products look alike makes more pairs shared.
    """

    def __init__(self, products: tuple[tuple[int, ...], ...]):
        self._blocks: list[_Scan | _Runs | _Columns | _Pairs] = _scans(products)
        scanned = {i for block in self._blocks for i in block.members}
        rest = [i for i in range(len(products)) if i not in scanned]
        lengths = sorted({len(products[i]) for i in rest})
        if lengths and lengths[-1] > _SHORT:
            self._blocks.append(_Pairs(rest, [products[i] for i in rest]))
        elif rest and (cut := _cut_into_runs([products[i] for i in rest])) is not None:
            self._blocks.append(_Runs(rest, *cut))
        else:
            for length in lengths:
                members = [i for i in rest if len(products[i]) == length]
                self._blocks.append(_Columns(members, [products[i] for i in members]))
        # In the order of their first products, so that as little as possible is moved at the end.
        self._blocks.sort(key=lambda block: min(block.members))
        self._order = np.argsort([i for block in self._blocks for i in block.members]).tolist()

    @property
    def flops(self) -> float:
        """Multiplications an example."""
        return float(sum(block.flops for block in self._blocks))

    def __call__(self, factors):
        results = [block(factors) for block in self._blocks]
        joined = results[0] if len(results) == 1 else ops.concatenate(results, -1)
        return select(joined, self._order)


def _scans(products) -> list[_Scan]:
    """Scans for the starts that most products share."""
    starts: dict[int, list[int]] = defaultdict(list)
    for i, product in enumerate(products):
        if product == tuple(range(product[0], product[0] + len(product))):
            starts[product[0]].append(i)
    scans: list[_Scan] = []
    scanned: set[int] = set()
    for start in sorted(starts, key=lambda start: -len(starts[start])):
        members = [i for i in starts[start] if i not in scanned]
        if len(members) < 2 or len(scans) == _MOST_SCANS:
            break
        length = max(len(products[i]) for i in members)
        if length < _SHORT:
            continue
        inside = [
            i
            for other in range(start + 1, start + length - 1)
            for i in starts.get(other, ())
            if 1 < len(products[i]) <= start + length - other and i not in scanned
        ]
        inside = inside if len(inside) <= _MOST_EXTRAS else []
        ends = {len(products[i]) - 1: i for i in members}
        ranges = {i: (products[i][0] - start, products[i][-1] + 1 - start) for i in inside}
        scans.append(_Scan(start, length, ends, ranges))
        scanned.update(scans[-1].members)
    return scans


# A run: the first factor of its first product's, and how many products there are.
_Run = tuple[tuple[int, ...], int]


def _cut_into_runs(products) -> tuple[list[_Run], list[int]] | None:
    """Short products as runs of neighbours, with the cuts between the pieces of factors they need.

    In a run every product's factors are one further than those of the one before. Runs are cut
    until each factor of a run is one whole piece; None where there are too many.
    """
    runs: list[_Run] = []
    for product in products:
        if runs:
            starts, length = runs[-1]
            if product == tuple(start + length for start in starts):
                runs[-1] = starts, length + 1
                continue
        runs.append((product, 1))
    while len(runs) <= _MOST_RUNS:
        edges = {start + end for starts, length in runs for start in starts for end in (0, length)}
        halves: list[_Run] = []
        for starts, length in runs:
            inside = [e - start for start in starts for e in edges if start < e < start + length]
            place = min(inside, default=length)
            halves.append((starts, place))
            if place < length:
                halves.append((tuple(start + place for start in starts), length - place))
        if halves == runs:
            return runs, sorted(edges)
        runs = halves
    return None


class _Runs:
    """Short products as products of whole pieces: one split, and one concatenation.

    Of single columns, as in `_Columns`, each `select` splits all factors for itself, and each
    split's gradient puts all of them together again.
    """

    def __init__(self, members: list[int], runs: list[_Run], cuts: list[int]):
        self.members = members
        self.flops = sum(length * (len(starts) - 1) for starts, length in runs)
        self._runs = [starts for starts, _ in runs]
        self._cuts = cuts

    def __call__(self, factors):
        cuts = [cut for cut in self._cuts if 0 < cut < factors.shape[-1]]
        pieces = ops.split(factors, cuts, -1) if cuts else [factors]
        piece = dict(zip([0, *cuts], pieces, strict=True))
        results = [_multiply([piece[start] for start in starts]) for starts in self._runs]
        return results[0] if len(results) == 1 else ops.concatenate(results, -1)


class _Columns:
    """Products of one short length."""

    def __init__(self, members: list[int], products: list[tuple[int, ...]]):
        self.members = members
        self.flops = len(products) * (len(products[0]) - 1)
        self._columns = list(zip(*products, strict=True))

    def __call__(self, factors):
        value = select(factors, self._columns[0])
        for column in self._columns[1:]:
            value = value * select(factors, column)
        return value


class _Pairs:
    """Products of any factors, pair by pair, `log2` of the longest product times."""

    def __init__(self, members: list[int], products: list[tuple[int, ...]]):
        self.members = members
        self.flops = 0
        self._levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while max(map(len, products)) > 1:
            pairs: dict[tuple[int, int], int] = {}
            singles: dict[int, int] = {}
            for product in products:
                for pair in zip(product[::2], product[1::2], strict=False):
                    pairs.setdefault(pair, len(pairs))
                if len(product) % 2:
                    singles.setdefault(product[-1], len(singles))
            products = [
                tuple(pairs[pair] for pair in zip(product[::2], product[1::2], strict=False))
                + ((len(pairs) + singles[product[-1]],) if len(product) % 2 else ())
                for product in products
            ]
            first, second = np.array(list(pairs), dtype="int32").T
            self._levels.append((first, second, np.array(list(singles), dtype="int32")))
            self.flops += len(pairs)
        self._last = np.array([index for (index,) in products], dtype="int32")

    def __call__(self, factors):
        leading = factors.shape[1:-1]
        values = ops.transpose(ops.reshape(factors, (-1, factors.shape[-1])))
        for first, second, singles in self._levels:
            pairs = ops.take(values, first, axis=0) * ops.take(values, second, axis=0)
            if len(singles):
                pairs = ops.concatenate([pairs, ops.take(values, singles, axis=0)], 0)
            values = pairs
        if self._last.tolist() != list(range(values.shape[0])):
            values = ops.take(values, self._last, axis=0)
        return ops.reshape(ops.transpose(values), (-1, *leading, len(self._last)))


class _Scan:
    """Products of neighbours `start ... start + end`, and of a few ranges inside.

    Args:
        start: the first factor.
        length: how many there are.
        ends: last factor, counted from the start -> product.
        extras: product -> the range `(first, stop)`, counted from the start.
    """

    def __init__(
        self, start: int, length: int, ends: dict[int, int], extras: dict[int, tuple[int, int]]
    ):
        self.flops = 2 * length
        self._start, self._length = start, length
        self._extras = list(extras.values())
        # An end that nobody asks for leaves a place for an extra. Among the first few, where a
        # place is a small array of its own, nothing has to be moved for that.
        first_places = range(length if length <= _LEAF else _radix(length))
        free = [place for place in first_places if place not in ends]
        self._patches = dict(zip(free, range(len(extras)), strict=False))
        places = ends | {place: list(extras)[i] for place, i in self._patches.items()}
        self._places = sorted(places)
        self._appended = range(len(self._patches), len(extras))
        self.members = [places[place] for place in self._places]
        self.members += [list(extras)[i] for i in self._appended]

    def __call__(self, factors):
        leading = factors.shape[1:-1]
        values = select(factors, range(self._start, self._start + self._length))
        values = ops.reshape(values, (-1, self._length))
        values, extras = _scan(values, self._extras, self._patches)
        values = select(values, self._places)
        if self._appended:
            columns = [extras[i][:, None] for i in self._appended]
            values = ops.concatenate([values, *columns], -1)
        return ops.reshape(values, (-1, *leading, len(self.members)))


def _radix(length: int) -> int:
    """Into how many steps a length is cut: what divides it if it is not too small, or `_RADIX`."""
    return next((radix for radix in range(_RADIX, 3, -1) if length % radix == 0), _RADIX)


def _scan(values, extras, patches):
    """Cumulative products along the last axis of `(rows, length)`, and products of ranges.

    The axis is cut into blocks of `radix`: products inside all blocks at once, one factor after the
    other; the blocks' own products by the same function; then each block times all before it. That
    is two multiplications a factor, against `log2(length)` of a scan by doubling, and every step is
    a pass over contiguous memory.

    Returns:
        The products with each of `patches` (place -> extra) in its place, and the extras, `(rows,)`
        each.
    """
    length = values.shape[-1]
    if length <= _LEAF:
        factors = _unstack(values, -1)
        made = [_multiply(factors[first:stop]) for first, stop in extras]
        products = _accumulate(factors)
        for place, extra in patches.items():
            products[place] = made[extra]
        return ops.stack(products, -1), made
    radix = _radix(length)
    if short := -length % radix:
        # Ones at the end change no product before them.
        padded = ops.pad(values, ((0, 0), (0, short)), constant_values=1)
        products, made = _scan(padded, extras, patches)
        return neighbours(products, 0, length), made
    blocks = ops.reshape(values, (-1, length // radix, radix))
    factors = _unstack(ops.transpose(blocks, (2, 0, 1)), 0)
    products = _accumulate(factors)
    # Of a range: the factors before its first whole block, the whole blocks, the factors after.
    cuts = [(-(-first // radix), stop // radix) for first, stop in extras]
    before, whole = _scan(products[-1], cuts, {})
    made = []
    for (first, stop), (block, last_block), inner in zip(extras, cuts, whole, strict=True):
        head = range(first, min(block * radix, stop))
        parts = [factors[k % radix][:, k // radix] for k in head]
        parts += [] if inner is None else [inner]
        if block <= last_block and stop % radix:
            parts.append(products[stop % radix - 1][:, last_block])
        made.append(_multiply(parts))
    for place, extra in patches.items():
        # The first block is multiplied by one.
        rest = neighbours(products[place], 1, length // radix)
        products[place] = ops.concatenate([made[extra][:, None], rest], -1)
    before = neighbours(before, 0, length // radix - 1)
    before = ops.pad(before, ((0, 0), (1, 0)), constant_values=1)
    products = ops.transpose(ops.stack(products, 0) * before, (1, 2, 0))
    return ops.reshape(products, (-1, length)), made


def _accumulate(factors):
    products = [factors[0]]
    for factor in factors[1:]:
        products.append(products[-1] * factor)
    return products


def _multiply(factors):
    return _accumulate(factors)[-1] if factors else None


def _unstack(values, axis):
    # Not `ops.unstack`: on JAX its gradient is a sum of padded arrays, that of `split` is not.
    return [ops.squeeze(part, axis) for part in ops.split(values, values.shape[axis], axis)]
