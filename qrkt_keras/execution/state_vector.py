"""State vector: exact, batched simulation in real arithmetic, pure `keras.ops`."""

from __future__ import annotations

import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec, Rotation
from qrkt_keras.execution.angles import Angles
from qrkt_keras.execution.contract import fill, lowered
from qrkt_keras.execution.errors import UnsupportedCircuitError

NAME = "state_vector"
MAX_QUBITS = 24

_TOLERANCE = 1e-9


class StateVector:
    """Expectation values from the state `psi`, of which real and imaginary parts are two tensors.

    A rotation is `cos(a/2) psi - i sin(a/2) P psi`, where a Pauli string `P` flips the axes of its
    X and Y qubits and changes signs on its Z and Y qubits: no matrix is formed. Diagonal constant
    gates are phase vectors, controlled flips (CNOT, X, CCX) masks, the rest matrix products.

    Args:
        spec: the circuit.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`.

    Raises:
        UnsupportedCircuitError: more than `MAX_QUBITS` qubits, or a gate without Pauli form.

    Example:
        >>> import numpy as np
        >>> from qrkt_keras.circuits import templates
        >>> engine = StateVector(templates.hardware_efficient(4))
        >>> engine.expectation(np.zeros((2, 1, 4), "float32"), np.zeros((1, 32), "float32")).shape
        TensorShape([2, 1, 4])
    """

    name = NAME
    supports_jit = True

    def __init__(self, spec: CircuitSpec):
        if spec.num_qubits > MAX_QUBITS:
            gigabytes = 2 ** (spec.num_qubits + 3) / 1e9
            raise UnsupportedCircuitError(
                NAME,
                f"a state of {spec.num_qubits} qubits takes {gigabytes:.3g} GB an example, the "
                f"limit is {MAX_QUBITS} qubits. Received: num_qubits={spec.num_qubits}",
            )
        steps = lowered(spec, NAME)
        self.spec = spec
        rotations = [step for step in steps if isinstance(step, Rotation)]
        self._angles = Angles([step.angle for step in rotations], spec)
        self._steps = []
        for step in steps:
            if isinstance(step, Rotation):
                self._steps.append(_PauliRotation(step.pauli, spec.num_qubits))
            else:
                self._steps.append(_constant(step, spec.num_qubits))
        self._read_out = _ReadOut(spec)

    @property
    def flops(self) -> float:
        """Estimated multiply-adds per example and copy."""
        size = 2.0**self.spec.num_qubits
        trigonometric = 10.0 * self._angles.size
        return trigonometric + size * (sum(s.flops for s in self._steps) + self._read_out.flops)

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        dtype = inputs.dtype
        real = ops.convert_to_tensor(np.eye(1, 2**self.spec.num_qubits)[None], dtype=dtype)
        imag = ops.zeros_like(real)
        half = self._angles(inputs, weights) / 2
        cos, sin = ops.cos(half), ops.sin(half)
        column = 0
        for step in self._steps:
            if isinstance(step, _PauliRotation):
                part = slice(column, column + 1)
                real, imag = step(real, imag, cos[..., part], sin[..., part])
                column += 1
            else:
                real, imag = step(real, imag)
        values = self._read_out(real, imag)
        return fill(values, inputs, weights)


def _bits(num_qubits: int) -> np.ndarray:
    """`(num_qubits, 2**num_qubits)`: the value of each qubit in each basis state."""
    states = np.arange(2**num_qubits)
    shifts = num_qubits - 1 - np.arange(num_qubits)
    return (states >> shifts[:, None]) & 1


class _Flip:
    """`psi[k] -> psi[k ^ mask]` for a set of qubits: a run of neighbours is one reversed axis."""

    def __init__(self, qubits, num_qubits: int):
        runs: list[list[int]] = []
        for qubit in sorted(qubits):
            if runs and runs[-1][-1] == qubit - 1:
                runs[-1].append(qubit)
            else:
                runs.append([qubit])
        # One run at a time: TensorFlow reverses tensors of at most eight axes.
        self._shapes = [
            (2 ** run[0], 2 ** len(run), 2 ** (num_qubits - 1 - run[-1])) for run in runs
        ]
        self._size = 2**num_qubits

    def __call__(self, x):
        leading = ops.shape(x)[:2]
        for shape in self._shapes:
            x = ops.flip(ops.reshape(x, (*leading, *shape)), 3)
        return ops.reshape(x, (*leading, self._size)) if self._shapes else x


