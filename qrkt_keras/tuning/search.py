"""A search: trials of a hypermodel, each a training job that can be continued, until the best."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.errors import FailedTrialError
from rich.console import Console

from qrkt_keras.training import Recipe, atomic_write, cross_validate, fit
from qrkt_keras.training.job import several_models, write_json
from qrkt_keras.tuning.hypermodel import BudgetError, Configuration, ZooHyperModel

TUNERS = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
}
# What a trial is judged by, and whether more of it is better; the scores' name for it.
OBJECTIVES = {
    "val_auc": ("max", "macro_auc"),
    "val_accuracy": ("max", "accuracy"),
    "val_loss": ("min", "loss"),
}
SEARCH = "search.json"
TRIALS = "trials.json"
RUN = "run"

# KerasTuner's own files, in a folder of their own.
_STATE = "state"
# A failing trial ends no search, however many follow each other.
_NEVER = 10**9
# So many rejected trials for each that is asked for: a budget may leave nothing of a space.
_MOST_REJECTED = 20
# How the reason of a trial begins that a budget refuses.
_REJECTED = "over budget: "


class SearchError(ValueError):
    """A folder holds another search, or something else."""


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """What became of a trial.

    Attributes:
        number: Counted from 1, in the order in which they began.
        status: `"completed"`, `"rejected"` by a budget, `"failed"` or `"running"`.
        reason: Why it was rejected or failed; "" otherwise.
        values: What was drawn, by dimension.
        score: Its objective; of folds the mean. None if it has none.
        parameters: Of the model; None if none was made.
        qubits: Of all its circuits together.
        seconds: Used for its training.
        folder: Of its training.
    """

    number: int
    status: str
    reason: str
    values: Mapping[str, Any]
    score: float | None
    parameters: int | None
    qubits: int | None
    seconds: float | None
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search leaves behind.

    Attributes:
        objective: What trials are judged by.
        trials: All of them, in the order in which they began.
        output_dir: Where `search.json`, `trials.json` and a folder for each trial are.
    """

    objective: str
    trials: tuple[TrialRow, ...]
    output_dir: Path

    @property
    def best(self) -> TrialRow | None:
        """The best trial that was completed, the first of equals; None if none was."""
        completed = [trial for trial in self.trials if trial.status == "completed"]
        sign = 1 if OBJECTIVES[self.objective][0] == "min" else -1
        return min(completed, key=lambda trial: sign * trial.score, default=None)


