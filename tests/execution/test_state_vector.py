"""The state-vector engine's own promises: layers, loops, ways back, second derivatives, memory."""

from __future__ import annotations

import contextlib
import functools
from unittest import mock

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.circuits import random_spec, scaled_reupload, weights_around_data
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec, Unitary, lower, templates
from qrkt_keras.execution import StateVector, UnsupportedCircuitError, evolution, state_vector
from qrkt_keras.execution.chunks import in_chunks
from qrkt_keras.execution.layering import layers, repetitions, split_prefix
from qrkt_keras.execution.schedule import blocks, layout, schedule, source_states

GRADIENTS = ("adjoint", "saved", "backprop")


def point(spec, seed=0, batch=3, copies=2, dtype="float32", own_inputs=False):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-np.pi, np.pi, (batch, copies if own_inputs else 1, spec.num_inputs))
    weights = rng.uniform(-np.pi, np.pi, (copies, spec.num_weights))
    return inputs.astype(dtype), weights.astype(dtype)


def value_and_gradients(engine, inputs, weights, upstream=None):
    """Values, and the gradients of their sum, each times a number of its own."""
    inputs, weights = tf.convert_to_tensor(inputs), tf.convert_to_tensor(weights)
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        if upstream is None:
            numbers = tf.cast(tf.range(tf.size(values)), values.dtype)
            upstream = tf.reshape(tf.cos(numbers), tf.shape(values))
        loss = tf.reduce_sum(values * upstream)
    return values, *tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")


def compiled(engine, inputs, weights, **options):
    """The same in a graph, where loops are loops."""
    run = tf.function(functools.partial(value_and_gradients, engine), autograph=False, **options)
    return run(tf.constant(inputs), tf.constant(weights))


def piecewise(engine, inputs, weights, rows, copies):
    """The same, so many rows and copies at a time."""
    shape = (len(inputs), len(weights), engine.spec.num_observables)
    upstream = np.cos(np.arange(np.prod(shape))).astype(inputs.dtype).reshape(shape)
    values = np.zeros_like(upstream)
    by_inputs, by_weights = np.zeros_like(inputs), np.zeros_like(weights)
    for i in range(0, len(inputs), rows):
        for j in range(0, len(weights), copies):
            here = slice(i, i + rows), slice(j, j + copies)
            mine = here if inputs.shape[1] > 1 else (here[0], slice(1))
            found = value_and_gradients(engine, inputs[mine], weights[here[1]], upstream[here])
            values[here] = found[0]
            by_inputs[mine] += found[1]
            by_weights[here[1]] += found[2]
    return values, by_inputs, by_weights


def assert_close(found, expected, atol, gradient_atol):
    """Values and gradients."""
    for tensor, reference, tolerance in zip(
        found, expected, (atol, gradient_atol, gradient_atol), strict=True
    ):
        assert tensor.dtype == reference.dtype
        np.testing.assert_allclose(tensor, reference, rtol=0, atol=tolerance)


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
    spec = random_spec(7, num_qubits, num_moments=80)
    inputs, weights = point(spec, dtype="float64", copies=1)
    engines = [StateVector(spec, gradient=gradient) for gradient in GRADIENTS]
    upstream = np.cos(np.arange(3 * spec.num_observables)).reshape(3, 1, -1)
    *found, expected = [value_and_gradients(e, inputs, weights, upstream) for e in engines]
    for tensors in found:
        assert_close(tensors, expected, 1e-12, 1e-11)
    # Central differences, every shifted point a copy.
    step = 1e-5 * np.eye(spec.num_weights)
    ahead, behind = (
        (engines[0].expectation(inputs, weights + shift) * upstream).numpy().sum((0, 2))
        for shift in (step, -step)
    )
    np.testing.assert_allclose(expected[2][0], (ahead - behind) / 2e-5, atol=1e-7)


DEEP = {
    "reupload": templates.hardware_efficient(6, num_layers=10),
    "once": templates.hardware_efficient(4, num_layers=12, reupload=False),
    "patch": templates.patch(9),
    "cnots": templates.rx_ring(7, num_layers=10),
    "scaled": scaled_reupload(6, 9),
}


