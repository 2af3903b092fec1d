"""`qrkt`: the command line.

What needs TensorFlow imports it inside the command, under `_tensorflow`, so that help and lists
come at once and TensorFlow's start-up is neither silent nor chatty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fnmatch
import importlib.metadata
import json
import math
import os
import platform
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

import qrkt_keras
from qrkt_keras import data as datasets
from qrkt_keras import solvers
from qrkt_keras.data.splits import stratified_split
from qrkt_keras.quiet import quiet_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf
    from cirq import Sampler

    from qrkt_keras.analysis import DataLoss, KeptProducts, SpectralDensity
    from qrkt_keras.hardware import CompiledCircuit, KeptRuns
    from qrkt_keras.training import (
        CrossValidationResult,
        FeatureExtractor,
        GANMeasures,
        GANRecipe,
        GANResult,
        Recipe,
        Scores,
    )
    from qrkt_keras.tuning import SearchResult, Space
    from qrkt_keras.zoo import (
        GAN,
        ComparisonResult,
        Examples,
        FeatureNetwork,
        PatchQNN,
        Preset,
        QText,
        QViT,
    )

DEFAULT_DATA = "digits"
DEFAULT_PRESET = "qvit_rk4_digits"
GUIDE = "docs/guides/train_save_serve.md"
DISTRIBUTED_GUIDE = "docs/guides/distributed.md"
TUNING_GUIDE = "docs/guides/tuning.md"

PACKAGE = Path(qrkt_keras.__file__).parent

# Images that go through a model at once: few, for the state_vector engine holds a state for each
# of their tokens.
BATCH = 64

# What a run's folder holds, beside what `training.fit` puts there: as in `zoo.runs`, which would
# load Keras.
PRESET = "preset"
SAVED_MODEL = "saved_model"
# As `training.snapshots` names it.
SNAPSHOTS = "snapshots"

# The status of a process that an interrupt ended, by the shells' convention.
_INTERRUPTED = 130

# Tables are not squeezed into 80 columns where nobody said that there are so few.
_WIDTH_WITHOUT_TERMINAL = 200


def main() -> None:
    """Runs the command line."""
    app(prog_name="qrkt")


# --- the screen ----------------------------------------------------------------------------


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    wide = not stream.isatty() and "COLUMNS" not in os.environ
    # File names and messages are shown as they are, square brackets included.
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=_WIDTH_WITHOUT_TERMINAL if wide else None,
    )


def _say(text: str | Text = "", style: str | None = None, *, stderr: bool = False) -> None:
    # Not wrapped: a command must survive being copied.
    _console(stderr=stderr).print(text, style=style, soft_wrap=True)


def _table(*columns: str) -> Table:
    """A table of which all columns but the first are aligned to the right.

    The first is folded where the screen is narrow, such as a long file name; the others never are.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if number else "left",
            no_wrap=number > 0,
            overflow="fold",
            min_width=len(column),
        )
    return table


@contextlib.contextmanager
def _status(text: str) -> Iterator[None]:
    """Shows on a terminal that something is going on."""
    with _console(stderr=True).status(text):
        yield


@contextlib.contextmanager
def _tensorflow() -> Iterator[None]:
    """Starts TensorFlow, and keeps it quiet for as long as this lasts."""
    with quiet_tensorflow(), _warnings_as_lines():
        with _status("Starting TensorFlow …"):
            import keras

            if keras.backend.backend() != "tensorflow":
                raise ValueError(
                    "The command line runs Keras on TensorFlow; with KERAS_BACKEND=tensorflow "
                    f"in front of the command it will. Received: {keras.backend.backend()!r}"
                )
            import qrkt_keras.zoo  # noqa: F401
        yield


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Shows warnings that this package gives without file and line, which help no one here."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, *rest: Any
        ) -> None:
            if Path(filename).is_relative_to(PACKAGE):
                _say(f"Note: {message}", "yellow", stderr=True)
            else:
                others(message, category, filename, *rest)

        warnings.showwarning = show
        yield


# --- errors --------------------------------------------------------------------------------


def _is_for_the_user(error: Exception) -> bool:
    """Whether an error says what the user can change, and is no bug of ours.

    That is what the machine refuses (a full disk), and what this package refuses: raised by its
    own code, with what was received, as all its checks say.
    """
    if isinstance(error, BrokenPipeError):  # `qrkt list | head`, which typer ends well
        return False
    if isinstance(error, OSError):
        return True
    if not isinstance(error, ValueError | TypeError | FloatingPointError):
        return False
    where = error.__traceback__
    while where.tb_next is not None:
        where = where.tb_next
    module = where.tb_frame.f_globals.get("__name__", "")
    return module.startswith("qrkt_keras.") and "Received: " in str(error)


class _Commands(TyperGroup):
    """Shows an error that is for the user as one line."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("Interrupted.", "yellow", stderr=True)
            raise typer.Exit(_INTERRUPTED) from None
        except Exception as error:
            if ctx.params["debug"] or not _is_for_the_user(error):
                raise
            _say(str(error), "bold red", stderr=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"qrkt {qrkt_keras.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="QRKT_DEBUG", help="Show where an error comes from."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Quantum transformers with Runge-Kutta residual blocks: train, evaluate, predict, export."""


# --- presets -------------------------------------------------------------------------------


def _packaged_presets() -> dict[str, Path]:
    """The presets of the package: name to folder, found without loading Keras."""
    files = PACKAGE.glob("zoo/*/presets/*/config.json")
    return {file.parent.name: file.parent for file in sorted(files)}


def _located(preset: str) -> tuple[str, str]:
    """What was given as a preset, as the zoo takes it, and a name for it.

    Beside names and folders of presets, the folder of a run stands for its preset.
    """
    if preset in _packaged_presets():
        return preset, preset
    folder = Path(preset)
    if (folder / PRESET / "config.json").is_file():
        return str(folder / PRESET), folder.resolve().name
    if folder.name == PRESET:
        return preset, folder.resolve().parent.name
    return preset, folder.resolve().name


def _trained_model(
    preset: str, engine: str | None, *kinds: str, load_weights: bool = True
) -> tuple[PatchQNN | QText | QViT | GAN | FeatureNetwork, Preset]:
    """A model of one of these kinds, with its weights where its answers would be noise without."""
    from qrkt_keras import zoo

    where, name = _located(preset)
    source = zoo.read_preset(where)
    kind = _kind(source)
    if kind not in kinds:
        wanted = " or ".join(f"a {kind}'s" for kind in kinds)
        raise ValueError(f"The preset must be {wanted}. Received: {preset!r}, {source.class_name}")
    if load_weights and source.weights is None:
        raise ValueError(
            f"The preset has no trained weights yet. `qrkt train {shlex.quote(preset)}` trains it "
            f"into the folder runs/{name}, which can be given here then. Received: {preset!r}"
        )
    options = _given({"engine": engine})
    return zoo.from_preset(source, load_weights=load_weights, **options), source


def _kind(source: Preset) -> str:
    """What a preset's model does."""
    from qrkt_keras import zoo

    model_class = zoo.model_classes()[source.class_name]
    if issubclass(model_class, zoo.GAN):
        return "GAN"
    return "feature network" if model_class is zoo.FeatureNetwork else "classifier"


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


# --- train ---------------------------------------------------------------------------------

PresetOrFolder = Annotated[
    str, typer.Argument(metavar="PRESET|FOLDER", help="Preset, its folder, or a run's folder.")
]
Engine = Annotated[
    str | None, typer.Option(help="Engine that computes the circuits, see `qrkt about`.")
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|FOLDER|inception",
        help="What a GAN's images are measured by: a feature network, or the literature's "
        "Inception network (`inception`, or the folder of its SavedModel).",
        show_default="features_DATA",
    ),
]


RecipeSource = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="FILE|PRESET",
        help="Recipe in place of the preset's: a JSON file, or another preset's.",
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An argument of the model, in place of the preset's; may be repeated.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Data set, in place of the preset's: a name, a folder of images with a folder a "
        "class, or a CSV file of texts.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option(help="Column of texts of a CSV file.", show_default="text")
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Its column of labels.", show_default="label")
]
SplitColumn = Annotated[
    str | None,
    typer.Option(help="Its column of train, validation or test.", show_default="split, if any"),
]
SkipEmpty = Annotated[bool, typer.Option("--skip-empty", help="Leave out its rows without a text.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
]


# Flags of `train`: what each adds to the folder's name, and the model's argument it makes False.
_FORMS = {
    "--classical": ("_classical", "quantum"),
    "--classical-discriminator": ("_classical_discriminator", "quantum_discriminator"),
    "--freeze-circuits": ("_frozen", "trainable_circuits"),
}


def _arguments(settings: Sequence[str]) -> dict[str, Any]:
    """Arguments of the model as they were given, `NAME=VALUE`; a value is JSON or else a text."""
    arguments = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set takes NAME=VALUE. Received: {setting!r}")
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value
    return arguments


class Strategy(enum.StrEnum):
    """As `training.STRATEGIES`, which cannot be had without Keras."""

    MIRRORED = "mirrored"
    MULTIWORKER = "multiworker"


@app.command()
def train(
    preset: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET",
            help="What to train: a name that `qrkt list` shows, or a folder.",
            show_default=DEFAULT_PRESET,
        ),
    ] = None,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    recipe_source: RecipeSource = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs, in place of the preset's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images a step, in place of the preset's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate, in place of the preset's.")
    ] = None,
    engine: Engine = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all that is random.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of this run.", show_default="runs/PRESET"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder, if there is one.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in the folder.")
    ] = False,
    classical: Annotated[
        bool, typer.Option("--classical", help="Train the classical twin instead.")
    ] = False,
    classical_discriminator: Annotated[
        bool,
        typer.Option(
            "--classical-discriminator", help="Train a GAN with circuits in its generator only."
        ),
    ] = False,
    freeze_circuits: Annotated[
        bool,
        typer.Option("--freeze-circuits", help="Leave the circuits as they are drawn."),
    ] = False,
    settings: Setting = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate a classifier: train one on all but one of so many parts, for each "
            "part.",
        ),
    ] = None,
    xla: Annotated[
        bool,
        typer.Option(
            "--xla",
            help="Compile the training step with XLA: it starts later; on a CPU a QViT's is then "
            "faster, a GAN's slower.",
        ),
    ] = False,
    strategy_name: Annotated[
        Strategy | None,
        typer.Option(
            "--strategy",
            help="Train a classifier on all GPUs of this machine, or together with the machines "
            f"that TF_CONFIG lists, on each of which this command runs: {DISTRIBUTED_GUIDE}.",
        ),
    ] = None,
    conditional: Annotated[
        bool, typer.Option("--conditional", help="Train a GAN that is told the class to make.")
    ] = False,
    features: Features = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs and pictures for TensorBoard too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the scores only.")] = False,
) -> None:
    """Train a model on a data set.

    The run's folder gets the trained preset, a SavedModel for TensorFlow Serving, the scores,
    pictures, and a checkpoint with which --resume continues the run after any interruption. Of a
    GAN, whose rates are two, --learning-rate changes both.
    """
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other.")
    if strategy_name is not None:
        if xla:
            raise typer.BadParameter(
                "--xla and --strategy exclude each other: XLA does not compile a step of several "
                "replicas."
            )
        if folds is not None:
            raise typer.BadParameter(
                "--folds and --strategy exclude each other: a fold is a job of its own."
            )
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=preset is None)
    where, name = _located(preset or f"qvit_rk4_{data or DEFAULT_DATA}")
    asked = zip(_FORMS, (classical, classical_discriminator, freeze_circuits), strict=True)
    forms = [form for form, given in asked if given]
    arguments = _arguments(settings or [])
    suffix = "".join(_FORMS[form][0] for form in forms) + "_conditional" * conditional
    suffix += "".join(f"_{name}_{value}" for name, value in arguments.items())
    if data is not None and datasets.is_path(data):
        suffix += f"_{Path(data).stem}"
    suffix += "" if folds is None else f"_{folds}_folds"
    output = output or Path("runs") / f"{name}{suffix}"
    if not resume and not overwrite and output.is_dir() and any(output.iterdir()):
        raise ValueError(
            "The folder is not empty: --resume continues the run in it, --overwrite replaces it, "
            f"--output takes another one. Received: {output}"
        )
    in_recipe = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    options = {"data": data, **reading, "recipe": recipe_source, **in_recipe}
    options |= {"engine": engine, "features": features, "folds": folds, "strategy": strategy_name}
    flags = forms + ["--conditional"] * conditional + ["--tensorboard"] * tensorboard
    flags += [word for setting in settings or [] for word in ("--set", setting)] + ["--xla"] * xla

    with _tensorflow():
        import keras

        from qrkt_keras import training, zoo
        from qrkt_keras.zoo import runs

        words = [*([preset] if preset else []), *flags]
        words += runs.option_words(options | {"output": output})
        command = shlex.join(["qrkt", "train", *words])
        source = zoo.read_preset(where)
        if (data or source.data) is None or (recipe_source or source.recipe) is None:
            raise ValueError(
                "The preset does not say how and on which data set it is trained; "
                f"save_to_preset(recipe=..., data=...) writes that down. Received: {where!r}"
            )
        kind = _kind(source)
        if kind == "feature network":
            raise ValueError(
                "Classifiers and GANs are trained here; zoo/features/train.py trains the networks "
                f"that measure GANs. Received: {preset!r}"
            )
        is_gan = kind == "GAN"
        if is_gan and strategy_name is not None:
            raise ValueError(
                "GANs are trained on one device: leave out --strategy. "
                f"Received: --strategy {strategy_name} with {preset!r}"
            )
        if is_gan:
            rate = in_recipe.pop("learning_rate")
            in_recipe |= {"generator_learning_rate": rate, "discriminator_learning_rate": rate}
            if folds is not None:
                raise ValueError(
                    f"--folds is for classifiers, and the preset is a GAN's. Received: {folds}"
                )
        else:
            _only_of_gans(conditional=conditional, features=features)
        recipe = source.recipe
        if recipe_source is not None:
            recipe = zoo.read_recipe(
                recipe_source, training.GANRecipe if is_gan else training.Recipe
            )
        recipe = recipe.with_given(**in_recipe)
        # Before anything is computed or read: TensorFlow cannot learn of other machines later.
        with _status("Looking for devices and workers …"):
            strategy = training.make_strategy(strategy_name)
        is_chief = training.is_chief(strategy)
        with _status("Building the model, reading the data …"):
            examples = zoo.examples_for(
                source, data, reading, image_shape=arguments.get("image_shape")
            )
            data = examples.data
            changes = examples.arguments() | arguments | _given({"engine": engine})
            changes |= {_FORMS[form][1]: False for form in forms}
            keras.utils.set_random_seed(recipe.seed)
            if is_gan:
                changes["seed"] = recipe.seed
            if conditional:
                changes["num_classes"] = examples.info.num_classes
            with training.strategies.scope(strategy):
                model = zoo.from_preset(source, load_weights=False, **changes)
            if is_gan:
                network = _feature_network(data, features)
                own = {"feature_network": network, "jit_compile": xla}
            else:
                examples.check(model, name)
                own = {"identity": {"model": model.get_config()}}
                own |= {"jit_compile": xla or "auto"}
                if folds is None:
                    own["strategy"] = strategy
            examples.arrays("train")  # a data set that is not there stops us here
        if is_chief and not quiet and is_gan:
            _say_gan_header(name, model, examples, recipe, output)
        elif is_chief and not quiet:
            _say_header(name, model, examples, recipe, output, folds, strategy)
        own |= {"data_options": examples.options, "output_dir": output}
        own |= {"tensorboard": tensorboard, "resume": resume, "overwrite": overwrite}
        epochs_begun = []
        callback = keras.callbacks.LambdaCallback(
            # Not earlier: what may still stop the new run must not cost the old one's results.
            on_train_begin=lambda _: _remove_results(output) if overwrite and is_chief else None,
            on_epoch_begin=lambda epoch, _: epochs_begun.append(epoch),
        )

        def write_results() -> None:
            if not epochs_begun:
                _say("The run had finished already: nothing was left to train.")
            with _status("Writing the preset and the SavedModel …"):
                runs.finish_run(
                    model,
                    output,
                    recipe=recipe,
                    data=data,
                    data_options=examples.options,
                    scores=result.to_scores(),
                    command=command,
                )

        with _interruptible(output, command):
            if folds is not None:
                result = training.cross_validate(
                    lambda: zoo.from_preset(source, load_weights=False, **changes),
                    data,
                    recipe,
                    folds=folds,
                    command=command,
                    progress=not quiet,
                    **own,
                )
            else:
                result = (training.fit_gan if is_gan else training.fit)(
                    model, data, recipe, callbacks=[callback], progress=not quiet, **own
                )
                training.strategies.chief_first(strategy, write_results)

    if not is_chief:
        return
    if not quiet:
        _say()
    if is_gan:
        _say_gan_results(result, output)
        return
    if folds is not None:
        _say_folds(result, output, quiet=quiet)
        return
    _console().print(_score_table(result.scores))
    _say(
        f"Weights of epoch {result.best_epoch} of {result.epochs}, the best "
        f"{_monitored(recipe.monitor)}; trained in {result.seconds:.0f} s."
    )
    if not quiet:
        example = "TEXTS.txt" if hasattr(model, "vectorize") else "IMAGE.png"
        _say_results(output, example, snapshots=recipe.snapshots)


