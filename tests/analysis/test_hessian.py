import keras
import numpy as np
import pytest
from matplotlib.image import imread

from qrkt_keras.analysis import (
    DataLoss,
    SpectralDensity,
    density_picture,
    lanczos,
    power_iteration,
    spectral_density,
    trace,
)
from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC

quiet = {"progress": False}


class Quadratic:
    """Stands for a `DataLoss` with a Hessian that is known; Ctrl-C comes before a product."""

    def __init__(self, hessian, interrupted_at=None):
        self.hessian = np.asarray(hessian, np.float64)
        self.size = len(self.hessian)
        self.products = 0
        self.interrupted_at = interrupted_at

    def hessian_vector_product(self, vector):
        self.products += 1
        if self.products == self.interrupted_at:
            raise KeyboardInterrupt
        return self.hessian @ vector


def symmetric(size=30, seed=0):
    x = np.random.RandomState(seed).randn(size, size)
    return (x + x.T) / 2


def with_eigenvalues(values, seed=0):
    q, _ = np.linalg.qr(np.random.RandomState(seed).randn(len(values), len(values)))
    return (q * values) @ q.T


def residuals(hessian, pairs):
    errors = hessian @ pairs.vectors.T - pairs.vectors.T * pairs.values
    return np.linalg.norm(errors, axis=0) / np.abs(pairs.values)


# --- eigenvalues -----------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [10.0, -10.0])
def test_power_iteration_is_numpys(largest):
    hessian = with_eigenvalues([largest, 6.0, -5.0, 1.0, 0.0, 0.1])
    pair = power_iteration(Quadratic(hessian), tolerance=1e-9, **quiet)
    assert pair.is_converged and pair.values == pytest.approx([largest], rel=1e-7)
    values, vectors = np.linalg.eigh(hessian)
    vector = vectors[:, np.argmax(np.abs(values))]
    assert abs(vector @ pair.vectors[0]) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(pair.vectors[0]) == pytest.approx(1)
    np.testing.assert_allclose(pair.residuals, residuals(hessian, pair), rtol=1e-6, atol=1e-12)


def test_power_iteration_stops_by_the_eigenvalues_change():
    loss = Quadratic(with_eigenvalues(np.linspace(1, 10, 20)))
    loose, tight = (power_iteration(loss, tolerance=t, **quiet) for t in (1e-2, 1e-6))
    assert loose.num_iterations < tight.num_iterations
    assert loss.products == loose.num_iterations + tight.num_iterations
    # The last change was below the tolerance, and the one before it was not.
    assert loose.is_converged and tight.is_converged
    values = [
        power_iteration(loss, max_iterations=n, tolerance=1e-2, **quiet).values[0]
        for n in range(1, loose.num_iterations + 1)
    ]
    changes = np.abs(np.diff(values)) / np.abs(values[1:])
    assert changes[-1] <= 1e-2 and (changes[:-1] > 1e-2).all()


def test_power_iteration_that_does_not_end():
    # Two eigenvalues of one magnitude: there is no vector to go to. The value does not change, so
    # it stops by the source's criterion, and the residual says what it is worth.
    pair = power_iteration(Quadratic(np.diag([3.0, -3.0])), max_iterations=7, **quiet)
    assert pair.num_iterations == 2 and pair.is_converged and pair.residuals[0] > 1
    short = power_iteration(Quadratic(symmetric()), max_iterations=3, tolerance=1e-9, **quiet)
    assert short.num_iterations == 3 and not short.is_converged and short.residuals[0] > 1e-3


@pytest.mark.parametrize("size", [1, 6, 40])
def test_lanczos_is_numpys(size):
    hessian = symmetric(size, seed=size)
    number = min(4, size)
    pairs = lanczos(Quadratic(hessian), number, tolerance=1e-8, **quiet)
    values, vectors = np.linalg.eigh(hessian)
    assert pairs.is_converged
    np.testing.assert_allclose(pairs.values, values[::-1][:number], rtol=1e-9)
    overlaps = np.abs((pairs.vectors * vectors.T[::-1][:number]).sum(axis=1))
    np.testing.assert_allclose(overlaps, 1, atol=1e-9)
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(number), atol=1e-12)


