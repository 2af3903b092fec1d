r"""Noisy circuits: density matrices in the Pauli basis, all points of a sweep at once.

A state of n qubits is the real vector of $\mathrm{tr}(P \rho)$ over its $4^n$ Pauli strings, and a
channel on k qubits a real $4^k \times 4^k$ matrix, its Pauli transfer matrix

$$R_{ij} = 2^{-k}\, \mathrm{tr}\left(P_i \sum_m K_m P_j K_m^\dagger\right)$$

So all that a pair of qubits goes through before one of them meets a third, gates and noise, is one
matrix, and what is applied to the states of all points is one matrix product a pair.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cirq
import numpy as np
import sympy

from qrkt_keras.circuits.lowering import pauli_matrix, pauli_words

# States of so many bytes at a time.
_CHUNK_BYTES = 2**28


@dataclass(eq=False)
class _Block:
    """What one or two qubits go through; each step a matrix, or a gate with symbols on one."""

    qubits: tuple[cirq.Qid, ...]
    steps: list[np.ndarray | cirq.Operation] = field(default_factory=list)

    def add(self, operation: cirq.Operation) -> None:
        """One more operation on some of the qubits."""
        if cirq.is_parameterized(operation):
            self.steps.append(operation)
            return
        matrix = self._spread(transfer_matrix(operation.untagged)[None], operation.qubits)[0]
        if self.steps and isinstance(self.steps[-1], np.ndarray):
            matrix = matrix @ self.steps.pop()
        self.steps.append(matrix)

    def absorb(self, block: _Block) -> None:
        """What one of the qubits went through before."""
        for step in block.steps:
            if isinstance(step, np.ndarray):
                step = self._spread(step[None], block.qubits)[0]
                if self.steps and isinstance(self.steps[-1], np.ndarray):
                    step = step @ self.steps.pop()
            self.steps.append(step)

    def matrix(self, columns: Mapping[sympy.Expr, int], values: np.ndarray) -> np.ndarray:
        """The product for every point, `(points or 1, 4**k, 4**k)`."""
        product = np.eye(4 ** len(self.qubits))[None]
        for step in self.steps:
            if isinstance(step, np.ndarray):
                product = step @ product
            else:
                turn = _rotation(step.gate, columns, values)
                product = self._spread(turn, step.qubits) @ product
        return product

    def _spread(self, matrices: np.ndarray, qubits: Sequence[cirq.Qid]) -> np.ndarray:
        """Matrices on some of the qubits as matrices on all."""
        if tuple(qubits) == self.qubits:
            return matrices
        if len(qubits) == 1:
            parts = [matrices if q == qubits[0] else np.eye(4)[None] for q in self.qubits]
            first, second = parts
            product = np.einsum("aij,bkl->abikjl", first, second)
            return product.reshape(-1, 16, 16)
        swapped = matrices.reshape(-1, 4, 4, 4, 4).transpose(0, 2, 1, 4, 3)
        return swapped.reshape(-1, 16, 16)


class NoisyCircuit:
    """The outcomes of a noisy circuit, for all points of a sweep together.

    Args:
        circuit: gates and channels on one and two qubits, and measurements at the end. With symbols
            only PhasedXZGate and ZPowGate, as compiled circuits have them.

    Attributes:
        parameters: the expressions in symbols that these gates have, each once.

    Raises:
        ValueError: another gate has a symbol, something acts on more qubits, or a measurement is
            not at the end.

    Example:
        >>> q = cirq.LineQubit(0)
        >>> circuit = cirq.Circuit(cirq.X(q), cirq.amplitude_damp(0.25)(q), cirq.measure(q))
        >>> NoisyCircuit(circuit).probabilities(np.zeros((1, 0)))
        array([[0.25, 0.75]])
    """

    def __init__(self, circuit: cirq.AbstractCircuit):
        if not circuit.are_all_measurements_terminal():
            raise ValueError("Measurements must be at the end. Received: one that is not")
        if not cirq.is_measurement(circuit):
            raise ValueError("There must be a measurement. Received: a circuit without one")
        self.keys: dict[str, tuple[cirq.Qid, ...]] = {}
        self._inverted: dict[str, np.ndarray] = {}
        self.qubits = tuple(sorted(circuit.all_qubits()))
        self._blocks: list[_Block] = []
        open_: dict[cirq.Qid, _Block] = {}
        for operation in circuit.all_operations():
            if cirq.is_measurement(operation):
                self._add_measurement(operation)
                continue
            if len(operation.qubits) > 2:
                raise ValueError(
                    f"A channel must act on one or two qubits. Received: {operation!r}"
                )
            if cirq.is_parameterized(operation) and not isinstance(
                operation.gate, cirq.PhasedXZGate | cirq.ZPowGate
            ):
                raise ValueError(
                    "Only a PhasedXZGate or a ZPowGate may have symbols: compile the circuit "
                    f"first. Received: {operation!r}"
                )
            blocks = [open_.get(qubit) for qubit in operation.qubits]
            block = blocks[0]
            if len(operation.qubits) == 2 and not (block is not None and block is blocks[1]):
                block = _Block(operation.qubits)
                for before in blocks:
                    if before is not None and len(before.qubits) == 1:
                        block.absorb(before)
                        self._blocks.remove(before)
                self._blocks.append(block)
            elif block is None:
                block = _Block(operation.qubits)
                self._blocks.append(block)
            # A pair that is left stays where it is; what comes goes into the new block.
            for qubit in operation.qubits:
                open_[qubit] = block
            block.add(operation)
        found = {
            exponent
            for block in self._blocks
            for step in block.steps
            if isinstance(step, cirq.Operation)
            for exponent in _exponents(step.gate)
            if isinstance(exponent, sympy.Expr)
        }
        self.parameters = tuple(sorted(found, key=str))

    def _add_measurement(self, operation: cirq.Operation) -> None:
        gate = operation.gate
        key = cirq.measurement_key_name(operation)
        if not isinstance(gate, cirq.MeasurementGate) or gate.confusion_map or key in self.keys:
            raise ValueError(
                "A measurement must have a key of its own, and no confusion map. "
                f"Received: {operation!r}"
            )
        self.keys[key] = operation.qubits
        self._inverted[key] = np.array(gate.full_invert_mask(), np.int64)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Of all outcomes of all qubits, `(points, 2**n)`, the first qubit being most significant.

        Args:
            values: of `parameters`, `(points, len(parameters))`.
        """
        size = max(1, _CHUNK_BYTES // (4 * 4 ** len(self.qubits)))
        parts = [
            self._probabilities(values[start : start + size])
            for start in range(0, len(values), size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 2 ** len(self.qubits)))

    def _probabilities(self, values: np.ndarray) -> np.ndarray:
        points, number = len(values), len(self.qubits)
        columns = {parameter: i for i, parameter in enumerate(self.parameters)}
        ground = np.array([1, 0, 0, 1], np.float32)
        state = functools.reduce(np.multiply.outer, [ground] * number)
        state = np.broadcast_to(state, (points, *state.shape))
        order = list(self.qubits)
        for block in self._blocks:
            places = [order.index(qubit) for qubit in block.qubits]
            rest = [i for i in range(number) if i not in places]
            state = state.transpose(0, *(1 + i for i in (*places, *rest)))
            shape = state.shape
            matrix = block.matrix(columns, values).astype(np.float32)
            state = matrix @ state.reshape(points, matrix.shape[-1], -1)
            state = state.reshape(shape)
            order = [order[i] for i in (*places, *rest)]
        state = state.transpose(0, *(1 + order.index(qubit) for qubit in self.qubits))
        # Of I and Z alone an outcome's probability is made, qubit by qubit.
        state = state[(slice(None), *[slice(None, None, 3)] * number)].astype(np.float64)
        for axis in range(1, number + 1):
            plus, minus = np.take(state, 0, axis), np.take(state, 1, axis)
            state = np.stack([plus + minus, plus - minus], axis) / 2
        probabilities = np.clip(state.reshape(points, -1), 0, None)
        return probabilities / probabilities.sum(-1, keepdims=True)

    def sample(
        self, values: np.ndarray, repetitions: int, generator: np.random.Generator
    ) -> list[dict[str, np.ndarray]]:
        """Outcomes of each point by key, `(repetitions, qubits of the key)` of 0 and 1."""
        results = []
        places = {qubit: i for i, qubit in enumerate(self.qubits)}
        for row in self.probabilities(values):
            drawn = np.searchsorted(np.cumsum(row), generator.random(repetitions), side="right")
            drawn = np.minimum(drawn, len(row) - 1)
            outcomes = {}
            for key, qubits in self.keys.items():
                shifts = [len(self.qubits) - 1 - places[qubit] for qubit in qubits]
                bits = ((drawn[:, None] >> np.array(shifts)) & 1) ^ self._inverted[key]
                outcomes[key] = bits.astype(np.int8)
            results.append(outcomes)
        return results


def transfer_matrix(operation: cirq.Operation) -> np.ndarray:
    """The Pauli transfer matrix of a channel, the operation's first qubit being most significant.

    Args:
        operation: a gate or a channel without symbols.

    Returns:
        `(4**k, 4**k)` float64.

    Example:
        >>> transfer_matrix(cirq.X(cirq.LineQubit(0))).diagonal()
        array([ 1.,  1., -1., -1.])
    """
    paulis = _paulis(len(operation.qubits))
    kraus = np.stack(cirq.kraus(operation))
    images = np.einsum("mab,jbc,mdc->jad", kraus, paulis, kraus.conj(), optimize=True)
    matrix = np.einsum("iab,jba->ij", paulis, images).real / len(paulis[0])
    return np.where(np.abs(matrix) < 1e-15, 0.0, matrix)


@functools.lru_cache(maxsize=2)
def _paulis(num_qubits: int) -> np.ndarray:
    return np.stack([pauli_matrix(word) for word in pauli_words(num_qubits)])


def _rotation(gate: cirq.Gate, columns: Mapping[sympy.Expr, int], values: np.ndarray) -> np.ndarray:
    """The Pauli transfer matrices of a PhasedXZGate or ZPowGate, `(points, 4, 4)`."""

    angles = [
        np.pi * values[:, columns[exponent]]
        if isinstance(exponent, sympy.Expr)
        else np.full(len(values), np.pi * exponent)
        for exponent in _exponents(gate)
    ]
    if isinstance(gate, cirq.ZPowGate):
        return _about_z(angles[0])
    x, z, axis = angles
    about_x = np.zeros((len(values), 4, 4))
    about_x[:, 0, 0] = about_x[:, 1, 1] = 1
    about_x[:, 2, 2] = about_x[:, 3, 3] = np.cos(x)
    about_x[:, 3, 2], about_x[:, 2, 3] = np.sin(x), -np.sin(x)
    return _about_z(axis + z) @ about_x @ _about_z(-axis)


def _exponents(gate: cirq.Gate) -> tuple[float | sympy.Expr, ...]:
    if isinstance(gate, cirq.ZPowGate):
        return (gate.exponent,)
    return gate.x_exponent, gate.z_exponent, gate.axis_phase_exponent


def _about_z(angle: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(angle), 4, 4))
    matrix[:, 0, 0] = matrix[:, 3, 3] = 1
    matrix[:, 1, 1] = matrix[:, 2, 2] = np.cos(angle)
    matrix[:, 2, 1], matrix[:, 1, 2] = np.sin(angle), -np.sin(angle)
    return matrix
