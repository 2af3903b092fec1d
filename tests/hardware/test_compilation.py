"""Compiled circuits: equal to the logical ones, of native gates only, on the right qubits."""

from __future__ import annotations

import json

import cirq
import cirq_google
import keras
import networkx as nx
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.circuits import random_spec, scaled_reupload
from support.reference import cirq_expectation

from qrkt_keras import zoo
from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.circuits.separation import separate
from qrkt_keras.execution import UnsupportedCircuitError, make_engine
from qrkt_keras.hardware import (
    GATESETS,
    CompiledCircuit,
    CompiledCircuits,
    ProcessorError,
    compile_for,
    fits,
    get_processor,
    rows_per_example,
    sampled,
    virtual_machine,
)
from qrkt_keras.hardware.processors import native_gate
from qrkt_keras.layers import PQC

A, B, C, D = cirq.LineQubit.range(4)
X, W = sympy.symbols("x w")


def many_gates() -> CircuitSpec:
    """Gates of several qubits with and without symbols, an idle qubit, matrices."""
    rng = np.random.RandomState(0)
    circuit = cirq.Circuit(
        cirq.ry(X)(A),
        cirq.CCX(A, B, C),
        cirq.CSWAP(C, A, B),
        cirq.MatrixGate(cirq.testing.random_unitary(4, random_state=rng)).on(B, C),
        cirq.MatrixGate(cirq.testing.random_unitary(8, random_state=rng)).on(A, B, C),
        cirq.FSimGate(W, X)(A, B),
        cirq.ry(W * X)(C).controlled_by(A),
        cirq.ISWAP(B, C) ** W,
        cirq.I(D),
    )
    return CircuitSpec(circuit, [X], [W], [cirq.X(A) * cirq.Y(C), cirq.Z(B), cirq.Z(D)])


SPECS = {
    "one qubit": templates.rx_ring(1),
    "two qubits": templates.ry_ring(2),
    "rx_ring 3": templates.rx_ring(3),
    "rx_ring 4": templates.rx_ring(4, 2),
    "ry_ring 5": templates.ry_ring(5),
    "ry_ring 6": templates.ry_ring(6),
    "hardware_efficient 4": templates.hardware_efficient(4),
    "hardware_efficient_once 4": templates.get("hardware_efficient_once", 4, 2),
    "patch": templates.patch(1, num_qubits=6, num_features=24, num_values=7),
    "products": scaled_reupload(4, 2),
    "random": random_spec(1, 5, 25),
    "many gates": many_gates(),
}
BY_NAME = pytest.mark.parametrize("name", SPECS)


def difference(spec, part, seed=0):
    """The largest entry of U - e^(i phase) V, of the logical and the compiled circuit."""
    rng = np.random.default_rng(seed)
    names = [symbol.name for symbol in (*spec.inputs, *spec.weights)]
    values = dict(zip(names, rng.uniform(-3, 3, len(names)).tolist(), strict=True))
    separated = separate(spec)
    exponents = np.array([[complex(e.subs(values)).real for e in separated.exponents]])
    columns = {symbol: i for i, symbol in enumerate(separated.symbols)}
    program = part.program(columns)
    resolver = dict(zip(program.symbols, program.parameters(exponents)[0].tolist(), strict=True))
    body = cirq.resolve_parameters(part.circuit, resolver)[:-1]
    logical = cirq.Circuit(
        cirq.resolve_parameters(spec.circuit, values), part.group.rotations()
    ).unitary(qubit_order=spec.qubits)
    before = [part.placement[qubit] for qubit in spec.qubits]
    after = [part.final[qubit] for qubit in spec.qubits]
    assert body.all_qubits() <= set(before) and sorted(before) == sorted(after)
    physical = body.unitary(qubit_order=before, qubits_that_should_be_present=before)
    size = len(before)
    places = [before.index(qubit) for qubit in after]
    physical = physical.reshape((2,) * size + (-1,)).transpose(*places, size)
    physical = physical.reshape(logical.shape)
    phase = np.vdot(logical, physical)
    return np.abs(logical * phase / abs(phase) - physical).max()


@BY_NAME
@pytest.mark.parametrize("gateset", GATESETS)
def test_it_equals_the_circuit_up_to_a_global_phase(name, gateset):
    spec = SPECS[name]
    for processor, seed in (("weber", 0), ("rainbow", 1)):
        for part in compile_for(spec, processor, gateset).parts:
            assert difference(spec, part, seed) < 1e-6


