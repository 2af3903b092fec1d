from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import PixelBias


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def images(count=3, shape=(4, 5, 2)):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def test_contract():
    run_layer_test(
        PixelBias,
        {},
        inputs={"inputs": (3, 4, 5, 2)},
        output_shape=(3, 4, 5, 2),
        num_params=40,
        num_trainable_weights=1,
    )


def test_a_number_is_added_to_each_pixel_of_every_image():
    layer = PixelBias()
    layer.build((None, 4, 5, 2))
    assert not array(layer.bias).any()
    bias = np.random.default_rng(1).normal(size=(4, 5, 2)).astype("float32")
    layer.bias.assign(bias)
    np.testing.assert_array_equal(array(layer(images())), images() + bias)
    assert layer.count_params() == 40 and len(layer.trainable_weights) == 1


def test_the_gradient_is_the_sum_over_the_images():
    import tensorflow as tf

    layer, upstream = PixelBias(), images()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(upstream * layer(images()))
    (gradient,) = tape.gradient(total, layer.trainable_variables)
    np.testing.assert_allclose(gradient, upstream.sum(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "weights", "result"),
    [
        ("mixed_float16", "float32", "float16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("float16", "float32", "float16"),
        ("float64", "float64", "float64"),
    ],
)
def test_angles_keep_their_precision(policy, weights, result):
    layer = PixelBias(dtype=policy)
    layer.build((None, 4, 5, 2))
    assert keras.backend.standardize_dtype(layer.bias.dtype) == weights
    # Each is a half type's number only when the two have been added in full precision.
    layer.bias.assign(np.full((4, 5, 2), 1e-4 - 1))
    found = layer(np.ones((1, 4, 5, 2), "float32"))
    assert keras.backend.standardize_dtype(found.dtype) == result
    np.testing.assert_allclose(array(keras.ops.cast(found, "float32")), 1e-4, rtol=4e-3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((4, 4, 1)), r"of known size. Received: input shape \(4, 4, 1\)$"),
        (keras.KerasTensor((None, 4, None, 1)), r"Received: input shape \(None, 4, None, 1\)$"),
        (np.zeros((1, 4, 4, 0)), r"Received: input shape \(1, 4, 4, 0\)$"),
    ],
    ids=["three axes", "unknown size", "no channel"],
)
def test_refused_inputs(inputs, message):
    with pytest.raises(ValueError, match=message):
        PixelBias()(inputs)


@pytest.mark.parametrize("shape", [(1, 5, 2), (4, 5, 1), (4, 6, 2)])
def test_images_of_another_size_are_not_broadcast(shape):
    layer = PixelBias()
    layer(images())
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(images(shape=shape))
