"""How far a training job is."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_SHOWN = {
    "loss": "loss",
    "accuracy": "acc",
    "val_accuracy": "val acc",
    "discriminator_loss": "critic",
    "generator_loss": "generator",
    "diversity": "diversity",
    "fid": "FID",
}


class ProgressBar(keras.callbacks.Callback):
    """A bar over the whole job, with loss, accuracies and time left.

    Where the output is not a terminal, it prints a plain line about every tenth of the epochs.
    Put it after every callback that adds to the logs. `close` it when `fit` may have been left by
    an exception.

    Args:
        console: Where to print; standard output if not given.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console()
        self._bar: Progress | None = None
        self._shown: dict[str, float] = {}
        self._first_epoch: int | None = None
        self._since = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._first_epoch = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first_epoch is None:
            self._first_epoch, self._since = epoch, time.monotonic()
            if self._console.is_terminal:
                self._open(epoch)
        if self._bar is not None:
            self._bar.update(self._task, epoch=f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar is not None:
            self._shown |= logs or {}
            self._bar.update(
                self._task,
                completed=self._epochs_done * self.params["steps"] + batch + 1,
                scores=self._scores(),
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._shown |= logs or {}
        self._epochs_done = epoch + 1
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=(epoch + 1) * self.params["steps"],
                scores=self._scores(),
            )
        elif not self._console.is_terminal and self._is_reported(epoch):
            self._console.print(self._line(epoch), soft_wrap=True, highlight=False)
        if epoch == self._first_epoch:
            # The first epoch compiles too; the others tell how long the rest will take.
            self._since = time.monotonic()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the terminal as it was found."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self, epoch: int) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[scores]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._epochs_done = epoch
        self._task = self._bar.add_task(
            "",
            total=self.params["epochs"] * self.params["steps"],
            completed=epoch * self.params["steps"],
            epoch="",
            scores="",
        )
        self._bar.start()

    def _scores(self) -> str:
        return "  ".join(
            f"{short} {self._shown[name]:.3f}"
            for name, short in _SHOWN.items()
            # Not measured in every epoch.
            if name in self._shown and self._shown[name] == self._shown[name]
        )

    def _is_reported(self, epoch: int) -> bool:
        every = max(1, round(self.params["epochs"] / 10))
        done = epoch + 1
        return done == 1 or done % every == 0 or done == self.params["epochs"]

    def _line(self, epoch: int) -> str:
        epochs = self.params["epochs"]
        line = f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}  {self._scores()}"
        timed = epoch - self._first_epoch
        if not timed:
            return line
        left = (time.monotonic() - self._since) / timed * (epochs - epoch - 1)
        minutes, seconds = divmod(round(left), 60)
        return f"{line}  {minutes}:{seconds:02d} left"
