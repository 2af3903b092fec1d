import warnings

import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA
from support.pictures import count, pixels

from qrkt_keras.analysis import (
    DataLoss,
    Landscape,
    Plane,
    ScanInterrupted,
    landscape,
    landscape_picture,
    pca_plane,
    random_plane,
    scan,
)
from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC
from qrkt_keras.training import CheckpointError, read_checkpoint, write_checkpoint
from qrkt_keras.zoo import QViT

SIZE, NUM_EXAMPLES = 4, 7
INPUTS = np.random.RandomState(1).randn(NUM_EXAMPLES, SIZE)
LABELS = np.random.RandomState(2).randn(NUM_EXAMPLES, 1)
SECOND_MOMENTS = INPUTS.T @ INPUTS / NUM_EXAMPLES


class Stopping(DataLoss):
    """Counts its evaluations, and is stopped at one of them."""

    calls, stop, error = 0, 0, KeyboardInterrupt

    def value(self, point=None):
        self.calls += 1
        if self.calls == self.stop:
            raise self.error
        return super().value(point)


def quadratic(point):
    """The closed form of the linear model's mean squared error."""
    cross = INPUTS.T @ LABELS[:, 0] / NUM_EXAMPLES
    return point @ SECOND_MOMENTS @ point - 2 * cross @ point + np.mean(LABELS**2)


@pytest.fixture(scope="module")
def linear():
    dense = keras.layers.Dense(1, use_bias=False, dtype="float64", name="linear")
    return keras.Sequential([keras.Input((SIZE,), dtype="float64"), dense])


@pytest.fixture
def loss(linear):
    # Each test counts its own evaluations; the functions are traced when they are called.
    return Stopping(linear, INPUTS, LABELS, loss=keras.losses.MeanSquaredError())


@pytest.fixture
def trajectory():
    return np.cumsum(np.random.RandomState(3).randn(6, SIZE), axis=0)


@pytest.fixture
def plane(trajectory):
    return pca_plane(trajectory)


# --- planes --------------------------------------------------------------------------------


