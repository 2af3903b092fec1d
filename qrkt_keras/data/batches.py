"""Training batches whose order is a function of the seed and the epoch, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Batches whose examples are sorted by length together: more leave less padding, and less chance
# in who meets whom.
_WINDOW = 50
# The width of a batch of sequences is a multiple of this.
_WIDTH_STEP = 64


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Complete batches in one pass; the incomplete one is dropped.

    Raises:
        ValueError: If there is not one complete batch.

    Example:

    >>> steps_per_epoch(1293, 64)
    20
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: batch_size={batch_size}")
    if num_examples < batch_size:
        raise ValueError(
            "There must be at least one complete batch, for incomplete ones are dropped. "
            f"Received: batch_size={batch_size} with {num_examples} examples"
        )
    return num_examples // batch_size


def training_batches(
    examples: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
    lengths: np.ndarray | None = None,
    stratified: bool = False,
) -> tf.data.Dataset:
    """The batches of epochs `start_epoch ... epochs - 1`, one epoch after the other.

    The order within epoch `e` is a stateless shuffle by `(seed, e)`. So a job that continues at
    epoch `e` sees the batches that it would have seen had it never stopped:
    `model.fit(batches, initial_epoch=e, epochs=epochs, steps_per_epoch=n // batch_size)`.

    With `lengths`, examples of like length share a batch, so that little of it is padding: of the
    shuffled order, every 50 batches' worth of examples is sorted by length, cut into batches, and
    these are put into a random order, by `(seed, e)` too. A batch is cut to its longest example,
    rounded up to a multiple of 64 tokens, so that a compiled model sees few shapes.

    With `stratified`, every batch has each class in its share `p_c = n_c / n` of all examples, up
    to rounding: of `k` classes, by less than `1 + p_c (k - 2)` examples more or less. Example `i`
    of the `n_c` of class `c`, in the shuffled order, stands at `(i + u_c) / n_c` of the epoch, with
    one `u_c` in [0, 1) a class.

    Args:
        examples: `(n, ...)`, such as images `(n, height, width, channels)` or tokens
            `(n, width)`.
        labels: `(n,)`, their labels.
        batch_size: Examples in a batch; an epoch's incomplete last batch is dropped.
        seed: Seed of all orders, not negative.
        epochs: The epoch to stop before.
        start_epoch: The first epoch.
        lengths: `(n,)`, how many places of an example's second axis are in use, from its start.
        stratified: Whether each batch is a sample of the classes; not together with `lengths`.

    Returns:
        `(epochs - start_epoch) * (n // batch_size)` pairs of examples `(batch_size, ...)` and
        labels `(batch_size,)`, in the arrays' own dtypes. Closing an iterator takes no time.

    Raises:
        ValueError: If the arrays' lengths differ, there is no complete batch, the seed is
            negative, the epochs are not `0 <= start_epoch <= epochs`, `lengths` are not `n`
            whole numbers from 0 to the width, or both `lengths` and `stratified` are asked for.

    Example:

    >>> import numpy as np
    >>> images, labels = np.zeros((10, 8, 8, 1), np.uint8), np.arange(10)
    >>> batches = training_batches(images, labels, batch_size=4, seed=0, epochs=3)
    >>> len(batches)
    6
    >>> tokens, lengths = np.zeros((10, 500), np.int32), np.arange(10, 110, 10)
    >>> batches = training_batches(
    ...     tokens, labels, batch_size=2, seed=0, epochs=1, lengths=lengths
    ... )
    >>> sorted(batch.shape[1] for batch, _ in batches.as_numpy_iterator())
    [64, 64, 64, 128, 128]
    """
    if len(examples) != len(labels):
        raise ValueError(
            "There must be one label an example. "
            f"Received: {len(examples)} examples with {len(labels)} labels"
        )
    if not 0 <= start_epoch <= epochs:
        raise ValueError(
            "The epochs must satisfy 0 <= start_epoch <= epochs. "
            f"Received: start_epoch={start_epoch}, epochs={epochs}"
        )
    if seed < 0:
        raise ValueError(f"seed must not be negative. Received: seed={seed}")
    if lengths is not None:
        lengths = np.asarray(lengths)
        _check_lengths(lengths, np.shape(examples))
        if stratified:
            raise ValueError(
                "Batches are either of like length or stratified. "
                "Received: stratified=True with lengths"
            )
    steps = steps_per_epoch(len(labels), batch_size)

    import tensorflow as tf

    with tf.device("CPU"):  # where tf.data works
        examples, labels = tf.constant(examples), tf.constant(labels)
        lengths = None if lengths is None else tf.constant(lengths, tf.int64)

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.cast(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(labels)), seed=epoch_seed, alg="philox"
        )
        if stratified:
            order = _stratified(order, labels, epoch_seed)
        batches = tf.reshape(order[: steps * batch_size], (steps, batch_size))
        if lengths is not None:
            batches = _by_length(batches, lengths, epoch_seed)
        return tf.data.Dataset.from_tensor_slices(batches)

    def gathered(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.gather(examples, chosen)
        if lengths is not None:
            longest = tf.maximum(tf.reduce_max(tf.gather(lengths, chosen)), 1)
            batch = batch[:, : (longest + _WIDTH_STEP - 1) // _WIDTH_STEP * _WIDTH_STEP]
        return batch, tf.gather(labels, chosen)

    dataset = tf.data.Dataset.range(start_epoch, epochs).flat_map(batches_of).map(gathered)
    cardinality = (epochs - start_epoch) * steps
    return ahead(dataset.apply(tf.data.experimental.assert_cardinality(cardinality)))


def ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set two batches ahead of whoever reads it, and closed at once when he leaves.

    Without tf.data's autotuning: closing an iterator waits for its thread, which sleeps for
    seconds at a time.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def _check_lengths(lengths: np.ndarray, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise ValueError(
            "lengths are counted along the examples' second axis, so there must be one. "
            f"Received: examples of shape {shape}"
        )
    if lengths.shape != shape[:1] or not np.issubdtype(lengths.dtype, np.integer):
        raise ValueError(
            f"lengths must be one whole number an example, of shape {shape[:1]}. "
            f"Received: shape {lengths.shape}, dtype {lengths.dtype}"
        )
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= shape[1]:
        raise ValueError(
            f"lengths must lie in 0..{shape[1]}, the width of the examples. "
            f"Received: {lengths.min()}..{lengths.max()}"
        )


def _by_length(batches: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The examples of each window of batches `(steps, batch_size)`, sorted into its batches."""
    import tensorflow as tf

    steps, batch_size = batches.shape
    window = np.arange(steps) // _WINDOW
    flat = tf.reshape(batches, (-1,))
    # One sort for all windows: no length reaches the factor.
    factor = tf.reduce_max(lengths) + 1
    keys = tf.repeat(tf.constant(window), batch_size) * factor + tf.gather(lengths, flat)
    batches = tf.reshape(tf.gather(flat, tf.argsort(keys, stable=True)), (steps, batch_size))
    draws = tf.random.stateless_uniform(
        (steps,), tf.random.experimental.stateless_fold_in(seed, 1), dtype=tf.float64, alg="philox"
    )
    return tf.gather(batches, tf.argsort(window + draws))


def _stratified(order: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A shuffled order `(n,)`, in which each class is spread evenly."""
    import tensorflow as tf

    shuffled = tf.gather(labels, order)
    _, classes, counts = tf.unique_with_counts(shuffled)
    # How many of its class come before it in the order.
    by_class = tf.argsort(classes, stable=True)
    first = tf.cumsum(counts, exclusive=True)
    place = tf.range(len(order)) - tf.gather(first, tf.gather(classes, by_class))
    place = tf.scatter_nd(by_class[:, None], place, tf.shape(place))
    draws = tf.random.stateless_uniform(
        tf.shape(counts),
        tf.random.experimental.stateless_fold_in(seed, 2),
        dtype=tf.float64,
        alg="philox",
    )
    place = tf.cast(place, tf.float64) + tf.gather(draws, classes)
    share = tf.cast(tf.gather(counts, classes), tf.float64)
    return tf.gather(order, tf.argsort(place / share, stable=True))
