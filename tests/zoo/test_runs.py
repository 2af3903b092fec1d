import csv
import json
import subprocess
import sys

import pytest

from qrkt_keras import zoo
from qrkt_keras.training import Recipe
from qrkt_keras.zoo import runs

SMALL = {
    "image_shape": (8, 8, 1),
    "num_classes": 10,
    "patch_size": 4,
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 3,
    "num_encoder_blocks": 0,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 0,
    "solver": "rk1",
}
MEASURED = {"accuracy": 0.91234, "macro_f1": 0.9, "macro_auc": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, as if it had been trained."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = zoo.QViT(**SMALL)
    runs.finish_run(
        model,
        folder,
        recipe=Recipe(epochs=3, seed=7),
        data="digits",
        scores={"validation": MEASURED, "test": MEASURED},
        command="qrkt train --seed 7",
    )
    history = {"epochs": 2, "seconds": 12.6, "seconds_per_step": 0.0123456}
    (folder / "history.json").write_text(json.dumps(history))
    return folder, model


def test_a_run_is_a_row(run):
    folder, model = run
    row = runs.read_run(folder, preset="small", model="quantum")
    assert tuple(row) == runs.COLUMNS
    assert row == {
        "preset": "small",
        "model": "quantum",
        "data": "digits",
        "seed": "7",
        "epochs": "2",
        "parameters": str(model.count_params()),
        "qubits": str(model.num_qubits),
        "validation_accuracy": "0.9123",
        "test_accuracy": "0.9123",
        "test_macro_f1": "0.9000",
        "test_macro_auc": "",
        "seconds": "13",
        "seconds_per_step": "0.0123",
        "command": "qrkt train --seed 7",
    }
    known = runs.read_run(folder, preset="small", model="quantum", counts=(1, 2))
    assert (known["parameters"], known["qubits"]) == ("1", "2")


def test_a_run_has_its_name_from_its_folder(run):
    assert runs.name_of(zoo.read_preset(run[0] / "preset")) == "run"
    assert runs.name_of(zoo.read_preset("qvit_rk4_mnist")) == "qvit_rk4_mnist"


@pytest.mark.parametrize("missing", ["preset/metadata.json", "saved_model/1/saved_model.pb"])
def test_only_what_is_missing_is_run(run, tmp_path, missing):
    folder, _ = run
    for name in ("whole", "half"):
        for file in ("preset/metadata.json", "saved_model/1/saved_model.pb"):
            (tmp_path / name / file).parent.mkdir(parents=True)
            (tmp_path / name / file).touch()
    (tmp_path / "half" / missing).unlink()
    folders = {0: folder, 1: tmp_path / "none", 2: tmp_path / "whole", 3: tmp_path / "half"}
    assert runs.finished_runs(folders) == {0: folder, 2: tmp_path / "whole"}
    ran = []
    runs.run_missing(folders, lambda *job: ran.append(job))
    assert ran == [(1, tmp_path / "none"), (3, tmp_path / "half")]


def test_rows_take_the_place_of_those_of_the_same_run(tmp_path):
    path = tmp_path / "results.csv"
    row = dict.fromkeys(runs.COLUMNS, "") | {"preset": "a", "model": "quantum", "seed": "0"}
    other = row | {"seed": "1", "command": 'qrkt train --set "a, b=1"'}
    assert runs.record_runs(path, [row, other]) == [row, other]
    again = row | {"test_accuracy": "0.5"}
    assert runs.record_runs(path, [again]) == [other, again]
    with open(path, newline="") as file:
        assert [*csv.DictReader(file)] == [other, again]
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_a_file_keeps_its_columns(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("preset,model,seed,test_accuracy\na,quantum,0,0.25\n")
    row = dict.fromkeys(runs.COLUMNS, "") | {"preset": "b", "model": "quantum", "seed": "0"}
    runs.record_runs(path, [row | {"test_accuracy": "0.5", "seconds": "7"}])
    assert path.read_text() == (
        "preset,model,seed,test_accuracy\na,quantum,0,0.25\nb,quantum,0,0.5\n"
    )


def test_spread_is_the_sample_standard_deviation():
    assert runs.spread([1, 2, 3, 4], 3) == "2.500 ± 1.291"
    assert runs.spread([0.5], 1) == "0.5"


def test_a_command_is_shown_and_run(capsys, monkeypatch):
    called = []
    monkeypatch.setattr(runs.subprocess, "run", lambda *a, **k: called.append((a, k)))
    runs.run_command("train", "a b", "--seed", 3)
    assert capsys.readouterr().out == "qrkt train 'a b' --seed 3\n"
    words = [sys.executable, "-m", "qrkt_keras", "train", "a b", "--seed", "3"]
    assert called == [((words,), {"check": True})]
    monkeypatch.undo()
    with pytest.raises(subprocess.CalledProcessError):
        runs.run_command("tarin")
