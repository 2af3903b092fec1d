"""The Inception network from the user's files, tried with a small SavedModel of the same form.

The small network's outputs are means and rows of the pixels that reach it, so that NumPy can say
what they must be.
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from support.gans import small_gan

from qrkt_keras.training import GANRecipe, InceptionError, InceptionFeatures, fit_gan, inception

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 12, 9, 3), dtype=np.uint8)
PIXELS = tf.TensorSpec((None, 299, 299, 3), tf.float32)


class Network(tf.Module):
    """Of the published network's form: float images in, a dictionary of two tensors out."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[PIXELS])
    def __call__(self, images):
        return self.outputs(images)

    def outputs(self, images):
        num = tf.shape(images)[0]
        columns = tf.reshape(tf.reduce_mean(images, axis=1), (num, 897))
        rows = tf.reshape(tf.reduce_mean(images, axis=2), (num, 897))
        line = tf.reshape(images[:, 150], (num, 897))
        return {
            "pool_3": self.factor * tf.concat([columns, rows, tf.zeros((num, 254))], axis=1),
            "logits": self.factor * tf.concat([line, tf.zeros((num, 111))], axis=1),
        }


class Uncallable(tf.Module):
    """The same without `__call__`, for signatures."""

    def __init__(self):
        super().__init__()
        self.network = Network()

    @tf.function(input_signature=[PIXELS])
    def run(self, images):
        return self.network.outputs(images)


def saved(folder, function):
    """Saves a callable SavedModel that computes `function` of its pixels."""
    module = tf.Module()
    module.__call__ = tf.function(function, input_signature=[PIXELS])
    tf.saved_model.save(module, str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("network")
    tf.saved_model.save(Network(), str(path))
    return path


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.delenv("QRKT_INCEPTION", raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "empty"))


def resized_axis(images, axis):
    """Bilinear, output pixel `i` at `i * old / 299` of the old picture, as in TensorFlow 1."""
    old = images.shape[axis]
    at = np.arange(299) * (old / 299)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, old - 1)
    shape = [1] * images.ndim
    shape[axis] = 299
    part = (at - low).reshape(shape)
    return np.take(images, low, axis) * (1 - part) + np.take(images, high, axis) * part


def expected(images, factor=2.0):
    images = np.broadcast_to(images, (*images.shape[:3], 3)).astype(np.float64)
    pixels = (resized_axis(resized_axis(images, 1), 2) - 128) / 128
    num = len(images)
    return (
        factor
        * np.concatenate(
            [
                pixels.mean(1).reshape(num, -1),
                pixels.mean(2).reshape(num, -1),
                np.zeros((num, 254)),
            ],
            1,
        ),
        factor * np.concatenate([pixels[:, 150].reshape(num, -1), np.zeros((num, 111))], 1),
    )


