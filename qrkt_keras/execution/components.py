r"""Connected components: qubits that meet in no gate are circuits apart, and their values factors.

The state of a circuit is a product over the connected components of its gates, so

$$\langle P_1 \otimes P_2 \rangle = \langle P_1 \rangle \langle P_2 \rangle$$

for Pauli strings of different components. Once the Clifford gates at a circuit's end are moved into
its observables, a ring of 384 qubits whose only entangling gates were these is 384 circuits of one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cirq
import networkx as nx
import numpy as np
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec, absorb_cliffords
from qrkt_keras.execution.angles import LinearMap
from qrkt_keras.execution.contract import fill
from qrkt_keras.execution.copies import Copies, read_only
from qrkt_keras.execution.errors import UnsupportedCircuitError
from qrkt_keras.execution.light_cone import LightCone, cones
from qrkt_keras.execution.products import Products

_Letters = tuple[tuple[cirq.Qid, str], ...]


@dataclass(frozen=True, eq=False)
class Components:
    r"""A circuit's expectation values as sums of products of those of its parts.

    $$\langle O_k \rangle = c_k + \sum_p M_{pk} \prod_{f \in p} v_f$$

    Args:
        parts: circuits that are unions of components, those of one structure together.
        products: of each product the places of its factors among the values v of all parts, as
            `Copies.expectation` gives them, one after the other.
        matrix: M, `(products, K)`.
        constants: c, `(K,)`.
        most_letters: of how many qubits' outcomes a factor is at most the parity.
    """

    parts: tuple[Copies, ...]
    products: tuple[tuple[int, ...], ...]
    matrix: np.ndarray
    constants: np.ndarray
    most_letters: int


@functools.lru_cache(maxsize=64)
def components(spec: CircuitSpec, max_qubits: int) -> Components:
    """The connected components of a circuit, put together to a few circuits.

    Clifford gates at its end are moved into the observables first. Qubits without gates are known
    without a circuit, components that no observable reads have none.

    Args:
        spec: the circuit.
        max_qubits: components are put together, one after the other, to as few circuits of at most
            so many qubits as that gives, about as wide; one that is wider is a part of its own.

    Returns:
        Frozen Components; the qubits of a part are `cirq.LineQubit`s from 0 on.

    Raises:
        ValueError: `max_qubits` is no whole number of at least 1.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> found = components(templates.rx_ring(384), 53)
        >>> [(part.num_copies, part.spec.num_qubits) for part in found.parts]
        [(8, 48)]
    """
    check_max_qubits(max_qubits)
    spec = absorb_cliffords(spec)
    component_of, touched = _component_of(spec)
    constants = np.zeros(spec.num_observables)
    # By product, its coefficient in each observable; a factor is a component's string.
    uses: dict[tuple[_Letters, ...], dict[int, float]] = {}
    for row, observable in enumerate(spec.observables):
        for string in observable:
            coefficient = float(np.real(string.coefficient))
            letters = sorted((qubit, str(pauli)) for qubit, pauli in string.items())
            if any(letter != "Z" and qubit not in touched for qubit, letter in letters):
                continue  # X and Y of |0> are worth 0, Z is worth 1
            factors: dict[int, list[tuple[cirq.Qid, str]]] = {}
            for qubit, letter in letters:
                if qubit in touched:
                    factors.setdefault(component_of[qubit], []).append((qubit, letter))
            if not factors:
                constants[row] += coefficient
                continue
            product = tuple(tuple(factor) for factor in factors.values())
            entries = uses.setdefault(product, {})
            entries[row] = entries.get(row, 0.0) + coefficient
    read = {component_of[factor[0][0]] for product in uses for factor in product}
    members = [sorted(q for q in touched if component_of[q] == index) for index in sorted(read)]
    strings = sorted({factor for product in uses for factor in product})
    parts, places = _parts(spec, _packed(members, max_qubits), strings)
    matrix = np.zeros((len(uses), spec.num_observables))
    for index, entries in enumerate(uses.values()):
        for row, coefficient in entries.items():
            matrix[index, row] = coefficient
    return Components(
        parts,
        tuple(tuple(places[factor] for factor in product) for product in uses),
        read_only(matrix),
        read_only(constants),
        max(map(len, strings), default=0),
    )


def num_components(spec: CircuitSpec) -> int:
    """How many components of a circuit have gates.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> (part,) = narrow_circuits(templates.rx_ring(384), 53)
        >>> num_components(part)
        48
    """
    component_of, touched = _component_of(spec)
    return len({component_of[qubit] for qubit in touched})


def narrow_circuits(
    spec: CircuitSpec, max_qubits: int, packed_qubits: int | None = None
) -> dict[CircuitSpec, int]:
    """The circuits that `Split` runs, and how often each, for one row.

    Args:
        spec, max_qubits, packed_qubits: as of `Split`. A light cone may be wider.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> list(narrow_circuits(templates.rx_ring(384), 53).values())
        [8]
    """
    if spec.num_qubits <= max_qubits:
        return {spec: 1}
    found: dict[CircuitSpec, int] = {}
    for part in components(spec, packed_qubits or max_qubits).parts:
        inner = {part.spec: 1}
        if part.spec.num_qubits > max_qubits:
            groups = cones(part.spec, max_qubits).groups
            inner = {group.spec: group.num_copies for group in groups}
        for narrow, number in inner.items():
            found[narrow] = found.get(narrow, 0) + number * part.num_copies
    return found


class Split:
    """Expectation values of a circuit from parts of at most so many qubits, by another engine.

    The parts are unions of connected components, see `components`, and of a component that is wider
    its light cones, see `light_cone.cones`. No value changes.

    Args:
        spec: the circuit.
        max_qubits: how many qubits a part may have.
        engine: what runs the parts: a callable that takes a spec and returns an engine. The qubits
            of a part are `cirq.LineQubit`s from 0 on.
        packed_qubits: how many qubits several components together may have; by default as many.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`.

    Raises:
        UnsupportedCircuitError: a light cone is wider than `max_qubits`, or the engine refuses a
            part.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> from qrkt_keras.execution import StateVector
        >>> engine = Split(templates.rx_ring(384), 10, StateVector)
        >>> inputs, weights = np.zeros((2, 1, 384), "float32"), np.zeros((1, 384), "float32")
        >>> engine.expectation(inputs, weights).shape
        TensorShape([2, 1, 384])
    """

    def __init__(
        self,
        spec: CircuitSpec,
        max_qubits: int,
        engine: Callable[[CircuitSpec], Any],
        packed_qubits: int | None = None,
    ):
        check_max_qubits(max_qubits)
        self.spec = spec
        self.components = components(spec, packed_qubits or max_qubits)

        def of(part: CircuitSpec) -> Any:
            if part.num_qubits <= max_qubits:
                return engine(part)
            widest = cones(part, max_qubits).max_qubits
            if widest > max_qubits:
                raise UnsupportedCircuitError(
                    "split",
                    f"a part has {part.num_qubits} qubits that its gates connect, and a light cone "
                    f"of {widest}. Received: {spec.num_qubits} qubits, max_qubits={max_qubits}",
                )
            return LightCone(part, engine, max_qubits)

        self.engines = tuple(of(part.spec) for part in self.components.parts)
        self.name = next((inner.name for inner in self.engines), "split")
        self.supports_jit = all(inner.supports_jit for inner in self.engines)
        self._products = Products(self.components.products) if self.engines else None
        self._sum = LinearMap.of_matrix(self.components.matrix)

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        constants = self.components.constants.reshape(1, 1, -1)
        parts = zip(self.components.parts, self.engines, strict=True)
        values = [part.expectation(inner, inputs, weights) for part, inner in parts]
        if not values:
            return fill(ops.convert_to_tensor(constants, dtype=inputs.dtype), inputs, weights)
        factors = values[0] if len(values) == 1 else ops.concatenate(values, -1)
        values = self._sum(self._products(factors))
        if not constants.any():
            return values
        return values + ops.convert_to_tensor(constants, dtype=values.dtype)


def innermost(engine: Any) -> list[tuple[Any, int]]:
    """The engines that run circuits, of one that passes them on, and how many copies each has."""
    if isinstance(engine, Split):
        parts = engine.components.parts
    elif isinstance(engine, LightCone):
        parts = engine.cones.groups
    else:
        return [(engine, 1)]
    return [
        (deeper, part.num_copies * number)
        for part, inner in zip(parts, engine.engines, strict=True)
        for deeper, number in innermost(inner)
    ]


def factor_error(found: Components, standard_error: float, mean_square: float = 1.0) -> float:
    r"""What no factor's standard error may exceed for every observable's to be at most so.

    A factor is a mean of n values, independent of the other factors, with $|m| \le 1$ (readout
    errors, where they are corrected, being the true ones) and the mean square at most $B$, and n is
    at least $B / e^2$. The variance of a product of k factors is multilinear in their $m^2$, so it
    is largest where each is 0 or 1, and with $\delta = (1 - 1/B)\, e^2$ at most
    $\max(e^2 (1 + \delta)^{k-1},\ (1 + \delta)^k - 1)$. Without correction $B = 1$, and the product
    of many means varies no more than one. Errors of an observable's products are added, as if they
    were always the same way.

    Args:
        found: the components.
        standard_error: positive; of the observables.
        mean_square: of one qubit's sign, at most; 1 where readout errors are not corrected.

    Returns:
        e.
    """
    largest = mean_square**found.most_letters
    squares = []
    for target, column in zip(
        standard_error / np.maximum(np.abs(found.matrix).sum(axis=0), 1e-300),
        found.matrix.T,
        strict=True,
    ):
        for index in column.nonzero()[0]:
            size = len(found.products[index])
            if largest == 1 or size == 1:
                squares.append(target**2)
                continue
            delta = math.expm1(math.log1p(target**2) / size)
            squares.append(target**2 / (1 + delta) ** (size - 1))
            squares.append(delta / (1 - 1 / largest))
    return math.sqrt(min(squares, default=standard_error**2))


def check_max_qubits(max_qubits: Any) -> None:
    """Raise ValueError unless it is a whole number of at least 1."""
    if type(max_qubits) is not int or max_qubits < 1:
        raise ValueError(
            f"max_qubits must be a whole number >= 1. Received: max_qubits={max_qubits!r}"
        )


def _component_of(spec: CircuitSpec) -> tuple[dict[cirq.Qid, int], set[cirq.Qid]]:
    """Which component a qubit is in, and the qubits on which there are gates."""
    graph = nx.Graph()
    graph.add_nodes_from(spec.qubits)
    touched: set[cirq.Qid] = set()
    for operation in spec.circuit.all_operations():
        if isinstance(operation.gate, cirq.IdentityGate):
            continue
        touched.update(operation.qubits)
        nx.add_path(graph, operation.qubits)
    found = sorted(map(sorted, nx.connected_components(graph)))
    return {qubit: index for index, part in enumerate(found) for qubit in part}, touched


def _packed(members: Sequence[Sequence[cirq.Qid]], max_qubits: int) -> list[tuple[cirq.Qid, ...]]:
    """Components one after the other in the fewest circuits, and of these in the narrowest."""
    widest = max(map(len, members), default=0)
    choices = (_in_turn(members, limit) for limit in range(min(widest, max_qubits), max_qubits + 1))
    bins = min(choices, key=len)
    return [tuple(sorted(qubits)) for qubits in bins]


def _in_turn(members: Sequence[Sequence[cirq.Qid]], limit: int) -> list[list[cirq.Qid]]:
    bins: list[list[cirq.Qid]] = []
    for member in members:
        if not bins or len(bins[-1]) + len(member) > limit:
            bins.append([])
        bins[-1].extend(member)
    return bins


def _parts(
    spec: CircuitSpec, bins: Iterable[tuple[cirq.Qid, ...]], strings: Iterable[_Letters]
) -> tuple[tuple[Copies, ...], dict[_Letters, int]]:
    """The circuits of the bins, and where each string's value is among those of all."""
    bins = list(bins)
    bin_of = {qubit: index for index, qubits in enumerate(bins) for qubit in qubits}
    operations: list[list[cirq.Operation]] = [[] for _ in bins]
    for operation in spec.circuit.all_operations():
        index = bin_of.get(operation.qubits[0])
        # An identity may be on qubits of several bins, all of which have other gates.
        if index is not None and not isinstance(operation.gate, cirq.IdentityGate):
            operations[index].append(operation)
    read: list[list[_Letters]] = [[] for _ in bins]
    for string in strings:
        read[bin_of[string[0][0]]].append(string)
    columns = [
        {symbol: i for i, symbol in enumerate(symbols)} for symbols in (spec.inputs, spec.weights)
    ]
    groups: dict[CircuitSpec, list[tuple[int, list[int], list[int]]]] = {}
    for index, qubits in enumerate(bins):
        part, *own = _part(operations[index], qubits, read[index], columns)
        groups.setdefault(part, []).append((index, *own))
    places: dict[_Letters, int] = {}
    for index in (index for copies in groups.values() for index, *_ in copies):
        for string in read[index]:
            places[string] = len(places)
    parts = tuple(
        Copies(
            part,
            read_only(np.array([own for _, own, _ in copies], int).reshape(len(copies), -1)),
            read_only(np.array([own for *_, own in copies], int).reshape(len(copies), -1)),
        )
        for part, copies in groups.items()
    )
    return parts, places


def _part(
    operations: Sequence[cirq.Operation],
    qubits: Sequence[cirq.Qid],
    strings: Sequence[_Letters],
    columns: Sequence[dict[sympy.Symbol, int]],
) -> tuple[CircuitSpec, list[int], list[int]]:
    """A circuit with qubits and symbols numbered, and the columns of its inputs and weights."""
    line = dict(zip(qubits, cirq.LineQubit.range(len(qubits)), strict=True))
    # Moment by moment, so that parts are numbered alike whatever came between their gates.
    circuit = cirq.Circuit(operation.transform_qubits(line) for operation in operations)
    ordered = [op for moment in circuit for op in sorted(moment, key=lambda op: op.qubits)]
    names: dict[sympy.Symbol, sympy.Symbol] = {}
    own: tuple[list[int], list[int]] = ([], [])
    for operation in ordered:
        for name in sorted(cirq.parameter_names(operation)):
            symbol = sympy.Symbol(name)
            if symbol in names:
                continue
            source = 0 if symbol in columns[0] else 1
            names[symbol] = sympy.Symbol(f"{'xw'[source]}{len(own[source])}")
            own[source].append(columns[source][symbol])
    renamed = [cirq.resolve_parameters_once(operation, names) for operation in ordered]
    observables = [
        cirq.PauliString({line[qubit]: getattr(cirq, letter) for qubit, letter in string})
        for string in strings
    ]
    symbols = [
        [f"{letter}{i}" for i in range(len(own[source]))] for source, letter in enumerate("xw")
    ]
    return CircuitSpec(cirq.Circuit(renamed), *symbols, observables), *own
