from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from support.layer_test import ffn, layer_norm, mhsa, run_layer_test

from qrkt_keras import solvers
from qrkt_keras.layers import RungeKuttaTransformerBlock
from qrkt_keras.layers.runge_kutta_transformer_block import TransformerVectorField

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 6)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    ("solver", "share_weights", "quantum"),
    [("rk4", False, True), ("rk2_gated", True, True), ("rk3", False, False)],
)
def test_contract_of_the_runge_kutta_block(solver, share_weights, quantum):
    copies = 1 if share_weights else solvers.get(solver).num_stages
    gated = solver == "rk2_gated"
    run_layer_test(
        RungeKuttaTransformerBlock,
        {
            "num_heads": 2,
            "mlp_dim": 3,
            "solver": solver,
            "share_weights": share_weights,
            "quantum": quantum,
            "dropout": 0.2,
        },
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=12 + copies * (72 if quantum else 213) + (13 if gated else 0),
        num_trainable_weights=2 + copies * (7 if quantum else 8) + (2 if gated else 0),
        num_seed_generators=2 * copies,
        masks={"inputs": "mask"},
    )


def test_contract_of_the_vector_field():
    run_layer_test(
        TransformerVectorField,
        {"num_heads": 2, "mlp_dim": 3, "quantum": False, "dropout": 0.2},
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=213,
        num_trainable_weights=8,
        num_seed_generators=2,
        masks={"inputs": "mask"},
    )


def test_contract_of_a_trainable_encoding():
    run_layer_test(
        RungeKuttaTransformerBlock,
        {"num_heads": 2, "mlp_dim": 3, "solver": "rk2", "trainable_encoding": True},
        inputs={"inputs": (3, 4, 6)},
        output_shape=(3, 4, 6),
        num_params=12 + 2 * (72 + 4 * 36),
        num_trainable_weights=2 + 2 * 9,
    )


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize("share_weights", [True, False])
@pytest.mark.parametrize("residual", ["identity", "normalized"])
@pytest.mark.parametrize("solver", ["rk1", "rk3", "rk4_enhanced"])
def test_runge_kutta_block_in_numpy(solver, residual, share_weights, quantum):
    layer = RungeKuttaTransformerBlock(
        2, 3, solver, share_weights=share_weights, residual=residual, quantum=quantum
    )
    result = array(layer(X))

    def function(k, u):
        field = layer.step.functions[0 if share_weights else k]
        u = layer_norm(u) if residual == "identity" else u
        return mhsa(field.attention, u, 2) + ffn(field.feed_forward, u)

    base = X.astype("float64") if residual == "identity" else layer_norm(X.astype("float64"))
    expected = solvers.step(solvers.get(solver), function, base)
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_one_normalization_of_epsilon_1e_6_serves_all_stages():
    layer = RungeKuttaTransformerBlock(2, 3, "rk4")
    layer.build(X.shape)
    norms = [
        sub for sub in layer._flatten_layers() if isinstance(sub, keras.layers.LayerNormalization)
    ]
    assert [norm.epsilon for norm in norms] == [1e-6]


def test_own_solver_in_a_block():
    midpoint = solvers.ButcherTableau(name="midpoint", a=[[0, 0], ["1/2", 0]], b=[0, 1], order=2)
    layer = RungeKuttaTransformerBlock(2, 3, midpoint)
    revived = RungeKuttaTransformerBlock.from_config(json.loads(json.dumps(layer.get_config())))
    assert revived.tableau == midpoint
    assert revived(X).shape == X.shape
