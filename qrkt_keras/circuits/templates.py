"""The named circuits of the literature, and one of ours."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterator, Sequence

import cirq
import sympy

from qrkt_keras.circuits.spec import CircuitSpec


def rx_ring(num_qubits: int, num_layers: int = 1) -> CircuitSpec:
    r"""RX encoding, then layers of RX rotations and a ring of CNOTs; reads Z of every qubit.

    RX(x_j) on every qubit j, once; then in every layer RX(θ_j) on every qubit and CNOT(j, j+1 mod
    n) for j = 0 … n−1 in sequence. Two qubits have the one CNOT(0, 1), one qubit has none.

    With one layer and c_j = cos(x_j + θ_j) the expectation values are

    $$\langle Z_i \rangle = \prod_{j \le i} c_j \; (i \ge 1), \qquad
      \langle Z_0 \rangle = \prod_{j=1}^{n-1} c_j$$

    for n > 2 (for n ≤ 2, ⟨Z_0⟩ = c_0), so one layer is classically cheap at any width.

    Source: M. Comajoan Cara et al., "Quantum vision transformers for quark–gluon
    classification", Axioms 2024.

    Args:
        num_qubits: The number n of qubits, and of input angles (radians).
        num_layers: The number of layers of weights.

    Returns:
        A `CircuitSpec` with inputs x0 … and weights w0 … of shape `(num_layers, num_qubits)`.

    Raises:
        ValueError: If a number is less than 1.
        TypeError: If a number is not an integer.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> spec = templates.rx_ring(3)
    >>> spec.weight_shape
    (1, 3)
    >>> print(spec.draw())
    0: ───RX(x0)───RX(w0)───@───────X───⟨Z⟩
                            │       │
    1: ───RX(x1)───RX(w1)───X───@───┼───⟨Z⟩
                                │   │
    2: ───RX(x2)───RX(w2)───────X───@───⟨Z⟩
    """
    return _rx_ring(_count("num_qubits", num_qubits), _count("num_layers", num_layers))


def ry_ring(num_qubits: int) -> CircuitSpec:
    r"""RY encoding, RX and RZ with one shared weight, then H and CNOT interleaved; reads Z.

    RY(x_j), RX(θ_j), RZ(θ_j) on every qubit j (both rotations by the same weight); then H(0)
    CNOT(0, 1) H(1) CNOT(1, 2) … H(n−1) CNOT(n−1, 0). Two qubits have the one CNOT(0, 1) and no H,
    one qubit has neither.

    With f(x, θ) = sin x cos θ + cos x sin²θ the expectation values are

    $$\langle Z_i \rangle = f(x_i, \theta_i) \; (i \ge 1), \qquad
      \langle Z_0 \rangle = f(x_0, \theta_0) f(x_{n-1}, \theta_{n-1})$$

    for n ≥ 3; for n ≤ 2, with z_j = cos x_j cos θ_j, they are (z_0) and (z_0, z_0 z_1). The
    circuit hardly mixes features; it is here to reproduce its source.

    Source: C.-A. Rîpanu, *QRKT-GAN*, UPB Bucharest, 2024.

    Args:
        num_qubits: The number n of qubits, and of input angles (radians).

    Returns:
        A `CircuitSpec` with inputs x0 … and weights w0 … of shape `(1, num_qubits)`.

    Raises:
        ValueError: If `num_qubits` is less than 1.
        TypeError: If `num_qubits` is not an integer.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> templates.ry_ring(6).weight_shape
    (1, 6)
    """
    return _ry_ring(_count("num_qubits", num_qubits))


def hardware_efficient(num_qubits: int, num_layers: int = 3, reupload: bool = True) -> CircuitSpec:
    r"""Layers of RX encoding, RZ, RY, RZ rotations and a ring of CZs; reads Z of every qubit.

    In every layer, on every qubit j: RX(x_j) (with `reupload=False` in the first layer only),
    then RZ, RY, RZ by weights of their own; then CZ(j, j+1 mod n) for all j (two qubits: one CZ,
    one qubit: none).

    The last layer has no second RZ: a CZ ring and a Z read-out commute with it, so its weight
    could never get a gradient. For the same reason one layer does not mix features:

    $$\partial \langle Z_i \rangle / \partial x_j = 0 \quad (i \ne j)$$

    since the CZ ring, the only gate between qubits, then drops out of ⟨Z_i⟩. Two layers mix ring
    neighbours, three layers mix all features of up to five qubits.

    Args:
        num_qubits: The number n of qubits, and of input angles (radians).
        num_layers: The number of layers. One is allowed, but mixes nothing.
        reupload: Whether every layer encodes the inputs again; without it `get` knows the template
            as `"hardware_efficient_once"`. Encoded once, a circuit of two layers is cheap at any
            width: three strings an observable, and what the second layer does is a matrix product.

    Returns:
        A `CircuitSpec` with inputs x0 … and `3 * num_qubits * num_layers - num_qubits` weights
        w0 …, flat, ordered by layer, then qubit, then gate.

    Raises:
        ValueError: If a number is less than 1.
        TypeError: If a number is not an integer or `reupload` not a bool.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> templates.hardware_efficient(5).num_weights
    40
    """
    if not isinstance(reupload, bool):
        raise TypeError(f"reupload must be True or False. Received: reupload={reupload!r}")
    return _hardware_efficient(
        _count("num_qubits", num_qubits), _count("num_layers", num_layers), reupload
    )


def patch(
    num_blocks: int, num_qubits: int = 8, num_features: int = 64, num_values: int = 10
) -> CircuitSpec:
    r"""The circuit of a distributed patch network: by default 8 qubits read an 8×8 patch.

    With d = `num_blocks`, n = `num_qubits` and F = `num_features`: d entangling blocks, a data
    block, d entangling blocks, a data block, d entangling blocks.

    - Entangling block: RX(θ) on all qubits, RY(θ) on all qubits, CZ(i, i+1 mod n) for all i (two
      qubits: one CZ, one qubit: none).
    - Data block: each reads one half of the features, k = ⌈F / 2n⌉ of them on a qubit: on every
      qubit i, for j = 0 … k−1: RY(θ) RX(x) RY(θ) if j is even, RX(θ) RY(x) RX(θ) if j is odd,
      where x is feature ki+j in the first data block and nk+ki+j in the second; then CZ(i, i+1 mod
      n) for all i. Where F is no multiple of 2n, the last qubits of the second block have less to
      read.

    The very last CZ ring is left out. Read out are K = `num_values` values, ⟨X⟩ of the first
    ⌈K/2⌉ qubits, then ⟨Z⟩ of the first ⌊K/2⌋: for K = 10, ⟨X_0⟩ … ⟨X_4⟩, ⟨Z_0⟩ … ⟨Z_4⟩.

    Of the source's circuit, only qubits 0 to 4 are read, so some weights never have a gradient. No
    ring follows the last block: its RX and RY on qubits 5, 6 and 7 are dead. One ring follows the
    rotations before it, and reaches 5 and 7 but not 6: on qubit 6 the RX and RY of the last but one
    block are dead, or, with d = 1, its part of the second data block, features 56 to 59 included.
    These 8 weights (14 with d = 1) are kept because the source counts them. Of another size it is
    what lies outside the values' light cone, such as RX and RY of the last block on the one qubit
    that is not read of six, with 10 values.

    Source: Y. Kawase, "The effect of the number of parameters and the number of local feature
    patches on loss landscapes in distributed quantum neural networks", 2025, arXiv 2504.19239,
    for 8 qubits, 64 features and 10 values; the other sizes are ours.

    Args:
        num_blocks: The number d of entangling blocks in each of the three groups.
        num_qubits: The number n of qubits.
        num_features: The number F of input angles, such as the pixels of a patch.
        num_values: The number K of values, at most 2n.

    Returns:
        A `CircuitSpec` with inputs x0 … (radians, the patch row by row) and 6dn + 2F weights
        w0 …, flat, in the circuit's order: block by block (RX of all qubits, then RY), a data
        block qubit by qubit. With the defaults, 8(6d+16).

    Raises:
        ValueError: If a number is less than 1, or there are more values than 2n.
        TypeError: If a number is not an integer.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> templates.patch(2).num_weights
    224
    >>> templates.patch(2, num_qubits=4, num_features=16, num_values=3).num_weights
    80
    """
    num_qubits, num_values = _count("num_qubits", num_qubits), _count("num_values", num_values)
    if num_values > 2 * num_qubits:
        raise ValueError(
            "X and Z of every qubit are 2 * num_qubits values. "
            f"Received: num_values={num_values} with num_qubits={num_qubits}"
        )
    return _patch(
        _count("num_blocks", num_blocks),
        num_qubits,
        _count("num_features", num_features),
        num_values,
    )


def get(name: str, num_qubits: int, num_layers: int = 1) -> CircuitSpec:
    """Returns the template of this name at a given width.

    Args:
        name: One of `list()`.
        num_qubits: The number of qubits.
        num_layers: The number of layers of weights; `ry_ring` is defined for one.

    Returns:
        The template's `CircuitSpec`.

    Raises:
        ValueError: If there is no such template, or not with these numbers.
        TypeError: If the name is not a string or a number not an integer.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> templates.get("rx_ring", 4, num_layers=2) == templates.rx_ring(4, 2)
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"A template's name is a string. Received: name={name!r}")
    if name not in _FAMILIES:
        raise ValueError(
            f"The circuit templates of any width are {', '.join(list())}. Received: name={name!r}"
        )
    if name == "ry_ring":
        if _count("num_layers", num_layers) != 1:
            raise ValueError(
                f"The template ry_ring is defined for one layer. Received: num_layers={num_layers}"
            )
        return ry_ring(num_qubits)
    return _FAMILIES[name](num_qubits, num_layers)


