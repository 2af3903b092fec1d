"""The data sets by name: as arrays, and as `tf.data`."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qrkt_keras.data import digits
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.tfds_images import CIFAR10, MNIST

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test", "train+validation")
# Each has INFO, find(data_dir, download) -> folder, and read(split, folder) -> arrays.
_DATASETS = {dataset.INFO.name: dataset for dataset in (CIFAR10, digits, MNIST)}


def list() -> tuple[str, ...]:
    """The names that `load` knows.

    Example:

    >>> from qrkt_keras import data
    >>> data.list()
    ('cifar10', 'digits', 'mnist')
    """
    return tuple(sorted(_DATASETS))


def info(name: str) -> DatasetInfo:
    """A data set's facts: shape, classes, normalisation, sizes, source and terms.

    Args:
        name: One of `list()`.

    Returns:
        Its `DatasetInfo`.

    Raises:
        ValueError: If there is no data set of that name; the message lists the known ones.

    Example:

    >>> from qrkt_keras import data
    >>> data.info("digits").image_shape
    (8, 8, 1)
    """
    if name not in _DATASETS:
        raise ValueError(f"The known data sets are: {', '.join(list())}. Received: name={name!r}")
    return _DATASETS[name].INFO


def find(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False
) -> Path | None:
    """Where a data set is.

    Args:
        name: One of `list()`.
        data_dir: Folder of prepared TFDS data to look in first; see `arrays`.
        download: Whether to fetch the data set when no folder has it.

    Returns:
        Its folder, or None for one that comes with a package.

    Raises:
        ValueError: If there is no data set of that name.
        DatasetNotFoundError: If it is not on this machine; see `arrays`.

    Example:

    >>> from qrkt_keras import data
    >>> data.find("digits") is None
    True
    """
    info(name)
    return _DATASETS[name].find(data_dir, download)


@functools.cache
def _read(name: str, split: str, folder: os.PathLike[str] | None) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _DATASETS[name].read(split, folder)
    # Everybody gets the same arrays, so nobody may change them.
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def arrays(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """One split of a data set as NumPy arrays, read once a process.

    Args:
        name: One of `list()`.
        split: `"train"`, `"validation"`, `"test"` or `"train+validation"`.
        data_dir: Folder of prepared TFDS data to look in before `TFDS_DATA_DIR` and TFDS'
            default. Data sets that come with a package (`digits`) do not need one.
        download: Whether to fetch the data set when no folder has it. Nothing is ever written
            without this.

    Returns:
        Images `(n, height, width, channels)` uint8 and labels `(n,)` int32, both read-only.

    Raises:
        ValueError: If the data set or the split is unknown.
        DatasetNotFoundError: If the data set is not on this machine and was not, or could not
            be, fetched.

    Example:

    >>> from qrkt_keras import data
    >>> images, labels = data.arrays("digits", "test")
    >>> images.shape, labels.shape
    ((360, 8, 8, 1), (360,))
    """
    known = info(name)
    if split not in SPLITS:
        raise ValueError(
            f"The splits of data set {known.name!r} are: {', '.join(SPLITS)}. "
            f"Received: split={split!r}"
        )
    return _read(name, split, find(name, data_dir=data_dir, download=download))


def load(
    name: str,
    split: str,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> tf.data.Dataset:
    """One split of a data set as `tf.data`.

    Args:
        name: One of `list()`.
        split: `"train"`, `"validation"`, `"test"` or `"train+validation"`.
        batch_size: Examples in a batch; without it the examples come one by one.
        shuffle: Whether to reorder all examples, anew at every pass.
        seed: Seed of that order.
        drop_remainder: Whether to leave out an incomplete last batch.
        data_dir: Folder of prepared TFDS data to look in first; see `arrays`.
        download: Whether to fetch the data set when no folder has it.

    Returns:
        Pairs of image, uint8 `(height, width, channels)`, and label, int32 `()`; with
        `batch_size`, each with a batch axis in front.

    Raises:
        ValueError: If the data set or the split is unknown, or `batch_size` is not positive.
        DatasetNotFoundError: If the data set cannot be found; see `arrays`.

    Example:

    >>> from qrkt_keras import data
    >>> images, labels = next(iter(data.load("digits", "train", batch_size=32)))
    >>> tuple(images.shape), images.dtype.name
    ((32, 8, 8, 1), 'uint8')
    """
    if batch_size is not None and not _positive_int(batch_size):
        raise ValueError(f"batch_size must be a positive int. Received: batch_size={batch_size!r}")
    images, labels = arrays(name, split, data_dir=data_dir, download=download)

    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if shuffle:
        dataset = dataset.shuffle(len(labels), seed=seed)
    if batch_size is not None:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
