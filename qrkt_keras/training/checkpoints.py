"""The one checkpoint mechanism of every long job.

A checkpoint is one file that holds all that a bit-for-bit continuation needs. It is a NumPy
`.npz` archive (`numpy.load(path, allow_pickle=False)` reads it) with one more member,
`metadata.json`, which carries the caller's metadata and the SHA-256 of every array. Nothing in
it is executable.

`write_checkpoint` and `read_checkpoint` know arrays and JSON only. `model_state` and
`generator_state` turn a Keras model and the random generators into arrays, and
`TrainingCheckpoint` uses all of these for `model.fit`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import json
import math
import os
import platform
import random
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from qrkt_keras.training.files import atomic_write

FORMAT = "qrkt_keras.checkpoint"
VERSION = 1

_METADATA = "metadata.json"
_METADATA_HASH = "metadata.sha256"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not belong to what it is restored into."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What `read_checkpoint` found in a file: arrays by name, and the writer's metadata."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any]


# --- files ---------------------------------------------------------------------------------


def write_checkpoint(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    """Writes arrays and metadata as one file, whole or not at all.

    Args:
        path: The file; an existing one is replaced only by a complete new one.
        arrays: Numbers of any NumPy or `ml_dtypes` type, by name.
        metadata: Anything that JSON can hold.

    Raises:
        TypeError: If an array does not hold plain numbers, or the metadata is not JSON.
        OSError: If the file cannot be written (a full disk); the old one stays whole.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(f"{folder}/c.npz", {"w": np.arange(3)}, {"epoch": 7})
    ...     checkpoint = read_checkpoint(f"{folder}/c.npz")
    >>> checkpoint.arrays["w"], checkpoint.metadata
    (array([0, 1, 2]), {'epoch': 7})
    """
    members, index = [], {}
    for name, value in arrays.items():
        array = np.asarray(value)
        member = _encode(name, array)
        index[name] = {"dtype": array.dtype.name, "sha256": _sha256(member)}
        members.append((f"{name}.npy", member))
    header = {"format": FORMAT, "version": VERSION, "arrays": index, "metadata": metadata}
    text = json.dumps(header).encode()
    members += [(_METADATA, text), (_METADATA_HASH, _sha256(text).encode())]
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members:
            # A ZipInfo made here carries no clock, so equal content gives equal files.
            archive.writestr(zipfile.ZipInfo(name), member)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a file of `write_checkpoint` and checks every byte of it.

    Args:
        path: The file.

    Returns:
        Its arrays and metadata.

    Raises:
        CheckpointError: If the file is missing, truncated, altered or no checkpoint.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no such checkpoint. Received: {path}") from error
    # Damage surfaces as whatever the archive reader trips over first.
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"The checkpoint is truncated, altered or none at all ({error}). Received: {path}"
        ) from error
    try:
        header = _header(members)
        arrays = {
            name: _decode(name, members.pop(f"{name}.npy", None), entry)
            for name, entry in header["arrays"].items()
        }
        if members:
            raise ValueError(f"{sorted(members)[0]} does not belong in it")
    except ValueError as error:
        raise CheckpointError(
            f"The checkpoint is altered or none at all: {error}. Received: {path}"
        ) from error
    return Checkpoint(arrays, header["metadata"])


def _header(members: dict[str, bytes]) -> dict[str, Any]:
    text, digest = members.pop(_METADATA, None), members.pop(_METADATA_HASH, None)
    if text is None or digest is None:
        raise ValueError(f"it has no {_METADATA}")
    if _sha256(text).encode() != digest:
        raise ValueError(f"the SHA-256 of {_METADATA} is wrong")
    header = json.loads(text)
    if header.get("format") != FORMAT:
        raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
    if header.get("version") != VERSION:
        raise ValueError(f"its version is {header.get('version')!r}, this code reads {VERSION}")
    return header


def _encode(name: str, array: np.ndarray) -> bytes:
    if array.dtype.kind == "V" and array.dtype.names is None:
        # bfloat16 and its kin: NumPy's file format knows their bytes only.
        array = array.view(f"u{array.dtype.itemsize}")
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"A checkpoint holds numbers only. Received: {name!r} of dtype {array.dtype}"
        )
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _decode(name: str, member: bytes | None, entry: Mapping[str, str]) -> np.ndarray:
    if member is None:
        raise ValueError(f"the array {name!r} is missing")
    if _sha256(member) != entry["sha256"]:
        raise ValueError(f"the SHA-256 of the array {name!r} is wrong")
    array = np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)
    if array.dtype.name != entry["dtype"]:
        import ml_dtypes

        array = array.view(getattr(ml_dtypes, entry["dtype"]))
    return array


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- models --------------------------------------------------------------------------------

# What must stay finite.
_LOSSES = ("loss", "generator_loss", "discriminator_loss")

# Keras numbers layers and optimizers without a name by how many were made before in the process.
_AUTOMATIC_NUMBER = re.compile(r"_\d+(?=[/_]|$)")


def model_state(model: keras.Model) -> dict[str, np.ndarray]:
    """Every variable of a model as arrays.

    That is trainable and non-trainable weights, the states of the seed generators (which
    `model.save` leaves out, so that a reloaded Dropout repeats itself), the optimizer's variables
    and the metrics'.

    Args:
        model: A built model. A compiled one's optimizer is built if it is not yet.

    Returns:
        Array by name: `"model/0003/dense/kernel"`, `"optimizer/..."`, `"metrics/..."`. The number
        makes the name unique, for paths may repeat.
    """
    return {name: _value(variable) for name, variable in _named_variables(model).items()}


def restore_model_state(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, optimizer: bool = True
) -> None:
    """Gives a model the state that `model_state` took, after checking all of it.

    Variables are matched by position and name, in which the numbers that Keras appends on its own
    do not count. Metrics that the model does not have yet are left out: Keras makes them in the
    first step, and resets them before every epoch.

    Args:
        model: A built model of the same architecture, compiled with the same optimizer.
        arrays: What `model_state` returned; other names are ignored.
        optimizer: Whether to restore the optimizer and the metrics too, or the model alone.

    Raises:
        CheckpointError: If a variable's name, shape or dtype differs, or one is missing; nothing
            is restored then.
    """
    variables = _named_variables(model)
    pairs = _matched(_group(variables, "model"), _group(arrays, "model"), "the model")
    if optimizer:
        pairs += _matched(
            _group(variables, "optimizer"), _group(arrays, "optimizer"), "the optimizer"
        )
        saved = {_plain(name): array for name, array in _group(arrays, "metrics").items()}
        pairs += [
            (variable, saved[_plain(name)])
            for name, variable in _group(variables, "metrics").items()
            if _plain(name) in saved and saved[_plain(name)].shape == tuple(variable.shape)
        ]
    for variable, array in pairs:
        variable.assign(array)


def model_identity(model: keras.Model) -> Any:
    """A model's configuration as JSON data, but for the engine, which changes no weight."""
    return {"class": type(model).__name__, **_without_engines(model.get_config())}


