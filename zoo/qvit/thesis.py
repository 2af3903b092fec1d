"""Trains the thesis' MNIST rows, 65 epochs each, and records them beside the printed ones.

    python zoo/qvit/thesis.py              # 14 runs, five to fifteen minutes each on one core
    python zoo/qvit/thesis.py --report     # runs nothing

Every run is one `qrkt train`, which the script prints; what is finished is not run again, what was
interrupted is continued. Rows go into zoo/results.csv, where those of runs that are elsewhere
stay; the picture shows the runs that are here.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from qrkt_keras.zoo import runs

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results.csv"
SOLVERS = ("rk1", "rk2", "rk3", "rk4", "rk4_enhanced")
# The thesis prints 91 % for each quantum row, and 94 to 95 % for the classical ones.
PRINTED = {"quantum, thesis": "91 %", "classical, thesis": "94–95 %"}
# Its classical models have three decoders, but for RK1.
DECODERS = {"rk1": 1}
SEEDS = {"rk1": (0, 1, 2), "rk4": (0, 1, 2)}


def jobs() -> dict[tuple[str, str, int], list[str]]:
    """Model, preset and seed of each run, and its flags."""
    flags = ["--set", "variant=thesis"]
    all_jobs = {
        ("quantum, thesis", f"qvit_{solver}_mnist", seed): flags
        for solver in SOLVERS
        for seed in SEEDS.get(solver, (0,))
    }
    for solver in SOLVERS:
        decoders = ["--set", f"num_decoder_blocks={DECODERS.get(solver, 3)}"]
        all_jobs["classical, thesis", f"qvit_{solver}_mnist", 0] = [
            "--classical",
            *flags,
            *decoders,
        ]
    return all_jobs


def main() -> None:
    """Runs what is missing, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    folders = {}
    for model, preset, seed in jobs():
        name = f"{preset}_thesis" + "_classical" * model.startswith("classical")
        folders[model, preset, seed] = options.runs / (name + f"_seed{seed}" * (seed > 0))

    def run(job: tuple[str, str, int], folder: Path) -> None:
        _, preset, seed = job
        words = ["train", preset, *jobs()[job], "--xla", "--output", folder, "--resume"]
        runs.run_command(*words, *(["--seed", seed] if seed else []))

    if not options.report:
        runs.run_missing(folders, run)
    here = runs.finished_runs(folders)
    if not here:
        sys.exit("No run is finished.")
    new = [
        runs.read_run(folder, preset=preset, model=model)
        for (model, preset, _), folder in here.items()
    ]
    rows = runs.record_runs(RESULTS, new)
    write_picture(here)
    print("\n".join(table([row for row in rows if row["model"] in PRINTED])))


def table(rows: list[dict]) -> list[str]:
    """The table of the card; of several seeds the mean and the standard deviation."""
    lines = [
        "| model | solver | printed | test accuracy | macro F1 | macro AUC | parameters | qubits "
        "| seeds | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, printed in PRINTED.items():
        for solver in SOLVERS:
            own = [r for r in rows if (r["model"], r["preset"]) == (model, f"qvit_{solver}_mnist")]
            if own:
                accuracy, f1, auc = (
                    [float(row[f"test_{name}"]) for row in own]
                    for name in ("accuracy", "macro_f1", "macro_auc")
                )
                cells = [printed, runs.spread([100 * value for value in accuracy], 2) + " %"]
                cells += [runs.spread(f1, 3), runs.spread(auc, 4)]
                cells += [f"{int(own[0]['parameters']):,}", str(own[0]["qubits"]), str(len(own))]
                cells += [", ".join(str(row["seconds"]) for row in own)]
                lines.append(f"| {model} | `{solver}` | {' | '.join(cells)} |")
    return lines


def write_picture(folders: dict) -> None:
    """Validation accuracy in each epoch, of the runs that are here."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, model in zip(axes, PRINTED, strict=True):
        for (own, preset, seed), folder in folders.items():
            if own != model:
                continue
            history = json.loads((folder / "history.json").read_text())["history"]
            solver = preset.removeprefix("qvit_").removesuffix("_mnist")
            axis.plot(
                range(1, len(history["val_accuracy"]) + 1),
                history["val_accuracy"],
                color=f"C{SOLVERS.index(solver)}",
                alpha=1 if seed == 0 else 0.4,
                label=solver if seed == 0 else None,
            )
        axis.set(title=model, xlabel="epoch", ylim=(0.6, 1))
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_ylabel("validation accuracy")
    figure.tight_layout()
    figure.savefig(HERE / "thesis.png", dpi=80)


if __name__ == "__main__":
    main()
