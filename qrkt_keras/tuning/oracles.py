"""KerasTuner's oracles, mended where a search must go on after whatever happened to it.

What is changed, and why:

- Files are written whole or not at all, and what a kill left between two of them is put right when
  they are read: a trial that nobody was given never began, one that ended is not run again.
- Trials that a budget refuses do not count among those that are asked for.
- A grid that is continued knows where it was; a Bayesian search finds what it proposes in a second,
  by seed and trial, proposes no configuration twice, hopes for less, and learns from failures.
- Of Hyperband a configuration that failed is replaced by another, so that rounds stay full, and
  where a space has too few, rounds go on with those that there are.
- Of many workers, trials stay with those that had them when the chief is restarted, and a worker
  waits as long as others may fail.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import scipy.optimize
from keras_tuner.engine.trial import Trial
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from qrkt_keras.training import atomic_write
from qrkt_keras.tuning.budgets import REJECTED
from qrkt_keras.tuning.results import OBJECTIVES

# A failing trial ends no search, however many follow each other.
_NEVER = 10**9
# So many rejected trials for each that is asked for: a budget may leave nothing of a space.
_MOST_REJECTED = 20
# Of a Bayesian search, the share of trials that are drawn at random first; at least so many.
_RANDOM_SHARE, _LEAST_RANDOM = 0.3, 4
# How many deviations above the mean it hopes for: with KerasTuner's 2.6 a search of some dozen
# trials visits the corners of its space.
_BETA = 1.0
# Points among which the most promising are looked for, and from how many of them it climbs.
_CANDIDATES, _CLIMBS = 4096, 3


def is_rejected(trial: Trial) -> bool:
    """Whether a budget refused a trial."""
    return trial.status == "FAILED" and (trial.message or "").startswith(REJECTED)


class _Lasting:
    """What all oracles have here; beside one of KerasTuner's."""

    # Set by `make_oracle`: whether several workers ask, and why trials failed that workers end, for
    # KerasTuner's messages do not bring it.
    is_shared = False
    reasons: dict[str, str]
    # Whether nothing was left to draw.
    _is_exhausted = False

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        asked = self.max_trials
        self.max_trials = self._limit()
        try:
            trial = super().create_trial(tuner_id)
        finally:
            self.max_trials = asked
        limit = self._limit()
        if trial.status == "STOPPED" and (limit is None or len(self.trials) < limit):
            self._is_exhausted = True
            self.save()
        if trial.status == "STOPPED" and self.is_shared and self.ongoing_trials:
            # Their workers may be lost.
            trial.status = "IDLE"
            self.tuner_ids.add(tuner_id)
        return trial

    def _limit(self) -> int | None:
        """How many trials there may be, with those that a budget refused; None without a limit."""
        refused = sum(map(is_rejected, self.trials.values()))
        if self.max_trials is not None:
            return self.max_trials + min(refused, _MOST_REJECTED * self.max_trials)
        return None

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        if trial.trial_id in self.end_order:
            return  # told twice, for the answer was lost
        if trial.status == "FAILED" and not trial.message:
            trial.message = self.reasons.get(trial.trial_id, "")
        super().end_trial(trial)
        self._after_end(self.trials[trial.trial_id])

    def is_over(self) -> bool:
        """Whether all trials have ended that there may be."""
        limit = self._limit()
        is_busy = self.ongoing_trials or self._retry_queue
        is_full = limit is not None and len(self.trials) >= limit
        return not is_busy and (is_full or self._is_exhausted)

    # Not synchronized by KerasTuner, which keeps its lock if there is an error: the chief has one.
    def release(self, tuner_id: str) -> str | None:
        """Takes a worker's trial from it, for another one to continue; its id, if it had one."""
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is None:
            return None
        self._retry_queue.append(trial.trial_id)
        self.save()
        return trial.trial_id

    def failed(self) -> list[str]:
        """Trials that failed, but for those that a budget refused."""
        return [
            key
            for key, trial in self.trials.items()
            if trial.status == "FAILED" and not is_rejected(trial)
        ]

    def retry(self, keys: Sequence[str]) -> None:
        """Gives out trials again that have ended, before any others."""
        self.end_order = [key for key in self.end_order if key not in keys]
        self._retry_queue += reversed(keys)
        # Killed before its trial is written, a trial has ended as before, see `reload`.
        self.save()
        for key in keys:
            self.trials[key].status, self.trials[key].message = "RUNNING", None
            self._save_trial(self.trials[key])

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"is_exhausted": self._is_exhausted}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._is_exhausted = state["is_exhausted"]

    def save(self) -> None:
        _write(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        folder = Path(self._get_trial_dir(trial.trial_id))
        _write(folder / "trial.json", trial.get_state())

    def reload(self) -> None:
        ongoing = json.loads(Path(self._get_oracle_fname()).read_text())["ongoing_trials"]
        super().reload()
        # Killed before it was given to anyone, it is drawn again, and is the same.
        self.trials = {key: self.trials[key] for key in self.start_order}
        for key in [key for key in self._retry_queue if self.trials[key].status != "RUNNING"]:
            # It has ended; that it does not go on KerasTuner writes only with what comes next.
            self._retry_queue.remove(key)
            if key not in self.end_order:
                self._run_times[key] += 1
                self.end_order.append(key)
        for trial in self.trials.values():
            self._after_end(trial)
        if self.is_shared:
            for tuner_id, key in ongoing.items():
                if key in self._retry_queue:
                    self._retry_queue.remove(key)
                    self.ongoing_trials[tuner_id] = self.trials[key]
                    self.tuner_ids.add(tuner_id)

    def _after_end(self, trial: Trial) -> None:
        """What else is to be done when a trial has ended; again when the state is read."""


class _Random(_Lasting, keras_tuner.oracles.RandomSearchOracle):
    """Values drawn at random."""


class _Grid(_Lasting, keras_tuner.oracles.GridSearchOracle):
    """All combinations, one after the other."""

    def reload(self) -> None:
        super().reload()

        def compare(first: str, second: str) -> int:
            values = (self.trials[key].hyperparameters.values for key in (first, second))
            return self._compare(*values)

        before = None
        for key in sorted(self.trials, key=functools.cmp_to_key(compare)):
            self._ordered_ids.insert(key, before)
            before = key
        # Those whose next combination was tried are passed over.
        self._populate_next = list(self.start_order)


class _Bayesian(_Lasting, keras_tuner.oracles.BayesianOptimizationOracle):
    """Where a Gaussian process expects more."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        completed = sum(trial.status == "COMPLETED" for trial in self.trials.values())
        if completed < self.num_initial_points:
            return self._random_populate_space()
        # For such small matrices threads only wait for each other. That a length scale is at its
        # bound says that a dimension does not matter, which is no fault.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            scored = map(np.nan_to_num, self._vectorize_trials())
            self.gpr.fit(*scored)
            for point in self._most_promising():
                values = self._vector_to_values(point)
                if not self._duplicate(self._active(values)):
                    return {"status": "RUNNING", "values": values}
        return self._random_populate_space()

    def _vectorize_trials(self) -> tuple[np.ndarray, np.ndarray]:
        # KerasTuner leaves out what failed, and would look there again; it counts as the worst.
        failed = [trial for trial in self.trials.values() if trial.status == "FAILED"]
        scores = [trial.score for trial in self.trials.values() if trial.status == "COMPLETED"]
        worst = min(scores) if self.objective.direction == "max" else max(scores)
        for trial in failed:
            trial.status, trial.score = "COMPLETED", worst
        try:
            return super()._vectorize_trials()
        finally:
            for trial in failed:
                trial.status, trial.score = "FAILED", None

    def _most_promising(self) -> Iterator[np.ndarray]:
        """Points, those first where the lower confidence bound of the score is least.

        KerasTuner, which has scores minimised, climbs from 50 points at random, in half a minute
        where there are 18 dimensions; here it is from the best of many, in one second.
        """

        def bound(points: np.ndarray) -> np.ndarray:
            mean, deviation = self.gpr.predict(points, return_std=True)
            return mean - self.beta * deviation

        bounds = self._get_hp_bounds()
        # What is drawn depends on seed and trial alone, so that a continued search draws the same.
        random = np.random.RandomState(self.seed + len(self.trials))
        points = random.uniform(*bounds.T, size=(_CANDIDATES, len(bounds)))
        points = points[np.argsort(bound(points))]
        climbs = [
            scipy.optimize.minimize(
                lambda point: bound(point[None])[0], start, bounds=bounds, method="L-BFGS-B"
            )
            for start in points[:_CLIMBS]
        ]
        yield from (climb.x for climb in sorted(climbs, key=lambda climb: climb.fun))
        yield from points

    def _active(self, values: dict[str, Any]) -> dict[str, Any]:
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(values)
        hyperparameters.ensure_active_values()
        return hyperparameters.values


class _Hyperband(_Lasting, keras_tuner.oracles.HyperbandOracle):
    """Many configurations for few epochs, of which the better ones go on."""

    def __init__(self, **options: Any) -> None:
        # How many configurations there are for a bracket whose round the space does not fill.
        self._caps: dict[str, int] = {}
        self._looks_again = False
        super().__init__(**options)

    def _limit(self) -> int | None:
        # What is replaced again and again ends the search: its configurations fail all, or a budget
        # leaves next to nothing of the space.
        brackets = range(self._get_num_brackets())
        planned = sum(self._get_size(bracket, 0) for bracket in brackets)
        failed = [trial for trial in self.trials.values() if trial.status == "FAILED"]
        refused = sum(map(is_rejected, failed))
        if refused > _MOST_REJECTED * planned or len(failed) - refused > planned:
            return len(self.trials)
        return super()._limit()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        while True:
            self._looks_again = False
            found = super().populate_space(trial_id)
            if not self._looks_again:
                return found

    def _remove_completed_brackets(self) -> None:
        # Not before its last trials have ended: what fails of them is replaced.
        self._brackets = [one for one in self._brackets if not self._is_completed(one)]

    def _is_completed(self, bracket: dict[str, Any]) -> bool:
        number, last = bracket["bracket_num"], bracket["rounds"][-1]
        is_full = len(last) == self._get_size(number, len(bracket["rounds"]) - 1)
        return is_full and all(self.trials[one["id"]].status == "COMPLETED" for one in last)

    def _random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        found = super()._random_trial(trial_id, bracket)
        if found["status"] != "RUNNING":
            # KerasTuner ends the search here; the round goes on with those that there are.
            self._caps[str(bracket["bracket_num"])] = len(bracket["rounds"][0])
            self._looks_again = True
        return found

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        size = super()._get_size(bracket_num, round_num)
        cap = self._caps.get(str(bracket_num))
        return size if cap is None else min(size, math.ceil(cap / self.factor**round_num))

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"caps": self._caps}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._caps = state["caps"]

    def _after_end(self, trial: Trial) -> None:
        if trial.status != "FAILED":
            return
        wanted = trial.trial_id
        for bracket in self._brackets:
            for entries in reversed(bracket["rounds"]):
                for entry in [entry for entry in entries if entry["id"] == wanted]:
                    entries.remove(entry)
                    wanted = entry["past_id"]


_ORACLES = {
    "random": _Random,
    "grid": _Grid,
    "bayesian": _Bayesian,
    "hyperband": _Hyperband,
}
TUNERS = tuple(_ORACLES)


def make_oracle(
    tuner: str,
    *,
    objective: str,
    hyperparameters: keras_tuner.HyperParameters,
    max_trials: int | None,
    seed: int,
    epochs: int,
    is_shared: bool = False,
) -> keras_tuner.Oracle:
    """The oracle of a search.

    Args:
        tuner: One of `TUNERS`.
        objective: One of `OBJECTIVES`.
        hyperparameters: The space.
        max_trials: How many trials there are at most; None for as many as there are.
        seed: Of what is drawn.
        epochs: Of a whole training, for Hyperband.
        is_shared: Whether several workers ask it.
    """
    options: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, OBJECTIVES[objective]),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "max_consecutive_failed_trials": _NEVER,
    }
    if tuner == "hyperband":
        options["max_epochs"] = epochs
    else:
        options["max_trials"] = max_trials
    if tuner == "bayesian":
        # KerasTuner's three for each dimension would leave a search of twenty trials none.
        share = math.ceil(_RANDOM_SHARE * max_trials)
        options["beta"] = _BETA
        options["num_initial_points"] = max(_LEAST_RANDOM, share)
    oracle = _ORACLES[tuner](**options)
    oracle.max_trials = max_trials
    oracle.is_shared = is_shared
    oracle.reasons = {}
    oracle.verbose = 0
    return oracle


def _write(path: str | Path, state: Any) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(state).encode())
