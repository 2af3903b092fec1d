"""Differentiable augmentation of real and generated images."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

OPERATIONS = ("translation", "cutout", "color")


@keras.saving.register_keras_serializable(package="qrkt_keras")
class DiffAugment(keras.layers.Layer):
    """Augments images differentiably, as the discriminator of a GAN needs it.

    Per sample, for pixels `i, j`, channels `c` and images `x` of `S` pixels along an axis, in the
    order of `policy`, without clipping of values (`floor(u + 1/2)` rounds `u`):

    - `translation`: `x[i, j] <- x[i - dy, j - dx]`, 0 from outside, with integers `dy`, `dx`
      uniform on `-s..s`, `s = floor(translation * S + 1/2)`.
    - `cutout`: `x <- 0` on `c - a//2 .. c - a//2 + a - 1` along both axes, clipped at the border,
      with `a = floor(cutout * S + 1/2)` and the centre `c` uniform on `0..S` where `a` is even, on
      `0..S - 1` where it is odd. With `cutout_probability`, drawn once for the whole batch.
    - `color`: brightness `x <- x + U(-1/2, 1/2)`, then saturation
      `x <- (x - m) * U(0, 2) + m` with `m` a pixel's mean over its channels, then contrast
      `x <- (x - m) * U(1/2, 3/2) + m` with `m` the mean of the image.

    Everything is linear in the image but for brightness' constant, so derivatives of any order go
    through. Source: Zhao et al., *Differentiable Augmentation for Data-Efficient GAN Training*,
    NeurIPS 2020. Give it real and generated images alike, in the steps of both networks.
    `DiffAugment(**DiffAugment.TRANSGAN)` has the settings of Jiang et al., *TransGAN*, NeurIPS
    2021.

    Args:
        policy: What is done, in order: names from `translation`, `cutout` and `color`, each at
            most once, with commas between; `""` leaves images as they are.
        translation: Largest shift as a fraction of the side, in [0, 1].
        cutout: Side of the square as a fraction of the image's, in [0, 1].
        cutout_probability: Probability that a batch is cut at all, in [0, 1].
        seed: Seed of the draws, at least 0; `None` for one of Keras' own.

    Call arguments:
        inputs: Images, a tensor of shape `(B, height, width, channels)`, usually in [-1, 1].
        training: `False` returns the images unchanged; otherwise they are augmented.

    Returns:
        A tensor of the shape of `inputs`, not clipped to any range. It is computed in at least
        float32.

    Raises:
        ValueError: If an argument is out of its range, or the input is not a batch of images of
            known size.

    Example:

    >>> import numpy as np
    >>> from qrkt_keras.layers import DiffAugment
    >>> augment = DiffAugment(**DiffAugment.TRANSGAN, seed=1)
    >>> images = np.zeros((8, 32, 32, 3))
    >>> augment(images).shape
    TensorShape([8, 32, 32, 3])
    >>> bool(np.any(augment(images, training=False)))
    False
    """

    TRANSGAN = MappingProxyType(
        {"policy": "translation,cutout,color", "translation": 0.2, "cutout_probability": 0.3}
    )

    def __init__(
        self,
        policy: str = "translation,cutout,color",
        *,
        translation: float = 0.125,
        cutout: float = 0.5,
        cutout_probability: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _operations(policy)
        self.policy = policy
        self.translation = fraction("translation", translation)
        self.cutout = fraction("cutout", cutout)
        self.cutout_probability = fraction("cutout_probability", cutout_probability)
        self.seed = checked_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_images(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        check_images(inputs.shape)
        if training is not None and not training:
            return inputs
        # Means over an image and sums with a draw lose too much in a half type.
        half = self.compute_dtype in ("float16", "bfloat16")
        images = ops.cast(inputs, "float32" if half else self.compute_dtype)
        augment = {
            "translation": self._translate,
            "cutout": self._cut_out,
            "color": self._color,
        }
        for name in _operations(self.policy):
            images = augment[name](images)
        return ops.cast(images, self.compute_dtype)

    def _translate(self, images: Any) -> Any:
        most = [rounded(self.translation * size) for size in images.shape[1:3]]
        dy, dx = (self._integers(ops.shape(images)[:1], -limit, limit) for limit in most)
        return translate(images, dy, dx)

    def _cut_out(self, images: Any) -> Any:
        sizes = images.shape[1:3]
        sides = [rounded(self.cutout * size) for size in sizes]
        y, x = (
            self._integers(ops.shape(images)[:1], 0, size - side % 2)
            for size, side in zip(sizes, sides, strict=True)
        )
        chosen = self._reals((), 0.0, 1.0) < self.cutout_probability
        # A square centred its whole side above the image covers none of it.
        return cut_out(images, ops.where(chosen, y, -sides[0]), x, sides)

    def _color(self, images: Any) -> Any:
        batch = ops.shape(images)[:1]
        images = brightness(images, self._reals(batch, -0.5, 0.5))
        images = saturation(images, self._reals(batch, 0.0, 2.0))
        return contrast(images, self._reals(batch, 0.5, 1.5))

    def _integers(self, shape: Any, least: int, most: int) -> Any:
        return keras.random.randint(shape, least, most + 1, seed=self.seed_generator)

    def _reals(self, shape: Any, least: float, most: float) -> Any:
        # Of integers, which TensorFlow draws alike with XLA and without; real numbers it does not.
        fraction = ops.cast(self._integers(shape, 0, 2**24 - 1), "float32") / 2**24
        return least + (most - least) * fraction

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        check_images(input_shape)
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "policy": self.policy,
            "translation": self.translation,
            "cutout": self.cutout,
            "cutout_probability": self.cutout_probability,
            "seed": self.seed,
        }


def _operations(policy: str) -> list[str]:
    """Returns the names in a policy, or refuses it."""
    names = policy.split(",") if isinstance(policy, str) and policy else []
    if not isinstance(policy, str) or set(names) - set(OPERATIONS) or len(names) > len(set(names)):
        raise ValueError(
            f"`policy` must name some of {', '.join(OPERATIONS)}, each at most once, with commas "
            f"and no spaces between. Received: policy={policy!r}"
        )
    return names


def fraction(name: str, value: Any) -> float:
    """The argument as a number in [0, 1], or an error."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be between 0 and 1. Received: {name}={value!r}")
    return float(value)


