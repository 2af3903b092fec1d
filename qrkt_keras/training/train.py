"""Training a classifier, from data to report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.training import strategies
from qrkt_keras.training.checkpoints import TrainingCheckpoint
from qrkt_keras.training.evaluation import ValidationScores, make_predictor
from qrkt_keras.training.job import (
    CHECKPOINT,
    fingerprint,
    prepared_folder,
    run,
    steps_per_execution,
    without_nan,
    write_json,
)
from qrkt_keras.training.metrics import Scores, classification_scores, probabilities_from_logits
from qrkt_keras.training.recipes import Recipe
from qrkt_keras.training.reports import confusion_picture, history_picture

if TYPE_CHECKING:
    import tensorflow as tf

REPORTS = ("history.json", "scores.json", "history.png", "confusion.png")

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What `fit` leaves behind.

    Attributes:
        scores: Split name (`"validation"`, and `"test"` if there is one) to the scores of the
            best epoch's weights.
        history: Log name to its value in each epoch.
        best_epoch: The epoch whose weights the model has now, counted from 1.
        epochs: Epochs trained.
        seconds: Time used for training, over all runs of the job.
        output_dir: Where the checkpoint and the reports are.
    """

    scores: Mapping[str, Scores]
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    epochs: int
    seconds: float
    output_dir: Path

    def to_scores(self) -> dict[str, Any]:
        """The scores as JSON."""
        return {split: scores.to_dict() for split, scores in self.scores.items()}


