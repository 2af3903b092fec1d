"""docs/benchmarks.md and its plots, from the JSON alone.

python -m benchmarks.report [JSON]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import CASES, CONTESTANTS, OURS, PRESETS

# A peer whose values are further away than this computed something else.
PARITY = 1e-4

# A case before which others used more than this part of the machine is said to be disturbed.
QUIET = 0.1

INTRODUCTION = """\
# Benchmarks

This page is written by `make bench`; do not edit it. It measures this project beside the
simulators that a user would pick instead. Each contestant runs in a process and an environment of
its own, in the form that its own documentation advises for speed; all processes of a case take
turns, so ratios within a table hold where absolute times drift from run to run.

- **Seconds** are medians of the turns, with quartiles; a turn is a call that does not count, unless
  it takes seconds, and then as many calls in a row as fill 200 ms, as training makes them. For
  circuits a call is the values *and* the gradient of `sum(values * upstream)` by inputs *and*
  weights, in float32 (complex64).
- **First** is what the first call takes more than a later one: building, tracing, compiling.
- **Peak** is the most memory that the process held, less what it held before the work, so compiling
  counts.
- **Off by** is the largest difference of the values from this project's; the benchmark itself
  checks that everybody computed the same circuit.
- **Bold** is the fastest; *limit* is the engine's own matrix products and nothing else, three of
  each for value and gradient, measured at their shapes in the same run.
"""

PARTS = {
    "one layer": (
        "One layer",
        "`rx_ring` with one layer. Its closed form is why this project is that fast: "
        "the others have no means to find it.",
    ),
    "six layers": (
        "Six layers",
        "`hardware_efficient`, six layers, the inputs encoded again in each.",
    ),
    "Kawase's circuit": (
        "Kawase's circuit",
        "`patch(d)`: 8 qubits, 64 inputs, 8(6d + 16) weights, 10 observables; one circuit.",
    ),
    "384 qubits": (
        "384 qubits",
        "A `PQC` layer of 384 qubits against `Dense(384)` on the same rows, in one process. No "
        "peer takes part: each of them holds the state of all qubits.",
    ),
    "training step": (
        "Training steps",
        "A step of a QViT (28x28 images, patch 14, width 6, 2 heads, MLP 3; batch 64; AdamW) and "
        "of its classical twin of the same shapes. `thesis`: the preset `qvit_rk4_mnist`, 3 RK4 "
        "blocks and a decoder; `plain`: 4 encoder blocks. `hardware_efficient` has 3 layers here. "
        "`qvit_rk4_digits` is the preset of that name, of its own shape.",
    ),
    "presets": (
        "Training steps of the presets",
        "A training step (AdamW) of every classifier that comes as a preset, QViT or QText, and of "
        "its classical twin, at the batch size of its recipe; a preset that has a table above is "
        "listed with that table's numbers and batch. Texts have as many words as the model reads "
        "at most: training cuts a batch to its longest text, so that most of its steps are "
        "shorter. Medians alone.",
    ),
    "Kawase's networks": (
        "Training steps of Kawase's networks",
        "A step (AdamW) of the presets `patch_qnn_p…_d50_mnist`, 4, 9 or 16 circuits of 8 qubits "
        "for each image, at the source's batch of 1,000 images. The twin, a Dense layer for each "
        "circuit, is linear: it says how little is not circuits, and is no peer.",
    ),
    "GAN step": (
        "Steps of a GAN",
        "`qrkt_gan_mnist` and `qrkt_gan_mnist_thesis`: one update of the critic, with its gradient "
        "penalty, and one of the generator, against those of the classical twin; batch 32. "
        "`qrkt_gan_cifar10`: a whole "
        "training step at the thesis' size with circuits of 384 qubits, 5 updates of the critic "
        "and one of the generator at batch 32, and the memory that it takes.",
    ),
    "reference transformer": (
        "The reference transformer",
        "github salcc/QuantumTransformers (Flax, TensorCircuit) and our plain QViT with `rx_ring` "
        "at the same shapes, each with its twin. MNIST: patch 14, width 6, 2 heads, 4 blocks, MLP "
        "3. CIFAR-10: patch 16, width 12, 6 heads, 6 blocks, MLP 6. Batch 64.",
    ),
}

COLOURS = dict(
    zip(CONTESTANTS, ["#0b3d91", "#d1495b", "#3a86ff"] + ["#555555"] * 20, strict=False)
) | {
    "pennylane-jax": "#e09f3e",
    "tensorcircuit-scan": "#2a9d8f",
    "torchquantum": "#7b2cbf",
    "tfq": "#6c757d",
}


@dataclass(frozen=True)
class Target:
    """One of the numbers that were asked for.

    Args:
        what: in words.
        asked: the bound, in words.
        measured: the number, in words.
        met: whether it is within; None where something was not measured.
    """

    what: str
    asked: str
    measured: str
    met: bool | None


class Results:
    """The JSON, asked in the report's words."""

    def __init__(self, data: dict):
        self.cases = data["cases"]

    def entry(self, case: str, contestant: str, variant: str = "quantum") -> dict | None:
        """What became of a contestant, or None."""
        for entry in self.cases.get(case, {}).get("entries", []):
            if (entry["contestant"], entry["variant"]) == (contestant, variant):
                return entry
        return None

    def measured(self, case: str, variant: str = "quantum") -> list[dict]:
        """Entries with numbers, the fastest first."""
        entries = self.cases.get(case, {}).get("entries", [])
        found = [e for e in entries if e["status"] == "measured" and e["variant"] == variant]
        return sorted(found, key=lambda entry: entry["median"])

    def fastest(self, case: str, ours: bool, without: str = "") -> dict | None:
        """The fastest of this project's ways, or of the peers but one."""
        for entry in self.measured(case):
            if (entry["contestant"] in OURS) == ours and entry["contestant"] != without:
                return entry
        return None