@contextlib.contextmanager
def _interruptible(output: Path, command: str) -> Iterator[None]:
    """Ends the program on an interrupt (ctrl-C), and tells how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        _say(
            f"Interrupted. What was trained is safe in {output}. To continue:\n"
            f"  {command} --resume",
            "yellow",
            stderr=True,
        )
        raise typer.Exit(_INTERRUPTED) from None


def _reading(
    text_column: str | None,
    label_column: str | None,
    split_column: str | None,
    skip_empty: bool,
    skip_unreadable: bool,
) -> dict[str, Any]:
    """How data is to be read, where that was said."""
    return _given(
        {
            "text_column": text_column,
            "label_column": label_column,
            "split_column": split_column,
            "skip_empty": skip_empty or None,
            "skip_unreadable": skip_unreadable or None,
        }
    )


def _check_data(data: str | None, *, of_preset: bool) -> None:
    """Refuses a data set that is not there before anything is started.

    `of_preset` says that the preset is to follow from it, which that of your own does not.
    """
    if data is None:
        return
    if not datasets.is_path(data):
        datasets.info(data)
        return
    datasets.option_names(data)
    if of_preset:
        raise ValueError(
            "With your own data goes the name of the preset whose model it is for, see "
            f"`qrkt list`. Received: --data {data} and no preset"
        )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _only_of_gans(**options: Any) -> None:
    for option, value in options.items():
        if value:
            raise ValueError(
                f"--{option} is for GANs, and the preset is a classifier's. Received: {value}"
            )


def _remove_results(output: Path) -> None:
    """Removes what would otherwise lie beside a run that did not make it."""
    for folder, mark in ((PRESET, "config.json"), (SAVED_MODEL, "1/saved_model.pb")):
        # Only what is recognised as such: the folder may be any of the user's.
        if (output / folder / mark).is_file():
            shutil.rmtree(output / folder)


def _say_header(
    name: str,
    model: PatchQNN | QText | QViT,
    examples: Examples,
    recipe: Recipe,
    output: Path,
    folds: int | None,
    strategy: tf.distribute.Strategy | None,
) -> None:
    total, quantum = model.count_params(), model.num_quantum_params
    if model.pqcs:
        engines = ", ".join(sorted({layer.plan.engine for layer in model.pqcs}))
        circuits = f"{model.num_qubits:,} qubits, engine {engines}"
    else:
        circuits = "no circuits" if model.quantum else "the classical twin"
    # Not the official sizes: a folder may hold fewer.
    splits = ("train", "validation", "test")
    sizes = {split: len(examples.arrays(split)[1]) for split in splits}
    pool = sizes["train"] + sizes["validation"]
    if folds is not None:
        trained = pool - -(-pool // folds)
        parts = f"{pool:,} in {folds} folds, of which one at a time to validate"
    else:
        trained = sizes["train"] if recipe.hold_out else pool
        held_out = f"{sizes['validation']:,} to validate" if recipe.hold_out else "none held out"
        parts = f"{trained:,} to train, {held_out}, {sizes['test']:,} to test"
    steps = datasets.steps_per_epoch(trained, recipe.batch_size)
    kind = examples.info.kind
    schedule = recipe.schedule.replace("_", "-")
    clip = "" if recipe.clip_norm is None else f", clip norm {recipe.clip_norm:g}"
    lines = {
        name: f"{total:,} parameters ({quantum:,} quantum, {total - quantum:,} classical), "
        f"{circuits}",
        examples.data: f"{parts}, {examples.told}",
        "recipe": f"{recipe.epochs} epochs of {steps:,} steps of {recipe.batch_size} {kind}s, "
        f"{recipe.optimizer}, rate {recipe.learning_rate:g} ({schedule}){clip}, seed {recipe.seed}",
    }
    if strategy is not None:
        replicas = strategy.num_replicas_in_sync
        lines["replicas"] = f"{replicas}, of {recipe.batch_size // replicas} {kind}s a step each"
    lines["output"] = str(output)
    width = max(map(len, lines))
    for word, line in lines.items():
        _say(Text.assemble((f"{word:<{width}}  ", "bold"), line))


def _feature_network(data: str, features: str | None = None) -> FeatureExtractor | None:
    """As `zoo.feature_network_for`, where a run's folder stands for its preset."""
    from qrkt_keras import zoo

    return zoo.feature_network_for(data, features and _located(features)[0])


def _say_gan_header(
    name: str, model: GAN, examples: Examples, recipe: GANRecipe, output: Path
) -> None:
    sizes = [network.count_params() for network in (model.generator, model.discriminator)]
    images = len(examples.arrays("train+validation")[1])
    steps = datasets.steps_per_epoch(images, recipe.images_per_step)
    lines = {
        name: f"generator {sizes[0]:,} parameters, discriminator {sizes[1]:,}, of both "
        f"{model.num_quantum_params:,} quantum",
        examples.data: f"{images:,} images, {_size(model.image_shape)}",
        "recipe": f"{recipe.epochs} epochs of {steps:,} steps of {recipe.num_critic_steps} × "
        f"{recipe.batch_size} images, {recipe.loss}, seed {recipe.seed}",
        "output": str(output),
    }
    width = max(map(len, lines))
    for word, line in lines.items():
        _say(Text.assemble((f"{word:<{width}}  ", "bold"), line))


def _say_gan_results(result: GANResult, output: Path) -> None:
    if result.measures is not None:
        _console().print(_measures_table(result.measures))
    epochs = f"{result.best_epoch} of {result.epochs}"
    _say(f"Weights of epoch {epochs}; trained in {result.seconds:.0f} s.")
    _say(f"\nWritten to {output}/: samples.png, grids/, history.json, {PRESET}/, {SAVED_MODEL}/1/")
    _say("\nNext", "bold")
    _say(f"  qrkt generate {shlex.quote(str(output))} --num 64 --seed 7 --output grid.png")


def _measures_table(measures: GANMeasures) -> Table:
    table = _table("FID", "KID", "Inception Score", "measured by", "generated", "real")
    error = measures.kid_error
    table.add_row(
        f"{measures.fid:.2f}",
        f"{measures.kid:.4f}" + (f" ± {error:.4f}" if error == error else ""),
        f"{measures.inception_score:.2f}",
        measures.feature_network,
        f"{measures.num_generated:,}",
        f"{measures.num_real:,}",
    )
    return table


def _monitored(monitor: str) -> str:
    """What of which examples chose the best epoch."""
    where = {"val": "on the validation split", "train": "on all training examples"}
    split, _, measure = monitor.partition("_")
    if split in where:
        return f"{where[split]} by {measure}"
    return f"by the mean {monitor} while it was trained"


def _score_table(scores: Mapping[str, Scores]) -> Table:
    table = _table("", "accuracy", "macro F1", "macro AUC", "loss", "examples")
    for split, score in scores.items():
        table.add_row(
            split,
            f"{score.accuracy:.2%}",
            f"{score.macro_f1:.4f}",
            f"{score.macro_auc:.4f}",
            f"{score.loss:.4f}",
            f"{score.num_examples:,}",
        )
    return table


def _say_folds(result: CrossValidationResult, output: Path, *, quiet: bool) -> None:
    from qrkt_keras.zoo.runs import spread

    table = _table("fold", "accuracy", "macro F1", "macro AUC", "loss")
    digits = {"accuracy": 2, "macro_f1": 4, "macro_auc": 4, "loss": 4}
    values = {measure: result.values(measure) for measure in digits}
    values["accuracy"] = tuple(100 * accuracy for accuracy in values["accuracy"])
    for fold in range(len(result.folds)):
        cells = [f"{values[measure][fold]:.{digits[measure]}f}" for measure in digits]
        table.add_row(str(fold + 1), f"{cells[0]}%", *cells[1:])
    cells = [spread(values[measure], digits[measure]) for measure in digits]
    table.add_row("mean", f"{cells[0]}%", *cells[1:])
    _console().print(table)
    _say("Scores of the parts left out, which chose the best epoch; ± sample standard deviation.")
    if not quiet:
        _say(f"\nWritten to {output}/: folds.json, folds.png, and a folder a fold")


