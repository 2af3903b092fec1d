"""Parts of circuits that no gate connects: against the whole circuit, and against Cirq's values."""

from __future__ import annotations

import itertools

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.circuits import random_spec
from support.reference import cirq_expectation, cirq_gradient

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import (
    LightCone,
    Sampling,
    Split,
    StateVector,
    UnsupportedCircuitError,
    make_engine,
)
from qrkt_keras.execution.components import (
    components,
    factor_error,
    innermost,
    narrow_circuits,
    num_components,
)
from qrkt_keras.execution.light_cone import cones


def side_by_side() -> CircuitSpec:
    """Circuits of 3, 2 and 1 qubits, a qubit without gates, symbols that several of them share."""
    a, b, c, d, e, f, idle = cirq.LineQubit.range(7)
    x, y, v, w = sympy.symbols("x y v w")
    circuit = cirq.Circuit(
        cirq.rx(x)(a),
        cirq.ry(w)(c),
        cirq.ISWAP(a, c) ** v,
        cirq.ry(y + 0.5 * w)(e),
        cirq.CZ(c, e),
        cirq.rx(w)(e),
        cirq.ry(x)(b),
        cirq.CNOT(b, d),
        cirq.rx(v * y)(d),
        cirq.ry(v)(f),
        cirq.I(idle),
        cirq.T(f),
        cirq.CNOT(a, b),  # final Cliffords, which connect all
        cirq.CNOT(d, f),
        cirq.S(f),
    )
    observables = [
        cirq.Z(a) * cirq.Z(b),
        cirq.X(f) * 0.5 + cirq.Z(c) * cirq.Z(d) * cirq.Z(f) - 2.0,
        cirq.X(a) * cirq.Y(e) * cirq.Z(idle),
        cirq.PauliSum.from_pauli_strings([cirq.Z(a) * cirq.X(idle), 0.25 * cirq.Z(idle)]),
        cirq.Z(d),
    ]
    return CircuitSpec(circuit, [x, y], [v, w], observables)


def interleaved(one: CircuitSpec, other: CircuitSpec) -> CircuitSpec:
    """Two circuits of the same symbols on every second qubit, and products of their observables."""
    moved = [
        (spec, {qubit: cirq.LineQubit(2 * i + offset) for i, qubit in enumerate(spec.qubits)})
        for offset, spec in enumerate((one, other))
    ]
    circuits = [spec.circuit.unfreeze().transform_qubits(places) for spec, places in moved]
    sums = [
        [
            sum((string.map_qubits(places) for string in o), cirq.PauliSum())
            for o in spec.observables
        ]
        for spec, places in moved
    ]
    products = [first * second for first, second in zip(*sums, strict=True)]
    weights = [symbol.name for symbol in one.weights]
    return CircuitSpec(
        cirq.Circuit(*circuits), one.inputs, weights, [*products, sums[0][0], sums[1][1]]
    )


SPECS = {
    "side by side": (side_by_side(), 3),
    "side by side, packed": (side_by_side(), 5),
    "rx_ring": (templates.rx_ring(7), 3),
    "ry_ring": (templates.ry_ring(6), 4),
    "cones of one component": (templates.hardware_efficient(8, num_layers=2), 3),
    "random": (interleaved(random_spec(0, 3, 15), random_spec(1, 4, 20)), 4),
}


def point(spec, batch=2, copies=1):
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-3, 3, (batch, copies, spec.num_inputs)).astype("float32")
    return inputs, rng.uniform(-3, 3, (copies, spec.num_weights)).astype("float32")


@pytest.mark.parametrize("name", SPECS)
def test_values_and_gradients_are_those_of_the_circuit(name):
    spec, most = SPECS[name]
    engine = Split(spec, most, StateVector)
    assert all(inner.spec.num_qubits <= most for inner, _ in innermost(engine))
    inputs, weights = map(tf.constant, point(spec, copies=2))
    upstream = np.random.default_rng(1).normal(size=spec.num_observables)
    with tf.GradientTape() as tape:
        tape.watch((inputs, weights))
        values = engine.expectation(inputs, weights)
        loss = tf.reduce_sum(values * upstream.astype("float32"))
    by_inputs, by_weights = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
    total = np.zeros(weights.shape)
    for row, copy in itertools.product(range(2), range(2)):
        x, w = inputs[row, copy].numpy(), weights[copy].numpy()
        np.testing.assert_allclose(values[row, copy], cirq_expectation(spec, x, w), atol=2e-6)
        gradient = cirq_gradient(spec, x, w, upstream)
        np.testing.assert_allclose(by_inputs[row, copy], gradient[: spec.num_inputs], atol=2e-4)
        total[copy] += gradient[spec.num_inputs :]
    np.testing.assert_allclose(by_weights, total, atol=4e-4)


