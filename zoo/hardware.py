"""Runs small presets on noisy virtual machines; makes docs/hardware.md's tables and pictures.

    python zoo/hardware.py train       # trains and packages the presets: 17 minutes
    python zoo/hardware.py compile     # what each template becomes on each processor: a minute
    python zoo/hardware.py evaluate    # 100 images of digits, 20 of MNIST: some ten minutes
    python zoo/hardware.py repetitions # accuracy against repetitions: some fifteen minutes
    python zoo/hardware.py steps       # training on the virtual machine: a minute
    python zoo/hardware.py speed       # the virtual machine beside other simulators: a minute
    python zoo/hardware.py report      # runs nothing

Every figure is of a command of `qrkt`, which is in docs/hardware.json beside it. What is there is
not run again; `--again` does. The models' cards get some rows too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qrkt_keras import zoo
from qrkt_keras.circuits import templates
from qrkt_keras.training import atomic_write
from qrkt_keras.zoo import runs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "hardware.json"
PAGE = ROOT / "docs" / "hardware.md"
IMAGES = ROOT / "docs" / "images"

QVIT, PATCH = "qvit_rk1_digits_hardware", "patch_qnn_p4_d1_mnist"
CARDS = {QVIT: ROOT / "zoo" / "qvit" / "README.md", PATCH: ROOT / "zoo" / "patch_qnn" / "README.md"}
PROCESSORS = ("rainbow", "weber")
GATESETS = ("cz", "sqrt_iswap", "sycamore")
TEMPLATES = {
    "`rx_ring(4)`": templates.rx_ring(4),
    "`ry_ring(4)`": templates.ry_ring(4),
    "`hardware_efficient(4)`": templates.hardware_efficient(4),
    "`hardware_efficient(5)`": templates.hardware_efficient(5),
    "`hardware_efficient_once`, 4, 2 layers": templates.get("hardware_efficient_once", 4, 2),
    "`patch(1)`, 8 qubits": templates.patch(1),
}
# Options of each way to run a circuit, by its name in tables.
MITIGATIONS = {
    "none": {},
    "readout": {"mitigate_readout": True},
    "readout, zero noise": {"mitigate_readout": True, "noise_scales": "1,3"},
}
EXAMPLES = {QVIT: 100, PATCH: 20}
REPETITIONS = {
    QVIT: (1, 3, 10, 30, 100, 300, 1000, 3000),
    PATCH: (100, 300, 1000, 3000, 10_000),
}
WAYS = {
    "no noise": {"noiseless": True},
    "weber": {"processor": "weber"},
    "weber, readout mitigated": {"processor": "weber", "mitigate_readout": True},
    "weber, readout and zero noise": {
        "processor": "weber",
        "mitigate_readout": True,
        "noise_scales": "1,3",
    },
}


def main() -> None:
    """Runs one part, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"train": train, "compile": compile_all, "evaluate": evaluate}
    parts |= {"repetitions": repetitions, "steps": steps, "speed": speed, "report": report}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--again", action="store_true", help="run what is there, too")
    options = parser.parse_args()
    parts[options.part](options)
    if options.part not in ("train", "report"):
        report(options)


def train(options: argparse.Namespace) -> None:
    """Trains the two presets, records their rows, and packages their weights."""
    for name in (QVIT, PATCH):
        folder = options.runs / name
        if not (folder / "scores.json").exists():
            runs.run_command("train", name, "--output", folder, "--resume")
        row = runs.read_run(folder, preset=name, model="quantum")
        runs.record_runs(ROOT / "zoo" / "results.csv", [row])
        runs.package_run(folder, name)


def compile_all(options: argparse.Namespace) -> None:
    """What each template becomes on each processor, by each gate set."""
    from qrkt_keras.hardware import compile_for

    rows = []
    for name, spec in TEMPLATES.items():
        for processor in PROCESSORS:
            for gateset in GATESETS:
                report = compile_for(spec, processor, gateset).report
                rows.append(
                    {
                        "circuit": name,
                        "processor": processor,
                        "gateset": gateset,
                        "qubits": report.num_qubits,
                        "depth": [report.depth_before, report.depth],
                        "two_qubit_gates": [
                            report.two_qubit_gates_before,
                            report.two_qubit_gates,
                        ],
                        "routed": report.is_routed,
                        "fidelity": round(report.fidelity, 4),
                        "microseconds": round(report.duration / 1000, 3),
                        "circuits": report.num_circuits,
                    }
                )
    write({"compile": rows})

    from qrkt_keras.hardware import placement_picture

    model = zoo.from_preset(QVIT, load_weights=False)
    (circuit,) = compile_for(model, "weber", "cz").circuits
    placement_picture(circuit, IMAGES / "hardware_placement.png")


