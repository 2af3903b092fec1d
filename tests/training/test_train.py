import dataclasses
import errno
import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from PIL import Image
from sklearn.metrics import roc_auc_score

from qrkt_keras import data
from qrkt_keras.training import (
    Augmentation,
    CheckpointError,
    GANRecipe,
    Recipe,
    TrainingInterrupted,
    augmented_batches,
    classification_scores,
    files,
    fit,
    make_predictor,
    model_state,
    read_checkpoint,
    write_checkpoint,
)
from qrkt_keras.training.job import steps_per_execution

RECIPE = Recipe(epochs=3, batch_size=32, learning_rate=2e-2, warmup_steps=10)
REPORTS = {
    "checkpoint.npz",
    "history.json",
    "scores.json",
    "history.png",
    "confusion.png",
    "roc.png",
}


def make_model(num_classes=10, shape=(8, 8, 1), activation=None, seed=0):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(num_classes, activation=activation),
        ]
    )


def run(model, output_dir, recipe=RECIPE, **options):
    options = {"data": "digits", "progress": False, "jit_compile": False} | options
    return fit(model, options.pop("data"), recipe, output_dir=output_dir, **options)


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C at the beginning of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished job: its folder, its model, its result."""
    folder = tmp_path_factory.mktemp("job")
    model = make_model()
    return folder, model, run(model, folder)


def test_what_a_job_leaves(job):
    folder, _, result = job
    assert {file.name for file in folder.iterdir()} == REPORTS
    assert result.epochs == 3 and result.seconds > 0 and result.output_dir == folder
    assert set(result.history) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "val_auc",
        "learning_rate",
    }
    assert result.history["loss"][0] > result.history["loss"][-1]
    assert result.scores["test"].accuracy > 0.8
    assert result.scores["test"].num_examples == 360
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["test"]["accuracy"] == result.scores["test"].accuracy
    assert scores["test"]["confusion"] == [list(r) for r in result.scores["test"].confusion]
    history = json.loads((folder / "history.json").read_text())
    assert history["best_epoch"] == result.best_epoch
    assert history["history"]["val_auc"] == list(result.history["val_auc"])
    assert Recipe.from_dict(history["recipe"]) == RECIPE


def test_the_scores_are_those_of_the_model_that_comes_out(job):
    _, model, result = job
    for split, scores in result.scores.items():
        images, labels = data.arrays("digits", split)
        logits = model.predict(images, verbose=0)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        theirs = classification_scores(labels, probabilities)
        assert theirs.confusion == scores.confusion
        assert theirs.macro_auc == pytest.approx(scores.macro_auc, abs=1e-6)
        assert theirs.loss == pytest.approx(scores.loss, rel=1e-5)


def test_the_history_holds_what_keras_would_have_said(job):
    folder, model, result = job
    images, labels = data.arrays("digits", "validation")
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    best = result.best_epoch - 1
    assert result.history["val_loss"][best] == pytest.approx(loss, rel=1e-5)
    assert result.history["val_accuracy"][best] == pytest.approx(accuracy, abs=1e-6)


def test_the_best_epochs_weights_come_out(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.weights = []

        def on_epoch_begin(self, epoch, logs=None):
            # After the second epoch, turn what was learnt into its opposite.
            if epoch == 2:
                self.weights = [w.copy() for w in self.model.get_weights()]
                self.model.set_weights([-w for w in self.weights])

    spoil, model = Spoil(), make_model()
    result = run(model, tmp_path, callbacks=[spoil])
    assert result.best_epoch == 2 and result.epochs == 3
    for got, wanted in zip(model.get_weights(), spoil.weights, strict=True):
        assert np.array_equal(got, wanted)


def test_the_same_seeds_give_the_same_bits(job, tmp_path):
    _, model, result = job
    again_model = make_model()
    again = run(again_model, tmp_path)
    assert again.history == result.history and again.scores == result.scores
    for got, wanted in zip(again_model.get_weights(), model.get_weights(), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_another_seed_gives_another_order(job, tmp_path):
    assert run(make_model(), tmp_path, seed=1).history != job[2].history


def test_an_interrupted_job_continues_bit_for_bit(job, tmp_path):
    _, model, result = job
    with pytest.raises(TrainingInterrupted, match=r"after 2 of 3 epochs.*resume=True") as caught:
        run(make_model(), tmp_path, callbacks=[Interrupt(2)])
    assert str(tmp_path / "checkpoint.npz") in str(caught.value)
    assert isinstance(caught.value, KeyboardInterrupt)
    # Another initial model, as another process without a seed would make.
    other = make_model(seed=9)
    continued = run(other, tmp_path, resume=True)
    assert continued.history == result.history and continued.scores == result.scores
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_resuming_a_finished_job_reports_again(job):
    folder, model, result = job
    (folder / "scores.json").unlink()
    again = run(make_model(seed=4), folder, resume=True)
    assert again.scores == result.scores and again.history == result.history
    assert {file.name for file in folder.iterdir()} == REPORTS


def test_resuming_where_nothing_is_begins(tmp_path):
    assert run(make_model(), tmp_path / "new" / "folder", resume=True, epochs=1).epochs == 1


def test_resuming_another_job_is_refused_with_what_differs(job):
    folder = job[0]
    for options, message in [
        ({"epochs": 5}, r"Received: recipe\.epochs=5, but it was 3$"),
        ({"seed": 8}, r"Received: recipe\.seed=8, but it was 0$"),
        ({"identity": {"preset": "x"}}, r"Received: preset='x', but it was None$"),
        (
            {"recipe": dataclasses.replace(RECIPE, learning_rate=1.0)},
            r"Received: recipe\.learning_rate=1\.0, but it was 0\.02$",
        ),
        (
            {"data": {s: data.arrays("digits", s) for s in ("train", "validation")}},
            r"Received: data\.name=None, but it was 'digits'$",
        ),
    ]:
        with pytest.raises(CheckpointError, match=message):
            run(make_model(), folder, resume=True, **options)


def test_resuming_with_other_images_is_refused(tmp_path):
    splits = {split: data.arrays("digits", split) for split in ("train", "validation")}
    run(make_model(), tmp_path, data=splits, epochs=1)
    images, labels = splits["train"]
    other = images.copy()
    other[0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match=r"Received: data\.sha256="):
        run(make_model(), tmp_path, data=splits | {"train": (other, labels)}, epochs=1, resume=True)


def test_resuming_with_another_model_is_refused(job):
    layers = keras.layers
    other = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(CheckpointError, match="does not belong to the model"):
        run(other, job[0], resume=True)


def test_a_damaged_checkpoint_is_refused(job, tmp_path):
    whole = (job[0] / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"truncated.*Received: .*checkpoint\.npz$"):
        run(make_model(), tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"\(damaged\).*Received"):
        run(make_model(), tmp_path)


def test_a_folder_with_a_job_is_refused(job, tmp_path):
    with pytest.raises(
        ValueError, match=rf"\(finished\).*resume=True.*Received: output_dir={job[0]}$"
    ):
        run(make_model(), job[0])
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, callbacks=[Interrupt(1)])
    with pytest.raises(ValueError, match=r"\(1 of 3 epochs done\)"):
        run(make_model(), tmp_path)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(ValueError, match=rf"Received: output_dir={tmp_path} with thesis\.tex$"):
            run(make_model(), tmp_path, resume=resume)
    run(make_model(), tmp_path, overwrite=True, epochs=1)
    assert (tmp_path / "thesis.tex").exists()


def test_overwrite_replaces_a_job(tmp_path):
    run(make_model(), tmp_path, epochs=1)
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, overwrite=True, epochs=2, callbacks=[Interrupt(1)])
    # The old job's reports do not stay beside the new job's checkpoint.
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert read_checkpoint(tmp_path / "checkpoint.npz").metadata["epoch"] == 1
    assert run(make_model(), tmp_path, resume=True, epochs=2).epochs == 2


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=rf"must be a folder\. Received: output_dir={tmp_path}/file$"
    ):
        run(make_model(), tmp_path / "file")


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match=r"Received: resume=True, overwrite=True$"):
        run(make_model(), tmp_path, resume=True, overwrite=True)


def test_arrays_with_label_names_and_without_a_test_split(tmp_path):
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, 90)
    images = (random.randint(0, 100, (90, 4, 4, 3)) + 150 * labels[:, None, None, None]).astype(
        np.uint8
    )
    splits = {"train": (images[:60], labels[:60]), "validation": (images[60:], labels[60:])}
    recipe = Recipe(epochs=30, batch_size=20, learning_rate=0.05)
    names = ["dark", "light"]
    result = run(make_model(2, (4, 4, 3)), tmp_path, recipe, data=splits, label_names=names)
    assert set(result.scores) == {"validation"}
    assert result.scores["validation"].accuracy == 1.0


def split(n=40, shape=(8, 8, 1), dtype=np.uint8, labels=None):
    labels = np.arange(n) % 10 if labels is None else np.asarray(labels)
    return np.zeros((n, *shape), dtype), labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "cifar"}, r"Received: name='cifar'$"),
        ({"data": {"train": split()}}, r"Received: \['train'\]$"),
        (
            {"data": {"train": split(), "validation": split(), "dev": split()}},
            r"Received: \['dev', 'train', 'validation'\]$",
        ),
        (
            {"data": {"train": split(shape=(64,)), "validation": split()}},
            r"one shape\. Received: shapes \(40, 64\), \(40, 8, 8, 1\)$",
        ),
        (
            {"data": {"train": split()[:1] + split(39)[1:], "validation": split()}},
            r"The train split .*Received: shapes \(40, 8, 8, 1\) and \(39,\)$",
        ),
        (
            {"data": {"train": split(dtype=str), "validation": split()}},
            r"The train split's examples must be numbers, .*Received: dtype <U1$",
        ),
        (
            {
                "data": {
                    "train": split(labels=[*range(9), *range(1, 12)] * 2),
                    "validation": split(),
                }
            },
            r"The train split's labels must be 0 to 9, .* 10 outputs\. "
            r"Received: label 10 of example 18$",
        ),
        (
            {"data": {"train": split(), "validation": split(labels=[0.5] * 40)}},
            r"The validation split's labels .*Received: dtype float64",
        ),
        (
            {"data": {"train": split(), "validation": split(labels=[-1] * 40)}},
            r"Received: dtype int64, least -1$",
        ),
        (
            {"data": {"train": split(20), "validation": split()}},
            r"Received: batch_size=32 with 20 examples$",
        ),
        (
            {"data": {"train": split(), "validation": split()}, "label_names": ["a", "b"]},
            r"name the 10 classes\. Received: \['a', 'b'\]$",
        ),
        ({"label_names": ["a"]}, r"Received: \['a'\] with data='digits'$"),
        ({"epochs": 0}, r"Received: epochs=0$"),
        ({"seed": -1}, r"Received: seed=-1$"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(make_model(), tmp_path / "job", **options)
    assert not (tmp_path / "job").exists()


def test_a_recipe_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"a Recipe\. Received: recipe=GANRecipe\(epochs=1, "):
        run(make_model(), tmp_path / "job", GANRecipe(epochs=1))


def test_a_model_with_the_wrong_outputs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"logits \(B, 10\).*Received: shape \(B, 7\)$"):
        run(make_model(7), tmp_path / "a")
    with pytest.raises(ValueError, match=r"before any softmax\. Received: rows that sum to 1"):
        run(make_model(activation="softmax"), tmp_path / "b")


def test_a_model_that_is_not_built_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)], name="bare")
    with pytest.raises(ValueError, match=r"Received: 'bare'$"):
        run(model, tmp_path)


def test_a_rate_that_blows_up_is_told(tmp_path):
    recipe = Recipe(
        epochs=3, batch_size=32, learning_rate=1e30, clip_norm=None, schedule="constant"
    )
    with pytest.raises(FloatingPointError, match=r"Received: .* in epoch \d$"):
        run(make_model(), tmp_path, recipe)
    assert read_checkpoint(tmp_path / "checkpoint.npz").metadata["epoch"] < 3


def test_the_sigmoid_loss_trains_logit_1_alone(tmp_path):
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (80, 8, 8, 1), "uint8")
    labels = (images.mean((1, 2, 3)) > 127).astype("int64")
    splits = {"train": (images, labels), "validation": (images, labels)}
    model = make_model(2)
    weights = model.get_weights()
    before = keras.ops.softmax(model(images))
    recipe = dataclasses.replace(RECIPE, loss="sigmoid", weight_decay=0.1, l2=1e-3, epochs=2)

    class First(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.probabilities = keras.ops.softmax(self.model(images))

    first = First()
    result = run(model, tmp_path, recipe, data=splits, callbacks=[first])
    np.testing.assert_allclose(first.probabilities, before, atol=1e-6)  # what was learnt stays
    logits = np.asarray(model(images))
    assert (logits[:, 0] == 0).all() and logits[:, 1].any()
    assert not np.allclose(model.get_weights()[0][:, 1], weights[0][:, 1] - weights[0][:, 0])
    sign = np.where(labels, 1, -1)
    loss = np.log1p(np.exp(-sign * logits[:, 1].astype("float64"))).mean()
    assert result.scores["validation"].loss == pytest.approx(loss, rel=1e-5)


def test_the_sigmoid_loss_is_refused_where_there_are_not_two_classes(tmp_path):
    with pytest.raises(ValueError, match=r"^The loss 'sigmoid' .* Received: 10 classes and Dense$"):
        run(make_model(), tmp_path / "job", dataclasses.replace(RECIPE, loss="sigmoid"))
    assert not (tmp_path / "job").exists()


def test_the_learning_rate_follows_the_whole_run(tmp_path):
    class Rates(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_epoch_end(self, epoch, logs=None):
            self.rates.append(float(self.model.optimizer.learning_rate))

    rates = Rates()
    run(make_model(), tmp_path, callbacks=[rates])
    steps = 1293 // 32
    schedule = RECIPE.learning_rate_schedule(3 * steps)
    assert rates.rates == [float(schedule(steps * epoch)) for epoch in (1, 2, 3)]
    assert rates.rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("steps", "at_once"), [(1, 1), (20, 20), (40, 40), (41, 41), (67, 1), (128, 64), (843, 3)]
)
def test_steps_at_once_divide_the_epoch(steps, at_once):
    assert steps_per_execution(steps) == at_once


@pytest.mark.parametrize(
    ("steps", "batch_size", "at_once"),
    # MNIST in batches of 1000 and 64, and a batch that is too large by itself.
    [(60, 1000, 6), (54, 1000, 6), (843, 64, 3), (128, 64, 64), (128, 256, 32), (7, 10_000, 1)],
)
def test_steps_at_once_are_fewer_where_they_are_large(steps, batch_size, at_once):
    assert steps_per_execution(steps, batch_size) == at_once


@pytest.mark.parametrize("n", [1, 7, 8, 20])
def test_a_predictor_gives_what_the_model_gives_and_is_traced_once(n):
    model = make_model()
    calls = []
    call = model.call
    model.call = lambda *arguments, **options: (calls.append(1), call(*arguments, **options))[1]
    predict = make_predictor(model, 8)
    images = data.arrays("digits", "test")[0][:n]
    got = predict(images)
    predict(data.arrays("digits", "test")[0])
    assert len(calls) == 1
    assert got.dtype == np.float64
    assert got == pytest.approx(keras.ops.convert_to_numpy(model(images)), abs=1e-6)


def test_a_predictor_refuses_nothing_to_predict():
    model = make_model()
    with pytest.raises(ValueError, match=r"Received: shape \(0, 8, 8, 1\)$"):
        make_predictor(model, 8)(np.zeros((0, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"Received: batch_size=0$"):
        make_predictor(model, 0)


def test_xla_and_mixed_precision(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy(before)
    result = run(model, tmp_path, epochs=2, jit_compile=True)
    assert result.scores["test"].accuracy > 0.5
    assert all(array.dtype != object for array in model_state(model).values())


def test_importing_the_package_loads_no_tensorflow(repository):
    script = "import sys, qrkt_keras.training; print('tensorflow' in sys.modules)"
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "False"


def test_a_full_disk_during_training_is_told_and_the_last_epoch_is_kept(tmp_path, monkeypatch):
    class FillDisk(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                monkeypatch.setattr(files.os, "fsync", full)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device.*checkpoint\.npz"):
        run(make_model(), tmp_path, callbacks=[FillDisk()])
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert run(make_model(), tmp_path, resume=True).epochs == 3


EVERYTHING = Recipe(
    epochs=6,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.05,
    schedule="plateau",
    plateau_patience=1,
    decay_rate=0.5,
    warmup_steps=30,
    l2=1e-4,
    label_smoothing=0.1,
    augment=Augmentation(
        flip=True, rotation=5, zoom=0.1, shift=1, padding="edge", cutout=0.3, mixup=0.2
    ),
)


class Worse(keras.callbacks.Callback):
    """Makes some epochs no better than the one before."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_auc"] = [0.5, 0.6, 0.6, 0.6, 0.7, 0.6][epoch]


