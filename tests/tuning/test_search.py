"""Searches: what is tried and kept, failures, interrupts; on digits, and with made-up scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import keras
import pytest
from scipy.special import softmax

from qrkt_keras import data, zoo
from qrkt_keras.training import TrainingInterrupted, classification_scores, fit
from qrkt_keras.tuning import (
    SearchError,
    Space,
    ZooHyperModel,
    budgets,
    read_search,
    search,
    trial_process,
)

# The package has a function of the module's name.
module = sys.modules["qrkt_keras.tuning.search"]

TEXTS = ["hidden_dim=4,8,12", "num_heads=1,2", "solver=rk1", "recipe.learning_rate=1e-3..3e-2:log"]


def hypermodel(texts=TEXTS, epochs=1, **options):
    recipe = ZooHyperModel("qvit_rk4_digits").recipe.with_given(epochs=epochs)
    return ZooHyperModel("qvit_rk4_digits", Space(()).overridden(texts), recipe=recipe, **options)


def made_up_auc(hidden_dim, learning_rate):
    return 1 - 0.01 * abs(hidden_dim - 8) - abs(learning_rate - 0.01)


@pytest.fixture
def jobs(monkeypatch):
    """Makes trials instant: scores are by the model's width, and what is trained is noted.

    A function in `jobs.raising` may raise, by the number of the job.
    """
    noted = types.SimpleNamespace(done=[], raising=lambda number: None)

    def run(self, job, still_ours=None):
        folder = Path(job.folder)
        if not trial_process.read_result(folder):
            number = len(noted.done)
            noted.done.append(job)
            try:
                noted.raising(number)
                auc = made_up_auc(
                    job.arguments.get("hidden_dim", 16), job.recipe["learning_rate"]
                ) - 0.1 / (job.until or job.recipe["epochs"])
                scores = {"val_auc": auc, "val_accuracy": auc / 2, "val_loss": 1 - auc, "fid": -auc}
                result = {"scores": scores, "epochs": job.until, "seconds": 1.5}
            except Exception as error:
                result = {"error": trial_process.reason(error)}
            else:
                (folder / "run" / "preset").mkdir(parents=True)
                (folder / "run" / "preset" / "config.json").write_text(folder.name)
            trial_process.write_result(folder, result)
        return trial_process.read_result(folder)

    monkeypatch.setattr(trial_process.TrialProcesses, "run", run)
    # Of which `test_report.py` is, and the search on digits.
    monkeypatch.setattr(module, "write_report", lambda result: None)
    return noted


def folders(jobs):
    return [Path(job.folder).name for job in jobs.done]


def test_on_digits(tmp_path, capfd):
    """What a trial's process reaches is what `fit` reaches here, and the best is a preset."""
    given = hypermodel(["hidden_dim=4,8", "num_heads=1", "solver=rk1"])
    result = search(given, output_dir=tmp_path, tuner="grid", command="qrkt tune")
    assert [trial.status for trial in result.trials] == ["completed"] * 2
    best = result.best
    history = json.loads((tmp_path / best.folder / "run" / "history.json").read_text())
    assert best.score == pytest.approx(max(history["history"]["val_auc"]), abs=1e-6)
    assert set(best.scores) == {"val_auc", "val_accuracy", "val_loss"} and best.epochs == 1
    assert "best val_auc so far" in capfd.readouterr().out
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert rows == [trial.to_dict() for trial in result.trials]
    assert read_search(tmp_path) == result

    model = zoo.from_preset(tmp_path / "best")
    assert model.count_params() == best.parameters and model.num_qubits == best.qubits
    source = zoo.read_preset(tmp_path / "best")
    assert source.metadata["command"] == f"qrkt tune  # trial {best.number}"
    assert source.recipe.monitor == "val_auc"
    images, labels = data.arrays("digits", "validation")
    scores = classification_scores(labels, softmax(model.predict(images, verbose=0), axis=1))
    assert scores.macro_auc == pytest.approx(best.score, abs=1e-5)
    keras.utils.set_random_seed(source.recipe.seed)
    fresh = zoo.from_preset(tmp_path / "best", load_weights=False)
    here = fit(fresh, "digits", source.recipe, output_dir=tmp_path / "here", progress=False)
    assert here.scores["validation"].macro_auc == pytest.approx(best.score, abs=1e-6)

    page = (tmp_path / "report.html").read_text()
    assert "Best" in page and "http" not in page
    assert (tmp_path / "parameters.png").exists() and (tmp_path / "tensorboard").is_dir()


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
    assert result.best == best and result.best.seconds == 1.5
    assert (tmp_path / "best" / "config.json").read_text() == best.folder
    top = max(aucs) - 0.1
    expected = {"val_auc": top, "val_loss": 1 - top, "val_accuracy": top / 2}
    assert result.best.score == pytest.approx(expected[objective])
    # No configuration twice.
    assert len({json.dumps(dict(trial.values)) for trial in result.trials}) == 6


