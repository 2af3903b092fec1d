"""The script that makes the tables of our own presets, beside what is recorded."""

import csv
import importlib.util
import statistics
from pathlib import Path

import pytest

from qrkt_keras import zoo

ZOO = Path(__file__).resolve().parents[2] / "zoo"

_spec = importlib.util.spec_from_file_location("best", ZOO / "best.py")
best = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(best)


def recorded(preset):
    with open(ZOO / "results.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["preset"] == preset]


@pytest.mark.parametrize("preset", best.PRINTED)
def test_the_card_is_what_is_recorded(preset):
    family = zoo.read_preset(preset).folder.parents[1].name
    written = [
        f"<!-- best.py {preset} -->",
        *best.table(recorded(preset), preset),
        f"<!-- end of {preset} -->",
    ]
    assert "\n".join(written) in (ZOO / family / "README.md").read_text()


@pytest.mark.parametrize("preset", best.PRINTED)
def test_what_is_recorded_of_the_packaged_weights_is_so(preset):
    """Seed 0 of the model itself is packaged."""
    (row,) = (row for row in recorded(preset) if (row["model"], row["seed"]) == ("quantum", "0"))
    metadata = zoo.read_preset(preset).metadata
    for split in ("validation", "test"):
        accuracy = metadata["scores"][split]["accuracy"]
        assert float(row[f"{split}_accuracy"]) == pytest.approx(accuracy, abs=5e-5)
    model = zoo.from_preset(preset, load_weights=False)
    assert (int(row["parameters"]), int(row["qubits"])) == (
        model.count_params(),
        model.num_qubits,
    )


def test_a_table_has_means_and_deviations():
    rows = [
        {
            "model": "quantum",
            "seed": str(seed),
            "parameters": "3378",
            "qubits": "64",
            "validation_accuracy": f"{validation}",
            "test_accuracy": f"{test}",
            "test_macro_auc": "0.999",
            "seconds": f"{100 + seed}",
        }
        for seed, validation, test in ((1, 0.97, 0.98), (0, 0.95, 0.96), (2, 0.96, 0.99))
    ]
    *_, line = best.table(rows, "qvit_3k_mnist")
    cells = line.strip("| ").split(" | ")
    deviation = statistics.stdev([98, 96, 99])
    assert cells == [
        "quantum",
        "3,378",
        "64",
        f"{statistics.mean([98, 96, 99]):.2f} ± {deviation:.2f} %",
        "96.00 ± 1.00 %",
        "0.9990 ± 0.0000",
        "0, 1, 2",
        "100, 101, 102",
    ]


def test_a_picture_of_the_runs_that_are_here(tmp_path):
    folders = {}
    for form in ("quantum", "twin"):
        folder = tmp_path / form
        folder.mkdir()
        (folder / "history.json").write_text('{"history": {"val_accuracy": [0.5, 0.75]}}')
        folders[form, 0] = folder
    best.write_picture(folders, tmp_path / "curves.png", title="two")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