def _say_results(output: Path, example: str, *, snapshots: bool) -> None:
    results = {
        f"{PRESET}/": "the model: configuration, recipe, weights, scores",
        f"{SAVED_MODEL}/1/": "for TensorFlow Serving, or any program that has TensorFlow",
        "scores.json": "all scores; confusion.png shows which classes are taken for which, roc.png "
        "the ROC curves",
        "history.json": "loss and accuracy in each epoch; history.png shows them",
        "checkpoint.npz": "the state of the training",
    }
    if snapshots:
        results[f"{SNAPSHOTS}/"] = "the weights before the first epoch and after each"
    _say(f"\nWritten to {output}/", "bold")
    for file, meaning in results.items():
        _say(f"  {file:<16}  {meaning}")
    run = shlex.quote(str(output))
    # After `make demo` the command is in a virtual environment that nobody has activated.
    qrkt = (
        "qrkt" if shutil.which("qrkt") else shlex.quote(str(Path(sys.executable).parent / "qrkt"))
    )
    _say("\nNext", "bold")
    _say(f"  {qrkt} predict {example} --preset {run}")
    _say(f"  {qrkt} evaluate {run}")
    _say(f"  {qrkt} export {run}")
    _say(f"  guide: {GUIDE}")


# --- compare -------------------------------------------------------------------------------


class _ListsOfValues(TyperCommand):
    """A command whose options that may be repeated take several values at once: `--seeds 0 1 2`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        repeated = {name for one in self.params if one.multiple for name in one.opts}
        words: list[str] = []
        option = None
        for word in args:
            if word.startswith("-"):
                option = word if word in repeated else None
            elif option is not None and words[-1] != option:
                words.append(option)
            words.append(word)
        return super().parse_args(ctx, words)


@app.command(cls=_ListsOfValues)
def compare(
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRESET...",
            help="What to compare: presets of classifiers with circuits, or their folders.",
            show_default="qvit_rk4_DATA",
        ),
    ] = None,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONTROL...",
            help="With what: twin (same shapes, classical), matched (as many parameters, "
            "classical), identity (nothing for circuits), frozen (circuits as they are drawn), or "
            "none.",
            show_default="twin",
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(min=0, metavar="SEED...", help="A run each.", show_default="0 1 2"),
    ] = None,
    recipe: RecipeSource = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs, in place of the recipe's.")] = (
        None
    ),
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples a step, in place of the recipe's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate, in place of the recipe's.")
    ] = None,
    engine: Engine = None,
    settings: Setting = None,
    xla: Annotated[
        bool, typer.Option("--xla", help="Compile the training steps with XLA.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of this comparison.", show_default="runs/compare_DATA, or _PRESET"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the comparison in the folder, or add to it, if there is one."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the table only.")] = False,
) -> None:
    """Compare models with circuits to what tells what the circuits buy, on equal terms.

    Every model is trained from fresh weights with each seed, by the same recipe, on the same
    examples in the same order. The folder gets a run's folder for each, results.csv, and a picture
    of accuracy against parameters. What is finished is not run again.
    """
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=not models)
    models = models or [f"qvit_rk4_{data or DEFAULT_DATA}"]
    of = Path(data).stem if data else _located(models[0])[1]
    output = output or Path("runs") / f"compare_{of}"
    in_recipe = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    options = {"models": models, "controls": controls, "seeds": seeds, "set": settings}
    options |= {"data": data, **reading, "recipe": recipe, **in_recipe, "engine": engine}
    options |= {"xla": xla, "output": output}
    controls = [name for word in controls or ["twin"] for name in word.split(",")]
    with _tensorflow():
        from qrkt_keras import zoo
        from qrkt_keras.zoo import runs

        command = shlex.join(["qrkt", "compare", *runs.option_words(options)])
        with _interruptible(output, command):
            result = zoo.compare(
                [_located(model)[0] for model in models],
                output_dir=output,
                data=data,
                data_options=reading,
                controls=[] if controls == ["none"] else controls,
                seeds=seeds or [0, 1, 2],
                recipe=None if recipe is None else zoo.read_recipe(recipe),
                **in_recipe,
                engine=engine,
                arguments=_arguments(settings or []),
                xla=xla,
                resume=resume,
                progress=not quiet,
            )
    if not quiet:
        _say()
    _console().print(_comparison_table(result))
    if not quiet:
        _say(f"\nWritten to {output}/: results.csv, accuracy.png, and a folder a run")
    for folder, error in result.diverged.items():
        _say(f"{folder}: {error}", "bold red", stderr=True)
    if result.diverged:
        raise typer.Exit(1)


def _comparison_table(result: ComparisonResult) -> Table:
    from qrkt_keras.zoo.runs import spread

    table = _table(
        "preset", "model", "accuracy", "macro AUC", "parameters", "qubits", "ms a step", "seeds"
    )
    table.columns[1].justify = "left"

    def told(values: Sequence[float], digits: int, factor: int = 1, unit: str = "") -> str:
        # Of a test split with one class there is no AUC, and no score of what has not been run.
        return spread([factor * one for one in values], digits) + unit if values else "–"

    for model in result.models:
        table.add_row(
            model.preset,
            model.title,
            told(model.values(), 2, 100, "%"),
            told(model.values("test_macro_auc"), 4),
            f"{model.parameters:,}",
            f"{model.qubits:,}",
            told(model.values("seconds_per_step"), 1, 1000),
            str(len(model.runs)),
        )
    return table


# --- tune ----------------------------------------------------------------------------------

# What `qrkt tune` does that is told nothing: a first look of a few minutes, at circuits that are
# computed fast.
_FIRST_LOOK = {"epochs": 20, "max_trials": 8}
_FIRST_SPACE = (
    "num_encoder_blocks=0",
    "num_ode_blocks=1",
    "num_ansatz_layers=1",
)


@app.command(cls=_ListsOfValues)
def tune(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY|PRESET|FOLDER",
            help="What to search: a family (qvit, qtext, patch_qnn, qrkt_gan, trans_gan), or a "
            "preset, whose values are taken where none is drawn.",
            show_default="qvit",
        ),
    ] = None,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    tuner: Annotated[
        str | None,
        typer.Option(
            metavar="random|grid|bayesian|hyperband",
            help="How values are drawn.",
            show_default="bayesian",
        ),
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trials that are trained, at most.",
            show_default="20; of grid and hyperband all",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="val_auc|val_accuracy|val_loss|fid",
            help="What trials are judged by.",
            show_default="val_auc, of GANs fid",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validate every trial: its score is the folds' mean."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIMENSION...",
            help="NAME=VALUE,VALUE or NAME=LOW..HIGH, with :log or :STEP behind, in place of the "
            "space's dimension of that name, or beside all. Names are arguments of the model, "
            "recipe.FIELD or recipe.augment.FIELD; --show-space shows those that are there.",
        ),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Search nothing but what --vary names.")
    ] = False,
    space_file: Annotated[
        Path | None,
        typer.Option(
            "--space",
            metavar="FILE",
            help="A space as JSON, or another search's search.json.",
            show_default="the family's",
        ),
    ] = None,
    show_space: Annotated[
        bool, typer.Option("--show-space", help="Show the space, and search nothing.")
    ] = False,
    settings: Setting = None,
    max_params: Annotated[
        int | None, typer.Option(min=1, help="Parameters that a model may have.")
    ] = None,
    max_qubits: Annotated[
        int | None, typer.Option(min=1, help="Qubits that all its circuits together may have.")
    ] = None,
    fits: Annotated[
        str | None,
        typer.Option(metavar="PROCESSOR", help="A processor that must hold each of its circuits."),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Seconds that a trial may train; one that takes longer, or would, is stopped.",
        ),
    ] = None,
    recipe_source: RecipeSource = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a trial, in place of the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples a step, in place of the recipe's.")
    ] = None,
    features: Features = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of this search.", show_default="runs/tune_PRESET"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the search in the folder, if there is one."),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --resume, run trials again that failed."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the search in the folder.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Be the chief or a worker of a search on many machines, as KERASTUNER_TUNER_ID, "
            f"KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT say: {TUNING_GUIDE}.",
        ),
    ] = False,
    worker_timeout: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds of silence after which a worker's trial goes to another one."
        ),
    ] = 120,
    timeout: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds that a chief waits for any worker, and a worker for its chief."
        ),
    ] = 1800,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the table only.")] = False,
) -> None:
    """Search for a model's best arguments and recipe.

    Every trial is trained in a process and a folder of its own. The search's folder gets the best
    model as a preset, a table of all trials, and a report to be opened in a browser. Where
    nothing says what to search it is a first look: 8 trials of 20 epochs of small QViTs on digits.
    """
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    asked = {"model": model, "data": data, "tuner": tuner, "objective": objective, "vary": vary}
    asked |= {"space": space_file, "set": settings, "recipe": recipe_source, "folds": folds}
    if not any([*asked.values(), only, epochs]):
        epochs, max_trials = _FIRST_LOOK["epochs"], max_trials or _FIRST_LOOK["max_trials"]
        asked["vary"] = vary = list(_FIRST_SPACE)
        if not quiet and not show_space:
            _say("A first look, at small circuits: --model or --data begins a search in earnest.")
    options = asked | {"max_trials": max_trials, **reading, "only": only, "epochs": epochs}
    options |= {"max_params": max_params, "max_qubits": max_qubits, "fits": fits}
    options |= {
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "features": features,
        "seed": seed,
    }
    with _tensorflow():
        import tensorflow as tf

        from qrkt_keras import training, tuning, zoo
        from qrkt_keras.zoo import runs

        # The trials' processes need them; what is done here does not.
        with contextlib.suppress(RuntimeError):  # TensorFlow had begun already
            tf.config.set_visible_devices([], "GPU")
        name = model or "qvit"
        # As the class is called, too.
        families = {family.replace("_", ""): family for family in tuning.FAMILIES}
        family = families.get(name.lower().replace("_", "").replace("-", ""))
        if family is not None:
            name = tuning.family_preset(family, data)
        elif name not in _packaged_presets() and not Path(name).exists():
            raise ValueError(
                f"--model is a family ({', '.join(tuning.FAMILIES)}), or the name or the folder of "
                f"a preset, see qrkt list. Received: --model {name}"
            )
        where, name = _located(name)
        output = output or Path("runs") / f"tune_{name}"
        source = zoo.read_preset(where)
        arguments = _arguments(settings or [])
        space = _space(source, arguments, space_file, vary or [], only=only)
        if show_space:
            _console().print(space.table())
            return
        recipe = source.recipe
        if recipe_source is not None:
            is_gan = _kind(source) == "GAN"
            recipe = zoo.read_recipe(
                recipe_source, training.GANRecipe if is_gan else training.Recipe
            )
        if recipe is not None:
            recipe = recipe.with_given(epochs=epochs, batch_size=batch_size)
        command = shlex.join(["qrkt", "tune", *runs.option_words(options | {"output": output})])
        with _status("Reading the data …"):
            hypermodel = tuning.ZooHyperModel(
                where,
                space,
                data=data,
                data_options=reading,
                arguments=arguments,
                recipe=recipe,
                features=features,
                max_params=max_params,
                max_qubits=max_qubits,
                processor=fits,
                max_seconds=max_seconds,
            )
        times = {"worker_timeout": worker_timeout, "timeout": timeout} if distributed else {}
        words = runs.option_words({"distributed": distributed, **times, "quiet": quiet})
        again = shlex.join([*shlex.split(command), *words])
        with _interruptible(output, again):
            result = tuning.search(
                hypermodel,
                output_dir=output,
                tuner=tuner or "bayesian",
                max_trials=max_trials,
                objective=objective,
                folds=folds,
                seed=seed,
                resume=resume,
                retry_failed=retry_failed,
                overwrite=overwrite,
                progress=not quiet,
                command=command,
                is_distributed=distributed,
                worker_timeout=worker_timeout,
                timeout=timeout,
            )
    _say_search(result, quiet=quiet)
    if result.best is None:
        raise typer.Exit(1)


def _space(
    source: Preset,
    arguments: Mapping[str, Any],
    file: Path | None,
    changes: Sequence[str],
    *,
    only: bool,
) -> Space:
    """What is searched: a family's space or a file's, with changes, or these alone."""
    from qrkt_keras import tuning

    if only:
        if file is not None or not changes:
            raise ValueError(
                "--only searches what --vary names, without a --space. "
                f"Received: --vary {' '.join(changes)}, --space {file}"
            )
        return tuning.Space(()).overridden(changes)
    if file is None:
        space = tuning.default_space(source.class_name, dict(source.config) | arguments)
    else:
        text = file.read_text(encoding="utf-8", errors="replace")
        with contextlib.suppress(json.JSONDecodeError):  # which the space complains of
            content = json.loads(text)
            if isinstance(content, dict) and "space" in content:
                text = json.dumps(content["space"])
        space = tuning.Space.from_json(text)
    return space.fixed(arguments).overridden(changes)


def _say_search(result: SearchResult, *, quiet: bool) -> None:
    from qrkt_keras import tuning

    if not quiet:
        _say()
    _console().print(tuning.trials_table(result))
    if result.best is None:
        _say(f"No trial was completed; the reasons are in {result.output_dir}/", "yellow")
        return
    best = result.output_dir / tuning.BEST
    if not quiet and best.exists():
        _say(
            f"\nWritten to {result.output_dir}/: report.html, trials.json, and the best model as a "
            "preset. To use it:"
        )
        for command in ("evaluate", "train"):
            _say(f"  qrkt {command} {shlex.quote(str(best))}")


# --- use of a trained model ----------------------------------------------------------------


@app.command()
def evaluate(
    preset: PresetOrFolder,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(datasets.SPLITS)}.")] = "test",
    num: Annotated[
        int, typer.Option(min=2, help="Of a GAN: images generated, and real ones at most.")
    ] = 10_000,
    features: Features = None,
    engine: Engine = None,
) -> None:
    """Score a trained model on a data set.

    A classifier's accuracy, F1 and AUC; a GAN's FID, KID and Inception Score.
    """
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    with _tensorflow():
        from qrkt_keras import training, zoo

        model, source = _trained_model(preset, engine, "classifier", "GAN", "feature network")
        examples = zoo.examples_for(source, data, reading)
        data = examples.data
        if isinstance(model, zoo.GAN):
            _evaluate_gan(model, examples, split, num, features)
            return
        _only_of_gans(features=features)
        examples.check(model, _located(preset)[1])
        inputs, labels = examples.arrays(split)
        with _status(f"Evaluating {len(labels):,} examples …"):
            if hasattr(model, "vectorize"):
                inputs = model.vectorize(inputs)
            logits = training.make_predictor(model, min(BATCH, len(labels)))(inputs)
        scores = training.classification_scores(labels, training.probabilities_from_logits(logits))
    _console().print(_score_table({f"{data} {split}": scores}))


def _evaluate_gan(
    model: GAN, examples: Examples, split: str, num: int, features: str | None
) -> None:
    from qrkt_keras import training

    network = _feature_network(examples.data, features)
    if network is None:
        raise ValueError(
            "There is no preset features_DATA for this data set: --features names what generated "
            f"images are measured by. Received: data={examples.data!r}"
        )
    images = datasets.resized(examples.arrays(split)[0][:num], model.image_shape[:2])
    with _status(f"Generating and measuring {num:,} images …"):
        measures = training.measure_images(network, images, model.generate(num, seed=1))
    _console().print(_measures_table(measures))


@app.command()
def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Image files, or text files with a text a line."),
    ],
    preset: Annotated[
        str, typer.Option(help="Preset, its folder, or a run's folder.", metavar="PRESET|FOLDER")
    ] = DEFAULT_PRESET,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    engine: Engine = None,
) -> None:
    """Tell what is on images, or what texts say.

    An image that cannot be read, or a line without a text, is named, the others are still done; the
    exit status is 1 then. Light and dark must be as in the training images: MNIST and digits are
    white on black.
    """
    with _tensorflow():
        from qrkt_keras import training

        model, _ = _trained_model(preset, engine, "classifier")
        takes_texts = hasattr(model, "vectorize")
        places, examples, errors = (
            _read_texts(files) if takes_texts else _read_images(files, model.image_shape)
        )
        probabilities = []
        if examples:
            with _status("Predicting …"):
                inputs = model.vectorize(examples) if takes_texts else np.stack(examples)
                predictor = training.make_predictor(model, min(BATCH, len(examples)))
                probabilities = training.probabilities_from_logits(predictor(inputs))
    label_names = model.label_names or tuple(map(str, range(model.num_classes)))
    answers = [
        {
            **place,
            "label": int(row.argmax()),
            "label_name": label_names[row.argmax()],
            "probability": float(row.max()),
            "probabilities": dict(zip(label_names, row.tolist(), strict=True)),
        }
        for place, row in zip(places, probabilities, strict=True)
    ]
    if as_json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    elif answers:
        table = _table("text" if takes_texts else "image", "label", "probability")
        for answer in answers:
            shown = answer.get("text", answer["file"])
            shown = f"{shown[:60]} …" if takes_texts and len(shown) > 60 else shown
            table.add_row(shown, answer["label_name"], f"{answer['probability']:.1%}")
        _console().print(table)
    for error in errors:
        _say(error, "bold red", stderr=True)
    if errors:
        raise typer.Exit(1)


def _read_images(
    files: Sequence[Path], image_shape: tuple[int, int, int]
) -> tuple[list[dict[str, Any]], list[np.ndarray], list[str]]:
    """Where each image is, the images, and what could not be read."""
    places, images, errors = [], [], []
    for file in files:
        try:
            images.append(datasets.read_image(file, image_shape))
            places.append({"file": str(file)})
        except datasets.UnreadableImageError as error:
            errors.append(str(error))
    return places, images, errors


def _read_texts(files: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Where each text is, the texts, and what could not be read."""
    places, texts, errors = [], [], []
    for file in files:
        try:
            lines = datasets.read_texts(file)
        except datasets.InvalidDatasetError as error:
            errors.append(str(error))
            continue
        for number, text in enumerate(lines, start=1):
            if text:
                places.append({"file": str(file), "line": number, "text": text})
                texts.append(text)
            else:
                errors.append(f"The line is empty. Received: line {number} of {file}")
    return places, texts, errors


