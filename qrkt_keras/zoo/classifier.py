"""What the classifiers of the zoo have in common."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine_options, make_engine, sampling, saved_engine
from qrkt_keras.layers import PQC
from qrkt_keras.layers.pqc import circuit_layers
from qrkt_keras.layers.projection import positive_integer
from qrkt_keras.serving import export_saved_model
from qrkt_keras.training import Recipe
from qrkt_keras.zoo import presets
from qrkt_keras.zoo.transformer import Transformer, choice

if TYPE_CHECKING:
    import tensorflow as tf

DTypePolicy = keras.dtype_policies.DTypePolicy


class Classifier(keras.Model):
    """A functional model from one input to logits, with circuits among its layers.

    Not to be used by itself: `QViT`, `QText` and `PatchQNN` say what the input is, and what is
    between it and the logits.

    Args:
        inputs: The Keras input.
        outputs: The logits.
        specs: The circuits, by the part of the model that they belong to.
        engine: What computes them.
        trainable_circuits: Whether their angles are trained.
        num_classes: Number of classes.
        label_names: Their names.
        policy: Dtype policy.
        name, trainable: As of `keras.Model`.
    """

    recipe_class = Recipe

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        specs: Mapping[str, CircuitSpec],
        engine: str,
        trainable_circuits: bool,
        num_classes: int,
        label_names: tuple[str, ...] | None,
        policy: DTypePolicy,
        name: str | None,
        trainable: bool,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name, trainable=trainable)
        self.dtype_policy = policy
        self.num_classes = num_classes
        self.label_names = label_names
        self.engine = engine
        self.trainable_circuits = trainable_circuits
        self._specs = dict(specs)
        self._jit_set_aside = False
        self._eager_set_aside = False
        for layer in self.pqcs:
            layer.trainable = trainable_circuits

    @property
    def circuits_per_example(self) -> int:
        """How many circuits are run for one example, at most."""
        raise NotImplementedError

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        if getattr(x, "shape", (None,))[0] == 0:  # of which Keras would make no batch
            return np.zeros((0, self.num_classes), full_precision(self.dtype_policy))
        return super().predict(x, *args, **kwargs)

    @property
    def pqcs(self) -> tuple[PQC, ...]:
        """All circuits of the model, as layers."""
        return circuit_layers(self)

    @property
    def num_qubits(self) -> int:
        """Qubits of all circuits together; 0 for the classical twin."""
        return sum(layer.num_qubits for layer in self.pqcs)

    @property
    def num_quantum_params(self) -> int:
        """How many of the weights are angles of circuits."""
        return sum(layer.count_params() for layer in self.pqcs)

    @property
    def circuit_depth(self) -> int:
        """Moments of the deepest circuit; 0 for the classical twin."""
        return max((spec.depth for spec in self._specs.values()), default=0)

    def set_engine(self, engine: str, **sampled: Any) -> None:
        """Changes how the circuits are computed; no weight changes, trained or not.

        If one circuit refuses the engine, all stay as they were. Functions that Keras has compiled
        are compiled anew at their next use, under XLA only where the engine allows it.

        Args:
            engine: One of `qrkt_keras.execution.ENGINES`, or `"sampling"`.
            **sampled: Of `"sampling"`: `sampler`, any `cirq.Sampler`, with `repetitions`,
                `compiled` and the other arguments of `execution.Sampling`. A configuration holds
                none of it: a model that is saved while it samples is loaded with engine `"auto"`.

        Raises:
            ValueError: If there is no such engine, or an argument belongs to another.
            UnsupportedCircuitError: If the engine refuses a circuit.
        """
        check_engine_options(engine, sampled)
        for spec in self._specs.values():
            make_engine(spec, engine, **sampled)
        jit_compile = self.jit_compile or self._jit_set_aside
        # A sampler is for the circuits alone; no configuration holds it.
        layers = self.pqcs if engine == sampling.NAME else self.layers
        for layer in layers:
            if hasattr(layer, "set_engine"):
                layer.set_engine(engine, **sampled)
        if engine == sampling.NAME and self.engine != sampling.NAME:
            # As a graph, a failing sampler's error would be TensorFlow's.
            self._eager_set_aside, self.run_eagerly = self.run_eagerly, True
        elif engine != sampling.NAME and self.engine == sampling.NAME:
            self.run_eagerly = self._eager_set_aside
        self.engine = engine
        supports_jit = all(layer.supports_jit for layer in self.pqcs)
        self.jit_compile = jit_compile and supports_jit
        self._jit_set_aside = jit_compile and not supports_jit
        self.train_function = self.test_function = self.predict_function = None

    def draw_circuit(
        self,
        format: str = "text",
        path: str | os.PathLike[str] | None = None,
        part: str | None = None,
    ) -> str | bytes:
        """Draws a circuit of the model.

        Args:
            format: `"text"`, `"svg"` or `"png"`.
            path: File that the drawing is written to, as well.
            part: Which circuit; by default the first. Of models of transformer blocks:
                `"attention"` for the circuit of the projections, on `hidden_dim` qubits, or
                `"feed_forward"`, on `mlp_dim` qubits. Of a `PatchQNN`: `"patch"`.

        Returns:
            The drawing, text or bytes.

        Raises:
            ValueError: If the format or the part is unknown, or the model has no circuits.
        """
        if not self._specs:
            template = getattr(self, "template", None)
            received = f"quantum={self.quantum}" + (f", template={template!r}" if template else "")
            raise ValueError(f"The model has no circuit to draw. Received: {received}")
        parts = tuple(self._specs)
        part = parts[0] if part is None else choice("part", part, parts)
        return self._specs[part].draw(format=format, path=path)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        *,
        engine: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes a SavedModel that stock TensorFlow can run, see `serving.export_saved_model`.

        This is Keras' method of this name, so that no SavedModel is made which cannot be loaded
        elsewhere.

        Args:
            filepath: The folder to be made.
            format: `"tf_saved_model"`, the only one.
            verbose: Whether to print where it was written.
            input_signature: `None`: the signatures are fixed.
            engine: Engine that computes the circuits there; by default the model's own, but never
                `"tfq"` unless told so.
            overwrite: Whether to replace a SavedModel that is there.

        Raises:
            ValueError: If a format or an input signature is asked for, and as
                `serving.export_saved_model`.
        """
        if format != "tf_saved_model":
            raise ValueError(f"The only format is 'tf_saved_model'. Received: format={format!r}")
        if input_signature is not None:
            raise ValueError(
                "The signatures are fixed, see `serving.export_saved_model`. "
                f"Received: input_signature={input_signature!r}"
            )
        written = export_saved_model(self, filepath, engine=engine, overwrite=overwrite)
        if verbose:
            print(f"SavedModel written: {written}")

    def serving_signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of a SavedModel: examples to probabilities, label and label name."""
        import tensorflow as tf

        label_names = self.label_names or [str(label) for label in range(self.num_classes)]

        def classify(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = self(examples, training=False)
            label = tf.argmax(logits, axis=-1, output_type=tf.int64)
            return {
                "probabilities": tf.cast(tf.nn.softmax(logits), tf.float32),
                "label": label,
                "label_name": tf.gather(tf.constant(list(label_names)), label),
            }

        return {
            name: tf.function(classify).get_concrete_function(spec)
            for name, spec in self._serving_inputs().items()
        }

    def _serving_inputs(self) -> dict[str, tf.TensorSpec]:
        """Signature name to what it takes."""
        raise NotImplementedError

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike[str], load_weights: bool = True, **overrides: Any
    ) -> Self:
        """Makes the model of a preset, see `zoo.from_preset`.

        Args:
            preset: Name of a preset, see `zoo.list_presets`, or a folder.
            load_weights: Whether to load the preset's weights.
            **overrides: Arguments of the class, in place of the preset's.

        Returns:
            The model.

        Raises:
            PresetError: If there is no such preset, or it is damaged, or of another class.
        """
        return presets.from_preset(preset, load_weights=load_weights, expected=cls, **overrides)

    def save_to_preset(self, folder: str | os.PathLike[str], **kwargs: Any) -> Path:
        """Writes the model as a preset, see `zoo.save_to_preset`.

        Args:
            folder: The folder to be made.
            **kwargs: Of `zoo.save_to_preset`: `recipe`, `data`, `scores`, `command`, `seed`,
                `include_weights`, `overwrite`.

        Returns:
            The folder.
        """
        return presets.save_to_preset(self, folder, **kwargs)

    def summary(
        self, *args: Any, print_fn: Callable[..., Any] | None = None, **kwargs: Any
    ) -> None:
        """Prints Keras' summary, and what the model's circuits amount to.

        Args:
            print_fn: What prints; `print` by default.
            *args, **kwargs: As of `keras.Model.summary`.
        """
        super().summary(*args, print_fn=print_fn, **kwargs)
        (print_fn or print)("\n".join(self._circuit_lines()))

    def _circuit_lines(self) -> list[str]:
        quantum, total = self.num_quantum_params, self.count_params()
        lines = [f" Parameters: {quantum:,} quantum (angles), {total - quantum:,} classical"]
        if not self._specs:
            twin = "the identity in their place" if self.quantum else "this is the classical twin"
            return [*lines, f" Circuits: none, {twin}"]
        circuits = ", ".join(
            f"{part.replace('_', '-')} {spec.num_qubits} qubits and depth {spec.depth}"
            for part, spec in self._specs.items()
        )
        engines = ", ".join(sorted({layer.plan.engine for layer in self.pqcs}))
        return [
            *lines,
            f" Circuits: {circuits}",
            f" Qubits: {self.num_qubits:,} in all circuits together",
            f" Circuits run per example: {self.circuits_per_example:,}",
            f" Engine: {self.engine}" + (f" ({engines})" if engines != self.engine else ""),
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            **self._own_config(),
            "engine": saved_engine(self.engine),
            "trainable_circuits": self.trainable_circuits,
            "num_classes": self.num_classes,
            "label_names": None if self.label_names is None else list(self.label_names),
            "dtype": self.dtype_policy.name,
            "name": self.name,
            "trainable": self.trainable,
        }

    def _own_config(self) -> dict[str, Any]:
        """The arguments that are the class' own."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        return cls(**config)


