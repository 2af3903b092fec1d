"""Gradient variance: closed forms, Cirq's central differences, 2-designs."""

from __future__ import annotations

import math
import random

import cirq
import keras
import numpy as np
import pytest
import sympy
from PIL import Image
from support.reference import cirq_gradient

from qrkt_keras.analysis import trainability
from qrkt_keras.analysis.trainability import (
    Trainability,
    gradient_variance,
    trainability_picture,
)
from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import UnsupportedCircuitError
from qrkt_keras.layers import PQC

# Standard errors by which an estimate may be off: one run in 16,000 by chance, and seeds are fixed.
SIGMAS = 4


def one_rotation(num_qubits=1, depth=1):
    """<Z> = cos w, of as many qubits as are asked for: the others idle."""
    qubits = cirq.LineQubit.range(num_qubits)
    circuit = cirq.Circuit(cirq.rx(sympy.Symbol("w"))(qubits[0]), cirq.I.on_each(*qubits))
    return CircuitSpec(circuit, [], ["w"], [cirq.Z(qubits[0])])


def variance(build, width, depth=1, **options):
    """Variance and standard error of one number of qubits and one depth."""
    options = {"num_samples": 1000, "progress": False} | options
    result = gradient_variance(build, [width], [depth], **options)
    assert result.variances.shape == result.standard_errors.shape == (1, 1)
    return result.variances.item(), result.standard_errors.item()


# --- closed forms --------------------------------------------------------------------------


def test_a_single_rotation():
    # The derivative is -sin w: variance 1/2, fourth moment 3/8.
    number = 4000
    value, error = variance(one_rotation, 1, num_samples=number)
    expected = math.sqrt((3 / 8 - 1 / 4) / number)
    assert abs(value - 1 / 2) < SIGMAS * expected
    assert error == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("observable", "factors"), [(0, 4), (1, 2), (2, 3), (4, 5)])
def test_products_of_cosines(observable, factors):
    # SPEC.md, section 1: <Z_i> of rx_ring is a product of cosines, each with an angle of its own.
    number = 20_000
    value, error = variance("rx_ring", 5, observable=observable, num_samples=number)
    expected = math.sqrt(((3 / 8) ** factors - (1 / 4) ** factors) / number)
    assert abs(value - 2**-factors) < SIGMAS * expected
    assert error == pytest.approx(expected, rel=0.2)


def test_weights_without_a_gradient_do_not_count():
    # <Z_0> of rx_ring does not depend on the first weight; the variance is 1/4 by the other two.
    for parameter in (0, 1, None):
        value, error = variance("rx_ring", 3, parameter=parameter)
        assert abs(value - 1 / 4) < SIGMAS * error
    with pytest.raises(ValueError, match="Of the weights, 2 can have a gradient.*parameter=2"):
        variance("rx_ring", 3, parameter=2, num_samples=10)


def test_the_circuit_of_patches():
    """By name it has 8 features a qubit and depth is its blocks; X is read first, then Z."""
    options = {"num_samples": 30, "progress": False}
    named = gradient_variance("patch", [2, 3], [1, 2], observable=1, **options)
    for column, (width, features) in enumerate([(2, 16), (3, 24)]):
        for row, depth in enumerate([1, 2]):
            # Of three values, <X_0>, <X_1> and <Z_0>, the second is read.
            spec = templates.patch(depth, num_qubits=width, num_features=features, num_values=3)
            value, error = variance(
                lambda *_, spec=spec: spec, width, depth=depth, observable=1, num_samples=30
            )
            assert named.variances[row, column] == pytest.approx(value, rel=1e-5)
            assert named.standard_errors[row, column] == pytest.approx(error, rel=1e-5)


def test_angles_by_an_initializer():
    value, error = variance(
        one_rotation, 1, initializer=keras.initializers.RandomUniform(-0.1, 0.1, seed=3)
    )
    # The variance of sin w, for small w that of w.
    assert abs(value - 0.2**2 / 12) < SIGMAS * error
    by_name, _ = variance(one_rotation, 1, initializer="glorot_normal", num_samples=10)
    assert 0 < by_name < 1


