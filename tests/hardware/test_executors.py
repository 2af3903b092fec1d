"""Engines that a model's circuits have for a while, and how many circuits it runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from qrkt_keras import zoo
from qrkt_keras.circuits import templates
from qrkt_keras.hardware import rows_per_example
from qrkt_keras.hardware.executors import executors
from qrkt_keras.layers import PQC, QuantumMultiHeadAttention
from qrkt_keras.layers.pqc import circuit_layers


class Constant:
    """An engine that gives one number, and notes what it is given."""

    def __init__(self, number, calls, size):
        self.number, self.calls, self.size = number, calls, size

    def expectation(self, inputs, weights):
        self.calls.append((tuple(inputs.shape), tuple(weights.shape)))
        shape = (inputs.shape[0], weights.shape[0], self.size)
        return ops.full(shape, self.number, dtype=inputs.dtype)


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), PQC(templates.rx_ring(3))])


def test_other_engines_run_within_the_block_only():
    made, calls = model(), []
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3)).astype("float32")
    before = made.predict(x, verbose=0)
    engines = [layer._executor for layer in circuit_layers(made)]
    with executors(made, lambda layer: Constant(0.5, calls, layer.spec.num_observables)):
        # Also through functions that Keras had compiled.
        np.testing.assert_array_equal(made.predict(x, verbose=0), np.full((4, 3), 0.5))
        np.testing.assert_array_equal(made(x), np.full((4, 3), 0.5))
    assert calls == [((4, 1, 3), (1, 3))] * 2
    np.testing.assert_array_equal(made.predict(x, verbose=0), before)
    assert [layer._executor for layer in circuit_layers(made)] == engines


@pytest.mark.parametrize("jit_compile", [False, True])
def test_how_a_model_runs_is_left_as_it_is_whatever_happens(jit_compile):
    made = model()
    made.compile(loss="mse", jit_compile=jit_compile, run_eagerly=False)
    with pytest.raises(RuntimeError), executors(made, lambda layer: Constant(0.0, [], 3)):
        assert made.run_eagerly and not made.jit_compile
        raise RuntimeError
    assert not made.run_eagerly and made.jit_compile is jit_compile


def test_rows_are_those_of_the_layers():
    """Counted by hand: projections times tokens, copies, patches."""
    spec = templates.rx_ring(3)
    inputs = keras.Input((5, 3))
    once = PQC(spec)
    attended = QuantumMultiHeadAttention(num_heads=1, key_dim=3, template="rx_ring")(inputs, inputs)
    outputs = once(keras.layers.GlobalAveragePooling1D()(attended))
    made = keras.Model(inputs, [outputs, once(inputs[:, 0])])
    # Query, key, value and output of five tokens, and one layer that is called twice.
    assert rows_per_example(made) == {spec: 4 * 5 + 2}
    patches = zoo.PatchQNN(num_blocks=1)
    assert list(rows_per_example(patches).values()) == [4]
    texts = zoo.from_preset("qtext_120k_imdb", load_weights=False)
    assert sum(rows_per_example(texts).values()) == texts.circuits_per_example


def test_a_model_that_does_not_say_what_it_takes():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.circuit = PQC(templates.rx_ring(2))

        def call(self, inputs):
            return self.circuit(inputs)

    own = Own()
    own(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="functional or a Sequential .* of type Own"):
        rows_per_example(own)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert rows_per_example(dense) == {}
