"""`qrkt tune`: what it searches, prints, writes and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qrkt_keras import zoo
from qrkt_keras.cli import app
from qrkt_keras.tuning import Space, trial_process

SMALL = ["--only", "--vary", "hidden_dim=4,8", "solver=rk1", "num_heads=1"]


def run(*words, status=0):
    result = CliRunner().invoke(app, ["tune", *map(str, words)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def jobs(monkeypatch):
    """Notes trials instead of training them: each is as good as it is wide."""
    noted = []

    def train(self, job, still_ours=None):
        noted.append(job)
        score = job.arguments.get("hidden_dim", 16) / 100
        names = ("fid",) if job.objective == "fid" else ("val_auc", "val_accuracy", "val_loss")
        model = zoo.from_preset(job.preset, load_weights=False, **job.arguments)
        recipe = zoo.read_preset(job.preset).recipe
        zoo.save_to_preset(
            model,
            f"{job.folder}/run/preset",
            recipe=recipe,
            data=job.data,
            command=job.command,
            overwrite=True,
        )
        result = {"scores": dict.fromkeys(names, score), "epochs": 1, "seconds": 1.0}
        trial_process.write_result(Path(job.folder), result)
        return trial_process.read_result(Path(job.folder))

    monkeypatch.setattr(trial_process.TrialProcesses, "run", train)
    return noted


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_options_it_is_a_first_look(jobs, in_empty_folder):
    text = run()
    assert len(jobs) == 8 and {job.recipe["epochs"] for job in jobs} == {20}
    assert {job.data for job in jobs} == {"digits"}
    assert all(job.arguments["num_encoder_blocks"] == 0 for job in jobs)
    folder = in_empty_folder / "runs" / "tune_qvit_rk4_digits"
    assert "qrkt evaluate runs/tune_qvit_rk4_digits/best" in text
    assert (folder / "report.html").is_file() and zoo.read_preset(folder / "best").data == "digits"
    # It can be continued as any other.
    run("--max-trials", 10, "--resume")
    assert len(jobs) == 10


@pytest.mark.parametrize(
    "model, dimension",
    [("QViT", "pooling"), ("patch-qnn", "num_blocks"), ("QRKTGAN", "discriminator_width")],
)
def test_a_family_may_be_called_by_its_class(model, dimension):
    assert dimension in run("--model", model, "--show-space")


def test_what_is_set_is_not_drawn(jobs, in_empty_folder):
    run("--set", "hidden_dim=24", "--tuner", "random", "--max-trials", 3, "--epochs", 1)
    assert [job.arguments["hidden_dim"] for job in jobs] == [24] * 3
    assert len({job.arguments["solver"] for job in jobs}) > 1


def test_what_is_told_is_what_is_searched(jobs, in_empty_folder):
    text = run(
        "--model", "qvit", "--data", "digits", "--tuner", "grid", *SMALL, "--epochs", 3,
        "--batch-size", 16, "--set", "dropout=0.2", "--objective", "val_accuracy", "--folds", 2,
        "--max-params", 500, "--seed", 7, "--output", "here",
    )  # fmt: skip
    # The larger of the two is over the budget; the best is trained once more.
    assert [job.folds for job in jobs] == [2, None]
    job = jobs[0]
    assert (job.recipe["epochs"], job.recipe["batch_size"], job.objective) == (
        3,
        16,
        "val_accuracy",
    )
    assert (job.arguments["dropout"], job.arguments["hidden_dim"]) == (0.2, 4)
    assert "rejected" in text and "may have 500 parameters" in text
    told = json.loads((in_empty_folder / "here" / "search.json").read_text())
    assert (told["seed"], told["max_params"], told["tuner"]) == (7, 500, "grid")
    assert Space.from_json(json.dumps(told["space"])).to_texts() == [
        "hidden_dim=4,8", "solver=rk1", "num_heads=1",
    ]  # fmt: skip
    command = zoo.read_preset(in_empty_folder / "here" / "best").metadata["command"]
    assert command.startswith("qrkt tune --model qvit --data digits --tuner grid")
    assert "--vary hidden_dim=4,8 solver=rk1 num_heads=1" in command and "--only" in command
    assert "--set dropout=0.2" in command and command.endswith("# trial 1")
    # The command is that of the search: it finds nothing left to do.
    words = command.split("  # ")[0].split()[2:]
    before = len(jobs)
    run(*words, "--resume")
    assert len(jobs) == before


def test_a_search_begins_with_the_space_of_another(jobs, in_empty_folder):
    run("--max-trials", 1, *SMALL, "--output", "first")
    run("--max-trials", 1, "--space", "first/search.json", "--vary", "num_heads=2", "--seed", 1)
    told = json.loads((in_empty_folder / "runs/tune_qvit_rk4_digits/search.json").read_text())
    assert Space.from_json(json.dumps(told["space"])).to_texts() == [
        "hidden_dim=4,8", "solver=rk1", "num_heads=2",
    ]  # fmt: skip
    space = in_empty_folder / "space.json"
    space.write_text(json.dumps(told["space"]))
    assert "hidden_dim" in run("--space", space, "--show-space")


def test_the_space_is_shown(jobs):
    text = run("--model", "patch_qnn", "--show-space", "--vary", "num_blocks=1..3")
    assert "num_blocks" in text and "1..3" in text and "10.0..200.0:log" in text
    text = run("--show-space")
    assert "template is hardware_efficient or" in " ".join(text.split()) and not jobs


def test_gans(jobs):
    text = run("--model", "trans_gan", "--max-trials", 2, "--tuner", "random")
    assert {job.objective for job in jobs} == {"fid"} and "fid" in text


def test_a_search_that_found_nothing(monkeypatch):
    def fail(self, job, still_ours=None):
        trial_process.write_result(Path(job.folder), {"error": "diverged: nan"})
        return trial_process.read_result(Path(job.folder))

    monkeypatch.setattr(trial_process.TrialProcesses, "run", fail)
    text = run("--max-trials", 2, *SMALL, status=1)
    assert "No trial was completed" in text and "diverged: nan" in text


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "qvat"], "is a family .qvit, .* Received: --model qvat"),
        (["--set", "hidden_dim=8", "--vary", "hidden_dim=8,16"], "either drawn or has one value"),
        (["--retry-failed"], "where a search is continued .* resume=False"),
        (["--tuner", "best"], "tuner must be one of .* Received: 'best'"),
        (["--objective", "auc"], "objective must be one of"),
        (["--only"], "--only searches what --vary names"),
        (["--vary", "widht=1,2"], "Received: widht"),
        (["--vary", "hidden_dim"], "NAME=LOW..HIGH"),
        (["--resume", "--overwrite"], "either continued or replaced"),
        (["--fits", "bristlecone"], "rainbow, weber"),
        (["--distributed"], "Received: no KERASTUNER_ORACLE_IP"),
        (["--space", "missing.json"], "No such file"),
        (["--model", "qvit_rk4_digits", "--features", "features_digits"], "of class QViT"),
    ],
)
def test_what_is_refused(words, message, in_empty_folder):
    result = CliRunner().invoke(app, ["tune", *words])
    assert result.exit_code == 1
    assert re.search(message, " ".join(result.output.split())), result.output
    assert not (in_empty_folder / "runs").exists()


def test_a_folder_with_another_search(jobs):
    run("--max-trials", 1, *SMALL)
    assert "holds a search already" in run("--max-trials", 1, *SMALL, status=1)
    text = run("--max-trials", 1, *SMALL, "--seed", 1, "--resume", status=1)
    assert "another search" in text and "other seed" in text
    assert "It was begun by `qrkt tune --vary hidden_dim=4,8 solver=rk1" in " ".join(text.split())
    run("--max-trials", 1, *SMALL, "--seed", 1, "--overwrite")
