"""Folders of runs: what `qrkt train` leaves behind, made for what is missing, and as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras

from qrkt_keras.serving import atomic_folder, export_for_serving
from qrkt_keras.training import GANRecipe, Recipe, atomic_write
from qrkt_keras.zoo.presets import METADATA, Preset, from_preset, read_preset, save_to_preset

# What is in a run's folder beside what `training.fit` puts there.
PRESET = "preset"
SAVED_MODEL = "saved_model"

# Of a row for each run of a classifier.
COLUMNS = (
    "preset",
    "model",
    "data",
    "seed",
    "epochs",
    "parameters",
    "qubits",
    "validation_accuracy",
    "test_accuracy",
    "test_macro_f1",
    "test_macro_auc",
    "seconds",
    "seconds_per_step",
    "command",
)
# What tells one run from another.
KEY = ("preset", "model", "seed")

Job = TypeVar("Job", bound=Hashable)


def name_of(source: Preset) -> str:
    """The name of a preset; that of a run's preset is the run's."""
    return source.folder.resolve().parent.name if source.name == PRESET else source.name


def run_folder(output_dir: str | os.PathLike[str], preset: str, form: str, seed: int) -> Path:
    """The folder of a run among those of a comparison; the form is one of `controls.FORMS`.

    Example:

    >>> run_folder("runs", "qvit_3k_mnist", "twin", 0).as_posix()
    'runs/qvit_3k_mnist_twin_seed0'
    """
    return Path(output_dir) / f"{preset}_{form}_seed{seed}"


def finish_run(
    model: keras.Model,
    folder: str | os.PathLike[str],
    *,
    recipe: Recipe | GANRecipe,
    data: str,
    data_options: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any],
    command: str,
) -> None:
    """Writes what a finished run has beside its reports: the preset and the SavedModel.

    Args:
        model: The trained model.
        folder: The run's folder.
        recipe, data, data_options, scores, command: As of `save_to_preset`.

    Raises:
        OSError: If it could not be written.
    """
    folder = Path(folder)
    save_to_preset(
        model,
        folder / PRESET,
        recipe=recipe,
        data=data,
        data_options=data_options,
        scores=scores,
        command=command,
        seed=recipe.seed,
        overwrite=True,
    )
    export_for_serving(model, folder / SAVED_MODEL, overwrite=True)


def is_finished(folder: str | os.PathLike[str]) -> bool:
    """Whether `finish_run` has written all there is to a run's folder.

    Example:

    >>> is_finished("no/such/folder")
    False
    """
    folder = Path(folder)
    written = (folder / PRESET / METADATA, folder / SAVED_MODEL / "1" / "saved_model.pb")
    return all(file.is_file() for file in written)


def finished_runs(folders: Mapping[Job, Path]) -> dict[Job, Path]:
    """Those of the folders in which a run is finished, see `is_finished`."""
    return {job: folder for job, folder in folders.items() if is_finished(folder)}


def run_missing(folders: Mapping[Job, Path], run: Callable[[Job, Path], None]) -> None:
    """Runs what is not finished, see `is_finished`.

    Args:
        folders: Each run's folder.
        run: Makes one run, or continues it.

    Example:

    >>> run_missing({"a": Path("no/such/folder")}, lambda job, folder: print(job, folder))
    a no/such/folder
    """
    for job, folder in folders.items():
        if not is_finished(folder):
            run(job, folder)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Options of `qrkt` as words of a command.

    Args:
        options: Name to value. None and False are left out, True is a flag, and the values of a
            list stand in a row.

    Example:

    >>> option_words({"data": "mnist", "seeds": [0, 1], "xla": True, "batch_size": None})
    ['--data', 'mnist', '--seeds', '0', '1', '--xla']
    """
    words = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def run_command(*words: object) -> None:
    """Shows a command of `qrkt`, and runs it in a process of its own.

    Args:
        *words: What follows `qrkt`.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    words = [str(word) for word in words]
    print("qrkt", shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "qrkt_keras", *words], check=True)


def read_run(
    folder: str | os.PathLike[str],
    *,
    preset: str,
    model: str,
    counts: tuple[int, int] | None = None,
) -> dict[str, str]:
    """A classifier's finished run as a row of a table.

    Args:
        folder: Its folder.
        preset: Name of the preset that was trained, and
        model: of the form in which it was, such as `"classical twin"`.
        counts: Its parameters and qubits, where they are known; the model is built otherwise.

    Returns:
        A cell for each of `COLUMNS`; what was not measured is empty.

    Raises:
        PresetError: If the preset in the folder is damaged.
        OSError: If there is no `history.json`.
    """
    folder = Path(folder)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    source = read_preset(folder / PRESET)
    if counts is None:
        network = from_preset(source, load_weights=False)
        counts = network.count_params(), network.num_qubits

    def score(split: str, measure: str) -> str:
        # A run that holds nothing out has no validation scores.
        return _cell(source.metadata["scores"].get(split, {}).get(measure), ".4f")

    return {
        "preset": preset,
        "model": model,
        "data": source.data,
        "seed": str(source.metadata["seed"]),
        "epochs": str(history["epochs"]),
        "parameters": str(counts[0]),
        "qubits": str(counts[1]),
        "validation_accuracy": score("validation", "accuracy"),
        "test_accuracy": score("test", "accuracy"),
        "test_macro_f1": score("test", "macro_f1"),
        "test_macro_auc": score("test", "macro_auc"),
        "seconds": str(round(history["seconds"])),
        # Runs from before it was measured do not tell.
        "seconds_per_step": _cell(history.get("seconds_per_step"), ".3g"),
        "command": source.metadata["command"],
    }


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def record_runs(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Puts runs into a CSV file, a row each, in place of those of the same preset, model and seed.

    Args:
        path: The file, which is written whole or not at all. One that is there keeps its other
            rows, and its columns.
        rows: What `read_run` returned.

    Returns:
        All rows of the file.

    Raises:
        OSError: If it could not be written.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = dict.fromkeys(COLUMNS, "") | {"preset": "qvit_rk4_digits", "seed": "0"}
    ...     _ = record_runs(f"{folder}/results.csv", [row])
    ...     rows = record_runs(f"{folder}/results.csv", [row | {"seed": "1"}])
    >>> [row["seed"] for row in rows]
    ['0', '1']
    """
    path = Path(path)
    columns, kept = COLUMNS, []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns, kept = reader.fieldnames or COLUMNS, [*reader]
    new = {tuple(row[name] for name in KEY): row for row in rows}
    kept = [row for row in kept if tuple(row[name] for name in KEY) not in new]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *rows])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return [*kept, *map(dict, rows)]


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and, of several values, sample standard deviation, as text.

    Example:

    >>> spread([0.9, 1.0, 1.1], 2), spread([1.0], 2)
    ('1.00 ± 0.10', '1.00')
    """
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def write_table(card: str | os.PathLike[str], name: str, lines: Sequence[str]) -> None:
    """Puts lines where a model's card has a place for them, whole or not at all.

    The place is between the comments `<!-- NAME -->` and `<!-- end of NAME -->`, each on a line of
    its own. The first may say which script writes there too: `<!-- best.py NAME -->`.

    Args:
        card: The Markdown file.
        name: What is between the comments, such as a preset's name.
        lines: The lines, in place of those that are there.

    Raises:
        ValueError: If the card has no such place, or several.
        OSError: If it could not be read or written.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = Path(folder) / "README.md"
    ...     _ = card.write_text("Ours:\\n<!-- table -->\\nold\\n<!-- end of table -->\\n")
    ...     write_table(card, "table", ["| new |", "|---|"])
    ...     print(card.read_text(), end="")
    Ours:
    <!-- table -->
    | new |
    |---|
    <!-- end of table -->
    """
    card, word = Path(card), re.escape(name)
    place = re.compile(
        rf"^(<!-- (?:\S+ )?{word} -->\n).*?^(<!-- end of {word} -->)$", re.MULTILINE | re.DOTALL
    )
    text = card.read_text(encoding="utf-8")
    found = len(place.findall(text))
    if found != 1:
        raise ValueError(
            f"The card must have one place for the lines, between `<!-- {name} -->` and "
            f"`<!-- end of {name} -->`. Received: {card} with {found}"
        )
    body = "".join(f"{line}\n" for line in lines)
    text = place.sub(lambda match: match[1] + body + match[2], text)
    with atomic_write(card) as file:
        file.write(text.encode())


def package_run(folder: str | os.PathLike[str], preset: str) -> Path:
    """Puts a finished run's weights and what was measured into the package's own preset.

    Args:
        folder: The run's folder.
        preset: Name of the preset that was trained.

    Returns:
        The preset's folder, replaced whole or not at all.

    Raises:
        PresetError: If there is no such preset, or the run's own is missing or damaged.
        ValueError: If the run is not finished, or its model, data or recipe (but for the seed) are
            others.
        OSError: If it could not be written.
    """
    if not is_finished(folder):
        raise ValueError(f"A run is packaged when it is finished. Received: {folder}")
    source, target = read_preset(Path(folder) / PRESET), read_preset(preset)
    # The run's may have arguments that are newer than the package's preset.
    same = all(source.config.get(name) == value for name, value in target.config.items())
    if source.class_name != target.class_name or not same:
        raise ValueError(
            f"The run must be of the preset's own model. Received: {folder} for {preset!r}"
        )
    recipes = [one.recipe and dataclasses.replace(one.recipe, seed=0) for one in (source, target)]
    if source.data != target.data or recipes[0] != recipes[1]:
        raise ValueError(
            "The run must be on the preset's own data, by its own recipe. "
            f"Received: {folder} for {preset!r}"
        )
    with atomic_folder(target.folder, replace=True) as beside:
        shutil.copytree(source.folder, beside, dirs_exist_ok=True)
    return target.folder
