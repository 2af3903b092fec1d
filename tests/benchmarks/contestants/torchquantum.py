"""TorchQuantum: functional gates in dynamic mode on a batched device, gradients by autograd."""

from __future__ import annotations

from benchmarks.cases import LARGEST_STATE, Case, Refused, Subject, arrays


class TorchQuantum:
    """Its default "bmm" application of gates, which was as fast as "einsum" or faster."""

    def __init__(self):
        import torch
        import torchquantum

        self._torch, self._tq = torch, torchquantum

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's circuit; nothing is compiled."""
        torch, tq = self._torch, self._tq
        circuit = case.circuit()
        if circuit.num_qubits > LARGEST_STATE:
            raise Refused(f"a state vector of {circuit.num_qubits} qubits")
        names = {name: name for name in ("rx", "ry", "rz", "cnot", "cz")} | {"h": "hadamard"}
        gates = {name: getattr(tq.functional, function) for name, function in names.items()}
        wires = {pauli: [q for p, q in circuit.observables if p == pauli] for pauli in "XZ"}
        measure = tq.MeasureAll(tq.PauliZ)
        place = "cuda" if torch.cuda.is_available() else "cpu"
        inputs, weights, upstream = (torch.from_numpy(a).to(place) for a in arrays(case))
        inputs.requires_grad_()
        weights.requires_grad_()

        def call():
            inputs.grad = weights.grad = None
            device = tq.QuantumDevice(circuit.num_qubits, bsz=case.batch, device=place)
            for gate in circuit.gates:
                params = None
                if gate.source is not None:
                    # A weight's gate is one matrix for the whole batch.
                    params = inputs[:, gate.index] if gate.source == "x" else weights[gate.index]
                gates[gate.name](device, wires=list(gate.qubits), params=params)
            values = measure(device)[:, wires["Z"]]
            if wires["X"]:
                for wire in wires["X"]:
                    gates["h"](device, wires=[wire])
                values = torch.cat([measure(device)[:, wires["X"]], values], -1)
            (values * upstream).sum().backward()
            # To the host, which also waits for a GPU.
            return tuple(t.cpu().numpy() for t in (values.detach(), inputs.grad, weights.grad))

        return {"quantum": Subject(call)}
