from __future__ import annotations

import keras
import numpy as np
import pytest

from qrkt_keras.layers import TokenEmbedding

IDS = np.array([[3, 1, 0, 0], [2, 2, 4, 1]], "int32")


def test_words_and_positions():
    layer = TokenEmbedding(5, 6, 3)
    result = keras.ops.convert_to_numpy(layer(IDS))
    words, positions = (keras.ops.convert_to_numpy(weight) for weight in layer.weights[::-1])
    assert words.shape == (5, 3) and positions.shape == (6, 3)
    np.testing.assert_allclose(result, words[IDS] + positions[:4], atol=1e-7)


@pytest.mark.parametrize(("stddev", "expected"), [(None, 0.25), (0.02, 0.02)])
def test_the_tables_have_the_standard_deviation_of_the_source_or_that_given(stddev, expected):
    layer = TokenEmbedding(4000, 1000, 16, stddev=stddev)
    layer.build((None, None))
    for weight in layer.weights:
        assert np.std(weight) == pytest.approx(expected, rel=0.03)


def test_the_config_makes_the_layer_again():
    layer = TokenEmbedding(5, 6, 3, dropout=0.2, stddev=0.5)
    again = TokenEmbedding.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    layer.build((None, 4))
    again.build((None, 4))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(IDS), layer(IDS))
    assert not np.array_equal(layer(IDS, training=True), layer(IDS))


def test_refused():
    with pytest.raises(ValueError, match=r"at most 6 words. Received: input shape \(2, 7\)$"):
        TokenEmbedding(5, 6, 3)(np.zeros((2, 7), "int32"))
    with pytest.raises(ValueError, match=r"Received: input shape \(2, 4, 3\)$"):
        TokenEmbedding(5, 6, 3)(np.zeros((2, 4, 3), "int32"))
    with pytest.raises(ValueError, match="Received: vocab_size=0$"):
        TokenEmbedding(0, 6, 3)
    with pytest.raises(ValueError, match="stddev=0$"):
        TokenEmbedding(5, 6, 3, stddev=0)
