"""Training a GAN: what it leaves behind, and that a job that is continued ends the same."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from support.gan_jobs import IMAGES, Pixels, train
from support.gans import small_gan

from qrkt_keras.training import (
    CheckpointError,
    GANRecipe,
    Recipe,
    fit_gan,
    job,
    make_strategy,
    measure_images,
    read_checkpoint,
)
from qrkt_keras.training.checkpoints import model_identity
from qrkt_keras.zoo import GAN

RECIPE = GANRecipe(epochs=3, batch_size=8, num_critic_steps=2)


def plain_gan(units=8):
    """Of Keras' layers, which are numbered by how many there were before."""
    layers = keras.layers
    return GAN(
        keras.Sequential(
            [keras.Input((2,)), layers.Dense(units), layers.Dense(64), layers.Reshape((8, 8, 1))]
        ),
        keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(1)]),
    )


# A rate of nearly nothing: what is collapsed stays so, what is not does not.
STILL = GANRecipe(
    epochs=3, batch_size=16, gradient_penalty_weight=0.0, generator_learning_rate=1e-12
)


def train_plainly(folder, *, model=None, recipe=STILL, **arguments):
    """A job of seconds."""
    return fit_gan(
        model or plain_gan(), IMAGES, recipe, output_dir=folder, progress=False, **arguments
    )


def test_what_a_job_leaves_behind(tmp_path):
    model = plain_gan()
    result = train_plainly(
        tmp_path / "run",
        model=model,
        recipe=RECIPE,
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
    assert history["collapsed"] is result.collapsed is False
    assert history["scored"] == {
        "feature_network": "pixels",
        "num_generated": 16,
        "every": 2,
    }
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


@pytest.mark.parametrize("name", ["QRKTGAN", pytest.param("TransGAN", marks=pytest.mark.slow)])
def test_a_job_killed_in_an_epoch_ends_with_the_same_bits(tmp_path, repository, name):
    whole = train(name, tmp_path / "whole")

    script = repository / "tests" / "support" / "gan_jobs.py"
    path = os.pathsep.join(map(str, (repository, repository / "tests")))
    killed = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path / "parts")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        timeout=240,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    before = read_checkpoint(tmp_path / "parts" / "checkpoint.npz")
    assert before.metadata["epoch"] == 1
    # Another seed: all that matters must come from the checkpoint.
    parts = train(name, tmp_path / "parts", seed=99, resume=True)
    assert parts.history == whole.history
    assert parts.to_scores() == whole.to_scores()
    assert parts.best_epoch == whole.best_epoch

    # Keras numbers generators of randomness by how many there were before in the process.
    one, two = (
        read_checkpoint(tmp_path / folder / "checkpoint.npz").arrays
        for folder in ("whole", "parts")
    )
    pairs = list(zip(sorted(one), sorted(two), strict=True))
    assert not [here for here, there in pairs if one[here].tobytes() != two[there].tobytes()]
    # What was compared is worth comparing: best weights, moments, and generators that moved on.
    assert {name.split("/")[0] for name in one} == {
        "model",
        "optimizer",
        "metrics",
        "random",
        "best",
    }
    first, last = (
        [arrays[name] for name in sorted(arrays) if re.fullmatch("model.*_state", name)]
        for arrays in (before.arrays, two)
    )
    still = [state for state, later in zip(first, last, strict=True) if (state == later).all()]
    # Both of dropout in the average, which is not trained.
    assert len(still) == 2 < len(first)


def spoil(weight):
    weight.assign(np.full(weight.shape, np.nan, "float32"))


def test_a_loss_that_is_no_number_stops_the_job_within_the_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "MAX_STEPS_PER_EXECUTION", 1)
    steps = []

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == 4:
                spoil(self.model.discriminator.trainable_weights[0])

    checkpoint = tmp_path / "run" / "checkpoint.npz"
    with pytest.raises(FloatingPointError) as caught:
        train_plainly(tmp_path / "run", callbacks=[Spoil()])
    assert f"{checkpoint} keeps the job as it was after 1 epochs." in str(caught.value)
    assert str(caught.value).endswith("loss=nan after step 2 in epoch 2")
    # Two of three steps of the second epoch, not all of them.
    assert steps == [0, 1, 2, 0, 1]
    assert read_checkpoint(checkpoint).metadata["epoch"] == 1


@pytest.mark.parametrize("part", ["generator", "ema_generator", "optimizer"])
def test_a_checkpoint_never_holds_what_is_no_number(tmp_path, part):
    """The generator's last update of an epoch is in no loss of that epoch."""

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.generator_optimizer.iterations) == 6:
                if part == "optimizer":
                    spoil(self.model.generator_optimizer.variables[-1])
                else:
                    spoil(getattr(self.model, part).weights[0])

    with pytest.raises(FloatingPointError, match=r"Received: (model|optimizer)/.*=nan in epoch 2$"):
        train_plainly(tmp_path / "run", callbacks=[Spoil()])
    kept = read_checkpoint(tmp_path / "run" / "checkpoint.npz")
    assert kept.metadata["epoch"] == 1
    assert all(np.isfinite(array).all() for array in kept.arrays.values())


