"""Readout errors, measured on the sampler that makes them."""

from __future__ import annotations

from collections.abc import Iterable

import cirq
import numpy as np

from qrkt_keras.execution.sampling import KEY, outcomes


def measured_readout_errors(
    sampler: cirq.Sampler,
    qubits: Iterable[cirq.Qid],
    repetitions: int = 10_000,
    timeout: float | None = None,
) -> dict[cirq.Qid, tuple[float, float]]:
    """How often each qubit is read as what it is not, from two circuits.

    All qubits are prepared in 0, and then in 1, and measured together, as circuits measure them.
    What comes back is for `readout_errors` of `execution.Sampling`, which inverts the confusion
    matrices. Errors of the pulse that makes the 1 are in it.

    Args:
        sampler: What measures.
        qubits: Qubits of the processor; of compiled circuits, those that are measured.
        repetitions: Shots of each of the two circuits.
        timeout: Seconds that they may take; None for any.

    Returns:
        By qubit, the probabilities to read 1 from 0, and 0 from 1.

    Raises:
        ValueError: If there are no qubits, or `repetitions` is less than 1.
        SamplerError: If the sampler fails.

    Example:
        >>> qubits = cirq.LineQubit.range(2)
        >>> measured_readout_errors(cirq.Simulator(), qubits, 100)[qubits[0]]
        (0.0, 0.0)
    """
    qubits = sorted(set(qubits))
    if not qubits or type(repetitions) is not int or repetitions < 1:
        raise ValueError(
            "There must be qubits, and at least one repetition. "
            f"Received: {len(qubits)} qubits, repetitions={repetitions!r}"
        )
    flip = cirq.PhasedXZGate(x_exponent=1, z_exponent=0, axis_phase_exponent=0)
    measure = cirq.measure(*qubits, key=KEY)
    circuits = [cirq.Circuit(measure), cirq.Circuit(flip.on_each(*qubits), measure)]
    sweeps, shots = [cirq.ListSweep([{}])] * 2, [repetitions] * 2
    found = outcomes(sampler, circuits, sweeps, shots, [len(qubits)] * 2, timeout)
    ones = [np.mean(rows[0], axis=0) for rows in found]
    return {
        qubit: (float(zero), float(1 - one)) for qubit, zero, one in zip(qubits, *ones, strict=True)
    }