@app.command()
def generate(
    preset: PresetOrFolder,
    num: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the noise.")] = 0,
    truncation: Annotated[
        float | None, typer.Option(help="Largest absolute value of the noise.")
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(min=0, help="Class of all images; by default the classes in turn."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("grid.png"),
    engine: Engine = None,
) -> None:
    """Make images with a trained GAN, as one picture."""
    if output.suffix.lower() != ".png":
        raise ValueError(f"The picture is a PNG. Received: {output}")
    with _tensorflow():
        from qrkt_keras import training

        model, _ = _trained_model(preset, engine, "GAN")
        with _status(f"Generating {num:,} images …"):
            labels = None if label is None else [label] * num
            images = model.generate(num, seed=seed, truncation=truncation, labels=labels)
        training.grid_picture(images, output)
    _say(f"{output} shows {num:,} images of seed {seed}")


@app.command()
def export(
    preset: PresetOrFolder,
    output: Annotated[
        Path | None,
        typer.Option(help="The model's folder; 1/ is made in it.", show_default="./NAME"),
    ] = None,
    engine: Engine = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a SavedModel that is there.")
    ] = False,
) -> None:
    """Write a trained model for TensorFlow Serving, as NAME/1/."""
    output = output or Path(_located(preset)[1])
    if (output / "1").exists() and not overwrite:
        raise ValueError(
            "There is a SavedModel already: --overwrite replaces it, --output takes another "
            f"folder. Received: {output / '1'}"
        )
    with _tensorflow():
        from qrkt_keras import serving

        model, _ = _trained_model(preset, engine, "classifier", "GAN")
        with _status("Writing the SavedModel …"):
            written = serving.export_for_serving(model, output, overwrite=overwrite)
    folder = output.resolve()
    if hasattr(model, "vectorize"):
        _say(f"{written}/ has the signature")
        _say("  serving_default  texts: string (batch), to probabilities, label and label_name")
        _say_how_to_serve(folder)
        request = '{"instances": ["A lovely film."]}'
        _say(f"  curl -d '{request}' http://localhost:8501/v1/models/{folder.name}:predict")
        return
    size = _size(model.image_shape)
    if hasattr(model, "generator"):
        _say(f"{written}/ has the signature")
        _say(f"  generate  num, seed: int32, to images: uint8 (num, {size.replace('×', ', ')})")
        return
    _say(f"{written}/ has the signatures")
    _say(f"  serving_default  images: float32 (batch, {size.replace('×', ', ')}) in [0, 1]")
    _say(f"  serving_uint8    images: uint8 (batch, {size.replace('×', ', ')}) in 0..255")
    _say("  both return probabilities, label and label_name")
    _say_how_to_serve(folder)
    _say(f"To ask it, with a {size} nested list of whole numbers for IMAGE:")
    request = '{"signature_name": "serving_uint8", "instances": [{"images": IMAGE}]}'
    _say(f"  curl -d '{request}' http://localhost:8501/v1/models/{folder.name}:predict")


def _say_how_to_serve(folder: Path) -> None:
    _say("\nTo serve it:")
    _say(
        f"  docker run -p 8501:8501 -v {shlex.quote(f'{folder}:/models/{folder.name}')} "
        f"-e MODEL_NAME={folder.name} tensorflow/serving"
    )


# --- analyse -------------------------------------------------------------------------------

analyse = typer.Typer(
    no_args_is_help=True, help="Look at a trained model's loss, and at circuits' gradients."
)
app.add_typer(analyse, name="analyse")

# Examples that go through a model at once here, where gradients are taken too.
_ANALYSIS_BATCH = 1000

# Of the examples that --examples leaves: always the same, so that models can be compared on them.
_SUBSET_SEED = 0


class Weights(enum.StrEnum):
    """Which weights a loss is a function of."""

    ALL = "all"
    CIRCUITS = "circuits"


class Method(enum.StrEnum):
    """How eigenvalues are found."""

    LANCZOS = "lanczos"
    POWER = "power"


AnalysedSplit = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(datasets.SPLITS)}.", show_default="what the preset is trained on"
    ),
]
NumExamples = Annotated[
    int | None,
    typer.Option(
        "--examples",
        min=1,
        help="So many of them, each class in its share, always the same ones.",
        show_default="all",
    ),
]
AnalysedBatch = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Examples at once: fewer take less memory."),
]
AnalysisSeed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]
OverwriteResults = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results in the folder.")
]
QuietAnalysis = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show how far it is.")]


