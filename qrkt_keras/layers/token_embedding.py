"""Words to tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import dropout_rate, positive_integer, positive_number


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TokenEmbedding(keras.layers.Layer):
    """Embeds the numbers of words, and adds learned positions.

    `t_k = Drop(E[i_k] + p_k)` with both tables drawn from a normal distribution, by default of
    standard deviation `1 / sqrt(hidden_dim)`. Source: Comajoan Cara et al., *Quantum vision
    transformers for quark-gluon classification*, Axioms 2024.

    Args:
        vocab_size: How many numbers there are; 0 is padding.
        max_length: The most words of a text.
        hidden_dim: Width of a token.
        dropout: Rate of dropout on the sum.
        stddev: Standard deviation of the tables as they are drawn. Most words of a language are
            rare, and what training hardly changes is noise: a small one makes it small.

    Call arguments:
        inputs: Integers in `0 ... vocab_size - 1`, of shape `(B, T)` with T at most `max_length`.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, hidden_dim)`. It carries no mask: what masks is told it.

    Raises:
        ValueError: If the input is not such integers, or longer.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import TokenEmbedding
    >>> layer = TokenEmbedding(vocab_size=100, max_length=16, hidden_dim=6)
    >>> layer(np.zeros((2, 9), "int32")).shape, layer.count_params()
    (TensorShape([2, 9, 6]), 696)
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        hidden_dim: int,
        *,
        dropout: float = 0.0,
        stddev: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size = positive_integer("vocab_size", vocab_size)
        self.max_length = positive_integer("max_length", max_length)
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.dropout = dropout_rate(dropout)
        self.stddev = None if stddev is None else positive_number("stddev", stddev)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2 or (input_shape[1] or 0) > self.max_length:
            raise ValueError(
                f"'{self.name}' takes (batch, words), at most {self.max_length} words. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.embedding = keras.layers.Embedding(
            self.vocab_size,
            self.hidden_dim,
            embeddings_initializer=self._initializer(),
            dtype=self.dtype_policy,
            name="embedding",
        )
        self.embedding.build(input_shape)
        self.positions = self.add_weight(
            shape=(self.max_length, self.hidden_dim),
            initializer=self._initializer(),
            name="positions",
        )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def _initializer(self) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=self.stddev or self.hidden_dim**-0.5)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        tokens = self.embedding(inputs) + self.positions[: ops.shape(inputs)[1]]
        return self.dropout_layer(tokens, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "stddev": self.stddev,
        }
