"""Samples against exact values, shifted circuits against adjoint gradients, failing samplers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import cirq
import keras
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.circuits import random_spec, scaled_reupload
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import (
    SamplerError,
    Sampling,
    StateVector,
    UnsupportedCircuitError,
    make_engine,
    plan,
)
from qrkt_keras.execution.components import innermost
from qrkt_keras.execution.sampling import richardson
from qrkt_keras.layers import PQC
from qrkt_keras.zoo import PatchQNN

SPECS = {
    "rx_ring": templates.rx_ring(4),
    "ry_ring": templates.ry_ring(4),
    "hardware_efficient": templates.hardware_efficient(3),
    "several at once": templates.hardware_efficient(6, num_layers=1),
    "patch": templates.patch(1, num_qubits=3, num_features=12, num_values=4),
    "products": scaled_reupload(3, 2),
    "random_0": random_spec(0, 4, 20),
    "random_1": random_spec(1, 4, 20),
}


def four_terms() -> CircuitSpec:
    """Gates whose rule has more than two terms, and one symbol in several of them."""
    a, b, c = cirq.LineQubit.range(3)
    x, w, v = sympy.symbols("x w v")
    circuit = cirq.Circuit(
        cirq.ry(x)(a),
        cirq.H(b),
        cirq.ISWAP(a, b) ** w,
        cirq.ry(v * x + 0.3)(c).controlled_by(b),
        cirq.FSimGate(w, v)(b, c),
        cirq.ControlledGate(cirq.rz(w))(c, a),
        cirq.ry(x)(a),
    )
    return CircuitSpec(circuit, [x], [w, v], [cirq.X(a), cirq.Z(b) * cirq.Z(c), cirq.Y(c)])


class Counting(cirq.Sampler):
    """cirq.Simulator, which counts calls and keeps the last."""

    def __init__(self, seed=0):
        self.simulator = cirq.Simulator(seed=seed)
        self.calls = []

    def run_sweep(self, program, params, repetitions=1):
        raise AssertionError("all sweeps of a batch are one run_batch")

    def run_batch(self, programs, params_list=None, repetitions=1):
        self.calls.append((len(programs), [len(list(p)) for p in params_list], repetitions))
        return self.simulator.run_batch(programs, params_list, repetitions)


class Exact(Sampling):
    """The engine with infinitely many shots: exact parities of its programs, in complex128."""

    def values(self, exponents):
        simulator = cirq.Simulator(dtype=np.complex128)
        values = np.tile(self._constants, (len(exponents), 1))
        for program, coefficient in zip(self._programs, self._coefficients, strict=True):
            body = cirq.Circuit(
                cirq.Moment(op for op in moment if not cirq.is_measurement(op))
                for moment in program.circuit
            )
            place = dict(zip(program.group.qubits, program.qubits, strict=True))
            terms = program.group.terms
            parities = [cirq.PauliString({place[q]: cirq.Z for q in t.qubits}) for t in terms]
            for row, resolver in enumerate(cirq.to_resolvers(program.sweep(exponents))):
                found = simulator.simulate_expectation_values(
                    body, parities, param_resolver=resolver
                )
                for term, value in zip(terms, np.real(found), strict=True):
                    values[row, term.observable] += coefficient * term.coefficient * value
        return values


def point(spec, seed=0, batch=2):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-3, 3, (batch, 1, spec.num_inputs)).astype("float32")
    return inputs, rng.uniform(-3, 3, (1, spec.num_weights)).astype("float32")


def gradients(engine, inputs, weights, upstream):
    inputs, weights = tf.constant(inputs), tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        loss = tf.reduce_sum(values * tf.constant(upstream, tf.float32))
    found = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
    return [gradient.numpy() for gradient in found]


def bound(spec, repetitions):
    """At most the standard error of every observable, the groups measured equally often."""
    lengths = [
        sum(abs(term.coefficient) for term in observable if len(term))
        for observable in spec.observables
    ]
    return np.array(lengths) / np.sqrt(repetitions)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", [0, 1])
def test_values_are_within_five_standard_errors(name, seed):
    spec = SPECS[name]
    inputs, weights = point(spec, seed)
    engine = Sampling(spec, cirq.Simulator(seed=seed), repetitions=2000)
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()[:, 0]
    exact = np.array([cirq_expectation(spec, row, weights) for row in inputs])
    assert np.all(np.abs(values - exact) <= 5 * bound(spec, 2000) + 1e-6)
    assert np.any(values != exact)


def test_the_target_standard_error_is_kept():
    spec = SPECS["random_0"]
    inputs, weights = point(spec, batch=1)
    exact = cirq_expectation(spec, inputs[0], weights)
    engine = Sampling(spec, cirq.Simulator(seed=1), standard_error=0.2)
    draws = np.concatenate(
        [engine.expectation(tf.constant(inputs), tf.constant(weights)) for _ in range(60)]
    )[:, 0]
    # Of 60 draws the deviation is known to a tenth.
    assert np.all(draws.std(axis=0) < 0.2 * 1.3)
    assert np.all(np.abs(draws.mean(axis=0) - exact) < 5 * 0.2 / np.sqrt(60))
    assert len(engine.repetitions) == engine.num_circuits > 1


@pytest.mark.parametrize("name", [*SPECS, "four_terms"])
def test_shifted_circuits_give_the_adjoint_gradient(name):
    spec = four_terms() if name == "four_terms" else SPECS[name]
    inputs, weights = point(spec, 3)
    upstream = np.random.default_rng(4).normal(size=spec.num_observables)
    upstream /= np.abs(upstream).sum()
    ours = gradients(Exact(spec, cirq.Simulator()), inputs, weights, upstream)
    adjoint = gradients(StateVector(spec, gradient="adjoint"), inputs, weights, upstream)
    for one, other in zip(ours, adjoint, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_gradients_from_shots():
    spec = templates.hardware_efficient(2, num_layers=2)
    inputs, weights = point(spec, batch=1)
    upstream = np.array([1.0, -0.5])
    engine = Sampling(spec, cirq.Simulator(seed=0), repetitions=4000)
    sampled = gradients(engine, inputs, weights, upstream)
    exact = gradients(StateVector(spec), inputs, weights, upstream)
    # Half the difference of two values; an input is in two gates.
    error = 1.5 * np.sqrt(2 * 0.25 / 4000)
    for one, other, gates in zip(sampled, exact, (2, 1), strict=True):
        assert np.all(np.abs(one - other) < 5 * error * np.sqrt(gates))


def test_a_call_is_one_batch_and_so_is_a_gradient():
    spec = templates.patch(1, num_qubits=2, num_features=4, num_values=3)
    sampler = Counting()
    engine = Sampling(spec, sampler, repetitions=7)
    inputs, weights = point(spec, batch=3)
    engine.expectation(tf.constant(inputs), tf.constant(weights))
    assert sampler.calls == [(2, [3, 3], [7, 7])]  # X and Z, three rows each

    weights = tf.constant(weights)
    sampler.calls.clear()
    with tf.GradientTape() as tape:
        tape.watch(weights)
        values = engine.expectation(tf.constant(inputs), weights)
    tape.gradient(values, weights)
    # Data have no gradient here, so what they turn is not shifted.
    gates = sum(bool(e.free_symbols & set(spec.weights)) for e in engine.exponents)
    # Of the last ones on each qubit no observable depends on both: they are shifted at once.
    assert sampler.calls == [(2, [3, 3], [7, 7]), (2, [6 * (gates - 2)] * 2, [7, 7])]
    assert gates < len(engine.exponents)


def test_nothing_random_but_the_sampler():
    spec = SPECS["ry_ring"]
    inputs, weights = map(tf.constant, point(spec))
    runs = [
        Sampling(spec, cirq.Simulator(seed=seed)).expectation(inputs, weights).numpy()
        for seed in (5, 5, 6)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "mixed_bfloat16"])
def test_precisions(policy):
    spec = SPECS["rx_ring"]
    layer = PQC(spec, dtype=policy)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(layer.compute_dtype)
    exact = np.asarray(layer(x), "float64")
    layer.set_engine("sampling", sampler=cirq.Simulator(seed=0), repetitions=2000)
    values = layer(x)
    assert keras.backend.standardize_dtype(values.dtype) == layer.compute_dtype
    assert np.abs(np.asarray(values, "float64") - exact).max() < 5 / np.sqrt(2000) + 0.01


def test_circuits_without_symbols_and_angles_that_cancel():
    a, b = cirq.LineQubit.range(2)
    x, w = sympy.symbols("x w")
    still = CircuitSpec(cirq.Circuit(cirq.H(a), cirq.CNOT(a, b)), [], [], [cirq.Z(a) * cirq.Z(b)])
    engine = Sampling(still, cirq.Simulator(seed=0), repetitions=10)
    assert np.array_equal(
        engine.expectation(tf.zeros((3, 1, 0)), tf.zeros((2, 0))), np.ones((3, 2, 1))
    )
    circuit = cirq.Circuit(cirq.rx(w)(a), cirq.rx(-w)(a), cirq.ry(x)(b))
    spec = CircuitSpec(circuit, [x], [w], [cirq.Z(a), cirq.Z(b)])
    found = gradients(
        Sampling(spec, cirq.Simulator(seed=0), repetitions=1000),
        np.full((1, 1, 1), 0.3, "float32"),
        np.full((1, 1), 0.7, "float32"),
        np.ones(2),
    )
    assert found[1].ravel() == pytest.approx([0.0], abs=0.2)
    assert found[0].ravel() == pytest.approx([-np.sin(0.3)], abs=0.15)


@pytest.mark.parametrize("max_qubits", [None, 2, 1])
def test_the_target_holds_for_sums_and_corrected_strings(max_qubits):
    """In the state that is read worst, and where an observable is a sum of several parts'."""
    qubits = cirq.LineQubit.range(3)
    w = sympy.Symbol("w")
    circuit = cirq.Circuit(cirq.ry(w)(q) for q in qubits)
    errors = {q: (0.0, 0.15) for q in qubits}
    observables = [
        cirq.PauliSum.from_pauli_strings([2.0 * cirq.Z(q) for q in qubits]),
        cirq.PauliString({q: cirq.Z for q in qubits}),
    ]
    spec = CircuitSpec(circuit, [], [w], observables)
    engine = make_engine(
        spec,
        "sampling",
        sampler=Misreading(errors),
        standard_error=0.3,
        readout_errors=errors,
        max_qubits=max_qubits,
    )
    for angle in (np.pi, 2.6):
        weights = tf.constant([[angle]], "float32")
        rows = tf.zeros((200, 1, 0))
        draws = engine.expectation(rows, weights).numpy()[:, 0]
        assert np.all(draws.std(axis=0) < 0.3 * 1.15)  # known to a twentieth


