import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support import tfds

from qrkt_keras import data
from qrkt_keras.data import digits, tfds_folder

REAL = tfds.folder()
needs_mnist, needs_cifar10 = tfds.needs("mnist"), tfds.needs("cifar10")


@pytest.fixture(autouse=True)
def real_data(monkeypatch):
    if REAL is not None:
        monkeypatch.setenv("TFDS_DATA_DIR", str(REAL))


def digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "digits": 10,
    "imagenet2012": 1000,
    "imdb_reviews": 2,
    "mnist": 10,
}


def test_names_and_facts():
    assert data.list() == tuple(CLASSES)
    for name in data.list():
        info = data.info(name)
        assert info.name == name
        assert len(set(info.label_names)) == info.num_classes == CLASSES[name]
        if info.kind == "image":
            assert len(info.mean) == len(info.std) == info.image_shape[2]
        else:
            assert (info.image_shape, info.mean, info.std) == (None, None, None)
        assert set(info.splits) == set(data.SPLITS)
        assert info.splits["train"] + info.splits["validation"] == info.splits["train+validation"]
        with pytest.raises(TypeError):
            info.splits["train"] = 0


@pytest.mark.parametrize("call", [data.info, lambda name: data.load(name, "train")])
def test_an_unknown_name_lists_the_known_ones(call):
    with pytest.raises(data.DatasetNotFoundError) as caught:
        call("mnits")
    message = str(caught.value)
    assert message.startswith("Did you mean 'mnist'?") and "\n" not in message
    assert message.endswith(f"known here are: {', '.join(CLASSES)}. Received: name='mnits'")


def test_any_set_of_tfds_says_where_it_was_looked_for(nowhere):
    with pytest.raises(data.DatasetNotFoundError) as caught:
        data.arrays("kmnist", "test")
    message = str(caught.value)
    assert message.startswith("The data set 'kmnist' is not on this machine. Looked in\n")
    assert (
        "holds kmnist/x.y.z" in message
        and "data.arrays('kmnist', 'test', download=True)" in message
    )


@pytest.mark.parametrize("name", ["cifar10", "digits", "mnist"])
def test_an_unknown_split_lists_the_known_ones(name):
    with pytest.raises(
        ValueError, match=r"train, validation, test, train\+validation\. Received: split='val'$"
    ):
        data.arrays(name, "val")


def test_digits_are_scikit_learns_rounded_to_bytes():
    images, labels = (
        np.concatenate(parts)
        for parts in zip(
            *(data.arrays("digits", split) for split in ("train", "validation", "test")),
            strict=True,
        )
    )
    order = np.concatenate(
        [digits.split_indices()[split] for split in ("train", "validation", "test")]
    )
    assert np.array_equal(np.sort(order), np.arange(1797))
    theirs = load_digits()
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert images.max() == 255 and images.min() == 0
    assert np.abs(images[..., 0] - theirs.images[order] * 255 / 16).max() <= 0.5
    assert np.array_equal(labels, theirs.target[order])


def test_the_digits_split_never_changes():
    indices = digits.split_indices()
    assert {split: len(chosen) for split, chosen in indices.items()} == data.info("digits").splits
    assert digest(indices["test"], indices["validation"]) == "a87f14c2e5d05bcc"


def test_train_and_validation_together_keep_the_original_order():
    indices = digits.split_indices()
    both = np.union1d(indices["train"], indices["validation"])
    assert np.array_equal(indices["train+validation"], both)


@pytest.mark.parametrize("name", ["digits", pytest.param("mnist", marks=needs_mnist)])
def test_the_stated_normalisation_is_that_of_the_training_pixels(name):
    info = data.info(name)
    # MNIST's customary figures are those of all 60,000 training images.
    split = "train" if name == "digits" else "train+validation"
    pixels = data.arrays(name, split)[0] / 255
    assert pixels.mean() == pytest.approx(info.mean[0], abs=5e-5)
    assert pixels.std() == pytest.approx(info.std[0], abs=5e-5)


def test_arrays_are_read_once_and_cannot_be_changed():
    images, labels = data.arrays("digits", "train")
    assert data.arrays("digits", "train")[0] is images
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


