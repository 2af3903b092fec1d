"""Sets that TFDS prepares, here of a few examples that the tests make."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageOps
from support.tfds import prepare

from qrkt_keras import data
from qrkt_keras.data import tfds_sets

NAMES = ["cat", "dog"]


def pictures(n, shape=(6, 6, 3), start=0):
    rng = np.random.default_rng(start)
    return [
        {"image": rng.integers(0, 256, shape, dtype=np.uint8), "label": k % 2} for k in range(n)
    ]


def sizes_of(name, place, **options):
    return {
        split: len(data.arrays(name, split, data_dir=place, **options)[1]) for split in data.SPLITS
    }


def images_set(place, name, splits, shape=(6, 6, 3), label=None, keys=("image", "label")):
    features = {
        "image": tfds.features.Image(shape=shape),
        "label": label or tfds.features.ClassLabel(names=NAMES),
    }
    return prepare(place, name, splits, features, keys)


def test_images_with_official_parts(tmp_path):
    train, test = pictures(40), pictures(10, start=1)
    images_set(tmp_path, "pets", {"train": train, "test": test})
    assert sizes_of("pets", tmp_path) == {
        "train": 36, "validation": 4, "test": 10, "train+validation": 40,
    }  # fmt: skip
    info = data.info("pets", data_dir=tmp_path)
    assert (info.kind, info.image_shape, info.label_names) == ("image", (6, 6, 3), ("cat", "dog"))
    assert dict(info.splits) == sizes_of("pets", tmp_path)
    pixels = data.arrays("pets", "train", data_dir=tmp_path)[0] / 255
    np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)))
    found, labels = data.arrays("pets", "test", data_dir=tmp_path)
    want = {(one["image"].tobytes(), one["label"]) for one in test}
    assert {(i.tobytes(), n) for i, n in zip(found, labels.tolist(), strict=True)} == want
    assert not found.flags.writeable and labels.dtype == np.int32


@pytest.mark.parametrize(
    ("official", "sizes"),
    [
        ({"train": 50}, (40, 5, 5)),
        ({"train": 50, "validation": 6}, (45, 6, 5)),
        ({"train": 50, "validation": 6, "test": 8}, (50, 6, 8)),
    ],
)
def test_parts_that_are_missing_are_tenths_of_train(tmp_path, official, sizes):
    images_set(
        tmp_path,
        "some_pets",
        {split: pictures(n, start=n) for split, n in official.items()},
    )
    expected = dict(zip(("train", "validation", "test"), sizes, strict=True))
    expected["train+validation"] = sizes[0] + sizes[1]
    assert sizes_of("some_pets", tmp_path) == expected
    info = data.info("some_pets", data_dir=tmp_path)
    assert dict(info.splits) == expected
    assert ("Test is a fixed tenth" in info.description) == ("test" not in official)
    parts = [
        {image.tobytes() for image in data.arrays("some_pets", split, data_dir=tmp_path)[0]}
        for split in ("train", "validation", "test")
    ]
    assert len(set.union(*parts)) == sum(official.values())
    both = data.arrays("some_pets", "train+validation", data_dir=tmp_path)[0]
    assert {image.tobytes() for image in both} == parts[0] | parts[1]


def varied(n):
    """Smooth pictures, each of its own size."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, 3, 3, 3), dtype=np.uint8)
    sizes = [(40 - 2 * k, 10 + 3 * k) for k in range(n)]  # width and height
    return [
        {
            "image": np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)),
            "label": k % 2,
        }
        for k, (one, size) in enumerate(zip(coarse, sizes, strict=True))
    ]


def test_images_of_varying_size_are_resized_as_files_are(tmp_path):
    examples = varied(10)
    images_set(tmp_path, "sizes", {"train": pictures(10), "test": examples}, shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"image_size=None, images of shape \(None, None, 3\)$"):
        data.arrays("sizes", "test", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"image_size=None"):
        data.info("sizes", data_dir=tmp_path)
    found, _ = data.arrays("sizes", "test", data_dir=tmp_path, image_size=(8, 12))
    assert data.info("sizes", data_dir=tmp_path, image_size=[8, 12]).image_shape == (8, 12, 3)
    for one in examples:
        file = io.BytesIO()
        Image.fromarray(one["image"]).save(file, "png")
        near = ImageOps.fit(Image.open(file), (12, 8), Image.Resampling.BILINEAR)
        # Pillow cuts within a pixel, we cut whole ones.
        distances = np.abs(found.astype(int) - np.asarray(near)).mean((1, 2, 3))
        assert distances.min() < 6 and np.sort(distances)[1] > 3 * distances.min()


def test_texts(tmp_path):
    def texts(n):
        return [{"body": f"größe {k}", "label": NAMES[k % 2]} for k in range(n)]

    prepare(
        tmp_path, "notes", {"train": texts(20), "test": texts(4)},
        {"body": tfds.features.Text(), "label": tfds.features.ClassLabel(names=NAMES)},
        ("body", "label"),
    )  # fmt: skip
    found, labels = data.arrays("notes", "test", data_dir=tmp_path)
    assert sorted(zip(found, labels.tolist(), strict=True)) == [
        (f"größe {k}", k % 2) for k in range(4)
    ]
    info = data.info("notes", data_dir=tmp_path)
    assert (info.kind, info.image_shape, info.mean, info.std) == ("text", None, None, None)
    with pytest.raises(ValueError, match=r"no size\. Received: image_size=\(8, 8\)$"):
        data.arrays("notes", "test", data_dir=tmp_path, image_size=(8, 8))
    with pytest.raises(ValueError, match="normalize=True with the texts of 'notes'$"):
        data.load("notes", "test", data_dir=tmp_path, normalize=True)


