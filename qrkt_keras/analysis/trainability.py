"""Barren plateaus: how the variance of gradients falls with the number of qubits and the depth."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras.analysis.loss import array_of
from qrkt_keras.analysis.progress import shown
from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import check_engine, make_engine, plan
from qrkt_keras.layers.projection import positive_integer, whole_number
from qrkt_keras.training.checkpoints import generator_state, restore_generator_state
from qrkt_keras.training.files import atomic_write

# Bounds on what runs in one call: bytes of states, and angles, of each of which a gate's matrix is
# made.
_BYTES = 256 * 2**20
_ANGLES = 100_000

# A derivative below so many units in the last place of the largest one is rounding.
_ROUNDING = 100

# TensorFlow Quantum simulates in float32: a derivative that is 0 came out as 5e-6 at most.
_TFQ_ROUNDING = 1e-4

# Examples on which a model is run where none are given.
_NUM_EXAMPLES = 8

Build = str | Callable[[int, int], CircuitSpec | keras.Model]


@dataclasses.dataclass(frozen=True, eq=False)
class Trainability:
    """The variance of gradients against the number of qubits and the depth.

    Args:
        num_qubits: `(q,)`, the numbers of qubits.
        depths: `(d,)`, the depths.
        variances: `(d, q)`, the variance of the derivative over random weights.
        standard_errors: `(d, q)`, of the variances, see `gradient_variance`.
        num_samples: How many draws of all weights they are estimated from.

    Example:

    >>> variances = np.array([[0.25, 0.125, 0.0625]])
    >>> result = Trainability((2, 3, 4), (8,), variances, variances / 5, num_samples=50)
    >>> result.rates().round(3)
    array([0.693])
    """

    num_qubits: tuple[int, ...]
    depths: tuple[int, ...]
    variances: np.ndarray
    standard_errors: np.ndarray
    num_samples: int

    def rates(self) -> np.ndarray:
        """How fast the variance falls with each qubit: b in `log Var = a - b n`, by least squares.

        Of a 2-design b is log 2 = 0.69 (see `gradient_variance`); where there is no barren plateau
        it is about 0.

        Returns:
            `(d,)`, for each depth.

        Raises:
            ValueError: If there is one number of qubits only, or a variance is 0.
        """
        if len(self.num_qubits) < 2:
            raise ValueError(
                "A rate needs two different numbers of qubits. "
                f"Received: num_qubits={list(self.num_qubits)}"
            )
        if not (self.variances > 0).all():
            raise ValueError(
                "A rate needs variances above 0. "
                f"Received: variances={np.asarray(self.variances).tolist()}"
            )
        logarithms = np.log(self.variances).T
        return -np.polynomial.polynomial.polyfit(self.num_qubits, logarithms, 1)[1]


def gradient_variance(
    build: Build,
    num_qubits: Sequence[int],
    depths: Sequence[int],
    *,
    num_samples: int = 100,
    parameter: int | None = 0,
    observable: int = 0,
    initializer: Any = None,
    inputs: Callable[[Any], Any] | None = None,
    seed: int = 0,
    engine: str = "auto",
    progress: bool = True,
) -> Trainability:
    r"""The variance over random weights of a derivative, against the number of qubits and depth.

    For a circuit it is that of one expectation value by one angle,

    $$\mathrm{Var}_\theta \left[ \partial \langle O \rangle / \partial \theta_k \right]$$

    Where the circuit before the angle and that after it are 2-designs, O is a Pauli string, and the
    angle is of a Pauli rotation, it is $D^2 / (2 (D + 1) (D^2 - 1))$ with $D = 2^n$: it halves with
    each qubit, and so gradients vanish exponentially, a barren plateau (J. R. McClean et al.,
    *Barren plateaus in quantum neural network training landscapes*, 2018, arXiv 1803.11173).

    All samples run in one call, as copies of one circuit with weights of their own; in several
    where they would take more memory than 256 MiB or so.

    Args:
        build: A circuit template's name, one of `templates.list()` or `"patch"`, or a function of
            `(num_qubits, depth)` that returns a `CircuitSpec` or a built Keras model. The depth is
            a template's `num_layers`; of `"patch"` it is `num_blocks`, each qubit reads 8
            features, and the observables are X of each qubit, then Z of each. Of a model
            the derivative is that of its mean output by its trainable weights (of a softmax, whose
            mean is constant, that is rounding); it is built once a sample, which gives it fresh
            weights by its own initialisers.
        num_qubits: Numbers of qubits, each at least 1.
        depths: Depths, each at least 1.
        num_samples: Draws of all weights, at least 2.
        parameter: By which weight, counted from 0 in the circuit's or the model's order, among
            those that can have a gradient: others, such as the angles of gates outside the
            observable's light cone, have no variance, and do not count. None is the mean of the
            variances by all of these.
        observable: Of which of a circuit's observables.
        initializer: Of a circuit's angles, on `weight_shape`; by default uniform in [0, 2π).
        inputs: A function of what `build` returned that returns a circuit's input angles
            `(num_inputs,)`, or a model's examples `(B, ...)`. By default a circuit's are uniform
            in [0, 2π), drawn anew for each sample, and a model's are 8 examples, uniform in [0, 1).
        seed: Seed of all that is drawn, a whole number of 0 or more. What is drawn for a number of
            qubits and a depth does not depend on the others.
        engine: What computes the circuits, see `execution.plan`. A model has its own.
        progress: Whether to show how far it is.

    Returns:
        Variances and their standard errors. These are `std((g - mean g)^2) / sqrt(num_samples)`
        (mean over weights, if so asked for): of so heavy-tailed a distribution as gradients of many
        qubits have, they tell too little where there are few samples.

    Raises:
        TypeError: If `build` returns something else.
        ValueError: If a number is out of range, no weight has a gradient, a model's weights are
            always the same, or what is of circuits only is asked of a model.
        UnsupportedCircuitError: If the engine refuses a circuit, before any is run.
        FloatingPointError: If a derivative is not finite.

    Example:

    >>> result = gradient_variance("rx_ring", [3, 6], [1], num_samples=2000, progress=False)
    >>> result.variances.round(2)  # 1/4 and 1/32
    array([[0.25, 0.03]])
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "The analysis differentiates with TensorFlow: start Python with "
            f"KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    check_engine(engine)
    num_qubits = _sizes("num_qubits", num_qubits)
    depths = _sizes("depths", depths)
    if positive_integer("num_samples", num_samples) < 2:
        raise ValueError(f"A variance needs two samples. Received: num_samples={num_samples}")
    observable, seed = whole_number("observable", observable), whole_number("seed", seed)
    if parameter is not None:
        parameter = whole_number("parameter", parameter)
    if inputs is not None and not callable(inputs):
        raise TypeError(f"inputs must be a function. Received: inputs={inputs!r}")
    if isinstance(build, str):
        build = _template(build)
    if initializer is not None:
        initializer = keras.initializers.get(initializer)
    of_circuits = {"observable": observable, "initializer": initializer, "engine": engine}
    moments = np.empty((2, len(depths), len(num_qubits)))
    done, total = 0, len(depths) * len(num_qubits) * num_samples
    # Narrow ones first, for they are quick; what is refused is so before any of them.
    places = [(i, j) for j in np.argsort(num_qubits) for i in range(len(depths))]
    first = {}
    for i, j in places:
        width, depth = num_qubits[j], depths[i]
        drawn = np.random.SeedSequence([seed, width, depth])
        one = _fresh(build, width, depth, int(drawn.generate_state(1)[0]))
        _check_built(one, width, depth, of_circuits)
        first[i, j] = drawn, one
    with shown("gradients", total, progress) as show:
        for i, j in places:
            width, depth = num_qubits[j], depths[i]
            drawn, one = first.pop((i, j))
            if isinstance(one, CircuitSpec):
                random = np.random.default_rng(drawn)
                rows = _of_circuit(one, num_samples, random, inputs, **of_circuits)
            else:
                seeds = drawn.generate_state(num_samples + 1).tolist()[1:]
                models = (_fresh(build, width, depth, one_seed) for one_seed in seeds)
                rows = _of_model(one, models, np.random.default_rng(drawn), inputs)
            gradients = []
            for row in rows:
                gradients.append(row)
                done += len(row)
                show(done, f"{width} qubits, depth {depth}")
            where = f"{width} qubits, depth {depth}"
            moments[:, i, j] = _variance(np.concatenate(gradients), parameter, engine, where)
    return Trainability(num_qubits, depths, *moments, num_samples)


