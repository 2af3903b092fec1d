"""Pauli propagation: exact expectation values without a state.

Every observable is pushed back through the circuit (Heisenberg picture) to the circuit's first
entangler. Before it the state is a product, where a Pauli string is worth the product of its
qubits' Bloch components. The cost follows the light cone of the observables, not `2**n`.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation, Unitary
from qrkt_keras.circuits.lowering import pauli_matrix, pauli_words
from qrkt_keras.execution.angles import Angles, LinearMap, select
from qrkt_keras.execution.contract import fill, lowered
from qrkt_keras.execution.errors import UnsupportedCircuitError
from qrkt_keras.execution.layering import split_prefix
from qrkt_keras.execution.products import Products

NAME = "pauli_propagation"
MAX_STRINGS = 4096

# Up to this many columns, a block-diagonal matrix product beats an elementwise one: it wastes
# multiplications, but its gradient by the weights is a matrix product too, not a slow reduction.
_WIDEST_PRODUCT = 128
# Sums of so many products are a matrix product by what the weights alone make, mostly of zeros.
_WIDEST_SUM = 1024
_TOLERANCE = 1e-12
# What a sine or cosine costs, in multiply-adds, and how many of a matrix product cost one: in
# `plan.COEFFICIENTS` an engine made of matrix products pays less than that part for each.
_TRIGONOMETRY = 10.0
_PER_MATRIX = 16.0
_AXES = {"X": ("Y", "Z"), "Y": ("Z", "X"), "Z": ("X", "Y")}

# A factor of a product: ("bloch", qubit, letter), ("cos", rotation) or ("sin", rotation).
_Factor = tuple


class PauliPropagation:
    """Expectation values as sums of products of single-qubit Bloch components.

    A rotation `exp(-i a/2 P)` after the first entangler leaves a string `Q` that commutes with `P`
    alone and splits one that does not: `Q -> cos(a) Q + sin(a) i P Q`. A constant gate maps a
    string to its Pauli expansion, one string if the gate is Clifford.

    Args:
        spec: the circuit.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`.

    Raises:
        UnsupportedCircuitError: more than `MAX_STRINGS` strings, or a gate without Pauli form.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> engine = PauliPropagation(templates.rx_ring(384))
        >>> inputs, weights = np.zeros((2, 1, 384), "float32"), np.zeros((3, 384), "float32")
        >>> engine.expectation(inputs, weights).shape
        TensorShape([2, 3, 384])
    """

    name = NAME
    supports_jit = True

    def __init__(self, spec: CircuitSpec):
        self.spec = spec
        self._program = _compile(spec, merged=True)
        narrow = 2 * spec.num_qubits <= _WIDEST_PRODUCT
        self._shared = _compile(spec, merged=False) if narrow else self._program

    @property
    def num_strings(self) -> int:
        """How many products are summed."""
        return len(self._program.products)

    @property
    def flops(self) -> float:
        """Multiply-adds of one example and copy."""
        program = self._program
        return float(
            sum(block.flops for block in program.blocks)
            + _TRIGONOMETRY * len(program.trigonometric)
            + program.multiply.flops
            + program.sum.flops
        )

    def multiply_adds(self, batch: int) -> float:
        """Estimated, of a forward pass, one copy."""
        return batch * self.flops

    @property
    def num_operations(self) -> int:
        """About how many operations one forward pass runs one after the other."""
        return 10 + 10 * len(self._program.blocks)

    def num_bytes(self, batch: int) -> float:
        """Estimated peak of value and gradient: every intermediate number and its gradient."""
        return 8.0 * batch * self.flops

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        # Copies that see the same narrow input share its sines and cosines, and their turns are one
        # matrix product; otherwise a cosine of `x + w` costs less than what puts it together.
        is_shared = inputs.shape[1] == 1 and weights.shape[0] > 1
        program = self._shared if is_shared else self._program
        factors = [column for block in program.blocks for column in block(inputs, weights)]
        if program.body_angles is not None:
            angles = program.body_angles(inputs, weights)
            cosines = [i for kind, i in program.trigonometric if kind == "cos"]
            sines = [i for kind, i in program.trigonometric if kind == "sin"]
            factors += [ops.cos(select(angles, cosines))] if cosines else []
            factors += [ops.sin(select(angles, sines))] if sines else []
        if factors:
            products = program.multiply(_concatenate(factors))
            values = program.sum(products, weights)
            if program.constant.any():
                values = values + ops.convert_to_tensor(program.constant, dtype=values.dtype)
        else:
            values = ops.convert_to_tensor(program.constant.reshape(1, 1, -1), dtype=inputs.dtype)
        return fill(values, inputs, weights)


@dataclass(frozen=True)
class _Program:
    """What is left to do at run time, all of it found at build time."""

    blocks: tuple[_BlochBlock, ...]
    body_angles: Angles | None
    trigonometric: tuple[tuple[str, int], ...]
    products: tuple[tuple[int, ...], ...]
    multiply: Products
    sum: _Sum | _WeightedSum
    constant: np.ndarray


@functools.lru_cache(maxsize=256)
def _compile(spec: CircuitSpec, merged: bool) -> _Program:
    prefix, body = _split_at_first_entangler(lowered(spec, NAME))
    letters = {qubit: _reachable(sequence) for qubit, sequence in prefix.items()}

    # One dictionary an observable: product of factors -> coefficient.
    sums: list[dict[frozenset, float]] = []
    total = 0
    index = {qubit: i for i, qubit in enumerate(spec.qubits)}
    steps = [_Step(i, step) for i, step in enumerate(body)][::-1]
    for number, observable in enumerate(spec.observables, 1):
        where = f"observable {number} of {spec.num_observables}"
        terms = _propagate(observable, index, steps, where)
        values: dict[frozenset, float] = defaultdict(float)
        for (x, z, factors), coefficient in terms.items():
            word = _letters(x, z)
            if all(letter in letters.get(qubit, {"Z"}) for qubit, letter in word):
                bloch = {("bloch", qubit, letter) for qubit, letter in word if qubit in prefix}
                values[factors | bloch] += coefficient
        sums.append({key: value for key, value in values.items() if abs(value) > _TOLERANCE})
        total += len(sums[-1])
        if total > MAX_STRINGS:
            estimate = total * spec.num_observables // number
            raise _too_many(total, where, f"about {estimate} for all")

    constant = np.array([values.pop(frozenset(), 0.0) for values in sums])
    used: set[_Factor] = set().union(*(key for values in sums for key in values))
    blocks = _bloch_blocks(spec, prefix, used, merged)
    order: list[_Factor] = [factor for block in blocks for factor in block.factors]
    inputs = frozenset(spec.inputs)
    fixed = {
        factor
        for factor in used
        if factor[0] != "bloch" and inputs.isdisjoint(body[factor[1]].angle.free_symbols)
    }
    if not _is_narrow(sums, fixed):
        fixed = set()
    rotations = sorted({factor[1] for factor in used - fixed if factor[0] != "bloch"})
    trigonometric = [
        (kind, rotations.index(i))
        for kind in ("cos", "sin")
        for i in rotations
        if (kind, i) in used
    ]
    order += [(kind, rotations[i]) for kind, i in trigonometric]
    position = {factor: i for i, factor in enumerate(order)}
    # Cosine and sine of one angle are neighbours in a product: those of one observable look alike.
    rank = {
        i: (factor[0] != "bloch", i if factor[0] == "bloch" else factor[1], i)
        for i, factor in enumerate(order)
    }

    def product_of(key):
        return tuple(sorted((position[factor] for factor in key), key=rank.__getitem__))

    terms = [
        (product_of(key - fixed), row, key & fixed, coefficient)
        for row, values in enumerate(sums)
        for key, coefficient in values.items()
    ]
    products = list(dict.fromkeys(product for product, *_ in terms))
    if fixed:
        # Products that look alike are neighbours, so that their factors are: a piece, not a gather.
        kinds = [factor[::2] for factor in order]
        products.sort(key=lambda product: (len(product), [kinds[i] for i in product]))
    column = {product: i for i, product in enumerate(products)}
    terms = [(column[product], *rest) for product, *rest in terms]
    if fixed:
        total_of = _WeightedSum(spec, body, terms, len(products))
    else:
        rows: list[dict[int, float]] = [{} for _ in sums]
        for product, row, _, coefficient in terms:
            rows[row][product] = coefficient
        total_of = _Sum(rows, len(products))
    return _Program(
        blocks=tuple(blocks),
        body_angles=Angles([body[i].angle for i in rotations], spec) if rotations else None,
        trigonometric=tuple(trigonometric),
        products=tuple(products),
        multiply=Products(tuple(products)),
        sum=total_of,
        constant=constant,
    )


def _too_many(count: int, where: str, estimate: str) -> UnsupportedCircuitError:
    return UnsupportedCircuitError(
        NAME,
        f"its observables split into more than {MAX_STRINGS} Pauli strings on the way back to the "
        f"first entangler. Received: {count} strings after {where}, {estimate}",
    )


def _split_at_first_entangler(steps):
    """Single-qubit steps that come before a qubit's first entangler, and all others in order.

    Clifford gates right before the entangler map a string to a string: they go with the others.
    """
    prefix, body = split_prefix(steps)
    cliffords = []
    for steps_of_qubit in prefix.values():
        while steps_of_qubit and _is_clifford(steps_of_qubit[-1]):
            cliffords.append(steps_of_qubit.pop())
    return {q: own for q, own in prefix.items() if own}, cliffords[::-1] + body


def _is_clifford(step) -> bool:
    if isinstance(step, Rotation):
        return False
    rotation = np.abs(_bloch_matrix(step.matrix))
    return bool(np.allclose(rotation, np.round(rotation), atol=_TOLERANCE))


# Strings. A Pauli string is a pair of bit masks (x, z), the operator
# i**|x & z| * prod X**x Z**z, so Y has both bits. It is Hermitian.


def _letters(x: int, z: int) -> list[tuple[int, str]]:
    word = []
    support = x | z
    while support:
        low = support & -support
        qubit = low.bit_length() - 1
        letter = "Y" if x & low and z & low else "X" if x & low else "Z"
        word.append((qubit, letter))
        support ^= low
    return word


def _masks(word) -> tuple[int, int]:
    x = z = 0
    for qubit, letter in word:
        x |= (letter in ("X", "Y")) << qubit
        z |= (letter in ("Z", "Y")) << qubit
    return x, z


def _product_sign(p: tuple[int, int], q: tuple[int, int]) -> int:
    """The sign of `i P Q = sign * R` for anticommuting Hermitian strings."""
    x, z = p[0] ^ q[0], p[1] ^ q[1]
    power = (
        1
        + (p[0] & p[1]).bit_count()
        + (q[0] & q[1]).bit_count()
        + 2 * (p[1] & q[0]).bit_count()
        - (x & z).bit_count()
    )
    return 1 if power % 4 == 0 else -1


class _Step:
    """A step of the body, and what it does to the part of a string that it touches."""

    def __init__(self, number: int, step: Rotation | Unitary):
        self.mask = sum(1 << qubit for qubit in step.qubits)
        self.is_rotation = isinstance(step, Rotation)
        self._number, self._step = number, step
        self._generator = _masks(step.pauli) if self.is_rotation else None
        self._images: dict[tuple[int, int], list[tuple[int, int, float]]] = {}

    def __call__(self, terms):
        result: dict = defaultdict(float)
        for (x, z, factors), coefficient in terms.items():
            if not (x | z) & self.mask:
                result[(x, z, factors)] += coefficient
            elif self.is_rotation:
                self._rotate(result, x, z, factors, coefficient)
            else:
                for ix, iz, weight in self._image(x & self.mask, z & self.mask):
                    key = (x & ~self.mask | ix, z & ~self.mask | iz, factors)
                    result[key] += coefficient * weight
        return {key: value for key, value in result.items() if abs(value) > _TOLERANCE}

    def _rotate(self, result, x, z, factors, coefficient):
        px, pz = self._generator
        if ((px & z).bit_count() + (pz & x).bit_count()) % 2 == 0:
            result[(x, z, factors)] += coefficient
            return
        sign = _product_sign(self._generator, (x, z))
        result[(x, z, factors | {("cos", self._number)})] += coefficient
        result[(x ^ px, z ^ pz, factors | {("sin", self._number)})] += sign * coefficient

    def _image(self, x: int, z: int):
        if (x, z) not in self._images:
            letters = dict(_letters(x, z))
            word = "".join(letters.get(qubit, "I") for qubit in self._step.qubits)
            self._images[x, z] = [
                (*_masks((q, c) for q, c in zip(self._step.qubits, image, strict=True)), weight)
                for image, weight in _conjugate(self._step.matrix.tobytes(), word)
            ]
        return self._images[x, z]


def _propagate(observable, index, steps, where: str):
    """Strings before the body, each with the trigonometric factors that it has picked up.

    Args:
        observable: a sum of Pauli strings.
        index: the number of each qubit.
        steps: the body's, the last first.
        where: which observable, in words.
    """
    terms: dict[tuple[int, int, frozenset], float] = defaultdict(float)
    for string in observable:
        word = [(index[qubit], str(pauli)) for qubit, pauli in string.items()]
        terms[(*_masks(word), frozenset())] += string.coefficient.real
    support = _support(terms)
    rotations = 0
    for i, step in enumerate(steps):
        if not support & step.mask:
            continue
        terms = step(terms)
        rotations += step.is_rotation
        # Exact where that is cheap: most steps then touch no string.
        support = _support(terms) if len(terms) < 4 else support | step.mask
        if len(terms) > MAX_STRINGS:
            raise _exploded(len(terms), rotations, support, steps[i + 1 :], where)
    return terms


def _support(terms) -> int:
    return functools.reduce(int.__or__, (x | z for x, z, _ in terms), 0)


def _exploded(count: int, rotations: int, support: int, steps, where: str):
    """The refusal, with what the strings of one observable would grow to."""
    left = 0
    for step in steps:
        if support & step.mask:
            support |= step.mask
            left += step.is_rotation
    digits = math.log10(count)
    return _too_many(
        count,
        f"{rotations} of {rotations + left} rotations in the light cone of {where}",
        f"at that rate 1e{digits * (1 + left / rotations):.0f} for it at the end, "
        f"at most 1e{digits + left * math.log10(2):.0f}",
    )


@functools.lru_cache(maxsize=4096)
def _conjugate(matrix: bytes, word: str) -> tuple[tuple[str, float], ...]:
    """The Pauli expansion of `U^dagger P U`."""
    size = 2 ** len(word)
    unitary = np.frombuffer(matrix, dtype=np.complex128).reshape(size, size)
    image = unitary.conj().T @ pauli_matrix(word) @ unitary
    expansion = []
    for candidate in pauli_words(len(word)):
        coefficient = float(np.einsum("ij,ji->", pauli_matrix(candidate), image).real / size)
        if abs(coefficient) > 1e-9:
            # A Clifford gate's is 1 or -1; with its rounding error, all values would be scaled.
            whole = round(coefficient)
            near = abs(coefficient - whole) < _TOLERANCE
            expansion.append((candidate, float(whole) if near else coefficient))
    return tuple(expansion)


# Before the first entangler: Bloch vectors, a whole group of like qubits at a time.


def _bloch_matrix(unitary: np.ndarray) -> np.ndarray:
    """The rotation of the Bloch vector: `r_i' = sum_j tr(s_i U s_j U^dagger)/2 r_j`."""
    paulis = [pauli_matrix(letter) for letter in "XYZ"]
    rotation = [
        [np.trace(a @ unitary @ b @ unitary.conj().T).real / 2 for b in paulis] for a in paulis
    ]
    return np.where(np.abs(rotation) < 1e-12, 0.0, rotation)


