"""Models and recipes of trials: what they are made of, and budgets."""

from __future__ import annotations

import dataclasses

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.errors import FailedTrialError
from scipy.special import softmax

from qrkt_keras import data, zoo
from qrkt_keras.training import classification_scores
from qrkt_keras.tuning import BudgetError, Dimension, Space, ZooHyperModel, default_space


def trials(hypermodel, number, seed=0):
    hyperparameters = hypermodel.hyperparameters()
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "max"), hyperparameters=hyperparameters, seed=seed
    )
    for _ in range(number):
        trial = hyperparameters.copy()
        trial.values = oracle._random_values()
        yield trial


def small(**options):
    """A space of small models only, for tests."""
    texts = ["num_encoder_blocks=0", "num_ode_blocks=1", "hidden_dim=8", "mlp_dim=8"]
    texts += ["num_ansatz_layers=1,2", "solver=rk1,rk2"]
    space = default_space("QViT").overridden(texts)
    return ZooHyperModel("qvit_rk4_digits", space, **options)


def test_a_trial_is_the_preset_but_for_what_is_drawn():
    hypermodel = small()
    source = zoo.read_preset("qvit_rk4_digits")
    for trial in trials(hypermodel, 6):
        configuration = hypermodel.configuration(trial)
        model = hypermodel.build(trial)
        config = model.get_config()
        for name, value in configuration.values.items():
            if not name.startswith("recipe."):
                assert config[name] == value
        drawn = set(configuration.values)
        for name, value in source.config.items():
            if name not in drawn:
                assert config[name] == value, name
        recipe = configuration.recipe
        assert recipe.learning_rate == configuration.values["recipe.learning_rate"]
        assert recipe.epochs == source.recipe.epochs
        shift = configuration.values["recipe.augment.shift"]
        assert (recipe.augment.shift if recipe.augment else 0) == shift


def test_it_begins_with_the_preset():
    hypermodel = ZooHyperModel("qvit_rk4_digits")
    hyperparameters = hypermodel.hyperparameters()
    configuration = hypermodel.configuration(hyperparameters)
    source = zoo.read_preset("qvit_rk4_digits")
    assert configuration.recipe == source.recipe
    model = hypermodel.build(hyperparameters)
    assert model.count_params() == zoo.from_preset(source, load_weights=False).count_params()


def test_a_schedule_leaves_what_belonged_to_the_presets():
    texts = ["recipe.schedule=exponential", "recipe.decay_rate=0.9"]
    space = Space(()).overridden(texts)
    hypermodel = ZooHyperModel("patch_qnn_p4_d1_mnist", space)
    assert hypermodel.source.recipe.cycle_epochs is not None
    recipe = hypermodel.configuration(hypermodel.hyperparameters()).recipe
    assert (recipe.schedule, recipe.decay_rate, recipe.cycle_epochs) == ("exponential", 0.9, None)
    # Where the schedule stays, so do its fields.
    same = ZooHyperModel("patch_qnn_p4_d1_mnist", Space(()).overridden(["num_blocks=1,2"]))
    own = same.source.recipe
    recipe = same.configuration(same.hyperparameters()).recipe
    # It held nothing out, and trials are judged by what is held out.
    assert (own.hold_out, own.monitor) == (False, "train_loss")
    assert recipe == dataclasses.replace(own, hold_out=True, monitor="val_loss")


def test_what_depends_on_a_choice_has_its_default_elsewhere():
    """The preset has two layers and a depth multiplier of 2, which not all choices allow."""
    texts = ["template=ry_ring,hardware_efficient_once", "pooling=mean,depthwise"]
    hypermodel = ZooHyperModel("qvit_3k_mnist", default_space("QViT").overridden(texts))
    config = hypermodel.source.config
    assert (config["num_ansatz_layers"], config["depth_multiplier"]) == (2, 2)
    hyperparameters = hypermodel.hyperparameters()
    # It begins with the preset's.
    assert hypermodel.configuration(hyperparameters).arguments["num_ansatz_layers"] == 2
    hyperparameters.values |= {"template": "ry_ring", "pooling": "mean"}
    arguments = hypermodel.configuration(hyperparameters).arguments
    assert (arguments["num_ansatz_layers"], arguments["depth_multiplier"]) == (1, 1)
    model = hypermodel.build(hyperparameters)
    assert model.get_config()["depth_multiplier"] == 1


