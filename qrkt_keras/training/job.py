"""What all training jobs have in common: folder, identity, Keras' `fit`, reports as JSON."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.training import strategies
from qrkt_keras.training.checkpoints import (
    CheckpointError,
    TrainingCheckpoint,
    read_checkpoint,
)
from qrkt_keras.training.files import atomic_write
from qrkt_keras.training.progress import ProgressBar

if TYPE_CHECKING:
    import tensorflow as tf

CHECKPOINT = "checkpoint.npz"

# One call of Keras' train function runs this many steps, and this many examples, at most; between
# calls the progress bar moves, and an interrupt is heard.
MAX_STEPS_PER_EXECUTION = 64
MAX_EXAMPLES_PER_EXECUTION = 8192


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted; the message says how to continue it."""


def prepared_folder(folder: Path, reports: Sequence[str], *, resume: bool, overwrite: bool) -> Path:
    """Makes a job's folder, or says why it must not be used.

    Args:
        folder: The folder.
        reports: Names or patterns of the files that a job leaves there beside its checkpoint,
            removed where it is replaced.
        resume: Whether a job that is there is continued.
        overwrite: Whether it is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: If it holds another job, or something else.
    """
    if resume and overwrite:
        raise ValueError(
            "A job is either continued or replaced. Received: resume=True, overwrite=True"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir must be a folder. Received: output_dir={folder}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    # A write that was killed leaves a hidden file, which the next write takes over; a job that was
    # killed before its first checkpoint leaves reports.
    own = [".*", *(Path(name).parts[0] for name in reports if resume)]
    foreign = [
        file.name
        for file in folder.iterdir()
        if not any(fnmatch.fnmatch(file.name, pattern) for pattern in own)
    ]
    if overwrite:
        for file in [file for name in reports for file in folder.glob(name)]:
            file.unlink()
    elif not resume and path.exists():
        raise ValueError(
            f"output_dir holds a job already ({_state(path)}): continue it with resume=True, "
            "replace it with overwrite=True, or choose another folder. "
            f"Received: output_dir={folder}"
        )
    elif not path.exists() and foreign:
        raise ValueError(
            "output_dir must be empty or hold a job of this kind; overwrite=True uses it all the "
            f"same. Received: output_dir={folder} with {', '.join(sorted(foreign)[:5])}"
        )
    return folder


def _state(path: Path) -> str:
    try:
        metadata = read_checkpoint(path).metadata
        done, recipe = metadata["epoch"], metadata["identity"]["recipe"]
        patience = recipe.get("early_stopping_patience")
        finished = done == recipe["epochs"] or is_stopped(done, metadata["best_epoch"], patience)
        return "finished" if finished else f"{done} of {recipe['epochs']} epochs done"
    except (CheckpointError, KeyError):
        return "damaged"


def is_stopped(epoch: int, best_epoch: int, patience: int | None) -> bool:
    """Whether training stops early: so many epochs without a new best one, if there is a limit."""
    return patience is not None and epoch - best_epoch >= patience


def paused_at(epochs: int, until: int | None) -> int:
    """After which of its epochs a job ends, or pauses.

    Raises:
        ValueError: If `until` is given and is none of the epochs.
    """
    if until is None:
        return epochs
    if type(until) is not int or not 1 <= until <= epochs:
        raise ValueError(f"until must be one of the {epochs} epochs. Received: until={until!r}")
    return until


def steps_per_execution(steps: int, batch_size: int = 1) -> int:
    """The largest divisor of an epoch's steps that is not too large.

    It must divide them: Keras would otherwise run into the next epoch's batches.
    """
    limit = max(1, min(steps, MAX_STEPS_PER_EXECUTION, MAX_EXAMPLES_PER_EXECUTION // batch_size))
    return max(divisor for divisor in range(1, limit + 1) if steps % divisor == 0)


def run(
    model: keras.Model,
    examples: tuple[np.ndarray, np.ndarray],
    checkpoint: TrainingCheckpoint,
    *,
    batch_size: int,
    seed: int,
    start: int,
    epochs: int,
    before: Sequence[keras.callbacks.Callback] = (),
    after: Sequence[keras.callbacks.Callback] = (),
    prepare: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda batches: batches,
    lengths: np.ndarray | None = None,
    stratified: bool = False,
    progress: bool = True,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains by Keras' `fit`, with a checkpoint after every epoch.

    On several machines by `strategies.train`, for there Keras' `fit` raises.

    Args:
        model: A compiled model.
        examples: Images or numbers of words, and labels.
        checkpoint: The job's.
        batch_size: Examples of a step.
        seed: Seed of their order.
        start: Epochs that are done.
        epochs: Epochs in all.
        before: Callbacks that add to the logs.
        after: Callbacks that are called when the checkpoint is written.
        prepare: What is done to the batches that are left.
        lengths: How many words each text has, and
        stratified: whether batches are, see `data.training_batches`.
        progress: Whether to show how far it is.
        strategy: What the model was built under, if anything.

    Raises:
        TrainingInterrupted: On an interrupt, with the way to continue.
        WorkerLostError: If another worker is gone.
    """
    batches = prepare(
        datasets.training_batches(
            *examples,
            batch_size=batch_size,
            seed=seed,
            start_epoch=start,
            epochs=epochs,
            lengths=lengths,
            stratified=stratified,
        )
    )
    steps = datasets.steps_per_epoch(len(examples[0]), batch_size)
    is_multiworker = strategies.is_multiworker(strategy)
    agreed = [strategies.ChiefLogs(strategy)] if is_multiworker else []
    if strategy is not None:
        strategies.separate_random_streams(model, strategy)
    with contextlib.ExitStack() as stack:
        shown = []
        if progress and strategies.is_chief(strategy):
            shown.append(ProgressBar())
            stack.callback(shown[0].close)
        callbacks = [*before, *agreed, checkpoint, *after, *shown]
        try:
            if is_multiworker:
                strategies.train(
                    model,
                    batches,
                    strategy,
                    steps=steps,
                    start=start,
                    epochs=epochs,
                    callbacks=callbacks,
                )
            else:
                model.fit(
                    batches,
                    initial_epoch=start,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    # The order is already made.
                    shuffle=False,
                    callbacks=callbacks,
                    verbose=0,
                )
        except KeyboardInterrupt:
            raise TrainingInterrupted(
                f"Interrupted after {checkpoint.epoch} of {epochs} epochs. The job is safe in "
                f"{checkpoint.path}; continue it with the same call and resume=True "
                "(on the command line: --resume)."
            ) from None


@contextlib.contextmanager
def several_models() -> Iterator[None]:
    """Keeps TensorFlow from taking several jobs in one process for one that is traced too often."""
    import tensorflow as tf

    def is_told(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(is_told)
    try:
        yield
    finally:
        logger.removeFilter(is_told)


def fingerprint(*splits: Sequence[np.ndarray]) -> str:
    """The SHA-256 of arrays, their types and shapes."""
    digest = hashlib.sha256()
    for array in (array for split in splits for array in split):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def is_due(done: int, every: int, epochs: int) -> bool:
    """Whether what is done every so many epochs, and after the last, is done after `done`."""
    return done % every == 0 or done == epochs


def without_nan(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON data: None for what is no number."""
    return [value if math.isfinite(value) else None for value in values]


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people to read, whole or not at all."""
    text = json.dumps(value, indent=2, allow_nan=False)
    # A list of numbers on one line: a matrix then looks like one.
    text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