def _reachable(sequence) -> set[str]:
    """Bloch components that are not zero whatever the angles are."""
    letters = {"Z"}
    for step in sequence:
        is_rotation = isinstance(step, Rotation)
        axis = step.pauli[0][1] if is_rotation else None
        letters = _spread(letters, axis, None if is_rotation else _bloch_matrix(step.matrix))
    return letters


def _turns(sequence, spec, merged: bool) -> tuple[list, list]:
    """A qubit's gates as turns of its Bloch vector: up to the last that the data drive, and after.

    A turn is `(axis, angle)`, or `(None, matrix)` for a constant gate. A rotation by data and
    weights together is two about one axis, so that as much as possible comes after the data; if
    `merged`, it stays one where only its own weights would come after.
    """
    turns, last = [], 0
    inputs = frozenset(spec.inputs)
    for step in sequence:
        if not isinstance(step, Rotation):
            turns.append((None, _bloch_matrix(step.matrix)))
            continue
        terms = sympy.Add.make_args(step.angle)
        data = [term for term in terms if not term.free_symbols.isdisjoint(inputs)]
        rest = [term for term in terms if term.free_symbols.isdisjoint(inputs)]
        axis = step.pauli[0][1]
        if data:
            turns.append((axis, sympy.Add(*data)))
            last = len(turns)
        if rest:
            turns.append((axis, sympy.Add(*rest)))
    if (
        merged
        and last
        and len(turns) == last + 1
        and turns[last][0] == turns[last - 1][0] is not None
    ):
        (axis, data), (_, rest) = turns[last - 1 :]
        return [*turns[: last - 1], (axis, data + rest)], []
    return turns[:last], turns[last:]


