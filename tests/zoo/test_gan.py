"""The GANs: their sizes, their steps, and what they make."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.gans import small_gan
from support.tensorflow_only import run_with_tensorflow_only

from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC, DiffAugment
from qrkt_keras.serving import foreign_ops
from qrkt_keras.training import GANLoss
from qrkt_keras.zoo import GAN, QRKTGAN, TransGAN, from_preset
from qrkt_keras.zoo.gan.gan import latent_noise

OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)


def small(**changes):
    return small_gan(**{"widths": (16, 4), "depths": (1, 1), **changes})


def small_trans_gan(**changes):
    arguments = {
        "image_shape": (8, 8, 1),
        "latent_dim": 6,
        "widths": (16, 4),
        "depths": (1, 1),
        "num_heads": 2,
        "discriminator_widths": (6, 2),
        "discriminator_depths": (1, 1, 1),
    }
    return TransGAN(**{**arguments, **changes})


def plain_gan(classes="classes"):
    """Of one's own networks, with three classes."""

    def features_of(inputs, size, name):
        labels = keras.Input((), dtype="int32")
        embedded = keras.layers.Embedding(3, size, name=name)(labels)
        return [inputs, labels], keras.layers.Flatten()(inputs) + embedded

    inputs, features = features_of(keras.Input((6,)), 6, classes)
    images = keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(features))
    generator = keras.Model(inputs, images)
    inputs, features = features_of(keras.Input((8, 8, 1)), 64, "of_any_name")
    return GAN(generator, keras.Model(inputs, keras.layers.Dense(1)(features)))


def compiled(gan, **settings):
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), **settings)
    return gan


def sizes(gan):
    return gan.generator.count_params(), gan.discriminator.count_params()


# --- sizes -------------------------------------------------------------------------------