# --- against Cirq --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "parameter", "tolerance"),
    [("auto", 0, 1e-7), ("auto", 3, 1e-7), ("auto", None, 1e-7), ("tfq", None, 1e-4)],
)
def test_derivatives_are_those_of_cirq(engine, parameter, tolerance):
    spec = templates.hardware_efficient(3, num_layers=2)
    generator = np.random.default_rng(5)
    rows = generator.uniform(0, 2 * np.pi, (3, spec.num_weights))
    row = generator.uniform(0, 2 * np.pi, spec.num_inputs)
    unused = iter(rows)
    value, error = variance(
        lambda width, depth: spec,
        3,
        num_samples=3,
        observable=1,
        parameter=parameter,
        engine=engine,
        initializer=lambda shape, dtype: next(unused).reshape(shape),
        inputs=lambda built: row,
    )
    upstream = np.eye(3)[1]
    gradients = np.array([cirq_gradient(spec, row, weights, upstream) for weights in rows])
    gradients = gradients[:, spec.num_inputs :]
    # Of the last layer, only the rotations of qubit 1 are before the read-out.
    live = gradients[:, (np.abs(gradients) > 1e-6).any(axis=0)]
    assert 0 < live.shape[1] < spec.num_weights
    chosen = live if parameter is None else live[:, [parameter]]
    assert value == pytest.approx(chosen.var(axis=0, ddof=1).mean(), rel=tolerance)
    squares = ((chosen - chosen.mean(axis=0)) ** 2).mean(axis=1) * 3 / 2
    assert error == pytest.approx(squares.std(ddof=1) / math.sqrt(3), rel=tolerance)


# --- barren plateaus -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def plateau():
    """A shallow and a deep circuit: no plateau, and one."""
    return gradient_variance(
        "hardware_efficient_once", [2, 4, 6], [1, 14], num_samples=300, seed=1, progress=False
    )


def test_a_deep_circuit_is_a_2_design(plateau):
    # After the first angle, of an RZ on a qubit in the state RX(x)|0>, comes all of the circuit.
    # If that is a 2-design, the observable there is a Pauli string at random, which contributes
    # where it does not commute with Z: in all D (1 - <Z>^2) / (2 (D^2 - 1)), and the mean of
    # <Z>^2 = cos^2 x is 1/2.
    dimension = 2.0 ** np.array(plateau.num_qubits)
    expected = dimension / (4 * (dimension**2 - 1))
    assert (np.abs(plateau.variances[1] - expected) < SIGMAS * plateau.standard_errors[1]).all()
    # Errors of some percent, so that this can fail.
    assert (plateau.standard_errors[1] < 0.2 * expected).all()
    assert plateau.rates()[1] == pytest.approx(math.log(2), abs=0.2)


def test_a_shallow_circuit_has_no_plateau(plateau):
    # <Z_0> depends on the two angles of qubit 0, however many qubits there are.
    assert plateau.variances[0] == pytest.approx(plateau.variances[0].mean(), rel=0.3)
    assert abs(plateau.rates()[0]) < 0.1


def test_rates_are_those_of_an_exponential():
    widths = np.array([3, 5, 9])
    variances = np.stack([0.3 * np.exp(-0.7 * widths), 0.1 * np.exp(-0.2 * widths)])
    result = Trainability((3, 5, 9), (1, 2), variances, variances / 10, 100)
    assert result.rates() == pytest.approx([0.7, 0.2])
    with pytest.raises(ValueError, match=r"two different numbers of qubits.*num_qubits=\[3\]"):
        Trainability((3,), (1,), variances[:1, :1], variances[:1, :1], 100).rates()
    with pytest.raises(ValueError, match="variances above 0"):
        Trainability((3, 5, 9), (1, 2), 0 * variances, variances, 100).rates()


# --- draws ---------------------------------------------------------------------------------


def test_draws_depend_on_the_seed_and_not_on_the_rest(monkeypatch):
    options = {"num_samples": 20, "progress": False}
    both = gradient_variance("rx_ring", [3, 2], [2, 1], seed=4, **options)
    one = gradient_variance("rx_ring", [3], [1], seed=4, **options)
    assert one.variances[0, 0] == both.variances[1, 0]
    assert one.standard_errors[0, 0] == both.standard_errors[1, 0]
    other = gradient_variance("rx_ring", [3], [1], seed=5, **options)
    assert other.variances[0, 0] != one.variances[0, 0]
    # Nor on how many run in one call.
    monkeypatch.setattr(trainability, "_ANGLES", 7 * 3)
    assert gradient_variance("rx_ring", [3], [1], seed=4, **options).variances == pytest.approx(
        one.variances, rel=1e-12
    )


def test_memory_bounds_what_runs_in_one_call(monkeypatch):
    monkeypatch.setattr(trainability, "_ANGLES", 10**9)
    small, large = (
        # Deep enough that no observable's light cone is narrower than the circuit.
        trainability._samples_in_a_call(templates.hardware_efficient(n, 12), "state_vector")
        for n in (8, 12)
    )
    # States of 2^n amplitudes, in 256 MiB.
    assert small / large == pytest.approx(2**4, rel=0.05)
    assert 10 < large < 2**28 / (16 * 2**12)
    monkeypatch.setattr(trainability, "_BYTES", 1000)
    assert trainability._samples_in_a_call(templates.hardware_efficient(8, 2), "state_vector") == 1


