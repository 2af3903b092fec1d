"""Drawings: what they show, and that they are written whole or not at all."""

from __future__ import annotations

import io
import os
import re
from xml.etree import ElementTree

import cirq
import matplotlib.image
import numpy as np
import pytest
import sympy

from qrkt_keras.circuits import CircuitSpec, drawing, templates

A, B, C = cirq.LineQubit.range(3)
X, W = sympy.symbols("x w")
INPUT, WEIGHT, BOTH, READOUT = ("#2b6cb0", "#c87413", "#7646ad", "#2e7d4f")


def build(*operations, inputs=(), weights=(), observables=None) -> CircuitSpec:
    observables = cirq.Z(A) if observables is None else observables
    return CircuitSpec(cirq.Circuit(*operations), inputs, weights, observables)


def labels(svg: str) -> list[str]:
    """The words of a picture, which matplotlib leaves as comments beside their outlines."""
    return [words.strip() for words in re.findall(r"<!--(.*?)-->", svg)]


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")


class TestText:
    def test_a_template(self):
        assert templates.ry_ring(3).draw() == (
            "0: ───RY(x0)───RX(w0)───RZ(w0)───H───@───────────────X───⟨Z⟩\n"
            "                                     │               │\n"
            "1: ───RY(x1)───RX(w1)───RZ(w1)───────X───H───@───────┼───⟨Z⟩\n"
            "                                             │       │\n"
            "2: ───RY(x2)───RX(w2)───RZ(w2)───────────────X───H───@───⟨Z⟩"
        )

    @pytest.mark.parametrize(
        ("operation", "symbols"),
        [
            (cirq.rx(X / 3 + 0.123456789)(A), ["RX(x/3 + 0.123)"]),
            (cirq.rz(np.pi / 2)(A), ["RZ(0.5π)"]),
            (cirq.X(A) ** (1 / 3), ["X^0.333"]),
            (cirq.H(A) ** X, ["H^x"]),
            (cirq.CZ(A, B) ** 0.5, ["@", "Z^0.5"]),
            (cirq.CNOT(A, B) ** (X / 2), ["@", "X^(x/2)"]),
            (cirq.rx(X)(B).controlled_by(A), ["@", "RX(x)"]),
            (cirq.ry(X)(B).controlled_by(A, control_values=[0]), ["(0)", "RY(x)"]),
            (cirq.FSimGate(X, 0.5)(A, B), ["FSim(x, 0.159π)", "FSim(x, 0.159π)"]),
            (cirq.SWAP(A, B), ["×", "×"]),
            (cirq.MatrixGate(cirq.unitary(cirq.CZ))(A, B), ["U", "#2"]),
            (cirq.DiagonalGate([X, 0.0, 0.1, 0.2])(A, B), ["DiagonalGate", "DiagonalGate"]),
            (cirq.X(A).with_tags("note"), ["X"]),
        ],
    )
    def test_symbols_are_short(self, operation, symbols):
        names = cirq.parameter_names(operation)
        text = build(operation, inputs=sorted(names)).draw()
        rows = [line for line in text.splitlines() if re.match(r"\d: ", line)]
        assert [row.split("───")[1].strip("─╴") for row in rows] == symbols

    def test_gates_that_cross_are_in_different_columns(self):
        text = build(cirq.CNOT(A, C), cirq.H(B), observables=cirq.Z(B)).draw()
        assert text == ("0: ───@───────╴\n      │\n1: ───┼───H───⟨Z⟩\n      │\n2: ───X───────╴")

    def test_other_observables_are_written_out(self):
        observables = [
            cirq.Z(B),
            cirq.X(A) * cirq.X(B) / 3,
            cirq.X(A) + 2 * cirq.Z(B),
            cirq.X(B),
            cirq.I(A),
        ]
        text = build(cirq.H(A), cirq.H(B), observables=observables).draw()
        assert "⟨Z⟩ ⟨X⟩" in text
        assert text.splitlines()[-3:] == [
            "O1 = 0.333*X(q(0))*X(q(1))",
            "O2 = 1.000*X(q(0))+2.000*Z(q(1))",
            "O4 = 1.000*I",
        ]
        assert text.count("⟨O1⟩") == 2 and text.count("⟨O4⟩") == 1

    def test_names_of_qubits(self):
        a, b = cirq.GridQubit(3, 4), cirq.NamedQubit("anna")
        text = build(cirq.CZ(a, b), observables=cirq.Z(a)).draw()
        assert text.splitlines()[0].startswith("(3, 4): ───@")
        assert text.splitlines()[2].startswith("anna: ─────@")


