import errno
import os

import numpy as np
import pytest
from PIL import Image

from qrkt_keras.training import confusion_picture, files, history_picture

HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "accuracy": [0.2, 0.6, 0.8],
    "val_loss": [1.8, 1.1, 0.9],
    "val_accuracy": [0.3, 0.6, 0.7],
}
BLUE, ORANGE, DARK = (0, 114, 178), (213, 94, 0), (68, 68, 68)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def count(picture, colour):
    return int((np.abs(picture - colour).sum(axis=-1) < 6).sum())


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