def list() -> tuple[str, ...]:
    """Returns the names that `get` knows.

    Example:

    >>> from qrkt_keras.circuits import templates
    >>> templates.list()
    ('hardware_efficient', 'hardware_efficient_once', 'rx_ring', 'ry_ring')
    """
    return tuple(sorted(_FAMILIES))


_FAMILIES = {
    "rx_ring": rx_ring,
    "ry_ring": ry_ring,
    "hardware_efficient": hardware_efficient,
    "hardware_efficient_once": functools.partial(hardware_efficient, reupload=False),
}


def _count(name: str, value: int) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1. Received: {name}={value!r}")
    return int(value)


def _symbols(letter: str, count: int) -> tuple[sympy.Symbol, ...]:
    return tuple(sympy.Symbol(f"{letter}{index}") for index in range(count))


def _ring(num_qubits: int) -> Iterator[tuple[int, int]]:
    """Neighbours on a ring. Two qubits are one pair, not two; one qubit is none."""
    if num_qubits == 2:
        yield 0, 1
    elif num_qubits > 2:
        for j in range(num_qubits):
            yield j, (j + 1) % num_qubits


def _cz_ring(qubits: Sequence[cirq.Qid]) -> Sequence[cirq.Operation]:
    """CZs on a ring: first the even pairs, then the odd ones, since CZs commute: it is shallow."""
    pairs = sorted(_ring(len(qubits)), key=lambda pair: pair[0] % 2)
    return tuple(cirq.CZ(qubits[i], qubits[j]) for i, j in pairs)


