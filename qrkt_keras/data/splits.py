"""Fixed, stratified splits that stay the same on every machine and with every library version."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

# Frozen: another seed would be another benchmark.
SPLIT_SEED = 0


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


def held_out(labels: np.ndarray, parts: Collection[str]) -> dict[str, np.ndarray]:
    """Training examples, and a tenth of them for each part that a data set does not bring itself.

    Args:
        labels: Integer array `(n,)`, the class of each example.
        parts: Which of `"test"` and `"validation"` to draw.

    Returns:
        `"train"` and each of the parts to its indices, sorted. A part has `n // 10` examples,
        stratified by class, the same on every machine.

    Raises:
        ValueError: If there are fewer than 10 examples and one of the parts is to be drawn.

    Example:

    >>> import numpy as np
    >>> parts = held_out(np.arange(50) % 2, ["test", "validation"])
    >>> {part: len(indices) for part, indices in parts.items()}
    {'test': 5, 'validation': 5, 'train': 40}
    """
    rest = np.arange(len(labels))
    drawn = {}
    if parts and len(labels) < 10:
        raise ValueError(
            "A tenth of the training examples is held out, so there must be at least 10. "
            f"Received: {len(labels)}"
        )
    for part in ("test", "validation"):
        if part in parts:
            kept, chosen = stratified_split(labels[rest], len(labels) // 10, SPLIT_SEED)
            rest, drawn[part] = rest[kept], rest[chosen]
    return {**drawn, "train": rest}


def divided(labels: np.ndarray, parts: np.ndarray | None) -> dict[str, np.ndarray]:
    """The training, validation and test examples of data that may say so itself.

    Args:
        labels: Integer array `(n,)`, the class of each example.
        parts: `(n,)`, `"train"`, `"validation"` or `"test"` for each example; None draws
            validation and test, as `held_out` does. A part that no example names is drawn from
            `"train"`.

    Returns:
        Each of the three parts to its indices, sorted.

    Raises:
        ValueError: If there are too few examples to draw from, see `held_out`.

    Example:

    >>> import numpy as np
    >>> parts = divided(np.arange(20) % 2, np.array(["train"] * 16 + ["test"] * 4))
    >>> {part: len(indices) for part, indices in parts.items()}
    {'train': 15, 'validation': 1, 'test': 4}
    """
    if parts is None:
        parts = np.full(len(labels), "train")
    given = {part: np.flatnonzero(parts == part) for part in ("train", "validation", "test")}
    train = given["train"]
    drawn = held_out(labels[train], [part for part, indices in given.items() if not len(indices)])
    return given | {part: train[indices] for part, indices in drawn.items()}
