"""Multi-head attention whose four projections are circuits."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

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

Shape = tuple[int | None, ...]


def attention_softmax(policy: keras.DTypePolicy) -> keras.layers.Softmax:
    """Returns the softmax of attention scores, which never computes in half precision."""
    half = policy.compute_dtype in ("float16", "bfloat16")
    return keras.layers.Softmax(dtype="float32" if half else policy, name="softmax")


def split_heads(features: Any, num_heads: int, key_dim: int) -> Any:
    """Slices features into heads: `(B, T, num_heads * key_dim)` to `(B, num_heads, T, key_dim)`."""
    shape = (-1, ops.shape(features)[1], num_heads, key_dim)
    return ops.transpose(ops.reshape(features, shape), (0, 2, 1, 3))


def merge_heads(heads: Any) -> Any:
    """Undoes `split_heads`."""
    _, num_heads, length, key_dim = ops.shape(heads)
    return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, length, num_heads * key_dim))


def attend(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float,
    softmax: keras.layers.Softmax,
    dropout: keras.layers.Dropout,
    bias: Any = None,
    mask: Any = None,
    training: bool | None = None,
) -> tuple[Any, Any]:
    """Returns `softmax(scale * query key^T + bias) value` over the last axes, and the softmax."""
    scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
    if bias is not None:
        scores = scores + ops.cast(bias, scores.dtype)
    weights = ops.cast(softmax(scores, mask=mask), value.dtype)
    return ops.matmul(dropout(weights, training=training), value), weights


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QuantumMultiHeadAttention(keras.layers.Layer):
    """Multi-head attention whose query, key, value and output projections are circuits.

    `MHSA(q, k, v) = P_o(concat_i softmax(P_q(q)_i P_k(k)_i^T / sqrt(key_dim)) P_v(v)_i)`

    where each `P` is an independent circuit on `num_heads * key_dim` qubits, one a feature, that
    every token passes by itself, and `i` counts the heads, which are slices of the features after
    the projection. Source: Comajoan Cara et al., *Quantum vision transformers for quark-gluon
    classification*, Axioms 2024.

    The arguments are those of `keras.layers.MultiHeadAttention`; the width of all inputs is
    `num_heads * key_dim`, because a circuit has as many outputs as inputs.

    Args:
        num_heads: Number of heads.
        key_dim: Features of one head.
        quantum: `False` for the classical twin: four `Dense` layers.
        template: Name of a circuit template, or a `CircuitSpec` of `num_heads * key_dim` inputs
            and observables.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether Dense layers make the angles that the circuits encode, see
            `Projection`; otherwise features are angles.
        engine: Engine that computes the circuits.
        dropout: Rate of dropout on the attention weights.
        qkv_bias: Whether the twin's query, key and value have biases; its output has one.
        scale: What the products of queries and keys are multiplied by; `key_dim**-0.5` by default.

    Call arguments:
        query: Tensor of shape `(B, T, num_heads * key_dim)`, radians.
        value: Tensor of shape `(B, S, num_heads * key_dim)`; `query` by default (self-attention,
            which evaluates the three input projections in one call).
        key: Tensor of the shape of `value`; `value` by default.
        query_mask: Boolean tensor of shape `(B, T)`, `False` at padding; also `value_mask` and
            `key_mask` of shape `(B, S)`. By default the masks attached to the inputs.
        attention_mask: Boolean tensor of shape `(B, T, S)`, or `(B, num_heads, T, S)`.
        attention_bias: Added to the scores before the softmax, of shape `(num_heads, T, S)`.
        use_causal_mask: Whether a token may attend only to itself and those before it.
        return_attention_scores: Whether to return the attention weights too.
        training: Whether dropout is applied.

    Returns:
        A tensor of shape `(B, T, num_heads * key_dim)`, in [-1, 1] for the templates; with
        `return_attention_scores=True` also one of shape `(B, num_heads, T, S)`, in [0, 1].

    Raises:
        ValueError: If a width is not `num_heads * key_dim`, or `key` comes without `value`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import QuantumMultiHeadAttention
    >>> layer = QuantumMultiHeadAttention(num_heads=2, key_dim=3)
    >>> layer(np.zeros((8, 4, 6))).shape, layer.count_params()
    (TensorShape([8, 4, 6]), 24)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        *,
        quantum: bool = True,
        template: str | CircuitSpec = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        engine: str = "auto",
        dropout: float = 0.0,
        qkv_bias: bool = True,
        scale: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.key_dim = positive_integer("key_dim", key_dim)
        self.quantum = bool(quantum)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        self.template = read_template(template, self.num_ansatz_layers)
        self.trainable_encoding = bool(trainable_encoding)
        check_engine(engine)
        self.engine = engine
        self.dropout = dropout_rate(dropout)
        self.qkv_bias = bool(qkv_bias)
        self.scale = self.key_dim**-0.5 if scale is None else positive_number("scale", scale)
        self.supports_masking = True

    @property
    def hidden_dim(self) -> int:
        """Width of the inputs, and qubits of each circuit."""
        return self.num_heads * self.key_dim

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> None:
        self._check_shapes(query_shape, value_shape, key_shape)
        settings = {
            "quantum": self.quantum,
            "template": self.template,
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
            "dtype": self.dtype_policy,
        }
        self.input_projection = Projection(
            self.hidden_dim, copies=3, use_bias=self.qkv_bias, name="query_key_value", **settings
        )
        self.input_projection.build(query_shape)
        self.output_projection = Projection(self.hidden_dim, name="output", **settings)
        self.output_projection.build(query_shape)
        self.softmax = attention_softmax(self.dtype_policy)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.built = True

    def _check_shapes(self, query: Shape, value: Shape | None, key: Shape | None) -> None:
        shapes = {"query": query, "value": value, "key": key}
        for name, shape in shapes.items():
            if shape is None:
                continue
            if len(shape) != 3 or shape[-1] != self.hidden_dim:
                raise ValueError(
                    f"`{name}` must have the shape (batch, tokens, num_heads * key_dim). Received: "
                    f"{name} of shape {tuple(shape)} with num_heads={self.num_heads} and "
                    f"key_dim={self.key_dim}"
                )

    def set_engine(self, engine: str) -> None:
        """Computes the circuits by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built:
            self.input_projection.set_engine(engine)
            self.output_projection.set_engine(engine)
        self.engine = engine

    def call(
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        attention_bias: Any = None,
        training: bool | None = None,
    ) -> Any:
        if query_mask is None:
            # Keras fills this argument in only where there are several inputs.
            query_mask = getattr(query, "_keras_mask", None)
        if value is None:
            if key is not None:
                raise ValueError("`key` needs a `value` beside it. Received: a key and value=None")
            value, value_mask = query, query_mask if value_mask is None else value_mask
        key = value if key is None else key
        mask = self._attention_mask(
            ops.shape(query)[1],
            ops.shape(value)[1],
            query_mask,
            value_mask,
            key_mask,
            attention_mask,
            use_causal_mask,
        )
        heads, weights = attend(
            *self._project(query, key, value),
            scale=self.scale,
            softmax=self.softmax,
            dropout=self.dropout_layer,
            bias=attention_bias,
            mask=mask,
            training=training,
        )
        outputs = self.output_projection(merge_heads(heads))
        return (outputs, weights) if return_attention_scores else outputs

    def _project(self, query: Any, key: Any, value: Any) -> list[Any]:
        """Projects the inputs, and splits them into heads: three of `(B, heads, T, key_dim)`."""
        if query is key and key is value:
            shape = (-1, ops.shape(query)[1], 3, self.num_heads, self.key_dim)
            projected = ops.reshape(self.input_projection(query), shape)
            return ops.unstack(ops.transpose(projected, (2, 0, 3, 1, 4)), num=3, axis=0)
        if key is value:
            queries = self.input_projection.project(query, slice(0, 1))
            keys_and_values = self.input_projection.project(value, slice(1, 3))
            projected = [queries[:, :, 0], keys_and_values[:, :, 0], keys_and_values[:, :, 1]]
        else:
            projected = [
                self.input_projection.project(inputs, slice(copy, copy + 1))[:, :, 0]
                for copy, inputs in enumerate((query, key, value))
            ]
        return [split_heads(features, self.num_heads, self.key_dim) for features in projected]

    def _attention_mask(
        self,
        query_length: Any,
        value_length: Any,
        query_mask: Any,
        value_mask: Any,
        key_mask: Any,
        attention_mask: Any,
        use_causal_mask: bool,
    ) -> Any:
        """Joins all masks by "and" into one that fits `(B, num_heads, T, S)`; `None` for none."""
        masks = []
        if query_mask is not None:
            masks.append(ops.cast(query_mask, "bool")[:, None, :, None])
        for mask in (value_mask, key_mask):
            if mask is not None:
                masks.append(ops.cast(mask, "bool")[:, None, None, :])
        if attention_mask is not None:
            mask = ops.cast(attention_mask, "bool")
            masks.append(mask if len(mask.shape) == 4 else mask[:, None])
        if use_causal_mask:
            rows = ops.arange(query_length)[:, None]
            masks.append((rows >= ops.arange(value_length)[None])[None, None])
        if not masks:
            return None
        joined = masks[0]
        for mask in masks[1:]:
            joined = ops.logical_and(joined, mask)
        return joined

    def compute_output_shape(
        self,
        query_shape: Shape,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> Shape:
        return tuple(query_shape)

    def compute_output_spec(
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        return_attention_scores: bool = False,
        **kwargs: Any,
    ) -> Any:
        outputs = keras.KerasTensor(query.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        source = query if value is None else value
        shape = (query.shape[0], self.num_heads, query.shape[1], source.shape[1])
        return outputs, keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "quantum": self.quantum,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
            "dropout": self.dropout,
            "qkv_bias": self.qkv_bias,
            "scale": self.scale,
        }
