"""One learned number a pixel."""

from __future__ import annotations

from typing import Any

import keras

from qrkt_keras.layers.diff_augment import check_images


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PixelBias(keras.layers.Layer):
    """Adds a learned map to every image: `y_ijc = x_ijc + b_ijc`, with `b = 0` at first.

    Where pixels are angles of a circuit, this lets each encoding begin at an angle of its own
    (Kawase 2025, arXiv 2504.19239). Like all angles, the map is float32 (or float64) under every
    dtype policy, and so is the sum, before it is cast to the policy's compute dtype.

    Call arguments:
        inputs: Images, a tensor of shape `(B, height, width, channels)`, of one known size.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: If the input is not a batch of images of known size, or of another size than
            the first one.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import PixelBias
    >>> layer = PixelBias()
    >>> layer(np.ones((2, 14, 14, 1))).shape, layer.count_params()
    (TensorShape([2, 14, 14, 1]), 196)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_images(input_shape)
        float64 = self.dtype_policy.variable_dtype == "float64"
        self.bias = self.add_weight(
            name="bias",
            shape=input_shape[1:],
            dtype="float64" if float64 else "float32",
            initializer="zeros",
            autocast=False,
        )
        # A single row, pixel or channel would be broadcast.
        self.input_spec = keras.layers.InputSpec(shape=(None, *input_shape[1:]))
        self.built = True

    def call(self, inputs: Any) -> Any:
        return keras.ops.cast(
            keras.ops.cast(inputs, self.bias.dtype) + self.bias, self.compute_dtype
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("autocast", None)
        return config
