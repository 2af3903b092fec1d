"""Makes the pictures of the README from the packaged preset.

python docs/images/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qrkt_keras import data
from qrkt_keras.circuits import templates
from qrkt_keras.zoo import QViT

HERE = Path(__file__).parent
COLUMNS = 12


def predictions(path: Path) -> None:
    """The first test digits with the label and probability that the preset gives them."""
    images, labels = data.arrays("digits", "test")
    images, labels = images[: 2 * COLUMNS], labels[: 2 * COLUMNS]
    logits = QViT.from_preset("qvit_rk4_digits").predict(images, verbose=0)
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    figure = Figure(figsize=(COLUMNS, 2.7), layout="constrained")
    for axes, image, label, row in zip(
        figure.subplots(2, COLUMNS).flat, images, labels, probabilities, strict=True
    ):
        axes.imshow(image[..., 0], cmap="gray_r", interpolation="nearest")
        axes.set_axis_off()
        guess = int(row.argmax())
        colour = "#1b6e3c" if guess == label else "#b3261e"
        axes.set_title(f"{guess}  {row[guess]:.0%}", color=colour, fontsize=11)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write both pictures beside this script."""
    predictions(HERE / "digits.png")
    templates.ry_ring(4).draw("png", HERE / "ry_ring.png")


if __name__ == "__main__":
    main()
