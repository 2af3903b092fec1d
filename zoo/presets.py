"""Writes the classifiers' presets without weights: the sources', in all sizes, and ours.

    python zoo/presets.py

A preset that is there is left as it is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import qrkt_keras
from qrkt_keras import data as datasets
from qrkt_keras import zoo
from qrkt_keras.training import Augmentation, Recipe
from qrkt_keras.training.recipes import THESIS, THESIS_TWO_CLASSES
from qrkt_keras.zoo.classifier import Classifier

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

# Ours, the best with at most so many parameters: data set, shape and recipe. All was chosen on the
# validation split, see zoo/qvit/README.md.
CIRCUITS = {"template": "hardware_efficient_once", "num_ansatz_layers": 2, "attention_scale": 2.0}
RECIPE = {"weight_decay": 1e-2, "monitor": "val_accuracy"}
DIGITS = Recipe(
    epochs=30,
    batch_size=128,
    learning_rate=1e-2,
    warmup_steps=400,
    augment=Augmentation(shift=2),
    **RECIPE,
)
OURS = {
    "qvit_3k_mnist": (
        "mnist",
        {"patch_size": 8, "patch_stride": 4, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 32},
        DIGITS,
    ),
    "qvit_10k_mnist": (
        "mnist",
        {"patch_size": 8, "patch_stride": 4, "hidden_dim": 16, "num_heads": 4, "mlp_dim": 32},
        DIGITS,
    ),
    "qvit_20k_cifar10": (
        "cifar10",
        {
            "patch_size": 8,
            "patch_stride": 4,
            "hidden_dim": 24,
            "num_heads": 4,
            "mlp_dim": 48,
            "num_encoder_blocks": 3,
        },
        Recipe(
            epochs=40,
            batch_size=64,
            learning_rate=5e-3,
            warmup_steps=400,
            augment=Augmentation(flip=True, shift=4),
            **RECIPE,
        ),
    ),
}

# Y. Kawase, arXiv 2504.19239: the stride by the number of patches, the rate by the number of
# blocks, and the rest of the recipe.
STRIDES = {4: 6, 9: 3, 16: 2}
RATES = {1: 1e-2, 50: 1e-2, 100: 5e-3, 150: 2.5e-3, 200: 1e-3}
KAWASE = Recipe(
    epochs=50,
    batch_size=1000,
    optimizer="adam",
    schedule="epoch_cosine",
    cycle_epochs=10,
    weight_decay=0,
    l2=5e-5,
    clip_norm=None,
    stratified=True,
    hold_out=False,
    snapshots=True,
    monitor="train_loss",
)

# Ours of the same kind, with at most 40,448 angles: by pilots on the validation split, see
# zoo/patch_qnn/README.md.
PATCHES = dataclasses.replace(
    KAWASE,
    epochs=40,
    batch_size=200,
    learning_rate=5e-3,
    schedule="warmup_cosine",
    cycle_epochs=None,
    warmup_steps=270,
    augment=Augmentation(rotation=8, shift=1),
    hold_out=True,
    snapshots=False,
    monitor="val_accuracy",
)

# Small enough for a processor, see docs/hardware.md: one block with 20 circuits of 4 qubits an
# image, and a circuit of one block a patch.
FEW_CIRCUITS = Recipe(epochs=80, batch_size=32, learning_rate=2e-2, warmup_steps=320, **RECIPE)

TEXTS = Recipe(epochs=4, batch_size=64, learning_rate=5e-3, warmup_steps=200, **RECIPE)


def main() -> None:
    """Writes what is missing."""
    for name, (data, shape, recipe) in OURS.items():
        write(ours(data, shape), "qvit", name, data, recipe)
    write(text_classifier(), "qtext", "qtext_120k_imdb", "imdb_reviews", TEXTS)
    write(few_circuits(), "qvit", "qvit_rk1_digits_hardware", "digits", FEW_CIRCUITS)
    names = datasets.info("mnist").label_names
    model = zoo.PatchQNN(stride=2, num_blocks=65, num_qubits_per_circuit=6, label_names=names)
    write(model, "patch_qnn", "patch_qnn_40k_mnist", "mnist", PATCHES)
    for num_patches, stride in STRIDES.items():
        for num_blocks, rate in RATES.items():
            if num_blocks == 1 and num_patches > 4:
                continue  # ours, of the smallest only
            name = f"patch_qnn_p{num_patches}_d{num_blocks}_mnist"
            model = zoo.PatchQNN(stride=stride, num_blocks=num_blocks, label_names=names)
            recipe = dataclasses.replace(KAWASE, learning_rate=rate)
            write(model, "patch_qnn", name, "mnist", recipe)
    for solver in SOLVERS:
        for name, (data, hidden, heads, inner, blocks, patch) in IMAGES.items():
            shape = arguments(hidden, heads, inner, blocks, solver)
            model = classifier_of(data, patch_size=patch, **shape)
            write(model, "qvit", f"qvit_{solver}_{name}", data, THESIS)
        model = zoo.QText(
            vocab_size=19_769,
            max_length=512,
            label_names=datasets.info("imdb_reviews").label_names,
            **arguments(6, 2, 4, (3, 1, 1), solver),
        )
        write(model, "qtext", f"qtext_{solver}_imdb", "imdb_reviews", THESIS_TWO_CLASSES)


def ours(data: str, shape: dict) -> zoo.QViT:
    """A plain vision transformer whose circuits mix features and whose pooling knows places."""
    blocks = {"num_encoder_blocks": 2, "num_ode_blocks": 0, "num_decoder_blocks": 0}
    pooling = {"pooling": "depthwise", "depth_multiplier": 2}
    return classifier_of(data, dropout=0.0, **(CIRCUITS | pooling | blocks | shape))


def few_circuits() -> zoo.QViT:
    """A vision transformer of 4 tokens, 4 qubits and one Runge-Kutta block of one stage."""
    return classifier_of(
        "digits",
        patch_size=4,
        attention_scale=2.0,
        pooling="depthwise",
        depth_multiplier=2,
        dropout=0.0,
        **arguments(4, 1, 4, (0, 1, 0), "rk1"),
    )


def text_classifier() -> zoo.QText:
    """One block with circuits over small embeddings, whose size the normalisations keep."""
    return zoo.QText(
        vocab_size=19_500,
        max_length=512,
        hidden_dim=6,
        num_heads=1,
        mlp_dim=6,
        num_encoder_blocks=1,
        num_ode_blocks=0,
        num_decoder_blocks=0,
        dropout=0.3,
        epsilon=1.0,
        embedding_stddev=0.02,
        label_names=datasets.info("imdb_reviews").label_names,
        **(CIRCUITS | {"attention_scale": None}),
    )


def classifier_of(data: str, **shape: Any) -> zoo.QViT:
    """A model for the images of a data set."""
    info = datasets.info(data)
    return zoo.QViT(
        info.image_shape,
        info.num_classes,
        mean=info.mean[0] if len(info.mean) == 1 else info.mean,
        std=info.std[0] if len(info.std) == 1 else info.std,
        label_names=info.label_names,
        **shape,
    )


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


def write(model: Classifier, family: str, name: str, data: str, recipe: Recipe) -> None:
    """Writes one preset."""
    folder = PACKAGE / family / "presets" / name
    if not folder.exists():
        model.save_to_preset(folder, recipe=recipe, data=data, include_weights=False)
        print(f"{name}: {model.count_params():,} parameters, {model.num_qubits:,} qubits")


if __name__ == "__main__":
    main()
