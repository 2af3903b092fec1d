import dataclasses
import json

import keras
import numpy as np
import pytest
import sklearn.model_selection

from qrkt_keras import data
from qrkt_keras.training import (
    CheckpointError,
    GANRecipe,
    Recipe,
    TrainingInterrupted,
    cross_validate,
    read_checkpoint,
)

RECIPE = Recipe(epochs=2, batch_size=64, learning_rate=2e-2, seed=3)


def make_model():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10)]
    )


def run(output_dir, make=make_model, recipe=RECIPE, **options):
    options = {"data": "digits", "folds": 3, "progress": False, "jit_compile": False} | options
    return cross_validate(make, options.pop("data"), recipe, output_dir=output_dir, **options)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    return folder, run(folder)


def test_what_is_reported(job):
    folder, result = job
    assert {file.name for file in folder.iterdir()} == {
        "fold_1",
        "fold_2",
        "fold_3",
        "folds.json",
        "folds.png",
    }
    report = json.loads((folder / "folds.json").read_text())
    assert Recipe.from_dict(report["recipe"]) == RECIPE
    assert sum(report["validation_examples"]) == 1293 + 144
    assert set(report["scores"]) == {"validation"}
    accuracies = [fold.scores["validation"].accuracy for fold in result.folds]
    told = report["scores"]["validation"]["accuracy"]
    assert told["folds"] == accuracies and min(accuracies) > 0.7
    mean = sum(accuracies) / 3
    assert told["mean"] == result.mean() == pytest.approx(mean)
    variance = sum((a - mean) ** 2 for a in accuracies) / 2
    assert told["std"] == result.std() == pytest.approx(variance**0.5)


def test_every_example_is_validated_once_and_classes_keep_their_share(monkeypatch, tmp_path):
    from qrkt_keras.training import cross_validation

    seen = []
    fit = cross_validation.fit
    monkeypatch.setattr(
        cross_validation,
        "fit",
        lambda model, splits, *a, **k: seen.append(splits) or fit(model, splits, *a, **k),
    )
    images, labels = data.arrays("digits", "train+validation")
    # Numbered in a corner pixel, to be told apart.
    images = np.arange(len(images), dtype=np.int32)[:, None, None, None] * np.ones(
        (1, 8, 8, 1), np.int32
    )
    split = (images[:1000], labels[:1000]), (images[1000:], labels[1000:])
    run(tmp_path, data=dict(zip(("train", "validation"), split, strict=True)), epochs=1)
    validated = np.concatenate([splits["validation"][0][:, 0, 0, 0] for splits in seen])
    assert np.array_equal(np.sort(validated), np.arange(len(images)))
    splitter = sklearn.model_selection.StratifiedKFold(3, shuffle=True, random_state=3)
    for splits, (train, validation) in zip(seen, splitter.split(images, labels), strict=True):
        assert set(splits) == {"train", "validation"}
        assert np.array_equal(splits["train"][0][:, 0, 0, 0], train)
        assert np.array_equal(splits["validation"][0][:, 0, 0, 0], validation)
        assert np.array_equal(splits["validation"][1], labels[validation])
        shares = np.bincount(splits["validation"][1]) / np.bincount(labels)
        assert shares == pytest.approx(1 / 3, abs=0.01)


def test_folds_begin_with_weights_of_their_own(tmp_path):
    initial = []

    def make():
        model = make_model()
        initial.append(model.get_weights()[0])
        return model

    run(tmp_path / "a", make, epochs=1)
    run(tmp_path / "b", make, epochs=1)
    for number in range(3):
        assert np.array_equal(initial[number], initial[3 + number])
    assert not np.array_equal(initial[0], initial[1])


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_job_continues_bit_for_bit(job, tmp_path, epoch):
    made = []

    def make():
        made.append(make_model())
        if len(made) == 2:
            fit = made[-1].fit
            made[-1].fit = lambda *a, callbacks, **k: fit(
                *a, callbacks=[*callbacks, Stop(epoch)], **k
            )
        return made[-1]

    with pytest.raises(TrainingInterrupted, match=rf"after {epoch} of 2 epochs.*fold_2"):
        run(tmp_path, make)
    assert not (tmp_path / "fold_3").exists() and not (tmp_path / "folds.json").exists()
    result = run(tmp_path, resume=True)
    _, whole = job
    for ours, wanted in zip(result.folds, whole.folds, strict=True):
        assert ours.history == wanted.history and ours.scores == wanted.scores
    assert result.to_scores() == whole.to_scores()
    for number in (1, 2, 3):
        name = f"fold_{number}/checkpoint.npz"
        ours, wanted = (read_checkpoint(folder / name).arrays for folder in (tmp_path, job[0]))
        for array, other in zip(ours.values(), wanted.values(), strict=True):
            assert array.tobytes() == other.tobytes()


