"""The real processor: what is checked without credentials, and a local engine in its place."""

from __future__ import annotations

import google.auth
import numpy as np
import pytest
import tensorflow as tf
from cirq_google.engine import (
    Calibration,
    create_default_noisy_quantum_virtual_machine,
    create_noiseless_virtual_engine_from_latest_templates,
    load_median_device_calibration,
)

from qrkt_keras.circuits import templates
from qrkt_keras.execution import Sampling, StateVector
from qrkt_keras.hardware import CredentialsError, EngineError, compile_for, processor


def test_without_a_project(monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(CredentialsError, match="set GOOGLE_CLOUD_PROJECT.* project_id=None"):
        processor(None, "weber")


def test_without_credentials(monkeypatch):
    def none():
        raise google.auth.exceptions.DefaultCredentialsError("none were found.\nMore text.")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(
        CredentialsError, match=r"gcloud auth application-default login.* none were found\.$"
    ):
        processor("my-project", "weber")


def test_a_processor_that_the_service_does_not_know():
    local = create_noiseless_virtual_engine_from_latest_templates()
    with pytest.raises(
        EngineError, match="does not give 'willow' to project 'mine'.* KeyError: 'willow'"
    ):
        processor("mine", "willow", engine=local)


def test_a_processor_without_a_calibration():
    local = create_noiseless_virtual_engine_from_latest_templates()
    local.get_processor("weber").get_current_calibration = lambda: None
    with pytest.raises(EngineError, match="no calibration.* processor_id='weber'"):
        processor("mine", "weber", engine=local)


def test_a_calibration_that_lacks_what_the_noise_needs():
    local = create_noiseless_virtual_engine_from_latest_templates()
    calibration = load_median_device_calibration("weber")
    metrics = {name: dict(calibration[name]) for name in calibration}
    metrics["single_qubit_rb_incoherent_error_per_gate"].popitem()
    local.get_processor("weber").get_current_calibration = lambda: Calibration(metrics=metrics)
    with pytest.raises(EngineError, match="calibration of 'weber' cannot be used.* KeyError"):
        processor("mine", "weber", engine=local)


def test_a_trained_circuit_on_an_engine():
    spec = templates.hardware_efficient(4, num_layers=2)
    sampler = processor(
        "mine", "rainbow", engine=create_noiseless_virtual_engine_from_latest_templates()
    )
    assert len(sampler.processor.qubits) == 23
    compiled = compile_for(spec, sampler.processor, "sqrt_iswap")
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.uniform(-1, 1, (2, 1, 4)), tf.float32)
    weights = tf.constant(rng.uniform(-1, 1, (1, spec.num_weights)), tf.float32)
    engine = Sampling(spec, sampler, repetitions=1000, compiled=compiled)
    exact = StateVector(spec).expectation(inputs, weights).numpy()
    assert np.all(np.abs(engine.expectation(inputs, weights) - exact) < 5 / np.sqrt(1000))


def test_the_engines_calibration_chooses_the_qubits():
    local = create_default_noisy_quantum_virtual_machine("weber")
    sampler = processor("mine", "weber", engine=local)
    spec = templates.hardware_efficient(4, num_layers=2)
    (theirs,), (ours,) = (
        compile_for(spec, which, "sqrt_iswap").parts for which in (sampler.processor, "weber")
    )
    assert theirs.placement == ours.placement
