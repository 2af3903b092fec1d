"""A small training job: `distributed_job.py OUTPUT [--strategy NAME] [...]`; see the options.

It ends with `finished`, and OUTPUT/.weights-INDEX.npz has the weights of every process.
"""

import argparse
import json
import os

import keras
import numpy as np

from qrkt_keras import data
from qrkt_keras.training import Recipe, fit, make_strategy, strategies
from qrkt_keras.zoo import QViT

# At 0.1 the clip bites in every step: a test asserts it of the first.
RECIPE = Recipe(epochs=3, batch_size=128, learning_rate=1e-2, warmup_steps=4, clip_norm=0.1)


def make_model():
    keras.utils.set_random_seed(3)
    return QViT(
        (8, 8, 1),
        10,
        patch_size=4,
        hidden_dim=4,
        num_heads=2,
        mlp_dim=4,
        num_encoder_blocks=1,
        num_ode_blocks=0,
        num_decoder_blocks=0,
        dropout=0.0,
    )


def splits():
    """Digits, a part of them."""
    images, labels = data.arrays("digits", "train")
    return {"train": (images[:700], labels[:700]), "validation": (images[700:900], labels[700:900])}


class Say(keras.callbacks.Callback):
    """Says which epoch begins, so that whoever wants to can kill the process then."""

    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
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
    with strategies.scope(strategy):
        model = make_model()
    result = fit(
        model,
        splits(),
        RECIPE,
        output_dir=options.output,
        resume=options.resume,
        callbacks=[Say()],
        progress=False,
        strategy=strategy,
    )
    index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    np.savez(f"{options.output}/.weights-{index}.npz", *model.get_weights())
    print("finished", result.epochs, flush=True)


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
