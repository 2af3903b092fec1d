from __future__ import annotations

import itertools
import warnings

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import ImagePatches


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def cut_by_loops(images, size, stride):
    """Pixel by pixel, and how many pixels are in no patch."""
    _, height, width, channels = images.shape
    seen = np.zeros((height, width), bool)
    patches = []
    for top in range(0, height - size + 1, stride):
        for left in range(0, width - size + 1, stride):
            pixels = []
            for row, column in itertools.product(range(top, top + size), range(left, left + size)):
                seen[row, column] = True
                pixels += [images[:, row, column, channel] for channel in range(channels)]
            patches.append(np.stack(pixels, axis=-1))
    return np.stack(patches, axis=1), int((~seen).sum())


def test_contract():
    run_layer_test(
        ImagePatches,
        {"patch_size": 3, "stride": 1},
        inputs={"inputs": (3, 4, 5, 2)},
        output_shape=(3, 6, 18),
        num_params=0,
        num_trainable_weights=0,
    )


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        # Kawase's: offsets {0, 6}, {0, 3, 6} and {0, 2, 4, 6}.
        ((14, 14, 1), 8, 6),
        ((14, 14, 1), 8, 3),
        ((14, 14, 1), 8, 2),
        # Side by side: with pixels left over below, at the right, and nowhere.
        ((7, 6, 3), 3, 3),
        ((6, 8, 1), 3, 3),
        ((6, 9, 2), 3, 3),
        # With gaps between the patches, and what does not fit at the end.
        ((9, 11, 2), 2, 3),
        ((8, 8, 1), 3, 5),
        ((5, 9, 1), 3, 2),
        ((6, 7, 2), 3, 2),
        ((5, 5, 1), 1, 1),
        ((5, 4, 2), 4, 7),
    ],
)
def test_patches_are_cut_row_by_row_and_unused_pixels_are_counted(shape, size, stride):
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    expected, unused = cut_by_loops(images, size, stride)
    layer = ImagePatches(size, stride)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = layer(images)
    np.testing.assert_array_equal(array(found), expected)
    assert found.shape == layer.compute_output_shape(images.shape)
    messages = [str(one.message) for one in told]
    if unused == 0:
        assert not messages
    else:
        rows = 1 + (shape[0] - size) // stride
        columns = 1 + (shape[1] - size) // stride
        assert messages == [
            f"{unused} of {shape[0] * shape[1]} pixels are in no patch. Received: "
            f"patch_size={size}, stride={stride} with an image of {shape[0]}x{shape[1]} pixels, "
            f"which has {rows}x{columns} patches"
        ]


def test_they_are_the_patches_of_keras():
    images = np.random.default_rng(0).normal(size=(2, 9, 12, 3)).astype("float32")
    expected = keras.ops.image.extract_patches(images, 5, strides=2, data_format="channels_last")
    with pytest.warns(UserWarning, match="9 of 108 pixels"):
        found = ImagePatches(5, 2)(images)
    np.testing.assert_array_equal(array(found), np.reshape(expected, (2, 12, 75)))


def test_by_default_patches_lie_side_by_side():
    layer = ImagePatches(2)
    assert (layer.stride, layer(np.zeros((1, 4, 6, 3))).shape) == (2, (1, 6, 12))


def test_every_pixel_gets_its_gradient_as_often_as_it_is_used():
    import tensorflow as tf

    images = tf.Variable(np.zeros((1, 6, 6, 1), "float32"))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ImagePatches(4, 2)(images))
    used = np.outer([1, 1, 2, 2, 1, 1], [1, 1, 2, 2, 1, 1])
    np.testing.assert_array_equal(tape.gradient(total, images)[0, :, :, 0], used)


def test_ignores_the_global_data_format():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        assert ImagePatches(2)(np.zeros((1, 4, 6, 3))).shape == (1, 6, 12)
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ImagePatches(0), "Received: patch_size=0$"),
        (lambda: ImagePatches(2.0), "Received: patch_size=2.0$"),
        (lambda: ImagePatches(2, 0), "Received: stride=0$"),
        (lambda: ImagePatches(2, True), "Received: stride=True$"),
        (
            lambda: ImagePatches(8)(np.zeros((1, 9, 7, 1))),
            "smaller than a patch. Received: patch_size=8 with an image of 9x7 pixels$",
        ),
        (
            lambda: ImagePatches(8).compute_output_shape((None, 7, 9, 1)),
            "Received: patch_size=8 with an image of 7x9 pixels$",
        ),
        (
            lambda: ImagePatches(2)(np.zeros((4, 4, 1))),
            r"of known size. Received: input shape \(4, 4, 1\)$",
        ),
        (
            lambda: ImagePatches(2)(keras.Input((None, 4, 1))),
            r"Received: input shape \(None, None, 4, 1\)$",
        ),
        (
            lambda: ImagePatches(2)(np.zeros((1, 4, 4, 0))),
            r"Received: input shape \(1, 4, 4, 0\)$",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_another_size_is_refused_for_its_unused_pixels_would_not_be_told():
    layer = ImagePatches(2)
    layer(np.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"found shape=\(1, 5, 5, 1\)"):
        layer(np.zeros((1, 5, 5, 1)))
