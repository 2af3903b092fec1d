"""Light cones against Cirq on the whole circuit, and how small they are."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.reference import cirq_expectation, cirq_gradient

import qrkt_keras
from qrkt_keras.circuits import CircuitSpec, lower, templates
from qrkt_keras.execution import StateVector, UnsupportedCircuitError
from qrkt_keras.execution.light_cone import LightCone, cones


def local_circuit(num_qubits, num_layers, gate, ring, observables=None):
    """RY by data, RZ by weights, then `gate` by weights on even and on odd neighbours."""
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols(f"x:{num_qubits}")
    weights = []

    def weight():
        weights.append(sympy.Symbol(f"w{len(weights)}"))
        return weights[-1]

    circuit = cirq.Circuit()
    for _ in range(num_layers):
        circuit.append(cirq.ry(x)(q) for x, q in zip(inputs, qubits, strict=True))
        circuit.append(cirq.rz(weight())(q) for q in qubits)
        pairs = list(zip(qubits, qubits[1:] + qubits[:1], strict=True))
        pairs = pairs if ring else pairs[:-1]
        circuit.append(gate(weight()).on(*pair) for pair in pairs[::2] + pairs[1::2])
    read = observables(qubits) if observables else [cirq.Z(q) for q in qubits]
    return CircuitSpec(circuit, inputs, weights, read)


def hamiltonian(qubits):
    """Energy of an Ising ring with a constant, a magnetisation, and a product of all qubits."""
    pairs = zip(qubits, qubits[1:] + qubits[:1], strict=True)
    ising = sum((cirq.Z(a) * cirq.Z(b) for a, b in pairs), cirq.PauliSum())
    field = sum((0.5 * cirq.X(q) for q in qubits), cirq.PauliSum())
    return [ising - field + 0.7, field, cirq.PauliString(cirq.Y(q) for q in qubits)]


def point(spec, batch=2, own_inputs=False, copies=1, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(batch, copies if own_inputs else 1, spec.num_inputs))
    return inputs, rng.normal(size=(copies, spec.num_weights))


def value_and_gradients(engine, inputs, weights, upstream):
    inputs, weights = tf.convert_to_tensor(inputs), tf.convert_to_tensor(weights)
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        loss = tf.reduce_sum(values * upstream)
    return values, tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")


def check(spec, seed=0, num_columns=6):
    """Values and some gradients of two copies, with shared and with own inputs, in float64."""
    engine = LightCone(spec)
    rng = np.random.default_rng(seed)
    for own_inputs in (False, True):
        inputs, weights = point(spec, 2, own_inputs, copies=2, seed=seed)
        upstream = rng.normal(size=(2, 2, spec.num_observables))
        values, (by_inputs, by_weights) = value_and_gradients(engine, inputs, weights, upstream)
        assert values.shape == upstream.shape
        rows = np.broadcast_to(inputs, (2, 2, spec.num_inputs))
        expected = [
            [cirq_expectation(spec, row, w) for row, w in zip(example, weights, strict=True)]
            for example in rows
        ]
        np.testing.assert_allclose(values, expected, atol=1e-9)

    # The last ones, where each copy has inputs of its own.
    size = spec.num_inputs + spec.num_weights
    columns = np.sort(rng.choice(size, min(num_columns, size), replace=False))
    for copy in range(2):
        gradients = np.array(
            [
                cirq_gradient(spec, rows[b, copy], weights[copy], upstream[b, copy], columns)
                for b in range(2)
            ]
        )
        is_input = columns < spec.num_inputs
        np.testing.assert_allclose(
            by_inputs.numpy()[:, copy, columns[is_input]], gradients[:, is_input], atol=1e-6
        )
        np.testing.assert_allclose(
            by_weights.numpy()[copy, columns[~is_input] - spec.num_inputs],
            gradients[:, ~is_input].sum(0),
            atol=1e-6,
        )
    return engine.cones


# How small the cones are.


def sizes(spec):
    return [(group.num_copies, group.spec.num_qubits) for group in cones(spec).groups]


@pytest.mark.parametrize("num_layers, width", [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)])
@pytest.mark.parametrize("num_qubits", [20, 21])
def test_each_layer_of_hardware_efficient_adds_a_neighbour_on_either_side(
    num_qubits, num_layers, width
):
    spec = templates.hardware_efficient(num_qubits, num_layers)
    assert sizes(spec) == [(num_qubits, width)]
    assert cones(spec).amplitudes == num_qubits * 2**width


@pytest.mark.parametrize("gate, ring, expected", [
    # ZZ commutes with the Z that is read: one layer leaves one qubit.
    (lambda t: cirq.ZZ**t, True, [(12, 1)]),
    (lambda t: cirq.XX**t, True, [(12, 3)]),
    # The cone of a line's end joins its neighbour's, and both ends are mirror images.
    (lambda t: cirq.XX**t, False, [(2, 3), (8, 3)]),
    (lambda t: cirq.ISWAP**t, True, [(6, 4)]),
])  # fmt: skip
def test_cones_of_one_layer(gate, ring, expected):
    assert sizes(local_circuit(12, 1, gate, ring)) == expected


@pytest.mark.parametrize("spec", [
    templates.rx_ring(20, 2),
    templates.rx_ring(384),
    templates.ry_ring(20),
    templates.hardware_efficient(5),
    templates.hardware_efficient(8, 6),
    templates.patch(3),
    templates.patch(200),
])  # fmt: skip
def test_what_cannot_be_cut_is_the_circuit_itself(spec):
    cut = cones(spec)
    assert cut.is_whole
    assert cut.groups[0].spec is spec
    assert cut.amplitudes == 2**spec.num_qubits


def test_a_step_that_commutes_with_all_that_follows_is_left_out():
    spec = templates.hardware_efficient(20, 3)
    (group,) = cones(spec).groups
    # RX, RZ and RY on one, three and five qubits; the second RZ on those whose turn is still to
    # come, one and three; CZ between three and five qubits.
    assert len(lower(group.spec)) == 3 * (1 + 3 + 5) + (1 + 3) + (2 + 4)
    assert group.spec.num_weights == 2 * (1 + 3 + 5) + (1 + 3)


def test_observables_of_one_cone_share_it():
    qubits = cirq.LineQubit.range(16)
    circuit = templates.hardware_efficient(16, 2)
    read = [p(q) for p in (cirq.X, cirq.Y, cirq.Z) for q in qubits]
    spec = CircuitSpec(circuit.circuit, circuit.inputs, circuit.weights, read)
    (group,) = cones(spec).groups
    # The last ring does not commute with X and Y.
    assert (group.num_copies, group.spec.num_qubits, group.spec.num_observables) == (16, 5, 3)


def test_a_sum_on_one_cone_is_read_as_one_observable():
    spec = local_circuit(4, 3, lambda t: cirq.ISWAP**t, True, hamiltonian)
    cut = cones(spec)
    assert cut.is_whole and cut.groups[0].spec.num_observables == 3
    cut = cones(local_circuit(12, 1, lambda t: cirq.ZZ**t, True, lambda q: hamiltonian(q)[:1]))
    assert all(group.spec.num_observables <= 2 for group in cut.groups)
    np.testing.assert_allclose(cut.constants, [0.7])


def test_sums_of_data_by_neighbours_are_one_group_around_the_ring():
    """The angles x_i x_j are one function, whichever of the two has the lower index."""
    n = 12
    qubits, x = cirq.LineQubit.range(n), sympy.symbols(f"x:{n}")
    circuit = cirq.Circuit(
        [cirq.H(q) for q in qubits],
        [cirq.rz(x[i])(qubits[i]) for i in range(n)],
        [cirq.ZZ(qubits[i], qubits[(i + 1) % n]) ** (x[i] * x[(i + 1) % n]) for i in range(n)],
        [cirq.ry(sympy.Symbol("w"))(q) for q in qubits],
    )
    spec = CircuitSpec(circuit, x, ["w"], [cirq.Z(q) for q in qubits])
    assert sizes(spec) == [(n, 3)]
    check(spec, num_columns=3)


def test_the_same_angle_and_equal_angles_are_told_apart():
    """Two cones whose only difference is which symbols are the same are not one group."""
    q, (a, b, c) = cirq.LineQubit.range(4), sympy.symbols("a b c")
    circuit = cirq.Circuit(
        cirq.rx(a)(q[0]), cirq.ry(a)(q[0]), cirq.rx(b)(q[1]), cirq.ry(c)(q[1]),
        cirq.rx(a)(q[2]), cirq.ry(a)(q[2]), cirq.rx(2 * b)(q[3]), cirq.ry(a)(q[3]),
    )  # fmt: skip
    spec = CircuitSpec(circuit, [a], [b, c], [cirq.Z(qubit) for qubit in q])
    assert sorted(sizes(spec)) == [(1, 1), (1, 1), (2, 1)]
    check(spec)


# The numbers.


@pytest.mark.parametrize("num_qubits, num_layers", [
    (6, 1), (6, 2), (6, 3), (7, 3), (8, 2), (8, 3), (9, 3), (10, 3),
])  # fmt: skip
def test_hardware_efficient(num_qubits, num_layers):
    check(templates.hardware_efficient(num_qubits, num_layers), num_columns=3)


@pytest.mark.parametrize("observables", [None, hamiltonian])
@pytest.mark.parametrize("ring", [True, False])
@pytest.mark.parametrize("num_qubits, num_layers", [(9, 1), (8, 2)])
@pytest.mark.parametrize("gate", [
    lambda t: cirq.ZZ**t, lambda t: cirq.XX**t, lambda t: cirq.ISWAP**t, lambda t: cirq.CNOT**t,
], ids=["ZZ", "XX", "ISWAP", "CNOT"])  # fmt: skip
def test_rings_and_lines_of_gates_with_weights(gate, ring, num_qubits, num_layers, observables):
    cut = check(local_circuit(num_qubits, num_layers, gate, ring, observables), num_columns=3)
    assert observables or num_layers > 1 or not cut.is_whole


def test_observables_on_one_two_and_all_qubits():
    qubits = cirq.LineQubit.range(8)
    circuit = templates.hardware_efficient(8, 2)
    read = [
        cirq.X(qubits[3]),
        -2 * cirq.Z(qubits[7]) * cirq.Z(qubits[0]),
        1.5 * cirq.Y(qubits[1]) * cirq.X(qubits[5]) + 0.25,
        cirq.PauliString(cirq.Z(q) for q in qubits),
        cirq.PauliString() * 3,
    ]
    spec = CircuitSpec(circuit.circuit, circuit.inputs, circuit.weights, read)
    check(spec)
    spec = CircuitSpec(circuit.circuit, circuit.inputs, circuit.weights, read[:2])
    assert not check(spec).is_whole


def test_qubits_that_nothing_reaches():
    """X, Y and Z of qubits that are still |0>, alone and in products."""
    q, (x, w) = cirq.LineQubit.range(4), sympy.symbols("x w")
    circuit = cirq.Circuit(
        cirq.rx(x)(q[0]), cirq.rz(w)(q[1]), cirq.CZ(q[1], q[2]), cirq.rz(x)(q[2]), cirq.I(q[3])
    )
    pauli = cirq.X, cirq.Y, cirq.Z
    read = [p(q[k]) for k in range(4) for p in pauli]
    read += [p(q[0]) * r(q[3]) for p in pauli for r in pauli]
    check(CircuitSpec(circuit, [x], [w], read))
    nothing = cones(CircuitSpec(circuit, [x], [w], [cirq.Z(q[1]), 2 * cirq.X(q[3]) + 0.5]))
    assert nothing.groups == () and nothing.amplitudes == nothing.max_qubits == 0
    np.testing.assert_array_equal(nothing.constants, [1.0, 0.5])


def test_a_step_that_commutes_with_a_string_but_not_with_its_part():
    """Another string's cone brings XX back; the first string must then be read as a whole."""
    q, (x, w) = cirq.LineQubit.range(3), sympy.symbols("x w")
    circuit = cirq.Circuit(cirq.ry(x)(q[1]), cirq.ry(x)(q[2]), (cirq.XX**w)(q[0], q[1]))
    zz = cirq.Z(q[0]) * cirq.Z(q[1]) * cirq.Z(q[2])
    check(CircuitSpec(circuit, [x], [w], [zz, cirq.Z(q[0]) * cirq.X(q[2]), cirq.Y(q[1])]))


