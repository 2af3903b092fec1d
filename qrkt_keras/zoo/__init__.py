"""The models, and their presets."""

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
from qrkt_keras.zoo.qvit import QViT

__all__ = [
    "FreshWeightsWarning",
    "Preset",
    "PresetError",
    "QViT",
    "from_preset",
    "list_presets",
    "model_classes",
    "read_preset",
    "save_to_preset",
]
