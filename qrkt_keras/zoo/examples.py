"""What a preset's model is trained and scored on, and what the model must be for it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras import data as datasets
from qrkt_keras.data import DatasetInfo
from qrkt_keras.training import Recipe
from qrkt_keras.zoo.presets import Preset, model_classes
from qrkt_keras.zoo.runs import name_of


@dataclasses.dataclass(frozen=True)
class Examples:
    """A data set as a preset's model reads it; `examples_for` makes it.

    Attributes:
        source: The preset.
        data: Name or path of the data set, see `data.arrays`.
        options: How it is read, as JSON data; see `data.arrays`.
    """

    source: Preset
    data: str
    options: Mapping[str, Any]

    @property
    def info(self) -> DatasetInfo:
        """The data set's facts."""
        return datasets.info(self.data, **self.options)

    @property
    def told(self) -> str:
        """What they are, such as `8×8×1 images of 10 classes`."""
        return _told(self.info.kind, self.info.image_shape, self.info.num_classes)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Examples and labels of a split."""
        return datasets.arrays(self.data, split, **self.options)

    def arguments(self) -> dict[str, Any]:
        """The model's arguments that go with the data, where that is not the preset's own.

        They are a classifier's classes and normalisation; a vocabulary is given up, for training
        takes it from its texts.
        """
        source = self.source
        model_class = model_classes()[source.class_name]
        is_own = self.data == source.data and dict(self.options) == dict(source.data_options)
        if is_own or model_class.recipe_class is not Recipe:
            return {}
        info = self.info
        arguments = {
            "num_classes": info.num_classes,
            "label_names": list(info.label_names),
            "vocabulary": None,
        }
        for name, value in {"mean": info.mean, "std": info.std}.items():
            if value is not None:
                arguments[name] = value[0] if len(value) == 1 else list(value)
        taken = inspect.signature(model_class).parameters
        return {name: value for name, value in arguments.items() if name in taken}

    def check(self, model: keras.Model, name: str | None = None) -> None:
        """Refuses a model that takes other examples, or tells other classes apart.

        Args:
            model: A classifier.
            name: What it is called in the error; by default as the preset.

        Raises:
            ValueError: If they do not fit.
        """
        name, info = name or name_of(self.source), self.info
        takes = (
            "text" if hasattr(model, "vectorize") else "image",
            getattr(model, "image_shape", None),
            model.num_classes,
        )
        has = (info.kind, info.image_shape, info.num_classes)
        received = f"Received: preset={name!r}, data={self.data!r}"
        if takes != has:
            raise ValueError(
                f"The preset and the data set do not fit: {name} takes {_told(*takes)}, "
                f"{self.data} has {_told(*has)}. {received}"
            )
        names = getattr(model, "label_names", None)
        # Of a known data set the names are spelt as TFDS likes; of your own they are what you say.
        if datasets.is_path(self.data) and names is not None and names != info.label_names:
            raise ValueError(
                f"The preset and the data set have different classes: {name} tells "
                f"{', '.join(names)}, {self.data} has {', '.join(info.label_names)}. {received}"
            )


def examples_for(
    source: Preset,
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    image_shape: Sequence[int] | None = None,
) -> Examples:
    """The data set that a preset's model is to be trained or scored on.

    Your own images, and those of a set of TFDS that is not in `data.list()`, are read as the model
    takes them: in its size, and your own in its channels.

    Args:
        source: What `read_preset` returned.
        data: Name or path of a data set; by default the preset's.
        options: How it is read, see `data.arrays`, in addition to that.
        image_shape: Height, width and channels of the model's images, in place of the preset's.

    Returns:
        The data set.

    Raises:
        ValueError: If neither says which data set it is, or it is of texts and the model takes
            images, or the other way round; and as `data.arrays` does.

    Example:

    >>> from qrkt_keras import zoo
    >>> examples = zoo.examples_for(zoo.read_preset("qvit_rk1_cifar10"), "cifar100")
    >>> examples.arguments()["num_classes"]
    100
    """
    if data is None and source.data is None:
        raise ValueError(
            f"The preset does not say its data set: name one with data= (on the command line "
            f"--data). Received: {name_of(source)!r}"
        )
    options = dict(options or {})
    if data in (None, source.data):
        data, options = source.data, {**source.data_options, **options}
    taken = datasets.option_names(data)
    shape = image_shape or source.config.get("image_shape")
    # Which it is of a known data set, `Examples.check` sees.
    has = "images" if "channels" in taken else "texts" if "text_column" in taken else None
    takes = "images" if shape else "texts"
    if has not in (None, takes):
        name = name_of(source)
        raise ValueError(
            f"The preset and the data set do not fit: {name} takes {takes}, {data} has {has}. "
            f"Received: preset={name!r}, data={data!r}"
        )
    if shape and data not in datasets.list():
        derived = {"image_size": list(shape[:2]), "channels": shape[2]}
        options = {name: derived[name] for name in derived if name in taken} | options
    return Examples(source, data, options)


def _told(kind: str, shape: Sequence[int] | None, num_classes: int) -> str:
    size = "" if shape is None else "×".join(map(str, shape)) + " "
    return f"{size}{kind}s of {num_classes} classes"
