"""Training a classifier on every fold of its data."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from qrkt_keras import data as datasets
from qrkt_keras.training.job import several_models, without_nan, write_json
from qrkt_keras.training.recipes import Recipe
from qrkt_keras.training.reports import folds_picture
from qrkt_keras.training.train import Arrays, TrainingResult, fit, joined

MEASURES = ("accuracy", "macro_f1", "macro_auc", "loss")

_OURS = re.compile(r"fold_(?P<number>\d+)|folds\.(json|png)|\..*")


@dataclasses.dataclass(frozen=True)
class CrossValidationResult:
    """What `cross_validate` leaves behind.

    Attributes:
        folds: What `fit` returned for each fold.
        output_dir: Where the folds' folders and the reports are.
    """

    folds: tuple[TrainingResult, ...]
    output_dir: Path

    def values(self, measure: str = "accuracy", split: str = "validation") -> tuple[float, ...]:
        """A measure of `Scores` in each fold."""
        return tuple(getattr(fold.scores[split], measure) for fold in self.folds)

    def mean(self, measure: str = "accuracy", split: str = "validation") -> float:
        """Its mean over the folds."""
        return float(np.mean(self.values(measure, split)))

    def std(self, measure: str = "accuracy", split: str = "validation") -> float:
        """Its standard deviation over the folds, with one degree of freedom taken by the mean."""
        return float(np.std(self.values(measure, split), ddof=1))

    def to_scores(self) -> dict[str, Any]:
        """The scores as JSON: split and measure to mean, standard deviation and all folds."""
        return {
            split: {measure: self._summary(measure, split) for measure in MEASURES}
            for split in self.folds[0].scores
        }

    def _summary(self, measure: str, split: str) -> dict[str, Any]:
        mean, std = without_nan((self.mean(measure, split), self.std(measure, split)))
        return {"mean": mean, "std": std, "folds": without_nan(self.values(measure, split))}


@several_models()
def cross_validate(
    make_model: Callable[[], keras.Model],
    data: str | Mapping[str, Arrays],
    recipe: Recipe,
    *,
    folds: int = 5,
    output_dir: str | os.PathLike[str],
    resume: bool = False,
    overwrite: bool = False,
    seed: int | None = None,
    epochs: int | None = None,
    test: bool = False,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
    label_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    data_options: Mapping[str, Any] | None = None,
    command: str | None = None,
    tensorboard: bool = False,
    jit_compile: bool | str = "auto",
    until: int | None = None,
) -> CrossValidationResult:
    """Trains a classifier once for every fold of its data, and reports mean and spread.

    Training and validation split together are dealt into stratified folds, by scikit-learn's
    `StratifiedKFold` with the recipe's seed. Fold `k` validates on the `k`-th of them and trains on
    the others, as a job of `fit` in `output_dir/fold_k`. At the end `output_dir` has `folds.json`
    and `folds.png`. Since a fold's validation examples choose its best epoch, their scores are a
    little too good; the test split is not touched unless `test` says so.

    A job that was killed or interrupted is continued by the same call with `resume=True`, wherever
    it was, in the same environment bit for bit.

    Args:
        make_model: Returns a new, built model. Before each call Keras' seed is set, to the
            recipe's plus the number of folds before, so that each fold has weights of its own.
        data: The name of a data set or its path, see `data.arrays`, or split name to examples and
            labels: `"train"` and, if there are such, `"validation"` and `"test"`.
        recipe: How to train. A fold is always held out, and chooses the best epoch by `val_...`
            where the recipe has `train_...`.
        folds: Their number, at least 2.
        output_dir: A folder for this job alone; it is made if need be.
        resume: Whether to continue the job in `output_dir`, if there is one.
        overwrite: Whether to replace the job in `output_dir`.
        seed: Seed of the folds, the weights and the order of the examples, in place of the
            recipe's.
        epochs: Number of epochs, in place of the recipe's.
        test: Whether every fold's model is scored on the test split too.
        callbacks: More Keras callbacks, the same ones for every fold.
        command: The command that did it; recorded in `folds.json` as given.
        progress, identity, label_names, data_dir, data_options, tensorboard, jit_compile, until: As
            for `fit`, of every fold.

    Returns:
        The folds' results, with mean and standard deviation.

    Raises:
        TypeError: If the recipe is not a `Recipe`.
        ValueError: If an argument does not fit the others, a class has fewer examples than there
            are folds, or `make_model` returns the same model again.
        CheckpointError: If the job in `output_dir` is damaged or is another one.
        TrainingInterrupted: On an interrupt (ctrl-C), with the way to continue.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe. Received: recipe={recipe!r}")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ValueError(f"folds must be an integer of at least 2. Received: folds={folds!r}")
    recipe = recipe.with_given(seed=seed, epochs=epochs)
    if not recipe.hold_out:
        monitor = recipe.monitor.replace("train_", "val_", 1)
        recipe = dataclasses.replace(recipe, hold_out=True, monitor=monitor)
    reading = {"data_dir": data_dir, **(data_options or {})}
    (examples, labels), tested = _pooled(data, reading, test)
    if isinstance(data, str):
        if label_names is not None:
            raise ValueError(
                f"label_names belong to a data set. Received: {label_names} with data={data!r}"
            )
        label_names = datasets.info(data, **reading).label_names
    parts = _stratified_folds(labels, folds, recipe.seed)
    folder = _checked_folder(Path(output_dir), folds)

    results, models = [], []
    for number, (train, validation) in enumerate(parts, start=1):
        keras.utils.set_random_seed(recipe.seed + number - 1)
        models.append(make_model())
        if any(model is models[-1] for model in models[:-1]):
            raise ValueError(
                "make_model must return a new model at each call. "
                f"Received: {models[-1].name!r} again, for fold {number}"
            )
        if progress:
            Console().print(f"fold {number} of {folds}", highlight=False)
        results.append(
            fit(
                models[-1],
                {
                    "train": (examples[train], labels[train]),
                    "validation": (examples[validation], labels[validation]),
                    **tested,
                },
                recipe,
                output_dir=folder / f"fold_{number}",
                resume=resume,
                overwrite=overwrite,
                callbacks=callbacks,
                progress=progress,
                identity=identity,
                label_names=label_names,
                tensorboard=tensorboard,
                jit_compile=jit_compile,
                until=until,
            )
        )
    result = CrossValidationResult(tuple(results), folder)
    write_json(
        folder / "folds.json",
        {
            "recipe": recipe.to_dict(),
            "folds": folds,
            "validation_examples": [len(validation) for _, validation in parts],
            "epochs": [fold.epochs for fold in results],
            "best_epochs": [fold.best_epoch for fold in results],
            "scores": result.to_scores(),
            "command": command,
        },
    )
    split = "test" if test else "validation"
    folds_picture(
        {measure: result.values(measure, split) for measure in MEASURES[:3]},
        folder / "folds.png",
        title=f"{split} scores of {folds} folds",
    )
    return result


