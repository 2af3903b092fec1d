"""What attention projects with: circuits, or the Dense layer that is their classical twin."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import check_engine
from qrkt_keras.layers.pqc import PQC

# In the place of a template's name: no circuit, features pass as they are. A control.
IDENTITY = "identity"


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int, or refuses it in the words of the argument `name`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def whole_number(name: str, value: Any) -> int:
    """Returns `value` as an int, or refuses it in the words of the argument `name`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(
            f"`{name}` must be a whole number of 0 or more. Received: {name}={value!r}"
        )
    return int(value)


def positive_number(name: str, value: Any) -> float:
    """Returns `value` as a float, or refuses it in the words of the argument `name`."""
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not good or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a positive number. Received: {name}={value!r}")
    return float(value)


def dropout_rate(value: Any) -> float:
    """Returns a dropout rate as a float, or refuses it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1. Received: dropout={value!r}")
    return float(value)


def read_template(
    template: str | CircuitSpec | Mapping[str, str], num_ansatz_layers: int
) -> str | CircuitSpec:
    """Returns a template's name, or the circuit given in its place (itself or its config).

    `IDENTITY` counts as a name.

    Raises:
        ValueError: If there is no template of that name, or not with so many layers.
        TypeError: If it is neither a name nor a circuit.
    """
    if isinstance(template, str):
        if template != IDENTITY:
            templates.get(template, 1, num_layers=num_ansatz_layers)
        return template
    if isinstance(template, Mapping) and set(template) == {"circuit_spec"}:
        return CircuitSpec.from_json(template["circuit_spec"])
    if isinstance(template, CircuitSpec):
        return template
    raise TypeError(
        "`template` must be the name of a template or a CircuitSpec. "
        f"Received: {template!r} of type {type(template).__name__}"
    )


def template_config(template: str | CircuitSpec) -> str | dict[str, str]:
    """Returns what `read_template` reads back, as JSON data."""
    return template if isinstance(template, str) else {"circuit_spec": template.to_json()}


def circuit_of_width(
    template: str | CircuitSpec, width: int, num_ansatz_layers: int = 1
) -> CircuitSpec:
    """Returns the circuit that maps `width` features to `width` features.

    Args:
        template: Name of a template, or a `CircuitSpec` to be used as it is.
        width: Number of inputs, and of observables.
        num_ansatz_layers: Layers of the template; a `CircuitSpec` has its own.

    Raises:
        ValueError: If the circuit has not `width` inputs and `width` observables.
    """
    spec = template
    if isinstance(template, str):
        spec = templates.get(template, width, num_layers=num_ansatz_layers)
    if (spec.num_inputs, spec.num_observables) != (width, width):
        raise ValueError(
            f"A circuit in this place must take {width} inputs and have {width} observables. "
            f"Received: {spec.num_inputs} inputs and {spec.num_observables} observables"
        )
    return spec


@keras.saving.register_keras_serializable(package="qrkt_keras")
class Projection(keras.layers.Layer):
    """Maps `width` features to `width` features, by a circuit or by its classical twin.

    `y_c = <O>(x, theta_c)` for a circuit, `y_c = x W_c + b_c` for the twin, where `c` counts the
    `copies`: independent weights that all see the same input. With a trainable encoding
    `y_c = <O>(x W_c, theta_c)`: circuits such as `ry_ring`, whose values are each a function of one
    angle, then see all features. Source: Lloyd et al., *Quantum embeddings for machine learning*,
    2020, arXiv 2001.03622.

    Args:
        width: Number of features in and out.
        copies: Number of independent projections, or `None` for one without an axis of its own.
        quantum: `False` for the classical twin, one `Dense` for all copies.
        use_bias: Whether the twin has biases; a circuit has none.
        template: Name of a circuit template, or a `CircuitSpec` of `width` inputs and observables;
            `"identity"` puts nothing in the circuit's place, a control for what circuits do.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether a Dense layer without bias makes the angles that a circuit
            encodes; otherwise features are angles.
        engine: Engine that computes the circuit.

    Call arguments:
        inputs: Tensor of shape `(..., width)`, in radians for circuits.

    Returns:
        A tensor of shape `(..., width)`, or `(..., copies, width)`; in [-1, 1] for the templates.

    Raises:
        ValueError: If the width of the input is not `width`, or the circuit does not fit it.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers.projection import Projection
    >>> Projection(4, copies=3)(np.zeros((2, 5, 4))).shape
    TensorShape([2, 5, 3, 4])
    """

    def __init__(
        self,
        width: int,
        copies: int | None = None,
        *,
        quantum: bool = True,
        use_bias: bool = True,
        template: str | CircuitSpec = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.width = positive_integer("width", width)
        self.copies = None if copies is None else positive_integer("copies", copies)
        self.quantum = bool(quantum)
        self.use_bias = bool(use_bias)
        self.num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        self.template = read_template(template, self.num_ansatz_layers)
        self.trainable_encoding = bool(trainable_encoding)
        check_engine(engine)
        self.engine = engine
        self.supports_masking = True

    @property
    def has_dense(self) -> bool:
        """Whether a Dense layer sees the features first, or alone."""
        return self.trainable_encoding or not self.quantum

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] != self.width:
            raise ValueError(
                f"'{self.name}' projects {self.width} features. "
                f"Received: input shape {tuple(input_shape)}"
            )
        if self.has_dense:
            # One kernel for all copies: its fan-in is that of one, so LeCun's scale is the same.
            self.dense = keras.layers.Dense(
                self.width * (self.copies or 1),
                use_bias=self.use_bias and not self.quantum,
                kernel_initializer="lecun_normal",
                dtype=self.dtype_policy,
                name="encoding" if self.quantum else "dense",
            )
            self.dense.build(input_shape)
        self.pqc = None
        if self.quantum and self.template != IDENTITY:
            per_copy_inputs = self.has_dense and self.copies is not None
            self.pqc = PQC(
                circuit_of_width(self.template, self.width, self.num_ansatz_layers),
                engine=self.engine,
                copies=self.copies,
                per_copy_inputs=per_copy_inputs,
                dtype=self.dtype_policy,
                name="pqc",
            )
            copies = (self.copies,) if per_copy_inputs else ()
            self.pqc.build((*input_shape[:-1], *copies, self.width))
        self.built = True

    def set_engine(self, engine: str) -> None:
        """Computes the circuit by another engine from now on; no weight changes."""
        check_engine(engine)
        if self.built and self.pqc is not None:
            self.pqc.set_engine(engine)
        self.engine = engine

    def call(self, inputs: Any) -> Any:
        if self.has_dense:
            inputs = self.dense(inputs)
            if self.copies is not None:
                inputs = self._split_copies(inputs, self.copies)
        return self._repeated(inputs, self.copies) if self.pqc is None else self.pqc(inputs)

    def project(self, inputs: Any, copies: slice) -> Any:
        """Evaluates only some of the copies: `(..., width)` to `(..., c, width)`."""
        if self.has_dense:
            start, stop, _ = copies.indices(self.copies)
            columns = slice(start * self.width, stop * self.width)
            inputs = ops.matmul(inputs, self.dense.kernel[:, columns])
            if self.dense.use_bias:
                inputs = inputs + self.dense.bias[columns]
            inputs = self._split_copies(inputs, stop - start)
        if self.pqc is None:
            start, stop, _ = copies.indices(self.copies)
            return self._repeated(inputs, stop - start)
        return self.pqc.expectation(inputs, copies=copies)

    def _repeated(self, inputs: Any, copies: int | None) -> Any:
        """What passes without a circuit: the same for all copies, unless a Dense layer made it."""
        if self.has_dense or copies is None:
            return inputs
        return ops.repeat(ops.expand_dims(inputs, -2), copies, axis=-2)

    def _split_copies(self, outputs: Any, copies: int) -> Any:
        leading = [-1 if size is None else size for size in outputs.shape[:-1]]
        if leading.count(-1) > 1:
            leading = ops.shape(outputs)[:-1]
        return ops.reshape(outputs, (*leading, copies, self.width))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        copies = () if self.copies is None else (self.copies,)
        return (*input_shape[:-1], *copies, self.width)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "copies": self.copies,
            "quantum": self.quantum,
            "use_bias": self.use_bias,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_encoding": self.trainable_encoding,
            "engine": self.engine,
        }
