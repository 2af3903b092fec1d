"""Searches PatchQNNs on MNIST whose circuits fit on Google's processor weber.

TFDS_DATA_DIR=... python tuning/patch_qnn.py    # again to continue it, whatever happened
"""

from qrkt_keras.tuning import ZooHyperModel, default_space, search

SPACE = default_space("PatchQNN").overridden(["num_blocks=1..10"])


def make_hypermodel() -> ZooHyperModel:
    """The preset, of which the space's values are drawn, for few epochs."""
    preset = ZooHyperModel("patch_qnn_p4_d50_mnist")
    recipe = preset.recipe.with_given(epochs=5)
    return ZooHyperModel(
        "patch_qnn_p4_d50_mnist", SPACE, recipe=recipe, max_params=3000, processor="weber"
    )


if __name__ == "__main__":
    result = search(
        make_hypermodel(),
        output_dir="runs/tune_patch_qnn",
        tuner="random",
        max_trials=12,
        objective="val_accuracy",
        resume=True,
    )
    print(result.best)
