"""Processors: what is known of a quantum processor, from cirq-google's files or from the Engine."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cirq
import networkx as nx
import numpy as np

if TYPE_CHECKING:
    import cirq_google as cg

# What circuits may be compiled to, and the two-qubit gate of each.
GATESETS = ("cz", "sqrt_iswap", "sycamore")


class ProcessorError(ValueError):
    """A circuit and a processor do not go together; the message has the numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Processor:
    """A processor: which qubits and gates it has, and what they were last measured to do.

    What the calibration lacks of a qubit or a pair is taken for the worst that it has of others.

    Args:
        name: its id.
        device: what it takes, a `cirq_google.GridDevice`.
        noise: errors and times from its calibration, as cirq-google's noise model has them.
        assumed: what the calibration does not have and `noise` takes from elsewhere, in words.
    """

    name: str
    device: cirq.Device
    noise: Any
    assumed: tuple[str, ...] = ()

    @property
    def qubits(self) -> tuple[cirq.GridQubit, ...]:
        """All qubits, sorted."""
        return tuple(sorted(self.device.metadata.qubit_set))

    @property
    def graph(self) -> nx.Graph:
        """Which qubits have a two-qubit gate with which."""
        return self.device.metadata.nx_graph

    @functools.cached_property
    def readout_errors(self) -> dict[cirq.Qid, tuple[float, float]]:
        """By qubit, the probabilities to read 1 from 0, and 0 from 1."""
        measured = {
            qubit: (float(zero), float(one))
            for qubit, (zero, one) in self.noise.readout_errors.items()
        }
        return {qubit: _or_worst(measured, qubit, (0.0, 0.0)) for qubit in self.qubits}

    def gate_error(self, gate: type[cirq.Gate], *qubits: cirq.Qid) -> float:
        """The Pauli error of a gate on these qubits, by its type.

        The probability that a Pauli other than the identity comes with the gate: 1 minus its
        process fidelity.
        """
        return _or_worst(self._gate_errors.get(gate, {}), qubits, 0.0)

    @functools.cached_property
    def _gate_errors(self) -> dict[type[cirq.Gate], dict[tuple[cirq.Qid, ...], float]]:
        errors: dict[type[cirq.Gate], dict[tuple[cirq.Qid, ...], float]] = {}
        for identifier, error in self.noise.gate_pauli_errors.items():
            errors.setdefault(identifier.gate_type, {})[identifier.qubits] = float(error)
        return errors

    def decoherence(self, qubit: cirq.Qid, nanoseconds: float) -> float:
        """The Pauli error of waiting, from relaxation and dephasing."""
        # By rates: of a qubit that was not measured, the worst ones.
        rates = {one: (1 / t1, 1 / self.noise.tphi_ns[one]) for one, t1 in self.noise.t1_ns.items()}
        relaxation, dephasing = _or_worst(rates, qubit, (0.0, 0.0))
        if not relaxation:
            return 0.0
        return float(cirq.qis.decoherence_pauli_error(1 / relaxation, 1 / dephasing, nanoseconds))

    def duration(self, gate: type[cirq.Gate]) -> float:
        """Nanoseconds of a gate, by its type."""
        return float(self.noise.gate_times_ns[gate])

    def median_errors(self) -> dict[str, float]:
        """Medians over qubits and pairs: a pulse, the gates of two gate sets, and readout."""
        gates = {
            "pulse": cirq.PhasedXZGate,
            "sqrt_iswap": type(native_gate("sqrt_iswap")),
            "sycamore": type(native_gate("sycamore")),
        }
        medians = {
            name: float(np.median([*self._gate_errors.get(gate, {None: 0.0}).values()]))
            for name, gate in gates.items()
        }
        readout = [sum(errors) / 2 for errors in self.readout_errors.values()]
        return medians | {"readout": float(np.median(readout))}

    @property
    def gatesets(self) -> tuple[str, ...]:
        """Those of `GATESETS` whose two-qubit gate the device takes."""
        edge = next(iter(self.graph.edges), None)
        found = []
        for name in GATESETS if edge else ():
            operation = native_gate(name).on(*edge)
            if operation in self.device.metadata.gateset:
                found.append(name)
        return tuple(found)

    def __repr__(self) -> str:
        return f"Processor({self.name!r}, num_qubits={len(self.qubits)})"


