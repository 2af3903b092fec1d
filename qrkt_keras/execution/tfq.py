"""TensorFlow Quantum: its simulator and differentiators, by its ops.

TFQ's layers are written for Keras 2; its ops are not, and are what this engine calls. They have no
XLA kernel, no second derivative, and run on TensorFlow only.
"""

from __future__ import annotations

import functools
import random
import types

import cirq
import keras
import sympy
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.circuits.lowering import scaled_symbol
from qrkt_keras.execution.errors import UnsupportedCircuitError

NAME = "tfq"

# What a row costs a gate beside arithmetic, in multiply-adds, see tests/benchmarks/calibrate.py.
_PARSING = 1e4
MAX_QUBITS = 26

DIFFERENTIATORS = ("adjoint", "parameter_shift", "forward_difference", "central_difference")


class TFQ:
    """Expectation values by TensorFlow Quantum's ops.

    Args:
        spec: the circuit. Gates that TFQ cannot serialise are decomposed where Cirq knows how.
        differentiator: "adjoint" (default without repetitions), "parameter_shift" (default with
            repetitions), "forward_difference" or "central_difference".
        repetitions: shots an observable; None is exact. TFQ's sampling ignores seeds.

    Call arguments:
        inputs: `(B, C, num_inputs)` radians, C = 1 or copies.
        weights: `(copies, num_weights)` radians.

    Returns:
        `(B, copies, num_observables)`, float32 whatever the inputs' precision.

    Raises:
        UnsupportedCircuitError: another Keras backend than TensorFlow, too many qubits, or a gate
            or symbol expression that TFQ cannot hold, named.

    Example:
        >>> import tensorflow as tf
        >>> from qrkt_keras.circuits import templates
        >>> engine = TFQ(templates.ry_ring(2))
        >>> engine.expectation(tf.zeros((2, 1, 2)), tf.zeros((1, 2))).shape
        TensorShape([2, 1, 2])
    """

    name = NAME
    supports_jit = False

    def __init__(
        self,
        spec: CircuitSpec,
        differentiator: str | None = None,
        repetitions: int | None = None,
    ):
        check_options(differentiator, repetitions)
        if differentiator is None:
            differentiator = "adjoint" if repetitions is None else "parameter_shift"
        check(spec)
        self.spec = spec
        self._repetitions = repetitions
        self._symbols = [symbol.name for symbol in (*spec.inputs, *spec.weights)]
        program, observables = _serialise(spec)
        self._program, self._observables = program, observables
        self._expectation = _expectation_op(differentiator, repetitions is not None)

    def expectation(self, inputs, weights):
        """The observables' expectation values, see the class."""
        import tensorflow as tf

        dtype = inputs.dtype
        batch, copies = ops.shape(inputs)[0], ops.shape(weights)[0]
        symbols = ops.concatenate(
            [
                ops.broadcast_to(inputs, (batch, copies, self.spec.num_inputs)),
                ops.broadcast_to(weights[None], (batch, copies, self.spec.num_weights)),
            ],
            -1,
        )
        rows = batch * copies
        values = ops.cast(ops.reshape(symbols, (rows, len(self._symbols))), "float32")
        arguments = [
            tf.tile(self._program, [rows]),
            tf.constant(self._symbols, dtype=tf.string),
            values,
            tf.tile(self._observables, [rows, 1]),
        ]
        if self._repetitions is not None:
            shape = [rows, self.spec.num_observables]
            arguments.append(tf.fill(shape, self._repetitions))
        values = self._expectation(*arguments)
        shape = (batch, copies, self.spec.num_observables)
        return ops.cast(ops.reshape(values, shape), dtype)


def check_options(differentiator: str | None, repetitions: int | None) -> None:
    """Raise ValueError for a differentiator or a number of shots that TFQ could not use."""
    if differentiator is not None and differentiator not in DIFFERENTIATORS:
        raise ValueError(
            f"differentiator must be one of {DIFFERENTIATORS}. Received: {differentiator!r}"
        )
    if repetitions is not None and (type(repetitions) is not int or repetitions < 1):
        raise ValueError(
            f"repetitions must be None or a whole number >= 1. Received: {repetitions!r}"
        )
    if repetitions is not None and differentiator == "adjoint":
        raise ValueError(
            "The adjoint differentiator is exact and takes no repetitions. "
            f"Received: repetitions={repetitions!r}"
        )


def check(spec: CircuitSpec) -> None:
    """Raise UnsupportedCircuitError, naming what TFQ cannot run, without importing TFQ."""
    if keras.backend.backend() != "tensorflow":
        raise UnsupportedCircuitError(
            NAME, f"it needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()!r}"
        )
    if spec.num_qubits > MAX_QUBITS:
        raise UnsupportedCircuitError(
            NAME, f"it holds at most {MAX_QUBITS} qubits. Received: num_qubits={spec.num_qubits}"
        )
    _translate(spec)


def _tensorflow_quantum() -> types.ModuleType:
    """The package. Its import draws random numbers of Python's, and a seed must not notice."""
    state = random.getstate()
    import tensorflow_quantum

    random.setstate(state)
    return tensorflow_quantum


