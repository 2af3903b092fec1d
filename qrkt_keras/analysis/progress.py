"""How far a computation is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def shown(
    name: str,
    total: int,
    progress: bool = True,
    *,
    done: int = 0,
    console: Console | None = None,
) -> Iterator[Callable[..., None]]:
    """Shows how far a computation is: a bar on a terminal, elsewhere a line about every tenth.

    Args:
        name: What is being done.
        total: How much there is to do.
        progress: Whether to show anything.
        done: How much was done before.
        console: Where; standard output if not given.

    Yields:
        A function of how much is done, and of a text to show with it.

    Example:

    >>> with shown("samples", 20, console=Console(width=80, force_terminal=False)) as show:
    ...     show(20, "4 qubits")
    samples 20/20  4 qubits
    """
    console = console or Console()
    if not progress or done == total:
        yield lambda done, text="": None
    elif console.is_terminal:
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=total, completed=done, text="")
            yield lambda done, text="": bar.update(task, completed=done, text=text)
    else:
        first, since, told = None, 0.0, 0

        def show(done: int, text: str = "") -> None:
            nonlocal first, since, told
            left = ""
            if first is None:
                # The first part traces the model too; the others tell how long the rest takes.
                first, since = done, time.monotonic()
            elif 10 * done // total == told:
                return
            elif done < total:
                seconds = (time.monotonic() - since) / (done - first) * (total - done)
                left = "  {}:{:02d} left".format(*divmod(round(seconds), 60))
            told = 10 * done // total
            line = f"{name} {done}/{total}" + (f"  {text}" if text else "")
            console.print(f"{line}{left}", soft_wrap=True, highlight=False)

        yield show
