"""Trains the networks by which generated images are measured, and writes them as presets.

    python zoo/features/train.py digits        # about a minute on two cores
    python zoo/features/train.py mnist         # about ten minutes
    python zoo/features/train.py cifar10       # a quarter of an hour on one core, on 20,000 images

The preset goes into the package, `qrkt_keras/zoo/features/presets/features_NAME`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import keras

import qrkt_keras
from qrkt_keras import data as datasets
from qrkt_keras.training import Recipe, fit
from qrkt_keras.zoo import FeatureNetwork

WIDTHS = {"digits": (32, 64), "mnist": (16, 32, 64), "cifar10": (32, 64, 128)}
RECIPES = {
    "digits": Recipe(
        epochs=40, batch_size=32, learning_rate=3e-3, warmup_steps=40, monitor="val_loss"
    ),
    "mnist": Recipe(
        epochs=4, batch_size=64, learning_rate=3e-3, warmup_steps=200, monitor="val_loss"
    ),
    "cifar10": Recipe(
        epochs=12, batch_size=64, learning_rate=3e-3, warmup_steps=200, monitor="val_loss"
    ),
}


def main() -> None:
    """Trains one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(RECIPES))
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    options = parser.parse_args()
    info = datasets.info(options.data)
    recipe = RECIPES[options.data]
    run = Path("runs") / f"features_{options.data}"
    keras.utils.set_random_seed(recipe.seed)
    network = FeatureNetwork(info.image_shape, info.num_classes, widths=WIDTHS[options.data])
    result = fit(
        network,
        options.data,
        recipe,
        output_dir=run,
        resume=options.resume,
        overwrite=not options.resume,
    )
    print(f"test accuracy {result.scores['test'].accuracy:.2%}")
    here = Path(qrkt_keras.__file__).parent / "zoo" / "features" / "presets"
    here.mkdir(exist_ok=True)
    preset = network.save_to_preset(
        run / "preset",
        recipe=recipe,
        data=options.data,
        scores=result.to_scores(),
        command=f"python zoo/features/train.py {options.data}",
        seed=recipe.seed,
        overwrite=True,
    )
    shutil.copytree(preset, here / f"features_{options.data}", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
