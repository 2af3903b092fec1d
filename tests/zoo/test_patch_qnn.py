"""PatchQNN: its printed counts, its values against Cirq, what it takes and refuses."""

from __future__ import annotations

import inspect
import json
import math
import warnings

import cirq
import keras
import numpy as np
import pytest

from qrkt_keras import data, serving, zoo
from qrkt_keras.circuits import templates
from qrkt_keras.execution import UnsupportedCircuitError
from qrkt_keras.training import Recipe
from qrkt_keras.zoo import PatchQNN

# SPEC.md section 5: patches, blocks, weights, and the learning rate by the blocks.
PRINTED = [
    *[(4, 50, 10112), (4, 100, 19712), (4, 150, 29312), (4, 200, 38912)],
    *[(9, 50, 22752), (9, 100, 44352), (9, 150, 65952), (9, 200, 87552)],
    *[(16, 50, 40448), (16, 100, 78848), (16, 150, 117248), (16, 200, 155648)],
]
RATES = {50: 1e-2, 100: 5e-3, 150: 2.5e-3, 200: 1e-3}
OFFSETS = {4: (0, 6), 9: (0, 3, 6), 16: (0, 2, 4, 6)}

SMALL = {
    "image_shape": (6, 6, 1),
    "num_classes": 3,
    "pool_size": 1,
    "patch_size": 4,
    "stride": 2,
    "num_blocks": 1,
    "num_qubits_per_circuit": 3,
}


def small(**changes):
    return PatchQNN(**{**SMALL, **changes})


def images(count=4, shape=(6, 6, 1), dtype="uint8"):
    pixels = np.random.default_rng(3).integers(0, 256, (count, *shape)).astype("uint8")
    return pixels if dtype == "uint8" else (pixels / 255).astype(dtype)


def compiled(model, **arguments):
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **arguments,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def shifted(model, seed=1):
    """The model, with biases other than 0."""
    bias = model.get_layer("pixel_bias").bias
    bias.assign(np.random.default_rng(seed).normal(0, 0.5, bias.shape))
    return model


# SPEC.md section 5 written out, by loops and gates, in complex128.


