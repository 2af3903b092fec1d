"""What all training jobs have in common: their folder, their identity, their reports as JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrkt_keras.training.checkpoints import CheckpointError, read_checkpoint
from qrkt_keras.training.files import atomic_write

CHECKPOINT = "checkpoint.npz"

# One call of Keras' train function runs this many steps at most; between calls the progress bar
# moves, and an interrupt is heard.
MAX_STEPS_PER_EXECUTION = 64


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted; the message says how to continue it."""

    @classmethod
    def after(cls, done: int, epochs: int, path: Path) -> TrainingInterrupted:
        """The interruption after so many of the epochs of a job with this checkpoint."""
        return cls(
            f"Interrupted after {done} of {epochs} epochs. The job is safe in {path}; continue it "
            "with the same call and resume=True (on the command line: --resume)."
        )


def prepared_folder(folder: Path, reports: Sequence[str], *, resume: bool, overwrite: bool) -> Path:
    """Makes a job's folder, or says why it must not be used.

    Args:
        folder: The folder.
        reports: Names of the files that a finished job leaves there, removed where it is replaced.
        resume: Whether a job that is there is continued.
        overwrite: Whether it is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: If it holds another job, or something else.
    """
    if resume and overwrite:
        raise ValueError("A job is either continued or replaced. Received: resume and overwrite")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir must be a folder. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    # A write that was killed leaves a hidden file, which the next write takes over.
    foreign = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
    if overwrite:
        for name in reports:
            (folder / name).unlink(missing_ok=True)
    elif not resume and path.exists():
        raise ValueError(
            f"output_dir holds a job already ({_state(path)}): continue it with resume=True, "
            f"replace it with overwrite=True, or choose another folder. Received: {folder}"
        )
    elif not path.exists() and foreign:
        raise ValueError(
            "output_dir must be empty or hold a job of this kind; overwrite=True uses it all the "
            f"same. Received: {folder} with {', '.join(sorted(foreign)[:5])}"
        )
    return folder


def _state(path: Path) -> str:
    try:
        metadata = read_checkpoint(path).metadata
        done, total = metadata["epoch"], metadata["identity"]["recipe"]["epochs"]
    except (CheckpointError, KeyError):
        return "damaged"
    return "finished" if done == total else f"{done} of {total} epochs done"


def steps_per_execution(steps: int) -> int:
    """The largest divisor of an epoch's steps that is not too large.

    It must divide them: Keras would otherwise run into the next epoch's batches.
    """
    return max(
        divisor
        for divisor in range(1, min(steps, MAX_STEPS_PER_EXECUTION) + 1)
        if steps % divisor == 0
    )


def fingerprint(*splits: Sequence[np.ndarray]) -> str:
    """The SHA-256 of arrays, their types and shapes."""
    digest = hashlib.sha256()
    for array in (array for split in splits for array in split):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people to read, whole or not at all."""
    text = json.dumps(value, indent=2, allow_nan=False)
    # A list of numbers on one line: a matrix then looks like one.
    text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
