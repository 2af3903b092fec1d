"""The state-vector engine's own promises: layers, loops, ways back, second derivatives, memory."""

from __future__ import annotations

import functools

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec, Unitary, lower, templates
from qrkt_keras.execution import StateVector, UnsupportedCircuitError, evolution, state_vector
from qrkt_keras.execution.layering import layers, repetitions, split_prefix
from qrkt_keras.execution.schedule import blocks, schedule

GRADIENTS = ("adjoint", "saved", "backprop")


def random_spec(seed: int, num_qubits: int, num_moments: int) -> CircuitSpec:
    """Many gates of many kinds, in no pattern: data and weights alone, together and multiplied."""
    rng = np.random.default_rng(seed)
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols("x0:3")
    weights = sympy.symbols("w0:6")
    # Every symbol must be there.
    operations = [cirq.rx(s).on(q) for s, q in zip([*inputs, *weights], 9 * qubits, strict=False)]
    for _ in range(num_moments):
        angle = rng.choice([*inputs, *weights])
        if rng.random() < 0.3:
            angle = angle + rng.choice([*inputs, *weights])
        if rng.random() < 0.1:
            angle = angle * weights[0]
        operations.append(_gate(rng.integers(12), angle, rng.permutation(qubits)))
    observables = [
        cirq.Z(qubits[0]) * cirq.X(qubits[1]) - 0.5 * cirq.Y(qubits[2]),
        cirq.PauliString({q: rng.choice([cirq.X, cirq.Y, cirq.Z]) for q in qubits}),
        2.0 * cirq.Z(qubits[-1]) + cirq.PauliString(coefficient=0.25),
    ]
    return CircuitSpec(cirq.Circuit(operations), inputs, weights, observables)


def _gate(kind, angle, qubits):
    a, b, c = qubits[:3]
    turn = (cirq.rx, cirq.ry, cirq.rz)[kind % 3]
    if kind < 4:
        return turn(angle).on(a)
    if kind == 11:
        return cirq.ControlledGate(turn(angle)).on(a, b)
    if kind == 9:
        return cirq.CCX(a, b, c)
    pairs = {
        4: cirq.CZ,
        5: cirq.CNOT,
        6: cirq.ZZPowGate(exponent=angle / sympy.pi),
        7: cirq.XXPowGate(exponent=angle / sympy.pi),
        8: cirq.ISWAP**0.5,
        10: cirq.CZ**0.3,
    }
    return pairs[int(kind)].on(a, b)


def point(spec, seed=0, batch=3, copies=2, dtype="float32"):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-np.pi, np.pi, (batch, 1, spec.num_inputs))
    return inputs.astype(dtype), rng.uniform(-np.pi, np.pi, (copies, spec.num_weights)).astype(
        dtype
    )


def _loss_and_gradient(engine, inputs, weights):
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        upstream = tf.cos(tf.cast(tf.range(tf.size(values)), values.dtype))
        loss = tf.reduce_sum(values * tf.reshape(upstream, tf.shape(values)))
    return values, tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")


def loss_and_gradient(engine, inputs, weights, jit_compile=False):
    run = tf.function(_loss_and_gradient, jit_compile=jit_compile, autograph=False)
    return run(engine, tf.constant(inputs), tf.constant(weights))


