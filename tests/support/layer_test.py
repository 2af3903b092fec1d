"""The contract that every layer keeps, in the style of Keras' own `run_layer_test`."""

from __future__ import annotations

import inspect
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

Shape = tuple[int, ...]


def run_layer_test(
    layer_class: type[keras.layers.Layer],
    arguments: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    *,
    inputs: Mapping[str, Shape],
    output_shape: Shape,
    num_params: int,
    num_trainable_weights: int,
    num_non_trainable_weights: int = 0,
    num_seed_generators: int = 0,
    masks: Mapping[str, str] | None = None,
    call_arguments: Mapping[str, Any] | None = None,
    jit_compile: bool = True,
) -> None:
    """Checks that a layer behaves as a Keras 3 layer.

    Args:
        layer_class: The layer.
        arguments: What it is made with; a function that returns that where layers are among it.
        inputs: Name in `call` and shape, the batch included, of every input, in order.
        output_shape: Shape of the output, the batch included.
        num_params: Number of parameters.
        num_trainable_weights: Number of trainable weight tensors.
        num_non_trainable_weights: Number of the others.
        num_seed_generators: Number of random generators; if any, training must differ.
        masks: For the inputs that can be masked, the name of the mask's argument in `call`.
        call_arguments: Further arguments of each call.
        jit_compile: Whether the layer compiles under XLA.
    """
    case = _Case(layer_class, arguments, inputs, output_shape, call_arguments or {})
    _check_config(case)
    _check_symbolic_call(case)
    _check_eager_call(case)
    _check_counts(
        case, num_params, num_trainable_weights, num_non_trainable_weights, num_seed_generators
    )
    _check_empty_and_single_batch(case)
    if num_seed_generators:
        _check_training_argument(case)
    _check_functional_model(case, jit_compile)
    _check_subclassed_model(case)
    if len(inputs) == 1:
        _check_sequential_model(case)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        _check_mixed_precision(case, policy)
    for name, argument in (masks or {}).items():
        _check_mask(case, name, argument)


class _Case:
    """A layer under test with data for it."""

    def __init__(self, layer_class, arguments, inputs, output_shape, call_arguments):
        self.layer_class = layer_class
        self.arguments = arguments if callable(arguments) else lambda: arguments
        self.names = [*inputs]
        self.output_shape = output_shape
        self.call_arguments = dict(call_arguments)
        rng = np.random.default_rng(7)
        self.data = [rng.normal(size=shape).astype("float32") for shape in inputs.values()]

    def layer(self, **changes):
        return self.layer_class(**{**self.arguments(), **changes})

    def symbols(self):
        return [
            keras.Input(x.shape[1:], name=name)
            for name, x in zip(self.names, self.data, strict=True)
        ]

    def call(self, layer, data=None, **kwargs):
        return layer(*(self.data if data is None else data), **{**self.call_arguments, **kwargs})

    def model(self, layer, first=lambda symbols: symbols):
        """A functional model around the layer."""
        symbols = self.symbols()
        outputs = self.call(layer, first(symbols))
        return keras.Model(symbols if len(symbols) > 1 else symbols[0], outputs)

    @property
    def batch(self):
        return self.data if len(self.data) > 1 else self.data[0]


class SubclassedModel(keras.Model):
    """A user's own model around the layer."""

    def __init__(self, layer, call_arguments):
        super().__init__()
        self.layer = layer
        self.call_arguments = call_arguments

    def call(self, inputs, training=None):
        inputs = inputs if isinstance(inputs, list | tuple) else [inputs]
        return self.layer(*inputs, **self.call_arguments)


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def _check_config(case: _Case) -> None:
    layer = case.layer(name="under_test")
    config = layer.get_config()
    text = json.dumps(config)
    parameters = inspect.signature(case.layer_class.__init__).parameters
    missing = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name != "self"
    } - set(config)
    assert not missing, f"get_config lacks {missing}"
    revived = case.layer_class.from_config(json.loads(text))
    assert json.dumps(revived.get_config()) == text
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == f"qrkt_keras>{case.layer_class.__name__}"
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(again) is case.layer_class
    assert json.dumps(again.get_config()) == text
    assert not [name for name in vars(layer) if name == "layers"], "`layers` is Keras' own"


