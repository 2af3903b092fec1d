"""A user's own images: a folder a class."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from qrkt_keras.data.errors import (
    DatasetNotFoundError,
    InvalidDatasetError,
    UnreadableImageError,
)
from qrkt_keras.data.images import channel_statistics, read_image
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.options import Options
from qrkt_keras.data.own_data import PARTS, Whole, check_learnable, listed
from qrkt_keras.data.splits import divided

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """One image of a folder, and what tells whether it has changed."""

    path: Path
    part: str | None
    label_name: str
    size: int
    changed: int


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A folder of images as it was when it was looked at.

    Attributes:
        path: The folder.
        files: Its images, sorted.
    """

    path: Path
    files: tuple[ImageFile, ...]

    INFO = None
    TAKES = frozenset({"image_size", "channels", "skip_unreadable", "num_classes"})

    @classmethod
    def at(cls, path: Path) -> ImageFolder:
        """Looks at a folder.

        Raises:
            DatasetNotFoundError: If there is none.
            InvalidDatasetError: If it is not one of images by class.
        """
        if not path.is_dir():
            raise DatasetNotFoundError(
                "There must be a folder of images, one folder a class, or a .csv file of texts. "
                f"Received: {path} ({'a file' if path.exists() else 'not there'})"
            )
        folders = _folders(path)
        parts: list[str | None] = [name for name in PARTS if path / name in folders]
        if not parts:
            return cls(path, tuple(_images(path, None)))
        others = [folder.name for folder in folders if folder.name not in PARTS]
        if others or "train" not in parts:
            raise InvalidDatasetError(
                "A folder that is split must hold train and may hold validation and test, and no "
                f"other folder. Received: {listed(sorted(f.name for f in folders))} in {path}"
            )
        return cls(path, tuple(file for part in parts for file in _images(path / part, part)))

    def find(self, data_dir: object, download: bool, options: Options) -> Path:
        """The folder itself."""
        return self.path

    def info(self, folder: Path, options: Options) -> DatasetInfo:
        """The facts, of the images as they are read."""
        whole = _whole(self, options)
        mean, std = channel_statistics(whole.split("train")[0])
        return whole.info(
            self.path,
            "The images of a folder.",
            kind="image",
            image_shape=whole.examples.shape[1:],
            mean=mean,
            std=std,
        )

    def read(self, split: str, folder: Path, options: Options) -> tuple[np.ndarray, np.ndarray]:
        """Images `(n, height, width, channels)` uint8 and labels `(n,)` int32 of a split."""
        return _whole(self, options).split(split)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(path: Path, part: str | None) -> list[ImageFile]:
    """The images of the classes in a folder; each class must have one."""
    found, empty = [], []
    classes = _folders(path)
    for folder in classes:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
        if not files:
            empty.append(folder.name)
        for file in files:
            state = file.stat()
            found.append(ImageFile(file, part, folder.name, state.st_size, state.st_mtime_ns))
    if empty or len(classes) < 2:
        what = f"no image in {listed(empty)}" if empty else f"{len(classes)} such folders"
        raise InvalidDatasetError(
            "A folder of images must hold at least two folders, one a class, each with images "
            f"({', '.join(sorted(SUFFIXES))}) directly in it. Received: {what} of {path}"
        )
    return found


@functools.cache
def _whole(folder: ImageFolder, options: Options) -> Whole:
    files = folder.files
    names = tuple(sorted({file.label_name for file in files}))
    if options.num_classes not in (None, len(names)):
        raise InvalidDatasetError(
            "There must be as many folders of classes as classes. "
            f"Received: num_classes={options.num_classes} with {listed(names)} in {folder.path}"
        )
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[file.label_name] for file in files], np.int32)
    split = files[0].part is not None
    places = divided(labels, np.array([file.part for file in files]) if split else None)
    given = {file.part for file in files} if split else {"train"}
    order = np.concatenate([places[part] for part in PARTS])
    shape = (*(options.image_size or _common_size(folder)), options.channels or 3)

    images = np.empty((len(files), *shape), np.uint8)
    paths = [files[place].path for place in order]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        errors = list(pool.map(lambda pair: _read_into(images[pair[0]], pair[1]), enumerate(paths)))
    unreadable = [path for path, error in zip(paths, errors, strict=True) if error]
    counts = {part: len(places[part]) for part in PARTS}
    labels = labels[order]
    if unreadable:
        which = listed([path.relative_to(folder.path) for path in sorted(unreadable)])
        told = f"{len(unreadable)} of {len(files)} images cannot be read"
        if not options.skip_unreadable:
            raise UnreadableImageError(
                f"{told}; mend or remove them, or leave them out with skip_unreadable=True (on the "
                "command line --skip-unreadable). "
                f"Received: {which} in {folder.path}"
            )
        warnings.warn(f"{told} and are left out: {which}", stacklevel=2)
        readable = np.array([error is None for error in errors])
        ends = np.cumsum([counts[part] for part in PARTS])[:-1]
        counts = dict(
            zip(PARTS, (int(part.sum()) for part in np.split(readable, ends)), strict=True)
        )
        images, labels = images[readable], labels[readable]
    whole = Whole(images, labels, counts, names, tuple(p for p in PARTS if p not in given))
    lost = np.setdiff1d(np.arange(len(names)), whole.split("train")[1])
    if len(lost):
        raise InvalidDatasetError(
            "Every class must have images in train. "
            f"Received: none of {listed([names[label] for label in lost])} in {folder.path}"
        )
    check_learnable({part: whole.split(part)[1] for part in PARTS}, names, folder.path)
    return whole


def _read_into(place: np.ndarray, path: Path) -> UnreadableImageError | None:
    try:
        place[:] = read_image(path, place.shape)
    except UnreadableImageError as error:
        return error
    return None


def _common_size(folder: ImageFolder) -> tuple[int, int]:
    """The size of all images, which must be one."""
    from PIL import Image

    sizes = set()
    for file in folder.files:
        try:
            with Image.open(file.path) as image:
                sideways = image.getexif().get(0x0112, 1) >= 5
                sizes.add(image.size if sideways else image.size[::-1])
        # What cannot be read is told with all others that cannot, when they are read.
        except Exception:
            continue
        if len(sizes) > 1:
            break
    if len(sizes) == 1:
        return sizes.pop()
    if not sizes:
        raise UnreadableImageError(f"No image can be read. Received: {folder.path}")
    raise ValueError(
        "The images differ in size: image_size=(height, width) says which they are to have. "
        f"Received: image_size=None, images of {' and '.join(map(str, sorted(sizes)))} in "
        f"{folder.path}"
    )
