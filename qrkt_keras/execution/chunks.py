"""Chunks: a batch a piece at a time, so that memory does not grow with the batch either."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from qrkt_keras.execution.evolution import loop, put


def in_chunks(function: Callable, size, shape: tuple, batched: Sequence, shared: Sequence):
    """`function` over chunks of the last axis, forward and back, nothing kept between them.

    Args:
        function: takes a chunk of each of `batched` and all of `shared`; returns values
            `(..., size)`, and what takes the loss' gradient by them to two lists of gradients, by
            the chunks and by what is shared.
        size: of a chunk; a tensor where it depends on an unknown batch.
        shape: of a chunk's values.
        batched: tensors `(..., B)`; the last chunk is filled up with zeros.
        shared: tensors.

    Returns:
        Values `(..., B)`.
    """
    batch = ops.shape(batched[0])[-1]
    count = -(-batch // size)

    @ops.custom_gradient
    def run(*tensors):
        own, common = tensors[: len(batched)], tensors[len(batched) :]
        cut = [_cut(tensor, size, count) for tensor in own]

        def chunk(i):
            return function([ops.take(tensor, i, axis=0) for tensor in cut], common)

        def forward(_, carry):
            i, total = carry
            values = chunk(i)[0]
            return _after(i + 1, values), put(total, i, values)

        first = ops.convert_to_tensor(0, dtype="int32")
        values = ops.zeros((count, *shape), dtype=own[0].dtype)
        _, values = loop(count, forward, (first, values))

        def backward(*arguments, upstream=None):
            upstream = _cut(arguments[0] if upstream is None else upstream, size, count)

            def back(_, carry):
                i, *totals = carry
                _, pull = chunk(i)
                by_own, by_common = pull(ops.take(upstream, i, axis=0))
                return (
                    _after(i + 1, *by_own[:1], *by_common[:1]),
                    *(put(t, i, g) for t, g in zip(totals[: len(own)], by_own, strict=True)),
                    *(t + g for t, g in zip(totals[len(own) :], by_common, strict=True)),
                )

            zeros = [ops.zeros_like(tensor) for tensor in (*cut, *common)]
            _, *totals = loop(count, back, (first, *zeros))
            by_own = [_join(total, batch) for total in totals[: len(own)]]
            return (*by_own, *totals[len(own) :])

        return _join(values, batch), backward

    return run(*batched, *shared)


def _after(index, *values):
    """The index, known no sooner than the values.

    TensorFlow begins turns of a loop before the last one has ended, and would hold their states
    all at once.
    """
    for value in values:
        index = index + ops.cast(ops.any(value > np.inf), "int32")
    return index


def _cut(x, size: int, count):
    """`(..., B)` as `(count, ..., size)`."""
    batch = ops.shape(x)[-1]
    axes = len(x.shape)
    x = ops.pad(x, [*([(0, 0)] * (axes - 1)), (0, count * size - batch)])
    x = ops.reshape(x, (*x.shape[:-1], count, size))
    return ops.transpose(x, (axes - 1, *range(axes - 1), axes))


def _join(x, batch):
    """`(count, ..., size)` as `(..., B)`."""
    axes = len(x.shape) - 1
    x = ops.transpose(x, (*range(1, axes), 0, axes))
    shape = x.shape[: axes - 1]
    return ops.reshape(x, (*shape, -1))[..., :batch]
