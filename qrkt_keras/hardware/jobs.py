"""Jobs: a model's examples run on a sampler, and compared with what is exact."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cirq
import keras
import numpy as np
from keras import ops

from qrkt_keras.analysis.progress import shown
from qrkt_keras.execution import make_engine
from qrkt_keras.execution.sampling import NAME
from qrkt_keras.hardware.circuit_counts import rows_per_example
from qrkt_keras.layers import PQC

# Shots with which a processor's time for a circuit is measured before a job.
_TRIAL_POINTS = 2


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
    """Has a model's circuits run on a sampler within a `with` block.

    Args:
        model: A built model with `PQC` layers, of the zoo or your own.
        sampler: What runs the circuits.
        **options: Of `execution.Sampling`: `repetitions`, `compiled` and so on.

    Raises:
        ValueError: If the model has no circuits, and as `execution.Sampling`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import PatchQNN
    >>> model = PatchQNN(num_blocks=1, stride=6)
    >>> with sampled(model, cirq.Simulator(seed=0), repetitions=10):
    ...     model(np.zeros((1, 28, 28, 1))).shape
    TensorShape([1, 10])
    """
    layers = _circuits(model)
    engines = [layer.engine for layer in layers]
    executors = [layer._executor for layer in layers]
    try:
        for layer in layers:
            layer.set_engine(NAME, sampler=sampler, **options)
        yield
    finally:
        for layer, engine, executor in zip(layers, engines, executors, strict=True):
            layer._executor, layer.engine = executor, engine
            layer.supports_jit = executor.supports_jit


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
    _check_examples(inputs, labels)
    counted = _Counted(sampler)
    since, errors = time.monotonic(), []
    logits, exact = [], []
    with (
        sampled(model, counted, **options),
        shown("examples", len(labels), progress) as show,
    ):
        for start in range(0, len(labels), batch_size):
            batch = inputs[start : start + batch_size]
            with _compared(model, errors):
                logits.append(_called(model, batch))
            done = min(start + batch_size, len(labels))
            show(done, f"{counted.num_circuits:,} circuits")
    for start in range(0, len(labels), batch_size):
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
    """Trains a classifier by gradients that a sampler's shots give.

    Adam on the mean cross-entropy, all trainable weights: those of circuits by the parameter-shift
    rule, the others through the values that it gives. The batches are a function of seed and step.
    With a `KeptRuns` as sampler a job that was ended goes on where it was when the same call is
    made again, on the same untrained model.

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
        ValueError: If there are no examples, or not as many labels; the model has no circuits.
        SamplerError: If the sampler fails.
    """
    labels = np.asarray(labels)
    _check_examples(inputs, labels)
    if type(num_steps) is not int or num_steps < 1:
        raise ValueError(f"num_steps must be a whole number >= 1. Received: {num_steps!r}")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    counted = _Counted(sampler)
    since, losses = time.monotonic(), []
    exact = [_exact_loss(model, inputs, labels, loss)]
    model.compile(keras.optimizers.Adam(learning_rate), loss, run_eagerly=True)
    with shown("steps", num_steps, progress) as show:
        for step in range(num_steps):
            drawn = np.random.default_rng([seed, step]).choice(
                len(labels), min(batch_size, len(labels)), replace=False
            )
            with sampled(model, counted, **options):
                losses.append(float(model.train_on_batch(inputs[drawn], labels[drawn])))
            model.reset_metrics()
            exact.append(_exact_loss(model, inputs, labels, loss))
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
        seconds: on this sampler, from a trial.
    """

    num_circuits: int
    num_shots: int
    seconds: float


def estimate(
    model: keras.Model,
    sampler: cirq.Sampler,
    num_examples: int,
    *,
    gradients: bool = False,
    **options: Any,
) -> Estimate:
    """Counts a job's circuits and shots, and its time by running a few of each circuit.

    Args:
        model: A built model with `PQC` layers.
        sampler: What will run the circuits; of a processor, a virtual machine in its place.
        num_examples: Examples, or examples of all steps.
        gradients: Whether gradients by all angles are taken too.
        **options: Of `execution.Sampling`.

    Returns:
        A frozen Estimate.
    """
    circuits = shots = 0
    seconds = 0.0
    for spec, rows in rows_per_example(model).items():
        engine = make_engine(spec, NAME, sampler=sampler, **options)
        inner = [(engine, 1)]
        if hasattr(engine, "engines"):
            groups = engine.cones.groups
            inner = [(e, g.num_cones) for e, g in zip(engine.engines, groups, strict=True)]
        for part, times in inner:
            number = rows * times * num_examples * (1 + gradients * part.num_shifts)
            circuits += number * part.num_circuits
            shots += number * part.num_shots
            point = np.zeros((_TRIAL_POINTS, len(part.exponents)))
            part.values(point)  # what is made once
            since = time.monotonic()
            part.values(point)
            seconds += (time.monotonic() - since) / _TRIAL_POINTS * number
    return Estimate(circuits, shots, seconds)


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

    supports_jit = False

    def __init__(self, engine: Any, errors: list[np.ndarray]):
        self._engine = engine
        self._exact = make_engine(engine.spec)
        self._errors = errors

    def expectation(self, inputs, weights):
        values = self._engine.expectation(inputs, weights)
        exact = self._exact.expectation(inputs, weights)
        self._errors.append(np.abs(ops.convert_to_numpy(values - exact)).ravel())
        return values


@contextlib.contextmanager
def _compared(model: keras.Model, errors: list[np.ndarray]) -> Iterator[None]:
    layers = _circuits(model)
    engines = [layer._executor for layer in layers]
    try:
        for layer, engine in zip(layers, engines, strict=True):
            layer._executor = _Compared(engine, errors)
        yield
    finally:
        for layer, engine in zip(layers, engines, strict=True):
            layer._executor = engine


def _circuits(model: keras.Model) -> list[PQC]:
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, PQC)]
    if not layers:
        raise ValueError(f"The model has no circuits. Received: {model.name!r}")
    return layers


def _check_examples(inputs: np.ndarray, labels: np.ndarray) -> None:
    if not len(labels) or len(inputs) != len(labels):
        raise ValueError(
            "There must be examples, and a label for each. "
            f"Received: {len(inputs)} examples and {len(labels)} labels"
        )


def _called(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Outputs, layer by layer and not as a graph."""
    return ops.convert_to_numpy(model(inputs, training=False))


def _exact_loss(model: keras.Model, inputs: np.ndarray, labels: np.ndarray, loss: Any) -> float:
    outputs = [_called(model, inputs[start : start + 256]) for start in range(0, len(labels), 256)]
    return float(loss(labels, np.concatenate(outputs)))
