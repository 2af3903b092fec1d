import csv
import json
import subprocess
import sys

import numpy as np
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


def test_a_run_without_a_validation_split_is_a_row(run, tmp_path):
    folder, model = run
    scores = {"train": MEASURED, "test": MEASURED}
    runs.finish_run(
        model, tmp_path, recipe=Recipe(3), data="digits", scores=scores, command="qrkt train"
    )
    (tmp_path / "history.json").write_bytes((folder / "history.json").read_bytes())
    row = runs.read_run(tmp_path, preset="small", model="quantum")
    assert (row["validation_accuracy"], row["test_accuracy"]) == ("", "0.9123")


CARD = """# Model

<!-- best.py one -->
old
<!-- end of one -->
<!-- one.two -->
<!-- end of one.two -->
After.
"""


def test_lines_go_into_their_place_in_a_card(tmp_path):
    card = tmp_path / "README.md"
    card.write_text(CARD)
    runs.write_table(card, "one", ["a \\1", "b"])
    runs.write_table(card, "one.two", ["c"])
    wanted = CARD.replace("old\n", "a \\1\nb\n").replace(
        "two -->\n<!-- end", "two -->\nc\n<!-- end"
    )
    assert card.read_text() == wanted
    runs.write_table(card, "one.two", [])
    assert card.read_text() == wanted.replace("c\n", "")


@pytest.mark.parametrize("name", ["two", "one two", "twice", "open"])
def test_a_card_without_one_place_is_left_alone(tmp_path, name):
    card = tmp_path / "README.md"
    twice = "<!-- twice -->\n<!-- end of twice -->\n"
    card.write_text(CARD + 2 * twice + "<!-- open -->\n")
    before = card.read_bytes()
    with pytest.raises(ValueError, match=r"one place for the lines.*Received: .*README\.md with"):
        runs.write_table(card, name, ["new"])
    assert card.read_bytes() == before


def test_a_runs_weights_go_into_the_package(run, tmp_path, monkeypatch):
    folder, model = run
    target = tmp_path / "small"
    model.save_to_preset(target, recipe=Recipe(3), data="digits", include_weights=False)
    monkeypatch.setattr(zoo.presets, "_packaged", lambda: {"small": target})
    assert zoo.read_preset("small").weights is None
    assert runs.package_run(folder, "small") == target
    packaged = zoo.read_preset("small")
    assert packaged.metadata["scores"]["test"] == MEASURED and packaged.recipe.seed == 7
    for ours, wanted in zip(
        zoo.from_preset("small").get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, wanted)


def test_a_run_of_another_model_is_not_packaged(run, tmp_path, monkeypatch):
    target = tmp_path / "other"
    other = zoo.QViT(**SMALL | {"mlp_dim": 5})
    other.save_to_preset(target, recipe=Recipe(3), data="digits", include_weights=False)
    monkeypatch.setattr(zoo.presets, "_packaged", lambda: {"other": target})
    with pytest.raises(ValueError, match=r"preset's own model\. Received: .* for 'other'$"):
        runs.package_run(run[0], "other")
    with pytest.raises(ValueError, match=r"when it is finished\. Received: .*nothing$"):
        runs.package_run(tmp_path / "nothing", "other")
    assert zoo.read_preset("other").weights is None


@pytest.mark.parametrize(
    "changes", [{"data": "mnist"}, {"recipe": Recipe(4)}, {"recipe": Recipe(3, learning_rate=1)}]
)
def test_a_run_of_another_recipe_is_not_packaged(run, tmp_path, monkeypatch, changes):
    folder, model = run
    target = tmp_path / "small"
    own = {"recipe": Recipe(3), "data": "digits"} | changes
    model.save_to_preset(target, include_weights=False, **own)
    monkeypatch.setattr(zoo.presets, "_packaged", lambda: {"small": target})
    with pytest.raises(ValueError, match=r"by its own recipe\. Received: .* for 'small'$"):
        runs.package_run(folder, "small")
    assert zoo.read_preset("small").weights is None


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