# Specs are frozen, so one object serves every layer that asks for it.
@functools.lru_cache(maxsize=64)
def _rx_ring(num_qubits: int, num_layers: int) -> CircuitSpec:
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = _symbols("x", num_qubits)
    weights = _symbols("w", num_layers * num_qubits)
    rows = [weights[start : start + num_qubits] for start in range(0, len(weights), num_qubits)]
    circuit = cirq.Circuit(cirq.rx(x)(q) for x, q in zip(inputs, qubits, strict=True))
    for row in rows:
        circuit.append(cirq.rx(w)(q) for w, q in zip(row, qubits, strict=True))
        circuit.append(cirq.CNOT(qubits[i], qubits[j]) for i, j in _ring(num_qubits))
    return CircuitSpec(circuit, inputs, rows, [cirq.Z(q) for q in qubits])


@functools.lru_cache(maxsize=64)
def _ry_ring(num_qubits: int) -> CircuitSpec:
    qubits = cirq.LineQubit.range(num_qubits)
    inputs, weights = _symbols("x", num_qubits), _symbols("w", num_qubits)
    circuit = cirq.Circuit()
    for x, w, q in zip(inputs, weights, qubits, strict=True):
        circuit.append([cirq.ry(x)(q), cirq.rx(w)(q), cirq.rz(w)(q)])
    for i, j in _ring(num_qubits):
        if num_qubits > 2:
            circuit.append(cirq.H(qubits[i]))
        circuit.append(cirq.CNOT(qubits[i], qubits[j]))
    return CircuitSpec(circuit, inputs, [weights], [cirq.Z(q) for q in qubits])