class _PauliString:
    """`P psi = i**num_y * sign * flip(psi)`."""

    def __init__(self, pauli, num_qubits: int):
        bits = _bits(num_qubits)
        self.num_y = sum(letter == "Y" for _, letter in pauli)
        self.flip = _Flip([q for q, letter in pauli if letter in "XY"], num_qubits)
        sign = np.ones(2**num_qubits)
        for qubit, letter in pauli:
            if letter == "Z":
                sign *= 1 - 2 * bits[qubit]
            elif letter == "Y":
                sign *= 2 * bits[qubit] - 1
        self.sign = sign


class _PauliRotation:
    flops = 4.0

    def __init__(self, pauli, num_qubits: int):
        self._string = _PauliString(pauli, num_qubits)
        # -i * i**num_y is -i, 1, i, -1: imaginary for an even number of Y, real for an odd one.
        self._is_real = self._string.num_y % 2 == 1
        factor = {0: -1.0, 1: 1.0, 2: 1.0, 3: -1.0}[self._string.num_y % 4]
        self._sign = factor * self._string.sign

    def __call__(self, real, imag, cos, sin):
        sin = sin * ops.convert_to_tensor(self._sign, dtype=real.dtype)
        flipped_real, flipped_imag = self._string.flip(real), self._string.flip(imag)
        if self._is_real:
            return cos * real + sin * flipped_real, cos * imag + sin * flipped_imag
        return cos * real - sin * flipped_imag, cos * imag + sin * flipped_real


def _constant(step, num_qubits: int):
    matrix = step.matrix
    diagonal = np.diagonal(matrix)
    if np.allclose(matrix, np.diag(diagonal), atol=_TOLERANCE):
        return _Diagonal(diagonal, step.qubits, num_qubits)
    for target in range(len(step.qubits)):
        flip = _controlled_flip(matrix, target, step.qubits, num_qubits)
        if flip is not None:
            return flip
    return _Matrix(matrix, step.qubits, num_qubits)


def _local_states(qubits, num_qubits: int) -> np.ndarray:
    """The row of a gate's matrix that each basis state belongs to."""
    bits = _bits(num_qubits)
    return sum(bits[q] << (len(qubits) - 1 - i) for i, q in enumerate(qubits))


class _Diagonal:
    def __init__(self, diagonal, qubits, num_qubits: int):
        phases = (diagonal / diagonal[0])[_local_states(qubits, num_qubits)]
        self._real, self._imag = phases.real, phases.imag
        self._is_real = np.abs(self._imag).max() < _TOLERANCE
        self.flops = 1.0 if self._is_real else 2.0

    def __call__(self, real, imag):
        a = ops.convert_to_tensor(self._real, dtype=real.dtype)
        if self._is_real:
            return a * real, a * imag
        b = ops.convert_to_tensor(self._imag, dtype=real.dtype)
        return a * real - b * imag, a * imag + b * real


class _ControlledFlip:
    flops = 2.0

    def __init__(self, mask: np.ndarray, flip: _Flip):
        self._mask, self._flip = mask, flip

    def __call__(self, real, imag):
        mask = ops.convert_to_tensor(self._mask, dtype="bool")
        return ops.where(mask, self._flip(real), real), ops.where(mask, self._flip(imag), imag)


def _controlled_flip(matrix, target: int, qubits, num_qubits: int) -> _ControlledFlip | None:
    """The gate as "flip the target in some states of the other qubits", if that is what it is."""
    size = len(matrix)
    states = np.arange(size)
    bit = 1 << (len(qubits) - 1 - target)
    flipped = np.abs(matrix[states, states]) < _TOLERANCE
    expected = np.zeros((size, size))
    expected[states, np.where(flipped, states ^ bit, states)] = 1.0
    if not np.allclose(matrix, expected, atol=_TOLERANCE):
        return None
    return _ControlledFlip(
        flipped[_local_states(qubits, num_qubits)], _Flip([qubits[target]], num_qubits)
    )