def time(seconds: float) -> str:
    """Seconds in three digits and a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            return f"{seconds / size:.3g} {unit}"
    raise AssertionError


def title(contestant: str) -> str:
    """A contestant's name in tables."""
    return CONTESTANTS[contestant].title


def targets(results: Results) -> Iterator[Target]:
    """The issue's numbers, asked and measured."""

    def ratio(
        what: str,
        asked: float | None,
        over: dict | None,
        under: dict | None,
        of: Callable[[dict], float] = lambda entry: entry["median"],
        at_least: bool = True,
    ) -> Target:
        words = "–" if asked is None else f"{'≥' if at_least else '≤'} {asked:g}"
        if over is None or under is None or not of(under):
            return Target(what, words, "not measured", None)
        value = of(over) / of(under)
        names = " / ".join(dict.fromkeys(title(entry["contestant"]) for entry in (over, under)))
        met = None
        if asked is not None:
            met = value >= asked if at_least else value <= asked
        return Target(what, words, f"{value:.3g} ({names})", met)

    def compiling(entry: dict) -> float:
        return entry["compile_seconds"]

    def both(case: str) -> tuple[dict | None, dict | None]:
        return results.fastest(case, ours=False), results.fastest(case, ours=True)

    def measured(case: str, contestant: str, variant: str = "quantum") -> dict | None:
        entry = results.entry(case, contestant, variant)
        return entry if entry is not None and entry["status"] == "measured" else None

    def same(entry: dict | None, case: str, variant: str = "quantum") -> dict | None:
        return entry and measured(case, entry["contestant"], variant)

    def against_twin(what: str, asked: float | None, case: str) -> Target:
        quantum = results.fastest(case, ours=True)
        return ratio(what, asked, quantum, same(quantum, case, "twin"), at_least=False)

    peer = "times the fastest peer's speed"
    yield ratio(f"one layer, 8 qubits, batch 2048: {peer}", 100, *both("rx_ring-n8-l1"))
    six = "hardware_efficient-n8-l6"
    yield ratio(f"six layers, 8 qubits, batch 2048: {peer}", 10, *both(six))
    yield ratio(
        "the same without the scan, which this project wrote for TensorCircuit",
        None,
        results.fastest(six, ours=False, without="tensorcircuit-scan"),
        results.fastest(six, ours=True),
    )
    yield ratio(
        "six layers: compile time against TensorCircuit's",
        0.2,
        results.fastest(six, ours=True),
        measured(six, "tensorcircuit"),
        compiling,
        at_least=False,
    )
    ours = results.fastest("patch-d50", ours=True)
    yield ratio(
        "Kawase's circuit, d = 50: times TorchQuantum's speed",
        30,
        measured("patch-d50", "torchquantum"),
        ours,
    )
    deep = same(ours, "patch-d200")
    yield ratio(
        "Kawase's circuit: peak memory, d = 200 against 50",
        1.3,
        deep,
        ours,
        lambda entry: entry["peak_mb"],
        at_least=False,
    )
    yield ratio(
        "Kawase's circuit: compile time, d = 200 against 50",
        1.5,
        deep,
        ours,
        compiling,
        at_least=False,
    )
    for case, layers in (("rx_ring-n12-l1", "one layer"), ("hardware_efficient-n12-l6", "six")):
        yield ratio(f"12 qubits, batch 256, {layers}: {peer}", 1, *both(case))
    for shape in ("thesis", "plain"):
        for template, bound in (
            ("ry_ring", 1.35),
            ("rx_ring", 1.5),
            ("hardware_efficient", None),
        ):
            case = f"qvit-{shape}-{template}"
            what = f"training step, {shape} shape, `{template}`: against its twin"
            yield against_twin(what, bound, case)
    epoch = results.fastest("patch_qnn_p4_d50", ours=True)
    yield Target(
        "Kawase's network of 4 patches, d = 50: 60 steps, which are an epoch",
        "≤ 40 s",
        "not measured" if epoch is None else f"{60 * epoch['median']:.3g} s",
        None if epoch is None else 60 * epoch["median"] <= 40,
    )
    for preset in ("qrkt_gan_mnist", "qrkt_gan_mnist_thesis"):
        for part in ("critic", "generator"):
            what = f"`{preset}`, update of the {part}: against its twin"
            yield against_twin(what, 1.35, f"{preset}-{part}")
    full = results.fastest("qrkt_gan_cifar10", ours=True)
    yield Target(
        "GAN of 384 qubits, whole training steps: peak memory",
        "≤ 16,384 MB",
        "not measured" if full is None else f"{full['peak_mb']:,.0f} MB",
        None if full is None else full["peak_mb"] <= 2**14,
    )
    for name, bound in (("mnist", 5), ("cifar10", 250)):
        case = f"reference-{name}"
        yield ratio(f"reference transformer, {name}: times its speed", bound, *both(case))
    for template, bound in (("ry_ring", 2), ("rx_ring", 5)):
        what = f"384 qubits, `{template}`: against Dense(384)"
        yield against_twin(what, bound, f"{template}-n384")


