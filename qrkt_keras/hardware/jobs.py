"""Jobs: a model's examples run on a sampler, and compared with what is exact."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cirq
import keras
import numpy as np
from keras import ops

from qrkt_keras.analysis.progress import shown
from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import make_engine
from qrkt_keras.execution.components import innermost
from qrkt_keras.execution.sampling import NAME
from qrkt_keras.hardware.circuit_counts import rows_per_example
from qrkt_keras.hardware.executors import executors
from qrkt_keras.layers.pqc import circuit_layers

# So many points of each circuit tell how long one takes; more of them, where that takes less than
# so many seconds, tell a point's part of it from a call's.
_TRIAL_POINTS, _MORE_TRIAL_POINTS, _SOON = 2, 34, 0.1
# Examples at a time where the exact engine computes a loss.
_EXACT_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """What a model gives on a sampler, beside what it gives exactly.

    Args:
        num_examples: how many there were.
        accuracy: share of them whose class is right, from samples.
        exact_accuracy: the same from the exact engine.
        agreement: share of them that get the same class from both.
        mean_error: mean of |sampled - exact| over all expectation values, each circuit given the
            angles that it got in the sampled model.
        max_error: the largest of these.
        num_circuits: circuits with their angles that were run, or had been and were kept.
        num_shots: repetitions of all of them.
        seconds: of this process.
    """

    num_examples: int
    accuracy: float
    exact_accuracy: float
    agreement: float
    mean_error: float
    max_error: float
    num_circuits: int
    num_shots: int
    seconds: float


@dataclass(frozen=True)
class Training:
    """A few steps of training by sampled gradients.

    Args:
        sampled_losses: of each step's batch, from samples, before the step.
        exact_losses: of all examples, from the exact engine, before the first step and after each.
        num_circuits: circuits with their angles that were run, or had been and were kept.
        num_shots: repetitions of all of them.
        seconds: of this process.
    """

    sampled_losses: tuple[float, ...]
    exact_losses: tuple[float, ...]
    num_circuits: int
    num_shots: int
    seconds: float


@contextlib.contextmanager
def sampled(model: keras.Model, sampler: cirq.Sampler, **options: Any) -> Iterator[None]:
    """Has a model's circuits run on a sampler within a `with` block, eagerly.

    Args:
        model: A built model with `PQC` layers, of the zoo or your own.
        sampler: What runs the circuits.
        **options: Of `execution.Sampling`: `repetitions`, `compiled` and so on.

    Raises:
        ValueError: If the model has no circuits, and as `execution.Sampling`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import PatchQNN
    >>> model = PatchQNN(num_blocks=1)
    >>> with sampled(model, cirq.Simulator(seed=0), repetitions=10):
    ...     model.predict(np.zeros((1, 28, 28, 1)), verbose=0).shape
    (1, 10)
    """
    _check_circuits(model)
    engines = _engines(model, sampler, options)
    with executors(model, lambda layer: engines[layer.spec]):
        yield


def evaluate(
    model: keras.Model,
    inputs: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    sampler: cirq.Sampler,
    *,
    batch_size: int = 10,
    progress: bool = True,
    **options: Any,
) -> Evaluation:
    """Scores a classifier whose circuits run on a sampler, beside the exact engine.

    With a `KeptRuns` as sampler, what was finished is kept whatever ends the job, and costs nothing
    when the same call is made again.

    Args:
        model: A built classifier with `PQC` layers; its outputs are logits, or probabilities.
        inputs: Examples as the model takes them.
        labels: Their classes.
        sampler: What runs the circuits.
        batch_size: Examples at a time, whose circuits go to the sampler together.
        progress: Whether to show how far it is.
        **options: Of `execution.Sampling`: `repetitions`, `compiled` and so on.

    Returns:
        A frozen Evaluation.

    Raises:
        ValueError: If there are no examples, or not as many labels; the model has no circuits.
        SamplerError: If the sampler fails.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import PatchQNN
    >>> images, labels = np.zeros((2, 28, 28, 1)), [0, 1]
    >>> result = evaluate(
    ...     PatchQNN(num_blocks=1), images, labels, cirq.Simulator(seed=0), repetitions=10,
    ...     progress=False,
    ... )
    >>> result.num_circuits, result.num_shots
    (16, 160)
    """
    labels = np.asarray(labels)
    _check_circuits(model)
    _check_examples(inputs, labels)
    _check_positive("batch_size", batch_size)
    counted = _Counted(sampler)
    engines = _engines(model, counted, options)
    exact_engines = {spec: make_engine(spec) for spec in engines}
    since, errors = time.monotonic(), []
    logits, exact = [], []
    starts = range(0, len(labels), batch_size)
    with (
        executors(
            model,
            lambda layer: _Compared(engines[layer.spec], exact_engines[layer.spec], errors),
        ),
        shown("examples", len(labels), progress) as show,
    ):
        for start in starts:
            logits.append(_called(model, inputs[start : start + batch_size]))
            done = min(start + batch_size, len(labels))
            show(done, f"{counted.num_circuits:,} circuits")
    with executors(model, lambda layer: exact_engines[layer.spec]):
        for start in starts:
            exact.append(_called(model, inputs[start : start + batch_size]))
    classes = np.concatenate(logits).argmax(-1)
    exact_classes = np.concatenate(exact).argmax(-1)
    errors = np.concatenate(errors)
    return Evaluation(
        num_examples=len(labels),
        accuracy=float(np.mean(classes == labels)),
        exact_accuracy=float(np.mean(exact_classes == labels)),
        agreement=float(np.mean(classes == exact_classes)),
        mean_error=float(errors.mean()),
        max_error=float(errors.max()),
        num_circuits=counted.num_circuits,
        num_shots=counted.num_shots,
        seconds=time.monotonic() - since,
    )


def train(
    model: keras.Model,
    inputs: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    sampler: cirq.Sampler,
    *,
    num_steps: int,
    batch_size: int = 16,
    learning_rate: float = 0.05,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Training:
    """Trains a classifier by gradients that a sampler's shots give, on TensorFlow.

    Adam on the mean cross-entropy, all trainable weights: those of circuits by the parameter-shift
    rule, the others through the values that it gives. The batches are a function of seed and step.
    With a `KeptRuns` as sampler a job that was ended goes on where it was when the same call is
    made again, on the same untrained model. How the model is compiled for Keras' `fit` is left as
    it is.

    Args:
        model: A built classifier with `PQC` layers, whose outputs are logits.
        inputs: Examples as the model takes them.
        labels: Their classes.
        sampler: What runs the circuits.
        num_steps: How many steps.
        batch_size: Examples of a step.
        learning_rate: Adam's.
        seed: Of the batches.
        progress: Whether to show how far it is.
        **options: Of `execution.Sampling`: `repetitions`, `compiled` and so on.

    Returns:
        A frozen Training; the model is trained.

    Raises:
        ValueError: If there are no examples, or not as many labels; the model has no circuits;
            Keras runs on another backend.
        SamplerError: If the sampler fails.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Training on a sampler needs KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()!r}"
        )
    import tensorflow as tf

    labels = np.asarray(labels)
    _check_circuits(model)
    _check_examples(inputs, labels)
    _check_positive("num_steps", num_steps)
    _check_positive("batch_size", batch_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(learning_rate)
    counted = _Counted(sampler)
    engines = _engines(model, counted, options)
    exact_engines = {spec: make_engine(spec) for spec in engines}

    def exact_loss() -> float:
        with executors(model, lambda layer: exact_engines[layer.spec]):
            starts = range(0, len(labels), _EXACT_BATCH)
            outputs = [_called(model, inputs[start : start + _EXACT_BATCH]) for start in starts]
        return float(loss(labels, np.concatenate(outputs)))

    since, losses, exact = time.monotonic(), [], [exact_loss()]
    weights = model.trainable_variables
    with shown("steps", num_steps, progress) as show:
        for step in range(num_steps):
            drawn = np.random.default_rng([seed, step]).choice(
                len(labels), min(batch_size, len(labels)), replace=False
            )
            with (
                executors(model, lambda layer: engines[layer.spec]),
                tf.GradientTape() as tape,
            ):
                value = loss(labels[drawn], model(inputs[drawn], training=True))
                gradients = tape.gradient(value, [weight.value for weight in weights])
            optimizer.apply(gradients, weights)
            losses.append(float(value))
            exact.append(exact_loss())
            show(step + 1, f"loss {exact[-1]:.4g}, {counted.num_circuits:,} circuits")
    return Training(
        tuple(losses),
        tuple(exact),
        counted.num_circuits,
        counted.num_shots,
        time.monotonic() - since,
    )


def as_data(result: Evaluation | Training) -> dict[str, Any]:
    """A result as JSON data."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(result).items()
    }


@dataclass(frozen=True)
class Estimate:
    """What a job takes, before it is begun.

    Args:
        num_circuits: circuits with their angles.
        num_shots: repetitions of all of them.
        shots_per_circuit: of one row of each circuit that runs, the most, in the order of
            `CompiledCircuits.circuits`.
        seconds: on the sampler of the trial; None without one.
    """

    num_circuits: int
    num_shots: int
    shots_per_circuit: tuple[int, ...]
    seconds: float | None


def estimate(
    model: keras.Model,
    num_examples: int,
    *,
    gradients: bool = False,
    trial: cirq.Sampler | None = None,
    batch_size: int = 10,
    **options: Any,
) -> Estimate:
    """Counts a job's circuits and shots.

    Args:
        model: A built model with `PQC` layers.
        num_examples: Examples, or examples of all steps.
        gradients: Whether gradients by all angles are taken too: the most that they may be, for
            circuits that only data turn are not shifted where nothing before them is trained.
        trial: A sampler on which a few of each circuit are run, to tell the time; a virtual
            machine, for they cost what they cost.
        batch_size: Examples at a time, for the time.
        **options: Of `execution.Sampling`, but for the sampler.

    Returns:
        A frozen Estimate.

    Example:

    >>> from qrkt_keras.zoo import PatchQNN
    >>> estimate(PatchQNN(num_blocks=1), 20, repetitions=100)
    Estimate(num_circuits=160, num_shots=16000, shots_per_circuit=(200,), seconds=None)
    """
    circuits = shots = 0
    per_circuit: dict[CircuitSpec, int] = {}
    seconds = 0.0
    options = {name: value for name, value in options.items() if name != "timeout"}
    sampler = trial or cirq.Simulator()  # which is not asked without a trial
    for spec, rows in rows_per_example(model).items():
        engine = make_engine(spec, NAME, sampler=sampler, **options)
        for part, times in innermost(engine):
            number = rows * times * num_examples * (1 + gradients * part.num_shifts)
            circuits += number * part.num_circuits
            shots += number * part.num_shots
            per_circuit[part.spec] = max(part.num_shots, per_circuit.get(part.spec, 0))
            if trial is not None:
                calls = sum(layer.spec == spec for layer in circuit_layers(model))
                calls *= math.ceil(num_examples / batch_size) * (1 + gradients)
                per_call, per_point = _times(part)
                seconds += calls * per_call + number * per_point
    found = None if trial is None else seconds
    return Estimate(circuits, shots, tuple(per_circuit.values()), found)


def _times(engine: Any) -> tuple[float, float]:
    """Seconds of a call, and of each point in it."""

    def timed(number: int) -> float:
        points = np.zeros((number, len(engine.exponents)))
        since = time.monotonic()
        engine.values(points)
        return time.monotonic() - since

    timed(_TRIAL_POINTS)  # what is made once
    few = timed(_TRIAL_POINTS)
    if few > _SOON:
        return 0.0, few / _TRIAL_POINTS
    per_point = (timed(_MORE_TRIAL_POINTS) - few) / (_MORE_TRIAL_POINTS - _TRIAL_POINTS)
    per_point = max(per_point, 0.0)
    return max(few - _TRIAL_POINTS * per_point, 0.0), per_point


class _Counted(cirq.Sampler):
    """A sampler that counts what it is asked for."""

    def __init__(self, sampler: cirq.Sampler):
        self.sampler = sampler
        self.num_circuits = self.num_shots = 0

    def run_sweep(self, program, params, repetitions=1):
        return self.run_batch([program], [params], repetitions)[0]

    def run_batch(self, programs, params_list=None, repetitions=1):
        results = self.sampler.run_batch(programs, params_list, repetitions)
        if isinstance(repetitions, int):
            repetitions = [repetitions] * len(programs)
        self.num_circuits += sum(map(len, results))
        self.num_shots += sum(
            len(sweep) * shots for sweep, shots in zip(results, repetitions, strict=True)
        )
        return results


class _Compared:
    """An engine that notes how far its values are from exact ones."""

    def __init__(self, engine: Any, exact: Any, errors: list[np.ndarray]):
        self._engine, self._exact, self._errors = engine, exact, errors

    def expectation(self, inputs, weights):
        values = self._engine.expectation(inputs, weights)
        exact = self._exact.expectation(inputs, weights)
        self._errors.append(np.abs(ops.convert_to_numpy(values - exact)).ravel())
        return values


def _engines(
    model: keras.Model, sampler: cirq.Sampler, options: Mapping[str, Any]
) -> dict[CircuitSpec, Any]:
    """One sampling engine for each circuit of a model."""
    specs = {layer.spec for layer in circuit_layers(model)}
    return {spec: make_engine(spec, NAME, sampler=sampler, **options) for spec in specs}


def _check_circuits(model: keras.Model) -> None:
    if not circuit_layers(model):
        raise ValueError(f"The model has no circuits. Received: {model.name!r}")


def _check_positive(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1. Received: {value!r}")


def _check_examples(inputs: np.ndarray, labels: np.ndarray) -> None:
    if not len(labels) or len(inputs) != len(labels):
        raise ValueError(
            "There must be examples, and a label for each. "
            f"Received: {len(inputs)} examples and {len(labels)} labels"
        )


def _called(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Outputs, layer by layer and not as a graph."""
    return ops.convert_to_numpy(model(inputs, training=False))
