"""A job that pauses and goes on ends as one that never paused, bit for bit."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from qrkt_keras import zoo
from qrkt_keras.training import GANRecipe, Recipe, cross_validate, fit, fit_gan
from qrkt_keras.training.job import prepared_folder
from qrkt_keras.training.train_gan import REPORTS

RECIPE = Recipe(
    epochs=4,
    batch_size=32,
    learning_rate=0.01,
    schedule="warmup_cosine",
    warmup_steps=5,
    ema=0.9,
)
FIELDS = ("best_epoch", "epochs", "history")


def examples(number, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(number, dtype=np.int32) % 3
    images = rng.integers(0, 90, (number, 8, 8, 1)) + 80 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


DATA = {"train": examples(96, 0), "validation": examples(48, 1)}


def model():
    keras.utils.set_random_seed(0)
    return zoo.QViT.from_preset(
        "qvit_rk1_digits_hardware", load_weights=False, num_classes=3, label_names=None, dropout=0.2
    )


def train(folder, network, **options):
    return fit(network, DATA, RECIPE, output_dir=folder, progress=False, **options)


def test_a_classifier(tmp_path):
    whole = model()
    expected = train(tmp_path / "whole", whole)
    folder = tmp_path / "parts"
    paused = train(folder, model(), until=1)
    assert paused.epochs == 1 and len(paused.history["loss"]) == 1
    # Asked for again, nothing is trained.
    assert train(folder, model(), until=1, resume=True).history == paused.history
    assert train(folder, model(), until=3, resume=True).epochs == 3
    again = model()
    found = train(folder, again, resume=True)
    for field in FIELDS:
        assert getattr(found, field) == getattr(expected, field)
    for mine, other in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    told = json.loads((folder / "history.json").read_text())
    assert told["epochs"] == 4


def test_folds(tmp_path):
    def run(folder, **options):
        return cross_validate(
            lambda: zoo.QViT.from_preset(
                "qvit_rk1_digits_hardware", load_weights=False, num_classes=3, label_names=None
            ),
            DATA,
            RECIPE,
            folds=2,
            output_dir=folder,
            progress=False,
            **options,
        )

    expected = run(tmp_path / "whole")
    epochs = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: epochs.append(epoch))
    paused = run(tmp_path / "parts", until=2, callbacks=[callback])
    assert [fold.epochs for fold in paused.folds] == [2, 2] and epochs == [0, 1, 0, 1]
    assert run(tmp_path / "parts", resume=True).to_scores() == expected.to_scores()


def test_a_gan(tmp_path):
    recipe = GANRecipe(epochs=2, batch_size=32)
    network = zoo.feature_network_for("digits")
    images = examples(64, 2)[0]

    def run(folder, **options):
        keras.utils.set_random_seed(0)
        gan = zoo.from_preset("trans_gan_digits", load_weights=False, seed=0)
        result = fit_gan(
            gan, images, recipe, output_dir=folder, feature_network=network, num_scored=32,
            num_measured=32, scores_every=1, progress=False, **options,
        )  # fmt: skip
        return result, gan.generate(2, seed=0)

    expected, pictures = run(tmp_path / "whole")
    paused, _ = run(tmp_path / "parts", until=1)
    assert paused.epochs == 1 and np.isfinite(paused.measures.fid)
    found, same = run(tmp_path / "parts", resume=True)
    assert found.history == expected.history and found.measures.fid == expected.measures.fid
    np.testing.assert_array_equal(same, pictures)


@pytest.mark.parametrize("until", [0, 5, True, 2.0])
def test_what_is_no_epoch(until, tmp_path):
    with pytest.raises(ValueError, match=f"one of the 4 epochs. Received: until={until!r}"):
        train(tmp_path / "new", model(), until=until)
    assert not (tmp_path / "new").exists()


def test_a_gan_that_was_killed_before_its_first_checkpoint_goes_on(tmp_path):
    folder = tmp_path / "gan"
    (folder / "grids").mkdir(parents=True)
    for name in ("real.png", "grids/epoch_1.png"):
        (folder / name).write_bytes(b"")
    assert prepared_folder(folder, REPORTS, resume=True, overwrite=False) == folder
    with pytest.raises(ValueError, match="must be empty"):
        prepared_folder(folder, REPORTS, resume=False, overwrite=False)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be empty .* with mine.txt"):
        prepared_folder(folder, REPORTS, resume=True, overwrite=False)
