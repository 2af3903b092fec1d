"""What a user's own images and texts have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrkt_keras.data.errors import InvalidDatasetError
from qrkt_keras.data.info import DatasetInfo

PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """All examples, those of training first, then those of validation, then those of test.

    So each split is a part of the arrays, and none is a copy.

    Attributes:
        examples: `(n, ...)`.
        labels: `(n,)` int32.
        counts: Part to its number of examples.
        label_names: The classes.
        drawn: The parts that the data does not bring itself.
    """

    examples: np.ndarray
    labels: np.ndarray
    counts: Mapping[str, int]
    label_names: tuple[str, ...]
    drawn: tuple[str, ...]

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A split's examples and labels."""
        train, validation = self.counts["train"], self.counts["validation"]
        chosen = {
            "train": slice(0, train),
            "validation": slice(train, train + validation),
            "test": slice(train + validation, None),
            "train+validation": slice(0, train + validation),
        }[name]
        return self.examples[chosen], self.labels[chosen]

    def info(self, path: Path, what: str, **facts: Any) -> DatasetInfo:
        """The facts of data at a path.

        Args:
            path: The folder or the file.
            what: What it is, a sentence.
            **facts: `kind`, `image_shape`, `mean` and `std` of `DatasetInfo`.
        """
        return DatasetInfo(
            name=str(path),
            description=f"{what} {self._told()}",
            num_classes=len(self.label_names),
            label_names=self.label_names,
            splits={
                **self.counts,
                "train+validation": self.counts["train"] + self.counts["validation"],
            },
            source=str(path.resolve()),
            licence="its owner's",
            citation="",
            **facts,
        )

    def _told(self) -> str:
        """How the splits were made."""
        given = [part for part in PARTS if part not in self.drawn]
        if given == ["train"]:
            return "Validation and test are fixed tenths of it each, stratified by class."
        rest = [
            f"{part} is a fixed tenth of the training examples, stratified by class"
            for part in self.drawn
        ]
        return f"It brings {', '.join(given)}{'; ' if rest else ''}{'; '.join(rest)}."


def check_learnable(labels: Mapping[str, np.ndarray], names: Sequence[str], where: object) -> None:
    """Refuses classes that are to be told apart but cannot be learned.

    Args:
        labels: Part to its labels.
        names: The classes.
        where: What to name in the error.

    Raises:
        InvalidDatasetError: If validation or test has a class that training has not.
    """
    known = set(labels["train"].tolist())
    for part in ("validation", "test"):
        unseen = sorted(set(labels[part].tolist()) - known)
        if unseen:
            raise InvalidDatasetError(
                f"Every class of {part} must be in train. Not there: "
                f"{listed([names[label] for label in unseen])}. Received: {where}"
            )


def listed(things: Sequence[object], most: int = 5) -> str:
    """The first few of many, and how many more there are."""
    more = len(things) - most
    return ", ".join(map(str, things[:most])) + (f" and {more} more" if more > 0 else "")
