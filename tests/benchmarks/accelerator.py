"""Check the engines on a GPU and measure them there beside peers: docs/accelerator.md.

    PYTHONPATH=tests python -m benchmarks.accelerator --output docs/accelerator.json
    PYTHONPATH=tests python -m benchmarks.accelerator --output docs/accelerator.json --tables

Keras runs on JAX. The interpreter must hold the peers too; one that it lacks is reported as failed.
`--modes`, `--contestants` and `--cases` select; what a run measures replaces the file's entries of
the same name and nothing else. `--tables` prints the page's tables from the file and runs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import fnmatch
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from benchmarks import bench, report, worker
from benchmarks.cases import CASES, CONTESTANTS, LARGEST_STATE, Case, arrays

# JAX multiplies float32 matrices as TF32 on this kind of card, unless told otherwise.
MODES = {
    "highest": {"JAX_PLATFORMS": "cuda,cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
    "default": {"JAX_PLATFORMS": "cuda,cpu"},
    "cpu": {"JAX_PLATFORMS": "cpu"},
}
TITLES = {"highest": "GPU, float32", "default": "GPU, TF32", "cpu": "CPU"}
# TensorNetwork asks for the default precision at every product, which no setting overrides.
ALWAYS_TF32 = ("tensorcircuit", "tensorcircuit-scan")
MEASURED = ("qrkt-jax", "pennylane-jax", "tensorcircuit", "tensorcircuit-scan", "torchquantum")
# Cases of these groups, each at as many times its batch.
GROUPS = ("one layer", "six layers", "Kawase's circuit", "384 qubits")
FACTORS = (1, 16, 64)
LIMIT = 60.0
ROUNDS = 9
# Rows and coordinates of the gradient that are compared with Cirq.
ROWS, COORDINATES, STEP = 2, 16, 1e-4


def cases(pattern: str = "*") -> list[Case]:
    """The measured cases; d = 200 is left out."""
    return [
        case
        for case in CASES
        if case.group in GROUPS
        and case.name != "patch-d200"
        and fnmatch.fnmatch(case.name, pattern)
    ]


def scaled(case: Case, factor: int) -> Case:
    """The case at a larger batch."""
    return dataclasses.replace(case, batch=case.batch * factor)


def exact(case: Case, spec, inputs, weights):
    """One row's values in double precision: Cirq's, or of 384 qubits `rx_ring`'s closed form."""
    if case.num_qubits > LARGEST_STATE:
        # A ring of CNOTs takes Z_k to Z_0 ... Z_k, and Z_0 to all but itself.
        cosines = np.cos(inputs + weights)
        values = np.cumprod(cosines)
        values[0] = np.prod(cosines[1:])
        return values
    import cirq

    names = [symbol.name for symbol in (*spec.inputs, *spec.weights)]
    angles = dict(zip(names, (*inputs, *weights), strict=True))
    simulator = cirq.Simulator(dtype=np.complex128)
    state = simulator.simulate(spec.circuit, angles, qubit_order=spec.qubits).final_state_vector
    index = {qubit: i for i, qubit in enumerate(spec.qubits)}
    return np.array([o.expectation_from_state_vector(state, index).real for o in spec.observables])


