"""How a model is trained, as data."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import types
from typing import Any, ClassVar, Self, get_args, get_type_hints

import keras

from qrkt_keras.layers.diff_augment import OPERATIONS
from qrkt_keras.layers.random_shift import PADDINGS
from qrkt_keras.training.gan_losses import GAN_LOSSES
from qrkt_keras.training.optimizers import L2SGD, L2Adam
from qrkt_keras.training.schedules import (
    EpochCosine,
    Plateau,
    Triangular,
    WarmUp,
    warmup_cosine,
)

OPTIMIZERS = ("adamw", "adam", "sgd")
LOSSES = ("cross_entropy", "focal", "sigmoid")

_REQUIRED = object()

# Each schedule's own fields, and what they are where a recipe does not say.
_SCHEDULE_FIELDS: dict[str, dict[str, Any]] = {
    "warmup_cosine": {"decay_steps": None},
    "constant": {},
    "exponential": {"decay_rate": _REQUIRED, "decay_epochs": 1.0},
    "step": {"decay_rate": 0.1, "decay_epochs": _REQUIRED},
    "multi_step": {"decay_rate": 0.1, "milestones": _REQUIRED},
    "cyclic": {"cycle_epochs": _REQUIRED, "m_mul": 1.0, "min_learning_rate": 0.0},
    "cosine_restarts": {
        "cycle_epochs": _REQUIRED,
        "t_mul": 2.0,
        "m_mul": 1.0,
        "min_learning_rate": 0.0,
    },
    "epoch_cosine": {"cycle_epochs": _REQUIRED},
    "plateau": {"decay_rate": 0.1, "plateau_patience": 10, "min_learning_rate": 0.0},
}
SCHEDULES = tuple(_SCHEDULE_FIELDS)
# Fields of a recipe that belong to one schedule or several, and go with it.
SCHEDULE_FIELDS = tuple({name: None for fields in _SCHEDULE_FIELDS.values() for name in fields})


@dataclasses.dataclass(frozen=True)
class _Fields:
    """Checked fields that are JSON."""

    # What it is called in messages.
    _kind: ClassVar[str] = "A recipe"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in (field.name for field in dataclasses.fields(self)):
            object.__setattr__(self, name, _typed(name, getattr(self, name), hints[name]))

    def _check(self, name: str, wanted: str, holds: Any) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name} must be {wanted}. Received: {name}={value!r}")

    def with_given(self, **fields: Any) -> Self:
        """The same with these fields in place of its own, but for those that are `None`."""
        given = {name: value for name, value in fields.items() if value is not None}
        return dataclasses.replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The recipe with these fields; an unknown or missing one is refused."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(
                f"{cls._kind} has the fields {', '.join(known)}. Received: {', '.join(unknown)}"
            )
        for name, field in known.items():
            if field.default is dataclasses.MISSING and name not in fields:
                raise ValueError(f"{cls._kind} must say its {name}. Received: {fields}")
        return cls(**fields)

    def to_json(self) -> str:
        """The recipe as JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The recipe that `to_json` wrote."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{cls._kind} must be JSON ({error}). Received: {text!r}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{cls._kind} must be a JSON object. Received: {text!r}")
        return cls.from_dict(fields)


@dataclasses.dataclass(frozen=True)
class Augmentation(_Fields):
    """What is done to training images, in this order, each image by its own draw.

    See `training.augmented_batches`, which does it.

    Args:
        flip: Whether half of the images are mirrored, left for right.
        rotation: Largest angle in degrees, either way; what comes from outside is 0.
        zoom: Largest change of size as a share, either way: 0.1 is 90 % to 110 %.
        shift: Largest shift along both axes in whole pixels, see `layers.RandomShift`.
        padding: What a shift brings in: `"constant"` (zeros), `"edge"` or `"reflect"`.
        cutout: Side of a covered square as a share of the image's, see `layers.Cutout`.
        mixup: `alpha` of mixup (Zhang et al. 2018): an image and its label become `u` times
            themselves and `1 - u` times another of the batch, `u` from `Beta(alpha, alpha)`; 0 for
            none.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range.

    Example:

    >>> Recipe(epochs=30, augment=Augmentation(shift=2, mixup=0.2)).augment.shift
    2
    """

    _kind: ClassVar[str] = "An augmentation"

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    shift: int = 0
    padding: str = "constant"
    cutout: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shift", "mixup"):
            self._check(name, "at least 0", lambda value: value >= 0)
        self._check("rotation", "between 0 and 180", lambda value: 0 <= value <= 180)
        self._check("zoom", "at least 0 and below 1", lambda value: 0 <= value < 1)
        self._check("cutout", "between 0 and 1", lambda value: 0 <= value <= 1)
        self._check("padding", f"one of {PADDINGS}", PADDINGS.__contains__)


