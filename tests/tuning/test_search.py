"""Searches: what is tried and kept, failures, interrupts; on digits, and with made-up scores."""

from __future__ import annotations

import json
import sys
import types

import pytest

from qrkt_keras.training import TrainingInterrupted
from qrkt_keras.tuning import SearchError, Space, ZooHyperModel, search

# The package has a function of the module's name.
module = sys.modules["qrkt_keras.tuning.search"]

TEXTS = ["hidden_dim=4,8,12", "num_heads=1,2", "solver=rk1", "recipe.learning_rate=1e-3..3e-2:log"]


def hypermodel(texts=TEXTS, **options):
    recipe = ZooHyperModel("qvit_rk4_digits").recipe.with_given(epochs=1)
    return ZooHyperModel("qvit_rk4_digits", Space(()).overridden(texts), recipe=recipe, **options)


def made_up_auc(hidden_dim, learning_rate):
    return 1 - 0.01 * abs(hidden_dim - 8) - abs(learning_rate - 0.01)


@pytest.fixture
def jobs(monkeypatch):
    """Makes training instant: scores are by the model's width, and what is trained is noted.

    A function in `jobs.raising` may raise, by the number of the job.
    """
    noted = types.SimpleNamespace(done=[], raising=lambda number: None)

    def fit(model, data, recipe, *, output_dir, **options):
        number = len(noted.done)
        noted.done.append((output_dir, recipe.learning_rate, model.get_config()["hidden_dim"]))
        noted.raising(number)
        auc = (
            1 - 0.01 * abs(model.get_config()["hidden_dim"] - 8) - abs(recipe.learning_rate - 0.01)
        )
        scores = types.SimpleNamespace(macro_auc=auc, accuracy=auc / 2, loss=1 - auc)
        return types.SimpleNamespace(scores={"validation": scores}, seconds=1.5)

    monkeypatch.setattr(module, "fit", fit)
    return noted


def test_on_digits(tmp_path, capsys):
    result = search(hypermodel(), output_dir=tmp_path / "search", tuner="random", max_trials=2)
    assert [trial.status for trial in result.trials] == ["completed"] * 2
    best = result.best
    folder = tmp_path / "search" / best.folder
    history = json.loads((folder / "run" / "history.json").read_text())
    assert best.score == pytest.approx(max(history["history"]["val_auc"]), abs=1e-6)
    assert 0.4 < best.score < 1 and best.seconds > 0
    assert "best val_auc so far" in capsys.readouterr().out
    rows = json.loads((tmp_path / "search" / "trials.json").read_text())
    assert rows == [trial.to_dict() for trial in result.trials]


@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian"])
@pytest.mark.parametrize("objective", ["val_auc", "val_loss", "val_accuracy"])
def test_the_best_is_the_best(tuner, objective, jobs, tmp_path):
    result = search(
        hypermodel(), output_dir=tmp_path, tuner=tuner, max_trials=6, objective=objective,
        progress=False,
    )  # fmt: skip
    assert len(result.trials) == len(jobs.done) == 6
    drawn = [trial.values for trial in result.trials]
    aucs = [made_up_auc(v["hidden_dim"], v["recipe.learning_rate"]) for v in drawn]
    best = result.trials[aucs.index(max(aucs))]
    assert result.best == best
    expected = {"val_auc": max(aucs), "val_loss": 1 - max(aucs), "val_accuracy": max(aucs) / 2}
    assert result.best.score == pytest.approx(expected[objective])
    # No configuration twice.
    assert len({json.dumps(dict(trial.values)) for trial in result.trials}) == 6


