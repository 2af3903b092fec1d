"""QViT: its published counts, what it takes and refuses, and its change of engine."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from qrkt_keras import solvers
from qrkt_keras.circuits import templates
from qrkt_keras.execution import TFQ, PauliPropagation, UnsupportedCircuitError
from qrkt_keras.zoo import QViT

ROOT = Path(__file__).parents[2]

MNIST = {
    "image_shape": (28, 28, 1),
    "num_classes": 10,
    "patch_size": 14,
    "hidden_dim": 6,
    "num_heads": 2,
    "mlp_dim": 3,
}
CIFAR = {
    "image_shape": (32, 32, 3),
    "num_classes": 10,
    "patch_size": 16,
    "hidden_dim": 12,
    "num_heads": 6,
    "mlp_dim": 6,
}
ILSVRC = {**CIFAR, "num_classes": 1000, "hidden_dim": 6, "num_heads": 2}
SMALL = {
    "image_shape": (4, 4, 1),
    "num_classes": 3,
    "patch_size": 2,
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 3,
    "num_encoder_blocks": 0,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 0,
    "solver": "rk1",
}

# SPEC.md section 4: shapes, (encoders, Runge-Kutta blocks, decoders), solver -> weights.
CLASSICAL = [
    (MNIST, (3, 1, 1), {"rk1": 3733, "rk2": 3946, "rk3": 4159, "rk4": 4372, "rk4_enhanced": 4372}),
    (MNIST, (0, 3, 3), {"rk2": 4693, "rk3": 5332, "rk4": 5971, "rk4_enhanced": 5971}),
    (MNIST, (0, 3, 1), {"rk1": 3472}),
    (MNIST, (4, 0, 0), {"rk4": 2236}),
    ({**MNIST, "hidden_dim": 8, "mlp_dim": 4}, (4, 0, 0), {"rk4": 3298}),
    (
        CIFAR,
        (10, 1, 1),
        {"rk1": 28894, "rk2": 29680, "rk3": 30466, "rk4": 31252, "rk4_enhanced": 31252},
    ),
    (ILSVRC, (3, 3, 1), {"rk4_enhanced": 20518}),
]
# The same, solver -> (weights, qubits).
QUANTUM = [
    (
        MNIST,
        (0, 3, 1),
        {
            "rk1": (2872, 114),
            "rk2": (3088, 195),
            "rk3": (3304, 276),
            "rk4": (3520, 357),
            "rk4_enhanced": (3520, 357),
        },
    ),
    (MNIST, (4, 0, 0), {"rk4": (1672, 4 * (4 * 6 + 3))}),
    (CIFAR, (5, 1, 1), {"rk1": (20590, 390), "rk4": (21238, 552), "rk4_enhanced": (21238, 552)}),
    (ILSVRC, (3, 3, 1), {"rk4_enhanced": (18274, 486)}),
]


def rows(table):
    for shapes, blocks, results in table:
        for solver, result in results.items():
            yield pytest.param(
                shapes, blocks, solver, result, id=f"{blocks}-{solver}-{result}".replace(" ", "")
            )


def with_blocks(blocks):
    return dict(
        zip(("num_encoder_blocks", "num_ode_blocks", "num_decoder_blocks"), blocks, strict=True)
    )


def small(**changes):
    return QViT(**{**SMALL, **changes})


def images(count=5, dtype="uint8", shape=(4, 4, 1)):
    pixels = np.random.default_rng(3).integers(0, 256, (count, *shape)).astype("uint8")
    return pixels if dtype == "uint8" else (pixels / 255).astype(dtype)


def compiled(model, **arguments):
    model.compile(
        # Not Adam, which makes a step of every rounding error where a gradient is zero.
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        **arguments,
    )
    # With all variables there already, TensorFlow traces a step once and not twice.
    model.optimizer.build(model.trainable_variables)
    return model


class TestCounts:
    @pytest.mark.parametrize("shapes, blocks, solver, weights", rows(CLASSICAL))
    def test_classical(self, shapes, blocks, solver, weights):
        model = QViT(**shapes, **with_blocks(blocks), solver=solver, quantum=False)
        assert model.count_params() == weights
        assert (model.num_qubits, model.num_quantum_params, model.circuits_per_example) == (0, 0, 0)
        assert model.circuit_depth == 0

    @pytest.mark.parametrize("shapes, blocks, solver, result", rows(QUANTUM))
    def test_quantum(self, shapes, blocks, solver, result):
        model = QViT(**shapes, **with_blocks(blocks), solver=solver)
        assert (model.count_params(), model.num_qubits) == result
        # `ry_ring` has one angle a qubit.
        assert model.num_quantum_params == model.num_qubits

    def test_shared_weights_count_once(self):
        """2h + MHSA + FFN a block, whatever the stages."""
        own, shared = (small(solver="rk4", share_weights=share) for share in (False, True))
        vector_field = 4 * 4 + (4 * 3 + 3 + 3 + 3 * 4 + 4)
        assert own.count_params() - shared.count_params() == 3 * vector_field
        assert own.num_qubits - shared.num_qubits == 3 * (4 * 4 + 3)
        assert own.circuits_per_example == shared.circuits_per_example

    def test_the_circuits_that_run(self, monkeypatch):
        """Counted where they are executed: rows times copies of every call."""
        runs = []
        model = small(num_encoder_blocks=1, num_ode_blocks=2, num_decoder_blocks=1, solver="rk3")
        for layer in model.pqcs:
            executor = layer._executor
            monkeypatch.setattr(
                layer,
                "_executor",
                type(
                    "Counting",
                    (),
                    {
                        "expectation": lambda self, x, w, executor=executor: (
                            runs.append(x.shape[0] * w.shape[0]) or executor.expectation(x, w)
                        )
                    },
                )(),
            )
        model(images(2))
        assert sum(runs) == 2 * model.circuits_per_example

    def test_one_solver_a_block(self):
        model = small(num_ode_blocks=3, solver=["rk1", "rk4", solvers.get("rk2")])
        stages = [layer.tableau.num_stages for layer in model.layers if hasattr(layer, "tableau")]
        assert stages == [1, 4, 2]
        assert QViT.from_config(model.get_config()).solver == ("rk1", "rk4", "rk2")
        assert model.get_config()["solver"] == ["rk1", "rk4", "rk2"]


class TestStructure:
    def names(self, **changes):
        return [layer.name for layer in small(**changes).layers]

    def test_two_streams(self):
        names = self.names(num_encoder_blocks=2, num_ode_blocks=2, num_decoder_blocks=2)
        assert sorted(names) == sorted(
            ["images", "source_embedding", "encoder_1", "encoder_2", "ode_1", "ode_2"]
            + ["source_normalization", "target_embedding", "decoder_1", "decoder_2"]
            + ["target_normalization", "mean_over_tokens", "logits"]
        )

    def test_no_target_without_decoders(self):
        assert self.names() == [
            "images",
            "source_embedding",
            "ode_1",
            "source_normalization",
            "mean_over_tokens",
            "logits",
        ]

    def test_plain_classical_forward_is_the_textbook_one(self):
        """Against NumPy, with no block at all: embedding, positions, LN, mean, Dense."""
        model = small(num_ode_blocks=0, num_decoder_blocks=0, mean=0.25, std=0.5)
        x = images(3, "float64")
        embedding, logits = model.get_layer("source_embedding"), model.get_layer("logits")
        kernel, bias = (weight.numpy() for weight in embedding.projection.weights)
        positions = embedding.positions.numpy()
        normalized = (x - 0.25) / 0.5
        patches = normalized.reshape(3, 2, 2, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(3, 4, 4)
        tokens = patches @ kernel.reshape(4, 4) + bias + positions
        centred = tokens - tokens.mean(-1, keepdims=True)
        tokens = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        expected = tokens.mean(1) @ logits.kernel.numpy() + logits.bias.numpy()
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)

    def test_dropout_is_for_training(self):
        model, x = small(dropout=0.5), images(8)
        still = model(x, training=False)
        np.testing.assert_array_equal(still, model(x, training=False))
        assert np.abs(still - model(x, training=True)).max() > 1e-3

    def test_a_circuit_of_ones_own(self):
        spec = templates.hardware_efficient(3, 2)
        model = small(hidden_dim=3, num_heads=1, mlp_dim=3, template=spec)
        assert {layer.spec for layer in model.pqcs} == {spec}
        again = QViT.from_config(json.loads(json.dumps(model.get_config())))
        assert {layer.spec for layer in again.pqcs} == {spec}


class TestConfig:
    def test_only_the_constructors_arguments_and_json(self):
        config = small(mean=[0.5], label_names=("a", "b", "c")).get_config()
        assert json.loads(json.dumps(config)) == config
        assert set(config) == set(inspect.signature(QViT.__init__).parameters) - {"self"}
        assert QViT.from_config(config).get_config() == config

    def test_from_config_and_clone(self):
        model = small()
        x = images(3)
        for clone in (QViT.from_config(model.get_config()), keras.models.clone_model(model)):
            clone.set_weights(model.get_weights())
            np.testing.assert_array_equal(clone(x / np.float32(255)), model(x / np.float32(255)))

    def test_keras_file(self, tmp_path):
        model = compiled(small(std=0.5, mean=0.5))
        x, y = images(8), np.arange(8) % 3
        model.fit(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert type(again) is QViT
        assert again.get_config() == model.get_config()
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
        assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)

    def test_a_frozen_model(self):
        model = small(trainable=False)
        assert model.trainable_weights == []
        assert not QViT.from_config(model.get_config()).trainable

    def test_inside_another_model(self):
        model, x = small(), images(3)
        inputs = keras.Input((4, 4, 1), dtype="uint8")
        outer = keras.Model(inputs, keras.layers.Softmax()(model(inputs)))
        expected = keras.ops.softmax(model(x))
        np.testing.assert_allclose(outer.predict(x, verbose=0), expected, atol=1e-6)

    def test_features_of_an_inner_layer(self):
        model = small()
        features = keras.Model(model.input, model.get_layer("mean_over_tokens").output)
        assert features(images(2, "float32")).shape == (2, 4)


class TestImages:
    def test_uint8_is_float_over_255_everywhere(self):
        import tensorflow as tf

        model = compiled(small(mean=0.3, std=0.7))
        whole, y = images(6), np.arange(6) % 3
        floats = (whole / 255).astype("float32")
        expected = model(floats)
        dataset = tf.data.Dataset.from_tensor_slices(whole).batch(4)
        for values in (
            model(whole),
            model(tf.constant(whole)),
            tf.function(model)(tf.constant(whole)),
            model.predict(whole, verbose=0),
            model.predict(tf.constant(whole), verbose=0),
            model.predict(dataset, verbose=0),
            model.predict(((batch,) for batch in np.split(whole, 2)), steps=2, verbose=0),
            model.predict(floats.astype("float64"), verbose=0),
        ):
            np.testing.assert_allclose(values, expected, atol=1e-6)
        loss = model.evaluate(whole, y, verbose=0)
        np.testing.assert_allclose(loss, model.evaluate(floats, y, verbose=0), atol=1e-6)
        labelled = tf.data.Dataset.from_tensor_slices((whole, y)).batch(4)
        np.testing.assert_allclose(model.evaluate(labelled, verbose=0), loss, atol=1e-6)

    def test_training_on_uint8_is_training_on_floats(self):
        import tensorflow as tf

        whole, y = images(6), np.arange(6) % 3
        trained = []
        for x in (whole, (whole / 255).astype("float32"), None):
            keras.utils.set_random_seed(5)
            model = compiled(small(dropout=0.0))
            data = tf.data.Dataset.from_tensor_slices((whole, y)).batch(3)
            model.fit(*((data,) if x is None else (x, y, 3)), epochs=2, shuffle=False, verbose=0)
            trained.append(model.get_weights())
        for weights in zip(*trained, strict=True):
            np.testing.assert_allclose(weights[1], weights[0], atol=1e-5)
            np.testing.assert_array_equal(weights[2], weights[0])

    def test_normalization_is_inside_and_has_no_weights(self):
        plain = small(image_shape=(4, 4, 3))
        model = small(image_shape=(4, 4, 3), mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
        assert model.count_params() == plain.count_params()
        model.set_weights(plain.get_weights())
        x = images(3, "float32", (4, 4, 3))
        normalized = (x - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
        np.testing.assert_allclose(model(x), plain(normalized.astype("float32")), atol=1e-5)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
    def test_precision(self, policy):
        reference = small(mean=0.3, std=0.7)
        model = compiled(small(mean=0.3, std=0.7, dtype=policy))
        model.set_weights(reference.get_weights())
        x = images(6)
        logits = model(x)
        assert logits.dtype == ("float64" if policy == "float64" else "float32")
        error = np.abs(logits - keras.ops.cast(reference(x), logits.dtype)).max()
        assert error < {"mixed_float16": 0.02, "mixed_bfloat16": 0.15, "float64": 1e-5}[policy]
        model.fit(x, np.arange(6) % 3, verbose=0)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())
        assert QViT.from_config(model.get_config()).dtype_policy.name == policy


class TestEngine:
    def test_a_trained_model_keeps_its_values_and_weights(self):
        model = compiled(small(template="hardware_efficient", num_ansatz_layers=2))
        x, y = images(12), np.arange(12) % 3
        model.fit(x, y, epochs=2, verbose=0)
        weights, expected = model.get_weights(), model.predict(x, verbose=0)
        for engine in ("state_vector", "tfq", "auto"):
            model.set_engine(engine)
            assert model.engine == engine == model.get_config()["engine"]
            assert {layer.engine for layer in model.pqcs} == {engine}
            np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
            for before, after in zip(weights, model.get_weights(), strict=True):
                np.testing.assert_array_equal(before, after)

    def test_training_goes_on_with_the_new_engine(self, monkeypatch):
        model = compiled(small(dropout=0.0))
        x, y = images(6), np.arange(6) % 3
        model.fit(x, y, verbose=0)
        used = []
        for engine in (PauliPropagation, TFQ):

            def expectation(*arguments, engine=engine, original=engine.expectation):
                used.append(engine.name)
                return original(*arguments)

            monkeypatch.setattr(engine, "expectation", expectation)
        model.set_engine("tfq")
        model.fit(x, y, verbose=0)
        assert set(used) == {"tfq"}

    def test_all_or_none(self):
        """TFQ takes the circuit of the projections, but not the one of 28 qubits."""
        model = small(mlp_dim=28)
        engines = [layer._executor for layer in model.pqcs]
        with pytest.raises(UnsupportedCircuitError, match="28"):
            model.set_engine("tfq")
        assert model.engine == "auto"
        assert [layer._executor for layer in model.pqcs] == engines
        with pytest.raises(ValueError, match="Received: 'fast'"):
            model.set_engine("fast")

    def test_xla_only_where_the_engine_allows_it(self):
        model = compiled(small(), jit_compile=True)
        x, y = images(6), np.arange(6) % 3
        model.set_engine("tfq")
        assert not model.jit_compile
        model.fit(x, y, verbose=0)
        model.set_engine("state_vector")
        assert model.jit_compile
        model.set_engine("auto")
        assert model.jit_compile

    def test_jit_compile(self):
        x, y = images(6), np.arange(6) % 3
        weights = []
        for jit_compile in (False, True):
            keras.utils.set_random_seed(5)
            model = compiled(small(dropout=0.0), jit_compile=jit_compile)
            assert model.jit_compile is jit_compile
            model.fit(x, y, verbose=0)
            weights.append(model.get_weights())
        for plain, jitted in zip(*weights, strict=True):
            np.testing.assert_allclose(jitted, plain, atol=1e-5)

    def test_the_classical_twin_has_nothing_to_change(self):
        model = small(quantum=False)
        x = images(2)
        before = model(x)
        model.set_engine("state_vector")
        np.testing.assert_array_equal(model(x), before)


class TestWords:
    def test_summary(self):
        lines = []
        model = QViT(**MNIST, **with_blocks((0, 3, 1)), solver="rk1")
        model.summary(print_fn=lines.append)
        text = "\n".join(map(str, lines))
        assert "114 quantum (angles), 2,758 classical" in text
        assert "attention 6 qubits and depth 15, feed-forward 3 qubits and depth 9" in text
        assert "Qubits: 114" in text
        # 4 tokens, 5 circuits in each of 3 Runge-Kutta blocks and 6 in the decoder.
        assert "Circuits run per example: 84" in text
        assert "Engine: auto (pauli_propagation)" in text

    def test_summary_is_printed(self, capsys):
        small(quantum=False).summary()
        assert "classical twin" in capsys.readouterr().out

    def test_drawing(self, tmp_path):
        model = small()
        assert model.draw_circuit() == templates.ry_ring(4).draw()
        assert model.draw_circuit(part="feed_forward") == templates.ry_ring(3).draw()
        model.draw_circuit("svg", tmp_path / "circuit.svg")
        assert "<svg" in (tmp_path / "circuit.svg").read_text()
        with pytest.raises(ValueError, match="Received: part='head'"):
            model.draw_circuit(part="head")
        with pytest.raises(ValueError, match="Received: quantum=False"):
            small(quantum=False).draw_circuit()


BAD_ARGUMENTS = [
    ({"image_shape": (4, 4)}, "image_shape=(4, 4)"),
    ({"image_shape": 4}, "image_shape=4"),
    ({"dtype": "foo"}, "dtype='foo'"),
    ({"image_shape": (4, 4, 0)}, "image_shape=(4, 4, 0)"),
    ({"image_shape": (4.0, 4.0, 1.0)}, "image_shape=(4.0, 4.0, 1.0)"),
    ({"image_shape": (None, 4, 1)}, "image_shape=(None, 4, 1)"),
    ({"num_classes": 1}, "num_classes=1"),
    ({"num_classes": "ten"}, "num_classes='ten'"),
    ({"patch_size": 3}, "patch_size=3, stride=3 with an image of 4x4 pixels"),
    ({"patch_size": 8}, "patch_size=8, stride=8 with an image of 4x4 pixels"),
    ({"patch_size": 0}, "patch_size=0"),
    ({"hidden_dim": 2.5}, "hidden_dim=2.5"),
    ({"hidden_dim": 1, "num_heads": 1}, "hidden_dim=1"),
    ({"num_heads": 3}, "num_heads=3 with hidden_dim=4"),
    ({"num_heads": True}, "num_heads=True"),
    ({"mlp_dim": -1}, "mlp_dim=-1"),
    ({"num_encoder_blocks": -1}, "num_encoder_blocks=-1"),
    ({"num_ode_blocks": 1.5}, "num_ode_blocks=1.5"),
    ({"num_decoder_blocks": None}, "num_decoder_blocks=None"),
    ({"solver": "rk5"}, "'rk5'"),
    ({"solver": "rk5", "num_ode_blocks": 0}, "'rk5'"),
    ({"solver": ["rk1", "rk2"]}, "2 solvers with num_ode_blocks=1"),
    ({"share_weights": "yes"}, "share_weights='yes'"),
    ({"residual": "none"}, "residual='none'"),
    ({"variant": "paper"}, "variant='paper'"),
    ({"quantum": None}, "quantum=None"),
    ({"template": "ring"}, "name='ring'"),
    ({"template": 5}, "5 of type int"),
    ({"template": templates.ry_ring(4)}, "4 inputs and 4 observables"),
    ({"num_ansatz_layers": 0}, "num_ansatz_layers=0"),
    ({"num_ansatz_layers": 2}, "num_layers=2"),
    ({"engine": "gpu"}, "'gpu'"),
    ({"dropout": 1.0}, "dropout=1.0"),
    ({"mean": "half"}, "mean='half'"),
    ({"mean": [0.1, 0.2]}, "mean=[0.1, 0.2]"),
    ({"mean": float("nan")}, "mean=nan"),
    ({"std": 0.0}, "std=0.0"),
    ({"label_names": ["a", "b"]}, "label_names=['a', 'b']"),
    ({"label_names": "abc"}, "label_names='abc'"),
    ({"label_names": [1, 2, 3]}, "label_names=[1, 2, 3]"),
    ({"num_blocks": 3}, "unexpected keyword argument 'num_blocks'"),
]

NAN = np.full((1, 4, 4, 1), 0.5)
NAN[0, 1, 2, 0] = np.nan
INFINITE = np.where(np.isnan(NAN), np.inf, NAN)
BAD_FORMS = [
    (np.zeros((4, 4, 1)), ValueError, "images of shape (4, 4, 1)"),
    (np.zeros((2, 4, 4)), ValueError, "images of shape (2, 4, 4)"),
    (np.zeros((2, 5, 4, 1)), ValueError, "images of shape (2, 5, 4, 1)"),
    (np.zeros((2, 4, 4, 3)), ValueError, "images of shape (2, 4, 4, 3)"),
    (np.zeros((2, 4, 4, 1), "int32"), TypeError, "images of dtype int32"),
    (np.zeros((2, 4, 4, 1), "int8"), TypeError, "images of dtype int8"),
    (np.zeros((2, 4, 4, 1), "bool"), TypeError, "images of dtype bool"),
    (np.zeros((2, 4, 4, 1), "complex64"), TypeError, "images of dtype complex64"),
    (np.full((2, 4, 4, 1), "a"), TypeError, "images of dtype <U1"),
    ([[0.0]], TypeError, "[[0.0]] of type list"),
    ("image.png", TypeError, "'image.png' of type str"),
    (None, TypeError, "None of type NoneType"),
]
BAD_PIXELS = [
    (NAN, ValueError, "nan at image 0, row 1, column 2, channel 0"),
    (INFINITE, ValueError, "inf at image 0, row 1, column 2, channel 0"),
    (np.full((2, 4, 4, 1), 255.0), ValueError, "255.0 at image 0, row 0, column 0, channel 0"),
    (np.full((2, 4, 4, 1), -0.01), ValueError, "-0.01 at image 0, row 0, column 0, channel 0"),
]


class TestBadInput:
    @pytest.mark.parametrize("changes, received", BAD_ARGUMENTS, ids=str)
    def test_arguments(self, changes, received):
        with pytest.raises((ValueError, TypeError)) as error:
            small(**changes)
        assert received in str(error.value).split("Received: ")[-1]

    def test_an_engine_that_refuses_a_circuit(self):
        with pytest.raises(UnsupportedCircuitError, match="num_qubits=28"):
            small(mlp_dim=28, engine="tfq")

    @pytest.mark.parametrize("bad, kind, received", BAD_FORMS, ids=lambda value: str(value)[:40])
    def test_forms(self, bad, kind, received):
        model = small()
        for call in (model, lambda x: model.predict(x, verbose=0)):
            with pytest.raises(kind) as error:
                call(bad)
            assert str(error.value).endswith(f"Received: {received}")

    @pytest.mark.parametrize("bad, kind, received", BAD_FORMS[:6])
    def test_forms_in_training(self, bad, kind, received):
        with pytest.raises(kind, match="Images must"):
            compiled(small()).fit(bad, np.zeros(len(bad)), verbose=0)

    @pytest.mark.parametrize("bad, kind, received", BAD_PIXELS)
    def test_pixels_in_predict(self, bad, kind, received):
        import tensorflow as tf

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 1

            def __getitem__(self, index):
                return bad, np.zeros(len(bad))

        model = small()
        sources = {
            "array": lambda: bad,
            "float32": lambda: bad.astype("float32"),
            "tensor": lambda: tf.constant(bad),
            "dataset": lambda: tf.data.Dataset.from_tensors(bad),
            "labelled dataset": lambda: tf.data.Dataset.from_tensors((bad, np.zeros(len(bad)))),
            "generator": lambda: ((batch,) for batch in [bad]),
            "PyDataset": lambda: Batches(),
        }
        for name, source in sources.items():
            with pytest.raises(kind) as error:
                model.predict(source(), verbose=0)
            if name != "float32":
                assert str(error.value).endswith(f"Received: {received}"), name

    def test_a_dataset_without_batches(self):
        import tensorflow as tf

        with pytest.raises(ValueError, match=r"images of shape \(4, 4, 1\)"):
            small().predict(tf.data.Dataset.from_tensor_slices(images(3)), verbose=0)

    def test_what_is_good_passes(self):
        import tensorflow as tf

        model = small()
        edge = np.array([0.0, 1.0, np.nextafter(np.float32(1), 2)], "float32")
        x = np.resize(edge, (3, 4, 4, 1))
        expected = model(x)

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, index):
                return x[index : index + 1]

        for source in (
            x,
            tf.constant(x),
            Batches(),
            tf.data.Dataset.from_tensor_slices(x).batch(2),
        ):
            np.testing.assert_allclose(model.predict(source, verbose=0), expected, atol=1e-6)

    def test_no_images(self):
        model = small()
        assert model.predict(images(0), verbose=0).shape == (0, 3)
        assert model(images(0)).shape == (0, 3)


JAX_SCRIPT = """
import sys
import numpy as np
import keras
from qrkt_keras import zoo

