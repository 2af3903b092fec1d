"""Noisy circuits against Cirq's density matrices."""

from __future__ import annotations

import cirq
import cirq_google
import numpy as np
import pytest
import sympy
from support.circuits import random_spec

from qrkt_keras.circuits import templates
from qrkt_keras.circuits.separation import separate
from qrkt_keras.hardware import compile_for, get_processor
from qrkt_keras.hardware.pauli_transfer import NoisyCircuit, transfer_matrix


def cirq_probabilities(circuit, resolver, qubits):
    body = cirq.Circuit(
        cirq.Moment(op for op in moment if not cirq.is_measurement(op)) for moment in circuit
    )
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    result = simulator.simulate(cirq.resolve_parameters(body, resolver), qubit_order=qubits)
    return np.diag(result.final_density_matrix).real


Q = cirq.LineQubit(0)
SPECS = {
    "ring": templates.hardware_efficient(4, num_layers=2),
    "routed": templates.rx_ring(3),
    "several groups": random_spec(2, 4, 10),
}


@pytest.mark.parametrize("gateset", ["cz", "sqrt_iswap", "sycamore"])
@pytest.mark.parametrize("name", SPECS)
def test_compiled_circuits_with_a_processors_noise(name, gateset):
    spec = SPECS[name]
    processor = get_processor("weber")
    model = cirq_google.NoiseModelFromGoogleNoiseProperties(processor.noise)
    exponents = np.random.default_rng(0).uniform(-1, 1, (3, len(separate(spec).symbols)))
    for program in compile_for(spec, processor, gateset).programs(spec):
        circuit = program.circuit.unfreeze().with_noise(model)
        noisy = NoisyCircuit(circuit)
        values = program.parameters(exponents)
        columns = [program.symbols.index(str(parameter)) for parameter in noisy.parameters]
        found = noisy.probabilities(values[:, columns])
        for row, value in zip(found, values, strict=True):
            resolver = dict(zip(program.symbols, value.tolist(), strict=True))
            expected = cirq_probabilities(circuit, resolver, noisy.qubits)
            np.testing.assert_allclose(row, expected, atol=1e-6)


def test_random_channels_in_any_order():
    rng = np.random.default_rng(0)
    qubits = cirq.LineQubit.range(4)
    s = sympy.Symbol("s")
    channels = [
        cirq.amplitude_damp(0.2),
        cirq.depolarize(0.1),
        cirq.phase_damp(0.3),
        cirq.generalized_amplitude_damp(0.3, 0.2),
        cirq.PhasedXZGate(x_exponent=s, z_exponent=0.3, axis_phase_exponent=-s),
        cirq.Z**s,
        cirq.H,
    ]
    pairs = [cirq.ISWAP**0.5, cirq.CNOT, cirq.depolarize(0.05, 2), cirq_google.SYC]
    for seed in range(6):
        operations = []
        for _ in range(40):
            a, b = rng.permutation(4)[:2]
            if rng.random() < 0.4:
                operations.append(rng.choice(pairs)(qubits[a], qubits[b]))
            else:
                operations.append(rng.choice(channels)(qubits[a]))
        circuit = cirq.Circuit(operations, cirq.measure(*qubits, key="m"))
        noisy = NoisyCircuit(circuit)
        value = rng.uniform(-1, 1)
        values = [float(parameter.subs(s, value)) for parameter in noisy.parameters]
        found = noisy.probabilities(np.array([values]))
        expected = cirq_probabilities(circuit, {"s": value}, noisy.qubits)
        np.testing.assert_allclose(found[0], expected, atol=1e-6, err_msg=f"seed {seed}")


def test_transfer_matrices_compose():
    a, b = cirq.LineQubit.range(2)
    one, two = cirq.CNOT(a, b), cirq.depolarize(0.1, 2)(a, b)
    both = transfer_matrix(two) @ transfer_matrix(one)
    # A channel keeps the trace: its first row is that of the identity.
    np.testing.assert_allclose(both[0], np.eye(16)[0], atol=1e-12)
    np.testing.assert_allclose(transfer_matrix(cirq.S(a))[1:3, 1:3], [[0, -1], [1, 0]], atol=1e-12)


def test_outcomes_are_drawn_by_their_probabilities():
    a, b = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(
        cirq.ry(1.0)(a), cirq.CNOT(a, b), cirq.amplitude_damp(0.3)(b), cirq.measure(b, a, key="m")
    )
    noisy = NoisyCircuit(circuit)
    outcomes = noisy.sample(np.zeros((2, 0)), 20_000, np.random.default_rng(0))
    assert len(outcomes) == 2 and outcomes[0]["m"].shape == (20_000, 2)
    probabilities = noisy.probabilities(np.zeros((1, 0)))[0]
    # The key's order is b, a; that of the probabilities a, b.
    drawn = np.bincount(2 * outcomes[0]["m"][:, 1] + outcomes[0]["m"][:, 0], minlength=4) / 20_000
    error = np.sqrt(probabilities * (1 - probabilities) / 20_000)
    assert np.all(np.abs(drawn - probabilities) <= 5 * error)
    again = noisy.sample(np.zeros((2, 0)), 20_000, np.random.default_rng(0))
    assert np.array_equal(outcomes[1]["m"], again[1]["m"])


def test_chunks_change_nothing(monkeypatch):
    from qrkt_keras.hardware import pauli_transfer

    spec = SPECS["ring"]
    (program,) = compile_for(spec, "weber").programs(spec)
    noisy = NoisyCircuit(program.circuit)
    values = np.random.default_rng(0).uniform(-1, 1, (5, len(noisy.parameters)))
    whole = noisy.probabilities(values)
    monkeypatch.setattr(pauli_transfer, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(noisy.probabilities(values), whole, atol=1e-7)
    assert noisy.probabilities(values[:0]).shape == (0, 16)


@pytest.mark.parametrize(
    "operations, message",
    [
        ([cirq.rx(sympy.Symbol("s"))(Q), cirq.measure(Q)], "Only a PhasedXZGate"),
        ([cirq.CCX(*cirq.LineQubit.range(3)), cirq.measure(Q)], "one or two qubits"),
        ([cirq.measure(Q), cirq.X(Q)], "at the end"),
        ([cirq.X(Q)], "must be a measurement"),
        ([cirq.measure(Q, key="m"), cirq.measure(cirq.LineQubit(1), key="m")], "key of its own"),
        ([cirq.measure(Q, confusion_map={(0,): np.eye(2)[::-1]})], "no confusion map"),
    ],
)
def test_what_it_does_not_take(operations, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        NoisyCircuit(cirq.Circuit(operations))
