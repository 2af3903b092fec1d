"""A small convolutional classifier, whose features FID, KID and Inception Score are measured on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from qrkt_keras.data import resized
from qrkt_keras.layers.projection import dropout_rate, positive_integer
from qrkt_keras.training import Recipe
from qrkt_keras.zoo import presets
from qrkt_keras.zoo.images import check_form, dtype_name


@keras.saving.register_keras_serializable(package="qrkt_keras")
class FeatureNetwork(keras.Model):
    """A convolutional classifier of small images, and the features before its logits.

    Pairs of convolutions (3x3, batch normalisation, ReLU) of growing width with a maximum over 2x2
    pixels between, the mean over all pixels, and one Dense layer. The features are those means.
    Measures on them are comparable among each other, and not with those of the Inception network
    that the literature uses.

    Args:
        image_shape: Height, width and channels.
        num_classes: Number of classes.
        widths: Channels of each pair of convolutions.
        dropout: Rate of dropout on the features.
        name: Name of the model.

    Call arguments:
        inputs: Images of shape `(B, height, width, channels)`: floats in [0, 1], or uint8.

    Returns:
        Logits of shape `(B, num_classes)`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import FeatureNetwork
    >>> network = FeatureNetwork((8, 8, 1), 10, widths=(4, 8))
    >>> features, logits = network.features(np.zeros((3, 8, 8, 1), "uint8"))
    >>> features.shape, logits.shape
    ((3, 8), (3, 10))
    """

    recipe_class = Recipe

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.3,
        name: str | None = "feature_network",
    ) -> None:
        image_shape = tuple(positive_integer("image_shape", size) for size in image_shape)
        num_classes = positive_integer("num_classes", num_classes)
        widths = tuple(positive_integer("widths", width) for width in widths)
        images = keras.Input(image_shape, name="images")
        pixels = images
        for stage, width in enumerate(widths, start=1):
            if stage > 1:
                pixels = keras.layers.MaxPooling2D(name=f"pool_{stage}")(pixels)
            for number in (1, 2):
                own = f"{stage}_{number}"
                pixels = keras.layers.Conv2D(
                    width, 3, padding="same", use_bias=False, name=f"convolution_{own}"
                )(pixels)
                pixels = keras.layers.BatchNormalization(name=f"normalization_{own}")(pixels)
                pixels = keras.layers.ReLU(name=f"relu_{own}")(pixels)
        features = keras.layers.GlobalAveragePooling2D(name="features")(pixels)
        dropped = keras.layers.Dropout(dropout_rate(dropout), name="dropout")(features)
        logits = keras.layers.Dense(num_classes, name="logits")(dropped)
        super().__init__(inputs=images, outputs=logits, name=name)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.widths = widths
        self.dropout = dropout
        self._both = keras.Model(images, [features, logits], name="features_and_logits")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_form(inputs, self.image_shape)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if dtype_name(inputs) == "uint8":
            inputs = ops.cast(inputs, self.input.dtype) / 255.0
        return super().call(inputs, training=training, mask=mask)

    def features(self, images: np.ndarray, batch_size: int = 250) -> tuple[np.ndarray, np.ndarray]:
        """What images are measured by.

        Args:
            images: uint8 images `(n, height, width, channels)`; of another size than the network's
                they are resized, as by `data.resized`.
            batch_size: Images that go through the network at once.

        Returns:
            Features `(n, widths[-1])` and logits `(n, num_classes)`.
        """
        images = resized(np.asarray(images), self.image_shape[:2])
        check_form(images, self.image_shape)
        parts = [
            self._both(images[start : start + batch_size].astype("float32") / 255.0, training=False)
            for start in range(0, len(images), batch_size)
        ]
        features, logits = zip(*parts, strict=True)
        return tuple(
            np.concatenate([ops.convert_to_numpy(part) for part in own])
            for own in (features, logits)
        )

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike[str], load_weights: bool = True, **overrides: Any
    ) -> FeatureNetwork:
        """Makes the network of a preset, see `zoo.from_preset`; it has the preset's name."""
        overrides.setdefault("name", Path(preset).name)
        return presets.from_preset(preset, load_weights=load_weights, expected=cls, **overrides)

    def save_to_preset(self, folder: str | os.PathLike[str], **kwargs: Any) -> Path:
        """Writes the network as a preset, see `zoo.save_to_preset`."""
        return presets.save_to_preset(self, folder, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "image_shape": [*self.image_shape],
            "num_classes": self.num_classes,
            "widths": [*self.widths],
            "dropout": self.dropout,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FeatureNetwork:
        return cls(**config)