def speed(options: argparse.Namespace) -> None:
    """How long a noisy circuit of 2,000 shots takes, by each simulator in turn."""
    import time

    import cirq
    import numpy as np
    import qsimcirq

    from qrkt_keras.circuits.separation import separate
    from qrkt_keras.hardware import compile_for, virtual_machine

    rows = []
    names = ("`ry_ring(4)`", "`hardware_efficient(4)`", "`patch(1)`, 8 qubits")
    for name, number in zip(names, (200, 200, 40), strict=True):
        spec = TEMPLATES[name]
        program = compile_for(spec, "weber", "sqrt_iswap").programs(spec)[0]
        exponents = np.random.default_rng(0).uniform(-1, 1, (number, len(separate(spec).symbols)))
        sweep = list(program.sweep(exponents))
        machine = virtual_machine("weber", seed=0)
        noisy = program.circuit.unfreeze().with_noise(machine.noise)
        cirqs = cirq.DensityMatrixSimulator(seed=0)
        simulators = {
            "ours": lambda points, c=program.circuit, m=machine: m.run_sweep(c, points, 2000),
            "cirq": lambda points, c=noisy, s=cirqs: s.run_sweep(c, points, 2000),
            "qsim": lambda points, c=noisy: qsimcirq.QSimSimulator().run_sweep(c, points, 2000),
        }
        row: dict[str, Any] = {"circuit": name}
        for who, run in simulators.items():
            points = sweep if who == "ours" else sweep[:3]
            run(points[:1])
            since = time.perf_counter()
            run(points)
            row[who] = 1000 * (time.perf_counter() - since) / len(points)
        rows.append(row)
    write({"speed": rows})


def evaluate(options: argparse.Namespace) -> None:
    """Both presets on both processors, with and without mitigation."""
    jobs = [
        {"preset": QVIT, "processor": processor, "gateset": gateset, **how}
        for processor in PROCESSORS
        for gateset in GATESETS
        for how in MITIGATIONS.values()
    ]
    jobs += [
        {"preset": PATCH, "processor": processor, "gateset": gateset, **how}
        for processor in PROCESSORS
        for gateset in ("cz", "sqrt_iswap")
        for how in MITIGATIONS.values()
    ]
    run_jobs("evaluate", [job | {"examples": EXAMPLES[job["preset"]]} for job in jobs], options)


def repetitions(options: argparse.Namespace) -> None:
    """Accuracy of both presets against repetitions, by several ways to run the circuits."""
    jobs = [
        {"preset": preset, "examples": examples, "gateset": "cz", "repetitions": number, **how}
        for preset, examples in EXAMPLES.items()
        for how in WAYS.values()
        for number in REPETITIONS[preset]
    ]
    run_jobs("repetitions", jobs, options)


def steps(options: argparse.Namespace) -> None:
    """A few steps of training by the parameter-shift rule on the virtual machine."""
    job = {"examples": 200, "steps": 20, "batch_size": 32, "gateset": "cz", "repetitions": 500}
    folder = options.runs / "hardware" / "steps"
    if options.again or not (folder / "training.json").exists():
        words = runs.option_words({**job, "output": folder})
        runs.run_command("hardware", "train", QVIT, *words, "--overwrite")
    write({"steps": json.loads((folder / "training.json").read_text())})
    picture = (folder / "training.png").read_bytes()
    with atomic_write(IMAGES / "hardware_training.png") as file:
        file.write(picture)


