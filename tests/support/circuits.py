"""Circuits that tests of several engines and backends run."""

from __future__ import annotations

import cirq
import numpy as np
import sympy

from qrkt_keras.circuits import CircuitSpec


def scaled_reupload(num_qubits: int = 6, num_layers: int = 9) -> CircuitSpec:
    """Every layer encodes the data times weights of its own, and XX rotations entangle."""
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols(f"x0:{num_qubits}")
    weights = iter(sympy.symbols(f"w0:{2 * num_qubits * num_layers}"))
    used, circuit = [], cirq.Circuit()
    for _ in range(num_layers):
        for qubit, x in zip(qubits, inputs, strict=True):
            used.append(next(weights))
            circuit.append(cirq.ry(used[-1] * x).on(qubit))
        for a, b in zip(qubits, qubits[1:] + qubits[:1], strict=True):
            used.append(next(weights))
            circuit.append(cirq.XXPowGate(exponent=used[-1] / sympy.pi).on(a, b))
    return CircuitSpec(circuit, inputs, used, [cirq.Z(q) for q in qubits])


def weights_around_data(num_qubits: int, num_layers: int) -> CircuitSpec:
    """Layers of weights, data, as many layers, the data again, and as many once more."""
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols(f"x0:{num_qubits}")
    weights = sympy.symbols(f"w0:{3 * num_layers * num_qubits}")
    runs = np.array(weights).reshape(3, num_layers, num_qubits)
    circuit = cirq.Circuit()
    for i, run in enumerate(runs):
        if i > 0:
            circuit.append(cirq.ry(x).on(q) for x, q in zip(inputs, qubits, strict=True))
        for layer in run:
            circuit.append(cirq.rx(w).on(q) for w, q in zip(layer, qubits, strict=True))
            circuit.append(cirq.CZ(*pair) for pair in zip(qubits, qubits[1:], strict=False))
    return CircuitSpec(circuit, inputs, weights, [cirq.Z(q) for q in qubits])


def random_spec(seed: int, num_qubits: int, num_moments: int) -> CircuitSpec:
    """Many gates of many kinds, in no pattern: data and weights alone, together and multiplied."""
    rng = np.random.default_rng(seed)
    qubits = cirq.LineQubit.range(num_qubits)
    inputs = sympy.symbols("x0:3")
    weights = sympy.symbols("w0:6")
    # Every symbol must be there.
    operations = [cirq.rx(s).on(q) for s, q in zip([*inputs, *weights], 9 * qubits, strict=False)]
    for _ in range(num_moments):
        angle = rng.choice([*inputs, *weights])
        if rng.random() < 0.3:
            angle = angle + rng.choice([*inputs, *weights])
        if rng.random() < 0.1:
            angle = angle * weights[0]
        operations.append(_gate(rng, angle, rng.permutation(qubits)))
    observables = [
        cirq.Z(qubits[0]) * cirq.X(qubits[1]) - 0.5 * cirq.Y(qubits[2]),
        cirq.PauliString({q: rng.choice([cirq.X, cirq.Y, cirq.Z]) for q in qubits}),
        2.0 * cirq.Z(qubits[-1]) + cirq.PauliString(coefficient=0.25),
    ]
    return CircuitSpec(cirq.Circuit(operations), inputs, weights, observables)


def _gate(rng, angle, qubits):
    a, b, c = qubits[:3]
    kind = int(rng.integers(12))
    turn = rng.choice([cirq.rx, cirq.ry, cirq.rz])
    if kind < 4:
        return turn(angle).on(a)
    if kind == 11:
        return cirq.ControlledGate(turn(angle)).on(a, b)
    if kind == 9:
        return cirq.CCX(a, b, c)
    pairs = {
        4: cirq.CZ,
        5: cirq.CNOT,
        6: cirq.ZZPowGate(exponent=angle / sympy.pi),
        7: cirq.XXPowGate(exponent=angle / sympy.pi),
        8: cirq.ISWAP**0.5,
        10: cirq.CZ**0.3,
    }
    return pairs[kind].on(a, b)
