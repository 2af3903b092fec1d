"""The plan: which engine runs a circuit, why, and what each would cost."""

from __future__ import annotations

from dataclasses import dataclass

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import pauli_propagation, state_vector, tfq
from qrkt_keras.execution.errors import UnsupportedCircuitError

ENGINES = ("auto", pauli_propagation.NAME, state_vector.NAME, tfq.NAME)

# What TFQ's copies between protos and states cost beside its arithmetic, in multiply-adds a row:
# one 8-qubit layer takes it about 100 us a row on two cores.
_TFQ_OVERHEAD = 1e5


@dataclass(frozen=True)
class Candidate:
    """One engine's offer: multiply-adds and bytes for a batch, or the reason why not.

    Args:
        engine: its name.
        multiply_adds: estimated, for the whole batch, forward only; None when refused.
        num_bytes: estimated peak of intermediate values; None when refused.
        refusal: why the engine does not accept the circuit, or None.
    """

    engine: str
    multiply_adds: float | None = None
    num_bytes: float | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Plan:
    """The engine chosen for a circuit.

    Args:
        engine: the engine that will run it.
        reason: why, in words.
        batch: the number of examples that the estimates are for.
        candidates: every engine's offer.
    """

    engine: str
    reason: str
    batch: int
    candidates: tuple[Candidate, ...]

    def explain(self) -> str:
        """The choice, its reason and every engine's estimated cost, as a small table.

        Example:
            >>> from qrkt_keras.circuits import templates
            >>> print(plan(templates.rx_ring(384), batch=64).explain().splitlines()[0])
            engine: pauli_propagation (the only exact engine that accepts it and compiles)
        """
        lines = [f"engine: {self.engine} ({self.reason})", f"batch: {self.batch}"]
        width = max(len(candidate.engine) for candidate in self.candidates)
        for candidate in self.candidates:
            mark = "*" if candidate.engine == self.engine else " "
            if candidate.refusal is not None:
                text = f"refused: {candidate.refusal}"
            else:
                text = (
                    f"{candidate.multiply_adds:.3g} multiply-adds, "
                    f"{candidate.num_bytes / 1e6:.3g} MB"
                )
            lines.append(f"{mark} {candidate.engine:<{width}}  {text}")
        return "\n".join(lines)


def plan(spec: CircuitSpec, batch: int = 64, engine: str = "auto") -> Plan:
    """Choose the engine for a circuit: the cheapest exact one that compiles, or the one asked for.

    `tfq` is offered beside the others but never chosen by "auto": it cannot compile under XLA, has
    no second derivative, and its adjoint gradient is right to about 2e-4 only.

    Args:
        spec: the circuit.
        batch: how many examples (rows times copies) a call has.
        engine: "auto", or the name of an engine that must be used.

    Returns:
        A frozen Plan.

    Raises:
        TypeError: `spec` is not a CircuitSpec.
        ValueError: an unknown engine, or a negative batch.
        UnsupportedCircuitError: the engine asked for, or every engine, refuses the circuit.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> plan(templates.ry_ring(6), batch=64).engine
        'pauli_propagation'
    """
    check_engine(engine)
    if not isinstance(spec, CircuitSpec):
        raise TypeError(f"spec must be a CircuitSpec. Received: {spec!r}")
    if type(batch) is not int or batch < 0:
        raise ValueError(f"batch must be a whole number of at least 0. Received: {batch!r}")
    candidates = tuple(_offer(name, spec, batch) for name in ENGINES[1:])
    by_name = {candidate.engine: candidate for candidate in candidates}
    if engine != "auto":
        if by_name[engine].refusal is not None:
            raise UnsupportedCircuitError(engine, by_name[engine].refusal)
        return Plan(engine, "asked for by name", batch, candidates)
    exact = [
        candidate
        for candidate in candidates
        if candidate.refusal is None and candidate.engine != tfq.NAME
    ]
    if not exact:
        refusals = "; ".join(f"{c.engine}: {c.refusal}" for c in candidates if c.refusal)
        raise UnsupportedCircuitError("auto", refusals)
    chosen = min(exact, key=lambda candidate: candidate.multiply_adds)
    reason = (
        "the fewest multiply-adds of the engines that accept it"
        if len(exact) > 1
        else "the only exact engine that accepts it and compiles"
    )
    return Plan(chosen.engine, reason, batch, candidates)


def make_engine(
    spec: CircuitSpec,
    engine: str = "auto",
    differentiator: str | None = None,
    repetitions: int | None = None,
):
    """The engine that the plan names, ready to run.

    Args:
        spec: the circuit.
        engine: "auto" or an engine's name.
        differentiator, repetitions: for `engine="tfq"` only.

    Returns:
        An object with `name`, `supports_jit` and `expectation(inputs, weights)`.

    Raises:
        ValueError: an unknown engine, or `differentiator` or `repetitions` for another than `tfq`.
        UnsupportedCircuitError: the engine refuses the circuit.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> make_engine(templates.rx_ring(3)).name
        'pauli_propagation'
    """
    check_engine(engine)
    if engine == tfq.NAME:
        return tfq.TFQ(spec, differentiator, repetitions)
    if differentiator is not None or repetitions is not None:
        raise ValueError(
            "differentiator and repetitions belong to engine='tfq'. Received: "
            f"engine={engine!r}, differentiator={differentiator!r}, repetitions={repetitions!r}"
        )
    name = plan(spec, engine=engine).engine
    engines = {
        pauli_propagation.NAME: pauli_propagation.PauliPropagation,
        state_vector.NAME: state_vector.StateVector,
    }
    return engines[name](spec)


def check_engine(engine: str) -> None:
    """Raise ValueError unless `engine` is one of `ENGINES`."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}. Received: {engine!r}")


def _offer(name: str, spec: CircuitSpec, batch: int) -> Candidate:
    try:
        if name == pauli_propagation.NAME:
            engine = pauli_propagation.PauliPropagation(spec)
            flops, values = engine.flops, engine.flops
        elif name == state_vector.NAME:
            engine = state_vector.StateVector(spec)
            # Backpropagation keeps the state after every step.
            flops, values = engine.flops, 2.0 * 2**spec.num_qubits * len(spec.circuit)
        else:
            tfq.check(spec)
            flops, values = tfq.flops(spec) + _TFQ_OVERHEAD, 2.0 * 2**spec.num_qubits
    except UnsupportedCircuitError as error:
        return Candidate(name, refusal=error.reason)
    return Candidate(name, multiply_adds=batch * flops, num_bytes=4.0 * batch * values)
