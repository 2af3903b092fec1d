"""Trains Kawase's networks, analyses their minima, and puts ours beside the printed figures.

    python zoo/patch_qnn/kawase.py train      # 5 runs of 50 epochs on all 60,000 images: hours
    python zoo/patch_qnn/kawase.py analyse    # of what is trained: hours as well
    python zoo/patch_qnn/kawase.py report     # seconds
    python zoo/patch_qnn/kawase.py report --package p4_d50_seed0    # its weights into the package

Source: Y. Kawase, arXiv 2504.19239. Every run is one `qrkt train`, which the script prints; what is
finished is not run again, what was interrupted is continued. `analyse` leaves a JSON file for each
part in zoo/patch_qnn/analysis/ and computes what is not there, a part that was interrupted from
where it was: spectra over all trainable weights, the 196 biases included, at the best epoch, on a
fixed stratified sample of 6,000 training images and, for P = 4, d = 50, on all 60,000 too;
landscapes over the circuits' weights alone. Where a run is not here but the package has its
weights, spectra are of these; a landscape needs the run's snapshots. `report` puts the runs that
are here into such files and into zoo/results.csv, and makes the card's tables and pictures from
these files.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qrkt_keras import analysis, data, zoo
from qrkt_keras.training import atomic_write, read_trajectory
from qrkt_keras.training.job import write_json
from qrkt_keras.zoo import runs
from qrkt_keras.zoo.presets import METADATA, read_preset

HERE = Path(__file__).parent
ANALYSIS = HERE / "analysis"
# (patches, blocks): test loss, test accuracy, largest Hessian eigenvalue.
PRINTED = {
    (4, 50): (0.06607, 0.9798, 15.99),
    (4, 100): (0.06385, 0.9818, 22.54),
    (9, 50): (0.05552, 0.9823, 4.482),
    (16, 50): (0.04957, 0.9840, 3.341),
}
SAMPLE, ALL_IMAGES = 6000, 60_000
SEED = 0
# As in the source.
MAX_ITERATIONS = 100
TOLERANCE = 1e-3
NUM_POINTS, MARGIN = 20, 5.0
# Of all training images, after each epoch.
CURVES = ("train_loss", "train_accuracy")
# Ours.
NUM_EIGENVALUES = 5
# Of an axis, where the sample's landscape is compared with that of all images.
NUM_COMPARED = 5


@dataclasses.dataclass(frozen=True)
class Work:
    """How much is spent on what is random, and how.

    Attributes:
        samples: Products with the Hessian for a trace.
        probes: Random vectors for a density, and
        steps: products for each of these.
        circuits: Circuits at once, images times patches; 24,000 take 9 GB.
    """

    samples: int = 30
    probes: int = 2
    steps: int = 40
    circuits: int = 24_000

    @property
    def words(self) -> list[str]:
        """The options that say so, where they are not the default."""
        changed = {name: value for name, value in vars(self).items() if value != vars(Work())[name]}
        return runs.option_words(changed)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training."""

    patches: int
    blocks: int
    seed: int

    @property
    def name(self) -> str:
        """What `--only` takes, and files are named by."""
        return f"p{self.patches}_d{self.blocks}_seed{self.seed}"

    @property
    def preset(self) -> str:
        """What is trained."""
        return f"patch_qnn_p{self.patches}_d{self.blocks}_mnist"

    def folder(self, root: Path) -> Path:
        """Where it is."""
        return root / f"{self.preset}_seed{self.seed}"

    @property
    def parts(self) -> tuple[str, ...]:
        """What of it is analysed."""
        parts = ("power",)
        if self.blocks == 50 and self.seed == 0:
            parts += ("density", "landscape")
        if self == ALL_RUNS[0]:
            parts += ("lanczos", "trace", "power_all", "landscape_all", "moments_all")
        return parts


# In the order in which they are trained.
ALL_RUNS = (Run(4, 50, 0), Run(9, 50, 0), Run(16, 50, 0), Run(4, 50, 1), Run(4, 100, 0))
BY_NAME = {run.name: run for run in ALL_RUNS}
PARTS = ALL_RUNS[0].parts
NEED_SNAPSHOTS = ("landscape", "landscape_all")


