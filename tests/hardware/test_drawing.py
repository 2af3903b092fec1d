"""What pictures show, read from the figures that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from qrkt_keras.circuits import templates
from qrkt_keras.hardware import (
    Training,
    compile_for,
    get_processor,
    placement_picture,
    repetitions_picture,
    training_picture,
)


@pytest.mark.parametrize("name, gateset", [("rainbow", "cz"), ("weber", "sycamore")])
def test_a_placement_shows_the_qubits_and_pairs_that_are_used(name, gateset, figures, tmp_path):
    compiled = compile_for(templates.hardware_efficient(4), name, gateset)
    path = tmp_path / "placement.png"
    placement_picture(compiled, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    axes = figure.axes[0]
    processor = get_processor(name)
    assert len(axes.collections) == len(processor.qubits)
    placement = {str(q.x): spot for q, spot in compiled.parts[0].placement.items()}
    assert {text.get_text(): text.xy for text in axes.texts} == {
        label: (spot.col, spot.row) for label, spot in placement.items()
    }
    # The ring's four pairs over the lattice's grey ones.
    thick = [line for line in axes.lines if line.get_linewidth() > 2]
    assert len(thick) == 4 and len(axes.lines) == processor.graph.number_of_edges() + 4
    assert axes.get_title() == f"{name}, {gateset}"
    labels = [other.get_ylabel() for other in figure.axes[1:]]
    assert "readout error of a qubit, %" in labels and "Pauli error of a pair's gate, %" in labels


def test_a_circuit_without_pairs_has_no_scale_for_them(figures, tmp_path):
    ring = templates.rx_ring(60)
    (circuit,) = compile_for(ring, "weber", "cz", split=True).circuits
    placement_picture(circuit, tmp_path / "placement.png", title="thirty")
    (figure,) = figures
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == ["readout error of a qubit, %"]
    assert len(figure.axes[0].texts) == 30 and figure.axes[0].get_title() == "thirty"


def test_accuracy_against_repetitions(figures, tmp_path):
    accuracies = {"no noise": {100: 0.9, 10: 0.5}, "weber": {10: 0.4, 100: 0.8}}
    repetitions_picture(accuracies, 0.95, 25, tmp_path / "shots.png", title="a model")
    (figure,) = figures
    (axes,) = figure.axes
    first, second = (container.lines[0] for container in axes.containers)
    np.testing.assert_allclose(first.get_xydata(), [(10, 50), (100, 90)])
    np.testing.assert_allclose(second.get_ydata(), [40, 80])
    (bars,) = axes.containers[0].lines[2]
    low, high = bars.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(100 * np.sqrt(0.5 * 0.5 / 25))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(names) == ["exact engine", "no noise", "weber"]
    assert axes.get_xscale() == "log" and axes.get_ylabel() == "accuracy on 25 examples, %"


def test_losses_of_a_training(figures, tmp_path):
    result = Training((2.3, 2.1), (2.4, 2.2, 2.0), 8, 80, 1.0)
    training_picture(result, tmp_path / "training.png", "a model")
    (figure,) = figures
    exact, sampled = figure.axes[0].lines
    assert exact.get_ydata().tolist() == [2.4, 2.2, 2.0]
    assert sampled.get_xydata().tolist() == [[0, 2.3], [1, 2.1]]