def test_lanczos_tells_its_residuals():
    hessian = symmetric(40)
    loss = Quadratic(hessian)
    pairs = lanczos(loss, 3, max_iterations=8, tolerance=1e-6, **quiet)
    assert not pairs.is_converged and pairs.num_iterations == loss.products == 8
    np.testing.assert_allclose(pairs.residuals, residuals(hessian, pairs), rtol=1e-9)
    # Each is at most so far from an eigenvalue.
    exact = np.linalg.eigvalsh(hessian)
    away = np.abs(pairs.values[:, None] - exact).min(axis=1)
    assert (away <= pairs.residuals * np.abs(pairs.values)).all()
    assert pairs.residuals.max() > 1e-3

    loss = Quadratic(hessian)
    pairs = lanczos(loss, 3, tolerance=1e-6, **quiet)
    assert pairs.is_converged and pairs.residuals.max() < 1e-6
    assert pairs.num_iterations == loss.products < 40
    shorter = lanczos(Quadratic(hessian), 3, max_iterations=loss.products - 1, tolerance=1e-6)
    assert not shorter.is_converged


def test_lanczos_takes_the_largest_not_those_of_the_largest_magnitude():
    pairs = lanczos(Quadratic(with_eigenvalues([-50.0, 3.0, 2.0, 1.0, 0.5])), 2, **quiet)
    np.testing.assert_allclose(pairs.values, [3, 2], rtol=1e-6)


def test_lanczos_goes_on_where_its_space_is_exhausted():
    # From one vector only two dimensions are reached.
    hessian = with_eigenvalues([5.0] * 3 + [2.0] * 4)
    pairs = lanczos(Quadratic(hessian), 7, **quiet)
    np.testing.assert_allclose(pairs.values, [5] * 3 + [2] * 4)
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(7), atol=1e-12)


@pytest.mark.parametrize("solver", [power_iteration, lanczos])
def test_a_hessian_of_zeros(solver):
    pairs = solver(Quadratic(np.zeros((6, 6))), **quiet)
    assert pairs.is_converged and not pairs.values.any() and not pairs.residuals.any()


def test_a_zero_eigenvalue_that_is_not_exact_is_not_converged():
    hessian = with_eigenvalues([4.0, 1e-18, 0.0, 0.0])
    pairs = lanczos(Quadratic(hessian), 2, max_iterations=2, **quiet)
    assert pairs.residuals[0] < 1e-9 and not pairs.is_converged


# --- trace and density -----------------------------------------------------------------------


def test_trace():
    hessian = symmetric(20)
    estimate = trace(Quadratic(hessian), num_samples=400, **quiet)
    samples = estimate.samples
    assert samples.shape == (400,)
    assert estimate.mean == pytest.approx(samples.mean())
    assert estimate.standard_error == pytest.approx(samples.std(ddof=1) / 20)
    assert abs(estimate.mean - np.trace(hessian)) < 3 * estimate.standard_error
    # Of signs the variance is twice the sum of the squares beside the diagonal.
    variance = 2 * ((hessian**2).sum() - (np.diag(hessian) ** 2).sum())
    assert samples.var() == pytest.approx(variance, rel=0.25)
    one = trace(Quadratic(np.diag([1.0, 2.0, -4.0])), num_samples=1, **quiet)
    assert one.mean == -1 and np.isnan(one.standard_error)


def test_density_of_few_eigenvalues_is_exact():
    # Of a diagonal and a vector of signs each eigenvalue's weight is its share.
    values = [0.0] * 70 + [1.0] * 20 + [-2.0] * 9 + [30.0]
    loss = Quadratic(np.diag(values))
    density = spectral_density(loss, num_steps=12, num_probes=3, **quiet)
    assert density.nodes.shape == density.weights.shape == (3, 12) and density.size == 100
    # No more products than it takes.
    assert loss.products == 3 * 4
    np.testing.assert_allclose(density.nodes[:, :4], [[-2, 0, 1, 30]] * 3, atol=1e-12)
    np.testing.assert_allclose(density.weights[:, :4], [[0.09, 0.7, 0.2, 0.01]] * 3, atol=1e-12)
    assert not density.weights[:, 4:].any()
    assert density.largest == pytest.approx(30) and density.smallest == pytest.approx(-2)
    for order in range(6):
        assert density.moments(order) == pytest.approx(np.mean(np.array(values) ** order))


