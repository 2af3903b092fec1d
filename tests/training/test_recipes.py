import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrkt_keras.training import THESIS, GANRecipe, Recipe, warmup_cosine


def printed(t):
    """The learning rate of SPEC section 4, as printed there."""
    if t < 5000:
        return 1e-3 * t / 5000
    if t < 50000:
        return 5e-4 * (1 + math.cos(math.pi * (t - 5000) / 45000))
    return 0.0


# Float32 keeps 7 digits of a rate of at most 1e-3, and of the cosine's angle.
FLOAT32 = {"abs": 5e-10, "rel": 0}


@pytest.mark.parametrize(
    "t", [0, 1, 2500, 4999, 5000, 5001, 12345, 27500, 49999, 50000, 50001, 54795, 10**6]
)
def test_the_thesis_schedule_is_the_printed_formula(t):
    steps = 65 * (54000 // 64)
    assert steps == 54795
    assert float(THESIS.learning_rate_schedule(steps)(t)) == pytest.approx(printed(t), **FLOAT32)


def test_the_thesis_optimizer():
    optimizer = THESIS.make_optimizer(54795)
    config = optimizer.get_config()
    assert type(optimizer) is keras.optimizers.AdamW
    assert (config["weight_decay"], config["epsilon"]) == (1e-4, 1e-8)
    assert config["global_clipnorm"] == 1.0
    assert config["clipnorm"] is None and config["clipvalue"] is None
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.999)
    assert (THESIS.epochs, THESIS.batch_size, THESIS.monitor) == (65, 64, "val_auc")


def adamw(weights, gradients, rates, *, decay, epsilon, clip):
    """AdamW in NumPy (Loshchilov and Hutter 2019; epsilon as in Kingma and Ba's section 2)."""
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = np.sqrt((gradient**2).sum())
        gradient = gradient * min(1.0, clip / norm)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = weights - rate * decay * weights - alpha * m / (np.sqrt(v) + epsilon)
    return weights


def test_the_optimizer_is_adamw_with_global_clipping_on_all_weights():
    recipe = Recipe(
        epochs=1, learning_rate=0.1, warmup_steps=3, decay_steps=4, weight_decay=0.3, clip_norm=0.5
    )
    random = np.random.RandomState(0)
    start = random.randn(5)
    gradients = random.randn(6, 5) * np.array([0.01, 1, 5, 1, 0.1, 1])[:, None]
    # A matrix and a bias: the norm is that of both together, and the bias decays too.
    kernel, bias = (
        keras.Variable(start[part], dtype="float32") for part in (slice(3), slice(3, 5))
    )
    optimizer = recipe.make_optimizer(6)
    for gradient in gradients:
        optimizer.apply(
            [keras.ops.convert_to_tensor(g, "float32") for g in (gradient[:3], gradient[3:])],
            [kernel, bias],
        )
    rates = [
        0.1 * t / 3 if t < 3 else 0.05 * (1 + math.cos(math.pi * (t - 3) / 4)) for t in range(6)
    ]
    wanted = adamw(start, gradients, rates, decay=0.3, epsilon=1e-8, clip=0.5)
    got = np.concatenate([kernel.numpy(), bias.numpy()])
    assert got == pytest.approx(wanted, abs=2e-6)


def test_a_cosine_without_length_ends_with_the_run():
    schedule = Recipe(epochs=1, learning_rate=2.0, warmup_steps=10).learning_rate_schedule(110)
    assert float(schedule(10)) == 2.0
    assert float(schedule(60)) == pytest.approx(1.0, abs=1e-6)
    assert float(schedule(110)) == pytest.approx(0.0, abs=1e-6)


def test_a_run_too_short_for_its_warm_up_spends_half_on_it():
    schedule = Recipe(epochs=1, learning_rate=2.0, warmup_steps=100).learning_rate_schedule(20)
    assert float(schedule(5)) == 1.0
    assert float(schedule(10)) == 2.0
    assert float(Recipe(epochs=1, warmup_steps=9).learning_rate_schedule(1)(0)) > 0


def test_a_constant_rate():
    recipe = Recipe(epochs=1, schedule="constant", learning_rate=0.01)
    assert recipe.learning_rate_schedule(10) == 0.01
    assert float(recipe.make_optimizer(10).learning_rate) == pytest.approx(0.01)


def test_no_warm_up_starts_at_the_peak():
    assert float(warmup_cosine(0.5, warmup_steps=0, decay_steps=10)(0)) == 0.5


def test_keras_fails_with_an_int_where_we_give_a_float():
    # The reason for 0.0 in `warmup_cosine`; when this fails, Keras has mended it.
    schedule = keras.optimizers.schedules.CosineDecay(0, 10, warmup_target=1e-3, warmup_steps=5)
    with pytest.raises(Exception, match=r"(?s)."):
        schedule(1)