def test_copies_with_inputs_of_their_own():
    spec = SPECS["rx_ring"]
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (2, 3, spec.num_inputs)).astype("float32")
    weights = rng.uniform(-1, 1, (3, spec.num_weights)).astype("float32")
    engine = Sampling(spec, cirq.Simulator(seed=0), repetitions=3000)
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    for row in range(2):
        for copy in range(3):
            exact = cirq_expectation(spec, inputs[row, copy], weights[copy])
            assert np.all(np.abs(values[row, copy] - exact) < 5 / np.sqrt(3000))


def test_no_rows():
    spec = SPECS["rx_ring"]
    inputs, weights = point(spec, batch=0)
    sampler = Counting()
    values = Sampling(spec, sampler).expectation(tf.constant(inputs), tf.constant(weights))
    assert values.shape == (0, 1, 4) and not sampler.calls


class Misreading(cirq.Sampler):
    """Reads 1 from 0, and 0 from 1, with probabilities of its own for each qubit."""

    def __init__(self, errors, seed=0):
        self.simulator, self.errors = cirq.Simulator(seed=seed), errors
        self.rng = np.random.default_rng(seed)

    def run_sweep(self, program, params, repetitions=1):
        (measurement,) = [op for op in program.all_operations() if cirq.is_measurement(op)]
        errors = np.array([self.errors[qubit] for qubit in measurement.qubits])
        results = []
        for result in self.simulator.run_sweep(program, params, repetitions):
            ((key, bits),) = result.measurements.items()
            flips = self.rng.random(bits.shape) < np.where(bits == 0, *errors.T)
            results.append(cirq.ResultDict(params=result.params, measurements={key: bits ^ flips}))
        return results


