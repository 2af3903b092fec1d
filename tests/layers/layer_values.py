"""Outputs and one step of training of every layer, from seeded numbers; runs on any backend.

As a script it writes them to the file named as its argument, after it has made sure that no
TensorFlow was loaded.
"""

from __future__ import annotations

import sys

import keras
import numpy as np

from qrkt_keras.circuits import templates
from qrkt_keras.layers import (
    PQC,
    Cutout,
    DiffAugment,
    ImagePatches,
    PatchEmbedding,
    PixelBias,
    QuantumFeedForward,
    QuantumMultiHeadAttention,
    RandomShift,
    RungeKuttaResidual,
    RungeKuttaTransformerBlock,
    SourceAttention,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from qrkt_keras.layers.diff_augment import brightness, contrast, cut_out, saturation, translate

TOKENS, SOURCE = (4, 6), (5, 6)


def layers():
    """Name, layer, and the shapes of its inputs without the batch."""
    yield "pqc", PQC(templates.hardware_efficient(3, 2), copies=2), [(4, 3)]
    yield "patches", PatchEmbedding(2, 6), [(4, 4, 3)]
    yield "overlapping", keras.Sequential([PixelBias(), ImagePatches(3, 1)]), [(4, 5, 2)]
    # Backends draw different numbers, so these are made harmless.
    augment = DiffAugment("translation,cutout", translation=0.0, cutout=0.0)
    harmless = [augment, RandomShift(0, padding="reflect"), Cutout(0.0)]
    yield "augmented", keras.Sequential([keras.layers.Dense(2), *harmless]), [(4, 4, 3)]
    for quantum in (True, False):
        settings = {"quantum": quantum}
        kind = "quantum" if quantum else "classical"
        yield f"attention_{kind}", QuantumMultiHeadAttention(2, 3, **settings), [TOKENS]
        yield f"cross_{kind}", QuantumMultiHeadAttention(2, 3, **settings), [TOKENS, SOURCE]
        yield f"ffn_{kind}", QuantumFeedForward(3, **settings), [TOKENS]
        yield f"encoder_{kind}", TransformerEncoderBlock(2, 3, **settings), [TOKENS]
        yield f"decoder_{kind}", TransformerDecoderBlock(2, 3, **settings), [TOKENS, SOURCE]
        yield f"rk4_{kind}", RungeKuttaTransformerBlock(2, 3, "rk4", **settings), [TOKENS]
    yield "encoded", QuantumMultiHeadAttention(2, 3, trainable_encoding=True), [TOKENS]
    shared = {"share_weights": True, "residual": "normalized"}
    yield "gated", RungeKuttaTransformerBlock(2, 3, "rk2_gated", **shared), [TOKENS]
    yield "learned", RungeKuttaResidual(QuantumFeedForward(3), "rk2_learned"), [TOKENS]
    yield "corrected", SourceAttention(2), [TOKENS, SOURCE]
    yield "thesis", SourceAttention(2, "thesis"), [TOKENS, SOURCE]


def values() -> dict[str, np.ndarray]:
    """The arrays to compare, by name."""
    results = {}
    # Compiled where the backend is JAX; elsewhere the compilation has tests of its own.
    eagerly = keras.backend.backend() != "jax"
    for name, layer, shapes in layers():
        rng = np.random.default_rng(len(results))
        symbols = [keras.Input(shape) for shape in shapes]
        model = keras.Model(symbols, layer(*symbols))
        for weight in model.weights:
            weight.assign(rng.normal(size=weight.shape) / 2)
        data = [rng.normal(size=(3, *shape)).astype("float32") for shape in shapes]
        outputs = keras.ops.convert_to_numpy(model(data))
        results[f"{name}/outputs"] = outputs
        if model.trainable_weights:
            target = rng.normal(size=outputs.shape).astype("float32")
            model.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=eagerly)
            model.train_on_batch(data, target)
            for index, weight in enumerate(model.trainable_weights):
                key = f"{name}/{index}_{weight.name}_after_one_step"
                results[key] = keras.ops.convert_to_numpy(weight)
    images = rng.normal(size=(3, 4, 5, 3)).astype("float32")
    results["brightness"] = brightness(images, np.array([-0.5, 0.1, 0.4]))
    results["saturation"] = saturation(images, np.array([0.0, 0.7, 1.9]))
    results["contrast"] = contrast(images, np.array([0.5, 0.9, 1.4]))
    results["translate"] = translate(images, np.array([2, -1, 0]), np.array([-4, 5, 1]))
    results["cut_out"] = cut_out(images, np.array([0, 2, 4]), np.array([4, 2, 0]), (2, 3))
    return {name: keras.ops.convert_to_numpy(array) for name, array in results.items()}


if __name__ == "__main__":
    arrays = values()
    assert keras.backend.backend() == "jax", keras.backend.backend()
    loaded = sorted(name for name in sys.modules if name.split(".")[0].startswith("tensorflow"))
    assert not loaded, f"TensorFlow was loaded: {loaded[:5]}"
    np.savez(sys.argv[1], **arrays)
