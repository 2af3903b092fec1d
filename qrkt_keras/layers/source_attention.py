"""Attention to a source without projections of its own, as the decoder of the thesis has it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import dropout_rate, positive_integer
from qrkt_keras.layers.quantum_multi_head_attention import (
    attend,
    attention_softmax,
    merge_heads,
    split_heads,
)

VARIANTS = ("corrected", "thesis")

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="qrkt_keras")
class SourceAttention(keras.layers.Layer):
    """Attention of a target to a source with neither query, key nor value projections.

    `variant="corrected"`: `C = concat_i softmax(q_i e_i^T / sqrt(h / num_heads)) e_i`, where `i`
    counts the heads, slices of the `h` features of the target `q` and the source `e`.

    `variant="thesis"`: `A = softmax(q e^T / sqrt(h / num_heads)) e` with one head over all
    features, and `C` is `A` transposed to `(B, h, T)` and then read row by row as `(B, T, h)`,
    which scrambles tokens and features. It is kept only to reproduce.

    Source: C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024. The layer has no weights.

    Args:
        num_heads: Number of heads; it must divide the width.
        variant: `"corrected"` or `"thesis"`.
        dropout: Rate of dropout on the attention weights.

    Call arguments:
        query: Tensor of shape `(B, T, h)`, the target.
        source: Tensor of shape `(B, S, h)`.
        source_mask: Boolean tensor of shape `(B, S)`, `False` at padding; by default the mask
            attached to the source.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, h)`.

    Raises:
        ValueError: If the variant is unknown, the widths differ, or `num_heads` does not divide
            them.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import SourceAttention
    >>> SourceAttention(num_heads=2)(np.zeros((8, 4, 6)), np.zeros((8, 9, 6))).shape
    TensorShape([8, 4, 6])
    """

    def __init__(
        self,
        num_heads: int,
        variant: str = "corrected",
        *,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
        self.variant = variant
        self.dropout = dropout_rate(dropout)
        self.supports_masking = True

    def build(self, query_shape: Shape, source_shape: Shape) -> None:
        width = query_shape[-1]
        if len(query_shape) != 3 or len(source_shape) != 3 or source_shape[-1] != width:
            raise ValueError(
                "`query` and `source` must be (batch, tokens, features) of the same width. "
                f"Received: query of shape {tuple(query_shape)} and source of shape "
                f"{tuple(source_shape)}"
            )
        if width % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of the inputs. "
                f"Received: num_heads={self.num_heads} with hidden_dim={width}"
            )
        self.softmax = attention_softmax(self.dtype_policy)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def call(
        self, query: Any, source: Any, source_mask: Any = None, training: bool | None = None
    ) -> Any:
        length, width = ops.shape(query)[1], query.shape[-1]
        key_dim = width // self.num_heads
        mask = None if source_mask is None else ops.cast(source_mask, "bool")[:, None, :]
        if self.variant == "corrected":
            query = split_heads(query, self.num_heads, key_dim)
            source = split_heads(source, self.num_heads, key_dim)
            mask = None if mask is None else mask[:, None]
        outputs, _ = attend(
            query,
            source,
            source,
            scale=key_dim**-0.5,
            softmax=self.softmax,
            dropout=self.dropout_layer,
            mask=mask,
            training=training,
        )
        if self.variant == "corrected":
            return merge_heads(outputs)
        return ops.reshape(ops.swapaxes(outputs, 1, 2), (-1, length, width))

    def compute_output_shape(self, query_shape: Shape, source_shape: Shape) -> Shape:
        return tuple(query_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "variant": self.variant,
            "dropout": self.dropout,
        }