def test_gates_of_every_kind():
    """Constant gates without name, three-qubit gates, and rotations about mixed strings."""
    q = cirq.LineQubit.range(9)
    x, w = sympy.symbols("x:9"), sympy.symbols("w:4")
    random = cirq.MatrixGate(cirq.testing.random_unitary(4, random_state=1))
    circuit = cirq.Circuit(
        [cirq.ry(a)(b) for a, b in zip(x, q, strict=True)],
        cirq.CCX(*q[:3]), random(q[2], q[3]), random(q[8], q[7]), cirq.CSWAP(q[4], q[6], q[5]),
        cirq.ControlledGate(cirq.rx(w[0] * x[2] + 0.3)).on(q[4], q[3]),
        cirq.PauliStringPhasor(cirq.X(q[5]) * cirq.Y(q[6]) * cirq.Z(q[7]), exponent_neg=w[1]),
        cirq.rx(w[2])(q[6]), cirq.rx(-w[2])(q[6]), cirq.FSimGate(w[3], 0.2)(q[0], q[1]),
        cirq.SWAP(q[6], q[7]), cirq.ISWAP(q[7], q[6]), cirq.T(q[0]),
    )  # fmt: skip
    check(CircuitSpec(circuit, x, w, [cirq.Z(a) for a in q]), num_columns=13)
    assert not check(CircuitSpec(circuit, x, w, [cirq.X(q[8]), cirq.Y(q[0])])).is_whole