def test_the_plane_is_scikit_learns_pca():
    steps = np.random.RandomState(0).randn(51, 300) * np.linspace(2, 0.1, 300)
    trajectory = 3 + np.cumsum(steps, axis=0)
    plane, pca = pca_plane(trajectory), PCA(2, svd_solver="full").fit(trajectory)
    np.testing.assert_allclose(plane.origin, pca.mean_, rtol=1e-12)
    np.testing.assert_allclose(plane.explained_ratios, pca.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(plane.directions, pca.components_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(plane.coordinates, pca.transform(trajectory), rtol=0, atol=1e-9)


def test_a_given_origin_moves_the_plane_and_nothing_else(trajectory):
    about_mean, about_last = pca_plane(trajectory), pca_plane(trajectory, origin=trajectory[-1])
    assert np.array_equal(about_last.directions, about_mean.directions)
    assert np.array_equal(about_last.explained_ratios, about_mean.explained_ratios)
    assert np.array_equal(about_last.point(0, 0), trajectory[-1])
    moved = about_mean.coordinates - about_mean.coordinates[-1]
    np.testing.assert_allclose(about_last.coordinates, moved, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "trajectory",
    [
        [[1.0, 2.0, 3.0], [1.0, 2.0, 5.0]],
        # As a model holds it, in float32.
        (1 + np.outer(np.linspace(0, 1, 20), np.random.RandomState(0).randn(500))).astype("f4"),
    ],
)
def test_points_on_a_line_get_a_second_direction_of_ratio_0(trajectory):
    plane, again = pca_plane(trajectory), pca_plane(np.array(trajectory)[::-1] + 1e-9)
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-14)
    assert plane.explained_ratios[1] == 0
    np.testing.assert_allclose(plane.explained_ratios[0], 1, rtol=1e-12)
    # It does not hang on the last bits.
    np.testing.assert_allclose(again.directions, plane.directions, atol=1e-6)
    ends = np.asarray(trajectory, float)[[0, -1]]
    np.testing.assert_allclose(
        np.ptp(plane.coordinates[:, 0]), np.linalg.norm(ends[1] - ends[0]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        (np.ones((1, 5)), r"two points of two weights at least\. Received: shape \(1, 5\)$"),
        (np.ones(5), r"Received: shape \(5,\)$"),
        (np.ones((5, 1)), r"Received: shape \(5, 1\)$"),
        (np.zeros((3, 5)), r"must move\. Received: 3 points, all of them equal$"),
        (np.full((3, 5), 0.1), r"must move\. Received: 3 points, all of them equal$"),
        ([[1, 2], [np.inf, 3], [5, 5]], r"Received: a weight of inf at point 1$"),
    ],
)
def test_what_is_no_trajectory_is_refused(trajectory, message):
    with pytest.raises(ValueError, match=message):
        pca_plane(trajectory)


def test_an_origin_of_another_size_is_refused(trajectory):
    with pytest.raises(ValueError, match=r"origin must be .*, \(4,\)\. Received: shape \(3,\)$"):
        pca_plane(trajectory, origin=np.zeros(3))


def test_projecting_is_the_least_squares_solution():
    generator = np.random.RandomState(0)
    plane = Plane(generator.randn(9), generator.randn(2, 9))
    points = generator.randn(3, 2, 9)
    places = plane.project(points)
    assert places.shape == (3, 2, 2)
    for point, place in zip(points.reshape(-1, 9), places.reshape(-1, 2), strict=True):
        solution = np.linalg.lstsq(plane.directions.T, point - plane.origin, rcond=None)[0]
        np.testing.assert_allclose(place, solution, atol=1e-12)
    np.testing.assert_allclose(plane.project(plane.point(0.3, -2.0)), [0.3, -2.0], atol=1e-12)
    with pytest.raises(ValueError, match=r"points must be \(\.\.\., 9\).*Received: shape \(8,\)$"):
        plane.project(np.zeros(8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], [[1, 2], [2, 4]]), r"zero or parallel\. Received: lengths 2\.24 and 4\.47"),
        (([0, 0], [[1, 2], [0, 0]]), r"Received: lengths 2\.24 and 0, inner product 0$"),
        (([0, 0], [[1, 2]]), r"directions .* \(2, 2\)\. Received: shape \(1, 2\)$"),
        (([0, np.nan], np.eye(2)), r"origin .* Received: a weight of nan$"),
        (([0, 0], np.eye(2), [1.0]), r"explained_ratios .* \(2,\)\. Received: shape \(1,\)$"),
        (([0, 0], np.eye(2), None, [[1.0]]), r"coordinates .* \(1, 2\)\. Received: shape \(1, 1\)"),
    ],
)
def test_what_is_no_plane_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Plane(*arguments)


# --- random planes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layers():
    """Variables of every kind, in one order, all with weights of another size."""
    keras.utils.set_random_seed(0)
    convolution = keras.layers.Conv2D(3, 2, name="convolution")
    convolution.build((None, 8, 8, 2))
    dense = keras.layers.Dense(5, bias_initializer="normal", name="dense")
    dense.build((None, 4))
    normalisation = keras.layers.LayerNormalization(name="normalisation")
    normalisation.build((None, 6))
    circuits = PQC(templates.hardware_efficient(2), copies=4, name="circuits")
    circuits.build((None, 2))
    return [convolution, dense, normalisation, circuits]


def test_every_filter_has_the_norm_of_the_weights_filter(layers):
    variables = [variable for layer in layers for variable in layer.trainable_variables]
    plane = random_plane(variables, seed=5)
    values = [np.array(variable.value, np.float64) for variable in variables]
    assert np.array_equal(plane.origin, np.concatenate([value.ravel() for value in values]))
    ends = np.cumsum([value.size for value in values])
    checked = 0
    for direction in plane.directions:
        parts = np.split(direction, ends[:-1])
        for variable, weights, part in zip(variables, values, parts, strict=True):
            part = part.reshape(weights.shape)
            if variable.path == "circuits/angles":
                filters = [(weights[copy], part[copy]) for copy in range(4)]
            elif variable.name == "kernel":
                units = range(weights.shape[-1])
                filters = [(weights[..., unit], part[..., unit]) for unit in units]
            else:
                filters = [(weights, part)]
            for weight, drawn in filters:
                norm = np.linalg.norm(drawn)
                np.testing.assert_allclose(norm, np.linalg.norm(weight), rtol=1e-12)
                checked += 1
    # Convolution 3 and its bias, Dense 5 and its bias, scale and offset, four circuits.
    assert checked == 2 * (3 + 1 + 5 + 1 + 2 + 4)
    # The biases of the convolution and the offset are zero, and so are their directions.
    zero = plane.origin == 0
    assert zero.sum() == 3 + 6
    assert np.array_equal((plane.directions == 0).all(axis=0), zero)


