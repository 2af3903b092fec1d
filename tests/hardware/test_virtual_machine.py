"""The virtual machine: Cirq's own density matrices and qsim's trajectories, seeds, the device."""

from __future__ import annotations

import cirq
import cirq_google
import networkx as nx
import numpy as np
import pytest
import sympy
import tensorflow as tf
from cirq_google import engine

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.circuits.separation import separate
from qrkt_keras.execution import Sampling, StateVector
from qrkt_keras.hardware import (
    ProcessorError,
    VirtualMachine,
    compile_for,
    get_processor,
    measured_readout_errors,
    virtual_machine,
)

SPEC = templates.hardware_efficient(4, num_layers=2)
REPETITIONS = 4000


def points(spec, number=3, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-1, 1, (number, 1, spec.num_inputs)).astype("float32")
    return tf.constant(inputs), tf.constant(
        rng.uniform(-1, 1, (1, spec.num_weights)).astype("float32")
    )


def program_and_sweep(spec=SPEC, gateset="sqrt_iswap", number=2):
    (program,) = compile_for(spec, "weber", gateset).programs(spec)
    exponents = np.random.default_rng(1).uniform(-1, 1, (number, len(separate(spec).symbols)))
    return program, program.sweep(exponents)


def parities(results, key="outcomes"):
    return np.array([(1 - 2 * result.measurements[key]).mean(axis=0) for result in results])


def expected_parities(program, sweep, noise):
    circuit = program.circuit.unfreeze().with_noise(noise)
    body = cirq.Circuit(
        cirq.Moment(op for op in moment if not cirq.is_measurement(op)) for moment in circuit
    )
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    return np.real(
        [
            simulator.simulate_expectation_values(
                body, [cirq.Z(q) for q in program.qubits], param_resolver=resolver
            )
            for resolver in cirq.to_resolvers(sweep)
        ]
    )


@pytest.mark.parametrize("gateset", ["cz", "sqrt_iswap", "sycamore"])
@pytest.mark.parametrize("simulator", ["density_matrix", "trajectories"])
def test_outcomes_are_those_of_the_density_matrix(gateset, simulator):
    program, sweep = program_and_sweep(gateset=gateset)
    machine = virtual_machine("weber", seed=0, simulator=simulator)
    repetitions = REPETITIONS if simulator == "density_matrix" else 1500
    found = parities(machine.run_sweep(program.circuit, sweep, repetitions))
    expected = expected_parities(program, sweep, machine.noise)
    assert np.all(np.abs(found - expected) < 5 / np.sqrt(repetitions))


def test_the_noise_is_that_of_cirq_googles_virtual_machine():
    """Operation by operation; but for a CZ's error, and the time of a Sycamore gate."""
    calibration = engine.load_median_device_calibration("weber")
    theirs = cirq_google.NoiseModelFromGoogleNoiseProperties(
        engine.noise_properties_from_calibration(calibration)
    )
    program, _ = program_and_sweep()
    circuit = program.circuit.unfreeze()
    found = [circuit.with_noise(m) for m in (virtual_machine("weber").noise, theirs)]
    assert len(found[0]) == len(found[1]) > 2 * len(circuit)
    for ours, other in zip(*(list(one.all_operations()) for one in found), strict=True):
        assert ours.qubits == other.qubits and type(ours.gate) is type(other.gate)
        if not cirq.is_parameterized(ours) and not cirq.is_measurement(ours):
            np.testing.assert_allclose(cirq.kraus(ours), cirq.kraus(other), atol=1e-9)


def test_a_sycamore_gate_takes_its_own_time():
    machine = virtual_machine("weber")
    pair = next(iter(machine.processor.graph.edges))
    assert machine.processor.duration(cirq_google.SycamoreGate) == 12.0
    noisy = cirq.Circuit(cirq_google.SYC(*pair)).with_noise(machine.noise)
    # Relaxation and dephasing of 12 ns on each of the two.
    waits = [op for op in noisy.all_operations() if isinstance(op.gate, cirq.KrausChannel)]
    assert len(waits) == 2
    for operation in waits:
        (qubit,) = operation.qubits
        decay = 1 - np.exp(-12.0 / machine.processor.noise.t1_ns[qubit])
        kraus = cirq.kraus(operation)
        excited = np.array([[0, 0], [0, 1]])
        after = sum(k @ excited @ k.conj().T for k in kraus)
        assert after[0, 0].real == pytest.approx(decay, rel=1e-6)


def test_measurements_are_as_in_cirq():
    machine = virtual_machine("weber", noise=None, seed=0)
    a, b = machine.processor.qubits[:2]
    flip = cirq.PhasedXZGate(x_exponent=1, z_exponent=0, axis_phase_exponent=0)
    measure = cirq.measure(a, b, key="m", invert_mask=(True, False))
    result = machine.run(cirq.Circuit(flip(b), measure), repetitions=3)
    assert result.measurements["m"].tolist() == [[1, 1]] * 3
    for wrong in (
        cirq.Circuit(flip(a)),
        cirq.Circuit(cirq.measure(a, key="m"), cirq.measure(b, key="m")),
    ):
        with pytest.raises(ValueError, match="Received: "):
            machine.run(wrong, repetitions=1)
    graph = machine.processor.graph
    connected = list(nx.bfs_tree(graph, machine.processor.qubits[0]))[:20]
    pairs = graph.subgraph(connected).edges
    wide = cirq.Circuit([cirq.CZ(*pair) for pair in pairs], cirq.measure(*connected, key="m"))
    whole = virtual_machine("weber", simulator="density_matrix")
    with pytest.raises(ProcessorError, match="Received: 20 qubits that gates connect"):
        whole.run(wide, repetitions=1)


