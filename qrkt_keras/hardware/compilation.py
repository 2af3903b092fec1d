"""Compilation: a circuit as a processor runs it, without changing what it computes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import cirq
import keras
import networkx as nx
import numpy as np

from qrkt_keras.circuits import CircuitSpec, UnsupportedGateError
from qrkt_keras.circuits.lowering import Rotation, pauli_rotations
from qrkt_keras.circuits.separation import separate
from qrkt_keras.circuits.spec import read_cirq_json
from qrkt_keras.execution import UnsupportedCircuitError
from qrkt_keras.execution.components import check_max_qubits, narrow_circuits, num_components
from qrkt_keras.execution.measurement import Group, Term, measurements
from qrkt_keras.execution.sampling import KEY, NAME, Program, noise_scales_of
from qrkt_keras.hardware.circuit_counts import rows_per_example
from qrkt_keras.hardware.placement import grow, place, place_on_ring
from qrkt_keras.hardware.processors import (
    Processor,
    ProcessorError,
    as_processor,
    native_gate,
    target_gateset,
    without_future_warnings,
)
from qrkt_keras.hardware.single_qubit import Run, constant_gate, is_diagonal

FORMAT = 1
GATESET = "sqrt_iswap"
# By what part of itself a circuit of several components is narrowed that finds no place.
_LESS_CROWDED = 0.9
# All turns of a ring of at most so many are tried as beginnings; of a longer one a search is long.
_LARGEST_TURNED = 8

Places = Mapping[cirq.Qid, cirq.Qid]


@dataclass(frozen=True)
class Report:
    """What a circuit became on a processor, and what to expect of it.

    Args:
        num_qubits: qubits of the processor that it uses.
        depth_before, depth: moments of the circuit, and of the longest one that runs, without its
            measurement; changes of phase take no time and do not count.
        two_qubit_gates_before, two_qubit_gates: gates on several qubits in the circuit, and the
            most in one that runs.
            Of the least noise scale, as the next two.
        fidelity: expected, from the calibration: the product over gates of 1 minus their Pauli
            error, over what waits of 1 minus its decoherence, and over measured qubits of 1 minus
            their mean readout error; of the worst circuit, and there of the worst qubits that gates
            connect.
        duration: nanoseconds of the longest circuit, with its measurement.
        num_circuits: circuits that the values of one row need, at all noise scales.
        total_duration: nanoseconds of all of these.
        is_routed: whether qubits had to be swapped for gates between neighbours.
        assumed: what the calibration does not have, and what was taken for it.
    """

    num_qubits: int
    depth_before: int
    depth: int
    two_qubit_gates_before: int
    two_qubit_gates: int
    fidelity: float
    duration: float
    num_circuits: int
    total_duration: float
    is_routed: bool
    assumed: tuple[str, ...] = ()

    def seconds(self, repetitions: int) -> float:
        """What the qubits are busy for one row, without queue, loading and reset."""
        return repetitions * self.total_duration * 1e-9


@dataclass(frozen=True, eq=False)
class CompiledProgram:
    """One circuit that runs on a processor.

    Args:
        circuit: of the processor's gates, with its measurement.
        runs: what its symbols are made of.
        group: what is measured, on qubits of the spec.
        placement: where the spec's qubits are at the beginning.
        final: where they are at the end, as routing moves them.
        noise_scale: how often gates on several qubits are repeated.
    """

    circuit: cirq.FrozenCircuit
    runs: tuple[Run, ...]
    group: Group
    placement: Places
    final: Places
    noise_scale: int

    def program(self, columns: Mapping[str, int]) -> Program:
        """What the sampling engine runs.

        Args:
            columns: which column of the exponents a gate's symbol has.
        """

        def parameters(exponents: np.ndarray) -> np.ndarray:
            parts = [run.values(columns, exponents) for run in self.runs]
            return np.concatenate(parts, axis=-1) if parts else np.zeros((len(exponents), 0))

        return Program(
            self.circuit,
            tuple(name for run in self.runs for name in run.symbols),
            parameters,
            tuple(self.final[qubit] for qubit in self.group.qubits),
            self.group,
        )


@dataclass(frozen=True, eq=False)
class CompiledCircuit:
    """A circuit on a processor: what `compile_for` returns for a spec.

    It is what the sampling engine takes as `compiled`.

    Args:
        spec: the circuit.
        processor: name of the processor.
        gateset: name of the gate set.
        parts: the circuits that run.
        report: what the circuit became, and what to expect of it.
    """

    spec: CircuitSpec
    processor: str
    gateset: str
    parts: tuple[CompiledProgram, ...]
    report: Report

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledCircuit) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def programs(self, spec: CircuitSpec, noise_scale: int = 1) -> list[Program]:
        """The programs of the circuit, for the sampling engine.

        Args:
            spec: the circuit that was compiled.
            noise_scale: one of those that it was compiled for.

        Raises:
            ValueError: it was compiled from another circuit, or not for this noise scale.
        """
        if spec != self.spec:
            raise ValueError(f"Another circuit was compiled: {self.spec!r}. Received: {spec!r}")
        columns = {symbol: i for i, symbol in enumerate(separate(spec).symbols)}
        programs = [part.program(columns) for part in self.parts if part.noise_scale == noise_scale]
        if not programs:
            scales = sorted({part.noise_scale for part in self.parts})
            raise ValueError(
                f"The circuit was compiled for noise_scales={tuple(scales)}. "
                f"Received: {noise_scale}"
            )
        return programs

    def to_json(self) -> str:
        """The compiled circuit as JSON text."""
        return cirq.to_json(
            {
                "format": FORMAT,
                "spec": self.spec.to_json(),
                "processor": self.processor,
                "gateset": self.gateset,
                "report": asdict(self.report),
                "parts": [_part_to_data(part) for part in self.parts],
            },
            indent=None,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> CompiledCircuit:
        """What `to_json` wrote. Only gates, qubits and symbols are built from it.

        Raises:
            ValueError: the text is no such JSON, or of another format.
        """
        try:
            kind = json.loads(text).get("format")
            data = read_cirq_json(text) if kind == FORMAT else None
        # Constructors of a malformed file's objects may raise anything.
        except Exception as error:
            raise ValueError(
                f"This is not the JSON text of a CompiledCircuit ({error}). Received: {text[:80]!r}"
            ) from error
        if data is None:
            raise ValueError(
                f"This version reads CompiledCircuit JSON of format {FORMAT}. "
                f"Received: format={kind!r}"
            )
        try:
            report = data["report"] | {"assumed": tuple(data["report"]["assumed"])}
            return cls(
                CircuitSpec.from_json(data["spec"]),
                data["processor"],
                data["gateset"],
                tuple(_part_from_data(part) for part in data["parts"]),
                Report(**report),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                "This is not the JSON text of a CompiledCircuit. "
                f"Received: {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True, eq=False)
class CompiledCircuits:
    """All circuits of a model on a processor, or the parts of one that the processor does not hold.

    It is what `set_engine("sampling", compiled=...)` takes.

    Args:
        circuits: each circuit once.
        rows: how many rows of each one example has: one a token and projection, one a patch; of a
            circuit that is split, as many times its parts of that form.
        max_qubits: circuits with more are split into parts; None if none is.
        packed_qubits: how many qubits several components together have at most, so that they find
            their places side by side.
    """

    circuits: tuple[CompiledCircuit, ...]
    rows: tuple[int, ...]
    max_qubits: int | None = None
    packed_qubits: int | None = None

    @property
    def processor(self) -> str:
        """Name of the processor."""
        return self.circuits[0].processor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledCircuits) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def circuits_per_example(self) -> int:
        """How many circuits run for one example."""
        pairs = zip(self.circuits, self.rows, strict=True)
        return sum(rows * circuit.report.num_circuits for circuit, rows in pairs)

    def shots_per_example(self, repetitions: int) -> int:
        """Repetitions of all these together."""
        return self.circuits_per_example * repetitions

    def seconds_per_example(self, repetitions: int) -> float:
        """What the qubits are busy for one example, without queue, loading and reset."""
        pairs = zip(self.circuits, self.rows, strict=True)
        return sum(rows * circuit.report.seconds(repetitions) for circuit, rows in pairs)

    def programs(self, spec: CircuitSpec, noise_scale: int = 1) -> list[Program]:
        """The programs of one of the circuits, see `CompiledCircuit.programs`."""
        for circuit in self.circuits:
            if circuit.spec == spec:
                return circuit.programs(spec, noise_scale)
        raise ValueError(f"No such circuit was compiled. Received: {spec!r}")

    def to_json(self) -> str:
        """The compiled circuits as JSON text."""
        circuits = [json.loads(circuit.to_json()) for circuit in self.circuits]
        data = {"format": FORMAT, "circuits": circuits, "rows": self.rows}
        data |= {"max_qubits": self.max_qubits, "packed_qubits": self.packed_qubits}
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> CompiledCircuits:
        """What `to_json` wrote.

        Raises:
            ValueError: the text is no such JSON, or of another format.
        """
        try:
            data = json.loads(text)
            circuits, rows = data["circuits"], tuple(data["rows"])
            most, packed = data["max_qubits"], data["packed_qubits"]
            for number in (most, packed):
                if number is not None:
                    check_max_qubits(number)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, not {FORMAT}")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"This is not the JSON text of CompiledCircuits ({error!r}). "
                f"Received: {text[:80]!r}"
            ) from error
        compiled = tuple(CompiledCircuit.from_json(json.dumps(circuit)) for circuit in circuits)
        return cls(compiled, rows, most, packed)


def compile_for(
    circuit: CircuitSpec | keras.Model,
    processor: str | Processor = "weber",
    gateset: str = GATESET,
    *,
    split: bool = False,
    noise_scales: Sequence[int] = (1,),
) -> CompiledCircuit | CompiledCircuits:
    r"""A circuit, or all circuits of a model, on a processor; no weight changes.

    - Gates with symbols become Pauli rotations, and these single-qubit rotations between CNOTs.
    - Qubits are placed where every gate is between neighbours, on the best calibrated part of the
      lattice: rings of even length and lines fit. Where nothing fits, such as a ring of an odd
      length, `cirq.RouteCQC` adds swaps, from several beginnings.
    - Gates on two qubits become those of the gate set, and all that happens to a qubit between them
      one PhasedXZGate; its angles are computed from inputs and weights for each row, so one circuit
      serves all rows, and all shifted ones of a gradient.
    - Gates are in moments of one kind, as late as can be; the device checks the result.

    What runs equals the circuit up to a global phase.

    Args:
        circuit: a `CircuitSpec`, or a built model with `PQC` layers.
        processor: name of one of `list_processors()`, or a `Processor`.
        gateset: "cz", "sqrt_iswap" or "sycamore".
        split: for circuits with more qubits than the processor: final Clifford gates are moved into
            the observables, and what no gate connects runs apart, as many qubits together as find
            their places side by side; of a component that is still too wide the light cones run.
            That changes no value, see `execution.Split`.
        noise_scales: for zero-noise extrapolation, see `execution.Sampling`: odd numbers, how often
            each gate on two qubits is repeated.

    Returns:
        A `CompiledCircuit`; of a model or a circuit that is split, `CompiledCircuits`.

    Raises:
        TypeError: `circuit` is neither.
        ValueError: there is no such processor, or it does not take the gate set.
        ProcessorError: a circuit, or a light cone of it, has more qubits than the processor.
        UnsupportedCircuitError: a gate has no form on two qubits.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> compiled = compile_for(templates.hardware_efficient(4), "weber", "cz")
        >>> compiled.report.num_qubits, compiled.report.two_qubit_gates, compiled.report.is_routed
        (4, 12, False)
    """
    processor = as_processor(processor)
    _check_gateset(gateset, processor)
    scales = noise_scales_of(noise_scales)
    rows, packed = _rows(circuit), None
    if isinstance(circuit, CircuitSpec) and not split:
        return _compile_circuit(circuit, processor, gateset, scales)
    if split:
        rows, packed = _narrow_rows(rows, processor, gateset)
        if not rows:
            raise _nothing_to_run(circuit)
    circuits = [_compile_circuit(spec, processor, gateset, scales, is_split=split) for spec in rows]
    most = len(processor.qubits) if split else None
    return CompiledCircuits(tuple(circuits), tuple(rows.values()), most, packed)


def fits(
    circuit: CircuitSpec | keras.Model,
    processor: str | Processor = "weber",
    gateset: str = GATESET,
    *,
    split: bool = False,
    min_fidelity: float = 0.0,
) -> bool:
    """Whether a processor can run a circuit, or all circuits of a model.

    Args:
        circuit, processor, gateset, split: As of `compile_for`.
        min_fidelity: The least expected fidelity, see `Report`, of each circuit. At 0 nothing needs
            to be compiled, so the answer comes at once.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> fits(templates.rx_ring(23), "rainbow"), fits(templates.rx_ring(24), "rainbow")
        (True, False)
    """
    if not 0 <= min_fidelity <= 1:
        raise ValueError(
            f"min_fidelity must be between 0 and 1. Received: min_fidelity={min_fidelity!r}"
        )
    processor = as_processor(processor)
    _check_gateset(gateset, processor)
    if min_fidelity == 0:
        rows = _rows(circuit)
        if split:
            most = len(processor.qubits)
            rows = [part for spec in rows for part in narrow_circuits(spec, most)]
        return all(spec.num_qubits <= len(processor.qubits) for spec in rows)
    try:
        compiled = compile_for(circuit, processor, gateset, split=split)
    except (ProcessorError, UnsupportedCircuitError):
        return False
    parts = getattr(compiled, "circuits", (compiled,))
    return all(part.report.fidelity >= min_fidelity for part in parts)


def _check_gateset(gateset: str, processor: Processor) -> None:
    if gateset not in processor.gatesets:
        raise ValueError(
            f"gateset must be one of {processor.gatesets} for {processor.name}. "
            f"Received: gateset={gateset!r}"
        )


def _rows(circuit: CircuitSpec | keras.Model) -> dict[CircuitSpec, int]:
    """Rows of each circuit."""
    if isinstance(circuit, CircuitSpec):
        return {circuit: 1}
    if not isinstance(circuit, keras.Model):
        raise TypeError(
            "A CircuitSpec or a Keras model is compiled. "
            f"Received: {circuit!r} of type {type(circuit).__name__}"
        )
    rows = rows_per_example(circuit)
    if not rows:
        raise ValueError(f"The model has no circuits. Received: {circuit.name!r}")
    return rows


def _narrow_rows(
    rows: Mapping[CircuitSpec, int], processor: Processor, gateset: str
) -> tuple[dict[CircuitSpec, int], int]:
    """Rows of parts that the processor holds, and how many qubits are put together for these.

    As many as find their places side by side, which on a lattice not any number of qubits does.
    """
    most = packed = len(processor.qubits)
    while True:
        found: dict[CircuitSpec, int] = {}
        for spec, number in rows.items():
            for part, copies in narrow_circuits(spec, most, packed).items():
                found[part] = found.get(part, 0) + number * copies
        crowded = [
            part.num_qubits
            for part in found
            # What is not split is as wide as it is.
            if part not in rows and part.num_qubits <= packed and num_components(part) > 1
            if _layout(part, processor, gateset, may_route=False) is None
        ]
        if not crowded:
            return found, packed
        packed = min(packed - 1, int(_LESS_CROWDED * max(crowded)))


def _compile_circuit(
    spec: CircuitSpec,
    processor: Processor,
    gateset: str,
    scales: Sequence[int],
    *,
    is_split: bool = False,
) -> CompiledCircuit:
    if spec.num_qubits > len(processor.qubits):
        what = "the circuit's widest light cone" if is_split else "the circuit"
        advice = (
            ""
            if is_split
            else ("; split=True (--split-circuits) runs it in parts, where that is possible")
        )
        raise ProcessorError(
            f"{processor.name} has {len(processor.qubits)} qubits, and {what} has more{advice}. "
            f"Received: num_qubits={spec.num_qubits}"
        )
    groups = measurements(spec).groups
    if not groups:
        raise _nothing_to_run(spec)
    layout = _layout(spec, processor, gateset)
    parts = tuple(_compiled(layout, group, gateset, scale) for scale in scales for group in groups)
    for part in parts:
        processor.device.validate_circuit(part.circuit)
    report = _report(spec, parts, layout.is_routed, processor)
    return CompiledCircuit(spec, processor.name, gateset, parts, report)


def _nothing_to_run(circuit: CircuitSpec | keras.Model) -> UnsupportedCircuitError:
    return UnsupportedCircuitError(
        NAME, f"every observable is constant, so there is nothing to run. Received: {circuit!r}"
    )


# --- to gates on one and two qubits ----------------------------------------------------------


def _on_two_qubits(operations: Iterable[cirq.Operation]) -> list[cirq.Operation]:
    """The same with gates on one qubit, and gates without symbols on two."""
    result = []
    for operation in operations:
        if len(operation.qubits) == 1 or (
            len(operation.qubits) == 2 and not cirq.is_parameterized(operation)
        ):
            result.append(operation)
            continue
        rotations = None
        if cirq.is_parameterized(operation):
            rotations = pauli_rotations(operation)
        if rotations is not None:
            for rotation in rotations:
                result += _rotation(rotation, operation.qubits)
            continue
        parts = cirq.decompose_once(operation, default=None)
        if parts is None:
            raise UnsupportedGateError(
                "A gate on several qubits must be a product of Pauli rotations or decompose into "
                f"gates on two. Received: {operation!r}"
            )
        result += _on_two_qubits(part.untagged for part in parts if part.qubits)
    return result


def _rotation(rotation: Rotation, qubits: Sequence[cirq.Qid]) -> list[cirq.Operation]:
    """`exp(-i angle/2 P)`: the parity of P's qubits on the last one, its rotation, and back."""
    letters = [(qubits[index], letter) for index, letter in rotation.pauli]
    turns = Group(tuple(letters), ()).rotations()
    parity = [
        cirq.CNOT(first, second)
        for (first, _), (second, _) in zip(letters, letters[1:], strict=False)
    ]
    there = [*turns, *parity]
    return [*there, cirq.rz(rotation.angle).on(letters[-1][0]), *cirq.inverse(there)]