@pytest.mark.parametrize("name", DEEP)
def test_loops_change_nothing(name):
    spec = DEEP[name]
    inputs, weights = point(spec, batch=4)
    expected = value_and_gradients(
        StateVector(spec, gradient="backprop", scan=False), inputs, weights
    )
    by_cirq = [[cirq_expectation(spec, row, w) for w in weights] for row in inputs]
    np.testing.assert_allclose(expected[0], by_cirq, atol=1e-5)
    ways = [("adjoint", False)]
    if name == "scaled":
        ways += [("backprop", False), ("adjoint", True)]
    for gradient, jit in ways:
        engine = StateVector(spec, gradient=gradient, scan=True)
        assert_close(compiled(engine, inputs, weights, jit_compile=jit), expected, 1e-5, 1e-4)


@pytest.mark.parametrize("name", DEEP)
def test_loops_are_there(name):
    engine = StateVector(DEEP[name])
    operations = (*engine.before.operations, *engine.after.operations)
    loops = [operation for operation in operations if isinstance(operation, evolution.Repeat)]
    assert loops
    assert len(operations) < 40


SECOND = {
    "one block": templates.hardware_efficient(3, num_layers=3),
    "two blocks": templates.hardware_efficient(6, num_layers=3),
    "random": random_spec(3, 6, num_moments=40),
    "loops": templates.hardware_efficient(6, num_layers=10),
    "loops of weights": weights_around_data(6, 9),
    "scaled": scaled_reupload(2, 8),
    "chunks": templates.hardware_efficient(3, num_layers=2),
}


def second_derivatives(engine, inputs, weights, direction):
    """Of the slope in a direction, a copy's at a time; and the slopes `(copies,)`."""
    with tf.GradientTape() as outer:
        outer.watch((inputs, weights))
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            loss = tf.reduce_sum(tf.sin(3 * engine.expectation(inputs, weights)))
        by_inputs, by_weights = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
        slopes = tf.reduce_sum(by_inputs * direction[0], axis=(0, 2))
        slopes += tf.reduce_sum(by_weights * direction[1], axis=1)
    return slopes, outer.gradient(slopes, (inputs, weights), unconnected_gradients="zero")


# Where there are no loops, a graph is what runs eagerly; where there are, all ways back are one.
@pytest.mark.parametrize("name, gradient, how", [
    *[(name, gradient, "eager") for name in ("one block", "two blocks", "random")
      for gradient in ("adjoint", "saved")],
    *[(name, "adjoint", "graph") for name in ("loops", "loops of weights", "scaled")],
    ("chunks", "auto", "eager"),
    ("chunks", "auto", "graph"),
    ("scaled", "adjoint", "XLA"),
])  # fmt: skip
def test_second_derivatives_against_finite_differences(name, gradient, how):
    spec = SECOND[name]
    engine = StateVector(spec, gradient=gradient)
    inputs, weights = point(spec, batch=3, copies=1, dtype="float64")
    rng = np.random.default_rng(0)
    direction = [rng.normal(size=a.shape[-1]) for a in (inputs, weights)]
    second = functools.partial(second_derivatives, engine)
    if how != "eager":
        second = tf.function(second, jit_compile=how == "XLA", autograph=False)
    with chunks(spec, 2, "float64", copies=1) if name == "chunks" else contextlib.nullcontext():
        _, found = second(tf.constant(inputs), tf.constant(weights), direction)

    # Central differences, every shifted point a copy with inputs of its own.
    size = inputs.size + weights.size
    columns = rng.choice(size, min(size, 24), replace=False)
    shifts = 1e-5 * np.concatenate([np.eye(size)[columns], -np.eye(size)[columns]])
    by_inputs, by_weights = np.split(shifts, [inputs.size], axis=1)
    by_inputs = by_inputs.reshape(-1, *inputs[:, 0].shape).swapaxes(0, 1)
    slopes, _ = second_derivatives(
        engine, *map(tf.constant, (inputs + by_inputs, weights + by_weights)), direction
    )
    ahead, behind = np.split(slopes.numpy(), 2)
    found = np.concatenate([np.ravel(tensor) for tensor in found])
    np.testing.assert_allclose(found[columns], (ahead - behind) / 2e-5, atol=1e-5)