@analyse.command()
def hessian(
    preset: PresetOrFolder,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    split: AnalysedSplit = None,
    num_examples: NumExamples = None,
    weights: Annotated[Weights, typer.Option(help="By which weights.")] = Weights.ALL,
    num_eigenvalues: Annotated[
        int, typer.Option("--eigenvalues", min=0, help="How many of the largest eigenvalues.")
    ] = 1,
    method: Annotated[
        Method,
        typer.Option(
            help="How they are found: lanczos finds several, power one, the largest by magnitude."
        ),
    ] = Method.LANCZOS,
    max_iterations: Annotated[
        int, typer.Option(min=1, help="Products with the Hessian at most, for the eigenvalues.")
    ] = 100,
    tolerance: Annotated[
        float,
        typer.Option(help="When to stop: residual of lanczos, change of power, both relative."),
    ] = 1e-3,
    num_samples: Annotated[
        int, typer.Option("--trace", min=0, help="Samples that the trace is estimated from.")
    ] = 0,
    num_probes: Annotated[
        int, typer.Option("--density", min=0, help="Random vectors for the spectral density.")
    ] = 0,
    num_steps: Annotated[
        int, typer.Option("--steps", min=1, help="Products with the Hessian for each of these.")
    ] = 50,
    batch_size: AnalysedBatch = _ANALYSIS_BATCH,
    engine: Engine = None,
    seed: AnalysisSeed = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results.", show_default="runs/hessian_PRESET")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue what was stopped in the folder, if anything was."),
    ] = False,
    overwrite: OverwriteResults = False,
    quiet: QuietAnalysis = False,
) -> None:
    """Find the Hessian's largest eigenvalues, its trace and spectral density.

    The Hessian is that of a trained classifier's mean loss over a data set. The folder gets
    hessian.json, and with --density density.png. After an interrupt (ctrl-C) it gets what was
    found until then. Until all is found, hessian_products.npz keeps the products with the Hessian,
    with which --resume goes on after any interruption, or with other options.
    """
    if method is Method.POWER and num_eigenvalues > 1:
        raise typer.BadParameter("--method power finds one eigenvalue: leave out --eigenvalues.")
    if not (num_eigenvalues or num_samples or num_probes):
        raise typer.BadParameter("Nothing is asked for: --eigenvalues, --trace or --density.")
    if num_eigenvalues > max_iterations:
        raise typer.BadParameter(
            f"--max-iterations must be as many as --eigenvalues, {num_eigenvalues}, at least."
        )
    if not 0 < tolerance < math.inf:
        raise typer.BadParameter("--tolerance must be a positive number.")
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    name = _located(preset)[1]
    output = output or Path("runs") / f"hessian_{name}"
    files, products = ("hessian.json", "density.png"), output / "hessian_products.npz"
    continued = _is_continued(products, files, resume=resume, overwrite=overwrite)
    options = {"data": data, **reading, "split": split, "examples": num_examples}
    options |= {"weights": weights, "eigenvalues": num_eigenvalues, "method": method}
    options |= {"max_iterations": max_iterations, "tolerance": tolerance, "trace": num_samples}
    options |= {"density": num_probes, "steps": num_steps, "batch_size": batch_size}
    options |= {"engine": engine, "seed": seed, "output": output}
    with _tensorflow():
        from qrkt_keras import analysis

        command = _command("analyse", "hessian", preset, **options)
        model, source = _trained_model(preset, engine, "classifier")
        if any(layer.engine == "tfq" for layer in model.pqcs):
            raise ValueError(
                "TensorFlow Quantum's operations have no second derivative: --engine auto, which "
                f"changes no weight. Received: engine='tfq' of {preset!r}"
            )
        loss, facts = _data_loss(
            model, source, preset, data, reading, split, num_examples, weights, batch_size
        )
        if not quiet:
            _say_loss(name, loss, facts)
        if num_eigenvalues > loss.size:
            raise ValueError(
                f"There are as many eigenvalues as weights, {loss.size:,}. "
                f"Received: --eigenvalues {num_eigenvalues}"
            )
        _prepare(output, (*files, products.name) if overwrite else ())
        since = time.monotonic()
        with _status("Computing the loss …"):
            kept = analysis.KeptProducts(loss, products, resume=resume)
        stop = {"max_iterations": max_iterations, "tolerance": tolerance}
        counts = {"num_samples": num_samples, "num_probes": num_probes, "num_steps": num_steps}
        with kept:
            found, density, is_interrupted = _spectrum(
                kept, method, num_eigenvalues, stop, **counts, seed=seed, progress=not quiet
            )
        results = {"command": command, **facts, "seed": seed, "loss": _finite(kept.mean_loss)}
        # What was computed before took time that is not known here.
        seconds = None if continued else round(time.monotonic() - since, 1)
        results |= {**found, "seconds": seconds}
        written = ["hessian.json"]
        _write_results(output, written[0], results)
        if density is not None:
            title = f"Hessian by {loss.size:,} weights, of {loss.num_examples:,} examples"
            analysis.density_picture({name: density}, output / "density.png", title=title)
            written.append("density.png")
        else:
            # That of other results must not lie beside these.
            (output / "density.png").unlink(missing_ok=True)
    _console().print(_hessian_table(results))
    _say(f"Written to {output}/: {', '.join(written)}")
    if is_interrupted:
        told = "Interrupted: that is what was found until then. To continue:"
        _say(f"{told}\n  {command} --resume", "yellow", stderr=True)
        raise typer.Exit(_INTERRUPTED)
    if not results.get("is_converged", True):
        _say(
            f"Not converged after {results['num_iterations']} products: the residual tells how far "
            "off an eigenvalue may be; --max-iterations allows more, and --resume goes on.",
            "yellow",
            stderr=True,
        )
    else:
        products.unlink(missing_ok=True)


def _spectrum(
    loss: KeptProducts,
    method: Method,
    num_eigenvalues: int,
    stop: Mapping[str, Any],
    *,
    num_samples: int,
    num_probes: int,
    num_steps: int,
    **shown: Any,
) -> tuple[dict[str, Any], SpectralDensity | None, bool]:
    """What is asked for of a Hessian, for its JSON file, and whether an interrupt ended it."""
    from qrkt_keras import analysis

    results: dict[str, Any] = {}
    is_interrupted = False
    if num_eigenvalues:
        if method is Method.POWER:
            pairs = analysis.power_iteration(loss, **stop, **shown)
        else:
            pairs = analysis.lanczos(loss, num_eigenvalues, **stop, **shown)
        results |= {
            "method": str(method),
            "eigenvalues": pairs.values.tolist(),
            "residuals": [_finite(one) for one in pairs.residuals.tolist()],
            "num_iterations": pairs.num_iterations,
            "is_converged": pairs.is_converged,
        }
        is_interrupted = pairs.is_interrupted
    density = None
    try:
        if num_samples and not is_interrupted:
            estimate = analysis.trace(loss, num_samples=num_samples, **shown)
            results["trace"] = {
                "mean": estimate.mean,
                "standard_error": _finite(estimate.standard_error),
                "num_samples": len(estimate.samples),
            }
            is_interrupted = estimate.is_interrupted
        if num_probes and not is_interrupted:
            density = analysis.spectral_density(
                loss, num_steps=num_steps, num_probes=num_probes, **shown
            )
            results["density"] = {
                "nodes": density.nodes.tolist(),
                "weights": density.weights.tolist(),
            }
            is_interrupted = density.is_interrupted
    except KeyboardInterrupt:
        # In the first product of a part: the parts before it are finished.
        if not results:
            raise
        is_interrupted = True
    return results, density, is_interrupted


def _hessian_table(results: Mapping[str, Any]) -> Table:
    table = _table("", "value", "residual")
    pairs = zip(results.get("eigenvalues", ()), results.get("residuals", ()), strict=True)
    for number, (value, residual) in enumerate(pairs, start=1):
        told = "infinite" if residual is None else f"{residual:.1e}"
        table.add_row(f"eigenvalue {number}", f"{value:.4g}", told)
    if "trace" in results:
        estimate = results["trace"]
        error = estimate["standard_error"]
        told = "" if error is None else f" ± {error:.2g}"
        table.add_row("trace", f"{estimate['mean']:.4g}{told}", "")
    if "density" in results:
        nodes = np.array(results["density"]["nodes"])
        table.add_row("spectrum", f"{nodes.min():.4g} to {nodes.max():.4g}", "")
    return table


@analyse.command()
def landscape(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="RUN|PRESET",
            help="Folder of a run that kept its weights; with --random a preset or its folder too.",
        ),
    ],
    is_random: Annotated[
        bool,
        typer.Option(
            "--random",
            help="Go in random directions from the trained weights, each filter's as long as its "
            "weights, in place of those in which the weights moved most.",
        ),
    ] = False,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    split: AnalysedSplit = None,
    num_examples: NumExamples = None,
    weights: Annotated[
        Weights | None,
        typer.Option(
            help="By which weights; the others stay as they were trained.",
            show_default="circuits if there are any, with --random all",
        ),
    ] = None,
    num_points: Annotated[
        int, typer.Option("--points", min=2, help="Points of each of the two axes.")
    ] = 20,
    margin: Annotated[
        float, typer.Option(min=0, help="How far the axes go beyond the trajectory.")
    ] = 5.0,
    batch_size: AnalysedBatch = _ANALYSIS_BATCH,
    engine: Engine = None,
    seed: AnalysisSeed = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results.", show_default="runs/landscape_PRESET"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the scan in the folder, if there is one.")
    ] = False,
    overwrite: OverwriteResults = False,
    quiet: QuietAnalysis = False,
) -> None:
    """Scan a trained classifier's loss on a plane, and draw it.

    The plane is that of the two principal components of the weights before and after each epoch,
    which a run keeps whose recipe has "snapshots": true. The folder gets landscape.json,
    landscape.npz, landscape.png, and landscape_scan.npz, with which --resume continues the scan
    after any interruption.
    """
    if not math.isfinite(margin):
        raise typer.BadParameter("--margin must be finite.")
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    name = _located(preset)[1]
    output = output or Path("runs") / f"landscape_{name}"
    results_of_scan = ("landscape.json", "landscape.npz", "landscape.png")
    checkpoint = output / "landscape_scan.npz"
    continued = _is_continued(checkpoint, results_of_scan, resume=resume, overwrite=overwrite)
    options = {"random": is_random, "data": data, **reading, "split": split}
    options |= {"examples": num_examples, "weights": weights, "points": num_points}
    options |= {"margin": margin, "batch_size": batch_size, "engine": engine, "seed": seed}
    options |= {"output": output}
    with _tensorflow():
        from qrkt_keras import analysis, training

        command = _command("analyse", "landscape", preset, **options)
        model, source = _trained_model(preset, engine, "classifier")
        run = None if is_random else _run_with_trajectory(source, preset)
        if weights is None:
            weights = Weights.ALL if is_random or not model.pqcs else Weights.CIRCUITS
        loss, facts = _data_loss(
            model, source, preset, data, reading, split, num_examples, weights, batch_size
        )
        best = None
        if run is None:
            plane = analysis.random_plane(loss, seed=seed)
        else:
            with _status("Reading the trajectory …"):
                trajectory = training.read_trajectory(run, model, loss.variables)
            plane = analysis.pca_plane(trajectory)
            best = _best_point(run, trajectory, loss.point())
        if not quiet:
            _say_loss(name, loss, facts)
        _prepare(output, (*results_of_scan, checkpoint.name) if overwrite else ())
        since = time.monotonic()
        try:
            scanned = analysis.scan(
                loss,
                plane,
                num_points=num_points,
                margin=margin,
                checkpoint=checkpoint,
                resume=resume,
                progress=not quiet,
            )
        except KeyboardInterrupt:
            told = f"Interrupted. The scan is safe in {checkpoint}. To continue:"
            _say(f"{told}\n  {command} --resume", "yellow", stderr=True)
            raise typer.Exit(_INTERRUPTED) from None
        # What was computed before took time that is not known here.
        seconds = None if continued else round(time.monotonic() - since, 1)
        plane = scanned.plane
        arrays = {"x": scanned.x, "y": scanned.y, "values": scanned.values}
        arrays |= {"origin": plane.origin, "directions": plane.directions}
        arrays |= {"coordinates": plane.coordinates}
        ratios = plane.explained_ratios
        results = {
            "command": command,
            **facts,
            "seed": seed,
            "explained_ratios": None if ratios is None else ratios.tolist(),
            "best_epoch": best,
            "num_missing": scanned.num_missing,
            "x": scanned.x.tolist(),
            "y": scanned.y.tolist(),
            "values": [[_finite(value) for value in row] for row in scanned.values],
            "coordinates": plane.coordinates.tolist(),
            "seconds": seconds,
        }
        _write_results(output, "landscape.json", results)
        with training.atomic_write(output / "landscape.npz") as file:
            np.savez(file, **arrays)
        analysis.landscape_picture(
            scanned,
            output / "landscape.png",
            best=best,
            title=f"{name}: {loss.size:,} weights, {loss.num_examples:,} examples",
        )
    finite = scanned.values[np.isfinite(scanned.values)]
    reach = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nowhere finite"
    _say(f"Loss on {scanned.values.size:,} points: {reach}")
    if scanned.num_missing and finite.size:
        _say(f"At {scanned.num_missing:,} of them it is not finite.", "yellow")
    if ratios is not None:
        _say(f"Variance explained by the two components: {ratios[0]:.1%} and {ratios[1]:.1%}")
    _say(f"Written to {output}/: {', '.join((*results_of_scan, checkpoint.name))}")


def _run_with_trajectory(source: Preset, preset: str) -> Path:
    """The folder of the run that a preset is of, in which the weights of every epoch are."""
    folder = source.folder.parent
    if source.folder.name != PRESET or not (folder / SNAPSHOTS).is_dir():
        raise ValueError(
            "The weights of every epoch are not there: a run keeps them whose recipe has "
            '"snapshots": true (`qrkt train --recipe`). --random needs none, and goes in random '
            f"directions from the trained weights. Received: {preset!r}"
        )
    return folder


def _best_point(run: Path, trajectory: np.ndarray, trained: np.ndarray) -> int | None:
    """The best epoch's index, unless the trained weights are not those of any epoch."""
    best = _read_json(run / "history.json").get("best_epoch")
    if best is None or best >= len(trajectory) or not np.allclose(trajectory[best], trained):
        _say(
            "Note: the trained weights are none of the trajectory's, so the axes' origin is its "
            "mean.",
            "yellow",
            stderr=True,
        )
        return None
    return best


