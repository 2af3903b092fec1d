"""Models with circuits against what tells what the circuits buy, on equal terms."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import os
import shlex
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from qrkt_keras.training import (
    CheckpointError,
    Recipe,
    atomic_write,
    comparison_picture,
    fit,
)
from qrkt_keras.training.job import several_models
from qrkt_keras.zoo.controls import CONTROLS, FORMS, controls_of, matched_widths
from qrkt_keras.zoo.examples import Examples, examples_for
from qrkt_keras.zoo.presets import Preset, from_preset, model_classes, read_preset
from qrkt_keras.zoo.runs import (
    PRESET,
    finish_run,
    finished_runs,
    name_of,
    option_words,
    read_run,
    record_runs,
    run_folder,
    run_missing,
)

RESULTS = "results.csv"
PICTURE = "accuracy.png"
RECIPE = "recipe.json"

# Arguments that a model must have to be compared.
_FORMS = {"quantum", "trainable_circuits"}

# How data is read, as `qrkt train` has it; the rest follows from the model.
_READING = ("text_column", "label_column", "split_column", "skip_unreadable", "skip_empty")


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """A form of a preset's model, and what it reached.

    Attributes:
        preset: Name of the preset.
        title: Of the form, such as `"classical twin"`.
        parameters: How many the model has.
        qubits: Of all its circuits together.
        runs: Its finished runs, a row each, see `zoo.runs.COLUMNS`.
    """

    preset: str
    title: str
    parameters: int
    qubits: int
    runs: tuple[Mapping[str, str], ...]

    def values(self, column: str = "test_accuracy") -> tuple[float, ...]:
        """A column, of all runs that have it."""
        return tuple(float(run[column]) for run in self.runs if run[column])

    def mean(self, column: str = "test_accuracy") -> float:
        """Its mean over the runs."""
        return statistics.mean(self.values(column))

    def std(self, column: str = "test_accuracy") -> float:
        """Its sample standard deviation over the runs, of which there must be two."""
        return statistics.stdev(self.values(column))


@dataclasses.dataclass(frozen=True)
class ComparisonResult:
    """What `compare` leaves behind.

    Attributes:
        models: What was compared, preset by preset, the model with circuits first.
        diverged: Folders of runs whose loss stopped being a number, and what they said.
        output_dir: Where the runs' folders, `results.csv` and `accuracy.png` are.
    """

    models: tuple[ComparedModel, ...]
    diverged: Mapping[Path, str]
    output_dir: Path


@dataclasses.dataclass(frozen=True, eq=False)
class _Form:
    """A form of a preset's model, to be trained with each seed.

    Attributes:
        preset: Name of the preset.
        key: Of the form, in the names of folders.
        title: Of the form, in tables.
        examples: What it is trained on.
        recipe: How, but for the seed.
        arguments: The model's, in place of the preset's.
        command: What trains it, but for seed and folder.
        model: One that shows what it is.
    """

    preset: str
    key: str
    title: str
    examples: Examples
    recipe: Recipe
    arguments: Mapping[str, Any]
    command: tuple[str, ...]
    model: keras.Model

    @property
    def counts(self) -> tuple[int, int]:
        """Parameters and qubits."""
        return self.model.count_params(), self.model.num_qubits


def compare(
    presets: Sequence[str | os.PathLike[str]],
    *,
    output_dir: str | os.PathLike[str],
    data: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    controls: Sequence[str] = ("twin",),
    seeds: Sequence[int] = (0, 1, 2),
    recipe: Recipe | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    engine: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    xla: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> ComparisonResult:
    """Trains models with circuits and their controls on equal terms, and compares them.

    Of every preset the model itself is trained, and the forms of it that `controls` names, from
    fresh weights: by the same recipe, on the same examples in the same order, once with each seed.

    - `"twin"`: the classical twin, of the same shapes, with Dense layers for circuits.
    - `"matched"`: the classical model of nearest parameter count, see `matched_widths`. Where that
      is the twin, it is left out, with a warning, if the twin is there.
    - `"identity"`: nothing in the circuits' place.
    - `"frozen"`: the circuits' angles stay as they are drawn.

    A `PatchQNN` has the first and the last only: it has no widths to be matched, and with nothing
    in the circuits' place it has no values.

    Every run is a job of `fit` in a folder of its own, `output_dir/PRESET_FORM_seedSEED`, with what
    `qrkt train` leaves there; its `metadata.json` has the command that trains it alone. After each,
    `output_dir/results.csv` gets its row, and at the end `accuracy.png` shows accuracy against
    parameters. A comparison that was killed or interrupted is continued by the same call with
    `resume=True`: what is finished is not run again, so more presets, controls and seeds can be
    added too.

    Args:
        presets: Names or folders of presets of classifiers with circuits.
        output_dir: A folder for this comparison alone; it is made if need be.
        data: Name or path of a data set, see `data.arrays`; by default the presets', which must be
            one.
        data_options: How it is read: `text_column`, `label_column`, `split_column`,
            `skip_unreadable`, `skip_empty`.
        controls: Which forms beside the model itself.
        seeds: Seed of weights and order, for one run each.
        recipe: How all are trained, in place of each preset's recipe. It is kept in
            `output_dir/recipe.json`.
        epochs, batch_size, learning_rate: In place of the recipe's.
        engine: Engine that computes the circuits.
        arguments: More arguments of all models, in place of the presets'; JSON data.
        xla: Whether to compile the training steps with XLA.
        resume: Whether to continue the comparison in `output_dir`, if there is one.
        progress: Whether to show how far it is.

    Returns:
        What every form reached. Runs that diverged are not among them, but are named.

    Raises:
        ValueError: If an argument is unknown or does not fit the others, if a preset is not a
            classifier's with circuits, or if `output_dir` holds something else.
        CheckpointError: If a run in `output_dir` is damaged or is another one.
        TrainingInterrupted: On an interrupt (ctrl-C), with the way to continue.

    Example:

    >>> import tempfile
    >>> from qrkt_keras import zoo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = zoo.compare(
    ...         ["qvit_rk4_digits"],
    ...         output_dir=folder,
    ...         arguments={"solver": "rk1"},
    ...         seeds=[0],
    ...         epochs=1,
    ...         progress=False,
    ...     )
    >>> [(model.title, model.parameters, model.qubits) for model in result.models]
    [('quantum', 1194, 80), ('classical twin', 2202, 0)]
    """
    folder = Path(output_dir)
    _check_lists(presets=presets, controls=controls, seeds=seeds)
    settings = dict(arguments or {})
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    options = {"data": data, **_reading(data_options), **given, "engine": engine}
    if recipe is not None:
        options["recipe"] = folder / RECIPE
    forms: list[_Form] = []
    for preset in presets:
        source = read_preset(preset)
        _check_class(source, preset, controls)
        examples = examples_for(source, data, data_options, image_shape=settings.get("image_shape"))
        if recipe is None and source.recipe is None:
            raise ValueError(
                "The preset does not say how it is trained; recipe= (on the command line --recipe) "
                f"does. Received: {os.fspath(preset)!r}"
            )
        forms += _forms(
            preset,
            examples,
            (recipe or source.recipe).with_given(**given),
            controls,
            settings | ({} if engine is None else {"engine": engine}),
            ["train", os.fspath(preset), *_set(settings)],
            option_words({"xla": xla} | options),
        )
    _check_terms(forms)
    folders = {
        (form, seed): run_folder(folder, form.preset, form.key, seed)
        for seed in seeds
        for form in forms
    }
    _check_folder(folder, folders, resume=resume)
    forms[0].examples.arrays("train")  # a data set that is not there stops us here

    folder.mkdir(parents=True, exist_ok=True)
    if recipe is not None:
        with atomic_write(folder / RECIPE) as file:
            file.write(recipe.to_json().encode())
    return _run(folder, forms, folders, xla=xla, progress=progress)


def _run(
    folder: Path,
    forms: Sequence[_Form],
    folders: Mapping[tuple[_Form, int], Path],
    *,
    xla: bool,
    progress: bool,
) -> ComparisonResult:
    """Runs what is missing, and reports after every run."""
    console = Console(highlight=False, markup=False, emoji=False)
    numbers = {job: number for number, job in enumerate(folders, 1)}
    rows: dict[tuple[_Form, int], dict[str, str]] = {}
    diverged: dict[Path, str] = {}

    def record(job: tuple[_Form, int]) -> None:
        form = job[0]
        rows[job] = read_run(folders[job], preset=form.preset, model=form.title, counts=form.counts)
        record_runs(folder / RESULTS, [rows[job]])

    def run(job: tuple[_Form, int], where: Path) -> None:
        form, seed = job
        if progress:
            told = f"{form.preset}, {form.title}, seed {seed}"
            console.print(f"run {numbers[job]} of {len(folders)}: {told}", soft_wrap=True)
        try:
            _train(form, seed, where, xla=xla, progress=progress)
        except FloatingPointError as error:
            diverged[where] = str(error)
            return
        record(job)

    for job in finished_runs(folders):
        record(job)
    if progress and rows:
        console.print(f"{len(rows)} of {len(folders)} runs are finished")
    with several_models():
        run_missing(folders, run)
    models = tuple(
        ComparedModel(
            form.preset,
            form.title,
            *form.counts,
            tuple(rows[job] for job in folders if job[0] is form and job in rows),
        )
        for form in forms
    )
    result = ComparisonResult(models, diverged, folder)
    reached = {
        (model.preset, model.title): (model.parameters, model.values())
        for model in models
        if model.runs
    }
    if reached:
        seeds = sorted({seed for _, seed in folders})
        told = f"{', '.join(map(str, seeds))}"
        told = f"mean and standard deviation of seeds {told}" if len(seeds) > 1 else f"seed {told}"
        comparison_picture(reached, folder / PICTURE, title=f"{forms[0].examples.data}: {told}")
    return result


def _train(form: _Form, seed: int, folder: Path, *, xla: bool, progress: bool) -> None:
    """One run, as `qrkt train` makes it."""
    examples, recipe = form.examples, form.recipe.with_given(seed=seed)
    keras.utils.set_random_seed(recipe.seed)
    model = from_preset(examples.source, load_weights=False, **form.arguments)
    result = fit(
        model,
        examples.data,
        recipe,
        output_dir=folder,
        resume=True,
        progress=progress,
        identity={"model": model.get_config()},
        data_options=examples.options,
        jit_compile=xla or "auto",
    )
    finish_run(
        model,
        folder,
        recipe=recipe,
        data=examples.data,
        data_options=examples.options,
        scores=result.to_scores(),
        command=shlex.join([*form.command, "--seed", str(seed), "--output", str(folder)]),
    )
    # Models hold themselves in circles.
    del model
    gc.collect()


def _forms(
    preset: str | os.PathLike[str],
    examples: Examples,
    recipe: Recipe,
    controls: Sequence[str],
    settings: Mapping[str, Any],
    words: Sequence[str],
    options: Sequence[str],
) -> list[_Form]:
    """A preset's model with circuits, and the forms of it that are its controls."""
    source = examples.source
    name = name_of(source)
    common = {**examples.arguments(), **settings}
    forms: list[_Form] = []
    for key in ("quantum", *controls):
        control = FORMS[key]
        widths = matched_widths(source, **common) if key == "matched" else {}
        arguments = {**common, **control.arguments, **widths}
        model = from_preset(source, load_weights=False, **arguments)
        if key == "quantum":
            examples.check(model, name)
            if not model.pqcs or not model.trainable_circuits:
                template = f"template={model.template!r}, " if hasattr(model, "template") else ""
                raise ValueError(
                    "A comparison is of models with circuits that are trained; it makes the "
                    f"controls itself. Received: {name!r} with quantum={model.quantum}, {template}"
                    f"trainable_circuits={model.trainable_circuits}"
                )
        twins = [form for form in forms if form.model.get_config() == model.get_config()]
        if twins:
            warnings.warn(
                f"The {control.title} of {name} is its {twins[0].title}: none is nearer in count "
                "of parameters.",
                stacklevel=3,
            )
            continue
        forms.append(
            _Form(
                name,
                key,
                control.title,
                examples,
                recipe,
                arguments,
                ("qrkt", *words, *control.words, *_set(widths), *options),
                model,
            )
        )
    return forms