def main() -> None:
    """Trains, analyses or reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    common.add_argument("--only", nargs="+", choices=BY_NAME, default=[*BY_NAME], metavar="NAME")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", parents=[common], help="train what is missing")
    analyse_options = commands.add_parser(
        "analyse", parents=[common], help="analyse what is missing, of what is trained"
    )
    analyse_options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    for name, value in vars(Work()).items():
        analyse_options.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    report_options = commands.add_parser("report", parents=[common], help="write what is known")
    report_options.add_argument(
        "--package", nargs="+", choices=BY_NAME, default=[], help="put weights into the package"
    )
    options = parser.parse_args()
    folders = {BY_NAME[name]: BY_NAME[name].folder(options.runs) for name in options.only}
    if options.command == "train":
        runs.run_missing(folders, train)
    elif options.command == "analyse":
        try:
            work = Work(**{name: getattr(options, name) for name in vars(Work())})
            analyse(folders, options.parts, work)
        except KeyboardInterrupt as interrupt:
            sys.exit(f"{interrupt}\nThe same command goes on; what is finished is kept.".strip())
    else:
        report(runs.finished_runs(folders))
        for name in options.package:
            run = BY_NAME[name]
            print(runs.package_run(run.folder(options.runs), run.preset))


def train(run: Run, folder: Path) -> None:
    """One run, continued where it was."""
    runs.run_command("train", run.preset, "--seed", run.seed, "--output", folder, "--resume")


# --- analyse -------------------------------------------------------------------------------


def analyse(folders: Mapping[Run, Path], parts: Sequence[str], work: Work) -> None:
    """Computes the parts that are not there, of the runs that are, or that the package has."""
    for run, folder in folders.items():
        preset = _preset(run, folder)
        if preset is None:
            print(f"{run.name}: no finished run in {folder}, nor its weights in the package.")
            continue
        weights = _weights(preset)
        missing = [
            part for part in run.parts if part in parts and not _is_there(run, part, weights)
        ]
        if preset.parent != folder:
            for part in [part for part in missing if part in NEED_SNAPSHOTS]:
                print(f"{run.name}: {part} needs the run's snapshots, and there is no {folder}.")
                missing.remove(part)
        if missing:
            _analyse_run(run, folder, missing, work)
            keras.backend.clear_session()
            gc.collect()


def _analyse_run(run: Run, folder: Path, parts: Sequence[str], work: Work) -> None:
    preset = _preset(run, folder)
    model = zoo.PatchQNN.from_preset(preset)  # the best epoch's weights
    if preset.parent == folder:
        epoch = _history(folder)["best_epoch"]
    else:
        epoch = read_json(_file(run, "training"))["epoch"]

    @functools.cache
    def loss(images: int, circuits_only: bool = False) -> analysis.DataLoss:
        variables = analysis.circuit_variables(model) if circuits_only else None
        examples = training_images(images)
        batch_size = max(1, work.circuits // run.patches)
        return analysis.DataLoss(model, *examples, variables=variables, batch_size=batch_size)

    # Images, the circuits' weights alone, and what is computed of that loss, or of its products.
    jobs: dict[str, tuple[int, bool, Callable[[Any], dict[str, Any]]]] = {
        "power": (SAMPLE, False, _power),
        "density": (SAMPLE, False, functools.partial(_density, work=work)),
        "landscape": (SAMPLE, True, functools.partial(_landscape, run, folder, epoch)),
        "lanczos": (SAMPLE, False, _lanczos),
        "trace": (SAMPLE, False, functools.partial(_trace, work=work)),
        "power_all": (ALL_IMAGES, False, _power),
        "landscape_all": (
            ALL_IMAGES,
            True,
            lambda of_all: _compared_landscapes(folder, loss(SAMPLE, True), of_all),
        ),
        "moments_all": (ALL_IMAGES, False, _moments),
    }
    for part in parts:
        words = ["analyse", "--only", run.name, "--parts", part, *work.words]
        command = f"python zoo/patch_qnn/kawase.py {' '.join(words)}"
        print(command, flush=True)
        begun = time.monotonic()
        images, circuits_only, compute = jobs[part]
        used = loss(images, circuits_only)
        # Of these weights: a run that was made anew has others.
        products = folder.parent / f"{run.name}_{part}_{_weights(preset)[:8]}.npz"
        if part in NEED_SNAPSHOTS:
            result = {"loss": used.value(), **compute(used)}
        else:
            products.parent.mkdir(parents=True, exist_ok=True)
            with analysis.KeptProducts(used, products, resume=True) as kept:
                continued = kept.num_kept > 0  # the seconds are then not all
                result = {"continued": continued, "loss": kept.mean_loss, **compute(kept)}
        content = {
            "preset": run.preset,
            "seed_of_training": run.seed,
            "epoch": epoch,
            "sha256": _weights(preset),
            "part": part,
            "num_images": used.num_examples,
            "num_weights": used.size,
            "seed": SEED,
            "command": command,
            "seconds": round(time.monotonic() - begun, 1),
            **result,
        }
        ANALYSIS.mkdir(exist_ok=True)
        write_json(_file(run, part), content)
        products.unlink(missing_ok=True)


@functools.cache
def training_images(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed stratified sample of the training images, or all of them."""
    images, labels = data.arrays("mnist", "train+validation")
    if number == ALL_IMAGES:
        return images, labels
    # As `qrkt analyse … --examples` draws it.
    _, drawn = data.stratified_split(labels, number, SEED)
    return images[drawn], labels[drawn]


