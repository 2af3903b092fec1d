"""What a circuit is: a Cirq circuit, its symbols and its observables, as plain data."""

from __future__ import annotations

import functools
import importlib
import json
import math
import numbers
import os
from collections.abc import Iterable, Sequence, Set
from typing import Any

import cirq
import numpy as np
import sympy
from cirq.protocols.json_serialization import DEFAULT_RESOLVERS

FORMAT = 1
_KEYS = ("format", "circuit", "inputs", "weights", "weight_shape", "observables")

# Gates that are unitary for every real exponent and that JSON holds exactly. They skip the
# numerical checks which any other gate has to pass.
_POWER_GATES = frozenset(
    {
        type(cirq.X),
        type(cirq.Y),
        type(cirq.Z),
        cirq.Rx,
        cirq.Ry,
        cirq.Rz,
        cirq.XPowGate,
        cirq.YPowGate,
        cirq.ZPowGate,
        cirq.HPowGate,
        cirq.CXPowGate,
        cirq.CZPowGate,
        cirq.SwapPowGate,
        cirq.ISwapPowGate,
        cirq.XXPowGate,
        cirq.YYPowGate,
        cirq.ZZPowGate,
        cirq.CCXPowGate,
        cirq.CCZPowGate,
    }
)
_POWER_OPERATIONS = frozenset(
    {cirq.GateOperation, cirq.ops.pauli_string.SingleQubitPauliStringGateOperation}
)
# The matrix of a gate on more qubits costs more than checking it is worth.
_LARGEST_CHECKED = 6
_QUBIT_TYPES = (
    cirq.LineQubit,
    cirq.GridQubit,
    cirq.NamedQubit,
    cirq.LineQid,
    cirq.GridQid,
    cirq.NamedQid,
)

# The classes that a file may name. Cirq's own table is wider: it also builds objects that parse
# their text with `eval` (sympy.Not, sympy.Indexed, BooleanHamiltonianGate).
_LOADABLE = frozenset(
    """
    Circuit Moment GateOperation ControlledOperation TaggedOperation VirtualTag RoutingSwapTag
    SingleQubitPauliStringGateOperation PauliString PauliSum PauliStringPhasor
    LineQubit GridQubit NamedQubit LineQid GridQid NamedQid
    _PauliX _PauliY _PauliZ XPowGate YPowGate ZPowGate Rx Ry Rz HPowGate PhasedXPowGate
    PhasedXZGate QasmUGate SingleQubitCliffordGate CXPowGate CZPowGate SwapPowGate ISwapPowGate
    PhasedISwapPowGate XXPowGate YYPowGate ZZPowGate cirq.MSGate FSimGate PhasedFSimGate
    PauliInteractionGate CCXPowGate CCZPowGate CSwapGate IdentityGate WaitGate Duration
    ControlledGate ProductOfSums SumOfProducts ParallelGate MatrixGate DiagonalGate
    TwoQubitDiagonalGate ThreeQubitDiagonalGate PhaseGradientGate QuantumFourierTransformGate
    QubitPermutationGate PauliStringPhasorGate DensePauliString CliffordGate CliffordTableau
    MeasurementGate MeasurementKey
    GlobalPhaseGate _InverseCompositeGate complex sympy.Symbol sympy.Integer sympy.Float
    sympy.Rational sympy.pi sympy.E sympy.EulerGamma
    """.split()
)
# These are Cirq's too, but known to it only once cirq_google is imported.
_LOADABLE_GOOGLE = frozenset({"SycamoreGate", "PhysicalZTag", "FSimViaModelTag"})
_COMPOSITE = {"sympy.Add": sympy.Add, "sympy.Mul": sympy.Mul, "sympy.Pow": sympy.Pow}
_EXPRESSION_NODES = (sympy.Add, sympy.Mul, sympy.Pow, sympy.Integer, sympy.Rational, sympy.Float)
_CONSTANTS = (sympy.pi, sympy.E, sympy.EulerGamma)


