"""How a model is trained, as data."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from typing import Any, Self, get_args, get_type_hints

import keras

from qrkt_keras.layers.diff_augment import OPERATIONS
from qrkt_keras.training.gan_losses import GAN_LOSSES
from qrkt_keras.training.schedules import warmup_cosine

OPTIMIZERS = ("adamw",)
SCHEDULES = ("warmup_cosine", "constant")


@dataclasses.dataclass(frozen=True)
class _Fields:
    """Checked fields that are JSON."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), hint))

    def _check(self, name: str, wanted: str, holds: Any) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name} must be {wanted}. Received: {name}={value!r}")

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The recipe with these fields; an unknown or missing one is refused."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(
                f"A recipe has the fields {', '.join(known)}. Received: {', '.join(unknown)}"
            )
        if "epochs" not in fields:
            raise ValueError(f"A recipe must say its epochs. Received: {fields}")
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
            raise ValueError(f"A recipe must be JSON ({error}). Received: {text!r}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"A recipe must be a JSON object. Received: {text!r}")
        return cls.from_dict(fields)


@dataclasses.dataclass(frozen=True)
class Recipe(_Fields):
    """A training recipe: frozen, checked, and JSON.

    Args:
        epochs: Passes over the training examples.
        batch_size: Examples in a step; incomplete batches are dropped.
        optimizer: `"adamw"`: Adam with decoupled weight decay (Loshchilov and Hutter 2019), on
            all weights.
        learning_rate: The peak learning rate.
        schedule: `"warmup_cosine"` (see `schedules.warmup_cosine`) or `"constant"`.
        warmup_steps: Steps of linear warm-up.
        decay_steps: Steps of cosine decay after the warm-up. `None` lets the cosine end with the
            run; then a run too short for its warm-up spends at most half of its steps on it.
        weight_decay: Decoupled weight decay: each step takes `lr * weight_decay * w` off `w`.
        epsilon: Adam's epsilon.
        clip_norm: Gradients are scaled down to this global norm; `None` never.
        seed: Seed of the order of the examples.
        monitor: The log by which the best epoch is chosen.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range.

    Example:

    >>> recipe = Recipe(epochs=30, warmup_steps=100)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "decay_steps"):
            self._check(name, "at least 1", lambda value: value >= 1)
        for name in ("warmup_steps", "weight_decay", "seed"):
            self._check(name, "at least 0", lambda value: value >= 0)
        for name in ("learning_rate", "epsilon", "clip_norm"):
            self._check(name, "positive", lambda value: value > 0)
        self._check("optimizer", f"one of {OPTIMIZERS}", OPTIMIZERS.__contains__)
        self._check("schedule", f"one of {SCHEDULES}", SCHEDULES.__contains__)
        if self.schedule == "constant" and (self.warmup_steps or self.decay_steps):
            raise ValueError(
                "A constant schedule has neither warm-up nor decay. Received: "
                f"warmup_steps={self.warmup_steps}, decay_steps={self.decay_steps}"
            )

    def learning_rate_schedule(
        self, total_steps: int
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """The learning rate as Keras wants it.

        Args:
            total_steps: Steps of the whole run, from which a cosine that ends with the run takes
                its length.
        """
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1. Received: total_steps={total_steps}")
        if self.schedule == "constant":
            return self.learning_rate
        if self.decay_steps is not None:
            warmup, decay = self.warmup_steps, self.decay_steps
        else:
            warmup = min(self.warmup_steps, total_steps // 2)
            decay = total_steps - warmup
        return warmup_cosine(self.learning_rate, warmup_steps=warmup, decay_steps=decay)

    def make_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """The optimizer, with its schedule, decay and clipping.

        Args:
            total_steps: Steps of the whole run.

        Returns:
            A new Keras optimizer.
        """
        return keras.optimizers.AdamW(
            learning_rate=self.learning_rate_schedule(total_steps),
            weight_decay=self.weight_decay,
            epsilon=self.epsilon,
            global_clipnorm=self.clip_norm,
            name=self.optimizer,
        )


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