def _power(loss: analysis.KeptProducts) -> dict[str, Any]:
    found = analysis.power_iteration(
        loss, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE, seed=SEED
    )
    return _eigenvalues(found)


def _lanczos(loss: analysis.KeptProducts) -> dict[str, Any]:
    found = analysis.lanczos(
        loss, NUM_EIGENVALUES, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE, seed=SEED
    )
    return _eigenvalues(found)


def _eigenvalues(found: analysis.Eigenpairs) -> dict[str, Any]:
    told = {
        "eigenvalues": found.values.tolist(),
        "residuals": found.residuals.tolist(),
        "num_iterations": found.num_iterations,
        "is_converged": bool(found.is_converged),
    }
    if found.is_interrupted:
        raise KeyboardInterrupt(f"Interrupted. So far: {told}")
    return told


def _trace(loss: analysis.KeptProducts, work: Work) -> dict[str, Any]:
    found = analysis.trace(loss, num_samples=work.samples, seed=SEED)
    if found.is_interrupted:
        raise KeyboardInterrupt(f"Interrupted. So far: {found.mean} of {len(found.samples)}")
    return {"trace": found.mean, "standard_error": found.standard_error, "samples": work.samples}


def _density(loss: analysis.KeptProducts, work: Work) -> dict[str, Any]:
    found = analysis.spectral_density(loss, num_steps=work.steps, num_probes=work.probes, seed=SEED)
    if found.is_interrupted:
        raise KeyboardInterrupt("Interrupted, before all probes were done.")
    return {"nodes": found.nodes.tolist(), "weights": found.weights.tolist()}


def _moments(loss: analysis.KeptProducts) -> dict[str, Any]:
    """Of the density by its first probe alone; two need two steps, which make them exact."""
    density = _density(loss, Work(probes=1, steps=2))
    return {"moments": _moments_of(density)}


def _moments_of(density: Mapping[str, Any]) -> list[float]:
    """v·Hv and |Hv|² of the first probe v, a vector of length 1."""
    nodes, weights = (np.array(density[name][0]) for name in ("nodes", "weights"))
    return [float(weights @ nodes**power) for power in (1, 2)]


