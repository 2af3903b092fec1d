"""Finding, fetching and reading data that TensorFlow Datasets has prepared."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from qrkt_keras.data.errors import DatasetNotFoundError
from qrkt_keras.data.info import DatasetInfo

ENVIRONMENT_VARIABLE = "TFDS_DATA_DIR"


def places(data_dir: str | os.PathLike[str] | None) -> list[tuple[str, Path | None]]:
    """Where data is looked for, in order: the argument, the environment, TFDS' own default."""
    environment = os.environ.get(ENVIRONMENT_VARIABLE)
    return [
        ("data_dir", Path(data_dir).expanduser() if data_dir is not None else None),
        (ENVIRONMENT_VARIABLE, Path(environment).expanduser() if environment else None),
        ("TFDS' default", Path.home() / "tensorflow_datasets"),
    ]


def _newest(place: Path, name: str, version: str) -> Path | None:
    found = [
        (tuple(int(part) for part in folder.parent.name.split(".")), folder.parent)
        for folder in place.glob(f"{name}/{version}.*.*/dataset_info.json")
        if folder.parent.name.replace(".", "").isdecimal()
    ]
    return max(found)[1] if found else None


def find(
    name: str, version: str, *, data_dir: str | os.PathLike[str] | None, download: bool
) -> Path:
    """The folder in which TFDS has prepared a data set.

    Args:
        name: The data set's name in TFDS.
        version: Its major version.
        data_dir: Where to look first, before `TFDS_DATA_DIR` and TFDS' default.
        download: Whether to fetch and prepare it, in the first of these places, when none has it.

    Returns:
        The folder `PLACE/name/version`.

    Raises:
        DatasetNotFoundError: If no place has it, and it was not to be, or could not be, fetched.
    """
    searched = places(data_dir)
    for _, place in searched:
        if place is not None and (folder := _newest(place, name, version)):
            return folder
    reason = None
    if download:
        target = next(place for _, place in searched if place is not None)
        try:
            import tensorflow_datasets as tfds

            tfds.builder(f"{name}:{version}.*.*", data_dir=target).download_and_prepare()
        # TFDS lets through whatever the network, the disk or the archive raised.
        except Exception as error:
            reason = error
        else:
            if folder := _newest(target, name, version):
                return folder
    lines = "".join(f"\n  {why}: {_state(place, name)}" for why, place in searched)
    failure = f"\nDownloading it failed: {reason}" if reason else ""
    raise DatasetNotFoundError(
        f"The data set {name!r} is not on this machine. Looked in{lines}{failure}\n"
        f"To get it, give data_dir or {ENVIRONMENT_VARIABLE} the folder that holds "
        f"{name}/{version}.x.y, or let TFDS fetch it (needs the network): "
        f"python -c \"from qrkt_keras import data; data.arrays('{name}', 'test', download=True)\"\n"
        f"Received: name={name!r}, data_dir={str(data_dir) if data_dir is not None else None!r}, "
        f"download={download}"
    ) from reason


def _state(place: Path | None, name: str) -> str:
    if place is None:
        return "not set"
    if not place.is_dir():
        return f"{place} (no such folder)"
    return f"{place} (no {name} in it)"


def read(folder: Path, split: str, info: DatasetInfo, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads one original split whole, in the order of its records; writes nothing.

    Args:
        folder: What `find` returned.
        split: The split's name in TFDS.
        info: What the images must look like.
        size: How many examples it has officially. A folder that says itself that it has fewer is
            read with a `UserWarning`.

    Returns:
        Images `(size, height, width, channels)` uint8 and labels `(size,)` int32.

    Raises:
        DatasetNotFoundError: If the folder's files are damaged or are not this data set.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        held = builder.info.splits[split].num_examples
        dataset = builder.as_dataset(
            split=split,
            as_supervised=True,
            shuffle_files=False,
            # One file after the other: the order of records is part of the split.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        batches = list(dataset.batch(10_000).as_numpy_iterator())
    except (tf.errors.OpError, OSError, KeyError, ValueError) as error:
        raise DatasetNotFoundError(
            f"The files of data set {info.name!r} cannot be read: {error}\n"
            f"Remove that folder and prepare the data set again. Received: {folder}"
        ) from error
    images = np.concatenate([image for image, _ in batches])
    labels = np.concatenate([label for _, label in batches]).astype(np.int32)
    expected = min(held, size)
    if images.shape != (expected, *info.image_shape) or images.dtype != np.uint8:
        raise DatasetNotFoundError(
            f"The split {split!r} of data set {info.name!r} must hold {expected} uint8 images of "
            f"shape {info.image_shape}. Received: {images.shape} {images.dtype} in {folder}"
        )
    if held < size:
        warnings.warn(
            f"{folder} holds {held} of the {size} images of {info.name!r}, split {split!r}: say so "
            "wherever results are given.",
            stacklevel=2,
        )
    return images, labels
