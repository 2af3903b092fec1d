"""Trains our presets and their controls, three seeds each, records the rows, packages the weights.

    python zoo/best.py qvit_3k_mnist             # 15 runs, four to twelve minutes each on one core
    python zoo/best.py qvit_10k_mnist            # 15 runs, seven to twenty minutes each
    python zoo/best.py qvit_20k_cifar10          # 15 runs, ten to thirty minutes each
    python zoo/best.py qtext_120k_imdb           # 12 runs: the matched twin is the twin
    python zoo/best.py patch_qnn_40k_mnist       # 9 runs, an hour for each of the model's own
    python zoo/best.py qvit_3k_mnist --report    # runs nothing
    python zoo/best.py qvit_3k_mnist --package   # puts the weights of seed 0 into the package too

The runs are those of `qrkt compare --models NAME --controls twin matched identity frozen --output
runs/NAME --resume`, with the controls that the model has; what is finished is not run again, what
was interrupted is continued. Rows go into zoo/results.csv, where those of runs that are elsewhere
stay. The table goes into the card of the model's family, zoo/FAMILY/README.md, between the comments
that name the preset; the curves, of the runs that are here, go beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from qrkt_keras import zoo
from qrkt_keras.training import atomic_write
from qrkt_keras.zoo import runs
from qrkt_keras.zoo.controls import CONTROLS, FORMS, controls_of
from qrkt_keras.zoo.presets import model_classes

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
# Task, and what was printed: at most so many parameters, and the accuracy.
PRINTED = {
    "qvit_3k_mnist": "3,520 parameters, 91 %",
    "qvit_10k_mnist": "10,112 parameters, 97.98 %",
    "qvit_20k_cifar10": "20,590 parameters, 34 %",
    "qtext_120k_imdb": "243,896 parameters, 85 %; CLAQS 87.08 %",
    "patch_qnn_40k_mnist": "40,448 angles, 98.40 %; 155,648 angles, 98.54 %",
}


def main() -> None:
    """Runs what is missing, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRINTED)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument(
        "--controls", nargs="*", choices=CONTROLS, help="by default all that it has"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--package", action="store_true", help="put seed 0 into the package")
    options = parser.parse_args()
    name = options.preset
    preset = zoo.read_preset(name)
    family = preset.folder.parents[1].name
    controls = options.controls
    if controls is None:
        controls = controls_of(model_classes()[preset.class_name])
    output = options.runs / name
    if not options.report:
        zoo.compare(
            [name],
            output_dir=output,
            controls=controls,
            seeds=options.seeds,
            # It halves a step on images; on texts every width of a batch would be compiled anew.
            xla=family == "qvit",
            resume=True,
        )
    folders = {
        (form, seed): runs.run_folder(output, name, form, seed) for form in FORMS for seed in SEEDS
    }
    here = runs.finished_runs(folders)
    if not here:
        sys.exit("No run is finished.")
    if options.package and ("quantum", 0) not in here:
        sys.exit("Packaged is seed 0 of the model itself, and that run is not finished.")
    new = [
        runs.read_run(folder, preset=name, model=FORMS[form].title)
        for (form, _), folder in here.items()
    ]
    rows = [row for row in runs.record_runs(HERE / "results.csv", new) if row["preset"] == name]
    write_picture(here, HERE / family / f"{name}.png", title=name)
    if options.package:
        runs.package_run(here["quantum", 0], name)
    lines = table(rows, name)
    print("\n".join(lines))
    runs.write_table(HERE / family / "README.md", name, lines)


def table(rows: list[dict], name: str) -> list[str]:
    """The table of the card; of several seeds the mean and the standard deviation."""
    lines = [
        f"Printed: {PRINTED[name]}.",
        "",
        "| model | parameters | qubits | test accuracy | validation | AUC | seeds | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for form in FORMS.values():
        own = [row for row in rows if row["model"] == form.title]
        own.sort(key=lambda row: int(row["seed"]))
        if own:
            test, validation, auc = (
                [float(row[column]) for row in own]
                for column in ("test_accuracy", "validation_accuracy", "test_macro_auc")
            )
            cells = [f"{int(own[0]['parameters']):,}", own[0]["qubits"]]
            cells += [f"{runs.spread([100 * one for one in test], 2)} %"]
            cells += [f"{runs.spread([100 * one for one in validation], 2)} %"]
            cells += [runs.spread(auc, 4), ", ".join(row["seed"] for row in own)]
            cells += [", ".join(row["seconds"] for row in own)]
            lines.append(f"| {form.title} | {' | '.join(cells)} |")
    return lines


def write_picture(folders: dict, path: Path, title: str) -> None:
    """Validation accuracy in each epoch, of the runs that are here."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    told = set()
    for (form, _), folder in folders.items():
        history = json.loads((folder / "history.json").read_text())["history"]["val_accuracy"]
        axis.plot(
            range(1, len(history) + 1),
            [100 * one for one in history],
            color=f"C{[*FORMS].index(form)}",
            alpha=0.8,
            linewidth=1.6 if form == "quantum" else 1,
            label=None if form in told else FORMS[form].title,
        )
        told.add(form)
    axis.set(title=title, xlabel="epoch", ylabel="validation accuracy, %")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    with atomic_write(path) as file:
        figure.savefig(file, dpi=80, format="png")


if __name__ == "__main__":
    main()
