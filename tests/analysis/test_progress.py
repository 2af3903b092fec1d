"""How far a computation is, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qrkt_keras.analysis import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock of which every look takes a second."""
    ticks = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_without_a_terminal_a_line_about_every_tenth(clock):
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    with progress.shown("scan", 40, done=8, console=console) as show:
        for done in range(9, 41):
            show(done, "text" if done == 40 else "")
    first, *lines = console.file.getvalue().splitlines()
    assert first == "scan 9/40"
    assert [line.split("  ")[0] for line in lines] == [
        f"scan {done}/40" for done in (12, 16, 20, 24, 28, 32, 36, 40)
    ]
    # One look at the clock a line: a second for three points, and 28 are left.
    assert lines[0].endswith("  0:09 left")
    assert lines[-1] == "scan 40/40  text"


def test_on_a_terminal_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress.shown("scan", 40, done=8, console=console) as show:
        show(40)
    assert "40/40" in console.file.getvalue()


def test_nothing_where_it_is_not_asked_for_or_nothing_is_left():
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    for options in ({"progress": False}, {"done": 40}):
        with progress.shown("scan", 40, console=console, **options) as show:
            show(40)
    assert not console.file.getvalue()
