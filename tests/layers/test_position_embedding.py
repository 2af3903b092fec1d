from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import PositionEmbedding


def test_contract():
    run_layer_test(
        PositionEmbedding,
        {"dropout": 0.3},
        inputs={"inputs": (3, 4, 5)},
        output_shape=(3, 4, 5),
        num_params=20,
        num_trainable_weights=1,
        num_seed_generators=1,
    )


def test_every_token_has_its_own_vector():
    layer = PositionEmbedding()
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    result = keras.ops.convert_to_numpy(layer(tokens))
    positions = keras.ops.convert_to_numpy(layer.positions)
    np.testing.assert_allclose(result, tokens + positions, atol=1e-7)
    assert len(np.unique(positions)) == 12


def test_an_unknown_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"Received: input shape \(None, None, 4\)$"):
        PositionEmbedding().build((None, None, 4))
