"""Clifford gates at a circuit's end, moved into its observables."""

from __future__ import annotations

import cirq
import numpy as np

from qrkt_keras.circuits.spec import CircuitSpec


def absorb_cliffords(spec: CircuitSpec) -> CircuitSpec:
    r"""The same function with a shorter circuit: final Clifford gates become part of what is read.

    For $U = C V$ with Clifford gates $C$, $\langle O \rangle_U = \langle C^\dagger O C \rangle_V$,
    and $C^\dagger O C$ has as many Pauli strings as $O$.

    Args:
        spec: the circuit.

    Returns:
        A spec with the same inputs, weights and values; `spec` itself if no gate can be moved.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> print(absorb_cliffords(templates.rx_ring(3)).observables[1])
        1.000*Z(q(0))*Z(q(1))
    """
    kept: list[cirq.Operation] = []
    moved: list[cirq.Operation] = []
    blocked: set[cirq.Qid] = set()
    for operation in reversed(list(spec.circuit.all_operations())):
        is_free = blocked.isdisjoint(operation.qubits)
        if is_free and not cirq.is_parameterized(operation) and _is_clifford(operation):
            moved.append(operation)
        else:
            blocked.update(operation.qubits)
            kept.append(operation)
    if not moved:
        return spec
    circuit = cirq.Circuit(reversed(kept))
    circuit.append(cirq.I(qubit) for qubit in set(spec.qubits) - blocked)
    observables = [
        cirq.PauliSum.from_pauli_strings([_before(string, moved) for string in observable])
        for observable in spec.observables
    ]
    weights = np.array([symbol.name for symbol in spec.weights], dtype=object)
    return CircuitSpec(circuit, spec.inputs, weights.reshape(spec.weight_shape), observables)


def _before(string: cirq.PauliString, operations: list[cirq.Operation]) -> cirq.PauliString:
    """`C^dagger P C`, from the last gate to the first; one that meets no letter changes nothing."""
    # In place, for a string may be as long as the circuit is wide.
    pulled = string.mutable_copy()
    for operation in operations:
        if any(qubit in pulled for qubit in operation.qubits):
            pulled.inplace_before(operation)
    return pulled.frozen()


def _is_clifford(operation: cirq.Operation) -> bool:
    """Whether Cirq can pull strings through; it does not know all Clifford gates as such."""
    if operation.gate is None or not cirq.has_stabilizer_effect(operation):
        return False
    try:
        for pauli in (cirq.X, cirq.Z):
            cirq.MutablePauliString(dict.fromkeys(operation.qubits, pauli)).inplace_before(
                operation
            )
    except TypeError:
        return False
    return True
