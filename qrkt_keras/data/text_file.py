"""Text files as model input."""

from __future__ import annotations

import os
from pathlib import Path

from qrkt_keras.data.errors import InvalidDatasetError


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """Reads the texts of a file, one a line.

    Args:
        path: A UTF-8 file.

    Returns:
        The lines without white space around them; an empty line is an empty text.

    Raises:
        InvalidDatasetError: If the file is missing, is not UTF-8, or holds no text.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "reviews.txt"
    ...     _ = path.write_text("A lovely film.\\nBoring!\\n")
    ...     read_texts(path)
    ['A lovely film.', 'Boring!']
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDatasetError(
            f"The file cannot be read as UTF-8 text ({error}). Received: {os.fspath(path)}"
        ) from error
    # Not splitlines: a form feed or a line separator within a text does not end it.
    texts = [line.strip() for line in content.replace("\r\n", "\n").rstrip("\n").split("\n")]
    if not any(texts):
        raise InvalidDatasetError(f"There is no text in it. Received: {os.fspath(path)}")
    return texts
