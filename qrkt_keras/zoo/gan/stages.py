"""The sizes of a generator's stages, and the form of the blocks of both networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qrkt_keras.layers.projection import positive_integer


def check_stages(
    image_shape: Sequence[int], widths: Sequence[int], depths: Sequence[int]
) -> tuple[int, int, int]:
    """Refuses stages of a generator that do not fit each other or the image.

    Args:
        image_shape: Height, width and channels.
        widths: Width of a token in each stage.
        depths: Blocks of each stage; none in one that only makes more tokens.

    Returns:
        The image's shape.

    Raises:
        ValueError: If something does not fit.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(
            f"`image_shape` must be (side, side, channels): a square. Received: image_shape={shape}"
        )
    shape = tuple(positive_integer("image_shape", size) for size in shape)
    for width in widths:
        positive_integer("widths", width)
    if len(widths) != len(depths) or not len(widths):
        raise ValueError(
            "There must be one depth a width. "
            f"Received: widths={tuple(widths)}, depths={tuple(depths)}"
        )
    check_depths("depths", depths)
    if not any(depths):
        raise ValueError(f"One of `depths` must be positive. Received: depths={tuple(depths)}")
    for wide, narrow in zip(widths, widths[1:], strict=False):
        if wide != 4 * narrow:
            raise ValueError(
                "Pixel shuffle makes four tokens of one, so each of `widths` must be a quarter of "
                f"the one before. Received: widths={tuple(widths)}"
            )
    if shape[0] % 2 ** (len(widths) - 1):
        raise ValueError(
            "Each stage after the first doubles the side, so it must be divisible by "
            f"{2 ** (len(widths) - 1)}. Received: image_shape={shape} with widths={tuple(widths)}"
        )
    return shape


def check_depths(name: str, depths: Sequence[int]) -> None:
    """Refuses what are no numbers of blocks, in the words of the argument `name`."""
    if not all(type(depth) is int and depth >= 0 for depth in depths):
        raise ValueError(
            f"`{name}` must be integers of at least 0. Received: {name}={tuple(depths)}"
        )


def settings_of_width(mlp_ratio: int, **settings: Any) -> Callable[[int], dict[str, Any]]:
    """A function from a width to the arguments of a block: TransGAN's form, circuits or not."""

    def of_width(width: int) -> dict[str, Any]:
        return {
            "mlp_dim": mlp_ratio * width,
            "qkv_bias": False,
            "approximate": False,
            **settings,
        }

    return of_width