def test_models_that_break_a_budget_are_refused():
    hypermodel = small()
    model = hypermodel.build(hypermodel.hyperparameters())
    exact = {"max_params": model.count_params(), "max_qubits": model.num_qubits}
    assert small(**exact).build(hypermodel.hyperparameters()).count_params() == exact["max_params"]
    for name, number in exact.items():
        told = {"max_params": "parameters", "max_qubits": "qubits"}[name]
        tight = small(**{name: number - 1})
        with pytest.raises(BudgetError, match=f"may have {number - 1:,} {told}. .*: {number:,}"):
            tight.build(tight.hyperparameters())
    assert issubclass(BudgetError, FailedTrialError)  # so KerasTuner does not try it again


def test_circuits_that_no_processor_holds():
    space = default_space("QViT").overridden(["hidden_dim=24", "num_heads=4", "mlp_dim=8"])
    wide = ZooHyperModel("qvit_rk4_digits", space, processor="rainbow")
    with pytest.raises(BudgetError, match="fit on rainbow with its 23 qubits. .* of 24 qubits"):
        wide.build(wide.hyperparameters())
    ZooHyperModel("qvit_rk4_digits", space, processor="weber").build(wide.hyperparameters())


def test_arguments_and_recipe_for_all_trials():
    recipe = zoo.read_preset("qvit_rk4_digits").recipe.with_given(epochs=3)
    space = Space(()).overridden(["hidden_dim=8,16"])
    hypermodel = ZooHyperModel(
        "qvit_rk4_digits", space, arguments={"dropout": 0.0, "quantum": False}, recipe=recipe
    )
    configuration = hypermodel.configuration(hypermodel.hyperparameters())
    assert configuration.recipe == recipe
    model = hypermodel.build(hypermodel.hyperparameters())
    assert not model.quantum and model.get_config()["dropout"] == 0.0


@pytest.mark.parametrize("preset", ["qrkt_gan_digits", "trans_gan_digits", "patch_qnn_p4_d1_mnist"])
def test_other_families(preset):
    hypermodel = ZooHyperModel(preset)
    for trial in trials(hypermodel, 2):
        configuration = hypermodel.configuration(trial)
        model = hypermodel.build(trial)
        assert isinstance(model, keras.Model) and model.count_params() > 0
        assert type(configuration.recipe) is type(hypermodel.source.recipe)
    tight = ZooHyperModel(preset, max_qubits=1)
    if model.num_qubits > 1:
        with pytest.raises(BudgetError, match="may have 1 qubits. Received: "):
            tight.build(trial)


def test_the_space_of_every_preset_makes_recipes():
    for name in zoo.list_presets():
        source = zoo.read_preset(name)
        if source.recipe is None or source.class_name == "FeatureNetwork":
            continue
        hypermodel = ZooHyperModel(name)
        drawn = [hypermodel.configuration(trial) for trial in trials(hypermodel, 12)]
        assert len({repr(configuration.recipe) for configuration in drawn}) > 1


def test_sizes_go_by_the_preset():
    gan = ZooHyperModel("qrkt_gan_mnist", recipe=zoo.read_preset("qrkt_gan_mnist").recipe)
    values = {dimension.name: dimension.values for dimension in gan.space}
    assert values["widths"] == ((128, 32, 8), (64, 16, 4))
    assert values["depths"] == ((1, 1, 0), (2, 2, 0)) and values["latent_dim"] == (64, 32)
    config = gan.configuration(gan.hyperparameters()).arguments
    assert config["widths"] == (128, 32, 8) and config["discriminator_width"] == 96
    # A width of 4 has no half that four heads divide.
    assert "widths" not in ZooHyperModel("trans_gan_cifar10_small").space


def test_what_is_given_is_not_drawn():
    given = {"template": "hardware_efficient", "solver": "rk1", "dropout": 0.25}
    hypermodel = ZooHyperModel("qvit_rk4_digits", arguments=given)
    for trial in trials(hypermodel, 3):
        values = hypermodel.configuration(trial).values
        assert {name: values[name] for name in given} == given
        assert "share_weights" not in values and "num_ansatz_layers" in values
        config = hypermodel.build(trial).get_config()
        assert {name: config[name] for name in given} == given
    # What the preset has for another value goes, here its two layers and its multiplier.
    hypermodel = ZooHyperModel(
        "qvit_3k_mnist", arguments={"template": "ry_ring", "pooling": "mean"}
    )
    for trial in trials(hypermodel, 2):
        config = hypermodel.build(trial).get_config()
        assert (config["num_ansatz_layers"], config["depth_multiplier"]) == (1, 1)
    with pytest.raises(ValueError, match="one value. Received: dropout both in the space and in"):
        ZooHyperModel("qvit_rk4_digits", default_space("QViT"), arguments={"dropout": 0.25})