def test_random_directions_hang_on_the_seed_alone(layers):
    kernel = layers[1].kernel
    first, same, other = (random_plane([kernel], seed=seed).directions for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.isclose(first, other).any()
    assert not np.isclose(first[0], first[1]).any()


def test_random_directions_are_normally_distributed():
    # Of filters of many weights: the norm of each is then no constraint to speak of.
    kernel = keras.Variable(np.ones((20000, 2)), dtype="float32", name="kernel")
    drawn = random_plane([kernel]).directions
    from scipy import stats

    for direction in drawn.reshape(2, -1):
        assert stats.kstest(direction, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn)[0, 1]) < 4 / np.sqrt(40000)


def test_weights_without_a_scale_are_refused(layers):
    with pytest.raises(ValueError, match=r"all of them are zero\. Received: normalisation/beta$"):
        random_plane([layers[2].beta])
    with pytest.raises(ValueError, match=r"There must be a variable\. Received: \[\]$"):
        random_plane([])
    with pytest.raises(ValueError, match=r"Weights must be finite\. Received: .*a weight of nan$"):
        random_plane([keras.Variable([1.0, np.nan])])
    with pytest.raises(ValueError, match=r"zero or parallel\. Received: lengths 2 and 2"):
        random_plane([keras.Variable([2.0])])
    with pytest.raises(ValueError, match="Received: seed=-1$"):
        random_plane([keras.Variable([2.0, 1.0])], seed=-1)


def test_a_whole_transformer_has_a_landscape():
    keras.utils.set_random_seed(4)
    model = QViT(
        (4, 4, 1),
        3,
        patch_size=2,
        hidden_dim=4,
        num_heads=2,
        mlp_dim=3,
        num_encoder_blocks=1,
        num_ode_blocks=0,
        num_decoder_blocks=0,
    )
    images = np.random.RandomState(0).randint(0, 256, (6, 4, 4, 1)).astype("uint8")
    loss = DataLoss(model, images, np.arange(6) % 3)
    before = loss.point()
    plane = random_plane(loss, seed=1)
    drawn = scan(loss, plane, num_points=3, progress=False)
    assert np.array_equal(drawn.x, [-1, 0, 1]) and np.array_equal(drawn.y, [-1, 0, 1])
    assert np.array_equal(loss.point(), before)
    assert drawn.values[1, 1] == loss.value()
    # Independently of planes and points: the weights moved by hand, and Keras' own evaluation.
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    start = 0
    for variable in model.trainable_variables:
        size = int(np.prod(variable.shape))
        step = plane.directions[0] - plane.directions[1]
        variable.assign_add(step[start : start + size].reshape(variable.shape))
        start += size
    expected = model.evaluate(images, np.arange(6) % 3, verbose=0)
    np.testing.assert_allclose(drawn.values[0, 2], expected, rtol=1e-5)
    assert abs(expected - drawn.values[1, 1]) > 1e-3


# --- scans ---------------------------------------------------------------------------------


def test_a_scan_is_the_quadratic_in_closed_form(loss, plane, trajectory):
    before = loss.point()
    drawn = scan(loss, plane, num_points=7, margin=2.0, progress=False)
    low, high = plane.coordinates.min(axis=0) - 2, plane.coordinates.max(axis=0) + 2
    np.testing.assert_allclose(drawn.x, np.linspace(low[0], high[0], 7), rtol=1e-12)
    np.testing.assert_allclose(drawn.y, np.linspace(low[1], high[1], 7), rtol=1e-12)
    for row, y in enumerate(drawn.y):
        for column, x in enumerate(drawn.x):
            point = trajectory.mean(axis=0) + x * plane.directions[0] + y * plane.directions[1]
            np.testing.assert_allclose(drawn.values[row, column], quadratic(point), rtol=1e-12)
    assert drawn.num_missing == 0 and loss.calls == 49
    assert np.array_equal(loss.point(), before)


def test_the_default_grid_is_the_sources(loss, plane):
    drawn = scan(loss, plane, progress=False)
    assert drawn.values.shape == (20, 20)
    assert drawn.x[0] == plane.coordinates[:, 0].min() - 5
    assert drawn.y[-1] == plane.coordinates[:, 1].max() + 5


