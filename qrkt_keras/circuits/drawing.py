"""Drawings of circuits, as text, SVG or PNG, from one layout."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cirq
import matplotlib
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle
from matplotlib.textpath import TextToPath

if TYPE_CHECKING:
    from qrkt_keras.circuits.spec import CircuitSpec

_FORMATS = ("text", "svg", "png")

# Sizes in inches.
_ROW = 0.5
_BOX = 0.34
_GAP = 0.2
_MARGIN = 0.2
_PANEL_GAP = 0.3
_FOOTER_ROW = 0.26
_MAX_PANEL_WIDTH = 13.0
_MAX_WRAPPED_HEIGHT = 60.0
_FONT_SIZE = 9
_FOOTER_FONT_SIZE = 8
_MAX_LABEL = 24
_DPI = 160
_MAX_PIXELS = 40e6
_MAX_SIDE = 20_000

_STYLES = {  # role: (face, edge, words in the legend)
    "input": ("#dbe9f8", "#2b6cb0", "input"),
    "weight": ("#fdebd0", "#c87413", "weight"),
    "both": ("#e9def5", "#7646ad", "input and weight"),
    "constant": ("#ffffff", "#444444", ""),
    "readout": ("#dcf1e2", "#2e7d4f", "read-out"),
}
_WIRE = "#9a9a9a"
_INK = "#222222"


@dataclasses.dataclass(frozen=True)
class _Element:
    """What is drawn for one operation: a symbol on each of its wires, joined by a line."""

    column: int
    rows: tuple[int, ...]
    symbols: tuple[str, ...]
    glyphs: tuple[str, ...]  # box, control, anti_control, target or swap
    role: str


@dataclasses.dataclass(frozen=True)
class _Layout:
    qubits: tuple[str, ...]
    elements: tuple[_Element, ...]
    num_columns: int
    notes: tuple[str, ...]


def draw(
    spec: CircuitSpec, format: str = "text", path: str | os.PathLike[str] | None = None
) -> str | bytes:
    """Draws a circuit and what is read from it.

    Gates of inputs, of weights and of neither have different colours in a picture. The last boxes
    are the observables; one that is more than a single Pauli operation is numbered, and written
    out below. Long pictures are wrapped into panels.

    Args:
        spec: The `CircuitSpec` to draw.
        format: "text", "svg" or "png".
        path: Where to write the drawing, if anywhere. An existing file is replaced at once, and
            only by a whole drawing.

    Returns:
        The drawing: a string for "text" and "svg", bytes for "png".

    Raises:
        ValueError: If the format is unknown, or is not the one that the path's suffix names.
        FileNotFoundError: If the path's folder does not exist.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> print(templates.ry_ring(2).draw())
    0: ───RY(x0)───RX(w0)───RZ(w0)───@───⟨Z⟩
                                     │
    1: ───RY(x1)───RX(w1)───RZ(w1)───X───⟨Z⟩
    """
    if format not in _FORMATS:
        raise ValueError(
            f"A drawing's format is one of {', '.join(_FORMATS)}. Received: format={format!r}"
        )
    if path is not None:
        path = Path(path)
        suffix = path.suffix.lower().lstrip(".")
        if suffix in ("svg", "png") and suffix != format:
            raise ValueError(
                "The path must not name another format than the drawing's. "
                f"Received: format={format!r}, path={str(path)!r}"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"The folder of the drawing does not exist. Received: path={str(path)!r}"
            )
    layout = _layout(spec)
    drawing = _text(layout) if format == "text" else _picture(layout, format)
    if path is not None:
        _write(path, drawing if isinstance(drawing, bytes) else drawing.encode("utf-8"))
    return drawing


def _write(path: Path, content: bytes) -> None:
    """Writes beside, then renames, so that nobody ever finds half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _layout(spec: CircuitSpec) -> _Layout:
    """Puts every operation into the first column in which it crosses no other."""
    row_of = {qubit: row for row, qubit in enumerate(spec.qubits)}
    inputs = {symbol.name for symbol in spec.inputs}
    free = [0] * len(row_of)  # the first free column of each row
    elements = []

    def place(rows: tuple[int, ...], symbols: Any, glyphs: Any, role: str) -> None:
        span = range(min(rows), max(rows) + 1)
        column = max(free[row] for row in span)
        for row in span:
            free[row] = column + 1
        elements.append(_Element(column, rows, tuple(symbols), tuple(glyphs), role))

    for operation in spec.circuit.all_operations():
        names = cirq.parameter_names(operation)
        role = "constant"
        if names:
            role = "input" if names <= inputs else "both" if names & inputs else "weight"
        symbols, glyphs = _symbols(operation)
        place(tuple(row_of[qubit] for qubit in operation.qubits), symbols, glyphs, role)

    # Read-outs stand in line, right of everything.
    free = [max(free)] * len(free)
    read: dict[int, list[str]] = {}
    notes = []
    for index, observable in enumerate(spec.observables):
        terms = list(observable)
        if len(terms) == 1 and len(terms[0]) == 1 and terms[0].coefficient == 1:
            ((qubit, pauli),) = terms[0].items()
            read.setdefault(row_of[qubit], []).append(f"⟨{pauli}⟩")
        else:
            notes.append((index, observable))
    for row, labels in sorted(read.items()):
        place((row,), [" ".join(labels)], ["box"], "readout")
    for index, observable in notes:
        rows = tuple(sorted(row_of[qubit] for qubit in observable.qubits)) or (0,)
        place(rows, [f"⟨O{index}⟩"] * len(rows), ["box"] * len(rows), "readout")
    return _Layout(
        tuple(cirq.circuit_diagram_info(qubit).wire_symbols[0] for qubit in spec.qubits),
        tuple(elements),
        max(free),
        tuple(f"O{index} = {observable:.3f}" for index, observable in notes),
    )


