"""What a search found, to look at: a page, pictures, TensorBoard's logs, and a table to print."""

from __future__ import annotations

import html
import io
import itertools
import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from qrkt_keras.serving.folders import atomic_folder
from qrkt_keras.training.files import atomic_write
from qrkt_keras.tuning.results import BEST, OBJECTIVES, SEARCH, SearchResult, TrialRow
from qrkt_keras.tuning.space import Dimension, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT = "report.html"
TENSORBOARD = "tensorboard"

# Of a trial's job, in the trial's folder.
_HISTORY = Path("run", "history.json")

# Colours that people with colour-blindness can tell apart (Okabe and Ito 2008).
_TRIAL, _BEST_SO_FAR, _FAILED, _REJECTED = "#0072b2", "#d55e00", "#cc79a7", "#777777"

# So many dimensions stand side by side in a picture, and so many of their letters in a printed row.
_MOST_AXES, _MOST_LETTERS = 7, 32
# An axis with no more steps has a tick for each.
_MOST_TICKS = 8
# Where a line goes that has no value of a dimension; values are from 0 to 1.
_ABSENT, _DASH = -0.14, "–"

# Names and titles.
_PICTURES = {
    "objective": "The best so far",
    "parallel_coordinates": "Values of each trial",
    "parameters": "Score against parameters",
}
# All that a report is, in a search's folder.
REPORTS = (REPORT, TENSORBOARD, *(f"{name}.png" for name in _PICTURES))
# Of a picture, and of a page by CSS.
_DPI, _CSS_DPI = 150, 96
_STATUSES = ("completed", "running", "failed", "rejected")


def write_report(result: SearchResult) -> Path:
    """Writes what a search found, for people to look at.

    Into the search's folder go `report.html`, a page that needs no other file and no network;
    `objective.png`, `parallel_coordinates.png` and `parameters.png`, as far as there is something
    to draw; and `tensorboard/`, with HParams and the curves of each trial that was trained. What an
    earlier call wrote is replaced.

    Args:
        result: Of a search, be it finished or not.

    Returns:
        The path of the page.

    Raises:
        OSError: If something could not be written; each file is there whole or not at all.

    Example:

    >>> import os, tempfile
    >>> from qrkt_keras.tuning.results import SearchResult, TrialRow
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trial = TrialRow(1, "completed", "", {"hidden_dim": 8}, score=0.9, parameters=345)
    ...     page = write_report(SearchResult("val_auc", (trial,), Path(folder)))
    ...     page.name, sorted(os.listdir(folder))
    ('report.html', ['objective.png', 'parameters.png', 'report.html', 'tensorboard'])
    """
    folder = Path(result.output_dir)
    search = _read_search(folder)
    dimensions = _dimensions(result, search)
    pictures = []
    for name, alt, figure in _figures(result, dimensions):
        path = folder / name
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        data = _png(figure)
        with atomic_write(path) as file:
            file.write(data)
        pictures.append((_PICTURES[path.stem], alt, data))
    with atomic_folder(folder / TENSORBOARD, replace=True) as logs:
        _write_tensorboard(result, dimensions, logs)
    page = _page(result, search, dimensions, pictures)
    with atomic_write(folder / REPORT) as file:
        file.write(page.encode())
    return folder / REPORT


def pareto_front(
    points: Sequence[tuple[float, float]], *, more_is_better: bool = True
) -> list[int]:
    """Which points no other is better than, at no more cost.

    A point is left out if another costs no more and scores no worse, and is better in one of the
    two. Of equal points all stay.

    Args:
        points: Pairs of a cost, such as parameters, and a score.
        more_is_better: Whether the score is to be large; the cost is to be small.

    Returns:
        Indices of the points, by rising cost.

    Raises:
        ValueError: If a cost or a score is NaN.

    Example:

    >>> pareto_front([(100, 0.8), (200, 0.7), (300, 0.9)])
    [0, 2]
    >>> pareto_front([(100, 0.8), (200, 0.7), (300, 0.9)], more_is_better=False)
    [0, 1]
    """
    if any(math.isnan(number) for point in points for number in point):
        raise ValueError(f"Costs and scores are numbers. Received: {list(points)}")
    sign = -1 if more_is_better else 1
    keys = [(cost, sign * score) for cost, score in points]
    front: list[int] = []
    for index in sorted(range(len(keys)), key=lambda index: (keys[index], index)):
        if not front or keys[index][1] < keys[front[-1]][1] or keys[index] == keys[front[-1]]:
            front.append(index)
    return front