def test_keras_tuner_takes_it(tmp_path):
    space = Space(()).overridden(["hidden_dim=4,8", "num_heads=1", "solver=rk1,rk2"])
    several = Dimension("share_weights", "choice", (False, True), when=(("solver", ("rk2",)),))
    hypermodel = ZooHyperModel("qvit_rk4_digits", space.with_dimension(several), recipe=epochs(2))
    tuner = keras_tuner.RandomSearch(
        hypermodel,
        # Not what the recipe goes by, which is the loss.
        objective="val_accuracy",
        max_trials=3,
        seed=3,
        directory=tmp_path,
    )
    tuner.search(verbose=0)
    found = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len({tuple(values.items()) for values in found}) == 3
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED"] * 3
    # The best model has the weights that reached its score.
    images, labels = data.arrays("digits", "validation")
    model = tuner.get_best_models()[0]
    scores = classification_scores(labels, softmax(model.predict(images, verbose=0), axis=1))
    assert scores.accuracy == pytest.approx(tuner.oracle.get_best_trials()[0].score, abs=1e-6)
    with pytest.raises(ValueError, match="of its hypermodel, .* Received: ndarray, epochs"):
        hypermodel.fit(hypermodel.hyperparameters(), model, images, epochs=2)


def test_the_epoch_counts_that_keras_tuner_keeps():
    class Noted(keras.callbacks.Callback):
        objective = keras_tuner.Objective("val_accuracy", "max")
        logs = []

        def on_epoch_end(self, epoch, logs=None):
            self.logs.append(dict(logs))

    space = Space(()).overridden(["hidden_dim=4", "num_heads=1", "solver=rk1"])
    recipe = epochs(12).with_given(learning_rate=0.1, warmup_steps=10)
    hypermodel = ZooHyperModel("qvit_rk4_digits", space, recipe=recipe)
    hyperparameters = hypermodel.hyperparameters()
    keras.utils.set_random_seed(0)
    model = hypermodel.build(hyperparameters)
    scores = hypermodel.fit(hyperparameters, model, callbacks=[Noted()], verbose=0)
    # The recipe goes by the loss, which is least elsewhere.
    accuracies = [logs["val_accuracy"] for logs in Noted.logs]
    least = min(Noted.logs, key=lambda logs: logs["val_loss"])
    assert recipe.monitor == "val_loss" and least["val_accuracy"] < max(accuracies)
    assert scores["val_accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    # Its time is limited as that of other trials.
    hypermodel.max_seconds = 1e-3
    with pytest.raises(BudgetError, match="A trial may train 0.001 s. Received: .* epoch 1 of 12"):
        hypermodel.fit(hyperparameters, model, verbose=0)


def epochs(number):
    return zoo.read_preset("qvit_rk4_digits").recipe.with_given(epochs=number)


def test_texts_too():
    space = default_space("QText").overridden(["hidden_dim=4", "num_ode_blocks=1", "mlp_dim=4"])
    arguments = {"vocab_size": 50, "max_length": 8, "vocabulary": None}
    hypermodel = ZooHyperModel("qtext_rk1_imdb", space, arguments=arguments)
    model = hypermodel.build(hypermodel.hyperparameters())
    assert model(np.zeros((2, 8), "int32")).shape == (2, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"space": Space((Dimension("widht", "choice", (1,)),))}, "Received: widht"),
        ({"space": Space((Dimension("recipe.rate", "choice", (1,)),))}, "Received: recipe.rate"),
        ({"arguments": {"widht": 1}}, "Received: widht"),
        ({"max_params": 0}, "max_params must be an integer of at least 1. Received: 0"),
        ({"max_qubits": True}, "max_qubits must be .* Received: True"),
        ({"max_seconds": 0}, "max_seconds must be positive. Received: 0"),
        ({"features": "features_digits"}, "of class QViT. Received: features='features_digits'"),
        ({"processor": "bristlecone"}, "rainbow, weber"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ZooHyperModel("qvit_rk4_digits", **options)