@pytest.mark.parametrize("gateset", GATESETS)
@pytest.mark.parametrize("name", ["rx_ring 3", "ry_ring 6", "random"])
def test_gates_that_are_repeated_are_the_same_circuit(name, gateset):
    spec = SPECS[name]
    compiled = compile_for(spec, "weber", gateset, noise_scales=(1, 3))
    half = len(compiled.parts) // 2
    for part, repeated in zip(compiled.parts[:half], compiled.parts[half:], strict=True):
        assert difference(spec, repeated) < 1e-6
        # So often the gates, of swaps too, so so often their noise.
        counts = [
            sum(len(op.qubits) == 2 for op in one.circuit[:-1].all_operations())
            for one in (part, repeated)
        ]
        assert counts[1] == 3 * counts[0]


def test_a_gate_whose_inverse_takes_more_is_not_repeated():
    circuit = cirq.Circuit(cirq.ry(W)(A), cirq.ISWAP(A, B), cirq.rx(W)(B))
    spec = CircuitSpec(circuit, [], [W], [cirq.Z(B)])
    with pytest.raises(UnsupportedCircuitError, match="noise_scale=3, 3 and 4 gates for "):
        compile_for(spec, "weber", "sycamore", noise_scales=(1, 3))
    assert compile_for(spec, "weber", "cz", noise_scales=(1, 3)).report.two_qubit_gates == 2


def test_a_gate_that_only_equals_the_native_one_becomes_it():
    gate = cirq.FSimGate(np.pi / 2, np.pi / 6)
    spec = CircuitSpec(cirq.Circuit(cirq.ry(W)(A), gate(A, B), cirq.rx(W)(B)), [], [W], [cirq.Z(B)])
    (part,) = compile_for(spec, "weber", "sycamore").parts
    (pair,) = [op for op in part.circuit[:-1].all_operations() if len(op.qubits) == 2]
    assert type(pair.gate) is cirq_google.SycamoreGate


@pytest.mark.parametrize("gateset", GATESETS)
@pytest.mark.parametrize("name", ["rx_ring 3", "ry_ring 5", "random", "many gates"])
def test_the_right_qubits_are_measured(name, gateset):
    """Routed circuits, and several groups: samples without noise against Cirq."""
    spec = SPECS[name]
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-3, 3, (2, 1, spec.num_inputs)).astype("float32")
    weights = rng.uniform(-3, 3, (1, spec.num_weights)).astype("float32")
    engine = make_engine(
        spec,
        "sampling",
        sampler=virtual_machine("weber", noise=None, seed=0),
        compiled=compile_for(spec, "weber", gateset),
        repetitions=4000,
    )
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()[:, 0]
    exact = np.array([cirq_expectation(spec, row, weights) for row in inputs])
    lengths = [sum(abs(t.coefficient) for t in o if len(t)) for o in spec.observables]
    assert np.all(np.abs(values - exact) < 5 * np.array(lengths) / np.sqrt(4000))


@BY_NAME
@pytest.mark.parametrize("gateset", GATESETS)
def test_only_native_gates_between_neighbours(name, gateset):
    processor = get_processor("rainbow")
    compiled = compile_for(SPECS[name], processor, gateset)
    allowed = (cirq.PhasedXZGate, cirq.ZPowGate, cirq.MeasurementGate)
    for part in compiled.parts:
        processor.device.validate_circuit(part.circuit)
        for operation in part.circuit.all_operations():
            if len(operation.qubits) == 2 and not cirq.is_measurement(operation):
                assert operation.gate == native_gate(gateset)
                assert processor.graph.has_edge(*operation.qubits)
            else:
                assert isinstance(operation.gate, allowed)
        kinds = [{len(operation.qubits) for operation in moment} for moment in part.circuit[:-1]]
        assert all(len(kind) == 1 for kind in kinds)


def test_one_pulse_between_gates_on_two_qubits():
    # Of four data rotations and eight weights a qubit, one pulse is left.
    spec = templates.patch(1)
    compiled = compile_for(spec, "weber", "cz")
    assert compiled.report.depth_before == 38 and compiled.report.depth == 13
    assert compiled.report.two_qubit_gates == compiled.report.two_qubit_gates_before == 32
    assert compiled.report.num_circuits == 2 and not compiled.report.is_routed


