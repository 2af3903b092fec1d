"""Which network generated images are measured by."""

from __future__ import annotations

import os
from pathlib import Path

from qrkt_keras.training import FeatureExtractor, InceptionFeatures
from qrkt_keras.zoo.features.model import FeatureNetwork
from qrkt_keras.zoo.presets import list_presets


def features_preset(data: str) -> str | None:
    """The zoo's preset that measures images of a data set, if it has one.

    Example:

    >>> features_preset("digits")
    'features_digits'
    """
    name = f"features_{data}"
    return name if name in list_presets() else None


def feature_network_for(
    data: str, features: str | os.PathLike[str] | None = None
) -> FeatureExtractor | None:
    """What images of a data set are measured by: what was asked for, or the zoo's, if it has one.

    Args:
        data: Name of the data set.
        features: A preset of a `FeatureNetwork`, its name or folder; `"inception"`; or a folder
            with Inception's SavedModel.

    Returns:
        The network; None if none was asked for and the zoo has no preset `features_DATA`.

    Raises:
        PresetError: If there is no such preset.
        InceptionError: If Inception is not at hand.

    Example:

    >>> feature_network_for("digits").name
    'features_digits'
    """
    if features == "inception":
        return InceptionFeatures()
    if features is not None and (Path(features) / "saved_model.pb").is_file():
        return InceptionFeatures(features)
    preset = features or features_preset(data)
    return None if preset is None else FeatureNetwork.from_preset(preset)
