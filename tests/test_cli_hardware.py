"""`qrkt hardware`: what it prints and writes, and what happens when it is ended."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qrkt_keras import hardware, zoo
from qrkt_keras.cli import app
from qrkt_keras.hardware import virtual_machine as machines

PRESET = "qvit_rk1_digits_hardware"


def run(*words, status=0):
    result = CliRunner().invoke(app, ["hardware", *map(str, words)])
    assert result.exit_code == status, result.output
    return result.output


def test_list():
    text = run("list")
    assert "weber" in text and "53" in text and "rainbow" in text and "cz, sqrt_iswap" in text
    assert "no CZ" in text


def test_compile_a_template(tmp_path):
    folder = tmp_path / "compiled"
    text = run(
        "compile", "hardware_efficient", "-n", 4, "--layers", 2, "--gateset", "cz",
        "--output", folder,
    )  # fmt: skip
    spec = hardware.CompiledCircuit.from_json((folder / "compiled.json").read_text())
    report = spec.report
    for figure in (f"{report.depth_before} → {report.depth}", f"{report.fidelity:.3g}"):
        assert figure in text
    assert "no CZ" in text
    assert (folder / "placement_1.png").read_bytes().startswith(b"\x89PNG")
    assert "PhXZ" in (folder / "circuit_1.txt").read_text()
    assert "compiled.json" in run(
        "compile", "hardware_efficient", "-n", 4, "--output", folder, status=1
    )


def test_compile_a_preset():
    text = run("compile", PRESET, "-r", 2000)
    assert "circuits per example" in text and "40,000" in text


def test_what_is_too_wide():
    text = run("compile", "ry_ring", "-n", 60, status=1)
    assert "weber has 53 qubits" in text and "num_qubits=60" in text
    assert "circuits per example" in run("compile", "ry_ring", "-n", 60, "--split-circuits")


def evaluate(folder, *words, status=0):
    return run(
        "evaluate", PRESET, "--examples", 6, "-r", 50, "--batch-size", 2, "--gateset", "cz",
        "--output", folder, *words, status=status,
    )  # fmt: skip


def test_evaluate(tmp_path):
    folder = tmp_path / "job"
    text = evaluate(folder)
    results = json.loads((folder / "evaluation.json").read_text())
    assert results["num_examples"] == 6 and results["num_circuits"] == 120
    assert results["preset"] == PRESET and results["gateset"] == "cz" and results["seed"] == 0
    assert f"{results['accuracy']:.2%}" in text and "6 examples, 20 circuits an example" in text
    assert results["command"].startswith(f"qrkt hardware evaluate {PRESET}")
    # The command is one that makes the same results.
    words = results["command"].split()[2:]
    run(*words, "--overwrite")
    again = json.loads((folder / "evaluation.json").read_text())
    assert {**again, "seconds": 0} == {**results, "seconds": 0}


def test_mitigation(tmp_path):
    evaluate(tmp_path / "job", "--mitigate-readout", "--noise-scales", "1,3")
    results = json.loads((tmp_path / "job" / "evaluation.json").read_text())
    assert results["num_circuits"] == 240 and results["mitigate_readout"]
    assert "odd numbers" in evaluate(tmp_path / "other", "--noise-scales", "1,x", status=2)
    assert "noise_scales=(2,)" in evaluate(tmp_path / "other", "--noise-scales", "2", status=1)


def test_a_dry_run_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "processor", None)
    text = evaluate(tmp_path / "job", "--dry-run", "--project", "mine")
    assert "120 circuits in all, 6,000 shots" in text and "expected fidelity" in text
    assert not (tmp_path / "job").exists()


def test_a_real_processor_without_credentials(tmp_path, monkeypatch):
    def none(project, name):
        raise hardware.CredentialsError(f"no credentials. Received: {project}")

    monkeypatch.setattr(hardware, "processor", none)
    text = evaluate(tmp_path / "job", "--project", "mine", status=1)
    assert "no credentials. Received: mine" in text


def test_an_interrupted_job_is_continued(tmp_path, monkeypatch):
    folder = tmp_path / "job"
    whole = tmp_path / "whole"
    evaluate(whole)
    original = machines.VirtualMachine.run_sweep
    left = [4]

    def interrupted(self, program, params, repetitions=1):
        left[0] -= 1
        # Trials for the estimate are the first of all.
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, program, params, repetitions)

    monkeypatch.setattr(machines.VirtualMachine, "run_sweep", interrupted)
    text = evaluate(folder, status=130)
    assert "Interrupted." in text and "--resume" in text and "sampled" in text
    kept = len(list((folder / "sampled").glob("run_*.npz")))
    assert 0 < kept < 12 and not (folder / "evaluation.json").exists()
    assert "results already" in evaluate(folder, status=1)

    def fails(self, program, params, repetitions=1):
        raise RuntimeError("the line is dead")

    monkeypatch.setattr(machines.VirtualMachine, "run_sweep", fails)
    text = evaluate(folder, "--resume", "--quiet", status=1)
    assert "the line is dead" in text and "To continue" in text
    monkeypatch.setattr(machines.VirtualMachine, "run_sweep", original)
    evaluate(folder, "--resume")
    results, expected = (
        json.loads((one / "evaluation.json").read_text()) for one in (folder, whole)
    )
    for name in ("accuracy", "mean_error", "max_error", "num_circuits"):
        assert results[name] == expected[name]


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    assert "exclude" in evaluate(tmp_path / "job", "--resume", "--overwrite", status=2)


def test_train(tmp_path):
    folder = tmp_path / "job"
    words = (
        "train", PRESET, "--examples", 20, "--steps", 2, "--batch-size", 4, "-r", 100,
        "--gateset", "cz", "--output", folder,
    )  # fmt: skip
    text = run(*words)
    results = json.loads((folder / "training.json").read_text())
    assert len(results["exact_losses"]) == 3 and len(results["sampled_losses"]) == 2
    assert f"{results['exact_losses'][-1]:.4f}" in text
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    model = zoo.from_preset(folder / "preset")
    assert model.num_quantum_params == 20
    # What is kept is not run again, and gives the same.
    run(*words, "--resume")
    again = json.loads((folder / "training.json").read_text())
    assert again["exact_losses"] == results["exact_losses"]
    assert "circuits" in run(*words, "--dry-run")


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_bad_arguments(command, tmp_path):
    output = ("--output", tmp_path / "job")
    assert "has" in run(command, PRESET, "--examples", 100_000, *output, status=1)
    assert "are rainbow, weber" in run(command, PRESET, "-p", "osprey", *output, status=1)
    assert "classifier" in run(command, "qrkt_gan_digits", *output, status=1)
    both = ("-r", 10, "--standard-error", 0.1)
    assert "Either repetitions or" in run(command, PRESET, *both, *output, status=1)
