"""The scripts in `tuning/` are what they say."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from qrkt_keras.tuning import FAMILIES, BudgetError

SCRIPTS = Path(__file__).parents[2] / "tuning"


def test_there_is_one_for_each_family():
    names = {path.stem for path in SCRIPTS.glob("*.py")}
    assert names == {"search", *FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_its_models_are_of_the_family_and_within_their_budget(family):
    made = runpy.run_path(str(SCRIPTS / f"{family}.py"))
    hypermodel = made["make_hypermodel"]()
    assert hypermodel.source.class_name.lower() == family.replace("_", "")
    built = 0
    for number in range(20):
        hyperparameters = hypermodel.hyperparameters()
        for seed, hp in enumerate(hyperparameters.space):
            hyperparameters.values[hp.name] = hp.random_sample(100 * number + seed)
        try:
            hypermodel.build(hyperparameters)
            built += 1
        except BudgetError:
            continue
        if built == 2:
            break
    assert built == 2


def test_search_is_the_command():
    command = [sys.executable, str(SCRIPTS / "search.py"), "--model", "qvit", "--show-space"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "recipe.learning_rate" in done.stdout and "hardware_efficient" in done.stdout