def test_gates_that_follow_each_other_on_a_pair_are_merged():
    circuit = cirq.Circuit(
        cirq.ry(W)(A), cirq.CZ(A, B), cirq.SWAP(A, B), cirq.H(A), cirq.CZ(A, B), cirq.rx(W)(B)
    )
    spec = CircuitSpec(circuit, [], [W], [cirq.Z(B)])
    # One by one they take 1 + 3 + 1 CZ; any unitary on two qubits takes at most 3.
    compiled = compile_for(spec, "weber", "cz")
    assert compiled.report.two_qubit_gates <= 3
    assert difference(spec, compiled.parts[0]) < 1e-6


def test_repeated_gates_are_not_merged_away():
    spec = templates.hardware_efficient(4, num_layers=2)
    for gateset in GATESETS:
        compiled = compile_for(spec, "weber", gateset, noise_scales=(1, 3))
        counts = [
            sum(len(op.qubits) == 2 for op in part.circuit.all_operations())
            for part in compiled.parts
        ]
        assert counts[1] == 3 * counts[0]
        assert compiled.report.two_qubit_gates == counts[0]


@pytest.mark.parametrize("size", [4, 6, 8, 10])
def test_even_rings_and_lines_fit(size):
    assert not compile_for(templates.hardware_efficient(size, 2), "weber", "cz").report.is_routed


@pytest.mark.parametrize("name, size", [("weber", 41), ("weber", 46), ("rainbow", 16)])
def test_long_lines_fit(name, size):
    """On a ring that is cut, where a search for the line runs into dead ends."""
    qubits, w = cirq.LineQubit.range(size), sympy.Symbol("w")
    pairs = [cirq.CZ(*pair) for pair in zip(qubits, qubits[1:], strict=False)]
    circuit = cirq.Circuit(cirq.ry(w).on_each(*qubits), pairs, cirq.rx(w).on_each(*qubits))
    spec = CircuitSpec(circuit, [], [w], [cirq.Z(qubit) for qubit in qubits])
    report = compile_for(spec, name, "cz").report
    assert not report.is_routed and report.two_qubit_gates == size - 1


@pytest.mark.parametrize("size", [3, 5])
def test_odd_rings_are_routed(size):
    report = compile_for(templates.hardware_efficient(size, 2), "weber", "cz").report
    assert report.is_routed and report.two_qubit_gates > report.two_qubit_gates_before


def test_a_qubit_of_an_odd_ring_may_have_any_name():
    a, b, free = map(cirq.NamedQubit, ("a", "b", "free"))
    w = sympy.Symbol("w")
    pairs = [cirq.CZ(a, b), cirq.CZ(b, free), cirq.CZ(free, a)]
    circuit = cirq.Circuit(cirq.ry(w).on_each(a, b, free), pairs, cirq.rx(w).on_each(a, b, free))
    compiled = compile_for(CircuitSpec(circuit, [], [w], [cirq.Z(free)]), "weber", "cz")
    assert compiled.report.is_routed and set(compiled.parts[0].placement) == {a, b, free}


@pytest.mark.parametrize("name", ["rainbow", "weber"])
def test_an_odd_ring_moves_through_the_place_left_free(name):
    """One swap of three gates a layer, where from a line there are two and more."""
    spec = templates.hardware_efficient(5, 3)
    report = compile_for(spec, name, "cz").report
    assert report.two_qubit_gates <= report.two_qubit_gates_before + 3 * 3


def test_it_takes_the_best_calibrated_qubits():
    processor = get_processor("weber")
    spec = templates.hardware_efficient(4, 2)
    best = compile_for(spec, processor, "sqrt_iswap").report.fidelity
    squares = [c for c in nx.simple_cycles(processor.graph, 4) if len(c) == 4]
    assert len(squares) > 20
    # The same ring on any other square: no better, from the two-qubit and readout errors alone.
    (part,) = compile_for(spec, processor, "sqrt_iswap").parts

    def error(square):
        pairs = zip(square, [*square[1:], square[0]], strict=True)
        errors = [4 * processor.gate_error(cirq.ISwapPowGate, *pair) for pair in pairs]
        return sum(errors) + sum(sum(processor.readout_errors[q]) / 2 for q in square)

    ours = [part.placement[qubit] for qubit in spec.qubits]
    assert error(ours) < np.quantile([error(square) for square in squares], 0.1)
    assert 0 < best < 1


