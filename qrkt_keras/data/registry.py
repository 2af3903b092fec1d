"""The data sets by name or path: as arrays, and as `tf.data`."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qrkt_keras.data import digits
from qrkt_keras.data.batches import ahead
from qrkt_keras.data.errors import DatasetNotFoundError
from qrkt_keras.data.image_folder import ImageFolder
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.options import Options
from qrkt_keras.data.text_table import TextTable
from qrkt_keras.data.tfds_sets import NAMED, TFDSSet

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test", "train+validation")


class Source(Protocol):
    """Where a data set comes from; each is a value, so that what was read can be kept by it.

    Attributes:
        INFO: Its facts, if they are known before it is found.
        TAKES: The options that apply to it.
    """

    INFO: DatasetInfo | None
    TAKES: frozenset[str]

    def find(
        self, data_dir: str | os.PathLike[str] | None, download: bool, options: Options
    ) -> Path | None:
        """Where it is."""

    def info(self, folder: Path | None, options: Options) -> DatasetInfo:
        """Its facts, as it is read with these options."""

    def read(
        self, split: str, folder: Path | None, options: Options
    ) -> tuple[np.ndarray, np.ndarray]:
        """Examples and labels of a split."""


_DATASETS: dict[str, Source] = {"digits": digits, **{one.NAME: one for one in NAMED}}


def list() -> tuple[str, ...]:
    """The names of the data sets whose splits and facts are fixed here.

    `arrays`, `load` and `info` know every other image or text classification set of TFDS too, by
    its name there, and your own images and texts, by their path.

    Example:

    >>> from qrkt_keras import data
    >>> data.list()
    ('cifar10', 'cifar100', 'digits', 'imagenet2012', 'imdb_reviews', 'mnist')
    """
    return tuple(sorted(_DATASETS))


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether a data set is your own, named by its path.

    Args:
        name: A name or a path; see `arrays`.

    Returns:
        Whether it is a `Path`, or a string with a separator in it or that ends in `.csv`.

    Example:

    >>> from qrkt_keras import data
    >>> data.is_path("mnist"), data.is_path("./photos"), data.is_path("reviews.csv")
    (False, True, True)
    """
    if not isinstance(name, str):
        return True
    separators = {"/", os.sep, os.altsep} - {None}
    return any(one in name for one in separators) or name.lower().endswith(".csv")


def _resolved(name: str | os.PathLike[str], options: dict[str, Any]) -> tuple[Source, Options]:
    """The source of that name, and the options, which must apply to it."""
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"A data set is named by a string or a path. Received: name={name!r}")
    unknown = sorted(options.keys() - Options.__dataclass_fields__.keys())
    if unknown:
        raise TypeError(
            f"The options are: {', '.join(Options.__dataclass_fields__)}. "
            f"Received: {', '.join(unknown)}"
        )
    asked = Options(**options)
    source: Source
    if is_path(name):
        path = Path(name).expanduser()
        source = (TextTable if path.suffix.lower() == ".csv" else ImageFolder).at(path)
    elif name in _DATASETS:
        source = _DATASETS[name]
    elif re.fullmatch(r"[A-Za-z]\w*", name):
        source = TFDSSet(name)
    else:
        raise _unknown(name)
    needless = {key: value for key, value in asked.given().items() if key not in source.TAKES}
    if needless:
        raise ValueError(
            f"The options of data set {str(name)!r} are: "
            f"{', '.join(sorted(source.TAKES)) or 'none'}. Received: "
            + ", ".join(f"{key}={value!r}" for key, value in needless.items())
        )
    return source, asked


def _unknown(name: str) -> DatasetNotFoundError:
    near = difflib.get_close_matches(name, list(), 1)
    hints = [f"Did you mean {near[0]!r}? "] if near else []
    if Path(name).exists():
        hints.append(f"The path in this folder is {f'./{name}'!r}. ")
    return DatasetNotFoundError(
        f"{''.join(hints)}A data set is named as TFDS names it, or is a path with a separator in "
        f"it. The data sets known here are: {', '.join(list())}. Received: name={name!r}"
    )


def _located(
    source: Source,
    options: Options,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
) -> Path | None:
    try:
        return source.find(data_dir, download, options)
    except DatasetNotFoundError as error:
        if isinstance(source, TFDSSet) and source.INFO is None:
            import tensorflow_datasets as tfds

            if source.NAME not in tfds.list_builders(with_community_datasets=False):
                raise _unknown(source.NAME) from error
        raise


def option_names(name: str | os.PathLike[str]) -> frozenset[str]:
    """The options of `arrays` that apply to a data set.

    Args:
        name: A name or a path; see `arrays`.

    Returns:
        Their names.

    Raises:
        ValueError: If it is no name.
        DatasetNotFoundError: If there is nothing at a path.
        InvalidDatasetError: If a folder is not one of images by class.

    Example:

    >>> from qrkt_keras import data
    >>> sorted(data.option_names("digits"))
    ['image_size']
    """
    return _resolved(name, {})[0].TAKES


