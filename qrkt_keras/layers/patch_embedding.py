"""Images to tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import dropout_rate, positive_integer


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PatchEmbedding(keras.layers.Layer):
    """Cuts images into square patches, embeds each, and adds learned positions.

    `t_k = W * patch_k + b + p_k`: a convolution whose kernel and stride are the patch size
    (weights LeCun normal, bias 0), then one learned vector `p_k` a patch, drawn from a normal
    distribution of standard deviation `1 / sqrt(hidden_dim)`. Source: Dosovitskiy et al., *An
    Image is Worth 16x16 Words*, ICLR 2021. Patches are counted row by row.

    Args:
        patch_size: Side of a patch in pixels; it must divide both sides of the image.
        hidden_dim: Width of a token.
        dropout: Rate of dropout on the sum of embedding and position.
        use_positions: Whether positions are added.

    Call arguments:
        inputs: Images, a tensor of shape `(B, height, width, channels)`.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, height * width / patch_size**2, hidden_dim)`.

    Raises:
        ValueError: If the input is not a batch of images of known size, or `patch_size` does not
            divide them.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import PatchEmbedding
    >>> PatchEmbedding(patch_size=14, hidden_dim=6)(np.zeros((8, 28, 28, 1))).shape
    TensorShape([8, 4, 6])
    """

    def __init__(
        self,
        patch_size: int,
        hidden_dim: int,
        *,
        dropout: float = 0.0,
        use_positions: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size = positive_integer("patch_size", patch_size)
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.dropout = dropout_rate(dropout)
        self.use_positions = bool(use_positions)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rows, columns = self._grid(input_shape)
        # Kernel = stride, so the convolution is one matrix product of the cut patches, which is
        # faster, and which unlike TensorFlow's convolution takes an empty batch.
        self.projection = keras.layers.Dense(
            self.hidden_dim,
            kernel_initializer="lecun_normal",
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, rows * columns, self.patch_size**2 * input_shape[-1]))
        if self.use_positions:
            self.positions = self.add_weight(
                shape=(rows * columns, self.hidden_dim),
                initializer=keras.initializers.RandomNormal(stddev=self.hidden_dim**-0.5),
                name="positions",
            )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def _grid(self, input_shape: tuple[int | None, ...]) -> tuple[int, int]:
        """Returns the number of patches down and across."""
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "Images must be (batch, height, width, channels), of known size. "
                f"Received: input shape {tuple(input_shape)}"
            )
        height, width = input_shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                "`patch_size` must divide the height and the width of the image. "
                f"Received: patch_size={self.patch_size} with an image of {height}x{width} pixels"
            )
        return height // self.patch_size, width // self.patch_size

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        size, channels = self.patch_size, inputs.shape[-1]
        rows, columns = self._grid(inputs.shape)
        patches = ops.reshape(inputs, (-1, rows, size, columns, size, channels))
        patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
        patches = ops.reshape(patches, (-1, rows * columns, size * size * channels))
        tokens = self.projection(patches)
        if self.use_positions:
            tokens = tokens + self.positions
        return self.dropout_layer(tokens, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rows, columns = self._grid(input_shape)
        return (input_shape[0], rows * columns, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "use_positions": self.use_positions,
        }