@several_models()
def search(
    hypermodel: ZooHyperModel,
    *,
    output_dir: str | os.PathLike[str],
    tuner: str = "bayesian",
    max_trials: int = 20,
    objective: str = "val_auc",
    folds: int | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> SearchResult:
    """Searches a hypermodel's space for what scores best.

    Each trial is a job of `fit`, or of `cross_validate`, in a folder of its own, whose best epoch
    is chosen by the objective; the test split is scored and decides nothing. What a budget refuses
    is not trained, and does not count among `max_trials`, but after 20 of them for each of these
    the search ends. A trial that diverges, runs out of memory or raises is recorded with its
    reason, and the search goes on.

    A search that was killed or interrupted is continued by the same call with `resume=True`:
    finished trials stay, the one that was running goes on where it was. `max_trials` may be more
    then.

    Args:
        hypermodel: Of a family of classifiers.
        output_dir: A folder for this search alone; it is made if need be.
        tuner: `"random"`, `"grid"` or `"bayesian"`.
        max_trials: How many trials are trained at most.
        objective: One of `OBJECTIVES`.
        folds: Into how many folds each trial's examples are dealt; its score is their mean then.
        seed: Of what is drawn. Weights and batches have the recipe's.
        resume: Whether to continue the search in `output_dir`, if there is one.
        progress: Whether to show how far it is.

    Returns:
        All trials, and the best.

    Raises:
        ValueError: If an argument is unknown or does not fit the others.
        SearchError: If `output_dir` holds another search, or something else.
        KeyboardInterrupt: On an interrupt (ctrl-C); what was finished is in `trials.json`.

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
    _check(hypermodel, tuner, max_trials, objective, folds, seed)
    told = _told(hypermodel, tuner, objective, folds, seed)
    is_new = _check_folder(folder, told, resume=resume)
    hypermodel.examples.arrays("train")  # a data set that is not there stops us here
    if is_new:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / SEARCH) as file:
            file.write(f"{json.dumps(told, indent=2)}\n".encode())
    oracle = _make_oracle(tuner)(
        objective=keras_tuner.Objective(objective, OBJECTIVES[objective][0]),
        max_trials=max_trials,
        hyperparameters=hypermodel.hyperparameters(),
        allow_new_entries=False,
        tune_new_entries=False,
        seed=seed + 1,  # KerasTuner takes 0 for none
        max_consecutive_failed_trials=_NEVER,
    )
    oracle.verbose = 0
    searcher = _Searcher(oracle, hypermodel, folder, objective, folds, progress)
    try:
        searcher.search()
    finally:
        result = SearchResult(objective, searcher.rows(), folder)
        write_json(folder / TRIALS, [row.to_dict() for row in result.trials])
    return result


def _make_oracle(tuner: str) -> type[keras_tuner.Oracle]:
    """The tuner's oracle, for which rejected trials do not count."""

    class Oracle(TUNERS[tuner]):
        def create_trial(self, tuner_id):
            allowed = self.max_trials
            rejected = sum(map(_is_rejected, self.trials.values()))
            self.max_trials = allowed + min(rejected, _MOST_REJECTED * allowed)
            try:
                return super().create_trial(tuner_id)
            finally:
                self.max_trials = allowed

    return Oracle


class _Searcher(BaseTuner):
    """KerasTuner's loop over trials; each is a job in `trial_NUMBER/run`."""

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: ZooHyperModel,
        folder: Path,
        objective: str,
        folds: int | None,
        progress: bool,
    ) -> None:
        self._folder, self._objective, self._folds = folder, objective, folds
        self._console = Console(highlight=False, markup=False, quiet=not progress)
        self._progress = progress
        self._hypermodel = hypermodel
        # Without a hypermodel of its own it does not build models to learn the space.
        with contextlib.redirect_stdout(io.StringIO()):  # where it says that it goes on
            super().__init__(oracle, directory=str(folder), project_name=_STATE)

    def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> dict[str, float]:
        """Trains a trial, and returns its scores by the names of objectives."""
        configuration = self._hypermodel.configuration(trial.hyperparameters)
        number, folder = _number(trial), self._job(trial)
        told = ", ".join(f"{name}={value}" for name, value in configuration.values.items())
        self._console.print(f"trial {number}: {told}", soft_wrap=True)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"values": dict(configuration.values)}
        keras.utils.set_random_seed(configuration.recipe.seed)
        model = self._hypermodel.build(trial.hyperparameters)
        facts |= {"parameters": model.count_params(), "qubits": model.num_qubits}
        write_json(folder / "trial.json", facts)
        scores, seconds = self._train(trial, model, configuration, folder / RUN)
        # Of validation examples of one class there is no AUC.
        scores = {name: score for name, score in scores.items() if score == score}
        if self._objective not in scores:
            raise ValueError(f"{self._objective} is not a number")
        write_json(folder / "trial.json", facts | {"scores": scores, "seconds": seconds})
        return scores

    def _train(
        self,
        trial: keras_tuner.engine.trial.Trial,
        model: keras.Model,
        configuration: Configuration,
        folder: Path,
    ) -> tuple[dict[str, float], float]:
        recipe = dataclasses.replace(configuration.recipe, monitor=self._objective)
        examples = self._hypermodel.examples
        options = {"data_options": examples.options, "progress": self._progress, "resume": True}
        if self._folds is None:
            options |= {"identity": {"model": model.get_config()}}
            result = fit(model, examples.data, recipe, output_dir=folder, **options)
            scores = result.scores["validation"]
            found = {name: getattr(scores, of) for name, (_, of) in OBJECTIVES.items()}
            return found, result.seconds
        result = cross_validate(
            lambda: self._hypermodel.build(trial.hyperparameters),
            examples.data,
            recipe,
            folds=self._folds,
            output_dir=folder,
            **options,
        )
        found = {name: result.mean(of) for name, (_, of) in OBJECTIVES.items()}
        return found, sum(fold.seconds for fold in result.folds)

    def _try_run_and_update_trial(self, trial, *arguments, **options):
        """As KerasTuner's, with one line for a reason instead of a traceback."""

        def run() -> None:
            try:
                self._run_and_update_trial(trial, *arguments, **options)
            except Exception as error:
                raise FailedTrialError(_reason(error)) from error

        try:
            run()
            trial.status = "COMPLETED"
        except FailedTrialError as error:
            trial.status, trial.message = "FAILED", str(error)
            self._console.print(f"  {error}", style="yellow", soft_wrap=True)

    def on_trial_end(self, trial: keras_tuner.engine.trial.Trial) -> None:
        super().on_trial_end(trial)
        rows = self.rows()
        write_json(self._folder / TRIALS, [row.to_dict() for row in rows])
        best = SearchResult(self._objective, rows, self._folder).best
        if best is not None:
            told = f"best {self._objective} so far {best.score:.4f}, trial {best.number}"
            self._console.print(f"  {told}")

    def rows(self) -> tuple[TrialRow, ...]:
        """All trials, as they stand."""
        trials = sorted(self.oracle.trials.values(), key=_number)
        return tuple(self._row(trial) for trial in trials)

    def _row(self, trial: keras_tuner.engine.trial.Trial) -> TrialRow:
        path = self._job(trial) / "trial.json"
        facts = json.loads(path.read_text()) if path.exists() else {}
        status = {"COMPLETED": "completed", "RUNNING": "running"}.get(trial.status, "failed")
        return TrialRow(
            number=_number(trial),
            status="rejected" if _is_rejected(trial) else status,
            reason=trial.message or "" if status == "failed" else "",
            values=self._hypermodel.space.values(trial.hyperparameters),
            score=float(trial.score) if status == "completed" else None,
            parameters=facts.get("parameters"),
            qubits=facts.get("qubits"),
            seconds=facts.get("seconds"),
            folder=self._job(trial).relative_to(self._folder).as_posix(),
        )

    def _job(self, trial: keras_tuner.engine.trial.Trial) -> Path:
        return self._folder / f"trial_{_number(trial):03d}"


