"""The decoder block of a quantum transformer."""

from __future__ import annotations

from typing import Any

import keras

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine
from qrkt_keras.layers.projection import (
    Projection,
    dropout_rate,
    positive_integer,
    positive_number,
    read_template,
    template_config,
)
from qrkt_keras.layers.quantum_feed_forward import QuantumFeedForward
from qrkt_keras.layers.quantum_multi_head_attention import QuantumMultiHeadAttention
from qrkt_keras.layers.source_attention import VARIANTS, SourceAttention
from qrkt_keras.layers.transformer_encoder_block import EPSILON, head_width

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TransformerDecoderBlock(keras.layers.Layer):
    """Self-attention, attention to a source, and feed-forward.

    `y1 = y + Drop(MHSA(LN y))`, `y2 = y1 + Drop(W_o C(LN y1, e))`, `y3 = y2 + Drop(FFN(LN y2))`

    where `e` is the source, `C` is `SourceAttention`, which has no weights, and `W_o` is a circuit
    of `hidden_dim` qubits. With `project_cross_attention=True` `W_o C` is multi-head attention with
    query, key and value projections too, as is usual. Source:
    C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024.

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        mlp_dim: Width inside the feed-forward part.
        variant: Variant of `SourceAttention`, `"corrected"` or `"thesis"`.
        project_cross_attention: Whether the attention to the source has projections of its own.
        quantum: `False` for the classical twin, where `W_o` is a Dense layer.
        template: Name of a circuit template, or a `CircuitSpec` that fits both widths.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether Dense layers make the angles that the circuits encode, see
            `Projection`; otherwise features are angles.
        engine: Engine that computes the circuits.
        dropout: Rate of dropout on the attention weights and on the three branches.
        epsilon: Of the layer normalisations.

    Call arguments:
        target: Tensor of shape `(B, T, hidden_dim)`.
        source: Tensor of shape `(B, S, hidden_dim)`.
        target_mask: Boolean tensor of shape `(B, T)`, `False` at padding; by default the mask
            attached to the target.
        source_mask: The same for the source, of shape `(B, S)`.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, hidden_dim)`.

    Raises:
        ValueError: If `num_heads` does not divide the width of the tokens, or source and target
            differ in width.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import TransformerDecoderBlock
    >>> layer = TransformerDecoderBlock(num_heads=2, mlp_dim=3)
    >>> layer(np.zeros((8, 4, 6)), np.zeros((8, 9, 6))).shape, layer.count_params()
    (TensorShape([8, 4, 6]), 114)
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        *,
        variant: str = "corrected",
        project_cross_attention: bool = False,
        quantum: bool = True,
        template: str | CircuitSpec = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        engine: str = "auto",
        dropout: float = 0.0,
        epsilon: float = EPSILON,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
        self.variant = variant
        self.project_cross_attention = bool(project_cross_attention)
        if self.project_cross_attention and variant != "corrected":
            raise ValueError(
                "Projections belong to the corrected variant. "
                f"Received: project_cross_attention=True with variant={variant!r}"
            )
        self.quantum = bool(quantum)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        self.template = read_template(template, self.num_ansatz_layers)
        self.trainable_encoding = bool(trainable_encoding)
        check_engine(engine)
        self.engine = engine
        self.dropout = dropout_rate(dropout)
        self.epsilon = positive_number("epsilon", epsilon)
        self.supports_masking = True

    def build(self, target_shape: Shape, source_shape: Shape) -> None:
        key_dim = head_width(self.num_heads, target_shape)
        settings = {
            "quantum": self.quantum,
            "template": self.template,
            "num_ansatz_layers": self.num_ansatz_layers,
            "engine": self.engine,
            "dtype": self.dtype_policy,
        }
        self.attention_norm = self._normalization("attention_norm")
        attention = {
            "trainable_encoding": self.trainable_encoding,
            "dropout": self.dropout,
            **settings,
        }
        self.attention = QuantumMultiHeadAttention(
            self.num_heads, key_dim, name="attention", **attention
        )
        self.source_norm = self._normalization("source_norm")
        self.source_projection = None
        if self.project_cross_attention:
            self.source_attention = QuantumMultiHeadAttention(
                self.num_heads, key_dim, name="source_attention", **attention
            )
        else:
            self.source_attention = SourceAttention(
                self.num_heads,
                self.variant,
                dropout=self.dropout,
                dtype=self.dtype_policy,
                name="source_attention",
            )
            self.source_projection = Projection(
                target_shape[-1],
                trainable_encoding=self.trainable_encoding,
                name="source_projection",
                **settings,
            )
            self.source_projection.build(target_shape)
        self.source_attention.build(target_shape, source_shape)
        self.feed_forward_norm = self._normalization("feed_forward_norm")
        self.feed_forward = QuantumFeedForward(self.mlp_dim, name="feed_forward", **settings)
        for layer in (
            self.attention_norm,
            self.attention,
            self.source_norm,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            layer.build(target_shape)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def _normalization(self, name: str) -> keras.layers.LayerNormalization:
        return keras.layers.LayerNormalization(
            epsilon=self.epsilon, dtype=self.dtype_policy, name=name
        )

    def set_engine(self, engine: str) -> None:
        """Computes the circuits by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built:
            self.attention.set_engine(engine)
            cross = (
                self.source_attention if self.project_cross_attention else self.source_projection
            )
            cross.set_engine(engine)
            self.feed_forward.set_engine(engine)
        self.engine = engine

    def call(
        self,
        target: Any,
        source: Any,
        target_mask: Any = None,
        source_mask: Any = None,
        training: bool | None = None,
    ) -> Any:
        branch = self.attention(
            self.attention_norm(target), query_mask=target_mask, training=training
        )
        outputs = target + self.dropout_layer(branch, training=training)
        queries = self.source_norm(outputs)
        if self.project_cross_attention:
            branch = self.source_attention(
                queries, source, value_mask=source_mask, training=training
            )
        else:
            branch = self.source_attention(
                queries, source, source_mask=source_mask, training=training
            )
            branch = self.source_projection(branch)
        outputs = outputs + self.dropout_layer(branch, training=training)
        branch = self.feed_forward(self.feed_forward_norm(outputs))
        return outputs + self.dropout_layer(branch, training=training)

    def compute_output_shape(self, target_shape: Shape, source_shape: Shape) -> Shape:
        return tuple(target_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "variant": self.variant,
            "project_cross_attention": self.project_cross_attention,
            "quantum": self.quantum,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }
