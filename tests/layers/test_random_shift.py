"""RandomShift as a layer; what it does to pixels is tested in training/test_augmentation.py too."""

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import RandomShift


def test_contract():
    run_layer_test(
        RandomShift,
        {"pixels": 2, "padding": "reflect", "seed": 3},
        inputs={"inputs": (3, 4, 6, 3)},
        output_shape=(3, 4, 6, 3),
        num_params=0,
        num_trainable_weights=0,
        num_seed_generators=1,
        call_arguments={"training": False},
    )


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_a_shift_is_a_roll_where_the_border_is_empty(dtype):
    images = np.zeros((64, 9, 9, 1), dtype)
    images[:, 3:6, 3:5] = np.arange(1, 7, dtype=dtype).reshape(3, 2, 1)
    shifted = keras.ops.convert_to_numpy(RandomShift(3, seed=0)(images))
    assert shifted.dtype == dtype
    found = set()
    for before, after in zip(images, shifted, strict=True):
        (shift,) = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if np.array_equal(np.roll(before, (dy, dx), (0, 1)), after)
        ]
        found.add(shift)
    assert {dy for dy, _ in found} == {dx for _, dx in found} == set(range(-3, 4))


def test_only_training_shifts():
    model = keras.Sequential([keras.Input((8, 8, 1)), RandomShift(3, seed=0)])
    images = np.random.rand(4, 8, 8, 1).astype("float32")
    assert np.array_equal(model.predict(images, verbose=0), images)
    assert not np.array_equal(model(images, training=True), images)


def test_nothing_is_shifted_by_no_pixels():
    images = np.random.rand(4, 8, 8, 1).astype("float32")
    assert np.array_equal(RandomShift(0)(images), images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": -1}, r"Received: pixels=-1$"),
        ({"pixels": 1.0}, r"Received: pixels=1\.0$"),
        ({"pixels": 1, "padding": "wrap"}, r"Received: padding='wrap'$"),
        ({"pixels": 1, "seed": -1}, r"Received: seed=-1$"),
    ],
)
def test_a_bad_argument_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomShift(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8), r"Received: input shape \(2, 8, 8\)$"),
        ((2, 8, 4, 1), r"Received: pixels=4 with input shape \(2, 8, 4, 1\)$"),
    ],
)
def test_images_that_cannot_be_shifted_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        RandomShift(4)(np.zeros(shape))
