"""Training a classifier, from data to report."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.training import strategies
from qrkt_keras.training.augmentation import augmented_batches
from qrkt_keras.training.averaging import AveragedWeights
from qrkt_keras.training.checkpoints import TrainingCheckpoint
from qrkt_keras.training.evaluation import EpochScores, make_predictor
from qrkt_keras.training.job import (
    CHECKPOINT,
    fingerprint,
    is_stopped,
    paused_at,
    prepared_folder,
    run,
    steps_per_execution,
    without_nan,
    write_json,
)
from qrkt_keras.training.metrics import Scores, classification_scores, probabilities_from_logits
from qrkt_keras.training.recipes import Recipe
from qrkt_keras.training.reports import confusion_picture, history_picture, roc_picture
from qrkt_keras.training.schedules import Plateau, WarmUp, plateau_factor
from qrkt_keras.training.snapshots import SNAPSHOTS, Snapshots
from qrkt_keras.training.summaries import EVENT_FILES, HistorySummaries, Summaries

if TYPE_CHECKING:
    import tensorflow as tf

PICTURES = ("history.png", "confusion.png", "roc.png")
LOGS = "logs"
REPORTS = (
    "history.json",
    "scores.json",
    *PICTURES,
    f"{LOGS}/{EVENT_FILES}",
    f"{SNAPSHOTS}/*.npz",
)

# What a job sees of its data, and how the logs of a split begin.
_SEEN = ("train", "validation")
_PREFIXES = {"train": "train", "validation": "val"}
# Examples that are scored at once, at least.
_EVALUATION_BATCH = 256

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What `fit` leaves behind.

    Attributes:
        scores: Split name (`"validation"`, or `"train"` where nothing is held out, and `"test"` if
            there is one) to the scores of the best epoch's weights.
        history: Log name to its value in each epoch.
        best_epoch: The epoch whose weights the model has now, counted from 1.
        epochs: Epochs trained.
        seconds: Time used for training, over all runs of the job.
        seconds_per_step: Time of a training step: the median of the epochs' means, without the
            first, in which the step is compiled, if there are others. NaN where a checkpoint of
            an earlier version does not tell.
        output_dir: Where the checkpoint and the reports are.
    """

    scores: Mapping[str, Scores]
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    epochs: int
    seconds: float
    seconds_per_step: float
    output_dir: Path

    def to_scores(self) -> dict[str, Any]:
        """The scores as JSON."""
        return {split: scores.to_dict() for split, scores in self.scores.items()}