def test_readout_errors_are_inverted():
    spec = SPECS["rx_ring"]
    errors = {q: (0.02 * (i + 1), 0.1) for i, q in enumerate(spec.qubits)}
    spec = CircuitSpec(
        spec.circuit,
        spec.inputs,
        spec.weights,
        [*spec.observables, cirq.PauliString({q: cirq.Z for q in spec.qubits[1:]})],
    )
    inputs, weights = point(spec, batch=4)
    exact = np.array([cirq_expectation(spec, row, weights) for row in inputs])
    values = {}
    for corrected in (None, errors):
        engine = Sampling(spec, Misreading(errors), repetitions=20_000, readout_errors=corrected)
        values[corrected is None] = (
            engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()[:, 0] - exact
        )
    factors = [1 / (1 - sum(errors[q])) for q in spec.qubits]
    tolerance = 5 * np.array([*factors, np.prod(factors[1:])]) / np.sqrt(20_000)
    assert np.all(np.abs(values[False]) < tolerance)
    assert np.any(np.abs(values[True]) > tolerance)  # without, it is seen


def test_extrapolation_of_noise():
    for scales in ((1,), (1, 3), (1, 3, 5)):
        polynomial = np.random.default_rng(0).normal(size=len(scales))
        at = [np.polyval(polynomial, scale) for scale in scales]
        assert np.dot(richardson(scales), at) == pytest.approx(polynomial[-1])
    spec = SPECS["hardware_efficient"]
    inputs, weights = point(spec)
    exact = np.array([cirq_expectation(spec, row, weights) for row in inputs])
    noisy = cirq.DensityMatrixSimulator(
        noise=cirq.devices.InsertionNoiseModel(
            {
                cirq.devices.noise_utils.OpIdentifier(cirq.CZPowGate, *pair): cirq.depolarize(
                    0.01, 2
                ).on(*pair)
                for i, j in ((0, 1), (1, 2), (2, 0))
                for pair in [(spec.qubits[i], spec.qubits[j])]
            },
            require_physical_tag=False,
        ),
        seed=0,
    )
    errors = []
    for scales in ((1,), (1, 3)):
        engine = Sampling(spec, noisy, repetitions=40_000, noise_scales=scales)
        values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()[:, 0]
        errors.append(np.abs(values - exact).mean())
    assert errors[1] < errors[0] / 2