def _structure(turns) -> tuple:
    return tuple(data.tobytes() if axis is None else axis for axis, data in turns)


def _together(spec, sequences) -> list[tuple]:
    """Turns of like qubits at once, a column a qubit."""
    return [
        (axis, data) if axis is None else (axis, Angles([turn[1] for turn in column], spec))
        for column in zip(*sequences, strict=True)
        for axis, data in column[:1]
    ]


def _bloch_blocks(spec, prefix, used, merged: bool) -> list[_BlochBlock]:
    groups: dict[tuple, dict[int, tuple]] = defaultdict(dict)
    for qubit in sorted(prefix):
        letters = tuple(letter for letter in "XYZ" if ("bloch", qubit, letter) in used)
        if letters:
            leading, trailing = _turns(prefix[qubit], spec, merged)
            groups[_structure(leading)][qubit] = (leading, trailing, letters)
    return [_BlochBlock(spec, members) for members in groups.values()]


class _BlochBlock:
    """Bloch components of qubits that see the same sequence of gates up to the data's last.

    What comes after that depends on weights alone, so it acts on the wanted components (Heisenberg
    picture), not on the batch: a factor is `sum_j v_j(w) r_j(x)`.
    """

    def __init__(self, spec, members: dict[int, tuple]):
        qubits = list(members)
        self._size = len(qubits)
        self._leading = _together(spec, [leading for leading, _, _ in members.values()])
        # Components that the leading turns can make at all, and those that each must yield, found
        # backwards, so that none is made in vain.
        reachable = {"Z"}
        for axis, data in self._leading:
            reachable = _spread(reachable, axis, data)

        alike: dict[tuple, list[int]] = defaultdict(list)
        for qubit, (_, trailing, letters) in members.items():
            alike[(_structure(trailing), letters)].append(qubit)
        self.factors = []
        self._images = []
        wanted: set[str] = set()
        for (_, letters), group in alike.items():
            trailing = _together(spec, [members[qubit][1] for qubit in group])
            places = [qubits.index(qubit) for qubit in group]
            for letter in letters:
                self.factors += [("bloch", qubit, letter) for qubit in group]
                sources = {letter}
                for axis, data in reversed(trailing):
                    sources = _spread(sources, axis, _transpose(data))
                sources &= reachable
                wanted |= sources
                self._images.append((letter, trailing, places, sources))
        self._wanted = [wanted]
        for axis, data in reversed(self._leading):
            self._wanted.insert(0, _spread(self._wanted[0], axis, _transpose(data)))
        self._components = [letter for letter in "XYZ" if letter in wanted]
        self._is_plain = not any(trailing for _, trailing, _, _ in self._images)

    @property
    def flops(self) -> float:
        """Estimated multiply-adds per example and copy."""
        turns = len(self._leading) * self._size
        return _TRIGONOMETRY * turns + 2.0 * len(self._components) * len(self.factors)

    def __call__(self, inputs, weights):
        turned = _Trigonometry(inputs, weights)
        bloch: dict[str, object] = {"Z": 1.0}
        for (axis, data), wanted in zip(self._leading, self._wanted[1:], strict=True):
            if axis is None:
                bloch = _turn_by_matrix(bloch, data, wanted)
            elif wanted & set(_AXES[axis]):
                bloch = _turn(bloch, axis, *turned(data), wanted)
        # A component that only constant gates have made is a number: give it its axes.
        bloch = {
            letter: ops.full((1, 1, self._size), bloch[letter], dtype=inputs.dtype)
            if isinstance(bloch[letter], float)
            else bloch[letter]
            for letter in self._components
        }
        images = [self._image(image, turned) for image in self._images]
        is_shared = all(component.shape[1] == 1 for component in bloch.values())
        narrow = self._size * len(self._components) <= _WIDEST_PRODUCT
        if not self._is_plain and is_shared and narrow:
            return [self._product(bloch, images, weights)]
        factors = []
        for places, image in images:
            terms = [(select(bloch[j], places), value, 1) for j, value in image.items()]
            factors.append(_sum_products(*terms))
        return factors

    @staticmethod
    def _image(image, turned):
        """Where the columns are, and the wanted component as a combination of earlier ones."""
        letter, trailing, places, sources = image
        vector: dict[str, object] = {letter: 1.0}
        for axis, data in reversed(trailing):
            if axis is None:
                vector = _turn_by_matrix(vector, data.T, "XYZ")
            else:
                # The transposed turn is the turn back: second and first axis change places.
                vector = _turn(vector, axis, *turned(data), "XYZ", back=True)
        return places, {j: vector[j] for j in sources}

    def _product(self, bloch, images, weights):
        copies = weights.shape[0]
        rows = []
        for letter in self._components:
            columns = []
            for places, image in images:
                where = np.eye(self._size)[:, None, places]
                where = ops.convert_to_tensor(where, dtype=weights.dtype)
                column = where * image[letter] if letter in image else ops.zeros_like(where)
                columns.append(ops.broadcast_to(column, (self._size, copies, len(places))))
            rows.append(_join(columns))
        matrix = ops.reshape(_join(rows, 0), (len(rows) * self._size, copies * len(self.factors)))
        vector = _concatenate([bloch[letter] for letter in self._components])
        vector = ops.reshape(vector, (-1, len(rows) * self._size))
        return ops.reshape(ops.matmul(vector, matrix), (-1, copies, len(self.factors)))