def test_load_gives_the_arrays_in_order():
    images, labels = data.arrays("digits", "test")
    batches = list(data.load("digits", "test", batch_size=100).as_numpy_iterator())
    assert [len(label) for _, label in batches] == [100, 100, 100, 60]
    assert np.array_equal(np.concatenate([image for image, _ in batches]), images)
    assert np.array_equal(np.concatenate([label for _, label in batches]), labels)
    assert len(data.load("digits", "test", batch_size=100, drop_remainder=True)) == 3
    assert data.load("digits", "test").element_spec[0].shape == (8, 8, 1)


def test_load_shuffles_by_seed_and_anew_at_every_pass():
    def passes(seed):
        dataset = data.load("digits", "test", batch_size=360, shuffle=True, seed=seed)
        return [next(iter(dataset))[1].numpy() for _ in range(2)]

    first, again, other = passes(0), passes(0), passes(1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(np.sort(first[0]), np.sort(data.arrays("digits", "test")[1]))


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, True])
def test_a_bad_batch_size_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"Received: batch_size={batch_size}$"):
        data.load("digits", "test", batch_size=batch_size)


@needs_mnist
def test_mnist_splits():
    info = data.info("mnist")
    splits = {split: data.arrays("mnist", split) for split in data.SPLITS}
    for split, (images, labels) in splits.items():
        assert images.shape == (info.splits[split], 28, 28, 1) and images.dtype == np.uint8
        assert labels.shape == (info.splits[split],) and labels.dtype == np.int32
    # Class counts of the official files.
    official = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(splits["train+validation"][1]).tolist() == official
    assert np.bincount(splits["test"][1]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    shares = np.bincount(splits["validation"][1]) - np.array(official) / 10
    assert np.abs(shares).max() < 1
    together = np.sort(np.concatenate([splits["train"][1], splits["validation"][1]]))
    assert np.array_equal(together, np.sort(splits["train+validation"][1]))
    assert digest(splits["validation"][0]) == "e19d8be6fb17bc88"


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without prepared data."""
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(nowhere, monkeypatch):
    empty = nowhere / "empty"
    empty.mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(empty))
    with pytest.raises(data.DatasetNotFoundError) as caught:
        data.load("mnist", "train", data_dir=nowhere / "absent")
    message = str(caught.value)
    assert f"data_dir: {nowhere}/absent (no such folder)" in message
    assert f"TFDS_DATA_DIR: {empty} (no mnist in it)" in message
    assert f"TFDS' default: {nowhere}/home/tensorflow_datasets (no such folder)" in message
    assert "download=True" in message
    assert message.endswith(f"Received: name='mnist', data_dir='{nowhere}/absent', download=False")
    assert list(nowhere.rglob("*")) == [empty]


def test_a_download_that_fails_says_why(nowhere, monkeypatch):
    import tensorflow_datasets as tfds

    class Unreachable:
        def download_and_prepare(self):
            raise ConnectionError("storage.googleapis.com: no route to host")

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Unreachable())
    with pytest.raises(data.DatasetNotFoundError, match="no route to host"):
        data.arrays("mnist", "test", download=True)


def test_a_download_goes_to_the_first_place(nowhere, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    class Builder:
        def __init__(self, name, data_dir):
            asked.append((name, data_dir))
            self.folder = data_dir / "mnist" / "3.0.1"

        def download_and_prepare(self):
            self.folder.mkdir(parents=True)
            (self.folder / "dataset_info.json").touch()

    monkeypatch.setattr(tfds, "builder", Builder)
    found = tfds_folder.find("mnist", "3", data_dir=nowhere / "first", download=True)
    assert found == nowhere / "first" / "mnist" / "3.0.1"
    assert asked == [("mnist:3.*.*", nowhere / "first")]


@needs_mnist
def test_damaged_files_are_named(nowhere):
    whole = tfds_folder.find("mnist", "3", data_dir=REAL, download=False)
    damaged = nowhere / "mnist" / whole.name
    damaged.mkdir(parents=True)
    for file in whole.iterdir():
        if "train" not in file.name:
            shutil.copy(file, damaged)
    records = next(damaged.glob("*test.tfrecord*"))
    os.truncate(records, records.stat().st_size // 2)
    with pytest.raises(data.DatasetNotFoundError, match=rf"Received: {damaged}$"):
        data.arrays("mnist", "test", data_dir=nowhere)
    with pytest.raises(data.DatasetNotFoundError, match=rf"Received: {damaged}$"):
        data.arrays("mnist", "train", data_dir=nowhere)


@needs_mnist
def test_reading_writes_nothing(tmp_path):
    whole = tfds_folder.find("mnist", "3", data_dir=None, download=False)
    copy = tmp_path / "mnist" / whole.name
    shutil.copytree(whole, copy)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    data.arrays("mnist", "test", data_dir=tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@tfds.needs("imdb_reviews")
def test_imdb_reviews():
    info = data.info("imdb_reviews")
    splits = {split: data.arrays("imdb_reviews", split) for split in data.SPLITS}
    for split, (texts, labels) in splits.items():
        assert texts.shape == labels.shape == (info.splits[split],)
        assert texts.dtype == object and {type(text) for text in texts} == {str}
        assert labels.dtype == np.int32
        assert np.bincount(labels).tolist() == [info.splits[split] // 2] * 2
    with pytest.raises(ValueError, match="read-only"):
        splits["test"][0][0] = ""
    together = sorted([*splits["train"][0], *splits["validation"][0]])
    assert together == sorted(splits["train+validation"][0])
    batch, labels = next(iter(data.load("imdb_reviews", "test", batch_size=3)))
    assert [text.decode() for text in batch.numpy()] == list(splits["test"][0][:3])
    words = {label: " ".join(splits["train"][0][splits["train"][1] == label]) for label in (0, 1)}
    # neg and pos are not swapped.
    for word, where in (("awful", 0), ("excellent", 1)):
        assert words[where].count(word) > 2 * words[1 - where].count(word)


@needs_cifar10
def test_cifar10_splits():
    info = data.info("cifar10")
    folder = tfds_folder.find("cifar10", "3", data_dir=None, download=False)
    facts = json.loads((folder / "dataset_info.json").read_text())
    held = {one["name"]: sum(map(int, one["shardLengths"])) for one in facts["splits"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tfds_folder.read(folder, "train", info.image_shape, size=50_000)
    told = [str(one.message) for one in caught if "say so wherever" in str(one.message)]
    expected = [f"{folder} holds {held['train']} of the 50000 images of 'cifar10', split 'train'"]
    assert [text.split(":")[0] for text in told] == (expected if held["train"] < 50_000 else [])
    splits = {split: data.arrays("cifar10", split) for split in data.SPLITS}
    sizes = {split: len(labels) for split, (_, labels) in splits.items()}
    assert sizes["train+validation"] == held["train"]
    assert sizes["test"] == 10_000
    assert sizes["validation"] == held["train"] // 10
    assert sizes["train"] == held["train"] - sizes["validation"]
    assert np.bincount(splits["test"][1]).tolist() == [1000] * 10
    pixels = splits["train+validation"][0] / 255
    # 20,000 of the 50,000 images that the customary figures are of.
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), info.mean, atol=2e-3)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), info.std, atol=2e-3)


class Gather:
    """Remembers what it was called with."""

    def __init__(self, change):
        self.change, self.training = change, []

    def __call__(self, images, training=False):
        self.training.append(training)
        return self.change(images)


def test_normalised_images_have_the_stated_statistics():
    (images, _), *more = data.load("digits", "train", batch_size=1293, normalize=True)
    assert not more and images.dtype.name == "float32"
    assert float(np.mean(images)) == pytest.approx(0, abs=1e-3)
    assert float(np.std(images)) == pytest.approx(1, abs=1e-3)


def test_augment_sees_batches_of_bytes_before_they_are_normalised():
    images, _ = data.arrays("digits", "test")
    info = data.info("digits")
    augment = Gather(lambda batch: 255 - batch)
    (found, _), *_ = data.load("digits", "test", batch_size=360, augment=augment)
    assert augment.training == [True]
    assert found.dtype.name == "uint8" and np.array_equal(found, 255 - images)
    (found, _), *_ = data.load("digits", "test", batch_size=360, augment=augment, normalize=True)
    np.testing.assert_allclose(
        found, ((255 - images) / 255 - info.mean[0]) / info.std[0], atol=1e-5
    )


def test_augment_by_a_keras_layer_and_by_a_plain_function():
    import keras
    import tensorflow as tf

    images, _ = data.arrays("digits", "test")
    layer = keras.layers.RandomFlip("horizontal", seed=0)
    (found, _), *_ = data.load("digits", "test", batch_size=360, augment=layer)
    flipped = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, images, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(found, images, strict=True)]
    assert found.dtype.name == "uint8"
    assert np.logical_or(flipped, same).all() and 90 < np.sum(flipped) < 270
    (found, _), *_ = data.load("digits", "test", batch_size=360, augment=tf.image.flip_left_right)
    assert np.array_equal(found, images[:, :, ::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": abs}, r"Received: augment with batch_size=None$"),
        ({"text_column": "a"}, r"'digits' are: image_size\. Received: text_column='a'$"),
        ({"image_size": (8, 0)}, r"Received: image_size=\(8, 0\)$"),
        ({"image_size": 8}, r"Received: image_size=8$"),
        ({"channels": 2}, r"Received: channels=2$"),
        ({"num_classes": 1}, r"Received: num_classes=1$"),
    ],
)
def test_options_that_are_bad_or_do_not_apply_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", "test", **options)


def test_options_have_to_be_known():
    with pytest.raises(TypeError, match="Received: image_sise$"):
        data.info("digits", image_sise=(8, 8))


def test_a_known_set_at_another_size():
    images, _ = data.arrays("digits", "train", image_size=(4, 4))
    assert images.shape == (1293, 4, 4, 1)
    info = data.info("digits", image_size=(4, 4))
    assert info.image_shape == (4, 4, 1)
    assert info.mean[0] == pytest.approx((images / 255).mean())
    assert info.std[0] == pytest.approx((images / 255).std())


def test_a_folder_that_is_meant_as_a_path_is_told(nowhere, monkeypatch):
    monkeypatch.chdir(nowhere)
    (nowhere / "photos").mkdir()
    with pytest.raises(data.DatasetNotFoundError, match=r"path in this folder is './photos'"):
        data.arrays("photos", "test")


def test_an_interrupted_download_says_how_to_repeat_it(nowhere, monkeypatch):
    import tensorflow_datasets

    class Interrupted:
        def download_and_prepare(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: Interrupted())
    with pytest.raises(data.DownloadInterrupted, match=r"download=True\).*Received: name='mnist'$"):
        data.arrays("mnist", "test", data_dir=nowhere, download=True)
    assert isinstance(data.DownloadInterrupted(), KeyboardInterrupt)


def test_what_an_interrupt_left_is_told_and_not_used(nowhere):
    half = nowhere / "mnist" / "incomplete.ABCDEF_3.0.1"
    half.mkdir(parents=True)
    (half / "mnist-test.tfrecord-00000-of-00001").touch()
    with pytest.raises(data.DatasetNotFoundError) as caught:
        data.arrays("mnist", "test", data_dir=nowhere)
    message = str(caught.value)
    assert "interrupted: mnist/incomplete.ABCDEF_3.0.1" in message and "download=True" in message
    half.rename(nowhere / "mnist" / "3.0.1")
    with pytest.raises(data.DatasetNotFoundError, match="mnist/3.0.1 has no dataset_info.json"):
        data.arrays("mnist", "test", data_dir=nowhere)


@pytest.mark.parametrize("download", [False, True])
def test_imagenet_says_which_files_go_where(nowhere, download):
    by_hand = nowhere / "downloads" / "manual"
    by_hand.mkdir(parents=True)
    (by_hand / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(data.DatasetNotFoundError) as caught:
        data.arrays("imagenet2012", "test", data_dir=nowhere, download=download)
    assert (
        f"put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into {by_hand} first. "
        "Not there: ILSVRC2012_img_train.tar." in str(caught.value)
    )


def test_importing_the_package_loads_no_framework():
    script = (
        "import sys; from qrkt_keras import data; data.info('mnist'); data.list();"
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'PIL') if m in sys.modules])"
    )
    root = Path(data.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_applies_to_a_data_set(tmp_path):
    assert data.option_names("digits") == {"image_size"}
    assert data.option_names("imdb_reviews") == set()
    assert data.option_names("fashion_mnist") == {"image_size", "config"}
    (tmp_path / "a.csv").touch()
    assert "text_column" in data.option_names(tmp_path / "a.csv")
    with pytest.raises(data.DatasetNotFoundError, match="not there"):
        data.option_names(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "is_path"),
    [("digits", False), ("./digits", True), ("a.CSV", True), (Path("digits"), True)],
)
def test_what_is_a_path(name, is_path):
    assert data.is_path(name) is is_path
