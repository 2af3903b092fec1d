"""Scores of a classifier."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from qrkt_keras.training.job import without_nan


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well a classifier does on one set of examples.

    Attributes:
        num_examples: Number of examples.
        accuracy: Share of examples whose most probable class is the right one.
        macro_f1: Mean of the classes' F1, over the classes that occur or are predicted.
        macro_auc: Mean of the classes' one-vs-rest areas under the ROC curve, over the classes of
            which there are both positives and negatives; NaN without such a class.
        loss: Mean cross-entropy in nats; infinite where a right class has probability 0.
        confusion: `confusion[i][j]` examples of class `i` were taken for class `j`.
    """

    num_examples: int
    accuracy: float
    macro_f1: float
    macro_auc: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them; what is not finite becomes `None`."""
        fields = dataclasses.asdict(self)
        return {
            name: without_nan([value])[0] if isinstance(value, float) else value
            for name, value in fields.items()
        }


def classification_scores(labels: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Scores predicted class probabilities.

    Args:
        labels: `(n,)` integers, the right classes.
        probabilities: `(n, num_classes)`, rows in `[0, 1]` that sum to 1.

    Returns:
        The scores. A class that does not occur in `labels` is fine.

    Raises:
        ValueError: If the shapes do not fit, a label is no class, or a probability is not one.

    Example:

    >>> scores = classification_scores([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> round(scores.accuracy, 3), scores.macro_auc, scores.confusion
    (0.667, 1.0, ((1, 0), (1, 1)))
    """
    labels, probabilities = checked_predictions(labels, probabilities)
    from sklearn.metrics import confusion_matrix, f1_score

    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    confusion = confusion_matrix(labels, predicted, labels=classes)
    with np.errstate(divide="ignore"):
        loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    return Scores(
        num_examples=len(labels),
        accuracy=float((predicted == labels).mean()),
        macro_f1=float(f1_score(labels, predicted, average="macro")),
        macro_auc=macro_auc(labels, probabilities),
        loss=float(loss),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def macro_auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean one-vs-rest area under the ROC curve.

    For a class with `p` positives and `q` negatives the area is
    `(R - p (p + 1) / 2) / (p q)`, where `R` is the sum of the positives' ranks by that class'
    probability, ties sharing their mean rank (Mann and Whitney 1947).

    Args:
        labels: `(n,)` integers.
        probabilities: `(n, num_classes)`.

    Returns:
        The mean over the classes of which there are both positives and negatives, in `[0, 1]`;
        NaN without such a class.

    Example:

    >>> macro_auc([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    1.0
    """
    labels, probabilities = checked_predictions(labels, probabilities)
    from scipy.stats import rankdata

    positive = labels[:, None] == np.arange(probabilities.shape[1])
    p = positive.sum(axis=0)
    q = len(labels) - p
    usable = (p > 0) & (q > 0)
    if not usable.any():
        return float("nan")
    rank_sums = (rankdata(probabilities, axis=0) * positive).sum(axis=0)
    areas = (rank_sums - p * (p + 1) / 2)[usable] / (p * q)[usable]
    return float(areas.mean())


def probabilities_from_logits(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def checked_predictions(labels: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities as arrays, or an error."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            "labels must be (n,) and probabilities (n, num_classes), with n at least 1. "
            f"Received: shapes {labels.shape} and {probabilities.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers. Received: dtype {labels.dtype}")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        wrong = labels[(labels < 0) | (labels >= probabilities.shape[1])][0]
        raise ValueError(
            f"labels must be classes, 0 to {probabilities.shape[1] - 1}. Received: label {wrong}"
        )
    # Written so that NaN fails too. Float32 rows of 1000 classes sum to 1 within 1e-4.
    sound = (
        (probabilities >= 0).all(axis=1)
        & (probabilities <= 1 + 1e-6).all(axis=1)
        & (np.abs(probabilities.sum(axis=1) - 1) <= 1e-4)
    )
    if not sound.all():
        row = int(np.argmin(sound))
        raise ValueError(
            "probabilities must lie in [0, 1] and every row must sum to 1. "
            f"Received: {probabilities[row].tolist()} in row {row}"
        )
    return labels, probabilities
