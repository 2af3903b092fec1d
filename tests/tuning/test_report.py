"""A search's report: the page, the pictures, TensorBoard's logs, the front, the printed table."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import random
import re
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.pictures import count, pixels

from qrkt_keras.tuning import report
from qrkt_keras.tuning.report import pareto_front, trials_table, write_report
from qrkt_keras.tuning.results import SearchResult, TrialRow
from qrkt_keras.tuning.space import Dimension, Space

PICTURES = ("objective.png", "parallel_coordinates.png", "parameters.png")
ORANGE = (213, 94, 0)

SMALL = Space(
    (
        Dimension("solver", "choice", ("rk1", "rk4")),
        Dimension("share_weights", "choice", (False, True), when=(("solver", ("rk4",)),)),
        Dimension("patch_stride", "choice", (None, 2, (2, 4))),
        Dimension("hidden_dim", "int", low=8, high=24, step=4),
        Dimension("recipe.learning_rate", "float", low=1e-4, high=1e-2, log=True),
    )
)
# Long names, many values, conditions, all kinds: 20 dimensions.
LARGE = Space(
    (
        *SMALL,
        Dimension("template", "choice", ("ry_ring", "hardware_efficient_with_a_long_name")),
        Dimension("policy", "choice", tuple(f"policy_number_{k}" for k in range(30))),
        *(
            Dimension(f"recipe.some_rather_long_name_{k}", "float", low=-1.0, high=k + 0.5)
            for k in range(13)
        ),
    )
)


def drawn(space, rng):
    values = {}
    for dimension in space:
        if not all(values.get(name) in wanted for name, wanted in dimension.when):
            continue
        if dimension.kind == "choice":
            values[dimension.name] = rng.choice(dimension.values)
        elif dimension.kind == "int":
            step = dimension.step or 1
            values[dimension.name] = rng.randrange(dimension.low, dimension.high + 1, step)
        else:
            values[dimension.name] = rng.uniform(dimension.low, dimension.high)
    return json.loads(json.dumps(values))


def searched(folder, number, *, space=SMALL, objective="val_auc", told=None):
    """A search of so many trials, of which every fifth was rejected and every seventh failed."""
    rng = random.Random(0)
    rows = []
    for k in range(1, number + 1):
        row = TrialRow(
            k,
            "completed",
            "",
            drawn(space, rng),
            parameters=rng.randrange(1000, 50000),
            qubits=rng.choice([4, 8]),
            ended=1.7e9 + 100 * k,
            folder=f"trial_{k:03d}",
        )
        if k % 5 == 0:
            row = dataclasses.replace(row, status="rejected", reason="over budget: 9 > 4 <b>&")
        elif k % 7 == 0:
            row = dataclasses.replace(row, status="failed", reason="diverged: nan", epochs=3)
        else:
            accuracy = rng.uniform(0.5, 0.9)
            scores = {
                "val_auc": accuracy + 0.05,
                "val_accuracy": accuracy,
                "val_loss": 1 - accuracy,
            }
            if objective == "fid":
                scores = {"fid": 10 ** rng.uniform(1, 3), "kid": 0.1}
            row = dataclasses.replace(
                row, score=scores[objective], scores=scores, epochs=4, seconds=50.0
            )
        rows.append(row)
    told = {"preset": "qvit_rk4_digits", "data": "digits", "objective": objective} | (told or {})
    told["space"] = json.loads(space.to_json())
    (folder / "search.json").write_text(json.dumps(told))
    return SearchResult(objective, tuple(rows), folder)


class Page(html.parser.HTMLParser):
    """What is in a page; complains where a tag is not closed."""

    VOID = {"meta", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def page_of(result):
    text = write_report(result).read_text(encoding="utf-8")
    # Nothing is loaded, from wherever.
    assert not re.search(r"https?:|url\(|@import", text)
    page = Page(text)
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith("data:")
    return page


def rows_of(page_text):
    """The cells' texts of the table of trials, row by row, the head first."""
    table = page_text[page_text.index('class="sortable"') : page_text.index("</table>")]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    return [
        [html.unescape(re.sub("<.*?>", "", c)) for c in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]


def test_the_page_tells_all_about_the_search(tmp_path):
    told = {"tuner": "bayesian", "max_params": 100000, "recipe": {"epochs": 4}, "folds": None}
    result = searched(tmp_path, 14, told=told)
    (tmp_path / "best").mkdir()
    page = page_of(result)
    best = result.best
    assert "Search of qvit_rk4_digits on digits" in page.texts
    assert "14 trials: 10 completed, 2 failed, 2 rejected." in page.text
    assert f"Best trial: {best.number}" in page.texts
    assert f'model = zoo.from_preset("{tmp_path.as_posix()}/best")' in page.text
    for text in (f"val_auc {best.score:.4f}", f"{best.scores['val_loss']:.4f}", "bayesian"):
        assert text in page.texts
    assert f"{best.parameters:,}" in page.texts and "100000" in page.texts
    assert "folds" not in page.texts
    # The space, with conditions, and the recipe.
    assert "solver is rk4" in page.texts and "0.0001..0.01:log" in page.texts
    assert '"epochs": 4' in page.text
    # What is told is text, and never markup.
    assert "over budget: 9 > 4 <b>&" in page.texts and page.all("b") == []
    # The pictures are those beside the page, and described.
    images = page.all("img")
    assert len(images) == len(PICTURES) and all(len(image["alt"]) > 30 for image in images)
    for image, name in zip(images, PICTURES, strict=True):
        data = b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert data == (tmp_path / name).read_bytes()


def test_the_table_has_every_trial_and_value(tmp_path):
    result = searched(tmp_path, 14)
    text = write_report(result).read_text(encoding="utf-8")
    head, *rows = rows_of(text)
    assert head[:6] == ["trial", "status", "val_auc", "val_accuracy", "val_loss", "parameters"]
    assert head[-6:-1] == [dimension.name for dimension in SMALL] and "worker" not in head
    assert sorted(int(row[0]) for row in rows) == list(range(1, 15))
    # The best on top, and the others after those that were completed.
    assert int(rows[0][0]) == result.best.number
    assert [row[1] for row in rows] == ["completed"] * 10 + ["failed"] * 2 + ["rejected"] * 2
    scores = [float(row[2]) for row in rows if row[2]]
    assert len(scores) == 10 and scores == sorted(scores, reverse=True)
    for row in rows:
        trial = result.trials[int(row[0]) - 1]
        assert (row[head.index("share_weights")] == "–") == ("share_weights" not in trial.values)
        assert row[head.index("hidden_dim")] == str(trial.values["hidden_dim"])
        assert row[-1] == trial.reason
    # What a column is sorted by is exact, and tells what is not there.
    assert f'data-key="{result.best.score!r}"' in text and 'data-key=""' in text

    worked = dataclasses.replace(result.trials[0], worker="host:1")
    result = dataclasses.replace(result, trials=(worked, *result.trials[1:]))
    head, *rows = rows_of(write_report(result).read_text(encoding="utf-8"))
    assert "host:1" in [row[head.index("worker")] for row in rows]


def test_a_search_without_its_description_is_reported_too(tmp_path):
    result = searched(tmp_path, 10)
    (tmp_path / "search.json").unlink()
    page = page_of(result)
    assert "Search" in page.texts and "8..24" in page.texts
    assert len(page.all("img")) == 3 and "from_preset" not in page.text
    (tmp_path / "search.json").write_text("{}")
    assert page_of(result).texts == page.texts


@pytest.mark.parametrize("statuses", [(), ("rejected", "failed", "running")])
def test_without_a_completed_trial_there_are_no_pictures(tmp_path, statuses):
    for name in PICTURES:
        (tmp_path / name).touch()  # of another search
    rows = tuple(
        TrialRow(number, status, "some reason", {"solver": "rk1"})
        for number, status in enumerate(statuses, start=1)
    )
    page = page_of(SearchResult("val_auc", rows, tmp_path))
    assert "No trial was completed." in page.texts and page.all("img") == []
    assert f"{len(rows)} trials: 0 completed" in page.text
    assert not any((tmp_path / name).exists() for name in PICTURES)
    assert ("some reason" in page.texts) == bool(statuses)


def test_one_trial_has_no_parallel_coordinates(tmp_path):
    page = page_of(searched(tmp_path, 1))
    assert len(page.all("img")) == 2
    assert not (tmp_path / "parallel_coordinates.png").exists()
    assert "1 trial: 1 completed." in page.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("number", "space", "objective"),
    [(300, SMALL, "val_auc"), (30, LARGE, "val_loss"), (2, LARGE, "fid"), (40, SMALL, "fid")],
)
def test_all_kinds_of_searches_are_drawn(tmp_path, number, space, objective):
    result = searched(tmp_path, number, space=space, objective=objective)
    for name, alt, figure in report._figures(result, list(space)):
        picture = report._png(figure)
        (tmp_path / name).write_bytes(picture)
        assert any(score in alt for score in (objective, "val_accuracy"))
        assert count(pixels(tmp_path / name), ORANGE) > 100
        # A picture stays one that can be looked at, whatever is in it.
        assert max(pixels(tmp_path / name).shape) < 2000