def test_axes_of_any_length_and_spacing(loss, plane):
    x, y = [-3, 0, 0.5, 4, 9], [1, 2]
    drawn = scan(loss, plane, x=x, y=y, progress=False)
    assert drawn.values.shape == (2, 5)
    np.testing.assert_allclose(drawn.values[1, 3], quadratic(plane.point(4, 2)), rtol=1e-12)


def test_a_loss_that_is_no_number_in_places_is_counted(linear):
    # The logarithm of minus the first weight is NaN where that is positive, infinite at 0.
    first = np.eye(SIZE)[:1]
    loss = DataLoss(linear, first, first, loss=lambda y_true, y_pred: keras.ops.log(-y_pred))
    plane = Plane(np.zeros(SIZE), np.eye(SIZE)[:2])
    drawn = scan(loss, plane, x=[-2, -1, 0, 1, 2], y=[0, 1], progress=False)
    np.testing.assert_allclose(drawn.values[0, :2], np.log([2, 1]), atol=1e-15)
    assert drawn.values[0, 2] == -np.inf and np.isnan(drawn.values[:, 3:]).all()
    assert drawn.num_missing == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [1.0]}, r"x must be two .* increasing\. Received: \[1\.0\]$"),
        ({"y": [1.0, 1.0]}, r"y must be .* Received: \[1\.0, 1\.0\]$"),
        ({"x": [0.0, np.inf]}, r"Received: \[0\.0, inf\]$"),
        ({"x": [[0.0, 1.0]]}, r"Received: \[\[0\.0, 1\.0\]\]$"),
        ({"num_points": 1}, r"at least 2\. Received: num_points=1$"),
        ({"num_points": 2.5}, r"Received: num_points=2\.5$"),
        ({"margin": -1}, r"Received: margin=-1$"),
        ({"margin": np.nan}, r"Received: margin=nan$"),
        ({"resume": True}, r"Received: resume=True, checkpoint=None$"),
    ],
)
def test_a_bad_grid_is_refused(loss, plane, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        scan(loss, plane, **arguments)
    assert loss.calls == 0


def test_a_trajectory_of_another_size_is_refused(loss):
    plane = pca_plane(np.random.RandomState(0).randn(3, SIZE + 1))
    with pytest.raises(ValueError, match=r"of the loss' 4 weights\. Received: a plane of 5$"):
        scan(loss, plane)


# --- checkpoints ---------------------------------------------------------------------------

GRID = {"x": [-1.0, 0.0, 1.0, 2.0], "y": [0.0, 1.0, 3.0], "progress": False}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.npz"


@pytest.fixture
def undisturbed(loss, plane):
    values = scan(loss, plane, **GRID).values
    loss.calls = 0
    return values


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 7, 12])
def test_an_interrupted_scan_continues_bit_for_bit(loss, plane, path, undisturbed, stop):
    before, loss.stop = loss.point(), stop
    with pytest.raises(
        ScanInterrupted,
        match=rf"^Interrupted after {stop - 1} of 12 points\. The scan is safe in {path}; .*resume",
    ):
        scan(loss, plane, checkpoint=path, **GRID)
    assert np.array_equal(loss.point(), before)
    loss.calls = loss.stop = 0
    drawn = scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert drawn.values.tobytes() == undisturbed.tobytes()
    # No point is computed again, but for the first, which tells whether the loss is the same.
    assert loss.calls == 12 - (stop - 1) + (stop > 1)


def test_a_scan_that_is_stopped_twice_continues_too(loss, plane, path, undisturbed):
    for stop in (3, 5):
        loss.calls, loss.stop = 0, stop
        with pytest.raises(ScanInterrupted):
            scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert read_checkpoint(path).metadata["num_points"] == 5
    loss.stop = 0
    drawn = scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert drawn.values.tobytes() == undisturbed.tobytes()


def test_without_a_checkpoint_an_interrupt_says_what_is_lost(loss, plane):
    loss.stop = 3
    with pytest.raises(ScanInterrupted, match=r"^Interrupted after 2 of 12 points\. They are lost"):
        scan(loss, plane, **GRID)


@pytest.mark.parametrize(("seconds", "kept"), [(3600, 4), (-1, 6)])
def test_a_scan_that_dies_has_kept_its_rows(loss, plane, path, monkeypatch, seconds, kept):
    monkeypatch.setattr(landscape, "_SECONDS_BETWEEN_CHECKPOINTS", seconds)
    loss.stop, loss.error = 7, MemoryError
    with pytest.raises(MemoryError):
        scan(loss, plane, checkpoint=path, **GRID)
    assert read_checkpoint(path).metadata["num_points"] == kept


