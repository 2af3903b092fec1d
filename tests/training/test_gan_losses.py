import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC
from qrkt_keras.training import GAN_LOSSES, GANLoss, drift_penalty, gradient_penalty
from qrkt_keras.training.tfgan import tfgan_modules

CROSS_ENTROPIES = ["minimax", "non_saturating"]


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# In float64, of logits r and f: the loss, and its derivative by each logit, times their number.
DISCRIMINATORS = {
    "minimax": (
        lambda r, f: softplus(-r).mean() + softplus(f).mean(),
        lambda r, f: (-sigmoid(-r), sigmoid(f)),
    ),
    "wasserstein": (
        lambda r, f: f.mean() - r.mean(),
        lambda r, f: (-np.ones_like(r), np.ones_like(f)),
    ),
    "hinge": (
        lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
        lambda r, f: (-1.0 * (r < 1), 1.0 * (f > -1)),
    ),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: (r - 1, f),
    ),
}
DISCRIMINATORS["non_saturating"] = DISCRIMINATORS["minimax"]
GENERATORS = {
    "minimax": (lambda f: np.log(1 - sigmoid(f)).mean(), lambda f: -sigmoid(f)),
    "non_saturating": (lambda f: -np.log(sigmoid(f)).mean(), lambda f: -sigmoid(-f)),
    "wasserstein": (lambda f: -f.mean(), lambda f: -np.ones_like(f)),
    "hinge": (lambda f: -f.mean(), lambda f: -np.ones_like(f)),
    "least_squares": (lambda f: ((f - 1) ** 2).mean() / 2, lambda f: f - 1),
}


def logits(shape=(37, 1)):
    random = np.random.RandomState(1)
    return [(2 * random.randn(*shape)).astype("float32") for _ in range(2)]


def test_every_loss_is_here_and_in_tfgan():
    assert set(GAN_LOSSES) == set(DISCRIMINATORS) == set(GENERATORS)
    for names in GAN_LOSSES.values():
        assert all(callable(getattr(tfgan_modules().losses_impl, name)) for name in names)
    with pytest.raises(TypeError):
        GAN_LOSSES["minimax"] = None


