"""Learning-rate schedules that Keras has not, or not so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def warmup_cosine(
    learning_rate: float, *, warmup_steps: int, decay_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from 0, then a cosine to 0.

    `lr(t) = lr * t / w` for `t < w`, then `lr / 2 * (1 + cos(pi (t - w) / d))`, and 0 from
    `t = w + d` on, with `w = warmup_steps` and `d = decay_steps`.

    Args:
        learning_rate: The peak, reached at `t = w`.
        warmup_steps: `w`, steps of warm-up; may be 0.
        decay_steps: `d`, steps of decay, at least 1.

    Returns:
        The schedule, a function of the step `t`.

    Raises:
        ValueError: If a number of steps is out of range.

    Example:

    >>> schedule = warmup_cosine(1e-3, warmup_steps=10, decay_steps=20)
    >>> [round(float(schedule(t)), 6) for t in (0, 5, 10, 20, 30, 99)]
    [0.0, 0.0005, 0.001, 0.0005, 0.0, 0.0]
    """
    if warmup_steps < 0 or decay_steps < 1:
        raise ValueError(
            "warmup_steps must be at least 0 and decay_steps at least 1. "
            f"Received: warmup_steps={warmup_steps}, decay_steps={decay_steps}"
        )
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(float(learning_rate), decay_steps)
    # 0.0, not 0: Keras computes in the type of the initial rate, and fails with an int.
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps, warmup_target=float(learning_rate), warmup_steps=warmup_steps
    )


@keras.saving.register_keras_serializable(package="qrkt_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to where another schedule begins, which then takes over.

    `lr(t) = s(0) * t / w` for `t < w`, and `s(t - w)` from `t = w` on.

    Args:
        schedule: `s`, a function of the step, or a constant rate.
        warmup_steps: `w`, at least 1.

    Raises:
        ValueError: If `warmup_steps` is less than 1.

    Example:

    >>> schedule = WarmUp(0.5, warmup_steps=4)
    >>> [float(schedule(t)) for t in (0, 1, 4, 99)]
    [0.0, 0.125, 0.5, 0.5]
    """

    def __init__(
        self, schedule: float | keras.optimizers.schedules.LearningRateSchedule, warmup_steps: int
    ) -> None:
        super().__init__()
        if warmup_steps < 1:
            raise ValueError(
                f"warmup_steps must be at least 1. Received: warmup_steps={warmup_steps}"
            )
        self.schedule = schedule
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        after = ops.maximum(step - self.warmup_steps, 0.0)
        rate = self.schedule(after) if callable(self.schedule) else self.schedule
        return rate * ops.minimum(step / self.warmup_steps, 1.0)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        schedule = serialize(self.schedule) if callable(self.schedule) else self.schedule
        return {"schedule": schedule, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        schedule = config["schedule"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(schedule, config["warmup_steps"])


@keras.saving.register_keras_serializable(package="qrkt_keras")
class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that goes up and down in straight lines.

    `lr(t) = a + (b - a) * m^k * (1 - |2 (t / c - k) - 1|)` with `k = floor(t / c)`, the number of
    cycles that are over. Source: Smith, *Cyclical Learning Rates for Training Neural Networks*,
    2017, whose `triangular` has `m = 1` and whose `triangular2` has `m = 1/2`; Keras has none.

    Args:
        learning_rate: `b`, the rate in the middle of the first cycle.
        min_learning_rate: `a`, the rate at both ends of a cycle.
        cycle_steps: `c`, steps up and down again, at least 2.
        m_mul: `m`, by which each cycle is as high as the one before.

    Raises:
        ValueError: If a cycle is too short.

    Example:

    >>> schedule = Triangular(1.0, min_learning_rate=0.5, cycle_steps=4)
    >>> [float(schedule(t)) for t in range(6)]
    [0.5, 0.75, 1.0, 0.75, 0.5, 0.75]
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        min_learning_rate: float = 0.0,
        cycle_steps: int,
        m_mul: float = 1.0,
    ) -> None:
        super().__init__()
        if cycle_steps < 2:
            raise ValueError(f"A cycle must have 2 steps. Received: cycle_steps={cycle_steps}")
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.cycle_steps = cycle_steps
        self.m_mul = m_mul

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        cycle = ops.floor(step / self.cycle_steps)
        height = 1.0 - ops.abs(2.0 * (step / self.cycle_steps - cycle) - 1.0)
        span = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + span * ops.power(self.m_mul, cycle) * height

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "min_learning_rate": self.min_learning_rate,
            "cycle_steps": self.cycle_steps,
            "m_mul": self.m_mul,
        }


@keras.saving.register_keras_serializable(package="qrkt_keras")
class EpochCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine down to 0 and up again, in steps of an epoch, for ever.

    `lr(t) = a / 2 * (1 + cos(2 pi e / c))` with `e = floor(t / n)`, the number of epochs that are
    over. Source: what `torch.optim.lr_scheduler.CosineAnnealingLR` with `T_max = c / 2` does when
    it is stepped once an epoch and past `T_max`, as in Kawase 2025 (arXiv 2504.19239); with `c`
    even the rate is 0 throughout every epoch `e = c / 2 + k c`.

    Args:
        learning_rate: `a`, the rate in epoch 0.
        steps_per_epoch: `n`, at least 1.
        cycle_epochs: `c`, epochs down and up again, positive.

    Raises:
        ValueError: If a number is out of range.

    Example:

    >>> schedule = EpochCosine(1.0, steps_per_epoch=3, cycle_epochs=4)
    >>> [round(float(schedule(t)), 6) for t in range(0, 15, 3)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """

    def __init__(self, learning_rate: float, *, steps_per_epoch: int, cycle_epochs: float) -> None:
        super().__init__()
        if steps_per_epoch < 1 or not cycle_epochs > 0:
            raise ValueError(
                "steps_per_epoch must be at least 1 and cycle_epochs positive. Received: "
                f"steps_per_epoch={steps_per_epoch}, cycle_epochs={cycle_epochs}"
            )
        self.learning_rate = learning_rate
        self.steps_per_epoch = steps_per_epoch
        self.cycle_epochs = cycle_epochs

    def __call__(self, step: Any) -> Any:
        # In whole numbers: compiled, a division is a product with the rounded reciprocal, and an
        # epoch's first step could fall into the epoch before.
        epoch = ops.floor_divide(ops.cast(step, "int32"), self.steps_per_epoch)
        # Of the cycle's part, so that a 0 stays one in float32 after many epochs.
        part = ops.cast(epoch, "float32") / self.cycle_epochs
        part = part - ops.floor(part)
        return self.learning_rate / 2 * (1.0 + ops.cos(2 * math.pi * part))

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
            "cycle_epochs": self.cycle_epochs,
        }


