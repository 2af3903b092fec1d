"""Jobs of small GANs. `gan_jobs.py NAME FOLDER` runs one that is killed in its second epoch."""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

import keras
import numpy as np
from support.gans import small_gan

from qrkt_keras.training import GANRecipe, GANResult, fit_gan, job
from qrkt_keras.zoo import GAN, TransGAN

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1), dtype=np.uint8)


class Pixels:
    """Measures images by their first pixels."""

    name = "pixels"

    def features(self, images):
        flat = images.reshape(len(images), -1)[:, :5] / 255.0
        return flat, flat[:, :3]


def make_gan(name: str, seed: int) -> GAN:
    if name == "QRKTGAN":
        # Without the Runge-Kutta stage, which has no state of its own and takes long to compile.
        return small_gan(seed, dropout=0.1, solver=None)
    keras.utils.set_random_seed(seed)
    return TransGAN(
        (8, 8, 1),
        latent_dim=6,
        widths=(8,),
        depths=(1,),
        num_heads=2,
        discriminator_widths=(6, 2),
        discriminator_depths=(1, 1, 1),
        dropout=0.1,
    )


def train(name: str, folder: str, *, seed: int = 0, **arguments) -> GANResult:
    """Three epochs of three steps, of which Keras executes one at a time."""
    recipe = GANRecipe(
        epochs=3,
        batch_size=8,
        num_critic_steps=2,
        warmup_steps=4,
        gradient_penalty_weight=0.0,
        drift=1e-3,
        augment="translation",
        flip=True,
    )
    with mock.patch.object(job, "MAX_STEPS_PER_EXECUTION", 1):
        return fit_gan(
            make_gan(name, seed),
            IMAGES,
            recipe,
            output_dir=folder,
            feature_network=Pixels(),
            num_scored=16,
            num_measured=16,
            progress=False,
            **arguments,
        )


class Kill(keras.callbacks.Callback):
    """In the middle of the second epoch, by the signal that nobody can catch."""

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train(*sys.argv[1:], callbacks=[Kill()])
