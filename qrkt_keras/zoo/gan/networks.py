"""The networks of the GANs, as functional Keras models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from qrkt_keras.layers import (
    ClassToken,
    PatchEmbedding,
    PixelShuffle,
    PositionEmbedding,
    RungeKuttaTransformerBlock,
    TransformerEncoderBlock,
)

EPSILON = 1e-5

# From a width to the arguments of its blocks.
Settings = Callable[[int], Mapping[str, Any]]


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    widths: Sequence[int],
    depths: Sequence[int],
    num_heads: int,
    settings: Settings,
    *,
    solver: Any = None,
    relative_positions: bool = False,
    num_classes: int | None = None,
    name: str = "generator",
) -> keras.Model:
    """From noise to images: a few wide tokens first, then ever more and narrower ones.

    Args:
        image_shape: Height, width and channels; square, and divisible by `2**(stages - 1)`.
        latent_dim: Width of the noise.
        widths: Width of a token in each stage, each a quarter of the one before.
        depths: Blocks of each stage.
        num_heads: Heads of attention.
        settings: The arguments of the blocks of a width, such as `mlp_dim` and `quantum`.
        solver: If given, the blocks of the last stage that has any are Runge-Kutta steps by this
            solver, whose stages share their weights.
        relative_positions: Whether attention has a `RelativePositionBias`.
        num_classes: Number of classes of a conditional generator, whose second input they are.
        name: Name of the model.

    Returns:
        A model from noise `(B, latent_dim)`, and labels `(B,)` if there are classes, to images
        `(B, height, width, channels)`, in [-1, 1] once trained.
    """
    side = image_shape[0] >> len(widths) - 1
    last = max(stage for stage, depth in enumerate(depths, start=1) if depth)
    latent = keras.Input((latent_dim,), name="latent")
    inputs, features = [latent], latent
    if num_classes is not None:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs.append(labels)
        features = features + keras.layers.Embedding(num_classes, latent_dim, name="classes")(
            labels
        )
    tokens = keras.layers.Dense(side * side * widths[0], name="latent_to_tokens")(features)
    tokens = keras.layers.Reshape((side * side, widths[0]), name="tokens")(tokens)
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        if stage > 1:
            tokens = PixelShuffle(name=f"shuffle_{stage}")(tokens)
            side *= 2
        tokens = PositionEmbedding(name=f"positions_{stage}")(tokens)
        for block in range(1, depth + 1):
            if solver is not None and stage == last:
                layer = RungeKuttaTransformerBlock(
                    num_heads,
                    solver=solver,
                    share_weights=True,
                    epsilon=EPSILON,
                    name=f"ode_{stage}_{block}",
                    **settings(width),
                )
            else:
                layer = TransformerEncoderBlock(
                    num_heads,
                    epsilon=EPSILON,
                    window=side if relative_positions else None,
                    name=f"block_{stage}_{block}",
                    **settings(width),
                )
            tokens = layer(tokens)
    pixels = keras.layers.Dense(image_shape[-1], name="to_pixels")(tokens)
    images = keras.layers.Reshape(image_shape, dtype="float32", name="images")(pixels)
    return keras.Model(inputs if len(inputs) > 1 else latent, images, name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    patch_size: int,
    width: int,
    depth: int,
    num_heads: int,
    settings: Settings,
    *,
    dropout: float = 0.0,
    num_classes: int | None = None,
    name: str = "discriminator",
) -> keras.Model:
    """From images to one number each: a vision transformer that reads a class token.

    Args:
        image_shape: Height, width and channels.
        patch_size: Side of a patch.
        width: Width of a token.
        depth: Blocks.
        num_heads: Heads of attention.
        settings: The arguments of the blocks of a width.
        dropout: Rate of dropout after the positions.
        num_classes: Number of classes of a conditional discriminator.
        name: Name of the model.

    Returns:
        A model from images `(B, height, width, channels)`, and labels `(B,)` if there are classes,
        to logits `(B, 1)`.
    """
    images = keras.Input(image_shape, name="images")
    tokens = PatchEmbedding(patch_size, width, use_positions=False, name="patches")(images)
    tokens = ClassToken(name="class_token")(tokens)
    tokens = PositionEmbedding(dropout=dropout, name="positions")(tokens)
    for block in range(1, depth + 1):
        tokens = TransformerEncoderBlock(
            num_heads, epsilon=EPSILON, name=f"block_{block}", **settings(width)
        )(tokens)
    return _headed(images, tokens, num_classes, name)


def multi_scale_discriminator(
    image_shape: tuple[int, int, int],
    widths: Sequence[int],
    depths: Sequence[int],
    num_heads: int,
    settings: Settings,
    *,
    num_classes: int | None = None,
    name: str = "discriminator",
) -> keras.Model:
    """From images to one number each: TransGAN's, which reads patches of two sizes.

    Args:
        image_shape: Height, width and channels; square.
        widths: Width of the tokens of patches of 2 pixels, and of 4 pixels: the latter join the
            former, halved in number, so that the second stage has the sum of both.
        depths: Blocks on patches of 2 pixels, on those of 4, and with the class token.
        num_heads: Heads of attention.
        settings: The arguments of the blocks of a width.
        num_classes: Number of classes of a conditional discriminator.
        name: Name of the model.

    Returns:
        As `discriminator`.
    """
    side = image_shape[0] // 2
    images = keras.Input(image_shape, name="images")
    tokens = PatchEmbedding(2, widths[0], use_positions=False, name="patches_2")(images)
    tokens = PositionEmbedding(name="positions_2")(tokens)
    tokens = _blocks(tokens, "fine", depths[0], num_heads, settings(widths[0]), window=side)
    grid = keras.layers.Reshape((side, side, widths[0]), name="grid")(tokens)
    grid = keras.layers.AveragePooling2D(2, name="pool")(grid)
    pooled = keras.layers.Reshape(((side // 2) ** 2, widths[0]), name="pooled")(grid)
    coarse = PatchEmbedding(4, widths[1], use_positions=False, name="patches_4")(images)
    tokens = keras.layers.Concatenate(name="both")([pooled, coarse])
    tokens = PositionEmbedding(name="positions_4")(tokens)
    width = sum(widths)
    tokens = _blocks(tokens, "coarse", depths[1], num_heads, settings(width), window=side // 2)
    tokens = ClassToken(name="class_token")(tokens)
    tokens = _blocks(tokens, "class", depths[2], num_heads, settings(width), window=None)
    return _headed(images, tokens, num_classes, name)


def _blocks(tokens: Any, name: str, depth: int, num_heads: int, settings: Any, window: Any) -> Any:
    for block in range(1, depth + 1):
        tokens = TransformerEncoderBlock(
            num_heads,
            epsilon=EPSILON,
            window=window,
            token_noise=True,
            name=f"{name}_{block}",
            **settings,
        )(tokens)
    return tokens


def _headed(images: Any, tokens: Any, num_classes: int | None, name: str) -> keras.Model:
    tokens = keras.layers.LayerNormalization(epsilon=EPSILON, name="normalization")(tokens)
    features = FirstToken(name="features")(tokens)
    logits = keras.layers.Dense(1, name="logits")(features)
    inputs = images
    if num_classes is not None:
        # Miyato and Koyama, "cGANs with projection discriminator", ICLR 2018.
        labels = keras.Input((), dtype="int32", name="labels")
        inputs = [images, labels]
        classes = keras.layers.Embedding(num_classes, features.shape[-1], name="classes")(labels)
        logits = logits + keras.layers.Dot(axes=1, name="projection")([classes, features])
    logits = keras.layers.Activation("linear", dtype="float32", name="float_logits")(logits)
    return keras.Model(inputs, logits, name=name)


@keras.saving.register_keras_serializable(package="qrkt_keras")
class FirstToken(keras.layers.Layer):
    """The first of the tokens: `(B, T, features)` to `(B, features)`."""

    def call(self, inputs: Any) -> Any:
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[2])
