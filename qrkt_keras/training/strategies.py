"""Training on more than one device or machine, by `tf.distribute`.

All replicas of a model hold the same weights. Each takes its part of every batch, the gradients are
summed over the replicas, and every replica makes the same step. So at dropout 0 the result is that
of one device, up to float error.

Keras clips a replica's gradients before it sums them, which is another result:
`reduce_before_clipping` turns that round. Its `fit` works on several devices of one machine and
raises on several machines; `train` is the loop for those.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import keras
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("mirrored", "multiworker")

_JOBS = ("chief", "worker")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

# Odd and large: generators with consecutive seeds stay apart on all replicas.
_STREAM = 0x3779B1


class WorkerLostError(ConnectionError):
    """Another worker is gone, or the chief could not go on; the message says what to do."""


def make_strategy(
    name: str | None, devices: Sequence[str] | None = None
) -> tf.distribute.Strategy | None:
    """The strategy of a name. Call it first of all: before data are read or a model is built.

    Args:
        name: `"mirrored"`: all GPUs of this machine, or its CPU if it has none. `"multiworker"`:
            the machines that the environment variable `TF_CONFIG` lists, with all GPUs of each.
            None: one device, and no strategy.
        devices: Names of the devices of `"mirrored"`, such as `["GPU:0", "GPU:2"]`.

    Returns:
        The strategy, or None. `"multiworker"` waits for the other workers.

    Raises:
        ValueError: If the name is unknown, a device is not there, `TF_CONFIG` is missing or wrong,
            or devices are named for anything but `"mirrored"`.
        RuntimeError: If TensorFlow was used before `"multiworker"` was made.

    Example:

    >>> make_strategy("mirrored", devices=["CPU:0"]).num_replicas_in_sync
    1
    >>> make_strategy(None) is None
    True
    """
    if name not in (None, *STRATEGIES):
        raise ValueError(f"name must be one of {', '.join(STRATEGIES)}. Received: name={name!r}")
    if devices is not None and name != "mirrored":
        raise ValueError(
            "Devices are chosen for 'mirrored' alone; elsewhere CUDA_VISIBLE_DEVICES does it. "
            f"Received: name={name!r}, devices={devices!r}"
        )
    if name is None:
        return None

    import tensorflow as tf

    if name == "mirrored":
        if devices is not None:
            _check_devices(devices, [d.name for d in tf.config.list_logical_devices()])
        return tf.distribute.MirroredStrategy(devices)
    check_tf_config(os.environ.get("TF_CONFIG"))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "make_strategy('multiworker') must be called first of all, before TensorFlow is used. "
            f"Received: {error}"
        ) from error


def check_tf_config(text: str | None) -> None:
    """Refuses a `TF_CONFIG` that does not say who the workers are and which of them this is.

    Args:
        text: The environment variable's value; None if it is not set.

    Raises:
        ValueError: If something is missing or wrong, by name.
    """

    def refuse(wanted: str) -> NoReturn:
        raise ValueError(f"{wanted}, as in TF_CONFIG='{_EXAMPLE}'. Received: TF_CONFIG={text!r}")

    if not text:
        refuse("The strategy 'multiworker' needs the environment variable TF_CONFIG")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        refuse(f"TF_CONFIG must be JSON ({error})")
    for key in ("cluster", "task"):
        if not isinstance(config, dict) or not isinstance(config.get(key), dict):
            refuse(f"TF_CONFIG must have a {key!r}")
    cluster, task = config["cluster"], config["task"]
    if not cluster or not set(cluster) <= set(_JOBS):
        refuse("TF_CONFIG's cluster must list the addresses of 'worker', and may of a 'chief'")
    for job, addresses in cluster.items():
        are_addresses = isinstance(addresses, list) and all(
            isinstance(address, str) and address.rpartition(":")[2].isdigit()
            for address in addresses
        )
        if not are_addresses or not addresses:
            refuse(f"TF_CONFIG's {job!r} must be a list of addresses host:port")
    if task.get("type") not in cluster:
        refuse(f"TF_CONFIG's task must have a 'type' of its cluster, {' or '.join(cluster)}")
    num = len(cluster[task["type"]])
    if task.get("index") not in range(num) or isinstance(task["index"], bool):
        refuse(f"TF_CONFIG's task must have an 'index' from 0 to {num - 1}")


@contextlib.contextmanager
def scope(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Where a model must be built; for no strategy, a scope that does nothing.

    Raises:
        WorkerLostError: If another worker is gone: weights begin with the chief's.
    """
    if strategy is None:
        yield
        return
    with _lost_workers(), strategy.scope():
        yield


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process writes files and speaks: the chief, or the only one."""
    if not is_multiworker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if resolver.task_type == "chief":
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "worker" and resolver.task_id == 0 and not has_chief


def is_multiworker(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether there may be other processes."""
    if strategy is None:
        return False

    import tensorflow as tf

    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def num_replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Devices that train together, over all machines."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def steps_at_once(
    strategy: tf.distribute.Strategy | None, steps: int, *, widths_vary: bool = False
) -> int:
    """How many of so many steps a call of the train function can run.

    Args:
        strategy: The job's, if it has one.
        steps: How many it runs on one device.
        widths_vary: Whether not all batches have the same shape.
    """
    if strategy is None:
        return steps
    # On one machine TensorFlow 2.18 runs Keras' loop of several steps into an InvalidArgumentError
    # (a placeholder that nobody feeds). Between machines it gathers the gradient of an embedding,
    # of which there is one row a token, and within a call these must be equally many in each step.
    return steps if is_multiworker(strategy) and not widths_vary else 1


def strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """The strategy under whose scope a model was built, if any."""
    # Keras sets it in a model's constructor; on other backends there is none.
    return getattr(model, "_distribute_strategy", None)


def check_job(
    model: keras.Model,
    strategy: tf.distribute.Strategy | None,
    *,
    batch_size: int,
    jit_compile: bool | str,
) -> None:
    """Refuses a job that a strategy cannot train as one device would.

    Args:
        model: A built model.
        strategy: The job's, if it has one.
        batch_size: Examples of a step, on all replicas together.
        jit_compile: Whether the training step is compiled with XLA.

    Raises:
        ValueError: If the model was not built under the strategy's scope, the number of replicas
            does not divide the batch size, or XLA is asked for.
    """
    theirs = strategy_of(model)
    if theirs is not strategy:
        raise ValueError(
            "The model must be built under the scope of the strategy that trains it: "
            "`with training.strategies.scope(strategy): model = ...`, then "
            f"`training.fit(model, ..., strategy=strategy)`. Received: {model.name!r} built under "
            f"{_class_name(theirs)}, with strategy={_class_name(strategy)}"
        )
    if strategy is None:
        return
    if batch_size % num_replicas(strategy):
        raise ValueError(
            f"The number of replicas must divide batch_size. Received: batch_size={batch_size} "
            f"with {num_replicas(strategy)} replicas"
        )
    if jit_compile is True:
        raise ValueError(
            "XLA does not compile a step of several replicas; leave jit_compile at 'auto'. "
            "Received: jit_compile=True"
        )


def reduce_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Has an optimizer sum its gradients over the replicas before it does anything else with them.

    Keras' optimizers clip each replica's gradients and sum them then, which is not the clipped
    gradient of the batch: with two replicas of opposite gradients it may even turn it round.

    Args:
        optimizer: A model's, after `compile`, which may have wrapped it. Its `apply` is replaced.
    """
    import tensorflow as tf

    apply = optimizer.apply

    def apply_to_sums(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        context = tf.distribute.get_replica_context()
        sums = iter(
            context.all_reduce(
                tf.distribute.ReduceOp.SUM, [grad for grad in grads if grad is not None]
            )
        )
        grads = [None if grad is None else next(sums) for grad in grads]
        return apply(grads, trainable_variables)

    optimizer.apply = apply_to_sums
    # Of a scaled loss, as for float16, the inner one updates the weights.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda grads_and_variables: grads_and_variables


def separate_random_streams(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives the seed generators of a model other states on each replica.

    Otherwise all replicas would draw the same dropout masks. The first replica's states stay as
    they are, and those of the others follow from them, so a checkpoint needs no others.

    Args:
        model: A model, built under the strategy; all replicas have equal states.
        strategy: The strategy.
    """
    import tensorflow as tf

    # Keras has no public list of them.
    generators = {
        id(generator): generator
        for layer in model._flatten_layers()
        for generator in layer._seed_generators
    }
    if not generators:
        return

    @tf.function
    def separate() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for generator in generators.values():
            state = generator.state.value
            offset = tf.stack([tf.cast(replica, tf.int64) * _STREAM, 0])
            state.assign(state + tf.cast(offset, state.dtype))

    strategy.run(separate)


# --- several machines ----------------------------------------------------------------------