def _without_engines(value: Any) -> Any:
    # Layers inside a configuration have names with automatic numbers: those are left out too.
    if isinstance(value, Mapping):
        return {name: _without_engines(item) for name, item in value.items() if name != "engine"}
    if isinstance(value, (list, tuple)):
        return [_without_engines(item) for item in value]
    return _plain(value) if isinstance(value, str) else value


def _named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    if not model.built:
        raise ValueError(
            "A model must be built before it has a state: call it once, or build it. "
            f"Received: {model.name!r}, not built"
        )
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    # A GAN has several, by name.
    optimizers = getattr(model, "optimizers", {"": optimizer})
    groups = {
        "model": [(variable.path, variable) for variable in _distinct(model.variables)],
        # Not its path: that depends on whether the first step or a call built the optimizer.
        "optimizer": [
            (f"{name}/{variable.name}" if name else variable.name, variable)
            for name, optimizer in optimizers.items()
            for variable in _distinct(optimizer.variables if optimizer is not None else [])
        ],
        "metrics": [(variable.path, variable) for variable in _distinct(model.metrics_variables)],
    }
    return {
        f"{group}/{number:04d}/{name}": variable
        for group, variables in groups.items()
        for number, (name, variable) in enumerate(variables)
    }


def _distinct(variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())


def _value(variable: keras.Variable) -> np.ndarray:
    # A copy: on some backends NumPy would share memory that the next step overwrites.
    return np.array(keras.ops.convert_to_numpy(variable))


def _group(named: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name.startswith(f"{group}/")}