def _number(trial: keras_tuner.engine.trial.Trial) -> int:
    """KerasTuner counts from 0."""
    return int(trial.trial_id) + 1


def _is_rejected(trial: keras_tuner.engine.trial.Trial) -> bool:
    return trial.status == "FAILED" and (trial.message or "").startswith(_REJECTED)


def _reason(error: Exception) -> str:
    """Why a trial failed, in a line."""
    if isinstance(error, BudgetError):
        return f"{_REJECTED}{error}"
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FloatingPointError):
        return f"diverged: {told}"
    # TensorFlow's is known by its name, for under another backend TensorFlow may not be there.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"out of memory: {told}"
    return f"{type(error).__name__}: {told}"


def _check(
    hypermodel: ZooHyperModel,
    tuner: str,
    max_trials: int,
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
        if type(value) is not int or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}. Received: {value!r}")
    if folds is not None and (type(folds) is not int or folds < 2):
        raise ValueError(f"folds must be an integer of at least 2. Received: folds={folds!r}")
    if not isinstance(hypermodel.recipe, Recipe):
        raise ValueError(
            "Classifiers are searched by validation scores. "
            f"Received: {hypermodel.source.name!r} of class {hypermodel.source.class_name}"
        )
    if not hypermodel.recipe.hold_out:
        raise ValueError(
            "A search judges by a validation split, and the recipe says hold_out=False: give a "
            f"recipe with hold_out=True. Received: {hypermodel.source.name!r}"
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
        "space": json.loads(hypermodel.space.to_json()),
        "max_params": hypermodel.max_params,
        "max_qubits": hypermodel.max_qubits,
        "processor": None if hypermodel.processor is None else hypermodel.processor.name,
        "tuner": tuner,
        "objective": objective,
        "folds": folds,
        "seed": seed,
    }
    return json.loads(json.dumps(told))


def _check_folder(folder: Path, told: Mapping[str, Any], *, resume: bool) -> bool:
    """Whether the search in a folder is a new one."""
    path = folder / SEARCH
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise SearchError(
                "output_dir must be empty or hold a search of this kind. "
                f"Received: output_dir={folder}"
            )
        return True
    if not resume:
        raise SearchError(
            "output_dir holds a search already: continue it with resume=True, or choose another "
            f"folder. Received: output_dir={folder}"
        )
    kept = json.loads(path.read_text())
    other = sorted(name for name in told if kept.get(name) != told[name])
    if other:
        raise SearchError(
            "output_dir holds another search: use the options that it was begun with, or another "
            f"folder. Received: other {', '.join(other)} in {path}"
        )
    return False
