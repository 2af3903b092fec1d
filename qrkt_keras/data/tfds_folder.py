"""Finding, fetching and reading data that TensorFlow Datasets has prepared."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qrkt_keras.data.errors import (
    DatasetNotFoundError,
    DownloadInterrupted,
    InvalidDatasetError,
)
from qrkt_keras.data.images import fitted

ENVIRONMENT_VARIABLE = "TFDS_DATA_DIR"

# Examples that are decoded and resized before they are put away.
_AT_ONCE = 1000


def places(data_dir: str | os.PathLike[str] | None) -> list[tuple[str, Path | None]]:
    """Where data is looked for, in order: the argument, the environment, TFDS' own default."""
    environment = os.environ.get(ENVIRONMENT_VARIABLE)
    return [
        ("data_dir", Path(data_dir).expanduser() if data_dir is not None else None),
        (ENVIRONMENT_VARIABLE, Path(environment).expanduser() if environment else None),
        ("TFDS' default", Path.home() / "tensorflow_datasets"),
    ]


def _newest(place: Path, name: str, version: str | None, config: str | None) -> Path | None:
    """The prepared folder `place/name[/config]/version`."""
    found = [
        (tuple(int(part) for part in file.parent.name.split(".")), file.parent)
        for pattern in ("*", "*/*")
        for file in place.glob(f"{name}/{pattern}/dataset_info.json")
        if file.parent.name.replace(".", "").isdecimal()
        and version in (None, file.parent.name.partition(".")[0])
        and config in (None, file.parent.parent.name)
    ]
    configs = {folder.parent for _, folder in found}
    if len(configs) > 1:
        raise InvalidDatasetError(
            f"The data set {name!r} is there in several forms; choose one with config=. "
            f"Received: config=None with {', '.join(sorted(folder.name for folder in configs))} "
            f"in {place / name}"
        )
    return max(found)[1] if found else None


def find(
    name: str,
    version: str | None = None,
    *,
    config: str | None = None,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    manual: tuple[str, ...] = (),
    manual_from: str = "",
) -> Path:
    """The folder in which TFDS has prepared a data set.

    Args:
        name: The data set's name in TFDS.
        version: Its major version; None takes any.
        config: Its form, of a data set that has several; None takes the only one that is there.
        data_dir: Where to look first, before `TFDS_DATA_DIR` and TFDS' default.
        download: Whether to fetch and prepare it, in the first of these places, when none has it.
        manual: Files that TFDS cannot fetch itself.
        manual_from: Where to get these.

    Returns:
        The folder `PLACE/name/version`, or `PLACE/name/config/version`.

    Raises:
        DatasetNotFoundError: If no place has it, and it was not to be, or could not be, fetched.
        InvalidDatasetError: If it is there in several forms and `config` names none.
        DownloadInterrupted: On an interrupt (ctrl-C), with the way to repeat it.
    """
    searched = places(data_dir)
    for _, place in searched:
        if place is not None and (folder := _newest(place, name, version, config)):
            return folder
    target = next(place for _, place in searched if place is not None)
    by_hand = target / "downloads" / "manual"
    again = f"data.arrays({name!r}, 'test', download=True)"
    reason = None
    if download and all((by_hand / file).exists() for file in manual):
        try:
            import tensorflow_datasets as tfds

            form = f"{name}/{config}" if config else name
            wanted = form if version is None else f"{form}:{version}.*.*"
            tfds.builder(wanted, data_dir=target).download_and_prepare()
        except KeyboardInterrupt:
            raise DownloadInterrupted(
                f"Interrupted: the data set {name!r} is not in {target / name} yet, and nothing "
                f"half-made is used. To repeat it: {again} (files that were fetched whole are "
                f"kept in {target / 'downloads'}). Received: name={name!r}"
            ) from None
        # TFDS lets through whatever the network, the disk or the archive raised.
        except Exception as error:
            reason = error
        else:
            if folder := _newest(target, name, version, config):
                return folder
    lines = "".join(f"\n  {why}: {_state(place, name)}" for why, place in searched)
    failure = f"\nDownloading it failed: {reason}" if reason else ""
    if manual:
        failure += (
            f"\nTFDS cannot fetch the files of this data set ({manual_from}): put "
            f"{' and '.join(manual)} into {by_hand} first. "
            f"Not there: {', '.join(f for f in manual if not (by_hand / f).exists()) or 'none'}."
        )
    raise DatasetNotFoundError(
        f"The data set {name!r} is not on this machine. Looked in{lines}{failure}\n"
        f"To get it, give data_dir or {ENVIRONMENT_VARIABLE} the folder that holds "
        f"{name}/{version or 'x'}.{'x.y' if version else 'y.z'}, or let TFDS "
        f"{'prepare' if manual else 'fetch'} it{'' if manual else ' (needs the network)'}: "
        f'python -c "from qrkt_keras import data; {again}"\n'
        f"Received: name={name!r}, data_dir={str(data_dir) if data_dir is not None else None!r}, "
        f"download={download}"
    ) from reason


