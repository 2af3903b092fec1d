"""PennyLane: `default.qubit` under JAX's jit, and Lightning with adjoint gradients."""

from __future__ import annotations

from benchmarks import circuits
from benchmarks.cases import LARGEST_STATE, Case, Refused, Subject, arrays

# Lightning gets as many rows as have this many gates together, 32 at most: Python hands it over
# gate by gate, and a deep circuit would take minutes a call.
LIGHTNING_GATES = 10_000
LIGHTNING_ROWS = 32


def _apply(qml, circuit: circuits.Circuit, inputs, weights) -> list:
    """Queue the circuit's gates, and return its measurements; one row of inputs, or many."""
    turns = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ}
    fixed = {"h": qml.Hadamard, "cnot": qml.CNOT, "cz": qml.CZ}
    for gate in circuit.gates:
        if gate.source is None:
            fixed[gate.name](wires=gate.qubits)
        else:
            angle = weights[gate.index] if gate.source == "w" else inputs[..., gate.index]
            turns[gate.name](angle, wires=gate.qubits)
    paulis = {"X": qml.PauliX, "Z": qml.PauliZ}
    return [qml.expval(paulis[pauli](qubit)) for pauli, qubit in circuit.observables]


class PennyLaneJax:
    """`default.qubit`, backpropagation through JAX, one jitted function."""

    def __init__(self):
        import jax
        import pennylane

        self._jax, self._qml = jax, pennylane

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's circuit, compiled at its first call."""
        jax, qml = self._jax, self._qml
        circuit = case.circuit()
        if circuit.num_qubits > LARGEST_STATE:
            raise Refused(f"a state vector of {circuit.num_qubits} qubits")

        @qml.qnode(qml.device("default.qubit", wires=circuit.num_qubits), diff_method="backprop")
        def node(inputs, weights):
            return _apply(qml, circuit, inputs, weights)

        def values(inputs, weights):
            return jax.numpy.stack(node(inputs, weights), -1)

        # PennyLane has two ways to take a batch. Measured at 8 qubits, 2048 rows: one layer 0.064 s
        # by vmap, 0.089 s by broadcasting; six layers 0.54 s by vmap, 0.46 s by broadcasting.
        if case.num_layers == 1:
            values = jax.vmap(values, (0, None))

        @jax.jit
        def gradient(inputs, weights, upstream):
            result, pull_back = jax.vjp(values, inputs, weights)
            return result, *pull_back(upstream)

        operands = [jax.numpy.asarray(array) for array in arrays(case)]
        return {"quantum": Subject(lambda: jax.block_until_ready(gradient(*operands)))}


class PennyLaneLightning:
    """`lightning.qubit` with adjoint differentiation: C++, one row after another."""

    def __init__(self):
        import pennylane

        self._qml = pennylane

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's circuit on its first rows; the others would take as long each."""
        from pennylane import numpy

        qml, circuit = self._qml, case.circuit()
        if circuit.num_qubits > LARGEST_STATE:
            raise Refused(f"a state vector of {circuit.num_qubits} qubits")
        rows = max(1, min(case.batch, LIGHTNING_ROWS, LIGHTNING_GATES // len(circuit.gates)))
        device = qml.device("lightning.qubit", wires=circuit.num_qubits)

        @qml.qnode(device, interface="autograd", diff_method="adjoint")
        def node(inputs, weights):
            return _apply(qml, circuit, inputs, weights)

        inputs, weights, upstream = (numpy.array(array) for array in arrays(case))
        upstream = upstream[:rows]
        values = []

        def loss(inputs, weights):
            result = numpy.stack(node(inputs, weights), -1)
            values.append(getattr(result, "_value", result))
            return numpy.sum(result * upstream)

        gradient = qml.grad(loss, argnums=(0, 1))

        def call():
            values.clear()
            by_inputs, _ = gradient(inputs[:rows], weights)
            return values[0], by_inputs

        note = f"{rows} of {case.batch} rows, scaled" if rows < case.batch else ""
        return {"quantum": Subject(call, case.batch / rows, note)}
