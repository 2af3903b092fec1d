"""Training a GAN, from data to report."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.layers import DiffAugment
from qrkt_keras.layers.projection import positive_integer
from qrkt_keras.training import strategies
from qrkt_keras.training.checkpoints import TrainingCheckpoint, model_identity
from qrkt_keras.training.gan_evaluation import FeatureExtractor, GANMeasures, measure_features
from qrkt_keras.training.grids import GRID_FILES, SampleGrids, grid_picture
from qrkt_keras.training.job import (
    CHECKPOINT,
    fingerprint,
    is_due,
    paused_at,
    prepared_folder,
    run,
    steps_per_execution,
    without_nan,
    write_json,
)
from qrkt_keras.training.recipes import GANRecipe

REPORTS = (
    "history.json",
    "samples.png",
    "real.png",
    *(f"grids/{pattern}" for pattern in GRID_FILES),
)

# Below this share of the real images' spread, those of one batch look all alike.
_COLLAPSED = 0.2

# The noise of measurements; samples and pictures have others.
_MEASURED_SEED = 1


@dataclasses.dataclass(frozen=True)
class GANResult:
    """What `fit_gan` leaves behind.

    Attributes:
        history: Log name to its value in each epoch.
        measures: What the model's images measure at the end, if there was a feature network.
        best_epoch: The epoch whose weights the model has now, counted from 1.
        collapsed: Whether the generator made nearly the same image again and again in that epoch:
            whether its `diversity`, the spread of generated images over that of real ones, was
            below 0.2. None where that is not known, as for one image a batch.
        epochs: Epochs trained.
        seconds: Time used for training, over all runs of the job.
        output_dir: Where the checkpoint and the pictures are.
    """

    history: Mapping[str, tuple[float, ...]]
    measures: GANMeasures | None
    best_epoch: int
    collapsed: bool | None
    epochs: int
    seconds: float
    output_dir: Path

    def to_scores(self) -> dict[str, Any]:
        """The measures as JSON data, with what they were measured by; empty without."""
        return {} if self.measures is None else self.measures.to_dict()


class GANScores(keras.callbacks.Callback):
    """Adds `fid`, `kid` and `inception_score` to the logs, NaN in epochs that are not measured.

    Args:
        network: What images are compared by.
        real_features: Of the images to compare with.
        num: Generated images.
        every: Epochs between two measurements; the last epoch is always measured.
    """

    def __init__(
        self, network: FeatureExtractor, real_features: np.ndarray, *, num: int, every: int
    ) -> None:
        super().__init__()
        self._network = network
        self._real_features = real_features
        self._num = num
        self._every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not is_due(epoch + 1, self._every, self.params["epochs"]):
            logs.update(dict.fromkeys(("fid", "kid", "inception_score"), float("nan")))
            return
        generated = self.model.generate(self._num, seed=_MEASURED_SEED)
        measures = measure_features(self._network, self._real_features, generated)
        logs.update(fid=measures.fid, kid=measures.kid, inception_score=measures.inception_score)


class CollapseWarning(keras.callbacks.Callback):
    """Warns when the generator begins to make nearly the same image again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._is_collapsed = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        before, self._is_collapsed = self._is_collapsed, bool(has_collapsed(logs["diversity"]))
        if self._is_collapsed and not before:
            warnings.warn(
                f"Mode collapse in epoch {epoch + 1}: generated images of a batch differ only "
                f"{logs['diversity']:.1%} as much as real ones.",
                stacklevel=1,
            )


def has_collapsed(diversity: float) -> bool | None:
    """What `GANResult.collapsed` says of a `diversity`."""
    return diversity < _COLLAPSED if math.isfinite(diversity) else None


