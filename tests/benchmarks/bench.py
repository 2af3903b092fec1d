"""Measure this project and its peers side by side, and write docs/benchmarks.md.

    make bench                        all of it, on a quiet machine
    make bench BENCH=--quick          the main rows
    make bench BENCH="--cases 'patch-*' --contestants torchquantum 'qrkt-*'"
    make bench BENCH="--cases 'preset-qtext*'"

Every contestant runs a case in a process of its own. All processes of one case live at once and
take turns, so that whatever else the machine does falls on all of them. The results go into
docs/benchmarks.json case by case: a run of some cases replaces those alone.

A peer's environment is made at its first use under `.peers`, from `requirements/`; one that cannot
be made is reported as absent. QRKT_REFERENCE names a checkout of github salcc/QuantumTransformers,
the reference transformer; without it that row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fnmatch
import hashlib
import json
import os
import platform
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES, CONTESTANTS, Case
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
OUTPUT = ROOT / "docs" / "benchmarks.json"

PEER_PYTHON = "3.12"
# Seconds for a worker to load its framework.
LOADING = 120.0
# A contestant whose calls are long leaves after this many seconds, with three rounds at least.
LONGEST_TURNS = 20.0
FEWEST_ROUNDS = 3
# Seconds before each turn, in which the previous contestant's threads stop spinning.
PAUSE = 0.2
# A contestant that holds more than this part of the machine's memory is stopped.
LARGEST_SHARE = 0.75

console = Console()


class Absent(Exception):
    """A peer's environment is not there and cannot be made."""


class Stopped(Exception):
    """A worker was stopped, or ended by itself; says why."""


def python_of(environment: str | None) -> str:
    """The interpreter of a contestant's environment; a peer's is made if it is not there.

    Raises:
        Absent: it cannot be made.
    """
    if environment is None:
        return sys.executable
    folder = PEERS / environment
    requirements = REQUIREMENTS / f"{environment}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / ".installed"
    python = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == digest:
        return str(python)
    find = subprocess.run(
        [ROOT / ".ci" / "find-python", PEER_PYTHON], capture_output=True, text=True
    )
    if find.returncode:
        raise Absent(find.stdout.strip())
    console.print(f"making .peers/{environment}; this takes minutes once")
    # The lists are complete, so pip has nothing to resolve; some peers' own ranges contradict.
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]
    for command in (
        [find.stdout.strip(), "-m", "venv", "--clear", str(folder)],
        [str(python), *install, str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Absent((errors or done.stderr.splitlines() or ["it failed"])[-1])
    stamp.write_text(digest)
    return str(python)


class Worker:
    """A contestant's process.

    Args:
        name: of the contestant.
        command: the program, to which the name is added; by default `benchmarks.worker` in the
            contestant's environment.
        variables: of the process environment, besides the contestant's.
        log: file for whatever its libraries print.
        largest_mb: memory that it may hold.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        largest_mb: float,
        command: list[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ):
        about = CONTESTANTS[name]
        if command is None:
            command = [python_of(about.environment), "-m", "benchmarks.worker"]
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": str(ROOT / "tests"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **about.variables,
            **(variables or {}),
        }
        self.name = name
        self._largest_mb = largest_mb
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [*command, name],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def tell(self, **request) -> None:
        """Send a request."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def answer(self, limit: float) -> dict:
        """Wait for an answer.

        Raises:
            Stopped: it took too long or too much memory, or the process is gone.
        """
        end = time.monotonic() + limit
        while not self._selector.select(timeout=0.25):
            if time.monotonic() > end:
                self.kill()
                raise Stopped(f"> {limit:.0f} s to compile")
            if self._held_mb() > self._largest_mb:
                self.kill()
                raise Stopped(f"needs more than {self._largest_mb / 1024:.0f} GB")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            killed = status == -signal.SIGKILL
            raise Stopped("out of memory" if killed else f"its process ended, status {status}")
        return json.loads(line)

    def _held_mb(self) -> float:
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0.0
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to end, and see that it does."""
        self.tell(do="stop")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def measure(case: Case, names: list[str], versions: dict, folder: Path) -> list[dict]:
    """One case: an entry a contestant and variant, whatever became of it."""
    entries, workers = [], {}

    def drop(name: str, status: str, reason: str) -> None:
        entries.append(_entry(name, "quantum", status, reason=reason))
        console.print(f"  {name}: {reason}")

    for name, reason in case.left_out.items():
        drop(name, "left out", reason)
    largest = LARGEST_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    try:
        for name in names:
            try:
                workers[name] = Worker(name, folder / f"{case.name}-{name}.log", largest)
            except Absent as absent:
                drop(name, "absent", str(absent))
        subjects: dict[tuple[str, str], dict] = {}

        def ask(name: str, limit: float, expected: str, **request) -> dict | None:
            """An answer, or None after the contestant was dropped."""
            try:
                if request:
                    workers[name].tell(**request)
                answer = workers[name].answer(limit)
            except Stopped as stopped:
                answer = {"status": "stopped", "reason": str(stopped)}
            if answer["status"] == expected:
                return answer
            workers.pop(name).stop()
            for subject in [subject for subject in subjects if subject[0] == name]:
                del subjects[subject]
            drop(name, answer["status"], answer["reason"])
            return None

        # The imports overlap; compiling and running do not.
        for name in list(workers):
            if answer := ask(name, LOADING, "ready"):
                versions[name] = answer["versions"]
        request = {"do": "prepare", "case": dataclasses.asdict(case)}
        for name in list(workers):
            path = str(folder / f"{case.name}-{name}.npz")
            if answer := ask(name, case.limit, "prepared", arrays=path, **request):
                for variant, fields in answer["variants"].items():
                    subjects[name, variant] = {**fields, "turns": []}
                    console.print(f"  {name} {variant}: {fields['seconds'] * 1e3:.3f} ms")
        for _ in range(case.rounds):
            for (name, variant), fields in list(subjects.items()):
                turns = fields["turns"]
                if len(turns) >= FEWEST_ROUNDS and sum(turns) > LONGEST_TURNS:
                    continue
                time.sleep(PAUSE)
                if (name, variant) in subjects and (
                    answer := ask(name, case.limit, "ran", do="run", variant=variant)
                ):
                    turns.append(answer["seconds"])
        parities = _parities(
            case, [name for name, variant in subjects if variant == "quantum"], folder
        )
        for (name, variant), fields in subjects.items():
            low, median, high = statistics.quantiles(fields["turns"], n=4)
            entries.append(
                _entry(
                    name,
                    variant,
                    "measured",
                    median=median,
                    low=low,
                    high=high,
                    rounds=len(fields["turns"]),
                    parity=parities.get(name) if variant == "quantum" else None,
                    **{key: fields[key] for key in _KEPT},
                )
            )
    finally:
        for worker in workers.values():
            worker.stop()
    order = list(CONTESTANTS)
    return sorted(entries, key=lambda entry: order.index(entry["contestant"]))


_KEPT = ("compile_seconds", "peak_mb", "note", "parameters")


def _entry(name: str, variant: str, status: str, **fields) -> dict:
    return {"contestant": name, "variant": variant, "status": status, **fields}


def _parities(case: Case, names: list[str], folder: Path) -> dict[str, dict]:
    """How far each contestant's values and gradients are from the first one's.

    Gradients are compared relative to the largest entry. A contestant may give its first rows only,
    and then no gradient by the weights.
    """
    import numpy as np

    files = {name: folder / f"{case.name}-{name}.npz" for name in names}
    loaded = {name: dict(np.load(path)) for name, path in files.items() if path.exists()}
    parities: dict[str, dict] = {}
    for name, results in loaded.items():
        reference = loaded[names[0]]
        parities[name] = {"against": names[0]}
        for key, result in results.items():
            expected = reference[key][: len(result)]
            scale = 1.0 if key == "values" else max(1.0, float(np.abs(expected).max()))
            parities[name][key] = float(np.abs(result - expected).max()) / scale
    return parities


def machine() -> dict:
    """What the numbers were measured on."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if ":" in line
        )
        cpu = f"{fields.get('model name', cpu)} (family {fields.get('cpu family', '?')})"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "system": platform.platform(),
    }


