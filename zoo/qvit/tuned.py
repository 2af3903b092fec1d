"""Searches for a QViT on digits within the budget of the hand-made one, and trains both.

    python zoo/qvit/tuned.py              # the search, 20 minutes; 20 runs of half a minute
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

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HAND_MADE, TUNED = "qvit_rk4_digits", "qvit_tuned_digits"
# As they stand in the table of all runs, where the hand-made one has rows of another day too.
MODELS = {HAND_MADE: "quantum, beside qvit_tuned_digits", TUNED: "quantum"}
# Three are asked for; ten say more.
SEEDS = tuple(range(10))
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
    keep_search(search)
    if TUNED not in zoo.list_presets():
        write_preset(search)
    folders = {
        (preset, seed): runs.run_folder(options.runs, preset, "quantum", seed)
        for preset in MODELS
        for seed in SEEDS
    }
    if not options.report:
        runs.run_missing(folders, train)
    here = runs.finished_runs(folders)
    new = [
        runs.read_run(folder, preset=preset, model=MODELS[preset])
        for (preset, _), folder in here.items()
    ]
    rows = runs.record_runs(HERE.parent / "results.csv", new)
    if options.package:
        runs.package_run(here[TUNED, 0], TUNED)
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
    """Writes the best one as a preset of the package, without weights."""
    best = zoo.read_preset(folder / BEST)
    model = zoo.from_preset(best, load_weights=False)
    target = zoo.read_preset(HAND_MADE).folder.with_name(TUNED)
    zoo.save_to_preset(model, target, recipe=best.recipe, data=best.data, include_weights=False)


def train(job: tuple[str, int], folder: Path) -> None:
    """Trains a preset with a seed, or continues it."""
    preset, seed = job
    runs.run_command("train", preset, "--seed", seed, "--output", folder, "--resume")


def table(rows: list[dict]) -> list[str]:
    """The table of the card."""
    folder = HERE / "tuned_search.json"
    trials = json.loads((HERE / "tuned_trials.json").read_text())
    told = json.loads(folder.read_text())
    best = min(
        (trial for trial in trials if trial["status"] == "completed"),
        key=lambda trial: trial["score"],
    )
    lines = [
        f"{len(trials)} trials, seed {told['seed']}; the best is trial {best['number']}, with a "
        f"mean {told['objective']} of {best['score']:.4f} over {told['folds']} folds. Test "
        "accuracy in percent:",
        "",
        "| preset | parameters | qubits | seeds 0, 1, 2 | their mean | ten seeds | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {}
    for preset, model in MODELS.items():
        own = [row for row in rows if (row["preset"], row["model"]) == (preset, model)]
        own.sort(key=lambda row: int(row["seed"]))
        found[preset] = [100 * float(row["test_accuracy"]) for row in own]
        cells = [f"{int(own[0]['parameters']):,}", own[0]["qubits"]]
        cells += [", ".join(f"{one:.2f}" for one in found[preset][:3])]
        cells += [f"{statistics.mean(found[preset][:3]):.2f}", runs.spread(found[preset], 2)]
        cells += [f"{statistics.mean(float(row['seconds']) for row in own):.0f}"]
        lines.append(f"| `{preset}` | {' | '.join(cells)} |")
    gains = [
        statistics.mean(found[TUNED][:number]) - statistics.mean(found[HAND_MADE][:number])
        for number in (3, len(SEEDS))
    ]
    told = f"{gains[0]:+.2f} points in the mean of three seeds, {gains[1]:+.2f} in that of ten"
    return [*lines, "", f"The one that was found: {told}."]


if __name__ == "__main__":
    main()