def target_table(results: Results) -> Iterator[str]:
    """Asked, measured, and whether it is met."""
    yield "| | asked | measured | |"
    yield "|---|---|---|---|"
    for target in targets(results):
        verdict = {True: "met", False: "**missed**", None: "–"}[target.met]
        yield f"| {target.what} | {target.asked} | {target.measured} | {verdict} |"


def case_table(results: Results, name: str) -> Iterator[str]:
    """A row a contestant, the fastest marked; a sentence where a peer wins."""
    entries = results.cases[name]["entries"]
    peer, ours = results.fastest(name, ours=False), results.fastest(name, ours=True)
    quantum = results.measured(name)
    best = quantum[0] if quantum else None
    twins = any(entry["variant"] == "twin" for entry in entries)
    last = "against its twin" if twins else "against the fastest peer"
    yield f"| | seconds | {last} | first | peak | off by |"
    yield "|---|---|---|---|---|---|"
    for entry in entries:
        variant = entry["variant"]
        label = title(entry["contestant"])
        label += {"quantum": "", "limit": ": *limit*", "twin": ": classical twin"}[variant]
        if entry.get("note"):
            label += f" ({entry['note']})"
        if entry["status"] != "measured":
            yield f"| {label} | {unmeasured(entry)} | | | | |"
            continue
        cell = f"{time(entry['median'])} ({time(entry['low'])}–{time(entry['high'])})"
        if entry is best:
            cell = f"**{cell}**"
        twin = results.entry(name, entry["contestant"], "twin")
        if twins:
            against = entry["median"] / twin["median"] if variant == "quantum" and twin else None
        else:
            against = entry["median"] / peer["median"] if peer and variant == "quantum" else None
        if variant == "limit":
            of = results.entry(name, entry["contestant"])
            said = f"measured / limit {of['median'] / entry['median']:.2f}"
        else:
            said = "" if against is None else f"{against:.3g}"
        peak = "" if entry["peak_mb"] is None else f"{entry['peak_mb']:.0f} MB"
        off = ""
        if entry["parity"]:
            off = f"{entry['parity']['values']:.0e}"
            if entry["parity"]["values"] > PARITY:
                off = f"**{off}: another circuit!**"
        first = "" if variant == "limit" else f"{entry['compile_seconds']:.1f} s"
        yield f"| {label} | {cell} | {said} | {first} | {peak} | {off} |"
    if peer and ours:
        yield ""
        if peer["median"] < ours["median"]:
            times = ours["median"] / peer["median"]
            yield f"**Here a peer wins: {title(peer['contestant'])}, {times:.3g} times faster.**"
        else:
            times = peer["median"] / ours["median"]
            yield (
                f"{title(ours['contestant'])} is {times:.3g} times as fast as the fastest peer, "
                f"{title(peer['contestant'])}."
            )
    parameters = {
        (entry["contestant"], entry["variant"]): entry["parameters"]
        for entry in entries
        if entry.get("parameters")
    }
    if parameters:
        for variant in ("quantum", "twin"):
            counts = {count for (_, which), count in parameters.items() if which == variant}
            numbers = ", ".join(map(str, sorted(counts)))
            differ = " (**they differ**)" if len(counts) > 1 else ""
            yield ""
            yield f"Parameters, {variant}: {numbers}{differ}."