# --- to the processor's qubits ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Layout:
    """Operations on a processor's qubits, and where the circuit's qubits are before and after."""

    operations: list[cirq.Operation]
    placement: dict[cirq.Qid, cirq.Qid]
    final: dict[cirq.Qid, cirq.Qid]
    is_routed: bool


def _layout(
    spec: CircuitSpec, processor: Processor, gateset: str, *, may_route: bool = True
) -> _Layout | None:
    """A circuit on the processor, with swaps if there must be and may; None if they may not."""
    try:
        operations = _on_two_qubits(separate(spec).circuit.all_operations())
    except UnsupportedGateError as error:
        raise UnsupportedCircuitError(NAME, str(error)) from error
    # All measurements of a circuit are at the same place.
    measured = {qubit for group in measurements(spec).groups for qubit in group.qubits}
    wanted = nx.Graph()
    wanted.add_nodes_from(spec.qubits)
    uses: dict[frozenset, int] = {}
    for operation in operations:
        if len(operation.qubits) == 2:
            pair = frozenset(operation.qubits)
            uses[pair] = uses.get(pair, 0) + 1
            wanted.add_edge(*operation.qubits)
    gate = native_gate(gateset)
    # A CZ is one CZ, or two of the others, with a pulse on each side.
    per_use = 1 if gateset == "cz" else 2
    pulses = {
        qubit: 1 + per_use * sum(uses[frozenset((qubit, other))] for other in wanted[qubit])
        for qubit in wanted
    }
    pulse = {q: _cost(processor.gate_error(cirq.PhasedXZGate, q)) for q in processor.qubits}
    readout = {q: _cost(sum(processor.readout_errors[q]) / 2) for q in processor.qubits}
    edge = {
        frozenset(pair): _cost(processor.gate_error(type(gate), *pair))
        for pair in processor.graph.edges
    }

    def node_cost(qubit: cirq.Qid, spot: cirq.Qid) -> float:
        return pulses[qubit] * pulse[spot] + (readout[spot] if qubit in measured else 0.0)

    def edge_cost(qubit: cirq.Qid, other: cirq.Qid, spot: cirq.Qid, near: cirq.Qid) -> float:
        return per_use * uses.get(frozenset((qubit, other)), 1) * edge[frozenset((spot, near))]

    places = place(wanted, processor.graph, node_cost, edge_cost)
    if places is not None:
        moved = [operation.transform_qubits(places) for operation in operations]
        return _Layout(moved, places, places, False)
    if not may_route:
        return None
    spots = grow(len(wanted), processor.graph, {q: pulse[q] + readout[q] for q in pulse})
    if not spots:
        raise ProcessorError(
            f"{processor.name} has no connected part of so many qubits. "
            f"Received: a circuit of {len(wanted)} qubits"
        )
    starts = [dict(zip(sorted(wanted), spots, strict=True))]
    for order in _turns(sorted(wanted)):
        lines = [nx.path_graph(one) for one in (order, _fold(order))]
        found = [place(line, processor.graph, node_cost, edge_cost) for line in lines]
        # A swap goes on around a ring, through the place left free.
        found.append(place_on_ring(order, processor.graph, node_cost, edge_cost))
        starts += [places for places in found if places is not None]
    routes = [_routed(operations, places, processor) for places in starts]
    group = Group(tuple((qubit, "Z") for qubit in sorted(measured)), ())

    def fidelity(layout: _Layout) -> float:
        return _figures(_compiled(layout, group, gateset, 1).circuit, processor)[0]

    return max(routes, key=fidelity)