@pytest.fixture(scope="module")
def augmented_job(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("augmented"), make_model()
    return folder, model, run(model, folder, EVERYTHING, callbacks=[Worse()])


def test_a_plateau_lowers_the_rate(augmented_job):
    _, _, result = augmented_job
    assert result.history["val_auc"] == (0.5, 0.6, 0.6, 0.6, 0.7, 0.6)
    # What is logged is the rate before the epoch's own decision.
    wanted = [0.05, 0.05, 0.05, 0.025, 0.0125, 0.0125]
    assert result.history["learning_rate"] == pytest.approx(wanted, rel=1e-6)
    assert result.scores["test"].accuracy > 0.5


@pytest.mark.parametrize("at", [1, 4])
def test_everything_at_once_continues_bit_for_bit(augmented_job, tmp_path, at):
    _, model, result = augmented_job
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, EVERYTHING, callbacks=[Worse(), Interrupt(at)])
    other = make_model(seed=9)
    continued = run(other, tmp_path, EVERYTHING, resume=True, callbacks=[Worse()])
    assert continued.history == result.history and continued.scores == result.scores
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_the_augmented_images_are_those_of_seed_and_step(tmp_path):
    seen = []

    class Watched(keras.Sequential):
        def train_step(self, data):
            images, labels = data
            seen.append((images.numpy(), labels.numpy()))
            return super().train_step(data)

    model = Watched([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    compile = model.compile
    model.compile = lambda **options: compile(**options | {"run_eagerly": True})
    recipe = Recipe(epochs=2, batch_size=400, augment=Augmentation(shift=2, mixup=0.3), seed=5)
    run(model, tmp_path, recipe)
    batches = data.training_batches(
        *data.arrays("digits", "train"), batch_size=400, seed=5, epochs=2
    ).map(lambda x, y: (x, tf.one_hot(y, 10)))
    wanted = list(augmented_batches(batches, recipe.augment, seed=5))
    assert len(seen) == len(wanted) == 2 * (1293 // 400)
    for (images, labels), (wanted_images, wanted_labels) in zip(seen, wanted, strict=True):
        assert images.dtype == np.uint8
        assert np.array_equal(images, wanted_images) and np.array_equal(labels, wanted_labels)


WHOLE = dataclasses.replace(
    RECIPE, hold_out=False, monitor="train_loss", stratified=True, batch_size=50
)


def numbered(n, classes=3, seed=0):
    """Images that have their number in a corner, and unequal classes."""
    random = np.random.default_rng(seed)
    labels = np.minimum(random.integers(0, 2 * classes, n), classes - 1)
    images = (random.integers(0, 100, (n, 4, 4, 1)) + 50 * labels[:, None, None, None]).astype(
        np.float32
    )
    images[:, 0, 0, 0] = np.arange(n) + 1000 * seed
    return images, labels


def test_with_nothing_held_out_both_splits_are_trained_on_in_stratified_batches(tmp_path):
    seen = []

    class Watched(keras.Sequential):
        def train_step(self, data):
            seen.append(tuple(part.numpy() for part in data))
            return super().train_step(data)

    layers = keras.layers
    scaled = layers.Rescaling(1e-3)
    model = Watched([keras.Input((4, 4, 1)), scaled, layers.Flatten(), layers.Dense(3)])
    compile = model.compile
    model.compile = lambda **options: compile(**options | {"run_eagerly": True})
    train, validation = numbered(110), numbered(90, seed=1)
    splits = {"train": train, "validation": validation, "test": numbered(20, seed=2)}
    run(model, tmp_path, WHOLE, data=splits, epochs=2, seed=5)
    joined = [np.concatenate(parts) for parts in zip(train, validation, strict=True)]
    wanted = list(data.training_batches(*joined, batch_size=50, seed=5, epochs=2, stratified=True))
    assert len(seen) == len(wanted) == 2 * 4
    for (images, labels), (wanted_images, wanted_labels) in zip(seen, wanted, strict=True):
        assert np.array_equal(images, wanted_images) and np.array_equal(labels, wanted_labels)
    for epoch in (seen[:4], seen[4:]):
        numbers = np.concatenate([images[:, 0, 0, 0] for images, _ in epoch])
        assert np.array_equal(np.sort(numbers), [*range(110), *range(1000, 1090)])


@pytest.fixture(scope="module")
def whole_job(tmp_path_factory):
    """A job that holds nothing out: its folder, result, and the weights after every epoch."""

    class Weights(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs = []

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(self.model.get_weights())

    folder, model, weights = tmp_path_factory.mktemp("whole"), make_model(), Weights()
    result = run(model, folder, WHOLE, callbacks=[weights])
    return folder, model, result, weights.epochs


def test_after_every_epoch_all_training_examples_are_scored_again(whole_job):
    folder, model, result, epochs = whole_job
    images, labels = data.arrays("digits", "train+validation")
    x = images.reshape(len(images), -1) / 255.0
    losses, accuracies, areas = [], [], []
    for kernel, bias in (weights[:2] for weights in epochs):
        logits = x @ kernel.astype("float64") + bias  # without the dropout
        p = scipy.special.softmax(logits, axis=1)
        losses.append(-np.log(p[np.arange(len(labels)), labels]).mean())
        accuracies.append((logits.argmax(axis=1) == labels).mean())
        areas.append(roc_auc_score(labels, p, multi_class="ovr"))
    assert len(images) == 1437 and len(epochs) == 3
    assert result.history["train_loss"] == pytest.approx(losses, rel=1e-5)
    assert result.history["train_accuracy"] == pytest.approx(accuracies, abs=1e-9)
    assert result.history["train_auc"] == pytest.approx(areas, abs=1e-6)
    # Of the epoch's own steps, with dropout and as the weights went, is another loss.
    assert np.abs(np.array(result.history["loss"]) - losses).min() > 1e-3
    assert not [name for name in result.history if name.startswith("val_")]
    assert result.best_epoch == 1 + int(np.argmin(losses))


def test_what_a_job_leaves_that_holds_nothing_out(whole_job):
    folder, model, result, _ = whole_job
    assert {file.name for file in folder.iterdir()} == REPORTS
    assert set(result.scores) == {"train", "test"}
    assert [result.scores[name].num_examples for name in ("train", "test")] == [1437, 360]
    best = result.best_epoch - 1
    assert result.scores["train"].loss == pytest.approx(result.history["train_loss"][best])
    assert result.scores["train"].accuracy == result.history["train_accuracy"][best]
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores) == {"train", "test"}
    history = json.loads((folder / "history.json").read_text())
    assert history["history"]["train_loss"] == list(result.history["train_loss"])
    assert Recipe.from_dict(history["recipe"]) == WHOLE
    test = data.arrays("digits", "test")
    loss, accuracy = model.evaluate(*test, verbose=0)
    assert result.scores["test"].accuracy == pytest.approx(accuracy, abs=1e-6)


def test_the_least_loss_on_the_training_examples_is_the_best_epoch(tmp_path):
    class Chosen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["train_loss"] = [0.5, 0.2, 0.2, 0.3][epoch]

    run_with = {"callbacks": [Chosen()], "epochs": 4}
    assert run(make_model(), tmp_path / "a", WHOLE, **run_with).best_epoch == 2

    class Equal(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"train_accuracy": [0.5, 0.9, 0.9, 0.9][epoch]}
            logs |= {"train_loss": [0.1, 0.4, 0.2, 0.3][epoch], "val_loss": -float(epoch)}

    # Among equals the lower loss decides, of the training examples.
    recipe = dataclasses.replace(WHOLE, monitor="train_accuracy")
    result = run(make_model(), tmp_path / "b", recipe, epochs=4, callbacks=[Equal()])
    assert result.best_epoch == 3


def test_without_a_test_split_the_training_examples_are_drawn(tmp_path):
    splits = {"train": numbered(110), "validation": numbered(40, seed=1)}
    result = run(make_model(3, (4, 4, 1)), tmp_path, WHOLE, data=splits, epochs=1)
    assert set(result.scores) == {"train"} and result.scores["train"].num_examples == 150
    assert {file.name for file in tmp_path.iterdir()} == REPORTS


@pytest.mark.parametrize("at", [1, 2])
def test_a_job_that_holds_nothing_out_continues_bit_for_bit(whole_job, tmp_path, at):
    _, model, result, _ = whole_job
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, WHOLE, callbacks=[Interrupt(at)])
    other = make_model(seed=9)
    continued = run(other, tmp_path, WHOLE, resume=True)
    assert continued.history == result.history and continued.scores == result.scores
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_other_examples_of_either_split_are_another_job(tmp_path):
    splits = {"train": numbered(110), "validation": numbered(40, seed=1)}
    run(make_model(3, (4, 4, 1)), tmp_path, WHOLE, data=splits, epochs=1)
    images, labels = splits["validation"]
    other = splits | {"validation": (images + 1, labels)}
    with pytest.raises(CheckpointError, match=r"Received: data\.sha256="):
        run(make_model(3, (4, 4, 1)), tmp_path, WHOLE, data=other, epochs=1, resume=True)


def test_batches_of_texts_are_not_stratified(tmp_path):
    model = make_model()
    model.vectorize = lambda texts: texts
    recipe = dataclasses.replace(RECIPE, stratified=True)
    with pytest.raises(ValueError, match=r"Received: stratified=True with the model 'sequential"):
        run(model, tmp_path / "job", recipe)
    assert not (tmp_path / "job").exists()


def test_early_stopping_counts_epochs_since_the_best(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=6, early_stopping_patience=2)
    result = run(make_model(), tmp_path, recipe, callbacks=[Worse()])
    # Equal AUCs are decided by the loss, which falls from epoch to epoch.
    assert result.epochs == 6 and result.best_epoch == 5

    class Fixed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"val_auc": [0.5, 0.6, 0.6, 0.6, 0.7, 0.6][epoch], "val_loss": 1.0}

    result = run(make_model(), tmp_path, recipe, overwrite=True, callbacks=[Fixed()])
    assert (result.epochs, result.best_epoch) == (4, 2)
    history = json.loads((tmp_path / "history.json").read_text())
    assert (history["epochs"], history["recipe"]["epochs"]) == (4, 6)

    # A stopped job is finished, and stays so.
    with pytest.raises(ValueError, match=r"\(finished\)"):
        run(make_model(), tmp_path, recipe)
    model = make_model(seed=4)
    again = run(model, tmp_path, recipe, resume=True, callbacks=[Fixed()])
    assert again.history == result.history and again.scores == result.scores

    # Interrupted while it waits, it stops after the same epoch.
    other = tmp_path / "other"
    with pytest.raises(TrainingInterrupted):
        run(make_model(), other, recipe, callbacks=[Fixed(), Interrupt(3)])
    continued = run(make_model(seed=4), other, recipe, resume=True, callbacks=[Fixed()])
    assert continued.history == result.history and continued.scores == result.scores


def test_a_job_of_an_earlier_version_continues(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, callbacks=[Interrupt(2)])
    path = tmp_path / "checkpoint.npz"
    checkpoint = read_checkpoint(path)
    metadata = json.loads(json.dumps(checkpoint.metadata))
    old = "epochs batch_size optimizer learning_rate schedule warmup_steps decay_steps weight_decay"
    old = {*old.split(), "epsilon", "clip_norm", "seed", "monitor"}
    recipe = metadata["identity"]["recipe"]
    metadata["identity"]["recipe"] = {name: recipe[name] for name in recipe if name in old}
    del metadata["history"]["learning_rate"], metadata["seconds_per_step"]
    write_checkpoint(path, checkpoint.arrays, metadata)
    result = run(make_model(), tmp_path, resume=True)
    rates = result.history["learning_rate"]
    assert len(rates) == 3 and np.isnan(rates[:2]).all() and np.isfinite(rates[2])
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["history"]["learning_rate"][:2] == [None, None]
    assert history["seconds_per_step"] > 0


@pytest.mark.parametrize(("kept", "refused"), [("mean", False), ("attention", True)])
def test_a_model_of_an_earlier_version_continues(tmp_path, kept, refused):
    """What the model's class had not when the job began must have its default now."""

    class Pooled(keras.Sequential):
        def __init__(self, width, pooling="mean"):
            super().__init__([keras.Input((8, 8, 1)), *make_model().layers])

    def train(**options):
        identity = {"model": {"width": 3, "pooling": kept}}
        return run(Pooled(3, kept), tmp_path, identity=identity, **options)

    with pytest.raises(TrainingInterrupted):
        train(callbacks=[Interrupt(2)])
    path = tmp_path / "checkpoint.npz"
    checkpoint = read_checkpoint(path)
    metadata = json.loads(json.dumps(checkpoint.metadata))
    del metadata["identity"]["model"]["pooling"]
    write_checkpoint(path, checkpoint.arrays, metadata)
    if refused:
        message = r"Received: model\.pooling='attention', but it was 'mean'$"
        with pytest.raises(ValueError, match=message):
            train(resume=True)
    else:
        assert train(resume=True).epochs == 3


def test_the_time_of_a_step_is_that_of_training_alone(tmp_path):
    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.04)

        def on_epoch_end(self, epoch, logs=None):
            time.sleep(0.5)

    recipe = Recipe(epochs=5, batch_size=646)  # two steps, which Keras makes at once
    result = run(make_model(), tmp_path, recipe, callbacks=[Slow()])
    assert 0.02 < result.seconds_per_step < 0.2
    assert result.seconds > 2.5
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["seconds_per_step"] == result.seconds_per_step


