"""QViT: a quantum vision transformer whose residual connections are Runge-Kutta steps."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.layers import GlobalDepthwisePooling, PatchEmbedding
from qrkt_keras.layers.patch_embedding import grid_of_patches
from qrkt_keras.layers.projection import positive_integer
from qrkt_keras.zoo.classifier import (
    TransformerClassifier,
    dtype_policy,
    full_precision,
    logits,
    mean_over_tokens,
    names_of_labels,
    number_of_classes,
)
from qrkt_keras.zoo.images import TakesImages, image_shape_of
from qrkt_keras.zoo.transformer import Solver, Transformer, choice, listed

POOLINGS = ("mean", "depthwise")


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QViT(TakesImages, TransformerClassifier):
    """A vision transformer whose projections are quantum circuits, with Runge-Kutta blocks.

    With two patch embeddings `src` and `trg` of the image, E encoder blocks, R Runge-Kutta blocks
    and D decoder blocks,

    `memory = LN(RK_R(... RK_1(ENC_E(... ENC_1(src)))))`,
    `logits = W mean_tokens(LN(DEC_D(... DEC_1(trg, memory), memory))) + b`

    With D = 0 there is no target, and `logits = W mean_tokens(memory) + b`; with R = 0 too, this is
    the plain quantum vision transformer. With `pooling="depthwise"` learned sums stand for the
    mean. Sources: C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024
    (the model); Comajoan Cara et al., *Quantum vision transformers for quark-gluon
    classification*, Axioms 2024 (the plain one).

    It is an ordinary functional Keras model: `compile`, `fit`, `save` and the rest are Keras' own.
    Its outputs are logits, so a loss wants `from_logits=True`. A clone is made by
    `QViT.from_config(model.get_config())`; `keras.models.clone_model` gives up the class, and with
    it uint8 images, the engines and the checks.

    Args:
        image_shape: Height, width and channels of an image.
        num_classes: Number of classes K, at least 2.
        patch_size: Side of a patch in pixels.
        patch_stride: Pixels from one patch to the next; by default `patch_size`, fewer make them
            overlap. Patches must end where the image does.
        hidden_dim: Width of a token, and qubits of a projection, at least 2.
        num_heads: Number of attention heads; it must divide `hidden_dim`.
        mlp_dim: Width inside the feed-forward parts, and qubits of their circuits.
        num_encoder_blocks: Encoder blocks E, see `layers.TransformerEncoderBlock`.
        num_ode_blocks: Runge-Kutta blocks R, see `layers.RungeKuttaTransformerBlock`.
        num_decoder_blocks: Decoder blocks D, see `layers.TransformerDecoderBlock`.
        solver: Name of a solver, see `qrkt_keras.solvers.list()`, or a `ButcherTableau`; or a list
            of `num_ode_blocks` of them, one a block.
        share_weights: Whether all stages of a Runge-Kutta block share their weights.
        residual: Of the Runge-Kutta blocks, `"identity"` or `"normalized"`; by default the
            variant's.
        variant: `"thesis"`: what the code behind the thesis' printed results computes, that is
            `residual="normalized"`, and attention to the memory with one head whose result is
            reshaped across tokens and features. `"corrected"`: `residual="identity"`, and heads
            that are split and merged as they should be; see `layers.SourceAttention`.
        project_cross_attention: Whether the decoder's attention to the memory has projections for
            queries, keys and values, which the thesis leaves out.
        attention_scale: What products of queries and keys are multiplied by in encoder and
            Runge-Kutta blocks; by default the head's width to the power -1/2. Circuits' values lie
            in [-1, 1], and with that default no score differs from another by more than twice the
            root of the width: a larger scale lets attention choose.
        pooling: How tokens become the features that are classified: `"mean"`, or `"depthwise"`
            for learned weights of places, see `layers.GlobalDepthwisePooling`.
        depth_multiplier: How many sums of each feature `"depthwise"` makes.
        quantum: `False` for the classical twin, with Dense layers for circuits.
        template: Name of a circuit template, see `qrkt_keras.circuits.templates.list()`, or a
            `CircuitSpec` that fits both `hidden_dim` and `mlp_dim`; `"identity"` for none, a
            control for what the circuits buy.
        num_ansatz_layers: Layers of the template.
        trainable_encoding: Whether a Dense layer makes the angles that the circuits of attention
            encode, see `layers.projection.Projection`; otherwise features are angles.
        trainable_circuits: `False` leaves the circuits' angles as they are drawn, a control for
            what training them buys.
        engine: Engine that computes the circuits, see `qrkt_keras.execution.ENGINES`.
        dropout: Rate of dropout after the embedding, on the attention weights and on each branch.
        epsilon: Of all layer normalisations.
        mean: Subtracted from the pixels in [0, 1]; a number, or one a channel.
        std: What the pixels are divided by then; a number, or one a channel.
        label_names: Names of the classes, for SavedModels. By default their numbers.
        dtype: Dtype policy; by default Keras' global one.
        name: Name of the model.
        trainable: Whether the weights are trained.

    Call arguments:
        inputs: Images of shape `(B, height, width, channels)`: floats in [0, 1], or uint8 in
            0..255. `predict` checks the values, other calls only the form.
        training: Whether dropout is applied.

    Returns:
        Logits, a float tensor of shape `(B, num_classes)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or does not fit another one.
        UnsupportedCircuitError: If the engine refuses a circuit.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import QViT
    >>> model = QViT(
    ...     (28, 28, 1), 10, patch_size=14, hidden_dim=6, num_heads=2, mlp_dim=3,
    ...     num_encoder_blocks=0, num_ode_blocks=3, num_decoder_blocks=1, solver="rk1",
    ... )
    >>> model.count_params(), model.num_qubits
    (2872, 114)
    >>> model(np.zeros((2, 28, 28, 1), "uint8")).shape
    TensorShape([2, 10])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        *,
        patch_size: int,
        patch_stride: int | None = None,
        hidden_dim: int,
        num_heads: int,
        mlp_dim: int,
        num_encoder_blocks: int,
        num_ode_blocks: int,
        num_decoder_blocks: int,
        solver: Solver | Sequence[Solver] = "rk4",
        share_weights: bool = False,
        residual: str | None = None,
        variant: str = "corrected",
        project_cross_attention: bool = False,
        attention_scale: float | None = None,
        pooling: str = "mean",
        depth_multiplier: int = 1,
        quantum: bool = True,
        template: str | CircuitSpec | Mapping[str, str] = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        trainable_circuits: bool = True,
        engine: str = "auto",
        dropout: float = 0.1,
        epsilon: float = 1e-6,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        label_names: Sequence[str] | None = None,
        dtype: Any = None,
        name: str | None = "qvit",
        trainable: bool = True,
    ) -> None:
        image_shape = image_shape_of(image_shape)
        num_classes = number_of_classes(num_classes)
        patch_size = positive_integer("patch_size", patch_size)
        if patch_stride is not None:
            patch_stride = positive_integer("patch_stride", patch_stride)
        grid = grid_of_patches(image_shape[:2], patch_size, patch_stride or patch_size)
        transformer = Transformer(
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            num_encoder_blocks=num_encoder_blocks,
            num_ode_blocks=num_ode_blocks,
            num_decoder_blocks=num_decoder_blocks,
            solver=solver,
            share_weights=share_weights,
            residual=residual,
            variant=variant,
            project_cross_attention=project_cross_attention,
            attention_scale=attention_scale,
            quantum=quantum,
            template=template,
            num_ansatz_layers=num_ansatz_layers,
            trainable_encoding=trainable_encoding,
            trainable_circuits=trainable_circuits,
            engine=engine,
            dropout=dropout,
            epsilon=epsilon,
        )
        choice("pooling", pooling, POOLINGS)
        depth_multiplier = positive_integer("depth_multiplier", depth_multiplier)
        if pooling == "mean" and depth_multiplier != 1:
            raise ValueError(
                'There is one mean: `depth_multiplier` belongs to pooling="depthwise". '
                f"Received: depth_multiplier={depth_multiplier} with pooling='mean'"
            )
        mean = _per_channel("mean", mean, image_shape[-1])
        std = _per_channel("std", std, image_shape[-1])
        if not np.all(np.asarray(std) > 0):
            raise ValueError(f"`std` must be positive. Received: std={std}")
        label_names = names_of_labels(label_names, num_classes)
        policy = dtype_policy(dtype)

        def embedding(name: str) -> PatchEmbedding:
            return PatchEmbedding(
                patch_size,
                transformer.hidden_dim,
                stride=patch_stride,
                dropout=transformer.dropout,
                dtype=policy,
                name=name,
            )

        full = full_precision(policy)
        images = keras.Input(image_shape, dtype=full, name="images")
        pixels = images
        if np.any(np.asarray(mean) != 0) or np.any(np.asarray(std) != 1):
            pixels = (images - np.asarray(mean, full)) / np.asarray(std, full)
        tokens = transformer.encode(embedding("source_embedding")(pixels), policy)
        if transformer.num_decoder_blocks:
            target = embedding("target_embedding")(pixels)
            tokens = transformer.decode(target, tokens, policy)
            tokens = transformer.normalization("target_normalization", policy)(tokens)
        if pooling == "mean":
            features = mean_over_tokens(tokens, policy)
        else:
            pool = GlobalDepthwisePooling(depth_multiplier, dtype=policy, name="pooling")
            features = pool(tokens)
        super().__init__(
            images,
            logits(features, num_classes, policy),
            transformer,
            num_classes=num_classes,
            label_names=label_names,
            policy=policy,
            name=name,
            trainable=trainable,
        )
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.patch_stride = patch_stride
        self.pooling = pooling
        self.depth_multiplier = depth_multiplier
        self.mean = mean
        self.std = std
        self._grid = grid

    @property
    def num_tokens(self) -> int:
        """Tokens of one image: its patches."""
        return self._grid[0] * self._grid[1]

    def _own_config(self) -> dict[str, Any]:
        return {
            "image_shape": list(self.image_shape),
            "patch_size": self.patch_size,
            "patch_stride": self.patch_stride,
            "pooling": self.pooling,
            "depth_multiplier": self.depth_multiplier,
            "mean": listed(self.mean),
            "std": listed(self.std),
        }


def _per_channel(name: str, value: Any, num_channels: int) -> float | tuple[float, ...]:
    values = value if isinstance(value, list | tuple | np.ndarray) else [value]
    good = all(
        isinstance(one, numbers.Real) and not isinstance(one, bool) and math.isfinite(one)
        for one in values
    )
    if not good or len(values) not in (1, num_channels):
        raise ValueError(
            f"`{name}` must be a number, or one for each of the {num_channels} channels. "
            f"Received: {name}={value!r}"
        )
    return tuple(float(one) for one in values) if values is value else float(value)
