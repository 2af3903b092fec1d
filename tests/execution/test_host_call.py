"""NumPy functions in the middle of TensorFlow's and JAX's eager and compiled functions."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from qrkt_keras.execution.host_call import host_call


def halved_sum(x, y):
    assert isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
    return (x + y) / 2


def test_eagerly():
    result = host_call(
        halved_sum, [tf.constant([1.0, 2.0]), tf.constant([3.0, 5.0])], (2,), "float32"
    )
    assert result.dtype == tf.float32 and result.numpy().tolist() == [2.0, 3.5]
    doubled = host_call(lambda x: 2 * x, [tf.constant([1.0])], (1,), "float64")
    assert doubled.dtype == tf.float64


def test_in_a_graph_of_unknown_size_in_the_order_of_the_calls():
    calls = []

    def noted(number):
        def call(x):
            calls.append(number)
            return x * number

        return call

    @tf.function(input_signature=[tf.TensorSpec((None, 2))])
    def function(x):
        shape = (tf.shape(x)[0], 2)
        first = host_call(noted(2), [x], shape, "float32")
        host_call(noted(3), [x], shape, "float32")
        second = host_call(noted(5), [x], shape, "float32")
        assert second.shape.as_list() == [None, 2]
        return first + second

    for rows in (1, 4):
        np.testing.assert_array_equal(function(tf.ones((rows, 2))), np.full((rows, 2), 7.0))
    # One whose result nobody uses is not left out: a sampler was asked for it.
    assert calls == [2, 3, 5] * 2


def test_it_has_no_gradient():
    x = tf.Variable([1.0])
    with tf.GradientTape() as tape:
        y = host_call(lambda a: 2 * a, [x.value()], (1,), "float32")
    assert tape.gradient(y, x) is None


def test_an_error_of_the_function_comes_out():
    def failing(x):
        raise ConnectionError("the line is dead")

    with pytest.raises(ConnectionError, match="the line is dead"):
        host_call(failing, [tf.zeros(1)], (1,), "float32")
    compiled = tf.function(lambda x: host_call(failing, [x], (1,), "float32"))
    with pytest.raises(tf.errors.UnknownError, match="the line is dead"):
        compiled(tf.zeros(1))


ON_JAX = """
import jax, numpy as np
from qrkt_keras.execution.host_call import host_call

def double(x):
    assert isinstance(x, np.ndarray)
    return 2 * x

f = lambda x: host_call(double, [x], x.shape, "float32")
x = jax.numpy.arange(3.0)
for function in (f, jax.jit(f)):
    assert function(x).tolist() == [0.0, 2.0, 4.0]
    assert function(x).dtype == "float32"
"""


def test_on_jax_eagerly_and_compiled():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