def test_a_finished_scan_is_returned_again(loss, plane, path, undisturbed):
    scan(loss, plane, checkpoint=path, **GRID)
    loss.calls = 0
    drawn = scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert drawn.values.tobytes() == undisturbed.tobytes() and loss.calls == 1


def test_missing_values_are_continued_as_well(linear, plane, path):
    def root(y_true, y_pred):
        return keras.ops.sqrt(y_pred - 5)

    loss = Stopping(linear, INPUTS[:1], LABELS[:1], loss=root)
    whole = scan(loss, plane, **GRID).values
    assert 0 < np.isnan(whole).sum() < 12
    loss.calls, loss.stop = 0, 11
    with pytest.raises(ScanInterrupted):
        scan(loss, plane, checkpoint=path, **GRID)
    loss.stop = 0
    drawn = scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert drawn.values.tobytes() == whole.tobytes()


def test_a_file_that_is_there_is_not_replaced(loss, plane, path):
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"exists already: .*Received: checkpoint={path}$"):
        scan(loss, plane, checkpoint=path, **GRID)
    assert path.read_bytes() == b"mine" and loss.calls == 0


def test_a_folder_that_is_not_there_is_noticed_at_once(loss, plane, tmp_path):
    with pytest.raises(FileNotFoundError):
        scan(loss, plane, checkpoint=tmp_path / "none" / "scan.npz", **GRID)
    assert loss.calls == 0


@pytest.fixture
def stopped(loss, plane, path):
    loss.stop = 6
    with pytest.raises(ScanInterrupted):
        scan(loss, plane, checkpoint=path, **GRID)
    loss.calls = loss.stop = 0
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_checkpoint_is_refused(loss, plane, path, stopped, damage):
    altered = bytearray(stopped)
    altered[stopped.index(b"NUMPY") + 150] ^= 0x40
    path.write_bytes(stopped[:-40] if damage == "truncated" else altered)
    with pytest.raises(CheckpointError, match=rf"Received: {path}$"):
        scan(loss, plane, checkpoint=path, resume=True, **GRID)
    assert loss.calls == 0


def test_a_checkpoint_of_another_job_is_refused(loss, plane, path):
    write_checkpoint(path, {}, {"kind": "training"})
    with pytest.raises(CheckpointError, match=rf"Received: kind='training' in {path}$"):
        scan(loss, plane, checkpoint=path, resume=True, **GRID)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("origin", r"Received: other plane$"),
        ("direction", r"Received: other plane$"),
        ("axes", r"Received: other axes$"),
        ("labels", r"Received: other data$"),
        ("loss", r"of another loss or model .*Received: .* at point 1, where it has"),
    ],
)
def test_a_checkpoint_of_another_scan_is_refused(
    linear, loss, plane, path, stopped, trajectory, change, message
):
    grid = GRID | ({"y": [0.0, 1.0, 4.0]} if change == "axes" else {})
    if change == "origin":
        plane = pca_plane(trajectory, origin=trajectory[0])
    if change == "direction":
        plane = Plane(plane.origin, plane.directions * [[1], [2]])
    if change == "labels":
        loss = DataLoss(linear, INPUTS, LABELS[::-1], loss=keras.losses.MeanSquaredError())
    if change == "loss":
        loss = DataLoss(linear, INPUTS, LABELS, loss=keras.losses.MeanAbsoluteError())
    with pytest.raises(CheckpointError, match=message):
        scan(loss, plane, checkpoint=path, resume=True, **grid)
    assert path.read_bytes() == stopped


def test_a_plane_found_anew_with_other_last_bits_is_the_same(
    loss, plane, path, stopped, undisturbed
):
    """On one thread and on two, NumPy's decomposition is not bit for bit the same."""
    random = np.random.RandomState(0)
    anew = Plane(
        plane.origin + 1e-12 * random.randn(*plane.origin.shape),
        plane.directions + 1e-12 * random.randn(*plane.directions.shape),
        coordinates=plane.coordinates,
    )
    grid = GRID | {"x": np.add(GRID["x"], 1e-12)}
    drawn = scan(loss, anew, checkpoint=path, resume=True, **grid)
    assert np.array_equal(drawn.values, undisturbed)
    assert np.array_equal(drawn.plane.origin, plane.origin)
    assert np.array_equal(drawn.plane.directions, plane.directions)
    assert np.array_equal(drawn.x, GRID["x"])