def _pooled(
    data: str | Mapping[str, Arrays], reading: Mapping[str, Any], test: bool
) -> tuple[Arrays, dict[str, Arrays]]:
    """The examples to deal into folds, and the test split by its name if it is wanted."""
    if isinstance(data, str):
        pool = datasets.arrays(data, "train+validation", **reading)
        return pool, {"test": datasets.arrays(data, "test", **reading)} if test else {}
    needed, known = {"train", *(["test"] if test else [])}, {"train", "validation", "test"}
    if not needed <= set(data) <= known:
        raise ValueError(
            f"data must have the split train{' and test' * test}, and may have validation. "
            f"Received: {sorted(data)}"
        )
    pool = joined(data[split] for split in ("train", "validation") if split in data)
    return pool, {"test": data["test"]} if test else {}


def _stratified_folds(
    labels: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of the training and of the validation examples, fold by fold."""
    from sklearn.model_selection import StratifiedKFold

    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise ValueError(
            "Every class must have an example for each fold. Received: "
            f"folds={folds} with {counts.min()} examples of class {classes[counts.argmin()]}"
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def _checked_folder(folder: Path, folds: int) -> Path:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir must be a folder. Received: output_dir={folder}")
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        match = _OURS.fullmatch(file.name)
        if match is None or int(match["number"] or 0) > folds:
            raise ValueError(
                f"output_dir must be empty or hold a job of {folds} folds. "
                f"Received: output_dir={folder} with {file.name}"
            )
    return folder