def _landscape(run: Run, folder: Path, epoch: int, loss: analysis.DataLoss) -> dict[str, Any]:
    """Scanned where it is not there yet, and drawn."""
    plane = _plane(folder, loss)
    # Of these weights: a run that was made anew has another.
    checkpoint = folder / f"landscape_{_weights(folder / runs.PRESET)[:8]}.npz"
    continued = checkpoint.exists()
    landscape = analysis.scan(
        loss, plane, num_points=NUM_POINTS, margin=MARGIN, checkpoint=checkpoint, resume=True
    )
    analysis.landscape_picture(
        landscape,
        _picture(run),
        best=epoch,
        title=f"P = {run.patches}, d = {run.blocks}, {SAMPLE:,} images",
    )
    return {
        "continued": continued,  # the seconds are then not all
        "explained_ratios": plane.explained_ratios.tolist(),
        "x": landscape.x.tolist(),
        "y": landscape.y.tolist(),
        "num_missing": landscape.num_missing,
        "trajectory": plane.coordinates.tolist(),
        "values": _finite(landscape.values),
    }


def _compared_landscapes(
    folder: Path, of_sample: analysis.DataLoss, of_all: analysis.DataLoss
) -> dict[str, Any]:
    """The same plane, with fewer points, by the loss of the sample and by that of all images."""
    plane = _plane(folder, of_all)
    sample, everything = (
        analysis.scan(one, plane, num_points=NUM_COMPARED, margin=MARGIN)
        for one in (of_sample, of_all)
    )
    return {
        "x": everything.x.tolist(),
        "y": everything.y.tolist(),
        "values": _finite(everything.values),
        "values_of_sample": _finite(sample.values),
    }


def _plane(folder: Path, loss: analysis.DataLoss) -> analysis.Plane:
    return analysis.pca_plane(read_trajectory(folder, loss.model, loss.variables))


def _finite(values: np.ndarray) -> list[list[float | None]]:
    """As JSON, which has no infinity."""
    return [[one if math.isfinite(one) else None for one in row] for row in values.tolist()]


def draw_densities() -> None:
    """The densities that are there, side by side."""
    drawn = [run for run in ALL_RUNS if "density" in run.parts]
    found = {f"P = {run.patches}": _known(run, "density") for run in drawn}
    found = {name: one for name, one in found.items() if one is not None}
    if not found:
        return
    densities = {
        name: analysis.SpectralDensity(
            np.array(one["nodes"]), np.array(one["weights"]), one["num_weights"]
        )
        for name, one in found.items()
    }
    title = f"Hessian of the loss at the best epoch, d = 50, {SAMPLE:,} images"
    analysis.density_picture(densities, HERE / "densities.png", title=title)


def _file(run: Run, part: str) -> Path:
    return ANALYSIS / f"{run.name}_{part}.json"


def _picture(run: Run) -> Path:
    return HERE / f"landscape_{run.name}.png"


def _preset(run: Run, folder: Path) -> Path | None:
    """The run's own, or that of the package, if its weights are those of the recorded training."""
    own = folder / runs.PRESET
    if (own / METADATA).exists():
        return own
    packaged, training = read_preset(run.preset), _file(run, "training")
    if not training.exists():
        return None
    is_recorded = packaged.metadata.get("sha256") == read_json(training)["sha256"]
    return packaged.folder if is_recorded else None


def _weights(preset: Path) -> str:
    """The digest of the weights, by which figures belong together."""
    return read_json(preset / METADATA)["sha256"]


def _is_there(run: Run, part: str, weights: str) -> bool:
    file = _file(run, part)
    is_of_run = file.exists() and read_json(file).get("sha256") == weights
    return is_of_run and (part != "landscape" or _picture(run).exists())


def _known(run: Run, part: str) -> dict[str, Any] | None:
    """What was found of the weights whose training is recorded; of others, nothing."""
    training = _file(run, "training")
    if not training.exists() or not _is_there(run, part, read_json(training)["sha256"]):
        return None
    return read_json(_file(run, part))


# --- report --------------------------------------------------------------------------------