@pytest.mark.parametrize("own_inputs", [False, True])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_batch_not_known_when_traced(copies, own_inputs):
    spec = weights_around_data(3, 9)
    engine = StateVector(spec)
    shape = (None, copies if own_inputs else 1, spec.num_inputs)

    @tf.function(input_signature=[tf.TensorSpec(shape), tf.TensorSpec((copies, None))])
    def run(inputs, weights):
        return engine.expectation(inputs, tf.ensure_shape(weights, (copies, spec.num_weights)))

    for batch in (0, 1, 300):
        inputs, weights = point(spec, batch=batch, copies=copies, own_inputs=own_inputs)
        expected = engine.expectation(tf.constant(inputs), tf.constant(weights))
        np.testing.assert_allclose(run(inputs, weights), expected, atol=1e-5)


TOLERANCES = {"float32": (1e-5, 2e-4), "float64": (1e-12, 1e-11)}


@pytest.mark.parametrize("name", ["reupload", "scaled"])
def test_copies_with_inputs_of_their_own(name):
    """Loops, on two blocks."""
    engine = StateVector(DEEP[name])
    arguments = point(DEEP[name], batch=2, copies=3, dtype="float64", own_inputs=True)
    expected = piecewise(engine, *arguments, rows=2, copies=1)
    assert_close(compiled(engine, *arguments), expected, *TOLERANCES["float64"])


def is_fused(engine, batch):
    """Whether a run of operations is one matrix."""
    rows = layout(engine.spec.num_qubits)
    return any(piece.is_fused for piece in engine.after.pieces(rows, batch))


FUSED = {
    "one block": (weights_around_data(3, 9), 40, 10),
    "two blocks": (weights_around_data(6, 9), 300, 50),
}


@pytest.mark.parametrize("name, dtype, own_inputs", [
    ("one block", "float64", False),
    ("two blocks", "float32", False),
    ("two blocks", "float64", True),
])  # fmt: skip
def test_one_matrix_for_a_batch_that_is_larger_than_the_state(name, dtype, own_inputs):
    spec, batch, few = FUSED[name]
    engine = StateVector(spec)
    assert is_fused(engine, batch) and not is_fused(engine, few)
    # What is fused costs less a row, and is costed so.
    assert engine.multiply_adds(batch) / batch < engine.multiply_adds(few) / few
    for size in (batch, few):
        products = sum(np.prod(product, dtype=float) for product in engine.matrix_products(size))
        assert products <= engine.multiply_adds(size)
    inputs, weights = point(spec, batch=batch, dtype=dtype, own_inputs=own_inputs)
    expected = piecewise(engine, inputs, weights, few, copies=1)
    assert_close(compiled(engine, inputs, weights), expected, *TOLERANCES[dtype])


@contextlib.contextmanager
def chunks(spec, rows, dtype, copies=2, batch=None):
    """Let so many rows go through at a time, and see that they do, or as many as there are."""
    example = state_vector._STATES * copies * state_vector.state_bytes(spec.num_qubits, dtype)
    limit = rows * example

    def checked(function, size, *rest):
        # Also where it is known only when the graph runs.
        tf.debugging.assert_equal(size, rows if batch is None else min(rows, batch))
        return in_chunks(function, size, *rest)

    with (
        mock.patch.object(state_vector, "CHUNK_BYTES", limit),
        mock.patch.object(state_vector, "in_chunks", side_effect=checked) as spy,
    ):
        yield
    assert spy.called


CHUNKED = {
    "data first": templates.hardware_efficient(6, num_layers=3),
    "weights first": weights_around_data(6, 2),
    "loops": scaled_reupload(3, 8),
    "fused": weights_around_data(3, 4),
}


@pytest.mark.parametrize("name, dtype, own_inputs, how", [
    *[(*case, how) for how in ("eager", "unknown batch") for case in (
        ("data first", "float32", False),
        ("weights first", "float64", False),
        ("loops", "float32", True),
        ("fused", "float64", True),
    )],
    ("data first", "float32", False, "XLA"),
])  # fmt: skip
def test_chunks_of_a_batch_change_nothing(name, dtype, own_inputs, how):
    spec = CHUNKED[name]
    # The last chunk is filled up.
    rows, batch = (20, 45) if name == "fused" else (2, 7)
    inputs, weights = point(spec, batch=batch, dtype=dtype, own_inputs=own_inputs)
    engine = StateVector(spec)
    expected = piecewise(engine, inputs, weights, rows=10, copies=1)
    with chunks(spec, rows, dtype):
        if how == "eager":
            found = value_and_gradients(engine, inputs, weights)
        else:
            shapes = (None if how == "unknown batch" else batch, *inputs.shape[1:]), weights.shape
            signature = [tf.TensorSpec(shape, dtype) for shape in shapes]
            options = {"input_signature": signature, "jit_compile": how == "XLA"}
            found = compiled(engine, inputs, weights, **options)
    assert is_fused(engine, batch) == (name == "fused")
    assert_close(found, expected, *TOLERANCES[dtype])


