"""Training a GAN: what it leaves behind, and that a job that is continued ends the same."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from PIL import Image
from support.gans import small_gan

from qrkt_keras.training import CheckpointError, GANRecipe, fit_gan, measure_images, read_checkpoint

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1), dtype=np.uint8)
RECIPE = GANRecipe(
    epochs=3,
    batch_size=8,
    num_critic_steps=2,
    warmup_steps=4,
    drift=1e-3,
    augment="translation,cutout,color",
    cutout_probability=0.3,
    flip=True,
)


class Pixels:
    """Measures images by their first pixels."""

    name = "pixels"

    def features(self, images):
        flat = images.reshape(len(images), -1)[:, :5] / 255.0
        return flat, flat[:, :3]


def train(folder, *, epochs=3, seed=0, **arguments):
    model = small_gan(seed, dropout=0.1, quantum=False)
    result = fit_gan(
        model, IMAGES, RECIPE, output_dir=folder, epochs=epochs, progress=False, **arguments
    )
    return model, result


def test_what_a_job_leaves_behind(tmp_path):
    model, result = train(
        tmp_path / "run",
        feature_network=Pixels(),
        scores_every=2,
        num_scored=16,
        num_measured=40,
        tensorboard=True,
    )
    folder = tmp_path / "run"
    assert result.epochs == 3
    fid = result.history["fid"]
    # Measured in epochs 2 and, as the last one, 3.
    assert [np.isnan(value) for value in fid] == [True, False, False]
    assert result.best_epoch == 2 + int(fid[2] < fid[1])
    history = json.loads((folder / "history.json").read_text())
    assert history["recipe"] == RECIPE.to_dict()
    assert history["history"]["fid"][0] is None
    assert isinstance(history["collapsed"], bool)
    assert history["scored"] == {"feature_network": "pixels", "num_generated": 16}
    generated = model.generate(40, seed=1)
    again = measure_images(Pixels(), IMAGES[:40], generated)
    assert history["measures"] == result.to_scores() == again.to_dict()
    assert history["measures"]["feature_network"] == "pixels"
    sizes = history["measures"]["num_generated"], history["measures"]["num_real"]
    assert sizes == (40, min(40, len(IMAGES)))
    assert history["images"] == len(IMAGES)
    for name in ("samples.png", "real.png", "grids/epoch_0001.png", "grids/epoch_0003.png"):
        assert Image.open(folder / name).size[0] >= 256
    assert list((folder / "grids").glob("events.out.tfevents.*"))


def test_a_job_that_is_continued_ends_as_one_that_was_not(tmp_path):
    train(tmp_path / "whole")

    class Killed(Exception):
        pass

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "parts", callbacks=[Kill()])
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.npz").metadata["epoch"] == 2
    # Another seed: all that matters must come from the checkpoint.
    train(tmp_path / "parts", resume=True, seed=99)
    whole, parts = (
        read_checkpoint(tmp_path / name / "checkpoint.npz").arrays for name in ("whole", "parts")
    )
    groups = {name.split("/")[0] for name in whole}
    assert groups == {"model", "optimizer", "metrics", "random"}
    # Keras numbers generators of randomness by how many there were before in the process.
    pairs = list(zip(sorted(whole), sorted(parts), strict=True))
    different = [one for one, two in pairs if not np.array_equal(whole[one], parts[two])]
    assert not different


def test_another_job_is_not_continued(tmp_path):
    train(tmp_path / "run", epochs=1)
    with pytest.raises(CheckpointError, match="epochs=2, but it was 1"):
        train(tmp_path / "run", epochs=2, resume=True)


def test_a_loss_that_is_no_number_stops_the_job(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                weight = self.model.discriminator.trainable_weights[0]
                weight.assign(np.full(weight.shape, np.nan, "float32"))

    with pytest.raises(FloatingPointError, match=r"Received: \w+_loss=nan in epoch 2$"):
        train(tmp_path / "run", callbacks=[Spoil()])
    assert read_checkpoint(tmp_path / "run" / "checkpoint.npz").metadata["epoch"] == 1


def test_images_of_another_form_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Received: shape \(48, 8, 8, 1\), dtype float32$"):
        fit_gan(small_gan(), IMAGES.astype("float32"), RECIPE, output_dir=tmp_path / "run")
