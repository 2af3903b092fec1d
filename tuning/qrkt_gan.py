"""Searches QRKT-GANs on digits by the Fréchet distance of their images.

python tuning/qrkt_gan.py    # again to continue it, whatever happened
"""

from qrkt_keras import zoo
from qrkt_keras.tuning import ZooHyperModel, default_space, search

SPACE = default_space("QRKTGAN", zoo.read_preset("qrkt_gan_digits").config).overridden(
    ["solver=rk1,rk2", "template=ry_ring", "discriminator_depth=1,2", "recipe.augment=translation"]
)


def make_hypermodel() -> ZooHyperModel:
    """The preset, of which the space's values are drawn, for few epochs."""
    recipe = ZooHyperModel("qrkt_gan_digits").recipe.with_given(epochs=40)
    return ZooHyperModel("qrkt_gan_digits", SPACE, recipe=recipe, max_seconds=600)


if __name__ == "__main__":
    result = search(
        make_hypermodel(),
        output_dir="runs/tune_qrkt_gan",
        tuner="bayesian",
        max_trials=12,
        resume=True,
    )
    print(result.best)
