"""Validating, keeping and testing the moving average of the weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class AveragedWeights(keras.callbacks.Callback):
    """Has the average in the model between epochs, and the weights themselves within.

    The optimizer must have been made with `use_ema=True`. Put it before every callback that looks
    at the model at the end of an epoch: validation, checkpoint. What a checkpoint holds as the
    model's weights is then the average, and as the average the weights, so a continued job must be
    told that they are exchanged. Keras' `SwapEMAWeights` does not continue, and exchanges by sums
    and differences, which costs bits.

    Args:
        exchanged: Whether the model has the average now, as after `TrainingCheckpoint.restore` of
            at least one epoch.
    """

    def __init__(self, exchanged: bool = False) -> None:
        super().__init__()
        self._exchanged = exchanged

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._exchanged:
            self._exchange()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._exchange()

    def _exchange(self) -> None:
        optimizer = self.model.optimizer
        # Of a scaled loss, as for float16.
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        # Keras has no public name for the averages.
        averages = optimizer._model_variables_moving_average
        for weight, average in zip(self.model.trainable_variables, averages, strict=True):
            value = ops.copy(weight)
            weight.assign(average)
            average.assign(value)
        self._exchanged = not self._exchanged
