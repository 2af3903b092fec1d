"""Searches and trials that are killed while they train, as a system or a user does it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.workers import epochs_done, gone, trains, wait_until

from qrkt_keras import zoo
from qrkt_keras.tuning import read_search

JOB = Path(__file__).with_name("search_job.py")
ROOT = Path(__file__).parents[2]
# Long enough to be caught in the middle; what is left of it is trained to the end.
EPOCHS = 40
# Seconds for what a quiet machine does in 20 to 40.
PATIENCE = 240


@pytest.fixture
def start():
    """Starts a search; whatever is left of it ends with the test."""
    started = []

    def begin(folder, trials, epochs=EPOCHS):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, str(JOB), str(folder), str(trials), str(epochs)]
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def trainer(search, folder, number):
    """The process that trains a trial: the one that has its log open."""
    log = str(folder / f"trial_{number:03d}" / "log.txt")
    for child in psutil.Process(search.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # another one may end meanwhile
            if any(file.path == log for file in child.open_files()):
                return child
    raise AssertionError(f"nobody trains trial {number}")


def test_a_trial_that_the_system_kills_ends_no_search(start, tmp_path):
    search = start(tmp_path, 2)
    wait_until(lambda: trains(tmp_path / "trial_001"), PATIENCE)
    trainer(search, tmp_path, 1).kill()
    _, said = search.communicate(timeout=PATIENCE)
    assert search.returncode == 0, said
    first, second = read_search(tmp_path).trials
    assert (first.status, second.status) == ("failed", "completed")
    assert first.reason.startswith("out of memory: the process was killed (SIGKILL)")
    assert zoo.from_preset(tmp_path / "best").count_params() == second.parameters


def test_a_killed_search_goes_on(start, tmp_path):
    search = start(tmp_path, 2)
    wait_until(lambda: trains(tmp_path / "trial_002"), PATIENCE)
    child = trainer(search, tmp_path, 2)
    before = (tmp_path / "trial_001" / "result.json").read_bytes()
    search.kill()
    search.wait()
    # No trial outlives its search: two would write into one folder.
    wait_until(lambda: gone(child))
    done = epochs_done(tmp_path / "trial_002")
    assert 1 <= done < EPOCHS and not (tmp_path / "trial_002" / "result.json").exists()

    again = start(tmp_path, 3)
    _, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    trials = read_search(tmp_path).trials
    assert [trial.status for trial in trials] == ["completed"] * 3
    assert (tmp_path / "trial_001" / "result.json").read_bytes() == before
    history = json.loads((tmp_path / "trial_002" / "run" / "history.json").read_text())
    assert history["epochs"] == EPOCHS == trials[1].epochs
    # It went on from its checkpoint, and so is what it would have been.
    whole = start(tmp_path / "whole", 3)
    _, said = whole.communicate(timeout=PATIENCE)
    assert whole.returncode == 0, said
    for here, there in zip(trials, read_search(tmp_path / "whole").trials, strict=True):
        assert (here.values, here.scores) == (there.values, there.scores)


def test_an_interrupt_leaves_a_report(start, tmp_path):
    search = start(tmp_path, 3)
    wait_until(lambda: trains(tmp_path / "trial_002"), PATIENCE)
    # Of ctrl-C a terminal tells all processes of the group; trials are not in it.
    assert os.getpgid(trainer(search, tmp_path, 2).pid) != os.getpgid(search.pid)
    search.send_signal(signal.SIGINT)
    _, said = search.communicate(timeout=PATIENCE)
    assert search.returncode != 0 and "KeyboardInterrupt" in said
    result = read_search(tmp_path)
    assert [trial.status for trial in result.trials] == ["completed", "running"]
    assert "running" in (tmp_path / "report.html").read_text()
    assert zoo.from_preset(tmp_path / "best").count_params() == result.best.parameters
    assert 1 <= epochs_done(tmp_path / "trial_002") < EPOCHS