def test_each_search_has_a_name_of_its_own(jobs, tmp_path):
    """By which a chief knows its workers."""
    found = []
    for folder, resume in (("a", False), ("b", False), ("a", True)):
        options = {"output_dir": tmp_path / folder, "max_trials": 1, "progress": False}
        search(hypermodel(), resume=resume, command="qrkt tune", **options)
        kept = json.loads((tmp_path / folder / "search.json").read_text())
        found.append(kept["id"])
        assert kept["command"] == "qrkt tune"
    assert found[0] == found[2] != found[1]


def test_the_same_seed_draws_the_same(jobs, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        result = search(
            hypermodel(), output_dir=tmp_path / str(number), max_trials=4, seed=seed, progress=False
        )
        drawn.append([dict(trial.values) for trial in result.trials])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian", "hyperband"])
def test_an_interrupted_search_goes_on(tuner, jobs, tmp_path):
    options = {"tuner": tuner, "max_trials": 12, "progress": False}
    given = hypermodel(epochs=9)  # with which Hyperband has more than 12

    def interrupt(number):
        if number == 5:
            raise TrainingInterrupted("continue it")

    jobs.raising = interrupt
    with pytest.raises(KeyboardInterrupt):
        search(given, output_dir=tmp_path, **options)
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["completed"] * 5 + ["running"]
    best = max(rows[:5], key=lambda row: row["score"])
    assert (tmp_path / "best" / "config.json").read_text() == best["folder"]
    jobs.raising = lambda number: None
    result = search(given, output_dir=tmp_path, resume=True, **options)
    assert [trial.status for trial in result.trials] == ["completed"] * 12
    # What was finished was not run again; what was running went on in its folder.
    assert folders(jobs) == [f"trial_{i:03d}" for i in (1, 2, 3, 4, 5, 6, *range(6, 13))]
    assert jobs.done[5] == jobs.done[6]
    # An undisturbed search is the same one.
    other = search(given, output_dir=tmp_path / "other", **options)
    assert [t.values for t in other.trials] == [t.values for t in result.trials]
    # A finished search runs nothing, and more trials can be added.
    before = len(jobs.done)
    search(given, output_dir=tmp_path, resume=True, **options)
    assert len(jobs.done) == before
    options["max_trials"] = 13
    more = search(given, output_dir=tmp_path, resume=True, **options)
    assert len(more.trials) == 13 and len(jobs.done) == before + 1


def test_hyperband_goes_on_with_the_better_ones(jobs, tmp_path):
    def fail(number):
        if number == 2:
            raise FloatingPointError("the loss is nan")

    jobs.raising = fail
    given = hypermodel(epochs=9)
    result = search(given, output_dir=tmp_path, tuner="hyperband", progress=False)
    # Of 9 epochs by thirds, and by Li and others (2018) with KerasTuner's sizes: 9 configurations
    # for an epoch, 3 of them for 3, 1 for 9; 5 for 3 epochs, 2 for 9; 3 for 9.
    assert len(result.trials) == 9 + 3 + 1 + 5 + 2 + 3 + 1
    assert [t.number for t in result.trials if t.status == "failed"] == [3]
    by_epochs = {
        epochs: [job for job in jobs.done if job.until == epochs and job.continues is None]
        for epochs in (1, 3, 9)
    }
    assert [len(by_epochs[epochs]) for epochs in (1, 3, 9)] == [10, 5, 3]
    rows = {trial.folder: trial for trial in result.trials}
    first = [rows[Path(job.folder).name] for job in by_epochs[1]]
    first = [row for row in first if row.status == "completed"]
    chosen = [job for job in jobs.done if job.continues and job.until == 3]
    best = sorted(first, key=lambda row: -row.score)[:3]
    assert {Path(job.continues).name for job in chosen} == {row.folder for row in best}
    for job in jobs.done:
        if job.continues is not None:
            before = rows[Path(job.continues).name]
            assert rows[Path(job.folder).name].values == before.values
            assert job.until == 3 * before.epochs


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


@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian"])
def test_what_failed_is_run_again_when_asked(tuner, jobs, tmp_path):
    def fail(number):
        if number in (1, 2):
            raise MemoryError("another one's")
        if number == 4:
            raise budgets.BudgetError("it is too slow")

    jobs.raising = fail
    options = {"output_dir": tmp_path, "tuner": tuner, "progress": False}
    before = search(hypermodel(), max_trials=5, **options)
    assert [trial.number for trial in before.trials if trial.status == "failed"] == [2, 3]
    jobs.raising = lambda number: None
    result = search(hypermodel(), max_trials=5, resume=True, retry_failed=True, **options)
    # These two in their folders, with the values that they had, and nothing else.
    assert folders(jobs) == [f"trial_{i:03d}" for i in (1, 2, 3, 4, 5, 6, 2, 3)]
    assert jobs.done[6:] == jobs.done[1:3]
    statuses = [trial.status for trial in result.trials]
    assert statuses == ["completed"] * 4 + ["rejected", "completed"]
    assert [trial.values for trial in result.trials] == [trial.values for trial in before.trials]
    assert [t.number for t in result.trials if t.reason] == [5]
    assert json.loads((tmp_path / "trials.json").read_text())[1]["score"] is not None
    # Nothing is left to be run again, and the search goes on as others do.
    more = search(hypermodel(), max_trials=6, resume=True, retry_failed=True, **options)
    assert len(jobs.done) == 9 and len(more.trials) == 7
    for wrong in ({"resume": False}, {"resume": True, "tuner": "hyperband"}):
        with pytest.raises(ValueError, match="run again where a search is continued .* Received:"):
            search(hypermodel(), retry_failed=True, **options | wrong)


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


def test_folds_are_scored_by_their_mean(tmp_path):
    given = hypermodel(["hidden_dim=4", "num_heads=1", "solver=rk1"])
    result = search(given, output_dir=tmp_path, max_trials=1, folds=2, progress=False)
    told = json.loads((tmp_path / "trial_001" / "run" / "folds.json").read_text())
    assert result.best.score == pytest.approx(told["scores"]["validation"]["macro_auc"]["mean"])
    # The preset has a model of its own, of the usual split.
    refit = json.loads((tmp_path / "trial_001" / "refit" / "run" / "scores.json").read_text())
    source = zoo.read_preset(tmp_path / "best")
    assert source.metadata["scores"]["test"]["accuracy"] == refit["test"]["accuracy"]
    again = search(given, output_dir=tmp_path, max_trials=1, folds=2, resume=True, progress=False)
    assert again.trials == result.trials


def test_gans_by_their_distance(tmp_path):
    recipe = ZooHyperModel("trans_gan_digits").recipe.with_given(epochs=1)
    space = Space(()).overridden(["mlp_ratio=1", "recipe.num_critic_steps=1"])
    given = ZooHyperModel("trans_gan_digits", space, recipe=recipe)
    result = search(given, output_dir=tmp_path, tuner="random", max_trials=1, progress=False)
    best = result.best
    assert result.objective == "fid" and not result.is_more_better
    told = json.loads((tmp_path / best.folder / "run" / "history.json").read_text())
    assert best.score == best.scores["fid"] == pytest.approx(told["measures"]["fid"])
    assert best.qubits == 0 and best.parameters > 0
    assert zoo.from_preset(tmp_path / "best").generate(2, seed=0).shape[0] == 2


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
    with pytest.raises(SearchError, match="must be empty or hold a search. .* with mine.txt"):
        search(hypermodel(), output_dir=tmp_path / "b", max_trials=1, resume=True, progress=False)
    assert (tmp_path / "a" / "trials.json").read_bytes() == before
    with pytest.raises(ValueError, match="either continued or replaced"):
        search(hypermodel(), output_dir=tmp_path / "a", resume=True, overwrite=True)


def test_a_search_is_replaced_only_when_told_so(jobs, tmp_path):
    search(hypermodel(), output_dir=tmp_path, max_trials=3, progress=False)
    (tmp_path / "mine.txt").write_text("mine")
    other = search(hypermodel(), output_dir=tmp_path, max_trials=1, seed=1, overwrite=True)
    assert len(other.trials) == 1 and not (tmp_path / "trial_002").exists()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_replacement_that_was_killed_can_be_made_again(jobs, tmp_path):
    search(hypermodel(), output_dir=tmp_path, max_trials=2, progress=False)
    (tmp_path / "search.json").unlink()  # removed first, and then no more
    with pytest.raises(SearchError, match="must be empty or hold a search"):
        search(hypermodel(), output_dir=tmp_path, max_trials=1, resume=True)
    other = search(hypermodel(), output_dir=tmp_path, max_trials=1, seed=1, overwrite=True)
    assert len(other.trials) == 1 and not (tmp_path / "trial_002").exists()


def test_an_interrupt_of_the_last_training_leaves_a_report_and_no_other_preset(jobs, tmp_path):
    """Of folds the best is trained once more; until then there is no preset."""
    options = {"output_dir": tmp_path, "folds": 2, "progress": False}
    given = hypermodel()
    search(given, max_trials=1, **options)
    assert (tmp_path / "best").exists()

    def interrupt(number):
        if Path(jobs.done[number].folder).name == "refit":
            raise TrainingInterrupted("continue it")

    jobs.raising = interrupt
    with pytest.raises(KeyboardInterrupt):
        search(given, max_trials=8, resume=True, **options)
    result = read_search(tmp_path)
    assert len(result.trials) == 8 and result.best.number > 1
    assert not (tmp_path / "best").exists()  # it was the first trial's
    # A failure is tried again.
    refit = tmp_path / result.best.folder / "refit"
    refit.mkdir()
    trial_process.write_result(refit, {"error": "no memory"})
    jobs.raising = lambda number: None
    search(given, max_trials=8, resume=True, **options)
    assert (tmp_path / "best" / "config.json").read_text() == "refit"


@pytest.mark.parametrize(
    "epochs, max_seconds, received",
    [
        # Two epochs are too few to tell from, but the first one is too long.
        (2, 0.1, r"([\d.]+) s in epoch 1 of 2"),
        (5000, 60, r"([\d.]+) s for 5000 epochs"),
    ],
)
def test_a_trial_that_would_take_too_long(tmp_path, epochs, max_seconds, received):
    dimensions = ["hidden_dim=4", "num_heads=1", "solver=rk1"]
    slow = hypermodel(dimensions, epochs=epochs, max_seconds=max_seconds)
    result = search(slow, output_dir=tmp_path, max_trials=1, progress=False)
    assert [trial.status for trial in result.trials] == ["rejected"]
    found = re.fullmatch(
        rf"over budget: A trial may train {max_seconds} s. Received: {received}",
        result.trials[0].reason,
    )
    assert float(found[1]) > max_seconds


def test_a_process_that_hangs_is_ended(monkeypatch, tmp_path):
    # As one that is not heard of: it has not begun to train after so short a time.
    monkeypatch.setattr(trial_process, "_SLACK", 0.2)
    result = search(hypermodel(max_seconds=0.1), output_dir=tmp_path, max_trials=1, progress=False)
    assert [trial.status for trial in result.trials] == ["failed"]
    assert re.fullmatch(
        r"the process was not done in \d+ s, and was ended", result.trials[0].reason
    )


def test_the_time_of_a_trial_is_that_of_its_folds(monkeypatch):
    now = 0.0
    monkeypatch.setattr(budgets.time, "monotonic", lambda: now)

    def train(budget, first):
        nonlocal now
        budget.set_params({"epochs": 10})
        budget.on_train_begin()
        for epoch in range(10):
            budget.on_epoch_begin(epoch)
            now += 0.5 + first * (epoch == 0)
            budget.on_train_batch_end(0)
            budget.on_epoch_end(epoch)

    # 5.5 s for a fold.
    with pytest.raises(
        budgets.BudgetError, match=r"16 s. Received: 16.5 s for 10 epochs in each of 3 fol"
    ):
        train(budgets.TimeBudget(16, 3), first=0.5)
    assert now == 2.0
    budget = budgets.TimeBudget(17, 3)
    for _ in range(3):
        train(budget, first=0.5)
    # The second one begins later than those that were timed tell.
    budget = budgets.TimeBudget(11, 2)
    train(budget, first=0.5)
    with pytest.raises(budgets.BudgetError, match=r"train 11 s. Received: 11.5 s in epoch 2 of 10"):
        train(budget, first=5)


def test_one_search_a_folder_at_a_time(jobs, tmp_path):
    search(hypermodel(), output_dir=tmp_path, max_trials=1, progress=False)
    # A lock is the process': another one must hold it.
    script = (
        "import sys; from qrkt_keras.training.files import lock_folder; "
        f"lock = lock_folder({str(tmp_path)!r}); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(SearchError, match="Another process is at work"):
            search(hypermodel(), output_dir=tmp_path, max_trials=2, resume=True, progress=False)
    finally:
        holder.communicate("")
    search(hypermodel(), output_dir=tmp_path, max_trials=2, resume=True, progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"tuner": "best"},
            "tuner must be one of random, grid, bayesian, hyperband. Received: 'best'",
        ),
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


def test_what_cannot_be_searched(monkeypatch, tmp_path):
    gan = ZooHyperModel("trans_gan_digits")
    with pytest.raises(ValueError, match="judged by fid, .* Received: objective='val_auc'"):
        search(gan, output_dir=tmp_path, objective="val_auc")
    with pytest.raises(ValueError, match="judged by fid, .* Received: objective='fid'"):
        search(hypermodel(), output_dir=tmp_path, objective="fid")
    with pytest.raises(ValueError, match="folds are for classifiers"):
        search(gan, output_dir=tmp_path, folds=2)
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ValueError, match="names the chief .* Received: KERASTUNER_ORACLE_IP=127"):
        search(hypermodel(), output_dir=tmp_path / "new")
    with pytest.raises(ValueError, match="no KERASTUNER_ORACLE_PORT, KERASTUNER_TUNER_ID"):
        search(hypermodel(), output_dir=tmp_path / "new", is_distributed=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(SearchError, match="holds no search. Received: output_dir="):
        read_search(tmp_path)
