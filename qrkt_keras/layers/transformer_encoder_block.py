"""The encoder block of a quantum transformer."""

from __future__ import annotations

from typing import Any

import keras

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine
from qrkt_keras.layers.projection import (
    dropout_rate,
    positive_integer,
    positive_number,
    read_template,
    template_config,
)
from qrkt_keras.layers.quantum_feed_forward import QuantumFeedForward
from qrkt_keras.layers.quantum_multi_head_attention import QuantumMultiHeadAttention
from qrkt_keras.layers.relative_position_bias import RelativePositionBias
from qrkt_keras.layers.token_noise import TokenNoise

EPSILON = 1e-6


def head_width(num_heads: int, input_shape: tuple[int | None, ...]) -> int:
    """Returns the features of one head, or refuses a width that the heads do not divide."""
    if len(input_shape) != 3 or input_shape[-1] is None:
        raise ValueError(
            "A transformer block takes (batch, tokens, features), features of known number. "
            f"Received: input shape {tuple(input_shape)}"
        )
    hidden_dim = input_shape[-1]
    if hidden_dim % num_heads:
        raise ValueError(
            "`num_heads` must divide the width of the tokens. "
            f"Received: num_heads={num_heads} with hidden_dim={hidden_dim}"
        )
    return hidden_dim // num_heads


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TransformerEncoderBlock(keras.layers.Layer):
    """Self-attention and feed-forward, each normalised before and added after.

    `y <- y + Drop(MHSA(LN y))`, then `y <- y + Drop(FFN(LN y))`. Sources: Xiong et al. 2020 (the
    order); Comajoan Cara et al., Axioms 2024 (the circuits); Jiang et al., *TransGAN*, NeurIPS
    2021 (window, noise).

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        mlp_dim: Width inside the feed-forward part.
        quantum: `False` for the classical twin.
        template: Name of a circuit template, or a `CircuitSpec` that fits both widths.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether Dense layers make the angles that the circuits encode, see
            `Projection`; otherwise features are angles.
        engine: Engine that computes the circuits.
        dropout: Rate of dropout on the attention weights and on both branches.
        epsilon: Of the layer normalisations.
        qkv_bias: Whether the twin's query, key and value have biases.
        scale: Of the attention scores; by default the head's width to the power -1/2.
        approximate: Whether GELU is its tanh approximation.
        window: Side of the square of tokens that a `RelativePositionBias` serves; None for none.
        token_noise: Whether `TokenNoise` is added before attention, at evaluation too.

    Call arguments:
        inputs: Tensor of shape `(B, T, hidden_dim)`, with T = `window**2` if there is one.
        mask: Boolean tensor of shape `(B, T)`, `False` at padding; by default the mask attached
            to the inputs.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, hidden_dim)`.

    Raises:
        ValueError: If `num_heads` does not divide the width of the tokens.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import TransformerEncoderBlock
    >>> layer = TransformerEncoderBlock(num_heads=2, mlp_dim=3)
    >>> layer(np.zeros((8, 4, 6))).shape, layer.count_params()
    (TensorShape([8, 4, 6]), 96)
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        *,
        quantum: bool = True,
        template: str | CircuitSpec = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        engine: str = "auto",
        dropout: float = 0.0,
        epsilon: float = EPSILON,
        qkv_bias: bool = True,
        scale: float | None = None,
        approximate: bool = True,
        window: int | None = None,
        token_noise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.quantum = bool(quantum)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        self.template = read_template(template, self.num_ansatz_layers)
        self.trainable_encoding = bool(trainable_encoding)
        check_engine(engine)
        self.engine = engine
        self.dropout = dropout_rate(dropout)
        self.epsilon = positive_number("epsilon", epsilon)
        self.qkv_bias = bool(qkv_bias)
        self.scale = None if scale is None else positive_number("scale", scale)
        self.approximate = bool(approximate)
        self.window = None if window is None else positive_integer("window", window)
        self.token_noise = bool(token_noise)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        key_dim = head_width(self.num_heads, input_shape)
        settings = {
            "quantum": self.quantum,
            "template": self.template,
            "num_ansatz_layers": self.num_ansatz_layers,
            "engine": self.engine,
            "dtype": self.dtype_policy,
        }
        self.attention_norm = self._normalization("attention_norm")
        self.attention = QuantumMultiHeadAttention(
            self.num_heads,
            key_dim,
            trainable_encoding=self.trainable_encoding,
            dropout=self.dropout,
            qkv_bias=self.qkv_bias,
            scale=self.scale,
            name="attention",
            **settings,
        )
        self.feed_forward_norm = self._normalization("feed_forward_norm")
        self.feed_forward = QuantumFeedForward(
            self.mlp_dim, approximate=self.approximate, name="feed_forward", **settings
        )
        for layer in (
            self.attention_norm,
            self.attention,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            layer.build(input_shape)
        if self.token_noise:
            self.noise = TokenNoise(dtype=self.dtype_policy, name="noise")
            self.noise.build(input_shape)
        if self.window is not None:
            self.position_bias = RelativePositionBias(
                self.num_heads, self.window, dtype=self.dtype_policy, name="position_bias"
            )
            self.position_bias.build(input_shape)
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
            self.feed_forward.set_engine(engine)
        self.engine = engine

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        branch = self.attention_norm(inputs)
        if self.token_noise:
            branch = self.noise(branch)
        branch = self.attention(
            branch,
            query_mask=mask,
            attention_bias=None if self.window is None else self.position_bias(inputs),
            training=training,
        )
        outputs = inputs + self.dropout_layer(branch, training=training)
        branch = self.feed_forward(self.feed_forward_norm(outputs))
        return outputs + self.dropout_layer(branch, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "quantum": self.quantum,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "qkv_bias": self.qkv_bias,
            "scale": self.scale,
            "approximate": self.approximate,
            "window": self.window,
            "token_noise": self.token_noise,
        }
