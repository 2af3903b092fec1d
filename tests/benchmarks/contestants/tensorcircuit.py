"""TensorCircuit-NG on JAX: complex64, jit, vmap over the batch."""

from __future__ import annotations

from benchmarks.cases import LARGEST_STATE, Case, Refused, Subject, arrays


class TensorCircuit:
    """Every gate written out, as in TensorCircuit's first examples."""

    scan = False

    def __init__(self):
        import jax
        import tensorcircuit

        tensorcircuit.set_backend("jax")
        tensorcircuit.set_dtype("complex64")
        self._jax, self._tc = jax, tensorcircuit

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's circuit, compiled at its first call."""
        jax, tc = self._jax, self._tc
        circuit = case.circuit()
        if circuit.num_qubits > LARGEST_STATE:
            raise Refused(f"a state vector of {circuit.num_qubits} qubits")

        def apply(state, gates, inputs, weights):
            sources = {"x": inputs, "w": weights}
            for gate in gates:
                angle = {"theta": sources[gate.source][gate.index]} if gate.source else {}
                getattr(state, gate.name)(*gate.qubits, **angle)
            return state

        def scanned(inputs, weights):
            state, first = tc.Circuit(circuit.num_qubits), 0
            for block in circuit.blocks:
                last = first + block.count * block.num_weights
                own = weights[first:last].reshape(block.count, block.num_weights)
                first = last
                if block.count == 1:
                    apply(state, block.gates, inputs, own[0])
                    continue

                def step(vector, own, gates=block.gates):
                    layer = tc.Circuit(circuit.num_qubits, inputs=vector)
                    return apply(layer, gates, inputs, own).state(), None

                vector, _ = jax.lax.scan(step, state.state(), own)
                state = tc.Circuit(circuit.num_qubits, inputs=vector)
            return state

        def row(inputs, weights):
            if self.scan:
                state = scanned(inputs, weights)
            else:
                state = apply(tc.Circuit(circuit.num_qubits), circuit.gates, inputs, weights)
            paulis = [{pauli.lower(): [qubit]} for pauli, qubit in circuit.observables]
            return jax.numpy.stack([tc.backend.real(state.expectation_ps(**p)) for p in paulis])

        @jax.jit
        def gradient(inputs, weights, upstream):
            values, pull_back = jax.vjp(jax.vmap(row, (0, None)), inputs, weights)
            return values, *pull_back(upstream)

        operands = [jax.numpy.asarray(array) for array in arrays(case)]
        return {"quantum": Subject(lambda: jax.block_until_ready(gradient(*operands)))}


class TensorCircuitScan(TensorCircuit):
    """Equal layers in a scan, as TensorCircuit advises for deep circuits."""

    scan = True