def _template(name: str) -> Callable[[int, int], CircuitSpec]:
    names = (*templates.list(), "patch")
    if name not in names:
        raise ValueError(
            f"The circuit templates of any number of qubits are {', '.join(names)}. "
            f"Received: name={name!r}"
        )

    def build(width: int, depth: int) -> CircuitSpec:
        if name == "patch":
            # As many features a qubit as the source's circuit has.
            return templates.patch(depth, width, num_features=8 * width, num_values=2 * width)
        return templates.get(name, width, num_layers=depth)

    return build


def _sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(positive_integer(name, value) for value in np.ravel(values).tolist())
    if not sizes or len(set(sizes)) < len(sizes):
        raise ValueError(f"{name} must be different numbers. Received: {name}={values!r}")
    return sizes


def _check_built(built: Any, width: int, depth: int, of_circuits: dict[str, Any]) -> None:
    """Refuses what cannot be run, or cannot be asked of it."""
    if isinstance(built, CircuitSpec):
        if of_circuits["observable"] >= built.num_observables:
            raise ValueError(
                f"The circuit has the observables 0 to {built.num_observables - 1}. "
                f"Received: observable={of_circuits['observable']}"
            )
        if not built.num_weights:
            raise ValueError(f"The circuit must have a weight. Received: {built!r}")
        make_engine(built, of_circuits["engine"])
        return
    if not isinstance(built, keras.Model):
        raise TypeError(
            "build must return a CircuitSpec or a Keras model. "
            f"Received: {built!r} for {width} qubits, depth {depth}"
        )
    asked = [name for name, value in of_circuits.items() if value not in (None, 0, "auto")]
    if asked:
        raise ValueError(
            "A model has its own outputs, initialisers and engines: leave out "
            f"{', '.join(asked)}. Received: {asked[0]}={of_circuits[asked[0]]!r}"
        )
    if not built.built or not built.trainable_variables:
        raise ValueError(
            f"build must return a built model with a trainable weight. Received: {built.name!r}"
        )