def test_weights_that_are_not_scanned_must_be_the_same(path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    kernel, bias = model.trainable_variables
    error = keras.losses.MeanSquaredError()
    loss = DataLoss(model, INPUTS[:, :2], LABELS, loss=error, variables=[kernel])
    plane = Plane([0.0, 0.0], np.eye(2))
    scan(loss, plane, checkpoint=path, **GRID)
    # Where the model itself is in the plane does not matter.
    kernel.assign(kernel + 1)
    scan(loss, plane, checkpoint=path, resume=True, **GRID)
    bias.assign([1e-7])
    with pytest.raises(CheckpointError, match=r"Received: other fixed weights$"):
        scan(loss, plane, checkpoint=path, resume=True, **GRID)


def test_another_loss_is_noticed_where_it_is_finite(loss, plane, path):
    scan(loss, plane, checkpoint=path, **GRID)
    kept = read_checkpoint(path)
    values = kept.arrays["values"].copy()
    values[0] = np.nan
    write_checkpoint(path, kept.arrays | {"values": values}, kept.metadata)
    assert scan(loss, plane, checkpoint=path, resume=True, **GRID).num_missing == 1
    values[1] *= 1.1
    write_checkpoint(path, kept.arrays | {"values": values}, kept.metadata)
    with pytest.raises(CheckpointError, match=r"Received: .* at point 2, where it has"):
        scan(loss, plane, checkpoint=path, resume=True, **GRID)


def test_another_environment_is_told(loss, plane, path, stopped, undisturbed):
    kept = read_checkpoint(path)
    elsewhere = kept.metadata["environment"] | {"cores": "96"}
    write_checkpoint(path, kept.arrays, kept.metadata | {"environment": elsewhere})
    with pytest.warns(UserWarning, match=r"another environment.*cores '96', now '\d+'$"):
        drawn = scan(loss, plane, checkpoint=path, resume=True, **GRID)
    np.testing.assert_allclose(drawn.values, undisturbed, rtol=1e-12)


# --- progress ------------------------------------------------------------------------------


def test_nothing_is_shown_unasked(loss, plane, capsys):
    scan(loss, plane, **GRID)
    assert capsys.readouterr().out == ""
    scan(loss, plane, **GRID | {"progress": True})
    assert "scan 12/12" in capsys.readouterr().out


# --- pictures ------------------------------------------------------------------------------

ORANGE, GREY = (213, 94, 0), (221, 221, 221)
X, Y = np.linspace(-8, 8, 9), np.linspace(-6, 6, 7)
BOWL = 0.1 + X**2 + 2 * Y[:, None] ** 2


@pytest.fixture
def walked():
    places = np.array([[-6.0, 5.0], [-3.0, 2.0], [1.0, -1.0], [2.0, 1.0]])
    return Plane([0.0, 0.0], np.eye(2), [0.875, 0.1], places)


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_picture_has_all_that_it_should(tmp_path, walked, figures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape_picture(Landscape(walked, X, Y, BOWL), tmp_path / "a.png", best=2, title="Bowl")
    axes = figures[0].axes[0]
    assert axes.get_title() == "Bowl"
    assert axes.get_xlabel() == "first principal component (87.5 % explained)"
    assert axes.get_ylabel() == "second principal component (10.0 % explained)"
    # The origin is at the best point, (1, -1).
    assert axes.get_xlim() == (-9, 7) and axes.get_ylim() == (-5, 7)
    trajectory, start, end, best = (line.get_xydata() for line in axes.lines)
    assert np.array_equal(trajectory, [[-7, 6], [-4, 3], [0, 0], [1, 2]])
    assert np.array_equal(start, [[-7, 6]]) and np.array_equal(end, [[1, 2]])
    assert np.array_equal(best, [[0, 0]])
    assert texts(figures[0]) == [
        "trajectory (4 points)",
        "start",
        "end",
        "best (point 2), the origin",
    ]
    picture = pixels(tmp_path / "a.png")
    assert not axes.patches  # nothing is hatched
    # The star is in the picture and in the legend below it.
    rows = np.argwhere(np.abs(picture - ORANGE).sum(axis=-1) < 6)[:, 0]
    assert len(rows) > 60 and np.ptp(rows) > 300


def test_without_a_best_point_the_axes_are_the_planes(tmp_path, walked, figures):
    landscape_picture(Landscape(walked, X, Y, BOWL), tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert axes.get_xlim() == (-8, 8) and axes.get_ylim() == (-6, 6)
    assert count(pixels(tmp_path / "a.png"), ORANGE) == 0


@pytest.mark.parametrize(
    ("values", "is_log", "ends"),
    [
        (BOWL, True, (BOWL.min(), BOWL.max())),
        (BOWL + 100, False, (BOWL.min() + 100, BOWL.max() + 100)),
        (BOWL - 1, False, (BOWL.min() - 1, BOWL.max() - 1)),
        (BOWL - 0.1 + 1e-9, True, ((BOWL.max() - 0.1) * 1e-6, BOWL.max() - 0.1)),
    ],
)
def test_contours_are_spaced_by_factors_where_the_loss_is(
    tmp_path, walked, figures, values, is_log, ends
):
    landscape_picture(Landscape(walked, X, Y, values), tmp_path / "a.png")
    levels = figures[0].axes[0].collections[0].levels
    spaced = np.diff(np.log(levels) if is_log else levels)
    np.testing.assert_allclose(spaced, spaced[0], rtol=1e-6)
    np.testing.assert_allclose(levels[[0, -1]], ends, rtol=1e-7)
    # No point of the grid is left white: the inside is all contours, line and labels aside.
    assert figures[0].axes[0].collections[0].extend == (
        "min" if ends[0] > values.min() else "neither"
    )


def test_missing_values_are_hatched_and_counted(tmp_path, walked, figures):
    values = BOWL.copy()
    values[4:, :3] = np.nan
    values[0, 8] = np.inf
    landscape_picture(Landscape(walked, X, Y, values), tmp_path / "a.png")
    assert texts(figures[0])[-1] == "no finite loss at 10 of 63 points"
    # Left out are the squares that touch one of them: 3 by 3 and the corner, of 8 by 6.
    picture = pixels(tmp_path / "a.png")
    left_out = count(picture, GREY)
    landscape_picture(Landscape(walked, X, Y, np.full_like(BOWL, np.nan)), tmp_path / "b.png")
    assert texts(figures[1])[-1] == "no finite loss at 63 of 63 points"
    np.testing.assert_allclose(
        left_out / count(pixels(tmp_path / "b.png"), GREY), 10 / 48, atol=0.04
    )


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_a_flat_landscape_is_drawn(tmp_path, walked, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape_picture(Landscape(walked, X, Y, np.full_like(BOWL, value)), tmp_path / "a.png")
    assert (
        count(pixels(tmp_path / "a.png"), (255, 255, 255))
        < 0.6 * pixels(tmp_path / "a.png").size / 3
    )


def test_a_random_plane_has_no_trajectory_and_no_ratios(tmp_path, figures):
    plane = Plane([0.0, 0.0], np.eye(2))
    landscape_picture(Landscape(plane, X, Y, BOWL), tmp_path / "a.png", title="random")
    axes = figures[0].axes[0]
    assert axes.get_xlabel() == "first direction" and axes.get_ylabel() == "second direction"
    assert not axes.lines and not figures[0].legends


def test_points_outside_the_grid_are_told(tmp_path, walked, figures):
    inside = X[X > -4], Y
    landscape_picture(Landscape(walked, *inside, BOWL[:, X > -4]), tmp_path / "a.png", best=1)
    told = texts(figures[0])
    assert told[:2] == ["trajectory (4 points, 2 outside)", "start (outside)"]
    assert told[3] == "best (point 1), the origin (outside)"


@pytest.mark.parametrize("best", [4, -1, 1.0, True])
def test_a_best_point_that_is_none_is_refused(tmp_path, walked, best):
    with pytest.raises(ValueError, match=rf"trajectory's 4 points.* Received: best={best}$"):
        landscape_picture(Landscape(walked, X, Y, BOWL), tmp_path / "a.png", best=best)
    assert not list(tmp_path.iterdir())


def test_values_of_another_form_are_refused(walked):
    with pytest.raises(ValueError, match=r"values must be \(7, 9\).* Received: shape \(9, 7\)$"):
        Landscape(walked, X, Y, BOWL.T)
    with pytest.raises(ValueError, match=r"y must be .*increasing"):
        Landscape(walked, X, Y[::-1], BOWL)