PUBLISHED = {
    "classical twin": (QRKTGAN, {"quantum": False}, (34_584_075, 12_458_497)),
    "quantum": (QRKTGAN, {}, (26_839_203, 2_139_265)),
    "quantum, wide": (QRKTGAN, {"mlp_ratio": 4}, (31_501_491, 8_348_545)),
    "TransGAN of the same size": (
        QRKTGAN,
        {"quantum": False, "solver": None, "depths": (5, 4, 2)},
        (34_591_275, 12_458_497),
    ),
    "TransGAN": (TransGAN, {}, (83_312_495, 10_210_400)),
}
ANGLES = {"quantum": (11_640, 13_440), "quantum, wide": (18_624, 21_504)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    gan_class, arguments, expected = PUBLISHED[name]
    gan = gan_class(**arguments)
    assert sizes(gan) == expected
    if name in ANGLES:
        assert gan.num_quantum_params == sum(ANGLES[name])
        assert max(layer.spec.num_qubits for layer in gan.pqcs) == 384 * arguments.get(
            "mlp_ratio", 1
        )


def test_the_last_stages_may_have_no_blocks():
    gan = small(depths=(1, 0), dropout=0.0)
    blocks = [layer.name for layer in gan.generator.layers if "_1" in layer.name]
    assert "ode_1_1" in blocks and not any(name.startswith("block") for name in blocks)
    assert gan.generate(2).shape == (2, 8, 8, 1)


def test_circuits_in_one_network_only():
    quantum, twin = sizes(small()), sizes(small(quantum=False))
    mixed = small(quantum_discriminator=False)
    assert sizes(mixed) == (quantum[0], twin[1])
    assert sizes(small(quantum=False, quantum_discriminator=True)) == (twin[0], quantum[1])
    assert not any("discriminator" in layer.path for layer in mixed.pqcs)
    assert sizes(QRKTGAN.from_config(mixed.get_config())) == sizes(mixed)


def test_a_trainable_encoding_lets_a_circuit_see_every_feature():
    """With `ry_ring` a query is a function of one feature, unless Dense layers mix them first."""
    features = np.random.default_rng(0).normal(size=(1, 16)).astype("float32")

    def features_seen(gan):
        projection = gan.generator.get_layer("block_1_1").attention.input_projection
        with tf.GradientTape() as tape:
            x = tf.constant(features)
            tape.watch(x)
            query = projection(x)[:, 0, 5]
        return np.count_nonzero(tape.gradient(query, x))

    plain, encoded = small(), small(trainable_encoding=True)
    assert (features_seen(plain), features_seen(encoded)) == (1, 16)
    # A kernel for each of the four circuits of each of the blocks.
    kernels = [4 * 16**2 + 4 * 4**2, 4 * 8**2]
    assert np.subtract(sizes(encoded), sizes(plain)).tolist() == kernels
    assert sizes(QRKTGAN.from_config(encoded.get_config())) == sizes(encoded)
    assert sizes(small(quantum=False, trainable_encoding=True)) == sizes(small(quantum=False))


def test_the_scale_of_attention():
    noise = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    thesis, same, sharper = (
        small(dropout=0.0, widths=(16,), depths=(1,), image_shape=(4, 4, 1), patch_size=2, **scale)
        for scale in ({}, {"attention_scale": 16**-0.5}, {"attention_scale": 1.0})
    )
    for gan in (same, sharper):
        gan.set_weights(thesis.get_weights())
    images = thesis.generator(noise)
    np.testing.assert_allclose(same.generator(noise), images, atol=1e-6)
    assert np.abs(sharper.generator(noise) - images).max() > 1e-3
    assert sharper.get_config()["attention_scale"] == 1.0
    with pytest.raises(ValueError, match="Received: attention_scale=0$"):
        small(attention_scale=0)


def test_frozen_circuits_are_not_trained():
    gan = small(trainable_circuits=False, solver="rk1")
    assert gan.pqcs and not any(layer.trainable_variables for layer in gan.pqcs)
    before = [layer.get_weights()[0] for layer in gan.pqcs]
    compiled(gan, jit_compile=False).fit(IMAGES, np.zeros(32), batch_size=16, epochs=1, verbose=0)
    for layer, angles in zip(gan.pqcs, before, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], angles)
    again = QRKTGAN.from_config(gan.get_config())
    assert not any(layer.trainable for layer in again.pqcs)


# --- what it makes -----------------------------------------------------------------------


def test_generate_is_a_function_of_the_seed():
    gan = small()
    images = gan.generate(5, seed=3)
    assert images.shape == (5, 8, 8, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, gan.generate(5, seed=3, batch_size=2))
    assert not np.array_equal(images, gan.generate(5, seed=4))


def test_many_images_are_those_of_few():
    """Of many the batches are compiled; not so that weights or an engine are kept."""
    gan = small_gan(solver="rk1")
    for engine in ("auto", "state_vector"):
        gan.set_engine(engine)
        few = gan.generate(20, seed=3, batch_size=4)
        many = gan.generate(20, seed=3, batch_size=2)
        np.testing.assert_allclose(many.astype(int), few, atol=1)
        weights = [weight + 0.01 for weight in gan.ema_generator.get_weights()]
        gan.ema_generator.set_weights(weights)
        moved = gan.generate(20, seed=3, batch_size=2)
        assert not np.array_equal(moved, many)
        few = gan.generate(20, seed=3, batch_size=4)
        np.testing.assert_allclose(moved.astype(int), few, atol=1)