def fit(
    model: keras.Model,
    data: str | Mapping[str, Arrays],
    recipe: Recipe,
    *,
    output_dir: str | os.PathLike[str],
    resume: bool = False,
    overwrite: bool = False,
    seed: int | None = None,
    epochs: int | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
    label_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    jit_compile: bool | str = "auto",
    strategy: tf.distribute.Strategy | None = None,
) -> TrainingResult:
    """Trains a classifier and reports on it.

    The model is compiled with cross-entropy and the recipe's optimizer, trained on batches whose
    order is a function of seed and epoch, and scored on the validation split after every epoch. A
    checkpoint is written after every epoch. At the end the model has the best epoch's weights,
    and `output_dir` the checkpoint, `history.json`, `scores.json`, `history.png` and
    `confusion.png`.

    A job that was killed or interrupted is continued by the same call with `resume=True`, in the
    same environment bit for bit. Callbacks of your own are called, but their state is not saved.
    For the same result from the start, call `keras.utils.set_random_seed` before you build the
    model.

    Args:
        model: A built model from uint8 images `(B, height, width, channels)` to logits
            `(B, num_classes)`.
        data: The name of a data set (`data.list()`), or split name to images and labels:
            `"train"`, `"validation"` and, if there is one, `"test"`.
        recipe: How to train.
        output_dir: A folder for this job alone; it is made if need be.
        resume: Whether to continue the job in `output_dir`, if there is one.
        overwrite: Whether to replace the job in `output_dir`.
        seed: Seed of the order of the examples, in place of the recipe's.
        epochs: Number of epochs, in place of the recipe's.
        callbacks: More Keras callbacks.
        progress: Whether to show how far it is.
        identity: JSON data that must be the same when the job is continued, such as the preset's
            name and the model's configuration; recipe and data always are.
        label_names: The classes' names, when `data` is not a data set's name.
        data_dir: Where the data set is; see `data.arrays`.
        jit_compile: Whether to compile the training step with XLA. `"auto"` leaves it to Keras,
            which does so on accelerators only, and where the model allows it.
        strategy: What `make_strategy` returned, under whose `scope` the model was built. Each
            replica takes its part of every batch; at dropout 0 the result is that of one device, up
            to float error. Of several workers the chief writes the files; all return the result.

    Returns:
        The scores and the history.

    Raises:
        TypeError: If the recipe is not a `Recipe`.
        ValueError: If an argument does not fit the others.
        CheckpointError: If the job in `output_dir` is damaged or is another one.
        DatasetNotFoundError: If the data set cannot be found.
        TrainingInterrupted: On an interrupt (ctrl-C), with the way to continue.
        FloatingPointError: If the loss, an output or a weight stops being a number; the last good
            epoch's checkpoint stays.
        WorkerLostError: If another worker is gone, or the chief has refused the job.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe. Received: recipe={recipe!r}")
    changes = {"seed": seed, "epochs": epochs}
    recipe = dataclasses.replace(
        recipe, **{name: value for name, value in changes.items() if value is not None}
    )
    splits, names = _splits(data, label_names, data_dir)
    steps = datasets.steps_per_epoch(len(splits["train"][1]), recipe.batch_size)
    if not model.built:
        raise ValueError(
            f"The model must be built: call it once, or build it. Received: {model.name!r}"
        )
    strategies.check_job(model, strategy, batch_size=recipe.batch_size, jit_compile=jit_compile)
    folder, is_chief = Path(output_dir), strategies.is_chief(strategy)
    strategies.chief_first(
        strategy,
        lambda: prepared_folder(folder, REPORTS, resume=resume, overwrite=overwrite),
    )

    with strategies.scope(strategy):
        model.compile(
            optimizer=recipe.make_optimizer(steps * recipe.epochs),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            steps_per_execution=strategies.steps_at_once(strategy, steps_per_execution(steps)),
            jit_compile=jit_compile,
        )
        # Variables made while the training step is traced would have it traced twice.
        model.optimizer.build(model.trainable_variables)
    if strategy is not None:
        strategies.reduce_before_clipping(model.optimizer)
    predict = make_predictor(model, min(256, len(splits["validation"][1])))
    _check_outputs(predict(splits["validation"][0]), names)

    checkpoint = TrainingCheckpoint(
        folder / CHECKPOINT,
        identity={
            "recipe": recipe.to_dict(),
            "data": {
                "name": data if isinstance(data, str) else None,
                "sha256": fingerprint(splits["train"], splits["validation"]),
            },
            **(identity or {}),
        },
        monitor=recipe.monitor,
        num_replicas=strategies.num_replicas(strategy),
        writes=is_chief,
    )
    start = checkpoint.restore(model) if resume and checkpoint.path.exists() else 0
    strategies.check_epoch(strategy, start, checkpoint.path)
    run(
        model,
        splits["train"],
        checkpoint,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        start=start,
        epochs=recipe.epochs,
        before=[ValidationScores(predict, *splits["validation"]), *callbacks],
        progress=progress,
        strategy=strategy,
    )
    checkpoint.restore_best(model)
    scores = {
        split: classification_scores(labels, probabilities_from_logits(predict(images)))
        for split, (images, labels) in splits.items()
        if split != "train"
    }
    result = TrainingResult(
        scores=scores,
        history={name: tuple(values) for name, values in checkpoint.history.items()},
        best_epoch=checkpoint.best_epoch or checkpoint.epoch,
        epochs=checkpoint.epoch,
        seconds=checkpoint.seconds,
        output_dir=folder,
    )
    strategies.chief_first(strategy, lambda: _report(result, recipe, names))
    return result


def _splits(
    data: str | Mapping[str, Arrays],
    label_names: Sequence[str] | None,
    data_dir: str | os.PathLike[str] | None,
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """The arrays of each split, checked, and the classes' names."""
    if isinstance(data, str):
        if label_names is not None:
            raise ValueError(
                f"label_names belong to a data set. Received: {label_names} with data={data!r}"
            )
        splits = {
            split: datasets.arrays(data, split, data_dir=data_dir)
            for split in ("train", "validation", "test")
        }
        return splits, datasets.info(data).label_names
    if not {"train", "validation"} <= set(data) <= {"train", "validation", "test"}:
        raise ValueError(
            "data must have the splits train and validation, and may have test. "
            f"Received: {sorted(data)}"
        )
    splits = {}
    for split in ("train", "validation", "test"):
        if split not in data:
            continue
        images, labels = (np.asarray(part) for part in data[split])
        if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(
                f"The {split} split must be images (n, height, width, channels) and labels (n,). "
                f"Received: shapes {images.shape} and {labels.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"The {split} split's labels must be integers from 0 on. "
                f"Received: dtype {labels.dtype}, least {labels.min()}"
            )
        splits[split] = images, labels.astype(np.int32)
    num_classes = 1 + max(int(labels.max()) for _, labels in splits.values())
    if label_names is None:
        label_names = [str(label) for label in range(num_classes)]
    if len(label_names) < num_classes:
        raise ValueError(
            f"label_names must name the {num_classes} classes. Received: {list(label_names)}"
        )
    return splits, tuple(label_names)


def _check_outputs(outputs: np.ndarray, names: Sequence[str]) -> None:
    if outputs.ndim != 2 or outputs.shape[1] != len(names):
        raise ValueError(
            f"The model must return logits (B, {len(names)}), one for each class. "
            f"Received: shape (B, {', '.join(map(str, outputs.shape[1:]))})"
        )
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "The model must return logits, before any softmax. "
            f"Received: rows that sum to 1, such as {outputs[0].tolist()}"
        )


def _report(result: TrainingResult, recipe: Recipe, names: Sequence[str]) -> None:
    folder = result.output_dir
    write_json(
        folder / "history.json",
        {
            "recipe": recipe.to_dict(),
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 1),
            "history": {name: without_nan(values) for name, values in result.history.items()},
        },
    )
    write_json(folder / "scores.json", result.to_scores())
    split = "test" if "test" in result.scores else "validation"
    scores = result.scores[split]
    history_picture(result.history, folder / "history.png", best_epoch=result.best_epoch)
    confusion_picture(
        scores.confusion,
        folder / "confusion.png",
        label_names=names,
        title=f"{split}: {scores.accuracy:.1%} of {scores.num_examples} right",
    )
