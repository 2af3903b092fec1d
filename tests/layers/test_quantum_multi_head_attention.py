from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import attention, mhsa, run_layer_test, ry_ring

from qrkt_keras.circuits import templates
from qrkt_keras.layers import QuantumMultiHeadAttention

RNG = np.random.default_rng(3)
X, Y, Z = (RNG.normal(size=(2, 5, 6)).astype("float32") for _ in range(3))


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(("quantum", "num_params", "num_weights"), [(True, 24, 2), (False, 168, 4)])
def test_contract(quantum, num_params, num_weights):
    run_layer_test(
        QuantumMultiHeadAttention,
        {"num_heads": 2, "key_dim": 3, "quantum": quantum, "dropout": 0.3},
        inputs={"query": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=num_params,
        num_trainable_weights=num_weights,
        num_seed_generators=1,
        masks={"query": "query_mask"},
    )


def test_contract_with_a_source():
    run_layer_test(
        QuantumMultiHeadAttention,
        {"num_heads": 3, "key_dim": 1, "template": "hardware_efficient", "num_ansatz_layers": 2},
        inputs={"query": (3, 4, 3), "value": (3, 5, 3)},
        output_shape=(3, 4, 3),
        num_params=4 * 5 * 3,
        num_trainable_weights=2,
        masks={"value": "value_mask"},
    )


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
def test_self_attention_in_numpy(quantum, num_heads):
    layer = QuantumMultiHeadAttention(num_heads, 6 // num_heads, quantum=quantum)
    result = layer(X)
    np.testing.assert_allclose(array(result), mhsa(layer, X, num_heads), atol=2e-6)


def test_attention_to_other_sources_uses_the_same_projections():
    layer = QuantumMultiHeadAttention(2, 3)
    layer.build(X.shape)
    angles, out = (array(weight) for weight in layer.weights)

    def expected(query, key, value):
        q, k, v = (ry_ring(inputs, angles[copy]) for copy, inputs in enumerate((query, key, value)))
        return ry_ring(attention(q, k, v, 2), out)

    np.testing.assert_allclose(
        array(layer(X, Y[:, :3])), expected(X, Y[:, :3], Y[:, :3]), atol=2e-6
    )
    np.testing.assert_allclose(array(layer(X, Y, Z)), expected(X, Z, Y), atol=2e-6)
    np.testing.assert_allclose(array(layer(X, X, X)), expected(X, X, X), atol=2e-6)


def keras_twin(layer):
    """Keras' own attention with the weights of the classical twin."""
    twin = keras.layers.MultiHeadAttention(layer.num_heads, layer.key_dim)
    twin.build(X.shape, X.shape)
    kernel, bias, out_kernel, out_bias = layer.get_weights()
    heads = (layer.num_heads, layer.key_dim)
    weights = []
    for part_kernel, part_bias in zip(np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True):
        weights += [part_kernel.reshape(-1, *heads), part_bias.reshape(heads)]
    twin.set_weights([*weights, out_kernel.reshape(*heads, -1), out_bias])
    return twin


MASK = np.array([[True, True, True, False, False], [True, False, True, True, True]])
PAIRS = np.random.default_rng(5).random((2, 5, 5)) < 0.6


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"use_causal_mask": True},
        {"attention_mask": PAIRS},
        {"attention_mask": PAIRS, "use_causal_mask": True},
        {"value_mask": MASK},
        {"key_mask": MASK, "use_causal_mask": True},
    ],
)
def test_classical_twin_is_keras_attention(arguments):
    layer = QuantumMultiHeadAttention(2, 3, quantum=False)
    layer.build(X.shape)
    layer.set_weights([RNG.normal(size=weight.shape) for weight in layer.weights])
    twin = keras_twin(layer)
    masks = {
        name: keras.ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    outputs, scores = layer(X, Y, Z, return_attention_scores=True, **masks)
    expected, expected_scores = twin(X, Y, Z, return_attention_scores=True, **masks)
    np.testing.assert_allclose(array(outputs), array(expected), atol=1e-5)
    np.testing.assert_allclose(array(scores), array(expected_scores), atol=1e-6)


def test_masks_as_keras_has_them_in_self_attention():
    layer = QuantumMultiHeadAttention(2, 3, quantum=False)
    layer.build(X.shape)
    mask = keras.ops.convert_to_tensor(MASK)
    masked = keras.ops.convert_to_tensor(X)
    masked._keras_mask = mask
    _, expected = keras_twin(layer)(masked, masked, return_attention_scores=True)
    _, scores = layer(X, query_mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(array(scores), array(expected), atol=1e-6)
    # Padding neither attends nor is attended to; the rest sums to one.
    np.testing.assert_allclose(
        array(scores).sum(-1), np.repeat(MASK[:, None], 2, axis=1).astype(float), atol=1e-6
    )
    assert array(scores)[:, :, :, :][np.broadcast_to(~MASK[:, None, None], (2, 2, 5, 5))].max() == 0


def test_mask_of_one_head():
    layer = QuantumMultiHeadAttention(2, 3)
    mask = np.ones((2, 2, 5, 5), bool)
    mask[:, 1, :, 0] = False
    _, scores = layer(X, attention_mask=mask, return_attention_scores=True)
    assert array(scores)[:, 1, :, 0].max() == 0 < array(scores)[:, 0, :, 0].min()


def test_scores_are_symbolic_too():
    layer = QuantumMultiHeadAttention(2, 3)
    query, value = keras.Input((5, 6)), keras.Input((4, 6))
    outputs, scores = layer(query, value, return_attention_scores=True)
    assert outputs.shape == (None, 5, 6) and scores.shape == (None, 2, 5, 4)
    model = keras.Model([query, value], [outputs, scores])
    assert [output.shape for output in model([X, Y[:, :4]])] == [(2, 5, 6), (2, 2, 5, 4)]


def test_number_of_tokens_may_be_unknown():
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, QuantumMultiHeadAttention(2, 3)(inputs, use_causal_mask=True))
    for length in (1, 4):
        assert model.predict(X[:, :length], verbose=0).shape == (2, length, 6)


def test_dropout_is_on_the_attention_weights():
    layer = QuantumMultiHeadAttention(1, 3, quantum=False, dropout=0.5)
    layer.build((2, 5, 3))
    # Queries of zero attend evenly; values of one; the output is the values' sum.
    kernel = np.zeros((3, 9))
    layer.set_weights([kernel, np.repeat([0.0, 0.0, 1.0], 3), np.eye(3), np.zeros(3)])
    outputs = array(layer(np.zeros((200, 5, 3), "float32"), training=True))
    # Each weight is 1/5, doubled or dropped, so that the sums are multiples of 2/5.
    assert set(np.unique(np.round(outputs * 2.5, 4))) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert abs(outputs.mean() - 1) < 0.1


@pytest.mark.parametrize("policy", ["mixed_float16", "float32"])
def test_large_scores_stay_finite(policy):
    layer = QuantumMultiHeadAttention(1, 3, quantum=False, dtype=policy)
    layer.build((2, 5, 3))
    layer.set_weights([np.full((3, 9), 3.0), np.zeros(9), np.eye(3), np.zeros(3)])
    mask = np.zeros((2, 5, 5), bool)
    outputs, scores = layer(
        8 * np.ones((2, 5, 3), "float32"), attention_mask=mask, return_attention_scores=True
    )
    assert np.isfinite(array(outputs)).all() and array(scores).max() == 0


def test_float64_policy_computes_in_float64():
    layer = QuantumMultiHeadAttention(2, 3, dtype="float64")
    result = array(layer(X.astype("float64")))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, mhsa(layer, X.astype("float64"), 2), atol=1e-13)