@analyse.command(cls=_ListsOfValues)
def trainability(
    template: Annotated[
        str,
        typer.Argument(
            help="rx_ring, ry_ring, hardware_efficient, hardware_efficient_once or patch."
        ),
    ],
    qubits: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N...", help="Numbers of qubits.", show_default="2 4 6 8"),
    ] = None,
    depths: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="D...",
            help="Layers of weights; of patch, blocks in each group.",
            show_default="1 4 16",
        ),
    ] = None,
    num_samples: Annotated[
        int, typer.Option("--samples", min=2, help="Draws of all weights, uniform in [0, 2π).")
    ] = 100,
    observable: Annotated[
        int,
        typer.Option(
            min=0,
            help="Qubit whose Z is read, counted from 0; of patch, X of each qubit comes first.",
        ),
    ] = 0,
    parameter: Annotated[
        int,
        typer.Option(
            min=0, help="By which weight, counted from 0 among those that can have a gradient."
        ),
    ] = 0,
    all_parameters: Annotated[
        bool, typer.Option("--all-parameters", help="The mean of the variances by all of these.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="Engine that computes the circuits, see `qrkt about`.")
    ] = "auto",
    seed: AnalysisSeed = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results.", show_default="runs/trainability_TEMPLATE"),
    ] = None,
    overwrite: OverwriteResults = False,
    quiet: QuietAnalysis = False,
) -> None:
    """Measure how gradients of a circuit vanish with the number of qubits and the depth.

    That is the variance of the derivative of an expectation value over random weights. The folder
    gets trainability.json and trainability.png.
    """
    qubits = qubits or [2, 4, 6, 8]
    depths = depths or ([1] if template == "ry_ring" else [1, 4, 16])
    output = output or Path("runs") / f"trainability_{template}"
    files = ("trainability.json", "trainability.png")
    _check_results(output, files, overwrite=overwrite)
    options = {"qubits": qubits, "depths": depths, "samples": num_samples}
    options |= {"observable": observable, "parameter": None if all_parameters else parameter}
    options |= {"all_parameters": all_parameters, "engine": engine, "seed": seed, "output": output}
    with _tensorflow():
        from qrkt_keras import analysis

        command = _command("analyse", "trainability", template, **options)
        since = time.monotonic()
        result = analysis.gradient_variance(
            template,
            qubits,
            depths,
            num_samples=num_samples,
            parameter=None if all_parameters else parameter,
            observable=observable,
            seed=seed,
            engine=engine,
            progress=not quiet,
        )
        rates = result.rates().tolist() if len(qubits) > 1 else None
        results = {
            "command": command,
            "num_qubits": list(result.num_qubits),
            "depths": list(result.depths),
            "num_samples": num_samples,
            "seed": seed,
            "variances": result.variances.tolist(),
            "standard_errors": result.standard_errors.tolist(),
            "rates": rates,
            "seconds": round(time.monotonic() - since, 1),
        }
        _write_results(output, files[0], results)
        analysis.trainability_picture(
            result, output / files[1], title=f"{template}, {num_samples:,} samples"
        )
    table = _table("depth", *(f"{number} qubits" for number in result.num_qubits), "rate a qubit")
    for row, depth in enumerate(result.depths):
        cells = zip(result.variances[row], result.standard_errors[row], strict=True)
        told = [f"{variance:.2e} ± {error:.0e}" for variance, error in cells]
        table.add_row(str(depth), *told, "–" if rates is None else f"{rates[row]:.2f}")
    _console().print(table)
    _say(
        "Variance of the derivative, ± standard error. Where a barren plateau is, it falls by a "
        f"rate of {math.log(2):.2f}: it halves with each qubit."
    )
    _say(f"Written to {output}/: {', '.join(files)}")


def _data_loss(
    model: PatchQNN | QText | QViT,
    source: Preset,
    preset: str,
    data: str | None,
    reading: Mapping[str, Any],
    split: str | None,
    num_examples: int | None,
    weights: Weights,
    batch_size: int,
) -> tuple[DataLoss, dict[str, Any]]:
    """The loss that a preset was trained by, and what it is the loss of, for its JSON file."""
    import keras

    from qrkt_keras import analysis, zoo

    recipe = source.recipe
    if split is None:
        split = "train" if recipe is None or recipe.hold_out else "train+validation"
    examples = zoo.examples_for(source, data, reading)
    examples.check(model, _located(preset)[1])
    inputs, labels = _chosen_examples(model, examples, split, num_examples)
    if recipe is not None and recipe.has_soft_labels:
        labels = keras.utils.to_categorical(labels, model.num_classes)
    loss = analysis.DataLoss(
        model,
        inputs,
        labels,
        loss=None if recipe is None else recipe.make_loss(),
        variables=analysis.circuit_variables(model) if weights is Weights.CIRCUITS else None,
        batch_size=batch_size,
    )
    facts = {
        "preset": preset,
        "data": examples.data,
        "split": split,
        "num_examples": loss.num_examples,
        "weights": str(weights),
        "num_weights": loss.size,
    }
    return loss, facts


def _chosen_examples(
    model: PatchQNN | QText | QViT, examples: Examples, split: str, number: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """So many examples of a split, always the same, as the model takes them."""
    with _status("Reading the data …"):
        inputs, labels = examples.arrays(split)
    if number is not None and number < len(labels):
        _, drawn = stratified_split(labels, number, _SUBSET_SEED)
        inputs, labels = inputs[drawn], labels[drawn]
    elif number is not None and number > len(labels):
        raise ValueError(
            f"The split {split} of {examples.data} has {len(labels):,} examples. "
            f"Received: --examples {number}"
        )
    if hasattr(model, "vectorize"):
        inputs = model.vectorize(inputs)
    return inputs, labels


def _say_loss(name: str, loss: DataLoss, facts: Mapping[str, Any]) -> None:
    which = "of the circuits" if facts["weights"] == Weights.CIRCUITS else "that are trained"
    _say(
        f"{name}: loss on {facts['num_examples']:,} examples of {facts['data']} {facts['split']}, "
        f"by the {loss.size:,} weights {which}"
    )


def _check_results(
    output: Path, files: Sequence[str], *, overwrite: bool, has_resume: bool = False
) -> None:
    """Refuses a folder that has results already, or is none, before anything is computed."""
    nearest = next(folder for folder in (output, *output.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"The results need a folder that can be written. Received: {output}")
    there = [file for file in files if (output / file).exists()]
    if there and not overwrite:
        resume = "--resume continues them, " if has_resume else ""
        raise ValueError(
            f"There are results already: {resume}--overwrite replaces them, --output takes another "
            f"folder. Received: {output / there[0]}"
        )


def _is_continued(checkpoint: Path, files: Sequence[str], *, resume: bool, overwrite: bool) -> bool:
    """Whether there is something to continue; other results are refused, see `_check_results`."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other.")
    if resume and checkpoint.exists():
        return True
    others = (*files, checkpoint.name)
    has_resume = not resume and checkpoint.exists()
    _check_results(checkpoint.parent, others, overwrite=overwrite, has_resume=has_resume)
    return False


def _prepare(output: Path, replaced: Sequence[str]) -> None:
    """Makes the folder of results; what does not belong to new ones must not lie beside them."""
    output.mkdir(parents=True, exist_ok=True)
    for file in replaced:
        (output / file).unlink(missing_ok=True)


def _write_results(output: Path, file: str, results: Mapping[str, Any]) -> None:
    from qrkt_keras.training.job import write_json

    output.mkdir(parents=True, exist_ok=True)
    write_json(output / file, results)


def _finite(value: float) -> float | None:
    """A number as JSON data, which has none for NaN and infinities."""
    return float(value) if math.isfinite(value) else None


def _command(*words: str, **options: Any) -> str:
    """The command as it can be copied."""
    from qrkt_keras.zoo import runs

    return shlex.join(["qrkt", *words, *runs.option_words(options)])


# --- hardware ------------------------------------------------------------------------------

hardware = typer.Typer(
    no_args_is_help=True,
    help="Compile circuits for Google's processors, and run models on them or as they would.",
)
app.add_typer(hardware, name="hardware")

# What a job's folder holds of the sampler's answers.
_RUNS = "sampled"
# Shots of each of the two circuits by which readout errors are measured.
_READOUT_SHOTS = 10_000
# A virtual machine of more qubits would take too long to tell how long it takes.
_MOST_TRIED_QUBITS = 16


class Gateset(enum.StrEnum):
    """Which two-qubit gate circuits are compiled to."""

    CZ = "cz"
    SQRT_ISWAP = "sqrt_iswap"
    SYCAMORE = "sycamore"


ProcessorName = Annotated[
    str, typer.Option("--processor", "-p", help="Processor, see `qrkt hardware list`.")
]
Project = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="ID",
        help="Google Cloud project: the real processor, in place of its virtual machine.",
    ),
]
WhichGateset = Annotated[Gateset, typer.Option(help="Two-qubit gate to compile to.")]
SplitCircuits = Annotated[
    bool,
    typer.Option(
        "--split-circuits",
        help="Run circuits that are wider than the processor in parts.",
    ),
]
Repetitions = Annotated[
    int | None,
    typer.Option("--repetitions", "-r", min=1, help="Shots of each circuit.", show_default="1000"),
]
StandardError = Annotated[
    float | None,
    typer.Option(help="In place of --repetitions: as many as make each value as exact as this."),
]
MitigateReadout = Annotated[
    bool,
    typer.Option("--mitigate-readout", help="Measure readout errors first, and invert them."),
]
NoiseScales = Annotated[
    str,
    typer.Option(
        metavar="1,3,…",
        help="Odd numbers: gates on two qubits are repeated so often, and values extrapolated to "
        "no noise.",
    ),
]
Noiseless = Annotated[bool, typer.Option("--noiseless", help="A virtual machine without errors.")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds that the processor may take for one batch.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only say what would run: circuits, shots and time."),
]
ResumeJob = Annotated[
    bool, typer.Option("--resume", help="Continue the job in the folder, if there is one.")
]


@hardware.command("list")
def list_processors() -> None:
    """Show the processors whose device and calibration are here, with median errors."""
    with _status("Reading calibrations …"), quiet_tensorflow():
        from qrkt_keras import hardware as processors

        table = _table(
            "processor", "qubits", "pairs", "gate sets", "pulse", "√iSWAP", "SYC", "readout"
        )
        for name in processors.list_processors():
            processor = processors.get_processor(name)
            errors = processor.median_errors()
            table.add_row(
                name,
                str(len(processor.qubits)),
                str(processor.graph.number_of_edges()),
                ", ".join(processor.gatesets),
                *(f"{error:.2%}" for error in errors.values()),
            )
    _console().print(table)
    _say("Medians of Pauli errors, and of readout errors, from the calibrations in cirq-google.")
    for note in processor.assumed:
        _say(f"Note: {note}.", "yellow")


@hardware.command("compile")
def compile_circuits(
    circuit: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|FOLDER|TEMPLATE", help="A model's preset, or with -n a template."
        ),
    ],
    num_qubits: Annotated[
        int | None, typer.Option("--num-qubits", "-n", min=1, help="Qubits of the template.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of the template.", show_default="1")
    ] = None,
    processor: ProcessorName = "weber",
    gateset: WhichGateset = Gateset.SQRT_ISWAP,
    split_circuits: SplitCircuits = False,
    noise_scales: NoiseScales = "1",
    repetitions: Repetitions = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for compiled.json, and of each circuit a drawing and its place."),
    ] = None,
    overwrite: OverwriteResults = False,
) -> None:
    """Show what a model's circuits, or a template, become on a processor."""
    scales = _noise_scales(noise_scales)
    if layers is not None and num_qubits is None:
        raise typer.BadParameter("--layers is of a template, which needs --num-qubits.")
    with _tensorflow():
        from qrkt_keras import hardware as processors
        from qrkt_keras.circuits import templates
        from qrkt_keras.execution.sampling import REPETITIONS

        if num_qubits is not None:
            what = templates.get(circuit, num_qubits, num_layers=layers or 1)
        elif circuit in templates.list() and not Path(circuit).exists():
            raise typer.BadParameter(f"{circuit} is a template, which needs --num-qubits.")
        else:
            what, _ = _trained_model(circuit, None, "classifier", "GAN", load_weights=False)
            # Of a GAN the generator, which makes images.
            what = getattr(what, "ema_generator", what)
        with _status("Compiling …"):
            compiled = processors.compile_for(
                what, processor, gateset.value, split=split_circuits, noise_scales=scales
            )
        circuits = getattr(compiled, "circuits", (compiled,))
        rows = getattr(compiled, "rows", (1,))
        files = []
        if output is not None:
            files = ["compiled.json"]
            for number in range(1, len(circuits) + 1):
                files += [f"placement_{number}.png", f"circuit_{number}.txt"]
            _check_results(output, files, overwrite=overwrite)
            if overwrite:
                others = [*output.glob("placement_*.png"), *output.glob("circuit_*.txt")]
                _prepare(output, [file.name for file in others])
            _prepare(output, ())
            _write_text(output / "compiled.json", compiled.to_json())
            for number, one in enumerate(circuits, 1):
                processors.placement_picture(one, output / f"placement_{number}.png")
                texts = [part.circuit.to_text_diagram(transpose=True) for part in one.parts]
                _write_text(output / f"circuit_{number}.txt", "\n\n".join(texts))
        shots = [repetitions or REPETITIONS] * len(circuits)
    _console().print(_compiled_table(circuits, rows, shots))
    for note in sorted({note for one in circuits for note in one.report.assumed}):
        _say(f"Note: {note}.", "yellow")
    if files:
        _say(f"Written to {output}/: {', '.join(files)}")


def _compiled_table(
    circuits: Sequence[CompiledCircuit], rows: Sequence[int], repetitions: Sequence[int]
) -> Table:
    """What circuits became; repetitions are those of each of a circuit's, on average."""
    table = _table("circuit", *map(str, range(1, len(circuits) + 1)))
    reports = [circuit.report for circuit in circuits]
    numbers = list(zip(reports, rows, repetitions, strict=True))

    def add(name: str, values: Sequence[Any]) -> None:
        table.add_row(name, *map(str, values))

    add("qubits", [report.num_qubits for report in reports])
    add("swaps added", ["yes" if report.is_routed else "no" for report in reports])
    add("depth", [f"{report.depth_before} → {report.depth}" for report in reports])
    add(
        "gates on two qubits",
        [f"{report.two_qubit_gates_before} → {report.two_qubit_gates}" for report in reports],
    )
    add("expected fidelity", [f"{report.fidelity:.3g}" for report in reports])
    add("duration, µs", [f"{report.duration / 1000:.3g}" for report in reports])
    add("circuits", [report.num_circuits for report in reports])
    add("points of each per example", [f"{number:,}" for number in rows])
    add("circuits per example", [f"{r.num_circuits * number:,}" for r, number, _ in numbers])
    add("shots of each", [f"{shots:,.0f}" for shots in repetitions])
    add(
        "shots per example",
        [f"{r.num_circuits * number * shots:,.0f}" for r, number, shots in numbers],
    )
    add(
        "qubits busy per example, s",
        [f"{number * r.seconds(1) * shots:.3g}" for r, number, shots in numbers],
    )
    return table


@hardware.command("evaluate")
def evaluate_on_hardware(
    preset: PresetOrFolder,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(datasets.SPLITS)}.")] = "test",
    num_examples: Annotated[
        int,
        typer.Option("--examples", min=1, help="So many of them, the same ones each time."),
    ] = 100,
    processor: ProcessorName = "weber",
    project: Project = None,
    noiseless: Noiseless = False,
    gateset: WhichGateset = Gateset.SQRT_ISWAP,
    split_circuits: SplitCircuits = False,
    repetitions: Repetitions = None,
    standard_error: StandardError = None,
    mitigate_readout: MitigateReadout = False,
    noise_scales: NoiseScales = "1",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples whose circuits go to the processor together.")
    ] = 10,
    seed: AnalysisSeed = 0,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the job.", show_default="runs/hardware_PRESET")
    ] = None,
    resume: ResumeJob = False,
    overwrite: OverwriteResults = False,
    quiet: QuietAnalysis = False,
) -> None:
    """Score a trained classifier whose circuits run on a processor, beside the exact engine.

    The folder gets evaluation.json, and the outcomes of every batch as it is finished: --resume
    continues the job after any interruption, and runs nothing twice.
    """
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    output = output or Path("runs") / f"hardware_{_located(preset)[1]}"
    how = _Sampled(
        processor=processor,
        project=project,
        noiseless=noiseless,
        gateset=gateset.value,
        split_circuits=split_circuits,
        repetitions=repetitions,
        standard_error=standard_error,
        mitigate_readout=mitigate_readout,
        noise_scales=noise_scales,
        seed=seed,
        timeout=timeout,
    )
    options = {"data": data, **reading, "split": split, "examples": num_examples}
    options |= how.options() | {"batch_size": batch_size, "output": output}
    with _tensorflow():
        from qrkt_keras import hardware as processors

        command = _command("hardware", "evaluate", preset, **options)
        model, source = _trained_model(preset, None, "classifier")
        inputs, labels, facts = _job_examples(
            model, source, preset, data, reading, split, num_examples
        )
        job = _Job(output, ("evaluation.json",), command, resume=resume, overwrite=overwrite)
        if not dry_run:
            job.check()
        prepared = how.prepare(
            model, len(labels), batch_size, gradients=False, dry_run=dry_run, quiet=quiet
        )
        if prepared is None:
            return
        with job:
            sampler, sampling = how.start(job, *prepared)
            result = processors.evaluate(
                model,
                inputs,
                labels,
                sampler,
                batch_size=batch_size,
                progress=not quiet,
                **sampling,
            )
            job.write({**facts, **how.facts(), **processors.as_data(result)})
    table = _table("", "sampled", "exact")
    table.add_row("accuracy", f"{result.accuracy:.2%}", f"{result.exact_accuracy:.2%}")
    table.add_row("same class as the exact engine", f"{result.agreement:.2%}", "")
    table.add_row("mean error of a value", f"{result.mean_error:.4f}", "")
    table.add_row("largest error of a value", f"{result.max_error:.4f}", "")
    _console().print(table)
    _say(_ran(result, sampler))
    _say(f"Written to {output}/: evaluation.json, {_RUNS}/")