def numeric_gradient(function, x, step=1e-5):
    """Central differences of a scalar function of an array, in float64."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        shift = np.zeros(x.shape)
        shift[index] = step
        gradient[index] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("num_qubits", [3, 5, 6, 7, 11])
@pytest.mark.parametrize("seed", range(4))
def test_deep_random_circuits_against_cirq(num_qubits, seed):
    spec = random_spec(seed, num_qubits, num_moments=150)
    inputs, weights = point(spec, seed, batch=2, copies=1)
    values = StateVector(spec).expectation(tf.constant(inputs), tf.constant(weights))
    expected = [[cirq_expectation(spec, row, weights)] for row in inputs]
    np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("num_qubits", [4, 7])
def test_ways_back_agree_on_random_circuits(num_qubits):
    spec = random_spec(7, num_qubits, num_moments=120)
    inputs, weights = point(spec, dtype="float64")
    by_mode = [
        loss_and_gradient(StateVector(spec, gradient=gradient), inputs, weights)[1]
        for gradient in GRADIENTS
    ]
    for gradients in by_mode[:-1]:
        for gradient, expected in zip(gradients, by_mode[-1], strict=True):
            np.testing.assert_allclose(gradient, expected, atol=1e-11)

    def loss(values):
        upstream = np.cos(np.arange(values.size)).reshape(values.shape)
        return float((values * upstream).sum())

    engine = StateVector(spec)
    numeric = numeric_gradient(
        lambda w: loss(engine.expectation(tf.constant(inputs), tf.constant(w)).numpy()), weights
    )
    np.testing.assert_allclose(by_mode[0][1], numeric, atol=1e-7)


DEEP = {
    "reupload": templates.hardware_efficient(6, num_layers=10),
    "once": templates.hardware_efficient(4, num_layers=12, reupload=False),
    "patch": templates.patch(9),
    "cnots": templates.rx_ring(7, num_layers=10),
}


def scaled_reupload(num_qubits=6, num_layers=9) -> CircuitSpec:
    """Every layer encodes the data times weights of its own, and XX rotations entangle."""
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols(f"x0:{num_qubits}")
    weights = iter(sympy.symbols(f"w0:{2 * num_qubits * num_layers}"))
    used, circuit = [], cirq.Circuit()
    for _ in range(num_layers):
        for qubit, x in zip(qubits, inputs, strict=True):
            used.append(next(weights))
            circuit.append(cirq.ry(used[-1] * x).on(qubit))
        for a, b in zip(qubits, qubits[1:] + qubits[:1], strict=True):
            used.append(next(weights))
            circuit.append(cirq.XXPowGate(exponent=used[-1] / sympy.pi).on(a, b))
    return CircuitSpec(circuit, inputs, used, [cirq.Z(q) for q in qubits])


DEEP["scaled"] = scaled_reupload()


@pytest.mark.parametrize("name", DEEP)
def test_loops_change_nothing(name):
    spec = DEEP[name]
    inputs, weights = point(spec, batch=4)
    ways = [("adjoint", True, False), ("adjoint", False, False), ("backprop", False, False)]
    if name == "scaled":
        ways += [("backprop", True, False), ("adjoint", True, True)]
    results = [
        loss_and_gradient(StateVector(spec, gradient=gradient, scan=scan), inputs, weights, jit)
        for gradient, scan, jit in ways
    ]
    expected = [[cirq_expectation(spec, row, w) for w in weights] for row in inputs]
    np.testing.assert_allclose(results[0][0], expected, atol=1e-5)
    for values, gradients in results[1:]:
        np.testing.assert_allclose(values, results[0][0], atol=1e-5)
        for gradient, reference in zip(gradients, results[0][1], strict=True):
            np.testing.assert_allclose(gradient, reference, atol=1e-4)


@pytest.mark.parametrize("name", DEEP)
def test_loops_are_there(name):
    engine = StateVector(DEEP[name])
    operations = (*engine.before.operations, *engine.after.operations)
    loops = [operation for operation in operations if isinstance(operation, evolution.Repeat)]
    assert loops
    assert len(operations) < 40


SECOND = {
    "reupload": templates.hardware_efficient(6, num_layers=3),
    "small": templates.hardware_efficient(3, num_layers=3),
    "patch": templates.patch(8),
    "scaled": scaled_reupload(3, 8),
    "random": random_spec(3, 6, num_moments=40),
}


@pytest.mark.parametrize("name", SECOND)
@pytest.mark.parametrize("gradient", ["adjoint", "saved"])
@pytest.mark.parametrize("how", ["eager", "graph", "XLA"])
def test_second_derivatives_against_finite_differences(name, gradient, how):
    spec = SECOND[name]
    if how != "graph" and (gradient == "saved" or name not in ("small", "scaled")):
        pytest.skip("the same code as in the graph, and minutes to run")
    engine = StateVector(spec, gradient=gradient)
    inputs, weights = point(spec, batch=2, copies=1, dtype="float64")
    rng = np.random.default_rng(0)
    direction = [tf.constant(rng.normal(size=a.shape)) for a in (inputs, weights)]

    def slope(inputs, weights):
        """The loss' derivative along a direction, which is itself differentiated."""
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            loss = tf.reduce_sum(tf.sin(3 * engine.expectation(inputs, weights)))
        gradients = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
        return tf.add_n([tf.reduce_sum(g * d) for g, d in zip(gradients, direction, strict=True)])

    def second(inputs, weights):
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            value = slope(inputs, weights)
        return tape.gradient(value, (inputs, weights), unconnected_gradients="zero")

    if how != "eager":
        second = tf.function(second, jit_compile=how == "XLA", autograph=False)
    found = second(tf.constant(inputs), tf.constant(weights))
    compiled = tf.function(slope, autograph=False)
    for position, array in enumerate((inputs, weights)):
        columns = rng.choice(array.size, min(array.size, 12), replace=False)
        for column in columns:
            shift = np.zeros(array.shape)
            shift.reshape(-1)[column] = 1e-5
            ends = []
            for sign in (1, -1):
                arguments = [inputs, weights]
                arguments[position] = array + sign * shift
                ends.append(float(compiled(*map(tf.constant, arguments))))
            numeric = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(
                found[position].numpy().reshape(-1)[column], numeric, atol=1e-5
            )


