"""Several replicas train as one device does: compared with the job in this process, without any."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from support import workers

from qrkt_keras.training import Recipe, fit, make_strategy, read_checkpoint, strategies

SCRIPT = Path(__file__).with_name("distributed_job.py")
# Seconds; much, for the machine may have other things to do.
PATIENCE = 600
TOLERANCE = 1e-5

_spec = importlib.util.spec_from_file_location("distributed_job", SCRIPT)
job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(job)


def start(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment |= {
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **variables,
    }
    command = [sys.executable, "-u", str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def start_workers(output, *arguments):
    return [
        start(output, "--strategy", "multiworker", *arguments, TF_CONFIG=config)
        for config in workers.tf_configs()
    ]


def finish(*processes):
    """Waits for processes, which must end well, and gives what they printed."""
    return [output for output, _ in workers.finish(*processes, patience=PATIENCE)]


def weights_of(folder, index=0):
    with np.load(folder / f".weights-{index}.npz") as arrays:
        return list(arrays.values())


def distance(weights, others):
    return max(np.abs(a - b).max() for a, b in zip(weights, others, strict=True))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Of every job, by name, its weights and its folder, on one device."""
    folder, jobs = tmp_path_factory.mktemp("single"), {}
    for name, recipe in job.RECIPES.items():
        model = job.make_model(name)
        options = {"output_dir": folder / name, "tensorboard": name == "options"}
        fit(model, job.splits(name), recipe, progress=False, **options)
        jobs[name] = model.get_weights(), folder / name
    return jobs


def check_job(folder, single, index=0):
    weights, wanted = single[folder.name]
    assert distance(weights_of(folder, index), weights) < TOLERANCE
    ours, theirs = (json.loads((f / "history.json").read_text()) for f in (folder, wanted))
    assert ours["best_epoch"] == theirs["best_epoch"]
    for name, values in theirs["history"].items():
        # An AUC counts pairs, here 36,000: two scores that are equal but for float error may change
        # places.
        tolerance = 3 / 36_000 if name == "val_auc" else TOLERANCE
        assert ours["history"][name] == pytest.approx(values, abs=tolerance), name
    # Of the last epoch, and the optimizer's moments too.
    ours, theirs = (read_checkpoint(f / "checkpoint.npz").arrays for f in (folder, wanted))
    assert len(ours) == len(theirs)
    for name in theirs:
        if name.startswith(("model/", "optimizer/")):
            np.testing.assert_allclose(ours[name], theirs[name], atol=TOLERANCE, err_msg=name)


def test_the_clip_bites():
    """So that what follows tells the one order from the other."""
    import tensorflow as tf

    model = job.make_model()
    images, labels = (part[:128] for part in job.splits()["train"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def gradients(part):
        with tf.GradientTape() as tape:
            value = loss(labels[part], model(images[part], training=True))
        return [g.numpy() for g in tape.gradient(value, model.trainable_variables)]

    def clipped(gradients):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
        assert norm > 2 * job.RECIPE.clip_norm
        return [g * job.RECIPE.clip_norm / norm for g in gradients]

    halves = [gradients(slice(0, 64)), gradients(slice(64, 128))]
    # What Keras would do: each replica's share, clipped, then summed.
    first, second = (clipped([g / 2 for g in half]) for half in halves)
    kerass = [a + b for a, b in zip(first, second, strict=True)]
    assert distance(kerass, clipped(gradients(slice(0, 128)))) > 0.01


def test_the_options_do_something(single):
    history = json.loads((single["options"][1] / "history.json").read_text())["history"]
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.05])


def test_two_devices_give_the_result_of_one(tmp_path, single):
    finish(start(tmp_path, "--strategy", "mirrored", "--cpus", 2, "--jobs", *job.RECIPES))
    for name in job.RECIPES:
        check_job(tmp_path / name, single)
        environment = read_checkpoint(tmp_path / name / "checkpoint.npz").metadata["environment"]
        assert environment["replicas"] == "2"


@pytest.mark.slow  # The clip bites, as the first test says; this is the same in other words.
def test_keras_order_would_give_another_result(tmp_path, single):
    finish(start(tmp_path, "--strategy", "mirrored", "--cpus", 2, "--kerass-order"))
    assert distance(weights_of(tmp_path / "digits"), single["digits"][0]) > 100 * TOLERANCE


def test_two_workers_give_the_result_of_one(tmp_path, single):
    outputs = finish(*start_workers(tmp_path, "--jobs", *job.RECIPES))
    assert all("finished" in output for output in outputs)
    for name in job.RECIPES:
        for index in (0, 1):
            check_job(tmp_path / name, single, index)
        reports = {file.name for file in (tmp_path / name).iterdir() if file.name[0] != "."}
        assert reports == {file.name for file in single[name][1].iterdir()}
    # One process wrote TensorBoard's file.
    assert len([*(tmp_path / "options" / "logs").iterdir()]) == 1