def test_token_ids_are_examples_too(tmp_path):
    random = np.random.RandomState(0)
    labels = random.randint(0, 3, 240)
    tokens = np.where(random.rand(240, 7) < 0.5, labels[:, None], random.randint(3, 9, (240, 7)))
    splits = {"train": (tokens[:200], labels[:200]), "validation": (tokens[200:], labels[200:])}
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    recipe = Recipe(epochs=20, batch_size=20, learning_rate=0.05)
    result = run(model, tmp_path, recipe, data=splits)
    assert result.scores["validation"].accuracy > 0.9
    with pytest.raises(ValueError, match=r"^augment is for images .* of shape \(200, 7\)$"):
        augment = Augmentation(shift=1)
        run(model, tmp_path / "b", dataclasses.replace(recipe, augment=augment), data=splits)


def test_a_class_without_an_example_is_fine(tmp_path):
    splits = {"train": split(labels=[0, 1] * 20), "validation": split(labels=[1, 2] * 20)}
    result = run(make_model(), tmp_path, data=splits, epochs=1)
    assert len(result.scores["validation"].confusion) == 10


def logged(folder):
    """Tag and step of everything in a job's logs."""
    return sorted(
        (value.tag, event.step)
        for path in (folder / "logs").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    )


def test_logs_for_tensorboard_have_each_epoch_once(job, tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, tensorboard=True, callbacks=[Interrupt(2)])
    names = set(job[2].history)
    assert logged(tmp_path) == sorted((name, epoch) for name in names for epoch in (1, 2))
    whole = sorted(
        [(name, epoch) for name in names for epoch in (1, 2, 3)]
        + [(name, 3) for name in ("confusion", "history", "roc")]
    )
    # Continued, and when nothing is left to do.
    for _ in range(2):
        result = run(make_model(), tmp_path, tensorboard=True, resume=True)
        assert logged(tmp_path) == whole
    assert result.history == job[2].history
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path, overwrite=True, callbacks=[Interrupt(0)])
    assert logged(tmp_path) == []


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_quantum_transformer_trains_in_mixed_precision(tmp_path, policy):
    from qrkt_keras.layers import PQC
    from qrkt_keras.zoo import QViT

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = QViT.from_preset("qvit_rk4_digits", load_weights=False)
    finally:
        keras.config.set_dtype_policy(before)
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=1e-2)
    result = run(model, tmp_path, recipe)
    assert np.isfinite(result.history["loss"]).all()
    assert result.scores["test"].accuracy > 0.4
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}

    # The circuit's angles, and its arithmetic, are float32; only what comes out is of a half type.
    circuit = next(layer for layer in model._flatten_layers() if isinstance(layer, PQC))
    single = PQC.from_config(circuit.get_config() | {"dtype": "float32"})
    angles = keras.ops.cast(np.random.rand(5, circuit.spec.num_inputs), circuit.compute_dtype)
    single.build(angles.shape)
    single.set_weights(circuit.get_weights())
    wanted = keras.ops.cast(single(keras.ops.cast(angles, "float32")), circuit.compute_dtype)
    assert np.array_equal(circuit(angles), wanted)


