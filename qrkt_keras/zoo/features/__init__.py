"""The networks that generated images are measured by."""

from qrkt_keras.zoo.features.choice import feature_network_for, features_preset
from qrkt_keras.zoo.features.model import FeatureNetwork

__all__ = ["FeatureNetwork", "feature_network_for", "features_preset"]
