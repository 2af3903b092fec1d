import io
import json
import random
import warnings
import zipfile

import keras
import ml_dtypes
import numpy as np
import pytest

from qrkt_keras.training import (
    CheckpointError,
    TrainingCheckpoint,
    generator_state,
    model_state,
    read_checkpoint,
    restore_generator_state,
    restore_model_state,
    write_checkpoint,
)

ARRAYS = {
    "model/0000/dense/kernel": np.random.RandomState(0).randn(4, 3).astype("float32"),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "half": np.array([1.5, -2.0], np.float16),
    "brain": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "complex": np.array([1 + 2j]),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "nan": np.array([np.nan, np.inf]),
    "file": np.arange(2),
    "allow_pickle": np.arange(2),
}
METADATA = {"epoch": 3, "nested": {"list": [1, 2.5, None, "text"]}, "ü": "ü"}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, ARRAYS, METADATA)
    return path


# --- files ---------------------------------------------------------------------------------


def test_what_is_written_is_read(path):
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata == METADATA
    assert checkpoint.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        got = checkpoint.arrays[name]
        assert got.dtype == array.dtype and got.shape == array.shape
        assert got.tobytes() == array.tobytes()


def test_numpy_reads_it_without_pickle(path):
    with np.load(path, allow_pickle=False) as archive:
        name = "model/0000/dense/kernel"
        assert np.array_equal(archive[name], ARRAYS[name])
        assert json.loads(archive["metadata.json"])["metadata"] == METADATA


def test_equal_content_gives_equal_files(path, tmp_path):
    write_checkpoint(tmp_path / "again.npz", ARRAYS, METADATA)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.array([object()]), np.zeros(1, [("a", "i4")])]
)
def test_what_is_no_number_is_refused(tmp_path, array):
    with pytest.raises(TypeError, match=r"Received: 'x' of dtype"):
        write_checkpoint(tmp_path / "c.npz", {"x": array}, {})
    assert not list(tmp_path.iterdir())


def test_metadata_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_checkpoint(tmp_path / "c.npz", {}, {"x": object()})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"Received: {tmp_path}/none\.npz$"):
        read_checkpoint(tmp_path / "none.npz")


def test_every_truncation_is_noticed(path):
    whole = path.read_bytes()
    for size in [0, 1, *range(10, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=rf"Received: {path}$"):
            read_checkpoint(path)


def test_an_altered_byte_is_noticed_or_harmless(path):
    whole = path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 13):
        altered = bytearray(whole)
        altered[position] ^= 0x40
        path.write_bytes(altered)
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            assert str(error).endswith(f"Received: {path}")
            noticed += 1
        else:
            # A byte of the archive that carries no content, such as a time stamp.
            assert checkpoint.metadata == METADATA
            for name, array in ARRAYS.items():
                assert checkpoint.arrays[name].tobytes() == array.tobytes()
    assert noticed > len(whole) / 13 / 2