# What samplers do that they should not.


class Failing(cirq.Sampler):
    """Answers as often as it is told, and then does something else."""

    def __init__(self, then, answers=0):
        self.simulator, self.then, self.answers = cirq.Simulator(seed=0), then, answers

    def run_sweep(self, program, params, repetitions=1):
        if self.answers:
            self.answers -= 1
            return self.simulator.run_sweep(program, params, repetitions)
        return self.then(self.simulator, program, params, repetitions)


def raises(simulator, program, params, repetitions):
    raise RuntimeError("the line is dead")


def too_few_shots(simulator, program, params, repetitions):
    return simulator.run_sweep(program, params, repetitions - 1)


def too_few_points(simulator, program, params, repetitions):
    return simulator.run_sweep(program, params, repetitions)[:-1]


def another_key(simulator, program, params, repetitions):
    circuit = cirq.with_measurement_key_mapping(program, {"outcomes": "else"})
    return simulator.run_sweep(circuit, params, repetitions)


@pytest.mark.parametrize(
    "then, message",
    [
        (raises, "The sampler Failing failed. Received: RuntimeError: the line is dead"),
        (too_few_shots, r"must return .* = \(2, 10, 4\) .* Received: \(2, 9, 4\)"),
        (too_few_points, r"must return .* = \(2, 10, 4\) .* Received: \(1, 10, 4\)"),
        (another_key, "must return .* Received: no such results"),
    ],
)
def test_a_failing_sampler_is_told(then, message):
    spec = SPECS["rx_ring"]
    inputs, weights = map(tf.constant, point(spec))
    engine = Sampling(spec, Failing(then), repetitions=10)
    with pytest.raises(SamplerError, match=message):
        engine.expectation(inputs, weights)


