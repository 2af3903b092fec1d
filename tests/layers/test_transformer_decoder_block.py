from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import attention, ffn, layer_norm, mhsa, run_layer_test, ry_ring

from qrkt_keras.layers import TransformerDecoderBlock

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 6)).astype("float32")
E = RNG.normal(size=(2, 5, 6)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(("quantum", "variant"), [(True, "corrected"), (False, "thesis")])
def test_contract_of_the_decoder(quantum, variant):
    run_layer_test(
        TransformerDecoderBlock,
        {"num_heads": 2, "mlp_dim": 3, "quantum": quantum, "variant": variant, "dropout": 0.2},
        inputs={"target": (3, 4, 6), "source": (3, 5, 6)},
        output_shape=(3, 4, 6),
        num_params=114 if quantum else 291,
        num_trainable_weights=14 if quantum else 16,
        num_seed_generators=3,
        # The thesis' reshape carries padding of the target into other tokens.
        masks={"source": "source_mask"}
        | ({"target": "target_mask"} if variant == "corrected" else {}),
    )


def test_contract_of_a_trainable_encoding():
    run_layer_test(
        TransformerDecoderBlock,
        {"num_heads": 2, "mlp_dim": 3, "trainable_encoding": True},
        inputs={"target": (3, 4, 6), "source": (3, 5, 6)},
        output_shape=(3, 4, 6),
        num_params=114 + 5 * 36,
        num_trainable_weights=17,
    )


@pytest.mark.parametrize("quantum", [True, False])
def test_decoder_in_numpy(quantum):
    layer = TransformerDecoderBlock(2, 3, quantum=quantum)
    result = array(layer(X, E))
    y = X + mhsa(layer.attention, layer_norm(X), 2)
    c = attention(layer_norm(y), E, E, 2)
    if quantum:
        y = y + ry_ring(c, array(layer.source_projection.pqc.angles))
    else:
        kernel, bias = (array(weight) for weight in layer.source_projection.weights)
        y = y + c @ kernel + bias
    y = y + ffn(layer.feed_forward, layer_norm(y))
    np.testing.assert_allclose(result, y, atol=1e-5)


def test_contract_with_projections_of_the_source():
    run_layer_test(
        TransformerDecoderBlock,
        {"num_heads": 2, "mlp_dim": 3, "project_cross_attention": True},
        inputs={"target": (3, 4, 6), "source": (3, 5, 6)},
        output_shape=(3, 4, 6),
        # 6h + 2 MHSA + FFN
        num_params=36 + 2 * 24 + 48,
        num_trainable_weights=15,
        masks={"source": "source_mask", "target": "target_mask"},
    )
    with pytest.raises(ValueError, match="project_cross_attention=True with variant='thesis'$"):
        TransformerDecoderBlock(2, 3, variant="thesis", project_cross_attention=True)


def test_projections_of_the_source_in_numpy():
    layer = TransformerDecoderBlock(2, 3, project_cross_attention=True)
    result = array(layer(X, E))
    y = X + mhsa(layer.attention, layer_norm(X), 2)
    inputs = array(layer.source_attention.input_projection.pqc.angles)
    q, k, v = (ry_ring(x, angles) for x, angles in zip((layer_norm(y), E, E), inputs, strict=True))
    angles = array(layer.source_attention.output_projection.pqc.angles)
    y = y + ry_ring(attention(q, k, v, 2), angles)
    y = y + ffn(layer.feed_forward, layer_norm(y))
    np.testing.assert_allclose(result, y, atol=1e-5)