SYMBOLS = sympy.symbols("a b c d")
FAMILIES = [
    lambda t: cirq.ZZ ** (t / 3),
    lambda t: cirq.XX ** (t / 3),
    lambda t: cirq.CZ ** (t / 3),
    lambda t: cirq.CNOT ** (t / 3),
    lambda t: cirq.ISWAP ** (t / 3),
    lambda t: cirq.FSimGate(t, 0.3 * t),
]
CONSTANTS = [cirq.CZ, cirq.CNOT, cirq.SWAP, cirq.ISWAP, cirq.ZZ**0.25]


@st.composite
def local_specs(draw):
    """Gates on neighbours of a ring of 3 to 7 qubits, few of them, so that cones stay small."""
    size = draw(st.integers(3, 7))
    qubits = cirq.LineQubit.range(size)
    operations = []
    for symbol in (*SYMBOLS, *draw(st.lists(st.sampled_from(SYMBOLS), max_size=8))):
        place = draw(st.integers(0, size - 1))
        pair = qubits[place], qubits[(place + 1) % size]
        angle = draw(st.sampled_from([1.0, 0.5, -1.0])) * symbol
        if draw(st.booleans()):
            angle = angle * draw(st.sampled_from(SYMBOLS)) + 0.2
        kind = draw(st.integers(0, 3))
        if kind == 0:
            operations.append(draw(st.sampled_from(FAMILIES))(angle).on(*pair))
        else:
            operations.append([cirq.rx, cirq.ry, cirq.rz][kind - 1](angle)(pair[0]))
        if draw(st.booleans()):
            operations.append(draw(st.sampled_from(CONSTANTS)).on(*pair))
        if draw(st.booleans()):
            operations.append(draw(st.sampled_from([cirq.H, cirq.S, cirq.Y**0.3]))(pair[1]))
    # All four symbols stay in the circuit, and all qubits.
    circuit = cirq.Circuit([cirq.I(q) for q in qubits], operations)
    observables = []
    for _ in range(draw(st.integers(1, 4))):
        terms = [
            draw(st.sampled_from([1.0, -0.5, 2.0]))
            * cirq.PauliString(
                {
                    q: draw(st.sampled_from([cirq.X, cirq.Y, cirq.Z]))
                    for q in draw(st.permutations(qubits))[:weight]
                }
            )
            for weight in draw(
                st.lists(st.sampled_from([0, 1, 1, 2, size]), min_size=1, max_size=3)
            )
        ]
        observables.append(sum(terms[1:], cirq.PauliSum.from_pauli_strings(terms[:1])))
    return CircuitSpec(circuit, SYMBOLS[:2], SYMBOLS[2:], observables)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(spec=local_specs(), seed=st.integers(0, 1000))
