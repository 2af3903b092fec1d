from __future__ import annotations

import keras
import numpy as np
from support.layer_test import run_layer_test

from qrkt_keras.layers import ClassToken


def test_contract():
    run_layer_test(
        ClassToken,
        {},
        inputs={"inputs": (3, 4, 5)},
        output_shape=(3, 5, 5),
        num_params=5,
        num_trainable_weights=1,
    )


def test_one_token_stands_before_the_others():
    layer = ClassToken()
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    result = keras.ops.convert_to_numpy(layer(tokens))
    np.testing.assert_array_equal(result[:, 1:], tokens)
    token = keras.ops.convert_to_numpy(layer.token)[0, 0]
    np.testing.assert_array_equal(result[:, 0], [token, token])
    assert token.any()
