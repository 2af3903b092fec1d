"""Training batches whose order is a function of the seed and the epoch, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


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
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
) -> tf.data.Dataset:
    """The batches of epochs `start_epoch ... epochs - 1`, one epoch after the other.

    The order within epoch `e` is a stateless shuffle by `(seed, e)`. So a job that continues at
    epoch `e` sees the batches that it would have seen had it never stopped:
    `model.fit(batches, initial_epoch=e, epochs=epochs, steps_per_epoch=n // batch_size)`.

    Args:
        images: `(n, ...)`, the examples.
        labels: `(n,)`, their labels.
        batch_size: Examples in a batch; an epoch's incomplete last batch is dropped.
        seed: Seed of all orders, not negative.
        epochs: The epoch to stop before.
        start_epoch: The first epoch.

    Returns:
        `(epochs - start_epoch) * (n // batch_size)` pairs of images `(batch_size, ...)` and
        labels `(batch_size,)`, in the arrays' own dtypes.

    Raises:
        ValueError: If the arrays' lengths differ, there is no complete batch, the seed is
            negative, or the epochs are not `0 <= start_epoch <= epochs`.

    Example:

    >>> import numpy as np
    >>> images, labels = np.zeros((10, 8, 8, 1), np.uint8), np.arange(10)
    >>> batches = training_batches(images, labels, batch_size=4, seed=0, epochs=3)
    >>> len(batches)
    6
    """
    if len(images) != len(labels):
        raise ValueError(
            "There must be one label an image. "
            f"Received: {len(images)} images with {len(labels)} labels"
        )
    if not 0 <= start_epoch <= epochs:
        raise ValueError(
            "The epochs must satisfy 0 <= start_epoch <= epochs. "
            f"Received: start_epoch={start_epoch}, epochs={epochs}"
        )
    if seed < 0:
        raise ValueError(f"seed must not be negative. Received: seed={seed}")
    steps = steps_per_epoch(len(labels), batch_size)

    import tensorflow as tf

    with tf.device("CPU"):  # where tf.data works
        images, labels = tf.constant(images), tf.constant(labels)

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(labels)), seed=tf.stack([tf.cast(seed, tf.int64), epoch]), alg="philox"
        )
        return tf.data.Dataset.from_tensor_slices(
            tf.reshape(order[: steps * batch_size], (steps, batch_size))
        )

    dataset = (
        tf.data.Dataset.range(start_epoch, epochs)
        .flat_map(batches_of)
        .map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))
    )
    cardinality = (epochs - start_epoch) * steps
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality)).prefetch(
        tf.data.AUTOTUNE
    )
