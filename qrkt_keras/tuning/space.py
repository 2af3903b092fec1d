"""Search spaces, as data: which arguments and recipe fields a search varies, and over what."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import keras_tuner
from rich.console import Console
from rich.table import Table
from rich.text import Text

KINDS = ("choice", "int", "float")

# Before the names of what is no argument of the model but a field of the recipe.
RECIPE = "recipe."

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One thing that a search varies.

    Args:
        name: An argument of the model, or `recipe.` and a field of the recipe, such as
            `recipe.learning_rate` or `recipe.augment.shift`.
        kind: `"choice"` of `values`, `"int"` or `"float"` from `low` to `high`, both included.
        values: What a choice is of: JSON data, each once.
        low, high: Bounds of a range.
        step: Distance of a range's values; of integers 1 by default.
        log: Whether a range is drawn evenly in the logarithm.
        when: Pairs of a dimension's name and those of its values with which this one is there; all
            must hold. Otherwise the model's or recipe's default is taken, not the preset's value.

    Raises:
        ValueError: If these do not fit each other.

    Example:

    >>> Dimension("recipe.learning_rate", "float", low=1e-4, high=1e-2, log=True).to_text()
    '0.0001..0.01:log'
    >>> Dimension.parse("hidden_dim=8,16").values
    (8, 16)
    """

    name: str
    kind: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][\w.]*", self.name):
            raise ValueError(f"A dimension has the name of an argument. Received: {self.name!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}. Received: kind={self.kind!r}")
        object.__setattr__(self, "values", tuple(map(_frozen, self.values)))
        if any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in self.when):
            raise ValueError(
                f"{self.name}: when is pairs of a dimension and its values. Received: {self.when!r}"
            )
        conditions = tuple((name, tuple(map(_frozen, values))) for name, values in self.when)
        object.__setattr__(self, "when", conditions)
        if self.kind == "choice":
            self._check_choice()
        else:
            self._check_range()

    def _check_choice(self) -> None:
        texts = [json.dumps(value) for value in self.values]
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(
                f"{self.name}: a choice is of different values, at least one. "
                f"Received: {list(self.values)}"
            )
        if (self.low, self.high, self.step, self.log) != (None, None, None, False):
            raise ValueError(f"{self.name}: a choice has no range. Received: {self!r}")

    def _check_range(self) -> None:
        numbers = [self.low, self.high, *([] if self.step is None else [self.step])]
        wanted = int if self.kind == "int" else (int, float)
        if self.values or not all(_is_number(number, wanted) for number in numbers):
            raise ValueError(
                f"{self.name}: a range is from a number to another, of integers between integers. "
                f"Received: {self!r}"
            )
        if not self.low < self.high or (self.step is not None and self.step <= 0):
            raise ValueError(
                f"{self.name}: a range rises from low to high. Received: low={self.low}, "
                f"high={self.high}, step={self.step}"
            )
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                f"{self.name}: a logarithmic range is of positive numbers, and has no step. "
                f"Received: low={self.low}, step={self.step}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A dimension from `NAME=VALUE,VALUE`, `NAME=LOW..HIGH`, `…:log` or `…:STEP`.

        Values are JSON, or else words. A range is of integers where both bounds are.

        Raises:
            ValueError: If it is none of these.

        Example:

        >>> Dimension.parse("recipe.augment.shift=0..2").kind
        'int'
        """
        name, mark, told = text.partition("=")
        if not mark or not told:
            raise ValueError(
                "A dimension is NAME=VALUE,VALUE or NAME=LOW..HIGH, with :log or :STEP behind. "
                f"Received: {text!r}"
            )
        found = _RANGE.fullmatch(told)
        if not found:
            if ".." in told and told[0] not in '"[':
                raise ValueError(
                    "A range is NAME=LOW..HIGH of numbers, with :log or :STEP behind. "
                    f"Received: {text!r}"
                )
            return cls(name, "choice", tuple(_values(told)))
        low, high, how = found.groups()
        bounds = _number(low), _number(high)
        step = None if how in (None, "log") else _number(how)
        is_whole = all(type(number) is int for number in (*bounds, step) if number is not None)
        kind = "int" if is_whole else "float"
        return cls(name, kind, low=bounds[0], high=bounds[1], step=step, log=how == "log")

    def to_text(self) -> str:
        """What follows `NAME=` for `parse`."""
        if self.kind == "choice":
            return ",".join(_word(value) for value in self.values)
        number = int if self.kind == "int" else float
        step = None if self.step is None else number(self.step)
        behind = ":log" if self.log else "" if step is None else f":{step!r}"
        return f"{number(self.low)!r}..{number(self.high)!r}{behind}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, without what is not said."""
        default = {field.name: field.default for field in dataclasses.fields(self)}
        told = {name: getattr(self, name) for name in default}
        return json.loads(
            json.dumps({name: value for name, value in told.items() if value != default[name]})
        )

    def stepped(self) -> list[Any]:
        """The values of a range with steps, both bounds included where the steps meet them.

        Integers have steps of 1 if none are given.
        """
        step = self.step or 1
        # Their number is rounded down; that a step is no binary fraction must not cost the last.
        steps = math.floor((self.high - self.low) / step + 1e-9)
        values = [self.low + index * step for index in range(steps + 1)]
        return values if self.kind == "int" else [round(value, 12) for value in values]

    def kept(self) -> list[Any]:
        """A choice's values as KerasTuner keeps them, of one kind: if need be as JSON text."""
        kinds = {type(value) for value in self.values}
        if len(kinds) == 1 and kinds <= {int, float, str, bool}:
            return list(self.values)
        numbers = {float(value) for value in self.values} if kinds == {int, float} else ()
        if len(numbers) == len(self.values):
            return [float(value) for value in self.values]
        return [json.dumps(value) for value in self.values]

    def read(self, kept: Any) -> Any:
        """The value of what KerasTuner kept."""
        if self.kind != "choice":
            return kept
        return dict(zip(self.kept(), self.values, strict=True))[kept]


