"""A token of the network's own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="qrkt_keras")
class ClassToken(keras.layers.Layer):
    """Puts one learned token before all others, from which a head may read the whole.

    Its weights are drawn from a truncated normal distribution of standard deviation 0.02. Source:
    Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021.

    Call arguments:
        inputs: Tensor of shape `(B, T, features)`.

    Returns:
        A tensor of shape `(B, T + 1, features)`.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import ClassToken
    >>> ClassToken()(np.zeros((2, 3, 4))).shape
    TensorShape([2, 4, 4])
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="token",
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        token = ops.broadcast_to(self.token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([ops.cast(token, inputs.dtype), inputs], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, tokens, features = input_shape
        return (batch, None if tokens is None else tokens + 1, features)