def test_random_local_circuits(spec, seed):
    cut = check(spec, seed, num_columns=4)
    assert cut.max_qubits <= spec.num_qubits
    assert cut.matrix.shape[1] == len(cut.constants) == spec.num_observables


def test_64_qubits_against_windows_of_the_circuit():
    """Cirq simulates the gates that lie within three qubits of the one that is read."""
    spec = templates.hardware_efficient(64, 3)
    inputs, weights = point(spec, batch=2)
    upstream = np.random.default_rng(1).normal(size=64)
    values, (by_inputs, by_weights) = value_and_gradients(
        LightCone(spec), inputs, weights, upstream
    )
    assert np.isfinite(by_inputs).all() and np.abs(by_weights).min() > 0
    names = [symbol.name for symbol in (*spec.inputs, *spec.weights)]
    for example in range(2):
        resolver = dict(zip(names, [*inputs[example, 0], *weights[0]], strict=True))
        for place in (0, 1, 31, 62, 63):
            window = {cirq.LineQubit((place + k) % 64) for k in range(-3, 4)}
            part = cirq.Circuit(
                operation
                for operation in spec.circuit.all_operations()
                if set(operation.qubits) <= window
            )
            (expected,) = cirq.Simulator(dtype=np.complex128).simulate_expectation_values(
                part, cirq.Z(cirq.LineQubit(place)), resolver
            )
            np.testing.assert_allclose(values[example, 0, place], expected.real, atol=1e-9)


