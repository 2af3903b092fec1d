"""`qrkt`: most of it in this process, whole runs in processes of their own."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qrkt_keras import cli, data

ROOT = Path(__file__).parents[1]
PATIENCE = 240


def qrkt(*arguments, columns=200):
    """The command in this process, on a screen of so many columns."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli.app, words, env={"COLUMNS": str(columns)})


def refused(*arguments):
    """The one line in which a command says why it does not do it."""
    done = qrkt(*arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    (line,) = done.stderr.splitlines()
    return line


def start(*arguments, **environment):
    """The command in a process of its own, as a user's shell starts it: nothing is silenced."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment
    variables.pop("TF_CPP_MIN_LOG_LEVEL")
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "qrkt_keras", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )


def finish(process, status=0):
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, output + errors
    return output, errors


def epoch_of(run):
    from qrkt_keras.training import read_checkpoint

    path = run / "checkpoint.npz"
    return read_checkpoint(path).metadata["epoch"] if path.exists() else 0


def wait_for_epoch(epoch, run, process):
    deadline = time.monotonic() + PATIENCE
    while epoch_of(run) < epoch:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def small_preset(tmp_path_factory):
    """A preset that is quickly built and trained."""
    from qrkt_keras import training, zoo

    model = zoo.QViT(
        (8, 8, 1),
        10,
        patch_size=4,
        hidden_dim=4,
        num_heads=2,
        mlp_dim=4,
        num_encoder_blocks=0,
        num_ode_blocks=1,
        num_decoder_blocks=0,
        solver="rk2",
    )
    return zoo.save_to_preset(
        model,
        tmp_path_factory.mktemp("presets") / "small",
        recipe=training.Recipe(epochs=12, batch_size=64, learning_rate=0.01, warmup_steps=20),
        data="digits",
        include_weights=False,
    )


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """The preset of a small PatchQNN, trained without a validation split."""
    from qrkt_keras import training, zoo

    model = zoo.PatchQNN(
        (8, 8, 1),
        10,
        pool_size=1,
        patch_size=4,
        stride=4,
        num_blocks=1,
        num_qubits_per_circuit=5,
        scale=10.0,
    )
    recipe = training.Recipe(
        epochs=2,
        batch_size=200,
        optimizer="adam",
        learning_rate=0.02,
        schedule="epoch_cosine",
        cycle_epochs=4,
        warmup_steps=0,
        weight_decay=0,
        monitor="train_loss",
        stratified=True,
        hold_out=False,
        snapshots=True,
    )
    folder = tmp_path_factory.mktemp("presets") / "patches"
    return zoo.save_to_preset(model, folder, recipe=recipe, data="digits", include_weights=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as a newcomer makes it, but of one epoch: its folder, and what was on the screen."""
    folder = tmp_path_factory.mktemp("newcomer") / "run"
    output, errors = finish(start("train", "--epochs", 1, "--seed", 3, "--output", folder))
    return folder, output, errors


# --- start-up and help -----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "--help"]])
def test_help_and_list_come_at_once(arguments):
    code = f"""
import json, sys, time
from qrkt_keras.cli import app
try:
    app({arguments!r}, prog_name="qrkt")
except SystemExit as end:
    assert not end.code
heavy = sorted({{"tensorflow", "keras", "cirq", "jax", "sklearn"}} & set(sys.modules))
print(json.dumps([time.process_time(), heavy]), file=sys.stderr)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    seconds, heavy = json.loads(done.stderr)
    assert "qrkt" in done.stdout or "qvit" in done.stdout
    assert heavy == []
    assert seconds < 1


def test_help_names_every_command():
    text = qrkt("--help").output
    commands = (
        "train",
        "tune",
        "compare",
        "evaluate",
        "predict",
        "export",
        "list",
        "about",
        "circuit",
    )
    for command in commands:
        assert f" {command} " in text
        assert qrkt(command, "--help").exit_code == 0
    assert qrkt("--version").output == f"qrkt {cli.qrkt_keras.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tarin"], "tarin"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--batch-size", "many"], "--batch-size"),
        (["train", "--resume", "--overwrite"], "exclude each other"),
        (["predict"], "FILE"),
        (["circuit", "ry_ring"], "--num-qubits"),
        ([], "Usage"),
    ],
)
def test_wrong_usage_has_status_2(arguments, said, in_empty_folder):
    done = qrkt(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not list(in_empty_folder.iterdir())


# --- list ------------------------------------------------------------------------------------


def listed(*arguments):
    done = qrkt("list", *arguments)
    assert done.exit_code == 0, done.output
    header, *rows = (line.split() for line in done.stdout.splitlines())
    assert header == "preset model data parameters qubits test accuracy".split()
    return {row[0]: row[1:] for row in rows}


def test_list_shows_the_published_counts():
    rows = listed()
    assert set(rows) == set(cli._packaged_presets())
    counts = {  # SPEC.md, section 4: quantum, 3 Runge-Kutta blocks and 1 decoder block
        "qvit_rk1_mnist": ["2,872", "114"],
        "qvit_rk2_mnist": ["3,088", "195"],
        "qvit_rk3_mnist": ["3,304", "276"],
        "qvit_rk4_mnist": ["3,520", "357"],
        "qvit_rk4_enhanced_mnist": ["3,520", "357"],
    }
    for name, (parameters, qubits) in counts.items():
        assert rows[name][:4] == ["QViT", "mnist", parameters, qubits]
    assert rows["qvit_rk1_cifar10"][:4] == ["QViT", "cifar10", "20,590", "390"]
    assert rows["qvit_rk4_imagenet"][:4] == ["QViT", "imagenet2012", "18,274", "486"]
    assert rows["qtext_rk4_imdb"][:4] == ["QText", "imdb_reviews", "244,212", "230"]
    assert rows["qvit_rk4_digits"][:2] == ["QViT", "digits"]
    angles = {  # SPEC.md, section 5: by patches, then blocks; the biases are not counted there
        4: {50: 10112, 100: 19712, 150: 29312, 200: 38912},
        9: {50: 22752, 100: 44352, 150: 65952, 200: 87552},
        16: {50: 40448, 100: 78848, 150: 117248, 200: 155648},
    }
    for patches, by_blocks in angles.items():
        for blocks, number in by_blocks.items():
            told = ["PatchQNN", "mnist", f"{number + 196:,}", str(8 * patches)]
            assert rows[f"patch_qnn_p{patches}_d{blocks}_mnist"][:4] == told
    assert rows["patch_qnn_40k_mnist"][:4] == ["PatchQNN", "mnist", "39,684", "96"]


def test_list_takes_a_pattern():
    assert set(listed("*rk?_mnist")) == {f"qvit_rk{order}_mnist" for order in (1, 2, 3, 4)}
    assert refused("list", "qbit*").endswith("Received: pattern='qbit*'")


def test_list_shows_the_measured_accuracy(tmp_path, monkeypatch):
    presets = tmp_path / "zoo" / "qvit" / "presets"
    packaged = cli._packaged_presets()["qvit_rk4_mnist"]
    for name, metadata in {
        "measured": {"scores": {"test": {"accuracy": 0.91234}}},
        "unmeasured": {"scores": None},
        "untrained": None,
    }.items():
        folder = presets / name
        folder.mkdir(parents=True)
        for file in ("config.json", "recipe.json"):
            (folder / file).write_bytes((packaged / file).read_bytes())
        if metadata is not None:
            (folder / "metadata.json").write_text(json.dumps(metadata))
    monkeypatch.setattr(cli, "PACKAGE", tmp_path)
    assert {name: row[-1] for name, row in listed().items()} == {
        "measured": "91.23%",
        "unmeasured": "–",
        "untrained": "untrained",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantum": False},
        {"num_encoder_blocks": 1, "num_ode_blocks": 0},
        {"solver": "rk4", "share_weights": True, "num_ode_blocks": 2},
        {"num_decoder_blocks": 2, "quantum": False, "image_shape": (4, 8, 3)},
        {"num_decoder_blocks": 1, "template": "rx_ring", "num_ansatz_layers": 2},
        {"template": "hardware_efficient", "num_ansatz_layers": 3},
        {"template": "hardware_efficient_once", "num_ansatz_layers": 2},
        {"solver": ["rk2_learned", "rk2_gated"], "num_ode_blocks": 2},
        {"patch_size": 4, "patch_stride": 1, "template": "identity"},
        {"num_decoder_blocks": 2, "project_cross_attention": True, "trainable_encoding": True},
        {"pooling": "depthwise", "depth_multiplier": 3},
    ],
    ids=str,
)
def test_listed_counts_are_the_models_own(changes):
    from qrkt_keras.zoo import QViT

    config = {
        "image_shape": (8, 8, 1),
        "num_classes": 3,
        "patch_size": 2,
        "hidden_dim": 6,
        "num_heads": 2,
        "mlp_dim": 4,
        "num_encoder_blocks": 0,
        "num_ode_blocks": 1,
        "num_decoder_blocks": 0,
        "solver": "rk2",
    }
    model = QViT(**config | changes)
    config = json.loads(json.dumps(model.get_config()))
    assert cli._counts("QViT", config) == (model.count_params(), model.num_qubits)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantum": False},
        {"pool_size": 2, "stride": 2, "patch_size": 2, "num_qubits_per_circuit": 3},
        {"image_shape": (9, 12, 3), "pool_size": 3, "patch_size": 2, "num_blocks": 2},
        {"image_shape": (9, 12, 3), "pool_size": 3, "patch_size": 2, "quantum": False},
    ],
    ids=str,
)
# Averages and patches that leave pixels unused.
@pytest.mark.filterwarnings("ignore:.* pixels are in no ")
def test_listed_counts_of_a_patch_network(changes):
    from qrkt_keras.zoo import PatchQNN

    config = {
        "image_shape": (8, 8, 1),
        "num_classes": 4,
        "pool_size": 1,
        "patch_size": 4,
        "stride": 3,
        "num_blocks": 1,
        "num_qubits_per_circuit": 2,
    }
    model = PatchQNN(**config | changes)
    config = json.loads(json.dumps(model.get_config()))
    assert cli._counts("PatchQNN", config) == (model.count_params(), model.num_qubits)


# Circuits of 100 blocks and more take seconds to make.
@pytest.mark.parametrize(
    "num_blocks",
    [50, *(pytest.param(blocks, marks=pytest.mark.slow) for blocks in (100, 150, 200))],
)
def test_listed_counts_of_the_presets_of_patch_networks(num_blocks):
    from qrkt_keras import zoo

    for num_patches in (4, 9, 16):
        source = zoo.read_preset(f"patch_qnn_p{num_patches}_d{num_blocks}_mnist")
        for quantum in (True, False):
            model = zoo.from_preset(source, load_weights=False, quantum=quantum)
            counts = cli._counts("PatchQNN", {**source.config, "quantum": quantum})
            assert counts == (model.count_params(), model.num_qubits)


@pytest.mark.parametrize("num_decoder_blocks", [0, 1])
def test_listed_counts_of_a_text_model(num_decoder_blocks):
    from qrkt_keras.zoo import QText

    model = QText(
        vocab_size=30,
        max_length=9,
        hidden_dim=6,
        num_heads=2,
        mlp_dim=4,
        num_encoder_blocks=1,
        num_ode_blocks=1,
        num_decoder_blocks=num_decoder_blocks,
    )
    assert cli._counts("QText", model.get_config()) == (model.count_params(), model.num_qubits)


# --- errors ----------------------------------------------------------------------------------


def test_an_error_for_the_user_is_one_line():
    line = refused("train", "--data", "minst")
    assert line.endswith(
        "Did you mean 'mnist'? A data set is named as TFDS names it, or is a path with a separator "
        f"in it. The data sets known here are: {', '.join(data.list())}. Received: name='minst'"
    )


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_where_it_comes_from(how, monkeypatch):
    if how == "variable":
        monkeypatch.setenv("QRKT_DEBUG", "1")
    done = qrkt(*(["--debug"] * (how == "option")), "train", "--data", "minst")
    assert isinstance(done.exception, ValueError) and "minst" in str(done.exception)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("x. Received: x"),
        # Like one of ours, but raised elsewhere: here, which is not our package.
        ValueError("x. Received: x"),
    ],
    ids=repr,
)
def test_an_unexpected_error_keeps_its_traceback(error, monkeypatch):
    def fail(name):
        raise error

    monkeypatch.setattr(cli.datasets, "info", fail)
    done = qrkt("train", "--data", "digits")
    assert done.exception is error
    assert done.output == ""


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_located", lambda preset: None)  # cannot be unpacked
    done = qrkt("train")
    assert isinstance(done.exception, TypeError)


def test_what_the_machine_refuses_is_one_line(monkeypatch, small_preset, in_empty_folder):
    from qrkt_keras import training

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/small/checkpoint.npz")

    monkeypatch.setattr(training, "fit", fail)
    line = refused("train", small_preset)
    assert line == "[Errno 28] No space left on device: 'runs/small/checkpoint.npz'"


def test_an_interrupt_is_no_error(monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.datasets, "info", interrupt)
    done = qrkt("train", "--data", "digits")
    assert (done.exit_code, done.stderr) == (130, "Interrupted.\n")


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["train", "qvit_rk4_digit"], "qvit_rk4_digits"),
        (["evaluate", "qvit_rk4_digit"], "qvit_rk4_digits"),
        (["predict", "x.png", "--preset", "no/folder"], "no/folder"),
        (["train", "--engine", "pauli"], "pauli_propagation"),
        (["circuit", "rx_rign", "-n", "3"], "rx_ring"),
    ],
)
def test_what_is_misspelt_is_told_with_what_is_known(arguments, known, in_empty_folder):
    line = refused(*arguments)
    assert known in line and "Received: " in line
    assert not list(in_empty_folder.iterdir())


def test_another_backend_is_refused(monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert refused("about").endswith("Received: 'jax'")


def test_our_warnings_are_lines_and_others_are_left_alone(capsys):
    with cli._warnings_as_lines():
        warnings.warn_explicit("bits differ", UserWarning, str(cli.PACKAGE / "x.py"), 1)
        assert capsys.readouterr().err == "Note: bits differ\n"
        with pytest.warns(UserWarning, match="theirs"):
            warnings.warn_explicit("theirs", UserWarning, "/elsewhere/x.py", 1)
        assert "Note" not in capsys.readouterr().err


# --- circuit and about -----------------------------------------------------------------------


def test_circuit_as_text_and_in_files(tmp_path):
    from qrkt_keras.circuits import templates

    spec = templates.get("rx_ring", 3, num_layers=2)
    done = qrkt("circuit", "rx_ring", "--num-qubits", 3, "--layers", 2)
    assert done.stdout == f"{spec.draw()}\n"
    for name, start_of_file in {"a.png": b"\x89PNG", "a.svg": b"<?xml", "a.txt": b"0: "}.items():
        done = qrkt("circuit", "rx_ring", "-n", 3, "--layers", 2, "--output", tmp_path / name)
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes().startswith(start_of_file)
    assert "format='jpg'" in refused("circuit", "rx_ring", "-n", 3, "--output", tmp_path / "a.jpg")
    missing = tmp_path / "missing" / "a.png"
    assert str(missing) in refused("circuit", "rx_ring", "-n", 3, "--output", missing)


def test_about(tfds_dir, monkeypatch, tmp_path):
    import tensorflow as tf

    def told():
        done = qrkt("about")
        assert done.exit_code == 0, done.output
        return dict(line.split("  ", 1) for line in done.stdout.splitlines())

    lines = {word: value.strip() for word, value in told().items()}
    assert lines["tensorflow"] == tf.__version__
    assert lines["engines"] == "auto, pauli_propagation, state_vector, tfq"
    assert lines["devices"].startswith("CPU (")
    assert lines["TFDS_DATA_DIR"] == os.environ["TFDS_DATA_DIR"]
    folder = Path(os.environ["TFDS_DATA_DIR"])
    expected = [
        name if name == "digits" or (folder / name).is_dir() else f"{name} (not found)"
        for name in data.list()
    ]
    assert lines["data sets"] == ", ".join(expected)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    lines = {word: value.strip() for word, value in told().items()}
    assert lines["TFDS_DATA_DIR"] == f"{tmp_path / 'nothing'} (no such folder)"
    expected = [name if name == "digits" else f"{name} (not found)" for name in data.list()]
    assert lines["data sets"] == ", ".join(expected)
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert "not set" in told()["TFDS_DATA_DIR"]


# --- train, without training -----------------------------------------------------------------


@pytest.fixture
def fit(monkeypatch):
    """Calls of `training.fit`, each of which is interrupted at once."""
    from qrkt_keras import training

    calls = []

    def interrupted(model, data, recipe, **options):
        calls.append((model, data, recipe, options))
        raise training.TrainingInterrupted

    monkeypatch.setattr(training, "fit", interrupted)
    return calls


def test_train_passes_on_what_was_asked(fit, small_preset, in_empty_folder):
    done = qrkt("train", small_preset)
    assert done.exit_code == 130
    model, name, recipe, options = fit[0]
    assert (name, recipe.epochs, recipe.learning_rate) == ("digits", 12, 0.01)
    assert model.quantum and model.engine == "auto"
    assert options["output_dir"] == Path("runs/small")
    assert not options["resume"] and not options["overwrite"] and options["progress"]

    asked = "--classical --epochs 2 --batch-size 16 --learning-rate 0.5 --seed 7 --engine tfq"
    done = qrkt("train", small_preset, *asked.split(), "--output", "my run", "--overwrite", "-q")
    model, name, recipe, options = fit[1]
    assert not model.quantum and model.engine == "tfq"
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.seed) == (2, 16, 0.5, 7)
    assert recipe.warmup_steps == 20
    assert options["output_dir"] == Path("my run")
    assert options["overwrite"] and not options["progress"]
    assert options["identity"]["model"] == model.get_config()
    assert done.stdout == ""

    # The command that it shows continues this very job.
    command = shlex.split(done.stderr.splitlines()[-1])
    assert command[:2] == ["qrkt", "train"] and command[-1] == "--resume"
    qrkt(*command[1:])
    again, name_again, recipe_again, options_again = fit[2]
    assert (again.get_config(), name_again, recipe_again) == (model.get_config(), name, recipe)
    assert options_again["identity"] == options["identity"]
    assert options_again["output_dir"] == Path("my run")
    assert options_again["resume"] and not options_again["overwrite"]


def test_train_takes_any_argument_of_the_model(fit, small_preset, in_empty_folder):
    asked = ["--set", "variant=thesis", "--set", "num_decoder_blocks=2", "--set", "residual=null"]
    done = qrkt("train", small_preset, *asked, "--xla", "--tensorboard", "--freeze-circuits")
    model, _, _, options = fit[0]
    assert (model.variant, model.num_decoder_blocks, model.residual) == ("thesis", 2, None)
    assert not model.trainable_circuits
    assert options["jit_compile"] is True and options["tensorboard"]
    assert options["output_dir"].name.startswith("small_frozen_variant_thesis_num_decoder_blocks_2")
    command = shlex.split(done.stderr.splitlines()[-1])
    qrkt(*command[1:])
    assert fit[1][0].get_config() == model.get_config()
    assert fit[1][3]["jit_compile"] is True and fit[1][3]["tensorboard"]

    assert refused("train", small_preset, "--set", "no-name=1").endswith("Received: 'no-name=1'")
    assert refused("train", small_preset, "--set", "width=8").endswith("Received: width=8")


def test_a_gan_hears_of_xla_and_of_frozen_circuits_too(monkeypatch, gan_run, in_empty_folder):
    from qrkt_keras import training

    calls = []

    def interrupted(model, *arguments, **options):
        trained = any(layer.trainable_variables for layer in model.pqcs)
        calls.append((options["jit_compile"], trained))
        raise training.TrainingInterrupted

    monkeypatch.setattr(training, "fit_gan", interrupted)
    for flags in ([], ["--xla"], ["--freeze-circuits"]):
        done = qrkt("train", gan_run[0].parent / "small", *flags)
        assert done.exit_code == 130 and shlex.join(flags) in done.stderr
    assert calls == [(False, True), (True, True), (False, False)]


def test_the_seed_is_that_of_the_weights_too(fit, small_preset, in_empty_folder):
    for seed in (1, 1, 2):
        qrkt("train", small_preset, "--seed", seed)
    one, same, other = (
        np.concatenate([weight.ravel() for weight in model.get_weights()]) for model, *_ in fit
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_classical_twin_has_its_own_folder(fit, small_preset, in_empty_folder):
    done = qrkt("train", small_preset, "--classical")
    assert fit[0][3]["output_dir"] == Path("runs/small_classical")
    assert "the classical twin" in done.stdout and "(0 quantum" in done.stdout


def test_the_header_tells_model_data_and_recipe(fit, small_preset, in_empty_folder):
    lines = qrkt("train", small_preset).stdout.splitlines()
    model = fit[0][0]
    assert f"{model.count_params():,} parameters ({model.num_quantum_params} quantum" in lines[0]
    assert f"{model.num_qubits} qubits, engine pauli_propagation" in lines[0]
    assert "1,293 to train, 144 to validate, 360 to test, 8×8×1 images of 10 classes" in lines[1]
    assert "12 epochs of 20 steps of 64 images, adamw, rate 0.01 (warmup-cosine)" in lines[2]
    assert lines[3].split() == ["output", "runs/small"]


def test_the_header_tells_that_nothing_is_held_out(fit, patches, in_empty_folder):
    lines = qrkt("train", patches).stdout.splitlines()
    model = fit[0][0]
    assert f"{model.count_params():,} parameters ({model.num_quantum_params} quantum" in lines[0]
    assert "1,437 to train, none held out, 360 to test, 8×8×1 images" in lines[1]
    assert "2 epochs of 7 steps of 200 images, adam, rate 0.02 (epoch-cosine)" in lines[2]


def test_a_patch_network_is_trained_and_used(patches, in_empty_folder):
    from PIL import Image

    from qrkt_keras import training, zoo

    done = qrkt("train", patches, "--seed", 1, "--output", "run")
    assert done.exit_code == 0, done.output
    scores = json.loads(Path("run/scores.json").read_text())
    history = json.loads(Path("run/history.json").read_text())
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert set(scores) == {"train", "test"}
    for split, number in (("train", "1,437"), ("test", "360")):
        assert rows[split][1] == f"{scores[split]['accuracy']:.2%}" and rows[split][-1] == number
    losses = history["history"]["train_loss"]
    told = f"Weights of epoch {1 + losses.index(min(losses))} of 2, the best on all training "
    assert f"{told}examples by loss; trained in" in done.stdout
    assert "snapshots/" in done.stdout and len([*Path("run/snapshots").iterdir()]) == 3

    done = qrkt("evaluate", "run")
    assert done.exit_code == 0, done.output
    row = done.stdout.splitlines()[1].split()
    assert row[:3] == ["digits", "test", f"{scores['test']['accuracy']:.2%}"]

    image = data.arrays("digits", "test")[0][:1]
    Image.fromarray(image[0, ..., 0]).save("digit.png")
    done = qrkt("predict", "digit.png", "--preset", "run", "--json")
    assert done.exit_code == 0, done.output
    (answer,) = json.loads(done.stdout)
    logits = zoo.PatchQNN.from_preset("run/preset").predict(image, verbose=0)
    (wanted,) = training.probabilities_from_logits(logits)
    np.testing.assert_allclose([*answer["probabilities"].values()], wanted, atol=1e-5)

    done = qrkt("export", "run", "--output", "served")
    assert done.exit_code == 0, done.output
    assert "images: uint8 (batch, 8, 8, 1) in 0..255" in done.stdout
    assert Path("served/1/saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("monitor", "told"),
    [
        ("val_auc", "on the validation split by auc"),
        ("train_accuracy", "on all training examples by accuracy"),
        ("loss", "by the mean loss while it was trained"),
    ],
)
def test_what_chose_the_epoch_is_told(monitor, told):
    assert cli._monitored(monitor) == told


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "runs/qvit_rk4_digits"),
        (["--data", "digits"], "runs/qvit_rk4_digits"),
        (["--data", "mnist"], "runs/qvit_rk4_mnist"),
        (["qvit_rk1_mnist"], "runs/qvit_rk1_mnist"),
        (["--output", "here"], "here"),
    ],
)
def test_what_is_there_is_not_replaced(arguments, folder, in_empty_folder):
    kept = in_empty_folder / folder / "file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    line = refused("train", *arguments)
    assert line.endswith(f"Received: {folder}")
    assert "--resume" in line and "--overwrite" in line and kept.exists()


def test_data_that_does_not_fit_the_preset_is_refused(fit, in_empty_folder):
    line = refused("train", "qvit_rk1_mnist", "--data", "digits")
    assert "qvit_rk1_mnist takes 28×28×1 images of 10 classes, digits has 8×8×1 images" in line
    assert not fit and not list(in_empty_folder.iterdir())


def test_data_that_is_not_there_is_told_before_anything_is_done(fit, monkeypatch, in_empty_folder):
    monkeypatch.setenv("HOME", str(in_empty_folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(in_empty_folder))
    done = qrkt("train", "qvit_rk1_mnist")
    assert done.exit_code == 1
    assert done.stderr.startswith("The data set 'mnist' is not on this machine.")
    assert not fit and not list(in_empty_folder.iterdir())


def test_a_preset_without_a_recipe_cannot_be_trained(fit, small_preset, tmp_path):
    (tmp_path / "config.json").write_bytes((small_preset / "config.json").read_bytes())
    assert "save_to_preset(recipe=..., data=...)" in refused("train", tmp_path)
    assert not fit


def test_a_damaged_preset_is_one_line(small_preset, tmp_path):
    config = json.loads((small_preset / "config.json").read_text())
    del config["config"]["image_shape"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "recipe.json").write_bytes((small_preset / "recipe.json").read_bytes())
    assert str(tmp_path / "config.json") in refused("train", tmp_path)


def test_an_untrained_preset_answers_nothing(small_preset, in_empty_folder):
    for command in (
        ["evaluate", small_preset],
        ["predict", "x.png", "--preset", small_preset],
        ["export", small_preset],
    ):
        line = refused(*command)
        assert f"qrkt train {small_preset}" in line
    assert not list(in_empty_folder.iterdir())


def test_a_run_is_laid_out_as_the_zoo_has_it():
    from qrkt_keras.zoo import runs

    assert (cli.PRESET, cli.SAVED_MODEL) == (runs.PRESET, runs.SAVED_MODEL)


def test_a_run_stands_for_its_preset(small_preset, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "preset").mkdir(parents=True)
    (run / "preset" / "config.json").touch()
    assert cli._located(str(run)) == (str(run / "preset"), "run")
    assert cli._located(str(run / "preset")) == (str(run / "preset"), "run")
    assert cli._located(str(small_preset)) == (str(small_preset), "small")
    # A name of the package means that, whatever lies in the working folder.
    monkeypatch.chdir(tmp_path)
    run.rename("qvit_rk4_mnist")
    assert cli._located("qvit_rk4_mnist") == ("qvit_rk4_mnist", "qvit_rk4_mnist")


# --- whole runs ------------------------------------------------------------------------------


def test_what_a_run_leaves(run):
    folder, output, _ = run
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {file for file in files if not file.startswith("saved_model/1/")} == {
        "checkpoint.npz",
        "confusion.png",
        "history.json",
        "history.png",
        "roc.png",
        "scores.json",
        "preset/config.json",
        "preset/recipe.json",
        "preset/metadata.json",
        "preset/model.weights.h5",
    }
    assert "saved_model/1/saved_model.pb" in files
    assert json.loads((folder / "history.json").read_text())["epochs"] == 1

    metadata = json.loads((folder / "preset" / "metadata.json").read_text())
    scores = json.loads((folder / "scores.json").read_text())
    assert metadata["scores"] == scores
    assert metadata["seed"] == 3
    assert metadata["command"] == f"qrkt train --epochs 1 --seed 3 --output {folder}"
    recipe = json.loads((folder / "preset" / "recipe.json").read_text())
    assert (recipe["data"], recipe["recipe"]["epochs"]) == ("digits", 1)


def test_what_a_run_shows(run):
    folder, output, errors = run
    assert errors == ""  # neither TensorFlow's chatter nor anybody's warnings
    scores = json.loads((folder / "scores.json").read_text())
    lines = output.splitlines()
    assert lines[0].startswith("qvit_rk4_digits  ")
    assert any(line.startswith("epoch 1/1  loss ") for line in lines)
    row = next(line.split() for line in lines if line.startswith("test "))
    assert row[1] == f"{scores['test']['accuracy']:.2%}"
    assert row[2] == f"{scores['test']['macro_f1']:.4f}"
    assert row[3] == f"{scores['test']['macro_auc']:.4f}"
    assert row[5] == "360"
    assert f"Written to {folder}/" in lines
    # The command by a name under which the user's shell finds it.
    name = (
        "qrkt" if shutil.which("qrkt") else shlex.quote(str(Path(sys.executable).parent / "qrkt"))
    )
    for command in ("predict IMAGE.png --preset", "evaluate", "export"):
        assert f"  {name} {command} {folder}" in lines


def test_the_guide_that_a_run_names_is_there():
    assert (ROOT / cli.GUIDE).is_file()


def test_a_finished_run_has_nothing_left(run):
    folder, output, _ = run
    weights = (folder / "preset" / "metadata.json").read_text()
    command = ["train", "--epochs", 1, "--seed", 3, "--output", folder]
    done = qrkt(*command, "--resume")
    assert done.exit_code == 0, done.output
    assert "had finished already: nothing was left to train" in done.stdout
    assert next(line for line in output.splitlines() if line.startswith("test ")) in done.stdout
    assert (folder / "preset" / "metadata.json").read_text() == weights

    done = qrkt("train", "--epochs", 2, "--seed", 3, "--output", folder, "--resume")
    assert done.exit_code == 1
    assert done.stderr.endswith("Received: recipe.epochs=2, but it was 1\n")


def test_evaluate_gives_the_same_scores(run):
    folder = run[0]
    scores = json.loads((folder / "scores.json").read_text())
    for split, images in {"test": "360", "validation": "144"}.items():
        done = qrkt("evaluate", folder, "--split", split)
        assert done.exit_code == 0, done.output
        row = done.stdout.splitlines()[1].split()
        assert row[:2] == ["digits", split]
        assert row[2] == f"{scores[split]['accuracy']:.2%}"
        assert row[6] == images
    assert "split='tests'" in refused("evaluate", folder, "--split", "tests")
    assert "digits" in refused("evaluate", folder, "--data", "cifar")


def test_another_engine_gives_the_same_scores(small_preset, tmp_path):
    # On 4 qubits: the other engines' time and memory grow with 2^n.
    command = ["train", small_preset, "--epochs", 1, "--output", tmp_path / "run", "--quiet"]
    assert qrkt(*command).exit_code == 0
    rows = []
    for engine in ("auto", "state_vector", "tfq"):
        done = qrkt("evaluate", tmp_path / "run" / "preset", "--engine", engine)
        assert done.exit_code == 0, done.output
        rows.append(done.stdout.splitlines()[1].split())
    for row in rows[1:]:
        assert row[2] == rows[0][2]
        assert abs(float(row[5]) - float(rows[0][5])) < 2e-4


def test_a_narrow_screen_folds_the_first_column_and_cuts_nothing():
    done = qrkt("list", "qvit_rk4_enhanced_mnist", columns=62)
    words = done.stdout.split()
    assert words[:6] == ["preset", "model", "data", "parameters", "qubits", "test"]
    assert "3,520" in words and "untrained" in words and "…" not in done.stdout
    first_column = "".join(line.split(maxsplit=1)[0] for line in done.stdout.splitlines()[1:])
    assert first_column == "qvit_rk4_enhanced_mnist"


def test_predict(run, tmp_path):
    from PIL import Image

    from qrkt_keras import training, zoo

    folder = run[0]
    images, _ = data.arrays("digits", "test")
    files = [tmp_path / f"[bold] {number}.png" for number in range(3)]
    for file, image in zip(files, images, strict=False):
        Image.fromarray(image[..., 0]).save(file)
    model = zoo.from_preset(folder / "preset")
    wanted = training.probabilities_from_logits(model.predict(images[:3], verbose=0))

    done = qrkt("predict", *files, "--preset", folder, "--json")
    assert done.exit_code == 0, done.output
    answers = json.loads(done.stdout)
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    for answer, row in zip(answers, wanted, strict=True):
        assert answer["label"] == row.argmax() and answer["label_name"] == str(row.argmax())
        assert answer["probability"] == max(answer["probabilities"].values())
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=1e-5)

    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:40])
    done = qrkt("predict", files[0], broken, tmp_path / "none.png", "--preset", folder / "preset")
    assert done.exit_code == 1
    header, row = done.stdout.splitlines()
    assert header.split() == ["image", "label", "probability"]
    assert row.startswith(str(files[0]))
    assert row.split()[-2:] == [str(wanted[0].argmax()), f"{wanted[0].max():.1%}"]
    first, second = done.stderr.splitlines()
    assert str(broken) in first and str(tmp_path / "none.png") in second

    done = qrkt("predict", broken, "--preset", folder, "--json")
    assert done.exit_code == 1 and json.loads(done.stdout) == []


def test_export(run, in_empty_folder):
    from qrkt_keras.serving import load_saved_model

    folder = run[0]
    done = qrkt("export", folder)
    assert done.exit_code == 0, done.output
    written = in_empty_folder / "run" / "1"
    for said in ("run/1/", "serving_default", "serving_uint8", "/v1/models/run:predict"):
        assert said in done.stdout
    images, _ = data.arrays("digits", "test")
    served, saved = (
        load_saved_model(path).signatures["serving_uint8"](images=images[:5])
        for path in (written, folder / "saved_model" / "1")
    )
    np.testing.assert_allclose(served["probabilities"], saved["probabilities"], atol=1e-6)

    before = written.stat().st_ino
    assert "--overwrite" in refused("export", folder)
    assert written.stat().st_ino == before
    assert qrkt("export", folder, "--output", "run", "--overwrite").exit_code == 0
    assert written.stat().st_ino != before


@pytest.mark.slow  # Four whole processes; `training/test_resume.py` kills a job for every change.
def test_a_run_that_is_interrupted_and_killed_ends_as_one_that_was_not(small_preset, tmp_path):
    from qrkt_keras import zoo
    from qrkt_keras.training import read_checkpoint

    undisturbed, run = tmp_path / "undisturbed", tmp_path / "disturbed"
    finish(start("train", small_preset, "--seed", 5, "--output", undisturbed))

    process = start("train", small_preset, "--seed", 5, "--output", run)
    wait_for_epoch(2, run, process)
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, 130)
    said, command = errors.splitlines()
    assert said.startswith("Interrupted.")
    interrupted_at = epoch_of(run)
    assert 2 <= interrupted_at < 12 and not (run / "preset").exists()

    process = start(*shlex.split(command)[1:])
    wait_for_epoch(interrupted_at + 1, run, process)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert epoch_of(run) < 12

    output, errors = finish(start(*shlex.split(command)[1:]))
    assert errors == "" and "epoch  1/12" not in output
    ours, wanted = (read_checkpoint(f / "checkpoint.npz").arrays for f in (run, undisturbed))
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        assert ours[name].tobytes() == array.tobytes(), name
    weights, others = (zoo.from_preset(f / "preset").get_weights() for f in (run, undisturbed))
    for weight, other in zip(weights, others, strict=True):
        assert weight.tobytes() == other.tobytes()
    for report in ("scores.json", "history.png", "confusion.png"):
        assert (run / report).read_bytes() == (undisturbed / report).read_bytes()


def test_overwriting_leaves_nothing_of_the_old_run_in_sight(small_preset, tmp_path, monkeypatch):
    from qrkt_keras import training, zoo

    folder = tmp_path / "run"
    options = ["--output", folder, "--epochs", 1, "--quiet"]
    done = qrkt("train", small_preset, *options)
    assert done.exit_code == 0, done.output
    assert done.stdout.split()[:3] == ["accuracy", "macro", "F1"]
    (folder / "saved_model" / "2").mkdir()

    # What is refused costs nothing.
    assert "batch_size=5000" in refused(
        "train", small_preset, *options, "--overwrite", "--batch-size", 5000
    )
    assert (folder / "preset").exists() and (folder / "saved_model").exists()

    # Interrupted in its first epoch, the new run has no results, and the old ones are gone.
    bar = training.job.ProgressBar

    class Interrupting(bar):
        def on_epoch_begin(self, epoch, logs=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(training.job, "ProgressBar", Interrupting)
    done = qrkt("train", small_preset, *options[:-1], "--overwrite", "--seed", 9)
    assert done.exit_code == 130
    assert [file.name for file in folder.iterdir()] == ["checkpoint.npz"]
    monkeypatch.setattr(training.job, "ProgressBar", bar)

    done = qrkt(*shlex.split(done.stderr.splitlines()[-1])[1:])
    assert done.exit_code == 0, done.output
    assert zoo.read_preset(folder / "preset").metadata["seed"] == 9


# --- GANs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gan_run(tmp_path_factory):
    """A run of a small GAN, of one epoch."""
    from support.gans import small_gan

    from qrkt_keras import training

    folder = tmp_path_factory.mktemp("gan")
    model = small_gan(solver="rk1")
    recipe = training.GANRecipe(epochs=1, num_critic_steps=2)
    model.save_to_preset(folder / "small", recipe=recipe, data="digits", include_weights=False)
    done = qrkt("train", folder / "small", "--output", folder / "run", "--learning-rate", 2e-4)
    assert done.exit_code == 0, done.output
    return folder / "run", done.stdout


def test_a_gan_is_trained(gan_run):
    folder, output = gan_run
    assert "of both 80 quantum" in output
    assert "1,437 images, 8×8×1" in output
    assert "features_digits" in output
    recipe = json.loads((folder / "preset" / "recipe.json").read_text())["recipe"]
    assert recipe["generator_learning_rate"] == recipe["discriminator_learning_rate"] == 2e-4
    metadata = json.loads((folder / "preset" / "metadata.json").read_text())
    assert metadata["scores"]["fid"] > 0
    assert (folder / "saved_model" / "1" / "saved_model.pb").is_file()
    for name in ("samples.png", "real.png", "grids/epoch_0001.png", "history.json"):
        assert (folder / name).is_file()


def test_a_gan_generates(gan_run, in_empty_folder):
    folder, _ = gan_run
    for name in ("one", "two"):
        done = qrkt("generate", folder, "--num", 6, "--seed", 7, "--output", f"{name}.png")
        assert done.exit_code == 0, done.output
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert refused("generate", folder, "--output", "grid.jpg").endswith("Received: grid.jpg")


def test_a_gan_is_exported_and_does_not_classify(gan_run, in_empty_folder):
    folder, _ = gan_run
    done = qrkt("export", folder, "--output", "served")
    assert "generate  num, seed: int32, to images: uint8 (num, 8, 8, 1)" in done.stdout
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save("black.png")
    line = refused("predict", "black.png", "--preset", folder)
    assert line.startswith("The preset must be a classifier's.") and line.endswith("QRKTGAN")


def test_a_gan_is_measured(gan_run):
    folder, _ = gan_run
    scores = json.loads((folder / "preset" / "metadata.json").read_text())["scores"]
    assert scores["feature_network"] == "features_digits"
    assert (scores["num_generated"], scores["num_real"]) == (10_000, 1437)
    # The same images of the same noise, so the same measure but for what a batch rounds.
    done = qrkt("evaluate", folder, "--split", "train+validation")
    *_, values = (line for line in done.stdout.splitlines() if "features_digits" in line)
    assert f"{scores['fid']:.2f}" in values and "10,000" in values and "1,437" in values
    done = qrkt("evaluate", folder, "--num", 50)
    assert done.exit_code == 0 and "50" in done.stdout


def test_what_measures_may_be_the_literatures(gan_run, monkeypatch, tmp_path):
    monkeypatch.setenv("QRKT_INCEPTION", str(tmp_path / "none"))
    done = qrkt("evaluate", gan_run[0], "--features", "inception")
    assert done.exit_code == 1 and f"QRKT_INCEPTION: {tmp_path / 'none'}" in done.stderr
    (tmp_path / "saved_model.pb").write_bytes(b"")
    done = qrkt("evaluate", gan_run[0], "--features", tmp_path)
    assert done.exit_code == 1 and str(tmp_path) in done.stderr


def test_options_of_gans_are_refused_for_classifiers(run, small_preset, in_empty_folder):
    assert refused("train", small_preset, "--conditional").startswith("--conditional is for GANs")
    assert refused("evaluate", run[0], "--features", "x").endswith("Received: x")


def test_a_feature_network_is_scored_and_no_more(in_empty_folder):
    done = qrkt("evaluate", "features_digits")
    assert done.exit_code == 0 and "99.7" in done.stdout
    assert refused("train", "features_digits").endswith("Received: 'features_digits'")
    for command in (["predict", "x.png", "--preset"], ["export"], ["generate"]):
        assert refused(*command, "features_digits").endswith("'features_digits', FeatureNetwork")


def test_a_classifier_does_not_generate(run):
    assert refused("generate", run[0]).startswith("The preset must be a GAN's. Received: ")


# --- texts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_preset(tmp_path_factory):
    """A model that knows good from bad."""
    import keras

    from qrkt_keras import training, zoo

    keras.utils.set_random_seed(0)
    model = zoo.QText(
        2,
        vocab_size=10,
        max_length=8,
        hidden_dim=4,
        num_heads=2,
        mlp_dim=3,
        num_encoder_blocks=0,
        num_ode_blocks=1,
        num_decoder_blocks=0,
        solver="rk1",
        dropout=0.0,
        label_names=["neg", "pos"],
    )
    texts = np.array(["a good film", "a bad film"] * 16, object)
    labels = np.array([1, 0] * 16, "int32")
    folder = tmp_path_factory.mktemp("text")
    training.fit(
        model,
        {"train": (texts, labels), "validation": (texts[:8], labels[:8])},
        training.Recipe(epochs=20, batch_size=8, learning_rate=0.03),
        output_dir=folder / "run",
        progress=False,
    )
    return model.save_to_preset(folder / "small_text")


def test_a_text_file_goes_to_labels(text_preset, tmp_path):
    file = tmp_path / "reviews.txt"
    file.write_text("A GOOD film!\nA bad film.\n", encoding="utf-8")
    done = qrkt("predict", file, "--preset", text_preset)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["A", "GOOD", "film!", "pos"],
        ["A", "bad", "film.", "neg"],
    ]
    answers = json.loads(qrkt("predict", file, "--preset", text_preset, "--json").stdout)
    assert [answer["line"] for answer in answers] == [1, 2]
    assert [answer["label_name"] for answer in answers] == ["pos", "neg"]
    assert answers[0]["probabilities"]["pos"] == answers[0]["probability"] > 0.5


def test_what_is_no_text_is_named_and_the_rest_done(text_preset, tmp_path):
    (tmp_path / "reviews.txt").write_text("good\n\nbad " + "film " * 20, encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text(" \n")
    names = ("reviews.txt", "bytes.txt", "empty.txt", "missing.txt")
    done = qrkt("predict", *(tmp_path / name for name in names), "--preset", text_preset, "--json")
    assert done.exit_code == 1
    assert [answer["line"] for answer in json.loads(done.stdout)] == [1, 3]
    assert f"The line is empty. Received: line 2 of {tmp_path / 'reviews.txt'}" in done.stderr
    assert f"There is no text in it. Received: {tmp_path / 'empty.txt'}" in done.stderr
    for name in ("bytes.txt", "missing.txt"):
        assert f"Received: {tmp_path / name}" in done.stderr
    assert "1 of 2 texts have more than 8 words" in done.stderr


def test_a_text_model_is_exported(text_preset, tmp_path):
    done = qrkt("export", text_preset, "--output", tmp_path / "served")
    assert done.exit_code == 0, done.output
    assert "serving_default  texts: string" in done.stdout
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def test_a_text_model_takes_no_images(text_preset):
    assert "takes texts of 2 classes, digits has 8×8×1 images" in refused(
        "evaluate", text_preset, "--data", "digits"
    )


# --- your own data ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A folder with photos/ of three classes and with films.csv, and presets for either."""
    from PIL import Image

    from qrkt_keras import training, zoo

    folder = tmp_path_factory.mktemp("own")
    for number, name in enumerate(("dark", "grey", "light")):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(20):
            picture = Image.new("RGB", (9, 9 + k % 2), (100 * number + k,) * 3)
            picture.save(folder / "photos" / name / f"{k}.png")
    lines = [f"a {'good' if k % 2 else 'bad'} film,{'yes' if k % 2 else 'no'}" for k in range(80)]
    (folder / "films.csv").write_text("review,liked\n" + "\n".join(lines))
    shape = dict(hidden_dim=4, num_heads=2, mlp_dim=3, solver="rk1")
    shape |= dict(num_encoder_blocks=0, num_ode_blocks=1, num_decoder_blocks=0)
    recipe = training.Recipe(epochs=8, batch_size=8, learning_rate=0.05)
    for name, model, data_set in (
        ("images", zoo.QViT((8, 8, 1), 10, patch_size=4, **shape), "digits"),
        ("texts", zoo.QText(2, vocab_size=12, max_length=4, **shape), "imdb_reviews"),
    ):
        model.save_to_preset(folder / name, recipe=recipe, data=data_set, include_weights=False)
    return folder


FILMS = ("--data", "films.csv", "--text-column", "review", "--label-column", "liked")


@pytest.mark.parametrize(
    ("preset", "asked", "told", "names"),
    [
        ("images", ("--data", "./photos"), "8×8×1 images of 3 classes", ["dark", "grey", "light"]),
        ("texts", FILMS, "texts of 2 classes", ["no", "yes"]),
    ],
)
def test_your_own_data_is_trained_on_and_scored(
    own_data, monkeypatch, preset, asked, told, names, tmp_path
):
    from qrkt_keras import zoo

    monkeypatch.chdir(own_data)
    done = qrkt("train", f"./{preset}", *asked, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert told in done.stdout
    trained = zoo.read_preset(tmp_path / "run" / "preset")
    assert trained.data == asked[1] and trained.config["label_names"] == names
    scores = trained.metadata["scores"]["test"]
    assert scores["accuracy"] == 1

    # What was recorded does it again, and what a run knows need not be said again.
    command = shlex.split(trained.metadata["command"])
    again = qrkt(*command[1:-1], tmp_path / "again", "--quiet")
    assert again.exit_code == 0, again.output
    other = zoo.read_preset(tmp_path / "again" / "preset")
    assert other.metadata["sha256"] == trained.metadata["sha256"]
    for options in ((), asked):
        done = qrkt("evaluate", tmp_path / "run", *options)
        assert done.exit_code == 0, done.output
        row = done.stdout.splitlines()[1].split()
        assert row[:3] == [asked[1], "test", "100.00%"] and row[6] == str(scores["num_examples"])


def test_a_gan_with_options_is_trained_on_your_own_images(own_data, gan_run, monkeypatch, tmp_path):
    """Classes, another feature network, TensorBoard, and a seed that is the noise's too."""
    monkeypatch.chdir(own_data)
    features = cli._packaged_presets()["features_digits"]
    folder = tmp_path / "run"
    done = qrkt(
        *("train", gan_run[0].parent / "small", "--data", "./photos", "--epochs", 1),
        *("--batch-size", 8, "--output", folder, "--conditional"),
        *("--tensorboard", "--seed", 5, "--features", features),
    )
    assert done.exit_code == 0, done.output
    assert "54 images, 8×8×1" in done.stdout
    config = json.loads((folder / "preset" / "config.json").read_text())["config"]
    assert (config["num_classes"], config["seed"]) == (3, 5)
    metadata = json.loads((folder / "preset" / "metadata.json").read_text())
    assert metadata["scores"]["feature_network"] == "features_digits"
    assert "--conditional --tensorboard" in metadata["command"]
    assert list(folder.rglob("events.out.tfevents.*"))
    for label in (1, 2):
        picture = tmp_path / f"{label}.png"
        done = qrkt("generate", folder, "--num", 4, "--label", label, "--output", picture)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "2.png").read_bytes()
    assert "from 0 to 2" in refused("generate", folder, "--label", 3)
    assert refused("generate", gan_run[0], "--label", 1).startswith("This GAN has no classes.")


def test_your_own_data_has_a_folder_of_its_own(own_data, fit, monkeypatch):
    monkeypatch.chdir(own_data)
    qrkt("train", "./images", "--data", "./photos")
    qrkt("train", "./texts", *FILMS)
    assert [str(call[3]["output_dir"]) for call in fit] == [
        "runs/images_photos",
        "runs/texts_films",
    ]
    # What is asked for is what is trained.
    qrkt("train", "./images", "--data", "./photos", "--set", "image_shape=[4,4,3]")
    model, _, _, options = fit[-1]
    assert model.image_shape == (4, 4, 3) and len(model.mean) == 3
    assert options["data_options"] == {"image_size": [4, 4], "channels": 3}


def test_another_data_set_brings_its_classes_too(fit, in_empty_folder):
    """And the mean and the deviation of its pixels."""
    from qrkt_keras import data

    qrkt(
        "train",
        "qvit_rk1_mnist",
        "--data",
        "digits",
        "--set",
        "image_shape=[8,8,1]",
        "--set",
        "patch_size=4",
    )
    model = fit[0][0]
    assert (model.mean, model.std) == (data.info("digits").mean[0], data.info("digits").std[0])


@pytest.mark.parametrize("command", ["train", "evaluate", "compare"])
@pytest.mark.parametrize(
    ("preset", "asked", "said"),
    [
        ("texts", ["films.csv"], "one of them 'text'; another name is given with text_column= (on"),
        ("texts", ["films.csv", "--text-column", "review"], "--label-column"),
        ("texts", ["none.csv"], "There must be a file of texts. Received: none.csv"),
        ("texts", ["./photos"], "texts takes texts, ./photos has images"),
        ("images", ["./none"], "Received: none (not there)"),
        ("images", ["photos"], "The path in this folder is './photos'."),
        ("images", ["./photos/dark"], "at least two folders, one a class"),
        ("images", ["./films.csv"], "images takes images, ./films.csv has texts"),
        ("images", ["./photos", "--text-column", "a"], "Received: text_column='a'"),
    ],
)
def test_what_is_no_data_is_one_line(own_data, trained, monkeypatch, command, preset, asked, said):
    monkeypatch.chdir(own_data)
    words = {
        "train": ["train", f"./{preset}"],
        "evaluate": ["evaluate", trained[preset]],
        "compare": ["compare", "--models", f"./{preset}"],
    }[command]
    before = sorted(own_data.iterdir())
    line = refused(*words, "--data", *asked)
    assert said in line and "Received: " in line
    assert sorted(own_data.iterdir()) == before


@pytest.fixture(scope="module")
def trained(own_data, tmp_path_factory):
    """The presets with weights, which nobody has trained."""
    from qrkt_keras import zoo

    folder = tmp_path_factory.mktemp("trained")
    folders = {}
    for name in ("images", "texts"):
        model = zoo.from_preset(own_data / name, load_weights=False)
        folders[name] = model.save_to_preset(folder / name)
    return folders


def test_one_class_is_no_data(own_data, monkeypatch, tmp_path):
    monkeypatch.chdir(own_data)
    path = tmp_path / "one.csv"
    path.write_text("text,label\n" + "a film,good\n" * 30)
    line = refused("train", "./texts", "--data", path)
    assert line.endswith(f"There must be at least two classes. Received: good in {path}")


def test_classes_of_other_names_are_not_scored(own_data, trained, monkeypatch):
    monkeypatch.chdir(own_data)
    line = refused("evaluate", trained["images"], "--data", "./photos")
    assert "takes 8×8×1 images of 10 classes, ./photos has 8×8×1 images of 3 classes" in line


def test_your_own_data_wants_a_preset(own_data, monkeypatch):
    monkeypatch.chdir(own_data)
    for command in (["train"], ["compare"]):
        line = refused(*command, "--data", "./photos")
        assert line.endswith("Received: --data ./photos and no preset")


def test_a_recipe_may_come_from_a_file(fit, small_preset, in_empty_folder):
    from qrkt_keras import training

    Path("mine.json").write_text(training.Recipe(epochs=7, learning_rate=0.125).to_json())
    done = qrkt("train", small_preset, "--recipe", "mine.json", "--epochs", 3)
    assert fit[0][2] == training.Recipe(epochs=3, learning_rate=0.125)
    command = shlex.split(done.stderr.splitlines()[-1])
    qrkt(*command[1:])
    assert fit[1][2] == fit[0][2]
    qrkt("train", small_preset, "--recipe", "qvit_rk4_mnist")
    assert fit[2][2] == training.THESIS
    line = refused("train", small_preset, "--recipe", "qrkt_gan_digits")
    assert line.endswith("Received: 'qrkt_gan_digits' with GANRecipe")


# --- cross-validation ------------------------------------------------------------------------


def test_folds(small_preset, tmp_path):
    words = ["train", small_preset, "--classical", "--folds", 3, "--epochs", 1, "--seed", 4]
    done = qrkt(*words, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "1,437 in 3 folds, of which one at a time to validate, 8×8×1 images" in done.stdout
    assert "1 epochs of 14 steps of 64 images" in done.stdout
    report = json.loads((tmp_path / "run" / "folds.json").read_text())
    assert report["command"] == shlex.join(
        ["qrkt", *map(str, words[:3]), "--epochs", "1", "--seed", "4", "--folds", "3"]
        + ["--output", str(tmp_path / "run")]
    )
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        *("fold_1", "fold_2", "fold_3", "folds.json", "folds.png")
    }
    accuracy = report["scores"]["validation"]["accuracy"]
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    for fold in (1, 2, 3):
        assert rows[str(fold)][0] == f"{accuracy['folds'][fold - 1]:.2%}"
    assert rows["mean"][:3] == [
        f"{100 * accuracy['mean']:.2f}",
        "±",
        f"{100 * accuracy['std']:.2f}%",
    ]

    # Nothing is left to do, and the same is told.
    again = qrkt(*words, "--output", tmp_path / "run", "--resume", "--quiet")
    assert again.exit_code == 0, again.output
    assert again.stdout in done.stdout
    assert "--resume continues" in refused(*words, "--output", tmp_path / "run")


def test_folds_that_are_interrupted_go_on(small_preset, monkeypatch, in_empty_folder):
    from qrkt_keras import training

    calls = []

    def interrupted(make_model, data, recipe, **options):
        calls.append((make_model().get_config(), data, recipe, options))
        raise training.TrainingInterrupted

    monkeypatch.setattr(training, "cross_validate", interrupted)
    done = qrkt("train", small_preset, "--folds", 4, "--tensorboard", "--xla")
    assert done.exit_code == 130
    assert calls[0][3]["output_dir"] == Path("runs/small_4_folds")
    qrkt(*shlex.split(done.stderr.splitlines()[-1])[1:])
    assert calls[1][:3] == calls[0][:3]
    assert calls[1][3] == calls[0][3] | {"resume": True}
    for name, value in (("folds", 4), ("tensorboard", True), ("jit_compile", True)):
        assert calls[0][3][name] == value


def test_folds_are_refused_where_there_are_none(small_preset, gan_run, in_empty_folder):
    assert refused("train", gan_run[0].parent / "small", "--folds", 3).endswith(
        "--folds is for classifiers, and the preset is a GAN's. Received: 3"
    )
    line = refused("train", small_preset, "--folds", 200)
    assert "an example for each fold. Received: folds=200 with" in line
    assert qrkt("train", small_preset, "--folds", 1).exit_code == 2


# --- compare ---------------------------------------------------------------------------------


@pytest.fixture
def comparisons(monkeypatch):
    """Calls of `zoo.compare`, each of which is interrupted at once."""
    from qrkt_keras import training, zoo

    calls = []

    def interrupted(presets, **options):
        calls.append((presets, options))
        raise training.TrainingInterrupted

    monkeypatch.setattr(zoo, "compare", interrupted)
    return calls


def test_compare_passes_on_what_was_asked(comparisons, small_preset, run, in_empty_folder):
    from qrkt_keras import zoo

    assert qrkt("compare").exit_code == 130
    presets, options = comparisons[0]
    assert presets == ["qvit_rk4_digits"]
    assert options["output_dir"] == Path("runs/compare_qvit_rk4_digits")
    assert (options["controls"], options["seeds"]) == (["twin"], [0, 1, 2])
    assert options["recipe"] is None and options["progress"] and not options["resume"]

    done = qrkt(
        *("compare", "--models", small_preset, run[0], "--data", "digits", "--seeds", 5, 6),
        *("--controls", "twin,matched", "frozen", "--epochs", 3, "--learning-rate", 0.5),
        *("--set", "dropout=0.0", "--set", "template=rx_ring", "--xla", "--engine", "tfq"),
        *("--recipe", "qvit_rk4_mnist", "--batch-size", 8, "-q"),
    )
    presets, options = comparisons[1]
    assert presets == [str(small_preset), str(run[0] / "preset")]
    assert options["controls"] == ["twin", "matched", "frozen"]
    assert (options["data"], options["seeds"], options["epochs"]) == ("digits", [5, 6], 3)
    assert (options["batch_size"], options["learning_rate"]) == (8, 0.5)
    assert options["recipe"] == zoo.read_recipe("qvit_rk4_mnist")
    assert options["arguments"] == {"dropout": 0.0, "template": "rx_ring"}
    assert options["xla"] and options["engine"] == "tfq" and not options["progress"]
    assert options["output_dir"] == Path("runs/compare_digits")

    # The command that it shows continues this very comparison.
    command = shlex.split(done.stderr.splitlines()[-1])
    assert command[:2] == ["qrkt", "compare"] and command[-1] == "--resume"
    qrkt(*command[1:], "-q")
    assert comparisons[2] == (presets, options | {"resume": True})


def test_values_may_be_listed_or_options_repeated(comparisons, in_empty_folder):
    for words in (
        ["--seeds", "1", "2", "3"],
        ["--seeds", "1", "--seeds", "2", "3"],
        ["--seeds=1", "--seeds", "2", "--xla", "--seeds", "3"],
    ):
        qrkt("compare", *words)
        assert comparisons[-1][1]["seeds"] == [1, 2, 3]
    qrkt("compare", "--controls", "none")
    assert comparisons[-1][1]["controls"] == []
    for words in (["1"], ["--seeds", "-1"], ["--seeds", "one"], ["--seeds"], ["--xla", "1"]):
        assert qrkt("compare", *words).exit_code == 2


def test_the_table_of_a_comparison(monkeypatch, in_empty_folder):
    from qrkt_keras import zoo

    rows = [
        {"test_accuracy": f"0.9{k}", "test_macro_auc": f"0.99{k}", "seconds_per_step": "0.012"}
        for k in (1, 3)
    ]
    result = zoo.ComparisonResult(
        (
            zoo.ComparedModel("small", "quantum", 1234, 56, tuple(rows)),
            zoo.ComparedModel(
                "small", "classical twin", 2345, 0, (rows[0] | {"test_macro_auc": ""},)
            ),
            zoo.ComparedModel("small", "frozen circuits", 1234, 56, ()),
        ),
        {Path("runs/c/small_frozen_seed0"): "The loss is no number. Received: nan"},
        Path("runs/c"),
    )
    monkeypatch.setattr(zoo, "compare", lambda presets, **options: result)
    done = qrkt("compare")
    assert done.exit_code == 1
    header, *lines = done.stdout.splitlines()[1:5]
    assert header.split() == (
        "preset model accuracy macro AUC parameters qubits ms a step seeds".split()
    )
    assert [line.split() for line in lines] == [
        "small quantum 92.00 ± 1.41% 0.9920 ± 0.0014 1,234 56 12.0 ± 0.0 2".split(),
        "small classical twin 91.00% – 2,345 0 12.0 1".split(),
        "small frozen circuits – – 1,234 56 – 0".split(),
    ]
    assert "results.csv, accuracy.png" in done.stdout
    assert done.stderr == "runs/c/small_frozen_seed0: The loss is no number. Received: nan\n"


def test_a_gan_is_not_compared(in_empty_folder):
    line = refused("compare", "--models", "qrkt_gan_mnist")
    assert "zoo/qrkt_gan/compare.py" in line and line.endswith("'qrkt_gan_mnist', QRKTGAN")
    assert not list(in_empty_folder.iterdir())
