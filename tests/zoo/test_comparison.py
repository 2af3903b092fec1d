"""Comparisons of small models: what they leave, what they refuse, and that a kill costs nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from qrkt_keras import cli, training, zoo
from qrkt_keras.training import CheckpointError, Recipe, TrainingInterrupted, read_checkpoint
from qrkt_keras.zoo import comparison

ROOT = Path(__file__).parents[2]
PATIENCE = 240
SHAPE = {
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 4,
    "num_encoder_blocks": 0,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 0,
    "solver": "rk1",
}
RECIPE = Recipe(epochs=6, batch_size=128, learning_rate=0.01)


def save(folder, model=None, recipe=RECIPE, data="digits", **changes):
    model = model or zoo.QViT((8, 8, 1), 10, patch_size=4, **SHAPE | changes)
    return model.save_to_preset(folder, recipe=recipe, data=data, include_weights=False)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save(tmp_path_factory.mktemp("presets") / "small")


@pytest.fixture(scope="module")
def compared(preset, tmp_path_factory):
    """A comparison that nothing disturbed: its folder, and what was returned."""
    folder = tmp_path_factory.mktemp("comparisons") / "whole"
    result = zoo.compare(
        [preset], output_dir=folder, controls=["matched"], seeds=[0, 3], progress=False
    )
    return folder, result


def rows_of(folder):
    with open(folder / "results.csv", newline="") as file:
        return [*csv.DictReader(file)]


def checkpoint(folder):
    # Keras numbers seed generators by how many there have been in the process.
    arrays = read_checkpoint(folder / "checkpoint.npz").arrays
    return {re.sub(r"seed_generator_\d+", "seed_generator", name): arrays[name] for name in arrays}


def assert_same_bits(ours, wanted):
    assert any("/seed_generator/" in name for name in wanted)
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        assert ours[name].tobytes() == array.tobytes(), name


def test_what_is_left(compared, preset):
    folder, result = compared
    names = {f"small_{form}_seed{seed}" for form in ("quantum", "matched") for seed in (0, 3)}
    assert {file.name for file in folder.iterdir()} == names | {"results.csv", "accuracy.png"}
    with Image.open(folder / "accuracy.png") as picture:
        assert picture.format == "PNG"
    for name in names:
        assert (folder / name / "saved_model" / "1" / "saved_model.pb").is_file()
    # Of each seed all forms, so that what is there at any time can be compared.
    assert [(row["model"], row["seed"]) for row in rows_of(folder)] == [
        ("quantum", "0"),
        ("matched twin", "0"),
        ("quantum", "3"),
        ("matched twin", "3"),
    ]
    assert result.output_dir == folder and result.diverged == {}


def test_what_is_told(compared, preset):
    folder, result = compared
    quantum, matched = result.models
    model = zoo.from_preset(preset, load_weights=False)
    assert (quantum.title, quantum.parameters, quantum.qubits) == (
        "quantum",
        model.count_params(),
        model.num_qubits,
    )
    assert matched.qubits == 0
    assert abs(matched.parameters - quantum.parameters) <= 0.01 * quantum.parameters
    accuracies = []
    for seed in (0, 3):
        scores = json.loads((folder / f"small_quantum_seed{seed}" / "scores.json").read_text())
        accuracies.append(round(scores["test"]["accuracy"], 4))
    assert quantum.values() == tuple(accuracies)
    assert quantum.mean() == pytest.approx(sum(accuracies) / 2)
    assert quantum.std() == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert all(0 < seconds < 5 for seconds in matched.values("seconds_per_step"))


def test_terms_are_equal(compared):
    folder, _ = compared
    recipes, fingerprints = set(), set()
    for run in folder.glob("small_*"):
        identity = read_checkpoint(run / "checkpoint.npz").metadata["identity"]
        fingerprints.add(identity["data"]["sha256"])
        recipes.add(Recipe.from_dict(identity["recipe"]).with_given(seed=0))
    assert recipes == {RECIPE} and len(fingerprints) == 1


def test_a_recorded_command_gives_the_same_run(compared, tmp_path):
    folder, _ = compared
    run = folder / "small_matched_seed3"
    metadata = json.loads((run / "preset" / "metadata.json").read_text())
    words = shlex.split(metadata["command"])
    assert words[:2] == ["qrkt", "train"] and words[-2:] == ["--output", str(run)]
    done = CliRunner().invoke(cli.app, [*words[1:-1], str(tmp_path / "again"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert_same_bits(checkpoint(tmp_path / "again"), checkpoint(run))
    again = json.loads((tmp_path / "again" / "preset" / "metadata.json").read_text())
    assert again["scores"] == metadata["scores"]


@pytest.mark.slow  # A process of its own; `training/test_resume.py` kills a job for every change.
def test_a_killed_comparison_goes_on_and_ends_the_same(compared, preset, tmp_path, monkeypatch):
    whole, _ = compared
    folder = tmp_path / "killed"
    words = ["compare", "--models", str(preset), "--controls", "matched", "--seeds", "0", "3"]
    words += ["--output", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "qrkt_keras", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    running = folder / "small_matched_seed0" / "checkpoint.npz"
    deadline = time.monotonic() + PATIENCE
    while not running.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE)
    assert "run 2 of 4: small, matched twin, seed 0" in output
    assert [row["model"] for row in rows_of(folder)] == ["quantum"]
    assert not (folder / "accuracy.png").exists()
    first = folder / "small_quantum_seed0" / "preset" / "metadata.json"
    written = first.stat().st_mtime_ns

    done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 1 and "--resume" in done.stderr
    done = CliRunner().invoke(cli.app, [*words, "--resume"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "1 of 4 runs are finished" in done.stdout
    assert "run 1 of 4" not in done.stdout and "run 2 of 4" in done.stdout
    assert first.stat().st_mtime_ns == written
    for run in whole.glob("small_*"):
        assert_same_bits(checkpoint(folder / run.name), checkpoint(run))
    told = ("model", "seed", "parameters", "test_accuracy", "test_macro_auc")
    ours, wanted = (
        sorted([row[name] for name in told] for row in rows_of(one)) for one in (folder, whole)
    )
    assert ours == wanted
    assert (folder / "accuracy.png").read_bytes() == (whole / "accuracy.png").read_bytes()


def test_a_finished_comparison_runs_nothing_and_tells_the_same(compared, preset, monkeypatch):
    folder, result = compared
    monkeypatch.setattr(comparison, "fit", None)
    again = zoo.compare(
        [preset],
        output_dir=folder,
        controls=["matched"],
        seeds=[0, 3],
        resume=True,
        progress=False,
    )
    assert again == result


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"epochs": 7}, "recipe"),
        ({"arguments": {"dropout": 0.5}}, "model"),
        ({"arguments": {"dropout": 0.5}, "batch_size": 64}, "recipe and another model"),
    ],
    ids=str,
)
def test_finished_runs_of_another_comparison_are_refused(compared, preset, changes, other):
    folder, _ = compared
    before = (folder / "results.csv").read_bytes()
    with pytest.raises(CheckpointError, match=rf"has another {other}: .*small_quantum_seed0$"):
        zoo.compare([preset], output_dir=folder, resume=True, progress=False, **changes)
    assert (folder / "results.csv").read_bytes() == before


@pytest.fixture
def fits(monkeypatch):
    """Calls of `fit`, each of which is interrupted at once."""
    calls = []

    def interrupted(model, data, recipe, **options):
        calls.append((model, data, recipe, options))
        raise TrainingInterrupted

    monkeypatch.setattr(comparison, "fit", interrupted)
    return calls


def test_what_is_asked_goes_to_every_run(fits, preset, tmp_path):
    recipe = Recipe(epochs=9, learning_rate=0.5)
    with pytest.raises(TrainingInterrupted):
        zoo.compare(
            [preset],
            output_dir=tmp_path / "c",
            recipe=recipe,
            epochs=2,
            batch_size=16,
            engine="tfq",
            arguments={"template": "rx_ring", "num_ansatz_layers": 2},
            seeds=[5],
            xla=True,
            progress=False,
        )
    model, data, used, options = fits[0]
    assert (model.template, model.num_ansatz_layers, model.engine) == ("rx_ring", 2, "tfq")
    assert data == "digits" and options["jit_compile"] is True and options["resume"]
    assert used == Recipe(epochs=2, batch_size=16, learning_rate=0.5, seed=5)
    # The recipe that the commands name.
    assert Recipe.from_json((tmp_path / "c" / "recipe.json").read_text()) == recipe


def trained_by(form, seed, folder):
    """What a recorded command trains: model, data, recipe, and how the data is read."""
    words = [*form.command, "--seed", str(seed), "--output", str(folder)]
    calls = []

    def fit(model, data, recipe, **options):
        calls.append((model.get_config(), data, recipe, dict(options["data_options"])))
        raise TrainingInterrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", fit)
        done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 130, done.output
    return calls[0]


@pytest.mark.parametrize("asks", ["little", "much"])
def test_every_recorded_command_trains_what_was_trained(preset, tmp_path, monkeypatch, asks):
    (tmp_path / "words.csv").write_text(
        "review,mark\n" + "\n".join(f"film {k},{'good' if k % 2 else 'bad'}" for k in range(40))
    )
    model = zoo.QText(3, vocab_size=20, max_length=5, **SHAPE)
    save(tmp_path / "texts", model, data="imdb_reviews")
    planned = []
    monkeypatch.setattr(
        comparison,
        "_run",
        lambda folder, forms, folders, **options: planned.extend(folders.items()),
    )
    common = {"output_dir": tmp_path / "c", "controls": [*zoo.CONTROLS], "seeds": [2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if asks == "little":
            zoo.compare([preset], **common)
        else:
            zoo.compare(
                [tmp_path / "texts"],
                **common,
                data=str(tmp_path / "words.csv"),
                data_options={"text_column": "review", "label_column": "mark", "skip_empty": True},
                recipe=Recipe(epochs=3, clip_norm=None),
                batch_size=16,
                learning_rate=0.25,
                arguments={"dropout": 0.0, "template": "rx_ring", "solver": ["rk2"]},
                engine="state_vector",
                xla=True,
            )
    assert len(planned) == 5
    for (form, seed), folder in planned:
        config, data, recipe, options = trained_by(form, seed, folder)
        assert config == form.model.get_config()
        assert (data, options) == (form.examples.data, form.examples.options)
        assert recipe == form.recipe.with_given(seed=seed)


def test_a_run_that_diverges_does_not_end_the_others(preset, tmp_path):
    result = zoo.compare(
        [preset],
        output_dir=tmp_path,
        seeds=[0],
        epochs=1,
        learning_rate=1e30,
        arguments={"dropout": 0.0},
        progress=False,
    )
    assert {folder.name for folder in result.diverged} == {
        "small_quantum_seed0",
        "small_twin_seed0",
    }
    assert all("learning rate" in error for error in result.diverged.values())
    assert all(model.runs == () for model in result.models)
    assert not (tmp_path / "accuracy.png").exists()


def test_texts_of_your_own_are_compared(tmp_path, monkeypatch):
    lines = [f"a {'good' if k % 2 else 'bad'} film,{k % 2}" for k in range(100)]
    (tmp_path / "films.csv").write_text("words,mark\n" + "\n".join(lines))
    model = zoo.QText(2, vocab_size=3, max_length=4, **SHAPE)
    preset = save(
        tmp_path / "texts",
        model,
        Recipe(epochs=12, batch_size=16, learning_rate=0.05),
        "imdb_reviews",
    )
    asked = {
        "output_dir": tmp_path / "c",
        "data": str(tmp_path / "films.csv"),
        "data_options": {"text_column": "words", "label_column": "mark"},
        "arguments": {"vocab_size": 20},
        "controls": [],
        "seeds": [0],
        "progress": False,
    }
    (told,) = zoo.compare([preset], **asked).models
    assert told.values() == (1.0,)
    # The vocabulary came from the texts, and its run is known again.
    trained = zoo.from_preset(tmp_path / "c" / "texts_quantum_seed0" / "preset")
    assert "good" in trained.vocabulary and trained.label_names == ("0", "1")
    monkeypatch.setattr(comparison, "fit", None)
    assert zoo.compare([preset], **asked, resume=True).models == (told,)
    (tmp_path / "more.csv").write_bytes((tmp_path / "films.csv").read_bytes())
    with pytest.raises(CheckpointError, match="another data: "):
        zoo.compare([preset], **asked | {"data": str(tmp_path / "more.csv")}, resume=True)


def test_a_patch_network_is_compared_without_a_validation_split(tmp_path):
    model = zoo.PatchQNN(
        (8, 8, 1),
        pool_size=1,
        patch_size=4,
        stride=4,
        num_blocks=1,
        num_qubits_per_circuit=5,
        scale=10.0,
    )
    recipe = Recipe(
        epochs=1, batch_size=400, clip_norm=None, hold_out=False, monitor="train_accuracy"
    )
    preset = save(tmp_path / "patches", model, recipe)
    folder = tmp_path / "c"
    result = zoo.compare(
        [preset], output_dir=folder, controls=["twin", "frozen"], seeds=[0], progress=False
    )
    # Biases of 64 pixels; 4 circuits of 62 angles, or Dense layers from 16 pixels to 10 classes.
    assert [(one.title, one.parameters, one.qubits) for one in result.models] == [
        ("quantum", 64 + 4 * 62, 20),
        ("classical twin", 64 + 4 * 170, 0),
        ("frozen circuits", 64 + 4 * 62, 20),
    ]
    for row in rows_of(folder):
        assert row["validation_accuracy"] == "" and 0 < float(row["test_accuracy"]) < 1
    assert all(one.values("validation_accuracy") == () for one in result.models)
    fingerprints = set()
    for run in folder.glob("patches_*"):
        identity = read_checkpoint(run / "checkpoint.npz").metadata["identity"]
        fingerprints.add(identity["data"]["sha256"])
        assert not identity["recipe"]["hold_out"]
    assert len(fingerprints) == 1
    # The angles are those that the seed draws.
    frozen = zoo.from_preset(folder / "patches_frozen_seed0" / "preset")
    keras.utils.set_random_seed(0)
    drawn = zoo.from_preset(preset, load_weights=False, trainable_circuits=False)
    np.testing.assert_array_equal(*(one.pqcs[0].get_weights()[0] for one in (frozen, drawn)))
    (bias,) = frozen.get_layer("pixel_bias").get_weights()
    assert np.abs(bias).max() > 0


def test_a_matched_twin_that_is_the_twin_is_left_out(fits, tmp_path):
    model = zoo.QText(2, vocab_size=3000, max_length=4, **SHAPE)
    (tmp_path / "films.csv").write_text(
        "text,label\n" + "\n".join(f"film {k},{k % 2}" for k in range(40))
    )
    preset = save(tmp_path / "texts", model, data=str(tmp_path / "films.csv"))
    planned = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_run", lambda folder, forms, *a, **k: planned.extend(forms))
        with pytest.warns(UserWarning, match=r"The matched twin of texts is its classical twin"):
            zoo.compare([preset], output_dir=tmp_path / "c", controls=["twin", "matched"])
    assert [form.key for form in planned] == ["quantum", "twin"]


@pytest.mark.parametrize(
    ("presets", "changes", "message"),
    [
        ([], {}, r"presets must be a list of some\. Received: presets=\[\]$"),
        ("small", {}, r"presets must be a list of some\. Received: presets='small'$"),
        (["small"], {"seeds": []}, r"Received: seeds=\[\]$"),
        (["small"], {"seeds": [1, 1]}, r"seeds must be different\. Received: seeds=\[1, 1\]$"),
        (["small"], {"seeds": [-1]}, r"Received: seed=-1$"),
        (["small"], {"controls": ["twins"]}, r"twin, matched, identity, frozen\. Rec.*'twins'$"),
        (["qrkt_gan_mnist"], {}, r"GANs are by FID: .*compare\.py .*'qrkt_gan_mnist', QRKTGAN$"),
        (["features_digits"], {}, r"with circuits\. Received: 'features_digits', FeatureNetwork$"),
        (["small", "qvit_rk1_mnist"], {}, r"data= \(on the command line --data\).*digits, mnist$"),
        (["small", "small"], {}, r"presets must be different"),
        (["small", "other/small"], {}, r"different names\. Received: small, small$"),
        (["small"], {"data": "mnist"}, r"small takes 8×8×1 images of 10 classes, mnist has 28×28"),
        (["small"], {"arguments": {"quantum": False}}, r"Received: 'small' with quantum=False"),
        (["small"], {"arguments": {"template": "identity"}}, r"template='identity'"),
        (["small"], {"arguments": {"trainable_circuits": False}}, r"trainable_circuits=False$"),
        (["small"], {"data_options": {"num_classes": 3}}, r"Received: num_classes$"),
        (["small"], {"arguments": {"template": {1j}}}, r"JSON data .*Received: template=\{1j\}$"),
        (
            ["patch_qnn_p4_d50_mnist"],
            {"controls": ["twin", "identity"]},
            r"control identity \(identity for circuits\) is of models with the arguments template, "
            r".* has not template; its controls are twin, frozen\. Rec.*p4_d50_mnist', PatchQNN$",
        ),
        (
            ["patch_qnn_p4_d50_mnist"],
            {"controls": ["matched"]},
            r"control matched .* has not hidden_dim, mlp_dim, num_heads; its controls are twin, fr",
        ),
        (
            ["patch_qnn_p4_d50_mnist"],
            {"arguments": {"quantum": False}},
            r"mnist' with quantum=False, trainable_circuits=True$",
        ),
        (["nothing"], {}, r"Received: .*nothing'$"),
        (["bare"], {}, r"does not say its data set"),
        (["bare"], {"data": "digits"}, r"command line --recipe\) does\. Received: 'bare'$"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    preset, tmp_path, monkeypatch, fits, presets, changes, message
):
    monkeypatch.chdir(preset.parent)
    if not Path("other").exists():
        save("other/small", mlp_dim=5)
        zoo.from_preset("small", load_weights=False).save_to_preset("bare", include_weights=False)
    with pytest.raises(ValueError, match=message):
        zoo.compare(presets, output_dir=tmp_path / "c", **changes)
    assert not (tmp_path / "c").exists() and not fits


def test_other_recipes_are_noticed(preset, tmp_path, fits):
    other = save(tmp_path / "other", recipe=RECIPE.with_given(epochs=5))
    for changes, told in (({}, 1), ({"epochs": 3}, 0), ({"recipe": RECIPE}, 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(TrainingInterrupted):
                zoo.compare(
                    [preset, other], output_dir=tmp_path / f"c{len(fits)}", controls=[], **changes
                )
        told_here = [one for one in caught if "different recipes" in str(one.message)]
        assert len(told_here) == told


def test_a_folder_with_something_else_is_left_alone(preset, tmp_path, fits):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"The folder is not empty: .*Received: "):
        zoo.compare([preset], output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"must be a folder\. Received: .*thesis\.tex$"):
        zoo.compare([preset], output_dir=tmp_path / "thesis.tex")
    assert not fits
