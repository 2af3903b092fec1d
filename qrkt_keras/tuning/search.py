"""A search: trials of a hypermodel, each a training job that can be continued, until the best."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import gc
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError
from rich.console import Console

from qrkt_keras.serving import atomic_folder
from qrkt_keras.training import atomic_write, lock_folder
from qrkt_keras.training.job import write_json
from qrkt_keras.tuning import distributed, trial_process
from qrkt_keras.tuning.hypermodel import Configuration, ZooHyperModel
from qrkt_keras.tuning.oracles import TUNERS, is_rejected, make_oracle
from qrkt_keras.tuning.report import REPORTS, write_report
from qrkt_keras.tuning.results import BEST, OBJECTIVES, SEARCH, TRIALS, SearchResult, TrialRow
from qrkt_keras.tuning.trial_process import (
    PRESET,
    RUN,
    TrialJob,
    TrialLostError,
    TrialProcesses,
)

MAX_TRIALS = 20

# KerasTuner's own files, in a folder of their own.
_STATE = "state"
# Written by a chief when the search is over, for workers that come late, until it goes on.
_OVER = "over.json"
# All that a search writes, beside its trials' folders.
_OWN = (SEARCH, TRIALS, _STATE, BEST, _OVER, *REPORTS)
# What is known of a trial before it is trained, in its folder.
_FACTS = "trial.json"
# A trial's training on the usual split, where it was judged by folds.
_REFIT = "refit"
# KerasTuner's own values, of Hyperband: how long a trial is, and which one it continues.
_EPOCHS, _CONTINUED = "tuner/epochs", "tuner/trial_id"


class SearchError(ValueError):
    """A folder holds another search, or something else."""


def search(
    hypermodel: ZooHyperModel,
    *,
    output_dir: str | os.PathLike[str],
    tuner: str = "bayesian",
    max_trials: int | None = None,
    objective: str | None = None,
    folds: int | None = None,
    seed: int = 0,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    command: str | None = None,
    is_distributed: bool = False,
    worker_timeout: float = 120.0,
    timeout: float = 1800.0,
) -> SearchResult:
    """Searches a hypermodel's space for what scores best.

    Each trial is a job of `fit`, `cross_validate` or `fit_gan` in a process and a folder of its
    own, whose best epoch is chosen by the objective; a classifier's test split is scored and
    decides nothing. What a budget refuses is not trained, and does not count among `max_trials`,
    but after 20 of them for each of these the search ends. A trial that diverges, runs out of
    memory, raises, or whose process is killed is recorded with its reason, and the search goes on.

    A search that was killed or interrupted is continued by the same call with `resume=True`:
    finished trials stay, the one that was running goes on where it was. `max_trials` may be more
    then, and with `retry_failed=True` those go on too that failed for a reason that is gone.

    At the end, and after an interrupt, `output_dir` has the best trial's model as the preset
    `best`, `trials.json`, the report `report.html` with its pictures, and `tensorboard/` with the
    trials for TensorBoard's HParams.

    Of many machines one is the chief and the others are its workers, see `tuning.distributed`; all
    call this with `is_distributed=True` and an `output_dir` that they share.

    Args:
        hypermodel: Of a family of models.
        output_dir: A folder for this search alone; it is made if need be.
        tuner: `"random"`, `"grid"`, `"bayesian"`, or `"hyperband"`, which trains many for a few
            epochs of the recipe, and the better third of them for three times as many, again and
            again.
        max_trials: How many trials are trained at most; by default 20, of a grid and of Hyperband
            all that there are.
        objective: One of `OBJECTIVES`; by default `"val_auc"`, of GANs `"fid"`.
        folds: Into how many folds each trial's examples are dealt; its score is their mean then.
        seed: Of what is drawn. Weights and batches have the recipe's.
        resume: Whether to continue the search in `output_dir`, if there is one.
        retry_failed: Whether trials of the search that is continued are run again if they failed.
            What a budget refused is not; nor may it be Hyperband's, which replaces what fails.
        overwrite: Whether to replace the search in `output_dir`, if there is one.
        progress: Whether to show how far it is.
        command: What is recorded, with the search and in the best preset, as the command that
            made it.
        is_distributed: Whether this is the chief or a worker.
        worker_timeout: Seconds of silence after which the chief gives a worker's trial to another.
        timeout: Seconds that a chief waits for any worker, and a worker for its chief.

    Returns:
        All trials, and the best. Of a worker, as they stand when it is told that nothing is left.

    Raises:
        ValueError: If an argument is unknown or does not fit the others.
        SearchError: If `output_dir` holds another search, or something else, or another process is
            at work in it.
        KeyboardInterrupt: On an interrupt (ctrl-C); what was finished is in the report.
        ChiefLostError: If a worker's chief does not answer any more.
        WorkersLostError: If a chief has no workers any more, and trials are left.

    Example:

    >>> import tempfile
    >>> from qrkt_keras.tuning import Space, ZooHyperModel
    >>> space = Space(()).overridden(["hidden_dim=4,8", "num_heads=1", "solver=rk1"])
    >>> recipe = ZooHyperModel("qvit_rk4_digits").recipe.with_given(epochs=1)
    >>> hypermodel = ZooHyperModel("qvit_rk4_digits", space, recipe=recipe)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = search(
    ...         hypermodel, output_dir=folder, tuner="grid", max_trials=1, progress=False)
    >>> result.best.values["hidden_dim"] in (4, 8)
    True
    """
    folder = Path(output_dir)
    objective = objective or ("fid" if hypermodel.is_gan else "val_auc")
    if max_trials is None and tuner in ("random", "bayesian"):
        max_trials = MAX_TRIALS
    _check(hypermodel, tuner, max_trials, objective, folds, seed)
    if resume and overwrite:
        raise ValueError(
            "A search is either continued or replaced. Received: resume=True, overwrite=True"
        )
    if retry_failed and (not resume or tuner == "hyperband"):
        raise ValueError(
            "Trials that failed are run again where a search is continued (resume=True, --resume), "
            "but not Hyperband's, which has replaced them by others. "
            f"Received: retry_failed=True, resume={resume}, tuner={tuner!r}"
        )
    role = distributed.role(is_distributed)
    told = _told(hypermodel, tuner, objective, folds, seed)
    _share_gpus()
    hypermodel.examples.arrays("train")  # a data set that is not there stops us here
    if role == distributed.WORKER:
        distributed.wait_for(folder / SEARCH, timeout)
        _check_kept(folder, told)
        lock: contextlib.AbstractContextManager = contextlib.nullcontext()
    else:
        _check_folder(folder, told, resume=resume, overwrite=overwrite)
        lock = _locked(folder)
    with lock, TrialProcesses() as processes:
        # Again, for another process may have begun a search there since.
        if role != distributed.WORKER and _check_folder(
            folder, told, resume=resume, overwrite=overwrite
        ):
            _remove(folder)
            with atomic_write(folder / SEARCH) as file:
                kept = {**told, "command": command, "id": uuid.uuid4().hex}
                file.write(f"{json.dumps(kept, indent=2)}\n".encode())
        oracle = make_oracle(
            tuner,
            objective=objective,
            hyperparameters=hypermodel.hyperparameters(),
            max_trials=max_trials,
            seed=seed,
            epochs=hypermodel.recipe.epochs,
            is_shared=role is not None,
        )
        options = _Options(
            folder=folder,
            objective=objective,
            folds=folds,
            command=command,
            progress=progress,
            role=role,
            worker_timeout=worker_timeout,
            timeout=timeout,
            retry_failed=retry_failed,
            search_id=_read_kept(folder).get("id", ""),
        )
        searcher = _Searcher(oracle, hypermodel, options, processes)
        if role == distributed.WORKER:
            searcher.search()
            return read_search(folder)
        try:
            searcher.search()
        except BaseException:
            # What was finished is worth a report; but it must not keep the user waiting.
            searcher.report(may_train=False)
            raise
        return searcher.report()


def read_search(output_dir: str | os.PathLike[str]) -> SearchResult:
    """The trials of a search, as they stand in its folder.

    Args:
        output_dir: The folder.

    Raises:
        SearchError: If it holds no search.
    """
    folder = Path(output_dir)
    if not (folder / SEARCH).is_file():
        raise SearchError(f"The folder holds no search. Received: output_dir={folder}")
    objective = _read_kept(folder)["objective"]
    rows = []
    if (folder / TRIALS).exists():
        rows = json.loads((folder / TRIALS).read_text(encoding="utf-8"))
    return SearchResult(objective, tuple(TrialRow(**row) for row in rows), folder)


@dataclasses.dataclass(frozen=True)
class _Options:
    """How a search is made, as `search` is told."""

    folder: Path
    objective: str
    folds: int | None
    command: str | None
    progress: bool
    role: str | None
    worker_timeout: float
    timeout: float
    retry_failed: bool
    search_id: str


class _Searcher(BaseTuner):
    """KerasTuner's loop over trials; each is a job in `trial_NUMBER/run`."""

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: ZooHyperModel,
        options: _Options,
        processes: TrialProcesses,
    ) -> None:
        self._hypermodel, self._options, self._processes = hypermodel, options, processes
        self._console = Console(highlight=False, markup=False, quiet=not options.progress)
        # Without a hypermodel of its own it does not build models to learn the space.
        with contextlib.redirect_stdout(io.StringIO()):  # where it says that it goes on
            super().__init__(oracle, directory=str(options.folder), project_name=_STATE)
        if options.role == distributed.WORKER:
            self.oracle = distributed.Client(
                oracle,
                timeout=options.timeout,
                is_over=lambda: _is_over(options, oracle),
                search_id=options.search_id,
            )

    # KerasTuner's own state is the oracle's alone, and is the chief's.

    def _get_tuner_fname(self) -> str:
        return str(self._options.folder / _STATE / "oracle.json")

    def save(self) -> None:
        if self._options.role != distributed.WORKER:
            self.oracle.save()

    def reload(self) -> None:
        if self._options.role == distributed.WORKER:
            return
        self.oracle.reload()
        if self._options.retry_failed:
            failed = self.oracle.failed()
            for key in failed:
                (_folder(self._options.folder, key) / trial_process.RESULT).unlink(missing_ok=True)
            self.oracle.retry(failed)

    def search(self) -> None:
        """Runs trials, or as the chief gives them out, until none is left."""
        if self._options.role != distributed.CHIEF:
            super().search()
            return
        self.save()
        address = distributed.address()
        self._console.print(f"chief at {address}: waiting for workers")
        (self._options.folder / _OVER).unlink(missing_ok=True)
        distributed.serve(
            self.oracle,
            address,
            on_trial_end=self._said,
            worker_timeout=self._options.worker_timeout,
            timeout=self._options.timeout,
            search_id=self._options.search_id,
        )
        over = {"max_trials": self.oracle.max_trials, "retried": self._options.retry_failed}
        write_json(self._options.folder / _OVER, over)

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains a trial, and returns its scores by the names of objectives."""
        number, folder = _number(trial.trial_id), _folder(self._options.folder, trial.trial_id)
        configuration = self._hypermodel.configuration(trial.hyperparameters)
        told = ", ".join(f"{name}={_short(v)}" for name, v in configuration.values.items())
        self._console.print(f"trial {number}: {told}", soft_wrap=True)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"values": dict(configuration.values)}
        if self._options.role is not None:
            facts["worker"] = self.tuner_id
        write_json(folder / _FACTS, facts)
        model = self._hypermodel.build(trial.hyperparameters)
        facts |= {"parameters": model.count_params(), "qubits": model.num_qubits}
        facts["recipe"] = configuration.recipe.to_dict()
        write_json(folder / _FACTS, facts)
        del model
        gc.collect()  # a model holds itself in cycles, and the process needs the memory
        job = self._job(trial, folder, configuration)
        with self._heard(trial) as still_ours:
            result = self._processes.run(job, still_ours)
        if "error" in result:
            raise FailedTrialError(result["error"])
        return result["scores"]

    def _job(self, trial: Trial, folder: Path, configuration: Configuration) -> TrialJob:
        hypermodel, values = self._hypermodel, trial.hyperparameters.values
        until, before = values.get(_EPOCHS), values.get(_CONTINUED)
        command = self._options.command
        return TrialJob(
            folder=str(folder),
            preset=str(hypermodel.source.folder),
            arguments=json.loads(json.dumps(hypermodel.model_arguments(configuration))),
            recipe=configuration.recipe.to_dict(),
            data=hypermodel.examples.data,
            data_options=dict(hypermodel.examples.options),
            objective=self._options.objective,
            features=hypermodel.features,
            folds=self._options.folds,
            until=None if until is None else int(until),
            max_seconds=hypermodel.max_seconds,
            continues=None if before is None else str(_folder(self._options.folder, before)),
            command=command and f"{command}  # trial {_number(trial.trial_id)}",
            progress=self._options.progress,
        )

    @contextlib.contextmanager
    def _heard(self, trial: Trial) -> Iterator[Any]:
        """Lets a worker's chief hear of it; gives what tells whether the trial is still ours."""
        if self._options.role is None:
            yield lambda: True
            return
        with self.oracle.heard(trial.trial_id, every=self._options.worker_timeout / 6) as ours:
            yield ours

    def _try_run_and_update_trial(self, trial, *arguments, **options):
        """As KerasTuner's, with one line for a reason instead of a traceback."""
        folder = _folder(self._options.folder, trial.trial_id)
        try:
            self._run_and_update_trial(trial, *arguments, **options)
            trial.status = "COMPLETED"
        except OSError:
            # A full disk or a lost chief is not the trial's fault; it goes on where it was.
            raise
        except TrialLostError as error:
            trial.status = "STOPPED"
            self._console.print(f"  {error}", style="yellow", soft_wrap=True)
        except Exception as error:
            trial.status, trial.message = "FAILED", trial_process.reason(error)
            if not trial_process.read_result(folder):
                folder.mkdir(parents=True, exist_ok=True)
                trial_process.write_result(folder, {"error": trial.message})
            self._console.print(f"  {trial.message}", style="yellow", soft_wrap=True)

    def on_trial_end(self, trial: Trial) -> None:
        if trial.status == "STOPPED":
            return  # it is another worker's
        with contextlib.suppress(TrialLostError):
            super().on_trial_end(trial)
        if self._options.role is None:
            self._said(trial)

    def _said(self, trial: Trial) -> None:
        """Keeps what is known of all trials, and says which is the best."""
        result = self.result()
        write_json(self._options.folder / TRIALS, [row.to_dict() for row in result.trials])
        if self._options.role == distributed.CHIEF:
            row = next(row for row in result.trials if row.number == _number(trial.trial_id))
            told = row.reason or f"{self._options.objective} {row.score:.4f}"
            self._console.print(f"trial {row.number}, {row.worker}: {told}", soft_wrap=True)
        if result.best is not None:
            best = f"{result.best.score:.4f}, trial {result.best.number}"
            self._console.print(f"  best {self._options.objective} so far {best}")

    def result(self) -> SearchResult:
        """All trials, as they stand."""
        keys = sorted(self.oracle.trials, key=_number)
        rows = tuple(self._row(self.oracle.trials[key]) for key in keys)
        return SearchResult(self._options.objective, rows, self._options.folder)

    def report(self, *, may_train: bool = True) -> SearchResult:
        """Writes the best preset and the report."""
        result = self.result()
        write_json(self._options.folder / TRIALS, [row.to_dict() for row in result.trials])
        has_best = self._write_best(result)
        write_report(result)
        has_folds = self._options.folds is not None
        if may_train and has_folds and result.best is not None and not has_best:
            self._train_best(result.best)
            if self._write_best(result):
                write_report(result)
        return result

    def _write_best(self, result: SearchResult) -> bool:
        """Copies the best trial's model as a preset, if there is one; another's is removed."""
        source = None
        if result.best is not None:
            part = RUN if self._options.folds is None else f"{_REFIT}/{RUN}"
            source = self._options.folder / result.best.folder / part / PRESET
        if source is None or not source.is_dir():
            shutil.rmtree(self._options.folder / BEST, ignore_errors=True)
            return False
        with atomic_folder(self._options.folder / BEST, replace=True) as beside:
            shutil.copytree(source, beside, dirs_exist_ok=True)
        return True

    def _train_best(self, best: TrialRow) -> None:
        """Trains the best trial on the usual split, where it was judged by folds."""
        self._console.print(f"trial {best.number} once more, on the usual split")
        folder = self._options.folder / best.folder / _REFIT
        if "error" in trial_process.read_result(folder):
            (folder / trial_process.RESULT).unlink()  # it is worth another attempt
        key = next(key for key in self.oracle.trials if _number(key) == best.number)
        trial = self.oracle.trials[key]
        configuration = self._hypermodel.configuration(trial.hyperparameters)
        job = self._job(trial, folder, configuration)
        outcome = self._processes.run(
            dataclasses.replace(job, folds=None, until=None, continues=None)
        )
        if "error" in outcome:
            self._console.print(f"  no preset was made: {outcome['error']}", style="yellow")

    def _row(self, trial: Trial) -> TrialRow:
        folder = _folder(self._options.folder, trial.trial_id)
        path = folder / _FACTS
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        outcome = trial_process.read_result(folder)
        status = {"COMPLETED": "completed", "RUNNING": "running"}.get(trial.status, "failed")
        return TrialRow(
            number=_number(trial.trial_id),
            status="rejected" if is_rejected(trial) else status,
            reason=trial.message or "" if status == "failed" else "",
            values=self._hypermodel.space.values(trial.hyperparameters),
            score=float(trial.score) if status == "completed" else None,
            scores=outcome.get("scores", {}),
            parameters=facts.get("parameters"),
            qubits=facts.get("qubits"),
            epochs=outcome.get("epochs"),
            seconds=outcome.get("seconds"),
            ended=None if status == "running" else outcome.get("ended"),
            worker=facts.get("worker", ""),
            folder=folder.relative_to(self._options.folder).as_posix(),
        )


