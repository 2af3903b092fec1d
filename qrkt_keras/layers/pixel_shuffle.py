"""Tokens of a square to more and narrower tokens of a larger square."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import positive_integer


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PixelShuffle(keras.layers.Layer):
    """Turns every token of a square into `factor**2` neighbours, each with a part of its features.

    `y[factor r + a, factor c + b, k] = x[r, c, factor**2 k + factor a + b]`, no weights. Source:
    Shi et al., *Real-Time Single Image and Video Super-Resolution*, CVPR 2016.

    Args:
        factor: By how much each side grows.

    Call arguments:
        inputs: Tensor of shape `(B, T, features)`, T a square number, features divisible by
            `factor**2`.

    Returns:
        A tensor of shape `(B, T * factor**2, features / factor**2)`.

    Raises:
        ValueError: If the input has another form.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import PixelShuffle
    >>> PixelShuffle()(np.arange(4.0).reshape(1, 1, 4))[0, :, 0].numpy()
    array([0., 1., 2., 3.], dtype=float32)
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = positive_integer("factor", factor)

    def _sizes(self, input_shape: tuple[int | None, ...]) -> tuple[int, int]:
        """Side of the square, and features of a token behind."""
        tokens, features = input_shape[1:] if len(input_shape) == 3 else (None, None)
        side = math.isqrt(tokens or 0)
        if not tokens or not features or side**2 != tokens or features % self.factor**2:
            raise ValueError(
                f"'{self.name}' takes (batch, tokens, features), a square number of tokens and "
                f"features divisible by {self.factor**2}. "
                f"Received: input shape {tuple(input_shape)}"
            )
        return side, features // self.factor**2

    def call(self, inputs: Any) -> Any:
        side, features = self._sizes(inputs.shape)
        outputs = ops.reshape(inputs, (-1, side, side, features, self.factor, self.factor))
        outputs = ops.transpose(outputs, (0, 1, 4, 2, 5, 3))
        return ops.reshape(outputs, (-1, (side * self.factor) ** 2, features))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        side, features = self._sizes(input_shape)
        return (input_shape[0], (side * self.factor) ** 2, features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