def test_a_small_batch_that_is_unknown_is_not_filled_up():
    spec = CHUNKED["data first"]
    inputs, weights = point(spec, batch=3)
    engine = StateVector(spec)
    expected = value_and_gradients(engine, inputs, weights)
    shapes = (None, *inputs.shape[1:]), weights.shape
    signature = [tf.TensorSpec(shape, "float32") for shape in shapes]
    with chunks(spec, 20, "float32", batch=3):
        found = compiled(engine, inputs, weights, input_signature=signature)
    assert_close(found, expected, *TOLERANCES["float32"])


def test_no_more_than_the_machine_holds(monkeypatch):
    monkeypatch.setattr(state_vector, "machine_memory", lambda: 10**9)
    engine = StateVector(templates.rx_ring(20, 2))
    with pytest.raises(UnsupportedCircuitError, match="Received: num_qubits=20, copies=16"):
        engine.expectation(tf.zeros((1, 1, 20)), tf.zeros((16, engine.spec.num_weights)))
    message = r"24 qubits takes 0.134 GB.* 3.22 GB; this machine has 1 GB. Received: num_qubits=24"
    with pytest.raises(UnsupportedCircuitError, match=message):
        StateVector(templates.rx_ring(24, 2))


def test_a_state_beyond_any_float_is_refused_with_figures():
    with pytest.raises(UnsupportedCircuitError, match=r"1536 qubits takes 1\.93e\+454 GB"):
        state_vector.check_memory(templates.ry_ring(1536))


def test_small_tables_of_signs_for_many_qubits(monkeypatch):
    template = templates.hardware_efficient(6, num_layers=2)
    x, y, z = ([pauli(qubit) for qubit in template.qubits] for pauli in (cirq.X, cirq.Y, cirq.Z))
    observables = [
        z[0] * z[1] * z[5] - 0.5 * z[4] + 0.25 * z[2],
        x[1] * x[4] + 2 * z[5],
        y[3],
        0.3 * y[3] * x[1],
    ]
    spec = CircuitSpec(template.circuit, template.inputs, template.weights, observables)
    inputs, weights = point(spec)
    one = value_and_gradients(StateVector(spec), inputs, weights)
    monkeypatch.setattr(state_vector, "_ONE_TABLE", 0)
    engine = StateVector(spec)
    found = value_and_gradients(engine, inputs, weights)
    assert_close(found, one, 1e-5, 1e-4)
    for row, values in zip(inputs[:, 0], found[0][:, 1], strict=True):
        np.testing.assert_allclose(values, cirq_expectation(spec, row, weights[1]), atol=1e-5)
    # Neither table has more than the square root of the basis states, or so, a string.
    tables = [table for _, signs in engine._read_out._bases for table in signs._tables(found[0])]
    assert max(table.shape[1] for table in tables) <= 2**4


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


@pytest.mark.parametrize("gates", [(cirq.CNOT, cirq.SWAP, cirq.X), (cirq.CNOT, cirq.CCX, cirq.X)])
def test_where_permutations_take_states_from(gates):
    """By Cirq, of affine ones and of others, one after the other."""
    rng = np.random.default_rng(0)
    qubits = cirq.LineQubit.range(5)
    for _ in range(5):
        operations = []
        for gate in rng.choice(gates, 7):
            operations.append(gate(*rng.permutation(qubits)[: cirq.num_qubits(gate)]))
        steps = [
            Unitary(tuple(q.x for q in operation.qubits), cirq.unitary(operation))
            for operation in operations
        ]
        whole = cirq.Circuit(operations).unitary(
            qubit_order=qubits, qubits_that_should_be_present=qubits
        )
        source = source_states(steps, 5)
        np.testing.assert_array_equal(source, np.argmax(np.abs(whole), axis=1))
