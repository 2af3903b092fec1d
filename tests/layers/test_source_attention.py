from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import attention, run_layer_test, softmax

from qrkt_keras.layers import SourceAttention

RNG = np.random.default_rng(3)
Q = RNG.normal(size=(2, 4, 6)).astype("float32")
E = RNG.normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[True, True, False, True, False], [True, True, True, True, True]])


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def thesis(q, e, num_heads, mask=None):
    """The published formula, element by element."""
    batch, length, width = q.shape
    result = np.zeros(batch * length * width).reshape(batch, length, width)
    for example in range(batch):
        attended = np.zeros((length, width))
        for token in range(length):
            scores = np.array([q[example, token] @ row for row in e[example]])
            scores /= np.sqrt(width / num_heads)
            if mask is not None:
                scores[~mask[example]] = -np.inf
            attended[token] = softmax(scores) @ e[example]
        # (h, T) in row-major order, read again as (T, h).
        flat = [attended[token, feature] for feature in range(width) for token in range(length)]
        for position, value in enumerate(flat):
            result[example, position // width, position % width] = value
    return result


@pytest.mark.parametrize("variant", ["corrected", "thesis"])
def test_contract(variant):
    run_layer_test(
        SourceAttention,
        {"num_heads": 2, "variant": variant, "dropout": 0.3},
        inputs={"query": (3, 4, 6), "source": (3, 5, 6)},
        output_shape=(3, 4, 6),
        num_params=0,
        num_trainable_weights=0,
        num_seed_generators=1,
        masks={"source": "source_mask"},
    )


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("mask", [None, MASK])
def test_corrected_in_numpy(num_heads, mask):
    expected = attention(Q, E, E, num_heads, None if mask is None else mask[:, None])
    result = SourceAttention(num_heads)(
        Q, E, source_mask=None if mask is None else keras.ops.convert_to_tensor(mask)
    )
    np.testing.assert_allclose(array(result), expected, atol=2e-6)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("mask", [None, MASK])
def test_thesis_in_numpy(num_heads, mask):
    result = SourceAttention(num_heads, "thesis")(
        Q, E, source_mask=None if mask is None else keras.ops.convert_to_tensor(mask)
    )
    np.testing.assert_allclose(array(result), thesis(Q, E, num_heads, mask), atol=2e-6)


def test_variants_differ_even_with_one_head():
    difference = array(SourceAttention(1)(Q, E)) - array(SourceAttention(1, "thesis")(Q, E))
    assert np.abs(difference).max() > 0.1


@pytest.mark.parametrize("variant", ["corrected", "thesis"])
def test_number_of_tokens_may_be_unknown(variant):
    target, source = keras.Input((None, 6)), keras.Input((None, 6))
    model = keras.Model([target, source], SourceAttention(2, variant)(target, source))
    assert model.predict([Q[:, :3], E], verbose=0).shape == (2, 3, 6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 4, 5), (2, 4, 5)), r"Received: num_heads=2 with hidden_dim=5$"),
        (((2, 4, 6), (2, 4, 5)), r"query of shape \(2, 4, 6\) and source of shape \(2, 4, 5\)$"),
        (((2, 6), (2, 4, 6)), r"query of shape \(2, 6\)"),
    ],
)
def test_refused_shapes(shapes, message):
    with pytest.raises(ValueError, match=message):
        SourceAttention(2)(*(np.zeros(shape, "float32") for shape in shapes))


def test_refused_arguments():
    with pytest.raises(ValueError, match="Received: variant='right'$"):
        SourceAttention(2, "right")
    with pytest.raises(ValueError, match="Received: num_heads=0$"):
        SourceAttention(0)
