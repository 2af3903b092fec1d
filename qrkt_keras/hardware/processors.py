"""Processors: what is known of a quantum processor, from cirq-google's files or from the Engine."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cirq
import networkx as nx
import numpy as np

from qrkt_keras.execution import RefusedRunError

if TYPE_CHECKING:
    import cirq_google as cg

# What circuits may be compiled to, and the two-qubit gate of each.
GATESETS = ("cz", "sqrt_iswap", "sycamore")


# Nanoseconds of a decay that was not measured anywhere, and the error of a readout that was not.
_FOREVER, _LEAST = 1e12, 1e-12


class ProcessorError(RefusedRunError):
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

    @property
    def readout_errors(self) -> dict[cirq.Qid, tuple[float, float]]:
        """By qubit, the probabilities to read 1 from 0, and 0 from 1."""
        return {
            q: (float(zero), float(one)) for q, (zero, one) in self.noise.readout_errors.items()
        }

    def gate_error(self, gate: type[cirq.Gate], *qubits: cirq.Qid) -> float:
        """The Pauli error of a gate on these qubits, by its type.

        The probability that a Pauli other than the identity comes with the gate: 1 minus its
        process fidelity.
        """
        return float(self.noise.gate_pauli_errors[_identifier(gate, *qubits)])

    def decoherence(self, qubit: cirq.Qid, nanoseconds: float) -> float:
        """The Pauli error of waiting, from relaxation and dephasing."""
        times = self.noise.t1_ns[qubit], self.noise.tphi_ns[qubit]
        return float(cirq.qis.decoherence_pauli_error(*times, nanoseconds))

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
            name: float(
                np.median(
                    [
                        error
                        for identifier, error in self.noise.gate_pauli_errors.items()
                        if identifier.gate_type is gate
                    ]
                )
            )
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
    qubits = sorted(device.metadata.qubit_set)
    pairs = [pair for edge in device.metadata.nx_graph.edges for pair in (edge, edge[::-1])]
    errors = {identifier: float(error) for identifier, error in noise.gate_pauli_errors.items()}
    of_kind: dict[type[cirq.Gate], dict[tuple[cirq.Qid, ...], float]] = {}
    for identifier, error in errors.items():
        of_kind.setdefault(identifier.gate_type, {})[identifier.qubits] = error
    assumed = ()
    if cirq.CZPowGate not in of_kind and cirq.ISwapPowGate in of_kind:
        of_kind[cirq.CZPowGate] = of_kind[cirq.ISwapPowGate]
        assumed = (
            "the calibration has no CZ: a CZ has the error of the pair's square root of iSWAP",
        )
    for gate, measured in of_kind.items():
        for places in pairs if len(next(iter(measured))) == 2 else [(q,) for q in qubits]:
            errors[_identifier(gate, *places)] = _or_worst(measured, places, 0.0, max)
    times = dict(sorted(noise.gate_times_ns.items(), key=lambda item: -len(item[0].__mro__)))
    t1 = {q: _or_worst(noise.t1_ns, q, _FOREVER, min) for q in qubits}
    tphi = {q: _or_worst(noise.tphi_ns, q, _FOREVER, min) for q in qubits}
    # The noise model divides by their sum.
    readout = {q: np.maximum(e, _LEAST) for q, e in noise.readout_errors.items()}
    readout = {q: _or_worst(readout, q, np.full(2, _LEAST), _worst_readout) for q in qubits}
    noise = dataclasses.replace(
        noise,
        # The noise model takes the first kind that a gate is of, so a Sycamore gate, which is an
        # fSim gate too, must come before that to take its own time.
        gate_times_ns=times,
        t1_ns=t1,
        tphi_ns=tphi,
        readout_errors=readout,
        gate_pauli_errors=errors,
    )
    return Processor(name, device, noise, assumed)


def _worst_readout(errors: Iterable[np.ndarray]) -> np.ndarray:
    return max(errors, key=np.sum)


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


def _or_worst(measured: Mapping[Any, Any], key: Any, none: Any, worst: Callable) -> Any:
    """What was measured here; where nothing was, the worst of what was measured elsewhere."""
    if key in measured:
        return measured[key]
    return worst(measured.values()) if measured else none


def _identifier(gate: type[cirq.Gate], *qubits: cirq.Qid) -> Any:
    return cirq.devices.noise_utils.OpIdentifier(gate, *qubits)


@contextmanager
def without_future_warnings() -> Iterator[None]:
    """Cirq and Google's libraries warn of what they will do some day, hundreds of times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
