"""Searches small QTexts on IMDb reviews by Hyperband: many for an epoch, the better ones for all.

TFDS_DATA_DIR=... python tuning/qtext.py    # again to continue it, whatever happened
"""

from qrkt_keras.tuning import ZooHyperModel, default_space, search

SPACE = default_space("QText").overridden(
    [
        "num_encoder_blocks=0,1",
        "num_ode_blocks=1",
        "num_ansatz_layers=1",
        "hidden_dim=4..12:4",
        "mlp_dim=4..16:4",
        "recipe.learning_rate=0.0003..0.01:log",
        "recipe.schedule=warmup_cosine,constant",
    ]
)


def make_hypermodel() -> ZooHyperModel:
    """The preset, of which the space's values are drawn; few words, so that it fits the budget."""
    return ZooHyperModel(
        "qtext_120k_imdb",
        SPACE,
        arguments={"vocab_size": 5000, "vocabulary": None, "max_length": 128},
        max_params=70_000,
    )


if __name__ == "__main__":
    result = search(make_hypermodel(), output_dir="runs/tune_qtext", tuner="hyperband", resume=True)
    print(result.best)
