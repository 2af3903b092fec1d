"""What is known of processors, against cirq-google's own files."""

from __future__ import annotations

import cirq
import cirq_google
import numpy as np
import pytest
from cirq_google import engine

from qrkt_keras.hardware import Processor, VirtualMachine, get_processor, list_processors
from qrkt_keras.hardware.processors import as_processor, native_gate, of_calibration


@pytest.mark.parametrize("name, qubits, pairs", [("rainbow", 23, 32), ("weber", 53, 86)])
def test_devices_and_calibrations(name, qubits, pairs):
    processor = get_processor(name)
    calibration = engine.load_median_device_calibration(name)
    assert name in list_processors()
    assert len(processor.qubits) == qubits and processor.graph.number_of_edges() == pairs
    assert processor.gatesets == ("cz", "sqrt_iswap", "sycamore")
    for qubit in processor.qubits:
        readout = [calibration[f"single_qubit_p{i}{i}_error"][(qubit,)][0] for i in (0, 1)]
        assert processor.readout_errors[qubit] == pytest.approx(readout)
    prefix = "two_qubit_parallel_{}_gate_xeb_pauli_error_per_cycle"
    for metric, gate in (("sqrt_iswap", cirq.ISwapPowGate), ("sycamore", cirq_google.SycamoreGate)):
        for pair, (error, *_) in calibration[prefix.format(metric)].items():
            assert processor.gate_error(gate, *pair) == pytest.approx(error)
            assert processor.gate_error(gate, *pair[::-1]) == pytest.approx(error)


def test_a_cz_has_an_error_that_is_said_to_be_assumed():
    processor = get_processor("weber")
    raw = engine.noise_properties_from_calibration(engine.load_median_device_calibration("weber"))
    assert all(identifier.gate_type is not cirq.CZPowGate for identifier in raw.gate_pauli_errors)
    for pair in processor.graph.edges:
        assert processor.gate_error(cirq.CZPowGate, *pair) == processor.gate_error(
            cirq.ISwapPowGate, *pair
        )
    assert len(processor.assumed) == 1 and "no CZ" in processor.assumed[0]


def test_what_was_not_measured_is_the_worst():
    calibration = engine.load_median_device_calibration("rainbow")
    device = engine.create_device_from_processor_id("rainbow")
    metrics = {
        name: {key: values for key, values in metric.items() if key[0] != cirq.GridQubit(5, 2)}
        for name, metric in ((name, calibration[name]) for name in calibration)
    }
    processor = of_calibration("mine", device, engine.Calibration(metrics=metrics))
    lost = cirq.GridQubit(5, 2)
    others = [q for q in processor.qubits if q != lost]
    assert sum(processor.readout_errors[lost]) == max(
        sum(processor.readout_errors[q]) for q in others
    )
    assert processor.gate_error(cirq.PhasedXZGate, lost) == max(
        processor.gate_error(cirq.PhasedXZGate, q) for q in others
    )
    assert processor.decoherence(lost, 100.0) >= max(
        processor.decoherence(q, 100.0) for q in others
    )
    # The virtual machine errs by the same.
    machine = VirtualMachine(processor, seed=0)
    flip = cirq.PhasedXZGate(x_exponent=1, z_exponent=0, axis_phase_exponent=0)
    results = machine.run(cirq.Circuit(flip(lost), cirq.measure(lost, key="m")), repetitions=4000)
    read = results.measurements["m"].mean()
    assert read == pytest.approx(1 - processor.readout_errors[lost][1], abs=0.05)


def test_decoherence_is_that_of_cirq():
    processor = get_processor("rainbow")
    qubit = processor.qubits[3]
    t1, tphi = processor.noise.t1_ns[qubit], processor.noise.tphi_ns[qubit]
    # 1 - process fidelity of relaxation and dephasing, to the first order in time.
    first_order = 10 * (1 / (2 * t1) + 1 / (2 * tphi))
    assert processor.decoherence(qubit, 10.0) == pytest.approx(first_order, rel=0.02)
    assert processor.decoherence(qubit, 0.0) == 0


def test_medians():
    errors = get_processor("weber").median_errors()
    assert list(errors) == ["pulse", "sqrt_iswap", "sycamore", "readout"]
    calibration = engine.load_median_device_calibration("weber")
    pulses = calibration["single_qubit_rb_pauli_error_per_gate"].values()
    assert errors["pulse"] == pytest.approx(np.median([error[0] for error in pulses]))


def test_unknown_ones():
    with pytest.raises(ValueError, match="are rainbow, weber. Received: processor='sycamore'"):
        get_processor("sycamore")
    with pytest.raises(TypeError, match="Received: 7"):
        as_processor(7)
    processor = get_processor("weber")
    assert as_processor(processor) is processor and isinstance(processor, Processor)
    assert repr(processor) == "Processor('weber', num_qubits=53)"
    assert native_gate("sycamore") == cirq_google.SYC