def _of_circuit(
    spec: CircuitSpec,
    num_samples: int,
    random: np.random.Generator,
    inputs: Callable[[Any], Any] | None,
    *,
    observable: int,
    initializer: Any,
    engine: str,
) -> Iterator[np.ndarray]:
    import tensorflow as tf

    executor = make_engine(spec, engine)
    # Drawn at once, so that they do not depend on how many run in one call.
    weights = _angles(spec, num_samples, random, initializer)
    rows = random.uniform(0, 2 * math.pi, (num_samples, spec.num_inputs))
    if inputs is not None:
        row = np.asarray(inputs(spec), np.float64)
        if row.shape != (spec.num_inputs,):
            raise ValueError(
                f"inputs must return the circuit's ({spec.num_inputs},) angles. "
                f"Received: shape {row.shape}"
            )
        rows = np.tile(row, (num_samples, 1))
    size = _samples_in_a_call(spec, executor.name)
    for start in range(0, num_samples, size):
        angles = tf.constant(weights[start : start + size])
        with tf.GradientTape() as tape:
            tape.watch(angles)
            values = executor.expectation(tf.constant(rows[None, start : start + size]), angles)
            # Each copy depends on its own weights alone, so this is all derivatives at once.
            value = tf.reduce_sum(values[..., observable])
        gradient = tape.gradient(value, angles, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        yield gradient.numpy()


def _angles(
    spec: CircuitSpec, num_samples: int, random: np.random.Generator, initializer: Any
) -> np.ndarray:
    """Weights of all samples, `(num_samples, num_weights)` float64."""
    if initializer is None:
        return random.uniform(0, 2 * math.pi, (num_samples, spec.num_weights))
    drawn = []
    with _seeded(int(random.integers(2**32))):
        for _ in range(num_samples):
            # An initializer of a fixed seed returns the same values at each call.
            if hasattr(initializer, "seed"):
                config = {**initializer.get_config(), "seed": int(random.integers(2**31))}
                initializer = initializer.__class__.from_config(config)
            values = keras.ops.convert_to_numpy(initializer(spec.weight_shape, dtype="float64"))
            drawn.append(values.ravel())
    return np.array(drawn, np.float64)


def _samples_in_a_call(spec: CircuitSpec, engine: str) -> int:
    (candidate,) = (one for one in plan(spec, 1, engine).candidates if one.engine == engine)
    # Plans are for float32, of half the size.
    by_states = _BYTES // max(1, math.ceil(2 * candidate.num_bytes))
    return max(1, min(by_states, _ANGLES // spec.num_weights))


def _of_model(
    model: keras.Model,
    models: Iterator[keras.Model],
    random: np.random.Generator,
    inputs: Callable[[Any], Any] | None,
) -> Iterator[np.ndarray]:
    import tensorflow as tf

    examples = tf.constant(_examples(model, random) if inputs is None else inputs(model))
    watched = [variable.value for variable in model.trainable_variables]

    @tf.function
    def gradient() -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = model(examples, training=False)
            if not tf.is_tensor(outputs):
                raise ValueError(
                    f"The model must have one output. Received: {type(outputs).__name__}"
                )
            value = tf.reduce_mean(outputs)
        zero = tf.UnconnectedGradients.ZERO
        slopes = tape.gradient(value, watched, unconnected_gradients=zero)
        # Those of an Embedding are slices of it.
        return [tf.convert_to_tensor(slope) for slope in slopes]

    before = None
    for fresh in models:
        weights = [array_of(variable) for variable in fresh.variables]
        # Without states of seed generators, which are whole numbers and always differ.
        floats = [array for array in weights if not np.issubdtype(array.dtype, np.integer)]
        if before is not None and all(map(np.array_equal, before, floats)):
            raise ValueError(
                "The model's weights are the same each time that it is built: leave out the seeds "
                f"of its initialisers. Received: {fresh.name!r}"
            )
        before = floats
        for variable, value in zip(model.variables, weights, strict=True):
            variable.assign(value)
        yield np.concatenate([part.numpy().ravel() for part in gradient()])[None]


def _examples(model: keras.Model, random: np.random.Generator) -> np.ndarray:
    taken = getattr(model, "inputs", None) or []
    if len(taken) != 1 or "float" not in taken[0].dtype or None in taken[0].shape[1:]:
        raise ValueError(
            "Examples are drawn for a functional model of one input of floats and known shape; for "
            f"another one, inputs= must return them. Received: {model.name!r}"
        )
    return random.random((_NUM_EXAMPLES, *taken[0].shape[1:])).astype(taken[0].dtype)


def _fresh(build: Callable[[int, int], Any], width: int, depth: int, seed: int) -> keras.Model:
    with _seeded(seed):
        return build(width, depth)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """What draws from the process-wide generators inside has this seed; others do not notice."""
    before = generator_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        restore_generator_state(before)


def _variance(
    gradients: np.ndarray, parameter: int | None, engine: str, where: str
) -> tuple[float, float]:
    """The variance of a derivative, and its standard error."""
    finite = np.isfinite(gradients)
    if not finite.all():
        raise FloatingPointError(
            f"A derivative is not finite. Received: {gradients[~finite][0]} with {where}"
        )
    largest = np.abs(gradients).max(axis=0)
    rounding = _TFQ_ROUNDING
    if engine != "tfq":
        rounding = _ROUNDING * np.finfo(gradients.dtype).eps
    live = np.flatnonzero(largest > rounding * largest.max())
    if not live.size:
        raise ValueError(f"No weight has a gradient. Received: {where}")
    if parameter is not None:
        if parameter >= len(live):
            raise ValueError(
                f"Of the weights, {len(live)} can have a gradient, counted from 0. "
                f"Received: parameter={parameter} with {where}"
            )
        live = live[[parameter]]
    chosen = gradients[:, live]
    samples = len(chosen)
    squares = ((chosen - chosen.mean(axis=0)) ** 2).mean(axis=1) * samples / (samples - 1)
    return squares.mean(), squares.std(ddof=1) / math.sqrt(samples)


def trainability_picture(
    result: Trainability, path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draws the variance of gradients against the number of qubits, a line a depth, as PNG.

    The variance is on a logarithmic scale, bars are standard errors, and the legend tells the rate
    of each depth, see `Trainability.rates`. A dashed line has the slope of a 2-design.

    Args:
        result: What `gradient_variance` returned.
        path: The file to write.
        title: A line above the picture.

    Raises:
        ValueError: If a variance is 0.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not (np.asarray(result.variances) > 0).all():
        raise ValueError(
            "A variance of 0 has no place on a logarithmic scale. "
            f"Received: variances={np.asarray(result.variances).tolist()}"
        )
    widths = np.array(result.num_qubits)
    order = np.argsort(widths)
    has_rates = len(widths) > 1
    rates = result.rates() if has_rates else np.full(len(result.depths), np.nan)
    figure = Figure(figsize=(7.6, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    # Not as far as yellow, which is faint on white.
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(result.depths)))
    for i, (depth, rate) in enumerate(zip(result.depths, rates, strict=True)):
        label = f"{depth}" + (f"   ({rate:.2f})" if has_rates else "")
        axes.errorbar(
            widths[order],
            result.variances[i][order],
            yerr=result.standard_errors[i][order],
            color=colours[i],
            marker="o",
            markersize=4,
            linewidth=1.4,
            capsize=3,
            label=label,
        )
    if has_rates:
        # Through the middle of the deepest circuits' line.
        deepest = np.log(result.variances[int(np.argmax(result.depths))])
        guide = np.exp(deepest.mean() - math.log(2) * (widths[order] - widths.mean()))
        label = f"a 2-design's slope   ({math.log(2):.2f})"
        axes.plot(widths[order], guide, "--", color="#999999", linewidth=1.2, label=label, zorder=1)
    axes.set_yscale("log", nonpositive="clip")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("qubits")
    axes.set_ylabel("variance of the derivative")
    axes.set_title(title)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if has_rates:  # of lines and bars, matplotlib lists the lines first
        handles, labels = [*handles[1:], handles[0]], [*labels[1:], labels[0]]
    axes.legend(
        handles,
        labels,
        title="depth" + ("   (rate a qubit)" if has_rates else ""),
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        alignment="left",
        fontsize=9,
    )
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
