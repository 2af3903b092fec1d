"""`mnist`: the 28x28 handwritten digits, prepared by TensorFlow Datasets."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from qrkt_keras.data import tfds_folder
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.splits import stratified_split

INFO = DatasetInfo(
    name="mnist",
    description=(
        "Handwritten digits, white on black. Validation is a fixed tenth of the official 60,000 "
        "training images, stratified by class; test is the official one."
    ),
    image_shape=(28, 28, 1),
    num_classes=10,
    label_names=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    splits={"train": 54000, "validation": 6000, "test": 10000, "train+validation": 60000},
    source="TensorFlow Datasets, mnist 3.0.1",
    licence="CC BY-SA 3.0 (as commonly given)",
    citation="Y. LeCun, C. Cortes, C. Burges. The MNIST database of handwritten digits, 1998.",
)

# Frozen: another seed would be another benchmark.
SPLIT_SEED = 0
VERSION = "3"


def find(data_dir: str | None, download: bool) -> Path:
    """The folder that holds the prepared data, as `tfds_folder.find` looks for it."""
    return tfds_folder.find(INFO.name, VERSION, data_dir=data_dir, download=download)


@functools.cache
def _training(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return tfds_folder.read(folder, "train", INFO, size=INFO.splits["train+validation"])


def read(split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 28, 28, 1)` uint8 and labels `(n,)` int32 of one split."""
    if split == "test":
        return tfds_folder.read(folder, "test", INFO, size=INFO.splits["test"])
    images, labels = _training(folder)
    if split == "train+validation":
        return images, labels
    train, validation = stratified_split(labels, INFO.splits["validation"], SPLIT_SEED)
    chosen = train if split == "train" else validation
    return images[chosen], labels[chosen]
