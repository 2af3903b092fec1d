from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from support.layer_test import layer_norm, run_layer_test

from qrkt_keras import solvers
from qrkt_keras.layers import QuantumMultiHeadAttention, RungeKuttaResidual

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 5, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def dense(seed=0, activation="tanh", units=4):
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.GlorotNormal(seed=seed),
        bias_initializer=keras.initializers.RandomNormal(seed=seed),
        name=f"dense_{seed}",
    )


def numpy_dense(layer):
    kernel, bias = (array(weight).astype("float64") for weight in layer.weights)
    return lambda u: np.tanh(u @ kernel + bias)


def norm():
    return keras.layers.LayerNormalization(epsilon=1e-6, name="norm")


@pytest.mark.parametrize(
    ("solver", "extra", "tensors"),
    [("rk1", 0, 0), ("rk3", 0, 0), ("rk2_learned", 2, 1), ("rk2_gated", 2 * 4 + 1, 2)],
)
def test_contract_shared(solver, extra, tensors):
    run_layer_test(
        RungeKuttaResidual,
        lambda: {"function": dense(), "solver": solver, "normalization": norm()},
        inputs={"inputs": (3, 5, 4)},
        output_shape=(3, 5, 4),
        num_params=20 + 8 + extra,
        num_trainable_weights=4 + tensors,
    )


def test_contract_unshared():
    run_layer_test(
        RungeKuttaResidual,
        lambda: {
            "function": [dense(k) for k in range(4)],
            "solver": "rk4_enhanced",
            "normalization": norm(),
            "residual": "normalized",
        },
        inputs={"inputs": (3, 5, 4)},
        output_shape=(3, 5, 4),
        num_params=4 * 20 + 8,
        num_trainable_weights=4 * 2 + 2,
    )


FIXED = [name for name in solvers.list() if solvers.get(name).output == "weights"]


@pytest.mark.parametrize("solver", FIXED)
@pytest.mark.parametrize("residual", ["identity", "normalized"])
@pytest.mark.parametrize("shared", [True, False])
def test_step_in_numpy(solver, residual, shared):
    tableau = solvers.get(solver)
    functions = [dense(k) for k in range(1 if shared else tableau.num_stages)]
    layer = RungeKuttaResidual(
        functions[0] if shared else functions, solver, norm(), residual=residual
    )
    result = array(layer(X))
    inner = [numpy_dense(function) for function in functions]

    def function(k, u):
        u = layer_norm(u) if residual == "identity" else u
        return inner[0 if shared else k](u)

    base = X.astype("float64") if residual == "identity" else layer_norm(X.astype("float64"))
    np.testing.assert_allclose(result, solvers.step(tableau, function, base), atol=1e-5)


def test_a_linear_function_gives_the_series_of_the_exponential():
    kernel = RNG.normal(size=(4, 4)) / 2
    function = keras.layers.Dense(4, use_bias=False)
    function.build((None, 4))
    function.set_weights([kernel])
    powers = [np.linalg.matrix_power(kernel, k) for k in range(5)]
    series = {
        "rk1": powers[0] + powers[1],
        "rk2": sum(powers[:3]) - powers[2] / 2,
        "rk3": powers[0] + powers[1] + powers[2] / 2 + powers[3] / 6,
        "rk3_kutta": powers[0] + powers[1] + powers[2] / 2 + powers[3] / 6,
        "rk4": powers[0] + powers[1] + powers[2] / 2 + powers[3] / 6 + powers[4] / 24,
        # x + F1 + F4 with F4 = A(x + A(x + A(x + A x))).
        "rk4_enhanced": powers[0] + 2 * powers[1] + powers[2] + powers[3] + powers[4],
    }
    assert set(series) == set(FIXED)
    for solver, matrix in series.items():
        result = array(RungeKuttaResidual(function, solver)(X))
        np.testing.assert_allclose(result, X @ matrix, atol=1e-5, err_msg=solver)


def test_learned_weights_start_at_one_and_count():
    function = dense()
    layer = RungeKuttaResidual(function, "rk2_learned")
    layer.build(X.shape)
    f = numpy_dense(function)
    np.testing.assert_array_equal(array(layer.stage_weights), [1.0, 1.0])
    first = f(X)
    second = f(X + first)
    np.testing.assert_allclose(array(layer(X)), X + first + second, atol=1e-5)
    layer.stage_weights.assign([0.25, -3.0])
    np.testing.assert_allclose(array(layer(X)), X + 0.25 * first - 3 * second, atol=1e-5)


def test_gate_is_one_scalar_a_token():
    function = dense()
    layer = RungeKuttaResidual(function, "rk2_gated")
    layer.build(X.shape)
    f = numpy_dense(function)
    kernel, bias = RNG.normal(size=(8, 1)), np.array([0.3])
    layer.gate.set_weights([kernel, bias])
    first = f(X)
    second = f(X + first)
    gate = 1 / (1 + np.exp(-(np.concatenate([first, second], -1) @ kernel + bias)))
    assert gate.shape == (2, 5, 1)
    expected = X + gate * first + (1 - gate) * second
    np.testing.assert_allclose(array(layer(X)), expected, atol=1e-5)


