"""Angles against sympy's own evaluation, and how many operations they take."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy
import tensorflow as tf

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.execution.angles import Angles

X = sympy.symbols("x0:4")
W = sympy.symbols("w0:5")

KINDS = {
    "linear": [2 * X[1], W[3], X[0] - W[0] / 2 + 1, X[2] + X[3], sympy.Float(0.5)],
    "a product a row": [W[3] * X[2], W[0] * X[1], W[4] * X[2]],
    "scaled": [2 * W[3] * X[2], -W[0] * X[1] / 3, W[4] * X[2]],
    "few rows": [X[0], 3 * W[1] * X[0] + 1, W[2], W[1] * X[3] - X[2], sympy.S.Zero],
    "sums of products": [sum(w * x for w, x in zip(W, X, strict=False)), W[0] * X[0] - W[1] * X[1]],
    "sums of equally many": [W[1] * X[0] + W[2] * X[1], W[0] * X[3] - 2 * W[4] * X[3]],
    "weights alone": [W[0] * W[1], W[2] * W[3] * W[4]],
    "inputs alone": [X[0] * X[1] + X[2] * X[3], X[1] * X[2] * X[3]],
    "three factors": [W[0] * X[0] * X[1], W[0] * W[1] * X[1] + W[2] * W[3] * X[0], X[2]],
    "powers": [W[0] ** 2, W[4] ** 2 * X[2], X[1] / (2 + W[3] ** 2)],
    "nested": [(X[0] + W[1]) * W[2], X[0] * (1 - X[1] * W[0])],
}  # fmt: skip
KINDS["mixed"] = [expression for kind in KINDS.values() for expression in kind]


def spec():
    qubit = cirq.LineQubit(0)
    circuit = cirq.Circuit(cirq.rx(symbol)(qubit) for symbol in (*X, *W))
    return CircuitSpec(circuit, X, W, [cirq.Z(qubit)])


def point(own_inputs, dtype, batch=3, copies=2):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(batch, copies if own_inputs else 1, len(X)))
    return inputs.astype(dtype), rng.normal(size=(copies, len(W))).astype(dtype)


def by_sympy(expressions, inputs, weights):
    """`(B, copies, len(expressions))`."""
    function = sympy.lambdify([*X, *W], list(expressions), "numpy")
    shape = (len(inputs), len(weights))
    arrays = (np.broadcast_to(array, (*shape, array.shape[-1])) for array in (inputs, weights))
    columns = np.moveaxis(np.concatenate(list(arrays), -1), -1, 0)
    return np.stack([np.broadcast_to(value, shape) for value in function(*columns)], -1)


def derivatives_by_sympy(expression, inputs, weights):
    """By inputs and by weights, of the sum over examples and copies."""
    partial = by_sympy([expression.diff(symbol) for symbol in (*X, *W)], inputs, weights)
    axis = 1 if inputs.shape[1] == 1 else ()
    by_inputs = partial[..., : len(X)].sum(axis=axis, keepdims=True)
    return by_inputs, partial[..., len(X) :].sum(axis=0)


def derivatives(angles, inputs, weights, upstream, direction):
    """Angles, gradients of `sum(upstream * angles)`, and those of its slope in a direction."""
    inputs, weights = tf.convert_to_tensor(inputs), tf.convert_to_tensor(weights)
    shape = (tf.shape(inputs)[0], weights.shape[0], angles.size)
    with tf.GradientTape() as outer:
        outer.watch((inputs, weights))
        with tf.GradientTape() as tape:
            tape.watch((inputs, weights))
            values = tf.broadcast_to(angles(inputs, weights), shape)
            loss = tf.reduce_sum(values * tf.constant(upstream, values.dtype))
        first = tape.gradient(loss, (inputs, weights), unconnected_gradients="zero")
        ways = tf.split(tf.constant(direction, values.dtype), (len(X), len(W)))
        slope = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(first, ways, strict=True)])
    return values, first, outer.gradient(slope, (inputs, weights), unconnected_gradients="zero")


@pytest.mark.parametrize("own_inputs", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_against_sympy(kind, own_inputs):
    expressions, angles = KINDS[kind], Angles(KINDS[kind], spec())
    rng = np.random.default_rng(1)
    upstream, direction = rng.normal(size=len(expressions)), rng.normal(size=len(X) + len(W))
    inputs, weights = point(own_inputs, "float64")
    loss = sum(u * expression for u, expression in zip(upstream, expressions, strict=True))
    slope = sum(d * loss.diff(symbol) for d, symbol in zip(direction, (*X, *W), strict=True))
    expected = (
        [by_sympy(expressions, inputs, weights)],
        derivatives_by_sympy(loss, inputs, weights),
        derivatives_by_sympy(slope, inputs, weights),
    )

    def run(inputs, weights):
        return derivatives(angles, inputs, weights, upstream, direction)

    runs = [(run, "float64", 1e-12)]
    signature = [
        tf.TensorSpec((None, *inputs.shape[1:]), tf.float32),
        tf.TensorSpec(weights.shape, tf.float32),
    ]
    for jit_compile in (False, True):
        graph = tf.function(run, signature, autograph=False, jit_compile=jit_compile)
        runs.append((graph, "float32", 1e-5))
    for function, dtype, tolerance in runs:
        found = function(inputs.astype(dtype), weights.astype(dtype))
        for arrays, references in zip(([found[0]], *found[1:]), expected, strict=True):
            for array, reference in zip(arrays, references, strict=True):
                assert array.dtype == dtype and array.shape == reference.shape
                np.testing.assert_allclose(array, reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch):
    angles = Angles(KINDS["mixed"], spec())
    inputs, weights = point(True, "float64", batch)
    expected = by_sympy(KINDS["mixed"], inputs, weights)
    np.testing.assert_allclose(angles(inputs, weights), expected, atol=1e-12)


def test_products_take_as_many_operations_whatever_their_number():
    def operations(size):
        expressions = [W[i % 5] * X[i % 4] + W[(i + 1) % 5] * X[i % 3] for i in range(size)]
        angles = Angles([*expressions, X[0]], spec())
        signature = [tf.TensorSpec((None, 1, len(X))), tf.TensorSpec((2, len(W)))]
        graph = tf.function(lambda x, w: angles(x, w), input_signature=signature, autograph=False)
        return len(graph.get_concrete_function().graph.get_operations())

    # Far more than the few that slices would do.
    assert operations(100) == operations(30)
