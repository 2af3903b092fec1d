import builtins
import errno
import os

import numpy as np
import pytest
from support.small_disk import small_disk

from qrkt_keras.training import atomic_write, files, read_checkpoint, write_checkpoint


class FullDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        if len(data) > self._room:
            self._file.write(data[: self._room])
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= len(data)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()


@pytest.fixture
def full_disk(monkeypatch):
    def fill(room):
        def open_(*arguments):
            return FullDisk(builtins.open(*arguments), room)

        monkeypatch.setattr(files, "open", open_, raising=False)

    return fill


@pytest.mark.parametrize("room", [0, 1, 100, 1000])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, full_disk, room):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, {"w": np.arange(3)}, {"epoch": 1})
    before = path.read_bytes()
    full_disk(room)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_checkpoint(path, {"w": np.arange(1000)}, {"epoch": 2})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert read_checkpoint(path).metadata == {"epoch": 1}


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_fails_late_leaves_the_old_file_whole(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.os, function, fail)
    with pytest.raises(OSError, match="Input/output error"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError("a bug")])
def test_an_interrupt_while_writing_leaves_the_old_file_whole(tmp_path, exception):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(exception()) if isinstance(exception, type) else RuntimeError):
        with atomic_write(path) as file:
            file.write(b"new")
            raise exception
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        beside = next(tmp_path.iterdir())
        file.write(b"x" * 1000)
    assert list(tmp_path.iterdir()) == [path]
    beside.write_bytes(b"left behind, and longer than what comes")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="No such file or directory") as caught:
        with atomic_write(tmp_path / "none" / "file"):
            pass
    assert caught.value.filename == str(tmp_path / "none" / "file")


def test_a_really_full_disk(tmp_path):
    with small_disk(tmp_path, "64k") as disk:
        path = disk / "checkpoint.npz"
        write_checkpoint(path, {"w": np.arange(3)}, {"epoch": 1})
        before = path.read_bytes()
        with pytest.raises(OSError, match="No space left on device"):
            write_checkpoint(path, {"w": np.zeros(100_000)}, {"epoch": 2})
        assert path.read_bytes() == before
        assert list(disk.iterdir()) == [path]
