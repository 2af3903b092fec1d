"""Trains QRKT-GAN in its forms, its classical twin and TransGAN on equal terms, and compares.

    python zoo/qrkt_gan/compare.py mnist       # 18 runs, a quarter of an hour each on one core
    python zoo/qrkt_gan/compare.py cifar10     # 5 runs, half an hour each

Every run is one `qrkt train`, which the script prints; what is finished is not run again, what was
interrupted is continued. `--report` runs nothing. The table and results_NAME.csv go into this
folder; a row of a run that is elsewhere stays in it. The picture is made where all recorded runs of
the first seed are.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from qrkt_keras.zoo import runs

HERE = Path(__file__).parent
# Name to the title of its row, its preset and flags. The card says how the rates were chosen.
MODELS = {
    "quantum": ("QRKT-GAN", "qrkt_{}"),
    "frozen": ("QRKT-GAN, circuits frozen at random", "qrkt_{}", "--freeze-circuits"),
    "plain": ("its Dense layers without circuits", "{}", "--learning-rate", "0.001"),
    "twin": ("classical twin", "qrkt_{}", "--classical", "--learning-rate", "0.001"),
    "trans": ("TransGAN, small", "trans_{}"),
    "thesis": ("QRKT-GAN, features are angles", "qrkt_{}_thesis"),
}
PRESETS = {"mnist": "gan_mnist", "cifar10": "gan_cifar10_small"}
FORMS = {"mnist": [*MODELS], "cifar10": ["quantum", "frozen", "plain", "twin", "trans"]}
SEEDS = {"mnist": (0, 1, 2), "cifar10": (0,)}
COLUMNS = ("fid", "kid", "kid_error", "inception_score", "feature_network")
COLUMNS += ("num_generated", "num_real")


def main() -> None:
    """Runs what is missing, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(PRESETS))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="by default all of them")
    parser.add_argument("--seeds", nargs="+", type=int, help="by default three, or one of CIFAR-10")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    models = options.models or FORMS[options.data]
    jobs = [(seed, model) for seed in options.seeds or SEEDS[options.data] for model in models]
    folders = {job: options.runs / f"{options.data}_{job[1]}_{job[0]}" for job in jobs}

    def run(job: tuple[int, str], folder: Path) -> None:
        seed, model = job
        _, preset, *flags = MODELS[model]
        if model == "plain":
            preset = write_plain(PRESETS[options.data], options.runs)
        words = ["train", preset.format(PRESETS[options.data]), *flags]
        runs.run_command(*words, "--seed", seed, "--output", folder, "--resume")

    if not options.report:
        runs.run_missing(folders, run)
    here = {job: read(folder) for job, folder in runs.finished_runs(folders).items()}
    rows = {**read_csv(options.data), **here}
    if not rows:
        sys.exit("No run is finished.")
    rows = dict(sorted(rows.items(), key=lambda item: (item[0][0], [*MODELS].index(item[0][1]))))
    first = [job for job in rows if job[0] == min(seed for seed, _ in rows)]
    if all(job in here for job in first):
        write_picture(options.data, {model: folders[seed, model] for seed, model in first})
    write_csv(options.data, rows)
    print("\n".join(table(rows)))


def write_plain(name: str, parent: Path) -> str:
    """Writes the preset of a QRKT-GAN without its circuits; attention's output gets a bias."""
    from qrkt_keras import zoo

    source = zoo.read_preset(f"qrkt_{name}")
    model = zoo.from_preset(source, load_weights=False, quantum=False, mlp_ratio=1)
    folder = parent / f"plain_{name}"
    model.save_to_preset(
        folder, recipe=source.recipe, data=source.data, include_weights=False, overwrite=True
    )
    return str(folder)


def read(folder: Path) -> dict:
    """A finished run's figures."""
    from qrkt_keras import zoo
    from qrkt_keras.training import GANRecipe

    history = json.loads((folder / "history.json").read_text())
    metadata = json.loads((folder / "preset" / "metadata.json").read_text())
    model = zoo.from_preset(folder / "preset", load_weights=False)
    recipe = history["recipe"]
    steps = history["images"] // GANRecipe(**recipe).images_per_step
    return {
        "generator": model.generator.count_params(),
        "discriminator": model.discriminator.count_params(),
        "angles": model.num_quantum_params,
        "images": history["images"],
        "epochs": history["epochs"],
        "best_epoch": history["best_epoch"],
        "collapsed": history["collapsed"],
        **{name: history["measures"][name] for name in COLUMNS},
        "seconds": history["seconds"],
        "step_seconds": round(history["seconds"] / (steps * history["epochs"]), 4),
        "command": metadata["command"],
    }


def read_csv(data: str) -> dict:
    """The runs that are recorded; numbers as `read` gives them."""
    path = HERE / f"results_{data}.csv"
    if not path.exists():
        return {}
    models = {title: model for model, (title, *_) in MODELS.items()}
    rows = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            job = int(row.pop("seed")), models[row.pop("model")]
            rows[job] = {name: number(value) for name, value in row.items()}
    return rows


def number(text: str) -> int | float | str:
    """A cell as a number, where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def write_csv(data: str, rows: dict) -> None:
    """All runs, a row each."""
    with open(HERE / f"results_{data}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "seed", *next(iter(rows.values()))])
        for (seed, model), row in rows.items():
            writer.writerow([MODELS[model][0], seed, *row.values()])


def table(rows: dict) -> list[str]:
    """The table of the card: mean and standard deviation over the seeds, least time a step."""
    lines = [
        "| | generator | discriminator | of it angles | FID | KID | IS | s a step | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, (title, *_) in MODELS.items():
        own = [row for (_, name), row in rows.items() if name == model]
        if own:
            cells = [f"{own[0][name]:,}" for name in ("generator", "discriminator", "angles")]
            cells += [
                runs.spread([row[name] for row in own], digits)
                for name, digits in (("fid", 2), ("kid", 3), ("inception_score", 2))
            ]
            # Other jobs ran beside some of them.
            cells += [f"{min(row['step_seconds'] for row in own):.3f}", str(len(own))]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def write_picture(data: str, folders: dict) -> None:
    """Samples of one seed side by side, a form each, with real images first."""
    import matplotlib.pyplot as plt
    from PIL import Image

    pictures = {"real": next(iter(folders.values())) / "real.png"}
    pictures |= {MODELS[model][0]: folder / "samples.png" for model, folder in folders.items()}
    columns = 3
    lines = -(-len(pictures) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.4 * columns, 4.8 * lines))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, file) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(Image.open(file), cmap="gray")
        axis.set_title(title)
    figure.tight_layout()
    figure.savefig(HERE / f"samples_{data}.png", dpi=80)


if __name__ == "__main__":
    main()
