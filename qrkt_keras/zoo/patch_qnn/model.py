"""PatchQNN: a distributed network of circuits, each of which reads one patch of an image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from qrkt_keras.circuits import templates
from qrkt_keras.execution import check_engine, make_engine
from qrkt_keras.layers import PQC, ImagePatches, PixelBias
from qrkt_keras.layers.image_patches import num_unused_pixels, patch_grid
from qrkt_keras.layers.projection import positive_integer, positive_number
from qrkt_keras.zoo.classifier import (
    Classifier,
    dtype_policy,
    full_precision,
    names_of_labels,
    number_of_classes,
)
from qrkt_keras.zoo.images import TakesImages, image_shape_of
from qrkt_keras.zoo.transformer import flag


@keras.saving.register_keras_serializable(package="qrkt_keras")
class PatchQNN(TakesImages, Classifier):
    """A distributed quantum network: a circuit of its own for every patch, and their mean.

    Pixels become angles, `a = max_angle * pixel`, are averaged over `pool_size x pool_size`, and
    get a learned bias each. P overlapping patches of the map are read by P circuits of one form,
    each with weights of its own, `templates.patch(num_blocks)`, and

    `logits_k = scale / P * sum_p <0| U(x_p, w_p)^dagger O_k U(x_p, w_p) |0>`

    with `O_k` = X, then Z of the first qubits. There is no classical weight but the biases. Source:
    Y. Kawase, *The effect of the number of parameters and the number of local feature patches on
    loss landscapes in distributed quantum neural networks*, 2025, arXiv 2504.19239.

    It is an ordinary functional Keras model: `compile`, `fit`, `save` and the rest are Keras' own.
    Its outputs are logits, so a loss wants `from_logits=True`. Everything in it is computed in
    float32 (or float64), under a mixed dtype policy too: there are only angles.

    Args:
        image_shape: Height, width and channels of an image.
        num_classes: Number of classes K, from 2 to twice `num_qubits_per_circuit`.
        pool_size: Side of the squares of pixels that are averaged; 1 for none.
        patch_size: Side of a patch of the averaged map.
        stride: From one patch to the next. Where it leaves pixels unused, or `pool_size` does, a
            warning says how many.
        num_blocks: The number d of entangling blocks in each of a circuit's three groups.
        num_qubits_per_circuit: Qubits of one circuit.
        scale: What the means of the circuits' values, in [-1, 1], are multiplied by.
        max_angle: The angle of a white pixel, in radians.
        quantum: `False` for the classical twin, with a Dense layer for each circuit. It has no
            non-linearity, so it is a softmax regression on the pixels.
        trainable_circuits: `False` leaves the circuits' angles as they are drawn, a control for
            what training them buys.
        engine: Engine that computes the circuits, see `qrkt_keras.execution.ENGINES`.
        label_names: Names of the classes, for SavedModels. By default their numbers.
        dtype: Dtype policy; by default Keras' global one.
        name: Name of the model.
        trainable: Whether the weights are trained.

    Call arguments:
        inputs: Images of shape `(B, height, width, channels)`: floats in [0, 1], or uint8 in
            0..255. `predict` checks the values, other calls only the form.

    Returns:
        Logits, a float tensor of shape `(B, num_classes)`; in [-scale, scale], the twin's anywhere.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or does not fit another one: the averaged map
            smaller than a patch, or more classes than a circuit has values.
        UnsupportedCircuitError: If the engine refuses the circuit.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.zoo import PatchQNN
    >>> model = PatchQNN(num_blocks=1)
    >>> model.num_patches, model.num_circuit_weights, model.count_params()
    (4, 704, 900)
    >>> model(np.zeros((2, 28, 28, 1), "uint8")).shape
    TensorShape([2, 10])
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (28, 28, 1),
        num_classes: int = 10,
        *,
        pool_size: int = 2,
        patch_size: int = 8,
        stride: int = 6,
        num_blocks: int = 50,
        num_qubits_per_circuit: int = 8,
        scale: float = 100.0,
        max_angle: float = math.pi / 4,
        quantum: bool = True,
        trainable_circuits: bool = True,
        engine: str = "auto",
        label_names: Sequence[str] | None = None,
        dtype: Any = None,
        name: str | None = "patch_qnn",
        trainable: bool = True,
    ) -> None:
        image_shape = image_shape_of(image_shape)
        num_classes = number_of_classes(num_classes)
        pool_size = positive_integer("pool_size", pool_size)
        patch_size = positive_integer("patch_size", patch_size)
        stride = positive_integer("stride", stride)
        num_blocks = positive_integer("num_blocks", num_blocks)
        num_qubits = positive_integer("num_qubits_per_circuit", num_qubits_per_circuit)
        scale, max_angle = positive_number("scale", scale), positive_number("max_angle", max_angle)
        quantum = flag("quantum", quantum)
        trainable_circuits = flag("trainable_circuits", trainable_circuits)
        label_names = names_of_labels(label_names, num_classes)
        check_engine(engine)
        if num_classes > 2 * num_qubits:
            raise ValueError(
                "A circuit has two values a qubit, X and Z, and needs one a class. Received: "
                f"num_classes={num_classes} with num_qubits_per_circuit={num_qubits}"
            )
        grid = _grid(image_shape, pool_size, patch_size, stride)
        num_patches = grid[0] * grid[1]
        specs = {}
        if quantum:
            num_features = patch_size**2 * image_shape[-1]
            specs["patch"] = templates.patch(num_blocks, num_qubits, num_features, num_classes)
            make_engine(specs["patch"], engine)
        policy = dtype_policy(dtype)
        full = full_precision(policy)

        images = keras.Input(image_shape, dtype=full, name="images")
        # Of NumPy, for Keras rounds Python's floats to float32 here.
        angles = keras.layers.Rescaling(np.float64(max_angle), dtype=full, name="angles")(images)
        if pool_size > 1:
            angles = keras.layers.AveragePooling2D(
                pool_size, data_format="channels_last", dtype=full, name="pooling"
            )(angles)
        angles = PixelBias(dtype=full, name="pixel_bias")(angles)
        with warnings.catch_warnings():
            # `_grid` has said it, of the images' own pixels.
            warnings.filterwarnings("ignore", ".*pixels are in no patch")
            patches = ImagePatches(patch_size, stride, dtype=full, name="patches")(angles)
        if quantum:
            # The weights begin as in the source, anywhere in half a turn.
            values = PQC(
                specs["patch"],
                engine=engine,
                copies=num_patches,
                per_copy_inputs=True,
                initializer=keras.initializers.RandomUniform(0.0, math.pi),
                dtype=full,
                name="circuits",
            )(patches)
        else:
            values = keras.layers.EinsumDense(
                "bpf,pfk->bpk",
                (num_patches, num_classes),
                bias_axes="pk",
                dtype=full,
                name="twins",
            )(patches)
        mean = keras.layers.GlobalAveragePooling1D(
            data_format="channels_last", dtype=full, name="mean_over_patches"
        )(values)
        super().__init__(
            images,
            keras.layers.Rescaling(np.float64(scale), dtype=full, name="logits")(mean),
            specs=specs,
            engine=engine,
            trainable_circuits=trainable_circuits,
            num_classes=num_classes,
            label_names=label_names,
            policy=policy,
            name=name,
            trainable=trainable,
        )
        self.image_shape = image_shape
        self.pool_size = pool_size
        self.patch_size = patch_size
        self.stride = stride
        self.num_blocks = num_blocks
        self.num_qubits_per_circuit = num_qubits
        self.scale = scale
        self.max_angle = max_angle
        self.quantum = quantum
        self.num_patches = num_patches

    @property
    def num_circuit_weights(self) -> int:
        """Angles of all circuits, as the source counts parameters: without the pixels' biases."""
        return self.num_quantum_params

    @property
    def circuits_per_example(self) -> int:
        """How many circuits are run for one example: one a patch."""
        return self.num_patches if self.quantum else 0

    def _own_config(self) -> dict[str, Any]:
        return {
            "image_shape": list(self.image_shape),
            "pool_size": self.pool_size,
            "patch_size": self.patch_size,
            "stride": self.stride,
            "num_blocks": self.num_blocks,
            "num_qubits_per_circuit": self.num_qubits_per_circuit,
            "scale": self.scale,
            "max_angle": self.max_angle,
            "quantum": self.quantum,
        }


def _grid(
    image_shape: tuple[int, int, int], pool_size: int, patch_size: int, stride: int
) -> tuple[int, int]:
    """Returns the number of patches down and across, in the words of the model's arguments."""
    sides = image_shape[0] // pool_size, image_shape[1] // pool_size
    if min(sides) < patch_size:
        raise ValueError(
            "The averaged image must not be smaller than a patch. "
            f"Received: patch_size={patch_size}, pool_size={pool_size} with images of "
            f"{image_shape[0]}x{image_shape[1]} pixels, averaged {sides[0]}x{sides[1]}"
        )
    height, width, _ = image_shape
    used = math.prod(sides) - num_unused_pixels(sides, patch_size, stride)
    unused = height * width - used * pool_size**2
    if unused:
        warnings.warn(
            f"{unused} of {height * width} pixels are in no patch. Received: "
            f"pool_size={pool_size}, patch_size={patch_size}, stride={stride} with images of "
            f"{height}x{width} pixels",
            stacklevel=3,
        )
    return patch_grid(sides, patch_size, stride)
