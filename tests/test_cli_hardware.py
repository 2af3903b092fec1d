"""`qrkt hardware`: what it prints and writes, and what happens when it is ended."""

from __future__ import annotations

import json
import re
import sys

import google.auth
import keras
import pytest
from cirq_google.engine import create_noiseless_virtual_engine_from_latest_templates
from typer.testing import CliRunner

from qrkt_keras import hardware, zoo
from qrkt_keras.cli import app
from qrkt_keras.hardware import engine

# The package has a function of the module's name.
machines = sys.modules["qrkt_keras.hardware.virtual_machine"]

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
    assert "needs --num-qubits" in run("compile", PRESET, "--layers", 2, status=2)


def test_compile_a_gan_and_a_template_without_qubits():
    text = run("compile", "qrkt_gan_digits", "--gateset", "cz", "--split-circuits")
    assert "160" in text and "1,280" in text  # rows of its two circuits
    assert "is a template, which needs --num-qubits" in run("compile", "rx_ring", status=2)


def test_what_is_too_wide():
    text = run("compile", "ry_ring", "-n", 60, status=1)
    assert "weber has 53 qubits" in text and "num_qubits=60" in text
    assert "circuits per example" in run("compile", "ry_ring", "-n", 60, "--split-circuits")


def test_a_model_that_is_too_wide_runs_in_parts(tmp_path):
    """A 60-qubit attention, which weber runs as two circuits of 30 qubits each."""
    keras.utils.set_random_seed(0)
    model = zoo.QViT(
        (8, 8, 1),
        10,
        patch_size=8,
        hidden_dim=60,
        num_heads=1,
        mlp_dim=4,
        num_encoder_blocks=0,
        num_ode_blocks=1,
        num_decoder_blocks=0,
        solver="rk1",
        template="rx_ring",
    )
    model.save_to_preset(tmp_path / "wide")
    words = ("evaluate", tmp_path / "wide", "--data", "digits", "--examples", 2, "--gateset", "cz")
    text = run(*words, "-r", 20, "--output", tmp_path / "refused", status=1)
    assert "num_qubits=60" in text and "split=True" in text
    text = run(*words, "-r", 20, "--split-circuits", "--output", tmp_path / "job")
    assert "18 circuits in all" in text and "a virtual machine about" in text
    results = json.loads((tmp_path / "job" / "evaluation.json").read_text())
    circuits = hardware.compile_for(model, "weber", "cz", split=True).circuits_per_example
    # The attention's four in two parts each, and the feed-forward's of four qubits.
    assert model.circuits_per_example == 5 and circuits == 9
    assert results["num_circuits"] == 2 * circuits and results["split_circuits"] is True
    assert results["max_error"] < 1.5 and "split" in results["command"]


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


def test_it_does_not_matter_who_looks(tmp_path):
    """What is tried for the estimate is not of the job."""
    evaluate(tmp_path / "seen")
    evaluate(tmp_path / "quiet", "--quiet")
    seen, quiet = (
        json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("seen", "quiet")
    )
    assert seen["mean_error"] == quiet["mean_error"]


def test_mitigation(tmp_path, monkeypatch):
    measured = []
    original = hardware.measured_readout_errors

    def noted(*arguments, **options):
        measured.append(original(*arguments, **options))
        return measured[-1]

    monkeypatch.setattr(hardware, "measured_readout_errors", noted)
    text = evaluate(tmp_path / "job", "--mitigate-readout", "--noise-scales", "1,3")
    results = json.loads((tmp_path / "job" / "evaluation.json").read_text())
    assert results["num_circuits"] == 240 and results["readout_shots"] == 20_000
    assert "2 circuits of 10,000 shots for readout errors" in text
    (errors,) = measured
    assert len(errors) == 4 and all(0 < zero + one < 0.5 for zero, one in errors.values())
    plain = tmp_path / "plain"
    evaluate(plain)
    without = json.loads((plain / "evaluation.json").read_text())
    assert len(measured) == 1 and without["mean_error"] != results["mean_error"]
    assert "odd numbers" in evaluate(tmp_path / "other", "--noise-scales", "1,x", status=2)
    assert "noise_scales=(1, 2)" in evaluate(tmp_path / "other", "--noise-scales", "1,2", status=1)
    assert not (tmp_path / "other").exists()


def test_a_dry_run_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "processor", None)
    text = evaluate(tmp_path / "job", "--dry-run", "--project", "mine")
    assert "120 circuits in all, 6,000 shots" in text and "expected fidelity" in text
    assert not (tmp_path / "job").exists()
    words = ("evaluate", PRESET, "--examples", 6, "--standard-error", 0.1, "--dry-run")
    assert "12,000 shots" in run(*words)  # 100 a circuit


def test_a_real_processor_without_credentials(tmp_path, monkeypatch):
    def none():
        raise google.auth.exceptions.DefaultCredentialsError("none were found")

    monkeypatch.setattr(google.auth, "default", none)
    evaluate(tmp_path / "job")
    before = (tmp_path / "job" / "evaluation.json").read_bytes()
    text = evaluate(tmp_path / "job", "--project", "mine", "--overwrite", status=1)
    assert "gcloud auth application-default login" in text and "none were found" in text
    # What was there is there: nothing is replaced before there is something to replace it by.
    assert (tmp_path / "job" / "evaluation.json").read_bytes() == before
    assert list((tmp_path / "job" / "sampled").glob("run_*.npz"))
    words = ("--project", "mine", "--noiseless")
    assert "--noiseless is of" in evaluate(tmp_path / "other", *words, status=2)


