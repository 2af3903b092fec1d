"""The image data sets that TensorFlow Datasets prepares."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from qrkt_keras.data import tfds_folder
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.splits import stratified_split

# Frozen: another seed would be another benchmark.
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class TFDSImages:
    """An image data set with official training and test images, a tenth of the former held out.

    Attributes:
        INFO: Its facts.
        VERSION: Its major version in TFDS.
    """

    INFO: DatasetInfo
    VERSION: str

    def find(self, data_dir: str | None, download: bool) -> Path:
        """The folder that holds the prepared data, as `tfds_folder.find` looks for it."""
        return tfds_folder.find(self.INFO.name, self.VERSION, data_dir=data_dir, download=download)

    def read(self, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Images `(n, *INFO.image_shape)` uint8 and labels `(n,)` int32 of one split."""
        if split == "test":
            return tfds_folder.read(folder, "test", self.INFO, size=self.INFO.splits["test"])
        images, labels = _training(self, folder)
        if split == "train+validation":
            return images, labels
        train, validation = stratified_split(labels, len(labels) // 10, SPLIT_SEED)
        chosen = train if split == "train" else validation
        return images[chosen], labels[chosen]


MNIST = TFDSImages(
    DatasetInfo(
        name="mnist",
        description=(
            "Handwritten digits, white on black. Validation is a fixed tenth of the official "
            "60,000 training images, stratified by class; test is the official one."
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
    ),
    VERSION="3",
)

CIFAR10 = TFDSImages(
    DatasetInfo(
        name="cifar10",
        description=(
            "Small photographs of ten kinds of things. Validation is a fixed tenth of the official "
            "50,000 training images, stratified by class; test is the official one. A folder with "
            "fewer training images is read with a warning; then validation is a tenth of those."
        ),
        image_shape=(32, 32, 3),
        num_classes=10,
        label_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        splits={"train": 45000, "validation": 5000, "test": 10000, "train+validation": 50000},
        source="TensorFlow Datasets, cifar10 3.0.2",
        licence="none stated",
        citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images, 2009.",
    ),
    VERSION="3",
)


@functools.cache
def _training(dataset: TFDSImages, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    info = dataset.INFO
    return tfds_folder.read(folder, "train", info, size=info.splits["train+validation"])
