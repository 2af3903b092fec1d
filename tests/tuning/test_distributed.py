"""A chief and two workers on this machine, of which any is killed and started again."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import psutil
import pytest
from support.workers import epochs_done, gone, trains, wait_until

from qrkt_keras import zoo
from qrkt_keras.tuning import Space, distributed, read_search
from qrkt_keras.tuning.oracles import make_oracle

ROOT = Path(__file__).parents[2]
SMALL = ["hidden_dim=4", "num_heads=1", "solver=rk1", "recipe.learning_rate=3e-3..3e-2:log"]
# Of less than a tenth of a second each: a trial is to be caught in the middle.
EPOCHS = 60
# Seconds of which a quiet machine needs a tenth; a process is given more than it gives the others.
PATIENCE = 300


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def cluster(tmp_path):
    """Starts the chief and workers of a search, by `qrkt tune --distributed`."""
    port, started = free_port(), []

    def start(who):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KERASTUNER_TUNER_ID": who,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        words = ["tune", "--distributed", "--tuner", "random", "--max-trials", 4, "--resume"]
        words += ["--epochs", EPOCHS, "--only", "--vary", *SMALL, "--output", tmp_path / "search"]
        words += ["--worker-timeout", 120, "--timeout", PATIENCE]
        # A pipe that nobody reads yet would stop it when it is full.
        log = tmp_path / f"{len(started)}_{who}.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "qrkt_keras", *map(str, words)],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        # For who reads of a test that failed.
        print(f"== {process.log.name}\n{process.log.read_text()[-3000:]}")


def trial_of(folder, worker):
    """The folder of the first trial that a worker was given, if it was given one."""
    for facts in sorted(folder.glob("trial_*/trial.json")):
        if json.loads(facts.read_text())["worker"] == worker:
            return facts.parent
    return None


def finished(process):
    process.wait(PATIENCE + 60)
    said = process.log.read_text()
    assert process.returncode == 0, said
    return said


def ended(said):
    """Numbers of the trials that a chief saw ending, in their order."""
    return [int(number) for number in re.findall(r"^trial (\d+), w\d: val_auc", said, re.M)]


def test_a_worker_and_the_chief_are_killed_and_started_again(cluster, tmp_path):
    folder = tmp_path / "search"
    chief, first, second = cluster("chief"), cluster("w1"), cluster("w2")
    wait_until(lambda: trial_of(folder, "w1") is not None, PATIENCE)
    trial = trial_of(folder, "w1")
    wait_until(lambda: trains(trial), PATIENCE)
    # A worker in the middle of its trial: started again, it goes on with it.
    children = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.wait()
    # The one that was started ahead may have to import TensorFlow before it knows.
    wait_until(lambda: all(map(gone, children)), PATIENCE)
    done = epochs_done(trial)
    first = cluster("w1")

    def goes_on():
        assert epochs_done(trial) >= done  # it does not begin anew
        return trains(trial, beyond=done)

    # The chief, while a worker trains: it keeps its trial, and tells the chief when that is back.
    wait_until(goes_on, PATIENCE)
    chief.kill()
    chief.wait()
    before = chief.log.read_text()
    chief = cluster("chief")
    said = before + finished(chief)
    for worker in (first, second):
        assert "val_auc" in finished(worker)
    result = read_search(folder)
    assert [trial.status for trial in result.trials] == ["completed"] * 4
    assert [row.worker for row in result.trials if row.folder == trial.name] == ["w1"]
    assert [trial.epochs for trial in result.trials] == [EPOCHS] * 4
    # Each ended once: KerasTuner's list has them, and no chief saw one that the other saw.
    state = json.loads((folder / "state" / "oracle.json").read_text())
    assert sorted(state["end_order"]) == ["0", "1", "2", "3"]
    assert len(ended(said)) == len(set(ended(said)))
    assert zoo.from_preset(folder / "best").count_params() == result.best.parameters
    assert (folder / "report.html").exists()
    # One that comes late needs no chief to know that it is over.
    assert "val_auc" in finished(cluster("w3"))


def test_nobody_waits_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(free_port()))
    with pytest.raises(distributed.ChiefLostError, match="within 1 s, .* Received: no .*search.js"):
        distributed.wait_for(tmp_path / "search.json", 1)
    oracle = shared_oracle(tmp_path)
    with pytest.raises(distributed.WorkersLostError, match="Received: no call at 127.* for 1 s"):
        serve(oracle, timeout=1)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "w1")
    begun = time.monotonic()
    with pytest.raises(distributed.ChiefLostError, match=r"nothing from 127.* in \d+ s"):
        distributed.Client(oracle, timeout=1).create_trial("w1")
    assert time.monotonic() - begun < 30
    # One that comes when the search is over is told so without a chief.
    late = distributed.Client(oracle, timeout=60, is_over=lambda: True)
    assert late.create_trial("w1").status == "STOPPED"


def test_a_chief_that_has_nothing_left_ends_without_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(free_port()))
    oracle = shared_oracle(tmp_path)
    for _ in range(3):
        finish(oracle, oracle.create_trial("w1"))
    # Restarted after the last trial, when its worker may be gone.
    oracle.save()
    serve(shared_oracle(tmp_path), worker_timeout=1)


def shared_oracle(folder):
    """The oracle of a random search of three trials."""
    oracle = make_oracle(
        "random",
        objective="val_auc",
        hyperparameters=Space(()).overridden(["a=0..1.0"]).to_hyperparameters(),
        max_trials=3,
        seed=0,
        epochs=1,
        is_shared=True,
    )
    oracle._set_project_dir(str(folder), "state")
    oracle.seen, oracle.errors = [], []
    if (folder / "state" / "oracle.json").exists():
        oracle.reload()
    return oracle


# A worker that is not silent may be slow for so long; a silent one is waited for so long.
def serve(oracle, worker_timeout=8, timeout=60):
    distributed.serve(
        oracle,
        distributed.address(),
        on_trial_end=lambda trial: oracle.seen.append(trial.trial_id),
        worker_timeout=worker_timeout,
        timeout=timeout,
    )


@pytest.fixture
def chief(tmp_path, monkeypatch):
    """A chief in this process, which serves a random search of three trials."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(free_port()))
    oracle = shared_oracle(tmp_path)

    def run():
        try:
            serve(oracle)
        except BaseException as error:
            oracle.errors.append(error)

    oracle.thread = threading.Thread(target=run, daemon=True)
    oracle.thread.start()
    return oracle