def test_a_processor_of_an_engine(tmp_path, monkeypatch):
    local = create_noiseless_virtual_engine_from_latest_templates()
    monkeypatch.setattr(engine, "_engine", lambda project: local)
    evaluate(tmp_path / "job", "--project", "mine")
    results = json.loads((tmp_path / "job" / "evaluation.json").read_text())
    assert results["project"] == "mine" and results["num_circuits"] == 120
    # Outcomes of one are not taken for those of another.
    assert "other sampler" in evaluate(tmp_path / "job", "--resume", status=1)


@pytest.fixture
def asked(monkeypatch):
    """Counts the sweeps of the job's own machine, and can end it after some."""
    original = machines.VirtualMachine.run_sweep
    state = {"count": 0, "after": None, "then": None}

    def run_sweep(self, program, params, repetitions=1):
        if state["count"] == state["after"]:
            raise state["then"]
        state["count"] += 1
        return original(self, program, params, repetitions)

    monkeypatch.setattr(machines.VirtualMachine, "run_sweep", run_sweep)
    return state


def test_an_interrupted_job_is_continued(tmp_path, asked):
    folder, whole = tmp_path / "job", tmp_path / "whole"
    evaluate(whole, "--quiet")
    total = asked["count"]
    asked |= {"count": 0, "after": 4, "then": KeyboardInterrupt()}
    text = evaluate(folder, "--quiet", status=130)
    assert "Interrupted." in text and "--resume" in text and "sampled" in text
    assert len(list((folder / "sampled").glob("run_*.npz"))) == 4
    assert not (folder / "evaluation.json").exists()
    assert "results already" in evaluate(folder, status=1)

    asked |= {"count": 0, "after": 2, "then": RuntimeError("the line is dead")}
    text = evaluate(folder, "--resume", "--quiet", status=1)
    assert "VirtualMachine failed" in text and "the line is dead" in text and "To continue" in text
    assert len(list((folder / "sampled").glob("run_*.npz"))) == 6
    assert "other sampler" in evaluate(folder, "--resume", "--quiet", "--seed", 1, status=1)
    assert "other repetitions" in evaluate(folder, "--resume", "--quiet", "-r", 51, status=1)

    asked |= {"count": 0, "after": None}
    evaluate(folder, "--resume", "--quiet")
    assert asked["count"] == total - 6  # nothing twice
    results, expected = (
        json.loads((one / "evaluation.json").read_text()) for one in (folder, whole)
    )
    for name in ("accuracy", "mean_error", "max_error", "num_circuits"):
        assert results[name] == expected[name]


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    assert "exclude" in evaluate(tmp_path / "job", "--resume", "--overwrite", status=2)


def test_train(tmp_path, asked):
    folder = tmp_path / "job"
    words = (
        "train", PRESET, "--examples", 20, "--steps", 2, "--batch-size", 4, "-r", 100,
        "--gateset", "cz", "--output", folder, "--quiet",
    )  # fmt: skip
    text = run(*words)
    results = json.loads((folder / "training.json").read_text())
    assert len(results["exact_losses"]) == 3 and len(results["sampled_losses"]) == 2
    assert f"{results['exact_losses'][-1]:.4f}" in text
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    model = zoo.from_preset(folder / "preset")
    assert model.num_quantum_params == 20
    # What is kept is not run again, and gives the same.
    asked["count"] = 0
    run(*words, "--resume")
    again = json.loads((folder / "training.json").read_text())
    assert again["exact_losses"] == results["exact_losses"] and asked["count"] == 0
    assert "with those of gradients" in run(*words[:-1], "--dry-run")
    # What is printed as next works.
    assert f"qrkt evaluate {folder} --data digits" in text
    scored = CliRunner().invoke(app, ["evaluate", str(folder), "--data", "digits"])
    assert scored.exit_code == 0, scored.output


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "run" / "preset").mkdir(parents=True)
    text = run("train", PRESET, "--steps", 1, "--output", tmp_path / "run", status=1)
    assert "results already" in text and "preset" in text


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_bad_arguments(command, tmp_path):
    output = ("--output", tmp_path / "job")
    text = run(command, PRESET, "--examples", 100_000, *output, status=1)
    assert "examples. Received: --examples 100000" in text
    assert "are rainbow, weber" in run(command, PRESET, "-p", "osprey", *output, status=1)
    assert "classifier" in run(command, "qrkt_gan_digits", *output, status=1)
    both = ("-r", 10, "--standard-error", 0.1)
    assert "Either repetitions or" in run(command, PRESET, *both, *output, status=1)
    few = ("--examples", 2, *output)
    assert "must be positive" in run(command, PRESET, "--timeout", 0, *few, status=2)
    assert "1, or several odd" in run(command, PRESET, "--noise-scales", "3", *few, status=2)
    asked = ("-p", "osprey", "--project", "mine", "--dry-run")
    assert "asks no processor" in run(command, PRESET, *asked, *few, status=2)
    assert not (tmp_path / "job").exists()


def test_the_estimate_counts_what_mitigation_costs(tmp_path):
    how = ("--standard-error", 0.1, "--mitigate-readout", "--noise-scales", "1,3")
    output = ("--output", tmp_path / "job")
    text = run("evaluate", PRESET, "--examples", 2, "--gateset", "cz", *how, *output)
    announced = int(re.search(r"([\d,]+) shots, and 2 circuits", text)[1].replace(",", ""))
    ran = json.loads((tmp_path / "job" / "evaluation.json").read_text())["num_shots"]
    # By the calibration's errors and by those that are measured then.
    assert announced == pytest.approx(ran, rel=0.1)


def test_what_a_sampler_says_is_said_alone(tmp_path):
    words = ("--examples", 2, "--timeout", 1e-6, "--output", tmp_path / "job")
    text = run("evaluate", PRESET, *words, status=1)
    assert "did not answer within 1e-06 seconds. Received: " in text
    assert "PQC.call" not in text and "Nothing had been run" in text