def test_the_same_seed_draws_the_same(jobs, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        result = search(
            hypermodel(), output_dir=tmp_path / str(number), max_trials=4, seed=seed, progress=False
        )
        drawn.append([dict(trial.values) for trial in result.trials])
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_interrupted_search_goes_on(jobs, tmp_path):
    def interrupt(number):
        if number == 2:
            raise TrainingInterrupted("continue it")

    jobs.raising = interrupt
    with pytest.raises(KeyboardInterrupt):
        search(hypermodel(), output_dir=tmp_path, max_trials=5, progress=False)
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["completed", "completed", "running"]
    jobs.raising = lambda number: None
    result = search(hypermodel(), output_dir=tmp_path, max_trials=5, resume=True, progress=False)
    assert [trial.status for trial in result.trials] == ["completed"] * 5
    # What was finished was not run again; what was running went on in its folder.
    folders = [folder.parent.name for folder, *_ in jobs.done]
    assert folders == [f"trial_00{i}" for i in (1, 2, 3, 3, 4, 5)]
    assert jobs.done[2][1:] == jobs.done[3][1:]
    # An undisturbed search is the same one.
    other = search(hypermodel(), output_dir=tmp_path / "other", max_trials=5, progress=False)
    assert [t.values for t in other.trials] == [t.values for t in result.trials]
    # More trials can be added, and a finished search runs nothing.
    before = len(jobs.done)
    search(hypermodel(), output_dir=tmp_path, max_trials=5, resume=True, progress=False)
    assert len(jobs.done) == before
    more = search(hypermodel(), output_dir=tmp_path, max_trials=6, resume=True, progress=False)
    assert len(more.trials) == 6 and len(jobs.done) == before + 1


def test_failing_trials_end_no_search(jobs, tmp_path, capsys):
    errors = [
        MemoryError("no more"),
        FloatingPointError("the loss is nan"),
        ValueError("several\nlines"),
        type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"),
    ]

    def fail(number):
        if number < len(errors):
            raise errors[number]

    jobs.raising = fail
    result = search(hypermodel(), output_dir=tmp_path, max_trials=5)
    assert [trial.status for trial in result.trials] == ["failed"] * 4 + ["completed"]
    reasons = [trial.reason for trial in result.trials]
    assert reasons == [
        "out of memory: no more",
        "diverged: the loss is nan",
        "ValueError: several lines",
        "out of memory: OOM when allocating",
        "",
    ]
    assert result.best.number == 5 and "diverged: the loss is nan" in capsys.readouterr().out
    # They are not run again.
    again = search(hypermodel(), output_dir=tmp_path, max_trials=5, resume=True, progress=False)
    assert again.trials == result.trials and len(jobs.done) == 5


def test_no_best_where_all_failed(jobs, tmp_path):
    def fail(number):
        raise MemoryError

    jobs.raising = fail
    result = search(hypermodel(), output_dir=tmp_path, max_trials=4, progress=False)
    assert result.best is None and len(result.trials) == 4
    assert result.trials[0].reason == "out of memory: MemoryError"


def test_what_a_budget_rejects_is_not_trained_and_does_not_count(jobs, tmp_path):
    tight = hypermodel(max_params=500)
    result = search(tight, output_dir=tmp_path, tuner="random", max_trials=3, progress=False)
    statuses = [trial.status for trial in result.trials]
    assert statuses.count("completed") == 3 == len(jobs.done) and statuses[-1] == "completed"
    assert statuses.count("rejected") == len(statuses) - 3 > 0
    for trial in result.trials:
        if trial.status == "rejected":
            assert "over budget: The model may have 500 parameters. Received: " in trial.reason
        else:
            assert trial.parameters <= 500 and trial.qubits > 0
    again = search(
        tight, output_dir=tmp_path, tuner="random", max_trials=3, resume=True, progress=False
    )
    assert again.trials == result.trials


def test_a_budget_that_leaves_nothing_ends_the_search(jobs, tmp_path):
    nothing = hypermodel(max_params=1)
    result = search(nothing, output_dir=tmp_path, tuner="random", max_trials=1, progress=False)
    assert result.best is None and not jobs.done
    assert [trial.status for trial in result.trials] == ["rejected"] * 21


def test_a_space_that_is_exhausted(jobs, tmp_path):
    few = hypermodel(["hidden_dim=4,8", "num_heads=1,2", "solver=rk1"])
    result = search(few, output_dir=tmp_path, tuner="grid", max_trials=50, progress=False)
    found = {(t.values["hidden_dim"], t.values["num_heads"]) for t in result.trials}
    assert len(result.trials) == 4 and found == {(4, 1), (4, 2), (8, 1), (8, 2)}


def test_folds_are_scored_by_their_mean(monkeypatch, tmp_path):
    asked = []

    def cross_validate(make_model, data, recipe, *, folds, output_dir, **options):
        asked.append((folds, recipe.monitor, make_model().count_params()))
        return types.SimpleNamespace(
            mean=lambda measure: {"macro_auc": 0.75, "accuracy": 0.5, "loss": 1.0}[measure],
            folds=[types.SimpleNamespace(seconds=2.0)] * folds,
        )

    monkeypatch.setattr(module, "cross_validate", cross_validate)
    result = search(hypermodel(), output_dir=tmp_path, max_trials=1, folds=3, progress=False)
    assert asked[0][:2] == (3, "val_auc")
    assert (result.best.score, result.best.seconds) == (0.75, 6.0)


def test_other_folders_are_refused(jobs, tmp_path):
    search(hypermodel(), output_dir=tmp_path / "a", max_trials=1, progress=False)
    before = (tmp_path / "a" / "trials.json").read_bytes()
    with pytest.raises(SearchError, match="holds a search already: continue it with resume=True"):
        search(hypermodel(), output_dir=tmp_path / "a", max_trials=1, progress=False)
    for options, told in (
        ({"seed": 1}, "other seed"),
        ({"tuner": "random"}, "other tuner"),
        ({"objective": "val_loss"}, "other objective"),
    ):
        with pytest.raises(SearchError, match=f"another search: .* Received: {told} in "):
            search(
                hypermodel(), output_dir=tmp_path / "a", max_trials=1, resume=True, progress=False,
                **options,
            )  # fmt: skip
    with pytest.raises(SearchError, match="Received: other max_params, space in "):
        other = hypermodel(TEXTS[:1], max_params=10_000)
        search(other, output_dir=tmp_path / "a", max_trials=1, resume=True, progress=False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(SearchError, match="must be empty or hold a search"):
        search(hypermodel(), output_dir=tmp_path / "b", max_trials=1, resume=True, progress=False)
    assert (tmp_path / "a" / "trials.json").read_bytes() == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tuner": "best"}, "tuner must be one of random, grid, bayesian. Received: 'best'"),
        ({"objective": "auc"}, "objective must be one of .* Received: 'auc'"),
        ({"max_trials": 0}, "max_trials must be an integer of at least 1. Received: 0"),
        ({"seed": -1}, "seed must be an integer of at least 0. Received: -1"),
        ({"folds": 1}, "folds must be an integer of at least 2. Received: folds=1"),
    ],
)
def test_bad_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        search(hypermodel(), output_dir=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_searched(tmp_path):
    with pytest.raises(ValueError, match="Classifiers are searched .* of class QRKTGAN"):
        search(ZooHyperModel("qrkt_gan_digits"), output_dir=tmp_path)
    with pytest.raises(ValueError, match="hold_out=False: give a recipe with hold_out=True"):
        search(ZooHyperModel("patch_qnn_p4_d1_mnist"), output_dir=tmp_path)
