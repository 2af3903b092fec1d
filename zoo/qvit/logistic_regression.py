"""The classical floor under every QViT row: logistic regression on the same splits' raw pixels.

    python zoo/qvit/logistic_regression.py [--data digits]

Fitted on the training split, its strength of regularisation chosen on the validation split, scored
once on the test split.
"""

from __future__ import annotations

import argparse

from sklearn.linear_model import LogisticRegression

from qrkt_keras import data


def main() -> None:
    """Print validation and test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    name = parser.parse_args().data
    splits = {}
    for split in ("train", "validation", "test"):
        images, labels = data.arrays(name, split)
        splits[split] = images.reshape(len(images), -1) / 255.0, labels
    models = [
        LogisticRegression(C=c, max_iter=5000).fit(*splits["train"]) for c in (0.01, 0.1, 1, 10)
    ]
    best = max(models, key=lambda model: model.score(*splits["validation"]))
    num_params = best.coef_.size + best.intercept_.size
    print(f"logistic regression on {name}: C={best.C}, {num_params} parameters")
    for split in ("validation", "test"):
        print(f"{split} accuracy {best.score(*splits[split]):.4f}")


if __name__ == "__main__":
    main()
