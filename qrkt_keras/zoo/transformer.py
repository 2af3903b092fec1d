"""The blocks between a classifier's embedding and its last Dense layer: arguments, and layers."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras import solvers
from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine, make_engine
from qrkt_keras.layers import (
    RungeKuttaTransformerBlock,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from qrkt_keras.layers.projection import (
    IDENTITY,
    circuit_of_width,
    dropout_rate,
    positive_integer,
    positive_number,
    read_template,
    template_config,
)
from qrkt_keras.layers.runge_kutta_residual import RESIDUALS, solver_config
from qrkt_keras.layers.source_attention import VARIANTS
from qrkt_keras.solvers import ButcherTableau

# C.-A. Ripanu, QRKT-GAN, 2024: what its text says, and what its code does.
RESIDUAL_OF_VARIANT = {"corrected": "identity", "thesis": "normalized"}

Solver = str | ButcherTableau | Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class Transformer:
    """Arguments of a classifier's blocks, checked, and the blocks that they make.

    The fields are arguments of `QViT` and `QText`, and documented there.
    """

    hidden_dim: int
    num_heads: int
    mlp_dim: int
    num_encoder_blocks: int
    num_ode_blocks: int
    num_decoder_blocks: int
    solver: Solver | Sequence[Solver]
    share_weights: bool
    residual: str | None
    variant: str
    project_cross_attention: bool
    attention_scale: float | None
    quantum: bool
    template: str | CircuitSpec | Mapping[str, str]
    num_ansatz_layers: int
    trainable_encoding: bool
    trainable_circuits: bool
    engine: str
    dropout: float
    epsilon: float

    def __post_init__(self) -> None:
        self.hidden_dim = positive_integer("hidden_dim", self.hidden_dim)
        if self.hidden_dim < 2:
            raise ValueError(
                "`hidden_dim` must be at least 2: the normalisation of a single feature is always "
                f"0. Received: hidden_dim={self.hidden_dim}"
            )
        self.num_heads = positive_integer("num_heads", self.num_heads)
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide `hidden_dim`. "
                f"Received: num_heads={self.num_heads} with hidden_dim={self.hidden_dim}"
            )
        self.mlp_dim = positive_integer("mlp_dim", self.mlp_dim)
        for name in ("num_encoder_blocks", "num_ode_blocks", "num_decoder_blocks"):
            setattr(self, name, _count(name, getattr(self, name)))
        self._tableaus = _solver_of_block(self.solver, self.num_ode_blocks)
        self.solver = _solver_config(self.solver)
        for name in (
            "share_weights",
            "project_cross_attention",
            "quantum",
            "trainable_encoding",
            "trainable_circuits",
        ):
            setattr(self, name, flag(name, getattr(self, name)))
        choice("variant", self.variant, VARIANTS)
        if self.residual is not None:
            choice("residual", self.residual, RESIDUALS)
        if self.attention_scale is not None:
            self.attention_scale = positive_number("attention_scale", self.attention_scale)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", self.num_ansatz_layers)
        self.template = read_template(self.template, self.num_ansatz_layers)
        check_engine(self.engine)
        self.dropout = dropout_rate(self.dropout)
        self.epsilon = positive_number("epsilon", self.epsilon)
        self.specs = {}
        if self.quantum and self.template != IDENTITY:
            for part, width in (("attention", self.hidden_dim), ("feed_forward", self.mlp_dim)):
                self.specs[part] = circuit_of_width(self.template, width, self.num_ansatz_layers)
                make_engine(self.specs[part], self.engine)

    @property
    def projections_per_token(self) -> int:
        """How many circuits one token passes: five a block and stage, and one more in decoders."""
        if not self.specs:
            return 0
        stages = sum(tableau.num_stages for tableau in self._tableaus)
        in_decoder = 9 if self.project_cross_attention else 6
        return 5 * (self.num_encoder_blocks + stages) + in_decoder * self.num_decoder_blocks

    def encode(self, tokens: Any, dtype: keras.DTypePolicy, mask: Any = None) -> Any:
        """Encoder and Runge-Kutta blocks, and the normalisation after them."""
        for block in range(self.num_encoder_blocks):
            layer = TransformerEncoderBlock(
                self.num_heads,
                self.mlp_dim,
                scale=self.attention_scale,
                name=f"encoder_{block + 1}",
                **self._settings(dtype),
            )
            tokens = layer(tokens, mask=mask)
        for block, tableau in enumerate(self._tableaus):
            layer = RungeKuttaTransformerBlock(
                self.num_heads,
                self.mlp_dim,
                solver=tableau,
                scale=self.attention_scale,
                share_weights=self.share_weights,
                residual=self.residual or RESIDUAL_OF_VARIANT[self.variant],
                name=f"ode_{block + 1}",
                **self._settings(dtype),
            )
            tokens = layer(tokens, mask=mask)
        return self.normalization("source_normalization", dtype)(tokens)

    def decode(self, tokens: Any, memory: Any, dtype: keras.DTypePolicy, mask: Any = None) -> Any:
        """Decoder blocks, in which the target attends to the memory; both have the same mask."""
        for block in range(self.num_decoder_blocks):
            layer = TransformerDecoderBlock(
                self.num_heads,
                self.mlp_dim,
                variant=self.variant,
                project_cross_attention=self.project_cross_attention,
                name=f"decoder_{block + 1}",
                **self._settings(dtype),
            )
            tokens = layer(tokens, memory, target_mask=mask, source_mask=mask)
        return tokens

    def normalization(self, name: str, dtype: keras.DTypePolicy) -> keras.layers.LayerNormalization:
        """A normalisation as that of the blocks, outside them."""
        return keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=dtype, name=name)

    def _settings(self, dtype: keras.DTypePolicy) -> dict[str, Any]:
        return {
            "quantum": self.quantum,
            "template": self.template,
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "dtype": dtype,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments as JSON data."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **config,
            "solver": listed(self.solver),
            "template": template_config(self.template),
        }


def listed(value: Any) -> Any:
    """A tuple as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def flag(name: str, value: Any) -> bool:
    """Returns `value` as a bool, or refuses it in the words of the argument `name`."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns `value`, or refuses what is none of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(f"`{name}` must be an integer of at least 0. Received: {name}={value!r}")
    return int(value)


def _solver_of_block(solver: Any, num_ode_blocks: int) -> list[ButcherTableau]:
    if not isinstance(solver, list | tuple):
        return [solvers.get(solver)] * num_ode_blocks
    if len(solver) != num_ode_blocks:
        raise ValueError(
            "A list of solvers must have one a Runge-Kutta block. "
            f"Received: {len(solver)} solvers with num_ode_blocks={num_ode_blocks}"
        )
    return [solvers.get(one) for one in solver]


def _solver_config(solver: Any) -> Any:
    if isinstance(solver, list | tuple):
        return tuple(solver_config(solvers.get(one)) for one in solver)
    return solver_config(solvers.get(solver))
