"""What a search found: its trials, and the best of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrkt_keras.training import GANResult, TrainingResult

# What a trial can be judged by, and whether more of it is better.
OBJECTIVES = {
    "val_auc": "max",
    "val_accuracy": "max",
    "val_loss": "min",
    "fid": "min",
}

# What a classifier's scores are called as objectives.
MEASURES = {"val_auc": "macro_auc", "val_accuracy": "accuracy", "val_loss": "loss"}

# In a search's folder: what it is, its trials, and the best one as a preset.
SEARCH = "search.json"
TRIALS = "trials.json"
BEST = "best"


def classifier_scores(result: TrainingResult) -> dict[str, float]:
    """Scores of a classifier's validation examples, by the names of objectives."""
    found = result.scores["validation"]
    return {name: getattr(found, measure) for name, measure in MEASURES.items()}


def gan_scores(result: GANResult) -> dict[str, float]:
    """Scores of a GAN's images, by the names of objectives."""
    found = result.measures
    return {"fid": found.fid, "kid": found.kid, "inception_score": found.inception_score}


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """What became of a trial.

    Attributes:
        number: Counted from 1, in the order in which they began.
        status: `"completed"`, `"rejected"` by a budget, `"failed"` or `"running"`.
        reason: Why it was rejected or failed; "" otherwise.
        values: What was drawn, by dimension.
        score: Its objective; of folds the mean. None if it has none.
        scores: All that was measured, by name; of a classifier `val_auc`, `val_accuracy` and
            `val_loss`, of a GAN `fid`, `kid` and `inception_score`.
        parameters: Of the model; None if none was made.
        qubits: Of all its circuits together.
        epochs: How many it was trained; of Hyperband those before it was continued included.
        seconds: Used for its training, over all runs.
        ended: When it ended, in seconds since 1970; None while it runs.
        worker: The worker that trained it; "" in a search on one machine.
        folder: Of its training, in the search's.
    """

    number: int
    status: str
    reason: str
    values: Mapping[str, Any]
    score: float | None = None
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    qubits: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    ended: float | None = None
    worker: str = ""
    folder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search leaves behind.

    Attributes:
        objective: What trials are judged by, one of `OBJECTIVES`.
        trials: All of them, in the order in which they began.
        output_dir: Where `search.json`, `trials.json`, the report, the best preset and a folder for
            each trial are.
    """

    objective: str
    trials: tuple[TrialRow, ...]
    output_dir: Path

    @property
    def is_more_better(self) -> bool:
        """Whether the objective is to be large."""
        return OBJECTIVES[self.objective] == "max"

    @property
    def best(self) -> TrialRow | None:
        """The best trial that was completed, the first of equals; None if none was."""
        completed = [trial for trial in self.trials if trial.status == "completed"]
        sign = -1 if self.is_more_better else 1
        return min(completed, key=lambda trial: sign * trial.score, default=None)