def test_a_scaled_loss_continues_bit_for_bit(tmp_path):
    def make():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return make_model()
        finally:
            keras.config.set_dtype_policy(before)

    recipe = dataclasses.replace(RECIPE, l2=1e-4, schedule="plateau", plateau_patience=1)
    model, other = make(), make()
    whole = run(model, tmp_path / "a", recipe)
    with pytest.raises(TrainingInterrupted):
        run(make(), tmp_path / "b", recipe, callbacks=[Interrupt(2)])
    continued = run(other, tmp_path / "b", recipe, resume=True)
    assert continued.history == whole.history and whole.scores["test"].accuracy > 0.5
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        assert got.tobytes() == wanted.tobytes()


AVERAGED = dataclasses.replace(RECIPE, epochs=4, ema=0.95)


class Followed(keras.callbacks.Callback):
    """Averages the weights by itself, in float64, after every step; and keeps both."""

    def __init__(self):
        super().__init__()
        self.averages = None
        self.weights = []
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights = [weight.astype(np.float64) for weight in self.model.get_weights()[:2]]
        if self.averages is None:
            self.averages = self.weights
        self.averages = [
            0.95 * average + 0.05 * weight
            for average, weight in zip(self.averages, self.weights, strict=True)
        ]

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append((self.averages, self.weights))