def trials_table(result: SearchResult) -> Table:
    """A search's trials as a table to print.

    The completed ones come first, the best on top; then those that failed or were rejected, with
    the reason. Of the dimensions those are shown that differ between trials, as far as there is
    room.

    Args:
        result: Of a search, be it finished or not.

    Returns:
        The table; wide columns are folded when it is printed.

    Example:

    >>> from rich.console import Console
    >>> from qrkt_keras.tuning.results import SearchResult, TrialRow
    >>> trials = (
    ...     TrialRow(1, "completed", "", {"hidden_dim": 8}, score=0.9, parameters=1345),
    ...     TrialRow(2, "rejected", "over budget: 40 qubits", {"hidden_dim": 40}),
    ...     TrialRow(3, "completed", "", {"hidden_dim": 16}, score=0.95, parameters=4567),
    ... )
    >>> table = trials_table(SearchResult("val_auc", trials, Path("search")))
    >>> Console(width=80).print(table)
    trial  val_auc  parameters  qubits  hidden_dim  status     reason
        3   0.9500       4,567                  16  completed
        1   0.9000       1,345                   8  completed
        2                                       40  rejected   over budget: 40 qubits
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", result.objective, "parameters", "qubits"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    varied = [
        dimension.name
        for dimension in _dimensions(result, _read_search(Path(result.output_dir)))
        if _varies(dimension.name, result.trials)
    ]
    columns, letters = [], 0
    for name in varied:
        values = [trial.values[name] for trial in result.trials if name in trial.values]
        letters += max(map(len, [name, *map(_told, values)])) + 2
        if columns and letters > _MOST_LETTERS:
            break
        columns.append(name)
        justify = "right" if all(map(_is_number, values)) else "left"
        table.add_column(Text(name), justify=justify, overflow="fold")
    if len(varied) > len(columns):
        table.caption = f"{len(varied) - len(columns)} more dimensions are in {REPORT}"
        table.caption_justify = "left"
    table.add_column("status", no_wrap=True)
    has_reasons = any(trial.reason for trial in result.trials)
    if has_reasons:
        table.add_column("reason", overflow="fold")
    best = result.best
    for trial in _ranked(result):
        cells = [
            str(trial.number),
            _score_text(trial.score),
            _count_text(trial.parameters),
            _count_text(trial.qubits),
            *(_told(trial.values[name]) if name in trial.values else _DASH for name in columns),
            trial.status,
            *[trial.reason] * has_reasons,
        ]
        style = {"failed": "red", "rejected": "dim"}.get(trial.status)
        table.add_row(*map(Text, cells), style="bold" if trial is best else style)
    return table


def _read_search(folder: Path) -> dict[str, Any]:
    """What the search was told, as far as it is known."""
    path = folder / SEARCH
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _dimensions(result: SearchResult, search: Mapping[str, Any]) -> list[Dimension]:
    """Those of the space, and behind them what else occurs among the trials' values."""
    space = Space.from_json(json.dumps(search.get("space") or []))
    names = dict.fromkeys(itertools.chain.from_iterable(trial.values for trial in result.trials))
    others = []
    for name in names:
        if name in space:
            continue
        values = [trial.values[name] for trial in result.trials if name in trial.values]
        if all(map(_is_number, values)) and min(values) < max(values):
            kind = "int" if all(isinstance(value, int) for value in values) else "float"
            others.append(Dimension(name, kind, low=min(values), high=max(values)))
        else:
            different = {json.dumps(value): value for value in values}
            others.append(Dimension(name, "choice", tuple(different.values())))
    return [*space, *others]


def _scored(result: SearchResult) -> list[TrialRow]:
    return [trial for trial in result.trials if trial.status == "completed"]


def _ranked(result: SearchResult) -> list[TrialRow]:
    """All trials: the completed ones from the best to the worst, then the others."""
    sign = -1 if result.is_more_better else 1
    completed = sorted(_scored(result), key=lambda trial: sign * trial.score)
    others = [trial for trial in result.trials if trial.status != "completed"]
    return [*completed, *sorted(others, key=lambda trial: _STATUSES.index(trial.status))]