def client(oracle, name, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
    return distributed.Client(oracle, timeout=20)


def finish(client, trial):
    client.update_trial(trial.trial_id, {"val_auc": 0.5})
    trial.status = "COMPLETED"
    client.end_trial(trial)


def test_a_silent_worker_loses_its_trial_and_is_told_so(chief, monkeypatch):
    silent, other = client(chief, "w1", monkeypatch), client(chief, "w2", monkeypatch)
    own, lost = other.create_trial("w2").trial_id, silent.create_trial("w1")
    with other.heard(own, every=0.2) as ours:
        # Without the calls that are made here, the chief would have lost the other one before.
        wait_until(lambda: "w1" not in chief.ongoing_trials, 60)
        assert ours() and chief.ongoing_trials["w2"].trial_id == own
        # It comes back, and is refused: another one may have it.
        with silent.heard(lost.trial_id, every=0.1) as ours:
            wait_until(lambda: not ours(), 60)
        with pytest.raises(distributed.TrialLostError, match="given to another worker than w1"):
            finish(silent, lost)
        finish(other, chief.trials[own])
        # What has ended is nobody's to train; only its end may be told again.
        with other.heard(own, every=0.1) as ours:
            wait_until(lambda: not ours(), 60)
        other.end_trial(chief.trials[own])
        with pytest.raises(distributed.TrialLostError):
            silent.update_trial(own, {"val_auc": 1.0})
        assert chief.trials[own].score == 0.5
    taken = other.create_trial("w2")
    assert taken.trial_id == lost.trial_id
    finish(other, taken)
    # The reason of a failure comes along, and what a budget rejects does not count here either.
    failed = other.create_trial("w2")
    failed.status, failed.message = "FAILED", "over budget: größer"
    other.end_trial(failed)
    assert chief.trials[failed.trial_id].message == "over budget: größer"
    finish(other, other.create_trial("w2"))
    assert other.create_trial("w2").status == "STOPPED"
    chief.thread.join(60)
    assert not chief.thread.is_alive() and not chief.errors
    assert sorted(chief.seen) == ["0", "1", "2", "3"]


def test_a_worker_of_another_search_is_refused(chief, monkeypatch):
    own = client(chief, "w1", monkeypatch)
    trial = own.create_trial("w1")
    other = distributed.Client(chief, timeout=20, search_id="another")
    message = "the chief of another search: .* Received: 127.0.0.1:"
    with pytest.raises(distributed.ChiefLostError, match=message):
        other.create_trial("w2")
    # Nor does it end what is not its own, by a name that is known there.
    with pytest.raises(distributed.ChiefLostError, match=message):
        other.end_trial(trial)
    assert list(chief.trials) == [trial.trial_id] and chief.seen == []
    for _ in range(3):
        finish(own, trial)
        trial = own.create_trial("w1")
    assert trial.status == "STOPPED"
    chief.thread.join(60)
    assert not chief.thread.is_alive() and not chief.errors


def test_a_search_that_is_over_may_go_on(tmp_path):
    """A worker that comes before the chief that runs failed trials again waits for it."""
    module = sys.modules["qrkt_keras.tuning.search"]
    oracle = shared_oracle(tmp_path)

    def is_over(retry_failed):
        options = types.SimpleNamespace(folder=tmp_path, retry_failed=retry_failed)
        return module._is_over(options, oracle)

    assert not is_over(False)
    over = tmp_path / "over.json"
    over.write_text(json.dumps({"max_trials": 3, "retried": False}))
    assert is_over(False) and not is_over(True)
    over.write_text(json.dumps({"max_trials": 3, "retried": True}))
    assert is_over(False) and is_over(True)
    oracle.max_trials = 4
    assert not is_over(False) and not is_over(True)


def test_an_error_on_the_chief_ends_it(chief, monkeypatch):
    def fail(trial_id):
        raise RuntimeError("no space left")

    chief.populate_space = fail
    wait_until(lambda: _listens(chief))  # the worker's first call must reach it
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "w1")
    worker = distributed.Client(chief, timeout=5)
    with pytest.raises(distributed.ChiefLostError, match="does not answer"):
        worker.create_trial("w1")
    chief.thread.join(60)
    assert not chief.thread.is_alive() and str(chief.errors[0]) == "no space left"


