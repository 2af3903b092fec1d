"""What a trial may cost: how a model that costs more is refused, and one that takes too long."""

from __future__ import annotations

import time
from collections.abc import Mapping

import keras
from keras_tuner.errors import FailedTrialError

# How the reason of a trial begins that a budget refuses.
REJECTED = "over budget: "

# After so many epochs it is known how long a trial will take.
_TIMED_EPOCHS = 3


class BudgetError(FailedTrialError):
    """A model is larger, or slower, than the search allows; its trial is not tried again."""


class TimeBudget(keras.callbacks.Callback):
    """Stops a trial that takes too long, or would, as the first epochs of a training tell.

    Args:
        max_seconds: How long it may train in this process, all trainings together.
        trainings: Of how many folds it is.

    Raises:
        BudgetError: From within the training.
    """

    def __init__(self, max_seconds: float, trainings: int = 1) -> None:
        super().__init__()
        self._max_seconds, self._trainings = max_seconds, trainings
        self._begin: float | None = None

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._times = [time.monotonic()]
        if self._begin is None:
            self._begin = self._times[0]

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if (seconds := time.monotonic() - self._begin) > self._max_seconds:
            epochs = self.params["epochs"]
            self._refuse(f"{_seconds(seconds)} in epoch {self._epoch + 1} of {epochs}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._times.append(time.monotonic())
        epochs = self.params["epochs"]
        if len(self._times) - 1 != _TIMED_EPOCHS or epoch + 1 == epochs:
            return
        # In the first one the step is compiled.
        first = self._times[1] - self._times[0]
        each = (self._times[-1] - self._times[1]) / (_TIMED_EPOCHS - 1)
        seconds = self._trainings * (first + (epochs - 1) * each)
        if seconds > self._max_seconds:
            folds = f" in each of {self._trainings} folds" if self._trainings > 1 else ""
            self._refuse(f"{_seconds(seconds)} for {epochs} epochs{folds}")

    def _refuse(self, received: str) -> None:
        raise BudgetError(f"A trial may train {self._max_seconds:g} s. Received: {received}")


def _seconds(number: float) -> str:
    return f"{number:.0f} s" if number >= 100 else f"{number:.3g} s"