def test_without_noise_values_are_exact_up_to_shots():
    inputs, weights = points(SPEC)
    exact = StateVector(SPEC).expectation(inputs, weights).numpy()
    machine = virtual_machine("weber", noise=None, seed=0)
    compiled = compile_for(SPEC, "weber", "sycamore")
    engine = Sampling(SPEC, machine, repetitions=REPETITIONS, compiled=compiled)
    values = engine.expectation(inputs, weights).numpy()
    assert np.all(np.abs(values - exact) < 5 / np.sqrt(REPETITIONS))


def test_noise_is_seen_and_mitigated():
    inputs, weights = points(SPEC, 6)
    exact = StateVector(SPEC).expectation(inputs, weights).numpy()
    machine = virtual_machine("weber", seed=0)
    compiled = compile_for(SPEC, "weber", "cz", noise_scales=(1, 3))
    readout = measured_readout_errors(machine, compiled.parts[0].final.values(), repetitions=20_000)
    errors = {}
    for name, options in {
        "none": {},
        "readout": {"readout_errors": readout},
        "both": {"readout_errors": readout, "noise_scales": (1, 3)},
    }.items():
        engine = Sampling(SPEC, machine, repetitions=20_000, compiled=compiled, **options)
        values = engine.expectation(inputs, weights).numpy()
        errors[name] = np.abs(values - exact).mean()
    assert errors["none"] > 1.3 * errors["readout"]
    assert errors["readout"] > 1.3 * errors["both"]


def test_measured_readout_errors_are_those_of_the_calibration():
    processor = get_processor("weber")
    qubits = processor.qubits[:6]
    found = measured_readout_errors(virtual_machine("weber", seed=0), qubits, 20_000)
    assert list(found) == list(qubits)
    for qubit, errors in found.items():
        # Beside it, a pulse and the time of the measurement.
        assert errors == pytest.approx(processor.readout_errors[qubit], abs=0.015)
    with pytest.raises(ValueError, match="Received: 0 qubits"):
        measured_readout_errors(virtual_machine("weber"), [])