def averaged(image, size):
    """Means over `size` x `size`, of `(height, width, channels)`."""
    height, width, channels = image.shape
    means = np.zeros((height // size, width // size, channels))
    for row in range(height // size):
        for column in range(width // size):
            for channel in range(channels):
                total = 0.0
                for i in range(size):
                    for j in range(size):
                        total += image[size * row + i, size * column + j, channel]
                means[row, column, channel] = total / size**2
    return means


def kawases_circuit(x, w, num_qubits, num_blocks):
    """The circuit of a patch, with 2 * num_qubits * k features and numbers for angles."""
    q = cirq.LineQubit.range(num_qubits)
    weights, k = iter(w), len(x) // (2 * num_qubits)

    def ring():
        for i in range(num_qubits):
            yield cirq.CZ(q[i], q[(i + 1) % num_qubits])

    def entangling_block():
        for i in range(num_qubits):
            yield cirq.rx(next(weights))(q[i])
        for i in range(num_qubits):
            yield cirq.ry(next(weights))(q[i])
        yield from ring()

    def data_block(number):
        for i in range(num_qubits):
            for j in range(k):
                feature = x[number * num_qubits * k + k * i + j]
                if j % 2 == 0:
                    yield cirq.ry(next(weights))(q[i])
                    yield cirq.rx(feature)(q[i])
                    yield cirq.ry(next(weights))(q[i])
                else:
                    yield cirq.rx(next(weights))(q[i])
                    yield cirq.ry(feature)(q[i])
                    yield cirq.rx(next(weights))(q[i])
        yield from ring()

    gates = []
    for number in range(2):
        for _ in range(num_blocks):
            gates += entangling_block()
        gates += data_block(number)
    for _ in range(num_blocks):
        gates += entangling_block()
    assert next(weights, None) is None
    return cirq.Circuit(gates[:-num_qubits]), q


def kawases_logits(model, pixels):
    """The logits of one image of uint8, from the model's numbers and weights alone."""
    bias, angles = (weight.numpy().astype("float64") for weight in model.weights)
    image = averaged(pixels / 255 * model.max_angle, model.pool_size) + bias
    height, width, channels = image.shape
    size, step = model.patch_size, model.stride
    values = []
    for top in range(0, height - size + 1, step):
        for left in range(0, width - size + 1, step):
            x = []
            for row in range(top, top + size):
                for column in range(left, left + size):
                    x += [image[row, column, channel] for channel in range(channels)]
            w = angles[len(values)].ravel()
            n, k = model.num_qubits_per_circuit, model.num_classes
            circuit, q = kawases_circuit(x, w, n, model.num_blocks)
            read = [cirq.X(a) for a in q[: (k + 1) // 2]] + [cirq.Z(a) for a in q[: k // 2]]
            simulator = cirq.Simulator(dtype=np.complex128, split_untangled_states=False)
            found = simulator.simulate_expectation_values(circuit, read, qubit_order=q)
            values.append(np.real(found))
    assert len(values) == model.num_patches == len(angles)
    return model.scale * np.mean(values, axis=0)


class TestCounts:
    @pytest.mark.parametrize(
        ("patches", "blocks", "weights"),
        [
            # To build a circuit of 150 or 200 blocks takes ten seconds.
            pytest.param(*row, marks=pytest.mark.slow if row[1] > 100 else ())
            for row in PRINTED
        ],
    )
    def test_the_presets_are_the_printed_ones(self, patches, blocks, weights):
        name = f"patch_qnn_p{patches}_d{blocks}_mnist"
        model = PatchQNN.from_preset(name, load_weights=False)
        assert type(model) is PatchQNN
        assert model.num_circuit_weights == weights == patches * 8 * (6 * blocks + 16)
        # One map of biases, which is not counted, shared by all patches; and nothing else.
        assert model.count_params() == weights + 14 * 14
        assert model.num_quantum_params == weights
        assert (model.num_patches, model.circuits_per_example) == (patches, patches)
        assert model.num_qubits == 8 * patches
        assert tuple(range(0, 14 - model.patch_size + 1, model.stride)) == OFFSETS[patches]
        assert (model.image_shape, model.num_classes) == ((28, 28, 1), 10)
        assert (model.pool_size, model.patch_size) == (2, 8)
        assert (model.scale, model.max_angle) == (100.0, math.pi / 4)
        assert model.label_names == data.info("mnist").label_names

        preset = zoo.read_preset(name)
        assert preset.data == "mnist"
        assert preset.recipe == Recipe(
            epochs=50,
            batch_size=1000,
            optimizer="adam",
            learning_rate=RATES[blocks],
            schedule="epoch_cosine",
            cycle_epochs=10,
            weight_decay=0,
            l2=5e-5,
            clip_norm=None,
            stratified=True,
            hold_out=False,
            snapshots=True,
            monitor="train_loss",
        )

    def test_they_are_all(self):
        names = {f"patch_qnn_p{patches}_d{blocks}_mnist" for patches, blocks, _ in PRINTED}
        assert {*zoo.list_presets("patch_qnn*")} == names | {
            "patch_qnn_40k_mnist",
            "patch_qnn_p4_d1_mnist",
        }

    def test_ours_has_no_more_weights_than_the_printed_one_that_it_is_compared_with(self):
        model = PatchQNN.from_preset("patch_qnn_40k_mnist", load_weights=False)
        assert (model.num_patches, model.num_qubits_per_circuit, model.num_blocks) == (16, 6, 65)
        assert model.num_circuit_weights == 16 * (6 * 65 * 6 + 2 * 64) <= 40_448
        # What is classical of it is scale and biases, as in the source.
        assert model.scale == 100.0
        assert model.count_params() == model.num_circuit_weights + 14 * 14
        recipe = zoo.read_preset("patch_qnn_40k_mnist").recipe
        # Chosen on images that it is not trained with, unlike the source's.
        assert recipe.hold_out and recipe.monitor.startswith("val_")

    def test_the_circuits_that_run(self, monkeypatch):
        """Counted where they are executed: rows times copies."""
        runs = []
        model = small()
        (layer,) = model.pqcs
        executor = layer._executor

        class Counting:
            def expectation(self, x, w):
                runs.append(x.shape[0] * w.shape[0])
                return executor.expectation(x, w)

        monkeypatch.setattr(layer, "_executor", Counting())
        model(images(2))
        assert sum(runs) == 2 * model.circuits_per_example == 2 * 4


class TestValues:
    @pytest.mark.parametrize("stride", [6, 2])
    def test_the_sources_are_those_of_cirq(self, stride):
        model = shifted(PatchQNN(stride=stride, num_blocks=3 - (stride == 2), dtype="float64"))
        pixels = images(2 if stride == 6 else 1, (28, 28, 1))
        expected = [kawases_logits(model, image) for image in pixels]
        assert np.abs(expected).max() > 2  # of a scale of 100
        np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-8)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"image_shape": (8, 6, 1), "stride": 1, "num_blocks": 2},
            {"image_shape": (9, 13, 2), "pool_size": 2, "patch_size": 4, "stride": 1},
            {"num_classes": 8, "num_qubits_per_circuit": 4, "patch_size": 4, "scale": 3.5},
            {"num_classes": 2, "max_angle": 3.0, "patch_size": 6, "stride": 9},
        ],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore:.*pixels are in no patch")
    def test_those_of_other_forms_are_too(self, changes):
        arguments = {**SMALL, **changes}
        # As many features as divide into halves and qubits.
        if arguments["num_qubits_per_circuit"] == 3:
            arguments["image_shape"] = (*arguments["image_shape"][:2], 3)
        model = shifted(PatchQNN(**arguments, dtype="float64"))
        pixels = images(2, model.image_shape)
        expected = [kawases_logits(model, image) for image in pixels]
        np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-8)

    def test_float32(self):
        model = shifted(PatchQNN(num_blocks=1))
        pixels = images(1, (28, 28, 1))
        expected = kawases_logits(model, pixels[0])
        assert model(pixels).dtype == "float32"
        np.testing.assert_allclose(model(pixels)[0], expected, rtol=0, atol=2e-4)

    def test_the_logits_are_within_the_scale_and_saturate_there(self):
        """With all angles 0 the state stays |0...0>: every Z is 1 and every X is 0."""
        model = small(scale=7.0)
        model.set_weights([np.zeros(weight.shape) for weight in model.weights])
        np.testing.assert_allclose(model(0 * images(2)), [[0, 0, 7]] * 2, atol=1e-4)

    def test_each_pixel_has_one_bias_for_all_patches(self):
        model = small(stride=1, patch_size=3, dtype="float64")
        pixels = images(1, dtype="float64")
        # A bias is a change of the pixel itself, wherever it is read.
        bias = model.get_layer("pixel_bias").bias
        changed = pixels.copy()
        changed[0, 2, 3, 0] = 0.5
        expected = model(changed)
        delta = np.zeros(bias.shape)
        delta[2, 3, 0] = (0.5 - pixels[0, 2, 3, 0]) * math.pi / 4
        assert np.abs(expected - model(pixels)).max() > 1e-3
        bias.assign(delta)
        np.testing.assert_allclose(model(pixels), expected, atol=1e-10)


class TestWeights:
    def test_they_begin_anywhere_in_half_a_turn_and_each_circuit_by_itself(self):
        model = PatchQNN(num_blocks=10)
        bias, angles = (weight.numpy() for weight in model.weights)
        assert bias.shape == (14, 14, 1) and not bias.any()
        assert (angles >= 0).all() and (angles < math.pi).all()
        angles = angles.reshape(4, -1)
        for one in angles:
            # Of 608 uniform numbers: mean and standard deviation within five standard errors.
            assert abs(one.mean() - math.pi / 2) < 5 * math.pi / math.sqrt(12 * one.size)
            assert abs(one.std() - math.pi / math.sqrt(12)) < 0.1
            assert one.min() < 0.05 and one.max() > math.pi - 0.05
        correlations = np.corrcoef(angles) - np.eye(4)
        assert np.abs(correlations).max() < 5 / math.sqrt(angles.shape[1])
        # But for chance: float32 has 2^23 numbers for so many pairs.
        assert len(np.unique(angles)) >= angles.size - 5

    def test_they_are_functions_of_the_seed(self):
        made = []
        for seed in (1, 1, 2):
            keras.utils.set_random_seed(seed)
            made.append(small().get_weights()[1])
        assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])

    def test_every_weight_gets_a_gradient_but_those_that_cannot(self):
        """Which these are `templates.patch` says and proves; here they are 14 in each circuit."""
        import tensorflow as tf

        model = shifted(PatchQNN(num_blocks=1, dtype="float64", scale=1.0))
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
                np.arange(4), model(images(4, (28, 28, 1)))
            )
        bias, angles = tape.gradient(loss, model.trainable_weights)
        last = 8 * 22 - 16
        dead = [2 * 16 + 64 + 8 * 6 + k for k in range(8)]
        dead += [last + offset + i for offset in (0, 8) for i in (5, 6, 7)]
        zero = np.zeros(8 * 22, bool)
        zero[dead] = True
        angles = np.abs(angles).reshape(4, -1)
        assert angles[:, zero].max() < 1e-14 and angles[:, ~zero].min() > 1e-9
        # Features 56 to 59, row 7 and columns 0 to 3 of a patch, are read in vain.
        read = np.zeros((14, 14), bool)
        for top in (0, 6):
            for left in (0, 6):
                patch = np.ones((8, 8), bool)
                patch[7, :4] = False
                read[top : top + 8, left : left + 8] |= patch
        bias = np.abs(bias)[:, :, 0]
        assert bias[~read].max() < 1e-14 and bias[read].min() > 1e-9

    def test_frozen_circuits(self):
        free, frozen = small(), small(trainable_circuits=False)
        assert frozen.count_params() == free.count_params()
        assert frozen.num_circuit_weights == free.num_circuit_weights
        assert [weight.path for weight in frozen.trainable_weights] == ["pixel_bias/bias"]
        before = frozen.get_weights()
        compiled(frozen, run_eagerly=True).fit(images(), np.arange(4) % 3, verbose=0)
        after = frozen.get_weights()
        assert np.array_equal(after[1], before[1]) and not np.array_equal(after[0], before[0])
        assert not PatchQNN.from_config(frozen.get_config()).pqcs[0].trainable_weights

    def test_training_lowers_the_loss(self):
        """Bright above or bright below; the biases and the angles move."""
        rng = np.random.default_rng(0)
        labels = np.arange(48) % 2
        x = rng.uniform(0, 0.4, (48, 6, 6, 1)).astype("float32")
        x[labels == 0, :3] += 0.6
        x[labels == 1, 3:] += 0.6
        model = compiled(small(num_classes=2, scale=10.0))
        model.optimizer.learning_rate = 0.05
        before = model.get_weights()
        losses = model.fit(x, labels, batch_size=48, epochs=15, verbose=0).history["loss"]
        assert losses[-1] < 0.5 * losses[0]
        for old, new in zip(before, model.get_weights(), strict=True):
            assert np.abs(new - old).max() > 1e-2


