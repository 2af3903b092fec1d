"""The weights of every epoch: kept, read back as a trajectory, and continued."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from qrkt_keras.training import (
    CheckpointError,
    Recipe,
    TrainingInterrupted,
    files,
    fit,
    read_checkpoint,
    read_trajectory,
    train,
)
from qrkt_keras.training.snapshots import Snapshots

# All that the recipe of Kawase's networks has, in small.
RECIPE = Recipe(
    epochs=3,
    batch_size=20,
    optimizer="adam",
    learning_rate=0.05,
    schedule="epoch_cosine",
    cycle_epochs=4,
    weight_decay=0,
    l2=1e-3,
    clip_norm=None,
    stratified=True,
    hold_out=False,
    snapshots=True,
    monitor="train_loss",
)
NAMES = [f"epoch_{epoch:04d}.npz" for epoch in range(4)]


def make_model(seed=0, units=3):
    # Layers are then named as those of the first model of a process.
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            layers.Flatten(),
            layers.Dense(units, name="hidden"),
            # With weights that are not trained.
            layers.BatchNormalization(),
            layers.Dense(3, name="logits"),
        ]
    )


def splits():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = random.normal(size=(60, 3, 3, 1)) + labels[:, None, None, None]
    images = images.astype("float32")
    return {"train": (images[:45], labels[:45]), "validation": (images[45:], labels[45:])}


def run(folder, model=None, recipe=RECIPE, **options):
    model = make_model() if model is None else model
    options = {"progress": False, "jit_compile": False} | options
    with pytest.MonkeyPatch.context() as patch:
        # Pictures have tests of their own, and would take half the time.
        patch.setattr(train, "_draw", lambda *arguments: None)
        return fit(model, splits(), recipe, output_dir=folder, **options)


def written(folder):
    return {
        path.name: path.read_bytes()
        for path in [*(folder / "snapshots").iterdir(), folder / "scores.json"]
    }


class Seen(keras.callbacks.Callback):
    """The weights before training and after every epoch."""

    def on_train_begin(self, logs=None):
        self.weights = [self.model.get_weights()]

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished job: its folder, its model, and what a callback saw."""
    folder, model, seen = tmp_path_factory.mktemp("job"), make_model(), Seen()
    run(folder, model, callbacks=[seen])
    return folder, model, seen.weights


def test_every_epoch_is_kept_and_the_weights_alone(job):
    folder, model, seen = job
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == NAMES
    for epoch, name in enumerate(NAMES):
        snapshot = read_checkpoint(folder / "snapshots" / name)
        assert snapshot.metadata == {"kind": "snapshot", "epoch": epoch}
        arrays = {key: array for key, array in snapshot.arrays.items() if "seed" not in key}
        assert all(key.startswith("model/") for key in arrays)
        assert len(arrays) == len(model.get_weights())
        for array in arrays.values():
            assert any(np.array_equal(array, weight) for weight in seen[epoch])


def test_the_trajectory_is_what_the_training_went_through(job):
    folder, _, seen = job
    model = make_model(seed=7)
    own = model.get_weights()
    trajectory = read_trajectory(folder, model)
    # All but the moving mean and variance, in the model's order.
    flat = [
        np.concatenate([weights[index].ravel() for index in (0, 1, 2, 3, 6, 7)]) for weights in seen
    ]
    assert trajectory.dtype == np.float64
    assert trajectory.shape == (4, sum(map(np.size, model.trainable_weights)))
    np.testing.assert_array_equal(trajectory, np.array(flat, np.float64))
    assert (np.abs(np.diff(trajectory[:3], axis=0)).max(axis=1) > 1e-3).all()
    # The rate is 0 throughout epoch 2 of a cycle of 4.
    np.testing.assert_array_equal(trajectory[3], trajectory[2])
    for weight, before in zip(model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(weight, before)


def test_the_rate_that_is_logged_is_the_epochs_own(job):
    folder, *_ = job
    rates = json.loads((folder / "history.json").read_text())["history"]["learning_rate"]
    assert rates == pytest.approx([0.05, 0.025, 0.0], rel=1e-6)
    steps = np.abs(np.diff(read_trajectory(folder, make_model()), axis=0)).max(axis=1)
    # Where it is 0, the weights stand still.
    assert (steps == 0).tolist() == [False, False, True]


def test_of_some_weights_in_an_order_of_ones_own(job):
    folder, model, seen = job
    logits, normal = model.get_layer("logits"), model.layers[-2]
    chosen = [logits.bias, normal.moving_mean, model.get_layer("hidden").kernel]
    expected = [np.concatenate([w[7], w[4], w[0].ravel()]) for w in seen]
    before = [weight.copy() for weight in model.get_weights()]
    np.testing.assert_array_equal(read_trajectory(folder, model, chosen), expected)
    for weight, own in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, own)


def test_of_a_moving_average_the_average_is_kept(tmp_path):
    recipe, seen = dataclasses.replace(RECIPE, ema=0.9), Seen()
    run(tmp_path / "a", recipe=recipe, callbacks=[seen])
    logits = [weights[-1] for weights in seen.weights]
    model = make_model()
    found = read_trajectory(tmp_path / "a", model, [model.get_layer("logits").bias])
    np.testing.assert_array_equal(found, logits)
    # It is what is scored.
    images, labels = (np.concatenate(parts) for parts in zip(*splits().values(), strict=True))
    best = run(tmp_path / "a", model, recipe, resume=True)
    with_average = model(images).numpy().argmax(axis=1)
    assert best.scores["train"].accuracy == pytest.approx((with_average == labels).mean())