def _plain(name: str) -> str:
    return _AUTOMATIC_NUMBER.sub("", name)


def _matched(
    variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray], whose: str
) -> list[tuple[keras.Variable, np.ndarray]]:
    ours, theirs = sorted(variables), sorted(arrays)
    for here, there in zip(ours, theirs, strict=False):
        if _plain(here) != _plain(there):
            raise CheckpointError(
                f"The checkpoint does not belong to {whose}: where that has {here!r}, "
                f"the checkpoint has another variable. Received: {there!r}"
            )
        variable, array = variables[here], arrays[there]
        expected = tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)
        received = array.shape, array.dtype.name
        if expected != received:
            raise CheckpointError(
                f"The checkpoint does not belong to {whose}: {here!r} has shape {expected[0]} and "
                f"dtype {expected[1]}. Received: shape {received[0]}, dtype {received[1]}"
            )
    if len(ours) != len(theirs):
        raise CheckpointError(
            f"The checkpoint does not belong to {whose}, which has {len(ours)} variables. "
            f"Received: {len(theirs)} variables"
        )
    return [(variables[here], arrays[there]) for here, there in zip(ours, theirs, strict=True)]


# --- random generators ---------------------------------------------------------------------


def generator_state() -> dict[str, np.ndarray]:
    """The states of the process-wide random generators of Python, NumPy and Keras as arrays.

    A model's own seed generators are part of `model_state`. TensorFlow's stateful random ops
    (`tf.random.uniform` and the like) keep their counters inside their kernels, where nobody can
    read them: a job that must be continued bit for bit uses `keras.random` or stateless ops.
    """
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "random/python": np.array([version, *words], dtype=np.int64),
        "random/python_gauss": np.array([] if gauss is None else [gauss], dtype=np.float64),
        "random/numpy": np.array([*keys, position, has_gauss], dtype=np.int64),
        "random/numpy_gauss": np.array(cached, dtype=np.float64),
    }
    generator = _global_keras_generator(create=False)
    if generator is not None:
        state["random/keras"] = _value(generator.state)
    return state


def restore_generator_state(arrays: Mapping[str, np.ndarray]) -> None:
    """Gives the process-wide random generators the states that `generator_state` took.

    Args:
        arrays: What `generator_state` returned; other names are ignored.

    Raises:
        CheckpointError: If one is missing.
    """
    names = ("python", "python_gauss", "numpy", "numpy_gauss")
    missing = [name for name in names if f"random/{name}" not in arrays]
    if missing:
        raise CheckpointError(
            f"A checkpoint must hold the states of the random generators. Received: no {missing}"
        )
    words, gauss, keys, cached = (arrays[f"random/{name}"] for name in names)
    version, *words = words.tolist()
    random.setstate((version, tuple(words), gauss.item() if gauss.size else None))
    *keys, position, has_gauss = keys.tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, cached.item()))
    if "random/keras" in arrays:
        _global_keras_generator(create=True).state.assign(arrays["random/keras"])


def _global_keras_generator(create: bool) -> keras.random.SeedGenerator | None:
    # What keras.random uses without a seed. Keras has no public name for it.
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    if create:
        return seed_generator.global_seed_generator()
    return global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)