class TestPicture:
    def test_svg_shows_every_gate_and_the_read_out(self):
        spec = templates.rx_ring(4)
        svg = spec.draw("svg")
        ElementTree.fromstring(svg)
        found = labels(svg)
        for name in [*(f"RX(x{i})" for i in range(4)), *(f"RX(w{i})" for i in range(4))]:
            assert found.count(name) == 1
        assert found.count("⟨Z⟩") == 4
        assert {"input", "weight", "read-out"} <= set(found)

    def test_roles_have_colours(self):
        operations = [cirq.rx(X)(A), cirq.ry(W)(A), cirq.rz(X + W)(A), cirq.H(A)]
        svg = build(*operations, inputs=[X], weights=[W]).draw("svg")
        assert all(colour in svg for colour in (INPUT, WEIGHT, BOTH, READOUT))
        svg = build(cirq.rx(X)(A), inputs=[X]).draw("svg")
        assert INPUT in svg and WEIGHT not in svg and BOTH not in svg
        assert "weight" not in labels(svg)

    def test_png(self):
        png = templates.ry_ring(4).draw("png")
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        image = pixels(png)
        assert image.shape[0] > 300 and image.shape[1] > image.shape[0]
        colours = {tuple(np.round(255 * c).astype(int)) for c in image[::2, ::2, :3].reshape(-1, 3)}
        for face in ("#dbe9f8", "#fdebd0", "#dcf1e2"):  # input, weight, read-out
            assert tuple(int(face[i : i + 2], 16) for i in (1, 3, 5)) in colours

    @pytest.mark.parametrize("format", ["svg", "png"])
    def test_the_same_circuit_gives_the_same_picture(self, format):
        spec = templates.hardware_efficient(2)
        assert spec.draw(format) == spec.draw(format)

    def test_long_circuits_are_wrapped(self):
        width = {}
        for layers in (1, 12):
            root = ElementTree.fromstring(templates.hardware_efficient(3, layers).draw("svg"))
            width[layers] = float(root.attrib["width"].removesuffix("pt"))
        assert width[12] < 15 * 72
        found = labels(templates.hardware_efficient(3, 12).draw("svg"))
        assert found.count("RY(w100)") == 1

    def test_large_pictures_are_scaled(self, monkeypatch):
        full = pixels(templates.rx_ring(4).draw("png"))
        monkeypatch.setattr(drawing, "_MAX_PIXELS", 1e5)
        scaled = pixels(templates.rx_ring(4).draw("png"))
        assert full.shape[0] * full.shape[1] > 3e5
        assert scaled.shape[0] * scaled.shape[1] <= 1.01e5
        assert scaled.shape[1] / scaled.shape[0] == pytest.approx(
            full.shape[1] / full.shape[0], rel=0.02
        )

    def test_long_labels_are_shortened(self):
        angle = sum(sympy.symbols("x0:12"))
        spec = build(cirq.rx(angle)(A), inputs=[f"x{i}" for i in range(12)])
        label = next(words for words in labels(spec.draw("svg")) if words.startswith("RX("))
        assert len(label) == 24 and label.endswith("…")
        assert "x0 + x1" in spec.draw()

    def test_every_kind_of_gate_can_be_drawn(self):
        operations = [
            cirq.CCX(A, B, C),
            cirq.CSWAP(A, B, C),
            cirq.SWAP(A, C),
            cirq.X(A).controlled_by(B, C, control_values=[0, 1]),
            cirq.ISWAP(A, B) ** 0.5,
            cirq.ZZ(A, C) ** X,
            cirq.qft(A, B, C),
            cirq.MatrixGate(np.eye(4))(A, C),
            cirq.PauliString({A: cirq.X, B: cirq.Z}),
        ]
        observables = [cirq.Z(A) * cirq.Z(C), cirq.I(A), cirq.Y(B)]
        spec = build(*operations, inputs=[X], observables=observables)
        for format in ("text", "svg", "png"):
            assert spec.draw(format)
        found = labels(spec.draw("svg"))
        assert {"⟨O0⟩", "⟨O1⟩", "⟨Y⟩", "O1 = 1.000*I"} <= set(found)

    def test_settings_of_matplotlib_are_left_alone(self):
        before = dict(matplotlib.rcParams)
        templates.rx_ring(2).draw("svg")
        assert dict(matplotlib.rcParams) == before


class TestFiles:
    @pytest.mark.parametrize("format", ["text", "svg", "png"])
    def test_the_file_is_the_drawing(self, format, tmp_path):
        path = tmp_path / f"circuit.{'txt' if format == 'text' else format}"
        path.write_text("old")
        drawing = templates.rx_ring(2).draw(format, path)
        assert path.read_bytes() == (drawing.encode() if isinstance(drawing, str) else drawing)
        assert os.listdir(tmp_path) == [path.name]
        assert templates.rx_ring(2).draw(format, path=str(path)) == drawing

    @pytest.mark.parametrize("failing", ["fsync", "replace"])
    def test_a_failed_write_leaves_the_old_file_whole(self, failing, tmp_path, monkeypatch):
        path = tmp_path / "circuit.svg"
        path.write_text("old")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(drawing.os, failing, full)
        with pytest.raises(OSError, match="No space left"):
            templates.rx_ring(2).draw("svg", path)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == [path.name]

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            (dict(format="pdf"), ValueError, "one of text, svg, png. Received: format='pdf'$"),
            (dict(format=None), ValueError, "Received: format=None$"),
            (
                dict(format="svg", path="circuit.png"),
                ValueError,
                "another format.*format='svg', path='circuit.png'$",
            ),
            (dict(path="circuit.PNG"), ValueError, "another format.*format='text'"),
            (
                dict(format="svg", path="no/such/folder/circuit.svg"),
                FileNotFoundError,
                "folder of the drawing does not exist. Received: path='no/such/folder/circuit.svg'",
            ),
        ],
    )
    def test_bad_arguments(self, arguments, error, words):
        with pytest.raises(error, match=words):
            templates.rx_ring(2).draw(**arguments)
