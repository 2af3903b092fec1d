"""What attention adds for the offset between two tokens of a square."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import positive_integer


def _toeplitz(table: Any, side: int) -> Any:
    """`(n, 2 side - 1)` to `(n, side, side)`: entry (i, j) is the table's at `j - i + side - 1`.

    A row that is padded by one, repeated, and cut into shorter rows moves on by one a row. Its
    gradient is sums; that of a gather would be a scatter, which takes many times as long.
    """
    padded = ops.pad(table, [(0, 0), (0, 1)])
    period = 2 * side - 1
    repeated = ops.tile(padded, (1, side))[:, : side * period]
    return ops.reshape(repeated, (-1, side, period))[:, :, side - 1 :]


@keras.saving.register_keras_serializable(package="qrkt_keras")
class RelativePositionBias(keras.layers.Layer):
    """A learned number for every head and every offset between two tokens of a square.

    `bias[h, t, u] = table[h, row(u) - row(t) + w - 1, column(u) - column(t) + w - 1]` for tokens t
    and u of a square of side w, counted row by row. Source: Liu et al., *Swin Transformer*, ICCV
    2021, as used by Jiang et al., *TransGAN*, NeurIPS 2021.

    Args:
        num_heads: Number of heads.
        window: Side w of the square.

    Call arguments:
        inputs: Tensor of shape `(B, w * w, features)`; only its shape matters.

    Returns:
        A tensor of shape `(num_heads, w * w, w * w)`.

    Raises:
        ValueError: If the number of tokens is not `window**2`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import RelativePositionBias
    >>> layer = RelativePositionBias(num_heads=4, window=8)
    >>> layer(np.zeros((1, 64, 3))).shape, layer.count_params()
    (TensorShape([4, 64, 64]), 900)
    """

    def __init__(self, num_heads: int, window: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.window = positive_integer("window", window)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or input_shape[1] != self.window**2:
            raise ValueError(
                f"'{self.name}' takes (batch, {self.window**2}, features): window**2 tokens. "
                f"Received: input shape {tuple(input_shape)} with window={self.window}"
            )
        self.table = self.add_weight(
            shape=(self.num_heads, 2 * self.window - 1, 2 * self.window - 1),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="table",
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        side, offsets = self.window, 2 * self.window - 1
        # Columns first: (heads * row offsets, column, column).
        bias = _toeplitz(ops.reshape(self.table, (-1, offsets)), side)
        bias = ops.reshape(bias, (self.num_heads, offsets, side * side))
        bias = ops.reshape(ops.transpose(bias, (0, 2, 1)), (-1, offsets))
        bias = ops.reshape(_toeplitz(bias, side), (self.num_heads, side, side, side, side))
        # (head, column of t, column of u, row of t, row of u)
        bias = ops.transpose(bias, (0, 3, 1, 4, 2))
        return ops.reshape(bias, (self.num_heads, side**2, side**2))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (self.num_heads, self.window**2, self.window**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "window": self.window}