@dataclasses.dataclass(frozen=True)
class Recipe(_Fields):
    """A training recipe: frozen, checked, and JSON.

    Fields that end in `_steps` count steps of the optimizer; those that end in `_epochs`, and
    `milestones`, count epochs and may be fractions. For the peak rate `s`, the time `t` since the
    warm-up and `r = decay_rate`, the schedules are, each with the fields that belong to it:

    - `"warmup_cosine"`: `s / 2 * (1 + cos(pi t / d))`, and 0 from `d = decay_steps` on.
    - `"constant"`: `s`.
    - `"exponential"`: `s * r^(t / d)` with `d = decay_epochs`, by default 1; `decay_rate` must be
      given.
    - `"step"`: `s * r^floor(t / d)`; `decay_epochs` must be given, `decay_rate` is 0.1 by default.
    - `"multi_step"`: `s * r^k` after `k` of the `milestones`, epochs of the run, which must be
      given; `decay_rate` is 0.1 by default.
    - `"cyclic"`: from `min_learning_rate` to `s` and back in straight lines, within `cycle_epochs`,
      which must be given (Smith 2017); `m_mul` is 1 by default, and 1/2 gives his `triangular2`.
    - `"cosine_restarts"`: a cosine from `s` to `min_learning_rate` within `cycle_epochs`, which
      must be given, and again (Loshchilov and Hutter 2017); by default `t_mul` is 2, `m_mul` 1.
    - `"epoch_cosine"`: `s / 2 * (1 + cos(2 pi e / c))` throughout epoch `e`, counted from 0, with
      `c = cycle_epochs`, which must be given; it goes down and up for ever, and has no warm-up.
    - `"plateau"`: `s * r^k` after `k` times `plateau_patience` epochs without a better `monitor`,
      but not below `min_learning_rate`; by default the patience is 10 and `decay_rate` 0.1.

    Args:
        epochs: Passes over the training examples.
        batch_size: Examples in a step; incomplete batches are dropped.
        optimizer: `"adamw"`, `"adam"` or `"sgd"`, on all weights. AdamW is Adam with decoupled
            weight decay (Loshchilov and Hutter 2019), so `"adam"` wants `weight_decay=0`.
        learning_rate: The peak learning rate.
        schedule: One of the table's.
        warmup_steps: Steps in which the rate rises from 0 in a straight line to where the
            schedule begins.
        decay_steps: Steps of cosine decay after the warm-up. `None` lets the cosine end with the
            run; then a run too short for its warm-up spends at most half of its steps on it.
        weight_decay: Decoupled weight decay: each step takes `lr * weight_decay * w` off `w`.
        epsilon: Adam's epsilon.
        clip_norm: Gradients are scaled down to this global norm; `None` never.
        seed: Seed of the order of the examples, and of their augmentation.
        monitor: The log by which the best epoch is chosen, such as `"val_auc"`, `"val_accuracy"`
            or `"val_loss"`; with `hold_out=False` they are `"train_auc"` and so on. Less is better
            for names that end in `loss`.
        decay_rate: By what a decay multiplies the rate, above 0 and below 1.
        decay_epochs: Epochs between two decays.
        milestones: Epochs after which the rate decays, in rising order.
        cycle_epochs: Epochs of the first cycle, up and down together.
        t_mul: By which each cycle is as long as the one before, at least 1.
        m_mul: By which each cycle is as high as the one before.
        min_learning_rate: The least rate, below `learning_rate`.
        plateau_patience: Epochs without a better `monitor` before the rate decays.
        l2: `l2 * w` is added to every gradient before it is clipped, which is a penalty of
            `l2 / 2 * |w|²`, as PyTorch's `Adam(weight_decay)` has it.
        momentum: Of `"sgd"`, in [0, 1), by default 0.9.
        loss: `"cross_entropy"`, or `"focal"`: `-(1 - p)² log p` for the probability `p` of the
            right class (Lin et al. 2017), or, for two classes, `"sigmoid"`: `log(1 + exp(-z))` for
            an example of class 1 and `log(1 + exp(z))` for one of class 0, where `z` is logit 1;
            `fit` holds logit 0 at 0, so that softmax still gives the probabilities (Rîpanu 2024).
        label_smoothing: `e` in `(1 - e) y + e / num_classes` for labels `y`, in [0, 1).
        early_stopping_patience: Epochs without a new best epoch before training stops; `None`
            never.
        augment: What is done to training images; `None` is nothing.
        ema: `m` of a moving average of the weights, `a <- m a + (1 - m) w` at each step, above 0
            and below 1. The average is then what is validated, kept and tested; `None` for the
            weights themselves.
        stratified: Whether every batch has each class in its share of all examples, up to
            rounding, see `data.training_batches`.
        hold_out: Whether there is a validation split. `False` trains on it too; after each epoch
            all training examples are scored again, without dropout, as `train_loss`,
            `train_accuracy` and `train_auc`, and one of these must be the monitor.
        snapshots: Whether the weights are kept as they were before the first epoch and after each,
            see `training.read_trajectory`.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range, missing, or does not belong to the schedule.

    Example:

    >>> recipe = Recipe(epochs=30, schedule="step", decay_epochs=10, warmup_steps=100)
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    epochs: int
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "warmup_cosine"
    warmup_steps: int = 0
    decay_steps: int | None = None
    weight_decay: float = 1e-4
    epsilon: float = 1e-8
    clip_norm: float | None = 1.0
    seed: int = 0
    monitor: str = "val_auc"
    decay_rate: float | None = None
    decay_epochs: float | None = None
    milestones: tuple[float, ...] | None = None
    cycle_epochs: float | None = None
    t_mul: float | None = None
    m_mul: float | None = None
    min_learning_rate: float | None = None
    plateau_patience: int | None = None
    l2: float = 0.0
    momentum: float | None = None
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    early_stopping_patience: int | None = None
    augment: Augmentation | None = None
    ema: float | None = None
    stratified: bool = False
    hold_out: bool = True
    snapshots: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "epochs",
            "batch_size",
            "decay_steps",
            "t_mul",
            "plateau_patience",
            "early_stopping_patience",
        ):
            self._check(name, "at least 1", lambda value: value >= 1)
        for name in ("warmup_steps", "weight_decay", "seed", "min_learning_rate", "l2"):
            self._check(name, "at least 0", lambda value: value >= 0)
        for name in (
            "learning_rate",
            "epsilon",
            "clip_norm",
            "decay_epochs",
            "cycle_epochs",
            "m_mul",
        ):
            self._check(name, "positive", lambda value: value > 0)
        for name in ("momentum", "label_smoothing"):
            self._check(name, "at least 0 and below 1", lambda value: 0 <= value < 1)
        for name in ("decay_rate", "ema"):
            self._check(name, "above 0 and below 1", lambda value: 0 < value < 1)
        self._check(
            "milestones",
            "epochs in rising order",
            lambda value: value and all(a < b for a, b in itertools.pairwise((0, *value))),
        )
        self._check(
            "min_learning_rate", "below learning_rate", lambda value: value < self.learning_rate
        )
        self._check("optimizer", f"one of {OPTIMIZERS}", OPTIMIZERS.__contains__)
        self._check("schedule", f"one of {SCHEDULES}", SCHEDULES.__contains__)
        self._check("loss", f"one of {LOSSES}", LOSSES.__contains__)
        self._check_schedule()
        if not self.hold_out and self.monitor.startswith("val_"):
            raise ValueError(
                "Without a validation split the best epoch is chosen by train_loss, train_accuracy "
                f"or train_auc. Received: monitor={self.monitor!r} with hold_out=False"
            )
        if self.hold_out and self.monitor.startswith("train_"):
            raise ValueError(
                "All training examples are scored only where none is held out, with "
                f"hold_out=False. Received: monitor={self.monitor!r} with hold_out=True"
            )
        if self.schedule == "epoch_cosine" and self.warmup_steps:
            raise ValueError(
                "The schedule epoch_cosine has no warm-up. "
                f"Received: warmup_steps={self.warmup_steps}"
            )
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError(
                "Adam with decoupled weight decay is adamw: choose that, or weight_decay=0 (and "
                "l2 for a penalty in the gradient). "
                f"Received: optimizer='adam' with weight_decay={self.weight_decay}"
            )
        if self.optimizer != "sgd" and self.momentum is not None:
            raise ValueError(
                "momentum is for sgd. "
                f"Received: momentum={self.momentum} with optimizer={self.optimizer!r}"
            )

    def _check_schedule(self) -> None:
        own = _SCHEDULE_FIELDS[self.schedule]
        for name in SCHEDULE_FIELDS:
            value = getattr(self, name)
            if value is None and own.get(name) is _REQUIRED:
                raise ValueError(
                    f"The schedule {self.schedule} must say its {name}. Received: {name}=None"
                )
            if value is not None and name not in own:
                owners = ", ".join(s for s, fields in _SCHEDULE_FIELDS.items() if name in fields)
                raise ValueError(
                    f"{name} belongs to the schedule {owners.replace(', ', ' or ')}. "
                    f"Received: {name}={value} with schedule={self.schedule!r}"
                )

    def schedule_value(self, name: str) -> Any:
        """A field of the schedule, or its default.

        Example:

        >>> Recipe(epochs=9, schedule="step", decay_epochs=3).schedule_value("decay_rate")
        0.1
        """
        value = getattr(self, name)
        return _SCHEDULE_FIELDS[self.schedule][name] if value is None else value

    @property
    def has_soft_labels(self) -> bool:
        """Whether the loss takes labels as shares of all classes, `(B, num_classes)`."""
        mixed = self.augment is not None and self.augment.mixup > 0
        return mixed or self.label_smoothing > 0 or self.loss == "focal"

    def learning_rate_schedule(
        self, total_steps: int
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """The learning rate as Keras wants it.

        Args:
            total_steps: Steps of the whole run, of which each epoch has as many.

        Raises:
            ValueError: If there is no step, or the warm-up lasts longer than to the first
                milestone.
        """
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1. Received: total_steps={total_steps}")
        if self.schedule == "warmup_cosine":
            return self._cosine(total_steps)
        schedule = self._schedule_after_warmup(total_steps / self.epochs)
        return WarmUp(schedule, self.warmup_steps) if self.warmup_steps else schedule

    def _cosine(self, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        if self.decay_steps is not None:
            warmup, decay = self.warmup_steps, self.decay_steps
        else:
            warmup = min(self.warmup_steps, total_steps // 2)
            decay = total_steps - warmup
        return warmup_cosine(self.learning_rate, warmup_steps=warmup, decay_steps=decay)

    def _schedule_after_warmup(
        self, steps_per_epoch: float
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        schedules, rate, value = keras.optimizers.schedules, self.learning_rate, self.schedule_value

        def steps(epochs: float) -> int:
            return max(1, round(epochs * steps_per_epoch))

        match self.schedule:
            case "exponential" | "step":
                return schedules.ExponentialDecay(
                    rate,
                    steps(value("decay_epochs")),
                    value("decay_rate"),
                    staircase=self.schedule == "step",
                )
            case "multi_step":
                # Keras changes after the boundary, which is the last step of an epoch.
                boundaries = [steps(m) - 1 - self.warmup_steps for m in value("milestones")]
                if boundaries[0] < 0:
                    raise ValueError(
                        "The warm-up must end before the first milestone. Received: "
                        f"warmup_steps={self.warmup_steps} with milestones={self.milestones}, "
                        f"the first after {steps(self.milestones[0])} steps"
                    )
                rates = [rate * value("decay_rate") ** k for k in range(len(boundaries) + 1)]
                return schedules.PiecewiseConstantDecay(boundaries, rates)
            case "cyclic":
                return Triangular(
                    rate,
                    min_learning_rate=value("min_learning_rate"),
                    cycle_steps=max(2, steps(value("cycle_epochs"))),
                    m_mul=value("m_mul"),
                )
            case "epoch_cosine":
                return EpochCosine(
                    rate,
                    steps_per_epoch=round(steps_per_epoch),
                    cycle_epochs=value("cycle_epochs"),
                )
            case "cosine_restarts":
                return schedules.CosineDecayRestarts(
                    rate,
                    steps(value("cycle_epochs")),
                    t_mul=value("t_mul"),
                    m_mul=value("m_mul"),
                    alpha=value("min_learning_rate") / rate,
                )
            case "plateau":
                return Plateau(rate)
        return rate

    def make_optimizer(
        self,
        total_steps: int,
        schedule: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    ) -> keras.optimizers.Optimizer:
        """The optimizer, with its schedule, decay and clipping.

        Args:
            total_steps: Steps of the whole run.
            schedule: What `learning_rate_schedule` returned; by default another of that kind.

        Returns:
            A new Keras optimizer.
        """
        options = {
            "learning_rate": self.learning_rate_schedule(total_steps)
            if schedule is None
            else schedule,
            "weight_decay": self.weight_decay or None,
            "global_clipnorm": self.clip_norm,
            "name": self.optimizer,
        }
        if self.ema is not None:
            options |= {"use_ema": True, "ema_momentum": self.ema}
        if self.optimizer == "sgd":
            options["momentum"] = 0.9 if self.momentum is None else self.momentum
            return L2SGD(l2=self.l2, **options) if self.l2 else keras.optimizers.SGD(**options)
        options["epsilon"] = self.epsilon
        if self.l2:
            return L2Adam(l2=self.l2, **options)
        if self.optimizer == "adam":
            return keras.optimizers.Adam(**options)
        return keras.optimizers.AdamW(**options | {"weight_decay": self.weight_decay})

    def make_loss(self) -> keras.losses.Loss:
        """The loss of logits, for labels as `has_soft_labels` says."""
        losses = keras.losses
        if self.loss == "sigmoid":
            return _SigmoidCrossentropy(self.label_smoothing)
        if self.loss == "focal":
            return losses.CategoricalFocalCrossentropy(
                alpha=1.0, gamma=2.0, from_logits=True, label_smoothing=self.label_smoothing
            )
        if self.has_soft_labels:
            return losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=self.label_smoothing
            )
        return losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class _SigmoidCrossentropy(keras.losses.Loss):
    """Sigmoid cross-entropy on logit 1 of two; labels are 0 and 1, or shares of both classes."""

    def __init__(self, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        share = y_true[:, -1:] if len(y_true.shape) == 2 else keras.ops.expand_dims(y_true, -1)
        return keras.losses.binary_crossentropy(
            share, y_pred[:, 1:], from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@dataclasses.dataclass(frozen=True)
class GANRecipe(_Fields):
    """How a GAN is trained: frozen, checked, and JSON.

    Args:
        epochs: Passes over the training images.
        batch_size: Images in one update of the discriminator.
        num_critic_steps: Updates of the discriminator for one of the generator.
        generator_batch_size: Images in one update of the generator; by default `batch_size`.
        loss: One of `training.GAN_LOSSES`.
        generator_learning_rate, discriminator_learning_rate: Of Adam.
        beta_1, beta_2, epsilon: Of Adam.
        warmup_steps: Updates over which the rates rise from 0, then they stay.
        clip_norm: Gradients are scaled down to this global norm; `None` never.
        gradient_penalty_weight: Of the gradient penalty; 0 for none.
        gradient_penalty_target: The norm of the gradient that the penalty asks for.
        gradient_penalty_one_sided: Whether only larger norms are penalised.
        drift: Weight of the squared mean of the real logits.
        augment: Policy of `layers.DiffAugment`, such as `"translation,cutout,color"`; "" for none.
        translation, cutout, cutout_probability: Of `layers.DiffAugment`.
        flip: Whether real images are mirrored at random.
        ema_images: Half-life of the generator's average, in images, see `GAN.compile`.
        seed: Seed of the order of the images and of `layers.DiffAugment`.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range.

    Example:

    >>> recipe = GANRecipe(epochs=40, num_critic_steps=5)
    >>> GANRecipe.from_json(recipe.to_json()) == recipe
    True
    """

    epochs: int
    batch_size: int = 64
    num_critic_steps: int = 1
    generator_batch_size: int | None = None
    loss: str = "wasserstein"
    generator_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.99
    epsilon: float = 1e-8
    warmup_steps: int = 0
    clip_norm: float | None = 5.0
    gradient_penalty_weight: float = 10.0
    gradient_penalty_target: float = 1.0
    gradient_penalty_one_sided: bool = False
    drift: float = 0.0
    augment: str = ""
    translation: float = 0.125
    cutout: float = 0.5
    cutout_probability: float = 1.0
    flip: bool = False
    ema_images: float = 500_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "num_critic_steps", "generator_batch_size"):
            self._check(name, "at least 1", lambda value: value >= 1)
        for name in ("warmup_steps", "gradient_penalty_weight", "drift", "seed"):
            self._check(name, "at least 0", lambda value: value >= 0)
        for name in ("beta_1", "beta_2"):
            self._check(name, "at least 0 and below 1", lambda value: 0 <= value < 1)
        for name in (
            "generator_learning_rate",
            "discriminator_learning_rate",
            "epsilon",
            "clip_norm",
            "gradient_penalty_target",
            "ema_images",
        ):
            self._check(name, "positive", lambda value: value > 0)
        self._check("loss", f"one of {', '.join(GAN_LOSSES)}", GAN_LOSSES.__contains__)
        for name in ("translation", "cutout", "cutout_probability"):
            self._check(name, "between 0 and 1", lambda value: 0 <= value <= 1)
        names = self.augment.split(",") if self.augment else []
        self._check(
            "augment",
            f"some of {', '.join(OPERATIONS)}, each at most once, with commas and no spaces",
            lambda _: set(names) <= set(OPERATIONS) and len(set(names)) == len(names),
        )

    @property
    def images_per_step(self) -> int:
        """Real images that one step takes: those of all its updates of the discriminator."""
        return self.batch_size * self.num_critic_steps

    def make_optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """New optimizers, `generator_optimizer` and `discriminator_optimizer`."""
        rates = {
            "generator_optimizer": self.generator_learning_rate,
            "discriminator_optimizer": self.discriminator_learning_rate,
        }
        return {name: self._optimizer(name, rate) for name, rate in rates.items()}

    def _optimizer(self, name: str, rate: float) -> keras.optimizers.Optimizer:
        schedule: Any = rate
        if self.warmup_steps:
            # A cosine that ends where it begins: the rate stays after the warm-up.
            schedule = keras.optimizers.schedules.CosineDecay(
                0.0, 1, alpha=1.0, warmup_target=rate, warmup_steps=self.warmup_steps
            )
        return keras.optimizers.Adam(
            schedule,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            global_clipnorm=self.clip_norm,
            name=name,
        )


def _typed(name: str, value: Any, hint: Any) -> Any:
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    if tuple[float, ...] in options:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list of numbers. Received: {name}={value!r}")
        return tuple(_typed(name, item, float) for item in value)
    if Augmentation in options and isinstance(value, dict):
        return Augmentation.from_dict(value)
    if hint is bool and isinstance(value, bool):
        return value
    if isinstance(value, bool) or not isinstance(
        value, options + ((int,) if float in options else ())
    ):
        wanted = " or ".join("None" if o is type(None) else o.__name__ for o in options)
        raise TypeError(f"{name} must be {wanted}. Received: {name}={value!r}")
    if float in options:
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite. Received: {name}={value!r}")
    return value


# C.-A. Ripanu, QRKT-GAN (UPB Bucharest, 2024), after Comajoan Cara et al. 2024. The rate is 0 from
# step 50,000 on, which on MNIST (843 steps an epoch) is during epoch 60 of 65.
THESIS = Recipe(epochs=65, batch_size=64, warmup_steps=5000, decay_steps=45000)
THESIS_TWO_CLASSES = dataclasses.replace(THESIS, loss="sigmoid")
