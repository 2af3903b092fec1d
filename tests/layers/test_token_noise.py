from __future__ import annotations

import json

import keras
import numpy as np

from qrkt_keras.layers import TokenNoise

X = np.random.default_rng(0).normal(size=(64, 50, 3)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_one_scalar_that_begins_at_nothing():
    layer = TokenNoise()
    np.testing.assert_array_equal(array(layer(X)), X)
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [()]
    assert layer.compute_output_shape((None, 5, 3)) == (None, 5, 3)


def test_noise_is_one_normal_number_a_token_at_evaluation_too():
    layer = TokenNoise(seed=3)
    layer.build(X.shape)
    layer.strength.assign(2.0)
    noise = (array(layer(X, training=False)) - X) / 2
    np.testing.assert_allclose(noise, np.repeat(noise[..., :1], 3, axis=-1), atol=1e-6)
    drawn = noise[..., 0].ravel()
    assert len(np.unique(drawn.round(5))) > 3000
    # Of 3,200 draws: the mean's standard error is 0.018, the deviation's 0.0125.
    assert abs(drawn.mean()) < 0.07
    assert abs(drawn.std() - 1) < 0.05
    assert not np.array_equal(array(layer(X)), array(layer(X)))


def test_the_gradient_by_the_strength_is_the_noise():
    import tensorflow as tf

    layer = TokenNoise(seed=3)
    layer.build(X.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(X) * X)
    found = tape.gradient(loss, layer.strength.value)
    again = TokenNoise(seed=3)
    again.build(X.shape)
    again.strength.assign(1.0)
    expected = ((array(again(X)) - X).astype("float64") * X).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_config():
    layer = TokenNoise(seed=3, name="noise")
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert again.get_config() == layer.get_config()
