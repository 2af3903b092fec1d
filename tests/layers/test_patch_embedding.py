from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import PatchEmbedding


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_contract():
    run_layer_test(
        PatchEmbedding,
        {"patch_size": 2, "hidden_dim": 6, "dropout": 0.3},
        inputs={"inputs": (3, 4, 6, 3)},
        output_shape=(3, 6, 6),
        num_params=2 * 2 * 3 * 6 + 6 + 6 * 6,
        num_trainable_weights=3,
        num_seed_generators=1,
    )


def test_patches_are_embedded_row_by_row():
    layer = PatchEmbedding(2, 5)
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    result = array(layer(images))
    kernel, bias, positions = (
        array(weight) for weight in (*layer.projection.weights, layer.positions)
    )
    for row in range(2):
        for column in range(3):
            patch = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pixels = patch.reshape(2, -1).astype("float64")
            token = pixels @ kernel + bias + positions[3 * row + column]
            np.testing.assert_allclose(result[:, 3 * row + column], token, atol=1e-5)


def test_is_a_convolution_whose_kernel_is_its_stride():
    layer = PatchEmbedding(2, 5)
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    layer.build(images.shape)
    convolution = keras.layers.Conv2D(5, 2, strides=2)
    convolution.build(images.shape)
    kernel, bias = layer.projection.get_weights()
    convolution.set_weights([kernel.reshape(2, 2, 3, 5), bias])
    expected = array(convolution(images)).reshape(2, 6, 5) + array(layer.positions)
    np.testing.assert_allclose(array(layer(images)), expected, atol=1e-5)


def test_initial_weights():
    keras.utils.set_random_seed(1)
    layer = PatchEmbedding(4, 64)
    layer.build((None, 64, 64, 3))
    kernel, bias = (array(weight) for weight in layer.projection.weights)
    assert abs(kernel.std() * 48**0.5 - 1) < 0.05
    assert not bias.any()
    assert abs(array(layer.positions).std() * 8 - 1) < 0.02


def test_numbers_of_the_published_models():
    for shape, patch, hidden in (((28, 28, 1), 14, 6), ((32, 32, 3), 16, 12)):
        layer = PatchEmbedding(patch, hidden)
        layer.build((None, *shape))
        inputs = patch**2 * shape[-1]
        assert layer.count_params() == inputs * hidden + hidden + 4 * hidden


def test_ignores_the_global_data_format():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        assert PatchEmbedding(2, 5)(np.zeros((1, 4, 6, 3))).shape == (1, 6, 5)
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 28, 28, 1), r"patch_size=5, stride=5 with an image of 28x28 pixels$"),
        ((2, 30, 28, 1), r"patch_size=5, stride=5 with an image of 30x28 pixels$"),
        ((2, 28, 28), r"Received: input shape \(2, 28, 28\)$"),
    ],
)
def test_refused_images(shape, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(5, 6)(np.zeros(shape, "float32"))


def test_refused_arguments():
    with pytest.raises(ValueError, match=r"Received: input shape \(None, None, 28, 1\)$"):
        PatchEmbedding(14, 6)(keras.Input((None, 28, 1)))
    with pytest.raises(ValueError, match="Received: patch_size=0$"):
        PatchEmbedding(0, 6)
    with pytest.raises(ValueError, match="Received: hidden_dim=2.0$"):
        PatchEmbedding(2, 2.0)


def test_overlapping_patches_are_a_convolution():
    layer = PatchEmbedding(3, 5, stride=2, use_positions=False)
    images = np.random.default_rng(0).normal(size=(2, 7, 9, 2)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(18, 5)).astype("float32")
    layer.build(images.shape)
    layer.projection.kernel.assign(kernel)
    expected = keras.ops.conv(images, kernel.reshape(3, 3, 2, 5), strides=2, padding="valid")
    assert layer(images).shape == (2, 12, 5)
    np.testing.assert_allclose(layer(images), np.reshape(expected, (2, 12, 5)), atol=1e-5)
    with pytest.raises(ValueError, match="Received: stride=4 with patch_size=3$"):
        PatchEmbedding(3, 5, stride=4)
    with pytest.raises(ValueError, match="patch_size=3, stride=2 with an image of 8x9 pixels$"):
        PatchEmbedding(3, 5, stride=2).build((None, 8, 9, 2))
