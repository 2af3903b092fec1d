"""Copies: parts of a circuit that are one circuit, each with symbols of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution.angles import select


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, which cannot be written to any more."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Copies:
    """Parts of one structure: their circuit, and where each takes its symbols from.

    Args:
        spec: the circuit of every part.
        input_columns: `(num_copies, spec.num_inputs)`, columns of the whole circuit's inputs.
        weight_columns: `(num_copies, spec.num_weights)`, columns of its weights.
    """

    spec: CircuitSpec
    input_columns: np.ndarray
    weight_columns: np.ndarray

    @property
    def num_copies(self) -> int:
        """How many parts have this structure."""
        return len(self.input_columns)

    @property
    def amplitudes(self) -> int:
        """How many amplitudes the states of all of them have."""
        return self.num_copies * 2**self.spec.num_qubits

    def expectation(self, engine, inputs, weights):
        """The values of all parts by one call of an engine, for which they are further copies.

        Args:
            engine: of `spec`.
            inputs: of the whole circuit, `(B, C, num_inputs)`, C = 1 or copies.
            weights: of the whole circuit, `(copies, num_weights)`.

        Returns:
            `(B, copies, num_copies * spec.num_observables)`, part by part.
        """
        batch, copies = ops.shape(inputs)[0], ops.shape(weights)[0]
        size = copies * self.num_copies
        columns = self.input_columns
        if not columns.size:
            inputs = inputs[:, :1, :0]
        elif (columns == columns[0]).all():
            # All parts read the same: C = 1 stays so.
            inputs = select(inputs, columns[0].tolist())
            if inputs.shape[1] != 1 and self.num_copies > 1:
                inputs = ops.repeat(inputs, self.num_copies, axis=1)
        else:
            inputs = select(inputs, columns.ravel().tolist())
            if inputs.shape[1] != copies:
                inputs = ops.broadcast_to(inputs, (batch, copies, columns.size))
            inputs = ops.reshape(inputs, (batch, size, self.spec.num_inputs))
        columns = self.weight_columns
        weights = select(weights, columns.ravel().tolist()) if columns.size else weights[:, :0]
        weights = ops.reshape(weights, (size, self.spec.num_weights))
        values = engine.expectation(inputs, weights)
        return ops.reshape(values, (batch, copies, self.num_copies * self.spec.num_observables))