@hardware.command("train")
def train_on_hardware(
    preset: PresetOrFolder,
    data: Data = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    skip_empty: SkipEmpty = False,
    skip_unreadable: SkipUnreadable = False,
    num_examples: Annotated[
        int,
        typer.Option(
            "--examples", min=1, help="So many of the training examples, always the same."
        ),
    ] = 100,
    num_steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of Adam.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(min=0, help="Adam's.")] = 0.05,
    processor: ProcessorName = "weber",
    project: Project = None,
    noiseless: Noiseless = False,
    gateset: WhichGateset = Gateset.SQRT_ISWAP,
    split_circuits: SplitCircuits = False,
    repetitions: Repetitions = None,
    standard_error: StandardError = None,
    mitigate_readout: MitigateReadout = False,
    noise_scales: NoiseScales = "1",
    seed: AnalysisSeed = 0,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the job.", show_default="runs/hardware_train_PRESET"),
    ] = None,
    resume: ResumeJob = False,
    overwrite: OverwriteResults = False,
    quiet: QuietAnalysis = False,
) -> None:
    """Train a new model of a preset for a few steps, by gradients that a processor's shots give.

    Gradients by angles are the parameter-shift rule's. The folder gets training.json, training.png,
    the trained preset, and the outcomes of every batch as it is finished: --resume continues the
    job after any interruption, and runs nothing twice.
    """
    reading = _reading(text_column, label_column, split_column, skip_empty, skip_unreadable)
    _check_data(data, of_preset=False)
    output = output or Path("runs") / f"hardware_train_{_located(preset)[1]}"
    how = _Sampled(
        processor=processor,
        project=project,
        noiseless=noiseless,
        gateset=gateset.value,
        split_circuits=split_circuits,
        repetitions=repetitions,
        standard_error=standard_error,
        mitigate_readout=mitigate_readout,
        noise_scales=noise_scales,
        seed=seed,
        timeout=timeout,
    )
    options = {"data": data, **reading, "examples": num_examples, "steps": num_steps}
    options |= {"batch_size": batch_size, "learning_rate": learning_rate, "output": output}
    options |= how.options()
    with _tensorflow():
        import keras

        from qrkt_keras import hardware as processors

        command = _command("hardware", "train", preset, **options)
        keras.utils.set_random_seed(seed)
        model, source = _trained_model(preset, None, "classifier", load_weights=False)
        inputs, labels, facts = _job_examples(
            model, source, preset, data, reading, "train", num_examples
        )
        files = ("training.json", "training.png", PRESET)
        job = _Job(output, files, command, resume=resume, overwrite=overwrite)
        if not dry_run:
            job.check()
        number = num_steps * min(batch_size, len(labels))
        prepared = how.prepare(
            model, number, batch_size, gradients=True, dry_run=dry_run, quiet=quiet
        )
        if prepared is None:
            return
        with job:
            sampler, sampling = how.start(job, *prepared)
            result = processors.train(
                model,
                inputs,
                labels,
                sampler,
                num_steps=num_steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                seed=seed,
                progress=not quiet,
                **sampling,
            )
            name = _located(preset)[1]
            processors.training_picture(
                result, output / "training.png", f"{name} on {processor}, {num_steps} steps"
            )
            # No recipe says how this was trained, so the preset does not name its data either.
            model.save_to_preset(output / PRESET, command=command, seed=seed, overwrite=True)
            job.write({**facts, **how.facts(), **processors.as_data(result)})
    first, last = result.exact_losses[0], result.exact_losses[-1]
    _say(f"Loss of {len(labels):,} examples, exact: {first:.4f} → {last:.4f}")
    _say(_ran(result, sampler))
    _say(f"Written to {output}/: training.json, training.png, {PRESET}/, {_RUNS}/")
    _say(f"Next: qrkt evaluate {output} --data {facts['data']}")


def _ran(result: Any, sampler: KeptRuns) -> str:
    """What a job ran, and what of it had been run before."""
    told = f"{result.num_circuits:,} circuits, {result.num_shots:,} shots, {result.seconds:.0f} s"
    if sampler.num_kept:
        told += f"; {sampler.num_kept:,} circuits of the job had been run before and were kept"
    return told


@dataclasses.dataclass(frozen=True)
class _Sampled:
    """How the options of a job on a processor want circuits to be run."""

    processor: str
    project: str | None
    noiseless: bool
    gateset: str
    split_circuits: bool
    repetitions: int | None
    standard_error: float | None
    mitigate_readout: bool
    noise_scales: str
    seed: int
    timeout: float | None

    def options(self) -> dict[str, Any]:
        """The options of the command, by name."""
        return dataclasses.asdict(self)

    def facts(self) -> dict[str, Any]:
        """What a job's JSON file says of them."""
        facts = {name: value for name, value in self.options().items() if name != "timeout"}
        return facts | {"readout_shots": 2 * _READOUT_SHOTS if self.mitigate_readout else 0}

    def prepare(
        self,
        model: PatchQNN | QText | QViT,
        num_examples: int,
        batch_size: int,
        *,
        gradients: bool,
        dry_run: bool,
        quiet: bool,
    ) -> tuple[Sampler, dict[str, Any]] | None:
        """A sampler, and options of the engine; None for a dry run, which asks no processor."""
        from qrkt_keras import hardware as processors

        if self.noiseless and self.project is not None:
            raise typer.BadParameter("--noiseless is of a virtual machine, not of --project.")
        if self.timeout is not None and self.timeout <= 0:
            raise typer.BadParameter(f"--timeout must be positive. Received: {self.timeout:g}")
        known = processors.list_processors()
        if dry_run and self.processor not in known:
            raise typer.BadParameter(
                f"--dry-run asks no processor, and knows those of {', '.join(known)} only. "
                f"Received: --processor {self.processor}"
            )
        noise = {"noise": None} if self.noiseless else {}
        if self.project is None or dry_run:
            machine = processors.virtual_machine(self.processor, seed=self.seed, **noise)
        else:
            with _status("Asking the Quantum Engine …"):
                machine = processors.processor(self.project, self.processor)
        scales = _noise_scales(self.noise_scales)
        with _status("Compiling …"):
            compiled = processors.compile_for(
                model,
                machine.processor,
                self.gateset,
                split=self.split_circuits,
                noise_scales=scales,
            )
        sampling = {
            "repetitions": self.repetitions,
            "standard_error": self.standard_error,
            "compiled": compiled,
            "noise_scales": scales,
            "timeout": self.timeout,
        }
        if dry_run or not quiet:
            # A machine of its own: the job's must not depend on what was tried before it.
            trial = processors.VirtualMachine(machine.processor, seed=0, **noise)
            corrected = dict(sampling)
            if self.mitigate_readout:
                # Not measured yet: those of the calibration.
                corrected["readout_errors"] = machine.processor.readout_errors
            self._say_estimate(
                model, trial, corrected, num_examples, batch_size, gradients, dry_run
            )
        return None if dry_run else (machine, sampling)

    def start(
        self, job: _Job, machine: Sampler, sampling: dict[str, Any]
    ) -> tuple[KeptRuns, dict[str, Any]]:
        """A sampler whose runs the job keeps, and options of the engine, readout errors too."""
        from qrkt_keras import hardware as processors

        sampler = processors.KeptRuns(machine, job.runs, resume=True)
        if not self.mitigate_readout:
            return sampler, sampling
        measured = {
            part.final[qubit]
            for circuit in sampling["compiled"].circuits
            for part in circuit.parts
            for qubit in part.group.qubits
        }
        errors = processors.measured_readout_errors(
            sampler, measured, _READOUT_SHOTS, timeout=self.timeout
        )
        return sampler, sampling | {"readout_errors": errors}

    def _say_estimate(
        self,
        model: PatchQNN | QText | QViT,
        trial: Sampler,
        sampling: dict[str, Any],
        num_examples: int,
        batch_size: int,
        gradients: bool,
        dry_run: bool,
    ) -> None:
        from qrkt_keras import hardware as processors

        compiled = sampling["compiled"]
        # Qubits that no gate connects are simulated apart.
        widest = max(
            circuit.report.num_qubits if circuit.report.two_qubit_gates else 1
            for circuit in compiled.circuits
        )
        with _status("Trying each circuit …"):
            estimate = processors.estimate(
                model,
                num_examples,
                gradients=gradients,
                trial=trial if widest <= _MOST_TRIED_QUBITS else None,
                batch_size=batch_size,
                **sampling,
            )
        repetitions = [
            shots / circuit.report.num_circuits
            for circuit, shots in zip(compiled.circuits, estimate.shots_per_circuit, strict=True)
        ]
        if dry_run:
            _console().print(_compiled_table(compiled.circuits, compiled.rows, repetitions))
        busy = sum(
            rows * circuit.report.seconds(1) * shots
            for circuit, rows, shots in zip(
                compiled.circuits, compiled.rows, repetitions, strict=True
            )
        )
        busy *= estimate.num_circuits / compiled.circuits_per_example
        of = "with those of gradients" if gradients else "in all"
        told = (
            f"{num_examples:,} examples, {compiled.circuits_per_example:,} circuits an example: "
            f"{estimate.num_circuits:,} circuits {of}, {estimate.num_shots:,} shots"
        )
        if self.mitigate_readout:
            told += f", and 2 circuits of {_READOUT_SHOTS:,} shots for readout errors"
        told += f"; qubits busy {busy:.3g} s"
        if estimate.seconds is not None:
            told += f", a virtual machine about {estimate.seconds:.3g} s"
        _say(told)


