"""The space that each family of models is searched in, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qrkt_keras.tuning.space import Dimension, Space
from qrkt_keras.zoo import list_presets, read_preset

_LAYERED = ("hardware_efficient", "hardware_efficient_once")
_SEVERAL_STAGES = ("rk2", "rk3", "rk4", "rk4_enhanced")

# Blocks with circuits; there is a Runge-Kutta block always, so no model is without circuits. All
# of it trains in minutes on a CPU; more layers or qubits of entangling templates do not, nor does
# `rx_ring` of several layers.
_TRANSFORMER = (
    Dimension("num_encoder_blocks", "choice", (0, 1)),
    Dimension("num_ode_blocks", "choice", (1, 2)),
    Dimension("solver", "choice", ("rk1", *_SEVERAL_STAGES)),
    Dimension("share_weights", "choice", (False, True), when=(("solver", _SEVERAL_STAGES),)),
    Dimension("template", "choice", ("ry_ring", "rx_ring", *_LAYERED)),
    Dimension("num_ansatz_layers", "int", low=1, high=2, when=(("template", _LAYERED),)),
    Dimension("trainable_encoding", "choice", (False, True)),
    # Heads divide all widths.
    Dimension("hidden_dim", "int", low=8, high=16, step=4),
    Dimension("num_heads", "choice", (1, 2, 4)),
    Dimension("mlp_dim", "int", low=8, high=32, step=8),
    Dimension("dropout", "float", low=0.0, high=0.3, step=0.1),
)
_RECIPE = (
    Dimension("recipe.learning_rate", "float", low=1e-3, high=3e-2, log=True),
    Dimension("recipe.schedule", "choice", ("warmup_cosine", "constant", "exponential")),
    Dimension(
        "recipe.decay_rate",
        "float",
        low=0.8,
        high=0.99,
        when=(("recipe.schedule", ("exponential",)),),
    ),
    Dimension("recipe.weight_decay", "float", low=1e-4, high=1e-1, log=True),
)
_IMAGES = (Dimension("recipe.augment.shift", "int", low=0, high=2),)
_POOLED = (
    Dimension("pooling", "choice", ("mean", "depthwise")),
    Dimension("depth_multiplier", "int", low=1, high=2, when=(("pooling", ("depthwise",)),)),
    Dimension("attention_scale", "choice", (None, 2.0)),
)
_PATCH_QNN = (
    Dimension("num_blocks", "int", low=1, high=50),
    Dimension("num_qubits_per_circuit", "int", low=6, high=8),
    Dimension("scale", "float", low=10.0, high=200.0, log=True),
    Dimension("recipe.learning_rate", "float", low=1e-3, high=3e-2, log=True),
    Dimension("recipe.schedule", "choice", ("warmup_cosine", "constant")),
    Dimension("recipe.l2", "float", low=1e-6, high=1e-3, log=True),
)
_GAN_HEADS = (1, 2, 4)
_GAN = (
    Dimension("num_heads", "choice", _GAN_HEADS),
    Dimension("dropout", "float", low=0.0, high=0.5, step=0.1),
)
_GAN_WIDTHS = ("latent_dim", "widths", "discriminator_width", "discriminator_widths")
_GAN_DEPTHS = ("depths", "discriminator_depths")
_GAN_RECIPE = (
    Dimension("recipe.generator_learning_rate", "float", low=3e-4, high=1e-2, log=True),
    Dimension("recipe.discriminator_learning_rate", "float", low=3e-4, high=1e-2, log=True),
    Dimension("recipe.num_critic_steps", "int", low=1, high=5),
    Dimension("recipe.gradient_penalty_weight", "float", low=1.0, high=20.0, log=True),
    Dimension("recipe.augment", "choice", ("", "translation", "translation,cutout")),
)
_SPACES = {
    "QViT": (*_TRANSFORMER, *_POOLED, *_RECIPE, *_IMAGES),
    "QText": (*_TRANSFORMER, *_RECIPE),
    "PatchQNN": (*_PATCH_QNN, *_IMAGES),
    # Their circuits are as wide as a token, where few templates have an engine.
    "QRKTGAN": (
        Dimension("solver", "choice", ("rk1", *_SEVERAL_STAGES)),
        Dimension("template", "choice", ("ry_ring", "rx_ring")),
        Dimension("trainable_encoding", "choice", (False, True)),
        Dimension("discriminator_depth", "int", low=1, high=3),
        *_GAN,
        *_GAN_RECIPE,
    ),
    "TransGAN": (
        Dimension("mlp_ratio", "choice", (1, 2, 4)),
        *_GAN,
        *_GAN_RECIPE,
    ),
}


def default_space(class_name: str, config: Mapping[str, Any] | None = None) -> Space:
    """The space of a family.

    Args:
        class_name: Of its models, such as `"QViT"`.
        config: Arguments of such a model, as a preset has them. Of GANs, whose widths go by their
            images, they may be half as large, and stages a block deeper or less deep.

    Raises:
        ValueError: If it has none.

    Example:

    >>> [dimension.name for dimension in default_space("PatchQNN")][:2]
    ['num_blocks', 'num_qubits_per_circuit']
    >>> default_space("QRKTGAN", {"widths": [64, 16]}).to_texts()[-1]
    'widths=[64, 16],[32, 8]'
    """
    if class_name not in _SPACES:
        raise ValueError(
            f"There are spaces of {', '.join(sorted(_SPACES))}. Received: {class_name!r}"
        )
    space = Space(_SPACES[class_name])
    for dimension in _sized(class_name, config or {}):
        space = space.with_dimension(dimension)
    return space


def _sized(class_name: str, config: Mapping[str, Any]) -> Iterator[Dimension]:
    """Dimensions whose values go by the arguments of a GAN, its own first."""
    if class_name not in ("QRKTGAN", "TransGAN"):
        return
    for name in _GAN_WIDTHS:
        own = config.get(name)
        widths = own if isinstance(own, Sequence) else [own]
        # Heads divide what is halved too.
        if own is None or any(width % (2 * _GAN_HEADS[-1]) for width in widths):
            continue
        half = [width // 2 for width in widths]
        yield Dimension(name, "choice", (own, half if widths is own else half[0]))
    for name in _GAN_DEPTHS:
        if isinstance(own := config.get(name), Sequence):
            # A stage without blocks has none in all.
            others = [[max(1, depth + more) if depth else 0 for depth in own] for more in (-1, 1)]
            yield Dimension(name, "choice", (own, *(one for one in others if one != [*own])))


# A family's name on the command line, its class, and its preset where the data set has none.
_FAMILIES = {
    "qvit": ("QViT", "qvit_rk4_digits"),
    "qtext": ("QText", "qtext_rk1_imdb"),
    "patch_qnn": ("PatchQNN", "patch_qnn_p4_d1_mnist"),
    "qrkt_gan": ("QRKTGAN", "qrkt_gan_digits"),
    "trans_gan": ("TransGAN", "trans_gan_digits"),
}
FAMILIES = tuple(_FAMILIES)


def family_preset(family: str, data: str | None = None) -> str:
    """The preset that a family's searches begin with.

    Args:
        family: One of `FAMILIES`.
        data: A data set; by default that of the family's preset.

    Returns:
        The family's first preset that is trained on the data set, those of `rk4` before others; its
        own preset if there is none.

    Raises:
        ValueError: If there is no such family.

    Example:

    >>> family_preset("qvit"), family_preset("qvit", "mnist"), family_preset("qrkt_gan", "mnist")
    ('qvit_rk4_digits', 'qvit_rk4_mnist', 'qrkt_gan_mnist')
    """
    if family not in _FAMILIES:
        raise ValueError(f"A family is one of {', '.join(FAMILIES)}. Received: {family!r}")
    class_name, own = _FAMILIES[family]
    if data is None:
        return own
    usual = own.replace("_digits", f"_{data}")
    names = [usual, *list_presets(f"{family}_*")]
    fitting = [name for name in names if name in list_presets() and read_preset(name).data == data]
    return next((name for name in fitting if read_preset(name).class_name == class_name), own)