def _transpose(data):
    return data.T if isinstance(data, np.ndarray) else data


def _spread(letters: set[str], axis: str | None, data) -> set[str]:
    """Components that a turn can make of some components."""
    if axis is None:
        return {
            letter
            for row, letter in zip(data, "XYZ", strict=True)
            if any(value and other in letters for value, other in zip(row, "XYZ", strict=True))
        }
    return letters | set(_AXES[axis]) if letters & set(_AXES[axis]) else letters


class _Trigonometry:
    """Cosine and sine of a list of angles, made once where several turns share them."""

    def __init__(self, inputs, weights):
        self._inputs, self._weights = inputs, weights
        self._made: dict[tuple, tuple] = {}

    def __call__(self, angles: Angles):
        if angles.expressions not in self._made:
            values = angles(self._inputs, self._weights)
            self._made[angles.expressions] = ops.cos(values), ops.sin(values)
        return self._made[angles.expressions]


def _turn(bloch, axis, cos, sin, wanted, back=False):
    first, second = _AXES[axis][::-1] if back else _AXES[axis]
    b, c = bloch.get(first), bloch.get(second)
    if b is None and c is None:
        return bloch
    result = {axis: bloch[axis]} if axis in bloch else {}
    if first in wanted:
        result[first] = _sum_products((b, cos, 1), (c, sin, -1))
    if second in wanted:
        result[second] = _sum_products((b, sin, 1), (c, cos, 1))
    return result


