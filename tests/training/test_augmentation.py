import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from qrkt_keras.training import Augmentation, augmented_batches

ALL = Augmentation(flip=True, rotation=10, zoom=0.1, shift=2, cutout=0.25, mixup=0.2)
N, K = 40, 5


def images_of(shape=(9, 12, 1), dtype=np.uint8):
    return np.random.RandomState(0).randint(1, 255, (N, *shape)).astype(dtype)


def batches_of(images, steps=3, labels=None):
    labels = np.eye(K, dtype=np.float32)[np.arange(N) % K] if labels is None else labels
    return tf.data.Dataset.from_tensors((images, labels)).repeat(steps)


def augmented(images, augmentation, *, steps=3, seed=0, **options):
    batches = augmented_batches(batches_of(images, steps), augmentation, seed=seed, **options)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def shifted(image, dy, dx, padding):
    """By NumPy's own padding."""
    height, width, _ = image.shape
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=padding)
    return padded[3 - dy : 3 - dy + height, 3 - dx : 3 - dx + width]


@pytest.mark.parametrize("padding", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shifts_are_whole_pixels_of_each_image(padding, dtype):
    images = images_of((9, 12, 2), dtype)
    found = set()
    for got, _ in augmented(images, Augmentation(shift=3, padding=padding)):
        assert got.dtype == dtype
        for before, after in zip(images, got, strict=True):
            shifts = [
                (dy, dx)
                for dy in range(-3, 4)
                for dx in range(-3, 4)
                if np.array_equal(after, shifted(before, dy, dx, padding))
            ]
            assert len(shifts) == 1
            found |= set(shifts)
    # 120 draws of 49 shifts: each is likely to have come, and every row and column has.
    assert {dy for dy, _ in found} == {dx for _, dx in found} == set(range(-3, 4))


def test_half_of_the_images_are_mirrored():
    images = images_of()
    flips = 0
    for got, _ in augmented(images, Augmentation(flip=True), steps=10):
        for before, after in zip(images, got, strict=True):
            flipped = np.array_equal(after, before[:, ::-1])
            assert flipped or np.array_equal(after, before)
            flips += flipped
    # Of 400, half but for three standard deviations.
    assert abs(flips - 200) < 30


def test_cutout_covers_a_square_of_the_right_side():
    images = images_of((16, 16, 1))
    areas = []
    for got, _ in augmented(images, Augmentation(cutout=0.25), steps=10):
        for before, after in zip(images, got, strict=True):
            covered = after[..., 0] == 0
            assert np.array_equal(after[~covered], before[~covered])
            rows, columns = covered.any(1), covered.any(0)
            assert np.array_equal(covered, rows[:, None] & columns[None])
            assert rows.sum() <= 4 and columns.sum() <= 4
            areas.append(covered.sum())
    assert max(areas) == 16
    # A centre on 0..16: each side is 2, 3, 4 (13 times), 3, 2 pixels long.
    side = (2 + 3 + 13 * 4 + 3 + 2) / 17
    assert np.mean(areas) == pytest.approx(side**2, rel=0.05)


def blob():
    """A round spot off the centre of 33x33 pixels; it changes by 0.15 a pixel at most."""
    grid = np.linspace(-1, 1, 33)
    return np.exp(-8 * ((grid[:, None] - 0.4) ** 2 + (grid[None] + 0.1) ** 2))


def test_rotation_turns_by_angles_of_the_range():
    images = np.repeat(blob()[None, :, :, None], N, axis=0).astype(np.float32)
    angles = np.linspace(-35, 35, 141)
    turned = [scipy.ndimage.rotate(blob(), angle, reshape=False, order=1) for angle in angles]
    ((got, _),) = augmented(images, Augmentation(rotation=30), steps=1)
    errors = np.abs(got[:, None, ..., 0] - np.stack(turned)[None]).max(axis=(2, 3))
    # Keras turns about a point half a pixel from the centre along both axes: at 30 degrees that is
    # a shift of 0.37 pixels.
    assert errors.min(axis=1).max() < 0.37 * 0.15
    best = angles[errors.argmin(axis=1)]
    assert -31 < best.min() < -20 and 20 < best.max() < 31


def test_zoom_changes_the_size_by_a_share_of_the_range():
    images = np.repeat(blob()[None, :, :, None], N, axis=0).astype(np.float32)
    ((got, _),) = augmented(images, Augmentation(zoom=0.3), steps=1)
    # Of a spot that is well inside, the mass grows as the area: by 1 / f² for the factor f.
    factors = np.sqrt(blob().sum() / got.sum(axis=(1, 2, 3)))
    assert 0.69 < factors.min() < 0.8 and 1.2 < factors.max() < 1.31


def test_mixup_mixes_images_and_labels_alike():
    # One pixel tells which image it was, and so which label.
    images = np.zeros((N, 4, 4, N), np.float32)
    images[np.arange(N), ..., np.arange(N)] = 1
    weights = []
    for got, labels in augmented(images, Augmentation(mixup=0.4), steps=40):
        shares = got[:, 0, 0, :]
        assert (shares > 0).sum(axis=1).max() <= 2
        assert shares.sum(axis=1) == pytest.approx(1, abs=1e-6)
        assert shares @ np.eye(K)[np.arange(N) % K] == pytest.approx(labels, abs=1e-6)
        others = (shares > 0).sum(axis=1) == 2
        weights.extend(shares[np.arange(N), np.arange(N)][others])
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert np.mean(weights) == pytest.approx(0.5, abs=0.04)
    assert np.var(weights) == pytest.approx(1 / (4 * 1.8), rel=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_later_step_does_not_need_those_before(dtype):
    images = images_of(dtype=dtype)
    whole = augmented(images, ALL, steps=5, seed=3)
    rest = augmented(images, ALL, steps=2, seed=3, first_step=3)
    for (x, y), (x_later, y_later) in zip(whole[3:], rest, strict=True):
        assert x.tobytes() == x_later.tobytes() and y.tobytes() == y_later.tobytes()
    assert not np.array_equal(whole[0][0], whole[1][0])
    assert not np.array_equal(whole[0][0], augmented(images, ALL, seed=4)[0][0])


def test_draws_take_nothing_from_the_global_generators():
    import random

    before = random.getstate(), np.random.get_state()[1].tobytes()
    augmented(images_of(), ALL)
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before


def test_labels_of_any_kind_pass_where_nothing_is_mixed():
    labels = np.arange(N, dtype=np.int32)
    batches = augmented_batches(
        batches_of(images_of(), labels=labels), Augmentation(shift=1), seed=0
    )
    for _, got in batches:
        assert np.array_equal(got, labels)
