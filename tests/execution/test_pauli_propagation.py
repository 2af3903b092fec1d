"""Pauli propagation: shared products, their derivatives where factors vanish, and refusals."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from qrkt_keras.circuits import templates
from qrkt_keras.execution import PauliPropagation, UnsupportedCircuitError
from qrkt_keras.execution.products import Products


def ring(length):
    """The products of `rx_ring`: every range from 0 but the first, and one that starts at 1."""
    return [tuple(range(1, length)), *(tuple(range(k + 1)) for k in range(1, length))]


def windows(length, width):
    return [tuple(range(i, i + width)) for i in range(length - width + 1)]


RNG = np.random.default_rng(0)
SETS = {
    "ring_4": ring(4),
    "ring_16": ring(16),  # one level of a scan
    "ring_17": ring(17),  # padded
    "ring_48": ring(48),
    "ring_149": ring(149),  # padded, two levels
    "prefixes": [tuple(range(k)) for k in range(1, 25)],
    "some_prefixes": [tuple(range(k)) for k in (30, 2, 17)],
    "late_start": [tuple(range(5, k)) for k in (40, 9, 28)],
    # Ranges inside a scan: in one block, from a block's edge, to one, over many, at the end.
    "ranges": [tuple(range(64)), (0, 1)]
    + [tuple(range(*ends)) for ends in ((3, 6), (8, 13), (5, 24), (7, 64))],
    "too_many_ranges": [tuple(range(64)), (0, 1), *windows(64, 5)],
    "three_scans": [tuple(range(a, b)) for a in (0, 20, 40) for b in (a + 18, a + 9, a + 5)],
    "windows": windows(12, 4),
    "short": [(0, 11), (3,), (5, 4), (2, 7, 9)],
    "ry_ring": [(0, 11), *((i,) for i in range(1, 12))],
    # Runs that are cut, and pieces that several of them need.
    "shifted": [*((i, i + 3) for i in range(6)), *((i + 2, i, 9) for i in range(3))],
    "too_many_runs": windows(12, 2),
    "any": [tuple(RNG.choice(12, size=size, replace=False)) for size in (1, 2, 3, 4, 5, 8, 11, 12)],
    "branches": [tuple(2 * i + bit for i, bit in enumerate(b)) for b in np.ndindex(2, 2, 2, 2, 2)],
}


def reference(factors, products):
    return np.stack([np.prod(factors[..., list(product)], -1) for product in products], -1)


def leaving_out(factors, product, left_out):
    return np.prod(factors[[i for i in product if i not in left_out]])


@pytest.mark.parametrize("name", SETS)
def test_products(name):
    products = SETS[name]
    size = 1 + max(itertools.chain(*products))
    factors = np.random.default_rng(1).uniform(-1.2, 1.2, (3, 2, size))
    multiply = Products(tuple(products))
    np.testing.assert_allclose(
        multiply(tf.constant(factors)), reference(factors, products), rtol=1e-12, atol=0
    )
    assert multiply(tf.constant(factors[:0])).shape == (0, 2, len(products))


@pytest.mark.parametrize("compiled", [None, False, True])
@pytest.mark.parametrize(
    "name", ["ring_16", "ring_17", "ring_48", "ranges", "any", "short", "shifted"]
)
def test_derivatives_where_factors_are_exactly_zero(name, compiled):
    """First and second derivatives by leaving factors out, with two zeros in every row."""
    products = SETS[name]
    size = 1 + max(itertools.chain(*products))
    rng = np.random.default_rng(2)
    factors = rng.uniform(0.5, 1.5, size)
    longest = max(products, key=len)
    # Neighbours, and in a scan the ends: in one block and in two.
    for zeros in (longest[1:3], (longest[0], longest[-1])):
        point = factors.copy()
        point[list(zeros)] = 0.0
        upstream = rng.normal(size=len(products))
        multiply = Products(tuple(products))

        def derivatives(x, multiply=multiply, upstream=upstream):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = tf.reduce_sum(multiply(x[None]) * upstream)
                gradient = tape.gradient(value, x)
            return gradient, outer.jacobian(gradient, x, experimental_use_pfor=compiled is None)

        if compiled is not None:
            derivatives = tf.function(derivatives, jit_compile=compiled)
        gradient, hessian = derivatives(tf.constant(point))
        expected_gradient, expected_hessian = np.zeros(size), np.zeros((size, size))
        for product, scale in zip(products, upstream, strict=True):
            for i in product:
                expected_gradient[i] += scale * leaving_out(point, product, {i})
            for i, j in itertools.permutations(product, 2):
                expected_hessian[i, j] += scale * leaving_out(point, product, {i, j})
        assert abs(expected_hessian[tuple(zeros)]) > 1e-3
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-12)
        np.testing.assert_allclose(hessian, expected_hessian, atol=1e-12)


def test_multiplications_are_shared():
    # A scan takes two a factor, not as many as there are factors in all ranges.
    assert Products(tuple(ring(384))).flops == 2 * 384
    # 32 products of 5 factors: 4 + 4 pairs, 16 of four factors, 32 of five; not 32 * 4.
    assert Products(tuple(SETS["branches"])).flops == 4 + 4 + 16 + 32
    deep = PauliPropagation(templates.hardware_efficient(4, num_layers=3))
    assert deep.num_strings > 2000
    assert deep._program.multiply.flops < 3 * deep.num_strings


@pytest.mark.parametrize("num_qubits", [16, 17, 48, 149, 384])
def test_second_derivatives_of_a_wide_ring(num_qubits):
    """`d2 <Z_last> / dx_i dx_j` of `rx_ring` with two cosines that vanish, in closed form."""
    rng = np.random.default_rng(3)
    angles = rng.uniform(-0.2, 0.2, num_qubits)
    i, j = 2, num_qubits - 2
    angles[[i, j]] = np.pi / 2
    engine = PauliPropagation(templates.rx_ring(num_qubits))
    x, w = tf.constant(angles[None, None]), tf.zeros((1, num_qubits), tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            last = engine.expectation(x, w)[0, 0, -1]
        by_i = tape.gradient(last, x)[0, 0, i]
    row = outer.gradient(by_i, x)[0, 0]
    cosines, sines = np.cos(angles), np.sin(angles)
    expected = np.array(
        [
            -np.prod(cosines)
            if k == i
            else sines[i] * sines[k] * leaving_out(cosines, range(num_qubits), {i, k})
            for k in range(num_qubits)
        ]
    )
    assert abs(expected[j]) > 1e-2
    np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize("template", ["rx_ring", "ry_ring"])
def test_a_thousand_qubits_are_read_in_seconds(template):
    spec = getattr(templates, template)(1024)
    start = time.perf_counter()
    engine = PauliPropagation(spec)
    assert time.perf_counter() - start < 20
    assert engine.num_strings == 1024


def test_runs_of_short_products_are_cut_once():
    """`ry_ring`: a first and a last factor, and all between as one piece; nothing is scaled."""
    program = PauliPropagation(templates.ry_ring(12))._program
    (runs,) = program.multiply._blocks
    assert runs._cuts == [0, 1, 11, 12] and runs.flops == 1
    assert program.sum(values := tf.ones((1, 1, 12)), tf.ones((1, 12))) is values


def test_weights_after_the_entangler_never_meet_the_batch():
    """Three strings an observable: Z_i, and Z_(i-1) with X_i or Y_i and Z_(i+1)."""
    engine = PauliPropagation(templates.hardware_efficient(12, 2, reupload=False))
    assert engine.num_strings == 36
    assert engine._program.trigonometric == ()
    # Multiplications: two a product of three factors.
    assert engine._program.multiply.flops == 48


def test_flops_grow_with_the_factors_not_with_their_products():
    small, large = (PauliPropagation(templates.rx_ring(n)).flops for n in (96, 384))
    assert large == 4 * small


# Refusals.


def test_refusal_is_fast_and_estimates_one_observable():
    spec = templates.hardware_efficient(40, num_layers=8)
    start = time.perf_counter()
    with pytest.raises(
        UnsupportedCircuitError,
        match=r"Received: \d+ strings after (\d+) of (\d+) rotations in the light cone of "
        r"observable 1 of 40, at that rate 1e\d+ for it at the end, at most 1e\d+",
    ):
        PauliPropagation(spec)
    assert time.perf_counter() - start < 1


def test_estimate_of_a_refusal():
    """Strings that double at every rotation: the rate, the bound and the truth are the same."""
    with pytest.raises(UnsupportedCircuitError) as refusal:
        PauliPropagation(templates.rx_ring(24, num_layers=2))
    # <Z_0> of the ring passes 23 rotations, each of which splits every string: 2**23 is 1e7.
    assert "13 of 23 rotations" in str(refusal.value)
    assert "at that rate 1e7 for it at the end, at most 1e7" in str(refusal.value)


def test_refusal_for_all_observables_together():
    spec = templates.hardware_efficient(8, num_layers=3)
    with pytest.raises(
        UnsupportedCircuitError,
        match=r"Received: 4270 strings after observable 7 of 8, about 4880 for all",
    ):
        PauliPropagation(spec)


ON_JAX = """
import jax, numpy as np
from qrkt_keras.circuits import templates
from qrkt_keras.execution import PauliPropagation
angles = np.random.default_rng(0).uniform(-0.5, 0.5, 40)
angles[[2, 30]] = np.pi / 2
engine = PauliPropagation(templates.rx_ring(40))
last = lambda x: engine.expectation(x[None, None], np.zeros((1, 40), "float32"))[0, 0, -1]
hessian = jax.jit(jax.hessian(last))(angles.astype("float32"))
np.testing.assert_allclose(np.diag(hessian), -np.prod(np.cos(angles)), atol=1e-6)
expected = np.prod(np.cos(np.delete(angles, [2, 30])))
assert abs(expected) > 0.1
np.testing.assert_allclose(hessian[2, 30], expected, atol=1e-6)
assert np.count_nonzero(abs(hessian) > 1e-6) == 2
"""


def test_second_derivatives_on_jax(repository):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        env=environment,
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
