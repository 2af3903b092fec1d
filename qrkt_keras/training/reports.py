"""Pictures of training jobs: history, mistakes, ROC curves, folds, and several side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qrkt_keras.training.files import atomic_write
from qrkt_keras.training.metrics import checked_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that people with colour-blindness can tell apart (Okabe and Ito 2008).
_TRAIN, _VALIDATION, _BEST = "#0072b2", "#d55e00", "#444444"
_CLASSES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")

_SHAPES = "os^DvPX"


def history_picture(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str],
    *,
    best_epoch: int = 0,
    title: str = "",
) -> None:
    """Draws loss and accuracy over the epochs as PNG.

    Args:
        history: Log name to its value in each epoch: `loss` and `accuracy`, and the same with
            `val_` in front if there are such.
        path: The file to write.
        best_epoch: The epoch to mark, counted from 1; 0 marks none.
        title: A line above the picture.

    Raises:
        ValueError: If the history lacks `loss` or `accuracy`, has no epoch, or not that one.
    """
    missing = [name for name in ("loss", "accuracy") if not len(history.get(name, ()))]
    if missing:
        raise ValueError(f"history must have loss and accuracy. Received: {sorted(history)}")
    epochs = len(history["loss"])
    if not 0 <= best_epoch <= epochs:
        raise ValueError(
            f"best_epoch must be one of the {epochs} epochs. Received: best_epoch={best_epoch}"
        )
    figure = _figure(9.0, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    _curves(loss, history, "loss", best_epoch)
    loss.set_ylabel("cross-entropy")
    loss.set_ylim(bottom=0)
    _curves(accuracy, history, "accuracy", best_epoch)
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(top=1)
    # Opaque, for the best epoch's line may pass behind it.
    accuracy.legend(loc="lower right", framealpha=1, edgecolor="none")
    figure.suptitle(title)
    _save(figure, path)


def _curves(axes: Axes, history: Mapping[str, Sequence[float]], name: str, best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(history[name]) + 1)
    # A single epoch has no line to show.
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, history[name], color=_TRAIN, label="training", marker=marker)
    # Where nothing is held out, all training examples are scored again after the epoch.
    scored, label = history.get(f"val_{name}"), "validation"
    if scored is None:
        scored, label = history.get(f"train_{name}"), "training, after the epoch"
    if scored is not None:
        axes.plot(epochs, scored, color=_VALIDATION, label=label, marker=marker)
    if best_epoch:
        axes.axvline(best_epoch, color=_BEST, linestyle=":", linewidth=1, zorder=0)
        marked = history[name] if scored is None else scored
        axes.plot(
            best_epoch,
            marked[best_epoch - 1],
            "o",
            color=_BEST,
            markersize=5,
            label=f"best epoch ({best_epoch})",
            clip_on=False,
            zorder=3,
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def confusion_picture(
    confusion: Sequence[Sequence[int]],
    path: str | os.PathLike[str],
    *,
    label_names: Sequence[str],
    title: str = "",
) -> None:
    """Draws a confusion matrix with its counts as PNG.

    A cell's shade follows the square root of its share of the row, so that rare classes are as
    visible as common ones, and a few mistakes among many hits.

    Args:
        confusion: `confusion[i][j]` examples of class `i` were taken for class `j`.
        path: The file to write.
        label_names: The classes' names.
        title: A line above the picture.

    Raises:
        ValueError: If the matrix is not square, has a negative count, or not one row a name.
    """
    counts = np.asarray(confusion)
    size = len(label_names)
    if counts.shape != (size, size) or not size:
        raise ValueError(
            f"confusion must be square with one row for each of the {size} label names. "
            f"Received: shape {counts.shape}"
        )
    if (counts < 0).any():
        raise ValueError(f"confusion must hold counts. Received: {counts.min()}")
    shades = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))

    side = max(3.6, 0.46 * size + 1.4)
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1)
    # Beyond some classes the numbers would be too small to read; the shades still tell.
    if size <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if shades[row, column] > 0.6 else "black",
                )
    rotate = max(map(len, label_names)) > 3
    axes.set_xticks(range(size), label_names, rotation=90 if rotate else 0)
    axes.set_yticks(range(size), label_names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title)
    _save(figure, path)


def roc_picture(
    labels: np.ndarray,
    probabilities: np.ndarray,
    path: str | os.PathLike[str],
    *,
    label_names: Sequence[str],
    title: str = "",
) -> None:
    """Draws ROC curves, each class against the rest and their mean, as PNG.

    The mean curve is the mean of the classes' true positive rates at each false positive rate, so
    that the area under it is `macro_auc`. Of two classes only the second has a curve, for that of
    the first is the same. Of more than twelve, the best and the worst three have one. Where the
    mean area is above 0.97, the corner is shown enlarged too.

    Args:
        labels: `(n,)` integers, the right classes.
        probabilities: `(n, num_classes)`.
        path: The file to write.
        label_names: The classes' names.
        title: A line above the picture.

    Raises:
        ValueError: If the shapes do not fit, or a label is no class.
    """
    from sklearn.metrics import auc, roc_curve

    labels, probabilities = checked_predictions(labels, probabilities)
    size = len(label_names)
    if probabilities.shape[1] != size:
        raise ValueError(
            f"label_names must name the {probabilities.shape[1]} classes. "
            f"Received: {list(label_names)}"
        )
    # A class that always or never occurs has no curve.
    counts = np.bincount(labels, minlength=size)
    usable = [k for k in range(size) if 0 < counts[k] < len(labels)]
    curves = {
        k: roc_curve(labels == k, probabilities[:, k], drop_intermediate=False)[:2] for k in usable
    }
    areas = {k: auc(*curve) for k, curve in curves.items()}

    shown = [1] if size == 2 and 1 in curves else usable
    ranked = sorted(usable, key=lambda k: -areas[k])
    if size > 12 and len(ranked) > 6:
        shown = [*ranked[:3], *ranked[-3:]]
    lines = []
    for number, k in enumerate(shown):
        style = {
            "color": _CLASSES[number % len(_CLASSES)],
            "linestyle": "-" if number < len(_CLASSES) else "--",
            "linewidth": 1.2,
            "label": f"{_shortened(label_names[k])}  {areas[k]:.3f}",
        }
        lines.append((_without_straights(*curves[k]), style))
    mean_area = float(np.mean([*areas.values()])) if usable else 0.0
    if len(usable) > 2:
        style = {"color": "black", "linewidth": 2.2, "label": f"macro average  {mean_area:.3f}"}
        lines.append((_mean_curve(list(curves.values())), style))

    figure = _figure(7.2, 4.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
    _draw_lines(axes, lines)
    axes.set_xlim(-0.01, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    if mean_area > 0.97:
        # All that is to be seen is in the corner.
        corner = axes.inset_axes((0.42, 0.12, 0.52, 0.52), xlim=(0, 0.1), ylim=(0.8, 1.005))
        _draw_lines(corner, lines)
        corner.tick_params(labelsize=8)
    if usable:
        heading = "area under the curve"
        if len(shown) < len(usable) and size > 2:
            heading += f"\n(best and worst 3 of {len(usable)})"
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1.03, 0.5),
            title=heading,
            frameon=False,
            alignment="left",
            fontsize=9,
        )
    _save(figure, path)


def _draw_lines(axes: Axes, lines: Sequence[tuple[tuple[np.ndarray, np.ndarray], dict]]) -> None:
    for curve, style in lines:
        axes.plot(*curve, **style)
    axes.set_box_aspect(1)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)


def _without_straights(false: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same curve without the points on straight lines, of which there may be many."""
    turns = np.abs(np.diff(false, 2)) + np.abs(np.diff(true, 2)) > 1e-12
    kept = np.concatenate([[True], turns, [True]])
    return false[kept], true[kept]


