from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import GlobalDepthwisePooling


def test_contract():
    run_layer_test(
        GlobalDepthwisePooling,
        {"depth_multiplier": 2},
        inputs={"inputs": (3, 4, 5)},
        output_shape=(3, 10),
        num_params=40,
        num_trainable_weights=1,
    )


def test_equals_a_depthwise_convolution_as_large_as_its_input():
    layer = GlobalDepthwisePooling(depth_multiplier=3)
    tokens = np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32")
    result = keras.ops.convert_to_numpy(layer(tokens))
    convolution = keras.layers.DepthwiseConv1D(7, depth_multiplier=3, use_bias=False)
    convolution.build(tokens.shape)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    convolution.set_weights([kernel.transpose(0, 2, 1)])
    # Keras counts the sums of a feature first, this layer the features of a sum.
    expected = keras.ops.convert_to_numpy(convolution(tokens))[:, 0].reshape(2, 5, 3)
    np.testing.assert_allclose(result, expected.transpose(0, 2, 1).reshape(2, 15), atol=1e-5)


def test_starts_near_the_mean():
    layer = GlobalDepthwisePooling(depth_multiplier=8)
    layer.build((None, 64, 32))
    kernel = 64 * keras.ops.convert_to_numpy(layer.kernel)
    assert abs(kernel.mean() - 1) < 0.05
    assert abs(kernel.std() - 1) < 0.05


def test_an_unknown_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"Received: input shape \(None, None, 4\)$"):
        GlobalDepthwisePooling().build((None, None, 4))


def test_a_multiplier_of_zero_is_refused():
    with pytest.raises(ValueError, match="depth_multiplier"):
        GlobalDepthwisePooling(0)