def check(network, images=IMAGES):
    features, logits = network.features(images)
    assert features.shape == (len(images), 2048) and logits.shape == (len(images), 1008)
    assert features.dtype == logits.dtype == np.float32
    for got, wanted in zip((features, logits), expected(images), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_explicit_path(folder, monkeypatch):
    monkeypatch.setenv("QRKT_INCEPTION", "/nowhere")
    network = InceptionFeatures(folder)
    check(network)
    assert network.path == folder
    assert network.name == "Inception (tfgan/eval/inception/1)"
    check(InceptionFeatures(str(folder)))


def test_environment_variable(folder, monkeypatch):
    monkeypatch.setenv("QRKT_INCEPTION", str(folder))
    check(InceptionFeatures())


@pytest.mark.parametrize("variable", [True, False])
def test_tensorflow_hubs_cache(variable, monkeypatch, tmp_path):
    hub = pytest.importorskip("tensorflow_hub")
    from tensorflow_hub import compressed_module_resolver

    if variable:
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    else:
        monkeypatch.delenv("TFHUB_CACHE_DIR")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = compressed_module_resolver._module_dir(inception.HANDLE)
    assert [str(path) for _, path in inception.places(None)] == ["None", "None", place]
    tf.saved_model.save(Network(), place)
    network = InceptionFeatures()
    assert str(network.path) == place == hub.resolve(inception.HANDLE)
    check(network)

    # The published way, with all that TensorFlow Hub does between the handle and the network.
    pixels = tf.compat.v1.image.resize(IMAGES.astype("float32"), (299, 299))
    outputs = hub.load(inception.HANDLE)((pixels - 128.0) / 128.0)
    features, logits = network.features(IMAGES)
    np.testing.assert_allclose(features, outputs["pool_3"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(logits, outputs["logits"], rtol=0, atol=1e-6)


def test_tensorflow_hub_is_not_needed(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(ImportError):
        import tensorflow_hub  # noqa: F401
    check(InceptionFeatures(folder))


def test_preprocessing_is_tensorflow_1s(folder):
    # TF-GAN's formula by TensorFlow's own function; its successor moves the picture.
    network = InceptionFeatures(folder)
    _, logits = network.features(IMAGES)
    line = logits[:, :897].reshape(-1, 299, 3) / 2

    def of(resize):
        return (resize(IMAGES.astype("float32"), (299, 299))[:, 150] - 128.0) / 128.0

    np.testing.assert_allclose(line, of(tf.compat.v1.image.resize), rtol=0, atol=1e-6)
    assert np.abs(line - of(tf.image.resize)).max() > 0.1


def test_images_of_the_networks_size_are_only_scaled(folder):
    images = RNG.integers(0, 256, (1, 299, 299, 3), dtype=np.uint8)
    _, logits = InceptionFeatures(folder).features(images)
    np.testing.assert_array_equal(
        logits[0, :897], 2 * (images[0, 150].reshape(-1).astype(np.float32) - 128) / 128
    )


def test_grey_images(folder):
    network = InceptionFeatures(folder)
    grey = IMAGES[..., :1]
    check(network, grey)
    for one, three in zip(
        network.features(grey), network.features(np.repeat(grey, 3, axis=-1)), strict=True
    ):
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_do_not_matter(folder, batch_size):
    whole = InceptionFeatures(folder).features(IMAGES)
    for got, wanted in zip(
        InceptionFeatures(folder, batch_size=batch_size).features(IMAGES), whole, strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


def test_batches_have_the_given_size(tmp_path):
    # Each image's number is how many went through the network with it.
    def count(images):
        num = tf.shape(images)[0]
        own = tf.fill((num, 1), tf.cast(num, tf.float32))
        return {"pool_3": tf.tile(own, (1, 2048)), "logits": tf.tile(own, (1, 1008))}

    features, logits = InceptionFeatures(saved(tmp_path, count), batch_size=3).features(IMAGES)
    assert features[:, 0].tolist() == logits[:, 0].tolist() == [3, 3, 3, 3, 3, 3, 1]


@pytest.mark.parametrize("name", ["serving_default", "default"])
def test_signatures(tmp_path, name):
    module = Uncallable()
    tf.saved_model.save(module, str(tmp_path), signatures={name: module.run})
    assert not callable(tf.saved_model.load(str(tmp_path)))
    check(InceptionFeatures(tmp_path))


def test_pooled_features_with_one_pixel(tmp_path):
    def pooled(images):
        num = tf.shape(images)[0]
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)[..., :1]
        return {"pool_3": tf.tile(mean, (1, 1, 1, 2048)), "logits": tf.zeros((num, 1008))}

    features, _ = InceptionFeatures(saved(tmp_path, pooled)).features(IMAGES)
    assert features.shape == (7, 2048)


@pytest.mark.parametrize(
    ("function", "received"),
    [
        (
            lambda x: {"logits": tf.zeros((tf.shape(x)[0], 1008))},
            r"Received: outputs {'logits': \(1, 1008\)} for one image",
        ),
        (
            lambda x: {
                "pool_3": tf.zeros((tf.shape(x)[0], 2048)),
                "logits": tf.zeros((tf.shape(x)[0], 1000)),
            },
            r"Received: outputs {.*'logits': \(1, 1000\).*}",
        ),
        (
            lambda x: {"pool_3": tf.zeros(2048), "logits": tf.zeros(1008)},
            r"Received: outputs {.*'pool_3': \(2048,\).*}",
        ),
        (lambda x: tf.zeros((tf.shape(x)[0], 2048)), "Received: outputs EagerTensor"),
    ],
)
def test_other_outputs_are_refused(tmp_path, function, received):
    with pytest.raises(InceptionError, match=received) as caught:
        InceptionFeatures(saved(tmp_path, function))
    assert "'pool_3' (n, 2048) and 'logits' (n, 1008)" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_other_inputs_are_refused(tmp_path):
    class Small(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 224, 224, 3), tf.float32)])
        def __call__(self, images):
            return {"pool_3": images, "logits": images}

    tf.saved_model.save(Small(), str(tmp_path))
    with pytest.raises(InceptionError, match=r"float32 images \(n, 299, 299, 3\)(.|\n)*Received: "):
        InceptionFeatures(tmp_path)


def test_a_model_without_function_is_refused(tmp_path):
    module = Uncallable()
    tf.saved_model.save(module, str(tmp_path), signatures={"train": module.run})
    with pytest.raises(InceptionError, match=r"callable.*Received: signatures \['train'\]"):
        InceptionFeatures(tmp_path)


def test_damaged_files(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"not a SavedModel")
    with pytest.raises(InceptionError, match="cannot be read(.|\n)*Received: ") as caught:
        InceptionFeatures(tmp_path)
    assert str(caught.value).endswith(str(tmp_path))


def test_not_found_anywhere(tmp_path):
    with pytest.raises(InceptionError) as caught:
        InceptionFeatures()
    message = str(caught.value)
    lines = message.splitlines()
    assert lines[1:3] == ["  path: not set", "  QRKT_INCEPTION: not set"]
    folder = inception.places(None)[-1][1]
    assert folder.parent == tmp_path / "empty"
    assert lines[3] == f"  TensorFlow Hub's cache (TFHUB_CACHE_DIR): {folder} (no such folder)"
    assert "give path or QRKT_INCEPTION the folder of its SavedModel" in message
    assert inception.HANDLE in message
    assert lines[-1] == "Received: path=None"
    assert isinstance(caught.value, ValueError)


def test_a_named_folder_is_not_replaced_by_another(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("QRKT_INCEPTION", str(folder))
    with pytest.raises(InceptionError) as caught:
        InceptionFeatures(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  path: {tmp_path} (no saved_model.pb in it)"
    assert lines[2] == f"  QRKT_INCEPTION: {folder} (left out, as path is set)"
    assert lines[3].endswith("(left out, as path is set)")
    assert lines[-1] == f"Received: path={str(tmp_path)!r}"


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype("float32"),
        IMAGES[0],
        IMAGES[..., :2],
        IMAGES[:0],
    ],
)
def test_other_images_are_refused(folder, images):
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, height.*Received: shape \("):
        InceptionFeatures(folder).features(images)


def test_batch_size_is_checked(folder):
    with pytest.raises(ValueError, match="batch_size.*Received: batch_size=0"):
        InceptionFeatures(folder, batch_size=0)


# Slow: FID of 2048 features takes TF-GAN a quarter of a minute and more.
@pytest.mark.slow
def test_a_gan_is_measured_with_it(folder, tmp_path):
    model = small_gan(quantum=False)
    result = fit_gan(
        model,
        RNG.integers(0, 256, (8, 8, 8, 1), dtype=np.uint8),
        GANRecipe(epochs=1, batch_size=4, num_critic_steps=1, warmup_steps=1),
        output_dir=tmp_path / "run",
        feature_network=InceptionFeatures(folder),
        num_scored=8,
        num_measured=8,
        jit_compile=False,
        progress=False,
    )
    assert result.to_scores()["fid"] > 0
    assert {"kid", "inception_score"} <= result.to_scores().keys()