@functools.lru_cache(maxsize=64)
def _hardware_efficient(num_qubits: int, num_layers: int, reupload: bool) -> CircuitSpec:
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = _symbols("x", num_qubits)
    weights = _symbols("w", (3 * num_layers - 1) * num_qubits)
    unused = iter(weights)
    circuit = cirq.Circuit()
    for layer in range(num_layers):
        last = layer == num_layers - 1
        for x, q in zip(inputs, qubits, strict=True):
            if reupload or layer == 0:
                circuit.append(cirq.rx(x)(q))
            circuit.append([cirq.rz(next(unused))(q), cirq.ry(next(unused))(q)])
            if not last:
                circuit.append(cirq.rz(next(unused))(q))
        circuit.append(_cz_ring(qubits))
    return CircuitSpec(circuit, inputs, weights, [cirq.Z(q) for q in qubits])


@functools.lru_cache(maxsize=16)
def _patch(num_blocks: int, num_qubits: int, num_features: int, num_values: int) -> CircuitSpec:
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = _symbols("x", num_features)
    weights = _symbols("w", 6 * num_blocks * num_qubits + 2 * num_features)
    unused = iter(weights)
    ring = _cz_ring(qubits)

    def entangling_blocks() -> Iterator[cirq.OP_TREE]:
        for _ in range(num_blocks):
            yield [cirq.rx(next(unused))(q) for q in qubits]
            yield [cirq.ry(next(unused))(q) for q in qubits]
            yield ring

    per_qubit = -(-num_features // (2 * num_qubits))

    def data_block(features: tuple[sympy.Symbol, ...]) -> Iterator[cirq.OP_TREE]:
        for i, q in enumerate(qubits):
            for j, x in enumerate(features[per_qubit * i : per_qubit * (i + 1)]):
                outer, inner = (cirq.ry, cirq.rx) if j % 2 == 0 else (cirq.rx, cirq.ry)
                yield [outer(next(unused))(q), inner(x)(q), outer(next(unused))(q)]
        yield ring

    half = per_qubit * num_qubits
    operations = [
        *entangling_blocks(),
        *data_block(inputs[:half]),
        *entangling_blocks(),
        *data_block(inputs[half:]),
        *entangling_blocks(),
    ]
    # The last group ends with its block's ring, which the source leaves out.
    circuit = cirq.Circuit(operations[:-1])
    num_x = -(-num_values // 2)
    observables = [cirq.X(q) for q in qubits[:num_x]]
    observables += [cirq.Z(q) for q in qubits[: num_values - num_x]]
    return CircuitSpec(circuit, inputs, weights, observables)