def rewrite(path, change):
    """Alters a checkpoint by a tool that keeps the archive itself consistent."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"scalar.npy": npy(np.array(8))}), "SHA-256 of the array 'scalar'"),
        (
            lambda m: m.update({"scalar.npy": npy(np.array([{}]), allow_pickle=True)}),
            "SHA-256 of the array 'scalar'",
        ),
        (lambda m: m.pop("scalar.npy"), "array 'scalar' is missing"),
        (lambda m: m.update({"more.npy": npy(np.array(8))}), "more.npy does not belong"),
        (
            lambda m: m.update({"metadata.json": m["metadata.json"].replace(b"3", b"4")}),
            "SHA-256 of metadata.json",
        ),
        (lambda m: m.pop("metadata.json"), "it has no metadata.json"),
        (lambda m: m.pop("metadata.sha256"), "it has no metadata.json"),
    ],
)
def test_an_altered_member_is_named(path, change, message):
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=rf"{message}.*Received: {path}$"):
        read_checkpoint(path)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, w=np.arange(3))
    with pytest.raises(CheckpointError, match=rf"no metadata\.json\. Received: {path}$"):
        read_checkpoint(path)


# --- models --------------------------------------------------------------------------------


def make_model(units=4, seed=0, policy="float32"):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    dropout = layers.Dropout(0.5)
    inputs = keras.Input((6,))
    x = layers.Dense(units, activation="gelu")(inputs)
    x = layers.BatchNormalization()(dropout(x))
    # The same dropout layer twice: its generator's state advances by two a step.
    x = dropout(layers.Dense(units)(x))
    model = keras.Model(inputs, layers.Dense(3, dtype="float32")(x))
    # Keras 3.15 cannot clip bfloat16 gradients.
    clip = None if policy == "bfloat16" else 1.0
    optimizer = keras.optimizers.AdamW(1e-2, global_clipnorm=clip)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


X = np.random.RandomState(0).randn(64, 6).astype("float32")
Y = np.random.RandomState(1).randint(0, 3, 64)


def train(model, epochs=2):
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


def plain(state):
    """State without the numbers that Keras gives to unnamed layers."""
    from qrkt_keras.training.checkpoints import _plain

    return {_plain(name): array for name, array in state.items()}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_a_restored_model_continues_bit_for_bit(tmp_path, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model(policy=policy)
        train(model)
        write_checkpoint(tmp_path / "c.npz", model_state(model), {})
        train(model)
        # Another process: other initial weights, other generators, other numbers in the names.
        other = make_model(seed=1, policy=policy)
        restore_model_state(other, read_checkpoint(tmp_path / "c.npz").arrays)
        train(other)
    finally:
        keras.config.set_dtype_policy(before)
    assert same(plain(model_state(model)), plain(model_state(other)))


@pytest.mark.parametrize("left_out", ["seed_generator", "momentum", "iteration", "moving_mean"])
def test_every_part_of_the_state_is_needed(left_out):
    model = make_model()
    fresh = model_state(model)
    train(model)
    state = model_state(model)
    train(model)
    wanted = plain(model_state(model))
    parts = [name for name in state if left_out in name]
    assert parts
    other = make_model(seed=1)
    restore_model_state(other, state | {name: fresh[name] for name in parts})
    train(other)
    assert not same(plain(model_state(other)), wanted)


def test_names_are_unique_though_paths_repeat():
    layers = [keras.layers.Dense(2, name="same") for _ in range(2)]
    parts = [keras.Model(inputs := keras.Input((2,)), layer(inputs)) for layer in layers]
    model = keras.Sequential([keras.Input((2,)), *parts])
    paths = [variable.path for variable in model.variables]
    assert len(set(paths)) < len(paths)
    state = model_state(model)
    assert len(state) == len(paths) == 4
    for variable in model.variables:
        variable.assign(keras.ops.zeros_like(variable))
    restore_model_state(model, state)
    assert same(model_state(model), state)


def test_the_state_includes_generators_optimizer_and_metrics():
    model = make_model()
    train(model)
    names = " ".join(model_state(model))
    for part in ("seed_generator_state", "moving_variance", "iteration", "velocity"):
        assert part in names
    assert "metrics/" in names
    groups = {name.split("/")[0] for name in model_state(model)}
    assert groups == {"model", "optimizer", "metrics"}


def test_an_optimizer_that_has_not_stepped_is_part_of_the_state():
    state = model_state(make_model())
    assert any("velocity" in name for name in state)


def test_the_model_alone_can_be_restored():
    model = make_model()
    train(model)
    state = model_state(model)
    other = make_model(seed=1)
    fresh = model_state(other)
    restore_model_state(other, state, optimizer=False)
    got = model_state(other)
    for name in got:
        expected = plain(state) if name.startswith("model/") else plain(fresh)
        assert got[name].tobytes() == plain(expected)[next(iter(plain({name: 0})))].tobytes()


def test_state_is_a_copy():
    model = make_model()
    state = model_state(model)
    before = {name: array.copy() for name, array in state.items()}
    train(model)
    assert same(state, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop(next(n for n in s if n.endswith("iteration"))),
            r"where that has.*/iteration'",
        ),
        (
            lambda s: s.pop([n for n in s if "optimizer/" in n][-1]),
            r"the optimizer, which has \d+ variables\. Received: \d+",
        ),
        (lambda s: s.pop(next(iter(s))), r"Received: 'model/0001/dense.*/bias'$"),
        (
            lambda s: s.update({next(iter(s)): np.zeros((6, 5), "float32")}),
            r"has shape \(6, 4\) and dtype float32\. Received: shape \(6, 5\), dtype float32$",
        ),
        (
            lambda s: s.update({next(iter(s)): np.zeros((6, 4))}),
            r"Received: shape \(6, 4\), dtype float64$",
        ),
        (lambda s: s.clear(), r"the model, which has \d+ variables\. Received: 0 variables$"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_restored(change, message):
    state = model_state(make_model())
    change(state)
    model = make_model(seed=1)
    before = model_state(model)
    with pytest.raises(CheckpointError, match=message):
        restore_model_state(model, state)
    assert same(model_state(model), before)


def test_another_architecture_is_refused():
    inputs = keras.Input((6,))
    other = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.LayerNormalization()(inputs)))
    with pytest.raises(CheckpointError, match="does not belong to the model"):
        restore_model_state(other, model_state(make_model()))


def test_a_model_that_is_not_built_is_refused():
    model = keras.Sequential([keras.layers.Dense(2)], name="empty")
    with pytest.raises(ValueError, match=r"Received: 'empty', not built$"):
        model_state(model)


# --- random generators ---------------------------------------------------------------------


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        float(keras.random.normal(())),
    )


def test_the_process_wide_generators_continue(tmp_path):
    draw()
    write_checkpoint(tmp_path / "c.npz", generator_state(), {})
    wanted = [draw() for _ in range(3)]
    keras.utils.set_random_seed(99)
    draw()
    restore_generator_state(read_checkpoint(tmp_path / "c.npz").arrays)
    assert [draw() for _ in range(3)] == wanted


def test_missing_generators_are_named():
    state = generator_state()
    del state["random/numpy"]
    with pytest.raises(CheckpointError, match=r"Received: no \['numpy'\]$"):
        restore_generator_state(state)


# --- training ------------------------------------------------------------------------------


class Logs(keras.callbacks.Callback):
    """Adds logs as validation would."""

    def __init__(self, **values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs |= {name: values[epoch] for name, values in self.values.items()}


def run(model, checkpoint, start, epochs, **values):
    model.fit(
        X,
        Y,
        batch_size=16,
        initial_epoch=start,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[Logs(**values), checkpoint],
    )


def pretend(model, checkpoint, epochs, **values):
    """What `fit` would call, without the training."""
    checkpoint.set_model(model)
    checkpoint.on_train_begin()
    for epoch in range(epochs):
        logs = {"loss": 1.0}
        Logs(**values).on_epoch_end(epoch, logs)
        checkpoint.on_epoch_end(epoch, logs)


def test_a_job_continues_with_its_history_and_its_best_weights(tmp_path):
    auc = [0.5, 0.9, 0.6, 0.7]
    whole_model, model = make_model(), make_model()
    whole = TrainingCheckpoint(tmp_path / "whole.npz", identity={"a": 1})
    run(whole_model, whole, 0, 4, val_auc=auc)

    first = TrainingCheckpoint(tmp_path / "c.npz", identity={"a": 1})
    run(model, first, 0, 3, val_auc=auc)
    later_model = make_model(seed=5)
    later = TrainingCheckpoint(tmp_path / "c.npz", identity={"a": 1})
    assert later.restore(later_model) == 3
    assert later.seconds == first.seconds > 0
    run(later_model, later, 3, 4, val_auc=auc)

    assert later.history == whole.history and whole.history["val_auc"] == auc
    assert whole.best_epoch == later.best_epoch == 2
    assert whole.epoch == later.epoch == 4
    assert same(plain(model_state(whole_model)), plain(model_state(later_model)))
    for model, checkpoint in [(whole_model, whole), (later_model, later)]:
        checkpoint.restore_best(model)
    assert same(plain(model_state(whole_model)), plain(model_state(later_model)))
    two = make_model()
    run(two, TrainingCheckpoint(tmp_path / "two.npz", identity={}), 0, 2, val_auc=auc)
    for best, trained in zip(whole_model.weights, two.weights, strict=True):
        assert np.array_equal(best, trained)


def test_a_job_can_be_continued_before_its_first_epoch_is_done(tmp_path):
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={})

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = make_model()
    initial = model_state(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=1, callbacks=[Interrupt(), checkpoint], verbose=0)
    other = make_model(seed=3)
    assert TrainingCheckpoint(tmp_path / "c.npz", identity={}).restore(other) == 0
    got = plain(model_state(other))
    assert all(
        got[name].tobytes() == array.tobytes()
        for name, array in plain(initial).items()
        if name.startswith("model/")
    )


@pytest.mark.parametrize(
    ("logs", "options", "best"),
    [
        ({"val_auc": [0.5, 0.9, 0.9]}, {}, 2),
        ({"val_auc": [0.5, 0.9, 0.9], "val_loss": [3.0, 2.0, 1.0]}, {}, 3),
        ({"val_auc": [0.5, 0.9, 0.9], "val_loss": [3.0, 1.0, 2.0]}, {}, 2),
        ({"val_loss": [3.0, 1.0, 2.0]}, {"monitor": "val_loss"}, 2),
        ({"val_loss": [3.0, 1.0, 2.0]}, {"monitor": "val_loss", "mode": "max"}, 1),
        ({"val_auc": [float("nan"), 0.5, 0.4]}, {}, 2),
        ({"val_auc": [float("nan")] * 3}, {}, 0),
    ],
)
def test_which_epoch_is_the_best(tmp_path, logs, options, best):
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={}, **options)
    model = make_model()
    pretend(model, checkpoint, 3, **logs)
    assert checkpoint.best_epoch == best
    again = TrainingCheckpoint(tmp_path / "c.npz", identity={}, **options)
    again.restore(make_model(seed=1))
    assert again.best_epoch == best
    again.restore_best(model)


def test_another_job_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "c.npz"
    identity = {"recipe": {"epochs": 60, "seed": 0}, "data": "digits", "shape": (8, 8)}
    model = make_model()
    pretend(model, TrainingCheckpoint(path, identity=identity), 1, val_auc=[0.5])
    assert TrainingCheckpoint(path, identity=identity).restore(model) == 1
    other = {"recipe": {"epochs": 30, "seed": 0}, "data": "mnist", "preset": "x", "shape": (8, 8)}
    with pytest.raises(CheckpointError) as caught:
        TrainingCheckpoint(path, identity=other).restore(model)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(
        "Received: data='mnist', but it was 'digits'; preset='x', but it was None; "
        "recipe.epochs=30, but it was 60"
    )


def test_arguments_that_a_model_got_since_have_their_defaults(tmp_path):
    """Of every job, for what `restore` is given is the model itself."""

    class Model(keras.Sequential):
        def __init__(self, layers=None, width=5):
            super().__init__(layers)

    def make():
        return Model([keras.Input((3,)), keras.layers.Dense(2, name="only")])

    path, old = tmp_path / "c.npz", {"model": {"class": "Model"}}
    pretend(make(), TrainingCheckpoint(path, identity=old), 1, val_auc=[0.5])
    same = {"model": {"class": "Model", "width": 5}}
    assert TrainingCheckpoint(path, identity=same).restore(make()) == 1
    other = TrainingCheckpoint(path, identity={"model": {"class": "Model", "width": 6}})
    with pytest.raises(CheckpointError, match=r"Received: model\.width=6, but it was 5$"):
        other.restore(make())


def test_what_differs_is_told_in_a_line_however_long_it_is(tmp_path):
    path = tmp_path / "c.npz"
    model = make_model()
    pretend(model, TrainingCheckpoint(path, identity={"words": None}), 1, val_auc=[0.5])
    words = TrainingCheckpoint(path, identity={"words": ["film"] * 20_000})
    with pytest.raises(
        CheckpointError, match=r"… \(160,000 characters\), but it was None$"
    ) as caught:
        words.restore(model)
    assert len(str(caught.value)) < 500


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    write_checkpoint(tmp_path / "c.npz", {}, {"kind": "scan"})
    with pytest.raises(CheckpointError, match=r"Received: kind='scan'"):
        TrainingCheckpoint(tmp_path / "c.npz", identity={}).restore(make_model())


def test_another_environment_is_told(tmp_path, monkeypatch):
    from qrkt_keras.training import checkpoints

    path = tmp_path / "c.npz"
    model = make_model()
    pretend(model, TrainingCheckpoint(path, identity={}), 1, val_auc=[0.5])
    here = checkpoints.environment()
    monkeypatch.setattr(checkpoints, "environment", lambda: here | {"cores": "64"})
    with pytest.warns(UserWarning, match=r"cores='64', but it was '\d+'$"):
        TrainingCheckpoint(path, identity={}).restore(model)


def test_another_number_of_replicas_is_told(tmp_path):
    path = tmp_path / "c.npz"
    model = make_model()
    pretend(model, TrainingCheckpoint(path, identity={}, num_replicas=4), 1, val_auc=[0.5])
    with pytest.warns(UserWarning, match=r"replicas=None, but it was '4'$"):
        TrainingCheckpoint(path, identity={}).restore(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrainingCheckpoint(path, identity={}, num_replicas=4).restore(model)


def test_who_does_not_write_keeps_the_state_all_the_same(tmp_path):
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={}, writes=False)
    pretend(make_model(), checkpoint, 2, val_auc=[0.5, 0.4])
    assert not [*tmp_path.iterdir()]
    assert checkpoint.epoch == 2 and checkpoint.best_epoch == 1


def test_a_monitor_that_nobody_logs_is_refused(tmp_path):
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={}, monitor="val_f1")
    with pytest.raises(ValueError, match=r"\['loss'\]\. Received: monitor='val_f1'$"):
        pretend(make_model(), checkpoint, 1)


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Received: mode='best'$"):
        TrainingCheckpoint(tmp_path / "c.npz", identity={}, mode="best")


def test_a_loss_that_is_no_number_stops_the_job_and_keeps_the_last_good_epoch(tmp_path):
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={})
    with pytest.raises(FloatingPointError, match=r"Received: loss=nan in epoch 2$"):
        pretend(make_model(), checkpoint, 3, loss=[1.0, float("nan"), 1.0], val_auc=[0.5] * 3)
    assert read_checkpoint(tmp_path / "c.npz").metadata["epoch"] == 1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    model = make_model()
    checkpoint = TrainingCheckpoint(tmp_path / "c.npz", identity={})
    pretend(model, checkpoint, 1, val_auc=[0.5])
    weight = model.trainable_weights[0]
    weight.assign(np.full(weight.shape, np.inf, "float32"))
    with pytest.raises(FloatingPointError, match=r"after 1 epochs\. .*=inf in epoch 2$"):
        checkpoint.on_epoch_end(1, {"loss": 1.0, "val_auc": 0.9})
    kept = read_checkpoint(tmp_path / "c.npz")
    assert kept.metadata["epoch"] == kept.metadata["best_epoch"] == 1
