"""Several replicas train as one device does: compared with the job in this process, without any."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from qrkt_keras.training import Recipe, fit, make_strategy, read_checkpoint, strategies

SCRIPT = Path(__file__).with_name("distributed_job.py")
PATIENCE = 240
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


def start_workers(output, *arguments, num=2):
    """Worker processes on this machine, at ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    configs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(num)
    ]
    return [
        start(output, "--strategy", "multiworker", *arguments, TF_CONFIG=json.dumps(config))
        for config in configs
    ]


def stop(processes):
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(*processes):
    """Waits for processes, which must end well, and gives what they printed."""
    outputs = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors[-6000:]
            outputs.append(output)
    finally:
        stop(processes)
    return outputs


def weights_of(folder, index=0):
    with np.load(folder / f".weights-{index}.npz") as arrays:
        return list(arrays.values())


def distance(weights, others):
    return max(np.abs(a - b).max() for a, b in zip(weights, others, strict=True))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The job on one device: its weights and its folder."""
    folder = tmp_path_factory.mktemp("single")
    model = job.make_model()
    fit(model, job.splits(), job.RECIPE, output_dir=folder, progress=False)
    return model.get_weights(), folder


def check_job(folder, single, index=0):
    weights, wanted = single
    assert distance(weights_of(folder, index), weights) < TOLERANCE
    ours, theirs = (json.loads((f / "history.json").read_text()) for f in (folder, wanted))
    assert ours["best_epoch"] == theirs["best_epoch"]
    for name, values in theirs["history"].items():
        assert ours["history"][name] == pytest.approx(values, abs=TOLERANCE), name
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


def test_two_devices_give_the_result_of_one(tmp_path, single):
    finish(start(tmp_path, "--strategy", "mirrored", "--cpus", 2))
    check_job(tmp_path, single)
    environment = read_checkpoint(tmp_path / "checkpoint.npz").metadata["environment"]
    assert environment["replicas"] == "2"


def test_keras_order_would_give_another_result(tmp_path, single):
    finish(start(tmp_path, "--strategy", "mirrored", "--cpus", 2, "--kerass-order"))
    assert distance(weights_of(tmp_path), single[0]) > 100 * TOLERANCE


def test_two_workers_give_the_result_of_one(tmp_path, single):
    outputs = finish(*start_workers(tmp_path))
    assert all("finished 3" in output for output in outputs)
    for index in (0, 1):
        check_job(tmp_path, single, index)
    reports = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert reports == {file.name for file in single[1].iterdir()}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_job_continues(tmp_path, single, victim):
    workers = start_workers(tmp_path)
    try:
        while "epoch 1" not in (line := workers[victim].stdout.readline()):
            assert line, workers[victim].communicate()
        workers[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, errors = workers[1 - victim].communicate(timeout=PATIENCE)
        assert workers[1 - victim].returncode != 0
        # TensorFlow's heartbeat takes ten seconds to miss a worker.
        assert time.monotonic() - killed < 60
    finally:
        stop(workers)
    assert "WorkerLostError: Another worker is gone" in errors, errors[-3000:]
    assert "--resume" in errors
    assert 1 <= read_checkpoint(tmp_path / "checkpoint.npz").metadata["epoch"] < 3

    outputs = finish(*start_workers(tmp_path, "--resume"))
    assert not any("epoch 0" in output for output in outputs)
    check_job(tmp_path, single)


def test_what_the_chief_refuses_stops_all_workers(tmp_path):
    (tmp_path / "thesis.tex").touch()
    workers = start_workers(tmp_path)
    try:
        errors = [worker.communicate(timeout=PATIENCE)[1] for worker in workers]
    finally:
        stop(workers)
    assert all(worker.returncode != 0 for worker in workers)
    assert "with thesis.tex" in errors[0]
    assert "WorkerLostError: The chief has refused the job" in errors[1]


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