def test_the_test_split_is_scored_where_asked(tmp_path):
    result = run(tmp_path, test=True, epochs=1)
    assert set(result.to_scores()) == {"validation", "test"}
    assert all(fold.scores["test"].num_examples == 360 for fold in result.folds)
    assert len(result.values("macro_auc", "test")) == 3


def test_a_fold_is_held_out_whatever_the_recipe_says(tmp_path):
    recipe = dataclasses.replace(
        RECIPE, hold_out=False, monitor="train_loss", stratified=True, snapshots=True
    )
    result = run(tmp_path, recipe=recipe, folds=2)
    held_out = dataclasses.replace(recipe, hold_out=True, monitor="val_loss")
    report = json.loads((tmp_path / "folds.json").read_text())
    assert Recipe.from_dict(report["recipe"]) == held_out
    for number, fold in enumerate(result.folds, start=1):
        assert set(fold.scores) == {"validation"}
        assert fold.best_epoch == 1 + np.argmin(fold.history["val_loss"])
        assert "train_loss" not in fold.history
        snapshots = tmp_path / f"fold_{number}" / "snapshots"
        assert len([*snapshots.iterdir()]) == 3
    again = run(tmp_path, recipe=held_out, folds=2, resume=True)
    assert again.to_scores() == result.to_scores()


def test_another_job_is_refused(job, tmp_path):
    folder, _ = job
    with pytest.raises(ValueError, match=r"holds a job already .*fold_1$"):
        run(folder)
    with pytest.raises(CheckpointError, match="another one"):
        run(folder, resume=True, seed=4)
    with pytest.raises(ValueError, match=r"a job of 2 folds\. Received: .* with fold_3$"):
        run(folder, resume=True, folds=2)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"with thesis\.tex$"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, r"Received: folds=1$"),
        ({"folds": True}, r"Received: folds=True$"),
        ({"data": {"validation": None}}, r"the split train, .*Received: \['validation'\]$"),
        (
            {"data": {"train": (np.zeros((9, 8, 8, 1)), np.arange(9) // 7)}},
            r"Received: folds=3 with 2 examples of class 1$",
        ),
        (
            {"data": {"train": (np.zeros((9, 8, 8, 1)), np.zeros(9, int))}, "test": True},
            r"train and test, .*Received: \['train'\]$",
        ),
        ({"label_names": ["a"]}, r"Received: \['a'\] with data='digits'$"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "job", **options)
    assert not (tmp_path / "job").exists()


def test_a_recipe_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"Received: recipe=GANRecipe"):
        run(tmp_path / "job", recipe=GANRecipe(epochs=1))


def test_the_same_model_again_is_refused(tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match=r"Received: 'sequential.*' again, for fold 2$"):
        run(tmp_path, lambda: model, epochs=1)


def test_the_command_and_how_the_data_is_read(tmp_path):
    def make():
        layers = keras.layers
        return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(10)])

    run(
        tmp_path,
        make,
        folds=2,
        epochs=1,
        data_options={"image_size": [4, 4]},
        command="qrkt train --folds 2",
    )
    assert json.loads((tmp_path / "folds.json").read_text())["command"] == "qrkt train --folds 2"


def test_many_models_in_one_process_are_no_mistake(tmp_path, caplog):
    run(tmp_path, folds=8, epochs=1)
    assert "retracing" not in caplog.text
