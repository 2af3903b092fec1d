"""Runs of single-qubit gates as one pulse: products of rotations, and the angles of their product.

Between two gates on several qubits all that happens to a qubit is one unitary, which a processor
does by one pulse and a change of phase, `cirq.PhasedXZGate`. Where rotations have symbols there is
no closed form, so the pulse has symbols of its own, whose values are computed for all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cirq
import numpy as np
import sympy

# Below it a rotation is none.
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Run:
    """Gates on one qubit, one after the other, that become one gate.

    Args:
        circuit: the gates; the exponent of each is a number or a multiple of a symbol.
        symbols: of the gate that they become: x, z and axis exponents of a PhasedXZGate, or, where
            all commute with Z, the exponent of a ZPowGate.
    """

    circuit: cirq.FrozenCircuit
    symbols: tuple[str, ...]

    @property
    def is_virtual(self) -> bool:
        """Whether it is a change of phase, for which nothing has to be done."""
        return len(self.symbols) == 1

    def gate(self) -> cirq.Gate:
        """The gate that stands for them."""
        parts = [sympy.Symbol(name) for name in self.symbols]
        if self.is_virtual:
            return cirq.ZPowGate(exponent=parts[0])
        x, z, axis = parts
        return cirq.PhasedXZGate(x_exponent=x, z_exponent=z, axis_phase_exponent=axis)

    def values(self, columns: dict[str, int], exponents: np.ndarray) -> np.ndarray:
        """The values of `symbols`, `(rows, len(symbols))`.

        Args:
            columns: which column of `exponents` a symbol of the circuit has.
            exponents: `(rows, symbols)`.
        """
        product = np.eye(2, dtype=np.complex128)[None]
        for operation in self.circuit.all_operations():
            product = _matrices(operation.gate, columns, exponents) @ product
        product = np.broadcast_to(product, (len(exponents), 2, 2))
        angles = phased_xz_exponents(product)
        return angles[:, 1:2] if self.is_virtual else angles


def is_diagonal(operation: cirq.Operation) -> bool:
    """Whether a gate on one qubit only changes phases, whatever its symbol is."""
    gate = operation.gate
    if cirq.is_parameterized(gate):
        return isinstance(gate, cirq.ZPowGate)
    return bool(np.abs(cirq.unitary(gate)[0, 1]) < _TOLERANCE)


def constant_gate(operations: Sequence[cirq.Operation]) -> cirq.Gate | None:
    """The gate that gates without symbols are together; None for the identity."""
    product = np.eye(2, dtype=np.complex128)
    for operation in operations:
        product = cirq.unitary(operation) @ product
    x, z, axis = (float(value) for value in phased_xz_exponents(product[None])[0])
    if abs(x) > _TOLERANCE:
        return cirq.PhasedXZGate(x_exponent=x, z_exponent=z, axis_phase_exponent=axis)
    return cirq.ZPowGate(exponent=z) if abs(z) > _TOLERANCE else None


def phased_xz_exponents(unitaries: np.ndarray) -> np.ndarray:
    r"""Exponents with which a PhasedXZGate is a unitary, up to its phase.

    The gate is $Z^z\, Z^a X^x Z^{-a}$, with $X^x = \cos(\pi x/2) - i \sin(\pi x/2) X$ up to a
    phase:

    $$U \sim \begin{pmatrix} \cos & -i \sin e^{-i \pi a} \\ -i \sin e^{i \pi (a + z)} &
      \cos e^{i \pi z} \end{pmatrix}$$

    Args:
        unitaries: `(rows, 2, 2)`.

    Returns:
        `(rows, 3)`: x in [0, 1], z and a in [-1, 1].

    Example:
        >>> phased_xz_exponents(cirq.unitary(cirq.Y)[None]).round(6).tolist()
        [[1.0, 0.0, 0.5]]
    """
    upper, right = unitaries[:, 0, 0], unitaries[:, 0, 1]
    left, lower = unitaries[:, 1, 0], unitaries[:, 1, 1]
    x = 2 / np.pi * np.arctan2(np.abs(left), np.abs(upper))
    turns, stays = np.abs(left) > _TOLERANCE, np.abs(upper) > _TOLERANCE
    z = np.where(stays, np.angle(lower * upper.conj()) / np.pi, 0.0)
    # Where nothing stays only 2a + z has a meaning.
    from_stays = -np.angle(1j * right * upper.conj()) / np.pi
    from_turns = np.angle(left * right.conj()) / (2 * np.pi)
    a = np.where(turns, np.where(stays, from_stays, from_turns), 0.0)
    # Minus zero is zero.
    return np.stack([x, z, a], axis=-1) + 0.0


def _matrices(gate: cirq.Gate, columns: dict[str, int], exponents: np.ndarray) -> np.ndarray:
    """The gate's matrices, `(rows or 1, 2, 2)`."""
    if not cirq.is_parameterized(gate):
        return cirq.unitary(gate)[None]
    (symbol,) = gate.exponent.free_symbols
    scale = float(gate.exponent.diff(symbol))
    offset = float(gate.exponent.subs(symbol, 0))
    turns = scale * exponents[:, columns[symbol.name]] + offset
    return sum(
        np.exp(1j * np.pi * (shift + gate.global_shift) * turns)[:, None, None] * projector
        for shift, projector in gate._with_exponent(1)._eigen_components()
    )