class TestTwin:
    def test_it_is_a_dense_layer_a_patch(self):
        model = shifted(small(quantum=False, image_shape=(6, 8, 2), dtype="float64"))
        bias, kernel, offset = (weight.numpy() for weight in model.weights)
        rng = np.random.default_rng(0)
        model.get_layer("twins").bias.assign(offset := rng.normal(size=offset.shape))
        assert model.count_params() == 6 * 8 * 2 + 6 * (32 * 3 + 3)
        pixels = images(2, (6, 8, 2), "float64")
        x = pixels * math.pi / 4 + bias
        values = []
        for top in (0, 2):
            for left in (0, 2, 4):
                patch = x[:, top : top + 4, left : left + 4].reshape(2, -1)
                values.append(patch @ kernel[len(values)] + offset[len(values)])
        np.testing.assert_allclose(model(pixels), 100 * np.mean(values, axis=0), atol=1e-8)

    def test_it_has_no_circuit(self):
        model = small(quantum=False)
        counts = (model.num_qubits, model.num_circuit_weights, model.circuits_per_example)
        assert counts == (0, 0, 0) and model.circuit_depth == 0 and model.num_patches == 4
        before = model(images())
        model.set_engine("state_vector")
        np.testing.assert_array_equal(model(images()), before)
        with pytest.raises(ValueError, match="no circuit to draw. Received: quantum=False$"):
            model.draw_circuit()
        again = PatchQNN.from_config(json.loads(json.dumps(model.get_config())))
        assert again.count_params() == model.count_params() and not again.quantum


