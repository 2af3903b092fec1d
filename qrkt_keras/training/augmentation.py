"""Augmented batches whose draws are a function of the seed and the step, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from qrkt_keras.layers import Cutout, RandomShift
from qrkt_keras.training.recipes import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf


def augmented_batches(
    batches: tf.data.Dataset, augmentation: Augmentation, *, seed: int, first_step: int = 0
) -> tf.data.Dataset:
    """Batches of images, augmented.

    Every draw is a stateless function of the seed and of the number of the step. So a job that
    continues at step `t` sees the images that it would have seen had it never stopped.

    Args:
        batches: Pairs of images `(B, height, width, channels)`, and of labels: shares of all
            classes `(B, num_classes)` for mixup, anything otherwise.
        augmentation: What is done.
        seed: Seed of all draws, not negative.
        first_step: Number of the first batch.

    Returns:
        As many pairs of the same shapes and types. Images of whole numbers are rounded at the end.

    Example:

    >>> import tensorflow as tf
    >>> images, labels = tf.zeros((8, 28, 28, 1), tf.uint8), tf.one_hot(range(8), 10)
    >>> batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    >>> batches = augmented_batches(batches, Augmentation(shift=2, mixup=0.2), seed=0)
    >>> batches.element_spec[0].dtype.name, len(batches)
    ('uint8', 2)
    """
    import tensorflow as tf

    layers = _layers(augmentation)
    mixup = keras.layers.MixUp(augmentation.mixup, seed=0) if augmentation.mixup else None

    def augment(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[Any, Any]:
        images, labels = batch
        seeds, dtype = _StepSeeds(seed, step), images.dtype
        images = tf.cast(images, "float32")
        for layer in layers:
            images = layer.transform_images(
                images, layer.get_random_transformation(images, seed=seeds)
            )
        if mixup is not None:
            drawn = mixup.get_random_transformation(images, seed=seeds)
            images = mixup.transform_images(images, drawn)
            labels = mixup.transform_labels(labels, drawn)
        if dtype.is_integer:
            images = tf.round(images)
        return tf.cast(images, dtype), labels

    return (
        batches.enumerate(first_step)
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _layers(augmentation: Augmentation) -> list[keras.layers.Layer]:
    # Their own seeds are not used. One is given all the same, as Keras would take it from Python's
    # generator, whose state is part of a checkpoint. Policies of half types do not matter here.
    options: dict[str, Any] = {"seed": 0, "dtype": "float32"}
    filled = {"fill_mode": "constant", **options}
    chosen = []
    if augmentation.flip:
        chosen.append(keras.layers.RandomFlip("horizontal", **options))
    if augmentation.rotation:
        chosen.append(keras.layers.RandomRotation(augmentation.rotation / 360, **filled))
    if augmentation.zoom:
        chosen.append(keras.layers.RandomZoom(augmentation.zoom, **filled))
    if augmentation.shift:
        chosen.append(RandomShift(augmentation.shift, padding=augmentation.padding, **options))
    if augmentation.cutout:
        chosen.append(Cutout(augmentation.cutout, **options))
    return chosen


class _StepSeeds(keras.random.SeedGenerator):
    """Seeds that depend on a seed, a step, and how many were drawn before in the step.

    Keras' random functions take a `SeedGenerator` and call its `next`; Keras' own keeps a variable,
    which a pipeline runs ahead of the training, and a checkpoint would not know how far.
    """

    def __init__(self, seed: int, step: Any) -> None:
        # Not Keras' own `__init__`, which makes the variable.
        self._base = ops.stack([ops.cast(seed, "int64"), ops.cast(step, "int64")])
        self._drawn = 0

    def next(self, ordered: bool = True) -> Any:
        import tensorflow as tf

        self._drawn += 1
        number = ops.cast(self._drawn, "int64")
        return tf.random.experimental.stateless_fold_in(self._base, number)
