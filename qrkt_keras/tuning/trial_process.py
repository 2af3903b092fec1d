"""A trial's training, in a process of its own: whatever ends it ends no search.

This module is run as `python -m qrkt_keras.tuning.trial_process`: it reads a `TrialJob` from its
input, and ends when that is closed, so that no trial outlives the search that wants it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import keras
from keras_tuner.errors import FailedTrialError

import qrkt_keras
from qrkt_keras.serving import atomic_folder
from qrkt_keras.training import (
    GANRecipe,
    Recipe,
    cross_validate,
    fit,
    fit_gan,
    lock_folder,
)
from qrkt_keras.training.job import several_models, write_json
from qrkt_keras.tuning.budgets import REJECTED, BudgetError, TimeBudget
from qrkt_keras.tuning.results import MEASURES, classifier_scores, gan_scores
from qrkt_keras.zoo import feature_network_for, from_preset, save_to_preset
from qrkt_keras.zoo.runs import PRESET

# In a trial's folder: its training, what came of it, and what the process said.
RUN = "run"
RESULT = "result.json"
LOG = "log.txt"

# The status of a process that an interrupt ended, by the shells' convention.
_INTERRUPTED = 130
# The status where another process has the trial's folder: "try again later", by sysexits.h.
_LOCKED = 75
# A process that lost its search, or was told to stop, is gone after so many seconds.
_GRACE = 60.0
# What a trial may do beside training, if its time is limited.
_SLACK = 120.0
# How often a search looks after its trial.
_POLL = 0.2


class TrialLostError(Exception):
    """A trial is not this process' any more; it was stopped."""


@dataclasses.dataclass(frozen=True)
class TrialJob:
    """What a trial's process is told, as JSON data.

    Attributes:
        folder: The trial's.
        preset: Folder of the preset whose model it is, and
        arguments: of the model, in place of the preset's.
        recipe: How it is trained.
        data: Name or path of the data set, and
        data_options: how it is read.
        objective: Which epoch is the best.
        features: What a GAN's images are measured by, see `zoo.feature_network_for`.
        folds: Into how many folds the examples are dealt, if they are.
        until: After how many epochs it pauses, if it does.
        max_seconds: How long it may train, all folds together.
        continues: Folder of the trial whose training it continues, if it does.
        command: That of the search, to be recorded in the preset.
        progress: Whether to show how far it is.
    """

    folder: str
    preset: str
    arguments: Mapping[str, Any]
    recipe: Mapping[str, Any]
    data: str
    data_options: Mapping[str, Any]
    objective: str
    features: str | None = None
    folds: int | None = None
    until: int | None = None
    max_seconds: float | None = None
    continues: str | None = None
    command: str | None = None
    progress: bool = False


class TrialProcesses:
    """Runs trials one after the other, each in a process of its own, which is started ahead.

    To import TensorFlow takes seconds; the next process does it while a trial is trained.
    """

    def __init__(self) -> None:
        self._ahead: _Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None

    def run(self, job: TrialJob, still_ours: Callable[[], bool] = lambda: True) -> dict[str, Any]:
        """Runs a trial, and waits for it.

        Args:
            job: The trial. Where its folder has a result already, nothing is run.
            still_ours: Asked again and again; the trial is stopped when it says no.

        Returns:
            What is in `result.json`: `scores`, `epochs` and `seconds`, or `error`, in a line; and
            `ended`, in seconds since 1970.

        Raises:
            TrialLostError: If the trial was stopped since it is not ours any more.
            KeyboardInterrupt: On an interrupt; what was trained is in the checkpoint.
        """
        folder = Path(job.folder)
        if (folder / RESULT).exists():
            return read_result(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._ahead is not None and self._ahead.status() is not None:
            self._ahead.end()  # it died before it had a trial, which is not the trial's fault
            self._ahead = None
        process, self._ahead = self._ahead or _Process(), None
        try:
            process.tell(job)
            self._ahead = _Process()
            begun = time.monotonic()
            while (status := process.status()) is None:
                if not still_ours():
                    raise TrialLostError(f"The trial in {folder} was given to another worker")
                if job.max_seconds and time.monotonic() - begun > 2 * job.max_seconds + _SLACK:
                    break  # its own budget would have stopped it, if it did not hang
                time.sleep(_POLL)
        except KeyboardInterrupt:
            process.interrupt()
            raise
        finally:
            said = process.end()
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status == _LOCKED:
            raise TrialLostError(f"Another process is at work in {folder}; it is waited for")
        if not (folder / RESULT).exists():
            if (folder / LOG).exists():
                said += (folder / LOG).read_bytes()[-4000:].decode(errors="replace")
            late = f"the process was not done in {time.monotonic() - begun:.0f} s, and was ended"
            write_result(folder, {"error": late if status is None else _cause(status, said)})
        return read_result(folder)


class _Process:
    """A process that waits for a trial, and ends when its input is closed."""

    def __init__(self) -> None:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
        parent = str(Path(qrkt_keras.__file__).parents[1])
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([parent, *([before] if before else [])])
        # What it says before it knows its trial's folder.
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "qrkt_keras.tuning.trial_process"],
            stdin=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            # Of an interrupt we tell it ourselves, once.
            start_new_session=True,
        )

    def tell(self, job: TrialJob) -> None:
        with contextlib.suppress(BrokenPipeError):  # its status says why
            self._process.stdin.write(f"{json.dumps(dataclasses.asdict(job))}\n".encode())
            self._process.stdin.flush()

    def status(self) -> int | None:
        return self._process.poll()

    def interrupt(self) -> None:
        """Lets it write its checkpoint."""
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)

    def end(self) -> str:
        """Ends it if it is still there; what it said at its start."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with self._said:
            self._said.seek(0)
            return self._said.read().decode(errors="replace")


def read_result(folder: Path) -> dict[str, Any]:
    """What came of a trial; empty while nothing has."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes what came of a trial, with the time."""
    write_json(folder / RESULT, {**result, "ended": time.time()})