def info(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    **options: Any,
) -> DatasetInfo:
    """A data set's facts: shape, classes, normalisation, sizes, source and terms.

    Those of `list()` are known without the data. All others are read for it: mean and standard
    deviation are those of their training images.

    Args:
        name: A name or a path; see `arrays`.
        data_dir: Folder of prepared TFDS data to look in first; see `arrays`.
        download: Whether to fetch the data set when no folder has it.
        **options: How it is read, such as `image_size`; see `arrays`.

    Returns:
        Its `DatasetInfo`.

    Raises:
        ValueError: As `arrays` does.
        DatasetNotFoundError: If it is not on this machine, of a name not in `list()`.

    Example:

    >>> from qrkt_keras import data
    >>> data.info("digits").image_shape
    (8, 8, 1)
    >>> data.info("digits", image_size=(4, 4)).image_shape
    (4, 4, 1)
    """
    source, asked = _resolved(name, options)
    if source.INFO is not None:
        shape = source.INFO.image_shape
        if shape is None or asked.image_size in (None, shape[:2]):
            return source.INFO
    return _described(source, _located(source, asked, data_dir, download), asked)


def find(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    config: str | None = None,
) -> Path | None:
    """Where a data set is.

    Args:
        name: A name or a path; see `arrays`.
        data_dir: Folder of prepared TFDS data to look in first; see `arrays`.
        download: Whether to fetch the data set when no folder has it.
        config: Its form, of a TFDS set that has several.

    Returns:
        Its folder or file, or None for one that comes with a package.

    Raises:
        DatasetNotFoundError: If it is not on this machine; see `arrays`.
        DownloadInterrupted: On an interrupt (ctrl-C), with the way to repeat it.

    Example:

    >>> from qrkt_keras import data
    >>> data.find("digits") is None
    True
    """
    source, asked = _resolved(name, {"config": config})
    return _located(source, asked, data_dir, download)


@functools.cache
def _described(source: Source, folder: Path | None, options: Options) -> DatasetInfo:
    return source.info(folder, options)


