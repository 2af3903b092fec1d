"""A training job to be killed: `killed_job.py OUTPUT [--resume] [--stop-in-write N]`.

With `--stop-in-write N` it stands still in its N-th write of the checkpoint, when the new file is
complete but does not have its name yet.
"""

import argparse
import time

import keras

from qrkt_keras.training import Augmentation, Recipe, files, fit

EPOCHS = 16


class Slow(keras.callbacks.Callback):
    """Gives whoever wants to kill the job time to do so."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.15)


def make_model():
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dropout(0.2)(layers.Dense(24, activation="gelu")(x))
    x = layers.Dropout(0.2)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-in-write", type=int, default=0)
    options = parser.parse_args()

    replace, writes = files.os.replace, 0

    def stopping_replace(source, target):
        nonlocal writes
        writes += 1
        if writes == options.stop_in_write:
            print("standing still", flush=True)
            time.sleep(600)
        replace(source, target)

    files.os.replace = stopping_replace
    # No seed when continued: all that matters must come from the checkpoint.
    if not options.resume:
        keras.utils.set_random_seed(7)
    result = fit(
        make_model(),
        "digits",
        Recipe(
            epochs=EPOCHS,
            batch_size=32,
            learning_rate=3e-3,
            schedule="plateau",
            plateau_patience=2,
            warmup_steps=80,
            augment=Augmentation(shift=1, zoom=0.1, mixup=0.2),
        ),
        output_dir=options.output,
        resume=options.resume,
        callbacks=[Slow()],
    )
    print("finished", result.epochs, flush=True)


if __name__ == "__main__":
    main()