def expected(case: Case, with_gradient: bool) -> dict:
    """Values of the first rows, and central differences at some coordinates, drawn at random."""
    from benchmarks.contestants.qrkt import _spec

    spec = _spec(case)
    inputs, weights, upstream = (array.astype("float64") for array in arrays(case))
    inputs = inputs[:ROWS]

    def loss(rows):
        return sum(exact(case, spec, inputs[r], weights) @ upstream[r] for r in rows)

    places = []
    if with_gradient:
        rng = np.random.default_rng(1)
        for coordinate in rng.permutation(inputs.size + weights.size)[:COORDINATES]:
            array, place, rows = weights, coordinate - inputs.size, range(ROWS)
            if place < 0:
                array, place = inputs.reshape(-1), coordinate
                rows = [place // inputs.shape[1]]
            kept, ends = array[place], []
            for step in (STEP, -STEP):
                array[place] = kept + step
                ends.append(loss(rows))
            array[place] = kept
            places.append((int(coordinate), (ends[0] - ends[1]) / (2 * STEP)))
    return {"values": [exact(case, spec, row, weights) for row in inputs], "gradient": places}


def check(case: Case, truth: dict) -> Iterator[dict]:
    """How far both engines are off in this process, in each precision of matrix products."""
    import jax
    from benchmarks.contestants.qrkt import _spec

    from qrkt_keras.execution import UnsupportedCircuitError, make_engine

    inputs, weights, upstream = arrays(case)
    # The whole batch runs, as its size decides how; only the compared rows have a gradient.
    upstream[ROWS:] = 0
    for name in ("state_vector", "pauli_propagation"):
        entry = {"case": case.name, "engine": name}
        try:
            engine = make_engine(_spec(case), name)
        except UnsupportedCircuitError as error:
            yield {**entry, "refused": str(error)}
            continue

        def gradient(inputs, weights, engine=engine):
            values, pull_back = jax.vjp(
                lambda x, w: engine.expectation(x[:, None], w[None])[:, 0], inputs, weights
            )
            return values, *pull_back(jax.numpy.asarray(upstream))

        for precision in ("default", "high", "highest"):
            with jax.default_matmul_precision(precision):
                values, by_inputs, by_weights = map(np.asarray, jax.jit(gradient)(inputs, weights))
            flat = np.concatenate([by_inputs[:ROWS].reshape(-1), by_weights])
            yield {
                **entry,
                "precision": precision,
                "values": float(np.abs(values[:ROWS] - truth["values"]).max()),
                "gradient": max(abs(float(flat[i]) - slope) for i, slope in truth["gradient"]),
            }


def start(name: str, mode: str, log: Path) -> bench.Worker:
    """A contestant's process, in this interpreter and one of the modes."""
    command = [sys.executable, "-c", "from benchmarks.accelerator import serve; serve()"]
    return bench.Worker(name, log, float("inf"), command, MODES[mode])


def serve() -> None:
    """Be a worker."""
    try:
        import jax
        from jax._src import core

        # PennyLane 0.45 asks for it, newer JAX only hides it.
        if not hasattr(jax.core, "is_concrete"):
            jax.core.is_concrete = core.is_concrete
    except ImportError:
        pass
    worker.main()


def measure(name: str, mode: str, chosen: list[Case], truths: dict, versions: dict, folder: Path):
    """Entries of one contestant, one process after another where a case ends one."""
    process = None
    for case in chosen:
        for factor in FACTORS:
            entry = {"case": case.name, "contestant": name, "mode": mode, "factor": factor}
            try:
                if process is None:
                    process = start(name, mode, folder / f"{name}-{mode}.log")
                    ready = process.answer(bench.LOADING)
                    if ready["status"] != "ready":
                        raise bench.Stopped(ready["reason"])
                    versions[name] = ready["versions"]
                larger, path = scaled(case, factor), str(folder / "arrays.npz")
                process.tell(do="prepare", case=dataclasses.asdict(larger), arrays=path)
                answer = process.answer(LIMIT)
                if answer["status"] != "prepared":
                    process.kill()
                    raise bench.Stopped(answer["reason"])
                for variant, fields in answer["variants"].items():
                    turns = []
                    while len(turns) < (ROUNDS if sum(turns) < 4.0 else bench.FEWEST_ROUNDS):
                        process.tell(do="run", variant=variant)
                        turns.append(process.answer(LIMIT)["seconds"])
                    low, median, high = statistics.quantiles(turns, n=4)
                    off = None
                    if variant == "quantum" and (case.name, factor) in truths:
                        truth = np.array(truths[case.name, factor]["values"])
                        off = float(np.abs(np.load(path)["values"][:ROWS] - truth).max())
                    yield {
                        **entry,
                        "variant": variant,
                        "batch": larger.batch,
                        "median": median,
                        "low": low,
                        "high": high,
                        "rounds": len(turns),
                        "compile_seconds": fields["compile_seconds"],
                        "off": off,
                    }
            except bench.Stopped as stopped:
                process = None
                # A larger batch would not go either.
                yield {**entry, "variant": "quantum", "reason": str(stopped)}
                break
    if process is not None:
        process.stop()


def card() -> str:
    """The GPU's name and driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return "none"


def run(options: argparse.Namespace) -> None:
    """Measure what is chosen, and write the file after every entry."""
    path = options.output
    results = json.loads(path.read_text()) if path.exists() else {"checks": [], "entries": []}
    results |= {
        "machine": {**bench.machine(), "card": card()},
        "date": datetime.date.today().isoformat(),
    }
    versions = results.setdefault("versions", {})

    def keep(kind: str, entry: dict, *keys: str) -> None:
        same = [entry.get(key) for key in keys]
        others = [e for e in results[kind] if [e.get(key) for key in keys] != same]
        results[kind] = [*others, entry]
        bench.write(path, results)
        print(json.dumps(entry), flush=True)

    chosen = cases(options.cases)
    checked = [case for case in chosen if case.name != "ry_ring-n384"]
    # Cirq needs no card, and many cores help it; spawned, as JAX does not bear a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        futures = {
            (case.name, factor): pool.submit(
                expected, scaled(case, factor), options.check and factor == 1
            )
            for case in checked
            for factor in (FACTORS if case.kind == "circuit" else FACTORS[:1])
        }
        truths = {key: future.result() for key, future in futures.items()}
    if options.check:
        # In a process that ends, so that the card's memory is free afterwards.
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            for case in checked:
                for entry in pool.submit(_checked, case, truths[case.name, 1]).result():
                    keep("checks", entry, "case", "engine", "precision")
    # The layer draws other angles than the circuit's check.
    truths = {key: truth for key, truth in truths.items() if not key[0].endswith("-n384")}
    with tempfile.TemporaryDirectory() as folder:
        for mode in options.modes:
            for name in options.contestants:
                own = [case for case in chosen if name in case.contestants]
                for entry in measure(name, mode, own, truths, versions, Path(folder)):
                    keep("entries", entry, "case", "contestant", "mode", "factor", "variant")


def _checked(case: Case, truth: dict) -> list[dict]:
    return list(check(case, truth))


def tables(results: dict) -> Iterator[str]:
    """The page's tables, as lines of Markdown."""
    yield "| case | engine | precision | values off by | gradient off by |"
    yield "|---|---|---|---|---|"
    for entry in results["checks"]:
        # "high" is TF32 too.
        if entry.get("precision") in ("default", "highest"):
            yield (
                f"| `{entry['case']}` | `{entry['engine']}` | {entry['precision']} "
                f"| {entry['values']:.0e} | {entry['gradient']:.0e} |"
            )
    for case in cases():
        entries = [entry for entry in results["entries"] if entry["case"] == case.name]
        for factor in FACTORS:
            rows = [entry for entry in entries if entry["factor"] == factor]
            fastest = min(
                (
                    e["median"]
                    for e in rows
                    if CONTESTANTS[e["contestant"]].is_peer and "median" in e
                ),
                default=None,
            )
            if not rows:
                continue
            yield f"\n### `{case.name}`, batch {case.batch * factor:,}\n"
            yield "| | seconds | against the fastest peer | compile | off by |"
            yield "|---|---|---|---|---|"
            for entry in sorted(rows, key=lambda e: e.get("median", float("inf"))):
                twin = ": `Dense(384)`" if entry["variant"] == "twin" else ""
                mode = "default" if entry["contestant"] in ALWAYS_TF32 else entry["mode"]
                title = f"{report.title(entry['contestant'])}{twin}, {TITLES[mode]}"
                if "median" not in entry:
                    reason = entry["reason"]
                    full = "out of memory" in reason.lower()
                    yield f"| {title} | {'out of memory' if full else reason} | | | |"
                    continue
                low, median, high = (report.time(entry[k]) for k in ("low", "median", "high"))
                ratio = f"{entry['median'] / fastest:.3g}" if fastest else ""
                off = "" if entry["off"] is None else f"{entry['off']:.0e}"
                yield (
                    f"| {title} | {median} ({low}–{high}) | {ratio} "
                    f"| {entry['compile_seconds']:.1f} s | {off} |"
                )


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--contestants", nargs="*", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--cases", default="*")
    parser.add_argument("--no-check", dest="check", action="store_false")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if options.tables:
        print("\n".join(tables(json.loads(options.output.read_text()))))
    else:
        # The processes of the check run the engines too.
        os.environ["KERAS_BACKEND"] = "jax"
        run(options)


if __name__ == "__main__":
    main()
