"""Searches TransGANs, the classical rivals, on digits by the Fréchet distance of their images.

python tuning/trans_gan.py    # again to continue it, whatever happened
"""

from qrkt_keras import zoo
from qrkt_keras.tuning import ZooHyperModel, default_space, search

SPACE = default_space("TransGAN", zoo.read_preset("trans_gan_digits").config).overridden(
    ["recipe.augment=translation"]
)


def make_hypermodel() -> ZooHyperModel:
    """The preset, of which the space's values are drawn, for few epochs."""
    recipe = ZooHyperModel("trans_gan_digits").recipe.with_given(epochs=40)
    return ZooHyperModel("trans_gan_digits", SPACE, recipe=recipe, max_seconds=600)


if __name__ == "__main__":
    result = search(
        make_hypermodel(),
        output_dir="runs/tune_trans_gan",
        tuner="bayesian",
        max_trials=12,
        resume=True,
    )
    print(result.best)