def report(folders: Mapping[Run, Path]) -> None:
    """Records the runs that are here, and writes the card's tables and densities of all known."""
    rows = []
    for run, folder in folders.items():
        row = runs.read_run(folder, preset=run.preset, model="quantum")
        rows.append(row)
        history, scores = _history(folder), read_json(folder / "scores.json")
        content = {
            "preset": run.preset,
            "seed": run.seed,
            "epoch": history["best_epoch"],
            "sha256": _weights(folder / runs.PRESET),
            "train_loss": scores["train"]["loss"],
            "test_loss": scores["test"]["loss"],
            "test_accuracy": scores["test"]["accuracy"],
            "seconds": round(history["seconds"]),
            "command": row["command"],
            "curves": {name: history["history"][name] for name in CURVES},
        }
        ANALYSIS.mkdir(exist_ok=True)
        write_json(_file(run, "training"), content)
    if rows:
        runs.record_runs(HERE.parent / "results.csv", rows)
    draw_history()
    draw_densities()
    tables = {
        "results": results_table(),
        "spectra": spectra_table(),
        "densities": densities_table(),
        "agreement": agreement_table(ALL_RUNS[0]),
    }
    for name, lines in tables.items():
        print("\n".join(lines), end="\n\n")
        runs.write_table(HERE / "README.md", name, lines)