def _turn_by_matrix(bloch, rotation, wanted):
    result = {}
    for row, letter in zip(rotation, "XYZ", strict=True):
        if letter not in wanted:
            continue
        terms = [
            (bloch[other], value, 1)
            for value, other in zip(row.tolist(), "XYZ", strict=True)
            if value and other in bloch
        ]
        if terms:
            result[letter] = _sum_products(*terms)
    return result


def _sum_products(*terms):
    """`sum_i sign_i a_i b_i` without the terms that are None and the factors that are 1."""
    total = None
    for a, b, sign in terms:
        if a is None:
            continue
        for one, other in ((a, b), (b, a)):
            if isinstance(one, float) and abs(one) == 1.0:
                term, sign = other, sign * one
                break
        else:
            term = a * b
        if total is None:
            total = term if sign > 0 else -term
        else:
            total = total + term if sign > 0 else total - term
    return total


# Products and their sums.


def _is_narrow(sums, fixed) -> bool:
    """Whether the sums are small enough to be one matrix product by weights alone."""
    keys = {key - fixed for values in sums for key in values}
    # A term without a factor of the batch would be a bias.
    return frozenset() not in keys and len(keys) <= _WIDEST_SUM


class _Sum(LinearMap):
    """Sums of products with constant coefficients."""

    def __call__(self, products, weights):
        del weights
        return super().__call__(products)