def test_a_sampler_that_does_not_answer():
    ended = threading.Event()

    def waits(simulator, program, params, repetitions):
        ended.wait(20)
        return simulator.run_sweep(program, params, repetitions)

    spec = SPECS["rx_ring"]
    inputs, weights = map(tf.constant, point(spec))
    engine = Sampling(spec, Failing(waits), repetitions=10, timeout=0.2)
    since = time.monotonic()
    with pytest.raises(SamplerError, match="did not answer within 0.2 seconds"):
        engine.expectation(inputs, weights)
    assert time.monotonic() - since < 10
    ended.set()
    # One that answers in time is as without a limit.
    values = Sampling(spec, cirq.Simulator(seed=0), repetitions=10, timeout=60).expectation(
        inputs, weights
    )
    expected = Sampling(spec, cirq.Simulator(seed=0), repetitions=10).expectation(inputs, weights)
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"repetitions": 0}, "Received: 0"),
        ({"repetitions": 10.0}, r"Received: 10\.0"),
        ({"repetitions": 10, "standard_error": 0.1}, "repetitions=10 and standard_error=0.1"),
        ({"standard_error": 0}, "Received: 0"),
        ({"standard_error": float("nan")}, "Received: nan"),
        ({"timeout": -1}, "Received: -1"),
        ({"noise_scales": ()}, r"Received: noise_scales=\(\)"),
        ({"noise_scales": (2,)}, r"noise_scales=\(2,\)"),
        ({"noise_scales": (1, 1)}, r"noise_scales=\(1, 1\)"),
        ({"readout_errors": {}}, r"none for q\(0\)"),
        (
            {"readout_errors": {q: (0.6, 0.6) for q in cirq.LineQubit.range(4)}},
            r"Received: \(0.6, 0.6\) for q\(0\)",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(SPECS["rx_ring"], cirq.Simulator(), **options)


def test_what_is_no_sampler():
    with pytest.raises(TypeError, match="must be a cirq.Sampler.* Received: sampler='weber'"):
        Sampling(SPECS["rx_ring"], "weber")


def test_a_gate_without_a_rule_is_refused(monkeypatch):
    from qrkt_keras.circuits import UnsupportedGateError
    from qrkt_keras.execution import sampling

    def refuses(spec):
        raise UnsupportedGateError("no rule. Received: a gate")

    monkeypatch.setattr(sampling, "separate", refuses)
    with pytest.raises(UnsupportedCircuitError, match="'sampling' does not accept .* no rule"):
        Sampling(SPECS["rx_ring"], cirq.Simulator())


# In Keras.


def small_model():
    return keras.Sequential(
        [
            keras.Input((3,)),
            PQC(templates.hardware_efficient(3, num_layers=2), initializer="random_normal"),
            keras.layers.Dense(2),
        ]
    )


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_predict_evaluate_and_fit(run_eagerly):
    keras.utils.set_random_seed(0)
    model = small_model()
    x = np.random.default_rng(0).uniform(-1, 1, (8, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    exact = model.predict(x, verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.layers[0].set_engine("sampling", sampler=cirq.Simulator(seed=0), repetitions=1000)
    model.compile(keras.optimizers.Adam(0.1), loss, run_eagerly=run_eagerly)
    # Five standard errors of each value, through the last layer's weights.
    bound = 5 / np.sqrt(1000) * np.abs(model.layers[1].kernel.numpy()).sum(axis=0)
    assert np.all(bound < 0.4)
    assert np.all(np.abs(model.predict(x, verbose=0) - exact) < bound)
    before = model.get_weights()
    first = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=3, batch_size=8, verbose=0)
    assert model.evaluate(x, y, verbose=0) < first
    assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))


def test_a_model_of_the_zoo_keeps_its_weights_and_its_configuration(tmp_path):
    model = PatchQNN(
        (8, 8, 1), 3, pool_size=1, patch_size=4, stride=4, num_blocks=1, num_qubits_per_circuit=2
    )
    x = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 1)).astype("float32")
    exact = model.predict(x, verbose=0)
    config, weights = model.get_config(), model.get_weights()
    sampler = Counting()
    model.set_engine("sampling", sampler=sampler, repetitions=2000)
    sampled = model.predict(x, verbose=0)
    assert model.engine == "sampling" and model.pqcs[0].plan.engine == "sampling"
    assert len(sampler.calls) == 1 and sampler.calls[0][1] == [16, 16]  # 4 images, 4 patches
    # The logits are 100 times a mean over 4 circuits.
    assert np.all(np.abs(sampled - exact) < 5 * 100 / np.sqrt(4 * 2000))
    # A sampler is no data: what is saved, or exported, has an exact engine.
    assert model.get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), exact, atol=1e-4)
    model.export(tmp_path / "saved_model")
    served = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    np.testing.assert_allclose(
        served(images=tf.constant(x))["probabilities"], tf.nn.softmax(exact), atol=1e-4
    )
    model.set_engine("auto")
    np.testing.assert_allclose(model.predict(x, verbose=0), exact, atol=1e-5)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_needs_a_sampler_says_so():
    model = PatchQNN(num_blocks=1)
    with pytest.raises(ValueError, match="needs a cirq.Sampler.* Received: sampler=None"):
        model.set_engine("sampling")
    assert model.engine == "auto"
    with pytest.raises(ValueError, match="needs a sampler, .* set_engine.'sampling'"):
        PatchQNN(num_blocks=1, engine="sampling")
    with pytest.raises(ValueError, match="sampler belong to engine='sampling'. Received: .*'auto'"):
        model.set_engine("auto", sampler=cirq.Simulator())
    with pytest.raises(ValueError, match="differentiator='adjoint'"):
        make_engine(
            SPECS["rx_ring"], "sampling", differentiator="adjoint", sampler=cirq.Simulator()
        )


