"""The list of cases is sound."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
from benchmarks import bench, report
from benchmarks.cases import CASES, CONTESTANTS, Case


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case):
    assert set(case.contestants) | set(case.left_out) <= set(CONTESTANTS)
    assert not set(case.contestants) & set(case.left_out)
    assert case.group == "sweep" or case.group in report.PARTS
    assert case.limit <= 300
    assert case.rounds >= bench.FEWEST_ROUNDS
    # What a worker receives is what was sent.
    assert Case(**json.loads(json.dumps(dataclasses.asdict(case)))).name == case.name
    if case.kind == "circuit":
        circuit = case.circuit()
        assert max(gate.index for gate in circuit.gates if gate.source == "w") + 1 == (
            circuit.num_weights
        )
    elif case.kind == "training":
        assert case.preset or case.model["hidden_dim"] % case.model["num_heads"] == 0


@pytest.mark.parametrize("name", CONTESTANTS)
def test_contestant(name):
    about = CONTESTANTS[name]
    module, cls = about.module.split(":")
    # Without its framework, which is imported when one is made.
    contestant = getattr(importlib.import_module(f"benchmarks.contestants.{module}"), cls)
    assert callable(contestant.prepare)
    if about.is_peer:
        text = (bench.REQUIREMENTS / f"{about.environment}.txt").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
        assert all(line.count("==") == 1 for line in lines)
        assert set(about.packages) <= pinned


def test_targets_name_cases():
    """A target whose case was renamed would say "not measured" for ever."""
    entry = {
        "status": "measured",
        "median": 2.0,
        "compile_seconds": 2.0,
        "peak_mb": 2.0,
    }
    cases = {
        case.name: {
            "case": dataclasses.asdict(case),
            "entries": [
                {**entry, "contestant": name, "variant": variant}
                for name in case.contestants
                for variant in ("quantum", "twin")
            ],
        }
        for case in CASES
    }
    targets = list(report.targets(report.Results({"cases": cases})))
    assert sum(target.asked != "–" for target in targets) == 21
    assert all(target.measured != "not measured" for target in targets)
    assert all((target.met is None) == (target.asked == "–") for target in targets)


def test_requirements_are_outside_the_package(repository: Path):
    setup = (repository / "setup.py").read_text()
    assert not any(peer in setup for peer in ("pennylane", "tensorcircuit", "torchquantum"))
