"""A preset's model and recipe, with the values that a search draws."""

from __future__ import annotations

import dataclasses
import inspect
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from qrkt_keras.hardware import fits, get_processor
from qrkt_keras.training import Augmentation, GANRecipe, Recipe, fit, fit_gan
from qrkt_keras.training.job import several_models
from qrkt_keras.training.recipes import SCHEDULE_FIELDS
from qrkt_keras.tuning.budgets import BudgetError, TimeBudget
from qrkt_keras.tuning.families import default_space
from qrkt_keras.tuning.results import MEASURES, classifier_scores, gan_scores
from qrkt_keras.tuning.space import RECIPE, Space
from qrkt_keras.zoo import (
    Examples,
    Preset,
    PresetError,
    examples_for,
    feature_network_for,
    from_preset,
    model_classes,
    read_preset,
)
from qrkt_keras.zoo.features import features_preset

_AUGMENT = "augment."


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a trial is: the values that were drawn, and what they make.

    Attributes:
        values: By name of the dimension.
        arguments: Of the model, in place of the preset's.
        recipe: How it is trained.
    """

    values: Mapping[str, Any]
    arguments: Mapping[str, Any]
    recipe: Recipe | GANRecipe


class ZooHyperModel(keras_tuner.HyperModel):
    """A family of the zoo for KerasTuner: a preset, of which some values are drawn from a space.

    A model that breaks a budget is refused before it is trained.

    Args:
        preset: Name or folder of the preset whose values are taken where none is drawn.
        space: What is drawn; by default the family's, see `default_space`, but for what has a
            value in `arguments`.
        data: Name or path of the data set; by default the preset's.
        data_options: How it is read, see `data.arrays`.
        arguments: More arguments of all models, in place of the preset's.
        recipe: How all are trained, in place of the preset's recipe. If it holds nothing out, a
            validation split is held out all the same: trials are judged by it.
        features: What a GAN's images are measured by, see `zoo.feature_network_for`.
        max_params: How many parameters a model may have.
        max_qubits: How many qubits its circuits may have together, as the zoo's tables count.
        processor: Name of a processor of `hardware.list_processors()`, which must hold each of its
            circuits, see `hardware.fits`.
        max_seconds: How long a trial may train, all folds together; one that takes longer, or
            would, as its first three epochs tell, is stopped.

    Raises:
        ValueError: If the space or an argument has a name that the model does not know, an argument
            is drawn too, or a budget is none.
        PresetError: If the preset is unknown or damaged, or nothing measures a GAN's images.

    Example:

    >>> hypermodel = ZooHyperModel("qvit_rk4_digits", max_params=4000)
    >>> model = hypermodel.build(hypermodel.hyperparameters())
    >>> model.count_params() <= 4000
    True
    """

    def __init__(
        self,
        preset: str | os.PathLike[str],
        space: Space | None = None,
        *,
        data: str | None = None,
        data_options: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        recipe: Recipe | GANRecipe | None = None,
        features: str | None = None,
        max_params: int | None = None,
        max_qubits: int | None = None,
        processor: str | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.source: Preset = read_preset(preset)
        self.arguments = dict(arguments or {})
        if space is None:
            config = dict(self.source.config) | self.arguments
            space = default_space(self.source.class_name, config).fixed(self.arguments)
        self.space = space
        if space != (fixed := space.fixed(self.arguments)):
            drawn = [one.name for one, other in zip(space, fixed, strict=True) if one != other]
            raise ValueError(
                "An argument is either drawn or has one value. "
                f"Received: {', '.join(drawn)} both in the space and in the arguments"
            )
        shape = self.arguments.get("image_shape")
        self.examples: Examples = examples_for(self.source, data, data_options, image_shape=shape)
        self.recipe = recipe or self.source.recipe
        if self.recipe is None:
            raise ValueError(
                "The preset does not say how it is trained; recipe= does. "
                f"Received: {os.fspath(preset)!r}"
            )
        if not self.is_gan and not self.recipe.hold_out:
            monitor = self.recipe.monitor.replace("train_", "val_", 1)
            self.recipe = dataclasses.replace(self.recipe, hold_out=True, monitor=monitor)
        if features is not None and not self.is_gan:
            raise ValueError(
                "A feature network measures the images of GANs, and the preset is of class "
                f"{self.source.class_name}. Received: features={features!r}"
            )
        if self.is_gan and features is None and features_preset(self.examples.data) is None:
            raise PresetError(
                "There is no preset features_DATA for this data set: features= names what "
                f"generated images are measured by. Received: data={self.examples.data!r}"
            )
        self.features = features
        for name, budget in (("max_params", max_params), ("max_qubits", max_qubits)):
            if budget is not None and (type(budget) is not int or budget < 1):
                raise ValueError(f"{name} must be an integer of at least 1. Received: {budget!r}")
        if max_seconds is not None and not max_seconds > 0:
            raise ValueError(f"max_seconds must be positive. Received: {max_seconds!r}")
        self.max_params, self.max_qubits = max_params, max_qubits
        self.max_seconds = max_seconds
        self.processor = None if processor is None else get_processor(processor)
        self._check_names()

    @property
    def is_gan(self) -> bool:
        """Whether its models are GANs."""
        return isinstance(self.recipe, GANRecipe)

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """The space for KerasTuner; it begins with the preset's values where they are in it."""
        hyperparameters = keras_tuner.HyperParameters()
        self.declare_hyperparameters(hyperparameters)
        return hyperparameters

    def declare_hyperparameters(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """Adds the space to KerasTuner's; its own tuners ask for it."""
        config = dict(self.source.config) | self.arguments
        defaults = {}
        for dimension in self.space:
            if not dimension.name.startswith(RECIPE):
                defaults[dimension.name] = config.get(dimension.name)
                continue
            value: Any = self.recipe
            for part in dimension.name.removeprefix(RECIPE).split("."):
                value = getattr(value, part, None)
            defaults[dimension.name] = value
        self.space.register(hyperparameters, defaults)

    def configuration(self, hyperparameters: keras_tuner.HyperParameters) -> Configuration:
        """What a trial is.

        Raises:
            ValueError: If the recipe refuses its values.
        """
        values = self.space.values(hyperparameters)
        told = self._defaults(values) | values
        arguments = {name: v for name, v in told.items() if not name.startswith(RECIPE)}
        drawn = {
            name.removeprefix(RECIPE): v for name, v in told.items() if name.startswith(RECIPE)
        }
        changes: dict[str, Any] = {}
        if drawn.get("schedule", getattr(self.recipe, "schedule", None)) != getattr(
            self.recipe, "schedule", None
        ):
            changes |= dict.fromkeys(SCHEDULE_FIELDS)
        augment = {
            name.removeprefix(_AUGMENT): v for name, v in drawn.items() if name.startswith(_AUGMENT)
        }
        changes |= {name: v for name, v in drawn.items() if not name.startswith(_AUGMENT)}
        if augment:
            before = self.recipe.augment or Augmentation()
            after = dataclasses.replace(before, **augment)
            changes["augment"] = None if after == Augmentation() else after
        recipe = dataclasses.replace(self.recipe, **changes)
        return Configuration(values, self.arguments | arguments, recipe)

    def build(self, hyperparameters: keras_tuner.HyperParameters) -> keras.Model:
        """A trial's model, with fresh weights by Keras' own seed.

        Raises:
            BudgetError: If it breaks a budget.
            ValueError: If the model refuses its values.
        """
        changes = self.model_arguments(self.configuration(hyperparameters))
        model = from_preset(self.source, load_weights=False, **changes)
        self.check(model)
        return model

    def fit(
        self,
        hyperparameters: keras_tuner.HyperParameters,
        model: keras.Model,
        *arguments: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        **options: Any,
    ) -> dict[str, float]:
        """Trains a trial's model as its recipe says, for KerasTuner's own tuners; nothing is kept.

        The epoch counts that is best by the tuner's objective, if it is one of `OBJECTIVES`.

        Args:
            hyperparameters: The trial's.
            model: What `build` made of them.
            *arguments, **options: Nothing: data set and epochs are the hypermodel's.
            callbacks: KerasTuner's.
            verbose: 0 to show nothing.

        Returns:
            Its scores, by the names of objectives.

        Raises:
            BudgetError: If it takes longer than `max_seconds`.
            ValueError: If it is told what to train on, or how; also by KerasTuner's `Hyperband`,
                which goes on without the optimizer's state: `search(tuner="hyperband")` has it.

        Example:

        >>> space = Space(()).overridden(["hidden_dim=4,8", "num_heads=1", "solver=rk1"])
        >>> recipe = ZooHyperModel("qvit_rk4_digits").recipe.with_given(epochs=1)
        >>> hypermodel = ZooHyperModel("qvit_rk4_digits", space, recipe=recipe)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tuner = keras_tuner.RandomSearch(
        ...         hypermodel, objective="val_accuracy", max_trials=1, directory=folder)
        ...     tuner.search(verbose=0)
        ...     tuner.oracle.get_best_trials()[0].status
        'COMPLETED'
        """
        if arguments or options:
            told = [type(argument).__name__ for argument in arguments] + sorted(options)
            raise ValueError(
                "A trial is trained on the data set of its hypermodel, as its recipe says; of "
                f"Hyperband by search(tuner='hyperband'). Received: {', '.join(told)}"
            )
        recipe = self.configuration(hyperparameters).recipe
        # KerasTuner keeps the weights of the epoch that is best by its objective: so do we.
        judges = (getattr(callback, "objective", None) for callback in callbacks)
        objective = next((judge.name for judge in judges if judge is not None), None)
        if objective in MEASURES:
            recipe = dataclasses.replace(recipe, monitor=objective)
        if self.max_seconds is not None:
            callbacks = [*callbacks, TimeBudget(self.max_seconds)]
        options = {
            "data_options": dict(self.examples.options),
            "callbacks": callbacks,
            "progress": verbose != 0,
        }
        with several_models(), tempfile.TemporaryDirectory() as folder:
            if not self.is_gan:
                result = fit(model, self.examples.data, recipe, output_dir=folder, **options)
                return classifier_scores(result)
            network = feature_network_for(self.examples.data, self.features)
            return gan_scores(
                fit_gan(
                    model,
                    self.examples.data,
                    recipe,
                    output_dir=folder,
                    feature_network=network,
                    **options,
                )
            )

    def model_arguments(self, configuration: Configuration) -> dict[str, Any]:
        """All arguments of a trial's model in place of the preset's: those of the data too."""
        return self.examples.arguments() | dict(configuration.arguments)

    def check(self, model: keras.Model) -> None:
        """Refuses a model that breaks a budget.

        Raises:
            BudgetError: With what it has, and what it may have.
        """
        for name, budget, count in (
            ("parameters", self.max_params, model.count_params),
            ("qubits", self.max_qubits, lambda: model.num_qubits),
        ):
            if budget is not None and count() > budget:
                raise BudgetError(
                    f"The model may have {budget:,} {name}. Received: {count():,} {name}"
                )
        if self.processor is not None:
            for layer in model.pqcs:
                if not fits(layer.spec, self.processor):
                    raise BudgetError(
                        f"Each circuit must fit on {self.processor.name} with its "
                        f"{len(self.processor.qubits)} qubits. Received: a circuit of "
                        f"{layer.spec.num_qubits} qubits"
                    )

    def _defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults of what is not drawn since a condition does not hold.

        The preset's value may not go with what is drawn, such as its layers with a template of one.
        """
        taken = inspect.signature(model_classes()[self.source.class_name]).parameters
        known = {name: parameter.default for name, parameter in taken.items()}
        known |= {f"{RECIPE}{field.name}": field.default for field in _fields(self.recipe)}
        absent = {one.name for one in self.space if one.when} - set(values)
        none = (inspect.Parameter.empty, dataclasses.MISSING)
        return {name: known[name] for name in absent if known.get(name, none[0]) not in none}

    def _check_names(self) -> None:
        taken = set(inspect.signature(model_classes()[self.source.class_name]).parameters)
        fields = {field.name for field in _fields(self.recipe)}
        if isinstance(self.recipe, Recipe):
            augment = {field.name for field in dataclasses.fields(Augmentation)}
            fields |= {f"{_AUGMENT}{name}" for name in augment}
        known = taken | {f"{RECIPE}{name}" for name in fields}
        wrong = [name for name in self._names() if name not in known]
        if wrong:
            raise ValueError(
                f"A {self.source.class_name} has the arguments {', '.join(sorted(taken))}, and its "
                f"recipe the fields {', '.join(sorted(fields))}. Received: {', '.join(wrong)}"
            )

    def _names(self) -> Sequence[str]:
        return [*(dimension.name for dimension in self.space), *self.arguments]


def _fields(recipe: Recipe | GANRecipe) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(type(recipe))
