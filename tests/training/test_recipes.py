import dataclasses
import json
import math
import re

import keras
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from qrkt_keras.training import (
    THESIS,
    Augmentation,
    EpochCosine,
    GANRecipe,
    Recipe,
    plateau_factor,
    warmup_cosine,
)


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
        ("optimizer", "adagrad", ValueError),
        ("loss", "hinge", ValueError),
        ("l2", -0.1, ValueError),
        ("momentum", 1.0, ValueError),
        ("label_smoothing", 1.0, ValueError),
        ("early_stopping_patience", 0, ValueError),
        ("decay_rate", 1.0, ValueError),
        ("decay_epochs", 0.0, ValueError),
        ("milestones", (3.0, 2.0), ValueError),
        ("milestones", (0.0,), ValueError),
        ("milestones", (), ValueError),
        ("milestones", 3, TypeError),
        ("cycle_epochs", 0.0, ValueError),
        ("t_mul", 0.5, ValueError),
        ("m_mul", 0.0, ValueError),
        ("min_learning_rate", 1e-3, ValueError),
        ("plateau_patience", 0, ValueError),
        ("ema", 1.0, ValueError),
        ("augment", 3, TypeError),
        ("schedule", "linear", ValueError),
        ("monitor", None, TypeError),
        ("stratified", 1, TypeError),
        ("hold_out", None, TypeError),
        ("snapshots", "yes", TypeError),
    ],
)
def test_a_bad_field_is_refused(field, value, error):
    received = re.escape(f"{field}={value!r}")
    with pytest.raises(error, match=rf"^{field} must .*Received: {received}$"):
        Recipe(**({"epochs": 5} | {field: value}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"schedule": "constant", "decay_steps": 5},
            r"^decay_steps belongs to the schedule warmup_cosine\. "
            r"Received: decay_steps=5 with schedule='constant'$",
        ),
        ({"decay_epochs": 2}, r"exponential or step\. Received: decay_epochs=2\.0 with .*cosine'$"),
        (
            {"schedule": "step"},
            r"^The schedule step must say its decay_epochs\. Received: .*=None$",
        ),
        ({"schedule": "exponential"}, r"must say its decay_rate\."),
        ({"schedule": "multi_step"}, r"must say its milestones\."),
        ({"schedule": "cyclic"}, r"must say its cycle_epochs\."),
        ({"optimizer": "adam"}, r"adamw: .*Received: optimizer='adam' with weight_decay=0\.0001$"),
        ({"momentum": 0.5}, r"^momentum is for sgd\. Received: .* with optimizer='adamw'$"),
        ({"schedule": "epoch_cosine"}, r"must say its cycle_epochs\."),
        (
            {"schedule": "epoch_cosine", "cycle_epochs": 10, "warmup_steps": 9},
            r"has no warm-up\. Received: warmup_steps=9$",
        ),
        (
            {"schedule": "epoch_cosine", "cycle_epochs": 10, "min_learning_rate": 1e-5},
            r"^min_learning_rate belongs to the schedule .* with schedule='epoch_cosine'$",
        ),
        ({"hold_out": False}, r"train_auc\. Received: monitor='val_auc' with hold_out=False$"),
        (
            {"monitor": "train_loss"},
            r"with hold_out=False\. Received: monitor='train_loss' with hold_out=True$",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(epochs=5, **fields)


STEPS, EPOCHS = 20, 12  # steps of an epoch, and epochs
RATE, LEAST = 0.8, 0.2


def _warm(t, w=30):
    """Time since a warm-up of 30 steps, and how much of it is over."""
    return max(t - w, 0), min(t / w, 1)


def _exponential(t):
    return RATE * 0.7 ** (t / (2 * STEPS))


def _step(t):
    return RATE * 0.5 ** (t // (3 * STEPS))


def _cyclic(t):
    # Smith 2017, section 3.1, with half a cycle as step size.
    half = 2 * STEPS
    cycle = math.floor(1 + t / (2 * half))
    x = abs(t / half - 2 * cycle + 1)
    return LEAST + (RATE - LEAST) * max(0, 1 - x) * 0.5 ** (cycle - 1)


def _restarts(t):
    # Loshchilov and Hutter 2017, equation 5, with the maximum halved at each restart.
    length, highest = 3 * STEPS, 1.0
    while t >= length:
        t, length, highest = t - length, 2 * length, highest / 2
    return LEAST + (RATE - LEAST) * highest * (1 + math.cos(math.pi * t / length)) / 2


@pytest.mark.parametrize("warmup", [0, 30])
@pytest.mark.parametrize(
    ("fields", "formula"),
    [
        ({"schedule": "constant"}, lambda t: RATE),
        ({"schedule": "exponential", "decay_rate": 0.7, "decay_epochs": 2}, _exponential),
        ({"schedule": "step", "decay_rate": 0.5, "decay_epochs": 3}, _step),
        (
            {"schedule": "cyclic", "cycle_epochs": 4, "min_learning_rate": LEAST, "m_mul": 0.5},
            _cyclic,
        ),
        (
            {
                "schedule": "cosine_restarts",
                "cycle_epochs": 3,
                "t_mul": 2,
                "m_mul": 0.5,
                "min_learning_rate": LEAST,
            },
            _restarts,
        ),
        ({"schedule": "plateau"}, lambda t: RATE),
    ],
)
def test_schedules_are_their_formulas(fields, formula, warmup):
    recipe = Recipe(epochs=EPOCHS, learning_rate=RATE, warmup_steps=warmup, **fields)
    optimizer = recipe.make_optimizer(STEPS * EPOCHS)
    for t in range(0, STEPS * EPOCHS):
        optimizer.iterations.assign(t)
        after, share = _warm(t, warmup) if warmup else (t, 1)
        wanted = formula(after) * share
        assert float(optimizer.learning_rate) == pytest.approx(wanted, abs=1e-6), t


# 41 and 107: for these float32's e * n times the rounded 1 / n is below e, for some epochs e.
@pytest.mark.parametrize("steps", [60, 41, 107, 1])
@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "XLA"])
def test_the_cosine_of_epochs_is_kawases(steps, compiled):
    """SPEC.md section 5: lr / 2 (1 + cos(pi e / 5)), and exactly 0 in epochs 5, 15, 25, ..."""
    import tensorflow as tf

    recipe = Recipe(epochs=50, learning_rate=1e-2, schedule="epoch_cosine", cycle_epochs=10)
    schedule = recipe.learning_rate_schedule(50 * steps)
    rate = schedule
    if compiled is not None:
        rate = tf.function(lambda t: schedule(t), jit_compile=compiled)
    for epoch in range(50):
        # The same throughout an epoch, from its first step to its last.
        for step in {0, steps // 2, steps - 1}:
            got = float(rate(tf.constant(epoch * steps + step, tf.int64)))
            if epoch % 10 == 5:
                assert got == 0.0, (epoch, step)
            wanted = 1e-2 / 2 * (1 + math.cos(math.pi * epoch / 5))
            # Float32 knows up to 5 cycles to 2.4e-7: of 2 pi times that and lr / 2, 7.5e-9.
            assert got == pytest.approx(wanted, abs=9e-9), (epoch, step)


def test_the_optimizer_follows_the_cosine_of_epochs():
    recipe = Recipe(epochs=7, learning_rate=RATE, schedule="epoch_cosine", cycle_epochs=5)
    optimizer = recipe.make_optimizer(7 * STEPS)
    for t in range(7 * STEPS):
        optimizer.iterations.assign(t)
        # Of an odd number of epochs none has the rate 0.
        wanted = RATE / 2 * (1 + math.cos(2 * math.pi * (t // STEPS) / 5))
        assert float(optimizer.learning_rate) == pytest.approx(wanted, abs=1e-6), t


def test_a_model_with_the_cosine_of_epochs_can_be_saved():
    recipe = Recipe(epochs=9, l2=0.1, schedule="epoch_cosine", cycle_epochs=2.5)
    optimizer = recipe.make_optimizer(36)
    again = keras.optimizers.deserialize(
        json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    )
    for t in (0, 3, 4, 11, 35):
        for each in (optimizer, again):
            each.iterations.assign(t)
        assert float(again.learning_rate) == float(optimizer.learning_rate)


@pytest.mark.parametrize(("steps", "cycle"), [(0, 10), (3, 0), (3, -1.0), (3, math.nan)])
def test_a_cosine_of_epochs_of_impossible_length_is_refused(steps, cycle):
    with pytest.raises(ValueError, match=rf"steps_per_epoch={steps}, cycle_epochs={cycle}$"):
        EpochCosine(1.0, steps_per_epoch=steps, cycle_epochs=cycle)


@pytest.mark.parametrize("warmup", [0, 30])
def test_milestones_are_epochs_of_the_run(warmup):
    # As PyTorch documents MultiStepLR: the rate decays once the number of epochs done is reached.
    recipe = Recipe(
        epochs=EPOCHS,
        learning_rate=RATE,
        schedule="multi_step",
        milestones=[4, 9.5],
        decay_rate=0.5,
        warmup_steps=warmup,
    )
    optimizer = recipe.make_optimizer(STEPS * EPOCHS)
    for t in range(STEPS * EPOCHS):
        optimizer.iterations.assign(t)
        done = sum(t / STEPS >= milestone for milestone in (4, 9.5))
        wanted = RATE * 0.5**done * (min(t / warmup, 1) if warmup else 1)
        assert float(optimizer.learning_rate) == pytest.approx(wanted, abs=1e-6), t


def test_a_warm_up_past_the_first_milestone_is_refused():
    recipe = Recipe(epochs=5, schedule="multi_step", milestones=[2], warmup_steps=21)
    with pytest.raises(ValueError, match=r"milestones=\(2\.0,\), the first after 20 steps$"):
        recipe.learning_rate_schedule(50)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_plateau_is_that_of_keras(mode):
    random = np.random.RandomState(0)
    for _ in range(20):
        values = random.randint(0, 30, 40) / 30
        # Not the first: after that Keras finds nothing better any more.
        values[1:][random.rand(39) < 0.1] = np.nan
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1.0))
        theirs = keras.callbacks.ReduceLROnPlateau(
            "v", factor=0.5, patience=3, mode=mode, min_delta=0, min_lr=0.1
        )
        theirs.set_model(model)
        theirs.on_train_begin()
        for done, value in enumerate(values, start=1):
            theirs.on_epoch_end(done, {"v": value})
            ours = plateau_factor(values[:done], patience=3, factor=0.5, least=0.1, mode=mode)
            assert ours == pytest.approx(float(model.optimizer.learning_rate), abs=1e-6)


def adam_l2(weights, gradients, rate, *, l2, clip):
    """Adam with L2 as PyTorch documents `torch.optim.Adam(weight_decay=l2)`, after clipping."""
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for t, gradient in enumerate(gradients, start=1):
        gradient = gradient + l2 * weights
        gradient = gradient * min(1.0, clip / np.sqrt((gradient**2).sum()))
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weights = weights - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return weights


def sgd_l2(weights, gradients, rate, *, l2, clip):
    """SGD with momentum and L2: `b = mu b - lr g`, `w += b`, after clipping."""
    buffer = np.zeros_like(weights)
    for gradient in gradients:
        gradient = gradient + l2 * weights
        gradient = gradient * min(1.0, clip / np.sqrt((gradient**2).sum()))
        buffer = 0.8 * buffer - rate * gradient
        weights = weights + buffer
    return weights


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("optimizer", "formula"), [("adam", adam_l2), ("adamw", adam_l2), ("sgd", sgd_l2)]
)
def test_l2_goes_into_the_gradient_before_it_is_clipped(optimizer, formula, scaled):
    recipe = Recipe(
        epochs=1,
        schedule="constant",
        learning_rate=0.1,
        optimizer=optimizer,
        weight_decay=0,
        l2=0.4,
        clip_norm=0.7,
        momentum=0.8 if optimizer == "sgd" else None,
    )
    random = np.random.RandomState(1)
    start, gradients = random.randn(4), random.randn(5, 4)
    variable = keras.Variable(start, dtype="float32")
    made = recipe.make_optimizer(5)
    # As Keras trains float16 models: gradients of a scaled loss.
    scale = 2.0**15 if scaled else 1.0
    apply = keras.optimizers.LossScaleOptimizer(made) if scaled else made
    for gradient in gradients:
        apply.apply([keras.ops.convert_to_tensor(gradient * scale, "float32")], [variable])
    wanted = formula(start, gradients, 0.1, l2=0.4, clip=0.7)
    # Float32 knows 1 - 0.999 to 5e-5 only, of which the step is the root; steps are 0.1 at most.
    assert variable.numpy() == pytest.approx(wanted, abs=1.25e-5)
    again = type(made).from_config(made.get_config())
    assert again.get_config() == made.get_config() and again.l2 == 0.4


def test_l2_of_an_embedding_touches_every_row():
    import tensorflow as tf

    table = keras.layers.Embedding(4, 2)
    table.build((None,))
    before = table.embeddings.numpy()
    optimizer = Recipe(
        epochs=1,
        schedule="constant",
        optimizer="sgd",
        momentum=0,
        learning_rate=1,
        weight_decay=0,
        l2=0.25,
        clip_norm=None,
    ).make_optimizer(1)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(table(np.array([1])))
    optimizer.apply(tape.gradient(loss, table.trainable_variables), table.trainable_variables)
    wanted = before * 0.75 - np.array([[0], [1], [0], [0]])
    assert table.embeddings.numpy() == pytest.approx(wanted, abs=1e-6)


def test_plain_optimizers_are_those_of_keras():
    sgd = Recipe(epochs=1, optimizer="sgd", weight_decay=0).make_optimizer(9)
    assert type(sgd) is keras.optimizers.SGD
    assert sgd.momentum == 0.9 and sgd.weight_decay is None
    adam = Recipe(epochs=1, optimizer="adam", weight_decay=0, clip_norm=None).make_optimizer(9)
    assert type(adam) is keras.optimizers.Adam and adam.global_clipnorm is None


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "constant"},
        {"schedule": "exponential", "decay_rate": 0.5},
        {"schedule": "multi_step", "milestones": [3]},
        {"schedule": "cyclic", "cycle_epochs": 2, "m_mul": 0.5, "min_learning_rate": 1e-4},
        {"schedule": "cosine_restarts", "cycle_epochs": 2},
        {"schedule": "plateau"},
    ],
)
@pytest.mark.parametrize("warmup", [0, 4])
def test_a_compiled_model_can_be_saved(fields, warmup):
    optimizer = Recipe(epochs=5, warmup_steps=warmup, l2=0.1, **fields).make_optimizer(50)
    text = json.dumps(keras.optimizers.serialize(optimizer))
    again = keras.optimizers.deserialize(json.loads(text))
    assert type(again) is type(optimizer) and again.l2 == 0.1
    for t in (0, 3, 11, 29, 49):
        for each in (optimizer, again):
            each.iterations.assign(t)
        assert float(again.learning_rate) == float(optimizer.learning_rate)