def test_progress_is_told_where_it_is_asked_for(capsys):
    options = {"num_samples": 10}
    gradient_variance("rx_ring", [2, 3], [1], progress=False, **options)
    assert capsys.readouterr().out == ""
    gradient_variance("rx_ring", [2, 3], [1], **options)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "gradients 10/20  2 qubits, depth 1"
    assert last == "gradients 20/20  3 qubits, depth 1"


# --- models --------------------------------------------------------------------------------


def sine(width, depth):
    """f = sin(w x), with w uniform in [0, 2 pi)."""
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(
                1,
                activation=keras.ops.sin,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomUniform(0, 2 * math.pi),
            ),
        ]
    )


def test_a_models_weights_are_drawn_by_its_initialisers():
    before = random.getstate(), np.random.get_state()[1].tolist()
    number = 150
    value, error = variance(
        sine, 1, num_samples=number, inputs=lambda model: np.ones((2, 1), "float32")
    )
    expected = math.sqrt((3 / 8 - 1 / 4) / number)
    assert abs(value - 1 / 2) < SIGMAS * expected
    assert error == pytest.approx(expected, rel=0.2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_model_with_a_circuit_and_random_examples():
    def build(width, depth):
        inputs = keras.Input((width,))
        outputs = keras.layers.Dense(2)(PQC(templates.rx_ring(width, depth))(inputs))
        return keras.Model(inputs, outputs)

    options = {"num_samples": 5, "seed": 3}
    value, error = variance(build, 3, parameter=None, **options)
    assert value > 0 and error > 0
    assert variance(build, 3, parameter=None, **options) == (value, error)
    # The mean of two outputs with a bias each: these come last, and their derivative is 1/2.
    angles, kernel = 3, 2 * 3
    assert variance(build, 3, parameter=angles + kernel + 1, **options)[0] == 0
    with pytest.raises(ValueError, match="Of the weights, 11 can have a gradient"):
        variance(build, 3, parameter=angles + kernel + 2, **options)


def test_a_model_with_an_embedding():
    """Its gradient is by slices: a token's row has the weight times the token's share."""

    def build(width, depth):
        tokens = keras.Input((4,), dtype="int32")
        kernel = keras.initializers.RandomUniform(-1.0, 1.0)
        rows = keras.layers.Embedding(5, 1)(tokens)
        return keras.Model(
            tokens, keras.layers.Dense(1, use_bias=False, kernel_initializer=kernel)(rows)
        )

    number = 100
    options = {"num_samples": number, "inputs": lambda model: np.array([[0, 1, 1, 3]])}
    # Tokens 2 and 4 do not occur, so their weights do not count.
    for parameter, share in enumerate([1 / 4, 1 / 2, 1 / 4]):
        value, _ = variance(build, 1, parameter=parameter, **options)
        expected = share**2 * math.sqrt((1 / 5 - 1 / 9) / number)
        assert abs(value - share**2 / 3) <= SIGMAS * expected


# --- what is refused -----------------------------------------------------------------------


def not_built(width, depth):
    return keras.Sequential([keras.layers.Dense(1)])


def always_the_same(width, depth):
    # The seed generator of Dropout has another state each time, which says nothing.
    layers = [keras.layers.Dropout(0.5), keras.layers.Dense(1, kernel_initializer="ones")]
    return keras.Sequential([keras.Input((1,)), *layers])


def of_integers(width, depth):
    tokens = keras.Input((4,), dtype="int32")
    return keras.Model(tokens, keras.layers.Embedding(5, 2)(tokens))


def infinite(width, depth):
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1),
            keras.layers.Lambda(lambda x: keras.ops.log(0 * x)),
        ]
    )


def no_weights(width, depth):
    qubit = cirq.q(0)
    return CircuitSpec(cirq.Circuit(cirq.rx(sympy.Symbol("x"))(qubit)), ["x"], [], [cirq.Z(qubit)])


def no_gradient(width, depth):
    qubit = cirq.q(0)
    return CircuitSpec(cirq.Circuit(cirq.rz(sympy.Symbol("w"))(qubit)), [], ["w"], [cirq.Z(qubit)])


