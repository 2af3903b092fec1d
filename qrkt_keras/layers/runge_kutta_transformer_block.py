"""A transformer block that is one Runge-Kutta step of `dy/dt = attention(y) + feed_forward(y)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from qrkt_keras import solvers
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
from qrkt_keras.layers.runge_kutta_residual import RESIDUALS, RungeKuttaResidual, solver_config
from qrkt_keras.layers.transformer_encoder_block import EPSILON, head_width
from qrkt_keras.solvers import ButcherTableau


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TransformerVectorField(keras.layers.Layer):
    """Attention and feed-forward in parallel: `F(u) = Drop(MHSA(u)) + Drop(FFN(u))`.

    What `RungeKuttaTransformerBlock` integrates, at one stage or at all. Source: Zhong et al.
    2022.

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
        qkv_bias: Whether the twin's query, key and value have biases.
        scale: Of the attention scores; by default the head's width to the power -1/2.
        approximate: Whether GELU is its tanh approximation.

    Call arguments:
        inputs: Tensor of shape `(B, T, hidden_dim)`.
        mask: Boolean tensor of shape `(B, T)`, `False` at padding.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, hidden_dim)`.

    Raises:
        ValueError: If `num_heads` does not divide the width of the tokens.
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
        qkv_bias: bool = True,
        scale: float | None = None,
        approximate: bool = True,
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
        self.qkv_bias = bool(qkv_bias)
        self.scale = None if scale is None else positive_number("scale", scale)
        self.approximate = bool(approximate)
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
        self.attention.build(input_shape)
        self.feed_forward = QuantumFeedForward(
            self.mlp_dim, approximate=self.approximate, name="feed_forward", **settings
        )
        self.feed_forward.build(input_shape)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def set_engine(self, engine: str) -> None:
        """Computes the circuits by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built:
            self.attention.set_engine(engine)
            self.feed_forward.set_engine(engine)
        self.engine = engine

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        attended = self.attention(inputs, query_mask=mask, training=training)
        fed_forward = self.feed_forward(inputs)
        return self.dropout_layer(attended, training=training) + self.dropout_layer(
            fed_forward, training=training
        )

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
            "qkv_bias": self.qkv_bias,
            "scale": self.scale,
            "approximate": self.approximate,
        }


@keras.saving.register_keras_serializable(package="qrkt_keras")
class RungeKuttaTransformerBlock(keras.layers.Layer):
    """A transformer layer read as one step of an ordinary differential equation.

    `dy/dt = F(y)`, `F_k(u) = Drop(A_k(LN u)) + Drop(H_k(LN u))`, solved by a Runge-Kutta method
    with step size 1, where `A_k` is attention and `H_k` is feed-forward at stage `k`, and one
    layer normalisation serves all stages. Sources: Zhong et al. 2022; C.-A. Ripanu,
    *QRKT-GAN*, UPB Bucharest 2024; see `RungeKuttaResidual`.

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        mlp_dim: Width inside the feed-forward part.
        solver: Name of a solver, see `qrkt_keras.solvers.list()`, or a `ButcherTableau`.
        share_weights: Whether one `A` and one `H` serve all stages, which makes the block a real
            step of a solver; otherwise each stage has its own.
        residual: `"identity"`: the step starts from the input `x`. `"normalized"`: it starts from
            `LN x`, and the stages are not normalised again (the code of the thesis).
        quantum: `False` for the classical twin.
        template: Name of a circuit template, or a `CircuitSpec` that fits both widths.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether Dense layers make the angles that the circuits encode, see
            `Projection`; otherwise features are angles.
        engine: Engine that computes the circuits.
        dropout: Rate of dropout on the attention weights and on both branches of each stage.
        epsilon: Of the layer normalisation.
        qkv_bias: Whether the twin's query, key and value have biases.
        scale: Of the attention scores; by default the head's width to the power -1/2.
        approximate: Whether GELU is its tanh approximation.

    Call arguments:
        inputs: Tensor of shape `(B, T, hidden_dim)`.
        mask: Boolean tensor of shape `(B, T)`, `False` at padding; by default the mask attached
            to the inputs.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, hidden_dim)`.

    Raises:
        ValueError: If `num_heads` does not divide the width of the tokens, or the solver or the
            residual is unknown.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import RungeKuttaTransformerBlock
    >>> layer = RungeKuttaTransformerBlock(num_heads=2, mlp_dim=3, solver="rk4")
    >>> layer(np.zeros((8, 4, 6))).shape, layer.count_params()
    (TensorShape([8, 4, 6]), 300)
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        solver: str | ButcherTableau | Mapping[str, Any] = "rk4",
        *,
        share_weights: bool = False,
        residual: str = "identity",
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.tableau = solvers.get(solver)
        self.share_weights = bool(share_weights)
        if residual not in RESIDUALS:
            raise ValueError(
                f"`residual` must be one of {RESIDUALS}. Received: residual={residual!r}"
            )
        self.residual = residual
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
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        head_width(self.num_heads, input_shape)
        functions = [
            self._vector_field(stage)
            for stage in range(1 if self.share_weights else self.tableau.num_stages)
        ]
        self.step = RungeKuttaResidual(
            functions[0] if self.share_weights else functions,
            solver=self.tableau,
            normalization=keras.layers.LayerNormalization(
                epsilon=self.epsilon, dtype=self.dtype_policy, name="normalization"
            ),
            residual=self.residual,
            dtype=self.dtype_policy,
            name="step",
        )
        self.step.build(input_shape)
        self.built = True

    def _vector_field(self, stage: int) -> TransformerVectorField:
        return TransformerVectorField(
            self.num_heads,
            self.mlp_dim,
            quantum=self.quantum,
            template=self.template,
            num_ansatz_layers=self.num_ansatz_layers,
            trainable_encoding=self.trainable_encoding,
            engine=self.engine,
            dropout=self.dropout,
            qkv_bias=self.qkv_bias,
            scale=self.scale,
            approximate=self.approximate,
            dtype=self.dtype_policy,
            name=f"stage_{stage + 1}",
        )

    def set_engine(self, engine: str) -> None:
        """Computes the circuits by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built:
            self.step.set_engine(engine)
        self.engine = engine

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        return self.step(inputs, mask=mask, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "solver": solver_config(self.tableau),
            "share_weights": self.share_weights,
            "residual": self.residual,
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
        }
