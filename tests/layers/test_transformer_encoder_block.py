from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import ffn, layer_norm, mhsa, run_layer_test

from qrkt_keras.layers import TransformerEncoderBlock

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 6)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("quantum", [True, False])
def test_contract_of_the_encoder(quantum):
    run_layer_test(
        TransformerEncoderBlock,
        {"num_heads": 2, "mlp_dim": 3, "quantum": quantum, "dropout": 0.2},
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=96 if quantum else 237,
        num_trainable_weights=11 if quantum else 12,
        num_seed_generators=2,
        masks={"inputs": "mask"},
    )


def test_contract_of_a_trainable_encoding():
    run_layer_test(
        TransformerEncoderBlock,
        {"num_heads": 2, "mlp_dim": 3, "trainable_encoding": True},
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=96 + 4 * 36,
        num_trainable_weights=13,
        num_seed_generators=0,
    )


@pytest.mark.parametrize("quantum", [True, False])
def test_encoder_in_numpy(quantum):
    layer = TransformerEncoderBlock(2, 3, quantum=quantum)
    result = array(layer(X))
    y = X + mhsa(layer.attention, layer_norm(X), 2)
    y = y + ffn(layer.feed_forward, layer_norm(y))
    np.testing.assert_allclose(result, y, atol=1e-5)
