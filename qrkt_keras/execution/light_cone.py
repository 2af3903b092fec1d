"""Light cones: every observable is computed on the part of the circuit that can reach it.

A gate outside an observable's causal cone does not change its value, nor does a gate that commutes
with all that comes after it. What remains is a smaller circuit, and cones of one structure are
copies of one such circuit: they run in one call.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cirq
import numpy as np
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation, Unitary
from qrkt_keras.circuits.lowering import PauliKey, pauli_matrix
from qrkt_keras.execution.angles import LinearMap
from qrkt_keras.execution.contract import fill, lowered
from qrkt_keras.execution.copies import Copies, read_only
from qrkt_keras.execution.errors import UnsupportedCircuitError
from qrkt_keras.execution.schedule import embedded, reordered
from qrkt_keras.execution.state_vector import NAME, StateVector

_TOLERANCE = 1e-9
# No machine holds the state of more qubits: a wider cone is not walked to its end, it is the whole.
_WIDEST = 40
# Constant gates on more qubits than this are taken to commute with nothing, without a look.
_LARGEST_TESTED = 6
# A single cone on all qubits is cut out only if it leaves out one step in so many: a circuit that
# is nearly the whole is the whole, so that engines and caches meet one spec instead of two.
_WORTH_CUTTING = 10

_PAULIS = {"X": cirq.X, "Y": cirq.Y, "Z": cirq.Z}
# Gates whose power t is the rotation by pi t about that Pauli string.
_POWERS = {**_PAULIS, "XX": cirq.XX, "YY": cirq.YY, "ZZ": cirq.ZZ}
# Gates that a spec takes without checks, which for any other gate are slow.
_PLAIN_GATES = (cirq.CZ, cirq.CNOT, cirq.SWAP, cirq.H, cirq.X, cirq.Y, cirq.Z, cirq.CCX, cirq.CCZ)


@dataclass(frozen=True, eq=False)
class Cones:
    r"""A circuit's expectation values as a linear function of those of its cones.

    $$\langle O_k \rangle = c_k + \sum_{g,j,m} M_{(g,j,m),k} \langle O_{g,m} \rangle_j$$

    over groups g, the cones j of a group and the observables m of its circuit.

    Args:
        groups: the groups; none if every observable is constant.
        matrix: M, `(sum of num_copies * num_observables, K)`: group by group, cone by cone.
        constants: c, `(K,)`.
        cost: amplitudes times steps and strings, summed over all cones: what `cones` minimises.
        is_whole: whether there is one cone, the circuit itself.
    """

    groups: tuple[Copies, ...]
    matrix: np.ndarray
    constants: np.ndarray
    cost: int
    is_whole: bool

    @property
    def amplitudes(self) -> int:
        """How many amplitudes an example needs, against `2**num_qubits` of the whole circuit."""
        return sum(group.amplitudes for group in self.groups)

    @property
    def max_qubits(self) -> int:
        """How many qubits the widest cone has."""
        return max((group.spec.num_qubits for group in self.groups), default=0)


@functools.lru_cache(maxsize=256)
def cones(spec: CircuitSpec, max_qubits: int | None = None) -> Cones:
    r"""The cheapest cut of a circuit into light cones.

    Every Pauli string `P` of the observables is walked back through the circuit. A step `g` is
    left out if it meets no qubit of the string and of the later steps `K` that were kept, or if it
    commutes with the string and with each of those steps, since then

    $$g^\dagger K^\dagger P K g = K^\dagger P K .$$

    Strings may share a circuit, the union of their cones. A circuit on `w` qubits costs

    $$2^w \cdot (\mathrm{steps} + \mathrm{strings})$$

    and the cut has the least sum of costs of those that are tried: a cone inside another one joins
    it where that is cheaper, and then neighbouring cones are united k at a time, for every divisor
    k of their number, all at once included.

    Circuits that differ by a shift of the qubits on a ring, by a reflection, by the order of
    commuting steps and by the names of symbols are one group. A group is a circuit of its own to
    compile and to run, so g groups must cost less than a g-th of all cones united.

    Args:
        spec: the circuit.
        max_qubits: cones are united to circuits of at most so many qubits, whatever it costs; a
            cone that is wider stays alone. None for any number.

    Returns:
        A frozen `Cones`. If nothing is gained it holds the circuit itself.

    Raises:
        UnsupportedCircuitError: a gate without Pauli form.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> cut = cones(templates.hardware_efficient(20, 3))
        >>> [(group.num_copies, group.spec.num_qubits) for group in cut.groups]
        [(20, 5)]
        >>> cut.amplitudes, 2**20
        (640, 1048576)
    """
    index = {qubit: i for i, qubit in enumerate(spec.qubits)}
    uses: _Uses = defaultdict(lambda: defaultdict(float))
    for row, observable in enumerate(spec.observables):
        for term in observable:
            string = tuple(sorted((index[qubit], str(letter)) for qubit, letter in term.items()))
            uses[string][row] += term.coefficient.real

    walk = _Walk(spec)
    constants = np.zeros(spec.num_observables)
    singles = []
    for string, rows in uses.items():
        cone = walk(string)
        touched = _on_touched(string, cone.qubits)
        if touched:
            singles.append(cone)
        elif touched == ():
            for row, coefficient in rows.items():
                constants[row] += coefficient
    cut = _Cut(spec, walk.steps, uses)
    blocks = _cheapest(_hosts(singles, spec.num_qubits), max_qubits)
    united = functools.reduce(_Cone.__or__, blocks, _Cone((), 0, 0))
    choices = [blocks, [united]]
    if max_qubits is not None and united.qubits.bit_count() > max_qubits:
        choices.pop()
    for choice in choices:
        if len(choice) == 1 and _is_whole(united, spec, len(walk.steps)):
            return _whole(spec, united)
        groups = cut.groups(choice)
        if len(groups) * sum(block.cost for block in choice) <= united.cost:
            break
    return cut.cones(groups, constants)


class LightCone:
    """Expectation values from the light cones of the observables, by another engine.

    Cones of one structure are further copies of one circuit for that engine. See `cones` for what
    is cut; a circuit that cannot be cut runs as it is.

    Args:
        spec: the circuit.
        engine: what runs the cones: a callable that takes a spec and returns an engine.
        max_qubits: see `cones`.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`.

    Raises:
        UnsupportedCircuitError: a gate without Pauli form, or a cone that the engine refuses.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> engine = LightCone(templates.hardware_efficient(64, 3))
        >>> inputs, weights = np.zeros((2, 1, 64), "float32"), np.zeros((1, 512), "float32")
        >>> engine.expectation(inputs, weights).shape
        TensorShape([2, 1, 64])
    """

    name = NAME
    supports_jit = True

    def __init__(
        self,
        spec: CircuitSpec,
        engine: Callable[[CircuitSpec], Any] = StateVector,
        max_qubits: int | None = None,
    ):
        self.spec = spec
        self.cones = cones(spec, max_qubits)
        try:
            self.engines = tuple(engine(group.spec) for group in self.cones.groups)
        except UnsupportedCircuitError as error:
            raise UnsupportedCircuitError(
                error.engine,
                f"its widest light cone has {self.cones.max_qubits} of {spec.num_qubits} qubits, "
                f"and {error.reason}",
            ) from error
        self.supports_jit = all(inner.supports_jit for inner in self.engines)
        if self.engines:
            self.name = self.engines[0].name
        self._sum = LinearMap.of_matrix(self.cones.matrix)

    def multiply_adds(self, batch: int) -> float:
        """Estimated, of a forward pass, one copy."""
        groups = zip(self.cones.groups, self.engines, strict=True)
        return batch * self._sum.flops + sum(
            inner.multiply_adds(batch * group.num_copies) for group, inner in groups
        )

    @property
    def num_operations(self) -> int:
        """How many operations one forward pass runs one after the other."""
        return sum(inner.num_operations for inner in self.engines)

    def num_bytes(self, batch: int) -> float:
        """Estimated peak of value and gradient."""
        groups = zip(self.cones.groups, self.engines, strict=True)
        return max(
            (inner.num_bytes(batch * group.num_copies) for group, inner in groups), default=0
        )

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        values = [
            group.expectation(inner, inputs, weights)
            for group, inner in zip(self.cones.groups, self.engines, strict=True)
        ]
        if not values:
            constants = self.cones.constants.reshape(1, 1, -1)
            return fill(ops.convert_to_tensor(constants, dtype=inputs.dtype), inputs, weights)
        values = self._sum(values[0] if len(values) == 1 else ops.concatenate(values, -1))
        if not self.cones.constants.any():
            return values
        return values + ops.convert_to_tensor(self.cones.constants, dtype=values.dtype)


# The walk back from a string.


@dataclass(frozen=True)
class _Cone:
    """Pauli strings, and the steps and qubits that reach them, as the bits of whole numbers."""

    strings: tuple[PauliKey, ...]
    steps: int
    qubits: int

    @property
    def cost(self) -> int:
        return (self.steps.bit_count() + len(self.strings)) << self.qubits.bit_count()

    def __or__(self, other: _Cone) -> _Cone:
        # The union serves the strings of both: a step that the walk from a string left out, it
        # leaves out again.
        return _Cone(
            self.strings + other.strings, self.steps | other.steps, self.qubits | other.qubits
        )


def _on_touched(string: PauliKey, qubits: int) -> PauliKey | None:
    """The string on the qubits that steps touch; None if its value is zero.

    Elsewhere the state is |0>, where Z is worth 1, X and Y are worth 0.
    """
    if any(letter != "Z" and not qubits >> qubit & 1 for qubit, letter in string):
        return None
    return tuple((qubit, letter) for qubit, letter in string if qubits >> qubit & 1)


@dataclass(frozen=True)
class _Matrix:
    """A constant gate's matrix, of which tables can be kept."""

    data: bytes
    num_qubits: int

    @classmethod
    def of(cls, array: np.ndarray) -> _Matrix:
        # Adding zero turns -0.0 into 0.0.
        return cls((array + 0.0).tobytes(), len(array).bit_length() - 1)

    @property
    def array(self) -> np.ndarray:
        size = 2**self.num_qubits
        return np.frombuffer(self.data, dtype=np.complex128).reshape(size, size)


class _Step:
    """A step of the circuit, and the Pauli on each of its qubits that commutes with it, or None."""

    def __init__(self, step: Rotation | Unitary):
        self.qubits = step.qubits
        self.letters: dict[int, str] | None = None
        self.matrix: _Matrix | None = None
        self.angle: sympy.Expr | None = None
        self.axes: dict[int, str | None]
        if isinstance(step, Rotation):
            self.letters, self.angle = dict(step.pauli), step.angle
            self.axes = self.letters
        else:
            self.matrix = _Matrix.of(step.matrix)
            self.axes = dict(zip(self.qubits, _axes(self.matrix), strict=True))

    def commutes_with_string(self, letters: dict[int, str]) -> bool:
        if self.letters is not None:
            return sum(letters.get(q, own) != own for q, own in self.letters.items()) % 2 == 0
        word = "".join(letters.get(q, "I") for q in self.qubits)
        return _commutes_with_word(self.matrix, word)

    def commutes_with(self, other: _Step) -> bool:
        shared = self.axes.keys() & other.axes.keys()
        if all(self.axes[q] is not None and self.axes[q] == other.axes[q] for q in shared):
            return True
        if other.letters is not None:
            return self.commutes_with_string(other.letters)
        if self.letters is not None:
            return other.commutes_with_string(self.letters)
        places = {q: i for i, q in enumerate(dict.fromkeys((*self.qubits, *other.qubits)))}
        return len(places) <= _LARGEST_TESTED and _matrices_commute(
            self.matrix, other.matrix, tuple(places[q] for q in other.qubits), len(places)
        )


@functools.lru_cache(maxsize=1024)
def _axes(matrix: _Matrix) -> tuple[str | None, ...]:
    axes = []
    for qubit in range(matrix.num_qubits):
        before, after = "I" * qubit, "I" * (matrix.num_qubits - qubit - 1)
        commuting = (a for a in "ZXY" if _commutes_with_word(matrix, before + a + after))
        axes.append(next(commuting, None))
    return tuple(axes)


@functools.lru_cache(maxsize=4096)
def _commutes_with_word(matrix: _Matrix, word: str) -> bool:
    if matrix.num_qubits > _LARGEST_TESTED:
        return False
    unitary, pauli = matrix.array, pauli_matrix(word)
    return np.allclose(unitary @ pauli, pauli @ unitary, atol=_TOLERANCE)


@functools.lru_cache(maxsize=4096)
def _matrices_commute(first: _Matrix, second: _Matrix, places: tuple[int, ...], size: int) -> bool:
    a = embedded(first.array, range(first.num_qubits), size)
    b = embedded(second.array, places, size)
    return np.allclose(a @ b, b @ a, atol=_TOLERANCE)


class _Walk:
    """Walks a Pauli string back through a circuit and keeps the steps that can reach it."""

    def __init__(self, spec: CircuitSpec):
        self.steps = tuple(_Step(step) for step in lowered(spec, NAME))
        self._widest = min(spec.num_qubits, _WIDEST)
        # On every qubit, the step before each step, and before the circuit's end.
        self._before: list[dict[int, int]] = []
        self._last: dict[int, int] = {}
        # The qubits of all steps before each step.
        self._touched = [0]
        for i, step in enumerate(self.steps):
            self._before.append({q: self._last[q] for q in step.qubits if q in self._last})
            self._last.update(dict.fromkeys(step.qubits, i))
            self._touched.append(functools.reduce(_with_bit, step.qubits, self._touched[-1]))

    def __call__(self, string: PauliKey) -> _Cone:
        letters = dict(string)
        kept: dict[int, list[int]] = {q: [] for q in letters}
        # For a qubit, the axis that all of its kept steps have, or None.
        axes: dict[int, str | None] = {}
        steps = qubits = 0
        waiting = [-i for i in {self._last[q] for q in letters if q in self._last}]
        heapq.heapify(waiting)
        seen = set(waiting)
        while waiting:
            i = -heapq.heappop(waiting)
            step = self.steps[i]
            if not self._is_free(step, letters, kept, axes):
                steps |= 1 << i
                for q, axis in step.axes.items():
                    axes[q] = axis if axes.get(q, axis) == axis else None
                    kept.setdefault(q, []).append(i)
                    qubits |= 1 << q
                if len(kept) >= self._widest:
                    # From here on little could be left out, and a deep circuit is long.
                    return _Cone((string,), steps | (1 << i) - 1, qubits | self._touched[i])
            for q, earlier in self._before[i].items():
                if q in kept and -earlier not in seen:
                    seen.add(-earlier)
                    heapq.heappush(waiting, -earlier)
        return _Cone((string,), steps, qubits)

    def _is_free(self, step: _Step, letters, kept, axes) -> bool:
        """Whether a step commutes with the string and with all later steps that are kept."""
        if not step.commutes_with_string(letters):
            return False
        if all(axis is not None and axes.get(q, axis) == axis for q, axis in step.axes.items()):
            return True
        # The nearest first: it is the likeliest not to commute.
        later = sorted({j for q in step.qubits for j in kept.get(q, ())})
        return all(step.commutes_with(self.steps[j]) for j in later)


def _with_bit(bits: int, place: int) -> int:
    return bits | 1 << place


def _places(bits: int) -> list[int]:
    """The places of the bits that are set, from the lowest."""
    return [place for place, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]


# Which cones share a circuit.


def _starts(qubits: int, num_qubits: int, direction: int = 1) -> list[int]:
    """The qubits, numbered along the ring, that come after the widest gap; several if equal."""
    places = _places(qubits)[::direction]
    gaps = [
        (direction * (place - before) - 1) % num_qubits
        for before, place in zip([places[-1], *places], places, strict=False)
    ]
    return [place for place, gap in zip(places, gaps, strict=True) if gap == max(gaps)]


def _hosts(singles: list[_Cone], num_qubits: int) -> list[_Cone]:
    """The cones in the order of the ring, where those inside another one join it if cheaper."""
    # Pairs of a cone and the place where it starts.
    hosts: list[tuple[int, _Cone]] = []
    for cone in sorted(singles, key=lambda c: (-c.qubits.bit_count(), -c.steps.bit_count())):
        start = _starts(cone.qubits, num_qubits)[0]
        offers = []
        for place, (host_start, host) in enumerate(hosts):
            if cone.qubits & ~host.qubits == 0:
                added = (host | cone).cost - host.cost
                # Of equal offers the one that is nearest along the ring, so that all cones of a
                # symmetric circuit choose alike.
                offers.append((added, (start - host_start) % num_qubits, place))
        added, _, place = min(offers, default=(cone.cost + 1, 0, 0))
        if added <= cone.cost:
            hosts[place] = (hosts[place][0], hosts[place][1] | cone)
        else:
            hosts.append((start, cone))
    return [host for _, host in sorted(hosts, key=lambda pair: (pair[0], pair[1].strings))]


def _cheapest(hosts: list[_Cone], max_qubits: int | None) -> list[_Cone]:
    """Neighbouring cones united k at a time, for the k that is cheapest."""
    choices = [
        [functools.reduce(_Cone.__or__, chunk) for chunk in _chunks(hosts, k)]
        for k in range(len(hosts), 0, -1)
        if len(hosts) % k == 0
    ]
    if max_qubits is not None:
        # The last choice is the cones as they are.
        choices = [
            blocks
            for blocks in choices
            if blocks is choices[-1]
            or all(block.qubits.bit_count() <= max_qubits for block in blocks)
        ]
    return min(choices, key=lambda blocks: sum(block.cost for block in blocks), default=[])


def _chunks(items: list, size: int) -> Iterable[list]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _is_whole(block: _Cone, spec: CircuitSpec, num_steps: int) -> bool:
    dropped = num_steps - block.steps.bit_count()
    return block.qubits.bit_count() == spec.num_qubits and dropped * _WORTH_CUTTING < num_steps


def _whole(spec: CircuitSpec, block: _Cone) -> Cones:
    group = Copies(
        spec=spec,
        input_columns=read_only(np.arange(spec.num_inputs)[None]),
        weight_columns=read_only(np.arange(spec.num_weights)[None]),
    )
    size = spec.num_observables
    return Cones(
        groups=(group,),
        matrix=read_only(np.eye(size)),
        constants=read_only(np.zeros(size)),
        cost=block.cost,
        is_whole=True,
    )


# From blocks to groups of circuits.

# For every Pauli string of the circuit's observables, its coefficient in each of them.
_Uses = dict[PauliKey, dict[int, float]]
# A sum of Pauli strings on the qubits of a cone.
_Terms = tuple[tuple[PauliKey, float], ...]


@dataclass(frozen=True)
class _Angle:
    """An angle, with its symbols numbered: equal ones are the same function of their symbols."""

    template: sympy.Expr
    # Symbols of one tuple can change places.
    symbols: tuple[tuple[sympy.Symbol, ...], ...]


@dataclass(frozen=True)
class _Shape:
    """A block up to its place in the circuit: what two cones of a group have in common."""

    num_qubits: int
    steps: tuple[tuple, ...]
    observables: tuple[_Terms, ...]


@dataclass(frozen=True)
class _Placed:
    """A block whose qubits, steps and symbols have got an order."""

    shape: _Shape
    labels: dict[int, int]
    steps: tuple[_Step, ...]
    # Inputs, and weights.
    symbols: tuple[tuple[sympy.Symbol, ...], ...]
    # For each of the shape's observables, its coefficients in those of the whole circuit.
    uses: tuple[dict[int, float], ...]
    cost: int


class _Cut:
    """Sorts blocks into groups of one shape, and builds the circuit of each."""

    def __init__(self, spec: CircuitSpec, steps: tuple[_Step, ...], uses: _Uses):
        self._num_qubits = spec.num_qubits
        self._steps = steps
        self._uses = uses
        self._columns = {s: (0, i) for i, s in enumerate(spec.inputs)}
        self._columns |= {s: (1, i) for i, s in enumerate(spec.weights)}
        self._angles: dict[sympy.Expr, _Angle] = {}
        self._templates: dict[sympy.Expr, int] = {}

    def groups(self, blocks: list[_Cone]) -> list[list[_Placed]]:
        """The blocks, those of one shape together."""
        groups: dict[_Shape, list[_Placed]] = {}
        for block in blocks:
            placed = self._place(block, 1)
            if placed.shape not in groups:
                # The mirror image of a known cone is placed as that; a new one as it stands.
                mirrored = self._place(block, -1)
                placed = mirrored if mirrored.shape in groups else placed
            groups.setdefault(placed.shape, []).append(placed)
        return list(groups.values())

    def cones(self, groups: list[list[_Placed]], constants: np.ndarray) -> Cones:
        """The circuit of every group, and where its symbols and values belong."""
        rows = [row for group in groups for placed in group for row in placed.uses]
        matrix = np.zeros((len(rows), len(constants)))
        for i, row in enumerate(rows):
            for column, coefficient in row.items():
                matrix[i, column] += coefficient
        return Cones(
            groups=tuple(
                Copies(
                    spec=_circuit(group[0]),
                    input_columns=self._gather(group, 0),
                    weight_columns=self._gather(group, 1),
                )
                for group in groups
            ),
            matrix=read_only(matrix),
            constants=read_only(constants),
            cost=sum(placed.cost for group in groups for placed in group),
            is_whole=False,
        )

    def _gather(self, group: list[_Placed], source: int) -> np.ndarray:
        rows = [[self._columns[s][1] for s in placed.symbols[source]] for placed in group]
        return read_only(np.array(rows, dtype=int).reshape(len(group), -1))

    def _place(self, block: _Cone, direction: int) -> _Placed:
        labels = _labels(block, self._num_qubits, direction)
        steps = [self._steps[i] for i in _places(block.steps)]
        keyed = [
            ((-level, *self._signature(step, labels)), step)
            for level, step in zip(_levels(steps), steps, strict=True)
        ]
        keyed.sort(key=lambda pair: pair[0])
        symbols = self._numbered([step for _, step in keyed])
        described = []
        for (_, *signature), step in keyed:
            runs = () if step.matrix is not None else self._angle(step.angle).symbols
            numbers = tuple(tuple(sorted(symbols[s] for s in run)) for run in runs)
            described.append((*signature, numbers))
        observables = _observables(block, self._uses, labels)
        return _Placed(
            shape=_Shape(len(labels), tuple(described), tuple(observables)),
            labels=labels,
            steps=tuple(step for _, step in keyed),
            symbols=tuple(
                tuple(symbol for symbol, (own, _) in symbols.items() if own == source)
                for source in (0, 1)
            ),
            uses=tuple(observables.values()),
            cost=block.cost,
        )

    def _signature(self, step: _Step, labels: dict[int, int]) -> tuple:
        """What a step does to labelled qubits; signatures can be compared and sorted."""
        order = sorted(range(len(step.qubits)), key=lambda place: labels[step.qubits[place]])
        places = tuple(labels[step.qubits[place]] for place in order)
        if step.matrix is None:
            word = "".join(step.letters[step.qubits[place]] for place in order)
            template = self._angle(step.angle).template
            return places, word, self._templates.setdefault(template, len(self._templates))
        return places, "", _Matrix.of(reordered(step.matrix.array, order)).data

    def _angle(self, expression: sympy.Expr) -> _Angle:
        if expression not in self._angles:
            self._angles[expression] = _described(expression, self._columns)
        return self._angles[expression]

    def _numbered(self, steps: list[_Step]) -> dict[sympy.Symbol, tuple[int, int]]:
        """Source and number of each symbol, numbered as they first occur.

        Two that could change places get their numbers where one of them occurs without the other,
        if there is such a place.
        """
        runs = [
            run for step in steps if step.matrix is None for run in self._angle(step.angle).symbols
        ]
        numbers: dict[sympy.Symbol, tuple[int, int]] = {}
        count = [0, 0]
        for at_most in (1, len(self._columns)):
            for run in runs:
                new = [symbol for symbol in run if symbol not in numbers]
                for symbol in new if len(new) <= at_most else ():
                    source = self._columns[symbol][0]
                    numbers[symbol] = (source, count[source])
                    count[source] += 1
        return numbers


def _described(expression: sympy.Expr, columns: dict[sympy.Symbol, tuple[int, int]]) -> _Angle:
    def role(symbol: sympy.Symbol) -> tuple[int, str]:
        names = {s: f"{'this' if s == symbol else 'other'}{columns[s][0]}" for s in free}
        return columns[symbol][0], str(expression.xreplace(_symbols(names)))

    free = sorted(expression.free_symbols, key=columns.__getitem__)
    runs: list[tuple[sympy.Symbol, ...]] = []
    for _, group in itertools.groupby(sorted(free, key=role), key=role):
        alike = tuple(group)
        swaps = ({a: b, b: a} for a, b in itertools.pairwise(alike))
        if all(expression.xreplace(swap) == expression for swap in swaps):
            runs.append(alike)
        else:
            runs += [(symbol,) for symbol in alike]
    names = {s: f"{columns[s][0]}_{i}" for i, s in enumerate(itertools.chain(*runs))}
    return _Angle(expression.xreplace(_symbols(names)), tuple(runs))


def _symbols(names: dict[sympy.Symbol, str]) -> dict[sympy.Symbol, sympy.Symbol]:
    return {symbol: sympy.Symbol(name) for symbol, name in names.items()}


def _labels(block: _Cone, num_qubits: int, direction: int) -> dict[int, int]:
    """The block's qubits, numbered along the ring from the end of the widest gap between them."""
    qubits = _places(block.qubits)[::direction]
    strings = [_on_touched(string, block.qubits) for string in block.strings]

    def view(start: int) -> tuple[list, list]:
        seen = {qubit: direction * (qubit - start) % num_qubits for qubit in qubits}
        read = [sorted((seen[q], letter) for q, letter in string) for string in strings]
        return sorted(seen.values()), sorted(read)

    starts = _starts(block.qubits, num_qubits, direction)
    start = qubits.index(min(starts, key=view) if len(starts) > 1 else starts[0])
    return {qubit: label for label, qubit in enumerate(qubits[start:] + qubits[:start])}


def _levels(steps: Sequence[_Step]) -> list[int]:
    """For each step, how many must come after it at least; steps of one level commute."""
    # Of every qubit: the axis of the steps seen last, their lowest level, the highest of all.
    axes: dict[int, str | None] = {}
    lowest: dict[int, int] = {}
    highest: dict[int, int] = {}
    levels = []
    for step in reversed(steps):
        for q, axis in step.axes.items():
            if axis is None or axes.get(q) != axis:
                axes[q], lowest[q] = axis, highest.get(q, -1) + 1
        level = max(lowest[q] for q in step.qubits)
        for q in step.qubits:
            highest[q] = max(highest.get(q, -1), level)
        levels.append(level)
    return levels[::-1]


def _observables(
    block: _Cone, uses: _Uses, labels: dict[int, int]
) -> dict[_Terms, dict[int, float]]:
    """What is read from a block, and the coefficients with which it enters each observable."""
    strings: dict[PauliKey, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    rows: dict[int, dict[PauliKey, float]] = defaultdict(lambda: defaultdict(float))
    for string in block.strings:
        touched = _on_touched(string, block.qubits)
        placed = tuple(sorted((labels[q], letter) for q, letter in touched))
        for row, coefficient in uses[string].items():
            strings[placed][row] += coefficient
            rows[row][placed] += coefficient
    columns: dict[_Terms, dict[int, float]] = defaultdict(dict)
    if len(rows) < len(strings):
        # A sum is read at once.
        for row, terms in rows.items():
            columns[tuple(sorted(terms.items()))][row] = 1.0
    else:
        for placed, entries in strings.items():
            columns[((placed, 1.0),)] = entries
    return dict(sorted(columns.items()))


def _circuit(placed: _Placed) -> CircuitSpec:
    qubits = cirq.LineQubit.range(placed.shape.num_qubits)
    inputs, weights = (
        {symbol: sympy.Symbol(f"{letter}{i}") for i, symbol in enumerate(symbols)}
        for letter, symbols in zip("xw", placed.symbols, strict=True)
    )
    operations = (
        _operation(step, [qubits[placed.labels[q]] for q in step.qubits], inputs | weights)
        for step in placed.steps
    )
    observables = [
        cirq.PauliSum.from_pauli_strings(
            coefficient * cirq.PauliString({qubits[q]: _PAULIS[letter] for q, letter in string})
            for string, coefficient in terms
        )
        for terms in placed.shape.observables
    ]
    return CircuitSpec(
        cirq.Circuit(operations), list(inputs.values()), list(weights.values()), observables
    )


def _operation(step: _Step, qubits: Sequence[cirq.Qid], names) -> cirq.Operation:
    """The step as a gate of Cirq's."""
    if step.matrix is not None:
        for gate in _PLAIN_GATES:
            if cirq.num_qubits(gate) == len(qubits) and np.allclose(
                cirq.unitary(gate), step.matrix.array, rtol=0, atol=1e-12
            ):
                return gate.on(*qubits)
        return cirq.MatrixGate(step.matrix.array).on(*qubits)
    word, exponent = "".join(step.letters.values()), step.angle.xreplace(names) / sympy.pi
    if exponent.is_number:
        exponent = float(exponent)
    if word in _POWERS:
        return (_POWERS[word] ** exponent).on(*qubits)
    string = cirq.PauliString(
        {qubit: _PAULIS[letter] for qubit, letter in zip(qubits, word, strict=True)}
    )
    return cirq.PauliStringPhasor(string, exponent_neg=exponent, exponent_pos=0)