@pytest.mark.parametrize("at", [0, 2])
def test_an_interrupted_job_leaves_the_same_files(job, tmp_path, at):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == at:
                raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        run(tmp_path, callbacks=[Interrupt()])
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == NAMES[: at + 1]
    run(tmp_path, make_model(seed=9), resume=True)
    assert written(tmp_path) == written(job[0])


class Killed(BaseException):
    """Nothing catches this, as nothing catches SIGKILL."""


# Checkpoint and snapshot before the first epoch, then a snapshot and a checkpoint each.
@pytest.mark.parametrize(
    ("write", "of"), [(1, "checkpoint"), (2, "epoch_0000"), (3, "epoch_0001"), (4, "checkpoint")]
)
def test_a_job_killed_in_any_write_leaves_the_same_files(job, tmp_path, monkeypatch, write, of):
    replace, count = files.os.replace, 0

    def killed(source, target):
        nonlocal count
        count += 1
        if count == write:
            raise Killed(str(target))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(Killed, match=of):
        run(tmp_path)
    monkeypatch.undo()
    # Before the first checkpoint is there, the job is as if it had not begun.
    run(tmp_path, make_model(seed=0 if write == 1 else 9), resume=True)
    assert written(tmp_path) == written(job[0])


def test_snapshots_of_another_job_do_not_stay(job, tmp_path):
    shutil.copytree(job[0], tmp_path / "job")
    folder = tmp_path / "job" / "snapshots"
    with pytest.raises(ValueError, match="holds a job already"):
        run(tmp_path / "job")
    shorter = dataclasses.replace(RECIPE, epochs=1)
    run(tmp_path / "job", make_model(seed=5), shorter, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == NAMES[:2]
    # Without snapshots, none of the old ones is left.
    run(tmp_path / "job", recipe=dataclasses.replace(shorter, snapshots=False), overwrite=True)
    assert not list(folder.iterdir())


def test_what_comes_after_the_epoch_that_is_continued_is_removed(tmp_path):
    (tmp_path / "snapshots").mkdir()
    for epoch in (0, 1, 2, 3, 9, 12345):
        (tmp_path / "snapshots" / f"epoch_{epoch:04d}.npz").touch()
    snapshots = Snapshots(tmp_path, epoch=2)
    snapshots.set_model(make_model())
    snapshots.on_epoch_begin(2)
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == NAMES[:3]
    snapshots.on_epoch_end(2)
    snapshots.on_epoch_begin(3)
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == NAMES


def test_of_several_processes_one_writes(tmp_path):
    silent = Snapshots(tmp_path, writes=False)
    silent.set_model(make_model())
    silent.on_epoch_begin(0)
    silent.on_epoch_end(0)
    assert not list(tmp_path.iterdir())


def test_more_than_four_digits(tmp_path):
    (tmp_path / "snapshots").mkdir()
    model = make_model()
    snapshots = Snapshots(tmp_path)
    snapshots.set_model(model)
    for epoch in (9_998, 9_999):
        snapshots.on_epoch_end(epoch)
    with pytest.raises(CheckpointError, match=r"none of epoch 0 in"):
        read_trajectory(tmp_path, model)
    assert (tmp_path / "snapshots" / "epoch_10000.npz").exists()


class TestRefused:
    @pytest.fixture
    def copy(self, job, tmp_path):
        shutil.copytree(job[0], tmp_path / "job")
        return tmp_path / "job"

    def test_no_snapshots(self, tmp_path):
        run(tmp_path / "a", recipe=dataclasses.replace(RECIPE, epochs=1, snapshots=False))
        assert not (tmp_path / "a" / "snapshots").exists()
        for folder in (tmp_path / "a", tmp_path / "none"):
            with pytest.raises(
                CheckpointError, match=rf"snapshots=true keeps them\. Received: {folder}/snapshots$"
            ):
                read_trajectory(folder, make_model())

    def test_a_missing_epoch(self, copy):
        (copy / "snapshots" / NAMES[1]).unlink()
        with pytest.raises(
            CheckpointError, match=rf"is missing\. Received: none of epoch 1 in {copy}/snapshots$"
        ):
            read_trajectory(copy, make_model())

    def test_a_damaged_file(self, copy):
        file = copy / "snapshots" / NAMES[2]
        file.write_bytes(file.read_bytes()[:-50])
        model = make_model()
        before = model.get_weights()
        with pytest.raises(CheckpointError, match=rf"truncated.*Received: .*{NAMES[2]}$"):
            read_trajectory(copy, model)
        # What it had been given by then is not what it keeps.
        for weight, own in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, own)

    def test_another_model(self, job):
        other = make_model(units=4)
        before = other.get_weights()
        with pytest.raises(CheckpointError, match="does not belong to the model"):
            read_trajectory(job[0], other)
        for weight, own in zip(other.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, own)

    def test_another_models_variable(self, job):
        variable = make_model().get_layer("logits").bias
        with pytest.raises(ValueError, match=r"must be the model's\. Received: .*logits/bias$"):
            read_trajectory(job[0], make_model(), [variable])