def test_a_model_that_begins_with_no_number_is_not_saved(tmp_path):
    model = plain_gan()
    spoil(model.generator.weights[0])
    with pytest.raises(FloatingPointError, match=r"No checkpoint was written\..*=nan in epoch 1$"):
        train_plainly(tmp_path / "run", model=model)
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # Whatever their range: nobody can tell 0..1 from -1..1 by looking at them.
        ({"data": IMAGES / 255.0}, r"Received: shape \(48, 8, 8, 1\), dtype float64$"),
        ({"data": IMAGES[:, :4]}, r"Received: shape \(48, 4, 8, 1\), dtype uint8$"),
        ({"recipe": Recipe(epochs=1)}, r"a GANRecipe\. Received: recipe=Recipe\(epochs=1, "),
        ({"scores_every": 0}, "Received: scores_every=0$"),
        ({"grids_every": 0}, "Received: grids_every=0$"),
        ({"num_scored": 0}, "Received: num_scored=0$"),
        ({"num_measured": 1}, "at least 2. Received: num_measured=1$"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, arguments, message):
    arguments = {"data": IMAGES, "recipe": RECIPE, **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        fit_gan(plain_gan(), output_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_gan_of_several_devices_is_refused(tmp_path):
    strategy = make_strategy("mirrored", devices=["CPU:0"])
    with strategy.scope():
        model = plain_gan()
    message = r"outside the scope of a strategy\. Received: .* built under MirroredStrategy$"
    with pytest.raises(ValueError, match=message):
        fit_gan(model, IMAGES, RECIPE, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_your_own_images_by_their_path(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(12):
            Image.new("RGB", (9, 9 + k % 2), (k, 0, 0)).save(
                tmp_path / "photos" / name / f"{k}.png"
            )
    result = fit_gan(
        plain_gan(),
        str(tmp_path / "photos"),
        RECIPE,
        output_dir=tmp_path / "run",
        progress=False,
        data_options={"image_size": [12, 12], "channels": 1},
    )
    assert result.epochs == RECIPE.epochs


class OtherPixels(Pixels):
    name = "other_pixels"


def test_what_must_be_the_same_to_continue(tmp_path):
    """All but the engine; each is refused before a step is taken."""

    def run(model=None, **arguments):
        settings = {"feature_network": Pixels(), "num_scored": 16, "num_measured": 16, **arguments}
        model = model or small_gan(dropout=0.1)
        # The command line says the model too, with its engine.
        return fit_gan(
            model,
            IMAGES,
            GANRecipe(epochs=1, batch_size=16, gradient_penalty_weight=0.0),
            output_dir=tmp_path / "run",
            progress=False,
            identity={"model": model.get_config()},
            **settings,
        )

    first = run()
    changes = [
        ({"model": small_gan(dropout=0.2)}, r"model\.dropout=0\.2, but it was 0\.1$"),
        ({"model": small_gan(dropout=0.1, attention_scale=2.0)}, r"model\.attention_scale=2\.0"),
        ({"model": small_gan(dropout=0.1, solver="rk4")}, r"model\.solver='rk4', but it was"),
        ({"epochs": 2}, r"recipe\.epochs=2, but it was 1$"),
        ({"feature_network": OtherPixels()}, r"scored\.feature_network='other_pixels', but"),
        ({"feature_network": None}, r"scored=None, but it was"),
        ({"num_scored": 20}, r"scored\.num_generated=20, but it was 16$"),
        ({"scores_every": 7}, r"scored\.every=7, but it was 1$"),
    ]
    for arguments, message in changes:
        with pytest.raises(CheckpointError, match=rf"Received: {message}"):
            run(resume=True, **arguments)
    again = run(small_gan(dropout=0.1, engine="state_vector"), resume=True)
    assert again.history == first.history


def test_what_must_be_the_same_of_networks_of_ones_own():
    first, same, other = plain_gan(), plain_gan(), plain_gan(units=4)
    assert first.get_config() != same.get_config()
    assert model_identity(first) == model_identity(same) != model_identity(other)


@pytest.mark.parametrize("name", ["arrays", "digits"])
def test_a_gan_with_classes(tmp_path, name):
    num_classes = {"arrays": 3, "digits": 10}[name]
    labels = np.arange(48) % 3
    model = small_gan(num_classes=num_classes)
    classes = model.generator.get_layer("classes")
    before = classes.get_weights()[0]
    fit_gan(
        model,
        "digits" if name == "digits" else (IMAGES, labels),
        GANRecipe(epochs=1, batch_size=48, gradient_penalty_weight=0.0),
        output_dir=tmp_path / "run",
        progress=False,
    )
    # Every class was trained, not the first one only.
    assert (model.generator.get_layer("classes").get_weights()[0] != before).any(axis=1).all()


@pytest.mark.parametrize(
    ("num_classes", "data", "message"),
    [
        (3, IMAGES, r"must be \(images, labels\), .* has 3 classes\. Received: .*ndarray$"),
        (None, (IMAGES, np.zeros(48, int)), r"must be images alone, .* no classes\. .* tuple$"),
        (3, "digits", r"the model's 3 classes, and has 10\. Received: data='digits'$"),
        (3, (IMAGES, np.arange(48) % 4), r"0 to 2, .*Received: labels \[0, 1, 2, 3\]$"),
        (3, (IMAGES, np.arange(48) % 2), r"each with an image\. Received: labels \[0, 1\]$"),
        (3, (IMAGES, np.arange(48) % 3 / 1), r"Received: shape \(48,\), dtype float64$"),
        (3, (IMAGES, np.arange(47) % 3), r"integers \(48,\), .*Received: shape \(47,\)"),
        (3, (IMAGES,), r"must be \(images, labels\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, num_classes, data, message):
    with pytest.raises(ValueError, match=message):
        fit_gan(small_gan(num_classes=num_classes), data, RECIPE, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- diversity ---------------------------------------------------------------------------


def test_diversity_is_the_spread_of_generated_images_over_that_of_real_ones():
    model = plain_gan()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0), gradient_penalty_weight=0.0)
    state = model.seed_generator.state.numpy()
    found = model.train_on_batch(IMAGES[:6], return_dict=True)["diversity"]
    model.seed_generator.state.assign(state)
    noise = keras.random.normal((6, 2), seed=model.seed_generator)
    spreads = [np.std(x, axis=0).mean() for x in (model.generator(noise), IMAGES[:6] / 127.5)]
    assert found == pytest.approx(spreads[0] / spreads[1], rel=1e-4)


def make_one_image(model):
    """Whatever the noise; only the last layer's bias speaks."""
    for network in (model.generator, model.ema_generator):
        kernel, bias = network.layers[1].get_weights()
        network.layers[1].set_weights([0 * kernel, bias])


class Collapse(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            make_one_image(self.model)


def test_a_generator_that_makes_one_image_has_collapsed(tmp_path):
    with pytest.warns(UserWarning, match="Mode collapse") as caught:
        result = train_plainly(tmp_path / "run", callbacks=[Collapse()])
    diversity = result.history["diversity"]
    assert diversity[0] > 0.3
    assert diversity[1:] == pytest.approx((0, 0), abs=1e-6)
    assert json.loads((tmp_path / "run" / "history.json").read_text())["collapsed"] is True
    # Once when it happens, once at the end.
    messages = [str(w.message) for w in caught if "Mode collapse" in str(w.message)]
    assert messages[0].startswith("Mode collapse in epoch 2: ") and "0.0%" in messages[0]
    assert messages[1].startswith("Mode collapse: the model has the weights of epoch 3,")
    assert len(messages) == 2


def test_the_model_that_is_kept_is_judged(tmp_path):
    class FirstIsBest(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["fid"] = epoch

    with pytest.warns(UserWarning, match="Mode collapse") as caught:
        result = train_plainly(
            tmp_path / "run", feature_network=Pixels(), callbacks=[Collapse(), FirstIsBest()]
        )
    assert (result.best_epoch, result.collapsed) == (1, False)
    assert ["Mode collapse in epoch 2" in str(warning.message) for warning in caught] == [True]


def test_of_one_image_a_batch_diversity_is_not_known(tmp_path):
    recipe = dataclasses.replace(STILL, batch_size=1, epochs=1)
    result = train_plainly(tmp_path / "run", recipe=recipe)
    assert result.collapsed is None
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["collapsed"] is None and history["history"]["diversity"] == [None]


# --- folders -----------------------------------------------------------------------------


def test_overwrite_removes_what_the_job_wrote_and_only_that(tmp_path):
    folder = tmp_path / "run"

    def run(recipe, **arguments):
        train_plainly(folder, recipe=recipe, **arguments)
        return {file.name for file in (folder / "grids").iterdir()}

    before = run(STILL, tensorboard=True)
    assert len(before) == 4
    (folder / "grids" / "epoch_0001_best.png").touch()
    (folder / "notes.txt").touch()
    after = run(dataclasses.replace(STILL, epochs=1), overwrite=True)
    assert after == {"epoch_0001.png", "epoch_0001_best.png"}
    assert (folder / "notes.txt").exists()


def test_a_finished_job_that_is_continued_does_nothing(tmp_path):
    folder = tmp_path / "run"
    epochs = []

    class Count(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    def run():
        model = plain_gan()
        result = train_plainly(
            folder, model=model, resume=True, feature_network=Pixels(), callbacks=[Count()]
        )
        files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        return result, model.generate(3), files

    first, images, files = run()
    again, same_images, same_files = run()
    assert epochs == [0, 1, 2]
    assert again == first
    np.testing.assert_array_equal(images, same_images)
    assert files == same_files