def fit_gan(
    model: keras.Model,
    data: str | np.ndarray | tuple[np.ndarray, np.ndarray],
    recipe: GANRecipe,
    *,
    output_dir: str | os.PathLike[str],
    feature_network: FeatureExtractor | None = None,
    resume: bool = False,
    overwrite: bool = False,
    seed: int | None = None,
    epochs: int | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    data_options: Mapping[str, Any] | None = None,
    grids_every: int | None = None,
    scores_every: int | None = None,
    num_scored: int = 1000,
    num_measured: int = 10_000,
    tensorboard: bool = False,
    jit_compile: bool | str = False,
    until: int | None = None,
) -> GANResult:
    """Trains a GAN and shows what it makes.

    A checkpoint is written after every epoch; it holds both networks, the average, both optimizers
    and all random generators, so that a job that was killed is continued by the same call with
    `resume=True`, in the same environment bit for bit. `output_dir/grids` shows samples of the same
    noise as training goes on. With a `feature_network`, FID, KID and Inception Score are measured
    against the training images, and at the end the model has the weights of least FID.

    Args:
        model: A `zoo.GAN`.
        data: The name of a data set or its path, see `data.arrays`, whose images are resized to the
            model's, or uint8 images `(n, height, width, channels)`; for a GAN with classes a tuple
            of those and of integer labels `(n,)`.
        recipe: How to train.
        output_dir: A folder for this job alone; it is made if need be.
        feature_network: What generated images are measured by: a `zoo.FeatureNetwork`, or an
            `InceptionFeatures`.
        resume: Whether to continue the job in `output_dir`, if there is one.
        overwrite: Whether to replace the job in `output_dir`.
        seed: Seed of the order of the images and of DiffAugment, in place of the recipe's.
        epochs: Number of epochs, in place of the recipe's.
        callbacks: More Keras callbacks.
        progress: Whether to show how far it is.
        identity: JSON data that must be the same when the job is continued. Recipe, data, the
            measurement, and the model's configuration but for its engine always are.
        data_dir: Where the data set is; see `data.arrays`.
        data_options: How it is read, such as `channels`; see `data.arrays`.
        grids_every: Epochs between two pictures of samples; by default about twenty in all.
        scores_every: Epochs between two measurements; by default about ten in all.
        num_scored: Generated, and real, images of a measurement during training.
        num_measured: Generated images of the measurement at the end, against as many real ones, or
            all if there are fewer.
        tensorboard: Whether pictures and logs are written for TensorBoard too.
        jit_compile: Whether to compile the training step with XLA, which on a CPU makes it slower
            (docs/benchmarks.md, "Steps of a GAN").
        until: Epochs after which the job pauses, as of `fit`; they are measured then.

    Returns:
        The history, the measures, and whether the generator has collapsed, of which a warning tells
        too.

    Raises:
        TypeError: If the recipe is not a `GANRecipe`.
        ValueError: If an argument is out of range or does not fit the others.
        CheckpointError: If the job in `output_dir` is damaged or is another one.
        TrainingInterrupted: On an interrupt (ctrl-C), with the way to continue.
        FloatingPointError: If a loss or a weight stops being a number, as soon as that is seen; the
            last good epoch's checkpoint stays.
    """
    if not isinstance(recipe, GANRecipe):
        raise TypeError(f"recipe must be a GANRecipe. Received: recipe={recipe!r}")
    for name, value in (("grids_every", grids_every), ("scores_every", scores_every)):
        if value is not None:
            positive_integer(name, value)
    for name, value in (("num_scored", num_scored), ("num_measured", num_measured)):
        if positive_integer(name, value) < 2:
            raise ValueError(f"`{name}` must be at least 2. Received: {name}={value}")
    if (strategy := strategies.strategy_of(model)) is not None:
        raise ValueError(
            "A GAN is trained on one device; build it outside the scope of a strategy. "
            f"Received: {model.name!r} built under {type(strategy).__name__}"
        )
    recipe = recipe.with_given(seed=seed, epochs=epochs)
    paused_at(recipe.epochs, until)  # what is wrong is said before anything is read
    reading = {"data_dir": data_dir, **(data_options or {})}
    images, labels = _examples(data, model, reading)
    steps = datasets.steps_per_epoch(len(images), recipe.images_per_step)
    model.compile(
        **compile_arguments(recipe),
        steps_per_execution=steps_per_execution(steps),
        jit_compile=jit_compile,
    )
    # Not before: what is refused must not cost what is there.
    folder = prepared_folder(Path(output_dir), REPORTS, resume=resume, overwrite=overwrite)
    scored = None
    if feature_network is not None:
        scored = {
            "feature_network": feature_network.name,
            "num_generated": num_scored,
            "every": scores_every or max(1, recipe.epochs // 10),
        }
    checkpoint = TrainingCheckpoint(
        folder / CHECKPOINT,
        identity={
            **(identity or {}),
            "recipe": recipe.to_dict(),
            "data": {
                "name": data if isinstance(data, str) else None,
                "sha256": fingerprint((images, labels)),
            },
            "model": model_identity(model),
            "scored": scored,
        },
        monitor=None if feature_network is None else "fid",
        mode="min",
    )
    start = checkpoint.restore(model) if resume and checkpoint.path.exists() else 0
    grid_picture(images[:64], folder / "real.png")
    scores = []
    if feature_network is not None:
        real, _ = feature_network.features(images[: max(num_scored, num_measured)])
        own = real[:num_scored]
        scores.append(GANScores(feature_network, own, num=num_scored, every=scored["every"]))
    grids = SampleGrids(
        folder / "grids",
        every=grids_every or max(1, recipe.epochs // 20),
        tensorboard=tensorboard,
    )
    run(
        model,
        (images, labels),
        checkpoint,
        batch_size=recipe.images_per_step,
        seed=recipe.seed,
        start=start,
        epochs=paused_at(recipe.epochs, until),
        before=[*scores, *callbacks],
        after=[CollapseWarning(), grids],
        progress=progress,
    )
    checkpoint.restore_best(model)
    measures = None
    if feature_network is not None:
        generated = model.generate(num_measured, seed=_MEASURED_SEED)
        measures = measure_features(feature_network, real[:num_measured], generated)
    best_epoch = checkpoint.best_epoch or checkpoint.epoch
    diversity = checkpoint.history["diversity"][best_epoch - 1]
    result = GANResult(
        history={name: tuple(values) for name, values in checkpoint.history.items()},
        measures=measures,
        best_epoch=best_epoch,
        collapsed=has_collapsed(diversity),
        epochs=checkpoint.epoch,
        seconds=checkpoint.seconds,
        output_dir=folder,
    )
    if result.collapsed:
        warnings.warn(
            f"Mode collapse: the model has the weights of epoch {best_epoch}, in which generated "
            f"images of a batch differ only {diversity:.1%} as much as real ones.",
            stacklevel=1,
        )
    grid_picture(model.generate(64, seed=0), folder / "samples.png")
    write_json(
        folder / "history.json",
        {
            "recipe": recipe.to_dict(),
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 1),
            "images": len(images),
            "measures": result.to_scores(),
            "scored": scored,
            "collapsed": result.collapsed,
            "history": {name: without_nan(values) for name, values in result.history.items()},
        },
    )
    return result


def compile_arguments(recipe: GANRecipe) -> dict[str, Any]:
    """What a recipe says to `GAN.compile`, with new optimizers."""
    augment = None
    if recipe.augment:
        augment = DiffAugment(
            recipe.augment,
            translation=recipe.translation,
            cutout=recipe.cutout,
            cutout_probability=recipe.cutout_probability,
            seed=recipe.seed,
        )
    return {
        **recipe.make_optimizers(),
        "loss": recipe.loss,
        "num_critic_steps": recipe.num_critic_steps,
        "generator_batch_size": recipe.generator_batch_size,
        "gradient_penalty_weight": recipe.gradient_penalty_weight,
        "gradient_penalty_target": recipe.gradient_penalty_target,
        "gradient_penalty_one_sided": recipe.gradient_penalty_one_sided,
        "drift": recipe.drift,
        "augment": augment,
        "flip": recipe.flip,
        "ema_images": recipe.ema_images,
    }


def _examples(
    data: str | np.ndarray | tuple[np.ndarray, np.ndarray],
    model: keras.Model,
    reading: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """The images to train on and their labels, all of them: a GAN has no validation split."""
    num_classes = model.num_classes
    has_classes = num_classes is not None
    if isinstance(data, str):
        images, labels = datasets.arrays(data, "train+validation", **reading)
        images = datasets.resized(images, model.image_shape[:2])
        if has_classes and (own := datasets.info(data, **reading).num_classes) != num_classes:
            raise ValueError(
                f"The data set must have the model's {num_classes} classes, and has {own}. "
                f"Received: data={data!r}"
            )
    elif isinstance(data, tuple) != has_classes or (isinstance(data, tuple) and len(data) != 2):
        wanted = "(images, labels)" if has_classes else "images alone"
        raise ValueError(
            f"data must be {wanted}, as the model has {num_classes or 'no'} classes. "
            f"Received: data of type {type(data).__name__}"
        )
    elif has_classes:
        images, labels = map(np.asarray, data)
        _check_labels(labels, len(images), num_classes)
        labels = labels.astype(np.int32)
    else:
        images, labels = np.asarray(data), np.zeros(len(data), np.int32)
    if images.shape[1:] != model.image_shape or images.dtype != np.uint8:
        raise ValueError(
            f"The images must be uint8 of shape (n, {', '.join(map(str, model.image_shape))}), as "
            f"the model makes them. Received: shape {images.shape}, dtype {images.dtype}"
        )
    return images, labels


def _check_labels(labels: np.ndarray, num: int, num_classes: int) -> None:
    if labels.shape != (num,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"The labels must be integers ({num},), one an image. "
            f"Received: shape {labels.shape}, dtype {labels.dtype}"
        )
    # Of a class without an image, the model would make noise without a word.
    found = np.unique(labels).tolist()
    if found != [*range(num_classes)]:
        raise ValueError(
            f"The labels must be those of the model's {num_classes} classes, 0 to "
            f"{num_classes - 1}, each with an image. Received: labels {found}"
        )
