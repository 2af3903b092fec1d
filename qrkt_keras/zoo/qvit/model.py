"""QViT: a quantum vision transformer whose residual connections are Runge-Kutta steps."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from qrkt_keras import solvers
from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import check_engine, make_engine
from qrkt_keras.layers import (
    PQC,
    PatchEmbedding,
    RungeKuttaTransformerBlock,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from qrkt_keras.layers.projection import (
    circuit_of_width,
    dropout_rate,
    positive_integer,
    read_template,
    template_config,
)
from qrkt_keras.layers.runge_kutta_residual import RESIDUALS, solver_config
from qrkt_keras.layers.source_attention import VARIANTS
from qrkt_keras.layers.transformer_encoder_block import EPSILON
from qrkt_keras.serving import export_saved_model
from qrkt_keras.solvers import ButcherTableau
from qrkt_keras.training import Recipe
from qrkt_keras.zoo import presets
from qrkt_keras.zoo.images import check_form, checked_pixels, dtype_name

RESIDUAL_OF_VARIANT = {"corrected": "identity", "thesis": "normalized"}

Solver = str | ButcherTableau | Mapping[str, Any]


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QViT(keras.Model):
    """A vision transformer whose projections are quantum circuits, with Runge-Kutta blocks.

    With two patch embeddings `src` and `trg` of the image, E encoder blocks, R Runge-Kutta blocks
    and D decoder blocks,

    `memory = LN(RK_R(... RK_1(ENC_E(... ENC_1(src)))))`,
    `logits = W mean_tokens(LN(DEC_D(... DEC_1(trg, memory), memory))) + b`

    With D = 0 there is no target, and `logits = W mean_tokens(memory) + b`; with R = 0 too, this is
    the plain quantum vision transformer. Sources: C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024
    (the model); Comajoan Cara et al., *Quantum vision transformers for quark-gluon
    classification*, Axioms 2024 (the plain one).

    It is an ordinary functional Keras model: `compile`, `fit`, `save` and the rest are Keras' own.
    Its outputs are logits, so a loss wants `from_logits=True`. A clone is made by
    `QViT.from_config(model.get_config())`; `keras.models.clone_model` gives up the class, and with
    it uint8 images, the engines and the checks.

    Args:
        image_shape: Height, width and channels of an image.
        num_classes: Number of classes K, at least 2.
        patch_size: Side of a patch in pixels; it must divide height and width.
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
        quantum: `False` for the classical twin, with Dense layers for circuits.
        template: Name of a circuit template, see `qrkt_keras.circuits.templates.list()`, or a
            `CircuitSpec` that fits both `hidden_dim` and `mlp_dim`.
        num_ansatz_layers: Layers of the template.
        trainable_circuits: `False` leaves the circuits' angles as they are drawn, a control for
            what training them buys.
        engine: Engine that computes the circuits, see `qrkt_keras.execution.ENGINES`.
        dropout: Rate of dropout after the embedding, on the attention weights and on each branch.
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

    recipe_class = Recipe

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        *,
        patch_size: int,
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
        quantum: bool = True,
        template: str | CircuitSpec | Mapping[str, str] = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_circuits: bool = True,
        engine: str = "auto",
        dropout: float = 0.1,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        label_names: Sequence[str] | None = None,
        dtype: Any = None,
        name: str | None = "qvit",
        trainable: bool = True,
    ) -> None:
        image_shape = _image_shape(image_shape)
        num_classes = positive_integer("num_classes", num_classes)
        if num_classes < 2:
            raise ValueError(
                f"`num_classes` must be at least 2. Received: num_classes={num_classes}"
            )
        patch_size = positive_integer("patch_size", patch_size)
        if image_shape[0] % patch_size or image_shape[1] % patch_size:
            raise ValueError(
                "`patch_size` must divide the height and the width of the image. "
                f"Received: patch_size={patch_size} with image_shape={image_shape}"
            )
        hidden_dim = positive_integer("hidden_dim", hidden_dim)
        if hidden_dim < 2:
            raise ValueError(
                "`hidden_dim` must be at least 2: the normalisation of a single feature is always "
                f"0. Received: hidden_dim={hidden_dim}"
            )
        num_heads = positive_integer("num_heads", num_heads)
        if hidden_dim % num_heads:
            raise ValueError(
                "`num_heads` must divide `hidden_dim`. "
                f"Received: num_heads={num_heads} with hidden_dim={hidden_dim}"
            )
        mlp_dim = positive_integer("mlp_dim", mlp_dim)
        num_encoder_blocks = _count("num_encoder_blocks", num_encoder_blocks)
        num_ode_blocks = _count("num_ode_blocks", num_ode_blocks)
        num_decoder_blocks = _count("num_decoder_blocks", num_decoder_blocks)
        solver_of_block = _solver_of_block(solver, num_ode_blocks)
        share_weights = _flag("share_weights", share_weights)
        variant = _choice("variant", variant, VARIANTS)
        if residual is not None:
            _choice("residual", residual, RESIDUALS)
        quantum = _flag("quantum", quantum)
        num_ansatz_layers = positive_integer("num_ansatz_layers", num_ansatz_layers)
        template = read_template(template, num_ansatz_layers)
        trainable_circuits = _flag("trainable_circuits", trainable_circuits)
        check_engine(engine)
        dropout = dropout_rate(dropout)
        mean = _per_channel("mean", mean, image_shape[-1])
        std = _per_channel("std", std, image_shape[-1])
        if not np.all(np.asarray(std) > 0):
            raise ValueError(f"`std` must be positive. Received: std={std}")
        label_names = _label_names(label_names, num_classes)
        try:
            policy = keras.dtype_policies.get(dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`dtype` must be a dtype policy. Received: dtype={dtype!r}"
            ) from error

        specs = {}
        if quantum:
            for part, width in (("attention", hidden_dim), ("feed_forward", mlp_dim)):
                specs[part] = circuit_of_width(template, width, num_ansatz_layers)
                make_engine(specs[part], engine)

        settings = {
            "quantum": quantum,
            "template": template,
            "num_ansatz_layers": num_ansatz_layers,
            "engine": engine,
            "dropout": dropout,
            "dtype": policy,
        }

        def embedding(name: str) -> PatchEmbedding:
            return PatchEmbedding(patch_size, hidden_dim, dropout=dropout, dtype=policy, name=name)

        def normalization(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=policy, name=name)

        # Pixels and logits are never held in half precision.
        full = "float64" if policy.compute_dtype == "float64" else "float32"
        images = keras.Input(image_shape, dtype=full, name="images")
        pixels = images
        if np.any(np.asarray(mean) != 0) or np.any(np.asarray(std) != 1):
            pixels = (images - np.asarray(mean, full)) / np.asarray(std, full)
        tokens = embedding("source_embedding")(pixels)
        for block in range(num_encoder_blocks):
            layer = TransformerEncoderBlock(
                num_heads, mlp_dim, name=f"encoder_{block + 1}", **settings
            )
            tokens = layer(tokens)
        for block, tableau in enumerate(solver_of_block):
            layer = RungeKuttaTransformerBlock(
                num_heads,
                mlp_dim,
                solver=tableau,
                share_weights=share_weights,
                residual=residual or RESIDUAL_OF_VARIANT[variant],
                name=f"ode_{block + 1}",
                **settings,
            )
            tokens = layer(tokens)
        tokens = normalization("source_normalization")(tokens)
        if num_decoder_blocks:
            memory, tokens = tokens, embedding("target_embedding")(pixels)
            for block in range(num_decoder_blocks):
                layer = TransformerDecoderBlock(
                    num_heads, mlp_dim, variant=variant, name=f"decoder_{block + 1}", **settings
                )
                tokens = layer(tokens, memory)
            tokens = normalization("target_normalization")(tokens)
        features = keras.layers.GlobalAveragePooling1D(
            data_format="channels_last", dtype=policy, name="mean_over_tokens"
        )(tokens)
        logits = keras.layers.Dense(
            num_classes, kernel_initializer="lecun_normal", dtype=full, name="logits"
        )(features)

        super().__init__(inputs=images, outputs=logits, name=name, trainable=trainable)
        self.dtype_policy = policy
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.num_encoder_blocks = num_encoder_blocks
        self.num_ode_blocks = num_ode_blocks
        self.num_decoder_blocks = num_decoder_blocks
        self.solver = _solver_config(solver)
        self.share_weights = share_weights
        self.residual = residual
        self.variant = variant
        self.quantum = quantum
        self.template = template
        self.num_ansatz_layers = num_ansatz_layers
        self.trainable_circuits = trainable_circuits
        for layer in self.pqcs:
            layer.trainable = trainable_circuits
        self.engine = engine
        self.dropout = dropout
        self.mean = mean
        self.std = std
        self.label_names = label_names
        self._specs = specs
        self._num_stages = sum(tableau.num_stages for tableau in solver_of_block)
        self._jit_set_aside = False

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_form(inputs, self.image_shape)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        # Keras would convert whole numbers to floats as they are.
        if dtype_name(inputs) == "uint8":
            inputs = ops.cast(inputs, self.input.dtype) / 255.0
        return super().call(inputs, training=training, mask=mask)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Returns the logits of many images, after checking every pixel.

        Args:
            x: Images as the model takes them: an array, a tensor, a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator of batches.
            batch_size, verbose, steps, callbacks: As of `keras.Model.predict`.

        Returns:
            An array of shape `(number of images, num_classes)`.

        Raises:
            TypeError: If the images are neither floats nor uint8.
            ValueError: If their shape is wrong, or a float pixel is NaN, infinite or outside
                [0, 1].
        """
        with checked_pixels(x, self.image_shape) as x:
            if getattr(x, "shape", (None,))[0] == 0:  # of which Keras would make no batch
                return np.zeros((0, self.num_classes), self.get_layer("logits").compute_dtype)
            return super().predict(
                x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
            )

    @property
    def pqcs(self) -> tuple[PQC, ...]:
        """All circuits of the model, as layers."""
        return tuple(layer for layer in self._flatten_layers() if isinstance(layer, PQC))

    @property
    def num_qubits(self) -> int:
        """Qubits of all circuits together; 0 for the classical twin."""
        return sum(layer.num_qubits for layer in self.pqcs)

    @property
    def num_quantum_params(self) -> int:
        """How many of the weights are angles of circuits."""
        return sum(layer.count_params() for layer in self.pqcs)

    @property
    def circuit_depth(self) -> int:
        """Moments of the deepest circuit; 0 for the classical twin."""
        return max((spec.depth for spec in self._specs.values()), default=0)

    @property
    def circuits_per_example(self) -> int:
        """How many circuits are run for one image: one a token and projection, at every stage."""
        if not self.quantum:
            return 0
        num_tokens = math.prod(side // self.patch_size for side in self.image_shape[:2])
        per_token = 5 * (self.num_encoder_blocks + self._num_stages) + 6 * self.num_decoder_blocks
        return num_tokens * per_token

    def set_engine(self, engine: str) -> None:
        """Changes how the circuits are computed; no weight changes, trained or not.

        If one circuit refuses the engine, all stay as they were. Functions that Keras has compiled
        are compiled anew at their next use, under XLA only where the engine allows it.

        Args:
            engine: One of `qrkt_keras.execution.ENGINES`.

        Raises:
            ValueError: If there is no such engine.
            UnsupportedCircuitError: If the engine refuses a circuit.
        """
        check_engine(engine)
        for spec in self._specs.values():
            make_engine(spec, engine)
        jit_compile = self.jit_compile or self._jit_set_aside
        for layer in self.layers:
            if hasattr(layer, "set_engine"):
                layer.set_engine(engine)
        self.engine = engine
        supports_jit = all(layer.supports_jit for layer in self.pqcs)
        self.jit_compile = jit_compile and supports_jit
        self._jit_set_aside = jit_compile and not supports_jit
        self.train_function = self.test_function = self.predict_function = None

    def draw_circuit(
        self,
        format: str = "text",
        path: str | os.PathLike[str] | None = None,
        part: str = "attention",
    ) -> str | bytes:
        """Draws a circuit of the model.

        Args:
            format: `"text"`, `"svg"` or `"png"`.
            path: File that the drawing is written to, as well.
            part: `"attention"` for the circuit of the projections, on `hidden_dim` qubits, or
                `"feed_forward"`, on `mlp_dim` qubits.

        Returns:
            The drawing, text or bytes.

        Raises:
            ValueError: If the format or the part is unknown, or the model has no circuits.
        """
        part = _choice("part", part, ("attention", "feed_forward"))
        if not self.quantum:
            raise ValueError("The classical twin has no circuit to draw. Received: quantum=False")
        return self._specs[part].draw(format=format, path=path)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        *,
        engine: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes a SavedModel that stock TensorFlow can run, see `serving.export_saved_model`.

        This is Keras' method of this name, so that no SavedModel is made which cannot be loaded
        elsewhere.

        Args:
            filepath: The folder to be made.
            format: `"tf_saved_model"`, the only one.
            verbose: Whether to print where it was written.
            input_signature: `None`: the signatures are fixed.
            engine: Engine that computes the circuits there; by default the model's own, but never
                `"tfq"` unless told so.
            overwrite: Whether to replace a SavedModel that is there.

        Raises:
            ValueError: If a format or an input signature is asked for, and as
                `serving.export_saved_model`.
        """
        if format != "tf_saved_model":
            raise ValueError(f"The only format is 'tf_saved_model'. Received: format={format!r}")
        if input_signature is not None:
            raise ValueError(
                "The signatures are fixed: images of any number, as float32 and as uint8. "
                f"Received: input_signature={input_signature!r}"
            )
        written = export_saved_model(self, filepath, engine=engine, overwrite=overwrite)
        if verbose:
            print(f"SavedModel written: {written}")

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike[str], load_weights: bool = True, **overrides: Any
    ) -> QViT:
        """Makes the model of a preset, see `zoo.from_preset`.

        Args:
            preset: Name of a preset, see `zoo.list_presets`, or a folder.
            load_weights: Whether to load the preset's weights.
            **overrides: Arguments of the class, in place of the preset's.

        Returns:
            The model.

        Raises:
            PresetError: If there is no such preset, or it is damaged, or of another class.
        """
        return presets.from_preset(preset, load_weights=load_weights, expected=cls, **overrides)

    def save_to_preset(self, folder: str | os.PathLike[str], **kwargs: Any) -> Path:
        """Writes the model as a preset, see `zoo.save_to_preset`.

        Args:
            folder: The folder to be made.
            **kwargs: Of `zoo.save_to_preset`: `recipe`, `data`, `scores`, `command`, `seed`,
                `include_weights`, `overwrite`.

        Returns:
            The folder.
        """
        return presets.save_to_preset(self, folder, **kwargs)

    def summary(
        self, *args: Any, print_fn: Callable[..., Any] | None = None, **kwargs: Any
    ) -> None:
        """Prints Keras' summary, and what the model's circuits amount to.

        Args:
            print_fn: What prints; `print` by default.
            *args, **kwargs: As of `keras.Model.summary`.
        """
        super().summary(*args, print_fn=print_fn, **kwargs)
        (print_fn or print)("\n".join(self._circuit_lines()))

    def _circuit_lines(self) -> list[str]:
        quantum, total = self.num_quantum_params, self.count_params()
        lines = [f" Parameters: {quantum:,} quantum (angles), {total - quantum:,} classical"]
        if not self.quantum:
            return [*lines, " Circuits: none, this is the classical twin"]
        circuits = ", ".join(
            f"{part.replace('_', '-')} {spec.num_qubits} qubits and depth {spec.depth}"
            for part, spec in self._specs.items()
        )
        engines = ", ".join(sorted({layer.plan.engine for layer in self.pqcs}))
        return [
            *lines,
            f" Circuits: {circuits}",
            f" Qubits: {self.num_qubits:,} in all circuits together",
            f" Circuits run per image: {self.circuits_per_example:,}",
            f" Engine: {self.engine}" + (f" ({engines})" if engines != self.engine else ""),
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            "image_shape": _listed(self.image_shape),
            "num_classes": self.num_classes,
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "num_encoder_blocks": self.num_encoder_blocks,
            "num_ode_blocks": self.num_ode_blocks,
            "num_decoder_blocks": self.num_decoder_blocks,
            "solver": _listed(self.solver),
            "share_weights": self.share_weights,
            "residual": self.residual,
            "variant": self.variant,
            "quantum": self.quantum,
            "template": template_config(self.template),
            "num_ansatz_layers": self.num_ansatz_layers,
            "trainable_circuits": self.trainable_circuits,
            "engine": self.engine,
            "dropout": self.dropout,
            "mean": _listed(self.mean),
            "std": _listed(self.std),
            "label_names": _listed(self.label_names),
            "dtype": self.dtype_policy.name,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> QViT:
        return cls(**config)


def _image_shape(shape: Any) -> tuple[int, int, int]:
    if not isinstance(shape, str) and hasattr(shape, "__iter__"):
        shape = tuple(shape)  # an array's or a tensor's shape is welcome
    whole = isinstance(shape, tuple) and all(
        isinstance(size, numbers.Integral) and not isinstance(size, bool) and size > 0
        for size in shape
    )
    if not whole or len(shape) != 3:
        raise ValueError(
            "`image_shape` must be (height, width, channels), positive integers. "
            f"Received: image_shape={shape!r}"
        )
    return tuple(int(size) for size in shape)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(f"`{name}` must be an integer of at least 0. Received: {name}={value!r}")
    return int(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def _solver_of_block(solver: Any, num_ode_blocks: int) -> list[ButcherTableau]:
    if not isinstance(solver, list | tuple):
        return [solvers.get(solver)] * num_ode_blocks
    if len(solver) != num_ode_blocks:
        raise ValueError(
            "A list of solvers must have one a Runge-Kutta block. "
            f"Received: {len(solver)} solvers with num_ode_blocks={num_ode_blocks}"
        )
    return [solvers.get(one) for one in solver]


def _solver_config(solver: Any) -> Any:
    if isinstance(solver, list | tuple):
        return tuple(solver_config(solvers.get(one)) for one in solver)
    return solver_config(solvers.get(solver))


def _listed(value: Any) -> Any:
    """A tuple as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


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


def _label_names(names: Any, num_classes: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    if (
        not isinstance(names, list | tuple)
        or len(names) != num_classes
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"`label_names` must be a list of {num_classes} texts, one a class. "
            f"Received: label_names={names!r}"
        )
    return tuple(names)
