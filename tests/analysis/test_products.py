"""Kept products with a Hessian: what is stopped goes on, and what is another is refused."""

import time

import keras
import numpy as np
import pytest

from qrkt_keras.analysis import (
    DataLoss,
    KeptProducts,
    lanczos,
    power_iteration,
    products,
    spectral_density,
    trace,
)
from qrkt_keras.training.checkpoints import CheckpointError, write_checkpoint

quiet = {"progress": False}
SIZE = 12


def make_loss(dtype="float32", **changes):
    """A Dense layer's, with a Hessian whose eigenvalues differ."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((SIZE,), dtype=dtype), keras.layers.Dense(1, use_bias=False, dtype=dtype)]
    )
    examples = np.diag(np.linspace(1, 4, SIZE)).astype(dtype)
    given = {
        "examples": examples,
        "labels": np.ones((SIZE, 1), dtype),
        "loss": keras.losses.MeanSquaredError(),
    }
    return DataLoss(model, **given | changes)


class Counted:
    """Counts the products that a loss makes, and interrupts one."""

    def __init__(self, loss, monkeypatch, interrupted_at=None):
        self.made, own = 0, loss.hessian_vector_product

        def product(vector):
            self.made += 1
            if self.made == interrupted_at:
                raise KeyboardInterrupt
            return own(vector)

        monkeypatch.setattr(loss, "hessian_vector_product", product)


CALLS = {
    "power_iteration": lambda loss: power_iteration(loss, tolerance=1e-5, **quiet),
    "lanczos": lambda loss: lanczos(loss, 2, **quiet),
    "trace": lambda loss: trace(loss, num_samples=6, **quiet),
    "spectral_density": lambda loss: spectral_density(loss, num_steps=4, num_probes=2, **quiet),
}


def numbers(found):
    return [value for value in vars(found).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_interrupted_goes_on_to_the_same_numbers(name, tmp_path, monkeypatch):
    call, loss = CALLS[name], make_loss()
    whole = call(loss)
    path = tmp_path / "products.npz"
    with monkeypatch.context() as patch:
        Counted(loss, patch, interrupted_at=4)
        with KeptProducts(loss, path) as kept:
            assert call(kept).is_interrupted
    # As in another process, of another model object.
    loss = make_loss()
    kept = KeptProducts(loss, path, resume=True)
    assert kept.num_kept == 3
    counted = Counted(loss, monkeypatch)
    found = call(kept)
    assert not found.is_interrupted
    assert counted.made == kept.num_kept - 3 > 0
    for one, other in zip(numbers(found), numbers(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_steps_make_only_what_is_new(tmp_path, monkeypatch):
    loss = make_loss()
    with KeptProducts(loss, tmp_path / "products.npz") as kept:
        counted = Counted(loss, monkeypatch)
        spectral_density(kept, num_steps=3, num_probes=1, **quiet)
        assert counted.made == 3
        found = spectral_density(kept, num_steps=5, num_probes=1, **quiet)
        assert counted.made == 5
        # Another seed's vectors are others.
        spectral_density(kept, num_steps=3, num_probes=1, seed=1, **quiet)
        assert counted.made == 8
    whole = spectral_density(make_loss(), num_steps=5, num_probes=1, **quiet)
    np.testing.assert_array_equal(found.nodes, whole.nodes)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_vector_is_the_same_within_the_weights_precision(dtype, tmp_path, monkeypatch):
    import ml_dtypes

    loss = make_loss(dtype)
    kept = KeptProducts(loss, tmp_path / "products.npz")
    counted = Counted(loss, monkeypatch)
    vector = np.random.default_rng(0).normal(size=SIZE)
    first = kept.hessian_vector_product(vector)
    unit = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_array_equal(kept.hessian_vector_product(vector * (1 + 8 * unit)), first)
    assert counted.made == 1
    kept.hessian_vector_product(vector * (1 + 32 * unit))
    kept.hessian_vector_product(-vector)
    assert counted.made == kept.num_kept == 3
    # What is returned is the caller's own.
    kept.hessian_vector_product(vector)[:] = 0
    np.testing.assert_array_equal(kept.hessian_vector_product(vector), first)


def test_the_file_is_written_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    loss, path = make_loss(), tmp_path / "products.npz"
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept = KeptProducts(loss, path)
    kept.hessian_vector_product(np.ones(SIZE))
    assert not path.exists()
    now[0] = 31.0
    kept.hessian_vector_product(np.arange(SIZE))
    assert KeptProducts(loss, path, resume=True).num_kept == 2
    with pytest.raises(RuntimeError), kept:
        kept.hessian_vector_product(-np.arange(SIZE))
        raise RuntimeError
    assert KeptProducts(loss, path, resume=True).num_kept == 3
    # Nothing new: nothing to write.
    monkeypatch.setattr(products, "write_checkpoint", None)
    with kept:
        pass


def assigned(loss):
    loss.model.trainable_variables[0].assign_add(np.full((SIZE, 1), 1e-3))
    return loss


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda: make_loss(labels=np.zeros((SIZE, 1), "float32")), "other data, other loss: "),
        (lambda: assigned(make_loss()), "other weights"),
        (lambda: make_loss(loss=keras.losses.MeanAbsoluteError()), "Received: other loss: "),
    ],
    ids=["data", "weights", "loss"],
)
def test_products_of_another_hessian_are_refused(other, told, tmp_path):
    path = tmp_path / "products.npz"
    with KeptProducts(make_loss(), path) as kept:
        kept.hessian_vector_product(np.ones(SIZE))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"are of another Hessian.*{told}"):
        KeptProducts(other(), path, resume=True)
    assert path.read_bytes() == before
    KeptProducts(make_loss(), path, resume=True)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "products.npz"
    write_checkpoint(path, {"values": np.zeros(3)}, {"kind": "landscape"})
    with pytest.raises(ValueError, match=r"exists already: .*Received: path=.*products.npz$"):
        KeptProducts(make_loss(), path)
    with pytest.raises(CheckpointError, match="Received: kind='landscape' in"):
        KeptProducts(make_loss(), path, resume=True)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="truncated"):
        KeptProducts(make_loss(), path, resume=True)
    with pytest.raises(ValueError, match="folder that exists. Received: path=.*none/products.npz$"):
        KeptProducts(make_loss(), tmp_path / "none" / "products.npz")
    with pytest.raises(ValueError, match=r"vector must be \(12,\). Received: shape \(3,\)"):
        KeptProducts(make_loss(), tmp_path / "new.npz").hessian_vector_product(np.zeros(3))
