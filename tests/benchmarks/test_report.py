"""The page says who won, and what was not measured."""

from __future__ import annotations

import json

import pytest
from benchmarks import report


def entry(contestant, median=None, status="measured", variant="quantum", **fields):
    values = {
        "contestant": contestant,
        "variant": variant,
        "status": status,
        "reason": "no reason",
        "median": median,
        "low": median,
        "high": median,
        "compile_seconds": 2.0,
        "peak_mb": 100.0,
        "note": "",
        "parameters": None,
        "parity": {"against": "qrkt-tf", "values": 1e-6},
    }
    return {**values, **fields}


def record(*entries, group="one layer", kind="circuit", **fields):
    case = {"group": group, "kind": kind, "template": "rx_ring", "num_qubits": 8}
    return {
        "case": {**case, "num_layers": 1, "batch": 2048, **fields},
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "busy": 0.0,
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 24, "system": "Linux"},
        "versions": {"qrkt-tf": {"keras": "3"}},
        "entries": list(entries),
    }


def page(**cases) -> str:
    data = {"cases": {name.replace("_n", "-n"): record for name, record in cases.items()}}
    return report.text(report.Results(data), [])


@pytest.mark.parametrize("ours, verdict", [(0.001, "met"), (0.02, "**missed**")])
def test_target(ours, verdict):
    name = "rx_ring-n8-l1"
    data = {
        "cases": {
            name: record(entry("qrkt-tf", ours), entry("tfq", 0.4), entry("torchquantum", 0.2))
        }
    }
    text = report.text(report.Results(data), [])
    row = next(line for line in text.splitlines() if line.startswith("| one layer, 8 qubits"))
    assert row.endswith(f"| {verdict} |")
    assert f"{0.2 / ours:.3g} (TorchQuantum / qrkt_keras, TensorFlow)" in row


def test_winner_is_marked():
    text = page(a=record(entry("qrkt-tf", 0.01), entry("tfq", 0.4)))
    assert "| qrkt_keras, TensorFlow | **10 ms (10 ms–10 ms)** | 0.025 |" in text
    assert "40 times as fast as the fastest peer" in text


def test_a_peer_that_wins_is_said_to():
    text = page(a=record(entry("qrkt-tf", 0.4), entry("torchquantum", 0.1)))
    assert "**Here a peer wins: TorchQuantum, 4 times faster.**" in text


def test_what_was_not_measured_is_said():
    text = page(a=record(entry("qrkt-tf", 0.4), entry("tfq", status="stopped", reason="> 300 s")))
    assert "| TensorFlow Quantum, adjoint | > 300 s |" in text
    assert "not measured" in text  # the other cases' targets


def test_another_circuit_is_found_out():
    wrong = {"against": "qrkt-tf", "values": 0.3}
    text = page(a=record(entry("qrkt-tf", 0.4), entry("tfq", 0.1, parity=wrong)))
    assert "another circuit!" in text


def test_twins_and_limit():
    text = page(
        a=record(
            entry("qrkt-tf", 0.3, parameters=5),
            entry("qrkt-tf", 0.2, variant="twin", parity=None, peak_mb=None, parameters=6),
            group="training step",
            kind="training",
        ),
        b=record(
            entry("qrkt-tf", 0.3),
            entry("qrkt-tf", 0.1, variant="limit", parity=None, peak_mb=None),
        ),
    )
    assert "| **300 ms (300 ms–300 ms)** | 1.5 |" in text
    assert "measured / limit 3.00" in text
    assert "Parameters, quantum: 5." in text


def step(*, batch=64, **seconds):
    """A record of a preset: contestant to seconds of quantum model and twin."""
    entries = []
    for name, (quantum, twin) in seconds.items():
        name = name.replace("_", "-")
        entries.append(entry(name, quantum, parameters=3066))
        entries.append(entry(name, twin, variant="twin", parameters=17098))
    return record(*entries, group="presets", kind="training", template="", batch=batch)


