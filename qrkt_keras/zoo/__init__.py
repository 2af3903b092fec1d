"""The models, and their presets."""

from qrkt_keras.zoo.features import FeatureNetwork
from qrkt_keras.zoo.gan import GAN, QRKTGAN, TransGAN
from qrkt_keras.zoo.presets import (
    FreshWeightsWarning,
    Preset,
    PresetError,
    from_preset,
    list_presets,
    model_classes,
    read_preset,
    save_to_preset,
)
from qrkt_keras.zoo.qtext import QText
from qrkt_keras.zoo.qvit import QViT

__all__ = [
    "FeatureNetwork",
    "FreshWeightsWarning",
    "GAN",
    "Preset",
    "PresetError",
    "QRKTGAN",
    "QText",
    "QViT",
    "TransGAN",
    "from_preset",
    "list_presets",
    "model_classes",
    "read_preset",
    "save_to_preset",
]