def test_the_parts_of_a_circuit():
    found = components(side_by_side(), 3)
    assert sorted(part.spec.num_qubits for part in found.parts) == [3, 3]
    assert found.constants.tolist() == [0.0, -2.0, 0.0, 0.25, 0.0]
    # Of `Z(a) Z(b)` the last CNOT leaves a factor.
    assert [len(product) for product in found.products] == [1, 2, 2, 2, 1]
    one, two = (components(side_by_side(), most).parts for most in (3, 6))
    assert sum(part.num_copies for part in one) == 2 and sum(part.num_copies for part in two) == 1


@pytest.mark.parametrize("template, scale", [(templates.rx_ring, 0.05), (templates.ry_ring, 0.5)])
def test_a_ring_of_384_qubits_is_eight_circuits_without_entangling_gates(template, scale):
    spec = template(384)
    ((part, number),) = narrow_circuits(spec, 53).items()
    assert (part.num_qubits, number) == (48, 8)
    assert all(len(operation.qubits) == 1 for operation in part.circuit.all_operations())
    inputs, weights = (scale * values for values in point(spec))
    split = make_engine(spec, "sampling", sampler=cirq.Simulator(seed=0), max_qubits=53)
    values = split.expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    exact = make_engine(spec).expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    assert np.abs(exact).max() > 0.5
    # A product of independent means varies no more than the mean of products.
    assert np.all(np.abs(values - exact) <= 5 / np.sqrt(1000))


def test_what_is_narrow_stays_as_it_is():
    spec = templates.rx_ring(5)
    assert narrow_circuits(spec, 5) == {spec: 1}
    engine = make_engine(spec, "sampling", sampler=cirq.Simulator(), max_qubits=5)
    assert isinstance(engine, Sampling) and innermost(engine) == [(engine, 1)]


def test_what_nothing_reads_is_not_run():
    a, b, c = cirq.LineQubit.range(3)
    circuit = cirq.Circuit(cirq.rx(sympy.Symbol("w"))(q) for q in (a, b)) + cirq.H(c)
    spec = CircuitSpec(circuit, [], ["w"], [cirq.Z(b), cirq.X(c)])
    (part,) = components(spec, 2).parts
    assert part.spec.num_qubits == 1
    constant = CircuitSpec(circuit, [], ["w"], [cirq.X(c) + 1.0])
    engine = Split(constant, 2, StateVector)
    values = engine.expectation(tf.zeros((2, 1, 0)), tf.zeros((3, 1)))
    np.testing.assert_array_equal(values, np.full((2, 3, 1), 2.0))


def test_a_component_that_is_too_wide():
    engine = Split(templates.hardware_efficient(9, 2), 4, StateVector)
    assert all(isinstance(inner, LightCone) for inner in engine.engines)
    with pytest.raises(UnsupportedCircuitError, match="light cone of .* max_qubits=2"):
        Split(templates.hardware_efficient(9, 2), 2, StateVector)
    with pytest.raises(ValueError, match="Received: max_qubits=0"):
        components(templates.rx_ring(3), 0)
    for wrong in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"max_qubits must be .* Received: max_qubits={wrong}"):
            make_engine(
                templates.rx_ring(3), "sampling", sampler=cirq.Simulator(), max_qubits=wrong
            )


def test_identities_on_several_qubits_belong_to_nothing():
    qubits = cirq.LineQubit.range(6)
    weights = [f"w{i}" for i in range(6)]
    turns = [cirq.rx(sympy.Symbol(w))(q) for w, q in zip(weights, qubits, strict=True)]
    two, all_of_them = cirq.IdentityGate(2), cirq.IdentityGate(6)
    for identity in (two.on(qubits[2], qubits[0]), all_of_them.on(*qubits)):
        circuit = cirq.Circuit(identity, turns)
        spec = CircuitSpec(circuit, [], weights, [cirq.Z(q) for q in qubits])
        assert [part.spec.num_qubits for part in components(spec, 2).parts] == [2]


def test_as_few_circuits_as_components_one_after_the_other_give():
    """Of three of three qubits two fit in eight, and one is left."""
    circuit, weights, observables = cirq.Circuit(), [], []
    for start in (0, 3, 6):
        a, b, c = (cirq.LineQubit(start + i) for i in range(3))
        weights.append(f"w{start}")
        turn = cirq.ry(sympy.Symbol(weights[-1]))
        circuit += cirq.Circuit(turn(a), cirq.ISWAP(a, b) ** 0.5, turn(b), cirq.CZ(b, c), turn(c))
        observables.append(cirq.Z(c))
    spec = CircuitSpec(circuit, [], weights, observables)
    found = narrow_circuits(spec, 8)
    assert sorted(part.num_qubits for part in found) == [3, 6]
    assert sorted(num_components(part) for part in found) == [1, 2]
    assert [part.num_qubits for part in narrow_circuits(spec, 8, packed_qubits=4)] == [3]