def busy() -> float:
    """The part of the machine that others use: of a second before a case, in which we only wait."""

    def ticks() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        idle = numbers[3] + numbers[4]
        return idle, sum(numbers[:8])

    idle, total = ticks()
    time.sleep(1.0)
    later_idle, later = ticks()
    return 1.0 - (later_idle - idle) / max(1, later - total)


def commit() -> str:
    """The checkout's commit, with a mark if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def write(path: Path, results: dict) -> None:
    """Write beside, then rename: a run that is broken off leaves the last whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(path)


def main() -> None:
    """Measure what was asked for and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", nargs="+", metavar="GLOB", default=["*"], help="names of cases")
    add("--contestants", nargs="+", metavar="GLOB", default=["*"], help="names of contestants")
    add("--rounds", type=int, help="turns of each contestant; by default each case's own")
    add("--limit", type=float, help="seconds to prepare; by default each case's own, 300 at most")
    add("--quick", action="store_true", help="the main rows, in fewer rounds")
    add("--output", type=Path, default=OUTPUT, help="the JSON; the page stands beside it")
    add("--list", action="store_true", help="name cases and contestants, and end")
    arguments = parser.parse_args()

    def chosen(name: str, patterns: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    cases = [case for case in CASES if chosen(case.name, arguments.cases)]
    if arguments.quick:
        cases = [dataclasses.replace(case, rounds=5) for case in cases if case.quick]
    if arguments.rounds:
        cases = [dataclasses.replace(case, rounds=max(2, arguments.rounds)) for case in cases]
    if arguments.limit:
        cases = [dataclasses.replace(case, limit=arguments.limit) for case in cases]
    names = [name for name in CONTESTANTS if chosen(name, arguments.contestants)]
    if not cases or not names:
        parser.error("no case or no contestant has such a name; see --list")
    if arguments.list:
        print("cases:", *(case.name for case in cases), sep="\n  ")
        print("contestants:", *names, sep="\n  ")
        return

    results = {"cases": {}}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())
    begin = time.monotonic()
    # Before the results are written, which would make it a changed one.
    checkout = commit()
    with tempfile.TemporaryDirectory(prefix="qrkt-bench-") as folder:
        for number, case in enumerate(cases, 1):
            minutes = (time.monotonic() - begin) / 60
            console.rule(f"{case.name} ({number} of {len(cases)}, at {minutes:.0f} min)")
            versions: dict[str, dict] = {}
            others = busy()
            takes_part = [name for name in names if name in case.contestants]
            entries = measure(case, takes_part, versions, Path(folder))
            results["cases"][case.name] = {
                "case": dataclasses.asdict(case),
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "commit": checkout,
                "busy": round(others, 2),
                "machine": machine(),
                "versions": versions,
                "entries": entries,
            }
            # In the order of the list, whatever was run again.
            order = {case.name: place for place, case in enumerate(CASES)}
            ordered = sorted(results["cases"].items(), key=lambda item: order.get(item[0], -1))
            results["cases"] = dict(ordered)
            write(arguments.output, results)
    page = report.write(arguments.output)
    console.print(f"{page} after {(time.monotonic() - begin) / 60:.0f} min")


if __name__ == "__main__":
    main()
