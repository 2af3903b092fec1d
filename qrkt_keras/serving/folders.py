"""Writing folders so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Makes a folder, whole or not at all.

    The files go to a folder beside, which takes the name only when they are complete and on the
    disk. Whatever happens before (a full disk, an interrupt), a folder that was there stays as it
    was.

    Args:
        path: The folder; those above it are made if need be.
        replace: Whether it may take the place of one that exists.

    Yields:
        The folder beside, empty.

    Raises:
        FileExistsError: If there is such a file or folder, and it must not be replaced.
        OSError: If it could not be written; the folder beside is removed.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_folder(f"{parent}/new") as folder:
    ...         _ = (folder / "note.txt").write_text("whole")
    ...     os.listdir(f"{parent}/new")
    ['note.txt']
    """
    # `..` and a final `/` have no name to write beside.
    path = Path(os.path.abspath(path))
    # One name a target: what a killed process leaves behind, the next one removes.
    beside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    if path.exists() and not replace:
        raise FileExistsError(
            f"It exists already, and is only replaced when told so. Received: {path}"
        )
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        yield beside
        _sync(beside)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
        try:
            os.rename(beside, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"{error.strerror or error} (nothing was changed by this attempt to write it)",
                str(path),
            ) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Waits until a folder's files are on the disk, which is where a full one is noticed."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
