"""What is on a picture."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image


def pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Colours of a PNG, (height, width, 3)."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many of the pixels have a colour."""
    return int((np.abs(picture - colour).sum(axis=-1) < 6).sum())
