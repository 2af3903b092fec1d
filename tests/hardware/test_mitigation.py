"""Readout errors as they are measured: known ones, what is asked of the sampler, failures."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import SamplerError, Sampling
from qrkt_keras.hardware import measured_readout_errors

ERRORS = {
    cirq.LineQubit(0): (0.02, 0.1),
    cirq.LineQubit(1): (0.0, 0.3),
    cirq.LineQubit(2): (0.15, 0.0),
}


class Misreading(cirq.Sampler):
    """cirq.Simulator, whose bits are then flipped with probabilities that are known."""

    def __init__(self, errors, seed=0):
        self.errors = errors
        self.simulator = cirq.Simulator(seed=seed)
        self.generator = np.random.default_rng(seed)
        self.asked = []

    def run_sweep(self, program, params, repetitions=1):
        self.asked.append((program, repetitions))
        (measured,) = [op for op in program.all_operations() if cirq.is_measurement(op)]
        flips = np.array([self.errors[qubit] for qubit in measured.qubits])
        results = []
        for result in self.simulator.run_sweep(program, params, repetitions):
            ((key, bits),) = result.measurements.items()
            chance = np.where(bits, flips[:, 1], flips[:, 0])
            wrong = self.generator.random(bits.shape) < chance
            results.append(cirq.ResultDict(params=result.params, measurements={key: bits ^ wrong}))
        return results


def test_known_errors_are_found():
    sampler = Misreading(ERRORS)
    found = measured_readout_errors(sampler, [*ERRORS, *ERRORS], 40_000)
    assert list(found) == sorted(ERRORS)
    for qubit, pair in found.items():
        for one, other in zip(pair, ERRORS[qubit], strict=True):
            assert abs(one - other) <= 5 * np.sqrt(max(other * (1 - other), 1e-9) / 40_000)
    # Two circuits, whatever the number of qubits.
    assert [repetitions for _, repetitions in sampler.asked] == [40_000] * 2
    assert [len(program.all_qubits()) for program, _ in sampler.asked] == [3, 3]


def test_what_was_measured_corrects_correlations_too():
    """A GHZ state's parities, which errors of this size change by a tenth to a third."""
    a, b, c = ERRORS
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol("w"))(a), cirq.CNOT(a, b), cirq.CNOT(b, c))
    strings = [cirq.Z(a) * cirq.Z(b), cirq.Z(b) * cirq.Z(c), cirq.Z(a) * cirq.Z(b) * cirq.Z(c)]
    spec = CircuitSpec(circuit, [], ["w"], strings)
    sampler = Misreading(ERRORS)
    errors = measured_readout_errors(sampler, spec.qubits, 200_000)
    exact = [1.0, 1.0, np.cos(0.7)]
    values = {}
    for name, known in (("raw", None), ("corrected", errors)):
        engine = Sampling(spec, sampler, repetitions=200_000, readout_errors=known)
        weights = tf.constant([[0.7]])
        values[name] = engine.expectation(tf.zeros((1, 1, 0)), weights).numpy()[0, 0]
    assert np.all(np.abs(values["raw"][:2] - exact[:2]) > 0.1)
    # Of what is divided by each 1 - p0 - p1, the least of which is 0.7.
    assert np.all(np.abs(values["corrected"] - exact) < 5 * (1 / 0.7**3) / np.sqrt(200_000))


def test_what_cannot_be_measured():
    for qubits, repetitions in (([], 10), (list(ERRORS), 0), (list(ERRORS), 2.5)):
        with pytest.raises(ValueError, match="Received: .* qubits, repetitions="):
            measured_readout_errors(cirq.Simulator(), qubits, repetitions)

    class Dead(cirq.Sampler):
        def run_sweep(self, program, params, repetitions=1):
            raise ConnectionError("the line is dead")

    with pytest.raises(SamplerError, match="Dead failed. Received: .*the line is dead"):
        measured_readout_errors(Dead(), list(ERRORS))