def test_set_engine_keeps_weights_and_values():
    layer = QuantumMultiHeadAttention(2, 3)
    before, weights = array(layer(X)), layer.get_weights()
    layer.set_engine("state_vector")
    assert layer.get_config()["engine"] == "state_vector"
    assert {layer.input_projection.pqc.engine, layer.output_projection.pqc.engine} == {
        "state_vector"
    }
    np.testing.assert_allclose(array(layer(X)), before, atol=1e-5)
    for after, weight in zip(layer.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(after, weight)
    unbuilt = QuantumMultiHeadAttention(2, 3)
    unbuilt.set_engine("state_vector")
    unbuilt.build(X.shape)
    assert unbuilt.input_projection.pqc.engine == "state_vector"
    with pytest.raises(ValueError, match="Received: 'warp'"):
        layer.set_engine("warp")


def test_own_circuit_in_place_of_a_template():
    spec = templates.rx_ring(6, 2)
    layer = QuantumMultiHeadAttention(2, 3, template=spec)
    named = QuantumMultiHeadAttention(2, 3, template="rx_ring", num_ansatz_layers=2)
    layer.build(X.shape), named.build(X.shape)
    named.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(layer(X)), array(named(X)))
    revived = QuantumMultiHeadAttention.from_config(layer.get_config())
    assert revived.template == spec