model = zoo.QViT(**{arguments})
model.load_weights({weights!r})
x = np.load({images!r})
np.save({outputs!r}, model.predict(x, verbose=0))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, np.arange(len(x)) % 3, verbose=0)
expected = model(x)
model.set_engine("state_vector")
np.testing.assert_allclose(model(x), expected, atol=1e-5)
for call, words in (
    (lambda: model.predict(x / 1.0, verbose=0), "must lie in [0, 1]"),
    (lambda: model.export("never"), "KERAS_BACKEND=jax"),
    (lambda: model.set_engine("tfq"), "KERAS_BACKEND=tensorflow"),
):
    try:
        call()
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError("not refused: " + words)
assert keras.backend.backend() == "jax"
assert "tensorflow" not in sys.modules, "TensorFlow was loaded"
# Keras itself loads it for a `.keras` file, if it is there.
model.save({saved!r})
again = keras.models.load_model({saved!r})
np.testing.assert_allclose(again(x), expected, atol=1e-5)
"""


def test_on_jax_without_tensorflow(tmp_path):
    model, x = small(num_decoder_blocks=1, num_ode_blocks=0, mean=0.3), images(6)
    files = {
        "weights": str(tmp_path / "model.weights.h5"),
        "images": str(tmp_path / "images.npy"),
        "outputs": str(tmp_path / "outputs.npy"),
        "saved": str(tmp_path / "model.keras"),
    }
    model.save_weights(files["weights"])
    np.save(files["images"], x)
    arguments = {name: value for name, value in model.get_config().items() if name != "dtype"}
    script = JAX_SCRIPT.format(arguments=arguments, **files)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(np.load(files["outputs"]), model.predict(x, verbose=0), atol=1e-5)


class TestOptions:
    def test_a_variant_is_a_set_of_options(self):
        thesis = small(variant="thesis", num_decoder_blocks=1)
        assert thesis.get_layer("ode_1").residual == "normalized"
        assert thesis.get_layer("decoder_1").variant == "thesis"
        assert small().get_layer("ode_1").residual == "identity"
        mixed = small(variant="thesis", residual="identity")
        assert mixed.get_layer("ode_1").residual == "identity"

    def test_frozen_circuits(self):
        free, frozen = small(), small(trainable_circuits=False)
        angles = free.num_quantum_params
        assert frozen.count_params() == free.count_params()
        assert sum(map(np.size, frozen.trainable_weights)) == free.count_params() - angles
        assert not QViT.from_config(frozen.get_config()).pqcs[0].trainable_weights

    def test_the_identity_in_place_of_the_circuits(self):
        circuits, control = (
            small(num_decoder_blocks=1),
            small(num_decoder_blocks=1, template="identity"),
        )
        assert control.count_params() == circuits.count_params() - circuits.num_quantum_params
        assert (control.num_qubits, control.circuits_per_example) == (0, 0)
        control.set_engine("state_vector")
        with pytest.raises(ValueError, match="quantum=True, template='identity'$"):
            control.draw_circuit()

    def test_overlapping_patches(self):
        model = small(patch_stride=1)
        assert model.num_tokens == 9
        assert model.count_params() == small().count_params() + 5 * 4  # five positions more
        again = QViT.from_config(json.loads(json.dumps(model.get_config())))
        assert again.num_tokens == 9

    def test_pooling_that_knows_places(self):
        mean, places = small(), small(pooling="depthwise", depth_multiplier=2)
        tokens, hidden, classes = mean.num_tokens, mean.hidden_dim, mean.num_classes
        more = 2 * tokens * hidden + hidden * classes
        assert places.count_params() == mean.count_params() + more
        again = QViT.from_config(json.loads(json.dumps(places.get_config())))
        again.set_weights(places.get_weights())
        images = np.random.default_rng(0).random((2, *places.image_shape), "float32")
        np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(places(images)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"pooling": "max"}, "pooling='max'$"),
            ({"pooling": "depthwise", "depth_multiplier": 0}, "depth_multiplier=0$"),
            ({"depth_multiplier": 2}, "depth_multiplier=2 with pooling='mean'$"),
        ],
    )
    def test_a_pooling_that_is_none_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            small(**arguments)

    def test_projected_attention_to_the_memory(self):
        plain = small(num_decoder_blocks=1)
        projected = small(num_decoder_blocks=1, project_cross_attention=True)
        # Queries, keys and values: three circuits more of a qubit a feature.
        assert projected.count_params() == plain.count_params() + 3 * 4
        assert projected.circuits_per_example == plain.circuits_per_example + 3 * 4

    @pytest.mark.parametrize("blocks", [(1, 0), (0, 1)], ids=["encoder", "ode"])
    def test_the_scale_of_attention(self, blocks):
        form = dict(zip(("num_encoder_blocks", "num_ode_blocks"), blocks, strict=True))
        plain, same, sharp = (small(**form, attention_scale=s) for s in (None, 2**-0.5, 4.0))
        for model in (same, sharp):
            model.set_weights(plain.get_weights())
        images = np.random.default_rng(0).random((2, *plain.image_shape), "float32")
        logits = [np.asarray(model(images)) for model in (plain, same, sharp)]
        np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)  # heads of two features
        assert np.abs(logits[2] - logits[0]).max() > 1e-3
        again = QViT.from_config(json.loads(json.dumps(sharp.get_config())))
        assert again.attention_scale == 4.0

    def test_a_scale_of_zero_is_refused(self):
        with pytest.raises(ValueError, match="attention_scale=0$"):
            small(attention_scale=0)

    def test_trainable_encodings(self):
        assert small(trainable_encoding=True).count_params() == small().count_params() + 4 * 16