@pytest.mark.parametrize("copies", [1, 3])
def test_a_batch_not_known_when_traced(copies):
    spec = templates.patch(8)
    engine = StateVector(spec)

    @tf.function(input_signature=[tf.TensorSpec((None, 1, 64)), tf.TensorSpec((copies, None))])
    def run(inputs, weights):
        return engine.expectation(inputs, tf.ensure_shape(weights, (copies, spec.num_weights)))

    for batch in (0, 1, 300):
        inputs, weights = point(spec, batch=batch, copies=copies)
        expected = engine.expectation(tf.constant(inputs), tf.constant(weights))
        np.testing.assert_allclose(run(inputs, weights), expected, atol=1e-5)


def test_one_matrix_for_a_batch_that_is_larger_than_the_state():
    spec = templates.patch(8)
    engine = StateVector(spec)
    inputs, weights = point(spec, batch=300)
    few = [engine.expectation(tf.constant(rows), tf.constant(weights)) for rows in inputs[:, None]]
    many = loss_and_gradient(engine, inputs, weights)
    np.testing.assert_allclose(many[0], tf.concat(few, 0), atol=1e-5)
    plain = loss_and_gradient(StateVector(spec, gradient="backprop", scan=False), inputs, weights)
    for gradient, expected in zip(many[1], plain[1], strict=True):
        np.testing.assert_allclose(gradient, expected, atol=2e-4)


CHUNKED = {
    "data first": templates.hardware_efficient(6, num_layers=3),
    "weights first": templates.patch(2),
    "loops": scaled_reupload(4, 8),
}


@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("known", [True, False])
def test_chunks_of_a_batch_change_nothing(name, known, monkeypatch):
    spec = CHUNKED[name]
    inputs, weights = point(spec, batch=7)
    expected = loss_and_gradient(StateVector(spec), inputs, weights)
    # Chunks of two: the last one is filled up.
    limit = state_vector._STATES * 2 * 2 * 2 ** (spec.num_qubits + 3)
    monkeypatch.setattr(state_vector, "CHUNK_BYTES", limit)
    engine = StateVector(spec)
    if known:
        found = loss_and_gradient(engine, inputs, weights)
    else:
        signature = [tf.TensorSpec((None, *inputs.shape[1:])), tf.TensorSpec(weights.shape)]
        run = functools.partial(_loss_and_gradient, engine)
        found = tf.function(run, input_signature=signature, autograph=False)(inputs, weights)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    for gradient, reference in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(gradient, reference, atol=1e-5)


