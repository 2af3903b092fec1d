import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qrkt_keras import data


def fill(folder, n, size=(8, 8), first=0):
    """`n` grey pictures, each of its own brightness from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(np.full(size, first + k, np.uint8)).save(folder / f"{k:03}.png")


@pytest.fixture
def pets(tmp_path):
    fill(tmp_path / "cat", 20)
    fill(tmp_path / "dog", 30, first=100)
    return tmp_path


def values(folder, split, **options):
    images, labels = data.arrays(folder, split, channels=1, **options)
    return images[:, 0, 0, 0], labels


def test_a_folder_is_split_once_and_for_all(pets):
    parts = {split: values(pets, split) for split in data.SPLITS}
    assert {split: len(labels) for split, (_, labels) in parts.items()} == {
        "train": 40, "validation": 5, "test": 5, "train+validation": 45,
    }  # fmt: skip
    for brightness, labels in parts.values():
        assert np.array_equal(labels, brightness >= 100)
    assert [np.bincount(parts[split][1]).tolist() for split in ("validation", "test")] == [
        [2, 3]
    ] * 2
    whole = np.concatenate([parts[split][0] for split in ("train", "validation", "test")])
    assert sorted(whole) == [*range(20), *range(100, 130)]
    assert np.array_equal(parts["train+validation"][0], whole[:45])
    # Frozen: another draw would be another benchmark.
    assert sorted(parts["test"][0].tolist()) == [1, 18, 122, 125, 128]


def test_facts(pets):
    info = data.info(pets)
    assert (info.kind, info.image_shape, info.label_names) == ("image", (8, 8, 3), ("cat", "dog"))
    assert dict(info.splits) == {
        "train": 40, "validation": 5, "test": 5, "train+validation": 45,
    }  # fmt: skip
    pixels = data.arrays(pets, "train")[0] / 255
    np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)))
    assert data.find(pets) == pets
    with pytest.raises(ValueError, match="read-only"):
        data.arrays(pets, "test")[0][0] = 0


def test_a_string_and_a_path_are_the_same(pets, monkeypatch):
    images, _ = data.arrays(pets, "test")
    assert data.arrays(str(pets), "test")[0] is images
    monkeypatch.chdir(pets.parent)
    assert np.array_equal(data.arrays(f"./{pets.name}", "test")[0], images)
    assert np.array_equal(data.arrays(Path(pets.name), "test")[0], images)


def test_parts_that_are_there_are_taken(tmp_path):
    for part, n in (("train", 20), ("validation", 3), ("test", 4)):
        for name in ("a", "b"):
            fill(tmp_path / part / name, n)
    sizes = {split: len(data.arrays(tmp_path, split)[1]) for split in data.SPLITS}
    assert sizes == {"train": 40, "validation": 6, "test": 8, "train+validation": 46}
    assert "It brings train, validation, test." in data.info(tmp_path).description


def test_a_part_that_is_missing_is_a_tenth_of_train(tmp_path):
    for part, n in (("train", 20), ("test", 4)):
        for name in ("a", "b"):
            fill(tmp_path / part / name, n)
    sizes = {split: len(data.arrays(tmp_path, split)[1]) for split in data.SPLITS}
    assert sizes == {"train": 36, "validation": 4, "test": 8, "train+validation": 40}
    assert "validation is a fixed tenth" in data.info(tmp_path).description


def test_images_are_resized_and_must_be_where_they_differ(pets):
    fill(pets / "cat", 1, size=(8, 16))
    with pytest.raises(ValueError, match=r"images of \(8, 8\) and \(8, 16\) in "):
        data.arrays(pets, "train")
    images, _ = data.arrays(pets, "train", image_size=(4, 6))
    assert images.shape[1:] == (4, 6, 3)


def test_the_size_is_that_under_the_cameras_orientation(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 10, size=(8, 12))
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        image = Image.new("L", (8, 12))
        image.save(tmp_path / name / "turned.jpg", exif=exif)
    assert data.info(tmp_path).image_shape == (8, 12, 3)


def test_unreadable_images_are_named_or_left_out(pets):
    broken = [pets / "dog" / f"{k:03}.png" for k in range(7)]
    for file in broken:
        file.write_bytes(b"not an image")
    with pytest.raises(data.UnreadableImageError) as caught:
        data.arrays(pets, "test")
    message = str(caught.value)
    assert message.startswith("7 of 50 images cannot be read; ")
    assert "skip_unreadable=True" in message
    five = ", ".join(f"dog/{k:03}.png" for k in range(5))
    assert message.endswith(f"Received: {five} and 2 more in {pets}")
    before = {split: set(values_of(pets, split)) for split in ("train", "validation", "test")}
    with pytest.warns(UserWarning, match="7 of 50 images cannot be read and are left out: dog/000"):
        sizes = data.info(pets, skip_unreadable=True, channels=1).splits
    assert sizes["train+validation"] + sizes["test"] == 43
    for split, expected in before.items():
        brightness, labels = values(pets, split, skip_unreadable=True)
        assert len(labels) == sizes[split]
        # The others stay in the parts in which they were.
        assert set(brightness.tolist()) == expected - set(range(100, 107))


def values_of(folder, split):
    """A part's brightnesses, of a copy in which all images can be read."""
    for k in range(7):
        Image.fromarray(np.full((8, 8), 100 + k, np.uint8)).save(folder / "dog" / f"{k:03}.png")
    found = values(folder, split)[0].tolist()
    for k in range(7):
        (folder / "dog" / f"{k:03}.png").write_bytes(b"not an image")
    return found


def test_a_class_of_unreadable_images_cannot_be_learned(pets):
    for file in (pets / "dog").iterdir():
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="30 of 50"):
        with pytest.raises(data.InvalidDatasetError, match=r"Received: none of dog in "):
            data.arrays(pets, "train", skip_unreadable=True)


def test_changed_images_are_read_again(pets):
    brightness, _ = values(pets, "train+validation")
    assert 99 not in brightness
    fill(pets / "cat", 1, first=99)
    os.utime(pets / "cat" / "000.png", ns=(1, 1))
    assert 99 in np.concatenate([values(pets, s)[0] for s in ("train+validation", "test")])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        data.DatasetNotFoundError, match=rf"Received: {tmp_path}/none \(not there\)$"
    ):
        data.arrays(tmp_path / "none", "train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, r"0 such folders of "),
        (lambda p: fill(p, 3), r"0 such folders of "),
        (lambda p: fill(p / "cat", 20), r"1 such folders of "),
        (lambda p: (fill(p / "cat", 20), (p / "dog").mkdir()), r"no image in dog of "),
        (lambda p: (fill(p / "test/a", 5), fill(p / "test/b", 5)), r"Received: test in "),
        (lambda p: (fill(p / "train/a", 5), fill(p / "val/a", 5)), r"Received: train, val in "),
        (
            lambda p: [fill(p / one, 20) for one in ("train/a", "train/b", "test/a", "test/c")],
            r"Received: none of c in ",
        ),
    ],
)
def test_folders_that_cannot_be_learned_from_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(data.InvalidDatasetError, match=message):
        data.arrays(tmp_path, "train")


def test_the_number_of_classes_can_be_asked_for(pets):
    assert data.info(pets, num_classes=2).num_classes == 2
    with pytest.raises(data.InvalidDatasetError, match="num_classes=3 with cat, dog in"):
        data.arrays(pets, "train", num_classes=3)