def test_density_by_its_moments():
    hessian = symmetric(60)
    density = spectral_density(Quadratic(hessian), num_steps=10, num_probes=300, **quiet)
    np.testing.assert_allclose(density.weights.sum(axis=1), 1)
    assert (density.weights >= 0).all() and (np.diff(density.nodes, axis=1) > 0).all()
    eigenvalues = np.linalg.eigvalsh(hessian)
    for order in range(1, 5):
        # The probes' scatter is the error of their mean.
        each = (density.weights * density.nodes**order).sum(axis=1)
        error = each.std(ddof=1) / np.sqrt(len(each))
        exact = (eigenvalues**order).mean()
        assert abs(density.moments(order) - exact) < 4 * error
        assert error < 0.1 * (np.abs(eigenvalues) ** order).mean()
    # Ritz values do not leave the spectrum, and 10 steps nearly reach its ends.
    assert eigenvalues[0] - 1e-9 <= density.smallest < eigenvalues[0] + 1
    assert eigenvalues[-1] - 1 < density.largest <= eigenvalues[-1] + 1e-9


def test_density_integrates_to_one():
    density = spectral_density(Quadratic(symmetric(30)), num_steps=8, **quiet)
    grid = np.linspace(-30, 30, 6001)
    values = density.density(grid, width=0.3)
    assert (values >= 0).all()
    assert np.trapezoid(values, grid) == pytest.approx(1, abs=1e-10)
    # Smoothing adds the Gaussian's variance.
    assert np.trapezoid(values * grid, grid) == pytest.approx(density.moments(1), abs=1e-8)
    second = np.trapezoid(values * grid**2, grid)
    assert second == pytest.approx(density.moments(2) + 0.09, abs=1e-8)
    with pytest.raises(ValueError, match="width=0"):
        density.density(grid, width=0)


