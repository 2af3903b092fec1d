from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qrkt_keras.training import SampleGrids, grid_picture, image_grid

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3, 1)


def test_every_image_has_its_place():
    grid = image_grid(IMAGES, columns=2)
    assert grid.shape == (3 * 3 - 1, 2 * 4 - 1, 1)
    for number, image in enumerate(IMAGES):
        row, column = divmod(number, 2)
        np.testing.assert_array_equal(
            grid[3 * row : 3 * row + 2, 4 * column : 4 * column + 3], image
        )
    # Between images, and in the place of the sixth.
    assert (grid[2] == 255).all()
    assert (grid[6:8, 4:7] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_enlarged_by_whole_factors(tmp_path, channels):
    images = np.repeat(IMAGES, channels, axis=-1)
    grid_picture(images, tmp_path / "grid.png", columns=5)
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    grid = image_grid(images, columns=5)
    factor = 512 // grid.shape[1]
    assert picture.shape[:2] == (grid.shape[0] * factor, grid.shape[1] * factor)
    small = picture[::factor, ::factor]
    np.testing.assert_array_equal(small, grid[..., 0] if channels == 1 else grid)


@pytest.mark.parametrize("images", [IMAGES[:0], IMAGES[..., 0], IMAGES.astype("float32")])
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match=r"images must be uint8 .*Received: shape"):
        image_grid(images)


class FakeGAN:
    def generate(self, num, seed):
        return IMAGES[:num]


def run(callback, epochs):
    callback.set_model(FakeGAN())
    callback.set_params({"epochs": epochs})
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, {"loss": 0.5 + epoch, "fid": float("nan")})
    callback.on_train_end()


def test_what_is_written_for_tensorboard(tmp_path):
    run(SampleGrids(tmp_path / "grids", every=2, num=4, tensorboard=True), epochs=3)
    (path,) = (tmp_path / "grids").glob("events.out.tfevents.*")
    scalars, pictures = {}, {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            tensor = tf.make_ndarray(value.tensor)
            if value.metadata.plugin_data.plugin_name == "images":
                pictures[event.step] = value.tag, tf.io.decode_png(tensor[2]).numpy()
            else:
                scalars[event.step, value.tag] = float(tensor)
    # Every epoch has scalars, without those that are not measured; every second one a picture.
    assert scalars == {(1, "loss"): 0.5, (2, "loss"): 1.5, (3, "loss"): 2.5}
    assert pictures.keys() == {2, 3}
    for tag, picture in pictures.values():
        assert tag == "samples"
        np.testing.assert_array_equal(picture, image_grid(IMAGES[:4]))


def test_pictures_alone(tmp_path):
    run(SampleGrids(tmp_path, every=2, num=4), epochs=3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch_0002.png", "epoch_0003.png"]


@pytest.mark.parametrize("name", ["every", "num"])
def test_numbers_of_nothing_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"Received: {name}=0$"):
        SampleGrids(tmp_path, **{name: 0})