def test_a_form_is_chosen_where_there_are_several(tmp_path):
    features = {"body": tfds.features.Text(), "label": tfds.features.ClassLabel(names=NAMES)}
    for config, n in (("short", 20), ("long", 40)):
        texts = [{"body": str(k), "label": k % 2} for k in range(n)]
        prepare(tmp_path, "forms", {"train": texts}, features, ("body", "label"), config)
    with pytest.raises(data.InvalidDatasetError, match="config=None with long, short in"):
        data.arrays("forms", "train", data_dir=tmp_path)
    assert len(data.arrays("forms", "train", data_dir=tmp_path, config="long")[1]) == 32


@pytest.mark.parametrize(
    ("features", "example", "keys", "message"),
    [
        ({"x": tfds.features.Scalar(np.int32), "label": tfds.features.ClassLabel(names=NAMES)},
         {"x": 1, "label": 0}, ("x", "label"), "of x: Scalar, label: ClassLabel"),
        ({"image": tfds.features.Image(shape=(2, 2, 3)), "label": tfds.features.Text()},
         {"image": np.zeros((2, 2, 3), np.uint8), "label": "a"}, ("image", "label"),
         "of image: Image, label: Text"),
        ({"image": tfds.features.Image(shape=(2, 2, 3)),
          "label": tfds.features.ClassLabel(names=NAMES)},
         {"image": np.zeros((2, 2, 3), np.uint8), "label": 0}, None,
         "supervised_keys=None of image: Image"),
        ({"image": tfds.features.Image(shape=(2, 2, 1), dtype=np.uint16),
          "label": tfds.features.ClassLabel(names=NAMES)},
         {"image": np.zeros((2, 2, 1), np.uint16), "label": 0}, ("image", "label"),
         "Received: uint16 of shape"),
    ],
)  # fmt: skip
def test_sets_that_are_not_for_classification_say_what_they_hold(
    tmp_path, features, example, keys, message
):
    features = {
        key: feature
        for key, feature in sorted(features.items(), key=lambda pair: pair[0] == "label")
    }
    prepare(tmp_path, "others", {"train": [example] * 20}, features, keys)
    with pytest.raises(data.InvalidDatasetError, match=message):
        data.arrays("others", "train", data_dir=tmp_path)


def test_splits_that_cannot_be_used_are_told(tmp_path):
    images_set(tmp_path, "odd", {"other": pictures(4)})
    with pytest.raises(data.InvalidDatasetError, match=r"split 'train'\. Received: other in "):
        data.arrays("odd", "test", data_dir=tmp_path)
    hidden = [{**one, "label": -1} for one in pictures(4)]
    images_set(tmp_path, "hidden", {"train": pictures(20), "test": hidden})
    with pytest.raises(data.InvalidDatasetError, match=r"lie in 0\.\.1\. Received: -1 in "):
        data.arrays("hidden", "test", data_dir=tmp_path)
    images_set(tmp_path, "few", {"train": pictures(9)})
    with pytest.raises(ValueError, match=r"at least 10\. Received: 9$"):
        data.arrays("few", "train", data_dir=tmp_path)


def test_a_named_set_in_tfds_form_is_read_by_our_facts(tmp_path):
    """ImageNet, of a few images: its validation split is our test, and images come small."""
    folder = images_set(
        tmp_path, "imagenet2012", {"train": varied(10) * 2, "validation": pictures(6, (50, 40, 3))},
        shape=(None, None, 3), label=tfds.features.ClassLabel(num_classes=1000),
    )  # fmt: skip
    folder.rename(folder.parent / "5.1.0")
    with pytest.warns(UserWarning, match="holds 20 of the 1281167 images"):
        images, _ = data.arrays("imagenet2012", "train", data_dir=tmp_path)
    assert images.shape == (18, 32, 32, 3)
    with pytest.warns(UserWarning, match="holds 6 of the 50000 images"):
        images, labels = data.arrays("imagenet2012", "test", data_dir=tmp_path)
    assert images.shape == (6, 32, 32, 3) and np.bincount(labels).tolist() == [3, 3]


def test_images_of_the_wrong_shape_are_not_taken_for_the_named_set(tmp_path):
    folder = images_set(tmp_path, "cifar100", {"train": pictures(20), "test": pictures(4)})
    folder.rename(folder.parent / "3.0.2")
    with pytest.raises(data.DatasetNotFoundError, match=r"32, 3\)\. Received: uint8 images of "):
        data.arrays("cifar100", "test", data_dir=tmp_path)


def test_label_names_are_those_of_tfds():
    synsets = tfds_sets.IMAGENET2012.INFO.label_names
    assert synsets[:2] == ("n01440764", "n01443537") and synsets[-1] == "n15075141"
    assert data.info("cifar100").label_names[:2] == ("apple", "aquarium_fish")