def test_truncated_noise_is_normal_and_cut_off():
    free = latent_noise(20_000, 1, 0).numpy()
    # Standard errors: 0.007 of the mean, 0.005 of the deviation.
    assert abs(free.mean()) < 0.03
    assert abs(free.std() - 1) < 0.02
    cut = latent_noise(20_000, 1, 0, 0.5).numpy()
    assert np.abs(cut).max() <= 0.5
    from scipy import stats

    assert stats.kstest(cut.ravel(), stats.truncnorm(-0.5, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "name, value",
    [
        ("num", 0),
        ("truncation", -1.0),
        ("batch_size", 0),
        *(("seed", seed) for seed in (None, 1.5, True, -1, 2**31)),
    ],
)
def test_generate_refuses(name, value):
    gan = plain_gan()
    with pytest.raises(ValueError, match=rf"Received: {name}={value!r}$"):
        gan.generate(**{"num": 2, name: value})


def test_weights_that_are_no_numbers_make_no_images():
    gan = plain_gan()
    gan.ema_generator.set_weights([w * np.nan for w in gan.ema_generator.get_weights()])
    with pytest.raises(FloatingPointError, match=r"Received: NaN or infinite pixels of seed=3$"):
        gan.generate(2, seed=3)


def test_classes():
    gan = small(num_classes=3)
    images = gan.generate(6, seed=1, labels=[0, 0, 1, 1, 2, 2])
    assert images.shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(gan.generate(6, seed=1), gan.generate(6, 1, labels=[0, 1, 2] * 2))
    assert not np.array_equal(gan.generate(2, 1, labels=[0, 0]), gan.generate(2, 1, labels=[1, 1]))
    with pytest.raises(ValueError, match=r"`labels` must be 2 integers from 0 to 2\. Received: "):
        gan.generate(2, labels=[0, 3])
    for labels in ([0], [[0, 1]], [0.0, 1.0], [0, -1]):
        with pytest.raises(ValueError, match=r"Received: labels=\["):
            gan.generate(2, labels=labels)
    with pytest.raises(ValueError, match=r"This GAN has no classes\. Received: labels=\[0, 1\]$"):
        small().generate(2, labels=[0, 1])


@pytest.mark.parametrize("make", [small, small_trans_gan, plain_gan])
def test_a_gan_with_classes_from_training_to_serving(make, tmp_path):
    gan = make() if make is plain_gan else make(num_classes=3)
    labels = np.arange(32) % 3
    compiled(gan, num_critic_steps=2).fit(IMAGES, labels, batch_size=16, verbose=0)
    assert gan.num_classes == 3
    images = gan.generate(5, seed=4)
    gan.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["generate"]
    answer = served(num=tf.constant(5), seed=tf.constant(4))["images"]
    # A pixel may be rounded to the other side.
    np.testing.assert_allclose(answer.numpy().astype(int), images, atol=1)
    gan.save(tmp_path / "gan.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "gan.keras").generate(5, seed=4), images
    )
    if make is not plain_gan:
        again = from_preset(gan.save_to_preset(tmp_path / "preset"))
        np.testing.assert_array_equal(again.generate(5, seed=4), images)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_labels_that_do_not_fit_are_not_trained_on(run_eagerly):
    gan = compiled(plain_gan(), gradient_penalty_weight=0.0, run_eagerly=run_eagerly)
    before = gan.generator.get_weights() + gan.discriminator.get_weights()
    with pytest.raises(ValueError, match=r"Received: labels=None$"):
        gan.fit(IMAGES, batch_size=16, verbose=0)
    with pytest.raises(ValueError, match=r"Received: labels of shape \(\d+, 3\)$"):
        gan.fit(IMAGES, np.eye(3)[np.arange(32) % 3], batch_size=16, verbose=0)
    for label in (-1, 3):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"integers from 0 to 2"):
            gan.fit(IMAGES, np.full(32, label), batch_size=16, verbose=0)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"integers from 0 to 2"):
            gan.train_on_batch(IMAGES, np.full(32, label))
    after = gan.generator.get_weights() + gan.discriminator.get_weights()
    for weight, old in zip(after, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_generator_must_tell_its_classes():
    with pytest.raises(ValueError, match=r"Embedding called 'classes'.*Received: .*'kinds'"):
        plain_gan(classes="kinds")


def test_networks_that_do_not_fit_are_refused():
    generator, discriminator = small().generator, small(image_shape=(16, 16, 1)).discriminator
    with pytest.raises(
        ValueError, match=r"Received: images of shape \(8, 8, 1\) for .*\(16, 16, 1"
    ):
        GAN(generator, discriminator)
    with pytest.raises(ValueError, match=r"Received: 1 and 2 inputs$"):
        GAN(generator, small(num_classes=3).discriminator)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"widths": (16, 8)}, r"a quarter of the one before\. Received: widths=\(16, 8\)"),
        ({"depths": (1,)}, r"one depth a width\. Received: "),
        ({"depths": (0, 0)}, r"must be positive\. Received: depths=\(0, 0\)"),
        ({"depths": (1, -1)}, r"at least 0\. Received: depths=\(1, -1\)"),
        ({"depths": (True, 1)}, r"at least 0\. Received: depths=\(True, 1\)"),
        ({"widths": (0, 0)}, r"Received: widths=0$"),
        ({"widths": (16.0, 4.0)}, r"Received: widths=16.0$"),
        ({"num_classes": 0}, r"Received: num_classes=0$"),
        ({"discriminator_width": 0}, r"Received: discriminator_width=0$"),
        ({"image_shape": (8, 6, 1)}, r"a square\. Received: image_shape=\(8, 6, 1\)"),
        ({"image_shape": (9, 9, 1)}, r"divisible by 2\. Received: image_shape=\(9, 9, 1\)"),
        ({"num_heads": 3}, r"Received: num_heads=3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"discriminator_widths": (6,)}, r"Received: discriminator_widths=\(6,\), "),
        ({"discriminator_depths": (1, 1)}, r"discriminator_depths=\(1, 1\)$"),
        ({"discriminator_widths": (6, 0)}, r"Received: discriminator_widths=0$"),
        ({"discriminator_depths": (1, 1, -1)}, r"Received: discriminator_depths=\(1, 1, -1\)$"),
        ({"num_classes": 1.5}, r"Received: num_classes=1.5$"),
    ],
)
def test_sizes_of_trans_gan_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_trans_gan(**changes)


