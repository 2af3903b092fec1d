from __future__ import annotations

import keras
import numpy as np
import pytest
from support.layer_test import run_layer_test, ry_ring

from qrkt_keras.circuits import templates
from qrkt_keras.layers.projection import Projection

X = np.random.default_rng(3).normal(size=(2, 5, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(("quantum", "num_params"), [(True, 4), (False, 20)])
@pytest.mark.parametrize("copies", [None, 3])
def test_contract(quantum, num_params, copies):
    run_layer_test(
        Projection,
        {"width": 4, "copies": copies, "quantum": quantum},
        inputs={"inputs": (3, 5, 4)},
        output_shape=(3, 5, 4) if copies is None else (3, 5, copies, 4),
        num_params=num_params * (copies or 1),
        num_trainable_weights=1 if quantum else 2,
    )


@pytest.mark.parametrize("copies", [None, 3])
def test_contract_of_a_trainable_encoding(copies):
    run_layer_test(
        Projection,
        {"width": 4, "copies": copies, "trainable_encoding": True},
        inputs={"inputs": (3, 5, 4)},
        output_shape=(3, 5, 4) if copies is None else (3, 5, copies, 4),
        num_params=20 * (copies or 1),
        num_trainable_weights=2,
    )


def test_contract_of_an_own_circuit():
    run_layer_test(
        Projection,
        {"width": 3, "template": templates.rx_ring(3, 2)},
        inputs={"inputs": (3, 3)},
        output_shape=(3, 3),
        num_params=6,
        num_trainable_weights=1,
    )


def test_the_identity_passes_features_as_they_are():
    np.testing.assert_array_equal(array(Projection(4, template="identity")(X)), X)
    layer = Projection(4, copies=3, template="identity")
    np.testing.assert_array_equal(array(layer(X)), np.stack([X] * 3, axis=2))
    np.testing.assert_array_equal(array(layer.project(X, slice(1, 3))), np.stack([X] * 2, axis=2))
    encoded = Projection(4, copies=3, template="identity", trainable_encoding=True)
    result = array(encoded(X))
    np.testing.assert_allclose(result.reshape(2, 5, 12), X @ array(encoded.dense.kernel), atol=1e-6)
    layer.set_engine("state_vector")


def test_copies_in_numpy():
    layer = Projection(4, copies=3)
    result = array(layer(X))
    angles = array(layer.pqc.angles)
    for copy in range(3):
        np.testing.assert_allclose(result[:, :, copy], ry_ring(X, angles[copy]), atol=2e-6)


def test_a_trainable_encoding_in_numpy():
    layer = Projection(4, copies=3, trainable_encoding=True)
    result = array(layer(X))
    kernels = np.split(array(layer.dense.kernel), 3, axis=1)
    for copy, (kernel, angles) in enumerate(zip(kernels, array(layer.pqc.angles), strict=True)):
        np.testing.assert_allclose(result[:, :, copy], ry_ring(X @ kernel, angles), atol=2e-6)


def test_the_twin_has_no_encoding_of_its_own():
    layer = Projection(4, quantum=False, trainable_encoding=True)
    layer.build((None, 4))
    assert layer.count_params() == 20


FORMS = [{}, {"quantum": False}, {"trainable_encoding": True}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("copies", [slice(0, 1), slice(1, 3), slice(None), slice(-1, None)])
def test_some_copies_are_those_of_all(form, copies):
    layer = Projection(4, copies=3, **form)
    whole = array(layer(X))
    np.testing.assert_allclose(array(layer.project(X, copies)), whole[:, :, copies], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_two_axes_may_be_unknown(form):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, Projection(4, copies=3, **form)(inputs))
    assert model.predict(X, verbose=0).shape == (2, 5, 3, 4)


def test_refused():
    with pytest.raises(
        ValueError, match=r"projects 4 features. Received: input shape \(2, 5, 3\)$"
    ):
        Projection(4)(X[:, :, :3])
    with pytest.raises(ValueError, match="Received: copies=0$"):
        Projection(4, copies=0)
    with pytest.raises(ValueError, match="Received: 3 inputs and 3 observables$"):
        Projection(4, template=templates.ry_ring(3))(X)