def _check_symbolic_call(case: _Case) -> None:
    layer = case.layer()
    output = case.call(layer, case.symbols())
    assert output.shape == (None, *case.output_shape[1:])
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    assert layer.built
    shapes = [(None, *x.shape[1:]) for x in case.data]
    assert tuple(layer.compute_output_shape(*shapes)) == (None, *case.output_shape[1:])


def _check_eager_call(case: _Case) -> None:
    layer = case.layer()
    output = case.call(layer)
    assert tuple(output.shape) == case.output_shape
    assert np.isfinite(_numpy(output)).all()
    before = len(layer.variables)
    case.call(layer)
    assert len(layer.variables) == before, "a second call made variables"


def _check_counts(case, num_params, trainable, non_trainable, seed_generators) -> None:
    by_call, by_build = case.layer(name="same"), case.layer(name="same")
    case.call(by_call)
    by_build.build(*(x.shape for x in case.data))
    for layer in (by_call, by_build):
        assert layer.count_params() == num_params
        assert len(layer.trainable_weights) == trainable
        assert len(layer.non_trainable_weights) == non_trainable
        assert len(layer.variables) - len(layer.weights) == seed_generators
    paths = [[weight.path for weight in layer.weights] for layer in (by_call, by_build)]
    assert paths[0] == paths[1], "build leaves something for call to make"


def _check_empty_and_single_batch(case: _Case) -> None:
    layer = case.layer()
    whole = _numpy(case.call(layer))
    one = _numpy(case.call(layer, [x[:1] for x in case.data]))
    np.testing.assert_allclose(one, whole[:1], atol=1e-5)
    assert case.call(layer, [x[:0] for x in case.data]).shape == (0, *case.output_shape[1:])


def _check_training_argument(case: _Case) -> None:
    layer = case.layer()
    inference = _numpy(case.call(layer, training=False))
    np.testing.assert_array_equal(_numpy(case.call(layer)), inference)
    first = _numpy(case.call(layer, training=True))
    second = _numpy(case.call(layer, training=True))
    assert np.abs(first - inference).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


def _fit(model: keras.Model, case: _Case, **compile_arguments: Any) -> None:
    """One step of training, after which every weight tensor is finite and some have moved."""
    model(case.batch)
    before = [_numpy(weight) for weight in model.trainable_weights]
    target = np.ones(case.output_shape, "float32")
    model.compile(keras.optimizers.SGD(0.5), loss="mse", **compile_arguments)
    history = model.fit(case.batch, target, batch_size=len(target), verbose=0)
    assert math.isfinite(history.history["loss"][0])
    after = [_numpy(weight) for weight in model.trainable_weights]
    assert all(np.isfinite(weight).all() for weight in after)
    if before:
        assert any((x != y).any() for x, y in zip(before, after, strict=True))


def _check_functional_model(case: _Case, jit_compile: bool) -> None:
    model = case.model(case.layer())
    _fit(model, case, jit_compile=jit_compile)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        revived = keras.saving.load_model(path)
    for old, new in zip(model.weights, revived.weights, strict=True):
        assert (old.name, old.shape) == (new.name, new.shape)
        np.testing.assert_array_equal(_numpy(old), _numpy(new))
    np.testing.assert_array_equal(_numpy(revived(case.batch)), _numpy(model(case.batch)))


def _check_subclassed_model(case: _Case) -> None:
    _fit(SubclassedModel(case.layer(), case.call_arguments), case, jit_compile=False)


def _check_sequential_model(case: _Case) -> None:
    deferred = keras.Sequential([case.layer()])
    assert tuple(deferred(case.data[0]).shape) == case.output_shape
    known = keras.Sequential([keras.Input(case.data[0].shape[1:]), case.layer()])
    assert known.output_shape == (None, *case.output_shape[1:])


def _check_mixed_precision(case: _Case, policy: str) -> None:
    layer = case.layer(dtype=policy)
    output = case.call(layer)
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    assert np.isfinite(_numpy(keras.ops.cast(output, "float32"))).all()
    # Weights, those of the sublayers too, stay in full precision.
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    full = case.layer()
    case.call(full)
    full.set_weights([_numpy(weight) for weight in layer.weights])
    difference = _numpy(keras.ops.cast(output, "float32")) - _numpy(case.call(full))
    # A few times the unit in the last place, for values of about one.
    assert np.abs(difference).max() < (0.02 if policy == "mixed_float16" else 0.15)
    _fit(SubclassedModel(layer, case.call_arguments), case, run_eagerly=True)