def checked_seed(seed: Any) -> int | None:
    """The seed of a layer, or an error."""
    if seed is not None and (
        isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0
    ):
        raise ValueError(f"`seed` must be None or an integer >= 0. Received: seed={seed!r}")
    return None if seed is None else int(seed)


def check_images(shape: tuple[int | None, ...]) -> None:
    """Refuses a shape that is not a batch of images of known size."""
    if len(shape) != 4 or not all(shape[1:]):
        raise ValueError(
            "Images must be (batch, height, width, channels), of known size. "
            f"Received: input shape {tuple(shape)}"
        )


def rounded(length: float) -> int:
    """The nearest whole number of pixels."""
    # Half a pixel goes up, as in the original; Python's `round` takes it to the even number.
    return int(length + 0.5)


def _per_sample(draws: Any, images: Any) -> Any:
    return ops.cast(draws, images.dtype)[:, None, None, None]


def brightness(images: Any, shift: Any) -> Any:
    """Returns `x + shift`, for images `(B, H, W, C)` and one shift a sample, `(B,)`."""
    return images + _per_sample(shift, images)


def saturation(images: Any, factor: Any) -> Any:
    """Returns `(x - m) * factor + m`, where `m` is the mean of each pixel's channels.

    Images are `(B, H, W, C)`, factors `(B,)`.
    """
    mean = ops.mean(images, axis=-1, keepdims=True)
    return (images - mean) * _per_sample(factor, images) + mean


def contrast(images: Any, factor: Any) -> Any:
    """Returns `(x - m) * factor + m`, where `m` is the mean of each image.

    Images are `(B, H, W, C)`, factors `(B,)`.
    """
    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * _per_sample(factor, images) + mean


