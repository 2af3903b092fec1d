"""The plan: which engine runs a circuit, why, and what each would cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution import light_cone, pauli_propagation, sampling, state_vector, tfq
from qrkt_keras.execution.components import (
    Split,
    check_max_qubits,
    components,
    factor_error,
    narrow_circuits,
)
from qrkt_keras.execution.errors import UnsupportedCircuitError

# What a layer or a model may be made with. "sampling" needs a sampler, which is no plain data, so
# it is only for what is made already.
ENGINES = ("auto", pauli_propagation.NAME, state_vector.NAME, tfq.NAME)

# Seconds of value and gradient: so many an operation, so many a multiply-add of the forward pass.
# Fitted to the table tests/benchmarks/calibration.json by tests/benchmarks/calibrate.py.
COEFFICIENTS = {
    pauli_propagation.NAME: (1.75e-5, 2.61e-9),
    state_vector.NAME: (1.53e-4, 8.69e-11),
    tfq.NAME: (3.05e-3, 3.32e-10),
}
# A circuit with at most this many strings an observable needs no light cones beside them.
_FEW_STRINGS = 2
# Beyond so many qubits a whole state is not built to be costed where something plainly cheaper is
# there: light cones narrower by so many qubits, or few strings.
_LARGE, _NARROWER = 16, 4
# What is planned for where no batch is named: a layer's rows, images or sentences times tokens.
TYPICAL_BATCH = 256


@dataclass(frozen=True)
class Candidate:
    """One engine's offer: its estimated cost for a batch, or the reason why not.

    Args:
        engine: its name.
        multiply_adds: estimated, for the whole batch, forward only; None when refused.
        num_bytes: estimated peak of intermediate values of value and gradient; None when refused.
        seconds: estimated time of value and gradient on the machine of the calibration (two CPU
            cores, TensorFlow without XLA): to compare engines by; None when refused.
        note: how the engine would do it, if there is something to say.
        refusal: why the engine does not accept the circuit, or None.
    """

    engine: str
    multiply_adds: float | None = None
    num_bytes: float | None = None
    seconds: float | None = None
    note: str = ""
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
                    f"{1e3 * candidate.seconds:.3g} ms, {candidate.multiply_adds:.3g} "
                    f"multiply-adds, {candidate.num_bytes / 1e6:.3g} MB"
                )
                text += f" ({candidate.note})" if candidate.note else ""
            lines.append(f"{mark} {candidate.engine:<{width}}  {text}")
        return "\n".join(lines)


def plan(spec: CircuitSpec, batch: int = TYPICAL_BATCH, engine: str = "auto") -> Plan:
    """Choose the engine for a circuit: the fastest exact one that compiles, or the one asked for.

    The estimate is `seconds = a * operations + b * batch * multiply_adds`, with coefficients for
    each engine that were fitted to measurements.

    "sampling" is used only when asked for by name, and has no estimate: what it costs is its
    sampler's affair.

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
    if engine != sampling.NAME:
        check_engine(engine)
    if not isinstance(spec, CircuitSpec):
        raise TypeError(f"spec must be a CircuitSpec. Received: {spec!r}")
    if type(batch) is not int or batch < 0:
        raise ValueError(f"batch must be a whole number of at least 0. Received: {batch!r}")
    candidates = tuple(_offer(name, spec, batch, engine) for name in ENGINES[1:])
    by_name = {candidate.engine: candidate for candidate in candidates}
    if engine == sampling.NAME:
        return Plan(engine, "asked for by name, for its sampler", batch, candidates)
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
    chosen = min(exact, key=lambda candidate: candidate.seconds)
    reason = (
        "the least estimated time of the engines that accept it"
        if len(exact) > 1
        else "the only exact engine that accepts it and compiles"
    )
    return Plan(chosen.engine, reason, batch, candidates)


def make_engine(
    spec: CircuitSpec,
    engine: str = "auto",
    differentiator: str | None = None,
    repetitions: int | None = None,
    **sampled,
):
    """The engine that the plan names, ready to run.

    Args:
        spec: the circuit.
        engine: "auto" or an engine's name; "sampling" too.
        differentiator: for `engine="tfq"` only.
        repetitions: for `engine="tfq"` and `engine="sampling"`.
        **sampled: for `engine="sampling"`: `sampler`, the other arguments of
            `execution.Sampling`, and `max_qubits`: a circuit with more runs as parts, see
            `execution.Split` (by default, as `compiled` has it). Without `compiled`, the sampler's
            qubits are then those of the parts, `cirq.LineQubit`s from 0 on.

    Returns:
        An object with `name`, `supports_jit` and `expectation(inputs, weights)`.

    Raises:
        ValueError: an unknown engine, an argument of another engine, or no sampler.
        UnsupportedCircuitError: the engine refuses the circuit.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> make_engine(templates.rx_ring(3)).name
        'pauli_propagation'
    """
    check_engine_options(engine, sampled)
    if engine == sampling.NAME:
        if differentiator is not None:
            raise ValueError(
                "differentiator belongs to engine='tfq'; sampled gradients are by the "
                f"parameter-shift rule. Received: differentiator={differentiator!r}"
            )
        return _sampling(spec, repetitions=repetitions, **sampled)
    if engine == tfq.NAME:
        return tfq.TFQ(spec, differentiator, repetitions)
    if differentiator is not None or repetitions is not None:
        raise ValueError(
            "differentiator and repetitions belong to engine='tfq', repetitions to "
            f"engine='sampling' too. Received: engine={engine!r}, "
            f"differentiator={differentiator!r}, repetitions={repetitions!r}"
        )
    return _engine(plan(spec, engine=engine).engine, spec)