def _check_mask(case: _Case, name: str, argument: str) -> None:
    """What stands at masked tokens must not reach the others, however the mask comes."""
    index = case.names.index(name)
    length = case.data[index].shape[1]
    mask = np.ones(case.data[index].shape[:2], bool)
    mask[:, length - 1] = False
    mask[0, 1] = False
    padded = [x.copy() for x in case.data]
    padded[index][~mask] = 0.0
    disturbed = [x.copy() for x in case.data]
    disturbed[index][~mask] = 3.0
    # The outputs belong to the first input's tokens.
    kept = mask if index == 0 else np.ones(case.output_shape[:2], bool)

    layer = case.layer()
    tensor = keras.ops.convert_to_tensor
    expected = _numpy(case.call(layer, padded, **{argument: tensor(mask)}))
    unmasked = _numpy(case.call(layer, padded))
    assert np.isfinite(expected).all()
    assert np.abs(expected[kept] - unmasked[kept]).max() > 1e-4, "the mask changes nothing"
    result = _numpy(case.call(layer, disturbed, **{argument: tensor(mask)}))
    np.testing.assert_allclose(result[kept], expected[kept], atol=1e-6)

    attached = [*padded]
    attached[index] = keras.layers.Masking()(padded[index])
    output = case.call(layer, attached)
    np.testing.assert_allclose(_numpy(output)[kept], expected[kept], atol=1e-6)
    if index == 0:
        np.testing.assert_array_equal(_numpy(output._keras_mask), mask)

    def masked(symbols):
        return [
            keras.layers.Masking()(symbol) if position == index else symbol
            for position, symbol in enumerate(symbols)
        ]

    model = case.model(layer, masked)
    result = model.predict(padded if len(padded) > 1 else padded[0], verbose=0)
    np.testing.assert_allclose(result[kept], expected[kept], atol=1e-5)


# The layers' mathematics a second time, in NumPy and float64, with nothing shared.


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def layer_norm(x: np.ndarray) -> np.ndarray:
    """Layer normalisation with epsilon 1e-6, before any scale and offset are trained."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh approximation."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def ry_ring(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The closed form of the template `ry_ring` for at least three qubits (SPEC section 1)."""
    angles = np.asarray(angles, "float64").reshape(x.shape[-1])
    f = np.sin(x) * np.cos(angles) + np.cos(x) * np.sin(angles) ** 2
    return np.concatenate([f[..., :1] * f[..., -1:], f[..., 1:]], axis=-1)


def attention(query, key, value, num_heads, mask=None) -> np.ndarray:
    """Scaled dot-product attention, head by head, without projections."""
    dim = query.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        columns = slice(head * dim, (head + 1) * dim)
        q, k, v = query[..., columns], key[..., columns], value[..., columns]
        scores = np.einsum("btd,bsd->bts", q, k) / math.sqrt(dim)
        if mask is not None:
            scores = np.where(mask, scores, -1e30)
        heads.append(softmax(scores) @ v)
    return np.concatenate(heads, axis=-1)


def mhsa(layer: keras.layers.Layer, x: np.ndarray, num_heads: int) -> np.ndarray:
    """Self-attention with the weights of a `QuantumMultiHeadAttention`."""
    weights = [_numpy(weight).astype("float64") for weight in layer.weights]
    if layer.quantum:
        (angles, out) = weights
        q, k, v = (ry_ring(x, angles[copy]) for copy in range(3))
        return ry_ring(attention(q, k, v, num_heads), out)
    kernel, bias, out_kernel, out_bias = weights
    q, k, v = np.split(x @ kernel + bias, 3, axis=-1)
    return attention(q, k, v, num_heads) @ out_kernel + out_bias


def ffn(layer: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """Feed-forward with the weights of a `QuantumFeedForward`."""
    expand, contract = (
        [_numpy(weight).astype("float64") for weight in dense.weights]
        for dense in (layer.expand, layer.contract)
    )
    features = x @ expand[0] + expand[1]
    if layer.quantum:
        features = ry_ring(features, _numpy(layer.pqc.angles))
    return gelu(features) @ contract[0] + contract[1]