class TransformerClassifier(Classifier):
    """A classifier whose circuits are in the blocks of a `Transformer`.

    Args:
        inputs, outputs: As of `Classifier`.
        transformer: What made the blocks.
        **settings: `num_classes`, `label_names`, `policy`, `name` and `trainable` of `Classifier`.
    """

    def __init__(
        self, inputs: Any, outputs: Any, transformer: Transformer, **settings: Any
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            specs=transformer.specs,
            engine=transformer.engine,
            trainable_circuits=transformer.trainable_circuits,
            **settings,
        )
        for field in dataclasses.fields(transformer):
            setattr(self, field.name, getattr(transformer, field.name))
        self._transformer = transformer

    @property
    def num_tokens(self) -> int:
        """Tokens of one example, at most."""
        raise NotImplementedError

    @property
    def circuits_per_example(self) -> int:
        """How many circuits are run for one example, at most: one a token and projection."""
        return self.num_tokens * self._transformer.projections_per_token

    def get_config(self) -> dict[str, Any]:
        return {
            **self._own_config(),
            **self._transformer.get_config(),
            **super().get_config(),
        }


def mean_over_tokens(tokens: Any, policy: DTypePolicy, mask: Any = None) -> Any:
    """The mean over the tokens that the mask leaves."""
    return keras.layers.GlobalAveragePooling1D(
        data_format="channels_last", dtype=policy, name="mean_over_tokens"
    )(tokens, mask=mask)


