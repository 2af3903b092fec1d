"""Tokens to features, by learned weights of places."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from qrkt_keras.layers.projection import positive_integer


@keras.saving.register_keras_serializable(package="qrkt_keras")
class GlobalDepthwisePooling(keras.layers.Layer):
    """Sums each feature over the tokens, with learned weights: a mean that knows places.

    `y_{m,f} = sum_t w_{t,m,f} x_{t,f}` for `m` in `0 ... depth_multiplier - 1`

    This is a depthwise convolution as large as its input, without bias. It starts near the mean:
    the weights are drawn from a normal distribution of mean and standard deviation `1 / T`. Source:
    Chen et al., *MobileFaceNets*, 2018, arXiv 1804.07573.

    Args:
        depth_multiplier: Number of sums of each feature, as of `keras.layers.DepthwiseConv1D`.

    Call arguments:
        inputs: Tensor of shape `(B, T, features)`, T and features known.

    Returns:
        A tensor of shape `(B, depth_multiplier * features)`.

    Raises:
        ValueError: If the input has another form, or the multiplier is less than 1.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import GlobalDepthwisePooling
    >>> layer = GlobalDepthwisePooling(depth_multiplier=2)
    >>> layer(np.zeros((8, 16, 6))).shape, layer.count_params()
    (TensorShape([8, 12]), 192)
    """

    def __init__(self, depth_multiplier: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth_multiplier = positive_integer("depth_multiplier", depth_multiplier)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(
                f"'{self.name}' takes (batch, tokens, features), of known size. "
                f"Received: input shape {tuple(input_shape)}"
            )
        _, tokens, features = input_shape
        self.kernel = self.add_weight(
            shape=(tokens, self.depth_multiplier, features),
            initializer=keras.initializers.RandomNormal(mean=1 / tokens, stddev=1 / tokens),
            name="kernel",
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        pooled = ops.einsum("btf,tmf->bmf", inputs, self.kernel)
        return ops.reshape(pooled, (-1, self.depth_multiplier * inputs.shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.depth_multiplier * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}
