import errno
import os

import numpy as np
import pytest
from sklearn.metrics import auc, roc_curve
from support.pictures import count, pixels

from qrkt_keras.training import (
    comparison_picture,
    confusion_picture,
    files,
    folds_picture,
    history_picture,
    macro_auc,
    reports,
    roc_picture,
)

HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "accuracy": [0.2, 0.6, 0.8],
    "val_loss": [1.8, 1.1, 0.9],
    "val_accuracy": [0.3, 0.6, 0.7],
}
BLUE, ORANGE, DARK = (0, 114, 178), (213, 94, 0), (68, 68, 68)


def test_the_history_shows_both_curves_and_the_best_epoch(tmp_path):
    history_picture(HISTORY, tmp_path / "a.png", best_epoch=2, title="digits")
    history_picture(HISTORY, tmp_path / "b.png")
    only = {name: HISTORY[name] for name in ("loss", "accuracy")}
    history_picture(only, tmp_path / "c.png", best_epoch=3)
    marked, unmarked, training = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert marked.shape[0] > 400 and marked.shape[1] > 1000
    for picture in (marked, unmarked, training):
        assert count(picture, BLUE) > 500
    assert count(marked, ORANGE) > 500 and count(training, ORANGE) == 0
    assert count(marked, DARK) > count(unmarked, DARK) + 50


def orange_curve(path):
    """Row of the orange line in each column of the left axes that has it, without the legend's."""
    picture = pixels(path)
    found = np.argwhere(np.abs(picture - ORANGE).sum(axis=-1) < 6)
    columns = np.unique(found[:, 1])
    # Lines of the legend are level, and short.
    columns = columns[(columns > 0.08 * picture.shape[1]) & (columns < 0.3 * picture.shape[1])]
    return {x: np.median(found[found[:, 1] == x][:, 0]) for x in columns}


def test_where_nothing_is_held_out_the_second_curve_is_that_of_the_training_examples(tmp_path):
    own = {name.replace("val_", "train_"): values for name, values in HISTORY.items()}
    history_picture(HISTORY, tmp_path / "a.png", best_epoch=3)
    history_picture(own, tmp_path / "b.png", best_epoch=3)
    validation, training = (pixels(tmp_path / f"{name}.png") for name in "ab")
    # The same lines; the legend says what they are.
    assert count(training, ORANGE) == pytest.approx(count(validation, ORANGE), rel=0.05)
    curve, expected = (orange_curve(tmp_path / f"{name}.png") for name in "ba")
    common = [*set(curve) & set(expected)]
    assert len(common) > 50
    assert np.median([abs(curve[x] - expected[x]) for x in common]) == 0
    assert (training != validation).any()
    # With both, it is validation that is shown.
    history_picture({**own, **HISTORY}, tmp_path / "c.png", best_epoch=3)
    assert (pixels(tmp_path / "c.png") == validation).all()


def test_a_single_epoch_is_visible(tmp_path):
    one = {name: values[:1] for name, values in HISTORY.items()}
    history_picture(one, tmp_path / "a.png")
    assert count(pixels(tmp_path / "a.png"), BLUE) > 50


def test_the_confusion_matrix_is_darkest_where_the_share_is_largest(tmp_path):
    counts = np.diag([50, 3, 20])
    counts[0, 1] = 50
    confusion_picture(counts, tmp_path / "a.png", label_names=["a", "b", "c"], title="test")
    picture = pixels(tmp_path / "a.png")
    # Rows 1 and 2 are all right, though one class is rare: the same full blue, nowhere else.
    full = np.argwhere(np.abs(picture - (8, 48, 107)).sum(axis=-1) < 6)
    left, right = np.ptp(full[:, 0]), np.ptp(full[:, 1])
    assert len(full) > 2 * (left / 3) * (right / 3)


@pytest.mark.parametrize("size", [1, 2, 10, 40])
def test_confusion_matrices_of_any_size(tmp_path, size):
    names = [f"class {number}" for number in range(size)]
    confusion_picture(np.eye(size, dtype=int) * 7, tmp_path / "a.png", label_names=names)
    assert pixels(tmp_path / "a.png").min() < 120