@pytest.mark.filterwarnings("error")
def test_equal_scores_and_numbers_of_parameters_are_drawn(tmp_path):
    result = searched(tmp_path, 8)
    rows = tuple(
        dataclasses.replace(row, score=0.5, scores={}, parameters=100, ended=None)
        if row.status == "completed"
        else row
        for row in result.trials
    )
    # Only what failed has a time: there is no score to draw over time.
    for name, _, figure in report._figures(SearchResult("val_auc", rows, tmp_path), list(SMALL)):
        (tmp_path / name).write_bytes(report._png(figure))
        assert count(pixels(tmp_path / name), ORANGE) > 100


def test_the_objective_shows_the_best_so_far_and_what_failed(tmp_path):
    result = searched(tmp_path, 14)
    figure = report._objective_figure(result)
    trials, times = figure.axes
    (line,) = (line for line in trials.lines if line.get_label() == "best so far")
    scored = [trial for trial in result.trials if trial.status == "completed"]
    assert list(line.get_xdata()) == [trial.number for trial in scored] + [14]
    best = np.maximum.accumulate([trial.score for trial in scored])
    np.testing.assert_array_equal(line.get_ydata(), [*best, best[-1]])
    marks = {line.get_label(): list(line.get_xdata()) for line in trials.lines}
    assert marks["failed"] == [7, 14] and marks["rejected"] == [5, 10]
    assert times.get_xlabel() == "minutes since the first trial ended"
    (line,) = (line for line in times.lines if line.get_label() == "failed")
    np.testing.assert_allclose(line.get_xdata(), [10, 1300 / 60])

    # Less is better, and times are not known.
    rows = tuple(dataclasses.replace(trial, ended=None) for trial in result.trials)
    figure = report._objective_figure(SearchResult("val_loss", rows, tmp_path))
    (axes,) = figure.axes
    line = axes.lines[0]
    assert list(line.get_ydata()[:-1]) == list(np.minimum.accumulate([t.score for t in scored]))
    assert axes.get_ylabel() == "val_loss (less is better)"


