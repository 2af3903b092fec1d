"""A real disk that is really full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(parent: Path, size: str) -> Iterator[Path]:
    """A file system of `size` (such as "64k"), or a skipped test where none may be mounted."""
    disk = parent / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
