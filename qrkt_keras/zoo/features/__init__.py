"""The networks that generated images are measured by."""

from qrkt_keras.zoo.features.model import FeatureNetwork

__all__ = ["FeatureNetwork"]