@pytest.mark.slow  # Four processes each, and ten seconds until a loss is noticed.
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_job_continues(tmp_path, single, victim):
    processes = start_workers(tmp_path)
    try:
        while "epoch 1" not in (line := processes[victim].stdout.readline()):
            assert line, processes[victim].communicate()
        processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, errors = processes[1 - victim].communicate(timeout=PATIENCE)
        assert processes[1 - victim].returncode != 0
        # TensorFlow's heartbeat takes ten seconds to miss a worker.
        assert time.monotonic() - killed < 60
    finally:
        workers.stop(processes)
    (line,) = (line for line in errors.splitlines() if "WorkerLostError: " in line)
    assert "Another worker is gone" in line and "--resume" in line and "Received: " in line
    folder = tmp_path / "digits"
    assert 1 <= read_checkpoint(folder / "checkpoint.npz").metadata["epoch"] < 3

    outputs = finish(*start_workers(tmp_path, "--resume"))
    assert not any("epoch 0" in output for output in outputs)
    check_job(folder, single)


def test_what_the_chief_refuses_stops_all_workers(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.tex").touch()
    processes = start_workers(tmp_path)
    try:
        errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        workers.stop(processes)
    assert all(process.returncode != 0 for process in processes)
    assert "with thesis.tex" in errors[0]
    assert "WorkerLostError: The chief could not go on" in errors[1]


def test_replicas_draw_other_masks(tmp_path):
    (output,) = finish(start(tmp_path, "--strategy", "mirrored", "--cpus", 2, "--print-masks"))
    masks = json.loads(output)
    first, second = masks["before"]
    assert first == second
    for name in ("after", "later"):
        first, second = (np.array(mask).ravel() for mask in masks[name])
        # Of 64 independent bits a half differs; six standard deviations are 24.
        assert 8 < (first != second).sum() < 56
    # The first replica's are those of one device.
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=1)])
    ones = np.ones((1, 64), np.float32)
    for name in ("before", "after", "later"):
        drawn = keras.ops.convert_to_numpy(model(ones, training=True)) > 0
        assert np.array_equal(masks[name][0], drawn)


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"needs the environment variable TF_CONFIG, as in .*Received: TF_CONFIG=None$"),
        ("", r"needs the environment variable TF_CONFIG, as in"),
        ("{", r"must be JSON \(.*Received: TF_CONFIG='\{'$"),
        ("[]", r"must have a 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}}', r"must have a 'task'"),
        ('{"cluster": {}, "task": {}}', r"addresses of 'worker'"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {}}', r"addresses of 'worker'"),
        ('{"cluster": {"worker": []}, "task": {}}', r"'worker' must be a list of addresses"),
        ('{"cluster": {"worker": ["host"]}, "task": {}}', r"addresses host:port"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief"}}', r"'type' of its cluster"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', r"'index' from 0 to 0"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            r"'index' from 0 to 0",
        ),
    ],
)
def test_a_wrong_tf_config_is_refused(monkeypatch, text, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        make_strategy("multiworker")


def test_the_example_in_the_messages_is_accepted():
    strategies.check_tf_config(strategies._EXAMPLE)


def test_tensorflow_in_use_is_refused(monkeypatch):
    import tensorflow as tf

    assert tf.constant(1) + 1 == 2
    monkeypatch.setenv("TF_CONFIG", strategies._EXAMPLE)
    with pytest.raises(RuntimeError, match=r"must be called first of all.*Received: Collective"):
        make_strategy("multiworker")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"mirrored, multiworker\. Received: name='tpu'$"):
        make_strategy("tpu")
    with pytest.raises(ValueError, match=r"some of CPU:0.*Received: devices=\['GPU:99'\]$"):
        make_strategy("mirrored", devices=["GPU:99"])
    with pytest.raises(ValueError, match=r"Received: devices=\[\]$"):
        make_strategy("mirrored", devices=[])
    with pytest.raises(ValueError, match=r"Received: name=None, devices=\['CPU:0'\]$"):
        make_strategy(None, devices=["CPU:0"])


class Three:
    """A strategy of three replicas, as far as `check_job` looks."""

    num_replicas_in_sync = 3


def test_a_batch_that_cannot_be_shared_is_refused():
    model = job.make_model()
    model._distribute_strategy = three = Three()
    with pytest.raises(ValueError, match=r"Received: batch_size=64 with 3 replicas$"):
        strategies.check_job(model, three, batch_size=64, jit_compile="auto")
    strategies.check_job(model, three, batch_size=63, jit_compile="auto")


def test_a_model_built_elsewhere_is_refused(tmp_path):
    strategy, recipe = make_strategy("mirrored", devices=["CPU:0"]), Recipe(epochs=1)
    with strategy.scope():
        theirs = job.make_model()
    for model, options, message in [
        (job.make_model(), {"strategy": strategy}, r"under no strategy, with strategy=Mirrored"),
        (theirs, {}, r"'qvit' built under MirroredStrategy, with strategy=no strategy$"),
        (theirs, {"strategy": strategy, "jit_compile": True}, r"Received: jit_compile=True$"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(model, job.splits(), recipe, output_dir=tmp_path / "job", **options)
    assert not (tmp_path / "job").exists()


def test_without_a_strategy_nothing_is_asked():
    assert make_strategy(None) is None
    assert strategies.is_chief(None) and strategies.num_replicas(None) == 1
    with strategies.scope(None):
        pass