class CircuitSpec:
    r"""A parametrised circuit and what is read from it, as frozen, comparable data.

    The spec stands for the function

    $$f_k(x, \theta) = \langle 0 | U(x, \theta)^\dagger\, O_k\, U(x, \theta) | 0 \rangle$$

    where $U$ is the circuit, $x$ its inputs, $\theta$ its weights (both in the units that the
    circuit's gates give them; radians in every template) and $O_k$ its observables. A spec holds
    no numbers and computes nothing: engines do.

    The circuit is kept gate for gate. What cannot change an expectation value is normalised, so
    that equal circuits have equal text: `cirq.CircuitOperation`s are unrolled, operations of a
    moment and terms of an observable are sorted, and global phases and empty moments are dropped.
    Symbols are known by their names: assumptions such as `real=True` are dropped.

    Args:
        circuit: A `cirq.Circuit` or `cirq.FrozenCircuit` of unitary gates on qubits. A gate's
            parameter may be any sum, product or power of symbols and numbers.
        inputs: The symbols that are fed with data, in the order of the features: a flat sequence
            of `sympy.Symbol`s or names.
        weights: The symbols that are trained: `sympy.Symbol`s or names, in a sequence or array of
            any shape. That shape is kept as `weight_shape`.
        observables: One observable or a sequence: a Pauli operation such as `cirq.Z(qubit)`, a
            `cirq.PauliString` or a `cirq.PauliSum`, with real coefficients.

    Raises:
        ValueError: If a symbol of the circuit is neither input nor weight, a name is declared
            twice or not used, an observable is on a qubit that the circuit lacks or is not
            Hermitian, or the circuit is empty or has a measurement, a classical control, a qudit
            or a gate without a unitary. The message names the culprit.
        TypeError: If an argument is of a kind that is not listed above.

    Example:

    >>> import cirq, sympy
    >>> from qrkt_keras.circuits import CircuitSpec
    >>> a, b = cirq.LineQubit.range(2)
    >>> x, w = sympy.symbols("x w")
    >>> circuit = cirq.Circuit(cirq.rx(x)(a), cirq.ry(w / 2)(b), cirq.CNOT(a, b))
    >>> spec = CircuitSpec(circuit, inputs=[x], weights=[w], observables=cirq.Z(b))
    >>> spec
    CircuitSpec(num_qubits=2, num_inputs=1, weight_shape=(1,), num_observables=1, depth=2)
    >>> CircuitSpec.from_json(spec.to_json()) == spec
    True
    """

    __slots__ = (
        "_circuit",
        "_inputs",
        "_weights",
        "_weight_shape",
        "_observables",
        "_qubits",
        "_text",
        "_hash",
    )

    def __init__(
        self,
        circuit: cirq.AbstractCircuit,
        inputs: Iterable[sympy.Symbol | str],
        weights: Iterable[Any],
        observables: Any,
    ) -> None:
        input_names, _ = _names(inputs, "inputs", flat=True)
        weight_names, weight_shape = _names(weights, "weights", flat=False)
        both = [name for name in input_names if name in set(weight_names)]
        if both:
            raise ValueError(
                "A symbol is either an input or a weight, not both. "
                f"Received in inputs and in weights: {_listed(both)}"
            )
        frozen, used = _normalised_circuit(circuit)
        _check_symbols(used, input_names, weight_names)
        sums = _normalised_observables(observables, frozen.all_qubits())
        document = {
            "format": FORMAT,
            "circuit": frozen.unfreeze(copy=False),
            "inputs": input_names,
            "weights": weight_names,
            "weight_shape": weight_shape,
            "observables": sums,
        }
        text = cirq.to_json(document, indent=None, separators=(",", ":"))
        values = {
            "_circuit": frozen,
            "_inputs": tuple(sympy.Symbol(name) for name in input_names),
            "_weights": tuple(sympy.Symbol(name) for name in weight_names),
            "_weight_shape": weight_shape,
            "_observables": sums,
            "_qubits": tuple(sorted(frozen.all_qubits())),
            "_text": text,
            "_hash": hash(text),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def circuit(self) -> cirq.FrozenCircuit:
        """The circuit, unrolled."""
        return self._circuit

    @property
    def inputs(self) -> tuple[sympy.Symbol, ...]:
        """The input symbols, in the order of the features."""
        return self._inputs

    @property
    def weights(self) -> tuple[sympy.Symbol, ...]:
        """The weight symbols, flat, in row-major order of `weight_shape`."""
        return self._weights

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape in which the weights were given."""
        return self._weight_shape

    @property
    def observables(self) -> tuple[cirq.PauliSum, ...]:
        """The observables, as copies: a `cirq.PauliSum` can be changed in place, a spec not."""
        return tuple(observable.copy() for observable in self._observables)

    @property
    def qubits(self) -> tuple[cirq.Qid, ...]:
        """The circuit's qubits, sorted."""
        return self._qubits

    @property
    def num_qubits(self) -> int:
        """How many qubits the circuit has."""
        return len(self._qubits)

    @property
    def num_inputs(self) -> int:
        """How many features one evaluation takes."""
        return len(self._inputs)

    @property
    def num_weights(self) -> int:
        """How many weights the circuit has."""
        return len(self._weights)

    @property
    def num_observables(self) -> int:
        """How many values one evaluation gives."""
        return len(self._observables)

    @property
    def depth(self) -> int:
        """How many moments the circuit has."""
        return len(self._circuit)

    def to_json(self) -> str:
        """Returns the spec as JSON text, on one line; equal specs give equal text."""
        return self._text

    @classmethod
    def from_json(cls, text: str) -> CircuitSpec:
        """Reads a spec from the text that `to_json` wrote.

        The text is data: only the gates, qubits and symbols of Cirq's own JSON are built from it,
        and none of those that evaluate text.

        Args:
            text: JSON text.

        Returns:
            The spec, equal to the one that was written.

        Raises:
            ValueError: If the text is not a spec: truncated, of another format, or naming a class
                that a circuit cannot contain.
            TypeError: If `text` is not a string.

        Example:

        >>> from qrkt_keras.circuits import CircuitSpec, templates
        >>> spec = templates.rx_ring(3)
        >>> CircuitSpec.from_json(spec.to_json()) == spec
        True
        """
        if not isinstance(text, str):
            raise TypeError(
                f"CircuitSpec.from_json takes the text that to_json wrote. Received: {_kind(text)}"
            )
        # Keys are checked on plain JSON first, so that no object is built from a wrong file.
        document = _parsed(text, json.loads)
        if not isinstance(document, dict) or set(document) != set(_KEYS):
            found = sorted(document) if isinstance(document, dict) else _kind(document)
            raise ValueError(
                f"A CircuitSpec's JSON is an object with the keys {', '.join(_KEYS)}. "
                f"Received: {found}"
            )
        if document["format"] != FORMAT:
            raise ValueError(
                f"This version reads CircuitSpec JSON of format {FORMAT}. "
                f"Received: format={document['format']!r}"
            )
        document = _parsed(text, read_cirq_json)
        circuit = document["circuit"]
        if not isinstance(circuit, cirq.Circuit):
            raise ValueError(
                f"A CircuitSpec's JSON holds a Circuit under 'circuit'. Received: {_kind(circuit)}"
            )
        for key in ("inputs", "weights", "weight_shape", "observables"):
            if not isinstance(document[key], list):
                raise ValueError(
                    f"A CircuitSpec's JSON holds a list under {key!r}. "
                    f"Received: {_kind(document[key])}"
                )
        for key in ("inputs", "weights"):
            for name in document[key]:
                if not isinstance(name, str):
                    raise ValueError(
                        f"A CircuitSpec's JSON holds names under {key!r}. Received: {_kind(name)}"
                    )
        shape, weights = document["weight_shape"], document["weights"]
        if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) != len(
            weights
        ):
            raise ValueError(
                "A CircuitSpec's weight_shape must hold as many weights as are listed. "
                f"Received: weight_shape={shape} with {len(weights)} weights"
            )
        weights = np.array(weights, dtype=object).reshape(shape)
        try:
            return cls(circuit, document["inputs"], weights, document["observables"])
        except TypeError as error:
            raise ValueError(str(error)) from error

    def draw(self, format: str = "text", path: str | os.PathLike[str] | None = None) -> str | bytes:
        """Draws the circuit; see `qrkt_keras.circuits.drawing.draw`."""
        from qrkt_keras.circuits import drawing

        return drawing.draw(self, format=format, path=path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CircuitSpec):
            return NotImplemented
        return self._hash == other._hash and self._text == other._text

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A CircuitSpec cannot be changed. Received: {name}={value!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A CircuitSpec cannot be changed. Received: del {name}")

    def __copy__(self) -> CircuitSpec:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CircuitSpec:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return CircuitSpec.from_json, (self._text,)

    def __repr__(self) -> str:
        return (
            f"CircuitSpec(num_qubits={self.num_qubits}, num_inputs={self.num_inputs}, "
            f"weight_shape={self.weight_shape}, num_observables={self.num_observables}, "
            f"depth={self.depth})"
        )


def _kind(value: object) -> str:
    """A short description of a wrong argument."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _names(symbols: Any, role: str, flat: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names in row-major order, and the shape in which they were given."""
    if isinstance(symbols, str | sympy.Symbol):
        symbols = [symbols]
    elif isinstance(symbols, Set):
        raise TypeError(f"{role} must have an order. Received: {role}={_kind(symbols)}")
    elif hasattr(symbols, "tolist"):
        symbols = symbols.tolist()
    elif isinstance(symbols, Iterable):
        symbols = list(symbols)
    else:
        raise TypeError(
            f"{role} must be a sequence of symbols or names. Received: {role}={_kind(symbols)}"
        )
    array = np.array(symbols, dtype=object)
    names = []
    for symbol in array.flat:
        name = symbol.name if isinstance(symbol, sympy.Symbol) else symbol
        if isinstance(symbol, list | tuple | np.ndarray):
            raise ValueError(
                f"{role} must be a regular array, with rows of equal length. "
                f"Received the row: {_kind(symbol)}"
            )
        if not isinstance(name, str):
            raise TypeError(
                f"{role} must be sympy symbols or names. Received among {role}: {_kind(symbol)}"
            )
        if not name:
            raise ValueError(f"Every one of the {role} needs a name. Received: {name!r}")
        names.append(name)
    if flat and array.ndim != 1:
        raise ValueError(
            f"{role} must be a flat sequence, one symbol for a feature. "
            f"Received: an array of shape {array.shape}"
        )
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise ValueError(f"{role} must not repeat a symbol. Received more than once: {twice[0]}")
    return tuple(names), array.shape


def _check_symbols(used: Iterable[str], inputs: tuple[str, ...], weights: tuple[str, ...]) -> None:
    used, declared = set(used), set(inputs) | set(weights)
    unknown = sorted(used - declared)
    if unknown:
        raise ValueError(
            "Every symbol of the circuit must be listed in inputs or in weights. "
            f"Received a circuit with the unlisted symbols: {_listed(unknown)}"
        )
    for role, names in (("inputs", inputs), ("weights", weights)):
        unused = [name for name in names if name not in used]
        if unused:
            raise ValueError(
                f"Every one of the {role} must occur in the circuit. "
                f"Received {role} that do not: {_listed(unused)}"
            )


def _normalised_circuit(circuit: Any) -> tuple[cirq.FrozenCircuit, set[str]]:
    """The circuit in its canonical form, checked, and the names of its symbols."""
    if not isinstance(circuit, cirq.Circuit | cirq.FrozenCircuit):
        raise TypeError(
            "circuit must be a cirq.Circuit or a cirq.FrozenCircuit. "
            f"Received: circuit={_kind(circuit)}"
        )
    circuit = _unrolled(circuit)
    for qubit in sorted(circuit.all_qubits()):
        if qubit.dimension != 2:
            raise ValueError(
                "Circuits are made of qubits, with two levels each. "
                f"Received: {qubit!r} with {qubit.dimension} levels"
            )
        if type(qubit) not in _QUBIT_TYPES:
            raise ValueError(
                "Qubits must be of one of Cirq's own classes, so that the circuit can be saved. "
                f"Received: {qubit!r} ({type(qubit).__name__})"
            )
    _check_not_classical(circuit)
    used: set[str] = set()
    moments = []
    for moment in circuit:
        operations = []
        for operation in moment:
            if operation.qubits:
                used |= cirq.parameter_names(operation)
                operations.append(_checked(operation))
            elif not cirq.has_unitary(_sampled(operation)):
                raise _without_unitary(operation)
        if operations:
            operations.sort(key=lambda operation: operation.qubits)
            moments.append(cirq.Moment(operations))
    if not moments:
        raise ValueError(
            f"A circuit must have at least one gate on a qubit. Received: circuit={_kind(circuit)}"
        )
    return cirq.FrozenCircuit.from_moments(*moments), used


def _unrolled(circuit: cirq.AbstractCircuit) -> cirq.AbstractCircuit:
    nested = [
        operation
        for operation in circuit.all_operations()
        if isinstance(operation.untagged, cirq.CircuitOperation)
    ]
    if not nested:
        return circuit
    try:
        return cirq.unroll_circuit_op(circuit, deep=True, tags_to_check=None)
    except ValueError as error:
        raise ValueError(
            f"A cirq.CircuitOperation must repeat a fixed number of times ({error}). "
            f"Received: {_listed([_named(operation) for operation in nested])}"
        ) from error


def _check_not_classical(circuit: cirq.AbstractCircuit) -> None:
    for operation in circuit.all_operations():
        if cirq.control_keys(operation):
            raise ValueError(
                "A circuit must not depend on measured values. "
                f"Received a classically controlled operation: {operation}"
            )
    for index, moment in enumerate(circuit):
        for operation in moment:
            if not cirq.is_measurement(operation):
                continue
            if circuit.next_moment_operating_on(operation.qubits, index + 1) is not None:
                raise ValueError(
                    "A circuit must not measure before its end. "
                    f"Received a measurement in moment {index}: {_named(operation)}"
                )
            raise ValueError(
                "The observables say what is read; remove the measurement at the circuit's end. "
                f"Received: {_named(operation)}"
            )


def _checked(operation: cirq.Operation) -> cirq.Operation:
    """The operation in its canonical form, after making sure that it is unitary."""
    gate = operation.gate
    if type(operation) in _POWER_OPERATIONS and type(gate) in _POWER_GATES:
        if _is_plain(gate.exponent, operation) and isinstance(gate.global_shift, numbers.Real):
            return operation
    unitary = _sampled(operation)
    if not cirq.has_unitary(unitary):
        raise _without_unitary(operation)
    if cirq.num_qubits(unitary) <= _LARGEST_CHECKED and not cirq.is_unitary(cirq.unitary(unitary)):
        raise _without_unitary(operation)
    return _through_json(operation)


def _is_plain(parameter: Any, operation: cirq.Operation) -> bool:
    """Whether JSON holds the gate's parameter as it is. Refuses what it cannot hold."""
    if isinstance(parameter, sympy.Expr):
        plain = True
        for node in sympy.preorder_traversal(parameter):
            if isinstance(node, sympy.Symbol) and not isinstance(node, sympy.Dummy | sympy.Wild):
                plain = plain and node == sympy.Symbol(node.name)
            elif not isinstance(node, _EXPRESSION_NODES) and node not in _CONSTANTS:
                raise ValueError(
                    "A gate's parameter must be made of symbols and numbers by sums, products "
                    f"and powers. Received {type(node).__name__} in: {_named(operation)}"
                )
        return plain
    if not math.isfinite(parameter):
        raise ValueError(f"A gate's parameter must be finite. Received: {_named(operation)}")
    return True


def _sampled(operation: cirq.Operation) -> cirq.Operation:
    """The operation with numbers for its symbols."""
    names = sorted(cirq.parameter_names(operation))
    if not names:
        if cirq.is_parameterized(operation):
            raise ValueError(
                "Every gate must tell Cirq its symbols; cirq.decompose turns this one into gates "
                f"that do. Received: {_named(operation)}"
            )
        return operation
    try:
        return cirq.resolve_parameters(
            operation, {name: 0.37 + 0.01 * index for index, name in enumerate(names)}
        )
    except Exception as error:
        raise ValueError(
            f"A gate's parameter must be real for real symbols ({error}). "
            f"Received: {_named(operation)}"
        ) from error


def _without_unitary(operation: cirq.Operation) -> ValueError:
    return ValueError(f"Every gate of the circuit must be unitary. Received: {_named(operation)}")


def _named(operation: cirq.Operation) -> str:
    """The operation's gate, its class and its qubits, on one line."""
    gate = operation.gate if operation.gate is not None else operation.untagged
    text = " ".join(str(gate).split())
    text = text if len(text) <= 80 else f"{text[:77]}..."
    tagged = f", tagged {_listed(operation.tags)}" if operation.tags else ""
    return f"{text} ({type(gate).__name__}) on {_listed(operation.qubits) or 'no qubit'}{tagged}"


def _through_json(operation: cirq.Operation) -> cirq.Operation:
    """The operation as a file would give it back, so that saving changes nothing."""
    try:
        text = cirq.to_json(operation, indent=None)
        loaded = read_cirq_json(text)
        if cirq.to_json(loaded, indent=None) != text or not _same(operation, loaded):
            raise ValueError("it comes back changed")
    except Exception as error:
        raise ValueError(
            f"Every gate of the circuit must be one that Cirq's JSON can hold ({error}); "
            "cirq.decompose or cirq.MatrixGate turn another one into such gates. "
            f"Received: {_named(operation)}"
        ) from error
    return loaded


def _same(operation: cirq.Operation, loaded: cirq.Operation) -> bool:
    """Whether Cirq's JSON kept everything (of a PauliInteractionGate it loses the exponent)."""
    if cirq.parameter_names(operation) != cirq.parameter_names(loaded):
        return False
    if cirq.num_qubits(operation) > _LARGEST_CHECKED:
        return operation == loaded
    before, after = cirq.unitary(_sampled(operation)), cirq.unitary(_sampled(loaded))
    return np.allclose(before, after, rtol=0, atol=1e-9)


def _normalised_observables(
    observables: Any, qubits: frozenset[cirq.Qid]
) -> tuple[cirq.PauliSum, ...]:
    if isinstance(observables, cirq.PauliSum | cirq.Operation | cirq.MutablePauliString):
        observables = [observables]
    elif not isinstance(observables, Iterable) or isinstance(observables, cirq.ProjectorSum):
        raise TypeError(
            "observables must be a Pauli string, a sum of them, or a sequence of these. "
            f"Received: observables={_kind(observables)}"
        )
    sums = tuple(
        _normalised_observable(observable, f"observables[{index}]", qubits)
        for index, observable in enumerate(observables)
    )
    if not sums:
        raise ValueError("At least one observable must be read. Received: no observables")
    return sums


def _normalised_observable(
    observable: Any, name: str, qubits: frozenset[cirq.Qid]
) -> cirq.PauliSum:
    if isinstance(observable, cirq.PauliSum):
        strings = list(observable)
    elif isinstance(observable, cirq.PauliString):
        strings = [observable]
    elif isinstance(observable, cirq.MutablePauliString):
        strings = [observable.frozen()]
    elif isinstance(observable, cirq.Operation) and observable.gate in (cirq.X, cirq.Y, cirq.Z):
        pauli = next(pauli for pauli in (cirq.X, cirq.Y, cirq.Z) if pauli == observable.gate)
        strings = [pauli(*observable.qubits)]
    elif isinstance(observable, cirq.Operation) and isinstance(observable.gate, cirq.IdentityGate):
        strings = [cirq.PauliString()]
    else:
        raise TypeError(
            "An observable must be a Pauli operation such as cirq.Z(qubit), a cirq.PauliString "
            f"or a cirq.PauliSum. Received: {name}={_kind(observable)}"
        )
    terms = []
    for string in strings:
        lacking = sorted(set(string.qubits) - qubits)
        if lacking:
            raise ValueError(
                "An observable must be on qubits of the circuit (a gate cirq.I adds an idle "
                f"qubit to it). Received: {name}={observable} on {_listed(lacking)}"
            )
        coefficient = string.coefficient
        if isinstance(coefficient, sympy.Expr) or not np.isfinite(coefficient):
            raise ValueError(
                "An observable's coefficients must be finite numbers. "
                f"Received: {name}={observable}"
            )
        # Products of Pauli matrices may leave a rounding error in the imaginary part.
        if abs(coefficient.imag) > 1e-12 * abs(coefficient):
            raise ValueError(
                "An observable must be Hermitian, with real coefficients. "
                f"Received: {name}={observable} with the coefficient {coefficient}"
            )
        terms.append(string.with_coefficient(coefficient.real))
    total = cirq.PauliSum.from_pauli_strings(terms)
    if not len(total):
        raise ValueError(f"An observable must have at least one term. Received: {name}=0")
    ordered = sorted(
        total, key=lambda term: sorted((qubit, str(pauli)) for qubit, pauli in term.items())
    )
    return cirq.PauliSum.from_pauli_strings(ordered)


def _parsed(text: str, parse: Any) -> Any:
    try:
        return parse(text)
    # Constructors of a malformed file's objects may raise anything.
    except Exception as error:
        raise ValueError(
            f"This is not the JSON text of a CircuitSpec ({error}). Received: {_kind(text)}"
        ) from error


def read_cirq_json(text: str) -> Any:
    """Reads Cirq's JSON, but builds only what circuits are made of, and nothing that parses text.

    Args:
        text: what `cirq.to_json` wrote.
    """
    return cirq.read_json(json_text=text, resolvers=[_resolve_class])


def _resolve_class(cirq_type: str) -> Any:
    """Cirq's class of this name, or None if a circuit's JSON has no business with it."""
    if cirq_type in _COMPOSITE:
        return functools.partial(_composite, _COMPOSITE[cirq_type])
    if cirq_type in _LOADABLE_GOOGLE:
        importlib.import_module("cirq_google")
    elif cirq_type not in _LOADABLE:
        return None
    for resolver in DEFAULT_RESOLVERS:
        factory = resolver(cirq_type)
        if factory is not None:
            return factory
    return None


def _composite(kind: type[sympy.Expr], args: list[Any]) -> sympy.Expr:
    for argument in args:
        if not isinstance(argument, sympy.Expr | int | float):
            raise ValueError(f"{kind.__name__} of {argument!r} is not an expression")
    return kind(*args)