def _mean_curve(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    # Just before and at each rate, for a curve may jump there.
    rates = np.unique(np.concatenate([false for false, _ in curves]))
    means = np.zeros((2, len(rates)))
    for false, true in curves:
        for row, side in enumerate(("left", "right")):
            at = np.searchsorted(false, rates, side=side) - (side == "right")
            exact = np.minimum(at, len(false) - 1)
            between = np.interp(rates, false, true)
            means[row] += np.where(false[exact] == rates, true[exact], between)
    means /= len(curves)
    return np.repeat(rates, 2), means.T.reshape(-1)


def _shortened(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def folds_picture(
    scores: Mapping[str, Sequence[float]], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draws the scores of all folds, their mean and its spread, as PNG.

    Args:
        scores: Measure to its value in each fold.
        path: The file to write.
        title: A line above the picture.

    Raises:
        ValueError: If there is no measure, or one has less than two folds.
    """
    if not scores or min(map(len, scores.values())) < 2:
        raise ValueError(
            f"scores must have a measure, of at least two folds. Received: {dict(scores)}"
        )
    figure = _figure(2.6 * len(scores) + 0.4, 3.2)
    for axes, (measure, values) in zip(
        figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True
    ):
        values = np.asarray(values)
        folds, mean, spread = np.arange(1, len(values) + 1), values.mean(), values.std(ddof=1)
        axes.axhspan(mean - spread, mean + spread, color=_TRAIN, alpha=0.12, linewidth=0)
        axes.axhline(mean, color=_TRAIN, linewidth=1.2)
        axes.plot(folds, values, "o", color=_VALIDATION, markersize=6, zorder=3)
        name = measure.replace("_", " ").replace("f1", "F1").replace("auc", "AUC")
        axes.set_title(f"{name}\n{mean:.4f} ± {spread:.4f}", fontsize=10)
        axes.set_xlabel("fold")
        axes.set_xticks(folds if len(folds) <= 10 else [1, len(folds)])
        axes.set_xlim(0.5, len(folds) + 0.5)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    _save(figure, path)


def comparison_picture(
    reached: Mapping[tuple[str, str], tuple[int, Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    title: str = "",
) -> None:
    """Draws accuracy against number of parameters, of several models in several runs, as PNG.

    A point is the mean over a model's runs, its bar the sample standard deviation, and small dots
    are the runs. A colour stands for a form, a shape of the point for a model. Points of the same
    number of parameters are drawn a little apart.

    Args:
        reached: Model and form to the number of parameters, and to the accuracy of each run.
        path: The file to write.
        title: A line above the picture.

    Raises:
        ValueError: If there is no model, or one has no run.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import StrMethodFormatter

    if not reached or not all(len(values) for _, values in reached.values()):
        raise ValueError(f"There must be a model, and a run of each. Received: {dict(reached)}")
    models, forms = (list(dict.fromkeys(names)) for names in zip(*reached, strict=True))
    figure = _figure(8.0, 4.4)
    axes = figure.subplots()
    counts = [number for number, _ in reached.values()]
    least, most = min(counts), max(counts)
    is_log = most > 8 * least
    # A little is a fiftieth of the axis.
    width = math.log(most / least) if is_log else (most - least or most) / most
    drawn: dict[int, int] = {}
    for (model, form), (number, values) in reached.items():
        place = drawn[number] = drawn.get(number, -1) + 1
        apart = (place - (counts.count(number) - 1) / 2) * width / 50
        at = number * math.exp(apart) if is_log else number + most * apart
        style = {
            "color": _CLASSES[forms.index(form) % len(_CLASSES)],
            "marker": _SHAPES[models.index(model) % len(_SHAPES)],
        }
        percents = 100 * np.asarray(values, float)
        if len(percents) > 1:
            axes.plot([at] * len(percents), percents, **style, linestyle="", ms=3, alpha=0.45)
            axes.errorbar(at, percents.mean(), yerr=percents.std(ddof=1), **style, ms=8, capsize=4)
        else:
            axes.plot(at, percents, **style, ms=8)
    if is_log:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(x=0.08)
    axes.set_xlabel("parameters")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(title, fontsize=11)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    entries = [
        Line2D([], [], color=_CLASSES[k % len(_CLASSES)], marker="o", linestyle="", label=form)
        for k, form in enumerate(forms)
    ]
    if len(models) > 1:
        entries += [
            Line2D([], [], color="#444444", marker=_SHAPES[k % len(_SHAPES)], linestyle="", label=m)
            for k, m in enumerate(models)
        ]
    axes.legend(handles=entries, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # The object interface: no window system, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
