"""Pictures of a training job: its history, and which classes are taken for which."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qrkt_keras.training.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that people with colour-blindness can tell apart (Okabe and Ito 2008).
_TRAIN, _VALIDATION, _BEST = "#0072b2", "#d55e00", "#444444"


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
    validation = history.get(f"val_{name}")
    if validation is not None:
        axes.plot(epochs, validation, color=_VALIDATION, label="validation", marker=marker)
    if best_epoch:
        axes.axvline(best_epoch, color=_BEST, linestyle=":", linewidth=1, zorder=0)
        marked = history[name] if validation is None else validation
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


def _figure(width: float, height: float) -> Figure:
    # The object interface: no window system, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