# --- training ------------------------------------------------------------------------------


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves a whole training job after every epoch, and the best epoch's weights with it.

    The file holds the model's whole state, the process-wide random generators, the best weights
    so far, the history, the time used, and what identifies the job. A job that is killed at any
    point continues from the last epoch that it finished:

        checkpoint = TrainingCheckpoint(path, identity={"recipe": ..., "data": ...})
        start = checkpoint.restore(model) if path.exists() else 0
        model.fit(batches_from(start), initial_epoch=start, callbacks=[..., checkpoint])
        checkpoint.restore_best(model)

    Put it after every callback that adds to the logs. When a loss or a weight is no longer a finite
    number it stops the training by a `FloatingPointError`, and never writes such a state.

    Args:
        path: The file.
        identity: JSON data that must be the same when the job is continued.
        monitor: The log that tells the best epoch; among equals the lower `val_loss` decides (for
            `train_...` the lower `train_loss`), then the earlier epoch. An epoch whose log is NaN
            is not the best. With None there is no best epoch.
        mode: `"max"`, `"min"`, or `"auto"`: least for names that end in `loss`, most for others.
        upgrade: Turns the identity in a file into what it would be if the file were written now.
        num_replicas: Devices that train together. With another number a job can be continued, but
            not bit for bit.
        writes: Whether this process writes the file. Of several, one does; all keep the state.

    Attributes:
        epoch: Epochs finished.
        history: Log name to its value in each epoch; NaN in epochs before its first.
        best_epoch: The best epoch, counted from 1; 0 before there is one.
        seconds: Time used for training, over all runs of the job.
        seconds_per_step: The same of one step, in each epoch, without what is done between epochs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        identity: Mapping[str, Any],
        monitor: str | None = "val_auc",
        mode: str = "auto",
        upgrade: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        num_replicas: int = 1,
        writes: bool = True,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "max", "min"):
            raise ValueError(f"mode must be 'auto', 'max' or 'min'. Received: mode={mode!r}")
        self.path = Path(path)
        # As it will be read back, for comparison: JSON knows no tuples.
        self.identity = json.loads(json.dumps(identity))
        self.monitor = monitor
        is_loss = (monitor or "").endswith("loss")
        self.mode = ("min" if is_loss else "max") if mode == "auto" else mode
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.best_epoch = 0
        self.seconds = 0.0
        self.seconds_per_step: list[float] = []
        self._upgrade = upgrade or (lambda identity: identity)
        self._num_replicas = num_replicas
        self._writes = writes
        self._best: dict[str, np.ndarray] = {}
        self._since = 0.0
        self._epoch_since = 0.0
        self._step_seconds = 0.0
        self._is_saved = False

    def restore(self, model: keras.Model) -> int:
        """Continues the job in the file.

        Args:
            model: The job's model, built and compiled.

        Returns:
            The number of finished epochs, which is `fit`'s `initial_epoch`.

        Raises:
            CheckpointError: If the file is damaged, or is that of another job.
        """
        checkpoint = read_checkpoint(self.path)
        metadata = checkpoint.metadata
        if metadata.get("kind") != "training":
            raise CheckpointError(
                "The checkpoint is not one of a training job. "
                f"Received: kind={metadata.get('kind')!r} in {self.path}"
            )
        saved = self._upgrade(metadata["identity"])
        saved = _with_arguments_since(saved, self.identity, type(model))
        differences = _differences(saved, self.identity)
        if differences:
            raise CheckpointError(
                f"The job in {self.path} is another one and cannot be continued by this. "
                f"Received: {'; '.join(differences)}"
            )
        changed = _differences(metadata["environment"], self._environment())
        if changed:
            warnings.warn(
                "The job continues in another environment, so its weights will not be bit for bit "
                f"those of an undisturbed one: {'; '.join(changed)}",
                stacklevel=2,
            )
        restore_model_state(model, checkpoint.arrays)
        restore_generator_state(checkpoint.arrays)
        self._best = {
            name.removeprefix("best/"): array
            for name, array in _group(checkpoint.arrays, "best").items()
        }
        self.epoch = metadata["epoch"]
        self.history = {name: list(values) for name, values in metadata["history"].items()}
        self.best_epoch = metadata["best_epoch"]
        self.seconds = metadata["seconds"]
        self.seconds_per_step = list(metadata.get("seconds_per_step", ()))
        self._is_saved = True
        return self.epoch

    def restore_best(self, model: keras.Model) -> None:
        """Gives the model the weights of the best epoch; without one, it keeps its own."""
        if self.best_epoch:
            restore_model_state(model, self._best, optimizer=False)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._since = time.monotonic()
        if self.epoch == 0:
            # From here on the job can be continued, whatever its initial weights were.
            self._save(self._finite_state(1))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch_since = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._step_seconds = (time.monotonic() - self._epoch_since) / (batch + 1)
        # Means over the epoch so far: what was no number once stays none.
        self._check_losses(logs or {}, f"after step {batch + 1} in epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        logs = {name: float(value) for name, value in (logs or {}).items()}
        if self.monitor is not None and self.monitor not in logs:
            raise ValueError(
                f"monitor must name one of the logs {sorted(logs)}. "
                f"Received: monitor={self.monitor!r}"
            )
        self._check_losses(logs, f"in epoch {epoch + 1}")
        state = self._finite_state(epoch + 1)
        for name, value in logs.items():
            self.history.setdefault(name, [math.nan] * epoch).append(value)
        self.seconds_per_step.append(self._step_seconds)
        self.epoch = epoch + 1
        if self._is_best():
            self.best_epoch = self.epoch
            self._best = _group(state, "model")
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now
        self._save(state)

    def _rank(self, epoch: int) -> tuple[float, float]:
        value = self.history[self.monitor][epoch - 1]
        of_training = self.monitor.startswith("train_")
        name = "train_loss" if of_training else "val_loss"
        loss = self.history.get(name, [0.0] * epoch)[epoch - 1]
        return (value if self.mode == "max" else -value), -loss

    def _is_best(self) -> bool:
        if self.monitor is None:
            return False
        rank = self._rank(self.epoch)
        if math.isnan(rank[0]):
            return False
        return self.best_epoch == 0 or rank > self._rank(self.best_epoch)

    def _check_losses(self, logs: Mapping[str, float], when: str) -> None:
        for name in _LOSSES:
            if not math.isfinite(logs.get(name, 0.0)):
                self._stop(f"{name}={logs[name]} {when}")

    def _finite_state(self, epoch: int) -> dict[str, np.ndarray]:
        """The model's state; a last step may have spoiled it without the losses showing it yet."""
        state = model_state(self.model)
        for name, array in state.items():
            finite = np.isfinite(array)
            # Metrics may be unknown, as the losses themselves may not.
            if not finite.all() and not name.startswith("metrics/"):
                self._stop(f"{name}={array[~finite].flat[0]} in epoch {epoch}")
        return state

    def _stop(self, received: str) -> NoReturn:
        kept = "No checkpoint was written"
        if self._is_saved:
            kept = f"{self.path} keeps the job as it was after {self.epoch} epochs"
        raise FloatingPointError(
            f"A loss or a weight is no longer a number. {kept}. Continued, it would go the same "
            "way: start afresh, in another folder or with overwrite=True, with a lower learning "
            f"rate or a longer warm-up. Received: {received}"
        )

    def _environment(self) -> dict[str, str]:
        # Not of one replica: files of before there were several do not say it.
        several = {} if self._num_replicas == 1 else {"replicas": str(self._num_replicas)}
        return environment() | several

    def _save(self, state: Mapping[str, np.ndarray]) -> None:
        self._is_saved = True
        if not self._writes:
            return
        arrays = dict(state) | generator_state()
        arrays |= {f"best/{name}": array for name, array in self._best.items()}
        metadata = {
            "kind": "training",
            "identity": self.identity,
            "environment": self._environment(),
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "seconds_per_step": self.seconds_per_step,
        }
        write_checkpoint(self.path, arrays, metadata)


def environment() -> dict[str, str]:
    """What changes the last bits of a computation: versions, machine kind, number of cores."""
    return {
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {_backend_version()}",
        "numpy": np.__version__,
        "machine": platform.machine(),
        # TensorFlow's matrix products are cut into as many pieces as there are cores.
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
    }


def _backend_version() -> str:
    import importlib

    return importlib.import_module(keras.backend.backend()).__version__


def _with_arguments_since(
    saved: Mapping[str, Any], received: Mapping[str, Any], model_class: type
) -> dict[str, Any]:
    """A job's identity, in which arguments that its model has got since have their defaults."""
    configs = saved.get("model"), received.get("model")
    if not all(isinstance(config, Mapping) for config in configs):
        return dict(saved)
    defaults = {
        name: argument.default
        for name, argument in inspect.signature(model_class).parameters.items()
        if name in configs[1] and argument.default is not inspect.Parameter.empty
    }
    return {**saved, "model": {**defaults, **configs[0]}}


def _differences(saved: Any, received: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, in words."""
    if isinstance(saved, dict) and isinstance(received, dict):
        return [
            line
            for key in sorted(saved.keys() | received.keys())
            for line in _differences(saved.get(key), received.get(key), f"{where}{key}.")
        ]
    # Layers in a configuration: the whole list would be pages.
    if _are_tables(saved) and _are_tables(received) and len(saved) == len(received):
        return _differences(*(dict(enumerate(value)) for value in (saved, received)), where)
    if saved == received:
        return []
    return [f"{where.rstrip('.')}={_shortened(received)}, but it was {_shortened(saved)}"]


def _shortened(value: Any) -> str:
    """A value in a message, which a vocabulary would make pages long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:150]}… ({len(text):,} characters)"


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