def test_a_stage_without_blocks_has_no_circuit_to_check():
    arguments = {"template": templates.get("ry_ring", 16), "discriminator_width": 16}
    gan = small(widths=(64, 16), depths=(0, 1), **arguments)
    assert {layer.spec.num_inputs for layer in gan.pqcs} == {16}
    with pytest.raises(ValueError, match="must take 64 inputs"):
        small(widths=(64, 16), depths=(1, 1), **arguments)


# --- training ----------------------------------------------------------------------------


# XLA takes minutes over more stages and updates.
@pytest.mark.parametrize(
    "changes, num_critic_steps, jit_compile",
    [({}, 4, False), ({"solver": "rk1"}, 2, True), ({"quantum": False}, 4, False)],
)
def test_a_step_updates_each_network_as_often_as_asked(changes, num_critic_steps, jit_compile):
    gan = small(**changes)
    settings = {"drift": 1e-3, "augment": DiffAugment(seed=0), "flip": True}
    compiled(gan, num_critic_steps=num_critic_steps, jit_compile=jit_compile, **settings)
    before = [weight.numpy() for weight in gan.generator.trainable_weights]
    before += [weight.numpy() for weight in gan.discriminator.trainable_weights]
    history = gan.fit(IMAGES, batch_size=16, epochs=1, verbose=0).history
    assert int(gan.generator_optimizer.iterations) == 2
    assert int(gan.discriminator_optimizer.iterations) == 2 * num_critic_steps
    assert float(gan.images_seen) == 32
    after = [*gan.generator.trainable_weights, *gan.discriminator.trainable_weights]
    still = [w.path for w, old in zip(after, before, strict=True) if np.array_equal(w.numpy(), old)]
    assert not still
    names = {"generator_loss", "discriminator_loss", "penalty", "diversity"}
    assert names < set(history)
    assert all(np.isfinite(values).all() for values in history.values())


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "hinge", "least_squares"])
def test_every_loss_trains(name):
    gan = compiled(small(quantum=False), loss=name, gradient_penalty_weight=0.0)
    history = gan.fit(IMAGES, batch_size=32, epochs=1, verbose=0).history
    assert "penalty" not in history
    assert np.isfinite(history["generator_loss"]).all()


