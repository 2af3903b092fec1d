"""Learned positions."""

from __future__ import annotations

from typing import Any

import keras

from qrkt_keras.layers.projection import dropout_rate


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector a token: `y_t = Drop(x_t + p_t)`.

    The vectors are drawn from a truncated normal distribution of standard deviation 0.02. Source:
    Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021.

    Args:
        dropout: Rate of dropout on the sum.

    Call arguments:
        inputs: Tensor of shape `(B, T, features)`, T and features known.
        training: Whether dropout is applied.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: If the input has another form.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import PositionEmbedding
    >>> layer = PositionEmbedding()
    >>> layer(np.zeros((2, 3, 4))).shape, layer.count_params()
    (TensorShape([2, 3, 4]), 12)
    """

    def __init__(self, *, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = dropout_rate(dropout)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(
                f"'{self.name}' takes (batch, tokens, features), of known size. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.positions = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="positions",
        )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.dropout_layer(inputs + self.positions, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dropout": self.dropout}
