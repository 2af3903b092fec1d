"""The engines on JAX give what they give on TensorFlow, and load no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import support.engine_values
import tensorflow as tf
from support.engine_values import SPECS, point

from qrkt_keras.execution import PauliPropagation, StateVector

SCRIPT = Path(support.engine_values.__file__)


def test_engines_on_jax(tmp_path):
    path = tmp_path / "values.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    on_jax = np.load(path)
    for name, spec in SPECS.items():
        inputs, weights = (tf.constant(array) for array in point(spec))
        for engine in (PauliPropagation(spec), StateVector(spec)):
            with tf.GradientTape() as tape:
                tape.watch((inputs, weights))
                values = engine.expectation(inputs, weights)
                loss = tf.reduce_sum(values**2)
            gradients = tape.gradient(loss, (inputs, weights))
            key = f"{name}/{engine.name}"
            np.testing.assert_allclose(on_jax[f"{key}/values"], values, atol=1e-5)
            for i, gradient in enumerate(gradients):
                np.testing.assert_allclose(on_jax[f"{key}/{i}"], gradient, atol=1e-5)