def _symbols(operation: cirq.Operation) -> tuple[list[str], list[str]]:
    """The operation's label on each wire, and the form in which it is drawn."""
    operation = operation.untagged
    args = cirq.CircuitDiagramInfoArgs(
        known_qubits=operation.qubits,
        known_qubit_count=len(operation.qubits),
        use_unicode_characters=True,
        precision=3,
        label_map=None,
    )
    try:
        info = cirq.circuit_diagram_info(operation, args, default=None)
    except TypeError:  # Cirq cannot round the symbols of a diagonal gate.
        info = None
    if info is None:
        symbols, exponent, carrier = [type(operation.gate).__name__] * len(operation.qubits), 1, 0
    else:
        symbols, exponent = [*info.wire_symbols], info.exponent
        carrier = info.exponent_qubit_index
        if carrier is None:
            carrier = len(symbols) - 1
    # Cirq's symbol of a matrix gate is the whole matrix.
    symbols = ["U" if "\n" in symbol else symbol for symbol in symbols]
    symbols = [re.sub(r"^R[xyz](?=\()", lambda name: name[0].upper(), text) for text in symbols]
    controlled = any(symbol in ("@", "(0)") for symbol in symbols)
    forms = {"@": "control", "(0)": "anti_control", "×": "swap"}
    if controlled:
        forms["X"] = "target"
    glyphs = [forms.get(symbol, "box") for symbol in symbols]
    if exponent != 1:
        base = "Z" if symbols[carrier] == "@" else symbols[carrier]
        power = f"{exponent:.3g}" if isinstance(exponent, float) else str(exponent)
        if not re.fullmatch(r"[\w.]+", power):
            power = f"({power})"
        symbols[carrier] = f"{base}^{power}"
        glyphs[carrier] = "box"
    return [_rounded(symbol) for symbol in symbols], glyphs


def _rounded(label: str) -> str:
    """Numbers with at most three digits after the point."""
    return re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.3f}", label)


