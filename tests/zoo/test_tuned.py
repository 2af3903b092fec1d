"""The preset that a search found: its search, its budget, and its table are what the card says."""

from __future__ import annotations

import csv
import importlib.util
import json
import runpy
import shlex
from pathlib import Path

from qrkt_keras import zoo
from qrkt_keras.tuning import Space

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "zoo"
_spec = importlib.util.spec_from_file_location("tuned", ZOO / "qvit" / "tuned.py")
tuned = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tuned)

SEARCH = json.loads((ZOO / "qvit" / "tuned_search.json").read_text())
TRIALS = json.loads((ZOO / "qvit" / "tuned_trials.json").read_text())


def test_the_search_is_that_of_the_command_and_of_the_script():
    words = tuned.SEARCH
    kept = Space.from_json(json.dumps(SEARCH["space"]))
    assert kept.to_texts() == Space(()).overridden(words[words.index("--vary") + 1 :]).to_texts()
    for option, name in {
        "--seed": "seed", "--folds": "folds", "--objective": "objective", "--tuner": "tuner",
        "--max-params": "max_params", "--max-qubits": "max_qubits", "--model": "preset",
    }.items():  # fmt: skip
        assert str(SEARCH[name]) == words[words.index(option) + 1]
    assert set(words) < set(shlex.split(SEARCH["command"]))
    script = runpy.run_path(str(ROOT / "tuning" / "qvit.py"))["make_hypermodel"]()
    assert script.space.to_texts() == kept.to_texts()
    assert (script.max_params, script.max_qubits) == (SEARCH["max_params"], SEARCH["max_qubits"])


def test_the_preset_is_the_best_trial_within_the_budget_of_the_hand_made_one():
    best = min(TRIALS, key=lambda trial: trial["score"])
    found, hand_made = zoo.read_preset(tuned.TUNED), zoo.read_preset(tuned.HAND_MADE)
    for name, value in best["values"].items():
        if name.startswith("recipe."):
            assert getattr(found.recipe, name.removeprefix("recipe.")) == value
        else:
            assert found.config[name] == value
    assert (found.recipe.epochs, found.recipe.batch_size) == (80, 32)
    assert (hand_made.recipe.epochs, hand_made.recipe.batch_size) == (80, 32)
    mine, other = zoo.from_preset(tuned.TUNED), zoo.from_preset(tuned.HAND_MADE)
    assert mine.count_params() == best["parameters"] <= other.count_params()
    assert mine.num_qubits == best["qubits"] <= other.num_qubits


def test_the_table_is_that_of_the_rows_and_says_that_it_is_better():
    with open(ZOO / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = tuned.table(rows)
    assert "\n".join(lines) in (ZOO / "qvit" / "README.md").read_text()

    def mean(preset, seeds):
        own = [
            float(row["test_accuracy"])
            for row in rows
            if (row["preset"], row["model"]) == (preset, tuned.MODELS[preset])
            and int(row["seed"]) < seeds
        ]
        assert len(own) == seeds
        return sum(own) / seeds

    for seeds in (3, 10):
        assert mean(tuned.TUNED, seeds) > mean(tuned.HAND_MADE, seeds)
