"""Covering a square of each image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.diff_augment import (
    check_images,
    checked_seed,
    cut_out,
    fraction,
    rounded,
)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class Cutout(keras.layers.Layer):
    """Sets a square of every image to 0, each at its own place.

    The square has the side `a = floor(share * S + 1/2)` of an image's `S` pixels, along both axes,
    and is clipped at the border: it covers `c - a//2 .. c - a//2 + a - 1`, with the centre `c`
    uniform on `0..S` where `a` is even and on `0..S - 1` where it is odd. Source: DeVries and
    Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*, 2017. It differs
    from `keras.layers.RandomErasing`, whose rectangles have random sides.

    Like Keras' own augmentations it works inside a `tf.data` pipeline too, and has
    `get_random_transformation` and `transform_images`.

    Args:
        share: Side of the square as a share of the image's, in [0, 1].
        seed: Seed of the draws, at least 0; `None` for one of Keras' own.

    Call arguments:
        inputs: Images of any type, a tensor of shape `(B, height, width, channels)`.
        training: `False` returns the images unchanged, as `model.predict` does.

    Returns:
        A tensor of the shape and type of `inputs`.

    Raises:
        ValueError: If an argument is out of its range, or the input is not a batch of images of
            known size.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import Cutout
    >>> images = np.ones((1, 8, 8, 1), dtype="uint8")
    >>> bool(Cutout(0.5, seed=0)(images).numpy().sum() < 64)
    True
    """

    def __init__(self, share: float = 0.5, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = fraction("share", share)
        self.seed = checked_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_images(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool = True) -> Any:
        return self.transform_images(
            inputs, self.get_random_transformation(inputs, training), training
        )

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: keras.random.SeedGenerator | None = None
    ) -> Any:
        """Draws the squares' centres for a batch of images, from `seed` if it is given."""
        if not training:
            return None
        check_images(data.shape)
        return tuple(
            keras.random.randint(
                ops.shape(data)[:1],
                0,
                size + 1 - side % 2,
                seed=seed if seed is not None else self.seed_generator,
            )
            for size, side in zip(data.shape[1:3], self._sides(data), strict=True)
        )

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Covers the squares that `get_random_transformation` drew."""
        return cut_out(images, *transformation, self._sides(images)) if training else images

    def _sides(self, images: Any) -> list[int]:
        return [rounded(self.share * size) for size in images.shape[1:3]]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "share": self.share, "seed": self.seed}
