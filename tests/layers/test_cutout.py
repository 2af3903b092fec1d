"""Cutout as a layer; where its squares are is tested in training/test_augmentation.py."""

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test

from qrkt_keras.layers import Cutout


def test_contract():
    run_layer_test(
        Cutout,
        {"share": 0.25, "seed": 3},
        inputs={"inputs": (3, 4, 6, 3)},
        output_shape=(3, 4, 6, 3),
        num_params=0,
        num_trainable_weights=0,
        num_seed_generators=1,
        call_arguments={"training": False},
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_odd_square_covers_every_pixel_now_and_then(dtype):
    images = np.ones((300, 7, 7, 2), dtype)
    cut = keras.ops.convert_to_numpy(Cutout(3 / 7, seed=0)(images))
    assert cut.dtype == dtype and set(np.unique(cut)) == {0, 1}
    assert np.array_equal(cut[..., 0], cut[..., 1])
    holes = 1 - cut[..., 0]
    # Centres are the 7 pixels: a side is 2 pixels long at both ends, 3 elsewhere.
    areas = holes.sum(axis=(1, 2))
    assert set(areas.tolist()) == {4, 6, 9}
    assert (holes.sum(axis=0) > 0).all()


def test_only_training_cuts():
    model = keras.Sequential([keras.Input((8, 8, 1)), Cutout(0.5, seed=0)])
    images = np.ones((4, 8, 8, 1), "float32")
    assert np.array_equal(model.predict(images, verbose=0), images)
    assert np.min(model(images, training=True)) == 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"Received: share=1\.5$"):
        Cutout(1.5)
    with pytest.raises(ValueError, match=r"Received: input shape \(2, 8, 8\)$"):
        Cutout()(np.zeros((2, 8, 8)))
