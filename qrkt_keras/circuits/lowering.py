"""Lowering: any Cirq circuit as Pauli rotations and constant unitaries.

Engines do not know Cirq's gates. They know two steps, because every parametrised gate whose
generator is a sum of commuting Pauli strings is a product of Pauli rotations.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import cirq
import numpy as np
import sympy

from qrkt_keras.circuits.spec import CircuitSpec

PauliKey = tuple[tuple[int, str], ...]

# Constant gates on more qubits than this are decomposed where Cirq knows how.
_LARGEST_CONSTANT = 3
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rotation:
    """`exp(-i angle/2 P)` for a Pauli string `P`.

    Args:
        pauli: pairs of qubit index and "X", "Y" or "Z", sorted by qubit.
        angle: a sympy expression in the spec's symbols, radians.
    """

    pauli: PauliKey
    angle: sympy.Expr

    @property
    def qubits(self) -> tuple[int, ...]:
        """The indices of the qubits that the step touches."""
        return tuple(qubit for qubit, _ in self.pauli)


@dataclass(frozen=True, eq=False)
class Unitary:
    """A constant unitary on a few qubits, the first qubit being the most significant.

    Args:
        qubits: indices of the qubits, in the order of the matrix.
        matrix: complex128, `(2**k, 2**k)`.
    """

    qubits: tuple[int, ...]
    matrix: np.ndarray


class UnsupportedGateError(ValueError):
    """A gate of the circuit has no form that the engines know."""


@functools.lru_cache(maxsize=256)
def lower(spec: CircuitSpec) -> tuple[Rotation | Unitary, ...]:
    """The circuit of a spec as rotations and constant unitaries, up to a global phase.

    With `H = sum_k h_k P_k` the generator of an eigengate `U(t) = exp(i pi t H)`, expanded in Pauli
    strings `H = sum_Q c_Q Q` that commute, `U(t)` is the product of `exp(i pi t c_Q Q)`: rotations
    by `-2 pi t c_Q`. Rotations about one string that meet are merged.

    Args:
        spec: the circuit.

    Returns:
        The steps in the order of execution.

    Raises:
        UnsupportedGateError: a parametrised gate that neither is such an eigengate nor decomposes
            into some, named.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> [step.angle for step in lower(templates.rx_ring(1))]
        [w0 + x0]
    """
    index = {qubit: i for i, qubit in enumerate(spec.qubits)}
    steps: list[Rotation | Unitary] = []
    last: dict[int, int] = {}
    for operation in spec.circuit.all_operations():
        for step in _lower_operation(operation, index):
            previous = {last.get(qubit) for qubit in step.qubits}
            if len(previous) == 1 and isinstance(step, Rotation):
                position = previous.pop()
                earlier = None if position is None else steps[position]
                if isinstance(earlier, Rotation) and earlier.pauli == step.pauli:
                    steps[position] = Rotation(step.pauli, earlier.angle + step.angle)
                    continue
            for qubit in step.qubits:
                last[qubit] = len(steps)
            steps.append(step)
    return tuple(steps)


def _lower_operation(
    operation: cirq.Operation, index: dict[cirq.Qid, int]
) -> list[Rotation | Unitary]:
    operation = operation.untagged
    if not operation.qubits:  # a global phase
        return []
    qubits = tuple(index[qubit] for qubit in operation.qubits)
    if not cirq.is_parameterized(operation):
        if len(qubits) <= _LARGEST_CONSTANT:
            return _constant(cirq.unitary(operation), qubits)
        parts = cirq.decompose_once(operation, default=None)
        if parts is None:
            return _constant(cirq.unitary(operation), qubits)
    else:
        rotations = pauli_rotations(operation)
        if rotations is not None:
            return [
                Rotation(
                    tuple(sorted((qubits[i], letter) for i, letter in rotation.pauli)),
                    rotation.angle,
                )
                for rotation in rotations
            ]
        parts = cirq.decompose_once(operation, default=None)
        if parts is None:
            raise UnsupportedGateError(
                "A parametrised gate must be a product of Pauli rotations or decompose into "
                f"such gates. Received: {operation!r}"
            )
    return [step for part in parts for step in _lower_operation(part, index)]


def pauli_rotations(operation: cirq.Operation) -> tuple[Rotation, ...] | None:
    """A parametrised operation as Pauli rotations that commute, or None if it is no such product.

    Args:
        operation: a power of a constant gate, controlled or not, without tags.

    Returns:
        Rotations whose qubits are numbered as the operation's.

    Example:
        >>> a, b = cirq.LineQubit.range(2)
        >>> [rotation.angle for rotation in pauli_rotations(cirq.ZZ(a, b) ** sympy.Symbol("t"))]
        [pi*t]
    """
    generator = _generator(operation)
    if generator is None:
        return None
    exponent, terms = generator
    return tuple(Rotation(pauli, _angle(coefficient, exponent)) for pauli, coefficient in terms)


def _angle(coefficient: float, exponent: sympy.Expr) -> sympy.Expr:
    """`-2 pi c t`, multiplied out."""
    parts = scaled_symbol(exponent)
    if parts is None:
        return sympy.expand(_scale(coefficient, ()) * exponent)
    # As most angles are: sympy's expansion would be much of the time that a deep circuit takes.
    numbers, symbol = parts
    scale = _scale(coefficient, numbers)
    return symbol if scale == 1 else scale * symbol


def scaled_symbol(value: sympy.Expr) -> tuple[tuple[sympy.Expr, ...], sympy.Symbol] | None:
    """The numbers and the symbol that a product is of, or None if it is of anything else."""
    numbers, symbols = [], []
    for factor in sympy.Mul.make_args(value):
        (symbols if factor.is_Symbol else numbers).append(factor)
    if len(symbols) == 1 and all(number.is_number for number in numbers):
        return tuple(numbers), symbols[0]
    return None


@functools.lru_cache(maxsize=1024)
def _scale(coefficient: float, numbers: tuple[sympy.Expr, ...]) -> sympy.Expr:
    return sympy.expand(sympy.Mul(-2 * sympy.pi * _exact(coefficient), *numbers))


def _exact(coefficient: float) -> sympy.Expr:
    # Cirq's eigencomponents are floats; -0.5 must become -1/2 so that pi cancels against 1/pi.
    fraction = Fraction(coefficient).limit_denominator(1 << 12)
    if abs(float(fraction) - coefficient) < _TOLERANCE:
        return sympy.Rational(fraction.numerator, fraction.denominator)
    return sympy.Float(coefficient)


def _constant(matrix: np.ndarray, qubits: tuple[int, ...]) -> list[Unitary]:
    phase = matrix[0, 0]
    if np.allclose(matrix, phase * np.eye(len(matrix)), atol=_TOLERANCE):
        return []
    return [Unitary(qubits, matrix.astype(np.complex128))]


def _generator(
    operation: cirq.Operation,
) -> tuple[sympy.Expr, list[tuple[PauliKey, float]]] | None:
    """Exponent `t` and commuting Pauli terms of `H` with `U = exp(i pi t H)`, or None."""
    controls: cirq.ControlledOperation | None = None
    gate = operation.gate
    if isinstance(operation, cirq.ControlledOperation):
        controls, gate = operation, operation.sub_operation.gate
    elif isinstance(gate, cirq.ControlledGate):
        controls = gate.on(*operation.qubits)
        gate = gate.sub_gate
        controls = cirq.ControlledOperation(
            operation.qubits[: operation.gate.num_controls()],
            gate.on(*operation.qubits[operation.gate.num_controls() :]),
            operation.gate.control_values,
        )
    if not isinstance(gate, cirq.EigenGate):
        return None
    at_one = gate._with_exponent(1)
    if cirq.is_parameterized(at_one):  # a second symbol beside the exponent
        return None
    hamiltonian = sum(
        (half_turns + gate.global_shift) * projector
        for half_turns, projector in at_one._eigen_components()
    )
    if controls is not None:
        hamiltonian = np.kron(_control_projector(controls), hamiltonian)
    terms = _pauli_expansion(hamiltonian)
    if not all(_commute(p, q) for i, (p, _) in enumerate(terms) for q, _ in terms[:i]):
        return None
    return sympy.sympify(gate.exponent), terms


def _control_projector(operation: cirq.ControlledOperation) -> np.ndarray:
    size = len(operation.controls)
    diagonal = np.zeros((2,) * size)
    for values in operation.control_values.expand():
        diagonal[tuple(values)] = 1.0
    return np.diag(diagonal.reshape(-1))


PAULI_MATRICES = {
    "I": np.eye(2, dtype=np.complex128),
    "X": np.array([[0, 1], [1, 0]], dtype=np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=np.complex128),
    "Z": np.array([[1, 0], [0, -1]], dtype=np.complex128),
}


def pauli_matrix(letters: str) -> np.ndarray:
    """The Kronecker product of the Paulis of a word such as "XIZ"."""
    return functools.reduce(np.kron, (PAULI_MATRICES[letter] for letter in letters))


def pauli_words(num_qubits: int) -> list[str]:
    """All `4**num_qubits` words in "IXYZ", the identity first."""
    words = [""]
    for _ in range(num_qubits):
        words = [word + letter for word in words for letter in "IXYZ"]
    return words


def _pauli_expansion(matrix: np.ndarray) -> list[tuple[PauliKey, float]]:
    """The non-identity Pauli terms of a Hermitian matrix; the identity is a global phase."""
    num_qubits = len(matrix).bit_length() - 1
    terms = []
    for word in pauli_words(num_qubits)[1:]:
        coefficient = np.trace(pauli_matrix(word) @ matrix).real / len(matrix)
        if abs(coefficient) > _TOLERANCE:
            key = tuple((i, letter) for i, letter in enumerate(word) if letter != "I")
            terms.append((key, float(coefficient)))
    return terms


def _commute(p: PauliKey, q: PauliKey) -> bool:
    letters = dict(p)
    clashes = sum(letters.get(qubit, letter) != letter for qubit, letter in q)
    return clashes % 2 == 0