def test_chunks_fuse_too(monkeypatch):
    spec = templates.patch(8)
    inputs, weights = point(spec, batch=300)
    expected = loss_and_gradient(StateVector(spec), inputs, weights)
    limit = state_vector._STATES * 2 * 128 * 2 ** (spec.num_qubits + 3)
    monkeypatch.setattr(state_vector, "CHUNK_BYTES", limit)
    found = loss_and_gradient(StateVector(spec), inputs, weights)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    for gradient, reference in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(gradient, reference, atol=2e-4)


def test_no_more_than_the_machine_holds(monkeypatch):
    monkeypatch.setattr(state_vector, "machine_memory", lambda: 10**9)
    StateVector(templates.rx_ring(20, 2))
    message = r"24 qubits takes 0.134 GB.* 10.7 GB; this machine has 1 GB. Received: num_qubits=24"
    with pytest.raises(UnsupportedCircuitError, match=message):
        StateVector(templates.rx_ring(24, 2))


def test_layers_of_a_template():
    spec = templates.hardware_efficient(8, num_layers=3)
    _, body = split_prefix(lower(spec))
    kinds = [layer.kind for layer in layers(body, spec.inputs)]
    # A ring, then twice: into the data's basis, data, weights and back, and a ring.
    assert kinds == ["diagonal"] + 2 * ["turns", "diagonal", "turns", "diagonal"]
    items = schedule(layers(body, spec.inputs), spec)
    # The rings are part of the blocks' matrices.
    assert [type(item.operation).__name__ for item in items].count("Phases") == 2


@pytest.mark.parametrize("phase, kind", [(0.0, "permutation"), (1e-6, "dense")])
def test_a_permutation_with_a_small_phase_is_none(phase, kind):
    matrix = cirq.unitary(cirq.CNOT) @ np.diag([1, 1, np.exp(1j * phase), 1])
    assert [layer.kind for layer in layers([Unitary((0, 1), matrix)], ())] == [kind]


@pytest.mark.parametrize("num_qubits", range(1, 25))
def test_blocks_cover_all_qubits(num_qubits):
    covered = [q for start, size in blocks(num_qubits) for q in range(start, start + size)]
    assert covered == list(range(num_qubits))


def test_repetitions_cover_everything():
    signatures = "aab" + "cd" * 9 + "e" + "f" * 20
    runs = repetitions(signatures, at_least=8)
    assert runs[-1] == (22, 1, 20)
    assert (3, 2, 9) in runs
    assert sum(period * count for _, period, count in runs) == len(signatures)


def test_a_circuit_without_data_needs_no_chunks(monkeypatch):
    q = cirq.LineQubit.range(3)
    w = sympy.symbols("w0:3")
    gates = [cirq.ry(s).on(qubit) for s, qubit in zip(w, q, strict=True)]
    circuit = cirq.Circuit(gates, cirq.CZ(q[0], q[1]), cirq.CNOT(q[1], q[2]))
    spec = CircuitSpec(circuit, [], w, [cirq.X(q[0]), cirq.Z(q[2])])
    monkeypatch.setattr(state_vector, "CHUNK_BYTES", 1)
    inputs, weights = point(spec, batch=7, copies=1)
    values = StateVector(spec).expectation(tf.constant(inputs), tf.constant(weights))
    expected = cirq_expectation(spec, inputs[0], weights)
    np.testing.assert_allclose(values[:, 0], np.tile(expected, (7, 1)), atol=1e-6)