def _varies(name: str, trials: Iterable[TrialRow]) -> bool:
    """Whether trials differ in a dimension, be it in whether it is there."""
    return len({json.dumps(trial.values.get(name, {})) for trial in trials}) > 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(value: Any) -> str:
    """A value for people to read: words as they are, else JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) and value else json.dumps(value)


def _score_text(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}" if abs(score) < 10 else f"{score:.2f}"


def _count_text(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


# ---------------------------------------------------------------------------------------- pictures


def _figures(
    result: SearchResult, dimensions: Sequence[Dimension]
) -> list[tuple[str, str, Figure | None]]:
    """Name, description and picture of each; none where there is nothing to draw."""
    best, direction = result.best, "more" if result.is_more_better else "less"
    if best is None:
        return [(f"{name}.png", "", None) for name in _PICTURES]
    measure, is_more_better = _measure(result)
    points = _cost_points(result, measure)
    front = [
        points[k][0] for k in pareto_front([p[1:] for p in points], more_is_better=is_more_better)
    ]
    alts = (
        f"{result.objective} of each trial, {direction} is better. The best is trial "
        f"{best.number} with {_score_text(best.score)}.",
        f"Each completed trial as a line through the values of its dimensions, to its "
        f"{result.objective}. The best is trial {best.number}.",
        f"{measure} of each completed trial against its number of parameters. On the Pareto front, "
        f"by rising number of parameters: trials {', '.join(map(str, front))}.",
    )
    figures = (
        _objective_figure(result),
        _parallel_figure(result, dimensions),
        _parameters_figure(points, measure, is_more_better) if points else None,
    )
    names = (f"{name}.png" for name in _PICTURES)
    return list(zip(names, alts, figures, strict=True))


def _objective_figure(result: SearchResult) -> Figure:
    """Score of each trial and the best so far, over trials and over time."""
    from matplotlib.ticker import MaxNLocator

    numbers = {trial.number: float(trial.number) for trial in result.trials}
    ended = {trial.number: trial.ended for trial in result.trials if trial.ended is not None}
    begin = min(ended.values(), default=0.0)
    span = max(ended.values(), default=0.0) - begin
    panels = [("trial", numbers)]
    if span > 0:
        unit, length = _time_unit(span)
        since = {number: (at - begin) / length for number, at in ended.items()}
        panels.append((f"{unit} since the first trial ended", since))

    figure = _figure(4.6 * len(panels) + 0.8, 3.9)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, places) in zip(all_axes, panels, strict=True):
        _draw_objective(axes, result, places)
        axes.set_xlabel(label)
    last = max(numbers)
    all_axes[0].set_xlim(0.6 - 0.03 * last, 0.4 + 1.03 * last)
    all_axes[0].xaxis.set_major_locator(
        MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    all_axes[0].set_ylabel(_with_direction(result.objective, result.is_more_better, " "))
    if _is_skewed([trial.score for trial in _scored(result)], result.is_more_better):
        _log_scale(all_axes[0])
    columns = 5 if len(panels) > 1 else 3
    entries = dict(zip(*reversed(all_axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False
    )
    return figure


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return unit, length
    return "seconds", 1.0


def _draw_objective(axes: Axes, result: SearchResult, places: Mapping[int, float]) -> None:
    """Draws those trials that have a place, in its order."""
    trials = sorted(
        (trial for trial in result.trials if trial.number in places),
        key=lambda trial: places[trial.number],
    )
    scored = [trial for trial in trials if trial.status == "completed"]
    x = [places[trial.number] for trial in scored]
    y = [trial.score for trial in scored]
    if scored:
        best_so_far = (np.maximum if result.is_more_better else np.minimum).accumulate(y)
        # To the last trial, whatever became of it.
        axes.step(
            [*x, places[trials[-1].number]],
            [*best_so_far, best_so_far[-1]],
            where="post",
            color=_BEST_SO_FAR,
            linewidth=1.4,
            label="best so far",
            zorder=2,
        )
    size = 26 if len(scored) <= 60 else 12
    axes.scatter(
        x, y, s=size, color=_TRIAL, linewidths=0, alpha=0.75, label="completed trial", zorder=3
    )
    best = result.best
    if best.number in places:
        axes.scatter(
            places[best.number],
            best.score,
            s=150,
            marker="*",
            color=_BEST_SO_FAR,
            edgecolors="white",
            linewidths=0.8,
            label=f"best: trial {best.number}, {_score_text(best.score)}",
            zorder=4,
        )
    for status, color, marker in (("failed", _FAILED, "x"), ("rejected", _REJECTED, "|")):
        marked = [places[trial.number] for trial in trials if trial.status == status]
        if marked:
            axes.plot(
                marked,
                [0.0] * len(marked),
                marker,
                color=color,
                markersize=7,
                markeredgewidth=1.6,
                label=status,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=5,
            )
    axes.margins(x=0.04, y=0.1)
    _plain(axes)


def _with_direction(name: str, is_more_better: bool, between: str) -> str:
    return f"{name}{between}({'more' if is_more_better else 'less'} is better)"


def _is_skewed(scores: Sequence[float], is_more_better: bool) -> bool:
    """Whether bad scores are so far off that the good ones could not be told apart."""
    return not is_more_better and min(scores) > 0 and max(scores) > 20 * min(scores)


class _Scale(NamedTuple):
    """An axis of parallel coordinates, from 0 to 1."""

    name: str
    ticks: list[tuple[float, str]]
    places: list[float]


def _parallel_figure(result: SearchResult, dimensions: Sequence[Dimension]) -> Figure | None:
    """Each completed trial as a line through its values; none if they do not differ."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    # The best is drawn last.
    trials = _ranked(result)[: len(_scored(result))][::-1]
    scales = [_scale(d, trials) for d in dimensions if _varies(d.name, trials)]
    if not scales:
        return None
    scores = [trial.score for trial in trials]
    is_skewed = _is_skewed(scores, result.is_more_better)
    last = _range_scale(
        _with_direction(_wrapped(result.objective), result.is_more_better, "\n"),
        scores,
        *_padded(min(scores), max(scores)),
        log=is_skewed,
    )
    # The worst tenth has one colour, so that the others differ visibly.
    worst, best = sorted(
        (float(np.quantile(scores, 0.1 if result.is_more_better else 0.9)), scores[-1])
    )
    norm = (LogNorm if is_skewed else Normalize)(*_padded(worst, best))
    # The better, the darker.
    shades = ScalarMappable(norm, "viridis_r" if result.is_more_better else "viridis")
    colors = shades.to_rgba(scores)

    rows = math.ceil(len(scales) / _MOST_AXES)
    width = math.ceil(len(scales) / rows)
    figure = _figure(max(5.6, 1.38 * (width + 1) + 0.9), 4.1 * rows)
    all_axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for row, axes in enumerate(all_axes):
        shown = scales[row * width : (row + 1) * width]
        _draw_parallel(axes, [*shown, last], colors, width)
    clipped = any(score < norm.vmin or score > norm.vmax for score in scores)
    extend = ("min" if result.is_more_better else "max") if clipped else "neither"
    bar = figure.colorbar(
        shades,
        ax=all_axes.tolist(),
        location="bottom",
        extend=extend,
        ticks=_ticks(norm.vmin, norm.vmax, log=is_skewed),
        format="{x:.6g}",
        fraction=0.05 / rows,
        pad=0.02,
        shrink=0.6,
        aspect=40,
    )
    bar.ax.minorticks_off()
    bar.set_label(result.objective)
    bar.outline.set_visible(False)
    told = f"best: trial {trials[-1].number}, {_score_text(trials[-1].score)}"
    figure.legend(all_axes[0].lines[:1], [told], loc="outside upper left", frameon=False)
    return figure


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range that is one even if all are equal."""
    around = 0.05 * abs(low) or 0.05
    return (low, high) if low < high else (low - around, high + around)


def _scale(dimension: Dimension, trials: Sequence[TrialRow]) -> _Scale:
    """A dimension's axis, and where each trial is on it."""
    name = dimension.name
    there = [trial.values[name] for trial in trials if name in trial.values]
    if dimension.kind == "choice" or not all(map(_is_number, there)):
        scale = _choice_scale(dimension, there)
    else:
        low, high = min([dimension.low, *there]), max([dimension.high, *there])
        ticks = []
        step = dimension.step or (1 if dimension.kind == "int" else None)
        if step and not dimension.log and high - low <= _MOST_TICKS * step:
            ticks = dimension.stepped()
        scale = _range_scale(_wrapped(name), there, low, high, log=dimension.log, ticks=ticks)
    if len(there) == len(trials):
        return scale
    places = iter(scale.places)
    return scale._replace(
        ticks=[(_ABSENT, f"{_DASH} absent"), *scale.ticks],
        places=[next(places) if name in trial.values else _ABSENT for trial in trials],
    )


