"""Losses of generative adversarial networks, and the penalties that keep the critic smooth."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qrkt_keras.training.tfgan import tfgan_modules

if TYPE_CHECKING:
    import tensorflow as tf


class TFGANLosses(NamedTuple):
    """What TF-GAN calls the two sides of a loss."""

    discriminator: str
    generator: str


#: The losses by name, and what TF-GAN calls their two sides.
GAN_LOSSES: Mapping[str, TFGANLosses] = types.MappingProxyType(
    {
        "minimax": TFGANLosses("minimax_discriminator_loss", "minimax_generator_loss"),
        "non_saturating": TFGANLosses("modified_discriminator_loss", "modified_generator_loss"),
        "wasserstein": TFGANLosses("wasserstein_discriminator_loss", "wasserstein_generator_loss"),
        "hinge": TFGANLosses(
            "wasserstein_hinge_discriminator_loss", "wasserstein_hinge_generator_loss"
        ),
        "least_squares": TFGANLosses(
            "least_squares_discriminator_loss", "least_squares_generator_loss"
        ),
    }
)
_CROSS_ENTROPIES = ("minimax", "non_saturating")


@dataclasses.dataclass(frozen=True)
class GANLoss:
    """One of the usual losses of a GAN, for its discriminator and for its generator.

    With `r = D(x)` and `f = D(G(z))` the logits, `E` the mean over the batch, and `σ` the logistic
    function, both sides are minimised:

    | name | discriminator | generator |
    |---|---|---|
    | `"minimax"` | `-E log σ(r) - E log(1 - σ(f))` | `E log(1 - σ(f))` |
    | `"non_saturating"` | the same | `-E log σ(f)` |
    | `"wasserstein"` | `E f - E r` | `-E f` |
    | `"hinge"` | `E max(0, 1 - r) + E max(0, 1 + f)` | `-E f` |
    | `"least_squares"` | `E (r - 1)² / 2 + E f² / 2` | `E (f - 1)² / 2` |

    Sources: Goodfellow et al. 2014 (arXiv 1406.2661) for the first two, Arjovsky et al. 2017
    (1701.07875), Miyato et al. 2018 (1802.05957), Mao et al. 2017 (1611.04076). `GAN_LOSSES` tells
    TF-GAN's names for them. TF-GAN computes them too, with two differences:

    - TF-GAN smooths the labels of both cross-entropies by 0.25 unless told otherwise. Here the
      default is 0.
    - TF-GAN adds the constant `log σ(1) = -0.313` to the generator's minimax loss. Here it has
      the value of the table; the gradients are the same.

    The thesis' cross-entropies carry a factor 1/2 on both sides: halve these for them.

    Args:
        name: One of the names in the table.
        label_smoothing: `s` in [0, 1], for the cross-entropies only: the discriminator's label of
            real examples is `1 - s / 2` instead of 1. (TensorFlow smooths towards 1/2, so TF-GAN's
            default of 0.25 means 0.875.) Labels of generated examples stay 0 (Salimans et al. 2016,
            1606.03498), and the generator's loss knows no smoothing.

    Raises:
        ValueError: If there is no loss of that name, or `label_smoothing` is out of range or has no
            meaning for it.

    Example:

    >>> loss = GANLoss("wasserstein")
    >>> loss.discriminator([2.0, 4.0], [1.0, 0.0]).numpy().item()
    -2.5
    >>> loss.generator([1.0, 0.0]).numpy().item()
    -0.5
    """

    name: str
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in GAN_LOSSES:
            raise ValueError(
                f"A GAN's loss must be one of {', '.join(GAN_LOSSES)}. Received: {self.name!r}"
            )
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(
                f"label_smoothing must be between 0 and 1. Received: {self.label_smoothing}"
            )
        if self.label_smoothing and self.name not in _CROSS_ENTROPIES:
            raise ValueError(
                f"Only {' and '.join(_CROSS_ENTROPIES)} have labels to smooth. "
                f"Received: label_smoothing={self.label_smoothing} with {self.name!r}"
            )

    def discriminator(self, real_logits: Any, fake_logits: Any) -> tf.Tensor:
        """The discriminator's loss.

        Args:
            real_logits: Floats `(B,)`, `(B, 1)` or, with one logit a patch, `(B, ...)`: `D(x)`.
            fake_logits: Floats of the same shape: `D(G(z))`.

        Returns:
            A scalar, computed in float32, as TF-GAN does.

        Raises:
            ValueError: If the shapes differ, or the logits are not floats.
        """
        real = _to_float32("real_logits", real_logits)
        fake = _to_float32("fake_logits", fake_logits)
        if not real.shape.is_compatible_with(fake.shape):
            raise ValueError(
                "real_logits and fake_logits must have the same shape. "
                f"Received: {real.shape} and {fake.shape}"
            )
        function = getattr(tfgan_modules().losses_impl, GAN_LOSSES[self.name].discriminator)
        options = {}
        if self.name in _CROSS_ENTROPIES:
            options["label_smoothing"] = self.label_smoothing
        # Without a collection: TensorFlow 1's would keep the loss with the graph.
        return function(real, fake, loss_collection=None, **options)

    def generator(self, fake_logits: Any) -> tf.Tensor:
        """The generator's loss.

        Args:
            fake_logits: Floats `(B,)`, `(B, 1)` or, with one logit a patch, `(B, ...)`: `D(G(z))`.

        Returns:
            A scalar, computed in float32, as TF-GAN does.

        Raises:
            ValueError: If the logits are not floats.
        """
        import tensorflow as tf

        fake = _to_float32("fake_logits", fake_logits)
        if self.name == "minimax":
            # TF-GAN's has a constant too many; log(1 - σ(f)) = -softplus(f).
            return -tf.reduce_mean(tf.nn.softplus(fake))
        function = getattr(tfgan_modules().losses_impl, GAN_LOSSES[self.name].generator)
        return function(fake, loss_collection=None)


def gradient_penalty(
    discriminator: Callable[[tf.Tensor], tf.Tensor],
    real: Any,
    fake: Any,
    alpha: Any,
    *,
    weight: float = 10.0,
    target: float = 1.0,
    one_sided: bool = False,
) -> tf.Tensor:
    """Penalty on the norm of the discriminator's gradient between real and generated examples.

    `λ / φ² · E (‖∇D(x̂)‖₂ - φ)²` with `x̂ = α x + (1 - α) G(z)`, or, one-sided,
    `λ / φ² · E max(0, ‖∇D(x̂)‖₂ - φ)²`. Sources: Gulrajani et al. 2017 (arXiv 1704.00028) with
    `φ = 1`; Karras et al. 2018 (1710.10196) for `φ`; Petzka et al. 2018 (1709.08894) for the
    one-sided form. It is TF-GAN's `wasserstein_gradient_penalty` times `λ`, which works neither
    eagerly nor with Keras 3. The thesis' `λ E (‖∇D(x̂)‖₂ - k)²` is `weight=λ * k**2, target=k`.

    Where the gradient is zero, the norm has no derivative, and its formula's is infinite. Here the
    derivative is 0 at that point, which is one of the norm's subgradients. So nothing is added
    under the root (TF-GAN adds 1e-10), and values are those of the formula.

    The norm is that of each example's own gradient. The discriminator must therefore not mix the
    examples of a batch, as batch normalisation does.

    Args:
        discriminator: `D`, from a batch of examples to its logits, `(B,)` or `(B, 1)`;
            augmentation that is part of it is applied to `x̂` too. Of several logits an example,
            their sum counts.
        real: Floats `(B, ...)`, the real examples `x`, with at least one axis beside the batch's.
        fake: Floats of the same shape, the generated examples `G(z)`.
        alpha: Floats `(B,)`, or `(B, 1, ..., 1)`: `α`, one an example, drawn uniformly from [0, 1].
        weight: `λ`.
        target: `φ`, the wanted norm, positive.
        one_sided: Whether to penalise only norms above `target`.

    Returns:
        A scalar, float64 where `real` is, else float32. It can be differentiated by the
        discriminator's weights, eagerly, in a graph and under XLA.

    Raises:
        ValueError: If shapes do not fit, examples are not floats, `target` is not positive, or the
            discriminator's output does not depend on its input.

    Example:

    >>> import tensorflow as tf
    >>> x = tf.ones((2, 3))
    >>> gradient_penalty(lambda x: 2.0 * x[:, 0], x, -x, [0.0, 0.5]).numpy().item()
    10.0
    """
    import tensorflow as tf

    if not target > 0:
        raise ValueError(f"target must be positive. Received: {target}")
    real, fake = _to_float("real", real), _to_float("fake", fake)
    fake, alpha = tf.cast(fake, real.dtype), tf.cast(alpha, real.dtype)
    if (
        real.shape.rank is None
        or real.shape.rank < 2
        or not real.shape.is_compatible_with(fake.shape)
    ):
        raise ValueError(
            "real and fake must have the same shape (B, ...), with at least one axis beside the "
            f"batch's. Received: {real.shape} and {fake.shape}"
        )
    ones = [1] * (real.shape.rank - 1)
    batch = real.shape[:1]
    if not any(alpha.shape.is_compatible_with(batch + more) for more in ([], ones)):
        raise ValueError(
            f"alpha must have one number an example, so shape {batch}. Received: {alpha.shape}"
        )
    alpha = tf.reshape(alpha, [-1, *ones])
    between = alpha * real + (1 - alpha) * fake

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(between)
        logits = discriminator(between)
    gradients = tape.gradient(logits, between)
    if gradients is None:
        raise ValueError(
            "The discriminator's output must depend on its input by differentiable operations. "
            f"Received: {discriminator}, which has no gradient"
        )
    squares = tf.reduce_sum(tf.square(gradients), axis=list(range(1, real.shape.rank)))
    # The root's infinite derivative at zero must not be met at all: infinity times 0 is NaN.
    positive = squares > 0
    norms = tf.where(positive, tf.sqrt(tf.where(positive, squares, 1)), 0)
    excess = norms / target - 1
    if one_sided:
        excess = tf.maximum(excess, 0)
    return weight * tf.reduce_mean(tf.square(excess))


def drift_penalty(real_logits: Any, weight: float = 1e-3) -> tf.Tensor:
    """Penalty that keeps a Wasserstein critic's values near zero, which its loss leaves free.

    `w (E D(x))²`, the square of the batch's mean, as in the thesis and in TransGAN's recipe.
    Karras et al. 2018 (arXiv 1710.10196) have the mean of the squares, `w E D(x)²`.

    Args:
        real_logits: Floats `(B,)` or `(B, 1)`: `D(x)`.
        weight: `w`.

    Returns:
        A scalar, float64 where the logits are, else float32.

    Raises:
        ValueError: If the logits are not floats.

    Example:

    >>> round(drift_penalty([10.0, 30.0]).numpy().item(), 6)
    0.4
    """
    import tensorflow as tf

    return weight * tf.square(tf.reduce_mean(_to_float("real_logits", real_logits)))


def _to_float(name: str, values: Any) -> tf.Tensor:
    """The values as a tensor of float64 where they are that, else of float32."""
    import tensorflow as tf

    tensor = tf.convert_to_tensor(values)
    # Integers too are refused: images of 0 to 255 beside generated ones would pass unseen.
    if not tensor.dtype.is_floating:
        raise ValueError(f"{name} must be floats. Received: dtype {tensor.dtype.name}")
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


def _to_float32(name: str, values: Any) -> tf.Tensor:
    import tensorflow as tf

    return tf.cast(_to_float(name, values), tf.float32)