def test_what_did_not_end_is_not_drawn_over_time(tmp_path):
    result = searched(tmp_path, 9)
    first = dataclasses.replace(result.best, ended=None)
    rows = tuple(first if row is result.best else row for row in result.trials)
    running = TrialRow(10, "running", "", {})
    figure = report._objective_figure(SearchResult("val_auc", (*rows, running), tmp_path))
    stars = [
        [entry for entry in axes.collections if entry.get_label().startswith("best: trial")]
        for axes in figure.axes
    ]
    assert [len(found) for found in stars] == [1, 0]


def test_places_on_the_axes(tmp_path):
    values = [
        {"a": "x", "b": 1e-4, "c": 8, "d": 1},
        {"a": "y", "b": 1e-2, "c": 12, "e": None},
        {"a": "x", "b": 1e-3, "c": 8, "e": 2},
    ]
    trials = [TrialRow(k + 1, "completed", "", told, 0.1 * k) for k, told in enumerate(values)]
    choice = report._scale(Dimension("a", "choice", ("x", "y", "z")), trials)
    assert [name for _, name in choice.ticks] == ["x", "y", "z"]
    # Lines through one point are set apart by a little.
    apart = np.array([-0.04, 0, 0.04])
    np.testing.assert_allclose(choice.places, np.array([1, 3, 1]) / 6 + apart, atol=1e-12)
    # Those of one value are beside each other, the better one higher.
    assert choice.places[0] < choice.places[2]
    log = report._scale(Dimension("b", "float", low=1e-4, high=1e-2, log=True), trials)
    np.testing.assert_allclose(log.places, [0, 1, 0.5])
    assert [name for _, name in log.ticks][::3] == ["0.0001", "0.001", "0.01"]
    whole = report._scale(Dimension("c", "int", low=8, high=16, step=4), trials)
    assert whole.places == [0, 0.5, 0]
    assert whole.ticks == [(0, "8"), (0.5, "12"), (1, "16")]
    # What is absent has a place of its own, below all that is there, None included.
    conditional = report._scale(Dimension("e", "choice", (None, 2)), trials)
    assert conditional.ticks[0] == (conditional.places[0], "– absent")
    assert conditional.places[0] < 0 < conditional.places[1] < conditional.places[2]
    # What is outside the space is on the axis all the same.
    narrow = report._scale(Dimension("c", "int", low=10, high=16), trials)
    assert min(narrow.places) == 0


