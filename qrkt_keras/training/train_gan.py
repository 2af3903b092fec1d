"""Training a GAN, from data to report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.layers import DiffAugment
from qrkt_keras.training.checkpoints import TrainingCheckpoint
from qrkt_keras.training.gan_evaluation import (
    FeatureExtractor,
    GANMeasures,
    measure_features,
    measure_images,
)
from qrkt_keras.training.grids import SampleGrids, grid_picture
from qrkt_keras.training.job import (
    CHECKPOINT,
    fingerprint,
    prepared_folder,
    run,
    steps_per_execution,
    write_json,
)
from qrkt_keras.training.recipes import GANRecipe

REPORTS = ("history.json", "samples.png", "real.png")

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
        epochs: Epochs trained.
        seconds: Time used for training, over all runs of the job.
        output_dir: Where the checkpoint and the pictures are.
    """

    history: Mapping[str, tuple[float, ...]]
    measures: GANMeasures | None
    best_epoch: int
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
        real: uint8 images to compare with.
        num: Generated images.
        every: Epochs between two measurements; the last epoch is always measured.
    """

    def __init__(
        self, network: FeatureExtractor, real: np.ndarray, *, num: int = 1000, every: int = 1
    ) -> None:
        super().__init__()
        self._network = network
        self._real_features, _ = network.features(real)
        self._num = num
        self._every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done = epoch + 1
        if done % self._every and done != self.params["epochs"]:
            logs.update(dict.fromkeys(("fid", "kid", "inception_score"), float("nan")))
            return
        generated = self.model.generate(self._num, seed=_MEASURED_SEED)
        measures = measure_features(self._network, self._real_features, generated)
        logs.update(fid=measures.fid, kid=measures.kid, inception_score=measures.inception_score)


def fit_gan(
    model: keras.Model,
    data: str | np.ndarray,
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
    grids_every: int | None = None,
    scores_every: int | None = None,
    num_scored: int = 1000,
    num_measured: int = 10_000,
    tensorboard: bool = False,
    jit_compile: bool | str = False,
) -> GANResult:
    """Trains a GAN and shows what it makes.

    A checkpoint is written after every epoch; it holds both networks, the average, both optimizers
    and all random generators, so that a job that was killed is continued by the same call with
    `resume=True`, in the same environment bit for bit. `output_dir/grids` shows samples of the same
    noise as training goes on. With a `feature_network`, FID, KID and Inception Score are measured
    against the training images, and at the end the model has the weights of least FID.

    Args:
        model: A `zoo.GAN`.
        data: The name of a data set (`data.list()`), whose images are resized to the model's, or
            uint8 images `(n, height, width, channels)`.
        recipe: How to train.
        output_dir: A folder for this job alone; it is made if need be.
        feature_network: What generated images are measured by: a `zoo.FeatureNetwork`, or an
            `InceptionFeatures`.
        resume: Whether to continue the job in `output_dir`, if there is one.
        overwrite: Whether to replace the job in `output_dir`.
        seed: Seed of the order of the images, in place of the recipe's.
        epochs: Number of epochs, in place of the recipe's.
        callbacks: More Keras callbacks.
        progress: Whether to show how far it is.
        identity: JSON data that must be the same when the job is continued.
        data_dir: Where the data set is; see `data.arrays`.
        grids_every: Epochs between two pictures of samples; by default about twenty in all.
        scores_every: Epochs between two measurements; by default about ten in all.
        num_scored: Generated, and real, images of a measurement during training.
        num_measured: Generated images of the measurement at the end, against as many real ones, or
            all if there are fewer.
        tensorboard: Whether pictures and logs are written for TensorBoard too.
        jit_compile: Whether to compile the training step with XLA, which on a CPU makes it slower
            (docs/benchmarks.md, "Steps of a GAN").

    Returns:
        The history.

    Raises:
        ValueError: If an argument does not fit the others.
        CheckpointError: If the job in `output_dir` is damaged or is another one.
        TrainingInterrupted: On an interrupt (ctrl-C), with the way to continue.
        FloatingPointError: If a loss stops being a number; the last good epoch's checkpoint stays.
    """
    changes = {"seed": seed, "epochs": epochs}
    recipe = dataclasses.replace(
        recipe, **{name: value for name, value in changes.items() if value is not None}
    )
    images, labels = _images(data, model, data_dir)
    steps = datasets.steps_per_epoch(len(images), recipe.images_per_step)
    folder = prepared_folder(Path(output_dir), REPORTS, resume=resume, overwrite=overwrite)

    model.compile(
        **compile_arguments(recipe),
        steps_per_execution=steps_per_execution(steps),
        jit_compile=jit_compile,
    )
    checkpoint = TrainingCheckpoint(
        folder / CHECKPOINT,
        identity={
            "recipe": recipe.to_dict(),
            "data": {
                "name": data if isinstance(data, str) else None,
                "sha256": fingerprint((images, labels)),
            },
            **(identity or {}),
        },
        monitor=None if feature_network is None else "fid",
        mode="min",
    )
    start = checkpoint.restore(model) if resume and checkpoint.path.exists() else 0
    grid_picture(images[:64], folder / "real.png")
    scores = []
    if feature_network is not None:
        every = scores_every or max(1, recipe.epochs // 10)
        scores.append(GANScores(feature_network, images[:num_scored], num=num_scored, every=every))
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
        epochs=recipe.epochs,
        before=[*scores, *callbacks],
        after=[grids],
        progress=progress,
    )
    checkpoint.restore_best(model)
    measures = None
    if feature_network is not None:
        generated = model.generate(num_measured, seed=_MEASURED_SEED)
        measures = measure_images(feature_network, images[:num_measured], generated)
    result = GANResult(
        history={name: tuple(values) for name, values in checkpoint.history.items()},
        measures=measures,
        best_epoch=checkpoint.best_epoch or checkpoint.epoch,
        epochs=checkpoint.epoch,
        seconds=checkpoint.seconds,
        output_dir=folder,
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
            "scored": None
            if feature_network is None
            else {"feature_network": feature_network.name, "num_generated": num_scored},
            "collapsed": bool(result.history["diversity"][-1] < _COLLAPSED),
            "history": {
                name: [None if value != value else value for value in values]
                for name, values in result.history.items()
            },
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
        "penalty_weight": recipe.penalty_weight,
        "penalty_target": recipe.penalty_target,
        "one_sided": recipe.one_sided,
        "drift": recipe.drift,
        "augment": augment,
        "flip": recipe.flip,
        "ema_images": recipe.ema_images,
    }


def _images(
    data: str | np.ndarray, model: keras.Model, data_dir: str | os.PathLike[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The images to train on, all of them: a GAN has no validation split."""
    if isinstance(data, str):
        images, labels = datasets.arrays(data, "train+validation", data_dir=data_dir)
        images = datasets.resized(images, model.image_shape[:2])
    else:
        images, labels = np.asarray(data), np.zeros(len(data), np.int32)
    if images.shape[1:] != model.image_shape or images.dtype != np.uint8:
        raise ValueError(
            f"The images must be uint8 of shape (n, {', '.join(map(str, model.image_shape))}), as "
            f"the model makes them. Received: shape {images.shape}, dtype {images.dtype}"
        )
    return images, labels