def run_jobs(part: str, jobs: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Runs `qrkt hardware evaluate` for each job that is not recorded."""
    results = read()
    known = {} if options.again else {key(row): row for row in results.get(part, [])}
    rows = []
    for number, job in enumerate(jobs):
        if job_key(job) not in known:
            folder = options.runs / "hardware" / f"{part}_{number}"
            arguments = {name: value for name, value in job.items() if name != "preset"}
            words = runs.option_words({**arguments, "output": folder})
            runs.run_command("hardware", "evaluate", job["preset"], *words, "--overwrite")
            found = json.loads((folder / "evaluation.json").read_text())
            known[job_key(job)] = found
        rows.append(known[job_key(job)])
        write({part: rows + [row for row in known.values() if row not in rows]})
    write({part: rows})


# What tells one job from another.
KEY = {
    "preset": None,
    "num_examples": None,
    "processor": "weber",
    "gateset": "sqrt_iswap",
    "noiseless": False,
    "repetitions": None,
    "mitigate_readout": False,
    "noise_scales": "1",
}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a recorded job from others."""
    return tuple(row[name] for name in KEY)


def job_key(job: dict[str, Any]) -> tuple[Any, ...]:
    """The same of a job that is to be run."""
    job = {**job, "num_examples": job["examples"]}
    return tuple(job.get(name, default) for name, default in KEY.items())


def read() -> dict[str, Any]:
    """All that is recorded."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write(results: dict[str, Any]) -> None:
    """Records some parts, and keeps the others."""
    text = json.dumps(read() | results, indent=1, ensure_ascii=False)
    with atomic_write(RESULTS) as file:
        file.write(f"{text}\n".encode())


def report(options: argparse.Namespace) -> None:
    """Tables and pictures of what is recorded."""
    del options
    results = read()
    for page, name, lines in tables(results):
        runs.write_table(page, name, lines)
    for preset in (QVIT, PATCH):
        rows = [row for row in results.get("repetitions", []) if row["preset"] == preset]
        if rows:
            draw_repetitions(preset, rows)


def tables(results: dict[str, Any]) -> Iterator[tuple[Path, str, list[str]]]:
    """Each table, its page or card, and its name there."""
    if "compile" in results:
        yield PAGE, "compile", compile_table(results["compile"])
    for preset, card in CARDS.items():
        rows = [row for row in results.get("evaluate", []) if row["preset"] == preset]
        if rows:
            yield PAGE, preset, evaluate_table(rows)
        chosen = [row for row in rows if (row["processor"], row["gateset"]) == ("weber", "cz")]
        if chosen:
            yield card, preset, evaluate_table(chosen)
    if "steps" in results:
        yield PAGE, "steps", steps_lines(results["steps"])
    if "speed" in results:
        yield PAGE, "speed", speed_table(results["speed"])


def steps_lines(row: dict[str, Any]) -> list[str]:
    """What the training came to."""
    losses = row["exact_losses"]
    return [
        f"The loss of {row['num_examples']} images goes from {losses[0]:.3f} to {losses[-1]:.3f} "
        f"in {len(losses) - 1} steps: {row['num_circuits']:,} circuits, {row['num_shots']:,} "
        f"shots, {row['seconds']:.0f} s."
    ]


def speed_table(rows: list[dict[str, Any]]) -> list[str]:
    """Milliseconds a circuit, by who simulates it."""
    lines = [
        "| circuit, on weber by √iSWAP | ours | `cirq.DensityMatrixSimulator` | qsim |",
        "|---|---|---|---|",
    ]
    for row in rows:
        times = [row[name] for name in ("ours", "cirq", "qsim")]
        cells = [f"{time:,.0f} ms" if time >= 100 else f"{time:.3g} ms" for time in times]
        lines.append(f"| {row['circuit']} | {' | '.join(cells)} |")
    return lines


def compile_table(rows: list[dict[str, Any]]) -> list[str]:
    """One row a template, processor and gate set."""
    lines = [
        "| circuit | processor | gate set | circuits | depth | gates on two qubits | swaps | "
        "expected fidelity | µs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        depth, pairs = (f"{a} → {b}" for a, b in (row["depth"], row["two_qubit_gates"]))
        cells = [row["circuit"], row["processor"], row["gateset"], row["circuits"], depth, pairs]
        cells += ["yes" if row["routed"] else "no", f"{row['fidelity']:.3f}"]
        cells += [f"{row['microseconds']:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def evaluate_table(rows: list[dict[str, Any]]) -> list[str]:
    """One row a job."""
    exact = {row["exact_accuracy"] for row in rows}
    (exact,) = exact
    lines = [
        f"Exact engine: {exact:.1%} of these {rows[0]['num_examples']} images.",
        "",
        "| processor | gate set | mitigation | accuracy | same class as exact | mean error of a "
        "value | circuits | shots | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = {tuple(how.items()): name for name, how in MITIGATIONS.items()}
    for row in rows:
        how = {"mitigate_readout": row["mitigate_readout"], "noise_scales": row["noise_scales"]}
        default = {"mitigate_readout": False, "noise_scales": "1"}
        given = tuple((name, value) for name, value in how.items() if value != default[name])
        cells = [row["processor"], row["gateset"], names[given]]
        cells += [f"{row['accuracy']:.1%}", f"{row['agreement']:.1%}", f"{row['mean_error']:.4f}"]
        cells += [f"{row['num_circuits']:,}", f"{row['num_shots']:,}", f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw_repetitions(preset: str, rows: list[dict[str, Any]]) -> None:
    """A preset's accuracy against repetitions."""
    from qrkt_keras.hardware import repetitions_picture

    accuracies: dict[str, dict[int, float]] = {}
    for name, how in WAYS.items():
        wanted = {option: how.get(option, default) for option, default in KEY.items()}
        for row in rows:
            same = ("noiseless", "mitigate_readout", "noise_scales")
            if all(row[option] == wanted[option] for option in same):
                accuracies.setdefault(name, {})[row["repetitions"]] = row["accuracy"]
    repetitions_picture(
        accuracies,
        rows[0]["exact_accuracy"],
        rows[0]["num_examples"],
        IMAGES / f"hardware_repetitions_{preset.split('_')[0]}.png",
        title=f"{preset}, CZ gates",
    )


if __name__ == "__main__":
    main()
