"""Fixed, stratified splits that stay the same on every machine and with every library version."""

from __future__ import annotations

import numpy as np


def stratified_split(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws `size` examples so that every class keeps its share, and the rest.

    A class with `n_k` of the `n` examples gives `size * n_k / n` of them, rounded by largest
    remainder (ties go to the smaller class number). The draw uses `numpy.random.RandomState`,
    whose stream NumPy has frozen, so that a split never changes.

    Args:
        labels: Integer array `(n,)`, the class of each example.
        size: How many examples to draw, between 1 and `n - 1`.
        seed: Seed of the draw.

    Returns:
        The indices of the rest, `(n - size,)`, and of the drawn examples, `(size,)`; both sorted.

    Raises:
        ValueError: If `labels` is not one axis of integers, or `size` leaves a part empty.

    Example:

    >>> import numpy as np
    >>> rest, drawn = stratified_split(np.array([0, 0, 0, 0, 1, 1]), size=3, seed=0)
    >>> len(rest), len(drawn)
    (3, 3)
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "labels must be one axis of integers. "
            f"Received: shape={labels.shape}, dtype={labels.dtype}"
        )
    if not 0 < size < len(labels):
        raise ValueError(
            "size must leave at least one example on either side. "
            f"Received: size={size} of {len(labels)} examples"
        )
    classes, counts = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(size * counts, len(labels))
    missing = size - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1

    random = np.random.RandomState(seed)
    drawn = np.sort(
        np.concatenate(
            [
                random.permutation(np.flatnonzero(labels == label))[:share]
                for label, share in zip(classes, shares, strict=True)
            ]
        )
    )
    rest = np.setdiff1d(np.arange(len(labels)), drawn, assume_unique=True)
    return rest, drawn