def test_the_plan_uses_it_only_when_asked():
    chosen = plan(SPECS["rx_ring"], engine="sampling")
    assert chosen.engine == "sampling" and "asked for by name" in chosen.reason
    assert "sampling" not in [candidate.engine for candidate in chosen.candidates]


def test_a_wide_circuit_in_light_cones():
    spec = templates.hardware_efficient(12, num_layers=2)
    inputs, weights = point(spec)
    sampler = Counting()
    engine = make_engine(spec, "sampling", sampler=sampler, repetitions=2000, max_qubits=4)
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    exact = make_engine(spec).expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    assert np.all(np.abs(values - exact) < 5 / np.sqrt(2000))
    assert all(inner.spec.num_qubits <= 3 for inner, _ in innermost(engine))
    upstream = np.ones(spec.num_observables)
    ours, theirs = (
        gradients(e, inputs[:1], weights, upstream)
        for e in (make_engine(spec, "sampling", sampler=sampler, max_qubits=4), make_engine(spec))
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (
            np.abs(one - other).max() < 0.5 and np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
        )


ON_JAX = """
import cirq, jax, numpy as np
from qrkt_keras.circuits import templates
from qrkt_keras.execution import Sampling, StateVector

spec = templates.hardware_efficient(2, num_layers=2)
rng = np.random.default_rng(0)
x = jax.numpy.asarray(rng.uniform(-1, 1, (2, 1, 2)), "float32")
w = jax.numpy.asarray(rng.uniform(-1, 1, (1, spec.num_weights)), "float32")
found = []
for engine in (Sampling(spec, cirq.Simulator(seed=0), repetitions=4000), StateVector(spec)):
    loss = lambda x, w: (engine.expectation(x, w) * np.array([1.0, -0.5], "float32")).sum()
    found.append([loss(x, w), jax.jit(loss)(x, w), *jax.grad(loss, (0, 1))(x, w),
                  jax.jit(jax.grad(loss, 1))(x, w)])
for sampled, exact in zip(*found, strict=True):
    assert np.abs(sampled - exact).max() < 0.15, (sampled, exact)
    assert np.any(sampled != exact)
"""


def test_on_jax_eagerly_and_compiled():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
