from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from qrkt_keras.layers import RelativePositionBias


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_every_entry_against_the_formula(side):
    layer = RelativePositionBias(2, side)
    bias = array(layer(np.zeros((1, side * side, 1))))
    table = array(layer.table)
    assert bias.shape == (2, side * side, side * side) == layer.compute_output_shape(None)
    assert layer.count_params() == 2 * (2 * side - 1) ** 2
    for t, u in np.ndindex(side * side, side * side):
        (row, column), (row_2, column_2) = divmod(t, side), divmod(u, side)
        entry = table[:, row_2 - row + side - 1, column_2 - column + side - 1]
        np.testing.assert_array_equal(bias[:, t, u], entry)


def test_the_gradient_counts_the_pairs_of_each_offset():
    import tensorflow as tf

    side = 4
    layer = RelativePositionBias(1, side)
    layer.build((None, side * side, 3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.zeros((1, side * side, 3))))
    found = array(tape.gradient(loss, layer.table.value))[0]
    along = side - np.abs(np.arange(2 * side - 1) - side + 1)
    np.testing.assert_array_equal(found, np.outer(along, along))


def test_another_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"Received: input shape \(None, 5, 3\) with window=2$"):
        RelativePositionBias(1, 2).build((None, 5, 3))


def test_config():
    layer = RelativePositionBias(2, 3, name="bias")
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert again.get_config() == layer.get_config()
