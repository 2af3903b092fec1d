"""docs/hardware.md beside what is recorded in docs/hardware.json, and one row of it, run again."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qrkt_keras.cli import app

ROOT = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location("hardware_results", ROOT / "zoo" / "hardware.py")
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

RESULTS = script.read()
# On another machine angles differ by rounding, so a few outcomes do, and an image or two.
TOLERANCES = {
    "num_circuits": 0,
    "num_shots": 0,
    "exact_accuracy": 0.01,
    "accuracy": 0.03,
    "mean_error": 0.002,
}


@pytest.mark.parametrize("page, name, lines", script.tables(RESULTS))
def test_pages_are_what_is_recorded(page, name, lines):
    written = [f"<!-- hardware.py {name} -->", *lines, f"<!-- end of {name} -->"]
    assert "\n".join(written) in page.read_text()


def test_all_that_is_promised_is_recorded():
    assert {"compile", "evaluate", "repetitions", "steps", "speed"} <= set(RESULTS)
    compiled = {(row["circuit"], row["processor"], row["gateset"]) for row in RESULTS["compile"]}
    assert len(compiled) == len(script.TEMPLATES) * 2 * 3
    for part in ("evaluate", "repetitions"):
        examples = {(row["preset"], row["num_examples"]) for row in RESULTS[part]}
        assert examples == set(script.EXAMPLES.items())
    # Whole jobs on two cores, within half an hour each.
    assert all(
        row["seconds"] < 1800 for part in ("evaluate", "repetitions") for row in RESULTS[part]
    )
    assert RESULTS["steps"]["exact_losses"][-1] < RESULTS["steps"]["exact_losses"][0]


def test_a_recorded_row_is_what_runs_today(tmp_path):
    """The same command, with the same seed."""
    (row,) = (
        row
        for row in RESULTS["evaluate"]
        if script.key(row)
        == script.job_key({"preset": script.QVIT, "examples": 100, "gateset": "cz"})
    )
    words = row["command"].split()[1:]
    words[words.index("--output") + 1] = str(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "evaluation.json").read_text())
    for name, tolerance in TOLERANCES.items():
        assert found[name] == pytest.approx(row[name], abs=tolerance), name


def test_a_report_changes_nothing(tmp_path, monkeypatch):
    pages = [script.PAGE, *script.CARDS.values()]
    before = [page.read_text() for page in pages]
    copies = [tmp_path / f"{number}.md" for number in range(len(pages))]
    for copy, text in zip(copies, before, strict=True):
        copy.write_text(text)
    monkeypatch.setattr(script, "PAGE", copies[0])
    monkeypatch.setattr(script, "CARDS", dict(zip(script.CARDS, copies[1:], strict=True)))
    monkeypatch.setattr(script, "IMAGES", tmp_path)
    script.report(None)
    assert [copy.read_text() for copy in copies] == before
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "hardware_repetitions_patch.png",
        "hardware_repetitions_qvit.png",
    ]
