"""The list of cases is sound."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import bench, report
from benchmarks.cases import CASES, CONTESTANTS, PRESETS, Case, presets


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


def test_kawases_networks_are_measured_as_they_are_trained():
    from qrkt_keras import zoo

    cases = [case for case in CASES if case.group == "Kawase's networks"]
    assert len(cases) == 3
    for case in cases:
        preset = zoo.read_preset(case.preset)
        assert preset.class_name == "PatchQNN" and preset.config["num_blocks"] == 50
        assert case.batch == preset.recipe.batch_size and not case.model


def test_every_classifier_has_one_case():
    """Against what the package itself says of its presets, with every default filled in."""
    from qrkt_keras import zoo

    packaged = {name: zoo.read_preset(name) for name in zoo.list_presets()}
    classifiers = {
        name: preset for name, preset in packaged.items() if preset.class_name in ("QText", "QViT")
    }
    assert PRESETS.keys() == classifiers.keys()
    assert {preset.class_name for preset in classifiers.values()} == {"QText", "QViT"}
    for name, preset in classifiers.items():
        cls = zoo.model_classes()[preset.class_name]
        defaults = {
            key: parameter.default for key, parameter in inspect.signature(cls).parameters.items()
        }
        plain = defaults | dict(preset.config)
        as_it_comes = [
            case
            for case in CASES
            if case.kind == "training" and case.preset == name and plain | dict(case.model) == plain
        ]
        assert as_it_comes == [PRESETS[name]]
        if PRESETS[name].group == "presets":
            assert PRESETS[name].batch == preset.recipe.batch_size


def test_new_presets_are_found(tmp_path: Path):
    def write(name: str, class_name: str, recipe: dict | None):
        folder = tmp_path / "kind" / "presets" / name
        folder.mkdir(parents=True)
        config = {"class_name": class_name, "config": {"template": "ry_ring"}}
        (folder / "config.json").write_text(json.dumps(config))
        if recipe is not None:
            (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))

    write("mine", "QViT", {"batch_size": 16})
    write("bare", "QText", None)
    write("known", "QViT", {"batch_size": 16})
    write("gan", "QRKTGAN", {"batch_size": 16})
    other = Case("other", "training step", "training", 8, (), preset="known")
    same = dataclasses.replace(other, name="same", model={"template": "ry_ring"})
    other = dataclasses.replace(other, model={"template": "rx_ring"})
    cases = presets([other, same], tmp_path)
    assert [*cases] == ["bare", "known", "mine"]
    assert cases["known"] is same
    mine, bare = cases["mine"], cases["bare"]
    assert (mine.name, mine.preset, mine.model, mine.batch) == ("preset-mine", "mine", {}, 16)
    assert bare.batch == 64
    assert presets([other], tmp_path)["known"].name == "preset-known"


def test_quick_has_one_preset():
    assert [case.quick for case in CASES if case.group == "presets"].count(True) == 1


def test_cases_need_the_standard_library_only(repository: Path):
    """Peers' environments read them; `-S` leaves out what is installed."""
    program = (
        "import sys; sys.path.insert(0, 'tests'); import benchmarks.cases as c; print(len(c.CASES))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(len(CASES)), done.stderr


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
    assert sum(target.asked != "–" for target in targets) == 22
    assert all(target.measured != "not measured" for target in targets)
    assert all((target.met is None) == (target.asked == "–") for target in targets)


def test_requirements_are_outside_the_package(repository: Path):
    setup = (repository / "setup.py").read_text()
    assert not any(peer in setup for peer in ("pennylane", "tensorcircuit", "torchquantum"))