@dataclasses.dataclass(frozen=True)
class Space:
    """What a search varies, and on what its dimensions depend.

    Args:
        dimensions: One after the other; a dimension depends on those before it only.

    Raises:
        ValueError: If a name is there twice, or a condition names what does not come before.

    Example:

    >>> space = Space((Dimension.parse("solver=rk1,rk4"), Dimension.parse("hidden_dim=8..16:4")))
    >>> space.with_dimension(Dimension.parse("solver=rk2")).to_texts()
    ['solver=rk2', 'hidden_dim=8..16:4']
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        before: dict[str, Dimension] = {}
        for dimension in self.dimensions:
            if dimension.name in before:
                raise ValueError(f"A dimension is there once. Received: {dimension.name!r} twice")
            for name, _ in dimension.when:
                parent = before.get(name)
                if parent is None or parent.kind != "choice":
                    raise ValueError(
                        f"{dimension.name}: it can depend on choices that come before it. "
                        f"Received: {name!r}"
                    )
            before[dimension.name] = dimension

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def __contains__(self, name: object) -> bool:
        return any(dimension.name == name for dimension in self)

    def with_dimension(self, dimension: Dimension) -> Self:
        """The same with a dimension in place of the one of its name, or behind all.

        Where it says no condition of its own, that of the one it replaces stays.
        """
        if dimension.name not in self:
            return type(self)((*self.dimensions, dimension))
        changed = []
        for one in self:
            if one.name == dimension.name:
                one = dataclasses.replace(dimension, when=dimension.when or one.when)
            changed.append(one)
        return type(self)(tuple(changed))

    def fixed(self, values: Mapping[str, Any]) -> Self:
        """The same with one value for those dimensions that have one here; conditions stay."""
        space = self
        for name in values:
            if name in self:
                space = space.with_dimension(Dimension(name, "choice", (values[name],)))
        return space

    def overridden(self, texts: Iterable[str]) -> Self:
        """The same with dimensions from texts, see `Dimension.parse`."""
        space = self
        for text in texts:
            space = space.with_dimension(Dimension.parse(text))
        return space

    def to_texts(self) -> list[str]:
        """A text for each dimension, as `overridden` takes them; conditions are not in it."""
        return [f"{dimension.name}={dimension.to_text()}" for dimension in self]

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps([dimension.to_dict() for dimension in self], indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The space that `to_json` wrote.

        Raises:
            ValueError: If it is no such text.
        """
        try:
            entries = json.loads(text)
            if not isinstance(entries, list):
                raise TypeError(f"not a {type(entries).__name__}")
            return cls(tuple(Dimension(**entry) for entry in entries))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"A space is a JSON list of dimensions ({error}). Received: {text[:80]!r}"
            ) from error

    def to_hyperparameters(
        self, defaults: Mapping[str, Any] | None = None
    ) -> keras_tuner.HyperParameters:
        """The space as KerasTuner's, with its conditions.

        Args:
            defaults: Values to begin with, such as the preset's; of dimensions that they do not fit
                the first or least value.
        """
        hyperparameters = keras_tuner.HyperParameters()
        self.register(hyperparameters, defaults)
        return hyperparameters

    def register(
        self,
        hyperparameters: keras_tuner.HyperParameters,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds the space to KerasTuner's, see `to_hyperparameters`."""
        parents = {dimension.name: dimension for dimension in self}
        absent: set[str] = set()
        for dimension in self:
            if any(
                name in absent or not set(values) & set(parents[name].values)
                for name, values in dimension.when
            ):
                absent.add(dimension.name)  # the choice was narrowed to values without it
                continue
            with _conditions(hyperparameters, dimension, parents):
                _register(hyperparameters, dimension, (defaults or {}).get(dimension.name))

    def values(self, hyperparameters: keras_tuner.HyperParameters) -> dict[str, Any]:
        """The values of the dimensions that are there, by name."""
        kept = hyperparameters.values
        return {
            dimension.name: dimension.read(kept[dimension.name])
            for dimension in self
            if dimension.name in kept and hyperparameters.is_active(dimension.name)
        }

    def table(self) -> Table:
        """The space as a table to print."""
        table = Table("dimension", "values", "when", box=None, pad_edge=False)
        for dimension in self:
            conditions = [
                f"{name} is {' or '.join(map(_word, values))}" for name, values in dimension.when
            ]
            cells = (dimension.name, dimension.to_text(), ", ".join(conditions))
            table.add_row(*map(Text, cells))
        return table

    def __str__(self) -> str:
        console = Console(width=120, highlight=False)
        with console.capture() as capture:
            console.print(self.table())
        return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


@contextlib.contextmanager
def _conditions(
    hyperparameters: keras_tuner.HyperParameters,
    dimension: Dimension,
    parents: Mapping[str, Dimension],
) -> Iterator[None]:
    """Within it, KerasTuner registers hyperparameters under a dimension's conditions."""
    with contextlib.ExitStack() as scopes:
        for name, values in dimension.when:
            parent = parents[name]
            kept = dict(zip(map(json.dumps, parent.values), parent.kept(), strict=True))
            wanted = [kept[json.dumps(v)] for v in values if json.dumps(v) in kept]
            scopes.enter_context(hyperparameters.conditional_scope(name, wanted))
        yield


def _register(
    hyperparameters: keras_tuner.HyperParameters, dimension: Dimension, default: Any
) -> None:
    if dimension.kind == "choice":
        kept, found = dimension.kept(), None
        if default is not None and _frozen(default) in dimension.values:
            found = kept[dimension.values.index(_frozen(default))]
        hyperparameters.Choice(dimension.name, kept, default=found, ordered=_is_ordered(kept))
        return
    options: dict[str, Any] = {"sampling": "log" if dimension.log else "linear"}
    is_there = _is_number(default, (int, float)) and dimension.low <= default <= dimension.high
    if dimension.step is not None:
        steps = dimension.stepped()
        is_there = default in steps
        if dimension.kind == "float":
            # KerasTuner's own ranges of these lose their upper end to rounding.
            found = default if is_there else None
            hyperparameters.Choice(dimension.name, steps, default=found, ordered=True)
            return
        options["step"] = dimension.step
    if is_there:
        options["default"] = default
    make = hyperparameters.Int if dimension.kind == "int" else hyperparameters.Float
    make(dimension.name, dimension.low, dimension.high, **options)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _is_ordered(kept: list[Any]) -> bool:
    """Whether near values are alike: numbers in rising order."""
    return all(_is_number(value, (int, float)) for value in kept) and kept == sorted(kept)


def _is_number(value: Any, kinds: Any) -> bool:
    is_kind = isinstance(value, kinds) and not isinstance(value, bool)
    return is_kind and math.isfinite(value)


def _frozen(value: Any) -> Any:
    """JSON data that can be compared and hashed."""
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"A value is JSON data without objects. Received: {value!r}")


def _values(text: str) -> Iterator[Any]:
    """JSON data or words, with commas between."""
    decoder, place = json.JSONDecoder(), 0
    while place <= len(text):
        try:
            value, end = decoder.raw_decode(text, place)
            is_whole = end == len(text) or text[end] == ","
        except json.JSONDecodeError:
            is_whole = False
        if not is_whole:
            end = len(text) if "," not in text[place:] else text.index(",", place)
            value = text[place:end]
            if not value or value[0] in '[{"':
                raise ValueError(f"A value is JSON, or a word. Received: {text[place:]!r}")
        yield value
        place = end + 1


def _word(value: Any) -> str:
    """A value as `_values` reads it."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.+-]*", value):
        return value if value not in ("true", "false", "null") else json.dumps(value)
    return json.dumps(value)