class _Job:
    """A folder in which a job keeps what its sampler answered, and its results at the end.

    Within a `with` block an interrupt or a failing sampler ends the program, and the command that
    continues the job is shown.
    """

    def __init__(
        self,
        output: Path,
        files: Sequence[str],
        command: str,
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        if resume and overwrite:
            raise typer.BadParameter("--resume and --overwrite exclude each other.")
        self.output, self.runs, self.command = output, output / _RUNS, command
        self._files, self._resume, self._overwrite = files, resume, overwrite

    def check(self) -> None:
        """Refuses a folder that has results already, before anything is computed."""
        there = self.runs.is_dir()
        if not (self._resume and there):
            _check_results(
                self.output,
                (*self._files, _RUNS),
                overwrite=self._overwrite,
                has_resume=there,
            )

    def write(self, results: Mapping[str, Any]) -> None:
        """Writes the results, with the command that makes them."""
        _write_results(self.output, self._files[0], {"command": self.command, **results})

    def __enter__(self) -> _Job:
        # Results that are there are replaced by new ones when these are complete.
        if self._overwrite and self.runs.is_dir():
            shutil.rmtree(self.runs)
        _prepare(self.output, ())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        from qrkt_keras.execution import SamplerError

        if isinstance(error, KeyboardInterrupt | SamplerError):
            interrupted = isinstance(error, KeyboardInterrupt)
            told = "Interrupted." if interrupted else str(error)
            kept = any(self.runs.glob("run_*.npz"))
            safe = f"What was run is safe in {self.runs}." if kept else "Nothing had been run."
            _say(
                f"{told}\n{safe} To continue:\n  {self.command} --resume",
                "yellow" if interrupted else "bold red",
                stderr=True,
            )
            raise typer.Exit(_INTERRUPTED if interrupted else 1) from None


def _write_text(path: Path, text: str) -> None:
    from qrkt_keras.training import atomic_write

    with atomic_write(path) as file:
        file.write(text.encode())


def _noise_scales(text: str) -> tuple[int, ...]:
    try:
        scales = tuple(int(part) for part in text.split(","))
        if len(scales) == 1 and scales != (1,):
            raise ValueError
        return scales
    except ValueError:
        raise typer.BadParameter(
            f"--noise-scales must be 1, or several odd numbers such as 1,3. Received: {text!r}"
        ) from None


def _job_examples(
    model: PatchQNN | QText | QViT,
    source: Preset,
    preset: str,
    data: str | None,
    reading: Mapping[str, Any],
    split: str,
    num_examples: int,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Examples of a job, always the same of so many, and what its JSON file says of them."""
    from qrkt_keras import zoo

    examples = zoo.examples_for(source, data, reading)
    examples.check(model, _located(preset)[1])
    inputs, labels = _chosen_examples(model, examples, split, num_examples)
    facts = {
        "preset": preset,
        "data": examples.data,
        "split": split,
        "num_examples": len(labels),
    }
    return inputs, labels, facts


# --- what there is -------------------------------------------------------------------------


@app.command("list")
def list_presets(
    pattern: Annotated[
        str, typer.Argument(help="Which of them; * and ? stand for any characters, any one.")
    ] = "*",
) -> None:
    """List the presets that come with the package."""
    presets = _packaged_presets()
    chosen = fnmatch.filter(presets, pattern)
    if not chosen:
        raise ValueError(f"The presets are {', '.join(presets)}. Received: pattern={pattern!r}")
    table = _table("preset", "model", "data", "parameters", "qubits", "test accuracy")
    for name in chosen:
        content = _read_json(presets[name] / "config.json")
        recipe = _read_json(presets[name] / "recipe.json")
        metadata = _read_json(presets[name] / "metadata.json")
        counts = _counts(content["class_name"], content["config"])
        accuracy = ((metadata.get("scores") or {}).get("test") or {}).get("accuracy")
        score = "untrained" if not metadata else "–" if accuracy is None else f"{accuracy:.2%}"
        table.add_row(
            name,
            content["class_name"],
            recipe.get("data", "–"),
            *("–" if count is None else f"{count:,}" for count in counts),
            score,
        )
    _console().print(table)


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _counts(class_name: str, config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Parameters and qubits of a model, by arithmetic: to build it takes seconds."""
    if class_name == "PatchQNN":
        return _patch_counts(config)
    layers = config.get("num_ansatz_layers", 1)
    # Weights on one qubit; the last layer of `hardware_efficient` has no closing rotation.
    angles = {
        "ry_ring": 1,
        "rx_ring": layers,
        "hardware_efficient": 3 * layers - 1,
        "hardware_efficient_once": 3 * layers - 1,
        "identity": 0,
    }
    if class_name not in ("QViT", "QText") or config["template"] not in angles:
        return None, None
    hidden, inner = config["hidden_dim"], config["mlp_dim"]
    encoders, decoders = config["num_encoder_blocks"], config["num_decoder_blocks"]
    if class_name == "QViT":
        *sides, channels = config["image_shape"]
        patch = config["patch_size"]
        stride = config.get("patch_stride") or patch
        tokens = math.prod(1 + (side - patch) // stride for side in sides)
        embedding = (patch * patch * channels + 1 + tokens) * hidden
        sums = config.get("depth_multiplier", 1)
        pooling = tokens * sums * hidden if config.get("pooling") == "depthwise" else 0
    else:
        embedding = (config["vocab_size"] + config["max_length"]) * hidden
        sums, pooling = 1, 0
    if config["quantum"]:
        per_qubit = angles[config["template"]]
        encoding = hidden * hidden * config.get("trainable_encoding", False)
        projection, inner_circuit = hidden * per_qubit + encoding, inner * per_qubit
    else:
        projection, inner_circuit = hidden * (hidden + 1), 0
    stage = 4 * projection + (2 * hidden + 1) * inner + hidden + inner_circuit
    cross = 4 if config.get("project_cross_attention") else 1
    normalization = 2 * hidden

    tableaus = config["solver"]
    tableaus = tableaus if isinstance(tableaus, list) else [tableaus] * config["num_ode_blocks"]
    tableaus = [solvers.get(tableau) for tableau in tableaus]
    stages = sum(1 if config["share_weights"] else tableau.num_stages for tableau in tableaus)
    output_rules = sum(
        {"weights": 0, "learned": tableau.num_stages, "gated": 2 * hidden + 1}[tableau.output]
        for tableau in tableaus
    )
    streams = 2 if decoders else 1
    parameters = (
        streams * embedding
        + encoders * (2 * normalization + stage)
        + len(tableaus) * normalization
        + stages * stage
        + output_rules
        + decoders * (3 * normalization + stage + cross * projection)
        # A decoded text is not normalised again.
        + (streams if class_name == "QViT" else 1) * normalization
        + pooling
        + (sums * hidden + 1) * config["num_classes"]
    )
    qubits = (encoders + stages + decoders) * (4 * hidden + inner) + decoders * cross * hidden
    has_circuits = config["quantum"] and config["template"] != "identity"
    return parameters, qubits if has_circuits else 0


def _patch_counts(config: Mapping[str, Any]) -> tuple[int, int]:
    *sides, channels = config["image_shape"]
    sides = [side // config["pool_size"] for side in sides]
    size, stride = config["patch_size"], config["stride"]
    patches = math.prod(1 + (side - size) // stride for side in sides)
    biases, features = math.prod(sides) * channels, size * size * channels
    if not config["quantum"]:
        return biases + patches * (features + 1) * config["num_classes"], 0
    qubits = config["num_qubits_per_circuit"]
    angles = 6 * config["num_blocks"] * qubits + 2 * features
    return biases + patches * angles, patches * qubits


@app.command()
def about() -> None:
    """Tell versions, engines, devices and where data is looked for."""
    with _tensorflow():
        import tensorflow as tf

        from qrkt_keras.execution import ENGINES

        devices = tf.config.list_physical_devices()
        lines = {
            "qrkt_keras": f"{qrkt_keras.__version__} in {PACKAGE}",
            "python": f"{platform.python_version()} on {platform.platform()}",
            **{package: _version(package) for package in _PACKAGES},
            "engines": ", ".join(ENGINES),
            "devices": ", ".join(_device(device) for device in devices),
            "TFDS_DATA_DIR": _data_folder(),
            "data sets": ", ".join(_data_set(name) for name in datasets.list()),
        }
    width = max(map(len, lines))
    for word, line in lines.items():
        _say(Text.assemble((f"{word:<{width}}  ", "bold"), line))


_PACKAGES = (
    "keras",
    "tensorflow",
    "tensorflow-quantum",
    "cirq-core",
    "cirq-google",
    "jax",
    "numpy",
    "tensorflow-datasets",
    "keras-tuner",
    "tensorflow-gan",
)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device(device: Any) -> str:
    if device.device_type == "CPU":
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)
        return f"CPU ({len(usable)} cores)"
    import tensorflow as tf

    name = tf.config.experimental.get_device_details(device).get("device_name", device.name)
    return f"{device.device_type} ({name})"


def _data_folder() -> str:
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        return "not set"
    return folder if Path(folder).expanduser().is_dir() else f"{folder} (no such folder)"


def _data_set(name: str) -> str:
    try:
        datasets.find(name)
    except datasets.DatasetNotFoundError:
        return f"{name} (not found)"
    return name


@app.command()
def circuit(
    template: Annotated[
        str, typer.Argument(help="rx_ring, ry_ring, hardware_efficient or hardware_efficient_once.")
    ],
    num_qubits: Annotated[int, typer.Option("--num-qubits", "-n", min=1, help="Qubits.")],
    layers: Annotated[int, typer.Option(min=1, help="Layers of weights.")] = 1,
    output: Annotated[
        Path | None, typer.Option(help="A .png, .svg or .txt file to draw into.")
    ] = None,
) -> None:
    """Draw a circuit template, as text or into a file."""
    from qrkt_keras.circuits import templates

    spec = templates.get(template, num_qubits, num_layers=layers)
    if output is None:
        print(spec.draw())
        return
    suffix = output.suffix.lower().removeprefix(".")
    spec.draw(format="text" if suffix == "txt" else suffix, path=output)
    _say(f"{output} shows {template} on {num_qubits} qubits")
