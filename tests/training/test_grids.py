from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from qrkt_keras.training import grid_picture, image_grid

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