def test_losses_are_their_formulas():
    random = np.random.RandomState(0)
    logits, labels = random.randn(6, 4), np.array([0, 3, 1, 1, 2, 0])
    log_p = scipy.special.log_softmax(logits, axis=1)
    hard = np.eye(4)[labels]

    def loss(y, **fields):
        return float(Recipe(epochs=1, **fields).make_loss()(y, logits.astype("float32")))

    assert loss(labels) == pytest.approx(-(hard * log_p).sum(1).mean(), rel=1e-5)
    smooth = 0.9 * hard + 0.1 / 4
    got = loss(hard, label_smoothing=0.1)
    assert got == pytest.approx(-(smooth * log_p).sum(1).mean(), rel=1e-5)
    focal = -(hard * (1 - np.exp(log_p)) ** 2 * log_p).sum(1).mean()
    assert loss(hard, loss="focal") == pytest.approx(focal, rel=1e-4)
    mixed = 0.3 * hard + 0.7 * hard[::-1]
    got = loss(mixed, augment=Augmentation(mixup=0.2))
    assert got == pytest.approx(-(mixed * log_p).sum(1).mean(), rel=1e-5)


def test_the_sigmoid_loss_is_softmax_with_logit_0_held_at_0():
    random = np.random.RandomState(0)
    logits, labels = random.randn(6, 2).astype("float32"), np.array([0, 1, 1, 0, 1, 1])
    sign = np.where(labels, 1, -1)
    wanted = -scipy.special.log_expit(sign * logits[:, 1].astype("float64")).mean()
    loss = Recipe(epochs=1, loss="sigmoid").make_loss()
    assert float(loss(labels, logits)) == pytest.approx(wanted, rel=1e-6)
    held = logits * [0, 1]
    assert float(Recipe(epochs=1).make_loss()(labels, held)) == pytest.approx(wanted, rel=1e-6)
    soft = {"label_smoothing": 0.2}
    got = Recipe(epochs=1, loss="sigmoid", **soft).make_loss()(np.eye(2)[labels], logits)
    assert float(got) == pytest.approx(
        float(Recipe(epochs=1, **soft).make_loss()(np.eye(2)[labels], held)), rel=1e-6
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(labels, logits)) == pytest.approx(wanted, rel=1e-6)


