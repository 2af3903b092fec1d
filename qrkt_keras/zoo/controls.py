"""What a model with circuits is compared with, to say what the circuits buy."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from qrkt_keras.zoo.presets import Preset, from_preset

# Counts this near count as equal: among such twins the shape decides.
_EQUAL = 0.01


@dataclasses.dataclass(frozen=True)
class Control:
    """A form of a model.

    Attributes:
        title: What it is called in tables.
        words: What makes `qrkt train` train it.
        arguments: The same as arguments of the model.
        needs: Other arguments that a model must have, to be had in this form.
    """

    title: str
    words: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()


# What `matched_widths` changes.
_WIDTHS = ("hidden_dim", "mlp_dim", "num_heads")

# Of the matched twin, `matched_widths` gives the rest.
CONTROLS = {
    "twin": Control("classical twin", ("--classical",), {"quantum": False}),
    "matched": Control("matched twin", ("--classical",), {"quantum": False}, _WIDTHS),
    "identity": Control(
        "identity for circuits",
        ("--set", "template=identity"),
        {"template": "identity"},
        ("template",),
    ),
    "frozen": Control("frozen circuits", ("--freeze-circuits",), {"trainable_circuits": False}),
}

# The model itself, and what it is compared with.
FORMS = {"quantum": Control("quantum"), **CONTROLS}


def controls_of(model_class: type) -> list[str]:
    """The controls that models of a class can be had as, those of `CONTROLS` that fit.

    Args:
        model_class: The class of a model with circuits.

    Example:

    >>> from qrkt_keras import zoo
    >>> controls_of(zoo.PatchQNN)
    ['twin', 'frozen']
    """
    taken = inspect.signature(model_class).parameters.keys()
    return [name for name, control in CONTROLS.items() if taken >= {*control.needs}]


def matched_widths(source: Preset, **overrides: Any) -> dict[str, int]:
    """The widths of a model's matched twin: the classical model of nearest parameter count.

    The twin has Dense layers in place of the circuits, and other `hidden_dim`, `mlp_dim` and
    `num_heads`: those whose count is nearest to the model's, where counts within 1 % of it are as
    good as equal. Of several such it is the one that changes the shape least, by the sum of
    `|log(new / old)|` over the three. `hidden_dim` is at most doubled.

    The counts come from five models. A classical model is Dense layers and tables of width
    `hidden_dim = h` and `mlp_dim = m`, so the count is `a + b h + c h² + d m + e h m`.

    Args:
        source: The preset of a model with circuits, see `read_preset`.
        **overrides: Arguments of the model, in place of the preset's.

    Returns:
        `hidden_dim`, `mlp_dim` and `num_heads` of the twin.

    Raises:
        TypeError: If the model has no such argument.
        ValueError: If an argument is out of range.

    Example:

    >>> from qrkt_keras import zoo
    >>> preset = zoo.read_preset("qvit_rk4_digits")
    >>> widths = zoo.matched_widths(preset)
    >>> widths
    {'hidden_dim': 9, 'mlp_dim': 17, 'num_heads': 3}
    >>> twin = zoo.from_preset(preset, load_weights=False, quantum=False, **widths)
    >>> zoo.from_preset(preset, load_weights=False).count_params(), twin.count_params()
    (3066, 3093)
    """
    model = from_preset(source, load_weights=False, **overrides)
    wanted, hidden, inner = model.count_params(), model.hidden_dim, model.mlp_dim
    # The least steps of hidden_dim, of which 1 is too small for a model.
    step = max(2, model.num_heads)
    steps = [(step, 1), (2 * step, 1), (3 * step, 1), (step, 2), (2 * step, 2)]
    counts = [
        from_preset(
            source,
            load_weights=False,
            **{**overrides, "quantum": False, "hidden_dim": h, "mlp_dim": m},
        ).count_params()
        for h, m in steps
    ]
    factors = np.linalg.solve([_terms(*widths) for widths in steps], counts).round().astype(int)
    candidates = [
        (h, m, _nearest_divisor(h, model.num_heads))
        for h in range(2, 2 * hidden + 1)
        for m in _inner_widths(factors, h, inner, wanted)
    ]

    def rank(widths: tuple[int, int, int]) -> tuple[float, float, int]:
        off = abs(int(_terms(*widths[:2]) @ factors) - wanted)
        old = (hidden, inner, model.num_heads)
        change = sum(abs(math.log(a / b)) for a, b in zip(widths, old, strict=True))
        return max(off / wanted, _EQUAL), change, off

    return dict(zip(_WIDTHS, min(candidates, key=rank), strict=True))


def _terms(hidden: int, inner: int) -> np.ndarray:
    """What the terms of the count multiply."""
    return np.array([1, hidden, hidden**2, inner, hidden * inner])


def _inner_widths(factors: np.ndarray, hidden: int, inner: int, wanted: int) -> set[int]:
    """Of all `mlp_dim` those that may be the best: nearest in count, or near enough in shape."""
    none, one = (int(_terms(hidden, m) @ factors) for m in (0, 1))

    def reaching(count: float) -> float:
        return (count - none) / (one - none)

    widths = {math.floor(reaching(wanted)), math.ceil(reaching(wanted))}
    least = math.ceil(reaching((1 - _EQUAL) * wanted))
    most = math.floor(reaching((1 + _EQUAL) * wanted))
    if least <= most:
        widths.add(min(max(inner, least), most))
    return {max(1, width) for width in widths}


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = [one for one in range(1, number + 1) if number % one == 0]
    return min(divisors, key=lambda one: abs(math.log(one / wanted)))
