import logging
import math

import numpy as np
import pytest
import scipy.linalg

from qrkt_keras.training import frechet_distance, inception_score, kernel_distance


def activations(n, features, seed, shift=0.0):
    """Correlated normal activations; the covariance's condition number is about 100."""
    random = np.random.RandomState(seed)
    rotation, _ = np.linalg.qr(random.randn(features, features))
    mixing = rotation * np.geomspace(0.1, 1, features)
    return random.randn(n, features) @ mixing + shift


def frechet_by_scipy(x, y):
    c, d = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = scipy.linalg.sqrtm(c @ d)
    assert np.abs(np.imag(root)).max() < 1e-9
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root.real)


def exact_moments(n, mean, deviation, seed):
    """A sample whose mean and covariance are exactly `mean` and `diag(deviation²)`."""
    sample = np.random.RandomState(seed).randn(n, len(mean))
    sample -= sample.mean(axis=0)
    orthonormal, _ = np.linalg.qr(sample)
    return orthonormal * math.sqrt(n - 1) * deviation + mean


@pytest.mark.parametrize("features", [1, 5, 40])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_frechet_distance_is_scipys(features, dtype):
    x = activations(300, features, seed=1).astype(dtype)
    y = activations(200, features, seed=2, shift=0.3).astype(dtype)
    expected = frechet_by_scipy(x.astype("float64"), y.astype("float64"))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_frechet_distance_of_diagonal_gaussians(scale, offset):
    mean, other_mean = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, -1.0])
    deviation, other_deviation = np.array([1.0, 0.2, 3.0]), np.array([2.0, 0.1, 3.0])
    x = exact_moments(50, mean + offset, deviation, seed=3) * scale
    y = exact_moments(70, other_mean + offset, other_deviation, seed=4) * scale
    expected = ((mean - other_mean) ** 2 + (deviation - other_deviation) ** 2).sum()
    assert frechet_distance(x, y) / scale**2 == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_equal_sets_is_zero():
    for n, features in ((200, 20), (20, 50)):
        x = activations(n, features, seed=5)
        assert 0 <= frechet_distance(x, x) < 1e-6
        assert frechet_distance(x, x + 1.0) == pytest.approx(features, rel=1e-6)
    same = np.ones((3, 4))
    assert frechet_distance(same, same) == 0
    assert frechet_distance(same, same + 2) == 16


def test_frechet_distance_with_fewer_examples_than_features():
    x, y = activations(15, 40, seed=6), activations(20, 40, seed=7)
    c, d = x - x.mean(axis=0), y - y.mean(axis=0)
    # Tr (C C')^½ is the sum of the singular values of the centred sets' product.
    root = np.linalg.svd(c @ d.T / math.sqrt(14 * 19), compute_uv=False).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (c**2).sum() / 14 + (d**2).sum() / 19
    assert frechet_distance(x, y) == pytest.approx(expected - 2 * root, rel=1e-6)


def test_frechet_distance_is_biased_upwards_for_few_examples():
    def between_halves(n):
        x = np.random.RandomState(8).randn(2 * n, 10)
        return frechet_distance(x[:n], x[n:])

    assert between_halves(50) > 2 * between_halves(500) > 0


def unbiased_mmd(x, y):
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    def within(z):
        return np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kernel_distance_of_one_block():
    x, y = activations(30, 7, seed=9), activations(22, 7, seed=10, shift=0.2)
    distance, error = kernel_distance(x, y)
    assert distance == pytest.approx(unbiased_mmd(x, y), rel=1e-10)
    assert math.isnan(error)
    assert kernel_distance(x.astype("float32"), y.astype("float32")).distance == pytest.approx(
        distance, rel=1e-4
    )


@pytest.mark.parametrize(
    ("n", "m", "sizes_x", "sizes_y"),
    [(60, 60, [20, 20, 20], [20, 20, 20]), (50, 41, [16, 17, 17], [13, 14, 14])],
)
def test_kernel_distance_of_blocks(n, m, sizes_x, sizes_y):
    x, y = activations(n, 4, seed=11), activations(m, 4, seed=12, shift=0.5)
    blocks = zip(
        np.split(x, np.cumsum(sizes_x)[:-1]), np.split(y, np.cumsum(sizes_y)[:-1]), strict=True
    )
    estimates = [unbiased_mmd(*block) for block in blocks]
    result = kernel_distance(x, y, max_block_size=20)
    assert result.distance == pytest.approx(np.mean(estimates), rel=1e-10)
    error = np.std(estimates, ddof=1) / math.sqrt(len(estimates))
    assert result.standard_error == pytest.approx(error, rel=1e-10)


def test_kernel_distance_of_like_sets_is_about_zero():
    x = np.random.RandomState(13).randn(2000, 6)
    distance, error = kernel_distance(x[:1000], x[1000:], max_block_size=50)
    assert 0 < error < 0.05
    assert abs(distance) < 4 * error


def test_kernel_distance_is_quiet(caplog):
    x = activations(30, 7, seed=14)
    logger = logging.getLogger("tensorflow")
    level = logger.level
    with caplog.at_level(logging.DEBUG):
        kernel_distance(x, x)
    assert caplog.records == []
    assert logger.level == level


def test_blocks_too_small_are_refused():
    x, y = activations(30, 3, seed=15), activations(5, 3, seed=16)
    with pytest.raises(
        ValueError, match=r"Received: 30 and 5 examples with max_block_size=10, so 3 blocks$"
    ):
        kernel_distance(x, y, max_block_size=10)
    with pytest.raises(ValueError, match=r"Received: 1$"):
        kernel_distance(x, x, max_block_size=1)


def score_by_formula(logits):
    p = scipy.special.softmax(logits.astype("float64"), axis=1)
    q = p.mean(axis=0)
    return np.exp((p * np.log(p / q)).sum(axis=1).mean())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inception_score_is_its_formula(dtype):
    logits = (3 * np.random.RandomState(17).randn(200, 10)).astype(dtype)
    assert inception_score(logits) == pytest.approx(score_by_formula(logits), rel=1e-12)


def test_inception_score_at_its_ends():
    assert inception_score(np.zeros((5, 10))) == pytest.approx(1)
    assert inception_score(50 * np.eye(10)) == pytest.approx(10)
    # No example can be of the third class.
    assert inception_score([[2000.0, 0.0, -2000.0], [0.0, 2000.0, -2000.0]]) == pytest.approx(2)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), r"^activations_real .*Received: shape \(1, 3\)$"),
        (np.ones((4, 3)), np.ones((1, 3)), r"^activations_fake .*Received: shape \(1, 3\)$"),
        (np.ones(4), np.ones(4), r"Received: shape \(4,\)$"),
        (np.ones((4, 0)), np.ones((4, 0)), r"Received: shape \(4, 0\)$"),
        (np.ones((4, 3)), np.ones((4, 2)), r"Received: shapes \(4, 3\) and \(4, 2\)$"),
        ([[1.0], [np.nan]], [[1.0], [2.0]], r"^activations_real must .*Received: nan in row 1$"),
        ([[1.0], [2.0]], [[np.inf], [2.0]], r"^activations_fake must .*Received: inf in row 0$"),
    ],
)
def test_bad_activations_are_refused(measure, real, fake, message):
    with pytest.raises(ValueError, match=message):
        measure(real, fake)


def test_bad_logits_are_refused():
    with pytest.raises(ValueError, match=r"^logits must .*Received: shape \(1, 3\)$"):
        inception_score(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"^logits must be finite\. Received: -inf in row 1$"):
        inception_score([[0.0, 1.0], [-np.inf, 1.0]])
