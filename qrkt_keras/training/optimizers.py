"""Optimizers with L2 regularisation in the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class _L2:
    """Adds `l2 * w` to the gradient of every weight `w`, before it is clipped or averaged."""

    def __init__(self, *arguments: Any, l2: float = 0.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not l2 >= 0:
            raise ValueError(f"l2 must be at least 0. Received: l2={l2!r}")
        self.l2 = l2

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        if self.l2:
            variables = self._trainable_variables
            variables = variables if trainable_variables is None else list(trainable_variables)
            # The loss may be scaled, and `apply` divides by the scale.
            l2 = self.l2 * (self.loss_scale_factor or 1.0)
            grads = [
                None if grad is None else ops.add(grad, ops.multiply(variable, l2))
                for grad, variable in zip(grads, variables, strict=True)
            ]
        return super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="qrkt_keras")
class L2Adam(_L2, keras.optimizers.Adam):
    """Adam on the loss plus `l2 / 2 * |w|²`, all of Keras' `Adam` besides.

    The penalty goes through Adam's moments and through clipping, as PyTorch's `Adam(weight_decay)`
    has it; Keras' own `weight_decay` is decoupled (Loshchilov and Hutter 2019) and does not.

    Args:
        l2: At least 0.
        arguments, options: Of `keras.optimizers.Adam`.

    Raises:
        ValueError: If `l2` is negative.

    Example:

    >>> L2Adam(1e-3, l2=5e-5).get_config()["l2"]
    5e-05
    """


@keras.saving.register_keras_serializable(package="qrkt_keras")
class L2SGD(_L2, keras.optimizers.SGD):
    """Gradient descent on the loss plus `l2 / 2 * |w|²`, all of Keras' `SGD` besides.

    Args:
        l2: At least 0.
        arguments, options: Of `keras.optimizers.SGD`.

    Raises:
        ValueError: If `l2` is negative.

    Example:

    >>> L2SGD(0.1, momentum=0.9, l2=5e-4).get_config()["l2"]
    0.0005
    """
