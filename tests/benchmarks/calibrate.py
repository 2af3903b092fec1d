"""Calibrates the plan's cost model: times engines on many circuits, fits, writes the table.

    python tests/benchmarks/calibrate.py            measure, fit, write calibration.json
    python tests/benchmarks/calibrate.py --refit    fit the table that is there again

Every row of the table is value and gradient by inputs and weights of one circuit on one engine, in
a TensorFlow graph without XLA: median seconds, and the engine's own count of operations and
multiply-adds. `seconds = a * operations + b * batch * multiply_adds` is fitted to each engine by
non-negative least squares of the relative error. The coefficients go into
`qrkt_keras/execution/plan.py` by hand; tests/benchmarks/test_calibration.py checks that they are
the table's, and how often the plan names the fastest engine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

TABLE = Path(__file__).with_name("calibration.json")
# Template, qubits, layers, batch.
CIRCUITS = [
    *[("rx_ring", n, 1, batch) for n, batch in ((4, 2048), (8, 256), (8, 2048), (12, 256))],
    *[("ry_ring", n, 1, batch) for n, batch in ((6, 256), (8, 2048), (12, 256))],
    *[("rx_ring", n, 2, batch) for n, batch in ((3, 256), (5, 2048), (8, 2048), (14, 64))],
    *[("hardware_efficient", n, 2, batch) for n, batch in ((4, 256), (8, 2048), (12, 256))],
    *[("hardware_efficient", n, 3, batch) for n, batch in ((3, 256), (5, 64), (8, 256), (12, 64))],
    *[("hardware_efficient", n, 6, batch) for n, batch in ((4, 2048), (8, 2048), (12, 256))],
    *[("patch", 8, d, batch) for d, batch in ((1, 256), (10, 256))],
]


def spec_of(template: str, num_qubits: int, num_layers: int):
    """The circuit of a row."""
    from qrkt_keras.circuits import templates

    if template == "patch":
        return templates.patch(num_layers)
    return templates.get(template, num_qubits, num_layers)


def seconds(engine, spec, batch: int, rounds: int = 7) -> float:
    """Median seconds of value and gradient."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(batch, 1, spec.num_inputs)), tf.float32)
    weights = tf.constant(rng.normal(size=(1, spec.num_weights)), tf.float32)

    @tf.function(autograph=False)
    def run(inputs, weights):
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            loss = tf.reduce_sum(engine.expectation(inputs, weights))
        return tape.gradient(loss, (inputs, weights))

    def once() -> float:
        start = time.perf_counter()
        for gradient in run(inputs, weights):
            gradient.numpy()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(rounds))


def measure() -> list[dict]:
    """One row an engine and circuit that it accepts."""
    from rich.progress import track

    from qrkt_keras.execution import (
        TFQ,
        LightCone,
        PauliPropagation,
        StateVector,
        UnsupportedCircuitError,
    )
    from qrkt_keras.execution.tfq import Costs

    engines = {
        "pauli_propagation": PauliPropagation,
        "state_vector": StateVector,
        "light_cone": LightCone,
        "tfq": TFQ,
    }
    rows = []
    for circuit in track(CIRCUITS, "circuits"):
        *arguments, batch = circuit
        spec = spec_of(*arguments)
        for form, make in engines.items():
            try:
                engine = make(spec)
            except UnsupportedCircuitError:
                continue
            if form == "light_cone" and engine.cones.is_whole:
                continue
            costs = Costs(spec) if form == "tfq" else engine
            rows.append(
                {
                    "circuit": circuit,
                    "form": form,
                    "engine": engine.name,
                    "seconds": seconds(engine, spec, batch, 3 if form == "tfq" else 7),
                    "operations": costs.num_operations,
                    "multiply_adds": costs.multiply_adds(batch),
                }
            )
    return rows


def fit(rows: list[dict]) -> dict[str, list[float]]:
    """The two coefficients of each engine."""
    coefficients = {}
    for engine in sorted({row["engine"] for row in rows}):
        own = [row for row in rows if row["engine"] == engine]
        matrix = [
            [row["operations"] / row["seconds"], row["multiply_adds"] / row["seconds"]]
            for row in own
        ]
        solution, _ = nnls(np.array(matrix), np.ones(len(own)))
        coefficients[engine] = [float(f"{value:.3g}") for value in solution]
    return coefficients


def right_winners(rows: list[dict], coefficients: dict) -> list[tuple[tuple, bool, str, str]]:
    """For every circuit: whether the estimate's fastest exact engine is the measured one's.

    As the plan chooses: TFQ is left out, and a form within 10 % of the fastest is right too, since
    that is what two measurements of one engine differ by.
    """
    results = []
    for circuit in dict.fromkeys(tuple(row["circuit"]) for row in rows):
        own = [r for r in rows if tuple(r["circuit"]) == circuit and r["engine"] != "tfq"]

        def estimate(row):
            per_operation, per_multiply_add = coefficients[row["engine"]]
            return per_operation * row["operations"] + per_multiply_add * row["multiply_adds"]

        chosen = min(own, key=estimate)
        fastest = min(own, key=lambda row: row["seconds"])
        right = chosen["seconds"] <= 1.1 * fastest["seconds"]
        results.append((circuit, right, chosen["form"], fastest["form"]))
    return results


def main() -> None:
    """Measure or refit, write, and print what the plan needs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refit", action="store_true")
    arguments = parser.parse_args()
    if arguments.refit:
        table = json.loads(TABLE.read_text())
    else:
        table = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": time.strftime("%Y-%m-%d"),
            "rows": measure(),
        }
    table["coefficients"] = fit(table["rows"])
    beside = TABLE.with_suffix(".tmp")
    beside.write_text(json.dumps(table, indent=1) + "\n")
    beside.replace(TABLE)
    print(table["coefficients"])
    results = right_winners(table["rows"], table["coefficients"])
    for circuit, right, chosen, fastest in results:
        print(f"{'right' if right else 'WRONG'} {circuit}: {chosen}, fastest {fastest}")
    print(f"{sum(right for _, right, _, _ in results)} of {len(results)} right")


if __name__ == "__main__":
    main()