def test_only_what_varies_among_completed_trials_has_an_axis(tmp_path):
    rows = [
        TrialRow(1, "completed", "", {"a": 1, "b": "x"}, 0.5),
        TrialRow(2, "completed", "", {"a": 2, "b": "x"}, 0.75),
        TrialRow(3, "failed", "", {"a": 2, "b": "y"}),
    ]
    result = SearchResult("val_auc", tuple(rows), tmp_path)
    figure = report._parallel_figure(result, report._dimensions(result, {}))
    axes, _ = figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["a", "val_auc\n(more is better)"]
    # The thick line is the best trial's.
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("objective", "scores", "measure"),
    [
        ("val_auc", {"val_accuracy": 0.7, "val_auc": 0.9}, ("val_accuracy", True)),
        ("val_loss", {"val_accuracy": 0.7, "val_loss": 0.9}, ("val_accuracy", True)),
        ("val_loss", {"val_loss": 0.9}, ("val_loss", False)),
        ("val_auc", {}, ("val_auc", True)),
        ("fid", {"fid": 0.9, "kid": 0.1}, ("fid", False)),
    ],
)
def test_what_parameters_are_set_against(tmp_path, objective, scores, measure):
    row = TrialRow(1, "completed", "", {}, 0.9, scores, parameters=10)
    result = SearchResult(objective, (row, TrialRow(2, "failed", "", {}, parameters=5)), tmp_path)
    assert report._measure(result) == measure
    assert report._cost_points(result, measure[0]) == [(1, 10, scores.get(measure[0], 0.9))]


def test_the_front_is_drawn_with_its_trials_numbers():
    points = [(1, 100, 0.5), (2, 200, 0.4), (3, 300, 0.8), (4, 5000, 0.9), (5, 5000, 0.9)]
    figure = report._parameters_figure(points, "val_accuracy", True)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["4, 5", "3", "1"]
    (line,) = axes.lines
    assert list(line.get_xdata()[:-1]) == [100, 300, 5000, 5000]
    assert list(line.get_ydata()) == [0.5, 0.8, 0.9, 0.9, 0.9]
    figure = report._parameters_figure(points, "fid", False)
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "1"]
    # Labels do not lie on each other.
    crowded = [(k, 1000 + k, 0.5 + 1e-4 * k) for k in range(100)]
    figure = report._parameters_figure(crowded, "val_accuracy", True)
    assert figure.axes[0].texts[0].get_text() == "99" and len(figure.axes[0].texts) < 40


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-4, 4).map(float)), max_size=12),
    st.booleans(),
)
def test_the_front_is_what_nothing_dominates(points, more_is_better):
    sign = 1 if more_is_better else -1
    expected = {
        k
        for k, (cost, score) in enumerate(points)
        if not any(
            other <= cost
            and sign * better >= sign * score
            and (other < cost or sign * better > sign * score)
            for other, better in points
        )
    }
    front = pareto_front(points, more_is_better=more_is_better)
    assert len(front) == len(expected) and set(front) == expected
    assert [points[k][0] for k in front] == sorted(points[k][0] for k in front)


def test_what_is_no_number_has_no_front():
    with pytest.raises(ValueError, match=r"Received: \[\(1, nan\)\]"):
        pareto_front([(1, float("nan"))])