def results_table() -> list[str]:
    """What was reached, beside what is printed."""
    lines = [
        "| P | d | circuit weights | seed | epoch | training loss | test loss | printed "
        "| test accuracy | printed | largest eigenvalue: 6,000 images | all 60,000 | printed "
        "| seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in ALL_RUNS:
        if not _file(run, "training").exists():
            continue
        trained = read_json(_file(run, "training"))
        loss, accuracy, eigenvalue = PRINTED[run.patches, run.blocks]
        weights = run.patches * 8 * (6 * run.blocks + 16)
        cells = [run.patches, run.blocks, f"{weights:,}", run.seed, trained["epoch"]]
        cells += [f"{trained['train_loss']:.5f}", f"{trained['test_loss']:.5f}", f"{loss:.5f}"]
        cells += [f"{trained['test_accuracy']:.2%}", f"{accuracy:.2%}"]
        cells += [_largest(run, "power"), _largest(run, "power_all"), f"{eigenvalue:.4g}"]
        cells += [f"{trained['seconds']:,}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _largest(run: Run, part: str) -> str:
    found = _known(run, part)
    return f"{found['eigenvalues'][0]:.4g}" if found else "–"


def spectra_table() -> list[str]:
    """What the analysis found, as far as it has come."""
    lines = [
        "| P | d | seed | images | loss | five largest eigenvalues (Lanczos) | power iteration: "
        "iterations, residual | trace (samples) | lowest, highest Ritz value (probes × steps) "
        "| two components explain "
        "| seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in ALL_RUNS:
        for suffix in ("", "_all"):
            parts = [part for part in run.parts if part.endswith("_all") == bool(suffix)]
            found = {part.removesuffix("_all"): _known(run, part) for part in parts}
            found = {part: one for part, one in found.items() if one is not None}
            if found:
                lines.append(_spectrum_row(run, found))
    return lines


def _spectrum_row(run: Run, found: Mapping[str, Mapping[str, Any]]) -> str:
    any_part = next(iter(found.values()))
    cells = [str(run.patches), str(run.blocks), str(run.seed)]
    cells += [f"{any_part['num_images']:,}", f"{any_part['loss']:.5f}"]
    tellers = {
        "lanczos": lambda one: ", ".join(f"{value:.4g}" for value in one["eigenvalues"]),
        "power": lambda one: f"{one['num_iterations']}, {one['residuals'][0]:.1g}",
        "trace": lambda one: f"{one['trace']:.4g} ± {one['standard_error']:.2g} ({one['samples']})",
        "density": lambda one: (
            f"{np.min(one['nodes']):.3g}, {np.max(one['nodes']):.4g} "
            f"({'×'.join(map(str, np.shape(one['nodes'])))})"
        ),
        "landscape": lambda one: (
            # Where landscapes are only compared, the plane is the one above.
            f"{sum(one['explained_ratios']):.1%}" if "explained_ratios" in one else "–"
        ),
    }
    cells += [tell(found[part]) if part in found else "–" for part, tell in tellers.items()]
    least = "> " if any(one.get("continued") for one in found.values()) else ""
    cells += [f"{least}{sum(one['seconds'] for one in found.values()):,.0f}"]
    return f"| {' | '.join(cells)} |"


def agreement_table(run: Run) -> list[str]:
    """The sample beside all images, as far as both are known."""
    rows = [("quantity", "6,000 images", "all 60,000", "ratio")]
    power, power_all = _known(run, "power"), _known(run, "power_all")
    if power and power_all:
        rows.append(("loss", *_ratio(power["loss"], power_all["loss"])))
        eigenvalues = (one["eigenvalues"][0] for one in (power, power_all))
        rows.append(("largest eigenvalue", *_ratio(*eigenvalues)))
    density, moments_all = _known(run, "density"), _known(run, "moments_all")
    if density and moments_all:
        names = ("mean eigenvalue", "mean square of the eigenvalues")
        pairs = zip(_moments_of(density), moments_all["moments"], strict=True)
        for name, pair in zip(names, pairs, strict=True):
            rows.append((f"{name}, by one random vector", *_ratio(*pair)))
    landscapes = _known(run, "landscape_all")
    if landscapes:
        ours, theirs = (
            np.array(landscapes[name], np.float64) for name in ("values_of_sample", "values")
        )
        ratios = ours / theirs
        known = ratios[np.isfinite(ratios)]
        told = f"{known.min():.3f} to {known.max():.3f}"
        reach = (f"{np.nanmin(one):.3g} to {np.nanmax(one):.3g}" for one in (ours, theirs))
        rows.append((f"loss on {known.size} points of the plane", *reach, told))
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|---|---|---|---|", *rest]


def densities_table() -> list[str]:
    """How many eigenvalues are where, by each random vector of a density."""
    bounds = {
        "above 1": lambda nodes: nodes > 1,
        "above 0.1": lambda nodes: nodes > 0.1,
        "below -0.01": lambda nodes: nodes < -0.01,
    }
    lines = [f"| P | eigenvalues | {' | '.join(bounds)} |", f"|{'---|' * (2 + len(bounds))}"]
    for run in ALL_RUNS:
        density = _known(run, "density")
        if density:
            cells = [f"{run.patches}", f"{density['num_weights']:,}"]
            for is_there in bounds.values():
                counts = [
                    density["num_weights"] * np.dot(weights, is_there(np.array(nodes)))
                    for nodes, weights in zip(density["nodes"], density["weights"], strict=True)
                ]
                cells.append(", ".join(f"{count:,.0f}" for count in counts))
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(sample: float, everything: float) -> tuple[str, str, str]:
    return f"{sample:.4g}", f"{everything:.4g}", f"{sample / everything:.3f}"


def draw_history() -> None:
    """Loss and accuracy of all training images after each epoch, of the recorded runs."""
    from matplotlib.figure import Figure

    recorded = {
        run: read_json(file) for run in ALL_RUNS if (file := _file(run, "training")).exists()
    }
    if not recorded:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (run, trained) in enumerate(recorded.items()):
        best = trained["epoch"]
        loss, accuracy = (trained["curves"][name] for name in CURVES)
        epochs = range(1, len(loss) + 1)
        for axes, values in ((left, loss), (right, [100 * one for one in accuracy])):
            told = f"P = {run.patches}, d = {run.blocks}, seed {run.seed}"
            axes.plot(epochs, values, color=f"C{number}", linewidth=1.2, label=told)
            axes.plot(best, values[best - 1], "o", color=f"C{number}", markersize=4)
    left.set(yscale="log", xlabel="epoch", ylabel="loss of all training images")
    right.set(xlabel="epoch", ylabel="accuracy on them, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend(fontsize="small")
    with atomic_write(HERE / "history.png") as file:
        figure.savefig(file, dpi=80, format="png")


# --- files ---------------------------------------------------------------------------------


def _history(folder: Path) -> dict[str, Any]:
    return read_json(folder / "history.json")


def read_json(file: Path) -> dict[str, Any]:
    """What is in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