def _state(place: Path | None, name: str) -> str:
    if place is None:
        return "not set"
    if not place.is_dir():
        return f"{place} (no such folder)"
    # TFDS prepares in a folder of such a name, and renames it when it is whole.
    halves = sorted(
        str(folder.relative_to(place))
        for pattern in ("*", "*/*")
        for folder in place.glob(f"{name}/{pattern}")
        if folder.name.startswith("incomplete.")
    )
    if halves:
        return (
            f"{place} (the download of {name} was interrupted: {', '.join(halves)} is not whole "
            "and is not used; repeat the download, then remove it)"
        )
    halves = sorted(
        str(folder.relative_to(place))
        for pattern in ("*", "*/*")
        for folder in place.glob(f"{name}/{pattern}")
        if folder.is_dir()
        and folder.name.count(".") == 2
        and not (folder / "dataset_info.json").exists()
    )
    if halves:
        return (
            f"{place} ({', '.join(halves)} has no dataset_info.json, so it was interrupted and "
            "is not used; remove it, then repeat the download)"
        )
    return f"{place} (no {name} in it)"


@dataclasses.dataclass(frozen=True)
class Held:
    """What a prepared folder says that it holds.

    Attributes:
        kind: `"image"` or `"text"`.
        image_shape: `(height, width, channels)`, with None where images differ; None for text.
        label_names: The classes.
        sizes: Split name in TFDS to its number of examples.
        name: The data set's name, with its version.
        description: TFDS' description.
        licence: Its terms, or `"none stated"`.
        citation: What to cite.
    """

    kind: Literal["image", "text"]
    image_shape: tuple[int | None, int | None, int] | None
    label_names: tuple[str, ...]
    sizes: Mapping[str, int]
    name: str
    description: str
    licence: str
    citation: str


def describe(folder: Path) -> Held:
    """What a prepared folder holds, from TFDS' own facts in it.

    Raises:
        DatasetNotFoundError: If the facts cannot be read.
        InvalidDatasetError: If it is not for the classification of images or texts.
    """
    return _described(_builder(folder), folder)


def _builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder)
    # Of damaged JSON, of an unknown feature, of a missing file: each raises its own.
    except Exception as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: object) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"The files of the prepared data set cannot be read: {error}\n"
        f"Remove that folder and prepare the data set again. Received: {folder}"
    )


def _described(builder: Any, folder: Path) -> Held:
    import tensorflow_datasets as tfds

    facts = builder.info
    features, keys = facts.features, facts.supervised_keys
    held = (
        ", ".join(f"{key}: {type(feature).__name__}" for key, feature in features.items())
        if isinstance(features, tfds.features.FeaturesDict)
        else type(features).__name__
    )
    example, label = (
        (features[keys[0]], features[keys[1]])
        if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys)
        else (None, None)
    )
    image = isinstance(example, tfds.features.Image)
    if not isinstance(label, tfds.features.ClassLabel) or not (
        image or isinstance(example, tfds.features.Text)
    ):
        raise InvalidDatasetError(
            "A data set must be of images or texts, each with one class: TFDS' supervised_keys "
            "must name an Image or a Text, and a ClassLabel. "
            f"Received: {facts.name!r} with supervised_keys={keys} of {held}, in {folder}"
        )
    if image and (example.np_dtype != np.uint8 or example.shape[-1] not in (1, 3)):
        raise InvalidDatasetError(
            "Images must be uint8 with 1 or 3 channels. Received: "
            f"{np.dtype(example.np_dtype).name} of shape {example.shape} in {folder}"
        )
    return Held(
        kind="image" if image else "text",
        image_shape=tuple(example.shape) if image else None,
        label_names=tuple(label.names or map(str, range(label.num_classes))),
        sizes={split: facts.splits[split].num_examples for split in facts.splits},
        name=f"{facts.name} {facts.version}",
        description=" ".join((facts.description or "").split()),
        licence=facts.redistribution_info.license or "none stated",
        citation=" ".join((facts.citation or "").split()),
    )


