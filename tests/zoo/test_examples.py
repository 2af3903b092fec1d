import csv

import numpy as np
import pytest
from PIL import Image

from qrkt_keras import zoo
from qrkt_keras.data import DatasetNotFoundError, InvalidDatasetError
from qrkt_keras.training import Recipe


@pytest.fixture
def photos(tmp_path):
    """Images of three classes, in two sizes."""
    rng = np.random.default_rng(0)
    for name, brightness in (("dark", 0), ("grey", 64), ("light", 128)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(10):
            pixels = brightness + rng.integers(0, 128, (6, 8 + k % 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    return str(tmp_path / "photos")


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment"])
        writer.writerows([f"film {k}", ("good", "bad", "odd")[k % 3]] for k in range(30))
    return str(path)


COLUMNS = {"text_column": "review", "label_column": "sentiment"}


def test_the_presets_own_data_asks_for_nothing():
    preset = zoo.read_preset("qvit_rk4_digits")
    for examples in (zoo.examples_for(preset), zoo.examples_for(preset, "digits")):
        assert (examples.data, examples.options, examples.arguments()) == ("digits", {}, {})
        assert examples.told == "8×8×1 images of 10 classes"
        assert len(examples.arrays("test")[1]) == 360
        examples.check(zoo.from_preset(preset, load_weights=False))


def test_images_are_read_as_the_model_takes_them(photos):
    preset = zoo.read_preset("qvit_rk1_mnist")
    examples = zoo.examples_for(preset, photos)
    assert examples.options == {"image_size": [28, 28], "channels": 1}
    arguments = examples.arguments()
    info = examples.info
    assert arguments == {
        "num_classes": 3,
        "label_names": ["dark", "grey", "light"],
        "mean": info.mean[0],
        "std": info.std[0],
    }
    examples.check(zoo.from_preset(preset, load_weights=False, **arguments))
    with pytest.raises(ValueError, match=r"takes 28×28×1 images of 10 classes.* of 3 classes\. R"):
        examples.check(zoo.from_preset(preset, load_weights=False))

    colours = zoo.examples_for(preset, photos, image_shape=[8, 8, 3])
    assert colours.arrays("train")[0].shape == (24, 8, 8, 3)
    assert len(colours.arguments()["mean"]) == 3
    given = zoo.examples_for(preset, photos, {"image_size": [4, 4]})
    assert given.options == {"image_size": [4, 4], "channels": 1}


def test_texts_bring_their_own_words(reviews):
    preset = zoo.read_preset("qtext_rk1_imdb")
    examples = zoo.examples_for(preset, reviews, COLUMNS)
    assert examples.options == COLUMNS
    assert examples.arguments() == {
        "num_classes": 3,
        "label_names": ["bad", "good", "odd"],
        "vocabulary": None,
    }


def test_a_preset_remembers_how_its_data_is_read(tmp_path, reviews):
    source = zoo.read_preset("qtext_rk1_imdb")
    model = zoo.from_preset(
        source,
        load_weights=False,
        **zoo.examples_for(source, reviews, COLUMNS).arguments(),
    )
    folder = model.save_to_preset(
        tmp_path / "mine", recipe=Recipe(epochs=1), data=reviews, data_options=COLUMNS
    )
    examples = zoo.examples_for(zoo.read_preset(folder))
    assert (examples.data, examples.options, examples.arguments()) == (reviews, COLUMNS, {})
    examples.check(model)
    # What is said is added to what is known, but not to what is known of other data.
    assert zoo.examples_for(zoo.read_preset(folder), options={"skip_empty": True}).options == (
        COLUMNS | {"skip_empty": True}
    )
    assert zoo.examples_for(zoo.read_preset(folder), "imdb_reviews").options == {}


def test_classes_of_other_names_are_refused(tmp_path, photos):
    preset = zoo.read_preset("qvit_rk1_mnist")
    examples = zoo.examples_for(preset, photos)
    names = ["a", "b", "c"]
    model = zoo.from_preset(
        preset, load_weights=False, **examples.arguments() | {"label_names": names}
    )
    with pytest.raises(ValueError, match=r"mine tells a, b, c, .* has dark, grey, light\. Rec"):
        examples.check(model, "mine")


@pytest.mark.parametrize(
    ("preset", "error", "message"),
    [
        ("qvit_rk1_mnist", ValueError, r"qvit_rk1_mnist takes images, .*\.csv has texts\. Rec"),
        ("qrkt_gan_mnist", ValueError, r"qrkt_gan_mnist takes images, .*\.csv has texts\. Rec"),
        ("qtext_rk1_imdb", InvalidDatasetError, r"\(on the command line --text-column\)\. Rec"),
    ],
)
def test_data_that_cannot_be_read_is_refused(reviews, preset, error, message):
    with pytest.raises(error, match=message):
        _ = zoo.examples_for(zoo.read_preset(preset), reviews).info


def test_images_are_refused_for_texts(photos, tmp_path):
    with pytest.raises(ValueError, match=r"takes texts, .*photos has images\. Received"):
        zoo.examples_for(zoo.read_preset("qtext_rk1_imdb"), photos)
    with pytest.raises(DatasetNotFoundError, match="not there"):
        zoo.examples_for(zoo.read_preset("qvit_rk1_mnist"), str(tmp_path / "none"))


def test_a_gan_is_told_no_classes(photos):
    examples = zoo.examples_for(zoo.read_preset("qrkt_gan_mnist"), photos)
    assert examples.arguments() == {}
    assert examples.arrays("train")[0].shape == (24, 16, 16, 1)


def test_some_data_set_must_be_named(tmp_path):
    model = zoo.from_preset("qvit_rk1_mnist", load_weights=False)
    folder = model.save_to_preset(tmp_path / "mine", include_weights=False)
    with pytest.raises(ValueError, match=r"command line --data\)\. Received: 'mine'$"):
        zoo.examples_for(zoo.read_preset(folder))
