"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file to be written whole or not at all.

    The bytes go to a file beside, which takes the name only when it is complete and on the disk.
    Whatever happens before (a full disk, an interrupt, a kill), a file that was there stays as
    it was.

    Args:
        path: The file to write; its folder must exist.

    Yields:
        A binary file to write to.

    Raises:
        OSError: If it could not be written; the file beside is removed.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "note.txt"
    ...     with atomic_write(path) as file:
    ...         _ = file.write(b"whole")
    ...     path.read_bytes()
    b'whole'
    """
    path = Path(path)
    # One name a target: what a killed process leaves behind, the next one overwrites.
    beside = path.with_name(f".{path.name}.part")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        # Not found when it could not even be opened, or the rename was already done.
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"{error.strerror or error} (nothing was changed by this attempt to write it)",
                str(path),
            ) from error
        raise


def lock_folder(folder: str | os.PathLike[str]) -> IO[bytes]:
    """Keeps a folder for this process, until the file that is returned is closed or it ends.

    Args:
        folder: The folder, which gets a file `.lock`; it must exist.

    Returns:
        The open file.

    Raises:
        BlockingIOError: If another process has it.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, lock_folder(folder) as lock:
    ...     os.listdir(folder)
    ['.lock']
    """
    file = open(Path(folder) / ".lock", "wb")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BlockingIOError(
            error.errno, "Another process is at work in the folder", str(folder)
        ) from error
    return file


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk too. Not every file system can do that on demand.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
