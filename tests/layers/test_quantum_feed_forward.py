from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import ffn, run_layer_test

from qrkt_keras.circuits import templates
from qrkt_keras.layers import QuantumFeedForward

X = np.random.default_rng(3).normal(size=(2, 5, 6)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(("quantum", "num_params", "num_weights"), [(True, 48, 5), (False, 45, 4)])
def test_contract(quantum, num_params, num_weights):
    run_layer_test(
        QuantumFeedForward,
        {"mlp_dim": 3, "quantum": quantum},
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=num_params,
        num_trainable_weights=num_weights,
    )


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize("mlp_dim", [3, 8])
def test_in_numpy(quantum, mlp_dim):
    layer = QuantumFeedForward(mlp_dim, quantum=quantum)
    layer.build(X.shape)
    rng = np.random.default_rng(4)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    np.testing.assert_allclose(array(layer(X)), ffn(layer, X), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 5, 6)])
def test_any_leading_axes(shape):
    layer = QuantumFeedForward(3)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.testing.assert_allclose(array(layer(x)), ffn(layer, x), atol=2e-6)


def test_mask_passes_through():
    masked = keras.layers.Masking()(X)
    output = QuantumFeedForward(3)(masked)
    assert array(output._keras_mask).all()


def test_initial_weights():
    keras.utils.set_random_seed(1)
    layer = QuantumFeedForward(64)
    layer.build((1, 4, 128))
    kernel, bias, angles, out_kernel, out_bias = (array(weight) for weight in layer.weights)
    assert abs(kernel.std() * 128**0.5 - 1) < 0.03
    assert abs(out_kernel.std() * 64**0.5 - 1) < 0.03
    assert not bias.any() and not out_bias.any()
    assert angles.shape == (1, 64)


def test_set_engine():
    layer = QuantumFeedForward(3)
    before = array(layer(X))
    layer.set_engine("state_vector")
    assert layer.pqc.engine == layer.get_config()["engine"] == "state_vector"
    np.testing.assert_allclose(array(layer(X)), before, atol=1e-5)


def test_own_circuit():
    layer = QuantumFeedForward(4, template=templates.hardware_efficient(4, 2))
    assert layer(X).shape == (2, 5, 6)
    assert layer.count_params() == 6 * 4 + 4 + 20 + 4 * 6 + 6


def test_refused():
    with pytest.raises(ValueError, match="Received: mlp_dim=-1$"):
        QuantumFeedForward(-1)
    with pytest.raises(ValueError, match="Received: 4 inputs and 4 observables$"):
        QuantumFeedForward(3, template=templates.ry_ring(4)).build(X.shape)
    with pytest.raises(ValueError, match="64 inputs and 10 observables$"):
        QuantumFeedForward(3, template=templates.patch(1)).build(X.shape)


def test_the_identity_is_the_twin():
    inputs = np.random.default_rng(5).normal(size=(2, 5, 4)).astype("float32")
    control = QuantumFeedForward(3, template="identity")
    twin = QuantumFeedForward(3, quantum=False)
    expected = twin(inputs)
    control.build(inputs.shape)
    control.set_weights(twin.get_weights())
    control.set_engine("state_vector")
    np.testing.assert_array_equal(control(inputs), expected)
