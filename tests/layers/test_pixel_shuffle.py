from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import PixelShuffle


def test_contract():
    run_layer_test(
        PixelShuffle,
        {"factor": 2},
        inputs={"inputs": (3, 4, 8)},
        output_shape=(3, 16, 2),
        num_params=0,
        num_trainable_weights=0,
    )


@pytest.mark.parametrize("factor, side", [(2, 3), (3, 2)])
def test_every_pixel_against_the_formula(factor, side):
    features = 2 * factor**2
    tokens = np.random.default_rng(0).normal(size=(2, side**2, features)).astype("float32")
    result = keras.ops.convert_to_numpy(PixelShuffle(factor)(tokens))
    result = result.reshape(2, side * factor, side * factor, 2)
    for row, column, a, b, feature in np.ndindex(side, side, factor, factor, 2):
        source = tokens[:, row * side + column, factor**2 * feature + factor * a + b]
        found = result[:, factor * row + a, factor * column + b, feature]
        np.testing.assert_array_equal(found, source)


@pytest.mark.parametrize("shape", [(None, 5, 8), (None, 4, 6), (None, None, 8), (None, 4, 2, 4)])
def test_what_is_no_square_of_enough_features_is_refused(shape):
    with pytest.raises(ValueError, match=r"features divisible by 4\. Received: input shape \(None"):
        PixelShuffle().compute_output_shape(shape)