def test_the_step_is_the_formula():
    """One update of the discriminator, against the loss written out, with plain gradients."""
    gan = small(quantum=False)
    gan.compile(
        keras.optimizers.SGD(0.0),
        keras.optimizers.SGD(0.1),
        gradient_penalty_weight=5.0,
        gradient_penalty_target=0.5,
    )
    real = tf.constant(IMAGES[:4], tf.float32) / 127.5 - 1
    state = gan.seed_generator.state.numpy()
    weights = [tf.Variable(weight.numpy()) for weight in gan.discriminator.trainable_weights]
    gan._update_discriminator(real, None)
    after = [weight.numpy() for weight in gan.discriminator.trainable_weights]

    for weight, old in zip(gan.discriminator.trainable_weights, weights, strict=True):
        weight.assign(old)
    gan.seed_generator.state.assign(state)
    fake = gan._fakes(4, None, training=True)
    share = keras.random.uniform((4, 1, 1, 1), seed=gan.seed_generator)
    with tf.GradientTape() as outer:
        mixed = share * real + (1 - share) * fake
        with tf.GradientTape() as inner:
            inner.watch(mixed)
            logits = gan.discriminator(mixed, training=True)
        norms = tf.norm(tf.reshape(inner.gradient(logits, mixed), (4, -1)), axis=1)
        loss = tf.reduce_mean(gan.discriminator(fake)) - tf.reduce_mean(gan.discriminator(real))
        loss += 5.0 / 0.5**2 * tf.reduce_mean((norms - 0.5) ** 2)
    gradients = outer.gradient(loss, [w.value for w in gan.discriminator.trainable_weights])
    for new, old, gradient in zip(after, weights, gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, atol=1e-5)


