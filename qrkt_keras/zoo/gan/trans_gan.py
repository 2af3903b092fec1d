"""TransGAN: the classical GAN of transformers that QRKT-GAN is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from qrkt_keras.layers.projection import dropout_rate, positive_integer
from qrkt_keras.zoo.gan import networks
from qrkt_keras.zoo.gan.gan import GAN
from qrkt_keras.zoo.gan.stages import check_depths, check_stages, settings_of_width


@keras.saving.register_keras_serializable(package="qrkt_keras")
class TransGAN(GAN):
    """A GAN of transformers without convolutions, whose discriminator reads two scales.

    Attention has a learned bias for every offset between two tokens; in the discriminator every
    block adds noise to its tokens. Source: Jiang, Chang and Wang, *TransGAN: Two Pure Transformers
    Can Make One Strong GAN*, NeurIPS 2021, and its official code for CIFAR-10, whose size is the
    default.

    Args:
        image_shape: Height, width and channels; square, divisible by 4.
        latent_dim: Width of the noise.
        widths: Width of a token in each stage of the generator, each a quarter of the one before.
        depths: Blocks of each stage; none in one that only makes more tokens.
        num_heads: Heads of attention.
        discriminator_widths: Width of the tokens of patches of 2 pixels, and what patches of 4 add.
        discriminator_depths: Blocks on patches of 2 pixels, of 4, and with the class token.
        mlp_ratio: Width inside the feed-forward parts, in widths of a token.
        dropout: Rate of dropout on attention weights and branches.
        num_classes: Number of classes of a conditional GAN.
        seed: Seed of noise, augmentation and interpolation.
        name: Name of the model.

    Call arguments:
        inputs: Noise of shape `(B, latent_dim)`; with classes `[noise, labels]`.

    Returns:
        Images of shape `(B, height, width, channels)`, by the averaged generator.

    Raises:
        ValueError: If an argument is out of range, or does not fit another one.

    Example:

    >>> from qrkt_keras.zoo import TransGAN
    >>> gan = TransGAN(
    ...     (8, 8, 1), latent_dim=16, widths=(16, 4), depths=(1, 1), num_heads=2,
    ...     discriminator_widths=(6, 2), discriminator_depths=(1, 1, 1))
    >>> gan.generate(2, seed=1).shape
    (2, 8, 8, 1)
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (32, 32, 3),
        *,
        latent_dim: int = 256,
        widths: Sequence[int] = (1024, 256, 64),
        depths: Sequence[int] = (5, 4, 2),
        num_heads: int = 4,
        discriminator_widths: Sequence[int] = (288, 96),
        discriminator_depths: Sequence[int] = (3, 3, 1),
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        num_classes: int | None = None,
        seed: int = 0,
        name: str | None = "trans_gan",
    ) -> None:
        image_shape = check_stages(image_shape, widths, depths)
        if image_shape[0] % 4:
            raise ValueError(
                "The discriminator has patches of 4 pixels, which must divide the side. "
                f"Received: image_shape={image_shape}"
            )
        num_heads = positive_integer("num_heads", num_heads)
        if len(discriminator_widths) != 2 or len(discriminator_depths) != 3:
            raise ValueError(
                "The discriminator has 2 widths and 3 depths. Received: "
                f"discriminator_widths={tuple(discriminator_widths)}, "
                f"discriminator_depths={tuple(discriminator_depths)}"
            )
        for width in discriminator_widths:
            positive_integer("discriminator_widths", width)
        check_depths("discriminator_depths", discriminator_depths)
        if num_classes is not None:
            num_classes = positive_integer("num_classes", num_classes)
        settings = settings_of_width(
            positive_integer("mlp_ratio", mlp_ratio), quantum=False, dropout=dropout_rate(dropout)
        )
        super().__init__(
            networks.generator(
                image_shape,
                positive_integer("latent_dim", latent_dim),
                widths,
                depths,
                num_heads,
                settings,
                relative_positions=True,
                num_classes=num_classes,
            ),
            networks.multi_scale_discriminator(
                image_shape,
                discriminator_widths,
                discriminator_depths,
                num_heads,
                settings,
                num_classes=num_classes,
            ),
            seed=seed,
            name=name,
        )
        self._config = {
            "image_shape": [*image_shape],
            "latent_dim": latent_dim,
            "widths": [*widths],
            "depths": [*depths],
            "num_heads": num_heads,
            "discriminator_widths": [*discriminator_widths],
            "discriminator_depths": [*discriminator_depths],
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
            "num_classes": num_classes,
            "seed": seed,
        }

    def get_config(self) -> dict[str, Any]:
        return {**self._config, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TransGAN:
        return cls(**config)
