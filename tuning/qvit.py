"""Searches QViTs on digits that are no larger than the hand-made preset, by cross-validation.

python tuning/qvit.py    # again to continue it, whatever happened
"""

from qrkt_keras.tuning import Space, ZooHyperModel, search

# Circuits that are computed fast, and what is around them.
SPACE = Space(()).overridden(
    [
        "solver=rk1,rk2,rk4",
        "share_weights=false,true",
        "trainable_encoding=false,true",
        "patch_stride=2,4",
        "pooling=mean,depthwise",
        "attention_scale=null,2.0",
        "hidden_dim=8..16:4",
        "num_heads=2,4",
        "mlp_dim=8..32:8",
        "dropout=0..0.2:0.1",
        "recipe.learning_rate=0.003..0.03:log",
        "recipe.weight_decay=0.001..0.1:log",
    ]
)


def make_hypermodel() -> ZooHyperModel:
    """The preset, of which the space's values are drawn, within its budget."""
    return ZooHyperModel("qvit_rk4_digits", SPACE, max_params=3066, max_qubits=320)


if __name__ == "__main__":
    result = search(
        make_hypermodel(),
        output_dir="runs/tune_qvit",
        tuner="bayesian",
        max_trials=24,
        objective="val_loss",
        folds=3,
        resume=True,
    )
    print(result.best)