def unmeasured(entry: dict) -> str:
    """Why an entry has no numbers, for a cell of a table."""
    said = {"refused": "cannot: ", "failed": "failed: ", "absent": "absent: "}
    said["left out"] = "not tried: "
    return said.get(entry["status"], "") + entry["reason"].replace("|", "\\|")


def preset_table(results: Results) -> Iterator[str]:
    """A row a preset, the faster way marked; then the range of ratios and what is not measured."""
    ways = list(dict.fromkeys(name for case in PRESETS.values() for name in case.contestants))
    columns = "".join(f" {title(way)}: quantum / twin | ratio |" for way in ways)
    yield f"| | batch | parameters: quantum / twin |{columns}"
    yield "|---|---|---|" + "---|---|" * len(ways)
    ratios: dict[str, float] = {}
    for preset, case in PRESETS.items():
        if case.name not in results.cases:
            continue
        best = results.fastest(case.name, ours=True)
        parameters, cells = "", []
        for way in ways:
            quantum, twin = (results.entry(case.name, way, which) for which in ("quantum", "twin"))
            if quantum is None or quantum["status"] != "measured":
                cells += ["" if quantum is None else unmeasured(quantum), ""]
                continue
            seconds, ratio = time(quantum["median"]), quantum["median"] / twin["median"]
            if quantum is best:
                seconds, ratios[preset] = f"**{seconds}**", ratio
            parameters = f"{quantum['parameters']:,} / {twin['parameters']:,}"
            cells += [f"{seconds} / {time(twin['median'])}", f"{ratio:.3g}"]
        batch = results.cases[case.name]["case"]["batch"]
        yield "| " + " | ".join([f"`{preset}`", str(batch), parameters, *cells]) + " |"
    if len(ratios) > 1:
        low, high = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
        yield ""
        yield (
            f"Each in its faster way, they take from {ratios[low]:.3g} (`{low}`) to "
            f"{ratios[high]:.3g} (`{high}`) times their twins' seconds."
        )
    missing = [f"`{name}`" for name, case in PRESETS.items() if case.name not in results.cases]
    if missing:
        yield ""
        yield f"Not measured: {', '.join(missing)}."


def heading(name: str, case: dict) -> str:
    """A case in words."""
    if not case["template"]:  # a model, not a circuit
        return f"`{name}`"
    if case["template"] == "patch":
        return f"d = {case['num_layers']}, batch {case['batch']}"
    rows = "rows" if case["kind"] == "dense" else "batch"
    return f"`{case['template']}`, {case['num_qubits']} qubits, {rows} {case['batch']}"