class _WeightedSum:
    """Sums of products with coefficients that are functions of the weights alone.

    Sines and cosines of weights do not get the axis of the batch: for each copy they make a matrix
    `(products, observables)`, and the sum is a matrix product.

    Args:
        spec: the circuit.
        body: its steps from the first entangler on.
        terms: product, observable, sines and cosines of weights, and a number.
        num_products: how many products there are.
    """

    def __init__(self, spec: CircuitSpec, body, terms, num_products: int):
        rotations = sorted({factor[1] for _, _, fixed, _ in terms for factor in fixed})
        self._angles = Angles([body[i].angle for i in rotations], spec)
        column = {("cos", i): k for k, i in enumerate(rotations)}
        column |= {("sin", i): k + len(rotations) for k, i in enumerate(rotations)}
        sets = list(dict.fromkeys(fixed for _, _, fixed, _ in terms if fixed))
        self._multiply = Products(tuple(tuple(sorted(column[f] for f in one)) for one in sets))
        # An entry of the matrix is a sum over sets; the last column of these is 1.
        entries: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
        number = {fixed: i for i, fixed in enumerate(sets)} | {frozenset(): len(sets)}
        for product, observable, fixed, coefficient in terms:
            entry = entries[product, observable]
            entry[number[fixed]] = entry.get(number[fixed], 0.0) + coefficient
        self._entries = LinearMap(list(entries.values()), len(sets) + 1)
        self._shape = (num_products, spec.num_observables)
        # The other entries of the matrix take the zero behind these.
        self._places = np.full(self._shape, len(entries), dtype="int32")
        for i, place in enumerate(entries):
            self._places[place] = i

    @property
    def flops(self) -> float:
        """Multiply-adds for one example and copy, as many elementwise ones as cost the same."""
        return self._shape[0] * self._shape[1] / _PER_MATRIX

    def __call__(self, products, weights):
        copies = weights.shape[0]
        angles = self._angles(weights[None, :, :0], weights)  # no input is in them
        factors = ops.concatenate([ops.cos(angles), ops.sin(angles)], -1)
        fixed = ops.pad(self._multiply(factors), ((0, 0), (0, 0), (0, 1)), constant_values=1)
        entries = ops.pad(self._entries(fixed)[0], ((0, 0), (0, 1)))
        matrix = ops.take(entries, self._places.ravel(), axis=-1)
        matrix = ops.reshape(matrix, (copies, *self._shape))
        if products.shape[1] > 1:
            return ops.einsum("bck,cko->bco", products, matrix)
        # Copies that have the same products: one matrix product for all.
        matrix = ops.reshape(ops.transpose(matrix, (1, 0, 2)), (self._shape[0], -1))
        values = ops.matmul(ops.squeeze(products, 1), matrix)
        return ops.reshape(values, (-1, copies, self._shape[1]))


def _join(parts, axis=-1):
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis)


def _concatenate(columns):
    if len(columns) == 1:
        return columns[0]
    shape = functools.reduce(_broadcast, (ops.shape(column)[:2] for column in columns))
    static = functools.reduce(_broadcast, (tuple(column.shape[:2]) for column in columns))
    return ops.concatenate(
        [
            column
            if tuple(column.shape[:2]) == static
            else ops.broadcast_to(column, (*shape, column.shape[-1]))
            for column in columns
        ],
        -1,
    )


def _broadcast(first, second):
    # The leading axes are 1, the batch or the copies; the batch may be symbolic or zero.
    return tuple(
        b if isinstance(a, int) and a == 1 else a for a, b in zip(first, second, strict=True)
    )
