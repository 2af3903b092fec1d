"""A residual connection that is one step of a Runge-Kutta method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from qrkt_keras import solvers
from qrkt_keras.solvers import ButcherTableau

RESIDUALS = ("identity", "normalized")

Shape = tuple[int | None, ...]


def solver_config(tableau: ButcherTableau) -> str | dict[str, Any]:
    """Returns the name of a known solver, else the tableau itself as JSON data."""
    known = tableau.name in solvers.list() and solvers.get(tableau.name) == tableau
    return tableau.name if known else tableau.get_config()


def _build(layer: keras.layers.Layer, input_shape: Shape, dtype: str) -> None:
    if layer.built:
        return
    if type(layer).build is keras.layers.Layer.build:
        # A layer without a `build` of its own makes its weights where it is called.
        layer(keras.KerasTensor(input_shape, dtype=dtype))
    else:
        layer.build(input_shape)


def _apply(layer: keras.layers.Layer, inputs: Any, training: bool | None, mask: Any) -> Any:
    """Calls a layer with those of `training` and `mask` that it takes."""
    parameters = [*inspect.signature(layer.call).parameters]
    kwargs: dict[str, Any] = {}
    if "training" in parameters:
        kwargs["training"] = training
    if mask is not None:
        # Keras' convention: a layer of several inputs names the mask after the input.
        names = ("mask", f"{parameters[0]}_mask")
        kwargs.update({name: mask for name in names if name in parameters})
    return layer(inputs, **kwargs)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class RungeKuttaResidual(keras.layers.Layer):
    """Adds a function to its input as a Runge-Kutta method would: one step of `dy/dt = F(y)`.

    `F_k = F_k(base + sum_{j<k} a_kj F_j)`,  `output = base + sum_k b_k F_k`

    with the Butcher tableau `a`, `b` of the solver and step size 1. An ordinary residual
    connection is the case `solver="rk1"` (Euler). Sources: Zhong et al. 2022 and Li et al. 2022,
    *ODE Transformer*, arXiv 2203.09176.

    The output rule of `rk2_learned` has one trainable weight a stage, initialised to 1; that of
    `rk2_gated` is `base + g F_1 + (1 - g) F_2` with a scalar a token, `g = sigmoid(W [F_1; F_2] +
    b)`, which has `2 * width + 1` weights.

    Args:
        function: A Keras layer whose output has the shape of its input, evaluated at every stage
            (shared weights); or a list of such layers, one a stage.
        solver: Name of a solver, see `qrkt_keras.solvers.list()`, or a `ButcherTableau`.
        normalization: A Keras layer that comes before the function, or `None`. There is one for
            all stages.
        residual: `"identity"`: `base` is the input `x` and `F_k(u) = f_k(normalization(u))`.
            `"normalized"`: `base` is `normalization(x)` and `F_k(u) = f_k(u)`.

    Call arguments:
        inputs: Tensor of any shape that the function takes.
        training: Passed to the layers whose `call` has it.
        mask: Passed to the layers whose `call` has it; by default the mask attached to the inputs.

    Returns:
        A tensor of the shape of `inputs`.

    Raises:
        TypeError: If a function or the normalization is no Keras layer.
        ValueError: If the number of functions is not that of the stages, the solver or the
            residual is unknown, or a function changes the shape of its input.

    Example:

    >>> import keras, numpy as np
    >>> from qrkt_keras.layers import RungeKuttaResidual
    >>> double = keras.layers.Rescaling(2.0)
    >>> float(RungeKuttaResidual(double, "rk4")(np.ones((1, 1)))[0, 0])  # 1 + 2 + 2 + 4/3 + 2/3
    7.0
    """

    def __init__(
        self,
        function: keras.layers.Layer | Sequence[keras.layers.Layer],
        solver: str | ButcherTableau | Mapping[str, Any] = "rk4",
        normalization: keras.layers.Layer | None = None,
        residual: str = "identity",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tableau = solvers.get(solver)
        self.share_weights = not isinstance(function, list | tuple)
        self.functions = [function] if self.share_weights else [*function]
        self.normalization = normalization
        self.residual = residual
        self.supports_masking = True
        self._check_arguments()

    def _check_arguments(self) -> None:
        for index, function in enumerate(self.functions):
            if not isinstance(function, keras.layers.Layer):
                raise TypeError(
                    "`function` must be a Keras layer or a list of them. "
                    f"Received: {function!r} at index {index}"
                )
            if any(function is other for other in self.functions[:index]):
                raise ValueError(
                    "A list of functions means one a stage, with its own weights; give the layer "
                    f"itself to share them. Received: '{function.name}' twice"
                )
        if not self.share_weights and len(self.functions) != self.tableau.num_stages:
            raise ValueError(
                f"'{self.tableau.name}' has {self.tableau.num_stages} stages and needs as many "
                f"functions, or one for all. Received: {len(self.functions)} functions"
            )
        if self.residual not in RESIDUALS:
            raise ValueError(
                f"`residual` must be one of {RESIDUALS}. Received: residual={self.residual!r}"
            )
        if self.normalization is None and self.residual == "normalized":
            raise ValueError(
                "residual='normalized' needs a normalization. Received: normalization=None"
            )
        if not isinstance(self.normalization, keras.layers.Layer | None):
            raise TypeError(
                f"`normalization` must be a Keras layer. Received: {self.normalization!r}"
            )

    def build(self, input_shape: Shape) -> None:
        if self.normalization is not None:
            _build(self.normalization, input_shape, self.compute_dtype)
        for function in self.functions:
            _build(function, input_shape, self.compute_dtype)
            spec = keras.KerasTensor(input_shape, dtype=self.compute_dtype)
            shape = function.compute_output_spec(spec).shape
            if tuple(shape) != tuple(input_shape):
                raise ValueError(
                    "A function of a residual must keep the shape of its input. Received: "
                    f"'{function.name}' from {tuple(input_shape)} to {tuple(shape)}"
                )
        if self.tableau.output == "learned":
            self.stage_weights = self.add_weight(
                shape=(self.tableau.num_stages,),
                initializer=keras.initializers.Constant([float(b) for b in self.tableau.b]),
                name="stage_weights",
            )
        elif self.tableau.output == "gated":
            self.gate = keras.layers.Dense(
                1,
                activation="sigmoid",
                kernel_initializer="lecun_normal",
                dtype=self.dtype_policy,
                name="gate",
            )
            self.gate.build((*input_shape[:-1], 2 * input_shape[-1]))
        self.built = True

    def set_engine(self, engine: str) -> None:
        """Computes the circuits of the functions by another engine; no weight changes."""
        for function in self.functions:
            if hasattr(function, "set_engine"):
                function.set_engine(engine)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        def apply(layer: keras.layers.Layer, tensor: Any) -> Any:
            # A function may compute in another type than the residual.
            return ops.cast(_apply(layer, tensor, training, mask), self.compute_dtype)

        def normalize(tensor: Any) -> Any:
            return tensor if self.normalization is None else apply(self.normalization, tensor)

        def function(stage: int, tensor: Any) -> Any:
            if self.residual == "identity":
                tensor = normalize(tensor)
            return apply(self.functions[0 if self.share_weights else stage], tensor)

        base = inputs if self.residual == "identity" else normalize(inputs)
        values = solvers.stages(self.tableau, function, base)
        if self.tableau.output == "learned":
            for stage, value in enumerate(values):
                base = base + self.stage_weights[stage] * value
            return base
        if self.tableau.output == "gated":
            first, second = values
            gate = self.gate(ops.concatenate([first, second], axis=-1))
            return base + second + gate * (first - second)
        return solvers.combine(self.tableau, base, values)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        functions = [serialize(function) for function in self.functions]
        return {
            **super().get_config(),
            "function": functions[0] if self.share_weights else functions,
            "solver": solver_config(self.tableau),
            "normalization": serialize(self.normalization),
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RungeKuttaResidual:
        deserialize = keras.saving.deserialize_keras_object
        function = config["function"]
        return cls(
            **{
                **config,
                "function": [deserialize(one) for one in function]
                if isinstance(function, list)
                else deserialize(function),
                "normalization": deserialize(config["normalization"]),
            }
        )