def test_the_average_follows_its_formula():
    gan = compiled(small(quantum=False), ema_images=20.0, gradient_penalty_weight=0.0)
    average = [weight.numpy().astype("float64") for weight in gan.ema_generator.weights]
    for step in range(1, 3):
        gan.train_on_batch(IMAGES[:16])
        beta = 0.5 ** (16 / min(20.0, 0.1 * 16 * step))
        current = [weight.numpy() for weight in gan.generator.weights]
        average = [beta * a + (1 - beta) * w for a, w in zip(average, current, strict=True)]
    for found, expected in zip(gan.ema_generator.weights, average, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_images_are_scaled_and_mirrored():
    gan = compiled(small(quantum=False), flip=True)
    scaled = gan._scaled(tf.constant(IMAGES)).numpy()
    expected = IMAGES.astype("float32") / 127.5 - 1
    same = np.isclose(scaled, expected, atol=1e-6).all(axis=(1, 2, 3))
    mirrored = np.isclose(scaled, expected[:, :, ::-1], atol=1e-6).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 4 < same.sum() < 28


def test_a_penalty_on_tfq_is_refused():
    gan = small(engine="tfq")
    with pytest.raises(ValueError, match=r"second derivatives.*Received: engine='tfq'$"):
        compiled(gan)
    assert not gan.compiled
    gan.set_engine("auto")
    compiled(gan)
    with pytest.raises(ValueError, match=r"second derivatives.*Received: engine='tfq'$"):
        gan.set_engine("tfq")
    assert {layer.engine for layer in gan.pqcs} | {gan.engine} == {"auto"}


@pytest.mark.parametrize(
    "changes, settings",
    [({"quantum_discriminator": False}, {}), ({}, {"gradient_penalty_weight": 0.0})],
    ids=["in the generator", "in both"],
)
def test_tfq_trains_where_no_second_derivative_is_needed(changes, settings):
    gan = compiled(small_gan(**changes), jit_compile=True, **settings)
    gan.set_engine("tfq")
    assert not gan.jit_compile
    before = [layer.get_weights()[0] for layer in gan.pqcs]
    gan.fit(IMAGES[:4], batch_size=4, verbose=0)
    for layer, angles in zip(gan.pqcs, before, strict=True):
        assert not np.array_equal(layer.get_weights()[0], angles)
    gan.set_engine("auto")
    assert gan.jit_compile


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"loss": "cross"}, "Received: .*cross"),
        ({"num_critic_steps": 0}, "Received: num_critic_steps=0"),
        ({"gradient_penalty_weight": -1.0}, "Received: gradient_penalty_weight=-1.0"),
        ({"gradient_penalty_target": 0.0}, "Received: gradient_penalty_target=0.0"),
        ({"generator_batch_size": 0}, "Received: generator_batch_size=0"),
        ({"generator_batch_size": -1}, "Received: generator_batch_size=-1"),
        ({"augment": "color"}, "Received: augment='color'"),
        ({"generator_optimizer": "adam"}, "Received: generator_optimizer='adam'"),
        ({"discriminator_optimizer": None}, "Received: discriminator_optimizer=None"),
        (dict.fromkeys(OPTIMIZERS, keras.optimizers.Adam()), "Received: the same .* for both"),
    ],
)
def test_compile_refuses(settings, message):
    gan = plain_gan()
    optimizers = {name: keras.optimizers.Adam() for name in OPTIMIZERS}
    with pytest.raises((TypeError, ValueError), match=message):
        gan.compile(**{**optimizers, **settings})
    assert not gan.compiled


def test_xla_is_off_unless_asked_for():
    assert not compiled(plain_gan()).jit_compile
    assert compiled(plain_gan(), jit_compile=True).jit_compile


def test_a_batch_of_too_few_images_is_refused():
    gan = compiled(small(quantum=False), num_critic_steps=4)
    with pytest.raises(ValueError, match=r"Received: 3 images with num_critic_steps=4"):
        gan.train_on_batch(IMAGES[:3])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_remainder_of_fewer_images_than_updates(jit_compile):
    """Of 19 images, 3 are left for the last 4 updates; Keras does not tell their number before."""
    gan = compiled(plain_gan(), num_critic_steps=4, jit_compile=jit_compile)
    history = gan.fit(IMAGES[:19], np.arange(19) % 3, batch_size=16, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(weight).all() for weight in gan.get_weights())
    assert int(gan.discriminator_optimizer.iterations) == 8
    assert float(gan.images_seen) == 16 + 4


def test_a_loss_of_ones_own_settings():
    gan = compiled(
        plain_gan(), loss=GANLoss("minimax", label_smoothing=0.25), gradient_penalty_weight=0.0
    )
    before = gan.generator.get_weights()
    gan.fit(IMAGES, np.arange(32) % 3, batch_size=32, verbose=0)
    assert not np.array_equal(gan.generator.get_weights()[0], before[0])


# --- engines, configurations, files ------------------------------------------------------


def test_engines_agree():
    gan = small()
    images = gan.ema_generator(latent_noise(3, 6, 0))
    gan.set_engine("state_vector")
    np.testing.assert_allclose(gan.ema_generator(latent_noise(3, 6, 0)), images, atol=1e-5)