def test_own_tableau_survives_serialization():
    midpoint = solvers.ButcherTableau(
        name="midpoint", a=[[0, 0], ["1/2", 0]], b=[0, 1], order=2, reference="Runge 1895"
    )
    layer = RungeKuttaResidual(dense(), midpoint)
    revived = RungeKuttaResidual.from_config(json.loads(json.dumps(layer.get_config())))
    assert revived.tableau == midpoint
    assert RungeKuttaResidual(dense(), "rk4").get_config()["solver"] == "rk4"
    layer.build(X.shape)
    f = numpy_dense(layer.functions[0])
    np.testing.assert_allclose(array(layer(X)), X + f(X + f(X) / 2), atol=1e-5)


class Recorder(keras.layers.Layer):
    """Returns its input and notes how it was called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []
        self.supports_masking = True

    def call(self, inputs, training=None, mask=None):
        self.calls.append((training, mask))
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class Bare(keras.layers.Layer):
    """Takes neither `training` nor `mask`."""

    def call(self, inputs):
        return 0.0 * inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def test_training_and_mask_reach_what_takes_them():
    function, normalization = Recorder(), Recorder()
    layer = RungeKuttaResidual(function, "rk2", normalization)
    mask = keras.ops.convert_to_tensor(np.ones((2, 5), bool))
    for training in (True, False):
        function.calls.clear(), normalization.calls.clear()
        layer(X, training=training, mask=mask)
        for calls in (function.calls, normalization.calls):
            assert len(calls) == 2
            assert all(call[0] is training and call[1] is mask for call in calls)
    bare = RungeKuttaResidual(Bare(), "rk2", Bare())
    np.testing.assert_array_equal(array(bare(X, training=True, mask=mask)), X)


def test_mask_is_found_on_the_inputs_and_passed_on():
    function = Recorder()
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    output = RungeKuttaResidual(function, "rk4")(keras.layers.Masking()(X * mask[..., None]))
    assert len(function.calls) == 4
    for _, seen in function.calls:
        np.testing.assert_array_equal(array(seen), mask)
    np.testing.assert_array_equal(array(output._keras_mask), mask)


def test_mask_of_attention_goes_by_the_name_of_its_input():
    attention = QuantumMultiHeadAttention(2, 2)
    layer = RungeKuttaResidual(attention, "rk2")
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    tensor = keras.ops.convert_to_tensor(mask)
    expected = array(layer(X, mask=tensor))
    disturbed = np.where(mask[..., None], X, 9.0).astype("float32")
    np.testing.assert_allclose(
        array(layer(disturbed, mask=tensor))[mask], expected[mask], atol=1e-6
    )


def test_functions_may_be_models_and_plain_subclasses():
    class Lazy(keras.layers.Layer):
        """Has no `build`: its weights come with the first call."""

        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(4)

        def call(self, inputs):
            return self.inner(inputs)

    symbol = keras.Input((5, 4))
    functions = [
        keras.Sequential([dense(0), dense(1)]),
        keras.Model(symbol, dense(2)(symbol)),
        Lazy(),
    ]
    layer = RungeKuttaResidual(functions, "rk3")
    layer.build(X.shape)
    assert layer.count_params() == 40 + 20 + 20
    before = len(layer.weights)
    assert layer(X).shape == X.shape and len(layer.weights) == before


def test_batch_normalization_learns_to_normalize():
    normalization = keras.layers.BatchNormalization()
    layer = RungeKuttaResidual(dense(), "rk2", normalization)
    layer(X, training=False)
    before = array(normalization.moving_mean)
    layer(X, training=True)
    assert (array(normalization.moving_mean) != before).any()


def test_set_engine_reaches_the_functions():
    attention = QuantumMultiHeadAttention(2, 2)
    layer = RungeKuttaResidual(attention, "rk2")
    layer.build(X.shape)
    layer.set_engine("state_vector")
    assert attention.output_projection.pqc.engine == "state_vector"


def test_refused_arguments():
    one = dense()
    with pytest.raises(ValueError, match="'rk4' has 4 stages .* Received: 3 functions$"):
        RungeKuttaResidual([dense(), dense(), dense()], "rk4")
    with pytest.raises(ValueError, match=f"Received: '{one.name}' twice$"):
        RungeKuttaResidual([one, one], "rk2")
    with pytest.raises(TypeError, match="Received: .* at index 1$"):
        RungeKuttaResidual([one, lambda u: u], "rk2")
    with pytest.raises(TypeError, match="`normalization` must be.* Received: 'layer'$"):
        RungeKuttaResidual(one, "rk2", "layer")
    with pytest.raises(ValueError, match="Received: residual='none'$"):
        RungeKuttaResidual(one, "rk2", residual="none")
    with pytest.raises(ValueError, match="Received: normalization=None$"):
        RungeKuttaResidual(one, "rk2", residual="normalized")
    with pytest.raises(ValueError, match="Received: 'rk9'$"):
        RungeKuttaResidual(one, "rk9")
    wide = dense(units=5)
    with pytest.raises(ValueError, match=rf"'{wide.name}' from \(2, 5, 4\) to \(2, 5, 5\)$"):
        RungeKuttaResidual(wide, "rk1")(X)