@functools.cache
def _read(
    source: Source, split: str, folder: Path | None, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    examples, labels = source.read(split, folder, options)
    # Everybody gets the same arrays, so nobody may change them.
    examples.flags.writeable = labels.flags.writeable = False
    return examples, labels


def arrays(
    name: str | os.PathLike[str],
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    skip_unreadable: bool = False,
    text_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    num_classes: int | None = None,
    skip_empty: bool = False,
    config: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One split of a data set as NumPy arrays, read once a process.

    A data set is

    - one of `list()`;
    - any other image or text classification set of TFDS, by its name there (`fashion_mnist`,
      `ag_news_subset`). A part that it has not is a fixed tenth of its training split;
    - a folder of images, `folder/CLASS/*.png`, or `folder/train/CLASS/*.png` with `validation/`
      and `test/` beside `train/`;
    - a CSV file of texts in UTF-8 with a header, and columns `text` and `label`, and, if it is
      split, `split`.

    Of your own data, a part that it does not bring is a fixed tenth, stratified by class.

    Args:
        name: A name, or a path: a `Path`, or a string with a separator or that ends in `.csv`.
        split: `"train"`, `"validation"`, `"test"` or `"train+validation"`.
        data_dir: Folder of prepared TFDS data to look in before `TFDS_DATA_DIR` and TFDS'
            default. Data sets that come with a package (`digits`) do not need one.
        download: Whether to fetch the data set when no folder has it. Nothing is ever written
            without this.
        image_size: Height and width that images are made to have: cut at the centre to its aspect
            ratio, then resized. Needed where images differ in size.
        channels: 1 (grey) or 3 (colour, the default), of a folder of images.
        skip_unreadable: Whether to leave out, with a warning, the images of a folder that cannot
            be read.
        text_column: The CSV's column of texts; by default `"text"`.
        label_column: Its column of labels, which are words or whole numbers; by default
            `"label"`.
        split_column: Its column of splits; by default `"split"`, if there is one.
        num_classes: How many classes your own data must have. A CSV's labels that are numbers
            must then lie in `0 ... num_classes - 1`, and are the classes as they stand.
        skip_empty: Whether to leave out, with a warning, the rows of a CSV without a text.
        config: The form of a TFDS set that has several.

    Returns:
        Images `(n, height, width, channels)` uint8, or texts `(n,)` as an object array of `str`,
        and labels `(n,)` int32; both read-only. Of your own data, the classes are in the order of
        their names (numbers in theirs).

    Raises:
        ValueError: If the split is unknown, or an option is bad, needed, or does not apply.
        DatasetNotFoundError: If the data set is not on this machine and was not, or could not
            be, fetched.
        InvalidDatasetError: If it is not for classification, or cannot be learned from: a class
            without an example, an empty text, a label out of range.
        UnreadableImageError: If images of a folder cannot be read; it names them.
        DownloadInterrupted: On an interrupt (ctrl-C) of a download, with the way to repeat it.

    Example:

    >>> from qrkt_keras import data
    >>> images, labels = data.arrays("digits", "test")
    >>> images.shape, labels.shape
    ((360, 8, 8, 1), (360,))
    """
    source, options = _resolved(
        name,
        {
            "image_size": image_size,
            "channels": channels,
            "skip_unreadable": skip_unreadable,
            "text_column": text_column,
            "label_column": label_column,
            "split_column": split_column,
            "num_classes": num_classes,
            "skip_empty": skip_empty,
            "config": config,
        },
    )
    if split not in SPLITS:
        raise ValueError(
            f"The splits of data set {str(name)!r} are: {', '.join(SPLITS)}. "
            f"Received: split={split!r}"
        )
    folder = _located(source, options, data_dir, download)
    return _read(source, split, folder, options)


def load(
    name: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    normalize: bool = False,
    augment: Callable[..., Any] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    **options: Any,
) -> tf.data.Dataset:
    """One split of a data set as `tf.data`: decoded once, and made two batches ahead.

    Args:
        name: A name or a path; see `arrays`.
        split: `"train"`, `"validation"`, `"test"` or `"train+validation"`.
        batch_size: Examples in a batch; without it the examples come one by one.
        shuffle: Whether to reorder all examples, anew at every pass: the same orders, pass by
            pass, for the same seed (and the same global seed of TensorFlow, if one is set).
        seed: Seed of that order.
        drop_remainder: Whether to leave out an incomplete last batch.
        normalize: Whether images come as float32 `(x / 255 - mean) / std`, with the mean and the
            standard deviation of `info`. The models of the zoo do so themselves.
        augment: A Keras layer or a function that changes batches of images, before they are
            normalised; called with `training=True` if it takes that.
        data_dir: Folder of prepared TFDS data to look in first; see `arrays`.
        download: Whether to fetch the data set when no folder has it.
        **options: How it is read, such as `image_size`; see `arrays`.

    Returns:
        Pairs of image, uint8 `(height, width, channels)` (float32 if normalised), or text,
        `tf.string` `()`, and label, int32 `()`; with `batch_size`, each with a batch axis in
        front.

    Raises:
        ValueError: If `batch_size` is not positive, `augment` comes without it, or either of
            `normalize` and `augment` is asked for texts; and as `arrays` does.
        DatasetNotFoundError: If the data set cannot be found; see `arrays`.

    Example:

    >>> from qrkt_keras import data
    >>> images, labels = next(iter(data.load("digits", "train", batch_size=32)))
    >>> tuple(images.shape), images.dtype.name
    ((32, 8, 8, 1), 'uint8')
    """
    if batch_size is not None and not _positive_int(batch_size):
        raise ValueError(f"batch_size must be a positive int. Received: batch_size={batch_size!r}")
    if augment is not None and batch_size is None:
        raise ValueError("augment changes batches. Received: augment with batch_size=None")
    examples, labels = arrays(name, split, data_dir=data_dir, download=download, **options)
    if examples.ndim == 1 and (normalize or augment is not None):
        raise ValueError(
            "normalize and augment are for images. Received: "
            f"{'normalize=True' if normalize else 'augment'} with the texts of {str(name)!r}"
        )

    import tensorflow as tf

    with tf.device("CPU"):  # where tf.data works
        held = tf.constant(examples), tf.constant(labels)

    # The numbers of the examples are shuffled and batched, the examples gathered: one copy a batch.
    dataset = tf.data.Dataset.range(len(labels))
    if shuffle:
        dataset = dataset.shuffle(len(labels), seed=seed)
    if batch_size is not None:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    dataset = dataset.map(lambda chosen: tuple(tf.gather(part, chosen) for part in held))
    if augment is not None:
        change = _augmenter(augment, as_bytes=not normalize)
        dataset = dataset.map(lambda images, labels: (change(images), labels))
    if normalize:
        facts = info(name, data_dir=data_dir, download=download, **options)
        mean, std = (np.array(part, np.float32) for part in (facts.mean, facts.std))
        if not std.all():
            raise ValueError(
                "A channel that is the same everywhere cannot be normalised. "
                f"Received: std={facts.std} of {str(name)!r}"
            )
        dataset = dataset.map(
            lambda images, labels: ((tf.cast(images, tf.float32) / 255 - mean) / std, labels)
        )
    return ahead(dataset)


def _augmenter(augment: Callable[..., Any], *, as_bytes: bool) -> Callable[[Any], Any]:
    """What changes a batch; as bytes, for a model would take floats to lie in [0, 1]."""
    import tensorflow as tf

    call = getattr(augment, "call", augment)  # a Keras layer's own signature is in `call`
    try:
        takes_training = "training" in inspect.signature(call).parameters
    except ValueError:  # some built-in functions have none
        takes_training = False
    options = {"training": True} if takes_training else {}

    def change(images: tf.Tensor) -> tf.Tensor:
        changed = tf.convert_to_tensor(augment(images, **options))
        if as_bytes and changed.dtype != tf.uint8:
            changed = tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)
        return changed

    return change


def _positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
