"""Writes the classifiers' presets that have no weights: the thesis' widths, with every solver.

    python zoo/presets.py

A preset that is there is left as it is.
"""

from __future__ import annotations

from pathlib import Path

import qrkt_keras
from qrkt_keras import data as datasets
from qrkt_keras import zoo
from qrkt_keras.training.recipes import THESIS

PACKAGE = Path(qrkt_keras.__file__).parent / "zoo"
SOLVERS = ("rk1", "rk2", "rk3", "rk4", "rk4_enhanced", "rk2_learned", "rk2_gated")
# C.-A. Ripanu, QRKT-GAN, 2024: data set, width, heads, width inside, (encoders, ODE blocks,
# decoders), and the side of a patch.
IMAGES = {
    "mnist": ("mnist", 6, 2, 3, (0, 3, 1), 14),
    "cifar10": ("cifar10", 12, 6, 6, (5, 1, 1), 16),
    "cifar100": ("cifar100", 12, 6, 6, (5, 1, 1), 16),
    "imagenet": ("imagenet2012", 6, 2, 6, (3, 3, 1), 16),
}


def main() -> None:
    """Writes what is missing."""
    for solver in SOLVERS:
        for name, (data, hidden, heads, inner, blocks, patch) in IMAGES.items():
            info = datasets.info(data)
            model = zoo.QViT(
                info.image_shape,
                info.num_classes,
                patch_size=patch,
                mean=info.mean[0] if len(info.mean) == 1 else info.mean,
                std=info.std[0] if len(info.std) == 1 else info.std,
                label_names=info.label_names,
                **arguments(hidden, heads, inner, blocks, solver),
            )
            write(model, "qvit", f"qvit_{solver}_{name}", data)
        model = zoo.QText(
            vocab_size=19_769,
            max_length=512,
            label_names=datasets.info("imdb_reviews").label_names,
            **arguments(6, 2, 4, (3, 1, 1), solver),
        )
        write(model, "qtext", f"qtext_{solver}_imdb", "imdb_reviews")


def arguments(hidden: int, heads: int, inner: int, blocks: tuple, solver: str) -> dict:
    """What all classifiers take."""
    encoders, ode_blocks, decoders = blocks
    return {
        "hidden_dim": hidden,
        "num_heads": heads,
        "mlp_dim": inner,
        "num_encoder_blocks": encoders,
        "num_ode_blocks": ode_blocks,
        "num_decoder_blocks": decoders,
        "solver": solver,
    }


def write(model: zoo.QViT | zoo.QText, family: str, name: str, data: str) -> None:
    """Writes one preset."""
    folder = PACKAGE / family / "presets" / name
    if not folder.exists():
        model.save_to_preset(folder, recipe=THESIS, data=data, include_weights=False)
        print(f"{name}: {model.count_params():,} parameters, {model.num_qubits:,} qubits")


if __name__ == "__main__":
    main()