@pytest.mark.parametrize("simulator", ["density_matrix", "trajectories"])
def test_seeds(simulator):
    program, sweep = program_and_sweep(number=1)

    def outcomes(seed, runs=1):
        machine = virtual_machine("weber", seed=seed, simulator=simulator)
        for _ in range(runs):
            (result,) = machine.run_sweep(program.circuit, sweep, 50)
        return result.measurements["outcomes"]

    assert np.array_equal(outcomes(3), outcomes(3))
    assert not np.array_equal(outcomes(3), outcomes(4))
    assert not np.array_equal(outcomes(3), outcomes(3, runs=2))
    # Where the random numbers are is one number, which a job keeps.
    machine = virtual_machine("weber", seed=3, simulator=simulator)
    machine.num_runs = 1
    (result,) = machine.run_sweep(program.circuit, sweep, 50)
    assert np.array_equal(result.measurements["outcomes"], outcomes(3, runs=2))
    drawn = [virtual_machine("weber").seed for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_what_the_device_does_not_take():
    machine = virtual_machine("weber")
    a, b = cirq.LineQubit.range(2)
    for circuit in (
        cirq.Circuit(cirq.CZ(a, b), cirq.measure(a, b, key="m")),
        cirq.Circuit(cirq.CNOT(*machine.processor.qubits[:2]), cirq.measure(a, key="m")),
    ):
        with pytest.raises(ProcessorError, match="does not take the circuit: compile it"):
            machine.run(circuit, repetitions=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise": "loud"}, "Received: 'loud'"),
        ({"noise": 0.1}, r"Received: 0\.1"),
        ({"simulator": "fast"}, "Received: 'fast'"),
        ({"seed": -1}, "Received: seed=-1"),
        ({"seed": 1.0}, r"Received: seed=1\.0"),
        ({"processor": "sycamore"}, "Received: processor='sycamore'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        virtual_machine(**options)


@pytest.mark.parametrize("simulator", ["density_matrix", "trajectories"])
def test_gates_that_the_device_takes_have_its_noise(simulator):
    machine = virtual_machine("weber", seed=0, simulator=simulator)
    qubit = machine.processor.qubits[0]
    t = sympy.Symbol("t")
    for gate in (cirq.X ** (2 * t), cirq.Y ** (2 * t), cirq.PhasedXPowGate(phase_exponent=t)):
        circuit = cirq.Circuit(gate(qubit), cirq.Y(qubit), cirq.H(qubit), cirq.H(qubit))
        noisy = machine._noisy(circuit.freeze())
        channels = [op for op in noisy.all_operations() if not cirq.has_unitary(op)]
        # At least a depolarisation after each of four gates.
        assert sum(isinstance(op.gate, cirq.DepolarizingChannel) for op in channels) == 4
        circuit.append(cirq.measure(qubit, key="m"))
        results = machine.run_sweep(circuit, cirq.Points("t", [0.5, 0.25]), 400)
        ideal = cirq.Simulator(seed=0).run_sweep(circuit, cirq.Points("t", [0.5, 0.25]), 400)
        for one, other in zip(results, ideal, strict=True):
            # Readout errors of up to a tenth are in it.
            difference = one.measurements["m"].mean() - other.measurements["m"].mean()
            assert abs(difference) < 0.25


def test_many_qubits_go_by_trajectories():
    machine = VirtualMachine("weber", seed=0)
    spec = templates.hardware_efficient(12, num_layers=1)
    program, sweep = program_and_sweep(spec, "cz", 1)
    (part,) = machine._parts(program.circuit)
    assert isinstance(part.circuit, cirq.Circuit)
    found = parities(machine.run_sweep(program.circuit, sweep, 300))
    assert found.shape == (1, 12) and np.all(np.abs(found) <= 1)


def test_qubits_that_no_gate_connects_are_simulated_apart():
    """As many as the processor has, with the density matrix of each part."""
    spec = CircuitSpec(
        cirq.Circuit(
            [cirq.rx(0.3 + 0.1 * q.x).on(q) for q in cirq.LineQubit.range(12)],
            [cirq.CZ(*pair) for pair in zip(*[iter(cirq.LineQubit.range(12))] * 2, strict=True)],
            cirq.ry(sympy.Symbol("w")).on_each(*cirq.LineQubit.range(12)),
        ),
        [],
        ["w"],
        [cirq.Z(q) for q in cirq.LineQubit.range(12)],
    )
    (program,) = compile_for(spec, "weber", "cz").programs(spec)
    sweep = program.sweep(np.linspace(0, 1, 3)[:, None] * np.ones((1, 12)))
    machine = virtual_machine("weber", seed=0)
    parts = machine._parts(program.circuit)
    assert [len(part.circuit.qubits) for part in parts] == [2] * 6
    found = parities(machine.run_sweep(program.circuit, sweep, 20_000))
    noisy = machine._noisy(program.circuit)
    for pair in range(6):
        qubits = program.qubits[2 * pair : 2 * pair + 2]
        own = cirq.Circuit(
            op.gate.on(*qubits) if cirq.is_measurement(op) else op
            for op in noisy.all_operations()
            if set(op.qubits) <= set(qubits)
        )
        for row, resolver in enumerate(cirq.to_resolvers(sweep)):
            state = cirq.DensityMatrixSimulator(dtype=np.complex128).simulate(own, resolver)
            for place, qubit in enumerate(qubits):
                exact = cirq.Z(qubit).expectation_from_density_matrix(
                    state.final_density_matrix, {q: i for i, q in enumerate(sorted(qubits))}
                )
                assert abs(found[row, 2 * pair + place] - exact.real) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("simulator", ["density_matrix", "trajectories"])
@pytest.mark.parametrize("noise", ["calibration", None])
def test_parts_are_not_correlated(simulator, noise):
    """The joint outcomes of two qubits that never meet, and of several keys."""
    machine = virtual_machine("rainbow", seed=0, noise=noise, simulator=simulator)
    a, b, c = machine.processor.qubits[:3]
    half = cirq.PhasedXZGate(x_exponent=0.5, z_exponent=0, axis_phase_exponent=0)
    measures = [cirq.measure(c, a, key="ca", invert_mask=(True,)), cirq.measure(b, key="b")]
    circuit = cirq.Circuit(half.on_each(a, b), measures)
    measured = machine.run(circuit, repetitions=4000).measurements
    signs = 1.0 - 2.0 * np.concatenate([measured["ca"], measured["b"]], axis=1)
    assert signs[:, 0].mean() < -0.8  # of |0>, turned around
    correlations = np.corrcoef(signs[:, 1:].T)[0, 1]
    assert abs(correlations) < 5 / np.sqrt(4000)


def test_measurements_that_are_not_split():
    """One key twice, and keys with a path, as simulators give them."""
    machine = virtual_machine("rainbow", seed=0, noise=None, simulator="trajectories")
    a, b = machine.processor.qubits[:2]
    twice = cirq.Circuit(cirq.measure(a, key="m"), cirq.measure(b, key="m"))
    assert machine.run(twice, repetitions=3).records["m"].shape == (3, 2, 1)
    key = cirq.MeasurementKey("m", ("0",))
    circuit = cirq.Circuit(cirq.measure(a, b, key=key))
    for simulator in ("density_matrix", "trajectories"):
        machine = virtual_machine("rainbow", seed=0, noise=None, simulator=simulator)
        assert machine.run(circuit, repetitions=3).measurements["0:m"].tolist() == [[0, 0]] * 3