def _turns(qubits: Sequence[cirq.Qid]) -> Iterator[list[cirq.Qid]]:
    """The qubits as a ring, of few of them from each one on."""
    for shift in range(len(qubits) if len(qubits) <= _LARGEST_TURNED else 1):
        yield [*qubits[shift:], *qubits[:shift]]


def _fold(qubits: Sequence[cirq.Qid]) -> list[cirq.Qid]:
    """A ring laid double: neighbours on the ring are two apart at most."""
    half = (len(qubits) + 1) // 2
    there, back = list(qubits[:half]), list(qubits[: half - 1 : -1])
    return [qubit for pair in itertools.zip_longest(there, back) for qubit in pair if qubit]


def _routed(operations: Sequence[cirq.Operation], places: Places, processor: Processor) -> _Layout:
    """The operations with swaps, beginning at these places."""
    routed, first, moves = cirq.RouteCQC(processor.graph).route_circuit(
        cirq.Circuit(operations), initial_mapper=cirq.HardCodedInitialMapper(places)
    )
    # A qubit without gates is where it was put.
    first = {**places, **first}
    final = {qubit: moves.get(spot, spot) for qubit, spot in first.items()}
    return _Layout(
        [operation.untagged for operation in routed.all_operations()], first, final, True
    )


def _cost(error: float) -> float:
    """An error as a length to be added."""
    return -math.log1p(-min(max(error, 0.0), 0.999))