class LearningRateLog(keras.callbacks.Callback):
    """Adds `learning_rate` to the logs: that of the epoch's last step.

    Keras' own `optimizer.learning_rate` is by then that of the next epoch's first.
    """

    def __init__(self, schedule: float | keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__()
        self._schedule = schedule

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        schedule, last = self._schedule, self.model.optimizer.iterations - 1
        logs["learning_rate"] = float(schedule(last) if callable(schedule) else schedule)


class HistoryDecisions(keras.callbacks.Callback):
    """Lowers the learning rate on a plateau and stops early, as the recipe says.

    Both are functions of the checkpoint's history, so that a continued job decides as an
    undisturbed one. It must be called after the checkpoint.
    """

    def __init__(self, checkpoint: TrainingCheckpoint, recipe: Recipe, plateau: Plateau | None):
        super().__init__()
        self._checkpoint = checkpoint
        self._recipe = recipe
        self._plateau = plateau

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._decide()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._decide()

    @property
    def stopped(self) -> bool:
        """Whether training is over before its last epoch."""
        checkpoint, recipe = self._checkpoint, self._recipe
        return is_stopped(checkpoint.epoch, checkpoint.best_epoch, recipe.early_stopping_patience)

    def _decide(self) -> None:
        checkpoint, recipe = self._checkpoint, self._recipe
        if self.stopped:
            self.model.stop_training = True
        if self._plateau is not None:
            factor = plateau_factor(
                checkpoint.history.get(recipe.monitor, ()),
                patience=recipe.schedule_value("plateau_patience"),
                factor=recipe.schedule_value("decay_rate"),
                least=recipe.schedule_value("min_learning_rate") / recipe.learning_rate,
                mode=checkpoint.mode,
            )
            self._plateau.factor.assign(factor)


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
    data_options: Mapping[str, Any] | None = None,
    tensorboard: bool = False,
    jit_compile: bool | str = "auto",
    strategy: tf.distribute.Strategy | None = None,
    until: int | None = None,
) -> TrainingResult:
    """Trains a classifier and reports on it.

    The model is compiled with the recipe's loss and optimizer, trained on batches whose order and
    augmentation are functions of seed and epoch, and scored on the validation split after every
    epoch, or, where the recipe says `hold_out=False`, on all training examples. A checkpoint is
    written after every epoch. At the end the model has the best epoch's weights, and `output_dir`
    the checkpoint, `history.json`, `scores.json`, `history.png`, `confusion.png` and `roc.png`, and
    `snapshots/` where the recipe says so. `history.json` has `seconds_per_step` too, what a step
    took without validation and checkpoints.

    A job that was killed or interrupted is continued by the same call with `resume=True`, in the
    same environment bit for bit. Callbacks of your own are called, but their state is not saved.
    For the same result from the start, call `keras.utils.set_random_seed` before you build the
    model.

    Args:
        model: A built model from examples, such as uint8 images `(B, height, width, channels)` or
            token ids `(B, length)`, to logits `(B, num_classes)`. A model of texts, which has
            `vectorize`, takes its vocabulary from the training texts unless it has one.
        data: The name of a data set or its path, see `data.arrays`, or split name to examples and
            labels: `"train"`, `"validation"` and, if there is one, `"test"`. With
            `hold_out=False` the first two are joined.
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
        data_options: How it is read, such as `text_column`; see `data.arrays`.
        tensorboard: Whether every epoch's logs, and the pictures at the end, are written for
            TensorBoard too, into `output_dir/logs`.
        jit_compile: Whether to compile the training step with XLA. `"auto"` leaves it to Keras,
            which does so on accelerators only, and where the model allows it.
        strategy: What `make_strategy` returned, under whose `scope` the model was built. Each
            replica takes its part of every batch; at dropout 0 the result is that of one device, up
            to float error. Of several workers the chief writes the files; all return the result.
        until: Epochs after which the job pauses, with the reports of what is done; the same call
            with `resume=True` and more of them, or none, goes on as if it had never paused.

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
        WorkerLostError: If another worker is gone, or the chief could not go on.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe. Received: recipe={recipe!r}")
    recipe = recipe.with_given(seed=seed, epochs=epochs)
    paused_at(recipe.epochs, until)  # what is wrong is said before anything is read
    takes_texts = hasattr(model, "vectorize")
    if recipe.stratified and takes_texts:
        raise ValueError(
            "Batches of texts are of like length, and so not stratified. "
            f"Received: stratified=True with the model {model.name!r}"
        )
    reading = {"data_dir": data_dir, **(data_options or {})}
    splits, names = _splits(data, label_names, reading, takes_texts=takes_texts)
    evaluated = "validation"
    if not recipe.hold_out:
        evaluated, splits = "train", _held_in(splits)
    lengths = None
    if takes_texts:
        splits = _vectorized(model, splits)
        lengths = np.count_nonzero(splits["train"][0], axis=1)
    shape = splits["train"][0].shape
    if recipe.augment is not None and len(shape) != 4:
        raise ValueError(
            "augment is for images (n, height, width, channels). "
            f"Received: {recipe.augment} with examples of shape {shape}"
        )
    steps = datasets.steps_per_epoch(len(splits["train"][1]), recipe.batch_size)
    if not model.built:
        raise ValueError(
            f"The model must be built: call it once, or build it. Received: {model.name!r}"
        )
    strategies.check_job(model, strategy, batch_size=recipe.batch_size, jit_compile=jit_compile)
    total_steps = steps * recipe.epochs
    # Its variable, if it has one, is every replica's.
    with strategies.scope(strategy):
        schedule = recipe.learning_rate_schedule(total_steps)
    # A step holds its gradient too, so four of its batches fit; large ones are faster.
    batch = max(_EVALUATION_BATCH, 4 * recipe.batch_size)
    predict = make_predictor(model, min(batch, len(splits[evaluated][1])))
    names = _checked_names(predict(splits[evaluated][0][:_EVALUATION_BATCH]), splits, names)
    if recipe.loss == "sigmoid":
        _check_two_logits(model, num_classes=len(names))
    folder, is_chief = Path(output_dir), strategies.is_chief(strategy)
    # Not before: what is refused must not cost what is there.
    strategies.chief_first(
        strategy,
        lambda: prepared_folder(folder, REPORTS, resume=resume, overwrite=overwrite),
    )

    metrics = keras.metrics
    accuracy = (
        metrics.CategoricalAccuracy if recipe.has_soft_labels else metrics.SparseCategoricalAccuracy
    )
    with strategies.scope(strategy):
        model.compile(
            optimizer=recipe.make_optimizer(total_steps, schedule),
            loss=recipe.make_loss(),
            metrics=[accuracy(name="accuracy")],
            steps_per_execution=strategies.steps_at_once(
                strategy,
                steps_per_execution(steps, recipe.batch_size),
                widths_vary=lengths is not None,
            ),
            jit_compile=jit_compile,
        )
        # Variables made while the training step is traced would have it traced twice.
        model.optimizer.build(model.trainable_variables)
    if strategy is not None:
        strategies.reduce_before_clipping(model.optimizer)
    if recipe.loss == "sigmoid":
        _hold_first_logit(model.layers[-1])

    checkpoint = TrainingCheckpoint(
        folder / CHECKPOINT,
        identity={
            "recipe": recipe.to_dict(),
            "data": {
                "name": data if isinstance(data, str) else None,
                "sha256": fingerprint(*(splits[name] for name in _SEEN if name in splits)),
            },
            **(identity or {}),
        },
        monitor=recipe.monitor,
        # Fields that recipes had not when the job began have their defaults.
        upgrade=lambda saved: {**saved, "recipe": Recipe.from_dict(saved["recipe"]).to_dict()},
        num_replicas=strategies.num_replicas(strategy),
        writes=is_chief,
    )
    start = checkpoint.restore(model) if resume and checkpoint.path.exists() else 0
    strategies.check_epoch(strategy, start, checkpoint.path)
    after = []
    summaries = Summaries(folder / LOGS) if tensorboard and is_chief else None
    if summaries is not None:
        after.append(HistorySummaries(summaries, checkpoint.history))
    decisions = HistoryDecisions(checkpoint, recipe, _plateau_of(schedule))
    if not decisions.stopped:
        run(
            model,
            splits["train"],
            checkpoint,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            start=start,
            epochs=paused_at(recipe.epochs, until),
            before=[
                *([] if recipe.ema is None else [AveragedWeights(exchanged=start > 0)]),
                EpochScores(predict, *splits[evaluated], prefix=_PREFIXES[evaluated]),
                LearningRateLog(schedule),
                *([Snapshots(folder, epoch=start, writes=is_chief)] if recipe.snapshots else []),
                *callbacks,
            ],
            after=[decisions, *after],
            lengths=lengths,
            stratified=recipe.stratified,
            prepare=lambda batches: _prepared(
                batches, recipe, num_classes=len(names), first_step=start * steps
            ),
            progress=progress,
            strategy=strategy,
        )
    if recipe.ema is not None and not strategies.is_multiworker(strategy):
        # At its end, Keras' `fit` takes the weights for the average.
        checkpoint.restore(model)
    checkpoint.restore_best(model)
    probabilities = {
        split: probabilities_from_logits(predict(examples))
        for split, (examples, _) in splits.items()
        if split in (evaluated, "test")
    }
    scores = {
        split: classification_scores(splits[split][1], predicted)
        for split, predicted in probabilities.items()
    }
    result = TrainingResult(
        scores=scores,
        history={name: tuple(values) for name, values in checkpoint.history.items()},
        best_epoch=checkpoint.best_epoch or checkpoint.epoch,
        epochs=checkpoint.epoch,
        seconds=checkpoint.seconds,
        seconds_per_step=_seconds_per_step(checkpoint),
        output_dir=folder,
    )
    split = "test" if "test" in splits else evaluated

    def write() -> None:
        _report(result, recipe, names)
        _draw(result, splits[split][1], probabilities[split], split, names)
        if summaries is not None:
            _write_pictures(summaries, folder, result.epochs)

    strategies.chief_first(strategy, write)
    return result


def _splits(
    data: str | Mapping[str, Arrays],
    label_names: Sequence[str] | None,
    reading: Mapping[str, Any],
    *,
    takes_texts: bool,
) -> tuple[dict[str, Arrays], Sequence[str] | None]:
    """The arrays of each split, checked, and the classes' names if they have some."""
    if isinstance(data, str):
        if label_names is not None:
            raise ValueError(
                f"label_names belong to a data set. Received: {label_names} with data={data!r}"
            )
        splits = {
            split: datasets.arrays(data, split, **reading)
            for split in ("train", "validation", "test")
        }
        return splits, datasets.info(data, **reading).label_names
    if not {"train", "validation"} <= set(data) <= {"train", "validation", "test"}:
        raise ValueError(
            "data must have the splits train and validation, and may have test. "
            f"Received: {sorted(data)}"
        )
    splits = {}
    for split in ("train", "validation", "test"):
        if split not in data:
            continue
        examples, labels = (np.asarray(part) for part in data[split])
        if not examples.ndim or labels.shape != examples.shape[:1] or not len(labels):
            raise ValueError(
                f"The {split} split must be examples (n, ...) and labels (n,). "
                f"Received: shapes {examples.shape} and {labels.shape}"
            )
        if not takes_texts and not np.issubdtype(examples.dtype, np.number):
            raise ValueError(
                f"The {split} split's examples must be numbers, such as pixels or token ids. "
                f"Received: dtype {examples.dtype}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"The {split} split's labels must be integers from 0 on. "
                f"Received: dtype {labels.dtype}, least {labels.min()}"
            )
        splits[split] = examples, labels.astype(np.int32)
    shapes = {examples.shape[1:] for examples, _ in splits.values()}
    if len(shapes) > 1:
        raise ValueError(
            "The examples of all splits must have one shape. "
            f"Received: shapes {', '.join(str(e.shape) for e, _ in splits.values())}"
        )
    num_classes = 1 + max(int(labels.max()) for _, labels in splits.values())
    if label_names is not None and len(label_names) < num_classes:
        raise ValueError(
            f"label_names must name the {num_classes} classes. Received: {list(label_names)}"
        )
    return splits, label_names