def test_expected_fidelity_is_the_product():
    spec = templates.rx_ring(2)
    processor = get_processor("weber")
    compiled = compile_for(spec, processor, "cz")
    (part,) = compiled.parts
    fidelity, awake = 1.0, set()
    for moment in part.circuit:
        for op in moment:
            if cirq.is_measurement(op):
                fidelity *= np.prod([1 - sum(processor.readout_errors[q]) / 2 for q in op.qubits])
            else:
                fidelity *= 1 - processor.gate_error(type(op.gate), *op.qubits)
        nanoseconds = 25.0 if len(next(iter(moment)).qubits) == 1 else 32.0
        if not cirq.is_measurement(next(iter(moment))):
            for qubit in awake - moment.qubits:
                fidelity *= 1 - processor.decoherence(qubit, nanoseconds)
        awake |= moment.qubits
    assert compiled.report.fidelity == pytest.approx(fidelity)
    assert compiled.report.assumed == processor.assumed
    assert not compile_for(spec, processor, "sqrt_iswap").report.assumed
    assert compiled.report.seconds(1000) == pytest.approx(1e-6 * compiled.report.duration)


@BY_NAME
def test_json_round_trip(name):
    compiled = compile_for(SPECS[name], "weber", "sqrt_iswap", noise_scales=(1, 3))
    text = compiled.to_json()
    loaded = CompiledCircuit.from_json(text)
    assert loaded.to_json() == text and loaded.report == compiled.report
    assert [part.circuit for part in loaded.parts] == [part.circuit for part in compiled.parts]
    exponents = np.random.default_rng(0).uniform(-1, 1, (2, len(separate(SPECS[name]).symbols)))
    for one, other in zip(
        compiled.programs(SPECS[name], 3), loaded.programs(SPECS[name], 3), strict=True
    ):
        assert one.qubits == other.qubits and one.group == other.group
        np.testing.assert_array_equal(one.parameters(exponents), other.parameters(exponents))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data | {"format": 7}, "Received: format=7"),
        (lambda data: {}, "Received: format=None"),
        (lambda data: [], "not the JSON text of a CompiledCircuit"),
        (
            lambda data: data | {"parts": [{"cirq_type": "sympy.Not", "args": ["x"]}]},
            "not the JSON text of a CompiledCircuit",
        ),
    ],
)
def test_other_json_is_refused(change, message):
    data = json.loads(compile_for(SPECS["two qubits"]).to_json())
    with pytest.raises(ValueError, match=message):
        CompiledCircuit.from_json(json.dumps(change(data)))
    for text in (
        "{}",
        '{"format": 7, "circuits": [], "rows": [], "max_qubits": null, "packed_qubits": null}',
    ):
        with pytest.raises(ValueError, match="JSON text of CompiledCircuits.* Received: "):
            CompiledCircuits.from_json(text)
    del data["report"]["total_duration"]
    for wrong in (data, {"format": 1}):
        with pytest.raises(ValueError, match="JSON text of a CompiledCircuit.* Received: "):
            CompiledCircuit.from_json(json.dumps(wrong))


def test_what_is_read_again_is_equal():
    compiled = compile_for(SPECS["two qubits"])
    assert CompiledCircuit.from_json(compiled.to_json()) == compiled
    assert hash(CompiledCircuit.from_json(compiled.to_json())) == hash(compiled)
    assert compiled != compile_for(SPECS["two qubits"], "rainbow") and compiled != "text"
    several = compile_for(SPECS["two qubits"], split=True)
    assert CompiledCircuits.from_json(several.to_json()) == several != compiled


def test_circuits_of_another_processor_are_refused():
    machine = virtual_machine("weber")
    for split in (False, True):
        compiled = compile_for(SPECS["two qubits"], "rainbow", split=split)
        with pytest.raises(ValueError, match="compiled for rainbow, and the sampler is weber's"):
            make_engine(SPECS["two qubits"], "sampling", sampler=machine, compiled=compiled)


def test_a_gan_is_compiled_by_its_generator():
    gan = zoo.from_preset("qrkt_gan_digits", load_weights=False)
    with pytest.raises(ValueError, match="of a GAN that is its generator"):
        compile_for(gan)
    compiled = compile_for(gan.ema_generator, "weber", "cz", split=True)
    assert compiled.circuits_per_example == sum(compiled.rows) > 1000


def test_another_circuit_or_scale_is_refused():
    compiled = compile_for(SPECS["two qubits"])
    with pytest.raises(ValueError, match="Another circuit was compiled"):
        compiled.programs(SPECS["rx_ring 3"])
    with pytest.raises(ValueError, match=r"compiled for noise_scales=\(1,\). Received: 3"):
        compiled.programs(SPECS["two qubits"], 3)


