"""PQC as a Keras layer; what its circuits compute is tested with the engines."""

from __future__ import annotations

import json

import cirq
import keras
import numpy as np
import pytest
import sympy
import tensorflow as tf
from support.layer_test import run_layer_test
from support.reference import cirq_expectation

from qrkt_keras.circuits import CircuitSpec, templates
from qrkt_keras.execution import UnsupportedCircuitError
from qrkt_keras.layers import PQC


@pytest.mark.parametrize("copies, per_copy_inputs", [(None, False), (3, False), (3, True)])
@pytest.mark.parametrize("engine", ["auto", "state_vector"])
def test_layer_contract(engine, copies, per_copy_inputs):
    run_layer_test(
        PQC,
        {
            "spec": templates.hardware_efficient(3, num_layers=1),
            "engine": engine,
            "copies": copies,
            "per_copy_inputs": per_copy_inputs,
        },
        inputs={"inputs": (2, 5, 3, 3) if per_copy_inputs else (2, 5, 3)},
        output_shape=(2, 5, 3, 3) if copies else (2, 5, 3),
        num_params=6 * (copies or 1),
        num_trainable_weights=1,
    )


def test_layer_contract_on_tensorflow_quantum():
    run_layer_test(
        PQC,
        {"spec": templates.rx_ring(3), "engine": "tfq"},
        inputs={"inputs": (2, 5, 3)},
        output_shape=(2, 5, 3),
        num_params=3,
        num_trainable_weights=1,
        jit_compile=False,
    )


def test_masks_pass_through():
    inputs = keras.Input((5,), dtype="int32")
    tokens = keras.layers.Embedding(10, 3, mask_zero=True)(inputs)
    assert PQC(templates.rx_ring(3))(tokens)._keras_mask is not None


def test_users_own_circuit_and_observables():
    q = cirq.LineQubit.range(2)
    a, b, t = sympy.symbols("a b t")
    circuit = cirq.Circuit(cirq.ry(a)(q[0]), cirq.rx(b)(q[1]), cirq.CZ(*q) ** t, cirq.ry(t)(q[1]))
    observables = [cirq.X(q[0]) * cirq.Y(q[1]), 0.5 * cirq.Z(q[0]) - 2 * cirq.X(q[1])]
    spec = CircuitSpec(circuit, [a, b], [t], observables)
    layer = PQC(spec, initializer=keras.initializers.Constant(0.7))
    x = np.random.default_rng(0).normal(size=(3, 2))
    expected = [cirq_expectation(spec, row, [0.7]) for row in x]
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    clone = PQC.from_config(json.loads(json.dumps(layer.get_config())))
    assert clone.spec == spec


def test_copies_start_apart_and_with_the_fan_of_one_circuit():
    layer = PQC(templates.rx_ring(8, num_layers=2), copies=1000)
    layer.build((None, 8))
    angles = np.asarray(layer.angles)
    assert angles.shape == (1000, 2, 8)
    assert np.all(np.std(angles, axis=0) > 0)
    # Glorot normal on (layers, n); 16,000 draws know their deviation to 0.6 %.
    np.testing.assert_allclose(np.std(angles), np.sqrt(2 / (2 + 8)), rtol=0.03)


def test_any_callable_initializes_copies():
    def ones(shape, dtype=None):
        return keras.ops.ones(shape, dtype=dtype)

    layer = PQC(templates.rx_ring(3), copies=2, initializer=ones)
    layer.build((None, 3))
    np.testing.assert_array_equal(layer.angles, np.ones((2, 1, 3)))


def test_seeded_initializer_repeats():
    def angles():
        layer = PQC(
            templates.rx_ring(3), copies=2, initializer=keras.initializers.GlorotNormal(seed=5)
        )
        layer.build((None, 3))
        return np.asarray(layer.angles)

    np.testing.assert_array_equal(angles(), angles())
    assert np.any(angles()[0] != angles()[1])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_computes_in_float32(policy):
    spec = templates.rx_ring(4)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32") + 100
    half, full = PQC(spec, dtype=policy), PQC(spec)
    half.build(x.shape)
    full.build(x.shape)
    half.set_weights(full.get_weights())
    assert half.angles.dtype == "float32"
    result = half(x)
    assert result.dtype == ("bfloat16" if "bfloat16" in policy else "float16")
    # Only the result is rounded: in half precision an angle near 100 would be off by 0.03 or more.
    np.testing.assert_allclose(
        np.asarray(tf.cast(result, "float32")), full(x), atol=8e-3 if "bf" in policy else 1e-3
    )


def test_float64_policy_computes_in_float64():
    spec = templates.hardware_efficient(3)
    layer = PQC(spec, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 3))
    values = layer(x)
    expected = [cirq_expectation(spec, row, np.asarray(layer.angles)) for row in x]
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_set_engine_keeps_weights_and_values():
    layer = PQC(templates.ry_ring(4), copies=3)
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    before, weights = layer(x), layer.get_weights()
    for engine in ("state_vector", "tfq", "pauli_propagation"):
        layer.set_engine(engine)
        assert layer.engine == engine
        np.testing.assert_array_equal(layer.get_weights()[0], weights[0])
        np.testing.assert_allclose(layer(x), before, atol=1e-5)
    with pytest.raises(ValueError, match="Received: 'qsim'"):
        layer.set_engine("qsim")
    assert layer.engine == "pauli_propagation"


def test_unknown_batch_and_length():
    layer = PQC(templates.rx_ring(3), copies=2)
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, 2, 3)
    x = np.random.default_rng(0).normal(size=(4, 7, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), layer(x), atol=1e-6)
    assert layer(x[:0]).shape == (0, 7, 2, 3)


def test_tfq_trains_under_fit_without_xla():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), PQC(templates.ry_ring(2), engine="tfq")])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(16, 2))
    before = model.get_weights()[0].copy()
    model.fit(x, np.zeros((16, 2)), epochs=1, verbose=0)
    assert np.all(model.get_weights()[0] != before)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: PQC("rx_ring"), TypeError, "Received: 'rx_ring'"),
        (lambda: PQC(templates.rx_ring(2), copies=0), ValueError, "Received: 0"),
        (lambda: PQC(templates.rx_ring(2), copies=1.5), ValueError, "Received: 1.5"),
        (lambda: PQC(templates.rx_ring(2), copies=True), ValueError, "Received: True"),
        (lambda: PQC(templates.rx_ring(2), repetitions=-3), ValueError, "Received: -3"),
        (lambda: PQC(templates.rx_ring(2), differentiator="x"), ValueError, "Received: 'x'"),
        (
            lambda: PQC(templates.rx_ring(2))(np.array([["a", "b"]])),
            TypeError,
            "Received: inputs of dtype string",
        ),
        (lambda: PQC(templates.rx_ring(2), per_copy_inputs=True), ValueError, "copies=None"),
        (lambda: PQC(templates.rx_ring(2), engine="cuda"), ValueError, "Received: 'cuda'"),
        (
            lambda: PQC(templates.rx_ring(40, 2), engine="state_vector"),
            UnsupportedCircuitError,
            "num_qubits=40",
        ),
        (
            lambda: PQC(templates.rx_ring(2))(np.zeros((3, 5))),
            ValueError,
            r"Received: input shape \(3, 5\)",
        ),
        (
            lambda: PQC(templates.rx_ring(2), copies=3, per_copy_inputs=True)(np.zeros((3, 2, 2))),
            ValueError,
            r"Received: input shape \(3, 2, 2\)",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
