"""A worker answers as the driver expects; no peer is needed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from benchmarks import bench, report
from benchmarks.cases import CONTESTANTS, Case
from benchmarks.contestants import qrkt

TINY = Case("tiny", "one layer", "circuit", 5, ("qrkt-tf",), "rx_ring", 3, 1, rounds=3)


@pytest.fixture
def worker(tmp_path):
    worker = bench.Worker("qrkt-tf", tmp_path / "log.txt", largest_mb=1e5)
    yield worker
    worker.kill()


def test_circuit(worker, tmp_path):
    assert worker.answer(120)["versions"]["qrkt_keras"]
    path = str(tmp_path / "arrays.npz")
    worker.tell(do="prepare", case=dataclasses.asdict(TINY), arrays=path)
    answer = worker.answer(120)
    assert answer["status"] == "prepared", answer
    fields = answer["variants"]["quantum"]
    assert fields["seconds"] > 0 and fields["compile_seconds"] > 0 and fields["peak_mb"] >= 0
    arrays = np.load(path)
    assert {name: arrays[name].shape for name in arrays} == {
        "values": (5, 3),
        "by_inputs": (5, 3),
        "by_weights": (3,),
    }
    worker.tell(do="run", variant="quantum")
    answer = worker.answer(120)
    assert answer["status"] == "ran" and answer["seconds"] > 0
    # What cannot be done is said, and the worker lives on.
    wrong = dataclasses.replace(TINY, template="nonesuch")
    worker.tell(do="prepare", case=dataclasses.asdict(wrong), arrays=path)
    answer = worker.answer(120)
    assert answer["status"] == "failed" and "nonesuch" in answer["reason"]


def test_too_slow(worker):
    with pytest.raises(bench.Stopped, match="> 0 s"):
        worker.answer(0.01)


def test_measure_and_report(tmp_path, monkeypatch):
    """A case from end to end, with a peer whose environment cannot be made."""

    def python_of(environment):
        if environment is not None:
            raise bench.Absent("no Python")
        return bench.sys.executable

    monkeypatch.setattr(bench, "python_of", python_of)
    monkeypatch.setattr(bench, "PAUSE", 0.0)
    versions = {}
    case = dataclasses.replace(TINY, left_out={"tfq": "it is slow"})
    entries = bench.measure(case, ["qrkt-tf", "torchquantum"], versions, tmp_path)
    statuses = {entry["contestant"]: entry["status"] for entry in entries}
    assert statuses == {"qrkt-tf": "measured", "torchquantum": "absent", "tfq": "left out"}
    assert entries[0]["rounds"] == 3
    assert entries[0]["parity"]["values"] == 0.0
    record = {
        "case": dataclasses.asdict(case),
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "busy": 0.0,
        "machine": bench.machine(),
        "versions": versions,
        "entries": entries,
    }
    path = tmp_path / "docs" / "benchmarks.json"
    bench.write(path, {"cases": {"tiny": record}})
    assert json.loads(path.read_text())["cases"]["tiny"]["entries"] == entries
    page = report.write(path).read_text()
    assert "| TorchQuantum | absent: no Python |" in page
    assert "| TensorFlow Quantum, adjoint | not tried: it is slow |" in page


SMALL_CIRCUITS = {
    "num_blocks": 1,
    "pool_size": 7,
    "patch_size": 2,
    "stride": 2,
    "num_qubits_per_circuit": 5,
}
ONE_BLOCK = {"num_encoder_blocks": 0, "num_ode_blocks": 1, "num_decoder_blocks": 0}


@pytest.mark.parametrize(
    "preset, steps, smaller",
    [
        ("qvit_rk1_mnist", 50, ONE_BLOCK | {"hidden_dim": 2}),
        ("qtext_rk1_imdb", 1, ONE_BLOCK | {"vocab_size": 9, "max_length": 5}),
        ("patch_qnn_p4_d50_mnist", 1, SMALL_CIRCUITS),
    ],
)
def test_training(monkeypatch, preset, steps, smaller):
    """A call trains a preset's model, of images or of texts, and its twin."""
    from qrkt_keras import zoo

    models, from_preset = [], zoo.from_preset

    def kept(*args, **options):
        models.append(from_preset(*args, **options))
        return models[-1]

    monkeypatch.setattr(zoo, "from_preset", kept)
    case = Case("tiny", "presets", "training", 3, ("qrkt-tf",), preset=preset, model=smaller)
    subjects = qrkt.TensorFlow().prepare(case)
    assert [*subjects] == ["quantum", "twin"]
    assert [model.quantum for model in models] == [True, False]
    for model, subject in zip(models, subjects.values(), strict=True):
        assert subject.parameters == model.count_params()
        before = model.get_weights()
        subject.call()
        assert int(model.optimizer.iterations) == steps == round(1 / subject.scale)
        after = model.get_weights()
        assert all(np.isfinite(weights).all() for weights in after)
        assert not any(np.array_equal(*pair) for pair in zip(before, after, strict=True))


class Engine:
    """What the limit asks of an engine."""

    def matrix_products(self, batch: int) -> list[tuple[int, int, int, int]]:
        return [(batch, 4, 4, 2), (16, 16, 8, 1)]


def test_limit():
    contestant = qrkt.TensorFlow()
    subject = contestant._limit(Engine(), TINY)["limit"]
    assert subject.call() is None
    assert contestant._limit(object(), TINY) == {}


def test_peers_are_named():
    assert {about.environment for about in CONTESTANTS.values()} == {
        None,
        *(path.stem for path in bench.REQUIREMENTS.glob("*.txt")),
    }
