"""QRKT-GAN: a GAN of quantum transformers with a Runge-Kutta stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from qrkt_keras import solvers
from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine, make_engine, saved_engine
from qrkt_keras.layers.projection import (
    circuit_of_width,
    dropout_rate,
    positive_integer,
    positive_number,
    read_template,
    template_config,
)
from qrkt_keras.layers.runge_kutta_residual import solver_config
from qrkt_keras.solvers import ButcherTableau
from qrkt_keras.zoo.gan import networks
from qrkt_keras.zoo.gan.gan import GAN
from qrkt_keras.zoo.gan.stages import check_stages, settings_of_width


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QRKTGAN(GAN):
    """A GAN whose attention and feed-forward parts are circuits, with a Runge-Kutta stage.

    The generator makes a few wide tokens of noise, and ever more and narrower ones by pixel
    shuffle; its last stage is a step of a Runge-Kutta method whose stages share their weights. The
    discriminator is a vision transformer that reads a class token. In both, query, key, value and
    output are four independent circuits of as many qubits as a token has features, by default
    without any Dense layer, and feed-forward is `W_2 gelu(<O>(W_1 u + b_1, theta)) + b_2`. Source:
    C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024; the circuits' form is this project's, for the
    published one does not run.

    By default it has the thesis' size, with circuits of up to 384 qubits.

    Args:
        image_shape: Height, width and channels; square.
        latent_dim: Width of the noise.
        widths: Width of a token in each stage of the generator, each a quarter of the one before.
        depths: Blocks of each stage; none in one that only makes more tokens.
        num_heads: Heads of attention.
        attention_scale: What the scores of attention are multiplied by; by default the thesis'
            `width**-0.5`. The features that circuits make lie in [-1, 1], so that its scores are
            small and attention is nearly the same for all tokens; a larger scale sharpens it.
        solver: Solver of the Runge-Kutta blocks, which are those of the last stage that has any,
            see `qrkt_keras.solvers.list()`; None for ordinary blocks.
        patch_size: Side of the discriminator's patches.
        discriminator_width: Width of its tokens.
        discriminator_depth: Its blocks.
        quantum: `False` for the classical twin, whose attention has Dense layers for circuits.
        quantum_discriminator: Whether the discriminator has circuits; by default if the generator
            has, that is as `quantum` says.
        mlp_ratio: Width inside the feed-forward parts in widths of a token; by default 1 in a
            network with circuits and 4 in one without.
        template: Name of a circuit template.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether Dense layers without bias make the angles that the circuits of
            attention encode. Without them, the thesis' form, features are angles, and `ry_ring`
            lets a query see one feature only.
        trainable_circuits: `False` leaves the circuits' angles as they are drawn: what is learned
            then is learned around them.
        engine: Engine that computes the circuits.
        dropout: Rate of dropout on attention weights and branches, and after the discriminator's
            positions.
        num_classes: Number of classes of a conditional GAN.
        seed: Seed of noise, augmentation and interpolation.
        name: Name of the model.

    Call arguments:
        inputs: Noise of shape `(B, latent_dim)`; with classes `[noise, labels]`.

    Returns:
        Images of shape `(B, height, width, channels)`, by the averaged generator.

    Raises:
        ValueError: If an argument is out of range, or does not fit another one.

    Example:

    >>> from qrkt_keras.zoo import QRKTGAN
    >>> gan = QRKTGAN(
    ...     (8, 8, 1), latent_dim=16, widths=(16, 4), depths=(1, 1), num_heads=2,
    ...     patch_size=2, discriminator_width=8, discriminator_depth=1)
    >>> gan.generator.count_params(), gan.discriminator.count_params()
    (5625, 425)
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (32, 32, 3),
        *,
        latent_dim: int = 1024,
        widths: Sequence[int] = (384, 96, 24),
        depths: Sequence[int] = (5, 4, 1),
        num_heads: int = 4,
        attention_scale: float | None = None,
        solver: str | ButcherTableau | Mapping[str, Any] | None = "rk4_enhanced",
        patch_size: int = 4,
        discriminator_width: int = 384,
        discriminator_depth: int = 7,
        quantum: bool = True,
        quantum_discriminator: bool | None = None,
        mlp_ratio: int | None = None,
        template: str | CircuitSpec | Mapping[str, str] = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        trainable_circuits: bool = True,
        engine: str = "auto",
        dropout: float = 0.5,
        num_classes: int | None = None,
        seed: int = 0,
        name: str | None = "qrkt_gan",
    ) -> None:
        image_shape = check_stages(image_shape, widths, depths)
        num_heads = positive_integer("num_heads", num_heads)
        if attention_scale is not None:
            attention_scale = positive_number("attention_scale", attention_scale)
        quantum = bool(quantum)
        if quantum_discriminator is not None:
            quantum_discriminator = bool(quantum_discriminator)
        both = quantum, quantum if quantum_discriminator is None else quantum_discriminator
        if mlp_ratio is not None:
            positive_integer("mlp_ratio", mlp_ratio)
        ratios = [mlp_ratio or (1 if own else 4) for own in both]
        template = read_template(template, num_ansatz_layers)
        tableau = None if solver is None else solvers.get(solver)
        check_engine(engine)
        if num_classes is not None:
            num_classes = positive_integer("num_classes", num_classes)
        # A stage without blocks has no circuits.
        with_blocks = [width for width, depth in zip(widths, depths, strict=True) if depth]
        widths_of = (with_blocks, (positive_integer("discriminator_width", discriminator_width),))
        for own, ratio, all_widths in zip(both, ratios, widths_of, strict=True):
            if own:
                for size in {size for width in all_widths for size in (width, ratio * width)}:
                    make_engine(circuit_of_width(template, size, num_ansatz_layers), engine)
        dropout = dropout_rate(dropout)

        def settings_of(own: bool, ratio: int) -> networks.Settings:
            settings = settings_of_width(
                ratio,
                quantum=own,
                template=template,
                num_ansatz_layers=num_ansatz_layers,
                trainable_encoding=trainable_encoding,
                engine=engine,
                dropout=dropout,
            )
            # The thesis divides by the root of the whole width, not of one head's.
            return lambda width: {**settings(width), "scale": attention_scale or width**-0.5}

        of_generator, of_discriminator = map(settings_of, both, ratios)
        super().__init__(
            networks.generator(
                image_shape,
                positive_integer("latent_dim", latent_dim),
                widths,
                depths,
                num_heads,
                of_generator,
                solver=tableau,
                num_classes=num_classes,
            ),
            networks.discriminator(
                image_shape,
                positive_integer("patch_size", patch_size),
                discriminator_width,
                positive_integer("discriminator_depth", discriminator_depth),
                num_heads,
                of_discriminator,
                dropout=dropout,
                num_classes=num_classes,
            ),
            seed=seed,
            name=name,
        )
        for layer in self.pqcs:
            layer.trainable = bool(trainable_circuits)
        self.engine = engine
        self._config = {
            "image_shape": [*image_shape],
            "latent_dim": latent_dim,
            "widths": [*widths],
            "depths": [*depths],
            "num_heads": num_heads,
            "attention_scale": attention_scale,
            "solver": None if tableau is None else solver_config(tableau),
            "patch_size": patch_size,
            "discriminator_width": discriminator_width,
            "discriminator_depth": discriminator_depth,
            "quantum": quantum,
            "quantum_discriminator": quantum_discriminator,
            "mlp_ratio": mlp_ratio,
            "template": template_config(template),
            "num_ansatz_layers": num_ansatz_layers,
            "trainable_encoding": bool(trainable_encoding),
            "trainable_circuits": bool(trainable_circuits),
            "dropout": dropout,
            "num_classes": num_classes,
            "seed": seed,
        }

    def get_config(self) -> dict[str, Any]:
        return {**self._config, "engine": saved_engine(self.engine), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> QRKTGAN:
        return cls(**config)