def _sampling(spec: CircuitSpec, max_qubits: int | None = None, **options):
    compiled = options.get("compiled")
    packed = None
    if max_qubits is None:
        max_qubits = getattr(compiled, "max_qubits", None)
        packed = getattr(compiled, "packed_qubits", None)
    else:
        check_max_qubits(max_qubits)
    if max_qubits is None or spec.num_qubits <= max_qubits:
        return sampling.Sampling(spec, **options)
    target = options.get("standard_error")
    sampling.check_options(
        options["sampler"], options.get("repetitions"), target, options.get("timeout")
    )
    options["noise_scales"] = sampling.noise_scales_of(options.get("noise_scales", (1,)))
    if target is not None:
        found = components(spec, packed or max_qubits)
        is_product = any(len(product) > 1 for product in found.products)
        if is_product and len(options["noise_scales"]) > 1:
            # What is extrapolated may be above 1, and a product of many such is not bounded.
            raise ValueError(
                "standard_error is not for values that are extrapolated and then multiplied: take "
                f"repetitions. Received: standard_error={target!r}, "
                f"noise_scales={options['noise_scales']}, max_qubits={max_qubits}"
            )
        programs = [
            program
            for narrow in narrow_circuits(spec, max_qubits, packed)
            for program in sampling.programs_of(narrow, compiled)
        ]
        square = sampling.worst_mean_square(programs, options.get("readout_errors"))
        options["standard_error"] = factor_error(found, target, square)
    return Split(spec, max_qubits, lambda part: sampling.Sampling(part, **options), packed)


def reduced_state_vector(spec: CircuitSpec) -> state_vector.StateVector | light_cone.LightCone:
    """The state-vector engine of a circuit: on its light cones where that is cheaper.

    Args:
        spec: the circuit.

    Raises:
        UnsupportedCircuitError: neither the circuit nor its cones fit the memory.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> reduced_state_vector(templates.hardware_efficient(20, num_layers=3)).cones.max_qubits
        5
    """
    cones = light_cone.cones(spec)
    if cones.is_whole:
        return state_vector.StateVector(spec)
    cut = light_cone.LightCone(spec)
    if spec.num_qubits > _LARGE and cones.max_qubits <= spec.num_qubits - _NARROWER:
        return cut
    try:
        whole = state_vector.StateVector(spec)
    except UnsupportedCircuitError:
        return cut
    return min(cut, whole, key=lambda engine: _seconds(engine, TYPICAL_BATCH))


def _seconds(engine, batch: int) -> float:
    per_operation, per_multiply_add = COEFFICIENTS[engine.name]
    return per_operation * engine.num_operations + per_multiply_add * engine.multiply_adds(batch)


def check_engine_options(engine: str, sampled: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown engine, options of another one, or a lacking sampler.

    Args:
        engine: one of `ENGINES`, or "sampling".
        sampled: options that belong to "sampling".
    """
    if engine != sampling.NAME:
        check_engine(engine)
        if sampled:
            names = ", ".join(sorted(sampled))
            raise ValueError(f"{names} belong to engine='sampling'. Received: engine={engine!r}")
    elif sampled.get("sampler") is None:
        raise ValueError(
            "engine='sampling' needs a cirq.Sampler as sampler, such as cirq.Simulator() or "
            "hardware.virtual_machine('weber'). Received: sampler=None"
        )


def saved_engine(engine: str) -> str:
    """The engine that a configuration holds: no sampler goes into one."""
    return "auto" if engine == sampling.NAME else engine


def check_engine(engine: str) -> None:
    """Raise ValueError unless `engine` is one of `ENGINES`."""
    if engine == sampling.NAME:
        raise ValueError(
            "engine='sampling' needs a sampler, which a model's arguments cannot hold: make the "
            "model with another engine, then call set_engine('sampling', sampler=...). "
            f"Received: {engine!r}"
        )
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}. Received: {engine!r}")


@functools.lru_cache(maxsize=256)
def _engine(name: str, spec: CircuitSpec):
    """An engine, or of TFQ's what says its costs. Engines are not changed by running."""
    if name == pauli_propagation.NAME:
        return pauli_propagation.PauliPropagation(spec)
    if name == state_vector.NAME:
        return reduced_state_vector(spec)
    tfq.check(spec)
    return tfq.Costs(spec)


def _offer(name: str, spec: CircuitSpec, batch: int, asked: str) -> Candidate:
    try:
        if name == state_vector.NAME and spec.num_qubits > _LARGE and _needs_no_state(spec):
            # At hundreds of qubits the search for light cones would take longer than the answer.
            state_vector.check_memory(spec)
            if asked != name:
                reason = f"{pauli_propagation.NAME} needs no state of {spec.num_qubits} qubits"
                return Candidate(name, refusal=f"not costed: {reason}")
        engine = _engine(name, spec)
    except UnsupportedCircuitError as error:
        return Candidate(name, refusal=error.reason)
    note = ""
    if isinstance(engine, light_cone.LightCone):
        groups = engine.cones.groups
        note = " and ".join(
            f"{group.num_copies} light cones of {group.spec.num_qubits} qubits" for group in groups
        )
    return Candidate(
        name,
        multiply_adds=engine.multiply_adds(batch),
        num_bytes=engine.num_bytes(batch),
        seconds=_seconds(engine, batch),
        note=note,
    )


def _needs_no_state(spec: CircuitSpec) -> bool:
    try:
        strings = _engine(pauli_propagation.NAME, spec).num_strings
    except UnsupportedCircuitError:
        return False
    return strings <= _FEW_STRINGS * spec.num_observables
