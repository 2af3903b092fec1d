"""One loop over all models and presets: what every one of them must be able to do.

Every element of every weight must get a gradient, but for those that provably cannot. The proofs
are in `without_gradient`, and the test fails as well when one of those gets a gradient.
"""

from __future__ import annotations

import gc
import itertools

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from support import tfds

from qrkt_keras import data, serving, solvers, zoo
from qrkt_keras.training import frechet_distance
from qrkt_keras.training.train_gan import compile_arguments

SMALL = {
    "image_shape": (4, 4, 1),
    "num_classes": 3,
    "patch_size": 2,
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 3,
    "num_encoder_blocks": 1,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 1,
    "solver": "rk2",
    "dropout": 0.0,
}


def configurations():
    """Every value of every option, and every pair of those that meet in one block."""
    for quantum in (True, False):
        for solver in solvers.list():
            yield {"quantum": quantum, "solver": solver}
        for residual, share_weights, solver in itertools.product(
            ("identity", "normalized"), (False, True), ("rk2", "rk4_enhanced")
        ):
            yield {
                "quantum": quantum,
                "residual": residual,
                "share_weights": share_weights,
                "solver": solver,
                "num_encoder_blocks": 0,
            }
        for variant, num_decoder_blocks in itertools.product(("corrected", "thesis"), (1, 2)):
            yield {
                "quantum": quantum,
                "variant": variant,
                "num_decoder_blocks": num_decoder_blocks,
                "num_ode_blocks": 0,
            }
        for blocks in itertools.product((0, 1), repeat=3):
            names = ("num_encoder_blocks", "num_ode_blocks", "num_decoder_blocks")
            yield {"quantum": quantum, **dict(zip(names, blocks, strict=True))}
    for template, layers in (
        ("rx_ring", 1),
        ("rx_ring", 2),
        ("hardware_efficient", 1),
        ("hardware_efficient", 3),
    ):
        for hidden_dim, mlp_dim in ((4, 3), (3, 1), (3, 2)):
            yield {
                "template": template,
                "num_ansatz_layers": layers,
                "hidden_dim": hidden_dim,
                "num_heads": 1,
                "mlp_dim": mlp_dim,
            }


def without_gradient(model, weight) -> np.ndarray | bool:
    """Which elements of a weight provably have no gradient: a mask, or False for none."""
    path = weight.path
    if not model.quantum and path.endswith("query_key_value/dense/bias"):
        # The classical twin's key bias b adds q.b to all scores of one query, for every key the
        # same, and softmax(s + constant) = softmax(s).
        return np.repeat([False, True, False], model.hidden_dim)
    return False