@pytest.mark.parametrize("seed", range(12))
def test_cones_are_not_united_beyond_what_is_allowed(seed):
    """Whatever a single observable's cone needs can be run."""
    rng = np.random.default_rng(seed)
    qubits = cirq.LineQubit.range(7)
    weights = [f"w{i}" for i in range(14)]
    turns = [cirq.ry(sympy.Symbol(w)) for w in weights]
    circuit = cirq.Circuit(turn(q) for turn, q in zip(turns[:7], qubits, strict=True))
    for pair in rng.permutation(6):
        circuit.append(cirq.CZ(qubits[pair], qubits[pair + 1]), cirq.InsertStrategy.NEW)
    circuit.append(turn(q) for turn, q in zip(turns[7:], qubits, strict=True))
    spec = CircuitSpec(circuit, [], weights, [cirq.Z(q) for q in qubits])
    single = [cones(CircuitSpec(circuit, [], weights, [o])).max_qubits for o in spec.observables]
    engine = Split(spec, max(single), StateVector)
    assert all(inner.spec.num_qubits <= max(single) for inner, _ in innermost(engine))
    point = rng.uniform(-3, 3, 14).astype("float32")
    values = engine.expectation(tf.zeros((1, 1, 0)), tf.constant(point[None]))
    np.testing.assert_allclose(values[0, 0], cirq_expectation(spec, [], point), atol=2e-6)


def test_what_is_kept_cannot_be_changed():
    found = components(templates.rx_ring(4), 2)
    for array in (found.matrix, found.constants, found.parts[0].weight_columns):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


# Standard errors.


def worst_variance(largest: float, size: int, number: float) -> float:
    """Of a product of means whose mean squares are at most `largest`: by trying what m² may be."""
    worst = 0.0
    for squares in itertools.combinations_with_replacement(np.linspace(0, 1, 11), size):
        squares = np.array(squares)
        variance = np.prod(squares + (largest - squares) / number) - np.prod(squares)
        worst = max(worst, variance)
    return worst


@pytest.mark.parametrize("square", [1.0, 1.3, 3.0])
@pytest.mark.parametrize("target", [0.02, 0.3])
def test_the_error_of_factors_bounds_that_of_their_product(square, target):
    circuit = cirq.Circuit(cirq.rx(sympy.Symbol("w"))(q) for q in cirq.LineQubit.range(4))
    observable = cirq.PauliString({q: cirq.Z for q in cirq.LineQubit.range(4)})
    found = components(CircuitSpec(circuit, [], ["w"], [observable]), 1)
    error = factor_error(found, target, square)
    number = square / error**2
    assert worst_variance(square, 4, number) <= target**2 * (1 + 1e-9)
    # And is not much too strict.
    assert worst_variance(square, 4, number / 1.6) > target**2


def test_a_target_error_is_kept_by_products_of_corrected_values():
    spec = templates.rx_ring(6)
    errors = {qubit: (0.02, 0.1) for qubit in cirq.LineQubit.range(6)}
    sampler = cirq.Simulator(seed=0)
    engine = make_engine(
        spec,
        "sampling",
        sampler=sampler,
        standard_error=0.1,
        readout_errors=errors,
        max_qubits=2,
    )
    inputs = np.repeat(point(spec)[0][:1], 300, axis=0)
    values = engine.expectation(tf.constant(inputs), tf.constant(point(spec)[1])).numpy()
    deviations = values[:, 0].std(axis=0)
    assert np.all(deviations < 0.1 * 1.15) and deviations.max() > 0.01


def test_only_measured_qubits_set_the_shots():
    options = {"sampler": cirq.Simulator(), "standard_error": 0.1, "max_qubits": 2}
    errors = {qubit: (0.01, 0.02) for qubit in cirq.LineQubit.range(2)}
    more = errors | {cirq.LineQubit(99): (0.4, 0.4)}
    shots = [
        make_engine(templates.rx_ring(4), "sampling", readout_errors=e, **options)
        for e in (errors, more)
    ]
    one, other = (engine.engines[0].repetitions for engine in shots)
    assert one == other


@pytest.mark.parametrize(
    "options, message",
    [
        ({"standard_error": -0.1}, "standard_error must be .* Received: -0.1"),
        ({"standard_error": True}, "standard_error must be .* Received: True"),
        ({"repetitions": -3}, "repetitions must be .* Received: -3"),
        ({"noise_scales": (2,)}, "noise_scales must be .* Received: noise_scales="),
        ({"standard_error": 0.1, "repetitions": 5}, "Either repetitions or standard_error"),
    ],
)
def test_options_are_checked_before_anything_is_split(options, message):
    sampler = cirq.Simulator()
    with pytest.raises(ValueError, match=message):
        make_engine(templates.rx_ring(4), "sampling", sampler=sampler, max_qubits=2, **options)


def test_what_is_extrapolated_and_multiplied_has_no_bound():
    with pytest.raises(ValueError, match=r"take repetitions. Received: .*noise_scales=\(1, 3\)"):
        make_engine(
            templates.rx_ring(4),
            "sampling",
            sampler=cirq.Simulator(),
            standard_error=0.1,
            noise_scales=(1, 3),
            max_qubits=2,
        )
