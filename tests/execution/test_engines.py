"""Every engine against Cirq in complex128, closed forms and finite differences."""

from __future__ import annotations

import subprocess
import sys

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from support.reference import cirq_expectation, cirq_gradient

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import (
    TFQ,
    PauliPropagation,
    StateVector,
    UnsupportedCircuitError,
    make_engine,
)

ENGINES = {"pauli_propagation": PauliPropagation, "state_vector": StateVector, "tfq": TFQ}
GRADIENT_TOLERANCE = {"pauli_propagation": 1e-4, "state_vector": 1e-4, "tfq": 5e-4}


def random_point(spec, seed, batch=2):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-np.pi, np.pi, (batch, 1, spec.num_inputs))
    weights = rng.uniform(-np.pi, np.pi, (1, spec.num_weights))
    return inputs.astype("float32"), weights.astype("float32")


def value_and_gradient(engine, inputs, weights, upstream):
    inputs, weights = tf.constant(inputs), tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        loss = tf.reduce_sum(values * tf.constant(upstream, tf.float32))
    gradients = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
    return values.numpy(), [gradient.numpy() for gradient in gradients]


def check_against_cirq(engine, spec, seed, columns=None):
    inputs, weights = random_point(spec, seed)
    upstream = np.random.default_rng(seed + 1).normal(size=spec.num_observables)
    values, (input_gradient, weight_gradient) = value_and_gradient(
        engine, inputs, weights, upstream
    )
    assert values.shape == (2, 1, spec.num_observables)
    expected = [cirq_expectation(spec, row, weights) for row in inputs]
    scale = np.ones(spec.num_observables)
    if engine.name == "tfq":
        # An error of its state is so many times as large in a sum: 1.9e-5 was seen of 4 Z.
        norms = [sum(abs(term.coefficient) for term in sum_) for sum_ in spec.observables]
        scale = np.maximum(scale, norms)
    np.testing.assert_allclose(values[:, 0] / scale, expected / scale, atol=1e-5)

    gradients = [cirq_gradient(spec, row, weights, upstream, columns) for row in inputs]
    picked = np.arange(spec.num_inputs + spec.num_weights) if columns is None else columns
    is_input = picked < spec.num_inputs
    tolerance = GRADIENT_TOLERANCE[engine.name] * max(1.0, np.abs(upstream).sum())
    for row, gradient in zip(input_gradient[:, 0], gradients, strict=True):
        np.testing.assert_allclose(row[picked[is_input]], gradient[is_input], atol=tolerance)
    np.testing.assert_allclose(
        weight_gradient[0, picked[~is_input] - spec.num_inputs],
        np.sum(gradients, axis=0)[~is_input],
        atol=2 * tolerance,
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num_qubits", range(1, 9))
@pytest.mark.parametrize(
    "template, options",
    [
        ("rx_ring", {}),
        ("rx_ring", {"num_layers": 3}),
        ("ry_ring", {}),
        ("hardware_efficient", {"num_layers": 1}),
        ("hardware_efficient", {"num_layers": 3}),
        ("hardware_efficient", {"num_layers": 2, "reupload": False}),
    ],
)
def test_templates(engine, template, options, num_qubits):
    spec = getattr(templates, template)(num_qubits, **options)
    size = spec.num_inputs + spec.num_weights
    columns = np.unique(np.linspace(0, size - 1, 12).astype(int))
    try:
        executor = ENGINES[engine](spec)
    except UnsupportedCircuitError as error:
        # Only strings without number are a reason, and only on the deep mixing circuit.
        assert engine == "pauli_propagation" and template == "hardware_efficient"
        assert num_qubits > 4 and "Pauli strings" in str(error)
        return
    check_against_cirq(executor, spec, seed=num_qubits, columns=columns)


@pytest.mark.parametrize("engine", ["state_vector", "tfq"])
def test_patch_template(engine):
    spec = templates.patch(1)
    columns = np.random.default_rng(0).choice(spec.num_inputs + spec.num_weights, 16, replace=False)
    check_against_cirq(ENGINES[engine](spec), spec, seed=3, columns=np.sort(columns))


# Random circuits.

SYMBOLS = sympy.symbols("a b c d")
INPUTS, WEIGHTS = SYMBOLS[:2], SYMBOLS[2:]
ONE_QUBIT = [cirq.X, cirq.Y, cirq.Z, cirq.H, cirq.S, cirq.T, cirq.X**0.3, cirq.Y**-0.7]
TWO_QUBITS = [cirq.CNOT, cirq.CZ, cirq.SWAP, cirq.ISWAP, cirq.CNOT**0.5, cirq.ZZ**0.25]
ONE_QUBIT_FAMILIES = [
    cirq.rx,
    cirq.ry,
    cirq.rz,
    lambda t: cirq.X ** (t / np.pi),
    lambda t: cirq.H ** (t / 3),
    lambda t: cirq.PhasedXPowGate(phase_exponent=0.2, exponent=t / 2),
]
TWO_QUBIT_FAMILIES = [
    lambda t: cirq.CZ ** (t / 3),
    lambda t: cirq.CNOT ** (t / 3),
    lambda t: cirq.XX ** (t / 3),
    lambda t: cirq.YY ** (t / 3),
    lambda t: cirq.ZZ ** (t / 3),
    lambda t: cirq.ISWAP ** (t / 3),
    lambda t: cirq.SWAP ** (t / 3),
    lambda t: cirq.FSimGate(t, 0.3 * t),
]


@st.composite
def random_specs(draw, extended=False):
    """Circuits of 1 to 4 qubits in which every one of four symbols occurs."""
    size = draw(st.integers(1, 4))
    qubits = cirq.LineQubit.range(size)
    operations = []

    def wires(count):
        return draw(st.permutations(qubits))[:count]

    def angle(symbol):
        scale = draw(st.sampled_from([1.0, 0.5, -1.0]))
        if extended and draw(st.booleans()):
            return scale * symbol * draw(st.sampled_from(SYMBOLS)) + 0.1
        return scale * symbol

    def rotation(symbol):
        if size > 1 and draw(st.booleans()):
            return draw(st.sampled_from(TWO_QUBIT_FAMILIES))(angle(symbol)).on(*wires(2))
        return draw(st.sampled_from(ONE_QUBIT_FAMILIES))(angle(symbol)).on(*wires(1))

    for symbol in (*SYMBOLS, *draw(st.lists(st.sampled_from(SYMBOLS), max_size=4))):
        for _ in range(draw(st.integers(0, 2))):
            if size > 1 and draw(st.booleans()):
                operations.append(draw(st.sampled_from(TWO_QUBITS)).on(*wires(2)))
            else:
                operations.append(draw(st.sampled_from(ONE_QUBIT)).on(*wires(1)))
        if extended and size > 1 and draw(st.booleans()):
            controlled = cirq.ControlledGate(cirq.ry(angle(symbol)), control_values=[0])
            operations.append(controlled.on(*wires(2)))
        operations.append(rotation(symbol))
    if extended:
        seed = draw(st.integers(0, 99))
        matrix = cirq.testing.random_unitary(2 ** min(size, 2), random_state=seed)
        operations.append(cirq.MatrixGate(matrix).on(*wires(min(size, 2))))
        if size > 2:
            operations.append(draw(st.sampled_from([cirq.CCX, cirq.CCZ, cirq.CSWAP])).on(*wires(3)))
    # A qubit that nothing touches would leave the circuit.
    circuit = cirq.Circuit(cirq.X.on_each(*qubits), operations)
    observables = []
    for _ in range(draw(st.integers(1, 3))):
        terms = [
            draw(st.sampled_from([1.0, -0.5, 2.0]))
            * cirq.PauliString(
                {q: draw(st.sampled_from([cirq.X, cirq.Y, cirq.Z])) for q in wires(k)}
            )
            for k in draw(st.lists(st.integers(1, size), min_size=1, max_size=2))
        ]
        observables.append(sum(terms[1:], cirq.PauliSum.from_pauli_strings(terms[:1])))
    return CircuitSpec(circuit, INPUTS, WEIGHTS, observables)


RANDOM = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def accepted(engine, spec):
    """The engine, or another example where the strings of this one explode."""
    try:
        return ENGINES[engine](spec)
    except UnsupportedCircuitError as error:
        assert "Pauli strings" in str(error)
        reject()


@pytest.mark.parametrize("engine", ENGINES)
@RANDOM
@given(spec=random_specs(), seed=st.integers(0, 1000))
def test_random_circuits(engine, spec, seed):
    check_against_cirq(accepted(engine, spec), spec, seed)


@pytest.mark.parametrize("engine", ["pauli_propagation", "state_vector"])
@settings(RANDOM, max_examples=40)
@given(spec=random_specs(extended=True), seed=st.integers(0, 1000))
def test_random_circuits_beyond_tfq(engine, spec, seed):
    """Products of symbols, controlled rotations, matrix and three-qubit gates."""
    check_against_cirq(accepted(engine, spec), spec, seed)


# Closed forms of SPEC.md section 1.


def rx_ring_closed_form(inputs, weights):
    c = np.cos(inputs + weights)
    values = np.cumprod(c, -1)
    if c.shape[-1] > 2:
        values[..., 0] = np.prod(c[..., 1:], -1)
    return values


def ry_ring_closed_form(inputs, weights):
    if inputs.shape[-1] <= 2:
        return np.cumprod(np.cos(inputs) * np.cos(weights), -1)
    f = np.sin(inputs) * np.cos(weights) + np.cos(inputs) * np.sin(weights) ** 2
    values = f.copy()
    values[..., 0] = f[..., 0] * f[..., -1]
    return values


CLOSED_FORMS = {"rx_ring": rx_ring_closed_form, "ry_ring": ry_ring_closed_form}


@pytest.mark.parametrize("template", CLOSED_FORMS)
@pytest.mark.parametrize("engine, num_qubits", [
    *[("pauli_propagation", n) for n in (1, 2, 3, 8, 64, 384)],
    *[("state_vector", n) for n in (1, 2, 3, 8, 12)],
    *[("tfq", n) for n in (1, 2, 3, 8, 12)],
])  # fmt: skip
def test_closed_forms(engine, template, num_qubits):
    spec = getattr(templates, template)(num_qubits)
    rng = np.random.default_rng(num_qubits)
    # Small angles, so that a product of 384 cosines is not simply zero.
    inputs = rng.normal(0, 0.1, (5, 1, num_qubits)).astype("float32")
    weights = rng.normal(0, 0.1, (3, num_qubits)).astype("float32")
    values = ENGINES[engine](spec).expectation(tf.constant(inputs), tf.constant(weights))
    expected = CLOSED_FORMS[template](inputs.astype("float64"), weights.astype("float64")[None])
    np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [0, 1, 7])