def _is_over(options: _Options, oracle: keras_tuner.Oracle) -> bool:
    """Whether a chief has ended a search of as many trials, and run again what it was to."""
    try:
        told = json.loads((options.folder / _OVER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    # One that runs trials again has not begun yet when its worker comes first.
    is_done = told.get("retried") or not options.retry_failed
    return is_done and told["max_trials"] == oracle.max_trials


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(key: str) -> int:
    """A trial's number; KerasTuner counts from 0."""
    return int(key) + 1


def _folder(folder: Path, key: str) -> Path:
    """A trial's folder in its search's."""
    return folder / f"trial_{_number(key):03d}"


def _check(
    hypermodel: ZooHyperModel,
    tuner: str,
    max_trials: int | None,
    objective: str,
    folds: int | None,
    seed: int,
) -> None:
    for name, value, known in (
        ("tuner", tuner, TUNERS),
        ("objective", objective, OBJECTIVES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}. Received: {value!r}")
    for name, value, least in (("max_trials", max_trials, 1), ("seed", seed, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be an integer of at least {least}. Received: {value!r}")
    if folds is not None and (type(folds) is not int or folds < 2):
        raise ValueError(f"folds must be an integer of at least 2. Received: folds={folds!r}")
    source = hypermodel.source
    if (objective == "fid") != hypermodel.is_gan:
        raise ValueError(
            "GANs are judged by fid, and classifiers by the others. "
            f"Received: objective={objective!r} with {source.name!r} of class {source.class_name}"
        )
    if hypermodel.is_gan:
        if folds is not None:
            raise ValueError(
                "A GAN's images are compared with all images of the data set: folds are for "
                f"classifiers. Received: folds={folds} with {source.name!r}"
            )


def _told(
    hypermodel: ZooHyperModel, tuner: str, objective: str, folds: int | None, seed: int
) -> dict[str, Any]:
    """What makes a search this one, as JSON data."""
    examples = hypermodel.examples
    told = {
        "preset": hypermodel.source.name,
        "config": dict(hypermodel.source.config),
        "arguments": hypermodel.arguments,
        "recipe": hypermodel.recipe.to_dict(),
        "data": examples.data,
        "data_options": dict(examples.options),
        "features": hypermodel.features,
        "space": json.loads(hypermodel.space.to_json()),
        "max_params": hypermodel.max_params,
        "max_qubits": hypermodel.max_qubits,
        "processor": None if hypermodel.processor is None else hypermodel.processor.name,
        "max_seconds": hypermodel.max_seconds,
        "tuner": tuner,
        "objective": objective,
        "folds": folds,
        "seed": seed,
    }
    return json.loads(json.dumps(told))


def _share_gpus() -> None:
    """Keeps this process, which builds models to count what they have, from taking all memory."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    # They are in use already, or their memory is limited otherwise.
    with contextlib.suppress(RuntimeError, ValueError):
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _check_folder(folder: Path, told: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
    """Whether the search in a folder is a new one."""
    if not (folder / SEARCH).exists():
        foreign = []
        if folder.exists():
            foreign = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
        own = [*_OWN, "trial_*"] if overwrite else []  # of one whose removal was killed
        foreign = [n for n in foreign if not any(fnmatch.fnmatch(n, pattern) for pattern in own)]
        if foreign:
            raise SearchError(
                "output_dir must be empty or hold a search. "
                f"Received: output_dir={folder} with {', '.join(sorted(foreign)[:5])}"
            )
        return True
    if overwrite:
        return True
    if not resume:
        raise SearchError(
            "output_dir holds a search already: continue it with resume=True, replace it with "
            f"overwrite=True, or choose another folder. Received: output_dir={folder}"
        )
    _check_kept(folder, told)
    return False


def _check_kept(folder: Path, told: Mapping[str, Any]) -> None:
    """Refuses a folder with another search."""
    kept = _read_kept(folder)
    other = sorted(name for name in told if kept.get(name) != told[name])
    if other:
        begun = f" It was begun by `{kept['command']}`." if kept.get("command") else ""
        raise SearchError(
            "output_dir holds another search: use the options that it was begun with, or another "
            f"folder.{begun} Received: other {', '.join(other)} in {folder / SEARCH}"
        )


def _read_kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / SEARCH).read_text(encoding="utf-8"))


def _locked(folder: Path) -> contextlib.AbstractContextManager:
    """The folder, for this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return lock_folder(folder)
    except BlockingIOError as error:
        raise SearchError(
            "Another process is at work in the folder: wait for it, or choose another folder. "
            f"Received: output_dir={folder}"
        ) from error


def _remove(folder: Path) -> None:
    """Removes a search that is to be replaced, its own files only."""
    for name in (*_OWN, "trial_*"):
        for path in folder.glob(name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
