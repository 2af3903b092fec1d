"""Pictures: where a circuit is on a processor, and what shots buy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import cirq
import numpy as np

from qrkt_keras.hardware.compilation import CompiledCircuit
from qrkt_keras.hardware.jobs import Training
from qrkt_keras.hardware.processors import Processor, as_processor, native_gate
from qrkt_keras.training.files import atomic_write

_UNUSED = "#c9c9c9"


def placement_picture(
    compiled: CompiledCircuit,
    path: str | os.PathLike[str],
    processor: str | Processor | None = None,
    title: str | None = None,
) -> None:
    """Draws a processor's lattice with the qubits and pairs that a compiled circuit uses.

    Colours are errors from the calibration: of qubits those of readout, of pairs those of the gate
    set's two-qubit gate. What is not used is grey. A qubit has the name that it has in the circuit
    at its beginning.

    Args:
        compiled: The circuit.
        path: The PNG file.
        processor: What it was compiled for; by default the one of that name.
        title: Title; by default the processor's and the gate set's names.

    Example:

    >>> import tempfile
    >>> from qrkt_keras.circuits import templates
    >>> from qrkt_keras.hardware import compile_for
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     placement_picture(compile_for(templates.ry_ring(4)), f"{folder}/placement.png")
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    processor = as_processor(processor or compiled.processor)
    gate = type(native_gate(compiled.gateset))
    readout = {q: 100 * sum(processor.readout_errors[q]) / 2 for q in processor.qubits}
    pairs = {
        frozenset(operation.qubits)
        for part in compiled.parts
        for operation in part.circuit.all_operations()
        if len(operation.qubits) == 2 and not cirq.is_measurement(operation)
    }
    errors = {edge: 100 * processor.gate_error(gate, *edge) for edge in map(tuple, pairs)}
    placement = compiled.parts[0].placement
    names = {spot: str(qubit) for qubit, spot in placement.items()}

    figure = Figure(figsize=(7.4, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for edge in processor.graph.edges:
        _line(axes, edge, color=_UNUSED, linewidth=1.2, zorder=1)
    of_pairs = _scale("viridis", errors.values())
    for edge, error in errors.items():
        _line(axes, edge, color=of_pairs.to_rgba(error), linewidth=4.5, zorder=2)
    used = [readout[spot] for spot in names]
    of_qubits = ScalarMappable(Normalize(0, max(max(used), 1e-9)), "YlOrRd")
    for spot in processor.qubits:
        is_used = spot in names
        axes.scatter(
            spot.col,
            spot.row,
            s=330 if is_used else 90,
            color=of_qubits.to_rgba(readout[spot]) if is_used else "white",
            edgecolor="black" if is_used else _UNUSED,
            zorder=3,
        )
        if is_used:
            dark = readout[spot] > 0.6 * max(used)
            axes.annotate(
                _short(names[spot]),
                (spot.col, spot.row),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
                zorder=4,
            )
    figure.colorbar(of_qubits, ax=axes, label="readout error of a qubit, %", shrink=0.8)
    if errors:
        figure.colorbar(of_pairs, ax=axes, label="Pauli error of a pair's gate, %", shrink=0.8)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.set_title(title or f"{processor.name}, {compiled.gateset}")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def repetitions_picture(
    accuracies: Mapping[str, Mapping[int, float]],
    exact: float,
    num_examples: int,
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """Draws accuracy against repetitions, one line a way of running the circuits.

    Bars are one binomial standard error of the accuracy on so many examples.

    Args:
        accuracies: By name of the way, accuracy by repetitions.
        exact: The exact engine's accuracy, a dashed line.
        num_examples: What the accuracies are of.
        path: The PNG file.
        title: Title.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     repetitions_picture({"weber": {10: 0.5, 100: 0.9}}, 0.95, 20, f"{folder}/shots.png")
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, by_repetitions) in enumerate(accuracies.items()):
        x = np.array(sorted(by_repetitions))
        y = np.array([by_repetitions[int(one)] for one in x])
        error = np.sqrt(y * (1 - y) / num_examples)
        # Beside each other, so that bars do not hide one another.
        axes.errorbar(x * 1.03**number, 100 * y, 100 * error, fmt="o-", capsize=3, label=name)
    axes.axhline(100 * exact, color="black", linestyle="--", linewidth=1, label="exact engine")
    axes.set_xscale("log")
    axes.set_xlabel("repetitions of each circuit")
    axes.set_ylabel(f"accuracy on {num_examples} examples, %")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def training_picture(result: Training, path: str | os.PathLike[str], title: str = "") -> None:
    """Draws the loss of a training on a sampler, step by step.

    Args:
        result: What `train` returned.
        path: The PNG file.
        title: Title.

    Example:

    >>> import tempfile
    >>> from qrkt_keras.hardware import Training
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     training_picture(Training((2.3, 2.1), (2.4, 2.2, 2.0), 8, 80, 1.0), f"{folder}/l.png")
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(result.exact_losses, "o-", label="all examples, exact engine")
    steps = range(len(result.sampled_losses))
    axes.plot(steps, result.sampled_losses, "s--", label="the step's batch, sampled")
    axes.set_xlabel("steps done")
    axes.set_ylabel("mean cross-entropy")
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _line(axes, edge: Sequence[cirq.GridQubit], **style) -> None:
    axes.plot([spot.col for spot in edge], [spot.row for spot in edge], **style)


def _scale(name: str, values):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, max([*values, 1e-9])), name)


def _short(name: str) -> str:
    """A qubit's name as it fits on its place."""
    return name.removeprefix("q(").removesuffix(")")
