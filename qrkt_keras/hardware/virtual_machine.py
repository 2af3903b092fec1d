"""A noisy virtual machine: a processor's qubits, gates and errors, without a network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cirq
import networkx as nx
import numpy as np

from qrkt_keras.hardware.pauli_transfer import NoisyCircuit
from qrkt_keras.hardware.processors import Processor, ProcessorError, as_processor

SIMULATORS = ("auto", "density_matrix", "trajectories")
CALIBRATION = "calibration"

_AS_THEY_ARE = (
    cirq.PhasedXZGate,
    cirq.ZPowGate,
    cirq.IdentityGate,
    cirq.MeasurementGate,
    cirq.WaitGate,
)

# Of more, a density matrix takes over 4 MB a row, and trajectories are taken.
MAX_DENSITY_MATRIX_QUBITS = 10
# Of 12 it takes 64 MB a row; each more qubit four times as much.
_MOST_DENSITY_MATRIX_QUBITS = 13


@dataclass(frozen=True, eq=False)
class _Part:
    """Qubits of a circuit that meet no others, and what simulates them.

    `columns` are by key the places of their outcomes among those of the whole circuit.
    """

    columns: dict[str, tuple[int, ...]]
    circuit: NoisyCircuit | cirq.Circuit
    is_whole: bool

    def sample(
        self,
        resolvers: Sequence[cirq.ParamResolver],
        repetitions: int,
        generator: np.random.Generator,
    ) -> list[cirq.Result]:
        """Outcomes of each point, in no order."""
        if isinstance(self.circuit, NoisyCircuit):
            parameters = self.circuit.parameters
            values = [[float(r.value_of(p)) for p in parameters] for r in resolvers]
            values = np.array(values).reshape(len(resolvers), len(parameters))
            outcomes = self.circuit.sample(values, repetitions, generator)
            return [
                cirq.ResultDict(params=resolver, measurements=measured)
                for resolver, measured in zip(resolvers, outcomes, strict=True)
            ]
        import qsimcirq

        simulator = qsimcirq.QSimSimulator(seed=int(generator.integers(2**31)))
        results = simulator.run_sweep(self.circuit, resolvers, repetitions)
        if self.is_whole:
            return results
        # Without noise qsim's outcomes are sorted, which parts beside each other must not be.
        found = []
        for resolver, result in zip(resolvers, results, strict=True):
            order = generator.permutation(repetitions)
            measured = {key: rows[order] for key, rows in result.measurements.items()}
            found.append(cirq.ResultDict(params=resolver, measurements=measured))
        return found


class VirtualMachine(cirq.Sampler):
    """A sampler that takes what a processor takes, and errs as it does.

    Circuits are checked against the device first. The noise is that of cirq-google's noise model:
    relaxation and dephasing while time goes by, depolarisation after gates, coherent errors of
    two-qubit gates, and readout errors.

    Args:
        processor: name or `Processor`.
        noise: "calibration", None for none, or a `cirq.NoiseModel`.
        seed: of the outcomes; None draws one. The same runs in the same order give the same
            outcomes.
        simulator: "density_matrix", exact up to the shots, or "trajectories", one a shot; "auto"
            takes the first for at most 10 qubits. Qubits that no gate connects are simulated apart.

    Raises:
        ValueError: an argument is none of these.
        ProcessorError: when run: the device does not take the circuit, or gates connect more qubits
            than a density matrix may have; the message says why.

    Example:
        >>> machine = VirtualMachine("rainbow", seed=0)
        >>> qubit = machine.processor.qubits[0]
        >>> flip = cirq.PhasedXZGate(x_exponent=1, z_exponent=0, axis_phase_exponent=0)
        >>> circuit = cirq.Circuit(flip(qubit), cirq.measure(qubit, key="m"))
        >>> bool(machine.run(circuit, repetitions=1000).measurements["m"].mean() < 1)
        True
    """

    def __init__(
        self,
        processor: str | Processor = "weber",
        *,
        noise: str | cirq.NoiseModel | None = CALIBRATION,
        seed: int | None = None,
        simulator: str = "auto",
    ):
        self.processor = as_processor(processor)
        is_known = noise is None or isinstance(noise, cirq.NoiseModel)
        if not is_known and noise != CALIBRATION:
            raise ValueError(
                f"noise must be {CALIBRATION!r}, None or a cirq.NoiseModel. Received: {noise!r}"
            )
        if simulator not in SIMULATORS:
            raise ValueError(f"simulator must be one of {SIMULATORS}. Received: {simulator!r}")
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ValueError(f"seed must be None or a whole number >= 0. Received: seed={seed!r}")
        self.noise = _noise_model(self.processor) if noise == CALIBRATION else noise
        self.seed = np.random.SeedSequence().entropy if seed is None else seed
        self.simulator = simulator
        # What tells its outcomes from another one's.
        told = noise if isinstance(noise, str | None) else type(noise).__name__
        self.identity = f"{self!r}, noise={told}, simulator={simulator}"
        # How many sweeps were run: where the random numbers of the next come from.
        self.num_runs = 0
        self._parts = functools.lru_cache(maxsize=64)(self._make_parts)

    def run_sweep(
        self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1
    ) -> Sequence[cirq.Result]:
        """Outcomes of a circuit at every point, see `cirq.Sampler.run_sweep`."""
        parts = self._parts(program.freeze())
        generator = np.random.default_rng([self.seed, self.num_runs])
        self.num_runs += 1
        resolvers = list(cirq.to_resolvers(params))
        drawn = [part.sample(resolvers, repetitions, generator) for part in parts]
        if len(parts) == 1:
            return drawn[0]
        places = {
            key: np.argsort([i for part in parts for i in part.columns.get(key, ())])
            for part in parts
            for key in part.columns
        }
        return [
            cirq.ResultDict(
                params=resolver,
                measurements={
                    key: np.concatenate(
                        [r.measurements[key] for r in results if key in r.measurements], -1
                    )[:, order]
                    for key, order in places.items()
                },
            )
            for resolver, *results in zip(resolvers, *drawn, strict=True)
        ]

    def _make_parts(self, circuit: cirq.FrozenCircuit) -> list[_Part]:
        parts = []
        independent = _independent(self._noisy(circuit))
        is_whole = len(independent) == 1
        for part, columns in independent:
            number = len(part.all_qubits())
            if self.simulator == "density_matrix" and number > _MOST_DENSITY_MATRIX_QUBITS:
                raise ProcessorError(
                    f"A density matrix may have {_MOST_DENSITY_MATRIX_QUBITS} qubits: take "
                    f"simulator='trajectories'. Received: {number} qubits that gates connect"
                )
            most = {"auto": MAX_DENSITY_MATRIX_QUBITS, "trajectories": 0}
            if number <= most.get(self.simulator, number):
                part = NoisyCircuit(part)
            parts.append(_Part(columns, part, is_whole))
        return parts

    def _noisy(self, circuit: cirq.FrozenCircuit) -> cirq.Circuit:
        try:
            self.processor.device.validate_circuit(circuit)
        except ValueError as error:
            raise ProcessorError(
                f"{self.processor.name} does not take the circuit: compile it with "
                f"hardware.compile_for. Received: {error}"
            ) from error
        # cirq-google's noise is of PhasedXZGates only.
        circuit = cirq.map_operations(circuit, lambda operation, _: _as_pulse(operation))
        circuit = circuit.unfreeze()
        return circuit if self.noise is None else circuit.with_noise(self.noise)

    def __repr__(self) -> str:
        return f"VirtualMachine({self.processor.name!r}, seed={self.seed})"


def virtual_machine(
    processor: str | Processor = "weber",
    *,
    noise: str | cirq.NoiseModel | None = CALIBRATION,
    seed: int | None = None,
    simulator: str = "auto",
) -> VirtualMachine:
    """A noisy virtual machine, see `VirtualMachine`.

    Example:
        >>> virtual_machine("weber", seed=1)
        VirtualMachine('weber', seed=1)
    """
    return VirtualMachine(processor, noise=noise, seed=seed, simulator=simulator)


def _independent(
    circuit: cirq.Circuit,
) -> list[tuple[cirq.Circuit, dict[str, tuple[int, ...]]]]:
    """Parts of a circuit that no gate connects, each with its part of every measurement."""
    measured = [op for op in circuit.all_operations() if cirq.is_measurement(op)]
    keys = {cirq.measurement_key_name(op): tuple(range(len(op.qubits))) for op in measured}
    is_plain = all(
        isinstance(op.gate, cirq.MeasurementGate) and not op.gate.confusion_map for op in measured
    )
    if len(keys) < max(len(measured), 1) or not (
        is_plain and circuit.are_all_measurements_terminal()
    ):
        return [(circuit, keys)]  # which simulators of other measurements may take
    graph = nx.Graph()
    graph.add_nodes_from(circuit.all_qubits())
    gates = [op for op in circuit.all_operations() if not cirq.is_measurement(op)]
    for operation in gates:
        nx.add_path(graph, operation.qubits)
    found = sorted(map(sorted, nx.connected_components(graph)))
    part_of = {qubit: index for index, qubits in enumerate(found) for qubit in qubits}
    if len(found) == 1:
        return [(circuit, keys)]
    own: list[list[cirq.Operation]] = [[] for _ in found]
    for operation in gates:
        own[part_of[operation.qubits[0]]].append(operation)
    parts = []
    for index, operations in enumerate(own):
        part, columns = cirq.Circuit(operations), {}
        for operation in measured:
            key, mask = cirq.measurement_key_name(operation), operation.gate.full_invert_mask()
            places = [i for i, q in enumerate(operation.qubits) if part_of[q] == index]
            if places:
                columns[key] = tuple(places)
                qubits = [operation.qubits[i] for i in places]
                inverted = tuple(mask[i] for i in places)
                name = cirq.measurement_key_obj(operation)
                part.append(cirq.measure(*qubits, key=name, invert_mask=inverted))
        if columns:
            parts.append((part, columns))
    return parts


def _as_pulse(operation: cirq.Operation) -> cirq.Operation:
    """A gate on one qubit as the PhasedXZGate that a processor makes of it."""
    gate = operation.gate
    if len(operation.qubits) != 1 or isinstance(gate, _AS_THEY_ARE):
        return operation
    if isinstance(gate, cirq.XPowGate | cirq.YPowGate | cirq.PhasedXPowGate):
        axis = {cirq.XPowGate: 0.0, cirq.YPowGate: 0.5}
        phase = next((a for kind, a in axis.items() if isinstance(gate, kind)), None)
        if phase is None:
            phase = gate.phase_exponent
        pulse = cirq.PhasedXZGate(x_exponent=gate.exponent, z_exponent=0, axis_phase_exponent=phase)
        return pulse.on(*operation.qubits)
    if cirq.is_parameterized(operation) or not cirq.has_unitary(operation):
        return operation
    return cirq.PhasedXZGate.from_matrix(cirq.unitary(operation)).on(*operation.qubits)


def _noise_model(processor: Processor) -> cirq.NoiseModel:
    import cirq_google

    return cirq_google.NoiseModelFromGoogleNoiseProperties(processor.noise)