def test_seeds():
    loss = Quadratic(symmetric())
    for function, take in [
        (lambda s: power_iteration(loss, max_iterations=2, seed=s, **quiet), "vectors"),
        (lambda s: lanczos(loss, 2, max_iterations=3, seed=s, **quiet), "vectors"),
        (lambda s: trace(loss, num_samples=3, seed=s, **quiet), "samples"),
        (lambda s: spectral_density(loss, num_steps=3, seed=s, **quiet), "nodes"),
    ]:
        first, again, other = (getattr(function(s), take) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


# --- interrupts, and what is no number -------------------------------------------------------


def test_interrupted_power_iteration():
    hessian = symmetric()
    loss = Quadratic(hessian, interrupted_at=5)
    pair = power_iteration(loss, tolerance=1e-9, **quiet)
    whole = power_iteration(Quadratic(hessian), max_iterations=4, tolerance=1e-9, **quiet)
    assert pair.num_iterations == 4 and not pair.is_converged
    assert pair.is_interrupted and not whole.is_interrupted
    assert pair.values == whole.values and pair.residuals == whole.residuals
    assert pair.residuals == pytest.approx(residuals(hessian, pair))


@pytest.mark.parametrize(("products", "number"), [(6, 3), (2, 2)])
def test_interrupted_lanczos(products, number):
    hessian = symmetric()
    pairs = lanczos(Quadratic(hessian, interrupted_at=products + 1), 3, **quiet)
    assert pairs.num_iterations == products and not pairs.is_converged
    assert pairs.values.shape == pairs.residuals.shape == (number,)
    assert pairs.vectors.shape == (number, 30)
    np.testing.assert_allclose(pairs.residuals, residuals(hessian, pairs))
    # No less converged than a whole iteration of that length.
    whole = lanczos(Quadratic(hessian), number, max_iterations=products, **quiet)
    np.testing.assert_allclose(pairs.values, whole.values)
    assert pairs.is_interrupted and not whole.is_interrupted


def test_interrupted_trace():
    hessian = symmetric()
    estimate = trace(Quadratic(hessian, interrupted_at=8), num_samples=30, **quiet)
    whole = trace(Quadratic(hessian), num_samples=30, **quiet)
    np.testing.assert_array_equal(estimate.samples, whole.samples[:7])
    assert estimate.mean == pytest.approx(whole.samples[:7].mean())
    assert estimate.is_interrupted and not whole.is_interrupted


@pytest.mark.parametrize(("products", "probes", "steps"), [(13, 2, 5), (10, 2, 5), (3, 1, 3)])
def test_interrupted_density(products, probes, steps):
    hessian = symmetric()
    loss = Quadratic(hessian, interrupted_at=products + 1)
    density = spectral_density(loss, num_steps=5, num_probes=4, **quiet)
    whole = spectral_density(Quadratic(hessian), num_steps=steps, num_probes=4, **quiet)
    np.testing.assert_allclose(density.nodes, whole.nodes[:probes])
    np.testing.assert_allclose(density.weights, whole.weights[:probes])
    assert density.is_interrupted and not whole.is_interrupted


SOLVERS = [power_iteration, lanczos, trace, spectral_density]


@pytest.mark.parametrize("solver", SOLVERS)
def test_interrupted_before_anything_is_known(solver):
    with pytest.raises(KeyboardInterrupt):
        solver(Quadratic(symmetric(), interrupted_at=1), **quiet)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_hessian_that_is_no_number(solver):
    hessian = symmetric()
    hessian[3] = np.nan
    with pytest.raises(FloatingPointError, match="not finite.*Received: 1 of 30 entries"):
        solver(Quadratic(hessian), **quiet)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss: power_iteration(loss, max_iterations=0), "max_iterations=0"),
        (lambda loss: power_iteration(loss, tolerance=0), "tolerance=0"),
        (lambda loss: lanczos(loss, 0), "num_eigenvalues=0"),
        (lambda loss: lanczos(loss, 7), "num_eigenvalues=7 with 6 weights"),
        (lambda loss: lanczos(loss, 4, max_iterations=3), "at most 3 iterations"),
        (lambda loss: trace(loss, num_samples=0), "num_samples=0"),
        (lambda loss: spectral_density(loss, num_steps=0), "num_steps=0"),
        (lambda loss: spectral_density(loss, num_probes=1.5), "num_probes=1.5"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(Quadratic(symmetric(6)))


def test_progress(capsys):
    loss = Quadratic(np.diag(np.arange(1.0, 21)))
    trace(loss, num_samples=20)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trace", "1/20", "210"]
    assert [line.split()[1] for line in lines[1:]] == [f"{n}/20" for n in range(2, 21, 2)]
    assert "left" in lines[-2]
    lanczos(loss, 2)
    assert "residual" in capsys.readouterr().out
    for solver in SOLVERS:
        solver(loss, **quiet)
    assert capsys.readouterr().out == ""


# --- of models -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_regression(dtype):
    """`H = 2/N X^T X` of a linear model's mean squared error."""
    random = np.random.RandomState(0)
    x = (random.randn(50, 12) * np.linspace(3, 0.3, 12)).astype(dtype)
    layer = keras.layers.Dense(1, use_bias=False, dtype=dtype)
    model = keras.Sequential([keras.Input((12,), dtype=dtype), layer])
    loss = DataLoss(model, x, np.ones((50, 1)), loss=keras.losses.MeanSquaredError(), batch_size=20)
    hessian = 2 / 50 * x.T.astype(np.float64) @ x
    eigenvalues = np.linalg.eigvalsh(hessian)[::-1]
    close = {"float32": 1e-5, "float64": 1e-9}[dtype]

    pairs = lanczos(loss, 3, tolerance=1e-6, **quiet)
    assert pairs.is_converged
    np.testing.assert_allclose(pairs.values, eigenvalues[:3], rtol=close)
    np.testing.assert_allclose(pairs.residuals, residuals(hessian, pairs), atol=close)
    pair = power_iteration(loss, tolerance=1e-3, **quiet)
    assert pair.is_converged and pair.values[0] == pytest.approx(eigenvalues[0], rel=5e-3)
    estimate = trace(loss, num_samples=40, **quiet)
    assert abs(estimate.mean - np.trace(hessian)) < 3 * estimate.standard_error
    # Twelve steps are all there are: every probe has all eigenvalues for its nodes.
    density = spectral_density(loss, num_steps=20, num_probes=2, **quiet)
    np.testing.assert_allclose(density.nodes, [eigenvalues[::-1]] * 2, atol=10 * close)


def test_circuit_against_its_dense_hessian():
    spec = templates.patch(1, num_qubits=4, num_features=16, num_values=3)
    inputs = keras.Input((16,), dtype="float64")
    model = keras.Model(inputs, PQC(spec, dtype="float64")(inputs))
    random = np.random.RandomState(0)
    loss = DataLoss(model, random.uniform(0, 0.8, (6, 16)), random.randint(0, 3, 6))
    point, step = loss.point(), 1e-5
    hessian = np.array(
        [
            (loss.gradient(point + s) - loss.gradient(point - s)) / (2 * step)
            for s in step * np.eye(loss.size)
        ]
    )
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    pairs = lanczos(loss, 3, tolerance=1e-7, **quiet)
    np.testing.assert_allclose(pairs.values, values[::-1][:3], rtol=1e-6)
    overlaps = np.abs((pairs.vectors * vectors.T[::-1][:3]).sum(axis=1))
    np.testing.assert_allclose(overlaps, 1, atol=1e-5)
    pair = power_iteration(loss, tolerance=1e-6, **quiet)
    assert pair.values[0] == pytest.approx(values[np.argmax(np.abs(values))], rel=1e-3)
    density = spectral_density(loss, num_steps=30, num_probes=2, **quiet)
    assert density.largest == pytest.approx(values[-1], rel=1e-6)
    assert density.smallest == pytest.approx(values[0], rel=1e-6)


def test_a_model_that_has_come_to_no_number():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([np.full((2, 3), np.nan), np.zeros(3)])
    loss = DataLoss(model, np.ones((4, 2)), np.zeros(4, int))
    with pytest.raises(FloatingPointError, match="see whether the loss is"):
        power_iteration(loss, **quiet)


@pytest.mark.parametrize("function", [power_iteration, lanczos, trace, spectral_density])
@pytest.mark.parametrize("seed", [-1, 1.5, None, True])
def test_bad_seeds(function, seed):
    message = f"`seed` must be a whole number of 0 or more. Received: seed={seed!r}$"
    with pytest.raises(ValueError, match=message):
        function(Quadratic(symmetric(8)), seed=seed, **quiet)


# --- picture ---------------------------------------------------------------------------------


def test_density_picture(tmp_path):
    values = np.concatenate([np.random.RandomState(0).exponential(0.3, 497), [8.0, 9.0, 16.0]])
    loss = Quadratic(np.diag(values))
    density = spectral_density(loss, num_steps=30, num_probes=2, **quiet)
    path = tmp_path / "density.png"
    density_picture({"ours": density}, path, title="Spectrum")
    one = imread(path)
    assert one.shape == (630, 1200, 4)
    # Blue is right of the middle too: there are the few large ones.
    blue = np.abs(one[..., :3] - np.array([0, 0.447, 0.698])).max(axis=-1) < 0.05
    columns = np.flatnonzero(blue[:560].any(axis=0))
    assert columns.max() > 1050 and (columns < 300).any()

    flat = SpectralDensity(np.array([[2.0]]), np.array([[1.0]]), size=5)
    density_picture({"ours": density, "flat": flat}, path, width=0.2)
    assert (imread(path) != one).any()
    density_picture({"flat": flat}, path)


def test_bad_pictures(tmp_path):
    path = tmp_path / "density.png"
    with pytest.raises(ValueError, match="There must be a density"):
        density_picture({}, path)
    flat = SpectralDensity(np.array([[2.0]]), np.array([[1.0]]), size=5)
    with pytest.raises(ValueError, match="width=-1"):
        density_picture({"flat": flat}, path, width=-1)
    assert not path.exists()
