"""Folders are written whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from qrkt_keras.serving import atomic_folder


def names(folder):
    return sorted(os.listdir(folder))


def make(path, text, **arguments):
    with atomic_folder(path, **arguments) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "note.txt").write_text(text)


def test_a_new_folder_and_those_above_it(tmp_path):
    make(tmp_path / "a" / "b", "first")
    assert (tmp_path / "a" / "b" / "deep" / "note.txt").read_text() == "first"
    assert names(tmp_path / "a") == ["b"]


def test_a_relative_path_and_a_trailing_separator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("here/", "first")
    assert names(tmp_path) == ["here"]


def test_replaced_only_when_told_so(tmp_path):
    make(tmp_path / "b", "first")
    with pytest.raises(FileExistsError, match="Received: .*b$"):
        make(tmp_path / "b", "second")
    assert (tmp_path / "b" / "deep" / "note.txt").read_text() == "first"
    make(tmp_path / "b", "second", replace=True)
    assert (tmp_path / "b" / "deep" / "note.txt").read_text() == "second"
    assert names(tmp_path) == ["b"]


def test_the_old_one_is_there_until_the_new_one_is_whole(tmp_path):
    make(tmp_path / "b", "first")
    with atomic_folder(tmp_path / "b", replace=True) as folder:
        (folder / "half.txt").write_text("half")
        assert names(tmp_path / "b") == ["deep"]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), OSError(28, "full")])
def test_nothing_half_written_stays(tmp_path, exists, error):
    if exists:
        make(tmp_path / "b", "first")
    with pytest.raises(type(error)):
        with atomic_folder(tmp_path / "b", replace=True) as folder:
            (folder / "half.txt").write_text("half")
            raise error
    assert names(tmp_path) == (["b"] if exists else [])
    if exists:
        assert (tmp_path / "b" / "deep" / "note.txt").read_text() == "first"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failing_rename_brings_the_old_one_back(tmp_path, monkeypatch, failing):
    make(tmp_path / "b", "first")
    rename, calls = os.rename, []

    def failing_rename(source, target):
        calls.append((source, target))
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing_rename)
    with pytest.raises(OSError, match="nothing was changed"):
        make(tmp_path / "b", "second", replace=True)
    assert (tmp_path / "b" / "deep" / "note.txt").read_text() == "first"
    assert names(tmp_path) == ["b"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / ".b.part").mkdir()
    (tmp_path / ".b.part" / "half.txt").write_text("half")
    make(tmp_path / "b", "first")
    assert names(tmp_path) == ["b"] and names(tmp_path / "b") == ["deep"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device .*nothing was changed") as error:
        make(tmp_path / "b", "first")
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "b")
    assert names(tmp_path) == []
