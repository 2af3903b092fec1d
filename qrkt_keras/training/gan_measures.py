"""Measures of what a generator makes, from a classifier's activations or logits.

The formulas are TF-GAN's, in float64. Which classifier the activations come from decides what the
numbers mean: only those from the same network, layer and preprocessing can be compared.

TF-GAN's sliced Wasserstein distance is not among them. It divides every 7x7 patch by the patch's
standard deviation, so that a single patch of one colour makes it NaN. On the first test images it
was NaN between two sets of 32 from MNIST, and between two of 256 from CIFAR-10. The function is
`tfgan_modules().sliced_wasserstein.sliced_wasserstein_distance`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from qrkt_keras.training.metrics import probabilities_from_logits
from qrkt_keras.training.tfgan import tfgan_modules

# The largest range of a feature after the scaling in frechet_distance.
_SPREAD = 1e3


class KernelDistance(NamedTuple):
    """The kernel distance between two sets, and how sure it is.

    Attributes:
        distance: The mean of the blocks' distances.
        standard_error: The standard error of that mean; NaN where there is one block only.
    """

    distance: float
    standard_error: float


def frechet_distance(activations_real: Any, activations_fake: Any) -> float:
    """Fréchet distance between two sets of activations; FID where they are Inception's.

    `|m - m'|² + Tr(C + C' - 2 (C C')^½)`, with the sets' means `m` and `m'` and their unbiased
    covariances `C` and `C'`: the squared 2-Wasserstein distance of the two normal distributions.
    Source: Heusel et al. 2017 (arXiv 1706.08500); TF-GAN's
    `frechet_classifier_distance_from_activations`.

    The estimate is biased: finite sets are further apart than the distributions that they come
    from, the more so the fewer examples there are. Compare distances from equally many examples
    only, and have more examples than features.

    TF-GAN takes no root of eigenvalues below 1e-10, so that its number is wrong for activations
    with a standard deviation below about 3e-3. They are scaled before, and the distance after;
    tests hold it to SciPy's matrix root within 1e-9.

    Args:
        activations_real: Floats `(n, features)`, with `n` at least 2.
        activations_fake: Floats `(m, features)`, with `m` at least 2.

    Returns:
        The distance, at least 0, in the activations' unit squared.

    Raises:
        ValueError: If shapes do not fit, there are fewer than 2 examples, or a number is not
            finite.

    Example:

    >>> round(frechet_distance([[-1.0], [1.0]], [[2.0], [6.0]]), 6)
    18.0
    """
    real, fake = _pair(activations_real, activations_fake)
    # Also against rounding: the distance does not change by what is common to all.
    center = real.mean(axis=0)
    real, fake = real - center, fake - center
    spread = max(np.ptp(real, axis=0).max(), np.ptp(fake, axis=0).max())
    scale = float(_SPREAD / spread) if spread else 1.0
    function = tfgan_modules().classifier_metrics.frechet_classifier_distance_from_activations
    distance = float(function(real * scale, fake * scale))
    # Divided twice, as the square may overflow. Rounding may leave equal sets slightly below zero.
    return max(distance / scale / scale, 0.0)


def kernel_distance(
    activations_real: Any, activations_fake: Any, *, max_block_size: int = 1024
) -> KernelDistance:
    """Kernel distance between two sets of activations; KID where they are Inception's.

    The unbiased estimate of the squared maximum mean discrepancy
    `E k(x, x') + E k(y, y') - 2 E k(x, y)` under the kernel `k(x, y) = (x·y / features + 1)³`.
    Both sets are cut into equally many blocks of nearly equal size, and the result is the mean of
    the blocks' estimates. Sources: Bińkowski et al. 2018 (arXiv 1801.01401), Zaremba et al. 2013
    (1307.1954) for the blocks; TF-GAN's `kernel_classifier_distance_and_std_from_activations`.

    Being unbiased, it is the same in the mean for any number of examples, and it may be negative
    where the sets are alike. Blocks are cut in the order given: shuffle sets that are sorted.

    Args:
        activations_real: Floats `(n, features)`, with `n` at least 2.
        activations_fake: Floats `(m, features)`, with `m` at least 2.
        max_block_size: Most examples in a block, at least 2. Time and memory grow with its square;
            fewer blocks make the distance surer, more blocks the standard error.

    Returns:
        The distance and its standard error.

    Raises:
        ValueError: If shapes do not fit, there are fewer than 2 examples, a number is not finite,
            or a block would have fewer than 2 examples of one set.

    Example:

    >>> kernel_distance([[0.0], [1.0]], [[1.0], [2.0]])
    KernelDistance(distance=9.5, standard_error=nan)
    """
    import tensorflow as tf

    real, fake = _pair(activations_real, activations_fake)
    if max_block_size < 2:
        raise ValueError(f"max_block_size must be at least 2. Received: {max_block_size}")
    blocks = -(-max(len(real), len(fake)) // max_block_size)
    if min(len(real), len(fake)) < 2 * blocks:
        raise ValueError(
            "Every block needs at least 2 examples of each set: more examples of the smaller set, "
            f"or a larger max_block_size. Received: {len(real)} and {len(fake)} examples "
            f"with max_block_size={max_block_size}, so {blocks} blocks"
        )
    metrics = tfgan_modules().classifier_metrics
    with _without_deprecations():
        distance, error = metrics.kernel_classifier_distance_and_std_from_activations(
            tf.constant(real), tf.constant(fake), max_block_size=max_block_size
        )
    return KernelDistance(float(distance), float(error))


def inception_score(logits: Any) -> float:
    """Inception Score of a set of examples, from a classifier's logits for them.

    `exp E KL(p(y|x) || p(y))`, with `p(y|x)` the softmax of an example's logits, `p(y)` its mean
    over the examples, and `E` the mean over the examples. Source: Salimans et al. 2016 (arXiv
    1606.03498); TF-GAN's `classifier_score_from_logits`.

    It is high where the classifier is sure of each example and all classes occur equally often;
    real examples play no part in it. It is biased downwards for few examples, and can exceed
    neither their number nor that of the classes. (Published scores are often the mean over 10
    parts of the set, which is lower.)

    Args:
        logits: Floats `(n, num_classes)`, with `n` at least 2.

    Returns:
        The score, between 1 and `num_classes`.

    Raises:
        ValueError: If the shape does not fit, there are fewer than 2 examples, or a number is not
            finite.

    Example:

    >>> round(inception_score([[99.0, 0.0, 0.0], [0.0, 99.0, 0.0]]), 6)
    2.0
    """
    logits = _checked("logits", logits)
    # Classes that no example can have add nothing, but TF-GAN computes 0 log 0 for them.
    possible = probabilities_from_logits(logits).max(axis=0) > 0
    function = tfgan_modules().classifier_metrics.classifier_score_from_logits
    return float(function(logits[:, possible]))


def _pair(real: Any, fake: Any) -> tuple[np.ndarray, np.ndarray]:
    real = _checked("activations_real", real)
    fake = _checked("activations_fake", fake)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            "activations_real and activations_fake must have equally many features. "
            f"Received: shapes {real.shape} and {fake.shape}"
        )
    return real, fake


def _checked(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 or not values.shape[1]:
        raise ValueError(
            f"{name} must be (n, features), with n at least 2. Received: shape {values.shape}"
        )
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        number = values[row][~np.isfinite(values[row])][0]
        raise ValueError(f"{name} must be finite. Received: {number} in row {row}")
    return values


@contextlib.contextmanager
def _without_deprecations() -> Iterator[None]:
    # TF-GAN calls TensorFlow by arguments of old, and TensorFlow logs what to write instead.
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
