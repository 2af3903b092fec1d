"""What a kill leaves of a search's state between two writes, and what oracles make of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qrkt_keras.tuning import TUNERS, Space
from qrkt_keras.tuning.budgets import REJECTED
from qrkt_keras.tuning.oracles import make_oracle

SPACE = Space(()).overridden(["a=1,2,3,4", "b=1,2,3,4", "c=0..1.0"])
FEW = Space(()).overridden(["a=1,2", "b=1,2"])


def oracle(folder, tuner="random", *, space=SPACE, max_trials=30, **options):
    made = make_oracle(
        tuner,
        objective="val_auc",
        hyperparameters=space.to_hyperparameters(),
        max_trials=max_trials,
        seed=0,
        epochs=9,
        **options,
    )
    made._set_project_dir(str(folder), "state")
    if (folder / "state" / "oracle.json").exists():
        made.reload()
    else:
        made.save()
    return made


def end(oracle, trial, score=0.5, message=None):
    """Ends a trial as the search does."""
    if message is None:
        oracle.update_trial(trial.trial_id, {"val_auc": score})
    trial.status, trial.message = ("FAILED" if message else "COMPLETED"), message
    oracle.end_trial(trial)


def drawn(oracle):
    return [dict(t.hyperparameters.values) for t in oracle.trials.values()]


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_trial_that_nobody_was_given_never_began(tuner, tmp_path):
    before = oracle(tmp_path, tuner)
    for score in (0.1, 0.2, 0.3, 0.4, 0.5):
        end(before, before.create_trial("t"), score)
    kept = (tmp_path / "state" / "oracle.json").read_bytes()
    lost = before.create_trial("t")
    # Killed when the trial was written, and who has it was not.
    (tmp_path / "state" / "oracle.json").write_bytes(kept)
    after = oracle(tmp_path, tuner)
    assert len(after.trials) == 5
    again = after.create_trial("t")
    assert again.trial_id == lost.trial_id
    assert again.hyperparameters.values == lost.hyperparameters.values


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("tuner", TUNERS)
def test_a_trial_that_ended_is_not_run_again(tuner, is_written, tmp_path):
    before = oracle(tmp_path, tuner)
    end(before, before.create_trial("t"), 0.1)
    trial = before.create_trial("t")
    kept = (tmp_path / "state" / "oracle.json").read_bytes()
    end(before, trial, 0.2)
    if not is_written:
        # Killed when its end was written, and that it does not go on was not.
        (tmp_path / "state" / "oracle.json").write_bytes(kept)
    after = oracle(tmp_path, tuner)
    assert [t.status for t in after.trials.values()] == ["COMPLETED"] * 2
    assert after.create_trial("t").trial_id not in {trial.trial_id}
    assert sorted(after.end_order) == sorted(list(after.trials)[:2])
    assert after._run_times == before._run_times


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian"])
def test_what_failed_is_given_out_again(tuner, is_killed, tmp_path):
    before = oracle(tmp_path, tuner)
    for message in (None, "no memory", f"{REJECTED}too wide", "no data", None):
        end(before, before.create_trial("t"), message=message)
    assert before.failed() == ["01", "03"]
    files = list((tmp_path / "state").glob("trial_*/trial.json"))
    kept = {file: file.read_bytes() for file in files}
    before.retry(before.failed())
    if is_killed:
        # When the queue was written, and the trials were not: they stay as they are.
        for file in files:
            file.write_bytes(kept[file])
        after = oracle(tmp_path, tuner)
        assert after.failed() == ["01", "03"] and sorted(after.end_order) == sorted(after.trials)
        after.retry(after.failed())
    after = oracle(tmp_path, tuner)
    assert not after.is_over() and after.failed() == []
    for key in ("01", "03"):
        trial = after.create_trial("t")
        assert trial.trial_id == key
        assert trial.hyperparameters.values == before.trials[key].hyperparameters.values
        end(after, trial, 0.7)
    assert after.create_trial("t").trial_id == "05"
    assert sorted(after.end_order) == sorted(after.trials)[:-1]
    assert after.get_best_trials()[0].trial_id in ("01", "03")


def test_a_full_disk_leaves_the_state_whole(tmp_path, monkeypatch):
    made = oracle(tmp_path)
    end(made, made.create_trial("t"))
    kept = (tmp_path / "state" / "oracle.json").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        made.save()
    assert (tmp_path / "state" / "oracle.json").read_bytes() == kept


def test_a_grid_that_is_continued_tries_each_combination_once(tmp_path):
    count = 0
    while (trial := (made := oracle(tmp_path, "grid", space=FEW)).create_trial("t")).status != (
        "STOPPED"
    ):
        end(made, trial)
        count += 1
        assert count <= 4
    found = {(values["a"], values["b"]) for values in drawn(made)}
    assert count == 4 and found == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_a_bayesian_search_looks_where_it_is_good_and_nowhere_twice(tmp_path):
    made = oracle(tmp_path, "bayesian", max_trials=20)
    scores = []
    for _ in range(20):
        trial = made.create_trial("t")
        values = trial.hyperparameters.values
        scores.append(-abs(values["a"] - 2) - abs(values["b"] - 3) - values["c"])
        end(made, trial, scores[-1])
    assert len({json.dumps(row, sort_keys=True) for row in drawn(made)}) == 20
    # At random the mean is 2.5 below the best, with a deviation of 0.93; six are drawn so.
    assert max(scores) > -0.1 and np.mean(scores[6:]) > -2.5 + 4 * 0.93 / 14**0.5
    few = oracle(tmp_path / "few", "bayesian", space=FEW, max_trials=20)
    while (trial := few.create_trial("t")).status == "RUNNING":
        end(few, trial)
    assert len(few.trials) == 4


@pytest.mark.parametrize("reason", [f"{REJECTED}too large", "diverged: too fast"])
def test_a_bayesian_search_learns_from_what_fails(reason, tmp_path):
    """The score rises up to an edge, behind which nothing is completed."""
    space = Space(()).overridden(["a=8..32:4", "b=8..64:8", "c=1e-3..3e-2:log"])
    made = oracle(tmp_path, "bayesian", space=space, max_trials=30)
    while (trial := made.create_trial("t")).status == "RUNNING":
        values = trial.hyperparameters.values
        size = values["a"] * values["b"]
        end(made, trial, size / 1000 - values["c"], message=reason if size > 500 else None)
    failed = sum(trial.status == "FAILED" for trial in made.trials.values())
    # Of what is drawn at random it would be 59 %.
    assert 0 < failed < len(made.trials) / 2
    assert len(made.trials) == 30 + (failed if reason.startswith(REJECTED) else 0)
    best = made.get_best_trials()[0].hyperparameters.values
    assert best["a"] * best["b"] >= 448


def test_rejected_trials_do_not_count(tmp_path):
    made = oracle(tmp_path, max_trials=2)
    end(made, made.create_trial("t"), message="over budget: large")
    end(made, made.create_trial("t"), message="ValueError: wrong")
    end(made, made.create_trial("t"))
    assert made.create_trial("t").status == "STOPPED" and made.is_over()
    # After a restart neither.
    assert oracle(tmp_path, max_trials=2).is_over()
    assert not oracle(tmp_path, max_trials=3).is_over()


def test_hyperband_ends_where_all_fail(tmp_path):
    made = oracle(tmp_path, "hyperband", max_trials=None)
    while (trial := made.create_trial("t")).status == "RUNNING":
        end(made, trial, message="ValueError: always")
    # As many as it begins with, 9 + 5 + 3, and one.
    assert len(made.trials) == 18


@pytest.mark.parametrize("number, trials", [(4, [1] * 4 + [3] * 2 + [9]), (1, [1, 3, 9])])
def test_hyperband_goes_on_where_a_space_has_too_few(number, trials, tmp_path):
    few = Space(()).overridden([f"a={','.join(map(str, range(number)))}"])
    epochs = []
    while len(epochs) < 20:
        # As if it was killed after each trial.
        made = oracle(tmp_path, "hyperband", space=few, max_trials=None)
        trial = made.create_trial("t")
        if trial.status != "RUNNING":
            break
        epochs.append(trial.hyperparameters.values["tuner/epochs"])
        end(made, trial, trial.hyperparameters.values["a"])
    assert epochs == trials and made.is_over()
    assert trial.status == "STOPPED"
    last = list(made.trials.values())[-1]
    assert last.hyperparameters.values["a"] == number - 1


def test_a_failed_configuration_is_replaced_at_all_of_its_rounds(tmp_path):
    made = oracle(tmp_path, "hyperband", max_trials=None)
    for number in range(9):
        end(made, made.create_trial("t"), number / 10)
    chosen = made.create_trial("t")
    assert chosen.hyperparameters.values["tuner/trial_id"] == "0008"
    end(made, chosen, message="diverged: at last")
    other = made.create_trial("t")
    assert other.hyperparameters.values["tuner/round"] == 0
    end(made, other, 0.95)
    # It is the best now, and goes on; what failed does not.
    chosen = [made.create_trial(f"t{i}").hyperparameters.values for i in range(3)]
    assert [values["tuner/trial_id"] for values in chosen] == [other.trial_id, "0007", "0006"]


def test_what_fails_at_last_is_replaced_while_others_are_at_work(tmp_path):
    made = oracle(tmp_path, "hyperband", max_trials=None, is_shared=True)
    for number in range(9):
        end(made, made.create_trial("a"), number / 10)
    for _ in range(3):
        end(made, made.create_trial("a"), 0.9)
    last = made.create_trial("a")
    assert last.hyperparameters.values["tuner/epochs"] == 9
    other = made.create_trial("b")  # of the next bracket
    assert other.hyperparameters.values["tuner/bracket"] == 1
    end(made, last, message="diverged: at last")
    again = made.create_trial("a").hyperparameters.values
    # Another configuration of the first bracket, which alone begins with one epoch.
    assert (again["tuner/epochs"], again["tuner/initial_epoch"]) == (1, 0)


def test_workers_keep_their_trials_when_the_chief_is_restarted(tmp_path):
    before = oracle(tmp_path, is_shared=True, max_trials=3)
    mine, other = before.create_trial("w1"), before.create_trial("w2")
    after = oracle(tmp_path, is_shared=True, max_trials=3)
    assert after.create_trial("w1").trial_id == mine.trial_id
    end(after, other)
    end(after, other)  # told again, for the answer was lost
    assert after.end_order == [other.trial_id]
    third = after.create_trial("w2")
    end(after, third)
    # Nothing is left for it, but w1 may be lost.
    assert after.create_trial("w2").status == "IDLE" and not after.is_over()
    assert after.release("w1") == mine.trial_id and after.release("w1") is None
    taken = after.create_trial("w2")
    assert taken.trial_id == mine.trial_id
    end(after, taken)
    assert after.create_trial("w2").status == "STOPPED" and after.is_over()
    assert not after.tuner_ids


def test_reasons_that_do_not_travel_are_told_otherwise(tmp_path):
    made = oracle(tmp_path)
    trial = made.create_trial("t")
    made.reasons[trial.trial_id] = "over budget: large"
    trial.status, trial.message = "FAILED", None  # as KerasTuner's messages bring it
    made.end_trial(trial)
    assert made.trials[trial.trial_id].message == "over budget: large"


@pytest.mark.parametrize("tuner", TUNERS)
def test_workers_at_once(tuner, tmp_path):
    """Three workers, of which one is always behind, and one is lost now and then."""
    limit = 12 if tuner in ("random", "bayesian") else None
    space = FEW if tuner == "grid" else SPACE
    made = oracle(tmp_path, tuner, space=space, max_trials=limit, is_shared=True)
    workers, held, steps = ("a", "b", "c"), {}, 0
    while workers:
        steps += 1
        assert steps < 2000
        for who in workers:
            trial = made.create_trial(who)
            if trial.status == "STOPPED":
                workers = tuple(one for one in workers if one != who)
            elif trial.status == "RUNNING":
                held[who] = trial
        if steps % 7 == 0 and "b" in held:
            made.release("b")
            del held["b"]
        for who in [who for who in held if who != "c" or steps % 3 == 0]:
            trial = held.pop(who)
            end(made, trial, score=int(trial.trial_id) * 37 % 100 / 100)
    assert not made.ongoing_trials and not made.tuner_ids and made.is_over()
    assert {trial.status for trial in made.trials.values()} == {"COMPLETED"}
    assert len(made.end_order) == len(set(made.end_order)) == len(made.trials)
    assert len(made.trials) == {"grid": 4, "hyperband": 9 + 3 + 1 + 5 + 2 + 3}.get(tuner, limit)
