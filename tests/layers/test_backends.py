"""The layers give the same values and gradients on JAX, without TensorFlow."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("layer_values.py")
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="compares JAX with another backend")
def test_layers_on_jax(tmp_path):
    path = tmp_path / "jax.npz"
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    on_jax = np.load(path)
    here = runpy.run_path(str(SCRIPT))["values"]()
    assert set(on_jax) == set(here)
    assert len(here) > 100
    for name, array in here.items():
        np.testing.assert_allclose(on_jax[name], array, atol=1e-5, rtol=1e-5, err_msg=name)