@pytest.mark.parametrize("template", ["rx_ring", "ry_ring", "hardware_efficient"])
def test_any_batch(engine, batch, template):
    spec = getattr(templates, template)(3)
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(batch, 1, 3)), tf.float32)
    weights = tf.constant(rng.normal(size=(2, spec.num_weights)), tf.float32)
    executor = ENGINES[engine](spec)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        values = executor.expectation(inputs, weights)
    assert values.shape == (batch, 2, 3)
    gradient = tape.gradient(values, weights)
    assert gradient.shape == weights.shape
    if batch == 0:
        np.testing.assert_array_equal(gradient, 0.0)

    # The same in a graph that does not know the batch.
    signature = [tf.TensorSpec((None, 1, 3)), tf.TensorSpec((2, spec.num_weights))]
    graph = tf.function(executor.expectation, input_signature=signature)
    np.testing.assert_allclose(graph(inputs, weights), values, atol=1e-6)


def encoded_before_all_weights():
    """What reaches the first entangler is the same for all copies."""
    qubits, x, w = cirq.LineQubit.range(4), sympy.symbols("x:4"), sympy.symbols("w:8")
    circuit = cirq.Circuit(
        [cirq.ry(angle)(qubit) for angle, qubit in zip(x, qubits, strict=True)],
        [cirq.ZZ(*qubits[i : i + 2]) ** (w[i] / np.pi) for i in range(3)],
        cirq.ZZ(qubits[3], qubits[0]) ** (w[3] / np.pi),
        [cirq.rx(angle)(qubit) for angle, qubit in zip(w[4:], qubits, strict=True)],
    )
    return CircuitSpec(circuit, x, w, [cirq.Y(qubit) for qubit in qubits])


