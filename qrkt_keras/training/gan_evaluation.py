"""Scoring what a GAN makes."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from qrkt_keras.training.gan_measures import frechet_distance, inception_score, kernel_distance


class FeatureExtractor(Protocol):
    """What images are measured by: a `zoo.FeatureNetwork`, or `InceptionFeatures`.

    Attributes:
        name: Which network it is, to stand with every number measured by it.
    """

    name: str

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features `(n, features)` and logits `(n, num_classes)` of uint8 images."""


@dataclasses.dataclass(frozen=True)
class GANMeasures:
    """How generated images compare with real ones, and what that was measured by.

    Attributes:
        fid: Fréchet distance of the features, see `frechet_distance`.
        kid: Kernel distance of the features, see `kernel_distance`.
        kid_error: Its standard error; NaN for few images.
        inception_score: Of the generated images, see `inception_score`.
        feature_network: Name of the network that the features come from.
        num_generated: Generated images.
        num_real: Real images.
    """

    fid: float
    kid: float
    kid_error: float
    inception_score: float
    feature_network: str
    num_generated: int
    num_real: int

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON data: None for what is no number."""
        fields = dataclasses.asdict(self)
        return {name: None if value != value else value for name, value in fields.items()}


def measure_images(
    network: FeatureExtractor, real: np.ndarray, generated: np.ndarray
) -> GANMeasures:
    """Measures generated images against real ones.

    FID shrinks with the number of images: only figures of as many images, by the same network,
    compare.

    Args:
        network: What images are measured by.
        real: uint8 images `(n, height, width, channels)`.
        generated: uint8 images `(m, height, width, channels)`.

    Returns:
        The measures.

    Raises:
        ValueError: If there are fewer than 2 images of a kind.
    """
    return measure_features(network, network.features(real)[0], generated)


def measure_features(
    network: FeatureExtractor, real_features: np.ndarray, generated: np.ndarray
) -> GANMeasures:
    """As `measure_images`, for who measures against the same real images again and again.

    Args:
        network: What images are measured by.
        real_features: What it made of the real images, `(n, features)`.
        generated: uint8 images `(m, height, width, channels)`.

    Returns:
        The measures.

    Raises:
        ValueError: If there are fewer than 2 images of a kind.
    """
    features, logits = network.features(generated)
    distance, error = kernel_distance(real_features, features)
    return GANMeasures(
        fid=frechet_distance(real_features, features),
        kid=distance,
        kid_error=error,
        inception_score=inception_score(logits),
        feature_network=network.name,
        num_generated=len(generated),
        num_real=len(real_features),
    )