def _choice_scale(dimension: Dimension, there: Sequence[Any]) -> _Scale:
    names = list(dict.fromkeys(map(_told, [*dimension.values, *there])))
    at = {name: (k + 0.5) / len(names) for k, name in enumerate(names)}
    # Side by side, for lines through one point could not be told apart.
    apart = np.linspace(-1, 1, len(there)) * min(0.04, 0.25 / len(names)) if len(there) > 1 else [0]
    places = [at[_told(value)] + off for value, off in zip(there, apart, strict=True)]
    every = math.ceil(len(names) / 12)
    return _Scale(_wrapped(dimension.name), [(at[name], name) for name in names[::every]], places)


def _range_scale(
    name: str,
    values: Sequence[float],
    low: float,
    high: float,
    *,
    log: bool = False,
    ticks: Sequence[float] = (),
) -> _Scale:
    change = math.log if log else float
    begin, end = change(low), change(high)

    def place(value: float) -> float:
        return (change(value) - begin) / (end - begin)

    ticks = ticks or _ticks(low, high, log=log)
    told = [(place(tick), f"{tick:.6g}") for tick in ticks]
    return _Scale(name, told, [place(value) for value in values])


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers within a range, or its ends if there is no pair of them."""
    from matplotlib.ticker import MaxNLocator

    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high < 200 * low else (1,)
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    else:
        ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    ticks = [tick for tick in ticks if low - slack <= tick <= high + slack]
    return ticks if len(ticks) > 1 else [low, high]


def _draw_parallel(axes: Axes, scales: Sequence[_Scale], colors: np.ndarray, width: int) -> None:
    """Draws a row of axes, of which the last is the objective's."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import Normal, Stroke

    lines = np.stack(
        [
            np.arange(len(scales)) + np.zeros((len(colors), 1)),
            np.transpose([scale.places for scale in scales]),
        ],
        axis=-1,
    )
    many = len(colors) > 60
    axes.add_collection(
        LineCollection(
            lines[:-1],
            colors=colors[:-1],
            linewidths=0.7 if many else 1.1,
            alpha=0.6 if many else 0.8,
        )
    )
    axes.plot(
        *lines[-1].T,
        color=_BEST_SO_FAR,
        linewidth=3,
        path_effects=[Stroke(linewidth=5, foreground="white"), Normal()],
        zorder=3,
    )
    for k, scale in enumerate(scales):
        axes.plot([k, k], [0, 1], color="#444444", linewidth=1, zorder=4)
        for place, name in scale.ticks:
            axes.plot([k - 0.025, k + 0.025], [place] * 2, color="#444444", linewidth=1, zorder=4)
            axes.text(
                k + 0.045,
                place,
                _wrapped(_shortened(name)),
                fontsize=7.5,
                va="center",
                linespacing=0.95,
                parse_math=False,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6},
                zorder=5,
            )
    axes.set_xticks(range(len(scales)), [scale.name for scale in scales], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    # Rows with fewer axes have them as far apart as the others.
    axes.set_xlim(-0.1, width + 0.45)
    axes.set_ylim(_ABSENT - 0.06, 1.04)
    axes.spines[:].set_visible(False)


def _wrapped(text: str) -> str:
    """Lines that fit between two axes, as far as a text has places to break it."""
    lines = [""]
    for part in re.findall(r"[^._,\s]*[._,\s]*", text):
        if lines[-1] and len((lines[-1] + part).rstrip()) > 15:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _measure(result: SearchResult) -> tuple[str, bool]:
    """What is set against the number of parameters, and whether more of it is better."""
    name = "fid" if result.objective == "fid" else "val_accuracy"
    if not all(name in trial.scores for trial in _scored(result)):
        name = result.objective
    return name, OBJECTIVES[name] == "max"


def _cost_points(result: SearchResult, measure: str) -> list[tuple[int, int, float]]:
    """Number, parameters and score of the trials that have both."""
    return [
        (trial.number, trial.parameters, trial.scores.get(measure, trial.score))
        for trial in _scored(result)
        if trial.parameters
    ]


def _parameters_figure(
    points: Sequence[tuple[int, int, float]], measure: str, is_more_better: bool
) -> Figure:
    """Score against number of parameters, with the Pareto front."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    _, costs, scores = zip(*points, strict=True)
    pairs = list(zip(costs, scores, strict=True))
    front = pareto_front(pairs, more_is_better=is_more_better)
    low, high = min(costs), max(costs)
    margin = 1.08 * (high / low) ** 0.05

    figure = _figure(7.2, 4.3)
    axes = figure.subplots()
    axes.scatter(
        costs,
        scores,
        s=26,
        color=_TRIAL,
        linewidths=0,
        alpha=0.6,
        label="completed trial",
        zorder=2,
    )
    x, y = ([pairs[k][side] for k in front] for side in (0, 1))
    axes.step(
        [*x, high * margin],
        [*y, y[-1]],
        where="post",
        color=_BEST_SO_FAR,
        linewidth=1.4,
        marker="o",
        markersize=6,
        markevery=range(len(x)),
        label="Pareto front, with the trials' numbers",
        zorder=3,
    )
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    locator = MaxNLocator(5) if high < 8 * low else LogLocator(subs=(1, 2, 5), numticks=20)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if _is_skewed(scores, is_more_better):
        _log_scale(axes)
    axes.margins(y=0.12)
    axes.set_xlabel("parameters")
    axes.set_ylabel(_with_direction(measure, is_more_better, " "))
    _plain(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _label_front(axes, [(points[k][0], *pairs[k]) for k in front], is_more_better)
    return figure


def _label_front(
    axes: Axes, front: Sequence[tuple[int, float, float]], is_more_better: bool
) -> None:
    """Writes the trials' numbers beside the points, as far as there is room for them."""
    numbers: dict[tuple[float, float], list[int]] = {}
    for number, cost, score in front:
        numbers.setdefault((cost, score), []).append(number)
    taken: list[np.ndarray] = []
    axes.figure.draw_without_rendering()  # only then are places known
    # From the best score down, so that it has its label.
    for point, equals in reversed(numbers.items()):
        place = axes.transData.transform(point) * 72 / axes.figure.dpi
        if any(abs(place[0] - x) < 22 and abs(place[1] - y) < 13 for x, y in taken):
            continue
        taken.append(place)
        told = ", ".join(map(str, equals[:3])) + (", …" if len(equals) > 3 else "")
        axes.annotate(
            told,
            point,
            xytext=(-4, 5 if is_more_better else -5),
            textcoords="offset points",
            ha="right",
            va="bottom" if is_more_better else "top",
            fontsize=8.5,
        )


def _log_scale(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _plain(axes: Axes) -> None:
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    # The object interface: no window system, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Without the program's name, for it comes with an address in the web.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


# ------------------------------------------------------------------------------------- TensorBoard


def _write_tensorboard(result: SearchResult, dimensions: Sequence[Dimension], folder: Path) -> None:
    """Writes HParams, with a run for each trial that was not rejected."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.summary import session_end_pb

    kinds = {dimension.name: _hparam_kind(dimension, result.trials) for dimension in dimensions}
    measured = dict.fromkeys(
        itertools.chain([result.objective], *(trial.scores for trial in result.trials))
    )
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        hp.hparams_config(
            hparams=[hp.HParam(d.name, _domain(hp, d, kinds[d.name])) for d in dimensions],
            metrics=[hp.Metric(name) for name in measured],
        )
    writer.close()

    ends = {"completed": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}
    for trial in result.trials:
        if trial.status == "rejected":
            continue
        name = f"trial_{trial.number:03d}"
        values = {name: kinds[name](value) for name, value in trial.values.items()}
        began = None if trial.ended is None else trial.ended - (trial.seconds or 0)
        scores = {} if trial.score is None else {result.objective: trial.score}
        writer = tf.summary.create_file_writer(str(folder / name))
        with writer.as_default():
            # Trials of the same values are not to be taken for one.
            hp.hparams(values, trial_id=name, start_time_secs=began)
            for score, number in {**scores, **trial.scores}.items():
                tf.summary.scalar(score, number, step=trial.epochs or 0)
            for log, numbers in _history(Path(result.output_dir, trial.folder)).items():
                for epoch, number in enumerate(numbers, start=1):
                    if number is not None:
                        # Not by its own name, which would be a score's.
                        tf.summary.scalar(f"epochs/{log}", number, step=epoch)
            if trial.status in ends:
                end = session_end_pb(api_pb2.Status.Value(ends[trial.status]), trial.ended)
                tf.summary.experimental.write_raw_pb(end.SerializeToString(), step=0)
        writer.close()


def _hparam_kind(dimension: Dimension, trials: Iterable[TrialRow]) -> type | Any:
    """What makes values of one kind of them, as TensorBoard wants it."""
    values = [trial.values[dimension.name] for trial in trials if dimension.name in trial.values]
    values += dimension.values
    for kind in (bool, str):
        if values and all(isinstance(value, kind) for value in values):
            return kind
    return float if all(map(_is_number, values)) else _told


def _domain(hp: Any, dimension: Dimension, kind: Any) -> Any:
    if dimension.kind == "choice":
        return hp.Discrete([kind(value) for value in dimension.values])
    return hp.RealInterval(float(dimension.low), float(dimension.high))


def _history(folder: Path) -> Mapping[str, Sequence[float | None]]:
    """Log name to its value in each epoch, of a trial that was trained to the end."""
    path = folder / _HISTORY
    return json.loads(path.read_text(encoding="utf-8"))["history"] if path.exists() else {}


# -------------------------------------------------------------------------------------------- page

# What of the search is told, and how it is called.
_LABELS = (
    ("preset", "preset"),
    ("data", "data"),
    ("tuner", "tuner"),
    ("objective", "objective"),
    ("folds", "folds"),
    ("seed", "seed"),
    ("max_params", "parameters at most"),
    ("max_qubits", "qubits at most"),
    ("max_seconds", "seconds at most"),
    ("processor", "processor"),
)

_STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --faint: #5f6368; --back: #ffffff;
  --box: #f4f6f8; --line: #d5d9de; --link: #0b5fa5; --good: #00664b; --bad: #a1266b;
  --marked: #fff1df; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --faint: #a5abb3; --back: #16181b;
  --box: #212429; --line: #3b4047; --link: #7cc0f5; --good: #4fd1a5; --bad: #f19ccb;
  --marked: #3d2e1a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--text);
  background: var(--back); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.box { background: var(--box); border: 1px solid var(--line); border-radius: .5rem;
  padding: .2rem 1rem 1rem; margin: 1.2rem 0; }
.box h2 { margin-top: .9rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .5rem 1rem;
  margin: .8rem 0; }
dt { color: var(--faint); font-size: .82rem; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
.score { font-size: 1.9rem; font-weight: 650; line-height: 1.2; margin: .2rem 0; }
.faint { color: var(--faint); }
pre { background: var(--back); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .8rem; margin: .6rem 0 0; overflow-x: auto; font-size: .85rem; }
figure { margin: 2.2rem 0 0; }
figcaption { font-size: 1.2rem; font-weight: 700; margin-bottom: .6rem; }
.scroll { overflow: auto; max-height: 85vh; border: 1px solid var(--line); border-radius: .5rem; }
figure .scroll { background: #ffffff; max-height: none; }
img { display: block; min-width: 34rem; max-width: 100%; height: auto; margin: 0 auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.reason { white-space: normal; min-width: 20rem; overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; background: var(--box); z-index: 1; }
th button { all: unset; cursor: pointer; color: var(--link); font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
tr.best td { background: var(--marked); font-weight: 600; }
.completed { color: var(--good); } .failed { color: var(--bad); }
.rejected, .running { color: var(--faint); }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.key;
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (a - b || a.localeCompare(b, undefined, {numeric: true}));
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
"""


def _page(
    result: SearchResult,
    search: Mapping[str, Any],
    dimensions: Sequence[Dimension],
    pictures: Iterable[tuple[str, str, bytes]],
) -> str:
    """The report as HTML."""
    title = "Search"
    if search.get("preset"):
        title += f" of {_told(search['preset'])}"
    if search.get("data"):
        title += f" on {_told(search['data'])}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(_counts(result))}</p>",
        _best_part(result),
        *itertools.starmap(_picture, pictures),
        _trials_part(result, dimensions),
        _search_part(search, dimensions),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Otherwise browsers ask a server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + f"\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    return html.escape(value)


def _counts(result: SearchResult) -> str:
    statuses = [trial.status for trial in result.trials]
    told = [
        f"{statuses.count(status)} {status}"
        for status in _STATUSES
        if status in statuses or status == "completed"
    ]
    seconds = sum(trial.seconds or 0 for trial in result.trials)
    unit, length = _time_unit(seconds)
    trained = f" Trained for {seconds / length:.3g} {unit} in all." if seconds else ""
    number = len(statuses)
    return f"{number} trial{'s' * (number != 1)}: {', '.join(told)}.{trained}"


def _best_part(result: SearchResult) -> str:
    best = result.best
    if best is None:
        return '<section class="box"><h2>Best trial</h2><p>No trial was completed.</p></section>'
    facts = [(name, _score_text(score)) for name, score in best.scores.items()]
    counts = (("parameters", best.parameters), ("qubits", best.qubits), ("epochs", best.epochs))
    facts += [(name, _count_text(number)) for name, number in counts if number is not None]
    values = [(name, _told(value)) for name, value in best.values.items()]
    parts = [
        f"<h2>Best trial: {best.number}</h2>",
        f'<p class="score">{_text(result.objective)} {_score_text(best.score)}</p>',
        _facts(facts),
        *(["<h3>Its values</h3>", _facts(values)] if values else []),
    ]
    preset = Path(result.output_dir) / BEST
    if preset.is_dir():
        code = (
            "from qrkt_keras import zoo\n\n"
            f"model = zoo.from_preset({json.dumps(preset.as_posix(), ensure_ascii=False)})"
        )
        parts.append(f"<pre><code>{_text(code)}</code></pre>")
    return f'<section class="box">{"".join(parts)}</section>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    told = (f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    return f"<dl>{''.join(told)}</dl>"


def _picture(title: str, alt: str, data: bytes) -> str:
    source = f"data:image/png;base64,{b64encode(data).decode()}"
    # All at one scale; a PNG's width is the first number of its header.
    width = round(int.from_bytes(data[16:20], "big") * _CSS_DPI / _DPI)
    return (
        f"<figure><figcaption>{title}</figcaption>{_scrolled(title)}"
        f'<img alt="{_text(alt)}" width="{width}" src="{source}"></div></figure>'
    )


def _scrolled(label: str) -> str:
    """Begins a box that is scrolled by itself, by the keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'


def _trials_part(result: SearchResult, dimensions: Sequence[Dimension]) -> str:
    """All trials in a table that can be sorted."""
    measures = dict.fromkeys(itertools.chain.from_iterable(t.scores for t in result.trials))
    measures.pop(result.objective, None)
    has_workers = any(trial.worker for trial in result.trials)
    heads = ["trial", "status", result.objective, *measures, "parameters", "qubits", "epochs"]
    heads += ["seconds", *["worker"] * has_workers, *(d.name for d in dimensions), "reason"]
    order = "descending" if result.is_more_better else "ascending"
    head_cells = (
        f'<th scope="col"{f" aria-sort={order}" if name == result.objective else ""}>'
        f'<button type="button">{_text(name)}</button></th>'
        for name in heads
    )
    rows, best = [], result.best
    for trial in _ranked(result):
        cells = [
            _cell(trial.number),
            _cell(trial.status, kind=trial.status),
            _cell(trial.score, _score_text(trial.score)),
            *(_cell(trial.scores.get(m), _score_text(trial.scores.get(m))) for m in measures),
            _cell(trial.parameters, _count_text(trial.parameters)),
            _cell(trial.qubits, _count_text(trial.qubits)),
            _cell(trial.epochs),
            _cell(trial.seconds, "" if trial.seconds is None else f"{trial.seconds:,.1f}"),
            *([_cell(trial.worker)] if has_workers else []),
            *(_value_cell(trial, dimension.name) for dimension in dimensions),
            _cell(trial.reason, kind="reason"),
        ]
        rows.append(f"<tr{' class=best' if trial is best else ''}>{''.join(cells)}</tr>")
    return (
        f'<section><h2>Trials</h2>{_scrolled("Trials")}<table class="sortable">'
        f"<thead><tr>{''.join(head_cells)}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div></section>"
    )


def _cell(value: Any, told: str | None = None, *, kind: str = "") -> str:
    """A cell of a table, with what it is sorted by."""
    key = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    kind = kind or ("number" if _is_number(value) else "")
    return (
        f'<td{f" class={kind}" if kind else ""} data-key="{_text(key)}">'
        f"{_text(told if told is not None else key)}</td>"
    )


def _value_cell(trial: TrialRow, name: str) -> str:
    if name not in trial.values:
        return _cell(None, _DASH)
    return _cell(trial.values[name], _told(trial.values[name]))


def _search_part(search: Mapping[str, Any], dimensions: Sequence[Dimension]) -> str:
    """The space and what else the search was told."""
    known = [(label, search[name]) for name, label in _LABELS if search.get(name) is not None]
    parts = ["<h2>Search</h2>", _facts((label, _told(value)) for label, value in known)]
    if search.get("command"):
        parts.append(f"<pre><code>{_text(search['command'])}</code></pre>")
    if dimensions:
        rows = []
        for dimension in dimensions:
            when = ", ".join(
                f"{name} is {' or '.join(map(_told, values))}" for name, values in dimension.when
            )
            cells = (dimension.name, dimension.to_text(), when)
            rows.append(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>")
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("dimension", "values", "when"))
        parts.append(
            f"<h2>Space</h2>{_scrolled('Space')}<table><thead><tr>{heads}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
    if search.get("recipe"):
        recipe = _text(json.dumps(search["recipe"], indent=2, ensure_ascii=False))
        parts.append(
            f"<h2>Recipe</h2><details><summary>As JSON</summary><pre>{recipe}</pre></details>"
        )
    return f"<section>{''.join(parts)}</section>"