def test_an_empty_row_is_fine(tmp_path):
    confusion_picture([[0, 0], [1, 2]], tmp_path / "a.png", label_names="ab")
    assert (tmp_path / "a.png").exists()


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    history_picture(HISTORY, path)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        history_picture(HISTORY, path, title="new")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_drawing_touches_no_global_state(tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend()
    history_picture(HISTORY, tmp_path / "a.png")
    confusion_picture([[1]], tmp_path / "b.png", label_names=["a"])
    assert (dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend()) == before


@pytest.mark.parametrize(
    ("history", "best", "message"),
    [
        ({"loss": [1.0]}, 0, r"Received: \['loss'\]$"),
        ({"loss": [], "accuracy": []}, 0, r"Received: \['accuracy', 'loss'\]$"),
        (HISTORY, 4, r"the 3 epochs\. Received: best_epoch=4$"),
        (HISTORY, -1, r"Received: best_epoch=-1$"),
    ],
)
def test_a_bad_history_is_refused(tmp_path, history, best, message):
    with pytest.raises(ValueError, match=message):
        history_picture(history, tmp_path / "a.png", best_epoch=best)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("confusion", "names", "message"),
    [
        ([[1, 0]], "ab", r"Received: shape \(1, 2\)$"),
        ([[1, 0], [0, 1]], "abc", r"the 3 label names\. Received: shape \(2, 2\)$"),
        (np.zeros((0, 0)), "", r"Received: shape \(0, 0\)$"),
        ([[1, 0], [-1, 1]], "ab", r"Received: -1$"),
    ],
)
def test_a_bad_matrix_is_refused(tmp_path, confusion, names, message):
    with pytest.raises(ValueError, match=message):
        confusion_picture(confusion, tmp_path / "a.png", label_names=names)


def predictions(n, num_classes, digits=None):
    random = np.random.RandomState(0)
    labels = random.randint(0, num_classes, n)
    probabilities = random.rand(n, num_classes) + 0.5 * np.eye(num_classes)[labels]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if digits is not None:  # many ties, so slanted pieces of curves
        probabilities = probabilities.round(digits) + 0.01
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_the_mean_curve_has_the_mean_area(digits):
    labels, probabilities = predictions(200, 5, digits)
    curves = [
        roc_curve(labels == k, probabilities[:, k], drop_intermediate=False)[:2] for k in range(5)
    ]
    rates, means = reports._mean_curve(curves)
    assert auc(rates, means) == pytest.approx(macro_auc(labels, probabilities), abs=1e-12)
    assert (np.diff(means) >= -1e-12).all() and (rates[-1], means[-1]) == (1, 1)
    # At a rate where no curve jumps it is the mean of what they interpolate.
    at = 0.5 * (rates[4] + rates[np.searchsorted(rates, rates[4], side="right")])
    wanted = np.mean([np.interp(at, *curve) for curve in curves])
    assert np.interp(at, rates, means) == pytest.approx(wanted, abs=1e-12)


def test_points_left_out_change_no_curve():
    labels, probabilities = predictions(300, 3)
    false, true, _ = roc_curve(labels == 1, probabilities[:, 1], drop_intermediate=False)
    fewer_false, fewer_true = reports._without_straights(false, true)
    assert len(fewer_false) < len(false) / 2
    assert auc(fewer_false, fewer_true) == pytest.approx(auc(false, true), abs=1e-12)


def legend_of(labels, probabilities, names, tmp_path, monkeypatch):
    kept = []
    save = reports._save
    monkeypatch.setattr(reports, "_save", lambda f, path: (kept.append(f), save(f, path)))
    roc_picture(labels, probabilities, tmp_path / "roc.png", label_names=names)
    legend = kept[0].axes[0].get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_the_legend_of_a_roc_picture_tells_the_areas(tmp_path, monkeypatch):
    labels, probabilities = predictions(300, 4)
    legend = legend_of(labels, probabilities, "abcd", tmp_path, monkeypatch)
    areas = [auc(*roc_curve(labels == k, probabilities[:, k])[:2]) for k in range(4)]
    wanted = [f"{name}  {area:.3f}" for name, area in zip("abcd", areas, strict=True)]
    assert legend == [*wanted, f"macro average  {macro_auc(labels, probabilities):.3f}"]
    assert count(pixels(tmp_path / "roc.png"), BLUE) > 100


def test_two_classes_have_one_curve(tmp_path, monkeypatch):
    labels, probabilities = predictions(80, 2)
    legend = legend_of(labels, probabilities, ["no", "yes"], tmp_path, monkeypatch)
    assert legend == [f"yes  {macro_auc(labels, probabilities):.3f}"]


