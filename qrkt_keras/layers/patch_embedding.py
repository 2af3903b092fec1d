"""Images to tokens."""

from __future__ import annotations

from typing import Any

import keras

from qrkt_keras.layers.diff_augment import check_images
from qrkt_keras.layers.image_patches import cut_patches
from qrkt_keras.layers.projection import dropout_rate, positive_integer


def grid_of_patches(sides: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """Returns the number of patches down and across, or refuses patches that do not fill."""
    over = [(side - patch_size) % stride for side in sides]
    if min(sides) < patch_size or any(over):
        raise ValueError(
            "Patches must fill the image: `(side - patch_size) % stride == 0`, which for patches "
            "that do not overlap means that `patch_size` must divide the height and the width of "
            f"the image. Received: patch_size={patch_size}, stride={stride} with an image of "
            f"{sides[0]}x{sides[1]} pixels"
        )
    rows, columns = (1 + (side - patch_size) // stride for side in sides)
    return rows, columns


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PatchEmbedding(keras.layers.Layer):
    """Cuts images into square patches, embeds each, and adds learned positions.

    `t_k = W * patch_k + b + p_k`: a convolution whose kernel is the patch size, and by default its
    stride too (weights LeCun normal, bias 0), then one learned vector `p_k` a patch, drawn from a
    normal distribution of standard deviation `1 / sqrt(hidden_dim)`. Source: Dosovitskiy et al.,
    *An Image is Worth 16x16 Words*, ICLR 2021. Patches are counted row by row.

    Args:
        patch_size: Side of a patch in pixels.
        hidden_dim: Width of a token.
        stride: Pixels from one patch to the next, at most `patch_size`, which is the default; fewer
            make them overlap. Patches must end where the image does.
        dropout: Rate of dropout on the sum of embedding and position.
        use_positions: Whether positions are added.

    Call arguments:
        inputs: Images, a tensor of shape `(B, height, width, channels)`.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, rows * columns, hidden_dim)`, with `rows = 1 + (height - patch_size)
        / stride` patches down and likewise across.

    Raises:
        ValueError: If the input is not a batch of images of known size, or patches of this size and
            stride do not fill them.

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
        stride: int | None = None,
        dropout: float = 0.0,
        use_positions: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size = positive_integer("patch_size", patch_size)
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.stride = self.patch_size if stride is None else positive_integer("stride", stride)
        if self.stride > self.patch_size:
            raise ValueError(
                "`stride` must be at most `patch_size`, or pixels are lost between patches. "
                f"Received: stride={stride} with patch_size={patch_size}"
            )
        self.dropout = dropout_rate(dropout)
        self.use_positions = bool(use_positions)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rows, columns = self._grid(input_shape)
        # The convolution is one matrix product of the cut patches, which is faster where they do
        # not overlap, and which unlike TensorFlow's convolution takes an empty batch.
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
        check_images(input_shape)
        return grid_of_patches(input_shape[1:3], self.patch_size, self.stride)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        grid = self._grid(inputs.shape)
        tokens = self.projection(cut_patches(inputs, self.patch_size, self.stride, grid))
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
            "stride": self.stride,
            "dropout": self.dropout,
            "use_positions": self.use_positions,
        }
