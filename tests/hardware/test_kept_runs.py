"""Runs that are kept: nothing is run twice, and a job goes on as if it had not been ended."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
import time

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf

from qrkt_keras.circuits import templates
from qrkt_keras.execution import SamplerError, Sampling
from qrkt_keras.hardware import KeptRuns, KeptRunsError, compile_for, virtual_machine
from qrkt_keras.training.checkpoints import read_checkpoint

Q = cirq.LineQubit(0)
CIRCUIT = cirq.Circuit(cirq.X(Q) ** sympy.Symbol("t"), cirq.measure(Q, key="m"))
SWEEP = cirq.Points("t", [0.1, 0.5, 0.9])


class Once(cirq.Sampler):
    """cirq.Simulator that fails after a number of batches."""

    identity = "Simulator"

    def __init__(self, batches, seed=0):
        self.simulator, self.batches = cirq.Simulator(seed=seed), batches

    def run_sweep(self, program, params, repetitions=1):
        if not self.batches:
            raise RuntimeError("asked once more")
        self.batches -= 1
        return self.simulator.run_sweep(program, params, repetitions)


def job(sampler, folder, resume=False, batches=4, repetitions=20, circuit=CIRCUIT, sweep=SWEEP):
    kept = KeptRuns(sampler, folder, resume=resume)
    results = [kept.run_sweep(circuit, sweep, repetitions) for _ in range(batches)]
    outcomes = [[result.measurements["m"] for result in batch] for batch in results]
    return np.array(outcomes), kept


def test_finished_batches_are_not_run_again(tmp_path):
    with pytest.raises(RuntimeError, match="asked once more"):
        job(Once(2), tmp_path)
    assert len(list(tmp_path.glob("run_*.npz"))) == 2
    outcomes, kept = job(Once(2, seed=1), tmp_path, resume=True)
    assert (kept.num_kept, kept.num_circuits, kept.num_shots) == (6, 6, 6 * 20)
    again, kept = job(Once(0), tmp_path, resume=True)
    assert np.array_equal(outcomes, again) and kept.num_circuits == 0
    assert outcomes.shape == (4, 3, 20, 1)


def test_results_come_back_as_they_were(tmp_path):
    batch = [CIRCUIT, cirq.Circuit(cirq.H(Q), cirq.measure(Q, key="b"), cirq.measure(Q, key="a"))]
    runs = KeptRuns(cirq.Simulator(seed=0), tmp_path).run_batch(batch, [SWEEP, None], [5, 9])
    again = KeptRuns(Once(0), tmp_path, resume=True).run_batch(batch, [SWEEP, None], [5, 9])
    assert again == runs
    assert [result.params for result in again[0]] == list(SWEEP)


def test_a_virtual_machine_goes_on_where_it_was(tmp_path):
    spec = templates.ry_ring(2)
    (program,) = compile_for(spec).programs(spec)
    sweep = program.sweep(np.random.default_rng(0).uniform(-1, 1, (2, 6)))

    def run(folder, resume=False, batches=4):
        kept = KeptRuns(virtual_machine("weber", seed=5), folder, resume=resume)
        return [kept.run_batch([program.circuit], [sweep], 30) for _ in range(batches)]

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", batches=2)
    assert run(tmp_path / "parts", resume=True) == whole


def test_another_job_is_refused(tmp_path):
    job(cirq.Simulator(), tmp_path, batches=1)
    with pytest.raises(ValueError, match="runs already: .*resume=True.* Received: folder="):
        KeptRuns(cirq.Simulator(), tmp_path)
    others = {
        "repetitions": {"repetitions": 21},
        "angles": {"sweep": cirq.Points("t", [0.1, 0.5, 0.8])},
        "points": {"sweep": cirq.Points("t", [0.1, 0.5])},
        "circuits": {"circuit": cirq.Circuit(cirq.Y(Q) ** sympy.Symbol("t"), CIRCUIT[1])},
        "sampler": {"sampler": cirq.DensityMatrixSimulator()},
    }
    for name, options in others.items():
        arguments = {"sampler": cirq.Simulator(), "folder": tmp_path} | options
        with pytest.raises(KeptRunsError, match=f"of another job.* Received: other {name}.*run_"):
            job(resume=True, batches=1, **arguments)
    # Rounding is no other job, nor is an exponent that is two more.
    rounded = cirq.Points("t", [0.1 + 1e-7, 2.5, 0.9])
    job(cirq.Simulator(), tmp_path, resume=True, batches=1, sweep=rounded)


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"noise": None}, {"processor": "rainbow"}, {"simulator": "trajectories"}],
)
def test_outcomes_of_another_machine_are_refused(change, tmp_path):
    qubit = cirq.GridQubit(5, 2)
    circuit = cirq.Circuit(cirq.PhasedXZGate.from_matrix(cirq.unitary(cirq.H))(qubit))
    circuit.append(cirq.measure(qubit, key="m"))
    options = {"processor": "weber", "seed": 5}
    KeptRuns(virtual_machine(**options), tmp_path).run(circuit, repetitions=10)
    again = KeptRuns(virtual_machine(**options | change), tmp_path, resume=True)
    with pytest.raises(KeptRunsError, match="Received: other sampler"):
        again.run(circuit, repetitions=10)


@pytest.mark.parametrize("missing", ["shots", "points"])
def test_half_an_answer_is_not_kept(missing, tmp_path):
    class Short(cirq.Sampler):
        def run_sweep(self, program, params, repetitions=1):
            shots = repetitions - (missing == "shots")
            results = cirq.Simulator(seed=0).run_sweep(program, params, shots)
            return results[: len(results) - (missing == "points")]

    with pytest.raises(SamplerError, match=r"\(3, \[20\]\).* Received: "):
        job(Short(), tmp_path, batches=1)
    assert not list(tmp_path.glob("run_*.npz"))


def test_an_answer_that_comes_too_late_is_kept_and_used(tmp_path):
    spec = templates.ry_ring(2)
    inputs, weights = tf.zeros((1, 1, 2)), tf.zeros((1, 2))
    waits, asked = threading.Event(), []

    class Slow(cirq.Sampler):
        def run_sweep(self, program, params, repetitions=1):
            asked.append(program)
            waits.wait(30)
            return cirq.Simulator(seed=len(asked)).run_sweep(program, params, repetitions)

    kept = KeptRuns(Slow(), tmp_path)
    with pytest.raises(SamplerError, match="did not answer"):
        Sampling(spec, kept, repetitions=50, timeout=0.2).expectation(inputs, weights)
    waits.set()
    for _ in range(300):
        if (tmp_path / "run_000000.npz").exists():
            break
        time.sleep(0.1)
    again = KeptRuns(Slow(), tmp_path, resume=True)
    Sampling(spec, again, repetitions=50).expectation(inputs, weights)
    assert len(asked) == 1 and again.num_kept == 1


def test_a_full_disk_is_told_as_it_is(tmp_path, monkeypatch):
    from qrkt_keras.hardware import kept_runs

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_runs, "write_checkpoint", full)
    spec = templates.ry_ring(2)
    engine = Sampling(spec, KeptRuns(cirq.Simulator(), tmp_path), repetitions=5)
    with pytest.raises(KeptRunsError, match="could not be kept .*No space left.* Received: "):
        engine.expectation(tf.zeros((1, 1, 2)), tf.zeros((1, 2)))


def test_a_damaged_file_is_told(tmp_path):
    job(cirq.Simulator(), tmp_path, batches=1)
    file = tmp_path / "run_000000.npz"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(KeptRunsError, match="truncated"):
        job(Once(0), tmp_path, resume=True)


def test_a_killed_job_goes_on(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, sys
        sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
        import cirq
        from test_kept_runs import CIRCUIT, SWEEP, Once
        from qrkt_keras.hardware import KeptRuns

        class Dies(Once):
            def run_sweep(self, program, params, repetitions=1):
                if not self.batches:
                    os.kill(os.getpid(), 9)
                return super().run_sweep(program, params, repetitions)

        kept = KeptRuns(Dies(3), {str(tmp_path / "killed")!r})
        for _ in range(5):
            kept.run_sweep(CIRCUIT, SWEEP, 20)
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]
    _, kept = job(Once(2), tmp_path / "killed", resume=True, batches=5)
    assert kept.num_kept == 3 * 3


def test_a_second_process_is_refused(tmp_path):
    kept = KeptRuns(cirq.Simulator(seed=0), tmp_path)
    code = (
        "import cirq, sys; from qrkt_keras.hardware import KeptRuns\n"
        "KeptRuns(cirq.Simulator(), sys.argv[1], resume=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "Another process is at work in the folder" in done.stderr
    assert kept.folder == tmp_path  # alive until here
    del kept
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeptRunsError, match="could not be made .* Received: folder="):
        KeptRuns(cirq.Simulator(), tmp_path / "file" / "folder")


def test_outcomes_are_stored_as_bits(tmp_path):
    kept = KeptRuns(cirq.Simulator(seed=0), tmp_path)
    kept.run(cirq.Circuit(cirq.measure(*cirq.LineQubit.range(8), key="m")), repetitions=8000)
    checkpoint = read_checkpoint(tmp_path / "run_000000.npz")
    assert checkpoint.arrays["outcomes/0/m"].nbytes == 8000
    shutil.rmtree(tmp_path)
