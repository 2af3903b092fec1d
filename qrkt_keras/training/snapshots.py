"""The weights of every epoch of a job, one file each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qrkt_keras.training.checkpoints import (
    CheckpointError,
    model_state,
    read_checkpoint,
    restore_model_state,
    write_checkpoint,
)

SNAPSHOTS = "snapshots"

_KIND = "snapshot"


class Snapshots(keras.callbacks.Callback):
    """Keeps the weights before the first epoch and after each, in `folder/snapshots`.

    It must be called before the job's checkpoint: an epoch that the checkpoint has is here too, and
    one that was broken off is written again.

    Args:
        folder: The job's folder.
        epoch: Epochs that are done; snapshots of later ones are of another job, and removed.
        writes: Whether this process writes the files. Of several, one does.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, epoch: int = 0, writes: bool = True
    ) -> None:
        super().__init__()
        self._folder = Path(folder) / SNAPSHOTS
        self._epoch = epoch
        self._writes = writes

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Not when training begins: then there is no checkpoint yet, and a folder that holds
        # something else is not taken for a job's.
        if not self._writes or epoch != self._epoch:
            return
        self._folder.mkdir(exist_ok=True)
        for number, file in _files(self._folder).items():
            if epoch == 0 or number > epoch:
                file.unlink()
        if epoch == 0:
            self._write(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._writes:
            self._write(epoch + 1)

    def _write(self, epoch: int) -> None:
        # Without the optimizer's variables, of which there are twice as many.
        state = {
            name: array
            for name, array in model_state(self.model).items()
            if name.startswith("model/")
        }
        write_checkpoint(_file(self._folder, epoch), state, {"kind": _KIND, "epoch": epoch})


def read_trajectory(
    folder: str | os.PathLike[str],
    model: keras.Model,
    variables: Sequence[keras.Variable] | None = None,
) -> np.ndarray:
    """The weights before the first epoch of a job and after each, as points of a space.

    Args:
        folder: The job's folder, in which it has left `snapshots/`: its recipe has
            `snapshots=True`.
        model: A model of the job's form; its own weights are as before afterwards.
        variables: Which of its weights, in which order; by default all trainable ones.

    Returns:
        `(epochs + 1, size)`, float64: the weights of an epoch one after the other, each flat.

    Raises:
        CheckpointError: If there are no snapshots, one is missing or damaged, or they are of
            another model.
        ValueError: If a variable is not the model's.
    """
    variables = [*model.trainable_variables] if variables is None else [*variables]
    own = {id(variable) for variable in model.variables}
    for variable in variables:
        if id(variable) not in own:
            raise ValueError(f"The variables must be the model's. Received: {variable.path}")
    where = Path(folder) / SNAPSHOTS
    files = _files(where)
    if not files:
        raise CheckpointError(
            "There are no snapshots of the weights: a recipe with snapshots=true keeps them. "
            f"Received: {where}"
        )
    missing = sorted(set(range(max(files) + 1)) - set(files))
    if missing:
        raise CheckpointError(
            f"A snapshot is missing. Received: none of epoch {missing[0]} in {where}"
        )
    before = model_state(model)
    try:
        return np.stack([_point(files[epoch], model, variables) for epoch in sorted(files)])
    finally:
        restore_model_state(model, before, optimizer=False)


def _point(file: Path, model: keras.Model, variables: Sequence[keras.Variable]) -> np.ndarray:
    restore_model_state(model, read_checkpoint(file).arrays, optimizer=False)
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return np.concatenate([value.astype(np.float64).ravel() for value in values])


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:04d}.npz"


def _files(folder: Path) -> dict[int, Path]:
    return {int(file.stem.removeprefix("epoch_")): file for file in folder.glob("epoch_*.npz")}