@keras.saving.register_keras_serializable(package="qrkt_keras")
class Plateau(keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate times a factor that is set from outside, see `plateau_factor`.

    Keras' `ReduceLROnPlateau` does not go with a schedule, so with no warm-up, and forgets at a
    resume how long it has waited.

    Args:
        learning_rate: The rate while nothing is reduced.

    Attributes:
        factor: A variable, 1 at first.

    Example:

    >>> schedule = Plateau(0.5)
    >>> schedule.factor.assign(0.1)
    <...>
    >>> round(float(schedule(7)), 6)
    0.05
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.factor = keras.Variable(1.0, trainable=False, dtype="float32", name="plateau_factor")

    def __call__(self, step: Any) -> Any:
        return self.learning_rate * ops.convert_to_tensor(self.factor)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate}


def plateau_factor(
    values: Sequence[float], *, patience: int, factor: float, least: float = 0.0, mode: str = "max"
) -> float:
    """By what the learning rate is reduced after these epochs: a function of the history alone.

    After every `patience` epochs in a row in which the best value so far is not surpassed, the rate
    is multiplied by `factor`. As `keras.callbacks.ReduceLROnPlateau` with `min_delta=0`.

    Args:
        values: What is monitored, epoch by epoch. NaN is never better.
        patience: At least 1.
        factor: Between 0 and 1.
        least: The factor's least value.
        mode: `"max"` if more is better, `"min"` if less is.

    Returns:
        The product of all reductions, between `least` and 1.

    Example:

    >>> plateau_factor([0.8, 0.9, 0.9, 0.85, 0.95, 0.9, 0.9], patience=2, factor=0.5)
    0.25
    """
    best, waited, reduced = -math.inf, 0, 1.0
    for value in values:
        value = value if mode == "max" else -value
        if value > best:
            best, waited = value, 0
            continue
        waited += 1
        if waited >= patience:
            waited, reduced = 0, max(least, reduced * factor)
    return reduced