def reason(error: BaseException) -> str:
    """Why a trial failed, in a line."""
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, BudgetError):
        return f"{REJECTED}{told}"
    if isinstance(error, FailedTrialError):
        return told
    if isinstance(error, FloatingPointError):
        return f"diverged: {told}"
    # TensorFlow's is known by its name, for under another backend TensorFlow may not be there.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"out of memory: {told}"
    return f"{type(error).__name__}: {told}"


def train(job: TrialJob) -> dict[str, Any]:
    """Trains a trial in this process, or continues it, and writes its preset.

    Args:
        job: The trial.

    Returns:
        Its `scores`, `epochs` and `seconds`.

    Raises:
        ValueError: If its objective is not a number.
        TrainingInterrupted: On an interrupt.
    """
    folder = Path(job.folder) / RUN
    if job.continues is not None and not folder.exists():
        with atomic_folder(folder) as beside:
            source = Path(job.continues) / RUN
            shutil.copytree(
                source, beside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PRESET)
            )
    options = {
        "output_dir": folder,
        "data_options": dict(job.data_options),
        "progress": job.progress,
        "resume": True,
        "until": job.until,
    }
    if job.max_seconds is not None:
        options["callbacks"] = [TimeBudget(job.max_seconds, job.folds or 1)]
    if job.objective == "fid":
        recipe = GANRecipe.from_dict(dict(job.recipe))
        model, scores, result = _train_gan(job, recipe, options)
    else:
        recipe = Recipe.from_dict({**job.recipe, "monitor": job.objective})
        model, scores, result = _train_classifier(job, recipe, options)
    # Of validation examples of one class there is no AUC.
    scores = {name: float(score) for name, score in scores.items() if math.isfinite(score)}
    if job.objective not in scores:
        raise ValueError(f"{job.objective} is not a number")
    if model is not None:
        save_to_preset(
            model,
            folder / PRESET,
            recipe=recipe,
            data=job.data,
            data_options=dict(job.data_options),
            scores=result[0].to_scores(),
            command=job.command,
            seed=recipe.seed,
            overwrite=True,
        )
    return {
        "scores": scores,
        "epochs": max(one.epochs for one in result),
        "seconds": round(sum(one.seconds for one in result), 1),
    }


def _model(job: TrialJob, recipe: Recipe | GANRecipe) -> keras.Model:
    seed = {"seed": recipe.seed} if isinstance(recipe, GANRecipe) else {}
    return from_preset(job.preset, load_weights=False, **dict(job.arguments) | seed)


def _train_classifier(job: TrialJob, recipe: Recipe, options: Mapping[str, Any]) -> tuple:
    """The model, if there is one, its scores, and the results of its jobs."""
    if job.folds is not None:
        with several_models():
            found = cross_validate(
                lambda: _model(job, recipe), job.data, recipe, folds=job.folds, **options
            )
        scores = {name: found.mean(measure) for name, measure in MEASURES.items()}
        return None, scores, found.folds
    keras.utils.set_random_seed(recipe.seed)
    model = _model(job, recipe)
    result = fit(model, job.data, recipe, identity={"model": model.get_config()}, **options)
    return model, classifier_scores(result), [result]


def _train_gan(job: TrialJob, recipe: GANRecipe, options: Mapping[str, Any]) -> tuple:
    keras.utils.set_random_seed(recipe.seed)
    model = _model(job, recipe)
    network = feature_network_for(job.data, job.features)
    result = fit_gan(model, job.data, recipe, feature_network=network, **options)
    return model, gan_scores(result), [result]


def _cause(status: int, said: str) -> str:
    """What is known of a process that gave no reason itself, from its status and its last words."""
    if status == -signal.SIGKILL:
        return (
            "out of memory: the process was killed (SIGKILL), as the system does when memory "
            "runs out"
        )
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word")
    if "bad_alloc" in last or "out of memory" in last.lower():
        return f"out of memory: {last}"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"the process ended with {name}: {last}"


def _die_with_the_search() -> None:
    """Ends this process when its input is closed."""
    # Not by Python's own object, whose lock is wanted when the process ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Runs the trial that is told on the input."""
    # A search that was started in the background ignores it, and with it its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told = sys.stdin.buffer.readline()
    if not told:
        return  # started ahead, and not needed
    job = TrialJob(**json.loads(told))
    threading.Thread(target=_die_with_the_search, daemon=True).start()
    folder = Path(job.folder)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    if not job.progress:
        os.dup2(log, 1)
    try:
        lock = _locked(folder)
    except BlockingIOError:
        os._exit(_LOCKED)
    try:
        if not (folder / RESULT).exists():
            write_result(folder, train(job))
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    except Exception as error:
        traceback.print_exc()
        write_result(folder, {"error": reason(error)})
    finally:
        lock.close()


def _locked(folder: Path) -> Any:
    """The folder's lock, when the process that was killed before us is gone."""
    until = time.monotonic() + _GRACE
    while True:
        try:
            return lock_folder(folder)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL)


if __name__ == "__main__":
    main()