# The engine's contract.


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("own_inputs", [False, True])
def test_any_batch_eagerly_and_in_a_graph_that_does_not_know_it(batch, own_inputs):
    spec = local_circuit(9, 1, lambda t: cirq.XX**t, ring=False)
    inputs, weights = point(spec, batch, own_inputs, copies=3)
    engine = LightCone(spec)
    upstream = np.ones((batch, 3, 9))
    values, gradients = value_and_gradients(engine, inputs, weights, upstream)
    expected, expected_gradients = value_and_gradients(StateVector(spec), inputs, weights, upstream)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-9)

    copies = 3 if own_inputs else 1
    signature = [
        tf.TensorSpec((None, copies, 9), tf.float64),
        tf.TensorSpec((3, spec.num_weights), tf.float64),
    ]
    graph = tf.function(engine.expectation, input_signature=signature)
    np.testing.assert_allclose(graph(inputs, weights), values, atol=1e-9)


def test_compiles_under_xla():
    spec = local_circuit(9, 1, lambda t: cirq.XX**t, ring=False, observables=hamiltonian)
    spec = CircuitSpec(spec.circuit, spec.inputs, spec.weights, spec.observables[:2])
    engine = LightCone(spec)
    assert engine.supports_jit and not engine.cones.is_whole
    inputs, weights = point(spec, 3)

    @tf.function(jit_compile=True)
    def compiled(x, w):
        return value_and_gradients(engine, x, w, 1.0)

    values, gradients = compiled(tf.constant(inputs), tf.constant(weights))
    expected, expected_gradients = value_and_gradients(engine, inputs, weights, 1.0)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-9)


def test_second_derivatives():
    spec = templates.hardware_efficient(7, 2)
    inputs, weights = (tf.constant(array) for array in point(spec, 1))

    def hessian(engine):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(engine.expectation(inputs, weights) ** 2)
            gradient = tape.gradient(loss, inputs)
        return outer.jacobian(gradient, inputs)

    assert not cones(spec).is_whole
    np.testing.assert_allclose(hessian(LightCone(spec)), hessian(StateVector(spec)), atol=1e-9)


