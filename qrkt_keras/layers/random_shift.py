"""Shifting images by whole pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.diff_augment import check_images, checked_seed, gather_shifted

PADDINGS = ("constant", "edge", "reflect")


@keras.saving.register_keras_serializable(package="qrkt_keras")
class RandomShift(keras.layers.Layer):
    """Shifts every image of a batch by its own whole number of pixels.

    `y[i, j] = x[i - dy, j - dx]` with integers `dy`, `dx` uniform on `-pixels..pixels`. It differs
    from `keras.layers.RandomTranslation`, whose shifts are real numbers, in that no pixel is
    interpolated: small images, such as digits of 8×8, stay as sharp as they are.

    Like Keras' own augmentations it works inside a `tf.data` pipeline too, and has
    `get_random_transformation` and `transform_images`.

    Args:
        pixels: The largest shift along both axes, at least 0.
        padding: What comes in from outside, in the words of `numpy.pad`: `"constant"` (zeros),
            `"edge"` or `"reflect"`.
        seed: Seed of the draws, at least 0; `None` for one of Keras' own.

    Call arguments:
        inputs: Images of any type, a tensor of shape `(B, height, width, channels)`.
        training: `False` returns the images unchanged, as `model.predict` does.

    Returns:
        A tensor of the shape and type of `inputs`.

    Raises:
        ValueError: If an argument is out of its range, the input is not a batch of images of known
            size, or images are too small to be shifted so far.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import RandomShift
    >>> images = np.eye(8, dtype="uint8")[None, :, :, None]
    >>> shifted = RandomShift(2, padding="edge", seed=0)(images)
    >>> shifted.shape, shifted.dtype.name
    (TensorShape([1, 8, 8, 1]), 'uint8')
    """

    def __init__(
        self, pixels: int, *, padding: str = "constant", seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
            raise ValueError(f"`pixels` must be an integer >= 0. Received: pixels={pixels!r}")
        if padding not in PADDINGS:
            raise ValueError(
                f"`padding` must be one of {', '.join(PADDINGS)}. Received: padding={padding!r}"
            )
        self.pixels = pixels
        self.padding = padding
        self.seed = checked_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool = True) -> Any:
        return self.transform_images(
            inputs, self.get_random_transformation(inputs, training), training
        )

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: keras.random.SeedGenerator | None = None
    ) -> Any:
        """Draws `dy` and `dx` for a batch of images, from `seed` if it is given."""
        if not training:
            return None
        self._check(data.shape)
        return tuple(
            keras.random.randint(
                ops.shape(data)[:1],
                -self.pixels,
                self.pixels + 1,
                seed=seed if seed is not None else self.seed_generator,
            )
            for _ in range(2)
        )

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Shifts images by what `get_random_transformation` drew."""
        return gather_shifted(images, *transformation, self.padding) if training else images

    def _check(self, shape: tuple[int | None, ...]) -> None:
        check_images(shape)
        if self.pixels >= min(shape[1:3]):
            raise ValueError(
                "Images must be larger than a shift. "
                f"Received: pixels={self.pixels} with input shape {tuple(shape)}"
            )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pixels": self.pixels,
            "padding": self.padding,
            "seed": self.seed,
        }