def test_a_circuit_that_is_encoded_before_all_weights():
    for engine in ENGINES.values():
        check_against_cirq(engine(encoded_before_all_weights()), encoded_before_all_weights(), 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "spec",
    [
        templates.rx_ring(4),
        templates.ry_ring(4),
        templates.hardware_efficient(4),
        templates.hardware_efficient(4, 2, reupload=False),
        encoded_before_all_weights(),
    ],
    ids=["rx_ring", "ry_ring", "hardware_efficient", "once", "encoded_first"],
)
def test_copies(engine, spec):
    """Copies on shared inputs, and on their own, are what single circuits give."""
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(5, 3, 4)), tf.float32)
    weights = tf.constant(rng.normal(size=(3, spec.num_weights)), tf.float32)
    executor = ENGINES[engine](spec)
    own = executor.expectation(inputs, weights)
    shared = executor.expectation(inputs[:, :1], weights)
    for copy in range(3):
        one = slice(copy, copy + 1)
        single = executor.expectation(inputs[:, one], weights[one])
        np.testing.assert_allclose(own[:, one], single, atol=1e-6)
        single = executor.expectation(inputs[:, :1], weights[one])
        np.testing.assert_allclose(shared[:, one], single, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_constant_observables_and_circuits_without_weights_or_inputs(engine):
    q, t = cirq.LineQubit(0), sympy.Symbol("t")
    circuit = cirq.Circuit(cirq.rx(t)(q))
    observables = [cirq.I(q), 2 * cirq.PauliString() + cirq.Z(q), cirq.X(q)]
    angles = np.array([0.3, 0.5], "float32")
    expected = np.stack([np.ones(2), 2 + np.cos(angles), np.zeros(2)], -1)

    data_only = ENGINES[engine](CircuitSpec(circuit, [t], [], observables))
    values = data_only.expectation(tf.constant(angles[:, None, None]), tf.zeros((3, 0)))
    np.testing.assert_allclose(values, np.tile(expected[:, None], (1, 3, 1)), atol=1e-6)
    weights_only = ENGINES[engine](CircuitSpec(circuit, [], [t], observables))
    values = weights_only.expectation(tf.zeros((4, 1, 0)), tf.constant(angles[:, None]))
    np.testing.assert_allclose(values, np.tile(expected, (4, 1, 1)), atol=1e-6)


def sine_chain(num_qubits):
    """Z_i = prod_{j<=i} sin(x_j w_j): products whose factors vanish exactly at x = 0."""
    qubits = cirq.LineQubit.range(num_qubits)
    x = sympy.symbols(f"x:{num_qubits}")
    w = sympy.symbols(f"w:{num_qubits}")
    circuit = cirq.Circuit(
        [cirq.ry(x[j] * w[j])(qubits[j]) for j in range(num_qubits)],
        [cirq.H(q) for q in qubits],
        [cirq.CNOT(qubits[j], qubits[j + 1]) for j in range(num_qubits - 1)],
    )
    return CircuitSpec(circuit, x, w, [cirq.Z(q) for q in qubits])


@pytest.mark.parametrize("engine", ["pauli_propagation", "state_vector"])
def test_gradients_where_factors_are_exactly_zero(engine):
    """`tf.math.cumprod` has wrong gradients there; ours have not, in either order."""
    spec = sine_chain(6)
    rng = np.random.default_rng(2)
    inputs = rng.uniform(0.5, 1.0, (1, 1, 6))
    inputs[0, 0, [1, 3]] = 0.0
    weights = rng.uniform(0.5, 1.0, (1, 6))
    x, w = tf.constant(inputs), tf.constant(weights)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            last = ENGINES[engine](spec).expectation(x, w)[0, 0, -1]
        gradient = tape.gradient(last, x)
    hessian = outer.jacobian(gradient, x).numpy().reshape(6, 6)
    # One zero too many for the gradient; the mixed second derivative removes both.
    np.testing.assert_allclose(gradient, np.zeros((1, 1, 6)), atol=1e-12)
    rest = [0, 2, 4, 5]
    factors = np.sin(inputs[0, 0] * weights[0])
    expected = np.zeros((6, 6))
    expected[1, 3] = expected[3, 1] = weights[0, 1] * weights[0, 3] * np.prod(factors[rest])
    np.testing.assert_allclose(hessian, expected, atol=1e-10)


@pytest.mark.parametrize("engine", ["pauli_propagation", "state_vector"])
@pytest.mark.parametrize("template", ["rx_ring", "ry_ring", "hardware_efficient"])
def test_second_derivatives(engine, template):
    """The Hessian in float64 against differences of Cirq's gradient."""
    spec = getattr(templates, template)(3)
    rng = np.random.default_rng(4)
    inputs, weights = rng.normal(size=(1, 1, 3)), rng.normal(size=(1, spec.num_weights))
    upstream = rng.normal(size=3)
    x, w = tf.constant(inputs), tf.constant(weights)
    executor = ENGINES[engine](spec)
    with tf.GradientTape() as outer:
        outer.watch((x, w))
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(executor.expectation(x, w) * upstream)
        gradient = tape.gradient(loss, x)
    second = outer.jacobian(gradient, [x, w])
    hessian = np.concatenate([np.reshape(part, (3, -1)) for part in second], axis=1)

    point, step = np.concatenate([inputs.ravel(), weights.ravel()]), 1e-4
    for column in range(0, len(point), max(1, len(point) // 8)):
        shift = np.zeros_like(point)
        shift[column] = step
        ahead, behind = (
            cirq_gradient(spec, p[:3], p[3:], upstream, columns=range(3))
            for p in (point + shift, point - shift)
        )
        expected = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(hessian[:, column], expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["pauli_propagation", "state_vector"])
@pytest.mark.parametrize("template", ["rx_ring", "ry_ring", "hardware_efficient"])
def test_compiles_under_xla(engine, template):
    spec = getattr(templates, template)(4)
    inputs, weights = random_point(spec, 5, batch=3)
    executor = ENGINES[engine](spec)

    @tf.function(jit_compile=True)
    def compiled(x, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            values = executor.expectation(x, w)
        return values, tape.gradient(values, w)

    values, gradient = compiled(tf.constant(inputs), tf.constant(weights))
    expected, (_, expected_gradient) = value_and_gradient(
        executor, inputs, weights, np.ones(spec.num_observables)
    )
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5)


# Refusals.


def parametrised_by(gate, symbol="x"):
    q = cirq.LineQubit.range(cirq.num_qubits(gate))
    x = sympy.Symbol(symbol)
    return CircuitSpec(cirq.Circuit(gate.on(*q), cirq.rx(x)(q[0])), [x], [], [cirq.Z(q[0])])


def test_tfq_refuses_a_product_of_symbols_by_name():
    x, w = sympy.symbols("x w")
    q = cirq.LineQubit(0)
    spec = CircuitSpec(cirq.Circuit(cirq.rx(x * w)(q)), [x], [w], [cirq.Z(q)])
    with pytest.raises(UnsupportedCircuitError, match=r"engine='tfq'.*scalar \* symbol.*w\*x"):
        TFQ(spec)


@pytest.mark.parametrize(
    "gate",
    [
        cirq.PhasedXZGate(x_exponent=0.3, z_exponent=0.2, axis_phase_exponent=0.1),
        cirq.MatrixGate(cirq.testing.random_unitary(4, random_state=1)),
        cirq.CCX,
    ],
)
def test_tfq_runs_gates_that_it_cannot_serialise_by_decomposing_them(gate):
    spec = parametrised_by(gate)
    check_against_cirq(TFQ(spec), spec, seed=0)


def test_tfq_takes_named_qubits_and_sums_of_symbols():
    x, w = sympy.symbols("x w")
    q = cirq.NamedQubit("alice")
    spec = CircuitSpec(cirq.Circuit(cirq.H(q), cirq.ry(x + 2 * w + 0.3)(q)), [x], [w], [cirq.Z(q)])
    check_against_cirq(TFQ(spec), spec, seed=0)


def test_pauli_propagation_refuses_when_strings_explode():
    with pytest.raises(
        UnsupportedCircuitError, match="pauli_propagation.*Received: [0-9]+ strings"
    ):
        PauliPropagation(templates.hardware_efficient(8, num_layers=6))


def test_state_vector_refuses_too_many_qubits_and_says_what_they_would_take():
    message = "GB, and value and gradient of one example.*GB.*Received: num_qubits=40"
    with pytest.raises(UnsupportedCircuitError, match=message):
        StateVector(templates.hardware_efficient(40))


def test_unknown_engine_lists_the_known():
    with pytest.raises(ValueError, match="state_vector.*Received: 'qsim'"):
        make_engine(templates.rx_ring(2), "qsim")


def test_options_of_tfq_are_refused_elsewhere():
    with pytest.raises(ValueError, match="belong to engine='tfq'.*repetitions=100"):
        make_engine(templates.rx_ring(2), "state_vector", repetitions=100)
    with pytest.raises(ValueError, match="Received: 'forward'"):
        make_engine(templates.rx_ring(2), "tfq", differentiator="forward")
    with pytest.raises(ValueError, match="Received: repetitions=100"):
        make_engine(templates.rx_ring(2), "tfq", differentiator="adjoint", repetitions=100)


@pytest.mark.parametrize("differentiator", ["parameter_shift", "central_difference"])
def test_tfq_differentiators(differentiator):
    spec = templates.ry_ring(3)
    check_against_cirq(TFQ(spec, differentiator), spec, seed=0)


def test_tfq_sampling_is_within_five_standard_errors():
    spec = templates.ry_ring(3)
    inputs, weights = random_point(spec, 0, batch=4)
    repetitions = 2000
    sampled = TFQ(spec, repetitions=repetitions).expectation(
        tf.constant(inputs), tf.constant(weights)
    )
    exact = np.stack([cirq_expectation(spec, row, weights) for row in inputs])
    error = np.sqrt((1 - exact**2) / repetitions)
    assert np.all(np.abs(sampled[:, 0] - exact) < 5 * error + 1e-6)
    assert np.any(sampled[:, 0] != exact)


def test_a_seed_holds_while_tfq_is_loaded():
    """Its import draws random numbers; a model's first weights must not depend on its engine."""
    code = """
import random
import numpy as np, keras
from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC
drawn = []
for engine in ("tfq", "auto"):
    keras.utils.set_random_seed(3)
    layer = PQC(templates.ry_ring(2), engine=engine)
    layer.build((1, 2))
    layer(np.zeros((1, 2), "float32"))
    drawn.append([*layer.get_weights()[0].ravel(), random.random()])
np.testing.assert_array_equal(*drawn)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
