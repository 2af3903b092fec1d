"""Logs for TensorBoard."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

EVENT_FILES = "events.out.tfevents.*"


class Summaries:
    """Writes numbers and pictures for TensorBoard into a folder.

    Args:
        folder: The folder, made when something is written; `tensorboard --logdir` takes it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._writer: Any = None

    def write(
        self,
        step: int,
        scalars: Mapping[str, float] | None = None,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Writes one step.

        Args:
            step: Its number.
            scalars: Numbers by name; what is not finite is left out.
            images: Pictures `(height, width, channels)` by name.
        """
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.folder))
        with self._writer.as_default(step=step):
            for name, image in (images or {}).items():
                tf.summary.image(name, image[None])
            for name, value in (scalars or {}).items():
                # What is not measured in every epoch is NaN in the others.
                if math.isfinite(value):
                    tf.summary.scalar(name, value)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file; more can be written, into another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def clear(self) -> None:
        """Removes what was written into the folder, by whatever process."""
        self.close()
        for file in self.folder.glob(EVENT_FILES):
            file.unlink()


class HistorySummaries(keras.callbacks.Callback):
    """Writes every epoch's logs for TensorBoard.

    It begins with all epochs of the history, in place of what is in the folder. So whenever a job
    was killed, each epoch is there once.

    Args:
        summaries: Where to write.
        history: Log name to its value in each epoch that is done.
    """

    def __init__(self, summaries: Summaries, history: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self._summaries = summaries
        summaries.clear()
        for epoch in range(max(map(len, history.values()), default=0)):
            summaries.write(epoch + 1, {name: values[epoch] for name, values in history.items()})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._summaries.write(epoch + 1, logs)
