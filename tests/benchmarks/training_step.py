"""Training step of quantum presets against their classical twins, interleaved in one run.

    python tests/benchmarks/training_step.py [PRESET ...]

Both models have the same shapes; the twin has Dense layers for circuits. Rounds alternate between
the two, so that whatever else the machine does falls on both; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time


def compiled_step(name: str, quantum: bool, batch_size: int, steps: int, jit_compile: bool):
    """A function that runs `steps` training steps of a fresh model in one call."""
    import keras
    import numpy as np

    from qrkt_keras.zoo import QViT

    keras.utils.set_random_seed(0)
    model = QViT.from_preset(name, load_weights=False, quantum=quantum)
    model.compile(
        keras.optimizers.AdamW(1e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
        steps_per_execution=steps,
    )
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(batch_size * steps, *model.image_shape)).astype("float32")
    labels = rng.integers(0, model.num_classes, batch_size * steps)
    return lambda: model.fit(images, labels, batch_size=batch_size, verbose=0)


def measure(name: str, batch_size: int, steps: int, rounds: int, jit_compile: bool) -> dict:
    """Medians and quartiles in milliseconds a step, for the quantum model and its twin."""
    runs = {
        kind: compiled_step(name, kind == "quantum", batch_size, steps, jit_compile)
        for kind in ("quantum", "twin")
    }
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for kind, run in runs.items():
            start = time.perf_counter()
            run()
            times[kind].append(1e3 * (time.perf_counter() - start) / steps)
    return {kind: statistics.quantiles(values, n=4) for kind, values in times.items()}


def main() -> None:
    """Print a markdown table, a row a preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=["qvit_rk4_digits", "qvit_rk4_mnist"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-jit", action="store_true")
    arguments = parser.parse_args()
    print("| preset | quantum, ms a step | classical twin, ms a step | ratio |")
    print("|---|---|---|---|")
    for name in arguments.presets:
        result = measure(
            name, arguments.batch_size, arguments.steps, arguments.rounds, not arguments.no_jit
        )
        cells = [
            f"{median:.2f} ({low:.2f}-{high:.2f})"
            for low, median, high in (result["quantum"], result["twin"])
        ]
        ratio = result["quantum"][1] / result["twin"][1]
        print(f"| `{name}` | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
