"""Chunks: a batch a piece at a time, so that memory does not grow with the batch either."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras import ops

from qrkt_keras.execution.evolution import loop, put


def in_chunks(
    function: Callable, size: int, shape: tuple[int, ...], batched: Sequence, shared: Sequence
):
    """`function` over chunks of the last axis, forward and back, nothing kept between them.

    Args:
        function: takes a chunk of each of `batched` and all of `shared`; returns values
            `(..., size)`, and what takes the loss' gradient by them to two lists of gradients, by
            the chunks and by what is shared.
        size: of a chunk.
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

        def forward(i, carry):
            return (put(carry[0], i, chunk(i)[0]),)

        values = ops.zeros((count, *shape), dtype=own[0].dtype)
        (values,) = loop(count, forward, (values,))

        def backward(*arguments, upstream=None):
            upstream = _cut(arguments[0] if upstream is None else upstream, size, count)

            def back(i, carry):
                _, pull = chunk(i)
                by_own, by_common = pull(ops.take(upstream, i, axis=0))
                return (
                    *(put(t, i, g) for t, g in zip(carry[: len(own)], by_own, strict=True)),
                    *(t + g for t, g in zip(carry[len(own) :], by_common, strict=True)),
                )

            zeros = [ops.zeros_like(tensor) for tensor in (*cut, *common)]
            totals = loop(count, back, tuple(zeros))
            by_own = [_join(total, batch) for total in totals[: len(own)]]
            return (*by_own, *totals[len(own) :])

        return _join(values, batch), backward

    return run(*batched, *shared)


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
