"""Presets: folders that hold a model's configuration, its recipe and, once trained, its weights.

    config.json        class name and constructor arguments
    recipe.json        how it is trained, and on which data set
    model.weights.h5   the trained weights, in Keras' own format
    metadata.json      the SHA-256 of the weights, the scores measured, the command, the versions

The last two come together or not at all. Nothing in a preset is executable: the class is looked up
in a fixed table, and the rest is JSON and numbers.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from qrkt_keras.serving import atomic_folder
from qrkt_keras.training import GANRecipe, Recipe

FORMAT = 1

CONFIG = "config.json"
RECIPE = "recipe.json"
WEIGHTS = "model.weights.h5"
METADATA = "metadata.json"

# Arguments that change neither the shapes of the weights nor what trained weights compute.
_HARMLESS = frozenset(
    {"dropout", "dtype", "engine", "label_names", "name", "seed", "trainable", "trainable_circuits"}
)
# Those of them that belong to one session and not to a preset.
_NOT_SAVED = ("dtype", "name", "trainable")

_warned: set[tuple[str, str]] = set()


class PresetError(ValueError):
    """A preset is unknown, incomplete or damaged; the message names it, or its file."""


class FreshWeightsWarning(UserWarning):
    """A model was made from a preset, but its weights are fresh and have to be trained."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is in a preset's folder, checked.

    Attributes:
        name: Name of the preset, that of its folder.
        folder: The folder.
        class_name: Name of the model's class.
        config: Arguments of the class.
        recipe: How the model is trained, if the preset says so.
        data: Name or path of the data set that it is trained on, if the preset says so.
        metadata: What was measured, and how, if there are weights.
        data_options: How that is read, see `data.arrays`.
    """

    name: str
    folder: Path
    class_name: str
    config: Mapping[str, Any]
    recipe: Recipe | GANRecipe | None
    data: str | None
    metadata: Mapping[str, Any] | None
    data_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def weights(self) -> Path | None:
        """The file of the weights, if there are any."""
        return None if self.metadata is None else self.folder / WEIGHTS


def model_classes() -> dict[str, type[keras.Model]]:
    """Returns the classes that a preset may name."""
    from qrkt_keras.zoo.features import FeatureNetwork
    from qrkt_keras.zoo.gan import QRKTGAN, TransGAN
    from qrkt_keras.zoo.patch_qnn.model import PatchQNN
    from qrkt_keras.zoo.qtext.model import QText
    from qrkt_keras.zoo.qvit.model import QViT

    classes = (FeatureNetwork, PatchQNN, QRKTGAN, QText, QViT, TransGAN)
    return {one.__name__: one for one in classes}


def list_presets(pattern: str = "*") -> tuple[str, ...]:
    """Returns the names of the presets that come with the package, sorted.

    Args:
        pattern: Which of them; `*` and `?` stand for any characters and for any one.

    Example:

    >>> from qrkt_keras.zoo import list_presets
    >>> list_presets("qvit_rk?_mnist")
    ('qvit_rk1_mnist', 'qvit_rk2_mnist', 'qvit_rk3_mnist', 'qvit_rk4_mnist')
    """
    return tuple(sorted(fnmatch.filter(_packaged(), pattern)))


def read_preset(preset: str | os.PathLike[str]) -> Preset:
    """Reads a preset and checks all of it.

    Args:
        preset: Name of a preset, see `list_presets`, or a folder that `save_to_preset` wrote. A
            text with a separator such as `/` is a folder's.

    Returns:
        Its content.

    Raises:
        PresetError: If there is no such preset, or a file is missing or damaged.

    Example:

    >>> from qrkt_keras.zoo import read_preset
    >>> preset = read_preset("qvit_rk4_mnist")
    >>> preset.data, preset.recipe.epochs, preset.config["solver"]
    ('mnist', 65, 'rk4')
    """
    folder = _find(preset)
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise PresetError(
            f"This version reads presets of format {FORMAT}. "
            f"Received: {folder / CONFIG} with format={config.get('format')!r}"
        )
    # A list, not the table: a damaged file may hold what cannot be looked up.
    if config.get("class_name") not in [*model_classes()]:
        raise PresetError(
            f"A preset's model is one of {', '.join(model_classes())}. "
            f"Received: {folder / CONFIG} with class_name={config.get('class_name')!r}"
        )
    if not isinstance(config.get("config"), dict):
        raise PresetError(
            "A preset's configuration holds the model's arguments under 'config'. "
            f"Received: {folder / CONFIG} with config={config.get('config')!r}"
        )
    recipe, data, data_options = _read_recipe(folder / RECIPE, config["class_name"])
    return Preset(
        name=folder.name,
        folder=folder,
        class_name=config["class_name"],
        config=config["config"],
        recipe=recipe,
        data=data,
        metadata=_read_metadata(folder),
        data_options=data_options,
    )


def read_recipe(
    source: str | os.PathLike[str], recipe_class: type[Recipe | GANRecipe] = Recipe
) -> Recipe | GANRecipe:
    """Reads a recipe from a file, or takes a preset's.

    Args:
        source: A JSON file with a recipe's fields (`Recipe.to_json`), or with them under
            `"recipe"`, as in a preset's folder; or what `read_preset` takes.
        recipe_class: The kind that it must be.

    Returns:
        The recipe.

    Raises:
        PresetError: If the file is no JSON object, there is no such preset, or it has no recipe of
            that kind.
        TypeError: If a field is of the wrong type.
        ValueError: If a field is unknown, missing or out of range.

    Example:

    >>> from qrkt_keras import zoo
    >>> zoo.read_recipe("qvit_rk4_mnist").epochs
    65
    """
    if Path(source).suffix == ".json" and not Path(source).exists():
        raise PresetError(f"There is no such file. Received: {os.fspath(source)!r}")
    if Path(source).is_file():
        content = _read_json(Path(source))
        fields = content.get("recipe", content)
        if not isinstance(fields, dict):
            raise PresetError(f"A recipe is a JSON object. Received: {source} with {fields!r}")
        return recipe_class.from_dict(fields)
    recipe = read_preset(source).recipe
    if not isinstance(recipe, recipe_class):
        raise PresetError(
            f"The preset must have a {recipe_class.__name__}. "
            f"Received: {os.fspath(source)!r} with {type(recipe).__name__}"
        )
    return recipe


def from_preset(
    preset: str | os.PathLike[str] | Preset,
    *,
    load_weights: bool = True,
    expected: type[keras.Model] | None = None,
    **overrides: Any,
) -> keras.Model:
    """Makes the model of a preset.

    Arguments that leave the trained weights valid can be changed freely: `dropout`, `engine`,
    `label_names`, `dtype`, `name`, `seed`, `trainable`, `trainable_circuits`. A change of any other
    one makes fresh weights.

    Args:
        preset: Name of a preset, a folder, or what `read_preset` returned.
        load_weights: Whether to load the weights. Without, no warning says that they are fresh.
        expected: The class that the model must have.
        **overrides: Arguments of the model's class, in place of the preset's.

    Returns:
        The model; where its weights are fresh, a `FreshWeightsWarning` says so, once a process.

    Raises:
        PresetError: If there is no such preset, or it is damaged, or of another class.
        TypeError: If the class has no such argument.
        ValueError: If an argument is out of range.

    Example:

    >>> from qrkt_keras import zoo
    >>> model = zoo.from_preset("qvit_rk4_mnist", load_weights=False)
    >>> model.count_params()
    3520
    """
    if not isinstance(preset, Preset):
        preset = read_preset(preset)
    model_class = model_classes()[preset.class_name]
    if expected is not None and not issubclass(model_class, expected):
        raise PresetError(
            f"The preset is of the class {preset.class_name}, which {expected.__name__} is not. "
            f"Received: {preset.name!r}"
        )
    known = [*inspect.signature(model_class).parameters]
    unknown = [name for name in overrides if name not in known]
    if unknown:
        raise TypeError(
            f"{preset.class_name} has the arguments {', '.join(known)}. "
            f"Received: {', '.join(f'{name}={overrides[name]!r}' for name in unknown)}"
        )
    if overrides:
        model = model_class(**{**preset.config, **overrides})
    else:
        try:
            model = model_class(**preset.config)
        except (TypeError, ValueError) as error:
            raise PresetError(
                f"The preset's configuration does not make a {preset.class_name}: {error}. "
                f"Received: {preset.folder / CONFIG}"
            ) from error
    if not load_weights:
        return model
    changed = [name for name in overrides if not _keeps_weights(preset, name, overrides[name])]
    if preset.weights is None:
        _warn_once(preset.name, "has no trained weights")
    elif changed:
        _warn_once(preset.name, f"was trained with another value of {', '.join(sorted(changed))}")
    else:
        _load_weights(model, preset.weights)
    return model


def save_to_preset(
    model: keras.Model,
    folder: str | os.PathLike[str],
    *,
    recipe: Recipe | GANRecipe | None = None,
    data: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    command: str | None = None,
    seed: int | None = None,
    include_weights: bool = True,
    overwrite: bool = False,
) -> Path:
    """Writes a model as a preset, whole or not at all.

    Args:
        model: A model of a class in `model_classes`.
        folder: The folder to be made; its name is the preset's.
        recipe: How the model is trained, and
        data: on which data set, its name or path; given both or neither.
        data_options: How that is read, see `data.arrays`, as JSON data.
        scores: What was measured, as JSON data; recorded as given.
        command: The command that trained the model; recorded as given.
        seed: The seed of that run; recorded as given.
        include_weights: Whether the weights are written, and with them the four above.
        overwrite: Whether to replace a preset that is there.

    Returns:
        The folder.

    Raises:
        TypeError: If the model is of another class, or the scores are not JSON data.
        ValueError: If there is something in the place already that must not be replaced, or one of
            `recipe` and `data` is missing.
        OSError: If it could not be written; what was there stays whole.

    Example:

    >>> import tempfile
    >>> from qrkt_keras import zoo
    >>> model = zoo.from_preset("qvit_rk1_mnist", load_weights=False)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = zoo.save_to_preset(model, f"{parent}/mine", scores={"test": {"accuracy": 0.1}})
    ...     again = zoo.from_preset(folder)
    >>> again.count_params()
    2872
    """
    class_name = type(model).__name__
    if model_classes().get(class_name) is not type(model):
        raise TypeError(
            f"A preset's model is one of {', '.join(model_classes())}. Received: {type(model)}"
        )
    if (recipe is None) != (data is None) or (data is None and data_options):
        raise ValueError(
            "A recipe and the name of its data set are given both or neither. "
            f"Received: recipe={recipe!r}, data={data!r}, data_options={data_options!r}"
        )
    folder = Path(folder)
    if folder.exists() and not (overwrite and (folder / CONFIG).is_file()):
        wanted = "a preset may be replaced" if overwrite else "overwrite=True replaces it"
        raise ValueError(f"The folder exists already ({wanted}). Received: {folder}")
    config = {name: value for name, value in model.get_config().items() if name not in _NOT_SAVED}
    with atomic_folder(folder, replace=overwrite) as beside:
        _write_json(beside / CONFIG, {"format": FORMAT, "class_name": class_name, "config": config})
        if recipe is not None:
            reading = {"data_options": dict(data_options)} if data_options else {}
            _write_json(beside / RECIPE, {"data": data, **reading, "recipe": recipe.to_dict()})
        if include_weights:
            # The weights alone: Keras would write the optimizers' state of a compiled model too.
            bare = type(model).from_config(model.get_config())
            bare.set_weights(model.get_weights())
            _check_space(beside / WEIGHTS, bare)
            bare.save_weights(beside / WEIGHTS)
            metadata = {
                "sha256": _sha256(beside / WEIGHTS),
                "scores": scores,
                "command": command,
                "seed": seed,
                "versions": _versions(),
            }
            _write_json(beside / METADATA, metadata)
    return folder


def _check_space(file: Path, model: keras.Model) -> None:
    """Raises OSError if the weights will not fit: HDF5 takes the process down on a full disk."""
    # HDF5 keeps some kilobytes of its own for every variable.
    num_bytes = 2**16 + sum(
        2**13 + keras.ops.convert_to_numpy(variable).nbytes for variable in model.variables
    )
    try:
        with open(file, "wb") as trial:
            trial.write(bytes(num_bytes))
            trial.flush()
            os.fsync(trial.fileno())
    finally:
        file.unlink(missing_ok=True)


def _packaged() -> dict[str, Path]:
    """The presets of the package: name to folder."""
    here = Path(__file__).parent
    return {file.parent.name: file.parent for file in here.glob(f"*/presets/*/{CONFIG}")}


def _find(preset: str | os.PathLike[str]) -> Path:
    packaged = _packaged()
    if isinstance(preset, str) and preset in packaged:
        return packaged[preset]
    if not isinstance(preset, str | os.PathLike):
        raise TypeError(f"A preset is a name or a folder. Received: {preset!r}")
    folder = Path(preset)
    if folder.is_dir():
        return folder
    if isinstance(preset, os.PathLike) or folder.name != preset:
        raise PresetError(f"There is no such folder. Received: {os.fspath(preset)!r}")
    similar = difflib.get_close_matches(preset, packaged, n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    raise PresetError(
        f"The known presets are {', '.join(sorted(packaged))}, and a folder is none of that name "
        f"either.{hint} Received: {preset!r}"
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PresetError(
            f"A preset's folder has the file {file.name}. Received: none at {file}"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PresetError(f"The preset is damaged ({error}). Received: {file}") from error
    if not isinstance(value, dict):
        raise PresetError(f"The file must hold a JSON object. Received: {file}")
    return value


def _read_recipe(
    file: Path, class_name: str
) -> tuple[Recipe | GANRecipe | None, str | None, Mapping[str, Any]]:
    if not file.exists():
        return None, None, {}
    content = _read_json(file)
    data, fields = content.get("data"), content.get("recipe")
    options = content.get("data_options", {})
    if not (isinstance(data, str) and isinstance(fields, dict) and isinstance(options, dict)):
        raise PresetError(
            "A preset's recipe is {'data': name, 'recipe': fields}, and may have 'data_options'. "
            f"Received: {file} with {sorted(content)}"
        )
    try:
        return model_classes()[class_name].recipe_class.from_dict(fields), data, options
    except (TypeError, ValueError) as error:
        raise PresetError(f"The recipe is no good: {error}. Received: {file}") from error


def _read_metadata(folder: Path) -> dict[str, Any] | None:
    """Reads what belongs to the weights, and checks the weights by it."""
    if not (folder / WEIGHTS).exists() and not (folder / METADATA).exists():
        return None
    metadata = _read_json(folder / METADATA)
    try:
        found = _sha256(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise PresetError(
            f"The preset is incomplete: it has {METADATA} but not the weights. "
            f"Received: none at {folder / WEIGHTS}"
        ) from error
    if found != metadata.get("sha256"):
        raise PresetError(
            "The weights are truncated or altered: their SHA-256 is not the one in "
            f"{METADATA}. Received: {folder / WEIGHTS} with {found}"
        )
    return metadata


def _load_weights(model: keras.Model, file: Path) -> None:
    try:
        model.load_weights(file)
    except (OSError, ValueError, KeyError) as error:
        raise PresetError(
            f"The weights do not fit the preset's configuration: {error}. Received: {file}"
        ) from error


def _keeps_weights(preset: Preset, name: str, value: Any) -> bool:
    if name in _HARMLESS:
        return True
    # A preset may be older than the argument.
    default = inspect.signature(model_classes()[preset.class_name]).parameters[name].default
    return _plain(value) == _plain(preset.config.get(name, default))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _warn_once(name: str, reason: str) -> None:
    if (name, reason) in _warned:
        return
    _warned.add((name, reason))
    warnings.warn(
        f"The preset {name!r} {reason}: the model starts with fresh weights, train it first.",
        FreshWeightsWarning,
        stacklevel=4,
    )


def _write_json(file: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, allow_nan=False)
    # A list of numbers or words on one line. A line break is never inside a JSON string.
    text = re.sub(r"\[\n[^][{}]*\n *\]", lambda match: re.sub(r",\n *", ", ", match[0]), text)
    text = re.sub(r"\[\n *([^\n]*)\n *\]", r"[\1]", text)
    file.write_text(f"{text}\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    import qrkt_keras

    packages = ("keras", "tensorflow", "tensorflow-quantum", "cirq-core", "numpy")
    versions = {"python": platform.python_version(), "qrkt_keras": qrkt_keras.__version__}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
