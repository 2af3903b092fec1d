import numpy as np
import pytest
from PIL import Image

from qrkt_keras import data
from qrkt_keras.data import images


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


def grey(height=8, width=8):
    return np.random.RandomState(0).randint(0, 256, (height, width)).astype(np.uint8)


def test_a_picture_of_the_right_shape_is_untouched(save):
    pixels = grey()
    got = data.read_image(save(Image.fromarray(pixels)), (8, 8, 1))
    assert got.dtype == np.uint8
    assert np.array_equal(got[..., 0], pixels)
    colours = np.stack([grey(), 255 - grey(), grey() // 2], axis=-1)
    assert np.array_equal(data.read_image(save(Image.fromarray(colours)), (8, 8, 3)), colours)


def test_grey_becomes_colour_and_colour_becomes_luma(save):
    path = save(Image.fromarray(grey()))
    assert np.array_equal(data.read_image(path, (8, 8, 3)), np.repeat(grey()[..., None], 3, -1))
    red = save(Image.new("RGB", (4, 4), (255, 0, 0)), "red.png")
    assert np.all(data.read_image(red, (4, 4, 1)) == round(0.299 * 255))


def test_a_picture_is_shrunk_with_antialiasing(save):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    got = data.read_image(save(Image.fromarray(stripes)), (8, 8, 1))
    assert np.all(np.abs(got[:, 1:-1].astype(int) - 127) <= 1)


def test_the_centre_of_a_wide_picture_is_kept(save):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = grey()
    assert np.array_equal(data.read_image(save(Image.fromarray(wide)), (8, 8, 1))[..., 0], grey())


def test_transparent_parts_are_white(save):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    got = data.read_image(save(Image.fromarray(pixels, "RGBA")), (4, 4, 1))[..., 0]
    assert np.all(got[:2] == 0) and np.all(got[2:] == 255)


def test_sixteen_bits_are_scaled_not_clipped(save):
    deep = grey().astype(np.uint16) * 257
    assert np.array_equal(data.read_image(save(Image.fromarray(deep)), (8, 8, 1))[..., 0], grey())


def test_a_palette_is_resolved(save):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 210, 220])
    got = data.read_image(save(image), (2, 2, 3))
    assert got[0, 0].tolist() == [10, 20, 30] and got[0, 1].tolist() == [200, 210, 220]


def test_the_cameras_orientation_is_applied(save):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(Image.fromarray(grey()), exif=exif)
    assert np.array_equal(data.read_image(path, (8, 8, 1))[..., 0], grey()[::-1, ::-1])


def test_light_and_dark_are_never_swapped(save):
    paper = np.full((8, 8), 255, np.uint8)
    paper[2:6, 4] = 0
    assert np.array_equal(data.read_image(save(Image.fromarray(paper)), (8, 8, 1))[..., 0], paper)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(data.UnreadableImageError, match=rf"Received: {path}$"):
        data.read_image(path, (8, 8, 1))


def test_a_truncated_image_is_named(save):
    path = save(Image.fromarray(grey(64, 64)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(data.UnreadableImageError, match=rf"truncated.*Received: {path}$"):
        data.read_image(path, (8, 8, 1))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(data.UnreadableImageError, match=rf"Received: {tmp_path}/none.png$"):
        data.read_image(tmp_path / "none.png", (8, 8, 1))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 2), (0, 8, 1), (8, 8, 4)])
def test_a_bad_shape_is_refused(save, shape):
    with pytest.raises(ValueError, match=rf"Received: image_shape=\({shape[0]}, {shape[1]}"):
        data.read_image(save(Image.fromarray(grey())), shape)


def test_resized_against_pillow():
    """Pillow's bilinear filter is the same triangle, stretched by the factor of reduction."""
    large = np.random.default_rng(0).integers(0, 256, (3, 28, 20, 1), dtype=np.uint8)
    found = data.resized(large, (16, 15))
    for image, small in zip(large, found, strict=True):
        picture = Image.fromarray(image[..., 0]).resize((15, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(small[..., 0], np.asarray(picture), atol=1)


def test_images_of_that_size_are_not_touched():
    batch = np.zeros((2, 8, 8, 3), np.uint8)
    assert data.resized(batch, (8, 8)) is batch


def test_fitted_cuts_the_centre():
    image = np.zeros((8, 24, 1), np.uint8)
    image[:, 8:16, 0] = grey()
    assert np.array_equal(images.fitted(image, (8, 8))[..., 0], grey())
    batch = np.stack([image, image]).transpose(0, 2, 1, 3)
    assert np.array_equal(images.fitted(batch, (8, 8))[1, ..., 0], grey().T)


def test_fitted_shrinks_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    near = Image.fromarray(image).resize((12, 8), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(images.fitted(image, (8, 12)), np.asarray(near), atol=1)


def test_fitted_of_extreme_shapes():
    assert images.fitted(np.zeros((1, 100, 3), np.uint8), (32, 32)).shape == (32, 32, 3)


def test_channel_statistics_are_those_of_numpy():
    pixels = np.random.default_rng(0).integers(0, 200, (30, 5, 7, 3), dtype=np.uint8)
    mean, std = images.channel_statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 1, 2)), rtol=1e-12)
