"""The engines on JAX give what they give on TensorFlow, and load no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import support.engine_values
import tensorflow as tf
from support.engine_values import CASES, ENGINES

from qrkt_keras.execution.light_cone import LightCone

SCRIPT = Path(support.engine_values.__file__)


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """What the script writes."""
    path = tmp_path_factory.mktemp("jax") / "values.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    # Compiles in half the time; how XLA makes its code faster is not what is tested.
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    roots = [str(SCRIPT.parents[2]), str(SCRIPT.parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(roots)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(path)


def derivatives(engine, case):
    """Of the sum of the squares of the values, by name."""
    inputs, weights, *direction = map(tf.constant, case.arrays())
    with tf.GradientTape(persistent=case.second) as outer:
        outer.watch((inputs, weights))
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            values = engine.expectation(inputs, weights)
            loss = tf.reduce_sum(values**2)
        first = tape.gradient(loss, (inputs, weights))
        slope = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(first, direction, strict=True)])
    found = {"values": values, "by inputs": first[0], "by weights": first[1]}
    if case.second:
        second = outer.gradient(slope, (inputs, weights))
        found |= {"second by inputs": second[0], "second by weights": second[1]}
    return found


@pytest.mark.parametrize(
    "name, engine", [(name, engine) for name, case in CASES.items() for engine in case.engines]
)
def test_engines_on_jax(name, engine, on_jax):
    case = CASES[name]
    executor = ENGINES[engine](case.spec)
    assert isinstance(executor, LightCone) == (engine == "light cones")
    with case.chunks():
        expected = derivatives(executor, case)
    for what, reference in expected.items():
        found = on_jax[f"{name}/{engine}/{what}"]
        scale = max(1.0, np.abs(reference).max())
        np.testing.assert_allclose(found, reference, rtol=0, atol=1e-5 * scale, err_msg=what)