@contextlib.contextmanager
def _lost_workers() -> Iterator[None]:
    """Says in the user's words that another worker is gone."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        # Of a page of places in TensorFlow, and of the connections' own, what happened.
        _, _, reason = error.message.rpartition("Collective ops is aborted by: ")
        reason, _, _ = reason.partition("\n")
        raise WorkerLostError(
            "Another worker is gone, so this one stops. All epochs but the one under way are safe: "
            "start all workers again, with the same call and resume=True (on the command line: "
            f"--resume). Received: {reason}"
        ) from error


def chief_first(strategy: tf.distribute.Strategy | None, action: Callable[[], Any]) -> None:
    """Does on the chief what may be done once only; the other workers wait for it.

    Raises:
        WorkerLostError: On the others, if it failed on the chief, which raises what it got.
    """
    if not is_multiworker(strategy):
        action()
        return
    error = None
    if is_chief(strategy):
        try:
            action()
        except Exception as caught:  # The others must hear of it, whatever it is.
            error = caught
    failed = _of_chief(strategy, [float(error is not None)])
    if error is not None:
        raise error
    if failed[0]:
        raise WorkerLostError(
            "The chief could not go on: its own message says why. Received: an error on the chief"
        )


def barrier(strategy: tf.distribute.Strategy | None) -> None:
    """Waits until all workers are here."""
    chief_first(strategy, lambda: None)


def check_epoch(strategy: tf.distribute.Strategy | None, epoch: int, path: Any) -> None:
    """Refuses, on all workers, to continue if some of them see another checkpoint.

    Raises:
        ValueError: If the epochs that are done are not the same on all workers.
    """
    if not is_multiworker(strategy):
        return
    chief = int(_of_chief(strategy, [epoch])[0])
    if _sum(strategy, [abs(epoch - chief)])[0]:
        raise ValueError(
            "All workers must see the same output_dir, on a file system that they share. "
            f"Received: {chief} epochs done on the chief, {epoch} on this worker, by {path}"
        )


class ChiefLogs(keras.callbacks.Callback):
    """Gives the logs the chief's values at the end of every epoch.

    Every worker scores the model, and on another kind of machine the last bits may differ; what is
    decided by the logs must be decided alike.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        self._strategy = strategy

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        names = sorted(logs)
        values = _of_chief(self._strategy, [float(logs[name]) for name in names])
        logs.update(zip(names, values.tolist(), strict=True))


@_lost_workers()
def train(
    model: keras.Model,
    batches: tf.data.Dataset,
    strategy: tf.distribute.Strategy,
    *,
    steps: int,
    start: int,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """What Keras' `fit` does, on several machines.

    Args:
        model: A model, built and compiled under the strategy.
        batches: The batches of all epochs that are left, of all replicas together. Every worker
            makes all of them and takes its own part.
        strategy: The strategy.
        steps: Steps of an epoch, a multiple of the model's `steps_per_execution`.
        start: Epochs that are done.
        epochs: Epochs in all.
        callbacks: Keras callbacks; all workers must have the same.

    Raises:
        WorkerLostError: If another worker is gone.
    """
    import tensorflow as tf

    callbacks = keras.callbacks.CallbackList(
        callbacks, model=model, verbose=0, epochs=epochs, steps=steps
    )
    at_once = model.steps_per_execution
    iterator = iter(
        strategy.distribute_datasets_from_function(lambda context: _part(batches, context))
    )
    with strategy.scope():
        # The metrics' variables: in the step, which replicas trace, they could not be made.
        model._symbolic_build(data_batch=next(iter(batches.take(1))))

    @tf.function
    def several_steps(iterator: Iterator[Any]) -> None:
        for _ in tf.range(at_once):
            strategy.run(model.train_step, args=(next(iterator),))

    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(start, epochs):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        logs: Mapping[str, float] = {}
        for step in range(0, steps, at_once):
            callbacks.on_train_batch_begin(step)
            several_steps(iterator)
            logs = {name: float(value) for name, value in model.get_metrics_result().items()}
            callbacks.on_train_batch_end(step + at_once - 1, logs)
        callbacks.on_epoch_end(epoch, dict(logs))
        if model.stop_training:
            break
    callbacks.on_train_end()
    # The chief has written the last checkpoint when the others go on.
    barrier(strategy)


def _part(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """A worker's part of every batch, in as many pieces as it has replicas."""
    import tensorflow as tf

    workers, worker = context.num_input_pipelines, context.input_pipeline_id
    replicas = context.num_replicas_in_sync // workers

    def pieces(part: tf.Tensor) -> tf.Tensor:
        size = part.shape[0] // workers
        mine = part[worker * size : (worker + 1) * size]
        shape = tf.concat([[replicas, size // replicas], tf.shape(mine)[1:]], axis=0)
        cut = tf.reshape(mine, shape)
        cut.set_shape([replicas, size // replicas, *mine.shape[1:]])
        return cut

    return batches.map(lambda *parts: tuple(map(pieces, parts))).unbatch()


def _of_chief(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    return _sum(strategy, values if is_chief(strategy) else np.zeros(len(values)))


@_lost_workers()
def _sum(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    """The sum of a worker's values over the workers."""
    import tensorflow as tf

    cluster = strategy.cluster_resolver.cluster_spec()
    local = num_replicas(strategy) // sum(map(cluster.num_tasks, cluster.jobs))

    def of_replica(context: Any) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % local == 0
        return tf.constant(values if is_first else np.zeros(len(values)), tf.float64)

    distributed = strategy.experimental_distribute_values_from_function(of_replica)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, distributed, axis=None).numpy()


def _check_devices(devices: Sequence[str], found: Sequence[str]) -> None:
    short = [name.removeprefix("/device:") for name in found]
    missing = [device for device in devices if device.removeprefix("/device:") not in short]
    if not devices or missing:
        raise ValueError(
            f"devices must be some of {', '.join(short)}. Received: devices={list(devices)!r}"
        )


def _class_name(strategy: tf.distribute.Strategy | None) -> str:
    return "no strategy" if strategy is None else type(strategy).__name__
