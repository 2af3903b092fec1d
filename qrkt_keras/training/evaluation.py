"""Running a classifier over many examples, during training and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from qrkt_keras.training.metrics import macro_auc, probabilities_from_logits

Predictor = Callable[[np.ndarray], np.ndarray]


def make_predictor(model: keras.Model, batch_size: int) -> Predictor:
    """A function from images to logits that is traced once, whatever their number.

    `model.predict` sets up its own input pipeline at each call, which for a small model costs more
    than the model.

    Args:
        model: A built TensorFlow-backed model.
        batch_size: Images that go through the model at once. The last batch is filled up.

    Returns:
        A function of images `(n, height, width, channels)` that returns the model's outputs
        `(n, num_classes)` as float64.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: batch_size={batch_size}")

    import tensorflow as tf

    # Not under XLA: validation is a small part of the work, and compiling takes seconds.
    @tf.function(reduce_retracing=True)
    def forward(batch: tf.Tensor) -> tf.Tensor:
        return model(batch, training=False)

    def predict(images: np.ndarray) -> np.ndarray:
        if not len(images):
            raise ValueError(f"There must be an image. Received: shape {images.shape}")
        outputs = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            missing = batch_size - len(batch)
            filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            outputs.append(forward(tf.constant(filled)).numpy()[: len(batch)])
        return np.concatenate(outputs).astype(np.float64)

    return predict


class EpochScores(keras.callbacks.Callback):
    """Adds loss, accuracy and AUC of a split to the logs at the end of every epoch.

    They are `val_loss`, `val_accuracy` and `val_auc` with the prefix `"val"`. The loss is the mean
    cross-entropy, without regularisation. Callbacks that read these logs must come after this one.

    Args:
        predict: Function from images to logits; see `make_predictor`.
        images: `(n, height, width, channels)`.
        labels: `(n,)` integers.
        prefix: `"val"` for the validation split, `"train"` for the training examples themselves.
    """

    def __init__(
        self, predict: Predictor, images: np.ndarray, labels: np.ndarray, *, prefix: str = "val"
    ) -> None:
        super().__init__()
        self._predict = predict
        self._images = images
        self._labels = labels
        self._prefix = prefix

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logits = self._predict(self._images)
        finite = np.isfinite(logits)
        if not finite.all():
            raise FloatingPointError(
                "The model's outputs are no longer numbers: a lower learning rate or a longer "
                f"warm-up may help. Received: {logits[~finite][0]} in epoch {epoch + 1}"
            )
        # log-sum-exp, because the logarithm of a softmax would lose very small probabilities.
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        right = logits[np.arange(len(self._labels)), self._labels]
        logs |= {
            f"{self._prefix}_loss": float((log_sum - right).mean()),
            f"{self._prefix}_accuracy": float((logits.argmax(axis=1) == self._labels).mean()),
            f"{self._prefix}_auc": macro_auc(self._labels, probabilities_from_logits(logits)),
        }
