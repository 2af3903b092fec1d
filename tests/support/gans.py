"""A GAN that trains in no time."""

from __future__ import annotations

import keras

from qrkt_keras.zoo import QRKTGAN


def small_gan(seed: int = 0, **changes) -> QRKTGAN:
    """Of 8x8 images, one block a network; the same weights for the same seed."""
    keras.utils.set_random_seed(seed)
    arguments = {
        "image_shape": (8, 8, 1),
        "latent_dim": 6,
        "widths": (8,),
        "depths": (1,),
        "num_heads": 2,
        "patch_size": 4,
        "discriminator_width": 8,
        "discriminator_depth": 1,
        "dropout": 0.0,
    }
    return QRKTGAN(**{**arguments, **changes})