def test_initial_weights():
    keras.utils.set_random_seed(1)
    layer = QuantumMultiHeadAttention(8, 16, quantum=False)
    layer.build((1, 4, 128))
    kernel, bias, out_kernel, out_bias = layer.get_weights()
    # LeCun normal: variance 1 / fan-in, that of one Dense(h) although three share a kernel.
    for part in (*np.split(kernel, 3, axis=1), out_kernel):
        assert abs(part.std() * 128**0.5 - 1) < 0.03
    assert not bias.any() and not out_bias.any()
    layer = QuantumMultiHeadAttention(8, 16)
    layer.build((1, 4, 128))
    angles, out = layer.get_weights()
    assert angles.shape == (3, 1, 128) and out.shape == (1, 128)
    # Glorot normal on (layers, n), each copy by itself: variance 2 / (1 + 128).
    for part in (*angles, out):
        assert abs(part.std() * (129 / 2) ** 0.5 - 1) < 0.2
    assert np.abs(angles[0] - angles[1]).min() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, r"Received: num_heads=0$"),
        ({"num_heads": True}, r"Received: num_heads=True$"),
        ({"key_dim": 1.5}, r"Received: key_dim=1.5$"),
        ({"dropout": 1.0}, r"Received: dropout=1.0$"),
        ({"dropout": "much"}, r"Received: dropout='much'$"),
        ({"template": "ring"}, r"Received: name='ring'$"),
        ({"num_ansatz_layers": 0}, r"Received: num_ansatz_layers=0$"),
        ({"num_ansatz_layers": 2}, r"Received: num_layers=2$"),
        ({"engine": "warp"}, r"Received: 'warp'$"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantumMultiHeadAttention(**{"num_heads": 2, "key_dim": 3, **arguments})


def test_refused_inputs():
    with pytest.raises(TypeError, match="Received: 3 of type int$"):
        QuantumMultiHeadAttention(2, 3, template=3)
    layer = QuantumMultiHeadAttention(2, 3)
    with pytest.raises(ValueError, match=r"\(2, 5, 4\) with num_heads=2 and key_dim=3$"):
        layer(X[:, :, :4])
    with pytest.raises(ValueError, match=r"value of shape \(2, 5, 4\)"):
        layer(X, X[:, :, :4])
    with pytest.raises(ValueError, match=r"query of shape \(2, 6\)"):
        layer(X[:, 0])
    with pytest.raises(ValueError, match="a key and value=None"):
        layer(X, key=X)
    with pytest.raises(ValueError, match="Received: 4 inputs and 4 observables"):
        QuantumMultiHeadAttention(2, 3, template=templates.ry_ring(4)).build(X.shape)
