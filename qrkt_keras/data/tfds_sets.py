"""The data sets that TensorFlow Datasets prepares: some by facts of ours, all others by its own."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qrkt_keras.data import tfds_folder
from qrkt_keras.data.errors import InvalidDatasetError
from qrkt_keras.data.images import channel_statistics
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.options import Options
from qrkt_keras.data.splits import held_out

OFFICIAL = {"train": "train", "test": "test"}


@dataclasses.dataclass(frozen=True)
class TFDSSet:
    """A data set of TFDS; a part that it does not bring itself is a tenth of its training split.

    Attributes:
        NAME: Its name in TFDS.
        INFO: Its facts; None takes those of the prepared folder.
        VERSION: Its major version in TFDS; None takes any.
        CONFIG: Its form in TFDS, if it has several.
        PARTS: Our names of the parts that it brings to its own; None takes what the folder has.
        MANUAL: Files that TFDS cannot fetch.
        MANUAL_FROM: Where they come from.
    """

    NAME: str
    INFO: DatasetInfo | None = dataclasses.field(default=None, compare=False)
    VERSION: str | None = None
    CONFIG: str | None = None
    PARTS: Mapping[str, str] | None = dataclasses.field(default=None, compare=False)
    MANUAL: tuple[str, ...] = ()
    MANUAL_FROM: str = ""

    @property
    def TAKES(self) -> frozenset[str]:
        """The options that apply to it."""
        if self.INFO is None:
            return frozenset({"image_size", "config"})
        return frozenset({"image_size"} if self.INFO.kind == "image" else ())

    def find(self, data_dir: str | None, download: bool, options: Options) -> Path:
        """The folder that holds the prepared data, as `tfds_folder.find` looks for it."""
        return tfds_folder.find(
            self.NAME,
            self.VERSION,
            config=self.CONFIG or options.config,
            data_dir=data_dir,
            download=download,
            manual=self.MANUAL,
            manual_from=self.MANUAL_FROM,
        )

    def info(self, folder: Path, options: Options) -> DatasetInfo:
        """The facts, as the folder tells them or at another size."""
        shape = self._shape(folder, options)
        mean = std = None
        if shape is not None:
            mean, std = channel_statistics(self.read("train", folder, options)[0])
        if self.INFO is not None:
            return dataclasses.replace(self.INFO, image_shape=shape, mean=mean, std=std)
        held = tfds_folder.describe(folder)
        parts = self._parts(folder)
        counts = {part: held.sizes[split] for part, split in parts.items()}
        drawn = [part for part in ("validation", "test") if part not in parts]
        tenth = counts["train"] // 10
        counts["train"] -= tenth * len(drawn)
        counts |= dict.fromkeys(drawn, tenth)
        told = "".join(
            f" {part.capitalize()} is a fixed tenth of the split 'train', stratified by class, for "
            "the data set has no such split."
            for part in drawn
        )
        return DatasetInfo(
            name=self.NAME,
            kind=held.kind,
            description=f"{held.description}{told}".strip(),
            image_shape=shape,
            num_classes=len(held.label_names),
            label_names=held.label_names,
            mean=mean,
            std=std,
            splits={
                "train": counts["train"],
                "validation": counts["validation"],
                "test": counts["test"],
                "train+validation": counts["train"] + counts["validation"],
            },
            source=f"TensorFlow Datasets, {held.name}",
            licence=held.licence,
            citation=held.citation,
        )

    def read(self, split: str, folder: Path, options: Options) -> tuple[np.ndarray, np.ndarray]:
        """Images `(n, *image_shape)` uint8 or texts `(n,)`, and labels `(n,)` int32, of a split."""
        parts = self._parts(folder)
        shape = self._shape(folder, options)
        resize = options.image_size is not None
        if split in parts and split != "train":
            return self._official(split, folder, shape, resize)
        examples, labels = _training(self, folder, shape, resize)
        if split == "train+validation" and "validation" in parts:
            chosen = held_out(labels, {"test"} - parts.keys())["train"]
            more = self._official("validation", folder, shape, resize)
            return (
                np.concatenate([examples[chosen], more[0]]),
                np.concatenate([labels[chosen], more[1]]),
            )
        drawn = held_out(labels, {"test", "validation"} - parts.keys())
        if split in drawn:
            chosen = drawn[split]
        else:
            chosen = np.union1d(drawn["train"], drawn["validation"])
        if len(chosen) == len(labels):
            return examples, labels
        return examples[chosen], labels[chosen]

    def _parts(self, folder: Path) -> Mapping[str, str]:
        if self.PARTS is not None:
            return self.PARTS
        sizes = tfds_folder.describe(folder).sizes
        if "train" not in sizes:
            raise InvalidDatasetError(
                "A data set must have a split 'train'. "
                f"Received: {', '.join(sizes) or 'no splits'} in {folder}"
            )
        return {part: part for part in ("train", "validation", "test") if part in sizes}

    def _official(
        self, part: str, folder: Path, shape: tuple[int, int, int] | None, resize: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        size = None
        if self.INFO is not None:
            size = self.INFO.splits["train+validation" if part == "train" else part]
        split = self._parts(folder)[part]
        return tfds_folder.read(folder, split, shape, size=size, resize=resize)

    def _shape(self, folder: Path, options: Options) -> tuple[int, int, int] | None:
        """The images' shape as they are read; None for text."""
        there = (
            tfds_folder.describe(folder).image_shape if self.INFO is None else self.INFO.image_shape
        )
        size = options.image_size
        if there is None:
            if size is not None:
                raise ValueError(
                    f"The data set {self.NAME!r} is of texts, which have no size. "
                    f"Received: image_size={size}"
                )
            return None
        if size is None and None in there:
            raise ValueError(
                f"The images of data set {self.NAME!r} differ in size: image_size=(height, width) "
                f"says which they are to have. Received: image_size=None, images of shape {there}"
            )
        return (*(size or there[:2]), there[2])


