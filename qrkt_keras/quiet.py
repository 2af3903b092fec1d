"""Keeps TensorFlow's start-up chatter off the screen of the command line.

TensorFlow and XLA log from C++ straight to file descriptor 2, some of it before
`TF_CPP_MIN_LOG_LEVEL` is read and some at the first compiled call, so that neither the variable
nor a redirection around the imports is enough. For as long as `quiet_tensorflow` lasts, descriptor
2 is therefore a pipe to a small filter process (this file, run as a script), which drops what is
known to be chatter and passes everything else on.

- Python's own `sys.stderr` keeps the real descriptor: tracebacks, warnings and progress bars do
  not pass through the filter, and it still is a terminal where it was one.
- The filter is a process and not a thread, so that what C++ said last is shown after a crash,
  an abort or `os._exit`, and so that C++ code which holds Python's lock cannot fill the pipe with
  nobody to empty it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Lines are `2026-01-31 12:00:00.000000: E path/file.cc:1] text` (TSL's logging) or
# `E0131 12:00:00.000000  123 file.cc:1] text` (Abseil's), with I, W, E or F for the severity.
_PREFIX = (
    rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: (?P<tsl>[IWEF]) |(?P<absl>[IWEF])\d{4} \d\d:\d\d:)"
)
_LOG_LINE = re.compile(_PREFIX + rb".*?\S+\.(?:cc|h|cpp|cu):\d+\] (?P<text>.*)", re.DOTALL)
_HARMLESS = re.compile(
    # The CUDA plug-ins are registered twice by TensorFlow's own wheel; no GPU is no error.
    rb"Unable to register cu\w+ factory|failed call to cuInit|computation placer already registered"
)
_OTHER_CHATTER = re.compile(rb"WARNING: All log messages before absl::InitializeLog\(\)")


def is_chatter(line: bytes) -> bool:
    """Whether a line on descriptor 2 is TensorFlow's small talk.

    That is information and warnings from C++, and the errors which every start shows.

    Example:

        >>> is_chatter(b"I0000 00:00:1.5  12 service.cc:148] XLA service initialized")
        True
        >>> is_chatter(b"F0000 00:00:1.5  12 tensor.cc:9] Check failed: dims == 2")
        False
    """
    match = _LOG_LINE.match(line)
    if match is None:
        return _OTHER_CHATTER.match(line) is not None
    severity = match["tsl"] or match["absl"]
    return severity in b"IW" or (severity == b"E" and _HARMLESS.search(match["text"]) is not None)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Filters descriptor 2 while it lasts; to be entered before TensorFlow is imported.

    Whoever has set `TF_CPP_MIN_LOG_LEVEL` asked for TensorFlow's log, and gets it unfiltered.
    """
    if os.environ.get(_LEVEL):
        yield
        return
    os.environ[_LEVEL] = "2"
    sys.stderr.flush()
    screen = os.dup(2)
    # A session of its own: Ctrl-C reaches all of a terminal's processes, and the filter must
    # outlive the one that it listens to. It ends when the last writer has closed the pipe.
    filtering = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=screen,
        start_new_session=True,
    )
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    python_stderr = sys.stderr
    direct = None
    if _descriptor(python_stderr) == 2:
        sys.stderr = direct = open(
            screen,
            "w",
            encoding=python_stderr.encoding,
            errors=python_stderr.errors,
            buffering=1,
            closefd=False,
        )
    try:
        yield
    finally:
        if direct is not None:
            direct.flush()
            sys.stderr = python_stderr
        os.dup2(screen, 2)
        # A process that we started may still hold the pipe; do not wait for its end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            filtering.wait(timeout=2)
        os.close(screen)
        del os.environ[_LEVEL]


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError):  # replaced, as by pytest
        return None


def _filter(source: int, sink: int) -> None:
    """Copies lines from one descriptor to another, without the chatter."""
    pending = b""
    block = None
    while block != b"":
        # The start of a line waits a moment for its end: a question without a line break must show.
        if pending and not select.select([source], [], [], 0.1)[0]:
            lines, pending = [pending], b""
        else:
            block = os.read(source, 65536)
            lines = (pending + block).splitlines(keepends=True)
            unfinished = block and lines[-1][-1:] not in b"\r\n"
            pending = lines.pop() if unfinished else b""
        text = b"".join(line for line in lines if not is_chatter(line))
        while text:
            text = text[os.write(sink, text) :]


if __name__ == "__main__":
    _filter(source=0, sink=1)