@pytest.mark.parametrize("name", GAN_LOSSES)
@pytest.mark.parametrize("shape", [(37,), (37, 1), (6, 3, 3)])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_losses_are_their_formulas(name, shape, mode):
    real, fake = logits(shape)
    loss = GANLoss(name)

    def values(real, fake):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((real, fake))
            discriminator, generator = loss.discriminator(real, fake), loss.generator(fake)
        by_logits = tape.gradient(discriminator, (real, fake))
        return discriminator, by_logits, generator, tape.gradient(generator, fake)

    if mode != "eager":
        values = tf.function(values, jit_compile=mode == "xla")
    discriminator, by_logits, generator, by_fake = values(tf.constant(real), tf.constant(fake))
    r, f = real.astype("float64"), fake.astype("float64")
    formula, derivative = DISCRIMINATORS[name]
    assert discriminator.dtype == generator.dtype == tf.float32
    assert discriminator.shape == generator.shape == ()
    assert float(discriminator) == pytest.approx(formula(r, f), rel=3e-6)
    for ours, theirs in zip(by_logits, derivative(r, f), strict=True):
        np.testing.assert_allclose(ours, theirs / r.size, rtol=1e-5, atol=1e-9)
    formula, derivative = GENERATORS[name]
    assert float(generator) == pytest.approx(formula(f), rel=3e-6)
    np.testing.assert_allclose(by_fake, derivative(f) / f.size, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
@pytest.mark.parametrize("smoothing", [0.1, 0.25, 1.0])
def test_label_smoothing(name, smoothing):
    real, fake = logits()
    r, f = real.astype("float64"), fake.astype("float64")
    label = 1 - smoothing / 2
    expected = (label * softplus(-r) + (1 - label) * softplus(r)).mean() + softplus(f).mean()
    loss = GANLoss(name, label_smoothing=smoothing)
    assert float(loss.discriminator(real, fake)) == pytest.approx(expected, rel=3e-6)
    assert float(loss.generator(fake)) == float(GANLoss(name).generator(fake))


def test_where_tfgans_defaults_differ():
    losses = tfgan_modules().losses_impl
    real, fake = logits()
    for name in CROSS_ENTROPIES:
        theirs = getattr(losses, GAN_LOSSES[name].discriminator)(real, fake)
        ours = GANLoss(name, label_smoothing=0.25).discriminator(real, fake)
        assert float(theirs) == float(ours) != float(GANLoss(name).discriminator(real, fake))
    difference = losses.minimax_generator_loss(fake) - GANLoss("minimax").generator(fake)
    assert float(difference) == pytest.approx(math.log(sigmoid(1)), rel=1e-5)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_extreme_logits_have_finite_gradients(name):
    loss = GANLoss(name)
    values = tf.constant([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        results = loss.discriminator(values, values[::-1]), loss.generator(values)
    for result in results:
        assert np.isfinite(result)
        assert np.isfinite(tape.gradient(result, values)).all()


@pytest.mark.parametrize("name", GAN_LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name, dtype):
    # 300² overflows float16, and a mean of bfloat16 would have 3 digits.
    real, fake = (tf.cast(tf.concat([x, [[300.0]]], 0), dtype) for x in logits())
    loss = GANLoss(name)
    r, f = (tf.cast(x, tf.float32) for x in (real, fake))
    assert loss.discriminator(real, fake).dtype == loss.generator(fake).dtype == tf.float32
    assert float(loss.discriminator(real, fake)) == float(loss.discriminator(r, f))
    assert float(loss.generator(fake)) == float(loss.generator(f))
    assert np.isfinite(float(loss.discriminator(real, fake)))


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_nothing_leaks_into_the_graphs_collections(name):
    loss = GANLoss(name)
    with tf.Graph().as_default() as graph:
        loss.discriminator(tf.ones((3, 1)), tf.zeros((3, 1)))
        loss.generator(tf.zeros((3, 1)))
        assert graph.get_operations()
    assert graph.get_all_collection_keys() == []


def test_a_batch_of_unknown_size():
    loss = GANLoss("hinge")
    signature = [tf.TensorSpec((None, 1))] * 2
    function = tf.function(loss.discriminator, input_signature=signature, jit_compile=True)
    for size in (3, 5):
        assert float(function(tf.zeros((size, 1)), tf.zeros((size, 1)))) == 2.0


def test_a_loss_is_a_frozen_value():
    loss = GANLoss("hinge")
    assert loss == GANLoss("hinge") != GANLoss("wasserstein")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.name = "minimax"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "modified"}, r"one of minimax, non_saturating, .*\. Received: 'modified'$"),
        ({"name": "minimax", "label_smoothing": 1.5}, r"Received: 1\.5$"),
        ({"name": "minimax", "label_smoothing": -0.1}, r"Received: -0\.1$"),
        ({"name": "minimax", "label_smoothing": float("nan")}, r"Received: nan$"),
        (
            {"name": "hinge", "label_smoothing": 0.25},
            r"Received: label_smoothing=0\.25 with 'hinge'$",
        ),
    ],
)
def test_bad_losses_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GANLoss(**arguments)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_bad_logits_are_refused(name):
    loss = GANLoss(name)
    with pytest.raises(ValueError, match=r"Received: \(2, 1\) and \(2,\)$"):
        loss.discriminator([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"^fake_logits must be floats\. Received: dtype int32$"):
        loss.discriminator([1.0], [1])
    with pytest.raises(ValueError, match=r"^fake_logits must be floats\. Received: dtype int32$"):
        loss.generator([1])


# --- penalties ------------------------------------------------------------------------------


def make_discriminator(quantum=False):
    if quantum:
        uniform = keras.initializers.RandomUniform
        return keras.Sequential(
            [
                keras.Input((3, 2), dtype="float64"),
                # A circuit of two angles on each of the three rows.
                PQC(templates.ry_ring(2), initializer=uniform(0, 6), dtype="float64"),
                keras.layers.Flatten(dtype="float64"),
                keras.layers.Dense(1, kernel_initializer=uniform(-1, 1), dtype="float64"),
            ]
        )
    return keras.Sequential(
        [
            keras.Input((3, 2), dtype="float64"),
            keras.layers.Dense(4, activation="tanh", dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(5, activation="gelu", dtype="float64"),
            keras.layers.Dense(1, dtype="float64"),
        ]
    )


def examples(batch=6):
    random = np.random.RandomState(2)
    real, fake = random.randn(2, batch, 3, 2)
    return real, fake, random.rand(batch)


def norms_by_differences(discriminator, points, step=1e-5):
    flat = points.reshape(len(points), -1)
    gradients = np.empty_like(flat)
    for i in range(flat.shape[1]):
        shift = step * np.eye(flat.shape[1])[i]
        above, below = (
            discriminator((flat + sign * shift).reshape(points.shape)).numpy()[:, 0]
            for sign in (1, -1)
        )
        gradients[:, i] = (above - below) / (2 * step)
    return np.sqrt((gradients**2).sum(axis=1))


@pytest.mark.parametrize("quantum", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("target", [1.0, 0.4, 750.0])
def test_penalty_is_its_formula(quantum, one_sided, target):
    discriminator = make_discriminator(quantum)
    real, fake, alpha = examples()
    a = alpha[:, None, None]
    norms = norms_by_differences(discriminator, a * real + (1 - a) * fake)
    if target == 0.4:
        assert (norms < target).any() and (norms > target).any()
    excess = np.maximum(norms - target, 0) if one_sided else norms - target
    expected = 7.0 / target**2 * (excess**2).mean()
    for shape in [(-1,), (-1, 1, 1)]:
        penalty = gradient_penalty(
            discriminator,
            real,
            fake,
            alpha.reshape(shape),
            weight=7.0,
            target=target,
            one_sided=one_sided,
        )
        assert penalty.dtype == tf.float64 and penalty.shape == ()
        assert float(penalty) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_alpha_is_the_share_of_the_real_example():
    def penalty(alpha):
        # The norm of the gradient is 3 where x is real, 1 where it is generated.
        real, fake = np.full((2, 1, 1), 3.0), np.full((2, 1, 1), 1.0)
        return float(gradient_penalty(lambda x: x**2 / 2, real, fake, alpha, weight=1.0))

    assert [penalty([a, a]) for a in (1.0, 0.5, 0.0)] == pytest.approx([4.0, 1.0, 0.0])


@pytest.mark.parametrize("quantum", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_penaltys_gradient_by_the_weights(quantum, one_sided, jit_compile):
    discriminator = make_discriminator(quantum)
    real, fake, alpha = examples()

    def penalty():
        return gradient_penalty(discriminator, real, fake, alpha, target=0.4, one_sided=one_sided)

    @tf.function(jit_compile=jit_compile)
    def value_and_gradients():
        with tf.GradientTape() as tape:
            value = penalty()
        return value, tape.gradient(value, [w.value for w in weights], unconnected_gradients="zero")

    weights = discriminator.trainable_variables
    value, gradients = value_and_gradients()
    assert float(value) == pytest.approx(float(penalty()), rel=1e-12)
    step = 1e-5
    for weight, gradient in zip(weights, gradients, strict=True):
        start = weight.numpy()
        differences = np.empty_like(start)
        for index in np.ndindex(start.shape):
            sides = []
            for sign in (1, -1):
                moved = start.copy()
                moved[index] += sign * step
                weight.assign(moved)
                sides.append(float(penalty()))
            differences[index] = (sides[0] - sides[1]) / (2 * step)
        weight.assign(start)
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)
    assert any(np.abs(gradient).max() > 0.01 for gradient in gradients)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_gradient_of_zero_is_no_trouble(jit_compile):
    weight = tf.Variable(3.0)
    kernel = tf.Variable(tf.zeros((2, 1)))
    real = tf.constant([[0.0, 0.0], [3.0, 4.0]])

    @tf.function(jit_compile=jit_compile)
    def value_and_gradient(discriminator, variable):
        with tf.GradientTape() as tape:
            value = gradient_penalty(discriminator, real, real, [0.5, 0.5], weight=1.0)
        return value, tape.gradient(value, variable)

    # Norms 0 and 2·3·5, so (1 + 29²) / 2; by the weight, the second's 29 · 10.
    value, gradient = value_and_gradient(lambda x: weight * tf.reduce_sum(x**2, 1), weight)
    assert float(value) == pytest.approx(421, rel=1e-6)
    assert float(gradient) == pytest.approx(290, rel=1e-6)
    value, gradient = value_and_gradient(lambda x: x @ kernel, kernel)
    assert float(value) == 1.0
    assert gradient.numpy().tolist() == [[0.0], [0.0]]


def test_penalty_of_half_precision_examples_is_float32():
    real, fake, alpha = (x.astype("float16") for x in examples())
    # The squares of the gradient, 300² each, overflow float16.
    penalty = gradient_penalty(lambda x: 300.0 * tf.reduce_sum(x, (1, 2)), real, fake, alpha)
    assert penalty.dtype == tf.float32
    assert float(penalty) == pytest.approx(10 * (300 * math.sqrt(6) - 1) ** 2, rel=1e-6)


def test_penalty_of_a_batch_of_unknown_size():
    discriminator = make_discriminator()
    function = tf.function(
        lambda *arguments: gradient_penalty(discriminator, *arguments),
        input_signature=[tf.TensorSpec((None, 3, 2), tf.float64)] * 2
        + [tf.TensorSpec((None,), tf.float64)],
        jit_compile=True,
    )
    for batch in (2, 5):
        expected = gradient_penalty(discriminator, *examples(batch))
        assert float(function(*examples(batch))) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 0.0}, r"^target must be positive\. Received: 0\.0$"),
        ({"fake": np.ones((6, 3, 3))}, r"Received: \(6, 3, 2\) and \(6, 3, 3\)$"),
        ({"real": np.ones(6), "fake": np.ones(6)}, r"Received: \(6,\) and \(6,\)$"),
        ({"real": np.ones((6, 3, 2), "uint8")}, r"^real must be floats\. .* dtype uint8$"),
        ({"alpha": 0.5}, r"so shape \(6,\)\. Received: \(\)$"),
        ({"alpha": np.ones((6, 3, 2))}, r"so shape \(6,\)\. Received: \(6, 3, 2\)$"),
        ({"discriminator": lambda x: tf.zeros(6)}, r"Received: <function .*no gradient$"),
    ],
)
def test_bad_penalties_are_refused(changes, message):
    real, fake, alpha = examples()
    arguments = {
        "discriminator": make_discriminator(),
        "real": real,
        "fake": fake,
        "alpha": alpha,
    }
    with pytest.raises(ValueError, match=message):
        gradient_penalty(**arguments | changes)


def test_drift():
    values = np.array([[1.5], [-4.0], [7.0]])
    penalty = drift_penalty(values)
    assert penalty.dtype == tf.float64
    assert float(penalty) == pytest.approx(1e-3 * 1.5**2, rel=1e-12)
    assert float(drift_penalty([2.0, 4.0], weight=0.5)) == 4.5
    # 400² overflows float16.
    assert float(drift_penalty(tf.constant([400.0], tf.float16), weight=1.0)) == 160000.0
    with pytest.raises(ValueError, match=r"Received: dtype int32$"):
        drift_penalty([1])


def test_wasserstein_with_penalty_and_drift_under_xla():
    discriminator = make_discriminator()
    real, fake, alpha = examples()

    def loss():
        real_logits, fake_logits = discriminator(real), discriminator(fake)
        return (
            tf.cast(GANLoss("wasserstein").discriminator(real_logits, fake_logits), tf.float64)
            + gradient_penalty(discriminator, real, fake, alpha)
            + drift_penalty(real_logits)
        )

    assert float(tf.function(loss, jit_compile=True)()) == pytest.approx(float(loss()), rel=1e-6)