def test_an_engine_reaches_circuits_in_nested_models():
    layers = keras.layers
    circuit = keras.Sequential([PQC(templates.ry_ring(6)), layers.Dense(64)])
    generator = keras.Sequential([keras.Input((6,)), circuit, layers.Reshape((8, 8, 1))])
    gan = GAN(generator, small_gan(quantum=False).discriminator)
    images = gan.generate(3)
    gan.set_engine("state_vector")
    circuits = [layer for layer in gan._flatten_layers() if isinstance(layer, PQC)]
    assert [layer.engine for layer in circuits] == ["state_vector"] * 2  # the average's too
    np.testing.assert_allclose(gan.generate(3).astype(int), images, atol=1)


@pytest.mark.parametrize("gan_class", [QRKTGAN, TransGAN])
def test_config(gan_class):
    if gan_class is QRKTGAN:
        gan = small(quantum=False)
    else:
        gan = small_trans_gan()
    again = gan_class.from_config(json.loads(json.dumps(gan.get_config())))
    assert sizes(again) == sizes(gan)
    again.set_weights(gan.get_weights())
    np.testing.assert_array_equal(again.generate(3), gan.generate(3))
    compiled(gan, gradient_penalty_weight=0.0).fit(IMAGES, batch_size=32, verbose=0)


def test_a_keras_file_goes_on_training(tmp_path):
    gan = plain_gan()
    gan.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 100)),
        keras.optimizers.RMSprop(1e-3),
        loss=GANLoss("minimax", label_smoothing=0.25),
        num_critic_steps=2,
        gradient_penalty_weight=0.5,
        augment=DiffAugment("translation", seed=1),
        flip=True,
    )
    data = (IMAGES, np.arange(32) % 3)
    gan.fit(*data, batch_size=16, shuffle=False, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gan.save(tmp_path / "gan.keras")
        again = keras.models.load_model(tmp_path / "gan.keras")
    assert again.loss_function == gan.loss_function
    for model in (gan, again):
        model.seed_generator.state.assign([1, 0])
        model.augment.seed_generator.state.assign([2, 0])
        model.fit(*data, batch_size=16, shuffle=False, verbose=0)
    assert int(again.generator_optimizer.iterations) == 4
    for weight, wanted in zip(again.get_weights(), gan.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, atol=1e-6)
    gan = plain_gan()
    gan.save(tmp_path / "fresh.keras")
    assert not keras.models.load_model(tmp_path / "fresh.keras").compiled


def test_preset(tmp_path):
    gan = small(solver="rk1")
    compiled(gan).fit(IMAGES, batch_size=32, verbose=0)
    again = from_preset(gan.save_to_preset(tmp_path / "small"))
    assert isinstance(again, QRKTGAN)
    np.testing.assert_array_equal(again.generate(3, seed=2), gan.generate(3, seed=2))


@pytest.mark.parametrize("make", [small_trans_gan, plain_gan])
def test_an_engine_does_not_matter_where_there_are_no_circuits(make, tmp_path):
    gan = make()
    gan.export(tmp_path / "gan", engine="state_vector")
    served = tf.saved_model.load(str(tmp_path / "gan")).signatures["generate"]
    answer = served(num=tf.constant(2), seed=tf.constant(4))["images"]
    np.testing.assert_allclose(answer.numpy().astype(int), gan.generate(2, seed=4), atol=1)


def test_a_plain_gan_with_circuits_is_exported_by_another_engine(tmp_path):
    own = small_gan(engine="tfq")
    gan = GAN(own.generator, own.discriminator)
    assert gan.engine == "tfq"
    gan.export(tmp_path / "gan")
    assert foreign_ops(tmp_path / "gan") == ()
    assert {layer.engine for layer in gan.pqcs} == {"tfq"}


SERVE = """
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["generate"]
np.save(sys.argv[2], served(num=tf.constant(3), seed=tf.constant(5))["images"].numpy())
"""


def test_a_saved_model_generates_without_this_package(tmp_path):
    gan = small()
    gan.export(tmp_path / "gan")
    run_with_tensorflow_only(SERVE, tmp_path, tmp_path / "gan", tmp_path / "images.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), gan.generate(3, seed=5))