def _text(layout: _Layout) -> str:
    diagram = cirq.TextDiagramDrawer()
    for row, name in enumerate(layout.qubits):
        diagram.write(0, row, f"{name}: ")
        diagram.horizontal_line(row, 0, layout.num_columns)
    for element in layout.elements:
        for row, symbol in zip(element.rows, element.symbols, strict=True):
            diagram.write(element.column + 1, row, symbol)
        diagram.vertical_line(element.column + 1, min(element.rows), max(element.rows))
    drawing = diagram.render(horizontal_spacing=3, use_unicode_characters=True)
    return "\n".join([drawing, *layout.notes])


def _picture(layout: _Layout, format: str) -> str | bytes:
    # Fixed fonts and ids: the same circuit gives the same file everywhere.
    settings = {"font.family": "DejaVu Sans", "svg.hashsalt": "qrkt_keras", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        figure = _figure(layout)
        stream = io.BytesIO()
        if format == "svg":
            figure.savefig(stream, format="svg", metadata={"Date": None})
            return stream.getvalue().decode("utf-8")
        width, height = figure.get_size_inches()
        dpi = min(_DPI, (_MAX_PIXELS / (width * height)) ** 0.5, _MAX_SIDE / max(width, height))
        figure.savefig(stream, format="png", dpi=dpi)
        return stream.getvalue()


@functools.lru_cache(maxsize=4096)
def _text_width(label: str, size: float) -> float:
    font = FontProperties(family="DejaVu Sans", size=size)
    return TextToPath().get_text_width_height_descent(label, font, ismath=False)[0] / 72


def _shortened(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"


def _box_width(symbol: str) -> float:
    return max(_BOX, _text_width(_shortened(symbol), _FONT_SIZE) + 0.14)


def _panels(widths: list[float], num_rows: int) -> list[range]:
    """Cuts the columns into panels of about equal width, if the picture is not too tall."""
    total = sum(widths)
    fitting = max(1, int(_MAX_WRAPPED_HEIGHT / (num_rows * _ROW + _PANEL_GAP)))
    count = min(fitting, -int(-total // _MAX_PANEL_WIDTH), len(widths))
    starts, covered = [0], 0.0
    for column, width in enumerate(widths):
        if covered + width > total * len(starts) / count + 1e-9 and column > starts[-1]:
            starts.append(column)
        covered += width
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(widths)], strict=True)]


def _figure(layout: _Layout) -> Figure:
    num_rows = len(layout.qubits)
    widths = [_BOX + _GAP] * layout.num_columns
    for element in layout.elements:
        for symbol, glyph in zip(element.symbols, element.glyphs, strict=True):
            if glyph == "box":
                needed = _box_width(symbol) + _GAP
                widths[element.column] = max(widths[element.column], needed)
    panels = _panels(widths, num_rows)
    names = [_shortened(name) for name in layout.qubits]
    left = _MARGIN + max(_text_width(name, _FONT_SIZE) for name in names) + 0.12

    roles = {element.role for element in layout.elements}
    legend = [role for role in _STYLES if role in roles and _STYLES[role][2]]
    footer = [*layout.notes]
    right = left + max(sum(widths[column] for column in panel) for panel in panels)
    note_widths = [_text_width(note, _FOOTER_FONT_SIZE) for note in footer]
    legend_width = sum(_text_width(_STYLES[role][2], _FOOTER_FONT_SIZE) + 0.45 for role in legend)
    figure_width = max([right, *(_MARGIN + width for width in [*note_widths, legend_width])])
    figure_width += _MARGIN
    panel_height = num_rows * _ROW
    panels_height = len(panels) * panel_height + (len(panels) - 1) * _PANEL_GAP
    height = panels_height + (len(footer) + 1) * _FOOTER_ROW + 1.5 * _MARGIN

    figure = Figure(figsize=(figure_width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, figure_width)
    axes.set_ylim(height, 0)  # downwards, as the rows are
    axes.set_axis_off()

    place = {}  # column: its centre and its panel's top
    wires, breaks = [], []
    for number, panel in enumerate(panels):
        top = _MARGIN + number * (panel_height + _PANEL_GAP)
        x = left
        for column in panel:
            place[column] = (x + widths[column] / 2, top)
            x += widths[column]
        for row, name in enumerate(names):
            y = top + (row + 0.5) * _ROW
            axes.text(left - 0.08, y, name, ha="right", va="center", size=_FONT_SIZE, color=_INK)
            wires.append([(left, y), (x if number < len(panels) - 1 else x - _GAP / 2, y)])
        for side, edge in ((number > 0, left), (number < len(panels) - 1, x)):
            if side:
                breaks.append([(edge, top + 0.1), (edge, top + panel_height - 0.1)])
    axes.add_collection(LineCollection(wires, colors=_WIRE, linewidths=0.9, zorder=1))
    axes.add_collection(
        LineCollection(breaks, colors=_WIRE, linewidths=0.9, linestyles=(0, (2, 2)), zorder=1)
    )

    for role, (face, edge, _) in _STYLES.items():
        links, boxes, dots, rings, strokes = [], [], [], [], []
        for element in layout.elements:
            if element.role != role:
                continue
            x, top = place[element.column]
            ys = [top + (row + 0.5) * _ROW for row in element.rows]
            if len(ys) > 1:
                links.append([(x, min(ys)), (x, max(ys))])
            for y, symbol, glyph in zip(ys, element.symbols, element.glyphs, strict=True):
                if glyph == "control":
                    dots.append(Circle((x, y), 0.055))
                elif glyph == "anti_control":
                    rings.append(Circle((x, y), 0.055))
                elif glyph == "target":
                    rings.append(Circle((x, y), 0.12))
                    strokes += [[(x - 0.12, y), (x + 0.12, y)], [(x, y - 0.12), (x, y + 0.12)]]
                elif glyph == "swap":
                    for sign in (1, -1):
                        strokes.append([(x - 0.08, y - sign * 0.08), (x + 0.08, y + sign * 0.08)])
                else:
                    width = _box_width(symbol)
                    boxes.append(
                        FancyBboxPatch(
                            (x - width / 2, y - _BOX / 2),
                            width,
                            _BOX,
                            boxstyle="round,pad=0,rounding_size=0.05",
                        )
                    )
                    axes.text(
                        x,
                        y,
                        _shortened(symbol),
                        ha="center",
                        va="center_baseline",
                        size=_FONT_SIZE,
                        color=_INK,
                        zorder=5,
                    )
        for artist in (
            LineCollection(links, colors=edge, linewidths=1.1, zorder=2),
            PatchCollection(boxes, facecolor=face, edgecolor=edge, linewidth=1.1, zorder=3),
            PatchCollection(dots, facecolor=edge, edgecolor=edge, linewidth=1.0, zorder=3),
            PatchCollection(rings, facecolor="white", edgecolor=edge, linewidth=1.1, zorder=3),
            LineCollection(strokes, colors=edge, linewidths=1.1, zorder=4),
        ):
            axes.add_collection(artist)

    x, y = _MARGIN, _MARGIN + panels_height + 0.6 * _FOOTER_ROW
    words = {"size": _FOOTER_FONT_SIZE, "color": _INK, "va": "center_baseline"}
    for role in legend:
        face, edge, label = _STYLES[role]
        axes.add_patch(
            Rectangle((x, y - 0.07), 0.14, 0.14, facecolor=face, edgecolor=edge, linewidth=1.0)
        )
        axes.text(x + 0.2, y, label, **words)
        x += 0.45 + _text_width(label, _FOOTER_FONT_SIZE)
    for note in footer:
        y += _FOOTER_ROW
        axes.text(_MARGIN, y, note, **words)
    return figure