class TestConfig:
    def test_only_the_constructors_arguments_and_json(self):
        model = small(label_names=("a", "b", "c"), scale=3, max_angle=1, trainable_circuits=False)
        config = model.get_config()
        assert json.loads(json.dumps(config)) == config
        assert set(config) == set(inspect.signature(PatchQNN.__init__).parameters) - {"self"}
        assert PatchQNN.from_config(config).get_config() == config

    def test_from_config_and_clone(self):
        model = shifted(small())
        x = images(dtype="float32")
        for clone in (PatchQNN.from_config(model.get_config()), keras.models.clone_model(model)):
            clone.set_weights(model.get_weights())
            np.testing.assert_array_equal(clone(x), model(x))

    def test_keras_file(self, tmp_path):
        model, x, y = compiled(small(), run_eagerly=True), images(), np.arange(4) % 3
        model.fit(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert type(again) is PatchQNN and again.get_config() == model.get_config()
        np.testing.assert_array_equal(again(x), model(x))
        np.testing.assert_array_equal(again.optimizer.iterations, model.optimizer.iterations)

    def test_preset_folder(self, tmp_path):
        model = shifted(small(label_names=["a", "b", "c"]))
        folder = model.save_to_preset(
            tmp_path / "mine", recipe=Recipe(3), data="digits", scores={"train": {"loss": 0.5}}
        )
        for again in (zoo.from_preset(folder), PatchQNN.from_preset(folder, name="other")):
            assert type(again) is PatchQNN
            np.testing.assert_array_equal(again(images()), model(images()))
        assert zoo.read_preset(folder).metadata["scores"] == {"train": {"loss": 0.5}}
        config = json.loads((folder / "config.json").read_text())["config"]
        assert config["patch_size"] == 4 and not {"name", "dtype", "trainable"} & set(config)
        with pytest.raises(zoo.PresetError, match="PatchQNN"):
            zoo.QViT.from_preset(folder)
        twin = PatchQNN.from_preset(folder, load_weights=False, quantum=False)
        assert twin.num_qubits == 0 and twin.label_names == ("a", "b", "c")

    def test_mixed_precision_computes_in_full(self):
        reference, x = shifted(small()), images()
        model = small(dtype="mixed_float16")
        model.set_weights(reference.get_weights())
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        assert model(x).dtype == "float32"
        np.testing.assert_array_equal(model(x), reference(x))
        assert model.predict(x[:0], verbose=0).dtype == "float32"
        assert PatchQNN.from_config(model.get_config()).dtype_policy.name == "mixed_float16"

    def test_a_frozen_model(self):
        model = small(trainable=False)
        assert model.trainable_weights == []
        assert not PatchQNN.from_config(model.get_config()).trainable

    def test_features_of_an_inner_layer(self):
        model = small()
        features = keras.Model(model.input, model.get_layer("circuits").output)
        values = features(images(2, dtype="float32"))
        assert values.shape == (2, 4, 3) and np.abs(values).max() <= 1 + 1e-5


class TestImages:
    def test_uint8_is_float_over_255_everywhere(self):
        import tensorflow as tf

        model, whole = shifted(small()), images()
        floats = (whole / 255).astype("float32")
        expected = model(floats)
        for values in (
            model(whole),
            model(tf.constant(whole)),
            model.predict(whole, verbose=0),
            model(floats.astype("float64")),
        ):
            np.testing.assert_allclose(values, expected, atol=1e-4)

    def test_no_images(self):
        model = small()
        assert model(images(0)).shape == model.predict(images(0), verbose=0).shape == (0, 3)

    @pytest.mark.parametrize(
        ("bad", "kind", "received"),
        [
            (np.zeros((2, 6, 6)), ValueError, "images of shape (2, 6, 6)"),
            (np.zeros((2, 6, 5, 1)), ValueError, "images of shape (2, 6, 5, 1)"),
            (np.zeros((2, 6, 6, 1), "int32"), TypeError, "images of dtype int32"),
            ("image.png", TypeError, "'image.png' of type str"),
        ],
    )
    def test_what_is_no_batch_of_images_is_refused(self, bad, kind, received):
        model = small()
        for call in (model, model.predict):
            with pytest.raises(kind) as error:
                call(bad)
            assert str(error.value).endswith(f"Received: {received}")

    def test_pixels_out_of_range_are_refused_by_predict(self):
        with pytest.raises(ValueError, match="Received: 2.0 at image 0, row 0, column 0, channel"):
            small().predict(np.full((1, 6, 6, 1), 2.0), verbose=0)


class TestUnusedPixels:
    def told(self, **arguments):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            PatchQNN(**{**SMALL, **arguments})
        return [(str(one.message), one.filename) for one in caught]

    def test_none(self):
        assert self.told() == []
        assert self.told(image_shape=(28, 28, 1), pool_size=2, patch_size=8, stride=3) == []

    def test_of_a_stride_that_does_not_fit(self):
        ((message, file),) = self.told(image_shape=(7, 6, 1))
        assert message == (
            "6 of 42 pixels are in no patch. Received: pool_size=1, patch_size=4, stride=2 with "
            "images of 7x6 pixels"
        )
        assert file == __file__

    def test_of_gaps_between_patches(self):
        ((message, _),) = self.told(image_shape=(9, 9, 1), stride=5)
        # Rows and columns 4, of 81.
        assert message.startswith("17 of 81 pixels are in no patch.")

    def test_of_averages(self):
        ((message, file),) = self.told(image_shape=(13, 9, 1), pool_size=2, stride=2)
        # The last row and the last column.
        assert message == (
            "21 of 117 pixels are in no patch. Received: pool_size=2, patch_size=4, stride=2 with "
            "images of 13x9 pixels"
        )
        assert file == __file__

    def test_of_both(self):
        ((message, _),) = self.told(image_shape=(11, 15, 1), pool_size=2)
        # Of the averaged map's 5x7 pixels patches have 4x6, of four pixels each.
        assert message.startswith(f"{11 * 15 - 4 * 4 * 6} of 165 pixels are in no patch.")

    def test_a_model_with_unused_pixels_works(self):
        with pytest.warns(UserWarning, match="in no patch"):
            model = small(image_shape=(7, 6, 1))
        changed = images(1, (7, 6, 1))
        before = np.asarray(model(changed))
        changed[:, 6] = 255 - changed[:, 6]
        np.testing.assert_array_equal(model(changed), before)


BAD_ARGUMENTS = [
    ({"image_shape": (6, 6)}, "image_shape=(6, 6)"),
    ({"image_shape": (6, 6, 0)}, "image_shape=(6, 6, 0)"),
    ({"image_shape": "666"}, "image_shape='666'"),
    ({"image_shape": (3, 6, 1)}, "images of 3x6 pixels, averaged 3x6"),
    (
        {"image_shape": (28, 12, 1), "pool_size": 2, "patch_size": 8},
        "patch_size=8, pool_size=2 with images of 28x12 pixels, averaged 14x6",
    ),
    ({"pool_size": 7}, "patch_size=4, pool_size=7 with images of 6x6 pixels, averaged 0x0"),
    ({"num_classes": 7}, "num_classes=7 with num_qubits_per_circuit=3"),
    ({"num_classes": 1}, "num_classes=1"),
    ({"num_classes": 3.0}, "num_classes=3.0"),
    ({"pool_size": 0}, "pool_size=0"),
    ({"patch_size": "4"}, "patch_size='4'"),
    ({"stride": 0}, "stride=0"),
    ({"stride": None}, "stride=None"),
    ({"num_blocks": 0}, "num_blocks=0"),
    ({"num_blocks": True}, "num_blocks=True"),
    ({"num_qubits_per_circuit": 0}, "num_qubits_per_circuit=0"),
    ({"scale": 0}, "scale=0"),
    ({"scale": "big"}, "scale='big'"),
    ({"max_angle": -1.0}, "max_angle=-1.0"),
    ({"max_angle": math.inf}, "max_angle=inf"),
    ({"quantum": 1}, "quantum=1"),
    ({"trainable_circuits": "no"}, "trainable_circuits='no'"),
    ({"engine": "gpu"}, "'gpu'"),
    ({"engine": "gpu", "quantum": False}, "'gpu'"),
    ({"dtype": "foo"}, "dtype='foo'"),
    ({"label_names": ["a", "b"]}, "label_names=['a', 'b']"),
    ({"hidden_dim": 3}, "unexpected keyword argument 'hidden_dim'"),
]


@pytest.mark.parametrize(("changes", "received"), BAD_ARGUMENTS, ids=str)
def test_bad_arguments(changes, received):
    with pytest.raises((ValueError, TypeError)) as error:
        small(**changes)
    assert received in str(error.value).split("Received: ")[-1]


class TestEngine:
    @pytest.mark.parametrize("engine", ["tfq", "state_vector"])
    def test_a_change_of_it_changes_no_value_and_no_weight(self, engine):
        model, x = shifted(PatchQNN(num_blocks=1)), images(2, (28, 28, 1))
        expected, weights = np.asarray(model(x)), model.get_weights()
        model.set_engine(engine)
        assert model.engine == engine == model.get_config()["engine"] == model.pqcs[0].engine
        np.testing.assert_allclose(model(x), expected, atol=2e-4)
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
        model.set_engine("auto")
        np.testing.assert_array_equal(model(x), expected)

    def test_one_that_cannot_is_refused(self):
        with pytest.raises(UnsupportedCircuitError):
            small(num_qubits_per_circuit=28, engine="tfq")
        model = small()
        with pytest.raises(ValueError, match="Received: 'fast'"):
            model.set_engine("fast")
        assert model.engine == "auto"


def test_saved_model(tmp_path):
    import tensorflow as tf

    model = shifted(small(label_names=["one", "two", "three"]))
    model.export(tmp_path / "served")
    assert serving.foreign_ops(tmp_path / "served") == ()
    served = serving.load_saved_model(tmp_path / "served").signatures
    whole = images(5)
    logits = model(whole)
    for key, inputs in (("serving_uint8", whole), ("serving_default", whole / np.float32(255))):
        answer = served[key](images=tf.constant(inputs))
        np.testing.assert_allclose(answer["probabilities"], keras.ops.softmax(logits), atol=1e-5)
        labels = np.argmax(logits, axis=1)
        np.testing.assert_array_equal(answer["label"], labels)
        names = [name.decode() for name in answer["label_name"].numpy()]
        assert names == [["one", "two", "three"][label] for label in labels]


class TestWords:
    def test_summary(self):
        lines = []
        PatchQNN(num_blocks=1).summary(print_fn=lines.append)
        text = "\n".join(map(str, lines))
        assert "704 quantum (angles), 196 classical" in text
        assert f"patch 8 qubits and depth {templates.patch(1).depth}" in text
        assert "Qubits: 32" in text and "Circuits run per example: 4" in text
        lines.clear()
        small(quantum=False).summary(print_fn=lines.append)
        assert "classical twin" in "\n".join(map(str, lines))

    def test_drawing(self, tmp_path):
        model = small()
        spec = templates.patch(1, num_qubits=3, num_features=16, num_values=3)
        assert model.draw_circuit() == model.draw_circuit(part="patch") == spec.draw()
        model.draw_circuit("svg", tmp_path / "circuit.svg")
        assert "<svg" in (tmp_path / "circuit.svg").read_text()
        with pytest.raises(ValueError, match="Received: part='attention'"):
            model.draw_circuit(part="attention")
