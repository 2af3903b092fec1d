"""Separation: a symbol of its own for every parametrised gate of a circuit.

What runs circuits gate by gate needs it: a symbol that several gates share has no shift rule, the
gates have one each.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import cirq
import numpy as np
import sympy

from qrkt_keras.circuits.lowering import UnsupportedGateError
from qrkt_keras.circuits.spec import CircuitSpec

# Eigenphases that are closer are one.
_DECIMALS = 9


@dataclass(frozen=True, eq=False)
class SeparatedCircuit:
    """A circuit whose parametrised gates have one symbol each, and what these stand for.

    Args:
        circuit: every parametrised gate is a power of a constant one, controlled or not, whose
            exponent is one of `symbols`; each symbol is in one gate.
        symbols: names, in the order of execution.
        exponents: what each stands for, an expression in the spec's symbols, in half turns.
        frequencies: for each, the positive differences of the gate's eigenphases, in radians a
            unit of the exponent. An expectation value is, as a function of the exponent `t`, a sum
            of `a cos(f t) + b sin(f t)` over these and a constant.
    """

    circuit: cirq.FrozenCircuit
    symbols: tuple[str, ...]
    exponents: tuple[sympy.Expr, ...]
    frequencies: tuple[tuple[float, ...], ...]


@functools.lru_cache(maxsize=256)
def separate(spec: CircuitSpec) -> SeparatedCircuit:
    """The circuit of a spec with a symbol of its own for every parametrised gate.

    Gates that follow each other on the same qubits and are powers of the same gate become one.
    Gates of several parameters, such as `cirq.FSimGate`, are decomposed by Cirq.

    Args:
        spec: the circuit.

    Returns:
        A SeparatedCircuit, equal to the spec's up to a global phase where its symbols have the
        values of its exponents.

    Raises:
        UnsupportedGateError: a parametrised gate that neither is a power of a constant gate nor
            decomposes into some, named.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> separated = separate(templates.rx_ring(2))
        >>> separated.exponents
        (w0/pi + x0/pi, w1/pi + x1/pi)
        >>> separated.frequencies[0]
        (3.141592653589793,)
    """
    gates: list[cirq.Operation | _Power] = []
    last: dict[cirq.Qid, int] = {}
    for operation in spec.circuit.all_operations():
        for part in _parts(operation.untagged):
            if isinstance(part, _Power):
                positions = {last.get(qubit) for qubit in part.qubits}
                position = positions.pop() if len(positions) == 1 else None
                earlier = None if position is None else gates[position]
                if isinstance(earlier, _Power) and earlier.is_power_of_same(part):
                    exponent = earlier.exponent + part.exponent
                    gates[position] = _Power(earlier.base, earlier.controls, part.qubits, exponent)
                    continue
            for qubit in part.qubits:
                last[qubit] = len(gates)
            gates.append(part)
    operations, symbols, exponents, frequencies = [], [], [], []
    for gate in gates:
        if isinstance(gate, _Power):
            name = f"g{len(symbols)}"
            operations.append(gate.operation(sympy.Symbol(name)))
            symbols.append(name)
            exponents.append(sympy.expand(gate.exponent))
            frequencies.append(gate.frequencies())
        else:
            operations.append(gate)
    # A qubit without gates still is one of the circuit's.
    idle = [cirq.I(qubit) for qubit in spec.qubits if qubit not in last]
    return SeparatedCircuit(
        cirq.FrozenCircuit([*idle, *operations]),
        tuple(symbols),
        tuple(exponents),
        tuple(frequencies),
    )


def folded(separated: SeparatedCircuit, scale: int) -> SeparatedCircuit:
    """The same circuit with every gate on several qubits repeated: `G (G^-1 G) (G^-1 G) ...`.

    What is computed stays as it is, the noise of these gates grows about `scale`-fold (local
    unitary folding). A symbol is then in `scale` gates, which are one gate's repetitions.

    Args:
        separated: the circuit.
        scale: how many gates stand for one, odd.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> circuit = separate(templates.rx_ring(2)).circuit
        >>> len(folded(separate(templates.rx_ring(2)), 3).circuit) - len(circuit)
        2
    """
    operations = []
    for operation in separated.circuit.all_operations():
        operations.append(operation)
        if len(operation.qubits) > 1:
            operations += [cirq.inverse(operation), operation] * (scale // 2)
    return replace(separated, circuit=cirq.FrozenCircuit(operations))


@dataclass(frozen=True)
class _Power:
    """A power of a constant eigengate, controlled by some of its qubits or by none."""

    base: cirq.EigenGate
    controls: cirq.ops.AbstractControlValues | None
    qubits: tuple[cirq.Qid, ...]
    exponent: sympy.Expr

    def is_power_of_same(self, other: _Power) -> bool:
        return (self.base, self.controls, self.qubits) == (other.base, other.controls, other.qubits)

    def operation(self, exponent: sympy.Symbol) -> cirq.Operation:
        gate = self.base._with_exponent(exponent)
        if self.controls is not None:
            gate = cirq.ControlledGate(gate, control_values=self.controls)
        return gate.on(*self.qubits)

    def frequencies(self) -> tuple[float, ...]:
        phases = [shift + self.base.global_shift for shift in self.base._eigen_shifts()]
        if self.controls is not None:
            phases.append(0.0)  # where the controls are not met
        differences = np.abs(np.subtract.outer(phases, phases))
        distinct = sorted(set(np.round(differences.ravel(), _DECIMALS)) - {0.0})
        return tuple(math.pi * float(difference) for difference in distinct)


def _parts(operation: cirq.Operation) -> list[cirq.Operation | _Power]:
    if not cirq.is_parameterized(operation):
        return [operation] if operation.qubits else []  # none is a global phase
    power = _power(operation)
    if power is not None:
        return [power]
    parts = cirq.decompose_once(operation, default=None)
    if parts is None:
        raise UnsupportedGateError(
            "A parametrised gate must be a power of a constant gate or decompose into such "
            f"gates. Received: {operation!r}"
        )
    return [piece for part in parts for piece in _parts(part.untagged)]


def _power(operation: cirq.Operation) -> _Power | None:
    gate, controls = operation.gate, None
    if isinstance(operation, cirq.ControlledOperation):
        gate, controls = operation.sub_operation.gate, operation.control_values
    elif isinstance(gate, cirq.ControlledGate):
        gate, controls = gate.sub_gate, gate.control_values
    if not isinstance(gate, cirq.EigenGate):
        return None
    base = gate._with_exponent(1)
    if cirq.is_parameterized(base):  # a second symbol beside the exponent
        return None
    return _Power(base, controls, operation.qubits, sympy.sympify(gate.exponent))