def test_what_cannot_be_compiled():
    with pytest.raises(ValueError, match="gateset must be one of .* Received: gateset='cnot'"):
        compile_for(SPECS["two qubits"], "weber", "cnot")
    with pytest.raises(TypeError, match="Received: 'ry_ring' of type str"):
        compile_for("ry_ring")
    with pytest.raises(ValueError, match="no such processor|are rainbow, weber"):
        compile_for(SPECS["two qubits"], "bristlecone")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="The model has no circuits"):
        compile_for(model)


# Wide circuits.


def test_a_wide_circuit_is_refused_with_the_numbers():
    with pytest.raises(ProcessorError, match="weber has 53 qubits.* Received: num_qubits=384"):
        compile_for(templates.ry_ring(384))
    wide = templates.hardware_efficient(54, num_layers=30)
    with pytest.raises(ProcessorError, match="widest light cone has more.* num_qubits=54"):
        compile_for(wide, split=True)


@pytest.mark.parametrize("template", [templates.rx_ring, templates.ry_ring])
def test_a_ring_of_384_qubits_runs_on_a_processor(template):
    spec = template(384)
    machine = virtual_machine("weber", noise=None, seed=0)
    compiled = compile_for(spec, machine.processor, "cz", split=True)
    assert compiled.max_qubits == 53 and compiled.circuits_per_example == 8
    (circuit,) = compiled.circuits
    assert circuit.report.num_qubits == 48 and circuit.report.two_qubit_gates == 0
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-0.3, 0.3, (2, 1, 384)).astype("float32")
    weights = rng.uniform(-0.3, 0.3, (1, 384)).astype("float32")
    engine = make_engine(spec, "sampling", sampler=machine, compiled=compiled, repetitions=2000)
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    exact = make_engine(spec).expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    assert np.all(np.abs(values - exact) <= 5 / np.sqrt(2000))
    loaded = CompiledCircuits.from_json(compiled.to_json())
    assert loaded.max_qubits == 53 and loaded.to_json() == compiled.to_json()


def test_no_more_qubits_together_than_find_their_places():
    """Rainbow's 23 qubits hold eight pairs side by side, not eleven."""
    qubits = cirq.LineQubit.range(40)
    weights = [f"w{i}" for i in range(40)]
    turns = [cirq.ry(sympy.Symbol(w))(q) for w, q in zip(weights, qubits, strict=True)]
    pairs = list(zip(qubits[::2], qubits[1::2], strict=True))
    circuit = cirq.Circuit(turns[::2], [cirq.CNOT(*pair) for pair in pairs], turns[1::2])
    spec = CircuitSpec(circuit, [], weights, [cirq.Z(second) for _, second in pairs])
    machine = virtual_machine("rainbow", seed=0)
    compiled = compile_for(spec, machine.processor, "cz", split=True)
    assert not any(circuit.report.is_routed for circuit in compiled.circuits)
    assert sorted(circuit.report.num_qubits for circuit in compiled.circuits) == [12, 14]
    assert compiled.max_qubits == 23 and compiled.circuits_per_example == 3
    # The worst pair's, not that of all pairs together.
    assert all(circuit.report.fidelity > 0.85 for circuit in compiled.circuits)
    point = np.random.default_rng(0).uniform(-3, 3, (1, 40)).astype("float32")
    engine = make_engine(spec, "sampling", sampler=machine, compiled=compiled, repetitions=2000)
    values = engine.expectation(tf.zeros((1, 1, 0)), tf.constant(point)).numpy()[0, 0]
    exact = np.cos(point[0, ::2]) * np.cos(point[0, 1::2])
    assert np.abs(values - exact).mean() < 0.06
    loaded = CompiledCircuits.from_json(compiled.to_json())
    assert loaded.packed_qubits == compiled.packed_qubits
    data = json.loads(compiled.to_json()) | {"max_qubits": "many"}
    with pytest.raises(ValueError, match="JSON text of CompiledCircuits"):
        CompiledCircuits.from_json(json.dumps(data))


def test_a_wide_circuit_of_constants_has_nothing_to_run():
    qubits = cirq.LineQubit.range(60)
    circuit = cirq.Circuit(cirq.rx(sympy.Symbol("w"))(qubits[0]), cirq.H.on_each(*qubits[1:]))
    spec = CircuitSpec(circuit, [], ["w"], [cirq.PauliSum() + cirq.Z(qubits[5])])
    with pytest.raises(UnsupportedCircuitError, match="nothing to run"):
        compile_for(spec, "weber", split=True)


