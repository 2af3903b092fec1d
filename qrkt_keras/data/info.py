"""What is known about a data set before it is read."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A data set's facts.

    Attributes:
        name: The name under which `load` knows it.
        kind: `"image"` or `"text"`.
        description: What the examples are and how the splits were made.
        image_shape: `(height, width, channels)` of every image, `uint8` in `[0, 255]`; None for
            text.
        num_classes: Number of classes; labels are `0 ... num_classes - 1`.
        label_names: The name of each class.
        mean: Mean of the training pixels, one number a channel, on the `[0, 1]` scale; None for
            text.
        std: Their standard deviation, on the same scale; None for text.
        splits: Split name to its number of examples.
        source: Where the data comes from.
        licence: Its terms.
        citation: What to cite.
    """

    name: str
    kind: Literal["image", "text"]
    description: str
    image_shape: tuple[int, int, int] | None
    num_classes: int
    label_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    splits: Mapping[str, int]
    source: str
    licence: str
    citation: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", types.MappingProxyType(dict(self.splits)))