def test_of_many_classes_the_best_and_the_worst_are_shown(tmp_path, monkeypatch):
    labels, probabilities = predictions(900, 30)
    names = [f"class {k}" for k in range(30)]
    legend = legend_of(labels, probabilities, names, tmp_path, monkeypatch)
    areas = [auc(*roc_curve(labels == k, probabilities[:, k])[:2]) for k in range(30)]
    order = np.argsort(areas)
    assert [text.split("  ")[0] for text in legend[:3]] == [names[k] for k in order[:-4:-1]]
    assert legend[5].startswith(f"{names[order[0]]}  ") and len(legend) == 7


@pytest.mark.parametrize("labels", [[0, 0, 2], [1, 1, 1]])
def test_classes_without_a_curve_are_left_out(tmp_path, monkeypatch, labels):
    probabilities = np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.2, 0.1, 0.7]])
    legend = legend_of(np.array(labels), probabilities, "abc", tmp_path, monkeypatch)
    assert [text[0] for text in legend] == (["a", "c"] if 0 in labels else [])


def test_bad_predictions_are_refused(tmp_path):
    labels, probabilities = predictions(20, 3)
    with pytest.raises(ValueError, match=r"the 3 classes\. Received: \['a', 'b'\]$"):
        roc_picture(labels, probabilities, tmp_path / "a.png", label_names="ab")
    with pytest.raises(ValueError, match=r"Received: label 3$"):
        roc_picture(labels + 1, probabilities, tmp_path / "a.png", label_names="abc")
    assert not list(tmp_path.iterdir())


def test_folds_are_points_around_their_mean(tmp_path):
    folds_picture({"accuracy": [0.9, 0.92, 0.97]}, tmp_path / "a.png", title="test")
    picture = pixels(tmp_path / "a.png")
    places = np.argwhere(np.abs(picture - ORANGE).sum(axis=-1) < 6)
    rows = [np.median(places[places[:, 1] == x][:, 0]) for x in np.unique(places[:, 1])]
    assert rows[0] > rows[len(rows) // 2] > rows[-1]
    assert count(picture, BLUE) > 100
    with pytest.raises(ValueError, match=r"Received: \{'accuracy': \[0\.9\]\}$"):
        folds_picture({"accuracy": [0.9]}, tmp_path / "b.png")


def places(picture, colour):
    """Rows and columns of the pixels of a colour, without the legend's."""
    found = np.argwhere(np.abs(picture - colour).sum(axis=-1) < 6)
    return found[found[:, 1] < 0.8 * picture.shape[1]]


def test_models_are_where_their_accuracy_and_parameters_are(tmp_path):
    reached = {
        ("a", "quantum"): (3000, [0.91, 0.92, 0.93]),
        ("a", "classical twin"): (7000, [0.97, 0.97, 0.98]),
    }
    comparison_picture(reached, tmp_path / "a.png", title="digits")
    picture = pixels(tmp_path / "a.png")
    blue, orange = places(picture, BLUE), places(picture, ORANGE)
    # Of an image the first row is the top one.
    assert blue[:, 0].mean() > orange[:, 0].mean() + 200
    assert blue[:, 1].mean() + 400 < orange[:, 1].mean()
    # The bar, a standard deviation up and down, is as high as 0.02 on the axis.
    height = np.ptp(blue[:, 0]) / (blue[:, 0].mean() - orange[:, 0].mean())
    assert height == pytest.approx(0.02 / (0.97333 - 0.92), rel=0.1)


def test_a_single_run_has_no_bar_and_equal_counts_stand_apart(tmp_path):
    reached = {("a", "quantum"): (90, [0.5]), ("a", "frozen"): (90, [0.5])}
    comparison_picture(reached, tmp_path / "a.png")
    picture = pixels(tmp_path / "a.png")
    blue, orange = places(picture, BLUE), places(picture, ORANGE)
    assert np.ptp(blue[:, 0]) < 30 and np.ptp(orange[:, 0]) < 30
    assert blue[:, 1].max() < orange[:, 1].max() and blue[:, 1].min() < orange[:, 1].min()
    for counts in ((90, 100_000), (90, 90)):
        many = {
            (f"model {k}", f"form {k}"): (counts[k % 2], [0.5, 0.6 + k / 100]) for k in range(9)
        }
        comparison_picture(many, tmp_path / "b.png")
        assert count(pixels(tmp_path / "b.png"), BLUE) > 100


@pytest.mark.parametrize("reached", [{}, {("a", "quantum"): (90, [])}])
def test_a_model_without_a_run_is_refused(tmp_path, reached):
    with pytest.raises(ValueError, match=r"a run of each\. Received: \{"):
        comparison_picture(reached, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