@pytest.mark.parametrize(("warmup", "decay"), [(-1, 1), (0, 0), (5, -1)])
def test_a_schedule_of_impossible_length_is_refused(warmup, decay):
    with pytest.raises(ValueError, match=rf"warmup_steps={warmup}, decay_steps={decay}$"):
        warmup_cosine(1.0, warmup_steps=warmup, decay_steps=decay)
    with pytest.raises(ValueError, match=r"Received: total_steps=0$"):
        THESIS.learning_rate_schedule(0)


@settings(max_examples=30)
@given(
    epochs=st.integers(1, 1000),
    rate=st.floats(1e-9, 10),
    warmup=st.integers(0, 10**6),
    decay=st.none() | st.integers(1, 10**6),
    clip=st.none() | st.floats(1e-3, 1e3),
)
def test_a_recipe_survives_json(epochs, rate, warmup, decay, clip):
    recipe = Recipe(
        epochs=epochs, learning_rate=rate, warmup_steps=warmup, decay_steps=decay, clip_norm=clip
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert json.loads(recipe.to_json()) == recipe.to_dict()


def test_a_recipe_is_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        THESIS.epochs = 1
    assert len({THESIS, dataclasses.replace(THESIS)}) == 1


def test_an_int_is_a_fine_float():
    recipe = Recipe(epochs=1, learning_rate=1, clip_norm=2)
    assert isinstance(recipe.learning_rate, float) and isinstance(recipe.clip_norm, float)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("epochs", True, TypeError),
        ("epochs", "9", TypeError),
        ("batch_size", -1, ValueError),
        ("learning_rate", 0.0, ValueError),
        ("learning_rate", float("nan"), ValueError),
        ("learning_rate", float("inf"), ValueError),
        ("learning_rate", None, TypeError),
        ("warmup_steps", -1, ValueError),
        ("decay_steps", 0, ValueError),
        ("weight_decay", -1e-4, ValueError),
        ("epsilon", 0.0, ValueError),
        ("clip_norm", 0.0, ValueError),
        ("clip_norm", "1", TypeError),
        ("seed", -1, ValueError),
        ("optimizer", "sgd", ValueError),
        ("schedule", "linear", ValueError),
        ("monitor", None, TypeError),
    ],
)
def test_a_bad_field_is_refused(field, value, error):
    with pytest.raises(error, match=rf"^{field} must .*Received: {field}={value!r}$"):
        Recipe(**({"epochs": 5} | {field: value}))


def test_a_constant_schedule_with_warm_up_is_refused():
    with pytest.raises(ValueError, match=r"Received: warmup_steps=5, decay_steps=None$"):
        Recipe(epochs=1, schedule="constant", warmup_steps=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 3, "momentum": 0.9}', r"Received: momentum$"),
        ('{"batch_size": 3}', r"Received: \{'batch_size': 3\}$"),
        ("[1]", r"Received: '\[1\]'$"),
        ("{", r"Received: '\{'$"),
    ],
)
def test_json_that_is_no_recipe_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(text)


def test_a_gan_recipe_is_checked_json():
    recipe = GANRecipe(epochs=2, num_critic_steps=5, loss="hinge", flip=True, clip_norm=None)
    assert GANRecipe.from_json(recipe.to_json()) == recipe
    assert recipe.images_per_step == 5 * 64
    for fields, message in [
        (
            {"loss": "cross"},
            "loss must be one of minimax, non_saturating, wasserstein, hinge, least_squares. "
            "Received: loss='cross'$",
        ),
        ({"translation": -0.1}, "translation must be between 0 and 1. Received: translation=-0.1"),
        ({"cutout": 1.1}, "cutout must be between 0 and 1. Received: cutout=1.1"),
        ({"cutout_probability": 2.0}, "Received: cutout_probability=2.0"),
        (
            {"augment": "colour"},
            "augment must be some of translation, .*Received: augment='colour'",
        ),
        ({"augment": "color,color"}, "each at most once.*Received: augment='color,color'"),
        ({"augment": "color, cutout"}, "no spaces.*Received: augment='color, cutout'"),
        ({"beta_1": 1.0}, "beta_1 must be at least 0 and below 1. Received: beta_1=1.0"),
        ({"flip": 1}, "flip must be bool. Received: flip=1"),
        ({"gradient_penalty_target": 0.0}, "Received: gradient_penalty_target=0.0"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            GANRecipe(epochs=1, **fields)


def test_the_rates_of_a_gan_rise_and_stay():
    recipe = GANRecipe(epochs=1, warmup_steps=4, generator_learning_rate=0.8)
    optimizers = recipe.make_optimizers()
    schedule = optimizers["generator_optimizer"]._learning_rate
    rates = [float(schedule(step)) for step in (0, 1, 2, 4, 5, 1000)]
    np.testing.assert_allclose(rates, [0, 0.2, 0.4, 0.8, 0.8, 0.8], rtol=1e-6)
    assert optimizers["discriminator_optimizer"].global_clipnorm == 5.0
