"""A user's own texts: a CSV file with a header."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qrkt_keras.data.errors import DatasetNotFoundError, InvalidDatasetError
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.options import Options
from qrkt_keras.data.own_data import PARTS, Whole, check_learnable, listed
from qrkt_keras.data.splits import divided

_NUMBER = re.compile(r"[+-]?\d+")


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A CSV file of texts as it was when it was looked at.

    Attributes:
        path: The file.
        size: Its bytes.
        changed: When it was last changed, in nanoseconds.
    """

    path: Path
    size: int
    changed: int

    INFO = None
    TAKES = frozenset({"text_column", "label_column", "split_column", "num_classes", "skip_empty"})

    @classmethod
    def at(cls, path: Path) -> TextTable:
        """Looks at a file.

        Raises:
            DatasetNotFoundError: If there is none.
        """
        if not path.is_file():
            raise DatasetNotFoundError(f"There must be a file of texts. Received: {path}")
        state = path.stat()
        return cls(path, state.st_size, state.st_mtime_ns)

    def find(self, data_dir: object, download: bool, options: Options) -> Path:
        """The file itself."""
        return self.path

    def info(self, folder: Path, options: Options) -> DatasetInfo:
        """The facts, of the rows as they are read."""
        return _whole(self, options).info(
            self.path,
            "The texts of a CSV file.",
            kind="text",
            image_shape=None,
            mean=None,
            std=None,
        )

    def read(self, split: str, folder: Path, options: Options) -> tuple[np.ndarray, np.ndarray]:
        """Texts `(n,)`, an object array of `str`, and labels `(n,)` int32 of a split."""
        return _whole(self, options).split(split)


@functools.cache
def _whole(table: TextTable, options: Options) -> Whole:
    path = table.path
    rows, texts, words, parts = _columns(path, options)
    empty = [row for row, text in zip(rows, texts, strict=True) if not text.strip()]
    if empty:
        told = f"{len(empty)} of {len(rows)} texts are empty"
        if not options.skip_empty:
            raise InvalidDatasetError(
                f"{told}; mend them, or leave their rows out with skip_empty=True (on the command "
                "line --skip-empty). "
                f"Received: row {listed(empty)} of {path} (the header is row 1)"
            )
        warnings.warn(f"{told} and are left out: row {listed(empty)} of {path}", stacklevel=2)
        kept = [place for place, text in enumerate(texts) if text.strip()]
        rows, texts, words = ([column[k] for k in kept] for column in (rows, texts, words))
        parts = parts and [parts[k] for k in kept]
    labels, names = _labels(path, rows, words, options.num_classes)
    places = divided(labels, None if parts is None else np.array(parts))
    order = np.concatenate([places[part] for part in PARTS])
    examples = np.empty(len(texts), object)
    examples[:] = texts
    given = {"train"} if parts is None else set(parts)
    whole = Whole(
        examples[order],
        labels[order],
        {part: len(places[part]) for part in PARTS},
        names,
        tuple(part for part in PARTS if part not in given),
    )
    check_learnable({part: whole.split(part)[1] for part in PARTS}, names, path)
    return whole


def _columns(
    path: Path, options: Options
) -> tuple[list[int], list[str], list[str], list[str] | None]:
    """The number of each row, its text, its label, and its part if there is such a column."""
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""), strict=True)
    text, label = options.text_column or "text", options.label_column or "label"
    split = options.split_column
    # A text may be longer than what csv takes by default.
    limit = csv.field_size_limit(sys.maxsize)
    try:
        header = reader.fieldnames or []
        if split is None and "split" in header:
            split = "split"
        for option, column in (
            ("text_column", text), ("label_column", label), ("split_column", split)
        ):  # fmt: skip
            if column is not None and header.count(column) != 1:
                raise InvalidDatasetError(
                    f"The first row must name the columns, and one of them {column!r}; another "
                    f"name is given with {option}= (on the command line "
                    f"--{option.replace('_', '-')}). "
                    f"Received: {listed(list(map(repr, header)), 10) or 'nothing'} in {path}"
                )
        table = list(enumerate(reader, 2))
    except csv.Error as error:
        raise InvalidDatasetError(
            f"The file is not a CSV ({error} in line {reader.reader.line_num}). Received: {path}"
        ) from error
    finally:
        csv.field_size_limit(limit)
    ragged = [row for row, cells in table if None in cells or None in cells.values()]
    if ragged:
        raise InvalidDatasetError(
            f"Every row must have the header's {len(header)} columns; a comma in a text wants the "
            f"text in quotes. Received: row {listed(ragged)} of {path} (the header is row 1)"
        )
    unlabelled = [row for row, cells in table if not cells[label].strip()]
    if unlabelled:
        raise InvalidDatasetError(
            f"Every row must have a label. Received: none in row {listed(unlabelled)} of {path} "
            "(the header is row 1)"
        )
    parts = None
    if split is not None:
        parts = [cells[split].strip() for _, cells in table]
        wrong = [
            f"{part!r} in row {row}"
            for (row, _), part in zip(table, parts, strict=True)
            if part not in PARTS
        ]
        if wrong or "train" not in parts:
            raise InvalidDatasetError(
                f"The column {split!r} must say {', '.join(PARTS[:-1])} or {PARTS[-1]}, and train "
                f"must be there. Received: {listed(wrong) or 'no train'} of {path} (the header is "
                "row 1)"
            )
    return (
        [row for row, _ in table],
        [cells[text] for _, cells in table],
        [cells[label].strip() for _, cells in table],
        parts,
    )


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidDatasetError(
            "A CSV file must be UTF-8; from Latin-1 it becomes so by "
            "`iconv -f LATIN1 -t UTF-8 OLD > NEW`. "
            f"Received: byte 0x{content[error.start]:02x} in line {line} of {path}"
        ) from error


def _labels(
    path: Path, rows: Sequence[int], words: Sequence[str], num_classes: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each row, and the classes: numbers in their order, words in the alphabet's."""
    numbers = all(_NUMBER.fullmatch(word) for word in words)
    if numbers:
        words = [str(int(word)) for word in words]
    if numbers and num_classes is not None:
        outside = [
            f"{word} in row {row}"
            for row, word in zip(rows, words, strict=True)
            if not 0 <= int(word) < num_classes
        ]
        if outside:
            raise InvalidDatasetError(
                f"With num_classes={num_classes}, labels that are numbers must lie in "
                f"0..{num_classes - 1}. Received: {listed(outside)} of {path} (the header is row 1)"
            )
        names = tuple(map(str, range(num_classes)))
    else:
        names = tuple(sorted(set(words), key=int if numbers else None))
        if num_classes is not None and len(names) != num_classes:
            raise InvalidDatasetError(
                f"There must be as many labels as classes. "
                f"Received: num_classes={num_classes} with {listed(names)} in {path}"
            )
    if len(names) < 2:
        raise InvalidDatasetError(
            f"There must be at least two classes. Received: {listed(names) or 'no rows'} in {path}"
        )
    number = {name: label for label, name in enumerate(names)}
    return np.array([number[word] for word in words], np.int32), names
