"""`qrkt train --strategy`: several devices and several workers give the run of one device."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import workers
from typer.testing import CliRunner

from qrkt_keras import cli, data

ROOT = Path(__file__).parents[1]
# Seconds; much, for the machine may have other things to do.
PATIENCE = 600
TOLERANCE = 1e-5

BLOCKS = {
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 3,
    "num_encoder_blocks": 1,
    "num_ode_blocks": 0,
    "num_decoder_blocks": 0,
    "dropout": 0.0,
}

# The command on a machine that has two devices, as far as TensorFlow can see.
TWO_DEVICES = """
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from qrkt_keras.cli import main
main()
"""


def qrkt(*arguments):
    """The command in this process."""
    return CliRunner().invoke(cli.app, [*map(str, arguments)], env={"COLUMNS": "200"})


def start(how, *arguments, **environment):
    variables = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment
    # As in a user's shell: nothing is silenced but by the command.
    variables.pop("TF_CPP_MIN_LOG_LEVEL")
    return subprocess.Popen(
        [sys.executable, "-u", *how, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A preset for digits."""
    from qrkt_keras import training, zoo

    return zoo.save_to_preset(
        zoo.QViT((8, 8, 1), 10, patch_size=4, **BLOCKS),
        tmp_path_factory.mktemp("presets") / "digits",
        recipe=training.Recipe(epochs=2, batch_size=64, learning_rate=0.01, clip_norm=0.1),
        data="digits",
        include_weights=False,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A preset for texts, and a table of such of different lengths."""
    from qrkt_keras import training, zoo

    folder, random = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    with (folder / "reviews.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(200):
            words = random.integers(30, size=random.integers(3, 150))
            label = ("neg", "pos")[number % 2]
            table.writerow([" ".join([label, *(f"w{word}" for word in words)]), label])
    return zoo.save_to_preset(
        zoo.QText(2, vocab_size=40, max_length=160, label_names=["neg", "pos"], **BLOCKS),
        folder / "texts",
        recipe=training.Recipe(epochs=2, batch_size=32, learning_rate=0.01, clip_norm=0.1),
        data=str(folder / "reviews.csv"),
        include_weights=False,
    )


def check_run(run, single):
    """That a run's results are those of a run on one device."""
    from qrkt_keras import serving, training, zoo

    model, other = (zoo.from_preset(folder / "preset") for folder in (run, single))
    for weight, wanted in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, atol=TOLERANCE)
    ours, theirs = (json.loads((f / "scores.json").read_text())["test"] for f in (run, single))
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=TOLERANCE)
    assert {file.name for file in run.iterdir()} == {file.name for file in single.iterdir()}

    source = zoo.read_preset(run / "preset")
    assert "--strategy" in source.metadata["command"]
    examples = data.arrays(source.data, "test")[0][:5]
    served = serving.load_saved_model(run / "saved_model" / "1").signatures
    if hasattr(model, "vectorize"):
        answer = served["serving_default"](texts=examples.tolist())
        logits = model(model.vectorize(examples))
    else:
        answer = served["serving_uint8"](images=examples)
        logits = model(examples)
    wanted = training.probabilities_from_logits(np.array(logits))
    np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-6)


def test_two_devices(digits, tmp_path):
    asked = ["train", digits, "--seed", 5]
    process = start(["-c", TWO_DEVICES], *asked, "--strategy=mirrored", "--output", tmp_path / "2")
    done = qrkt(*asked, "--output", tmp_path / "1")
    assert done.exit_code == 0, done.output
    ((output, _),) = workers.finish(process, patience=PATIENCE)
    assert "  2, of 32 images a step each" in output
    assert "replicas" not in done.stdout
    check_run(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow  # Two processes more; `training/test_strategies.py` compares workers in detail.
def test_two_workers(texts, tmp_path):
    asked = ["train", texts, "--seed", 5]
    processes = [
        start(
            ["-m", "qrkt_keras"],
            *asked,
            "--strategy=multiworker",
            "--output",
            tmp_path / "2",
            TF_CONFIG=config,
        )
        for config in workers.tf_configs()
    ]
    done = qrkt(*asked, "--output", tmp_path / "1")
    assert done.exit_code == 0, done.output
    (chief, errors), worker = workers.finish(*processes, patience=PATIENCE)
    assert worker == ("", "")
    assert errors == "" and "  2, of 16 texts a step each" in chief
    check_run(tmp_path / "2", tmp_path / "1")


# --- what is refused, without training -------------------------------------------------------


@pytest.fixture
def fit(monkeypatch, tmp_path):
    """Calls of `training.fit`, each of which ends by the error that is put in its place."""
    from qrkt_keras import training

    class Calls(list):
        error = training.TrainingInterrupted()

        def __call__(self, *arguments, **options):
            self.append((*arguments, options))
            raise self.error

    calls = Calls()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "fit", calls)
    return calls


def refused(*arguments, status=1):
    done = qrkt(*arguments)
    assert done.exit_code == status and isinstance(done.exception, SystemExit), done.output
    return done.stderr


def test_the_strategy_is_the_models_and_in_the_command(fit, digits):
    asked = ["train", digits, "--strategy", "mirrored"]
    command = shlex.split(refused(*asked, status=130).splitlines()[-1])
    refused(*command[1:], status=130)
    for model, _, _, options in fit:
        assert options["strategy"].num_replicas_in_sync == 1
        assert model.distribute_strategy is options["strategy"]
    # Another number of devices may go on with the job.
    assert "strategy" not in str(fit[0][-1]["identity"])


def test_a_lost_worker_is_one_line(fit, digits):
    from qrkt_keras import training

    fit.error = training.WorkerLostError("Another worker is gone. Received: Socket closed")
    assert refused("train", digits) == f"{fit.error}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--strategy", "mirored"], 2, "'mirored' is not one of 'mirrored', 'multiworker'"),
        (["--strategy", "mirrored", "--xla"], 2, "--xla and --strategy exclude each other"),
        (
            ["qrkt_gan_digits", "--strategy", "mirrored"],
            1,
            "leave out --strategy. Received: --strategy mirrored with 'qrkt_gan_digits'\n",
        ),
        (["--strategy", "multiworker"], 1, "Received: TF_CONFIG=None\n"),
    ],
)
def test_what_is_refused(fit, monkeypatch, tmp_path, arguments, status, said):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert said in refused("train", *arguments, status=status)
    assert not fit and not [*tmp_path.iterdir()]


def test_the_names_are_those_of_the_library():
    from qrkt_keras import training

    assert tuple(cli.Strategy) == training.STRATEGIES
    assert (ROOT / cli.DISTRIBUTED_GUIDE).is_file()