def test_circuits_without_weights_or_inputs():
    q, t = cirq.LineQubit.range(3), sympy.symbols("t:3")
    circuit = cirq.Circuit(cirq.rx(a)(b) for a, b in zip(t, q, strict=True))
    observables = [cirq.Z(a) for a in q] + [cirq.PauliString() * 2]
    angles = np.array([[0.3, 0.5, 0.7], [1.0, 2.0, 3.0]])
    expected = np.concatenate([np.cos(angles), np.full((2, 1), 2.0)], -1)
    data_only = LightCone(CircuitSpec(circuit, t, [], observables))
    for inputs in (angles[:, None], np.tile(angles[:, None], (1, 3, 1))):
        values = data_only.expectation(tf.constant(inputs), tf.zeros((3, 0), tf.float64))
        np.testing.assert_allclose(values, np.tile(expected[:, None], (1, 3, 1)), atol=1e-9)
    weights_only = LightCone(CircuitSpec(circuit, [], t, observables))
    for copies in (1, 2):
        inputs = tf.zeros((4, copies, 0), tf.float64)
        values = weights_only.expectation(inputs, tf.constant(angles))
        np.testing.assert_allclose(values, np.tile(expected, (4, 1, 1)), atol=1e-9)
    constant = LightCone(CircuitSpec(circuit, t, [], [cirq.PauliString() * 2]))
    values = constant.expectation(tf.constant(angles[:, None]), tf.zeros((3, 0), tf.float64))
    np.testing.assert_array_equal(values, np.full((2, 3, 1), 2.0))


def test_jax(tmp_path):
    """Value and gradient under jit are TensorFlow's, and no TensorFlow is loaded."""
    script = """
        import sys
        import jax, numpy as np
        from qrkt_keras.circuits import templates
        from qrkt_keras.execution.light_cone import LightCone
        spec = templates.hardware_efficient(8, 2)
        engine = LightCone(spec)
        assert not engine.cones.is_whole
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3, 1, 8)).astype("float32")
        w = rng.normal(size=(2, spec.num_weights)).astype("float32")
        f = lambda x, w: (engine.expectation(x, w) ** 2).sum()
        value, gradients = jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(x, w)
        assert "tensorflow" not in sys.modules
        np.savez(sys.argv[1], x=x, w=w, value=value, by_x=gradients[0], by_w=gradients[1])
    """
    path = tmp_path / "values.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = str(Path(qrkt_keras.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    jax = np.load(path)
    inputs, weights = tf.constant(jax["x"]), tf.constant(jax["w"])
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        engine = LightCone(templates.hardware_efficient(8, 2))
        value = tf.reduce_sum(engine.expectation(inputs, weights) ** 2)
    by_inputs, by_weights = tape.gradient(value, (inputs, weights))
    np.testing.assert_allclose(jax["value"], value, rtol=1e-5)
    np.testing.assert_allclose(jax["by_x"], by_inputs, atol=1e-5)
    np.testing.assert_allclose(jax["by_w"], by_weights, atol=1e-5)


# Limits.


def test_a_cone_that_is_too_wide_is_refused_with_its_size():
    with pytest.raises(UnsupportedCircuitError, match="state_vector.*31 of 64 qubits.*GB"):
        LightCone(templates.hardware_efficient(64, 16))


@pytest.mark.parametrize("num_qubits, num_layers", [(64, 3), (384, 2)])
def test_cutting_takes_seconds_at_most(num_qubits, num_layers):
    spec = templates.hardware_efficient(num_qubits, num_layers)
    start = time.perf_counter()
    cones.__wrapped__(spec)
    # Half a second, on a quiet machine.
    assert time.perf_counter() - start < 10


def test_a_gate_on_many_qubits_stays():
    qubits, (x, w) = cirq.LineQubit.range(9), sympy.symbols("x w")
    wide = cirq.DiagonalGate(np.linspace(0, 1, 2**7).tolist())
    circuit = cirq.Circuit(
        [cirq.ry(x)(q) for q in qubits], wide.on(*qubits[:7]), cirq.rx(w)(qubits[8])
    )
    cut = check(CircuitSpec(circuit, [x], [w], [cirq.Z(qubits[0]), cirq.Z(qubits[8])]))
    assert cut.max_qubits <= 7


def test_a_cut_is_made_once():
    spec = templates.hardware_efficient(12, 2)
    assert cones(spec) is cones(templates.hardware_efficient(12, 2))
    with pytest.raises(ValueError, match="read-only"):
        cones(spec).matrix[0, 0] = 2.0
