from __future__ import annotations

import keras
import numpy as np
import pytest

from qrkt_keras import solvers
from qrkt_keras.circuits import templates
from qrkt_keras.layers import (
    PQC,
    RungeKuttaTransformerBlock,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 6)).astype("float32")
E = RNG.normal(size=(2, 5, 6)).astype("float32")
# Hidden size, MLP size and heads of the published models (MNIST, CIFAR-10, IMDb).
SIZES = [(6, 3, 2), (12, 6, 6), (6, 4, 2)]


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def mhsa_count(h, quantum):
    return 4 * h if quantum else 4 * (h * h + h)


def ffn_count(h, m, quantum):
    return h * m + m + (m if quantum else 0) + m * h + h


def num_qubits(layer):
    return sum(sub.num_qubits for sub in layer._flatten_layers() if isinstance(sub, PQC))


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize(("h", "m", "heads"), SIZES)
def test_counts_of_the_encoder(h, m, heads, quantum):
    layer = TransformerEncoderBlock(heads, m, quantum=quantum)
    layer.build((None, 4, h))
    assert layer.count_params() == 4 * h + mhsa_count(h, quantum) + ffn_count(h, m, quantum)
    assert num_qubits(layer) == (4 * h + m if quantum else 0)


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize(("h", "m", "heads"), SIZES)
def test_counts_of_the_decoder(h, m, heads, quantum):
    layer = TransformerDecoderBlock(heads, m, quantum=quantum)
    layer.build((None, 4, h), (None, 4, h))
    out = h if quantum else h * h + h
    expected = 6 * h + mhsa_count(h, quantum) + out + ffn_count(h, m, quantum)
    assert layer.count_params() == expected
    assert num_qubits(layer) == (5 * h + m if quantum else 0)


@pytest.mark.parametrize("quantum", [True, False])
@pytest.mark.parametrize("solver", solvers.list())
@pytest.mark.parametrize(("h", "m", "heads"), SIZES)
def test_counts_of_the_runge_kutta_block(h, m, heads, solver, quantum):
    stages = solvers.get(solver).num_stages
    extra = {"rk2_learned": 2, "rk2_gated": 2 * h + 1}.get(solver, 0)
    function = mhsa_count(h, quantum) + ffn_count(h, m, quantum)
    for share_weights, copies in ((False, stages), (True, 1)):
        layer = RungeKuttaTransformerBlock(
            heads, m, solver, share_weights=share_weights, quantum=quantum
        )
        layer.build((None, 4, h))
        assert layer.count_params() == 2 * h + copies * function + extra
        assert num_qubits(layer) == (copies * (4 * h + m) if quantum else 0)


@pytest.mark.parametrize("solver", ["rk1", "rk4", "rk2_gated"])
def test_the_kind_of_residual_does_not_change_counts(solver):
    counts = []
    for residual in ("identity", "normalized"):
        layer = RungeKuttaTransformerBlock(2, 3, solver, residual=residual)
        layer.build((None, 4, 6))
        counts.append(layer.count_params())
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("quantum", "printed"),
    [(False, [3733, 3946, 4159, 4372]), (True, [2872, 3088, 3304, 3520])],
)
def test_published_totals_differ_by_one_stage(quantum, printed):
    """Rows of SPEC section 4: another solver of one block (classical) or of three (quantum)."""
    counts = []
    for solver in ("rk1", "rk2", "rk3", "rk4"):
        layer = RungeKuttaTransformerBlock(2, 3, solver, quantum=quantum)
        layer.build((None, 4, 6))
        counts.append(layer.count_params())
    assert list(np.diff(counts) * (3 if quantum else 1)) == list(np.diff(printed))


@pytest.mark.parametrize(
    ("layer", "sources"),
    [
        (TransformerEncoderBlock(2, 3, dropout=0.5), 1),
        (TransformerDecoderBlock(2, 3, dropout=0.5), 2),
        (RungeKuttaTransformerBlock(2, 3, "rk1", dropout=0.5), 1),
    ],
)
def test_dropout_is_on_every_branch(layer, sources):
    inputs = [np.random.default_rng(0).normal(size=(64, 4, 6)).astype("float32")] * sources
    still = array(layer(*inputs))
    moved = array(layer(*inputs, training=True))
    # Attention and feed-forward branches are dropped by elements, of which a part stays the same
    # only where all of them were kept; none of the inputs itself is dropped.
    branches = moved - inputs[0]
    dropped = np.mean(np.abs(branches) < 1e-7)
    count = 3 if sources == 2 else 2
    assert abs(dropped - 0.5**count) < 0.05
    assert np.mean(np.isclose(moved, still, atol=1e-6)) < 0.1


def test_own_circuit_in_a_block():
    spec = templates.rx_ring(6, 2)
    layer = TransformerEncoderBlock(2, 6, template=spec)
    assert layer(X).shape == X.shape
    assert layer.feed_forward.pqc.spec == layer.attention.output_projection.pqc.spec == spec
    with pytest.raises(ValueError, match="must take 3 inputs .* Received: 6 inputs"):
        TransformerEncoderBlock(2, 3, template=spec).build(X.shape)


@pytest.mark.parametrize(
    "layer",
    [
        TransformerEncoderBlock(2, 3),
        TransformerDecoderBlock(2, 3),
        RungeKuttaTransformerBlock(2, 3, "rk2"),
    ],
)
def test_set_engine_reaches_every_circuit(layer):
    inputs = (X, E) if isinstance(layer, TransformerDecoderBlock) else (X,)
    before = array(layer(*inputs))
    layer.set_engine("state_vector")
    circuits = [sub for sub in layer._flatten_layers() if isinstance(sub, PQC)]
    assert len(circuits) >= 3
    assert {circuit.engine for circuit in circuits} == {"state_vector"}
    assert layer.get_config()["engine"] == "state_vector"
    np.testing.assert_allclose(array(layer(*inputs)), before, atol=2e-5)


BLOCKS = (TransformerEncoderBlock, TransformerDecoderBlock, RungeKuttaTransformerBlock)


@pytest.mark.parametrize("block", BLOCKS)
def test_refused(block):
    sources = (X,) if block is TransformerDecoderBlock else ()
    with pytest.raises(ValueError, match="Received: num_heads=5 with hidden_dim=6$"):
        block(5, 3)(X, *sources)
    with pytest.raises(ValueError, match=r"Received: input shape \(2, 6\)$"):
        block(2, 3)(X[:, 0], *sources)
    with pytest.raises(ValueError, match="Received: num_heads=0$"):
        block(0, 3)
    with pytest.raises(ValueError, match="Received: mlp_dim='3'$"):
        block(2, "3")
    with pytest.raises(ValueError, match="Received: dropout=-0.1$"):
        block(2, 3, dropout=-0.1)
    with pytest.raises(ValueError, match="Received: 'warp'$"):
        block(2, 3, engine="warp")
    with pytest.raises(ValueError, match="Received: name='ring'$"):
        block(2, 3, template="ring")


def test_refused_by_one_block():
    with pytest.raises(ValueError, match="Received: variant='right'$"):
        TransformerDecoderBlock(2, 3, variant="right")
    with pytest.raises(ValueError, match="Received: residual='none'$"):
        RungeKuttaTransformerBlock(2, 3, residual="none")
    with pytest.raises(ValueError, match="Received: 'rk9'$"):
        RungeKuttaTransformerBlock(2, 3, "rk9")
    with pytest.raises(ValueError, match=r"source of shape \(2, 5, 4\)$"):
        TransformerDecoderBlock(2, 3)(X, E[:, :, :4])