def _check_lists(**lists: Sequence[Any]) -> None:
    for name, values in lists.items():
        if isinstance(values, str) or (not values and name != "controls"):
            raise ValueError(f"{name} must be a list of some. Received: {name}={values!r}")
        if len({*map(str, values)}) < len(values):
            raise ValueError(f"{name} must be different. Received: {name}={[*values]}")
    unknown = [name for name in lists["controls"] if name not in CONTROLS]
    if unknown:
        raise ValueError(
            f"The controls are: {', '.join(CONTROLS)}. Received: {', '.join(map(repr, unknown))}"
        )
    for seed in lists["seeds"]:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"A seed is an integer of at least 0. Received: seed={seed!r}")


def _check_class(source: Preset, preset: str | os.PathLike[str], controls: Sequence[str]) -> None:
    model_class = model_classes()[source.class_name]
    taken = inspect.signature(model_class).parameters.keys()
    received = f"Received: {os.fspath(preset)!r}, {source.class_name}"
    if model_class.recipe_class is not Recipe:
        raise ValueError(
            "Classifiers are compared here, by accuracy. GANs are by FID: `qrkt train --classical` "
            "trains a twin, `qrkt evaluate` measures, and the script zoo/qrkt_gan/compare.py does "
            f"both for all forms. {received}"
        )
    if not taken >= _FORMS:
        raise ValueError(f"A comparison is of models with circuits. {received}")
    for control in controls:
        missing = [name for name in FORMS[control].needs if name not in taken]
        if missing:
            raise ValueError(
                f"The control {control} ({FORMS[control].title}) is of models with the arguments "
                f"{', '.join(FORMS[control].needs)}, and this one has not {', '.join(missing)}; "
                f"its controls are {', '.join(controls_of(model_class))}. {received}"
            )