def logits(features: Any, num_classes: int, policy: DTypePolicy) -> Any:
    """The last Dense layer, which is never in half precision."""
    return keras.layers.Dense(
        num_classes, kernel_initializer="lecun_normal", dtype=full_precision(policy), name="logits"
    )(features)


def full_precision(policy: DTypePolicy) -> str:
    """The dtype of what is never held in half precision, such as pixels and logits."""
    return "float64" if policy.compute_dtype == "float64" else "float32"


def dtype_policy(dtype: Any) -> DTypePolicy:
    """Returns a dtype policy, or refuses what is none."""
    try:
        return keras.dtype_policies.get(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`dtype` must be a dtype policy. Received: dtype={dtype!r}") from error


def number_of_classes(value: Any) -> int:
    """Returns a number of classes, or refuses it."""
    value = positive_integer("num_classes", value)
    if value < 2:
        raise ValueError(f"`num_classes` must be at least 2. Received: num_classes={value}")
    return value


def names_of_labels(names: Any, num_classes: int) -> tuple[str, ...] | None:
    """Returns the names of the classes, or refuses them."""
    if names is None:
        return None
    if (
        not isinstance(names, list | tuple)
        or len(names) != num_classes
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"`label_names` must be a list of {num_classes} texts, one a class. "
            f"Received: label_names={names!r}"
        )
    return tuple(names)