def gradients(model, seed: int):
    """The gradient of every weight for random images and labels, in float64."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(size=(6, *model.image_shape))
    labels = rng.integers(0, model.num_classes, 6)
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
            labels, model(images, training=True)
        )
    return [
        np.zeros(weight.shape) if gradient is None else np.asarray(gradient)
        for weight, gradient in zip(
            model.trainable_weights,
            tape.gradient(loss, [weight.value for weight in model.trainable_weights]),
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    "changes",
    configurations(),
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)
def test_every_weight_element_gets_a_gradient(changes):
    model = zoo.QViT(**{**SMALL, **changes}, dtype="float64")
    rng = np.random.default_rng(11)
    # Away from the initial values, some of which (biases of 0) are special.
    model.set_weights([w + rng.normal(0, 0.3, size=w.shape) for w in model.get_weights()])
    seen = [np.zeros(weight.shape) for weight in model.trainable_weights]
    for seed in range(2):
        for total, gradient in zip(seen, gradients(model, seed), strict=True):
            np.maximum(total, np.abs(gradient), out=total)
    largest = max(size.max() for size in seen)
    for weight, size in zip(model.trainable_weights, seen, strict=True):
        expected = np.broadcast_to(without_gradient(model, weight), size.shape)
        # Rounding leaves 1e-17 of a zero; the least of the others was 2e-9.
        zero = size < 1e-13 * largest
        np.testing.assert_array_equal(zero, expected, err_msg=f"{weight.path}: {size}")


@pytest.fixture(autouse=True)
def forget():
    """Keras keeps the graphs of the models that it has traced: of all presets 22 GB."""
    yield
    keras.backend.clear_session()
    gc.collect()


CLASSES = {name: zoo.read_preset(name).class_name for name in zoo.list_presets()}

# Tracing a model takes up to half a minute, and minutes in the sources' sizes: these stand for all.
QUICK = {
    *("qvit_rk1_mnist", "qvit_rk4_digits", "qtext_rk1_imdb"),
    *("patch_qnn_p4_d50_mnist", "qrkt_gan_digits", "qrkt_gan_mnist", "trans_gan_digits"),
}


def presets_of(wanted):
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, class_name in CLASSES.items()
        if class_name == wanted
    ]


@pytest.mark.parametrize("name", presets_of("QText"))
def test_every_preset_of_texts_does_the_whole_job(name, tmp_path):
    """Forward, a step of training, a `.keras` file, a preset folder, a SavedModel."""
    model = zoo.from_preset(name, load_weights=False)
    texts = ["a good film", "a film that is not so good", "bad", ""]
    model.adapt(texts)
    before = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    history = model.fit(model.vectorize(texts), np.array([1, 1, 0, 0]), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    logits = np.asarray(model(model.vectorize(texts)))
    assert logits.shape == (4, 2) and np.isfinite(logits).all()

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(again.vectorize(texts)), logits)
    again = zoo.from_preset(model.save_to_preset(tmp_path / "preset"))
    np.testing.assert_array_equal(again(again.vectorize(texts)), logits)

    model.export(tmp_path / "served")
    assert serving.foreign_ops(tmp_path / "served") == ()
    served = serving.load_saved_model(tmp_path / "served").signatures["serving_default"]
    answer = served(texts=tf.constant(texts))
    np.testing.assert_allclose(answer["probabilities"], keras.ops.softmax(logits), atol=1e-5)


@pytest.mark.parametrize("name", [*presets_of("QViT"), *presets_of("PatchQNN")])
def test_every_preset_does_the_whole_job(name, tmp_path):
    """Forward, a step of training, a `.keras` file, a preset folder, a SavedModel."""
    model = zoo.from_preset(name, load_weights=False)
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (4, *model.image_shape)).astype("uint8")
    labels = np.arange(4) % model.num_classes
    before = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    history = model.fit(images, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    logits = np.asarray(model(images))
    assert logits.shape == (4, model.num_classes) and np.isfinite(logits).all()

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images), logits)
    again = zoo.from_preset(model.save_to_preset(tmp_path / "preset"))
    np.testing.assert_array_equal(again(images), logits)

    model.export(tmp_path / "served")
    assert serving.foreign_ops(tmp_path / "served") == ()
    served = serving.load_saved_model(tmp_path / "served").signatures
    expected = keras.ops.softmax(logits)
    # What is multiplied by a scale is off by as much more.
    accuracy = 1e-6 * getattr(model, "scale", 1)
    for key, inputs in (("serving_uint8", images), ("serving_default", images / 255)):
        dtype = tf.uint8 if key == "serving_uint8" else tf.float32
        answer = served[key](images=tf.constant(inputs, dtype))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=accuracy)


@pytest.mark.parametrize("name", [*presets_of("QRKTGAN"), *presets_of("TransGAN")])
def test_every_gan_does_the_whole_job(name, tmp_path):
    """A step of training, images, a preset folder, a SavedModel."""
    model = zoo.from_preset(name, load_weights=False)
    images = np.random.default_rng(5).integers(0, 256, (8, *model.image_shape), dtype=np.uint8)
    recipe = zoo.read_preset(name).recipe
    model.compile(**compile_arguments(recipe), run_eagerly=True)
    before = model.get_weights()
    history = model.fit(images, verbose=0).history
    assert np.isfinite(history["generator_loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    made = model.generate(4, seed=2)
    again = zoo.from_preset(model.save_to_preset(tmp_path / "preset"))
    np.testing.assert_array_equal(again.generate(4, seed=2), made)
    model.export(tmp_path / "served")
    assert serving.foreign_ops(tmp_path / "served") == ()
    served = serving.load_saved_model(tmp_path / "served").signatures["generate"]
    answer = served(num=tf.constant(4), seed=tf.constant(2))["images"]
    # Compiled as a whole, a pixel may round the other way.
    assert np.abs(answer.numpy().astype(int) - made).max() <= 1


def test_a_feature_network_does_its_job(tmp_path):
    network = zoo.from_preset("features_digits")
    images, labels = data.arrays("digits", "test")
    features, logits = network.features(images, batch_size=100)
    assert features.shape == (360, network.widths[-1])
    scores = zoo.read_preset("features_digits").metadata["scores"]["test"]
    assert (logits.argmax(axis=1) == labels).mean() == pytest.approx(scores["accuracy"], abs=0.003)
    np.testing.assert_allclose(np.asarray(network(images[:5])), logits[:5], atol=1e-4)
    again = zoo.from_preset(network.save_to_preset(tmp_path / "preset"))
    np.testing.assert_array_equal(again.features(images[:9])[0], features[:9])


# Name to the factor of the blurs' widths, and the FID of all test images against the first 10,000
# training images, as measured when the network was trained.
REAL = {"digits": (1, 0.173), "mnist": (3, 0.0290), "cifar10": (2, 0.0348)}


# Tens of thousands of images take a minute.
@pytest.mark.parametrize(
    "name",
    ["digits", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mnist", "cifar10"))],
)
def test_fid_grows_with_what_is_wrong(name):
    """Real test images against real ones, then with ever more noise, blur, and classes left out."""
    scale, known = REAL[name]
    network = zoo.from_preset(f"features_{name}")
    try:
        real = network.features(data.arrays(name, "train", data_dir=tfds.folder())[0][:10_000])[0]
    except data.DatasetNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    images, labels = data.arrays(name, "test", data_dir=tfds.folder())
    rng = np.random.default_rng(0)

    def distance(changed):
        return frechet_distance(real, network.features(changed)[0])

    def noisy(deviation):
        noise = rng.normal(0, deviation, images.shape)
        return np.clip(images + noise, 0, 255).astype(np.uint8)

    def blurred(sigma):
        return scipy.ndimage.gaussian_filter(images, (0, scale * sigma, scale * sigma, 0))

    assert distance(images) == pytest.approx(known, rel=0.05)
    images, labels = images[:2000], labels[:2000]
    clean = distance(images)
    for changes in (
        [noisy(20), noisy(40), noisy(80)],
        [blurred(0.4), blurred(0.7), blurred(1.2)],
        [images[labels < most] for most in (9, 6, 3)],
    ):
        values = [clean, *map(distance, changes)]
        assert values == sorted(values)
        assert values[-1] > 5 * clean


def test_every_class_has_a_preset():
    assert set(CLASSES.values()) == set(zoo.model_classes())
