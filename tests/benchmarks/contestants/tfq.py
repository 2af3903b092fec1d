"""TensorFlow Quantum: its expectation op with the adjoint differentiator, not this package's."""

from __future__ import annotations

from benchmarks import circuits
from benchmarks.cases import LARGEST_STATE, Case, Refused, Subject, arrays


class TFQ:
    """One circuit tensor for all rows; the angles are resolved row by row."""

    def __init__(self):
        import cirq
        import sympy
        import tensorflow
        import tensorflow_quantum

        self._cirq, self._sympy = cirq, sympy
        self._tf, self._tfq = tensorflow, tensorflow_quantum

    def _cirq_circuit(self, circuit: circuits.Circuit):
        cirq = self._cirq
        turns = {"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}
        fixed = {"h": cirq.H, "cnot": cirq.CNOT, "cz": cirq.CZ}
        qubits = cirq.GridQubit.rect(1, circuit.num_qubits)
        built = cirq.Circuit()
        for gate in circuit.gates:
            where = [qubits[qubit] for qubit in gate.qubits]
            if gate.source is None:
                built.append(fixed[gate.name](*where))
            else:
                symbol = self._sympy.Symbol(f"{gate.source}{gate.index}")
                built.append(turns[gate.name](symbol)(*where))
        paulis = {"X": cirq.X, "Z": cirq.Z}
        return built, [paulis[pauli](qubits[qubit]) for pauli, qubit in circuit.observables]

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's circuit, serialised once."""
        tf, tfq = self._tf, self._tfq
        circuit = case.circuit()
        if circuit.num_qubits > LARGEST_STATE:
            raise Refused(f"a state vector of {circuit.num_qubits} qubits")
        program, observables = self._cirq_circuit(circuit)
        programs = tf.repeat(tfq.convert_to_tensor([program]), case.batch)
        operators = tf.repeat(tfq.convert_to_tensor([observables]), case.batch, axis=0)
        names = [f"x{i}" for i in range(circuit.num_inputs)]
        names += [f"w{i}" for i in range(circuit.num_weights)]
        expectation = tfq.differentiators.Adjoint().generate_differentiable_op(
            analytic_op=tfq.get_expectation_op()
        )
        inputs, weights, upstream = (tf.constant(array) for array in arrays(case))

        @tf.function
        def gradient(inputs, weights, upstream):
            with tf.GradientTape() as tape:
                tape.watch([inputs, weights])
                tiled = tf.broadcast_to(weights[None], (case.batch, circuit.num_weights))
                angles = tf.concat([inputs, tiled], -1)
                values = expectation(programs, tf.constant(names), angles, operators)
            return values, *tape.gradient(values, [inputs, weights], output_gradients=upstream)

        def call():
            return tuple(array.numpy() for array in gradient(inputs, weights, upstream))

        return {"quantum": Subject(call)}