def _check_terms(forms: Sequence[_Form]) -> None:
    """Whether all are trained on the same data, in folders of their own, and by one recipe."""
    quantum = [form for form in forms if form.key == "quantum"]
    names = [form.preset for form in quantum]
    if len(set(names)) < len(names):
        raise ValueError(f"The presets must have different names. Received: {', '.join(names)}")
    data = {form.examples.data for form in quantum}
    if len(data) > 1:
        raise ValueError(
            "The presets are of different data sets: data= (on the command line --data) names one "
            f"for all. Received: {', '.join(sorted(data))}"
        )
    if len({form.recipe for form in quantum}) > 1:
        warnings.warn(
            "The presets have different recipes, so only the forms of one are on equal terms; "
            "recipe= (on the command line --recipe) gives all the same.",
            stacklevel=3,
        )


def _check_folder(folder: Path, folders: Mapping[tuple[_Form, int], Path], *, resume: bool) -> None:
    """Whether what is there belongs to this comparison."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir must be a folder. Received: output_dir={folder}")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            "The folder is not empty: resume=True (on the command line --resume) continues the "
            f"comparison in it, or choose another one. Received: {folder}"
        )
    # Of what is not finished `fit` sees whether it is the same job.
    for (form, seed), where in finished_runs(folders).items():
        found = read_preset(where / PRESET)
        config = json.loads(json.dumps(form.model.get_config()))
        wanted = {name: config.get(name) for name in found.config}
        if wanted.get("vocabulary", 0) is None:  # which came from the training texts
            wanted["vocabulary"] = found.config["vocabulary"]
        terms = {
            "recipe": (found.recipe, form.recipe.with_given(seed=seed)),
            "data": (found.data, form.examples.data),
            "data_options": (dict(found.data_options), dict(form.examples.options)),
            "model": (dict(found.config), wanted),
        }
        other = [name for name, (there, asked) in terms.items() if there != asked]
        if other:
            raise CheckpointError(
                "A run that is finished has another " + " and another ".join(other) + ": take the "
                f"options it was made with, or another folder. Received: {where}"
            )


def _reading(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of data as the command line has them."""
    unknown = sorted((options or {}).keys() - set(_READING))
    if unknown:
        raise ValueError(
            f"The options of data in a comparison are: {', '.join(_READING)}. "
            f"Received: {', '.join(unknown)}"
        )
    return dict(options or {})


def _set(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments of a model as words of a command."""
    return [
        word
        for name, value in arguments.items()
        for word in ("--set", f"{name}={_value(name, value)}")
    ]


def _value(name: str, value: Any) -> str:
    """A value as `qrkt train --set` reads it: as JSON, or else as the text that it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except json.JSONDecodeError:
            return value
    try:
        return json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"arguments must be JSON data ({error}). Received: {name}={value!r}"
        ) from error