def events(folder):
    """What TensorBoard reads in a run's folder: HParams' data, and steps and numbers by tag."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    accumulator = EventAccumulator(str(folder)).Reload()
    data = {
        tag: HParamsPluginData.FromString(content)
        for tag, content in accumulator.PluginTagToContent("hparams").items()
    }
    scalars = {
        tag: [(e.step, pytest.approx(float(tf.make_ndarray(e.tensor_proto)))) for e in found]
        for tag in accumulator.Tags()["tensors"]
        if (found := accumulator.Tensors(tag)) and tag not in data
    }
    return data, scalars


def test_tensorboard_has_values_scores_and_curves(tmp_path):
    result = searched(tmp_path, 8)
    job = tmp_path / result.trials[0].folder / "run"
    job.mkdir(parents=True)
    history = {"loss": [2.0, 1.0], "val_auc": [None, 0.75]}
    (job / "history.json").write_text(json.dumps({"best_epoch": 2, "history": history}))
    old = tmp_path / "tensorboard" / "trial_099"
    old.mkdir(parents=True)
    write_report(result)
    write_report(result)  # each time whole, and in place of what was there
    logs = tmp_path / "tensorboard"
    runs = [trial for trial in result.trials if trial.status != "rejected"]
    assert len(runs) == 7
    assert sorted(path.name for path in logs.iterdir() if path.is_dir()) == [
        f"trial_{trial.number:03d}" for trial in runs
    ]
    assert not list(tmp_path.glob(".*"))

    data, _ = events(logs)
    experiment = data["_hparams_/experiment"].experiment
    infos = {info.name: info for info in experiment.hparam_infos}
    assert list(infos) == [dimension.name for dimension in SMALL]
    assert list(infos["patch_stride"].domain_discrete) == ["2", "[2, 4]", "null"]
    assert infos["recipe.learning_rate"].domain_interval.max_value == 0.01
    metrics = [metric.name.tag for metric in experiment.metric_infos]
    assert metrics == ["val_auc", "val_accuracy", "val_loss"]

    for trial in runs:
        data, scalars = events(logs / f"trial_{trial.number:03d}")
        found = data["_hparams_/session_start_info"].session_start_info
        kept = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in found.hparams.items()
        }
        stride = trial.values["patch_stride"]
        assert kept == trial.values | {"patch_stride": json.dumps(stride)}
        assert found.group_name == f"trial_{trial.number:03d}"
        if trial.seconds:
            assert found.start_time_secs == trial.ended - trial.seconds
        end = data["_hparams_/session_end_info"].session_end_info
        assert end.status == (2 if trial.status == "failed" else 1)
        curves = {}
        if trial.number == 1:
            curves = {"epochs/loss": [(1, 2.0), (2, 1.0)], "epochs/val_auc": [(2, 0.75)]}
        assert scalars == {name: [(4, score)] for name, score in trial.scores.items()} | curves


def test_logs_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    result = searched(tmp_path, 3)
    write_report(result)
    before = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    monkeypatch.setattr(report, "_history", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(result)
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == before


def printed(result, width):
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(trials_table(result))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_printed_table_has_the_best_on_top_and_reasons_below(tmp_path):
    result = searched(tmp_path, 14)
    lines = printed(result, 160)
    head = ["trial", "val_auc", "parameters", "qubits", "solver", "share_weights"]
    assert lines[0].split() == [*head, "status", "reason"]
    assert len(lines) == 16
    assert lines[1].split()[0] == str(result.best.number) and lines[1].endswith("completed")
    assert re.search("failed +diverged: nan$", lines[11])
    # Markup in a reason is text.
    assert re.search("rejected +over budget: 9 > 4 <b>&$", lines[14])
    assert lines[15] == "3 more dimensions are in report.html"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_printed_table_fits(tmp_path, width):
    lines = printed(searched(tmp_path, 14, space=LARGE), width)
    assert max(map(len, lines)) <= width
    assert sum("completed" in line for line in lines) == 10


def test_the_printed_table_leaves_out_what_does_not_vary(tmp_path):
    rows = [TrialRow(k, "completed", "", {"a": k, "b": 1}, 0.5) for k in (1, 2)]
    result = SearchResult("val_loss", tuple(rows), tmp_path)
    assert printed(result, 80)[0].split() == [
        "trial", "val_loss", "parameters", "qubits", "a", "status",
    ]  # fmt: skip
    assert printed(SearchResult("val_loss", (), tmp_path), 80)[0].split()[-1] == "status"
