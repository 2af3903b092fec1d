"""A job that is killed with SIGKILL and continued ends as one that was not, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qrkt_keras.training import read_checkpoint

SCRIPT = Path(__file__).with_name("killed_job.py")
PATIENCE = 240


def start(repository, *arguments):
    # `-u`: what it prints must be here when it is killed.
    command = [sys.executable, "-u", str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "finished 16" in output
    return output


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL


def wait_for(condition, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def epoch_of(folder):
    return read_checkpoint(folder / "checkpoint.npz").metadata["epoch"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(Path(__file__).parents[2], folder))
    return folder


def test_a_job_killed_at_any_point_ends_with_the_same_bits(tmp_path, repository, undisturbed):
    folder = tmp_path / "job"

    # Killed while it writes: the new file is complete, the old one still has the name.
    job = start(repository, folder, "--stop-in-write", 4)
    while job.stdout.readline() != "standing still\n":
        assert job.poll() is None
    assert sorted(file.name for file in folder.iterdir()) == [
        ".checkpoint.npz.part",
        "checkpoint.npz",
    ]
    kill(job)
    assert epoch_of(folder) == 2  # the first write came before the first epoch

    # Killed at a random point of training, validation or writing.
    job = start(repository, folder, "--resume")
    wait_for(lambda: epoch_of(folder) > 2, job)
    # Not seeded by the fixture: another point in every run of the tests.
    time.sleep(random.SystemRandom().uniform(0, 1))
    kill(job)
    assert 2 < epoch_of(folder) < 16

    output = finish(start(repository, folder, "--resume"))
    assert "epoch  1/16" not in output

    ours, wanted = (read_checkpoint(f / "checkpoint.npz") for f in (folder, undisturbed))
    assert ours.arrays.keys() == wanted.arrays.keys()
    for name, array in wanted.arrays.items():
        assert ours.arrays[name].tobytes() == array.tobytes(), name
    for fact in ("epoch", "history", "best_epoch", "identity", "environment"):
        assert ours.metadata[fact] == wanted.metadata[fact]
    for report in ("scores.json", "history.png", "confusion.png", "roc.png"):
        assert (folder / report).read_bytes() == (undisturbed / report).read_bytes()
    history = json.loads((folder / "history.json").read_text())
    assert len(history["history"]["val_auc"]) == 16

    # What was compared is worth comparing: trained, with moments and generators that moved on.
    names = " ".join(wanted.arrays)
    for part in ("seed_generator_state", "velocity", "moving_mean", "best/", "random/numpy"):
        assert part in names
    dropouts = [
        state
        for name, state in wanted.arrays.items()
        if name.startswith("model/") and name.endswith("seed_generator_state")
    ]
    assert [state[1] for state in dropouts] == [16 * (1293 // 32)] * 2


@pytest.mark.slow
def test_an_interrupt_says_how_to_continue(tmp_path, repository, undisturbed):
    folder = tmp_path / "job"
    job = start(repository, folder)
    wait_for(lambda: (folder / "checkpoint.npz").exists() and epoch_of(folder) > 0, job)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode != 0
    assert f"epochs. The job is safe in {folder}/checkpoint.npz" in errors
    assert "resume=True" in errors and "--resume" in errors
    done = epoch_of(folder)
    assert 0 < done < 16
    assert f"Interrupted after {done} of 16 epochs" in errors