class _Matrix:
    def __init__(self, matrix, qubits, num_qubits: int):
        self._size = 2**num_qubits
        order = np.argsort(qubits)
        sorted_qubits = [qubits[i] for i in order]
        count = len(qubits)
        # The matrix in the order of the state's axes.
        matrix = matrix.reshape((2,) * (2 * count))
        axes = [*order, *(order + count)]
        matrix = matrix.transpose(axes).reshape(2**count, 2**count)
        # (re, im) -> (re, im) as one real matrix, acting from the right.
        self._block = np.block([[matrix.real.T, matrix.imag.T], [-matrix.imag.T, matrix.real.T]])
        self.flops = 2.0 ** (count + 2)
        shape, start = [], 0
        for qubit in sorted_qubits:
            shape += [2 ** (qubit - start), 2]
            start = qubit + 1
        self._shape = (*shape, 2 ** (num_qubits - start))
        rest = [2 * i + 2 for i in range(count + 1)]
        gate = [2 * i + 3 for i in range(count)]
        self._to = (0, 1, *rest, *gate)
        self._back = tuple(np.argsort(self._to).tolist())
        self._moved = tuple(self._shape[axis - 2] for axis in self._to[2:])
        self._dim = 2**count

    def __call__(self, real, imag):
        leading = ops.shape(real)[:2]
        rows = self._size // self._dim

        def move(x):
            x = ops.transpose(ops.reshape(x, (*leading, *self._shape)), self._to)
            return ops.reshape(x, (*leading, rows, self._dim))

        def move_back(x):
            x = ops.transpose(ops.reshape(x, (*leading, *self._moved)), self._back)
            return ops.reshape(x, (*leading, self._size))

        state = ops.concatenate([move(real), move(imag)], -1)
        state = ops.matmul(state, ops.convert_to_tensor(self._block, dtype=real.dtype))
        return move_back(state[..., : self._dim]), move_back(state[..., self._dim :])


class _ReadOut:
    """`<P> = Re sum_k conj(psi[k]) (P psi)[k]`, all strings that flip alike in one product."""

    def __init__(self, spec: CircuitSpec):
        index = {qubit: i for i, qubit in enumerate(spec.qubits)}
        size, self._num_observables = 2**spec.num_qubits, spec.num_observables
        # flipped qubits -> (flip, coefficients of the real part, of the imaginary part)
        self._groups: dict[tuple, tuple[_Flip, np.ndarray, np.ndarray]] = {}
        for column, observable in enumerate(spec.observables):
            for term in observable:
                pauli = tuple((index[qubit], str(letter)) for qubit, letter in term.items())
                string = _PauliString(pauli, spec.num_qubits)
                flipped = tuple(sorted(q for q, letter in pauli if letter in "XY"))
                _, even, odd = self._groups.setdefault(
                    flipped,
                    (
                        string.flip,
                        np.zeros((size, spec.num_observables)),
                        np.zeros((size, spec.num_observables)),
                    ),
                )
                weight = term.coefficient.real * string.sign
                # i**num_y times (even + i odd), of which the real part counts.
                if string.num_y % 2 == 0:
                    even[:, column] += weight * (1 if string.num_y % 4 == 0 else -1)
                else:
                    odd[:, column] += weight * (-1 if string.num_y % 4 == 1 else 1)

    @property
    def flops(self) -> float:
        return float(len(self._groups) * (2 + self._num_observables))

    def __call__(self, real, imag):
        total = None
        for flip, even, odd in self._groups.values():
            flipped_real, flipped_imag = flip(real), flip(imag)
            parts = []
            if even.any():
                parts.append((real * flipped_real + imag * flipped_imag, even))
            if odd.any():
                parts.append((real * flipped_imag - imag * flipped_real, odd))
            for values, matrix in parts:
                value = ops.matmul(values, ops.convert_to_tensor(matrix, dtype=real.dtype))
                total = value if total is None else total + value
        return total
