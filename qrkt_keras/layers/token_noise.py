"""Noise that a network adds to its tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TokenNoise(keras.layers.Layer):
    """Adds one random number a token, times a learned strength, in training and evaluation alike.

    `y_t = x_t + s n_t`, n_t ~ N(0, 1), with one scalar s that begins at 0. Source: Jiang, Chang and
    Wang, *TransGAN*, NeurIPS 2021 (its official code), after StyleGAN.

    Args:
        seed: Seed of the noise.

    Call arguments:
        inputs: Tensor of shape `(B, T, features)`.

    Returns:
        A tensor of the same shape.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import TokenNoise
    >>> layer = TokenNoise()
    >>> layer(np.ones((2, 3, 4))).shape, layer.count_params()
    (TensorShape([2, 3, 4]), 1)
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.strength = self.add_weight(shape=(), initializer="zeros", name="strength")
        self.built = True

    def call(self, inputs: Any) -> Any:
        shape = (*ops.shape(inputs)[:-1], 1)
        noise = keras.random.normal(shape, dtype=self.compute_dtype, seed=self.seed_generator)
        return inputs + self.strength * noise

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