def read(
    folder: Path,
    split: str,
    image_shape: tuple[int, int, int] | None,
    *,
    size: int | None = None,
    resize: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads one original split whole, in the order of its records; writes nothing.

    Images are made small as they are read, so that no more of the large ones is in memory than a
    few.

    Args:
        folder: What `find` returned.
        split: The split's name in TFDS.
        image_shape: What the images must look like, or are made to look like; None for text.
        size: How many examples it has officially. A folder that says itself that it has fewer is
            read with a `UserWarning`.
        resize: Whether images of another size are welcome. Where the folder says that its images
            differ in size, they are.

    Returns:
        Images `(n, height, width, channels)` uint8, or texts `(n,)` as an object array of `str`;
        and labels `(n,)` int32.

    Raises:
        DatasetNotFoundError: If the folder's files are damaged or are not this data set.
        InvalidDatasetError: If there are labels that are no class, as of a test without answers,
            or a text is not UTF-8.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = _builder(folder)
    held = _described(builder, folder)
    if split not in held.sizes:
        raise _damaged(folder, f"there is no split {split!r}, only {', '.join(held.sizes)}")
    there = held.image_shape
    resize = there is not None and (resize or None in there)
    fits = there == image_shape or (
        resize and image_shape is not None and there[2] == image_shape[2]
    )
    if not fits:
        raise DatasetNotFoundError(
            f"The split {split!r} must hold {_kind(image_shape)}. "
            f"Received: {_kind(there)} in {folder}"
        )
    dataset = builder.as_dataset(
        split=split,
        as_supervised=True,
        shuffle_files=False,
        # One file after the other: the order of records is part of the split.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    if resize:
        dataset = dataset.map(
            lambda image, label: (fitted(image, image_shape[:2]), label),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    n = held.sizes[split]
    examples = np.empty(n, object) if image_shape is None else np.empty((n, *image_shape), np.uint8)
    labels = np.empty(n, np.int32)
    done = 0
    try:
        for batch, classes in dataset.batch(_AT_ONCE).as_numpy_iterator():
            if image_shape is None:
                batch = [text.decode("utf-8") for text in batch]
            examples[done : done + len(batch)] = batch
            labels[done : done + len(batch)] = classes
            done += len(batch)
    except UnicodeDecodeError as error:
        raise InvalidDatasetError(
            f"The texts must be UTF-8. Received: {error.object[:80]!r} in {folder}"
        ) from error
    except (tf.errors.OpError, OSError, KeyError, ValueError) as error:
        raise _damaged(folder, error) from error
    if done != n:
        raise _damaged(folder, f"split {split!r} has {done} of the {n} examples it should have")
    outside = np.setdiff1d(labels, np.arange(len(held.label_names)))
    if len(outside):
        raise InvalidDatasetError(
            f"The labels of split {split!r} must lie in 0..{len(held.label_names) - 1}. "
            f"Received: {', '.join(map(str, outside[:5]))} in {folder}"
        )
    if size is not None and n < size:
        warnings.warn(
            f"{folder} holds {n} of the {size} {held.kind}s of {builder.info.name!r}, split "
            f"{split!r}: say so wherever results are given.",
            stacklevel=2,
        )
    return examples, labels


def _kind(image_shape: tuple[int | None, ...] | None) -> str:
    return "texts" if image_shape is None else f"uint8 images of shape {image_shape}"
