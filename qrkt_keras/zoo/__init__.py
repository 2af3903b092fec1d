"""The models, and their presets."""

from qrkt_keras.zoo.comparison import ComparedModel, ComparisonResult, compare
from qrkt_keras.zoo.controls import CONTROLS, matched_widths
from qrkt_keras.zoo.examples import Examples, examples_for
from qrkt_keras.zoo.features import FeatureNetwork, feature_network_for
from qrkt_keras.zoo.gan import GAN, QRKTGAN, TransGAN
from qrkt_keras.zoo.patch_qnn import PatchQNN
from qrkt_keras.zoo.presets import (
    FreshWeightsWarning,
    Preset,
    PresetError,
    from_preset,
    list_presets,
    model_classes,
    read_preset,
    read_recipe,
    save_to_preset,
)
from qrkt_keras.zoo.qtext import QText
from qrkt_keras.zoo.qvit import QViT

__all__ = [
    "CONTROLS",
    "ComparedModel",
    "ComparisonResult",
    "Examples",
    "FeatureNetwork",
    "FreshWeightsWarning",
    "GAN",
    "PatchQNN",
    "Preset",
    "PresetError",
    "QRKTGAN",
    "QText",
    "QViT",
    "TransGAN",
    "compare",
    "examples_for",
    "feature_network_for",
    "from_preset",
    "list_presets",
    "matched_widths",
    "model_classes",
    "read_preset",
    "read_recipe",
    "save_to_preset",
]
