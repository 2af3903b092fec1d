"""Small training jobs: `distributed_job.py OUTPUT [--jobs NAME ...] [--strategy NAME] [...]`.

It ends with `finished`. OUTPUT/NAME has what the job of that name writes, and in
OUTPUT/NAME/.weights-INDEX.npz the weights of every process.
"""

import argparse
import dataclasses
import json
import os

import keras
import numpy as np

from qrkt_keras import data
from qrkt_keras.training import Augmentation, Recipe, fit, make_strategy, strategies
from qrkt_keras.zoo import QText, QViT

# At 0.1 the clip bites in every step: a test asserts it of the first.
RECIPE = Recipe(epochs=3, batch_size=128, learning_rate=1e-2, warmup_steps=4, clip_norm=0.1)

RECIPES = {
    "digits": RECIPE,
    # Whatever has a state or a variable of its own, and soft labels. The rate is no better in the
    # second epoch, so it falls then, and worse in the third, which is therefore the last.
    "options": Recipe(
        epochs=5,
        batch_size=128,
        # Not Adam, which divides by what a gradient was before: where that is float error alone, so
        # is the step.
        optimizer="sgd",
        learning_rate=0.1,
        schedule="plateau",
        plateau_patience=1,
        decay_rate=0.5,
        monitor="learning_rate",
        warmup_steps=4,
        l2=1e-3,
        clip_norm=0.1,
        augment=Augmentation(shift=1, mixup=0.2),
        ema=0.8,
        early_stopping_patience=1,
    ),
    # Batches of different widths, and the gradient of an embedding, one row a word.
    "texts": dataclasses.replace(RECIPE, epochs=2, batch_size=64),
}

BLOCKS = {
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 4,
    "num_encoder_blocks": 1,
    "num_ode_blocks": 0,
    "num_decoder_blocks": 0,
    "dropout": 0.0,
}


def make_model(name="digits"):
    keras.utils.set_random_seed(3)
    if name == "texts":
        return QText(2, vocab_size=40, max_length=160, **BLOCKS)
    return QViT((8, 8, 1), 10, patch_size=4, **BLOCKS)


def splits(name="digits"):
    """Digits, a part of them; or texts of 3 to 150 words, one of which tells the class."""
    if name != "texts":
        images, labels = data.arrays("digits", "train")
        return {
            "train": (images[:700], labels[:700]),
            "validation": (images[700:900], labels[700:900]),
        }
    random, made = np.random.default_rng(0), {}
    for split, num in {"train": 300, "validation": 80}.items():
        labels = random.integers(2, size=num)
        texts = [
            " ".join(f"w{word}" for word in random.integers(30, size=random.integers(3, 150)))
            for _ in range(num)
        ]
        texts = [f"l{label} {text}" for label, text in zip(labels, texts, strict=True)]
        made[split] = np.array(texts), labels
    return made


class Say(keras.callbacks.Callback):
    """Says which epoch begins, so that whoever wants to can kill the process then."""

    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--jobs", nargs="+", choices=list(RECIPES), default=["digits"])
    parser.add_argument("--strategy", choices=strategies.STRATEGIES)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kerass-order", action="store_true")
    parser.add_argument("--print-masks", action="store_true")
    options = parser.parse_args()

    if options.cpus > 1:
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * options.cpus
        tf.config.set_logical_device_configuration(cpu, parts)
    strategy = make_strategy(options.strategy)
    if options.print_masks:
        print_masks(strategy)
        return
    if options.kerass_order:
        strategies.reduce_before_clipping = lambda optimizer: None
    for name in options.jobs:
        run(name, strategy, options)
    print("finished", flush=True)


def run(name, strategy, options):
    with strategies.scope(strategy):
        model = make_model(name)
    folder = f"{options.output}/{name}"
    fit(
        model,
        splits(name),
        RECIPES[name],
        output_dir=folder,
        resume=options.resume,
        callbacks=[Say()],
        progress=False,
        tensorboard=name == "options",
        strategy=strategy,
    )
    index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    np.savez(f"{folder}/.weights-{index}.npz", *model.get_weights())


def print_masks(strategy):
    """Dropout's masks on every replica: before and after the streams are separated."""
    import tensorflow as tf

    with strategy.scope():
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=1)])

    def masks():
        drawn = strategy.run(tf.function(lambda: model(tf.ones((1, 64)), training=True)))
        return [(mask.numpy() > 0).astype(int).tolist() for mask in drawn.values]

    before = masks()
    strategies.separate_random_streams(model, strategy)
    print(json.dumps({"before": before, "after": masks(), "later": masks()}))


if __name__ == "__main__":
    main()
