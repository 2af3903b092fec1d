"""The benchmark's circuits as plain data, for peers that know neither Cirq nor this package.

A circuit is a sequence of blocks, and a block says how often it stands in a row: a peer that can
loop over equal layers is given the chance. `test_circuits.py` holds that these are the templates
of `qrkt_keras.circuits`.
"""

from __future__ import annotations

from dataclasses import dataclass

PATCH_QUBITS = 8
PATCH_FEATURES = 64


@dataclass(frozen=True)
class Gate:
    """A gate: "rx", "ry", "rz" by an angle, or "h", "cnot", "cz" without one.

    Args:
        name: of the gate.
        qubits: their indices, a control first.
        source: "x" for an input, "w" for a weight, None without an angle.
        index: of that input; of that weight, counted from the first of its block's repetition.
    """

    name: str
    qubits: tuple[int, ...]
    source: str | None = None
    index: int = 0


@dataclass(frozen=True)
class Block:
    """Gates that stand `count` times in a row; each repetition has its own weights.

    Args:
        gates: of one repetition.
        count: of repetitions.
    """

    gates: tuple[Gate, ...]
    count: int = 1

    @property
    def num_weights(self) -> int:
        """Weights of one repetition; two gates may share one."""
        return len({gate.index for gate in self.gates if gate.source == "w"})


@dataclass(frozen=True)
class Circuit:
    """Blocks in the order of execution, then expectation values of single Paulis.

    Args:
        num_qubits: of qubits, all of which start in |0>.
        num_inputs: of input angles.
        blocks: in order.
        observables: pairs of "X" or "Z" and a qubit's index.
    """

    num_qubits: int
    num_inputs: int
    blocks: tuple[Block, ...]
    observables: tuple[tuple[str, int], ...]

    @property
    def num_weights(self) -> int:
        """Weights of all repetitions."""
        return sum(block.num_weights * block.count for block in self.blocks)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All gates one after another, weights counted from the circuit's first."""
        gates, first = [], 0
        for block in self.blocks:
            for _ in range(block.count):
                for gate in block.gates:
                    shift = first if gate.source == "w" else 0
                    gates.append(Gate(gate.name, gate.qubits, gate.source, gate.index + shift))
                first += block.num_weights
        return tuple(gates)


def get(template: str, num_qubits: int, num_layers: int) -> Circuit:
    """The circuit of a template's name; `num_layers` is d for `patch`."""
    return _TEMPLATES[template](num_qubits, num_layers)


def _rotations(name: str, source: str, num_qubits: int, first: int = 0) -> tuple[Gate, ...]:
    return tuple(Gate(name, (qubit,), source, first + qubit) for qubit in range(num_qubits))


def _ring(name: str, num_qubits: int) -> tuple[Gate, ...]:
    """Two-qubit gates between neighbours; two qubits are one pair, one qubit is none."""
    count = num_qubits if num_qubits > 2 else num_qubits - 1
    return tuple(Gate(name, (j, (j + 1) % num_qubits)) for j in range(count))


def _all_z(num_qubits: int) -> tuple[tuple[str, int], ...]:
    return tuple(("Z", qubit) for qubit in range(num_qubits))


def _rx_ring(n: int, num_layers: int) -> Circuit:
    layer = _rotations("rx", "w", n) + _ring("cnot", n)
    blocks = (Block(_rotations("rx", "x", n)), Block(layer, num_layers))
    return Circuit(n, n, blocks, _all_z(n))


def _ry_ring(n: int, num_layers: int) -> Circuit:
    gates = []
    for j in range(n):
        gates += [Gate("ry", (j,), "x", j), Gate("rx", (j,), "w", j), Gate("rz", (j,), "w", j)]
    for cnot in _ring("cnot", n):
        gates += [Gate("h", cnot.qubits[:1]), cnot] if n > 2 else [cnot]
    return Circuit(n, n, (Block(tuple(gates), num_layers),), _all_z(n))


def _hardware_efficient(n: int, num_layers: int) -> Circuit:
    def layer(num_turns: int) -> tuple[Gate, ...]:
        gates = []
        for j in range(n):
            gates.append(Gate("rx", (j,), "x", j))
            for turn, name in enumerate(("rz", "ry", "rz")[:num_turns]):
                gates.append(Gate(name, (j,), "w", num_turns * j + turn))
        return (*gates, *_ring("cz", n))

    blocks = (Block(layer(3), num_layers - 1), Block(layer(2)))
    return Circuit(n, n, blocks[num_layers == 1 :], _all_z(n))


def _patch(n: int, num_blocks: int) -> Circuit:
    turns = _rotations("rx", "w", n) + _rotations("ry", "w", n, first=n)
    ring = _ring("cz", n)

    def data(first: int) -> Block:
        gates = []
        for i in range(n):
            for j in range(4):
                outer, inner = ("ry", "rx") if j % 2 == 0 else ("rx", "ry")
                weight = 8 * i + 2 * j
                gates += [
                    Gate(outer, (i,), "w", weight),
                    Gate(inner, (i,), "x", first + 4 * i + j),
                    Gate(outer, (i,), "w", weight + 1),
                ]
        return Block((*gates, *ring))

    blocks = [Block(turns + ring, num_blocks), data(0), Block(turns + ring, num_blocks), data(32)]
    if num_blocks > 1:
        blocks.append(Block(turns + ring, num_blocks - 1))
    # The very last ring is left out.
    blocks.append(Block(turns))
    observables = tuple((pauli, qubit) for pauli in "XZ" for qubit in range(5))
    return Circuit(PATCH_QUBITS, PATCH_FEATURES, tuple(blocks), observables)


_TEMPLATES = {
    "rx_ring": _rx_ring,
    "ry_ring": _ry_ring,
    "hardware_efficient": _hardware_efficient,
    "patch": _patch,
}
