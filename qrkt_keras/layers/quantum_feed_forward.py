"""The feed-forward part of a quantum transformer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine
from qrkt_keras.layers.pqc import PQC
from qrkt_keras.layers.projection import (
    IDENTITY,
    circuit_of_width,
    positive_integer,
    read_template,
    template_config,
)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QuantumFeedForward(keras.layers.Layer):
    """Two Dense layers with a circuit and a GELU between them, applied to each token.

    `FFN(u) = GELU(<O>(u W_1 + b_1, theta)) W_2 + b_2`

    where the circuit has `mlp_dim` qubits. Source: Comajoan Cara et al., *Quantum vision
    transformers for quark-gluon classification*, Axioms 2024.

    Args:
        mlp_dim: Qubits of the circuit, the width between the two Dense layers.
        quantum: `False` for the classical twin, which has no circuit.
        template: Name of a circuit template, or a `CircuitSpec` of `mlp_dim` inputs and
            observables; `"identity"` for none, a control.
        num_ansatz_layers: Layers of the template.
        engine: Engine that computes the circuit.
        approximate: Whether GELU is its tanh approximation (classifiers) or exact (GANs).

    Call arguments:
        inputs: Tensor of shape `(..., hidden_dim)`.

    Returns:
        A tensor of shape `(..., hidden_dim)`.

    Raises:
        ValueError: If the circuit has not `mlp_dim` inputs and observables.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import QuantumFeedForward
    >>> layer = QuantumFeedForward(mlp_dim=3)
    >>> layer(np.zeros((8, 4, 6))).shape, layer.count_params()
    (TensorShape([8, 4, 6]), 48)
    """

    def __init__(
        self,
        mlp_dim: int,
        *,
        quantum: bool = True,
        template: str | CircuitSpec = "ry_ring",
        num_ansatz_layers: int = 1,
        engine: str = "auto",
        approximate: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.quantum = bool(quantum)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        self.template = read_template(template, self.num_ansatz_layers)
        check_engine(engine)
        self.engine = engine
        self.approximate = bool(approximate)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        middle_shape = (*input_shape[:-1], self.mlp_dim)
        self.expand = self._dense(self.mlp_dim, "expand")
        self.expand.build(input_shape)
        self.pqc = None
        if self.quantum and self.template != IDENTITY:
            spec = circuit_of_width(self.template, self.mlp_dim, self.num_ansatz_layers)
            self.pqc = PQC(spec, engine=self.engine, dtype=self.dtype_policy, name="pqc")
            self.pqc.build(middle_shape)
        self.contract = self._dense(input_shape[-1], "contract")
        self.contract.build(middle_shape)
        self.built = True

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units, kernel_initializer="lecun_normal", dtype=self.dtype_policy, name=name
        )

    def set_engine(self, engine: str) -> None:
        """Computes the circuit by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built and self.pqc is not None:
            self.pqc.set_engine(engine)
        self.engine = engine

    def call(self, inputs: Any) -> Any:
        features = self.expand(inputs)
        if self.pqc is not None:
            features = self.pqc(features)
        return self.contract(ops.gelu(features, approximate=self.approximate))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "quantum": self.quantum,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "engine": self.engine,
            "approximate": self.approximate,
        }
