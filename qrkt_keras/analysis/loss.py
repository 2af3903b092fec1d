"""A model's loss over a data set as a function of its weights: value, gradient, Hessian."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras.execution import tfq
from qrkt_keras.layers.pqc import circuit_layers
from qrkt_keras.layers.projection import positive_integer
from qrkt_keras.training.job import fingerprint
from qrkt_keras.training.moments import exact_moments

# The same loss on another machine, or another engine, differs by less than this; another loss does
# not.
SAME_VALUE = 1e-3

# The loss of one batch: `(y_true, y_pred)` to a value an example, or to their mean.
LossFunction = keras.losses.Loss | Callable[[Any, Any], Any]


def circuit_variables(model: keras.Model) -> tuple[keras.Variable, ...]:
    """The angles of all circuits of a model, in the order of its layers.

    Args:
        model: Any built Keras model.

    Returns:
        A variable for each `PQC` layer, radians.

    Raises:
        ValueError: If the model has no circuit, or is not built.

    Example:

    >>> from qrkt_keras.zoo import PatchQNN
    >>> [tuple(angles.shape) for angles in circuit_variables(PatchQNN(num_blocks=1))]
    [(4, 176)]
    """
    _check_model(model)
    angles = tuple(layer.angles for layer in circuit_layers(model))
    if not angles:
        raise ValueError(f"The model must have a circuit, a PQC layer. Received: {model.name!r}")
    return angles


class DataLoss:
    """A model's mean loss over a data set, as a function of some of its weights.

    `L(w) = 1/N sum_i loss(y_i, f(x_i; w))`, its gradient, and its Hessian `H` times a vector by
    differentiating twice, `H v = d/dw (dL/dw . v)`, which never forms `H` (Pearlmutter 1994,
    *Fast exact multiplication by the Hessian*, Neural Computation 6).

    The loss alone: no regulariser, no term that a layer adds. The model is as in inference
    (dropout off, normalisation by moving averages). Sums over batches are in float64. Each of the
    three functions is traced once, and once more where the last batch is smaller, at the first
    call: after a `set_engine`, make a new one.

    Args:
        model: A built Keras model of one input and one output, on the TensorFlow backend.
        examples: `(N, ...)`, what the model takes.
        labels: `(N, ...)`, what the loss takes.
        loss: A `keras.losses.Loss`, whose own reduction does not matter, or a function of
            `(y_true, y_pred)` that returns a value an example or their mean; labels are cast to the
            outputs' dtype, as Keras does. By default the cross-entropy of integer labels and
            logits. Where examples have several values each (tokens), all count: masks are not
            applied.
        variables: The weights that `L` is a function of; by default all trainable ones. The others
            stay as they are.
        batch_size: Examples that go through the model at once: only memory and time depend on it.
            What a circuit makes of its weights alone is made once a batch, so that deep circuits
            want large ones.

    Raises:
        TypeError: If the model is no Keras model, or the loss cannot be called.
        ValueError: If the model is not built or has several inputs, examples and labels differ in
            number, there are none, a variable is not the model's, not of floats, or given twice, or
            Keras runs on another backend.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.eye(2, dtype="float32"), np.array([[1.0], [3.0]], "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> loss.size, loss.value([0.0, 0.0])
    (2, 5.0)
    >>> loss.gradient([0.0, 0.0])
    array([-1., -3.])
    >>> loss.hessian_vector_product([1.0, -2.0])
    array([ 1., -2.])
    """

    def __init__(
        self,
        model: keras.Model,
        examples: np.ndarray,
        labels: np.ndarray,
        *,
        loss: LossFunction | None = None,
        variables: Sequence[keras.Variable] | None = None,
        batch_size: int = 1000,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "The analysis differentiates with TensorFlow: start Python with "
                "KERAS_BACKEND=tensorflow and load the model there. "
                f"Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        _check_model(model)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if not callable(loss):
            raise TypeError(f"loss must be a Keras loss or a function. Received: loss={loss!r}")
        num_inputs = len(getattr(model, "inputs", None) or [None])
        if num_inputs > 1:
            raise ValueError(f"The model must have one input. Received: {num_inputs} inputs")
        examples, labels = np.asarray(examples), np.asarray(labels)
        if not examples.ndim or not labels.ndim or len(examples) != len(labels):
            raise ValueError(
                "There must be as many labels as examples. "
                f"Received: examples {examples.shape}, labels {labels.shape}"
            )
        if not len(examples):
            raise ValueError(f"There must be an example. Received: examples {examples.shape}")
        self.model = model
        self.examples = examples
        self.labels = labels
        self.loss = loss
        self.variables = _checked_variables(model, variables)
        self.batch_size = min(positive_integer("batch_size", batch_size), len(examples))
        self._shapes = [tuple(variable.shape) for variable in self.variables]
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._make_functions()

    @property
    def size(self) -> int:
        """The number of weights."""
        return int(self._ends[-1])

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.examples)

    def point(self) -> np.ndarray:
        """The weights now, `(size,)` float64, flat, in the order of `variables`."""
        arrays = [array_of(variable).ravel() for variable in self.variables]
        return np.concatenate(arrays).astype(np.float64)

    @contextlib.contextmanager
    def at(self, point: Sequence[float] | np.ndarray) -> Iterator[None]:
        """The model has the weights of `point` inside, and its own again after, whatever happens.

        Args:
            point: `(size,)`, rounded to the variables' own precision.

        Raises:
            ValueError: If it has another shape.
        """
        parts = self._split(point, "point")
        own = [array_of(variable) for variable in self.variables]
        try:
            for variable, part in zip(self.variables, parts, strict=True):
                variable.assign(part)
            yield
        finally:
            for variable, part in zip(self.variables, own, strict=True):
                variable.assign(part)

    def value(self, point: Sequence[float] | np.ndarray | None = None) -> float:
        """The mean loss over all examples.

        Args:
            point: Weights `(size,)`; by default those that the model has.

        Returns:
            `L`. It may be NaN or infinite.

        Raises:
            ValueError: If the point has another shape, or the loss is neither a value an example
                nor one number.
        """
        return float(self._mean(self._value, point))

    def gradient(self, point: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
        """The gradient of the mean loss by the weights.

        Args:
            point: Weights `(size,)`; by default those that the model has.

        Returns:
            `dL/dw`, `(size,)` float64; 0 for a weight that the loss does not depend on.

        Raises:
            ValueError: As for `value`.
        """
        return self._mean(self._gradient, point)

    def hessian_vector_product(
        self,
        vector: Sequence[float] | np.ndarray,
        point: Sequence[float] | np.ndarray | None = None,
    ) -> np.ndarray:
        """The Hessian of the mean loss, times a vector.

        Args:
            vector: `v`, `(size,)`.
            point: Weights `(size,)`; by default those that the model has.

        Returns:
            `H v`, `(size,)` float64.

        Raises:
            ValueError: As for `value`; if the vector has another shape; or if a circuit runs on
                TensorFlow Quantum, whose operations have no second derivative.
        """
        on_tfq = [layer.name for layer in circuit_layers(self.model) if layer.engine == tfq.NAME]
        if on_tfq:
            raise ValueError(
                "TensorFlow Quantum's operations have no second derivative: use the model's "
                "set_engine('auto'), which changes no weight, and make a new DataLoss. "
                f"Received: engine={tfq.NAME!r} in {', '.join(on_tfq)}"
            )
        parts = [
            part.astype(variable.dtype)
            for variable, part in zip(self.variables, self._split(vector, "vector"), strict=True)
        ]
        return self._mean(self._product, point, parts)

    def _mean(self, function: Callable, point: Any, parts: Sequence[np.ndarray] = ()) -> np.ndarray:
        """The mean over all examples of a function of a batch that returns the batch's mean."""
        import tensorflow as tf

        with contextlib.nullcontext() if point is None else self.at(point):
            arguments = [tf.constant(part) for part in parts]
            total = 0.0
            for start in range(0, self.num_examples, self.batch_size):
                examples = self.examples[start : start + self.batch_size]
                labels = self.labels[start : start + self.batch_size]
                mean = function(tf.constant(examples), tf.constant(labels), *arguments)
                total = total + len(examples) * mean.numpy()
        return total / self.num_examples

    def _split(self, flat: Any, name: str) -> list[np.ndarray]:
        flat = np.asarray(flat, np.float64)
        if flat.shape != (self.size,):
            raise ValueError(f"{name} must be ({self.size},). Received: shape {flat.shape}")
        parts = np.split(flat, self._ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _batch_loss(self, examples: Any, labels: Any) -> Any:
        import tensorflow as tf

        with exact_moments():
            outputs = self.model(examples, training=False)
        if not tf.is_tensor(outputs):
            raise ValueError(f"The model must have one output. Received: {type(outputs).__name__}")
        # As Keras does, the loss of half-precision outputs is computed in float32.
        if outputs.dtype.size < 4:
            outputs = tf.cast(outputs, tf.float32)
        # Not through `Loss.__call__`, which would reduce, and cast float64 down.
        loss = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        # As Keras does, labels are of the outputs' kind, for functions too.
        values = tf.convert_to_tensor(loss(tf.cast(labels, outputs.dtype), outputs))
        if values.shape.rank != 0 and values.shape[0] != examples.shape[0]:
            raise ValueError(
                "The loss must be a value an example, or their mean. "
                f"Received: shape {tuple(values.shape)} for a batch of {examples.shape[0]}"
            )
        return tf.reduce_mean(tf.cast(values, tf.float64))

    def _make_functions(self) -> None:
        import tensorflow as tf

        watched = [variable.value for variable in self.variables]
        zero = tf.UnconnectedGradients.ZERO

        def flat(parts: list) -> Any:
            return tf.concat([tf.reshape(tf.cast(p, tf.float64), [-1]) for p in parts], axis=0)

        def gradients(examples: Any, labels: Any) -> list:
            # Explicitly, for a weight need not be trainable.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(watched)
                loss = self._batch_loss(examples, labels)
            slopes = tape.gradient(loss, watched, unconnected_gradients=zero)
            # Those of an Embedding are slices of it, which have no derivative.
            return [tf.convert_to_tensor(slope) for slope in slopes]

        @tf.function
        def gradient(examples: Any, labels: Any) -> Any:
            return flat(gradients(examples, labels))

        @tf.function
        def product(examples: Any, labels: Any, *vector: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(watched)
                by_weight = gradients(examples, labels)
            return flat(
                tape.gradient(
                    by_weight,
                    watched,
                    output_gradients=list(vector),
                    unconnected_gradients=zero,
                )
            )

        self._value = tf.function(self._batch_loss)
        self._gradient = gradient
        self._product = product


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model must be a Keras model. Received: {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"The model has no weights before it is built or called. Received: {model.name!r}"
        )


def array_of(variable: keras.Variable) -> np.ndarray:
    """Returns a copy of a variable's values, in its own precision."""
    return np.array(keras.ops.convert_to_numpy(variable))


def identity_of(loss: DataLoss) -> dict[str, str]:
    """What must be the same when what was computed of a loss is continued, by an error's words."""
    own = {id(variable) for variable in loss.variables}
    # Without the states of random generators, on which a loss in inference does not depend.
    fixed = [
        array_of(weight).astype(np.float64)
        for weight in loss.model.weights
        if id(weight) not in own
    ]
    return {
        "data": fingerprint([_hashable(loss.examples), _hashable(loss.labels)]),
        "fixed weights": fingerprint(fixed),
    }


def _hashable(array: np.ndarray) -> np.ndarray:
    # The memory of an array of Python's strings holds addresses.
    return array.astype(str) if array.dtype == object else array


def _checked_variables(
    model: keras.Model, variables: Sequence[keras.Variable] | None
) -> tuple[keras.Variable, ...]:
    chosen = tuple(model.trainable_variables if variables is None else variables)
    if not chosen:
        wanted = "The model must have a trainable weight" if variables is None else "Choose one"
        raise ValueError(f"{wanted} at least. Received: no variables of {model.name!r}")
    own = {id(variable) for variable in model.variables}
    for variable in chosen:
        if id(variable) not in own:
            raise ValueError(f"variables must be the model's own. Received: {variable!r}")
        if "float" not in keras.backend.standardize_dtype(variable.dtype):
            raise ValueError(f"variables must hold floats. Received: {variable!r}")
    if len({id(variable) for variable in chosen}) < len(chosen):
        names = [variable.path for variable in chosen]
        raise ValueError(f"variables must not repeat. Received: {names}")
    return chosen