def translate(images: Any, dy: Any, dx: Any) -> Any:
    """Returns `y[i, j] = x[i - dy, j - dx]`, with 0 for what comes from outside.

    Images are `(B, H, W, C)`, shifts integers `(B,)`.
    """
    # A gather copies, so that pixels are exact; products with one-hot matrices are rounded where
    # devices multiply in TF32 or bfloat16, and took half as long again. Its own gradient is a
    # scatter, which under XLA took five times as long; but a shift's transpose is the shift back.
    # Torch keeps it, because its custom functions have no second derivative.
    shift = _gather_shifted if keras.backend.backend() == "torch" else _shifted
    # Real, because JAX wants a gradient by every argument, and has none by integers.
    return shift(images, ops.cast(dy, images.dtype), ops.cast(dx, images.dtype))


@ops.custom_gradient
def _shifted(images: Any, dy: Any, dx: Any) -> Any:
    def backward(*arguments, upstream=None):
        cotangent = arguments[0] if upstream is None else upstream
        return _shifted(cotangent, -dy, -dx), ops.zeros_like(dy), ops.zeros_like(dx)

    return _gather_shifted(images, dy, dx), backward


def _gather_shifted(images: Any, dy: Any, dx: Any) -> Any:
    return gather_shifted(images, dy, dx, "constant")


def gather_shifted(images: Any, dy: Any, dx: Any, padding: str) -> Any:
    """Returns `y[i, j] = x[i - dy, j - dx]`, with `padding` for what comes from outside.

    Images are `(B, H, W, C)` of any type, shifts integers `(B,)`, paddings those of NumPy's `pad`:
    `constant` (0), `edge`, or `reflect`, for which shifts must be smaller than the side. The
    gradient is a scatter; `translate` has a faster one.
    """
    # One axis after the other, because slices are longer: on a CPU two to four times as fast as to
    # gather pixels one by one.
    images = _gather_rows(images, dy, padding)
    turned = ops.transpose(images, (0, 2, 1, 3))
    return ops.transpose(_gather_rows(turned, dx, padding), (0, 2, 1, 3))


def _gather_rows(images: Any, shift: Any, padding: str) -> Any:
    """Returns `y[i] = x[i - shift]` along the first axis of each image."""
    size = images.shape[1]
    # Within a frame of zeros, where every index from outside is sent.
    framed = ops.pad(images, ((0, 0), (1, 1), (0, 0), (0, 0)))
    places = ops.arange(1, size + 1) - ops.cast(shift, "int32")[:, None]
    if padding == "reflect":
        places = size - ops.abs(size - 1 - ops.abs(places - 1))
    else:
        frame = 0 if padding == "constant" else 1
        places = ops.clip(places, frame, size + 1 - frame)
    rows = ops.arange(ops.shape(images)[0])[:, None] * (size + 2) + places
    return ops.take(ops.reshape(framed, (-1, *images.shape[2:])), rows, axis=0)


def cut_out(images: Any, y: Any, x: Any, sides: Sequence[int]) -> Any:
    """Returns the images with 0 in a rectangle, as much of it as lies inside.

    Along each axis it covers `c - side // 2 .. c - side // 2 + side - 1`. Images are
    `(B, H, W, C)`, centres `y` and `x` integers `(B,)`, `sides` the height and the width.
    """

    def covered(centre: Any, side: int, size: int) -> Any:
        offset = ops.arange(size) - ops.cast(centre, "int32")[:, None] + side // 2
        return ops.logical_and(offset >= 0, offset < side)

    rows = covered(y, sides[0], images.shape[1])[:, :, None, None]
    columns = covered(x, sides[1], images.shape[2])[:, None, :, None]
    # A product, because TensorFlow's `where` takes up to twice the time.
    kept = ops.logical_not(ops.logical_and(rows, columns))
    return images * ops.cast(kept, images.dtype)