def test_the_average_is_validated_kept_and_tested(tmp_path, monkeypatch):
    from qrkt_keras.training import train

    monkeypatch.setattr(train, "steps_per_execution", lambda steps, batch_size: 1)
    followed, model = Followed(), make_model()
    result = run(model, tmp_path, AVERAGED, callbacks=[followed])
    averages, weights = followed.ends[result.best_epoch - 1]
    for got, average, weight in zip(model.get_weights()[:2], averages, weights, strict=True):
        assert got == pytest.approx(average, abs=1e-5)
        assert np.abs(got - weight).max() > 1e-3
    images, labels = data.arrays("digits", "validation")
    loss, _ = model.evaluate(images, labels, verbose=0)
    assert result.history["val_loss"][result.best_epoch - 1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_averaged_job_continues_bit_for_bit(tmp_path, at):
    whole = run(make_model(), tmp_path / "a", AVERAGED)
    with pytest.raises(TrainingInterrupted):
        run(make_model(), tmp_path / "b", AVERAGED, callbacks=[Interrupt(at)])
    continued = run(make_model(seed=9), tmp_path / "b", AVERAGED, resume=True)
    assert continued.history == whole.history and continued.scores == whole.scores
    ours, wanted = (read_checkpoint(tmp_path / name / "checkpoint.npz").arrays for name in "ba")
    for array, (name, other_array) in zip(ours.values(), wanted.items(), strict=True):
        assert array.tobytes() == other_array.tobytes(), name
    again = run(make_model(seed=3), tmp_path / "b", AVERAGED, resume=True)
    assert again.scores == whole.scores


def test_without_a_best_epoch_the_last_average_comes_out(tmp_path):
    # Of one class there is no area under the curve.
    splits = {"train": split(labels=[0, 1] * 20), "validation": split(labels=[1] * 40)}
    model = make_model()
    recipe = dataclasses.replace(AVERAGED, epochs=2)
    run(model, tmp_path, recipe, data=splits)
    saved = read_checkpoint(tmp_path / "checkpoint.npz").arrays
    (kernel,) = (saved[name] for name in saved if name.startswith("model/") and "kernel" in name)
    assert np.array_equal(model.layers[-1].kernel, kernel)


def test_a_callback_of_the_users_may_stop(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 0

    recipe = dataclasses.replace(RECIPE, early_stopping_patience=2)
    assert run(make_model(), tmp_path, recipe, callbacks=[Enough()]).epochs == 1
    assert run(make_model(), tmp_path, recipe, resume=True).epochs == 3


def test_how_a_data_set_is_read(job, tmp_path):
    result = run(make_model(shape=(4, 4, 1)), tmp_path, data_options={"image_size": [4, 4]})
    assert result.scores["test"].num_examples == 360
    with pytest.raises(ValueError, match=r"Received: text_column='a'$"):
        run(make_model(), tmp_path / "b", data_options={"text_column": "a"})
    # Whoever says nothing continues jobs as before.
    again = run(make_model(), job[0], data_options={}, resume=True)
    assert again.history == job[2].history


def test_your_own_images_by_their_path(tmp_path):
    for name, brightness in (("dark", 0), ("light", 255)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(30):
            picture = Image.new("L", (6, 5 + k % 2), brightness)
            picture.save(tmp_path / "photos" / name / f"{k}.png")
    result = run(
        make_model(num_classes=2),
        tmp_path / "run",
        dataclasses.replace(RECIPE, batch_size=8),
        data=str(tmp_path / "photos"),
        data_options={"image_size": (8, 8), "channels": 1},
    )
    assert result.scores["test"].num_examples == 6
