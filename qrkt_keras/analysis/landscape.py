"""Loss landscapes: the loss on a plane through the weights' space, and pictures of it."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from qrkt_keras.analysis.loss import SAME_VALUE, DataLoss, array_of, identity_of
from qrkt_keras.analysis.progress import shown
from qrkt_keras.layers.projection import positive_integer, whole_number
from qrkt_keras.training.checkpoints import (
    CheckpointError,
    environment,
    read_checkpoint,
    write_checkpoint,
)
from qrkt_keras.training.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet

# A checkpoint of a scan is written after every row, and within a long row so often.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0

_KIND = "landscape"

# A second component of so little spread, against the first, is rounding of float32 weights.
_LINE = 1e-6

# Of a plane's lengths: principal components are found anew, and the number of threads alone changes
# their last bits.
_SAME_PLANE = 1e-6

# From this ratio of the largest to the smallest loss on, contours are spaced by factors.
_LOG_SPACED = 10.0
_MOST_DECADES = 6
_NUM_LEVELS = 20

_MISSING, _HATCHES = "#dddddd", "#999999"
_BEST = "#d55e00"


class ScanInterrupted(KeyboardInterrupt):
    """A scan was interrupted; the message says how to continue it."""


# --- planes --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """A plane in the space of a loss' weights, and a trajectory seen in it.

    Its points are `w(x, y) = origin + x d1 + y d2`.

    Args:
        origin: `(size,)`, the point at x = y = 0.
        directions: `(2, size)`, d1 and d2; not parallel.
        explained_ratios: `(2,)`, how much of a trajectory's variance lies along each direction; in
            [0, 1]. None where they are not principal components.
        coordinates: `(T, 2)`, a trajectory's x and y; by default of no points.

    Raises:
        ValueError: If a shape does not fit, a number is not finite, or the directions are parallel
            or zero.

    Example:

    >>> plane = Plane([1.0, 1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> plane.point(3.0, 1.0)
    array([4., 3., 1.])
    >>> plane.project([4.0, 3.0, 7.0])
    array([3., 1.])
    """

    origin: np.ndarray
    directions: np.ndarray
    explained_ratios: np.ndarray | None = None
    coordinates: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 2)))

    def __post_init__(self) -> None:
        size = np.size(self.origin)
        shapes = {"origin": (size,), "directions": (2, size), "explained_ratios": (2,)}
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if value is None:
                continue
            array = np.array(value, np.float64)
            shape = shapes.get(name, (len(array) if array.ndim else 0, 2))
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(
                    f"A plane's {name} must be finite numbers of shape {shape}. "
                    f"Received: {_described(array)}"
                )
            object.__setattr__(self, name, array)
        first, second = self.directions
        lengths = np.linalg.norm(self.directions, axis=1)
        if np.linalg.matrix_rank(self.directions / np.maximum(lengths, 1e-300)[:, None]) < 2:
            raise ValueError(
                "A plane's two directions must not be zero or parallel. Received: lengths "
                f"{lengths[0]:.3g} and {lengths[1]:.3g}, inner product {first @ second:.3g}"
            )

    def point(self, x: float, y: float) -> np.ndarray:
        """The weights at a place of the plane.

        Args:
            x, y: The place.

        Returns:
            `(size,)`.
        """
        return self.origin + x * self.directions[0] + y * self.directions[1]

    def project(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """The places of the plane that are nearest to points.

        Args:
            points: `(..., size)`.

        Returns:
            `(..., 2)`, x and y: the least-squares solution, for orthonormal directions the inner
            products with `point - origin`.

        Raises:
            ValueError: If the last axis has another size.
        """
        points = np.asarray(points, np.float64)
        if not points.ndim or points.shape[-1] != len(self.origin):
            raise ValueError(
                f"points must be (..., {len(self.origin)}), like the plane. "
                f"Received: shape {points.shape}"
            )
        centred = (points - self.origin).reshape(-1, len(self.origin))
        # By an SVD: filter-normalised directions are not orthogonal.
        places = centred @ np.linalg.pinv(self.directions)
        return places.reshape(*points.shape[:-1], 2)


def pca_plane(trajectory: np.ndarray, *, origin: np.ndarray | None = None) -> Plane:
    """The plane in which a trajectory of weights moves most.

    Its directions are the first two principal components: with the trajectory's mean `m`, the right
    singular vectors `v1`, `v2` of the rows `w_t - m`, whose singular values `s` give the explained
    ratios `s_i^2 / sum_j s_j^2`. The sign of each is such that its largest entry is positive.
    Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, *Visualizing the Loss Landscape of
    Neural Nets*, NeurIPS 2018, arXiv 1712.09913, section 7, there about the last point.

    Where the points lie on a line (two of them always do), there is no second component. The second
    direction is then a random one at right angles to the first, always the same, and its ratio is
    0. This is so where the second singular value is below a millionth of the first.

    Args:
        trajectory: `(T, size)`, at least two points, for example `training.read_trajectory`'s.
        origin: `(size,)`, a point through which the plane goes; by default the trajectory's mean.

    Returns:
        The plane, orthonormal, with the trajectory projected on it.

    Raises:
        ValueError: If the trajectory is not of two different points of two weights at least, holds
            a number that is not finite, or the origin has another size.

    Example:

    >>> steps = np.array([[3.0, 0.0, 1.0], [0.0, 1.0, 1.0], [-3.0, 0.0, 1.0], [0.0, -1.0, 1.0]])
    >>> plane = pca_plane(steps)
    >>> plane.origin, plane.explained_ratios
    (array([0., 0., 1.]), array([0.9, 0.1]))
    """
    trajectory = np.asarray(trajectory, np.float64)
    if trajectory.ndim != 2 or len(trajectory) < 2 or trajectory.shape[1] < 2:
        raise ValueError(
            "trajectory must be (T, size), two points of two weights at least. "
            f"Received: shape {trajectory.shape}"
        )
    finite = np.isfinite(trajectory).all(axis=1)
    if not finite.all():
        raise ValueError(
            "A trajectory's weights must be finite. "
            f"Received: {_described(trajectory[~finite][0])} at point {np.argmin(finite)}"
        )
    if origin is not None and np.shape(origin) != trajectory.shape[1:]:
        raise ValueError(
            f"origin must be a point like the trajectory's, {trajectory.shape[1:]}. "
            f"Received: shape {np.shape(origin)}"
        )
    mean = trajectory.mean(axis=0)
    _, spreads, components = np.linalg.svd(trajectory - mean, full_matrices=False)
    if not spreads[0] > 1e-12 * np.linalg.norm(trajectory):
        raise ValueError(
            f"A trajectory must move. Received: {len(trajectory)} points, all of them equal"
        )
    ratios = spreads**2 / np.sum(spreads**2)
    first, second, ratio = components[0], components[1], ratios[1]
    if spreads[1] < _LINE * spreads[0]:
        # What the SVD gives here hangs on the last bits of the weights.
        drawn = np.random.default_rng(0).standard_normal(len(first))
        second, ratio = drawn - (drawn @ first) * first, 0.0
        second -= (second @ first) * first  # once more, for what the first left by rounding
        second /= np.linalg.norm(second)
    plane = Plane(
        mean if origin is None else origin,
        np.stack([_with_sign(first), _with_sign(second)]),
        np.array([ratios[0], ratio]),
    )
    return dataclasses.replace(plane, coordinates=plane.project(trajectory))


def _with_sign(direction: np.ndarray) -> np.ndarray:
    return direction * np.sign(direction[np.argmax(np.abs(direction))])


def random_plane(loss_or_variables: DataLoss | Sequence[keras.Variable], *, seed: int = 0) -> Plane:
    """A plane through the weights as they are, along two filter-normalised random directions.

    A direction is drawn from a normal distribution, `d ~ N(0, 1)`, and each of its filters is given
    the norm of the weights' filter, `d_ij <- d_ij / |d_ij| * |w_ij|`, so that landscapes of weights
    of different scale can be compared. Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein,
    *Visualizing the Loss Landscape of Neural Nets*, NeurIPS 2018, arXiv 1712.09913, section 4.

    A filter is:

    - of a circuit's `angles`, what belongs to one index of the first axis: one circuit's weights,
      where a layer has several (`copies`); one layer of the ansatz, where the template's weights
      have an axis of layers (`rx_ring`, `ry_ring`); otherwise all of the circuit's;
    - of any other variable of two axes or more, what belongs to one index of the last axis: of a
      Dense or Conv layer's kernel the weights of one output unit;
    - of a vector or a number (biases, scales of a normalisation) the whole of it. The source's own
      program leaves these where they are; to have it so, make a `DataLoss` of the others alone.

    Filters that are zero stay zero.

    Args:
        loss_or_variables: A `DataLoss`, whose variables are taken, or float variables of a model.
        seed: Of the directions, a whole number of 0 or more.

    Returns:
        The plane. Its directions are not orthogonal to each other, though nearly so where there are
        many weights.

    Raises:
        ValueError: If there is no variable, all weights are zero, or one is not finite.

    Example:

    >>> dense = keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)
    >>> dense.build((None, 9))
    >>> plane = random_plane([dense.kernel])
    >>> np.linalg.norm(plane.directions.reshape(2, 9, 2), axis=1)
    array([[3., 3.], [3., 3.]])
    """
    given = loss_or_variables
    variables = given.variables if isinstance(given, DataLoss) else tuple(given)
    if not variables:
        raise ValueError(f"There must be a variable. Received: {given!r}")
    arrays = [array_of(variable).astype(np.float64) for variable in variables]
    for variable, array in zip(variables, arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(
                f"Weights must be finite. Received: {variable.path} {_described(array)}"
            )
    if not any(array.any() for array in arrays):
        raise ValueError(
            "A direction is given the size of the weights, and all of them are zero. "
            f"Received: {', '.join(variable.path for variable in variables)}"
        )
    generator = np.random.default_rng(whole_number("seed", seed))
    directions = [
        np.concatenate(
            [
                _filter_normalised(generator.standard_normal(array.shape), array, variable.name)
                for variable, array in zip(variables, arrays, strict=True)
            ]
        )
        for _ in range(2)
    ]
    return Plane(np.concatenate([array.ravel() for array in arrays]), np.stack(directions))


def _filter_normalised(direction: np.ndarray, weights: np.ndarray, name: str) -> np.ndarray:
    """The direction with the norms of the weights' filters, flat."""
    if weights.ndim < 2:
        axes: tuple[int, ...] | None = None
    else:
        axis = 0 if name == "angles" else weights.ndim - 1
        axes = tuple(other for other in range(weights.ndim) if other != axis)

    def norms(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.sum(values**2, axis=axes, keepdims=True))

    return (direction / norms(direction) * norms(weights)).ravel()


def _described(array: np.ndarray) -> str:
    bad = array[~np.isfinite(array)]
    return f"a weight of {bad.flat[0]}" if bad.size else f"shape {array.shape}"


# --- scans ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
    """The loss on a grid of a plane's points.

    Args:
        plane: The plane.
        x: `(n,)`, increasing: the grid's columns, in the plane's coordinates.
        y: `(m,)`, increasing: its rows.
        values: `(m, n)`, the loss at `plane.point(x[i], y[j])` in row j and column i; NaN or
            infinite where there is none.

    Raises:
        ValueError: If an axis is not increasing, or a shape does not fit.

    Example:

    >>> plane = Plane([0.0, 0.0], np.eye(2))
    >>> Landscape(plane, [0.0, 1.0], [0.0, 1.0], [[1.0, np.nan], [2.0, 3.0]]).num_missing
    1
    """

    plane: Plane
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            object.__setattr__(self, name, _checked_axis(name, getattr(self, name)))
        values = np.array(self.values, np.float64)
        if values.shape != (len(self.y), len(self.x)):
            raise ValueError(
                f"values must be ({len(self.y)}, {len(self.x)}), a row for each y. "
                f"Received: shape {values.shape}"
            )
        object.__setattr__(self, "values", values)

    @property
    def num_missing(self) -> int:
        """How many values are NaN or infinite."""
        return int(np.sum(~np.isfinite(self.values)))


def scan(
    loss: DataLoss,
    plane: Plane,
    *,
    x: Sequence[float] | np.ndarray | None = None,
    y: Sequence[float] | np.ndarray | None = None,
    num_points: int = 20,
    margin: float = 5.0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Landscape:
    """The loss on a grid of a plane's points.

    A point is `origin + x d1 + y d2`, rounded to the weights' own precision. By default the grid
    goes from the trajectory's minimum - `margin` to its maximum + `margin` on both axes, and on a
    plane without a trajectory from -1 to 1 (Kawase 2025, arXiv 2504.19239, and Li et al. 2018,
    arXiv 1712.09913). The model keeps its weights. A loss that is NaN or infinite somewhere does
    not stop the scan.

    With `checkpoint` the scan can be stopped and continued: the file is written before the first
    point, after every row, about every 30 seconds, and on an interrupt. The same call with
    `resume=True` goes on and ends with the values, bit for bit, of a scan that was never stopped;
    of a finished scan it returns the landscape again. In either case the first point with a finite
    loss is computed once more, to be sure that the loss is the same.

    Args:
        loss: The loss, of as many weights as the plane has.
        plane: The plane.
        x, y: The grid's columns and rows, increasing, in the plane's coordinates; in place of the
            default of `num_points` each.
        num_points: Points of an axis, 2 or more.
        margin: How far an axis goes beyond the trajectory, 0 or more.
        checkpoint: The file that keeps the scan.
        resume: Whether to continue the scan in it, if there is one.
        progress: Whether to show how far it is.

    Returns:
        The landscape.

    Raises:
        ValueError: If the plane is of another number of weights, an axis is not increasing, an
            argument is out of range, or `checkpoint` exists and `resume` is not asked for.
        CheckpointError: If the checkpoint is damaged, or is of another plane or other axes (a
            millionth makes no difference: the scan goes on with its own), other data or fixed
            weights, or another loss.
        ScanInterrupted: On an interrupt (ctrl-C), with the way to continue.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> inputs, labels = np.eye(2, dtype="float32"), np.array([[1.0], [3.0]], "float32")
    >>> loss = DataLoss(model, inputs, labels, loss=keras.losses.MeanSquaredError())
    >>> plane = Plane([1.0, 3.0], np.eye(2))
    >>> scan(loss, plane, x=[-1, 0, 1], y=[0, 2], progress=False).values
    array([[0.5, 0. , 0.5], [2.5, 2. , 2.5]])
    """
    if len(plane.origin) != loss.size:
        raise ValueError(
            f"The plane must be of the loss' {loss.size} weights. "
            f"Received: a plane of {len(plane.origin)}"
        )
    axes = _axes(plane, {"x": x, "y": y}, num_points, margin)
    if resume and checkpoint is None:
        raise ValueError(
            "checkpoint= must say which scan is continued. Received: resume=True, checkpoint=None"
        )
    values, done = np.full(len(axes["y"]) * len(axes["x"]), np.nan), 0
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        identity = identity_of(loss)
        if checkpoint.exists():
            plane, axes, values, done = _read(
                checkpoint, identity, loss, plane, axes, resume=resume
            )
        else:
            # From here on it can be continued; a folder that is not there is noticed now.
            _write(checkpoint, identity, plane, axes, values, done)
    saved = time.monotonic()
    try:
        with shown("scan", len(values), progress, done=done) as show:
            for number in range(done, len(values)):
                values[number] = loss.value(plane.point(*_place(axes, number)))
                done = number + 1
                show(done)
                now = time.monotonic()
                is_row = done % len(axes["x"]) == 0
                if checkpoint is not None and (
                    is_row or now - saved > _SECONDS_BETWEEN_CHECKPOINTS
                ):
                    _write(checkpoint, identity, plane, axes, values, done)
                    saved = now
    except KeyboardInterrupt:
        told = f"Interrupted after {done} of {len(values)} points. "
        if checkpoint is None:
            raise ScanInterrupted(
                f"{told}They are lost: a scan with checkpoint= can be continued."
            ) from None
        _write(checkpoint, identity, plane, axes, values, done)
        raise ScanInterrupted(
            f"{told}The scan is safe in {checkpoint}; continue it with the same call and "
            "resume=True (on the command line: --resume)."
        ) from None
    return Landscape(plane, axes["x"], axes["y"], values.reshape(len(axes["y"]), len(axes["x"])))


def _axes(
    plane: Plane, given: dict[str, Any], num_points: int, margin: float
) -> dict[str, np.ndarray]:
    num_points = positive_integer("num_points", num_points)
    if num_points < 2:
        raise ValueError(f"num_points must be at least 2. Received: num_points={num_points}")
    is_number = isinstance(margin, numbers.Real) and not isinstance(margin, bool)
    if not is_number or not 0 <= margin < math.inf:
        raise ValueError(f"margin must be a number of 0 or more. Received: margin={margin!r}")
    axes = {}
    for column, (name, axis) in enumerate(given.items()):
        if axis is None:
            places, beyond = plane.coordinates[:, column], margin
            if not len(places):
                places, beyond = np.array([-1.0, 1.0]), 0.0
            axis = np.linspace(places.min() - beyond, places.max() + beyond, num_points)
        axes[name] = _checked_axis(name, axis)
    return axes


def _checked_axis(name: str, axis: Any) -> np.ndarray:
    axis = np.array(axis, np.float64)
    if axis.ndim != 1 or len(axis) < 2 or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        raise ValueError(
            f"{name} must be two finite numbers or more, increasing. Received: {axis.tolist()}"
        )
    return axis


def _place(axes: dict[str, np.ndarray], number: int) -> tuple[float, float]:
    """Where a point of the scan is, row by row."""
    row, column = divmod(number, len(axes["x"]))
    return axes["x"][column], axes["y"][row]


def _write(
    path: Path,
    identity: dict[str, str],
    plane: Plane,
    axes: dict[str, np.ndarray],
    values: np.ndarray,
    done: int,
) -> None:
    metadata = {
        "kind": _KIND,
        "identity": identity,
        "environment": environment(),
        "num_points": done,
    }
    kept = {"origin": plane.origin, "directions": plane.directions, **axes, "values": values}
    write_checkpoint(path, kept, metadata)


def _read(
    path: Path,
    identity: dict[str, str],
    loss: DataLoss,
    plane: Plane,
    axes: dict[str, np.ndarray],
    *,
    resume: bool,
) -> tuple[Plane, dict[str, np.ndarray], np.ndarray, int]:
    """Plane, axes and values of a scan that was stopped, and how many values there are."""
    if not resume:
        raise ValueError(
            "checkpoint exists already: continue the scan in it with resume=True, or choose "
            f"another file. Received: checkpoint={path}"
        )
    checkpoint = read_checkpoint(path)
    metadata = checkpoint.metadata
    if metadata.get("kind") != _KIND:
        raise CheckpointError(
            "The checkpoint is not one of a scan. "
            f"Received: kind={metadata.get('kind')!r} in {path}"
        )
    kept = checkpoint.arrays
    other = [what for what, digest in identity.items() if metadata["identity"].get(what) != digest]
    size = np.linalg.norm(plane.directions)
    if not (
        _are_near(kept["origin"], plane.origin, np.linalg.norm(plane.origin) + size)
        and _are_near(kept["directions"], plane.directions, size)
    ):
        other.append("plane")
    if not all(_are_near(kept[name], axis, np.ptp(axis)) for name, axis in axes.items()):
        other.append("axes")
    if other:
        raise CheckpointError(
            f"The scan in {path} is another one and cannot be continued by this. "
            f"Received: other {', other '.join(other)}"
        )
    # Where it was begun, so that all values are of one plane.
    plane = dataclasses.replace(plane, origin=kept["origin"], directions=kept["directions"])
    axes, values = {name: kept[name] for name in axes}, kept["values"].copy()
    done = metadata["num_points"]
    here = environment()
    changed = [
        f"{name} {value!r}, now {here.get(name)!r}"
        for name, value in metadata["environment"].items()
        if here.get(name) != value
    ]
    if changed:
        warnings.warn(
            "The scan continues in another environment, so its values will not be bit for bit "
            f"those of an undisturbed one: {'; '.join(changed)}",
            stacklevel=3,
        )
    finite = np.flatnonzero(np.isfinite(values[:done]))
    if len(finite):
        first = int(finite[0])
        again = loss.value(plane.point(*_place(axes, first)))
        if not np.isclose(again, values[first], rtol=SAME_VALUE, atol=0):
            raise CheckpointError(
                f"The scan in {path} is of another loss or model and cannot be continued by this. "
                f"Received: {again:.6g} at point {first + 1}, where it has {values[first]:.6g}"
            )
    return plane, axes, values, done


def _are_near(kept: np.ndarray, given: np.ndarray, size: float) -> bool:
    return kept.shape == given.shape and np.linalg.norm(kept - given) <= _SAME_PLANE * size


# --- pictures ------------------------------------------------------------------------------


def landscape_picture(
    landscape: Landscape,
    path: str | os.PathLike[str],
    *,
    best: int | None = None,
    title: str = "",
) -> None:
    """Draws a landscape's contours, and the trajectory in it with its start and end, as PNG.

    Contours are spaced by factors where the largest loss is ten times the smallest or more (down to
    a millionth of the largest), otherwise evenly. Where a grid point has no finite loss, the
    squares around it are hatched, and the legend says how many such points there are.

    Args:
        landscape: What `scan` returned.
        path: The file to write.
        best: Index of a point of the trajectory to mark; the axes then have their origin there.
        title: A line above the picture.

    Raises:
        ValueError: If `best` is no index of the trajectory.
    """
    from matplotlib.figure import Figure

    plane = landscape.plane
    places, shift = plane.coordinates, np.zeros(2)
    if best is not None:
        is_index = isinstance(best, numbers.Integral) and not isinstance(best, bool)
        if not is_index or not 0 <= best < len(places):
            raise ValueError(
                f"best must be one of the trajectory's {len(places)} points, counted from 0. "
                f"Received: best={best!r}"
            )
        shift = places[best]
    x, y, places = landscape.x - shift[0], landscape.y - shift[1], places - shift

    figure = Figure(figsize=(6.8, 6.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_box_aspect(1)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    handles = []
    contours = _draw_values(axes, x, y, landscape.values)
    if contours is not None:
        # As high as the picture, which a colour bar beside square axes is not of itself.
        bar = figure.colorbar(contours, cax=axes.inset_axes((1.04, 0, 0.045, 1)))
        bar.set_label("loss")
        _label_levels(bar, contours.levels)
    if len(places):
        handles += _draw_trajectory(axes, places, best)
    if landscape.num_missing:
        handles.append(_draw_missing(axes, landscape))
    ratios = plane.explained_ratios
    for number, (which, set_label) in enumerate(
        (("first", axes.set_xlabel), ("second", axes.set_ylabel))
    ):
        if ratios is None:
            set_label(f"{which} direction")
        else:
            set_label(f"{which} principal component ({100 * ratios[number]:.1f} % explained)")
    axes.set_title(title)
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=2,
            labelspacing=0.9,
            frameon=False,
            fontsize=9,
        )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.1)


def _draw_values(
    axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray
) -> QuadContourSet | None:
    """Contours, or None where no value is finite."""
    from matplotlib.colors import LogNorm, Normalize

    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = finite.min(), finite.max()
    is_log = low > 0 and high / low >= _LOG_SPACED
    if is_log:
        low = max(low, high * 10.0**-_MOST_DECADES)
        levels = np.geomspace(low, high, _NUM_LEVELS + 1)
    else:
        # Equal values, too, need levels that increase.
        spread = max((high - low) / 2, 1e-6 * max(abs(low), abs(high)), 1e-12)
        middle = (low + high) / 2
        levels = np.linspace(middle - spread, middle + spread, _NUM_LEVELS + 1)
    # The ends may be off by rounding, and the extreme values would stay white.
    levels[0], levels[-1] = min(levels[0], low), max(levels[-1], high)
    masked = np.ma.masked_invalid(values)
    norm = (LogNorm if is_log else Normalize)(levels[0], levels[-1])
    extend = "min" if finite.min() < levels[0] else "neither"
    contours = axes.contourf(
        x, y, masked, levels, cmap="viridis", norm=norm, extend=extend, corner_mask=False
    )
    axes.contour(x, y, masked, levels, colors="black", linewidths=0.4, alpha=0.5, corner_mask=False)
    return contours


def _label_levels(bar: Any, levels: np.ndarray) -> None:
    shown = levels[::4]
    # As many digits as tell neighbours apart.
    for digits in range(2, 8):
        labels = [f"{level:.{digits}g}" for level in shown]
        if len(set(labels)) == len(labels):
            break
    bar.set_ticks(shown, labels=labels)
    bar.ax.minorticks_off()


def _draw_trajectory(axes: Axes, places: np.ndarray, best: int | None) -> list[Any]:
    from matplotlib.patheffects import Normal, Stroke

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inside = (left <= places[:, 0]) & (places[:, 0] <= right)
    inside &= (bottom <= places[:, 1]) & (places[:, 1] <= top)
    outside = f", {(~inside).sum()} outside" if not inside.all() else ""
    handles = axes.plot(
        *places.T,
        "o-",
        color="white",
        linewidth=1.3,
        markersize=3.5,
        markeredgecolor="black",
        markeredgewidth=0.5,
        # Light on dark on any ground.
        path_effects=[Stroke(linewidth=2.6, foreground="black"), Normal()],
        label=f"trajectory ({len(places)} points{outside})",
    )
    marks = [("o", 9, "white", "start", 0), ("s", 13, "none", "end", len(places) - 1)]
    if best is not None:
        marks.append(("*", 11, _BEST, f"best (point {best}), the origin", best))
    for marker, size, colour, label, number in marks:
        # The end is a frame: the best point is often near it.
        is_frame = colour == "none"
        width, edge = (1.6, "white") if is_frame else (1.0, "black")
        halo = [Stroke(linewidth=3.2, foreground="black"), Normal()] if is_frame else []
        handles += axes.plot(
            *places[number],
            marker,
            markerfacecolor=colour,
            markersize=size,
            markeredgecolor=edge,
            markeredgewidth=width,
            path_effects=halo,
            label=label if inside[number] else f"{label} (outside)",
            zorder=4,
            # A mark at the very edge is whole; one outside is not drawn on the margin.
            clip_on=not inside[number],
        )
    return handles


def _draw_missing(axes: Axes, landscape: Landscape) -> Any:
    from matplotlib.patches import Patch, Rectangle

    style = {"facecolor": _MISSING, "edgecolor": _HATCHES, "hatch": "////", "linewidth": 0}
    # Behind the contours, which leave out the squares around what is missing.
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, zorder=0, **style))
    number, total = landscape.num_missing, landscape.values.size
    return Patch(**style, label=f"no finite loss at {number} of {total} points")