def preset_rows(**cases) -> tuple[str, list[str]]:
    """The part of the page with the presets' table, and its rows."""
    text = report.text(report.Results({"cases": cases}), [])
    part = text.split(f"## {report.PARTS['presets'][0]}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    return part, lines


def test_presets_share_a_table():
    part, rows = preset_rows(
        **{
            "preset-qtext_rk1_imdb": step(qrkt_tf=(3.0, 2.5), qrkt_tf_xla=(2.0, 1.0)),
            "preset-qvit_rk1_mnist": step(qrkt_tf=(0.004, 0.005), batch=16),
            # Measured by a case of another group.
            "qvit_rk4_digits": step(qrkt_tf=(0.006, 0.005), qrkt_tf_xla=(0.007, 0.005)),
        }
    )
    assert rows[0].split("|")[4].strip() == "qrkt_keras, TensorFlow: quantum / twin"
    assert rows[2:] == [
        "| `qtext_rk1_imdb` | 64 | 3,066 / 17,098 | 3 s / 2.5 s | 1.2 | **2 s** / 1 s | 2 |",
        "| `qvit_rk1_mnist` | 16 | 3,066 / 17,098 | **4 ms** / 5 ms | 0.8 |  |  |",
        "| `qvit_rk4_digits` | 64 | 3,066 / 17,098 | **6 ms** / 5 ms | 1.2 | 7 ms / 5 ms | 1.4 |",
    ]
    assert "from 0.8 (`qvit_rk1_mnist`) to 2 (`qtext_rk1_imdb`) times" in part
    assert "###" not in part
    missing = part.split("Not measured: ")[1]
    assert "`qvit_rk4_imagenet`" in missing and "`qtext_rk1_imdb`" not in missing


def test_a_preset_that_could_not_be_measured_says_why():
    stopped = entry("qrkt-tf", status="stopped", reason="> 300 s to compile")
    failed = entry("qrkt-tf-xla", status="failed", reason="a | b")
    broken = record(stopped, failed, group="presets", kind="training", template="", batch=64)
    part, rows = preset_rows(**{"preset-qvit_rk1_mnist": broken})
    expected = "| `qvit_rk1_mnist` | 64 |  | > 300 s to compile |  | failed: a \\| b |  |"
    assert rows[2:] == [expected]
    assert "times their twins' seconds" not in part


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "not measured | –"), (0.5, "30 s | met"), (0.7, "42 s | **missed**")],
)
def test_an_epoch_of_kawases_network(seconds, told):
    steps = record(
        entry("qrkt-tf", seconds or 1.0),
        entry("qrkt-tf", 0.001, variant="twin"),
        group="Kawase's networks",
        kind="training",
        template="",
    )
    cases = {} if seconds is None else {"patch_qnn_p4_d50": steps}
    text = report.text(report.Results({"cases": cases}), [])
    assert f"which are an epoch | ≤ 40 s | {told} |" in text
    assert ("## Training steps of Kawase's networks" in text) == (seconds is not None)


def test_plots(tmp_path):
    cases = {
        f"sweep-n{n}": record(
            entry("qrkt-tf-xla", 0.001 * n),
            entry("tfq", 0.01 * n),
            group="sweep",
            num_qubits=n,
            num_layers=3,
            batch=256,
        )
        for n in (2, 8)
    }
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps({"cases": cases}))
    text = report.write(path).read_text()
    for axis in report.AXES:
        assert (tmp_path / "images" / f"benchmarks_{axis}.png").stat().st_size > 1000
        assert f"(images/benchmarks_{axis}.png)" in text


@pytest.mark.parametrize("seconds, words", [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (1.2e-5, "12 µs")])
def test_time(seconds, words):
    assert report.time(seconds) == words


def test_models_are_called_by_their_case():
    step = record(entry("qrkt-tf", 0.1), group="GAN step", kind="critic", template="")
    cases = {"qrkt_gan_mnist-critic": step, "rx_ring-n8-l1": record(entry("qrkt-tf", 0.1))}
    text = report.text(report.Results({"cases": cases}), [])
    assert "### `qrkt_gan_mnist-critic`" in text
    assert "### `rx_ring`, 8 qubits, batch 2048" in text
