"""Learning-rate schedules."""

from __future__ import annotations

import keras


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