@pytest.mark.parametrize(
    ("build", "changes", "error", "told"),
    [
        ("rx_rnig", {}, ValueError, "name='rx_rnig'"),
        ("ry_ring", {"depths": [2]}, ValueError, "num_layers=2"),
        ("rx_ring", {"num_qubits": [0]}, ValueError, "num_qubits=0"),
        ("rx_ring", {"num_qubits": []}, ValueError, r"num_qubits=\[\]"),
        ("rx_ring", {"depths": [1, 1]}, ValueError, r"depths=\[1, 1\]"),
        ("rx_ring", {"num_samples": 1}, ValueError, "num_samples=1"),
        ("rx_ring", {"parameter": -1}, ValueError, "parameter=-1"),
        ("rx_ring", {"seed": None}, ValueError, "seed=None"),
        ("rx_ring", {"observable": 2}, ValueError, "observable=2"),
        ("rx_ring", {"engine": "abacus"}, ValueError, "'abacus'"),
        ("rx_ring", {"inputs": lambda spec: [0.0]}, ValueError, r"shape \(1,\)"),
        (no_weights, {}, ValueError, "must have a weight"),
        (no_gradient, {}, ValueError, "No weight has a gradient"),
        ("rx_ring", {"inputs": np.zeros(2)}, TypeError, "inputs must be a function. Received"),
        (lambda width, depth: 3, {}, TypeError, "Received: 3"),
        (not_built, {}, ValueError, "built model"),
        (always_the_same, {}, ValueError, "same each time"),
        (of_integers, {}, ValueError, "inputs= must return them"),
        (infinite, {}, FloatingPointError, "not finite"),
        (sine, {"observable": 1}, ValueError, "observable=1"),
        (sine, {"engine": "state_vector"}, ValueError, "engine='state_vector'"),
    ],
)
def test_what_is_refused(build, changes, error, told):
    arguments = {"num_qubits": [2], "depths": [1], "num_samples": 2, "progress": False} | changes
    with pytest.raises(error, match=told):
        gradient_variance(build, **arguments)


def test_a_circuit_that_an_engine_refuses_is_so_before_others_are_run(monkeypatch):
    def run(*arguments, **options):
        raise AssertionError("run")

    monkeypatch.setattr(trainability, "_of_circuit", run)
    with pytest.raises(UnsupportedCircuitError):
        gradient_variance("hardware_efficient", [2, 40], [30], num_samples=5, progress=False)


# --- pictures ------------------------------------------------------------------------------


def test_the_picture_has_variances_errors_and_rates(plateau, tmp_path, figures):
    path = tmp_path / "trainability.png"
    trainability_picture(plateau, path, title="hardware_efficient")
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 500
    (axes,) = figures[0].axes
    assert axes.get_yscale() == "log" and axes.get_title() == "hardware_efficient"
    assert len(axes.containers) == 2
    for bars, values, errors in zip(
        axes.containers, plateau.variances, plateau.standard_errors, strict=True
    ):
        line, _, (segments,) = bars.lines
        np.testing.assert_array_equal(line.get_xdata(), plateau.num_qubits)
        np.testing.assert_array_equal(line.get_ydata(), values)
        ends = np.array([segment[:, 1] for segment in segments.get_segments()])
        np.testing.assert_allclose(ends, np.stack([values - errors, values + errors], axis=1))
    rates = [
        f"{depth}   ({rate:.2f})" for depth, rate in zip((1, 14), plateau.rates(), strict=True)
    ]
    legend = axes.get_legend()
    told = [text.get_text() for text in legend.get_texts()]
    assert told == [*rates, "a 2-design's slope   (0.69)"]
    # It halves with each qubit, through the middle of the deeper circuits' line.
    (guide,) = (line for line in axes.lines if line.get_linestyle() == "--")
    heights = guide.get_ydata()
    np.testing.assert_allclose(heights[1:] / heights[:-1], 1 / 4)  # two qubits more
    assert np.log(heights).mean() == pytest.approx(np.log(plateau.variances[1]).mean())
    # One number of qubits has no rate, and is drawn all the same.
    single = Trainability((4,), (1,), np.array([[0.1]]), np.array([[0.02]]), 10)
    trainability_picture(single, tmp_path / "single.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["single.png", "trainability.png"]


@pytest.mark.parametrize("num_qubits", [(4,), (4, 5)])
def test_a_variance_of_nothing_is_not_drawn(num_qubits, tmp_path):
    nothing = np.zeros((1, len(num_qubits)))
    with pytest.raises(ValueError, match=r"logarithmic scale. Received: variances=\[\[0.0"):
        trainability_picture(Trainability(num_qubits, (1,), nothing, nothing, 10), tmp_path / "a")
    assert not [*tmp_path.iterdir()]
