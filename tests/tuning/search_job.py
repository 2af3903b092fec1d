"""A small search, to be killed: `python search_job.py FOLDER TRIALS EPOCHS`."""

import sys

from qrkt_keras.tuning import Space, ZooHyperModel, search


def main() -> None:
    folder, trials, epochs = sys.argv[1], *map(int, sys.argv[2:])
    texts = ["hidden_dim=4", "num_heads=1", "solver=rk1", "recipe.learning_rate=3e-3..3e-2:log"]
    recipe = ZooHyperModel("qvit_rk4_digits").recipe.with_given(epochs=epochs)
    hypermodel = ZooHyperModel("qvit_rk4_digits", Space(()).overridden(texts), recipe=recipe)
    search(
        hypermodel, output_dir=folder, tuner="random", max_trials=trials, resume=True,
        progress=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