def test_an_old_recipe_loads_and_trains_as_it_did():
    # The words of a preset's file, from before there were other schedules.
    text = """{"epochs": 65, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.001,
      "schedule": "warmup_cosine", "warmup_steps": 5000, "decay_steps": 45000,
      "weight_decay": 0.0001, "epsilon": 1e-08, "clip_norm": 1.0, "seed": 0,
      "monitor": "val_auc"}"""
    assert Recipe.from_json(text) == THESIS
    assert (THESIS.stratified, THESIS.hold_out, THESIS.snapshots) == (False, True, False)
    assert type(THESIS.make_loss()) is keras.losses.SparseCategoricalCrossentropy


def test_an_augmentation_is_part_of_the_json():
    recipe = Recipe(
        epochs=3,
        schedule="multi_step",
        milestones=[1, 2],
        augment=Augmentation(shift=2, flip=True, mixup=0.2),
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.to_dict()["milestones"] == [1.0, 2.0]
    assert recipe.to_dict()["augment"]["shift"] == 2
    with pytest.raises(ValueError, match=r"^An augmentation has .*Received: blur$"):
        Recipe(epochs=3, augment={"blur": 1})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("shift", -1, ValueError),
        ("shift", 1.5, TypeError),
        ("flip", 1, TypeError),
        ("rotation", 181.0, ValueError),
        ("zoom", 1.0, ValueError),
        ("cutout", 1.5, ValueError),
        ("mixup", -0.1, ValueError),
        ("padding", "wrap", ValueError),
    ],
)
def test_a_bad_augmentation_is_refused(field, value, error):
    with pytest.raises(error, match=rf"^{field} must .*Received: {field}={value!r}$"):
        Augmentation(**{field: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 3, "nesterov": true}', r"Received: nesterov$"),
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


def test_fields_that_are_given_replace_a_recipes_own():
    changed = THESIS.with_given(epochs=3, seed=None)
    assert (changed.epochs, changed.seed) == (3, THESIS.seed)
    assert changed.with_given(epochs=THESIS.epochs) == THESIS
    with pytest.raises(ValueError, match="Received: epochs=0$"):
        THESIS.with_given(epochs=0)
