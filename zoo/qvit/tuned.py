"""Searches for a QViT on digits within the budget of the hand-made one, and trains both.

    python zoo/qvit/tuned.py              # the search, 20 minutes; 26 runs of half a minute
    python zoo/qvit/tuned.py --report     # runs nothing
    python zoo/qvit/tuned.py --package    # puts the weights of seed 0 into the package too

The search is `tuning/qvit.py` as a command; it is continued where it was interrupted, and so are
the runs. What was searched and tried is kept beside, `tuned_search.json` and `tuned_trials.json`;
the pictures of the guide are the search's. Rows go into zoo/results.csv, the table into README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

from qrkt_keras import zoo
from qrkt_keras.tuning import BEST
from qrkt_keras.tuning.report import REPORTS
from qrkt_keras.zoo import runs
from qrkt_keras.zoo.controls import FORMS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HAND_MADE, TUNED = "qvit_rk4_digits", "qvit_tuned_digits"
# As they stand in the table of all runs, where the hand-made one has rows of another day too.
MODELS = {HAND_MADE: "quantum, beside qvit_tuned_digits", TUNED: "quantum"}
# Three are asked for; ten say more.
SEEDS = tuple(range(10))
# What tells what the circuits buy, by their forms; three seeds each.
CONTROLS = {"twin": ["--classical"], "identity": ["--set", "template=identity"]}
SEARCH = (
    "--model qvit_rk4_digits --tuner bayesian --max-trials 24 --objective val_loss --folds 3 "
    "--max-params 3066 --max-qubits 320 --seed 0 --only --vary solver=rk1,rk2,rk4 "
    "share_weights=false,true trainable_encoding=false,true patch_stride=2,4 "
    "pooling=mean,depthwise attention_scale=null,2.0 hidden_dim=8..16:4 num_heads=2,4 "
    "mlp_dim=8..32:8 dropout=0..0.2:0.1 recipe.learning_rate=0.003..0.03:log "
    "recipe.weight_decay=0.001..0.1:log"
).split()


def main() -> None:
    """Searches and trains what is missing, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--package", action="store_true", help="put seed 0 into the package")
    options = parser.parse_args()
    search = options.runs / TUNED
    if not options.report:
        runs.run_command("tune", *SEARCH, "--output", search, "--resume")
        write_preset(search)
        keep_search(search)
    jobs = [(preset, "quantum", seed) for preset in MODELS for seed in SEEDS]
    jobs += [(TUNED, form, seed) for form in CONTROLS for seed in SEEDS[:3]]
    folders = {job: runs.run_folder(options.runs, *job) for job in jobs}
    if not options.report:
        runs.run_missing(folders, train)
    here = runs.finished_runs(folders)
    new = [
        runs.read_run(folder, preset=preset, model=title(preset, form))
        for (preset, form, _), folder in here.items()
    ]
    rows = runs.record_runs(HERE.parent / "results.csv", new)
    if options.package:
        runs.package_run(here[TUNED, "quantum", 0], TUNED)
    lines = table(rows)
    print("\n".join(lines))
    runs.write_table(HERE / "README.md", TUNED, lines)


def keep_search(folder: Path) -> None:
    """Copies what the search was and tried, and its pictures."""
    for name in ("search", "trials"):
        shutil.copy(folder / f"{name}.json", HERE / f"tuned_{name}.json")
    for name in REPORTS:
        if name.endswith(".png"):
            shutil.copy(folder / name, ROOT / "docs" / "images" / f"tuning_{name}")


def write_preset(folder: Path) -> None:
    """Writes the best one as a preset of the package, without weights, where it is another one."""
    best = zoo.read_preset(folder / BEST)
    if TUNED in zoo.list_presets():
        here = zoo.read_preset(TUNED)
        if (here.config, here.recipe) == (best.config, best.recipe):
            return
    model = zoo.from_preset(best, load_weights=False)
    target = zoo.read_preset(HAND_MADE).folder.with_name(TUNED)
    zoo.save_to_preset(
        model, target, recipe=best.recipe, data=best.data, include_weights=False, overwrite=True
    )


def title(preset: str, form: str) -> str:
    """What a form of a preset is called in the table of all runs."""
    return MODELS[preset] if form == "quantum" else FORMS[form].title


def train(job: tuple[str, str, int], folder: Path) -> None:
    """Trains a form of a preset with a seed, or continues it."""
    preset, form, seed = job
    flags = CONTROLS.get(form, [])
    runs.run_command("train", preset, *flags, "--seed", seed, "--output", folder, "--resume")


def table(rows: list[dict]) -> list[str]:
    """The table of the card."""
    trials = json.loads((HERE / "tuned_trials.json").read_text())
    kept = json.loads((HERE / "tuned_search.json").read_text())
    best = min(
        (trial for trial in trials if trial["status"] == "completed"),
        key=lambda trial: trial["score"],
    )
    lines = [
        f"{len(trials)} trials, seed {kept['seed']}; the best is trial {best['number']}, with a "
        f"mean {kept['objective']} of {best['score']:.4f} over {kept['folds']} folds. Test "
        "accuracy in percent:",
        "",
        "| preset | parameters | qubits | seeds 0, 1, 2 | their mean | ten seeds | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {}
    forms = [(preset, "quantum") for preset in MODELS] + [(TUNED, form) for form in CONTROLS]
    for preset, form in forms:
        model = title(preset, form)
        own = [row for row in rows if (row["preset"], row["model"]) == (preset, model)]
        own.sort(key=lambda row: int(row["seed"]))
        accuracies = [100 * float(row["test_accuracy"]) for row in own]
        name = f"`{preset}`"
        if form == "quantum":
            found[preset] = accuracies
        else:
            name += f", {model}"
        cells = [f"{int(own[0]['parameters']):,}", own[0]["qubits"]]
        cells += [", ".join(f"{one:.2f}" for one in accuracies[:3])]
        cells += [f"{statistics.mean(accuracies[:3]):.2f}"]
        cells += [runs.spread(accuracies, 2) if form == "quantum" else "–"]
        cells += [f"{statistics.mean(float(row['seconds']) for row in own):.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    gains = [
        statistics.mean(found[TUNED][:number]) - statistics.mean(found[HAND_MADE][:number])
        for number in (3, len(SEEDS))
    ]
    told = f"{gains[0]:+.2f} points in the mean of three seeds, {gains[1]:+.2f} in that of ten"
    lines += ["", f"The one that was found: {told}."]
    # The hand-made preset's own table has runs of another day.
    before = [100 * float(row["test_accuracy"]) for row in rows if is_packaged(row)]
    gain = statistics.mean(found[TUNED][:3]) - statistics.mean(before)
    lines += [
        f"Against the runs of `{HAND_MADE}` of an earlier day, of which its packaged weights are "
        f"({', '.join(f'{one:.2f}' for one in before)}), it is {gain:+.2f} points in the mean of "
        f"three seeds; with the weights as packaged, seed 0 of both, it is "
        f"{found[TUNED][0]:.2f} % against {before[0]:.2f} %.",
    ]
    return lines


def is_packaged(row: dict) -> bool:
    """Whether a run is one of those whose seed 0 is in the hand-made preset."""
    return (row["preset"], row["model"]) == (HAND_MADE, "quantum")


if __name__ == "__main__":
    main()
