"""Sampling: expectation values from the outcomes of any `cirq.Sampler`, a processor included."""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cirq
import keras
import numpy as np
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec, UnsupportedGateError
from qrkt_keras.circuits.separation import SeparatedCircuit, folded, separate
from qrkt_keras.execution.angles import Angles
from qrkt_keras.execution.errors import (
    RefusedRunError,
    SamplerError,
    UnsupportedCircuitError,
)
from qrkt_keras.execution.host_call import host_call
from qrkt_keras.execution.measurement import Group, measurements, repetitions_for
from qrkt_keras.execution.parameter_shift import reached, rounds, shift_rule

NAME = "sampling"
REPETITIONS = 1000
# Rows whose signs are made at a time.
_ROWS = 64
# The key under which a program's outcomes are.
KEY = "outcomes"


@dataclass(frozen=True, eq=False)
class Program:
    """A circuit that a sampler runs, and how its parameters follow from those of the spec.

    Args:
        circuit: with one measurement, under `KEY`.
        symbols: of its parameters.
        parameters: a function from the exponents of `circuits.separation`, `(rows, gates)`, to
            the parameters, `(rows, len(symbols))`.
        qubits: the measured ones, in the order of the outcomes.
        group: what the outcomes give; its qubits are the spec's, in the same order.
    """

    circuit: cirq.FrozenCircuit
    symbols: tuple[str, ...]
    parameters: Callable[[np.ndarray], np.ndarray]
    qubits: tuple[cirq.Qid, ...]
    group: Group

    def sweep(self, exponents: np.ndarray) -> cirq.Sweep:
        """One point a row."""
        if not self.symbols:
            return cirq.ListSweep([{}] * len(exponents))
        rows = self.parameters(exponents).tolist()
        return cirq.ListSweep([dict(zip(self.symbols, row, strict=True)) for row in rows])


class Compiled(Protocol):
    """What knows circuits' programs on a processor, such as `hardware.compile_for` returns."""

    def programs(self, spec: CircuitSpec, noise_scale: int) -> Sequence[Program]:
        """The programs whose groups have all terms of the spec's observables."""


