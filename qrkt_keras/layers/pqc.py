"""PQC: a parametrised quantum circuit as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import (
    Plan,
    check_engine_options,
    make_engine,
    plan,
    sampling,
    saved_engine,
    tfq,
)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PQC(keras.layers.Layer):
    """Expectation values of a parametrised quantum circuit, trainable in its angles.

    `y_k = <0| U(x, w)^dagger O_k U(x, w) |0>` for every row `x` of the input, with the circuit `U`
    and the observables `O_k` of `spec` and the layer's weights `w` (the model of TensorFlow
    Quantum's `PQC` and `ControlledPQC`, Broughton et al. 2020, arXiv 2003.02989).

    With `copies=c`, `c` circuits of one form run in one call, each with weights of its own: on the
    same input (queries, keys and values of attention), or with `per_copy_inputs=True` each on its
    own (patches).

    A circuit of the templates, `templates.ry_ring(3)`:

    ```
    0: ──Ry(x0)──Rx(w0)──Rz(w0)──H──@──────────────────X──
                                    │                  │
    1: ──Ry(x1)──Rx(w1)──Rz(w1)─────X──H──@────────────┼──
                                          │            │
    2: ──Ry(x2)──Rx(w2)──Rz(w2)───────────X──H─────────@──
    ```

    Args:
        spec: a `CircuitSpec`, from `circuits.templates` or around your own Cirq circuit.
        engine: "auto" (the cheapest exact engine, see `execution.plan`), "pauli_propagation",
            "state_vector" or "tfq". It changes how values are computed, never the weights.
            "sampling" is for `set_engine`, which takes the sampler.
        copies: how many circuits of this form, each with its own weights. None is one, without an
            axis for it.
        per_copy_inputs: whether the input has an axis of length `copies` before the last.
        initializer: of the angles, on the spec's `weight_shape`; each copy draws its own.
        regularizer: of the angles.
        constraint: of the angles.
        differentiator: for `engine="tfq"`: "adjoint", "parameter_shift", "forward_difference" or
            "central_difference".
        repetitions: for `engine="tfq"`: shots an observable, None is exact; for "sampling" shots a
            circuit, unless `set_engine` says otherwise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `(..., num_inputs)`, or `(..., copies, num_inputs)` with `per_copy_inputs`; radians.

    Returns:
        `(..., num_observables)`, or `(..., copies, num_observables)` with `copies`; for Pauli
        strings in [-1, 1]. Computed in float32 at least, then cast to the layer's compute dtype.

    Raises:
        TypeError: `spec` is not a CircuitSpec.
        ValueError: an unknown engine, a bad `copies`, or inputs of the wrong width.
        UnsupportedCircuitError: the engine refuses the circuit.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> layer = PQC(templates.ry_ring(4), copies=3)
        >>> layer(np.zeros((2, 5, 4))).shape
        TensorShape([2, 5, 3, 4])
        >>> layer.count_params()
        12
    """

    def __init__(
        self,
        spec: CircuitSpec,
        engine: str = "auto",
        copies: int | None = None,
        per_copy_inputs: bool = False,
        initializer="glorot_normal",
        regularizer=None,
        constraint=None,
        differentiator: str | None = None,
        repetitions: int | None = None,
        **kwargs,
    ):
        # Angles keep their precision: neither inputs nor weights are cast to a half type.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        if not isinstance(spec, CircuitSpec):
            raise TypeError(f"spec must be a CircuitSpec. Received: {spec!r}")
        if copies is not None and (type(copies) is not int or copies < 1):
            raise ValueError(f"copies must be None or a whole number >= 1. Received: {copies!r}")
        tfq.check_options(differentiator, repetitions)
        if per_copy_inputs and copies is None:
            raise ValueError(
                "per_copy_inputs=True needs the number of copies. Received: copies=None"
            )
        self.supports_masking = True
        self.spec = spec
        self.copies = copies
        self.per_copy_inputs = bool(per_copy_inputs)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.differentiator = differentiator
        self.repetitions = repetitions
        self.set_engine(engine)

    def set_engine(self, engine: str, **sampled) -> None:
        """Change how the circuit is executed; the weights stay as they are.

        A compiled model keeps its traced functions: use the model's own `set_engine`, or call its
        `compile` again.

        Args:
            engine: "auto" or the name of an engine.
            **sampled: for "sampling": `sampler`, `repetitions` and the other arguments of
                `execution.Sampling`. A configuration holds none of it: a layer that is saved while
                it samples is loaded with engine "auto".

        Raises:
            ValueError: an unknown engine, or arguments that belong to another.
            UnsupportedCircuitError: the engine refuses the circuit; the old one stays.
        """
        check_engine_options(engine, sampled)
        if engine == sampling.NAME:
            if "standard_error" not in sampled:
                sampled = {"repetitions": self.repetitions} | sampled
            executor = make_engine(self.spec, engine, **sampled)
        else:
            # What belongs to TFQ alone is kept for the day on which TFQ is asked for again.
            options = (self.differentiator, self.repetitions) if engine == "tfq" else (None, None)
            executor = make_engine(self.spec, engine, *options)
        self._executor = executor
        self.engine = engine
        self.supports_jit = executor.supports_jit

    @property
    def plan(self) -> Plan:
        """What the engine in use was chosen from, see `execution.plan`."""
        return plan(self.spec, engine=self.engine)

    @property
    def num_qubits(self) -> int:
        """Qubits of all copies together."""
        return self.spec.num_qubits * (self.copies or 1)

    def build(self, input_shape):
        """Add the angles; a shape that the circuit cannot take is refused here."""
        self._check_shape(tuple(input_shape), self.copies)
        shape = self.spec.weight_shape
        initializer = self.initializer
        if self.copies is not None:
            shape = (self.copies, *shape)
            initializer = _EachCopy(self.initializer)
        float64 = self.dtype_policy.variable_dtype == "float64"
        self.angles = self.add_weight(
            name="angles",
            shape=shape,
            dtype="float64" if float64 else "float32",
            initializer=initializer,
            regularizer=self.regularizer,
            constraint=self.constraint,
            autocast=False,
        )

    def call(self, inputs):
        """Expectation values of every row, see the class."""
        values = self.expectation(inputs)
        return values if self.copies is not None else ops.squeeze(values, -2)

    def expectation(self, inputs, copies: slice | None = None):
        """Expectation values of some of the copies.

        Args:
            inputs: as the layer's input, for the chosen copies only.
            copies: which copies; None is all.

        Returns:
            `(..., number of chosen copies, num_observables)`.
        """
        weights = ops.reshape(self.angles, (self.copies or 1, self.spec.num_weights))
        if copies is not None:
            weights = weights[copies]
        self._check_shape(tuple(inputs.shape), weights.shape[0])
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if "float" not in dtype and "int" not in dtype:
            raise TypeError(f"Angles must be numbers. Received: inputs of dtype {dtype}")
        inputs = ops.cast(inputs, self.angles.dtype)
        axes = 2 if self.per_copy_inputs else 1
        leading = tuple(inputs.shape)[:-axes]
        if leading.count(None) > 1:
            leading = ops.shape(inputs)[: len(leading)]
        inner = inputs.shape[-2] if self.per_copy_inputs else 1
        rows = _rows(leading)
        flat = ops.reshape(inputs, (rows, inner, self.spec.num_inputs))
        values = self._executor.expectation(flat, weights)
        leading = tuple(-1 if size is None else size for size in leading)
        values = ops.reshape(values, (*leading, weights.shape[0], self.spec.num_observables))
        return ops.cast(values, self.compute_dtype)

    def _check_shape(self, shape: Sequence[int | None], copies: int | None) -> None:
        if not shape or shape[-1] != self.spec.num_inputs:
            raise ValueError(
                f"The circuit takes {self.spec.num_inputs} input angles on the last axis. "
                f"Received: input shape {tuple(shape)}"
            )
        if self.per_copy_inputs and (len(shape) < 2 or shape[-2] != copies):
            raise ValueError(
                f"per_copy_inputs=True takes {copies} rows of angles on the last axis but "
                f"one. Received: input shape {tuple(shape)}"
            )

    def compute_output_shape(self, input_shape):
        """`(..., num_observables)`, with an axis of copies before the last if there are any."""
        leading = input_shape[: len(input_shape) - (2 if self.per_copy_inputs else 1)]
        copies = () if self.copies is None else (self.copies,)
        return (*leading, *copies, self.spec.num_observables)

    def get_config(self):
        """The constructor's arguments, the circuit as Cirq's JSON."""
        config = super().get_config()
        config.pop("autocast", None)
        config.update(
            {
                "spec": self.spec.to_json(),
                "engine": saved_engine(self.engine),
                "copies": self.copies,
                "per_copy_inputs": self.per_copy_inputs,
                "initializer": keras.initializers.serialize(self.initializer),
                "regularizer": keras.regularizers.serialize(self.regularizer),
                "constraint": keras.constraints.serialize(self.constraint),
                "differentiator": self.differentiator,
                "repetitions": self.repetitions,
            }
        )
        return config

    @classmethod
    def from_config(cls, config):
        """The layer of a config."""
        return cls(**{**config, "spec": CircuitSpec.from_json(config["spec"])})


def circuit_layers(model: keras.Model) -> tuple[PQC, ...]:
    """All circuits of a model, as layers, however deep they are in it.

    Args:
        model: a model, of the zoo or your own.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> model = keras.Sequential([keras.Input((2,)), PQC(templates.ry_ring(2), name="circuit")])
        >>> [layer.name for layer in circuit_layers(model)]
        ['circuit']
    """
    return tuple(layer for layer in model._flatten_layers() if isinstance(layer, PQC))


def _rows(leading):
    """The product of the leading axes, -1 where one of them is unknown."""
    if any(size is None for size in leading):
        return -1
    rows = 1
    for size in leading:
        rows = rows * size
    return rows


class _EachCopy(keras.initializers.Initializer):
    """Draws every copy by itself: a fan counts one circuit, and no two copies start alike."""

    def __init__(self, initializer):
        self.initializer = initializer

    def __call__(self, shape, dtype=None):
        copies = []
        for copy in range(shape[0]):
            initializer = self.initializer
            # Two calls of one of Keras' random initializers return the same values.
            if isinstance(getattr(initializer, "seed", None), int):
                seed = np.random.SeedSequence([initializer.seed, copy]).generate_state(1)[0]
                config = {**initializer.get_config(), "seed": int(seed)}
                initializer = initializer.__class__.from_config(config)
            copies.append(initializer(shape[1:], dtype=dtype))
        return ops.stack(copies)