def test_light_cones_of_a_component_that_is_too_wide():
    spec = templates.hardware_efficient(60, num_layers=2)
    machine = virtual_machine("weber", noise=None, seed=0)
    compiled = compile_for(spec, machine.processor, "cz", split=True)
    assert max(circuit.report.num_qubits for circuit in compiled.circuits) <= 4
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (1, 1, 60)).astype("float32")
    weights = rng.uniform(-1, 1, (1, spec.num_weights)).astype("float32")
    engine = make_engine(spec, "sampling", sampler=machine, compiled=compiled, repetitions=2000)
    values = engine.expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    exact = make_engine(spec).expectation(tf.constant(inputs), tf.constant(weights)).numpy()
    assert np.all(np.abs(values - exact) <= 5 / np.sqrt(2000))


# Models.


@pytest.mark.parametrize(
    "preset, circuits",
    [
        ("qvit_rk1_digits_hardware", 20),
        ("qvit_rk4_digits", 80),
        ("patch_qnn_p4_d1_mnist", 8),
        ("qtext_120k_imdb", 5 * 512),
    ],
)
def test_circuits_of_a_model(preset, circuits):
    model = zoo.from_preset(preset, load_weights=False)
    compiled = compile_for(model, "weber", "cz")
    assert compiled.circuits_per_example == circuits
    groups = [circuit.report.num_circuits for circuit in compiled.circuits]
    rows = rows_per_example(model)
    assert sum(rows.values()) == model.circuits_per_example
    assert sum(g * r for g, r in zip(groups, rows.values(), strict=True)) == circuits
    assert compiled.shots_per_example(100) == 100 * circuits
    assert compiled.seconds_per_example(100) > 100 * circuits * 4e-6  # a measurement takes 4 µs
    assert CompiledCircuits.from_json(compiled.to_json()).to_json() == compiled.to_json()


def test_counting_leaves_the_model_as_it_is():
    model = zoo.from_preset("qvit_rk1_digits_hardware")
    x = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 1)).astype("float32")
    before = model.predict(x, verbose=0)
    rows_per_example(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_fits():
    assert fits(templates.rx_ring(23), "rainbow") and not fits(templates.rx_ring(24), "rainbow")
    assert not fits(templates.ry_ring(60)) and fits(templates.ry_ring(60), split=True)
    spec = templates.hardware_efficient(4)
    fidelity = compile_for(spec, "weber", "cz").report.fidelity
    assert fits(spec, "weber", "cz", min_fidelity=fidelity - 0.01)
    assert not fits(spec, "weber", "cz", min_fidelity=fidelity + 0.01)
    assert not fits(templates.rx_ring(24), "rainbow", min_fidelity=0.1)
    model = zoo.from_preset("qvit_rk1_digits_hardware", load_weights=False)
    assert fits(model, "rainbow") and not fits(model, "rainbow", min_fidelity=0.99)
    with pytest.raises(ValueError, match="Received: min_fidelity=2"):
        fits(spec, min_fidelity=2)
    with pytest.raises(ValueError, match="Received: gateset='cnot'"):
        fits(spec, "weber", "cnot")
    with pytest.raises(TypeError, match="Received: 'ry_ring'"):
        fits("ry_ring")


def test_constants_have_nothing_to_run():
    spec = CircuitSpec(cirq.Circuit(cirq.rx(W)(A)), [], [W], cirq.PauliString())
    with pytest.raises(UnsupportedCircuitError, match="every observable is constant.* Received: "):
        compile_for(spec)


def test_equal_circuits_of_several_layers_are_compiled_once():
    spec = SPECS["two qubits"]
    model = keras.Sequential([keras.Input((2,)), PQC(spec), PQC(spec, copies=3)])
    compiled = compile_for(model)
    assert len(compiled.circuits) == 1 and compiled.rows == (4,)
    before = model.predict(np.zeros((2, 2), "float32"), verbose=0)
    with sampled(
        model, virtual_machine("weber", noise=None, seed=0), compiled=compiled, repetitions=2000
    ):
        values = model.predict(np.zeros((2, 2), "float32"), verbose=0)
    assert np.abs(values - before).max() < 0.2

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.circuit = PQC(spec)

        def call(self, inputs):
            return self.circuit(inputs)

    own = Own()
    own(np.zeros((1, 2), "float32"))
    with pytest.raises(ValueError, match="functional or a Sequential one.* Received: 'own'"):
        compile_for(own)