def about(results: Results) -> Iterator[str]:
    """The machines and versions behind the numbers; more than one where cases were run apart."""
    machines: dict[str, list[str]] = {}
    versions: dict[str, set[str]] = {}
    for name, record in results.cases.items():
        machine = record["machine"]
        words = (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GiB, "
            f"{machine['system']}; {record['date'][:10]}, commit {record['commit']}"
        )
        machines.setdefault(words, []).append(name)
        for contestant, found in record["versions"].items():
            numbers = ", ".join(f"{package} {number}" for package, number in found.items())
            versions.setdefault(title(contestant), set()).add(numbers)
    yield "## Machine and versions"
    yield ""
    for words, names in machines.items():
        only = "" if len(machines) == 1 else f" ({len(names)} cases: {', '.join(names)})"
        yield f"- {words}{only}"
    disturbed = [name for name, record in results.cases.items() if record["busy"] > QUIET]
    if disturbed:
        yield (
            f"- **Not quiet**: others used more than {QUIET:.0%} of the machine before "
            f"{', '.join(disturbed)}"
        )
    yield ""
    yield "| | versions |"
    yield "|---|---|"
    for name, numbers in versions.items():
        yield f"| {name} | {'; '.join(sorted(numbers))} |"


AXES = {
    "qubits": ("num_qubits", "qubits", "3 layers, batch 256"),
    "depth": ("num_layers", "layers", "8 qubits, batch 256"),
    "batch": ("batch", "batch", "8 qubits, 3 layers"),
}
CENTRE = {"num_qubits": 8, "num_layers": 3, "batch": 256}


def line(results: Results, contestant: str, axis: str) -> list[tuple[int, dict]]:
    """A contestant's points of a sweep along an axis."""
    points = []
    for name, record in results.cases.items():
        case = record["case"]
        others = {key: value for key, value in CENTRE.items() if key != axis}
        if case["group"] == "sweep" and all(case[key] == value for key, value in others.items()):
            entry = results.entry(name, contestant)
            if entry is not None and entry["status"] == "measured":
                points.append((case[axis], entry))
    return sorted(points, key=lambda point: point[0])


def plots(results: Results, folder: Path) -> list[Path]:
    """One picture an axis; none where nothing was measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = []
    for name, (axis, label, fixed) in AXES.items():
        figure, axes = plt.subplots(figsize=(7.5, 5.4), layout="constrained")
        ticks: set[int] = set()
        for contestant in CONTESTANTS:
            points = line(results, contestant, axis)
            if not points:
                continue
            ticks.update(place for place, _ in points)
            axes.plot(
                [place for place, _ in points],
                [entry["median"] for _, entry in points],
                marker="o",
                linewidth=2.5 if contestant in OURS else 1.5,
                color=COLOURS[contestant],
                label=title(contestant),
            )
        if ticks:
            axes.set_yscale("log")
            if axis != "num_qubits":
                axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
            axes.minorticks_off()
            axes.set_xlabel(label)
            axes.set_ylabel("seconds, values and gradients")
            axes.set_title(f"hardware_efficient, {fixed}: cost against {label}")
            axes.grid(alpha=0.3)
            figure.legend(loc="outside lower center", ncols=2, fontsize=9)
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / f"benchmarks_{name}.png")
            figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    return paths


def text(results: Results, pictures: list[str]) -> str:
    """The page."""
    lines = [INTRODUCTION, "## Asked and measured", "", *target_table(results), ""]
    for picture in pictures:
        axis = Path(picture).stem.removeprefix("benchmarks_")
        lines += [f"![Seconds against {axis}, a line a simulator]({picture})", ""]
    groups = {case.group for case in CASES} & set(PARTS)
    for group in (part for part in PARTS if part in groups):
        names = [n for n, record in results.cases.items() if record["case"]["group"] == group]
        if not names:
            continue
        lines += [f"## {PARTS[group][0]}", "", PARTS[group][1], ""]
        if group == "presets":
            lines += [*preset_table(results), ""]
            continue
        for name in names:
            lines += [f"### {heading(name, results.cases[name]['case'])}", ""]
            lines += [*case_table(results, name), ""]
    missing = [
        f"- `{name}`, {title(entry['contestant'])}: {entry['reason']}"
        for name, record in results.cases.items()
        if record["case"]["group"] == "sweep"
        for entry in record["entries"]
        if entry["status"] != "measured"
    ]
    if missing:
        lines += ["## Points that the plots lack", "", *missing, ""]
    lines += about(results)
    return "\n".join(lines) + "\n"


def write(path: Path) -> Path:
    """Write the page and its plots beside the JSON."""
    results = Results(json.loads(path.read_text()))
    pictures = [
        str(picture.relative_to(path.parent)) for picture in plots(results, path.parent / "images")
    ]
    page = path.with_suffix(".md")
    page.write_text(text(results, pictures))
    return page


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.json"
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