def load_ops() -> None:
    """Load TFQ's shared libraries, which a plain import leaves for later.

    A SavedModel with TFQ's ops loads only once their libraries are in the process.
    """
    _tensorflow_quantum()
    from tensorflow_quantum.core.ops import (
        tfq_adj_grad_op,
        tfq_ps_util_ops,
        tfq_simulate_ops,
        tfq_utility_ops,
    )

    for module in (tfq_adj_grad_op, tfq_ps_util_ops, tfq_simulate_ops, tfq_utility_ops):
        for value in vars(module).copy().values():
            # A library hides behind a lazy loader, which opens when it is asked for its names.
            dir(value)


# What TFQ's serializer takes; an operation outside is decomposed or refused.
_GATES = (
    cirq.XPowGate,
    cirq.YPowGate,
    cirq.ZPowGate,
    cirq.HPowGate,
    cirq.CZPowGate,
    cirq.CXPowGate,
    cirq.SwapPowGate,
    cirq.ISwapPowGate,
    cirq.XXPowGate,
    cirq.YYPowGate,
    cirq.ZZPowGate,
    cirq.PhasedISwapPowGate,
    cirq.FSimGate,
    cirq.PhasedXPowGate,
    cirq.IdentityGate,
)


def _translate(spec: CircuitSpec) -> cirq.Circuit:
    qubits = {qubit: cirq.GridQubit(0, i) for i, qubit in enumerate(spec.qubits)}
    operations = [
        part.transform_qubits(qubits)
        for operation in spec.circuit.all_operations()
        for part in _parts(operation.untagged)
    ]
    return cirq.Circuit(operations)


def _parts(operation: cirq.Operation) -> list[cirq.Operation]:
    if not operation.qubits:  # a global phase
        return []
    if isinstance(operation.gate, _GATES):
        # A gate by a sum of angles is a product of gates; TFQ knows only scalar * symbol.
        split = _split_sum(operation)
        for part in split:
            for value in _parameters(part.gate):
                _check_expression(value, operation)
        return split
    parts = cirq.decompose_once(operation, default=None)
    if parts is None:
        raise UnsupportedCircuitError(
            NAME,
            f"it cannot serialise the gate and Cirq cannot decompose it. Received: {operation!r}",
        )
    return [piece for part in parts for piece in _parts(part.untagged)]


def _split_sum(operation: cirq.Operation) -> list[cirq.Operation]:
    gate = operation.gate
    if not (isinstance(gate, cirq.EigenGate) and cirq.is_parameterized(gate)):
        return [operation]
    if scaled_symbol(gate.exponent) is not None:
        return [operation]
    terms = sympy.Add.make_args(sympy.expand(gate.exponent))
    return [
        gate._with_exponent(float(term) if term.is_number else term).on(*operation.qubits)
        for term in terms
    ]


def _parameters(gate: cirq.Gate) -> list:
    names = ("exponent", "phase_exponent", "theta", "phi")
    return [getattr(gate, name) for name in names if hasattr(gate, name)]


def _check_expression(value, operation: cirq.Operation) -> None:
    if isinstance(value, sympy.Basic) and not value.is_number and scaled_symbol(value) is None:
        raise UnsupportedCircuitError(
            NAME,
            f"its angles are scalar * symbol, at most summed. Received: {value} in {operation!r}",
        )


@functools.lru_cache(maxsize=256)
def _serialise(spec: CircuitSpec):
    import tensorflow as tf

    tfq = _tensorflow_quantum()
    qubits = {qubit: cirq.GridQubit(0, i) for i, qubit in enumerate(spec.qubits)}
    with tf.init_scope():
        program = tfq.convert_to_tensor([_translate(spec)], deterministic_proto_serialize=True)
        observables = tfq.convert_to_tensor(
            [
                [
                    observable.with_qubits(*(qubits[q] for q in observable.qubits))
                    for observable in spec.observables
                ]
            ],
            deterministic_proto_serialize=True,
        )
        # Bytes, not tensors: the engine outlives the graph in which it was made.
        return program.numpy(), observables.numpy()


@functools.lru_cache(maxsize=16)
def _expectation_op(differentiator: str, sampled: bool):
    tfq = _tensorflow_quantum()
    makers = {
        "adjoint": tfq.differentiators.Adjoint,
        "parameter_shift": tfq.differentiators.ParameterShift,
        "forward_difference": tfq.differentiators.ForwardDifference,
        "central_difference": tfq.differentiators.CentralDifference,
    }
    maker = makers[differentiator]()
    # An op belongs to one differentiator: `generate_differentiable_op` refuses a second time.
    maker.refresh()
    if sampled:
        op = tfq.get_sampled_expectation_op()
        return maker.generate_differentiable_op(sampled_op=op)
    return maker.generate_differentiable_op(analytic_op=tfq.get_expectation_op())


class Costs:
    """What the engine is estimated to cost: TFQ's state vector, gate by gate, adjoint gradients.

    Args:
        spec: a circuit that the engine accepts.
    """

    name = NAME
    # One call; what it does a row is in `multiply_adds`.
    num_operations = 1

    def __init__(self, spec: CircuitSpec):
        size = 2.0**spec.num_qubits
        gates = sum(2.0 ** len(operation.qubits) for operation in spec.circuit.all_operations())
        # Protos are parsed and resolved for every row.
        parsing = _PARSING * sum(1 for _ in spec.circuit.all_operations())
        self._row = size * (2 * gates + 4 * spec.num_observables) + parsing
        self._state = 8.0 * size

    def multiply_adds(self, batch: int) -> float:
        """Estimated, of a forward pass."""
        return batch * self._row

    def num_bytes(self, batch: int) -> float:
        """Estimated peak: a few states at a time, and the results."""
        del batch
        return 4.0 * self._state