def test_a_port_that_is_taken(chief):
    wait_until(lambda: _listens(chief))
    with pytest.raises(OSError, match="The chief cannot listen there"):
        serve(chief, timeout=1)


def _listens(chief):
    with socket.socket() as probe:
        host, port = distributed.address().split(":")
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize(
    "environment, is_distributed, expected",
    [
        ({}, False, None),
        ({"IP": "h", "PORT": "1", "ID": "chief"}, True, "chief"),
        ({"IP": "h", "PORT": "1", "ID": "my-chief-0"}, True, "chief"),
        ({"IP": "h", "PORT": "1", "ID": "w1"}, True, "worker"),
        ({"IP": "h", "PORT": "x", "ID": "w1"}, True, "PORT must be a number. Received: 'x'"),
        ({"PORT": "1"}, True, "Received: no KERASTUNER_ORACLE_IP, KERASTUNER_TUNER_ID"),
        ({"IP": ""}, False, "names the chief"),
        ({"IP": "h"}, False, "names the chief .* Received: KERASTUNER_ORACLE_IP=h"),
    ],
)
def test_who_is_who(environment, is_distributed, expected, monkeypatch):
    for short, name in (("IP", "ORACLE_IP"), ("PORT", "ORACLE_PORT"), ("ID", "TUNER_ID")):
        monkeypatch.delenv(f"KERASTUNER_{name}", raising=False)
        if short in environment:
            monkeypatch.setenv(f"KERASTUNER_{name}", environment[short])
    if expected in (None, "chief", "worker"):
        assert distributed.role(is_distributed) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            distributed.role(is_distributed)
