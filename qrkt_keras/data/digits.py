"""`digits`: the 8x8 handwritten digits that scikit-learn carries with it."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from qrkt_keras.data.images import channel_statistics, fitted
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.options import Options
from qrkt_keras.data.splits import SPLIT_SEED, stratified_split

INFO = DatasetInfo(
    name="digits",
    kind="image",
    description=(
        "Real handwritten digits as 8x8 counts of set pixels (0..16), scaled to 0..255. The 1797 "
        "images are split once, stratified by class: 360 for test, then 144 of the rest for "
        "validation. Writers are not separated between the splits."
    ),
    image_shape=(8, 8, 1),
    num_classes=10,
    label_names=tuple("0123456789"),
    mean=(0.3058,),
    std=(0.3762,),
    splits={"train": 1293, "validation": 144, "test": 360, "train+validation": 1437},
    source="scikit-learn's load_digits: the test part of UCI's Optical Recognition of "
    "Handwritten Digits, https://doi.org/10.24432/C50P49",
    licence="CC BY 4.0 (UCI)",
    citation="E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository, 1998.",
)


TAKES = frozenset({"image_size"})


@functools.cache
def _everything() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    counts, labels = load_digits(return_X_y=True)
    # 255/16 a count, rounded to the nearest in integers (no count but 8 lies halfway: 127.5).
    images = ((counts.astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    return images.reshape(-1, *INFO.image_shape), labels.astype(np.int32)


@functools.cache
def split_indices() -> dict[str, np.ndarray]:
    """Positions in scikit-learn's order of each split's examples, sorted."""
    _, labels = _everything()
    development, test = stratified_split(labels, INFO.splits["test"], SPLIT_SEED)
    train, validation = stratified_split(labels[development], INFO.splits["validation"], SPLIT_SEED)
    return {
        "train": development[train],
        "validation": development[validation],
        "test": test,
        "train+validation": development,
    }


def find(data_dir: object, download: bool, options: object) -> None:
    """There is no folder to find: the data comes with scikit-learn."""


def info(folder: None, options: Options) -> DatasetInfo:
    """The facts, also at another size."""
    shape = (*options.image_size, INFO.image_shape[2])
    mean, std = channel_statistics(read("train", folder, options)[0])
    return dataclasses.replace(INFO, image_shape=shape, mean=mean, std=std)


def read(split: str, folder: None, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, height, width, 1)` uint8 and labels `(n,)` int32 of one split."""
    images, labels = _everything()
    chosen = split_indices()[split]
    images = images[chosen]
    if options.image_size is not None:
        images = fitted(images, options.image_size).numpy()
    return images, labels[chosen]