@functools.cache
def _training(
    dataset: TFDSSet, folder: Path, shape: tuple[int, int, int] | None, resize: bool
) -> tuple[np.ndarray, np.ndarray]:
    return dataset._official("train", folder, shape, resize)


MNIST = TFDSSet(
    "mnist",
    DatasetInfo(
        name="mnist",
        kind="image",
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
    PARTS=OFFICIAL,
)

CIFAR10 = TFDSSet(
    "cifar10",
    DatasetInfo(
        name="cifar10",
        kind="image",
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
    PARTS=OFFICIAL,
)

_CIFAR100_LABELS = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge "
    "bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud "
    "cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox "
    "girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
    "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel "
    "streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

CIFAR100 = TFDSSet(
    "cifar100",
    DatasetInfo(
        name="cifar100",
        kind="image",
        description=(
            "Small photographs of a hundred kinds of things, the fine labels. Validation is a "
            "fixed tenth of the official 50,000 training images, stratified by class; test is the "
            "official one."
        ),
        image_shape=(32, 32, 3),
        num_classes=100,
        label_names=tuple(_CIFAR100_LABELS.split()),
        # As customary; not measured here.
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        splits={"train": 45000, "validation": 5000, "test": 10000, "train+validation": 50000},
        source="TensorFlow Datasets, cifar100 3.0.2",
        licence="none stated",
        citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images, 2009.",
    ),
    VERSION="3",
    PARTS=OFFICIAL,
)

IMDB_REVIEWS = TFDSSet(
    "imdb_reviews",
    DatasetInfo(
        name="imdb_reviews",
        kind="text",
        description=(
            "Film reviews in English, for or against. Validation is a fixed tenth of the official "
            "25,000 training reviews, stratified by class; test is the official one. The reviews "
            "without a label are not used."
        ),
        image_shape=None,
        num_classes=2,
        label_names=("neg", "pos"),
        mean=None,
        std=None,
        splits={"train": 22500, "validation": 2500, "test": 25000, "train+validation": 25000},
        source="TensorFlow Datasets, imdb_reviews/plain_text 1.0.0",
        licence="none stated",
        citation="A. Maas, R. Daly, P. Pham, D. Huang, A. Ng, C. Potts. Learning Word Vectors for "
        "Sentiment Analysis. ACL, 2011.",
    ),
    VERSION="1",
    CONFIG="plain_text",
    PARTS=OFFICIAL,
)


def _imagenet_labels() -> tuple[str, ...]:
    """WordNet's numbers of the classes, from the file of them in TFDS, which need not be loaded."""
    tfds = importlib.util.find_spec("tensorflow_datasets")
    for place in (tfds.submodule_search_locations or ()) if tfds else ():
        file = Path(place) / "datasets" / "imagenet2012" / "labels.txt"
        if file.exists():
            return tuple(file.read_text(encoding="utf-8").split())
    return tuple(str(label) for label in range(1000))


IMAGENET2012 = TFDSSet(
    "imagenet2012",
    DatasetInfo(
        name="imagenet2012",
        kind="image",
        description=(
            "ILSVRC 2012: photographs of a thousand kinds of things, cut at the centre to squares "
            "and resized to 32x32 as they are read. Validation is a fixed tenth of the official "
            "training images, stratified by class; test is the official validation split, for the "
            "official test has no labels. Mean and standard deviation are the customary ones."
        ),
        image_shape=(32, 32, 3),
        num_classes=1000,
        label_names=_imagenet_labels(),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        splits={
            "train": 1_153_051,
            "validation": 128_116,
            "test": 50_000,
            "train+validation": 1_281_167,
        },
        source="TensorFlow Datasets, imagenet2012 5.1.0",
        licence="for non-commercial research, by the terms of image-net.org",
        citation="O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. "
        "IJCV, 2015.",
    ),
    VERSION="5",
    PARTS={"train": "train", "test": "validation"},
    MANUAL=("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
    MANUAL_FROM="whoever registers at https://image-net.org/download-images gets them",
)

NAMED = (MNIST, CIFAR10, CIFAR100, IMDB_REVIEWS, IMAGENET2012)