def joined(splits: Iterable[Arrays]) -> Arrays:
    """Examples and labels of several splits, one after the other."""
    examples, labels = zip(*splits, strict=True)
    return np.concatenate(examples), np.concatenate(labels)


def _held_in(splits: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """The splits, with nothing held out of training."""
    others = {name: splits[name] for name in splits if name not in _SEEN}
    return {"train": joined(splits[name] for name in _SEEN), **others}


def _vectorized(model: keras.Model, splits: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Texts as numbers of their words; the vocabulary is that of the training texts."""
    if model.vocabulary is None:
        model.adapt(splits["train"][0])
    return {split: (model.vectorize(texts), labels) for split, (texts, labels) in splits.items()}


def _checked_names(
    outputs: np.ndarray, splits: Mapping[str, Arrays], names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes' names, after a check that the model's outputs go with them and the labels."""
    if outputs.ndim != 2 or (names is not None and outputs.shape[1] != len(names)):
        wanted = "num_classes" if names is None else len(names)
        raise ValueError(
            f"The model must return logits (B, {wanted}), one for each class. "
            f"Received: shape (B, {', '.join(map(str, outputs.shape[1:]))})"
        )
    num_classes = outputs.shape[1]
    for split, (_, labels) in splits.items():
        # Compiled by XLA, the loss would take such a label for some other without a word.
        if (wrong := labels >= num_classes).any():
            example = int(wrong.argmax())
            raise ValueError(
                f"The {split} split's labels must be 0 to {num_classes - 1}, as the model has "
                f"{num_classes} outputs. Received: label {labels[example]} of example {example}"
            )
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "The model must return logits, before any softmax. "
            f"Received: rows that sum to 1, such as {outputs[0].tolist()}"
        )
    return tuple(map(str, range(num_classes)) if names is None else names)


def _check_two_logits(model: keras.Model, *, num_classes: int) -> None:
    last = model.layers[-1]
    if num_classes != 2 or not isinstance(last, keras.layers.Dense):
        raise ValueError(
            "The loss 'sigmoid' is for models of two classes that end in a Dense layer. "
            f"Received: {num_classes} classes and {type(last).__name__}"
        )


def _hold_first_logit(logits: keras.layers.Dense) -> None:
    """Makes the logits `(0, z1 - z0)`: of the same softmax, and no step moves the 0."""
    for weight in logits.weights:
        weight.assign(keras.ops.matmul(weight, np.array([[0, -1], [0, 1]], weight.dtype)))


def _plateau_of(schedule: Any) -> Plateau | None:
    schedule = schedule.schedule if isinstance(schedule, WarmUp) else schedule
    return schedule if isinstance(schedule, Plateau) else None


def _prepared(
    batches: tf.data.Dataset, recipe: Recipe, *, num_classes: int, first_step: int
) -> tf.data.Dataset:
    """Batches with the labels that the loss takes, and augmented."""
    import tensorflow as tf

    if recipe.has_soft_labels:
        batches = batches.map(lambda examples, labels: (examples, tf.one_hot(labels, num_classes)))
    if recipe.augment is not None:
        batches = augmented_batches(
            batches, recipe.augment, seed=recipe.seed, first_step=first_step
        )
    return batches


def _report(result: TrainingResult, recipe: Recipe, names: Sequence[str]) -> None:
    folder = result.output_dir
    write_json(
        folder / "history.json",
        {
            "recipe": recipe.to_dict(),
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 1),
            "seconds_per_step": without_nan([result.seconds_per_step])[0],
            "history": {name: without_nan(values) for name, values in result.history.items()},
        },
    )
    write_json(folder / "scores.json", result.to_scores())


def _draw(
    result: TrainingResult,
    labels: np.ndarray,
    probabilities: np.ndarray,
    split: str,
    names: Sequence[str],
) -> None:
    folder, scores = result.output_dir, result.scores[split]
    history_picture(result.history, folder / "history.png", best_epoch=result.best_epoch)
    confusion_picture(
        scores.confusion,
        folder / "confusion.png",
        label_names=names,
        title=f"{split}: {scores.accuracy:.1%} of {scores.num_examples} right",
    )
    roc_picture(
        labels,
        probabilities,
        folder / "roc.png",
        label_names=names,
        title=f"{split}: {scores.num_examples} examples",
    )


def _write_pictures(summaries: Summaries, folder: Path, epoch: int) -> None:
    from PIL import Image

    pictures = {}
    for name in PICTURES:
        with Image.open(folder / name) as picture:
            pictures[Path(name).stem] = np.asarray(picture.convert("RGB"))
    summaries.write(epoch, images=pictures)
    summaries.close()


def _seconds_per_step(checkpoint: TrainingCheckpoint) -> float:
    times = checkpoint.seconds_per_step
    return float(np.median(times[1:] or times)) if times else math.nan