def native_gate(gateset: str) -> cirq.Gate:
    """The two-qubit gate of a gate set."""
    import cirq_google

    return {"cz": cirq.CZ, "sqrt_iswap": cirq.SQRT_ISWAP, "sycamore": cirq_google.SYC}[gateset]


def target_gateset(gateset: str) -> cirq.TwoQubitCompilationTargetGateset:
    """What decomposes gates on two qubits into those of a gate set."""
    import cirq_google

    gatesets = {
        "cz": cirq.CZTargetGateset,
        "sqrt_iswap": cirq.SqrtIswapTargetGateset,
        "sycamore": cirq_google.SycamoreTargetGateset,
    }
    return gatesets[gateset]()


def list_processors() -> tuple[str, ...]:
    """The processors that cirq-google ships device and calibration of: no network is needed.

    Example:
        >>> list_processors()
        ('rainbow', 'weber')
    """
    with without_future_warnings():
        from cirq_google.engine import virtual_engine_factory

    return tuple(sorted(virtual_engine_factory.MEDIAN_CALIBRATIONS))


@functools.lru_cache(maxsize=8)
def get_processor(name: str) -> Processor:
    """A processor by name, with the median calibration that cirq-google ships.

    These calibrations have no CZ gates, so a noise model made of them leaves a CZ without any error
    of its own. Here a CZ has the Pauli error of the same pair's square root of iSWAP, and
    `assumed` says so.

    Args:
        name: one of `list_processors()`.

    Raises:
        ValueError: there is none of this name.

    Example:
        >>> len(get_processor("weber").qubits), get_processor("rainbow").gatesets
        (53, ('cz', 'sqrt_iswap', 'sycamore'))
    """
    if name not in list_processors():
        raise ValueError(
            f"The processors with calibrations are {', '.join(list_processors())}. "
            f"Received: processor={name!r}"
        )
    with without_future_warnings():
        from cirq_google import engine

        device = engine.create_device_from_processor_id(name)
        calibration = engine.load_median_device_calibration(name)
        return of_calibration(name, device, calibration)


def of_calibration(name: str, device: cirq.Device, calibration: cg.Calibration) -> Processor:
    """A processor of a device and a calibration, such as a real one's latest.

    Args:
        name: its id.
        device: its device, with a graph of qubits.
        calibration: what was measured.

    Returns:
        A Processor.
    """
    from cirq_google.engine import noise_properties_from_calibration

    noise = noise_properties_from_calibration(calibration)
    errors = dict(noise.gate_pauli_errors)
    known = {identifier.gate_type for identifier in errors}
    assumed = ()
    if cirq.CZPowGate not in known and cirq.ISwapPowGate in known:
        for identifier, error in list(errors.items()):
            if identifier.gate_type is cirq.ISwapPowGate:
                errors[_identifier(cirq.CZPowGate, *identifier.qubits)] = error
        noise = dataclasses.replace(noise, gate_pauli_errors=errors)
        assumed = (
            "the calibration has no CZ: a CZ has the error of the pair's square root of iSWAP",
        )
    return Processor(name, device, noise, assumed)


def as_processor(processor: str | Processor) -> Processor:
    """The processor itself, or the one of this name."""
    if isinstance(processor, Processor):
        return processor
    if not isinstance(processor, str):
        raise TypeError(
            "processor must be a name or a Processor. "
            f"Received: {processor!r} of type {type(processor).__name__}"
        )
    return get_processor(processor)


def _or_worst(measured: Mapping[Any, Any], key: Any, none: Any) -> Any:
    """What was measured here; where nothing was, the worst of what was measured elsewhere."""
    if key in measured:
        return measured[key]
    return max(measured.values(), key=lambda value: np.sum(value)) if measured else none


def _identifier(gate: type[cirq.Gate], *qubits: cirq.Qid) -> Any:
    return cirq.devices.noise_utils.OpIdentifier(gate, *qubits)


@contextmanager
def without_future_warnings() -> Iterator[None]:
    """Cirq and Google's libraries warn of what they will do some day, hundreds of times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
