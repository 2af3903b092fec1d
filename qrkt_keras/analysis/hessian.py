"""The Hessian of a loss: largest eigenvalues, trace and spectral density, by products alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from qrkt_keras.analysis.loss import DataLoss
from qrkt_keras.analysis.products import KeptProducts
from qrkt_keras.analysis.progress import shown
from qrkt_keras.layers.projection import positive_integer, positive_number, whole_number
from qrkt_keras.training.files import atomic_write

# A Krylov space is at its end where what a product adds is below this share of the largest one.
_NOTHING_NEW = 1e-10
# Colours that people with colour-blindness can tell apart (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues of a Hessian with their vectors, and how exact they are.

    Args:
        values: `(k,)`, the largest first.
        vectors: `(k, size)`, of length 1.
        residuals: `(k,)`, `|H v - value v| / |value|`: an eigenvalue of H is no farther from
            `value` than that share of it.
        num_iterations: Products with the Hessian that were made.
        is_converged: Whether the tolerance was reached, by all residuals (`lanczos`) or by the
            change of the value alone (`power_iteration`).
        is_interrupted: Whether an interrupt (Ctrl-C) ended it.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    num_iterations: int
    is_converged: bool
    is_interrupted: bool = False


@dataclass(frozen=True, eq=False)
class TraceEstimate:
    """An estimate of a Hessian's trace.

    Args:
        mean: The estimate.
        standard_error: Of the mean; NaN of a single sample.
        samples: `(n,)`, what it is the mean of.
        is_interrupted: Whether an interrupt (Ctrl-C) ended it.
    """

    mean: float
    standard_error: float
    samples: np.ndarray
    is_interrupted: bool = False


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """An estimate of the density of a Hessian's eigenvalues, as weighted points.

    `phi(t) = 1/size sum_i delta(t - lambda_i)` is estimated by the mean over probes of
    `sum_j w_j delta(t - node_j)`, where nodes and weights are a Gaussian quadrature of the probe's
    own density: for m steps its moments are exact up to the order 2m - 1.

    Args:
        nodes: `(probes, steps)`, Ritz values, ascending.
        weights: `(probes, steps)`, at least 0; each probe's add up to 1. A probe that needed fewer
            steps to be exact is filled up with weights of 0.
        size: The number of weights, and of eigenvalues.
        is_interrupted: Whether an interrupt (Ctrl-C) ended it.

    Example:

    >>> density = SpectralDensity(np.array([[0.0, 4.0]]), np.array([[0.75, 0.25]]), size=8)
    >>> density.largest, density.smallest, density.moments(1), density.moments(2)
    (4.0, 0.0, 1.0, 4.0)
    >>> grid = np.linspace(-5.0, 10.0, 1001)
    >>> float(np.trapezoid(density.density(grid, width=0.5), grid).round(6))
    1.0
    """

    nodes: np.ndarray
    weights: np.ndarray
    size: int
    is_interrupted: bool = False

    @property
    def largest(self) -> float:
        """The largest Ritz value, a lower bound of the largest eigenvalue."""
        return float(self.nodes.max())

    @property
    def smallest(self) -> float:
        """The smallest Ritz value, an upper bound of the smallest eigenvalue."""
        return float(self.nodes.min())

    def density(self, grid: np.ndarray, width: float) -> np.ndarray:
        """The density, smoothed by a Gaussian; over all numbers it integrates to 1.

        Args:
            grid: `(n,)`, where to have it.
            width: The Gaussian's standard deviation.

        Returns:
            `(n,)`, at least 0.

        Raises:
            ValueError: If the width is not positive.
        """
        width = positive_number("width", width)
        away = (np.asarray(grid, np.float64)[:, None] - self.nodes.reshape(-1)) / width
        kernels = np.exp(-(away**2) / 2) / (width * np.sqrt(2 * np.pi))
        return kernels @ self.weights.reshape(-1) / len(self.weights)

    def moments(self, order: int) -> float:
        """The moment of an order k: an estimate of `trace(H^k) / size`.

        Args:
            order: k, 0 or more.
        """
        return float((self.weights * self.nodes**order).sum(axis=1).mean())


def power_iteration(
    loss: DataLoss | KeptProducts,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> Eigenpairs:
    """The Hessian's eigenvalue of the largest magnitude, by power iteration.

    `v <- H v / |H v|`, `lambda = v . H v`, until lambda changes by less than `tolerance` of itself
    (as Yao et al. 2020, *PyHessian*, arXiv 1912.07145). That says less than it seems where two
    eigenvalues are close: the residual tells, and `lanczos` needs fewer products.

    Args:
        loss: The loss, at the weights that its model has, or its `KeptProducts`.
        max_iterations: Products with the Hessian at most.
        tolerance: Relative change of the eigenvalue at which to stop.
        seed: Seed of the vector to start with, a whole number of 0 or more.
        progress: Whether to show a progress bar.

    Returns:
        One eigenpair. After an interrupt (Ctrl-C) the last one, not converged.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the Hessian is not finite.
        KeyboardInterrupt: If interrupted before the first product was done.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.diag([1.0, 3.0]).astype("float32"), np.zeros((2, 1), "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> pair = power_iteration(loss, tolerance=1e-6, progress=False)
    >>> float(pair.values[0].round(4)), pair.is_converged
    (9.0, True)
    """
    max_iterations = positive_integer("max_iterations", max_iterations)
    tolerance = positive_number("tolerance", tolerance)
    vector = np.random.default_rng(whole_number("seed", seed)).standard_normal(loss.size)
    vector /= np.linalg.norm(vector)
    found: Eigenpairs | None = None
    with shown("power iteration", max_iterations, progress) as show:
        try:
            for iteration in range(1, max_iterations + 1):
                product = _product(loss, vector)
                value = float(vector @ product)
                residuals = _residuals([value], vector[None], product[None])
                if found is None:
                    # An eigenvector, of a Hessian that is zero for one, needs no second product.
                    is_converged = bool(residuals[0] == 0)
                else:
                    change = abs(value - found.values[0])
                    is_converged = bool(change <= tolerance * abs(value))
                found = Eigenpairs(
                    np.array([value]), vector[None], residuals, iteration, is_converged
                )
                show(iteration, _summary(found))
                if is_converged:
                    break
                vector = product / np.linalg.norm(product)
        except KeyboardInterrupt:
            if found is None:
                raise
            found = replace(found, is_interrupted=True)
    return found


def lanczos(
    loss: DataLoss | KeptProducts,
    num_eigenvalues: int = 5,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> Eigenpairs:
    """The Hessian's largest eigenvalues and their vectors, by Lanczos' iteration.

    Ritz pairs of the Krylov space of a random vector, with all its vectors orthogonalised anew in
    every step (Golub and Van Loan, *Matrix Computations*, section 10.3), until the residuals of all
    that are asked for are below the tolerance. Of an eigenvalue that occurs several times, one
    vector is found, and others only where the Krylov space ends before.

    Args:
        loss: The loss, at the weights that its model has, or its `KeptProducts`.
        num_eigenvalues: How many, k.
        max_iterations: Products with the Hessian at most. Two vectors of all weights are kept for
            each.
        tolerance: Residual `|H v - value v| / |value|` at which to stop. One eigenvalue that is 0
            keeps it from stopping.
        seed: Seed of the vector to start with, a whole number of 0 or more.
        progress: Whether to show a progress bar.

    Returns:
        The k algebraically largest eigenvalues, the largest first. After an interrupt (Ctrl-C)
        what there is, not converged; after fewer than k products that is one for each.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the Hessian is not finite.
        KeyboardInterrupt: If interrupted before the first product was done.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.diag([1.0, 2.0, 3.0]).astype("float32"), np.zeros((3, 1), "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> pairs = lanczos(loss, 2, progress=False)
    >>> pairs.values.round(4).tolist(), pairs.num_iterations
    ([6.0, 2.6667], 3)
    """
    num_eigenvalues = positive_integer("num_eigenvalues", num_eigenvalues)
    max_iterations = min(positive_integer("max_iterations", max_iterations), loss.size)
    tolerance = positive_number("tolerance", tolerance)
    if num_eigenvalues > max_iterations:
        raise ValueError(
            "num_eigenvalues must be at most the number of weights, and of iterations. Received: "
            f"num_eigenvalues={num_eigenvalues} with {loss.size} weights and at most "
            f"{max_iterations} iterations"
        )
    random = np.random.default_rng(whole_number("seed", seed))
    krylov: _Krylov | None = None
    found: Eigenpairs | None = None
    with shown("Lanczos", max_iterations, progress) as show:
        try:
            start = random.standard_normal(loss.size)
            for krylov in _krylov_spaces(loss, start, max_iterations, random):
                if len(krylov.basis) < num_eigenvalues:
                    show(len(krylov.basis), "")
                    continue
                found = _ritz_pairs(krylov, num_eigenvalues, tolerance)
                show(found.num_iterations, _summary(found))
                if found.is_converged:
                    break
        except KeyboardInterrupt:
            if krylov is None:
                raise
            # Interrupted between two products, or before there were enough for all.
            found = _ritz_pairs(krylov, num_eigenvalues, tolerance)
            found = replace(found, is_interrupted=True)
    return found


def trace(
    loss: DataLoss | KeptProducts, *, num_samples: int = 30, seed: int = 0, progress: bool = True
) -> TraceEstimate:
    """The Hessian's trace, estimated by random vectors of signs.

    `trace(H) = E[v . H v]` for v with independent entries 1 or -1 (Hutchinson 1990); the variance
    is `2 sum_(i != j) H_ij^2`.

    Args:
        loss: The loss, at the weights that its model has, or its `KeptProducts`.
        num_samples: Random vectors, each a product with the Hessian.
        seed: Seed of the vectors, a whole number of 0 or more.
        progress: Whether to show a progress bar.

    Returns:
        Mean, standard error and samples. After an interrupt (Ctrl-C) of those that were done.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the Hessian is not finite.
        KeyboardInterrupt: If interrupted before the first sample was done.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.diag([1.0, 3.0]).astype("float32"), np.zeros((2, 1), "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> round(trace(loss, num_samples=3, progress=False).mean, 4)
    10.0
    """
    num_samples = positive_integer("num_samples", num_samples)
    random = np.random.default_rng(whole_number("seed", seed))
    samples: list[float] = []
    is_interrupted = False
    with shown("trace", num_samples, progress) as show:
        try:
            while len(samples) < num_samples:
                vector = _signs(random, loss.size)
                samples.append(float(vector @ _product(loss, vector)))
                show(len(samples), f"{np.mean(samples):.4g}")
        except KeyboardInterrupt:
            if not samples:
                raise
            is_interrupted = True
    number = len(samples)
    error = np.std(samples, ddof=1) / np.sqrt(number) if number > 1 else np.nan
    return TraceEstimate(float(np.mean(samples)), float(error), np.array(samples), is_interrupted)


def spectral_density(
    loss: DataLoss | KeptProducts,
    *,
    num_steps: int = 50,
    num_probes: int = 4,
    seed: int = 0,
    progress: bool = True,
) -> SpectralDensity:
    """The density of all the Hessian's eigenvalues, by stochastic Lanczos quadrature.

    For a random vector of signs, Lanczos' tridiagonal matrix `T = U diag(node) U^T` has the Ritz
    values as nodes and `w_j = U_0j^2` as weights (Golub and Welsch 1969; Ghorbani, Krishnan and
    Xiao 2019, arXiv 1901.10159; Yao et al. 2020, arXiv 1912.07145). Both ends of the spectrum and
    eigenvalues that stand apart are found with their places, the rest as a smooth density.

    Args:
        loss: The loss, at the weights that its model has, or its `KeptProducts`.
        num_steps: Lanczos' steps for each probe, at most the number of weights.
        num_probes: Random vectors; the work is `num_probes * num_steps` products.
        seed: Seed of the vectors, a whole number of 0 or more.
        progress: Whether to show a progress bar.

    Returns:
        Nodes and weights. After an interrupt (Ctrl-C) of the probes that were done, or else of the
        first one's steps so far.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the Hessian is not finite.
        KeyboardInterrupt: If interrupted before the first step was done.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.diag([0.0, 0.0, 0.0, 2.0]).astype("float32"), np.zeros((4, 1), "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> density = spectral_density(loss, num_steps=2, num_probes=1, progress=False)
    >>> abs(density.nodes.round(4)).tolist(), density.weights.round(4).tolist()
    ([[0.0, 2.0]], [[0.75, 0.25]])
    """
    num_steps = min(positive_integer("num_steps", num_steps), loss.size)
    num_probes = positive_integer("num_probes", num_probes)
    random = np.random.default_rng(whole_number("seed", seed))
    done: list[tuple[np.ndarray, np.ndarray]] = []
    krylov: _Krylov | None = None
    is_interrupted = False
    with shown("spectral density", num_probes * num_steps, progress) as show:
        try:
            for probe in range(num_probes):
                start = _signs(random, loss.size)
                for krylov in _krylov_spaces(loss, start, num_steps, random):
                    show(probe * num_steps + len(krylov.basis), f"probe {probe + 1}")
                    if krylov.is_exhausted:
                        break
                done.append(_quadrature(krylov, num_steps))
        except KeyboardInterrupt:
            if krylov is None:
                raise
            is_interrupted = True
            if not done:
                done.append(_quadrature(krylov, len(krylov.basis)))
    nodes, weights = zip(*done, strict=True)
    return SpectralDensity(np.array(nodes), np.array(weights), loss.size, is_interrupted)


class _Krylov(NamedTuple):
    """What Lanczos' iteration has after j steps."""

    basis: np.ndarray  # (j, size), orthonormal
    products: np.ndarray  # (j, size), the Hessian times each
    matrix: np.ndarray  # (j, j), the Hessian in that basis
    is_exhausted: bool  # whether the basis spans all that products of the first vector can


def _krylov_spaces(
    loss: DataLoss | KeptProducts, start: np.ndarray, most: int, random: np.random.Generator
) -> Iterator[_Krylov]:
    """Lanczos' iteration from a vector; a product with the Hessian for each step.

    Where the space is exhausted, it goes on with a random vector orthogonal to it.
    """
    basis, products = np.empty((2, most, loss.size))
    matrix = np.zeros((most + 1, most + 1))
    vector = start / np.linalg.norm(start)
    for j in range(most):
        basis[j] = vector
        products[j] = _product(loss, vector)
        so_far = basis[: j + 1]
        matrix[j, j] = vector @ products[j]
        rest = _orthogonal(products[j], so_far)
        length = np.linalg.norm(rest)
        is_exhausted = bool(length <= _NOTHING_NEW * np.abs(matrix).max())
        if not is_exhausted:
            matrix[j, j + 1] = matrix[j + 1, j] = length
        yield _Krylov(so_far, products[: j + 1], matrix[: j + 1, : j + 1], is_exhausted)
        if j + 1 == most:
            return
        if is_exhausted:
            rest = _orthogonal(random.standard_normal(loss.size), so_far)
            length = np.linalg.norm(rest)
        vector = rest / length


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    # Twice is enough: what the first pass leaves is rounding alone.
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


def _ritz_pairs(krylov: _Krylov, number: int, tolerance: float) -> Eigenpairs:
    """The largest eigenvalues in a Krylov space, as many as are asked for if there are."""
    values, inside = np.linalg.eigh(krylov.matrix)
    values, inside = values[::-1][:number], inside.T[::-1][:number]
    vectors = inside @ krylov.basis
    residuals = _residuals(values, vectors, inside @ krylov.products)
    is_converged = len(values) == number and bool((residuals < tolerance).all())
    return Eigenpairs(values, vectors, residuals, len(krylov.basis), is_converged)


def _quadrature(krylov: _Krylov, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights `(steps,)`, ascending, those that were not needed with a weight of 0."""
    nodes, inside = np.linalg.eigh(krylov.matrix)
    missing = (0, steps - len(nodes))
    return np.pad(nodes, missing, mode="edge"), np.pad(inside[0] ** 2, missing)


def _residuals(values: Any, vectors: np.ndarray, products: np.ndarray) -> np.ndarray:
    """`|H v - value v| / |value|`; 0 for an eigenvector of the value 0."""
    values = np.asarray(values)
    lengths = np.linalg.norm(products - values[:, None] * vectors, axis=1)
    with np.errstate(divide="ignore"):
        return np.divide(lengths, np.abs(values), out=np.zeros_like(lengths), where=lengths > 0)


def _product(loss: DataLoss | KeptProducts, vector: np.ndarray) -> np.ndarray:
    product = loss.hessian_vector_product(vector)
    wrong = int((~np.isfinite(product)).sum())
    if wrong:
        raise FloatingPointError(
            "The Hessian is not finite at these weights, for some example at least; see whether "
            f"the loss is. Received: {wrong} of {len(product)} entries of its product with a "
            "vector are NaN or infinite"
        )
    return product


def _signs(random: np.random.Generator, size: int) -> np.ndarray:
    return random.choice((-1.0, 1.0), size)


def _summary(pairs: Eigenpairs) -> str:
    return f"{pairs.values[0]:.4g}  residual {pairs.residuals.max():.1e}"


def density_picture(
    densities: Mapping[str, SpectralDensity],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    width: float | None = None,
) -> None:
    """Draws spectral densities over each other, on a logarithmic scale, as PNG.

    The scale reaches down to where a single eigenvalue can be seen, so that the few large ones of
    a trained network are. A triangle marks the largest Ritz value of each, and the legend tells it.

    Args:
        densities: Name to density, in the order of the legend.
        path: The file to write.
        title: A line above the picture.
        width: Standard deviation of the Gaussian that smooths them; by default a hundredth of the
            range of all.

    Raises:
        ValueError: If there is no density, or the width is not positive.
    """
    from matplotlib.figure import Figure

    if not densities:
        raise ValueError("There must be a density to draw. Received: none")
    low = min(density.smallest for density in densities.values())
    high = max(density.largest for density in densities.values())
    if width is None:
        # Of a Hessian with one eigenvalue the range is nothing.
        width = (high - low) / 100 or abs(high) / 100 or 1.0
    width = positive_number("width", width)
    grid = np.linspace(low - 6 * width, high + 6 * width, 4001)

    figure = Figure(figsize=(8.0, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    # A tenth of the peak of a single eigenvalue, whose weight is by chance less than 1 / size.
    single = min(1 / density.size for density in densities.values())
    floor = single / (width * np.sqrt(2 * np.pi)) / 10
    top = floor
    for i, (name, density) in enumerate(densities.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        values = density.density(grid, width)
        top = max(top, values.max())
        shown = np.where(values >= floor, values, np.nan)
        label = f"{name}: {density.smallest:.3g} to {density.largest:.3g}"
        axes.plot(grid, shown, color=colour, linewidth=1.4, label=label)
        axes.fill_between(grid, floor, np.fmax(values, floor), color=colour, alpha=0.12, lw=0)
        peak = density.density(np.array([density.largest]), width)[0]
        axes.plot(density.largest, max(peak, floor) * 1.5, "v", color=colour, markersize=6)
    axes.set_yscale("log")
    axes.set_ylim(floor, top * 3)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel(f"density, smoothed by {width:.2g}")
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", framealpha=1, edgecolor="none")
    axes.set_title(title)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