# --- to the processor's gates ----------------------------------------------------------------


def _compiled(layout: _Layout, group: Group, gateset: str, scale: int) -> CompiledProgram:
    final = {qubit: layout.final[qubit] for qubit in group.qubits}
    native = _Native(gateset)
    operations = [
        piece
        for operation in _merged(layout.operations, native)
        for piece in native.repeated(operation, scale)
    ]
    turns = [operation.transform_qubits(final) for operation in group.rotations()]
    pulses, runs = _pulses([*operations, *turns], commutes=gateset == "cz")
    # A qubit without gates is measured all the same.
    moments = _moments(pulses)
    moments.append(cirq.Moment(cirq.measure(*final.values(), key=KEY)))
    return CompiledProgram(
        cirq.FrozenCircuit(moments), runs, group, layout.placement, layout.final, scale
    )


class _Native:
    """Gates on two qubits by those of a processor, each kind decomposed once."""

    def __init__(self, gateset: str):
        self._gateset = target_gateset(gateset)
        self._gate = native_gate(gateset)
        self._known: dict[bytes, list[cirq.Operation]] = {}

    def __call__(self, operation: cirq.Operation) -> list[cirq.Operation]:
        if len(operation.qubits) == 1:
            return [operation]
        if operation.gate == self._gate:
            # Gates of another class may be equal, and have no errors in the calibration.
            return [self._gate.on(*operation.qubits)]
        matrix = cirq.unitary(operation)
        key = (matrix + 0.0).tobytes()
        a, b = cirq.LineQubit.range(2)
        if key not in self._known:
            with without_future_warnings():
                parts = self._gateset.decompose_to_target_gateset(operation.gate.on(a, b), 0)
                self._known[key] = list(cirq.flatten_to_ops(parts))
        places = dict(zip((a, b), operation.qubits, strict=True))
        return [part.transform_qubits(places) for part in self._known[key]]

    def repeated(self, operation: cirq.Operation, scale: int) -> list[cirq.Operation]:
        """The same `scale` times, every second time backwards; each takes as many gates."""
        there = self(operation)
        if len(operation.qubits) == 1 or scale == 1:
            return there
        matrix = cirq.unitary(operation)
        if cirq.equal_up_to_global_phase(matrix @ matrix, np.eye(4), atol=1e-9):
            return there * scale
        back = self(cirq.inverse(operation))
        counts = [sum(len(part.qubits) == 2 for part in parts) for parts in (there, back)]
        if counts[0] != counts[1]:
            raise UnsupportedCircuitError(
                NAME,
                "a gate and its inverse take different numbers of this gate set's gates, so noise "
                f"would not grow by the noise scale. Received: noise_scale={scale}, "
                f"{counts[0]} and {counts[1]} gates for {operation!r}",
            )
        return there + (back + there) * (scale // 2)

    def count(self, operation: cirq.Operation) -> int:
        """The processor's gates on two qubits that it takes."""
        return sum(len(part.qubits) == 2 for part in self(operation))


def _merged(operations: Sequence[cirq.Operation], native: _Native) -> list[cirq.Operation]:
    """Gates without symbols that follow each other on a pair as one, where that takes fewer."""
    blocks: list[list[cirq.Operation]] = []
    last: dict[cirq.Qid, int | None] = {}
    for operation in operations:
        found = {last.get(qubit) for qubit in operation.qubits}
        index = found.pop() if len(found) == 1 else None
        is_constant = not cirq.is_parameterized(operation)
        if index is not None and is_constant:
            blocks[index].append(operation)
            continue
        blocks.append([operation])
        opens = is_constant and len(operation.qubits) == 2
        for qubit in operation.qubits:
            last[qubit] = len(blocks) - 1 if opens else None
    result = []
    for block in blocks:
        pairs = [operation for operation in block if len(operation.qubits) == 2]
        if len(pairs) > 1:
            qubits = pairs[0].qubits
            matrix = cirq.Circuit(block).unitary(qubit_order=qubits)
            whole = cirq.MatrixGate(matrix).on(*qubits)
            if native.count(whole) < sum(map(native.count, pairs)):
                block = [whole]
        result += block
    return result


def _pulses(
    operations: Sequence[cirq.Operation], *, commutes: bool
) -> tuple[list[cirq.Operation], tuple[Run, ...]]:
    """One gate for all that happens to a qubit between gates on two.

    Args:
        operations: on one qubit, or the processor's on two.
        commutes: whether the latter commute with changes of phase, which then wait.
    """
    result: list[cirq.Operation] = []
    runs: list[Run] = []
    pending: dict[cirq.Qid, list[cirq.Operation]] = {}

    def flush(qubit: cirq.Qid) -> None:
        gates = pending.pop(qubit, [])
        if not any(cirq.is_parameterized(gate) for gate in gates):
            gate = constant_gate(gates)
            if gate is not None:
                result.append(gate.on(qubit))
            return
        parts = ("z",) if all(map(is_diagonal, gates)) else ("x", "z", "a")
        run = Run(cirq.FrozenCircuit(gates), tuple(f"{part}{len(runs)}" for part in parts))
        runs.append(run)
        result.append(run.gate().on(qubit))

    for operation in operations:
        if len(operation.qubits) == 1:
            pending.setdefault(operation.qubits[0], []).append(operation)
            continue
        for qubit in operation.qubits:
            if not (commutes and all(map(is_diagonal, pending.get(qubit, [])))):
                flush(qubit)
        result.append(operation)
    for qubit in sorted(pending):
        flush(qubit)
    return result, tuple(runs)


def _moments(operations: Sequence[cirq.Operation]) -> list[cirq.Moment]:
    """Operations as late as they can be, gates on one and on two qubits in moments of their own.

    A qubit that waits for its first gate is in its ground state, which does not decay.
    """
    slots: dict[int, list[cirq.Operation]] = {}
    free: dict[cirq.Qid, int] = {}
    for operation in reversed(operations):
        slot = max(free.get(qubit, 0) for qubit in operation.qubits)
        slot += (slot + len(operation.qubits) + 1) % 2  # one qubit: even slots, two: odd ones
        slots.setdefault(slot, []).append(operation)
        for qubit in operation.qubits:
            free[qubit] = slot + 1
    return [cirq.Moment(slots[slot]) for slot in sorted(slots, reverse=True)]


# --- what to expect --------------------------------------------------------------------------


def _report(
    spec: CircuitSpec, parts: Sequence[CompiledProgram], is_routed: bool, processor: Processor
) -> Report:
    uses_cz = any(
        isinstance(operation.gate, cirq.CZPowGate)
        for part in parts
        for operation in part.circuit.all_operations()
    )
    # What is repeated to make noise is not what the circuit is.
    least = min(part.noise_scale for part in parts)
    every = [_figures(part.circuit, processor) for part in parts]
    figures = [one for one, part in zip(every, parts, strict=True) if part.noise_scale == least]
    return Report(
        num_qubits=max(len(part.circuit.all_qubits()) for part in parts),
        depth_before=spec.depth,
        depth=max(depth for _, _, depth, _ in figures),
        two_qubit_gates_before=sum(
            len(operation.qubits) > 1 for operation in spec.circuit.all_operations()
        ),
        two_qubit_gates=max(pairs for *_, pairs in figures),
        fidelity=min(fidelity for fidelity, *_ in figures),
        duration=max(duration for _, duration, *_ in figures),
        num_circuits=len(parts),
        total_duration=sum(duration for _, duration, *_ in every),
        is_routed=is_routed,
        assumed=processor.assumed if uses_cz else (),
    )


def _figures(circuit: cirq.AbstractCircuit, processor: Processor) -> tuple[float, float, int, int]:
    """Expected fidelity, nanoseconds, physical moments and gates on two qubits of a circuit.

    The fidelity is that of the worst qubits that gates connect.
    """
    duration, depth, pairs = 0.0, 0, 0
    costs: dict[cirq.Qid, float] = dict.fromkeys(circuit.all_qubits(), 0.0)
    connected = nx.Graph()
    connected.add_nodes_from(costs)
    awake: set[cirq.Qid] = set()
    for moment in circuit:
        physical = [op for op in moment if not isinstance(op.gate, cirq.ZPowGate)]
        if not physical:
            continue
        time = max(processor.duration(type(operation.gate)) for operation in physical)
        duration += time
        busy = {qubit for operation in physical for qubit in operation.qubits}
        if cirq.is_measurement(physical[0]):
            for qubit in busy:
                costs[qubit] += _cost(sum(processor.readout_errors[qubit]) / 2)
            continue
        depth += 1
        for operation in physical:
            pairs += len(operation.qubits) == 2
            nx.add_path(connected, operation.qubits)
            error = processor.gate_error(type(operation.gate), *operation.qubits)
            costs[operation.qubits[0]] += _cost(error)
        for qubit in awake - busy:
            costs[qubit] += _cost(processor.decoherence(qubit, time))
        awake |= busy
    worst = max(sum(costs[q] for q in part) for part in nx.connected_components(connected))
    return math.exp(-worst), duration, depth, pairs


# --- as data ---------------------------------------------------------------------------------


def _part_to_data(part: CompiledProgram) -> dict:
    return {
        "circuit": part.circuit.unfreeze(),
        "runs": [[run.circuit.unfreeze(), list(run.symbols)] for run in part.runs],
        "bases": [list(base) for base in part.group.bases],
        "terms": [[t.observable, t.coefficient, list(t.qubits)] for t in part.group.terms],
        "placement": [list(pair) for pair in part.placement.items()],
        "final": [list(pair) for pair in part.final.items()],
        "noise_scale": part.noise_scale,
    }


def _part_from_data(data: dict) -> CompiledProgram:
    terms = [Term(index, value, tuple(qubits)) for index, value, qubits in data["terms"]]
    return CompiledProgram(
        data["circuit"].freeze(),
        tuple(Run(circuit.freeze(), tuple(symbols)) for circuit, symbols in data["runs"]),
        Group(tuple(tuple(base) for base in data["bases"]), tuple(terms)),
        dict(data["placement"]),
        dict(data["final"]),
        data["noise_scale"],
    )
