"""A contestant in a process of its own: JSON lines in, JSON lines out.

    python -m benchmarks.worker CONTESTANT

- `{"do": "prepare", "case": {...}, "arrays": PATH}`: builds the case, calls it, and answers by
  variant with the seconds that compiling took (the first call with all that stands before it, less
  a later call) and the peak of memory; a circuit's values and gradients are written to PATH.
- `{"do": "run", "variant": NAME}`: the seconds of a call.
- `{"do": "stop"}`: the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

from benchmarks.cases import CONTESTANTS, Case, Refused, Subject

# A call that is shorter is repeated until this many seconds have passed.
SHORTEST = 0.2
# Of a call that is longer, what waking up takes is no part to speak of.
LONG = 2.0


def seconds_a_call(subject: Subject) -> float:
    """Seconds of one call in a row of them, of as many as fill the shortest time.

    The first does not count unless it is long: while others had their turns, this contestant's data
    left the caches and its threads went to sleep.
    """
    start = time.perf_counter()
    subject.call()
    passed = time.perf_counter() - start
    if passed >= LONG:
        return subject.scale * passed
    calls, start = 0, time.perf_counter()
    while True:
        subject.call()
        calls += 1
        passed = time.perf_counter() - start
        if passed >= SHORTEST:
            return subject.scale * passed / calls


def resident_mb() -> float:
    """Memory that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mb() -> float:
    """The most memory that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def prepare(contestant, case: Case, path: str | None) -> tuple[dict[str, Subject], dict]:
    """Build a case's subjects, call each, and say what that took, by variant."""
    held = resident_mb()
    begin = time.perf_counter()
    subjects = contestant.prepare(case)
    # Building is shared by the variants, and counted with each.
    built = time.perf_counter() - begin
    answer = {}
    for variant, subject in subjects.items():
        begin = time.perf_counter()
        results = subject.call()
        first = time.perf_counter() - begin
        later = seconds_a_call(subject)
        answer[variant] = {
            "compile_seconds": max(0.0, built + first - later / subject.scale),
            "seconds": later,
            # A high-water mark: after the first variant it cannot be told whose it is.
            "peak_mb": None if answer else max(0.0, peak_mb() - held),
            "note": subject.note,
            "parameters": subject.parameters,
        }
        if path is not None and variant == "quantum" and results is not None:
            save(path, results)
    return subjects, answer


def save(path: str, results: tuple) -> None:
    """Values, gradient by the inputs and, where there is one, gradient by the weights."""
    import numpy as np

    names = ("values", "by_inputs", "by_weights")
    np.savez(path, **dict(zip(names, map(np.asarray, results), strict=False)))


def give_back() -> None:
    """Return freed memory to the system: this process now waits while others need theirs.

    Compilers leave gigabytes with the C library's allocator.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "?"
    return found


def main() -> None:
    """Serve one driver until it says stop or goes away."""
    # Where memory runs out, a contestant dies, not the driver or somebody else's work.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Libraries print as they please; the driver's channel is kept apart from them.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**fields) -> None:
        print(json.dumps(fields), file=channel)

    about = CONTESTANTS[sys.argv[1]]
    module, name = about.module.split(":")
    try:
        contestant = getattr(importlib.import_module(f"benchmarks.contestants.{module}"), name)()
    except Exception as error:
        answer(status="failed", reason=reason(error))
        raise
    python = ".".join(map(str, sys.version_info[:3]))
    answer(status="ready", versions={"python": python, **versions(about.packages)})
    subjects: dict[str, Subject] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        if request["do"] == "run":
            answer(status="ran", seconds=seconds_a_call(subjects[request["variant"]]))
            continue
        try:
            case = Case(**request["case"])
            subjects, variants = prepare(contestant, case, request.get("arrays"))
        except Refused as refusal:
            answer(status="refused", reason=str(refusal))
        except Exception as error:
            traceback.print_exc()
            answer(status="failed", reason=reason(error))
        else:
            give_back()
            answer(status="prepared", variants=variants)


def reason(error: Exception) -> str:
    """An error in one line."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first[:200]}"


if __name__ == "__main__":
    main()
