"""What can be said about how a data set is to be read."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `data.arrays`, described there; None stands for a data set's own default.

    Raises:
        ValueError: If a size, a number of channels or of classes is none.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    skip_unreadable: bool = False
    text_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    num_classes: int | None = None
    skip_empty: bool = False
    config: str | None = None

    def __post_init__(self) -> None:
        size = self.image_size
        if size is not None:
            if not isinstance(size, tuple | list) or len(size) != 2 or not all(map(_counts, size)):
                raise ValueError(
                    f"image_size must be (height, width) in pixels. Received: image_size={size!r}"
                )
            # A list, as from JSON, could not be a key of what has been read.
            object.__setattr__(self, "image_size", tuple(size))
        if self.channels not in (None, 1, 3):
            raise ValueError(
                "channels must be 1 (grey) or 3 (red, green, blue). "
                f"Received: channels={self.channels!r}"
            )
        classes = self.num_classes
        if classes is not None and not (_counts(classes) and classes > 1):
            raise ValueError(f"num_classes must be at least 2. Received: num_classes={classes!r}")

    def given(self) -> dict[str, object]:
        """Those that are not at their default."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