class Sampling:
    r"""Expectation values as means of what a sampler measures, gradients by shifted circuits.

    Observables are measured in groups that commute qubit by qubit; the estimate of a Pauli string
    is the mean parity of its qubits' outcomes, so that of `O = sum_t c_t P_t` is unbiased and has
    the variance $\sum_g \mathrm{Var}_g / n_g$ of its groups. All rows and groups of a call are one
    `run_batch` of the sampler. The gradient is the parameter-shift rule's, gate by gate (see
    `parameter_shift.shift_rule`), so symbols may be shared, multiplied and added, and gates may
    have more than two eigenphases; its circuits are one `run_batch` again. It is computed for
    weights and for inputs apart, each only where something asks for it.

    It runs on the host, also in the middle of a compiled graph; XLA cannot compile it. What is
    random is the sampler's: a seed is given to that.

    Args:
        spec: the circuit.
        sampler: any `cirq.Sampler`: `cirq.Simulator(seed=0)`, `hardware.virtual_machine(...)`,
            `hardware.processor(...)`.
        repetitions: shots a group.
        standard_error: in the place of `repetitions`: what every value's standard error must not
            exceed; see `measurement.repetitions_for`.
        compiled: what `hardware.compile_for` returned, for a sampler that takes a processor's
            circuits only; None runs the circuit as it is.
        readout_errors: by qubit (of the processor, where compiled), the probabilities to read 1
            from 0 and 0 from 1. Parities are then corrected by the inverted confusion matrices,
            `Z' = (Z - p1 + p0) / (1 - p0 - p1)` a qubit, which costs variance.
        noise_scales: odd numbers, 1 for none: every gate on several qubits is repeated so often,
            with its inverse between, and values are extrapolated to no noise by the polynomial
            through all scales (Richardson). Without `compiled`, gates with symbols are repeated
            too, so that with noise their shift rule is exact up to that noise only.
        timeout: seconds that one `run_batch` may take; None for any.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`. Estimates from shots lie in [-1, 1] for Pauli strings;
        corrected ones may leave it.

    Raises:
        TypeError: `sampler` is not a cirq.Sampler.
        ValueError: a number is out of range, or both `repetitions` and `standard_error`.
        UnsupportedCircuitError: a gate has no shift rule.
        SamplerError: when called: the sampler raised, timed out, or returned too few shots.

    Example:
        >>> import cirq, numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> engine = Sampling(templates.ry_ring(2), cirq.Simulator(seed=0), repetitions=100)
        >>> engine.expectation(np.zeros((3, 1, 2), "float32"), np.zeros((1, 2), "float32")).shape
        TensorShape([3, 1, 2])
        >>> engine.num_circuits, engine.repetitions
        (1, (100,))
    """

    name = NAME
    supports_jit = False

    def __init__(
        self,
        spec: CircuitSpec,
        sampler: cirq.Sampler,
        *,
        repetitions: int | None = None,
        standard_error: float | None = None,
        compiled: Compiled | None = None,
        readout_errors: Mapping[cirq.Qid, Sequence[float]] | None = None,
        noise_scales: Sequence[int] = (1,),
        timeout: float | None = None,
    ):
        check_options(sampler, repetitions, standard_error, timeout)
        _check_processor(sampler, compiled)
        self.spec = spec
        self.sampler = sampler
        self.timeout = timeout
        self.noise_scales = noise_scales_of(noise_scales)
        try:
            self._separated = separate(spec)
        except UnsupportedGateError as error:
            raise UnsupportedCircuitError(NAME, str(error)) from error
        coefficients = richardson(self.noise_scales)
        # With what each program's values are multiplied, for all scales one after the other.
        self._programs: list[Program] = []
        self._coefficients: list[float] = []
        for scale, coefficient in zip(self.noise_scales, coefficients, strict=True):
            of_scale = programs_of(spec, compiled, scale)
            self._programs += of_scale
            self._coefficients += [coefficient] * len(of_scale)
        self._constants = np.asarray(measurements(spec).constants)
        self._corrections = [_correction(program, readout_errors) for program in self._programs]
        self.repetitions = self._repetitions(repetitions, standard_error)
        # Gates that data alone turn are shifted only where data have a gradient.
        symbols = set(spec.inputs)
        of_inputs = [bool(e.free_symbols) and e.free_symbols <= symbols for e in self.exponents]
        self._columns = tuple(
            [i for i, own in enumerate(of_inputs) if own == which] for which in (True, False)
        )
        self._angles = [
            Angles([self.exponents[column] for column in columns], spec)
            for columns in self._columns
        ]
        self._shifts = [shift_rule(frequencies) for frequencies in self._separated.frequencies]
        self._reach = reached(self._separated.circuit, self._separated.symbols, spec.observables)
        self._rounds = [rounds(columns, self._reach, self._shifts) for columns in self._columns]

    @property
    def exponents(self) -> tuple[sympy.Expr, ...]:
        """What the parametrised gates' exponents are, see `circuits.separation`."""
        return self._separated.exponents

    @property
    def num_circuits(self) -> int:
        """Circuits that one row's values need: groups times noise scales."""
        return len(self._programs)

    @property
    def num_shots(self) -> int:
        """Repetitions of all of these together."""
        return sum(self.repetitions)

    @property
    def num_shifts(self) -> int:
        """Rows that the whole gradient of one row needs."""
        return 2 * sum(len(self._shifts[gates[0]]) for part in self._rounds for gates in part)

    def expectation(self, inputs, weights):
        """The observables' estimates, see the class."""
        batch, copies = ops.shape(inputs)[0], ops.shape(weights)[0]
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        parts = []
        for angles in self._angles:
            shape = (batch, copies, angles.size)
            part = angles(inputs, weights) if angles.size else ops.zeros(shape, dtype=dtype)
            part = ops.cast(ops.broadcast_to(part, shape), dtype)
            parts.append(ops.reshape(part, (batch * copies, angles.size)))
        size = self.spec.num_observables
        fixed = [ops.stop_gradient(part) for part in parts]
        values = host_call(self._run, fixed, (batch * copies, size), dtype)
        for which, part in enumerate(parts):
            if self._angles[which].size:
                values = values + self._pulled(which, part, fixed, dtype)
        return ops.reshape(values, (batch, copies, size))

    def _pulled(self, which: int, part, fixed: Sequence, dtype: str):
        """Zeros, whose gradient by a part of the exponents is that of the values."""
        size, gates = self.spec.num_observables, self._angles[which].size

        @ops.custom_gradient
        def run(part):
            rows = ops.shape(part)[0]

            def backward(*arguments, upstream=None):
                upstream = arguments[0] if upstream is None else upstream

                def pull(*arrays):
                    return self._gradient(which, *arrays)

                return host_call(pull, [*fixed, upstream], (rows, gates), dtype)

            return ops.zeros((rows, size), dtype=dtype), backward

        return run(part)

    def _gradient(
        self, which: int, of_inputs: np.ndarray, others: np.ndarray, upstream: np.ndarray
    ) -> np.ndarray:
        """`sum_k upstream_k df_k/dt_j` for every row and gate of a part, `(rows, gates)`."""
        exponents = self._joined(of_inputs, others)
        gradient = np.zeros((len(exponents), len(self._columns[which])))
        steps = [
            (gates, sign * shift, sign * coefficient)
            for gates in self._rounds[which]
            for shift, coefficient in self._shifts[gates[0]]
            for sign in (1, -1)
        ]
        if not steps or not len(exponents):
            return gradient
        shifted = np.repeat(exponents[None], len(steps), axis=0)
        for index, (gates, shift, _) in enumerate(steps):
            shifted[index][:, gates] += shift
        values = self.values(shifted.reshape(-1, exponents.shape[1]))
        values = values.reshape(len(steps), len(exponents), -1)
        place_of = {column: place for place, column in enumerate(self._columns[which])}
        for (gates, _, coefficient), value in zip(steps, values, strict=True):
            # Of the other observables the difference is nothing but noise.
            sums = (value * upstream) @ self._reach[gates].T
            gradient[:, [place_of[gate] for gate in gates]] += coefficient * sums
        return gradient

    def _run(self, of_inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        return self.values(self._joined(of_inputs, others))

    def _joined(self, of_inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        exponents = np.zeros((len(of_inputs), len(self.exponents)))
        for columns, part in zip(self._columns, (of_inputs, others), strict=True):
            exponents[:, columns] = part
        return exponents

    def values(self, exponents: np.ndarray) -> np.ndarray:
        """Estimates for rows of exponents, `(rows, num_observables)` float64."""
        values = np.tile(self._constants, (len(exponents), 1))
        if not len(exponents) or not self._programs:
            return values
        parts = zip(
            self._programs,
            self._coefficients,
            self._corrections,
            self._outcomes(exponents),
            strict=True,
        )
        for program, coefficient, correction, rows in parts:
            place = {qubit: i for i, qubit in enumerate(program.group.qubits)}
            for start in range(0, len(rows), _ROWS):
                some = slice(start, start + _ROWS)
                # (rows, repetitions, qubits)
                signs = (1.0 - 2.0 * rows[some] - correction.offsets) * correction.factors
                for term in program.group.terms:
                    columns = [place[qubit] for qubit in term.qubits]
                    means = np.prod(signs[..., columns], axis=-1).mean(axis=-1)
                    values[some, term.observable] += coefficient * term.coefficient * means
        return values

    def _outcomes(self, exponents: np.ndarray) -> list[np.ndarray]:
        """Of every program, `(rows, repetitions, qubits)` of 0 and 1."""
        return outcomes(
            self.sampler,
            [program.circuit.unfreeze() for program in self._programs],
            [program.sweep(exponents) for program in self._programs],
            self.repetitions,
            [len(program.qubits) for program in self._programs],
            self.timeout,
        )

    def _repetitions(
        self, repetitions: int | None, standard_error: float | None
    ) -> tuple[int, ...]:
        if standard_error is None:
            return (repetitions or REPETITIONS,) * len(self._programs)
        groups, factors = [], []
        parts = zip(self._programs, self._coefficients, self._corrections, strict=True)
        for program, coefficient, correction in parts:
            groups.append(program.group.scaled(coefficient))
            factors.append(dict(zip(program.group.qubits, correction.deviations, strict=True)))
        return repetitions_for(standard_error, groups, factors)


def outcomes(
    sampler: cirq.Sampler,
    circuits: Sequence[cirq.AbstractCircuit],
    sweeps: Sequence[cirq.Sweep],
    repetitions: Sequence[int],
    num_qubits: Sequence[int],
    timeout: float | None = None,
) -> list[np.ndarray]:
    """What a sampler gives for one `run_batch`, checked.

    Args:
        sampler: what is asked.
        circuits: each with a measurement under `KEY`.
        sweeps: the points of each circuit.
        repetitions: shots of each.
        num_qubits: that each measures.
        timeout: seconds that it may take.

    Returns:
        Of every circuit, `(points, repetitions, qubits)` of 0 and 1.

    Raises:
        SamplerError: the sampler raised, timed out, or returned something else.
        RefusedRunError: what stands before it refused.
    """
    named = _named(sampler)

    def run() -> Sequence[Sequence[cirq.Result]]:
        return sampler.run_batch(circuits, sweeps, list(repetitions))

    try:
        answer = run() if timeout is None else _within(timeout, run)
    except (SamplerError, RefusedRunError):
        raise
    except TimeoutError as error:
        limit = f" within {timeout:g} seconds" if timeout is not None else ""
        raise SamplerError(
            f"{named} did not answer{limit}. Received: {len(circuits)} circuits "
            f"of {len(sweeps[0])} points, {tuple(repetitions)} repetitions"
        ) from error
    except Exception as error:
        raise SamplerError(f"{named} failed. Received: {type(error).__name__}: {error}") from error
    found = []
    for index, sweep in enumerate(sweeps):
        shape = (len(sweep), repetitions[index], num_qubits[index])
        try:
            rows = [np.asarray(result.measurements[KEY]) for result in answer[index]]
            received = (len(rows), *min(row.shape for row in rows))
            rows = np.stack(rows) if received == shape else None
        except (IndexError, KeyError, ValueError, TypeError, AttributeError):
            received, rows = None, None
        if rows is not None and rows.size and not 0 <= rows.min() <= rows.max() <= 1:
            raise SamplerError(
                f"{named} must return outcomes of 0 and 1. "
                f"Received: {sorted({int(rows.min()), int(rows.max())})}"
            )
        if rows is None or len(answer) != len(circuits):
            raise SamplerError(
                f"{named} must return (points, repetitions, qubits) = {shape} "
                f"for circuit {index + 1} of {len(circuits)}. "
                f"Received: {'no such results' if received is None else received}"
            )
        found.append(rows)
    return found


class _Correction(NamedTuple):
    """Of every measured qubit's sign, what is subtracted, and by what it is multiplied then.

    `deviations` are the roots of its mean square, in the worst state.
    """

    offsets: np.ndarray
    factors: np.ndarray
    deviations: np.ndarray


def _correction(program: Program, errors: Mapping[cirq.Qid, Sequence[float]] | None) -> _Correction:
    """What every measured qubit's sign becomes."""
    rows = []
    for qubit in program.qubits:
        if errors is not None and qubit not in errors:
            raise ValueError(
                f"readout_errors must have every measured qubit. Received: none for {qubit}"
            )
        zero, one = (0.0, 0.0) if errors is None else errors[qubit]
        factor, square = _factor_and_square(qubit, zero, one)
        rows.append((one - zero, factor, math.sqrt(square)))
    return _Correction(*np.asarray(rows).T)


def _factor_and_square(qubit: cirq.Qid, zero: float, one: float) -> tuple[float, float]:
    """By what a sign is multiplied, and its mean square then, in the state that is read worse."""
    if not (0 <= zero <= 1 and 0 <= one <= 1 and zero + one < 1):
        raise ValueError(
            "Readout errors are probabilities whose sum is below 1, or the confusion "
            f"matrix has no inverse of use. Received: {(zero, one)} for {qubit}"
        )
    factor = 1 / (1 - zero - one)
    return factor, 1 + 4 * factor**2 * max(zero * (1 - zero), one * (1 - one))


def worst_mean_square(
    programs: Iterable[Program], errors: Mapping[cirq.Qid, Sequence[float]] | None
) -> float:
    """The most that a corrected sign's mean square may be on any measured qubit.

    Args:
        programs: what measures.
        errors: as `readout_errors` of `Sampling`.

    Example:
        >>> from qrkt_keras.circuits import templates
        >>> programs = logical_programs(templates.rx_ring(2))
        >>> errors = {qubit: (0.0, 0.5) for qubit in cirq.LineQubit.range(2)}
        >>> worst_mean_square(programs, None), worst_mean_square(programs, errors)
        (1.0, 5.0)
    """
    deviations = [max(_correction(program, errors).deviations) for program in programs]
    return round(float(max(deviations, default=1.0)) ** 2, 9)


def programs_of(
    spec: CircuitSpec, compiled: Compiled | None, noise_scale: int = 1
) -> Sequence[Program]:
    """The programs that run for a circuit, compiled or as it is.

    Args:
        spec: the circuit.
        compiled: what knows its programs on a processor, or None.
        noise_scale: how often gates on several qubits are repeated.
    """
    if compiled is None:
        return logical_programs(spec, noise_scale)
    return compiled.programs(spec, noise_scale)


def logical_programs(spec: CircuitSpec, noise_scale: int = 1) -> list[Program]:
    """The circuit of a spec as it is, for samplers that take any.

    Args:
        spec: the circuit.
        noise_scale: how often gates on several qubits are repeated.

    Returns:
        A program for each group of `measurements(spec)`.
    """
    separated = folded(separate(spec), noise_scale)
    return [_logical_program(separated, group) for group in measurements(spec).groups]


def _logical_program(separated: SeparatedCircuit, group: Group) -> Program:
    circuit = separated.circuit.unfreeze()
    circuit.append(group.rotations())
    circuit.append(cirq.measure(*group.qubits, key=KEY), cirq.InsertStrategy.NEW)
    return Program(
        circuit.freeze(), separated.symbols, lambda exponents: exponents, group.qubits, group
    )


def richardson(scales: Sequence[int]) -> tuple[float, ...]:
    """The weights with which values at noise scales give the value at none.

    The polynomial through all of them at 0: `w_i = prod_{j != i} s_j / (s_j - s_i)`. Source: K.
    Temme, S. Bravyi and J. M. Gambetta, *Error mitigation for short-depth quantum circuits*,
    Phys. Rev. Lett. 119, 180509 (2017).

    Example:
        >>> richardson((1, 3))
        (1.5, -0.5)
    """
    return tuple(
        math.prod(other / (other - scale) for other in scales if other != scale) for scale in scales
    )


def check_options(sampler: Any, repetitions: Any, standard_error: Any, timeout: Any) -> None:
    """Raise TypeError or ValueError for what `Sampling` does not take."""
    if not isinstance(sampler, cirq.Sampler):
        raise TypeError(
            "sampler must be a cirq.Sampler, such as cirq.Simulator(). "
            f"Received: sampler={sampler!r}"
        )
    if repetitions is not None and standard_error is not None:
        raise ValueError(
            "Either repetitions or standard_error says how often to measure. Received: "
            f"repetitions={repetitions!r} and standard_error={standard_error!r}"
        )
    if repetitions is not None and (type(repetitions) is not int or repetitions < 1):
        raise ValueError(
            f"repetitions must be None or a whole number >= 1. Received: {repetitions!r}"
        )
    for name, value in (("standard_error", standard_error), ("timeout", timeout)):
        good = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (good and 0 < value < math.inf):
            raise ValueError(f"{name} must be None or a positive number. Received: {value!r}")


def _check_processor(sampler: cirq.Sampler, compiled: Compiled | None) -> None:
    """Refuses circuits that were placed on another processor than the sampler's."""
    ours = getattr(getattr(_innermost(sampler), "processor", None), "name", None)
    theirs = getattr(compiled, "processor", None)
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            f"The circuits were compiled for {theirs}, and the sampler is {ours}'s: compile them "
            f"for it. Received: sampler={sampler!r}"
        )


def noise_scales_of(scales: Sequence[int]) -> tuple[int, ...]:
    """Noise scales as a tuple, or ValueError."""
    scales = tuple(scales)
    good = all(type(scale) is int and scale > 0 and scale % 2 for scale in scales)
    if not scales or not good or len(set(scales)) < len(scales):
        raise ValueError(
            "noise_scales must be different odd numbers, such as (1, 3). "
            f"Received: noise_scales={scales}"
        )
    return scales


def _named(sampler: cirq.Sampler) -> str:
    return f"The sampler {type(_innermost(sampler)).__name__}"


def _innermost(sampler: cirq.Sampler) -> cirq.Sampler:
    """The sampler that runs circuits, of one that passes on what it is asked."""
    while isinstance(getattr(sampler, "sampler", None), cirq.Sampler):
        sampler = sampler.sampler
    return sampler


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """What a function returns, or TimeoutError; its thread is left to end by itself."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
