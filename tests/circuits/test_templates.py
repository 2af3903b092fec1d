"""The named circuits against closed forms, published counts and circuits written out by hand."""

from __future__ import annotations

import time

import cirq
import numpy as np
import pytest
import sympy
from support.reference import cirq_expectation, cirq_gradient

from qrkt_keras.circuits import CircuitSpec, templates


def angles(spec: CircuitSpec, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.uniform(-np.pi, np.pi, spec.num_inputs),
        random.uniform(-np.pi, np.pi, spec.num_weights),
    )


def values_of(circuit: cirq.Circuit, observables) -> np.ndarray:
    """Expectation values of a circuit without symbols."""
    simulator = cirq.Simulator(dtype=np.complex128)
    return np.real(simulator.simulate_expectation_values(circuit, observables))


def z_of_all(qubits) -> list[cirq.PauliSum]:
    return [cirq.PauliSum() + cirq.Z(q) for q in qubits]


def pairs(n: int) -> list[tuple[int, int]]:
    """CNOT(j, j+1 mod n) in sequence; two qubits have one, one qubit none."""
    return [] if n == 1 else [(0, 1)] if n == 2 else [(j, (j + 1) % n) for j in range(n)]


# Circuits written out by hand from SPEC.md section 1, with numbers and without symbols.


def rx_ring_by_hand(q, layers, x, w):
    w = w.reshape(layers, len(q))
    yield [cirq.rx(x[j])(q[j]) for j in range(len(q))]
    for layer in range(layers):
        yield [cirq.rx(w[layer, j])(q[j]) for j in range(len(q))]
        yield [cirq.CNOT(q[i], q[j]) for i, j in pairs(len(q))]


def ry_ring_by_hand(q, layers, x, w):
    for j in range(len(q)):
        yield [cirq.ry(x[j])(q[j]), cirq.rx(w[j])(q[j]), cirq.rz(w[j])(q[j])]
    if len(q) == 2:
        yield cirq.CNOT(q[0], q[1])
    if len(q) > 2:
        for i, j in pairs(len(q)):
            yield [cirq.H(q[i]), cirq.CNOT(q[i], q[j])]


def hardware_efficient_by_hand(q, layers, x, w, reupload=True):
    n = len(q)
    # With the last layer's second RZ, whose angle must not matter.
    full = np.full((layers, n, 3), 0.789)
    full[:-1] = w[: 3 * n * (layers - 1)].reshape(layers - 1, n, 3)
    full[-1, :, :2] = w[3 * n * (layers - 1) :].reshape(n, 2)
    for layer in range(layers):
        if reupload or layer == 0:
            yield [cirq.rx(x[j])(q[j]) for j in range(n)]
        for j in range(n):
            a, b, c = full[layer, j]
            yield [cirq.rz(a)(q[j]), cirq.ry(b)(q[j]), cirq.rz(c)(q[j])]
        yield [cirq.CZ(q[i], q[j]) for i, j in pairs(n)]


BY_HAND = {
    "rx_ring": rx_ring_by_hand,
    "ry_ring": ry_ring_by_hand,
    "hardware_efficient": hardware_efficient_by_hand,
}


@pytest.mark.parametrize("num_qubits", range(1, 6))
@pytest.mark.parametrize(
    ("name", "num_layers"),
    [
        ("rx_ring", 1),
        ("rx_ring", 2),
        ("rx_ring", 3),
        ("ry_ring", 1),
        ("hardware_efficient", 1),
        ("hardware_efficient", 2),
        ("hardware_efficient", 3),
    ],
)
def test_template_is_the_circuit_written_by_hand(name, num_layers, num_qubits):
    spec = templates.get(name, num_qubits, num_layers)
    x, w = angles(spec, seed=num_qubits)
    q = cirq.LineQubit.range(num_qubits)
    assert spec.qubits == tuple(q)
    assert spec.observables == tuple(z_of_all(q))
    by_hand = cirq.Circuit(BY_HAND[name](q, num_layers, x, w))
    np.testing.assert_allclose(
        cirq_expectation(spec, x, w), values_of(by_hand, z_of_all(q)), rtol=0, atol=1e-12
    )


def test_hardware_efficient_without_reuploading_is_the_circuit_written_by_hand():
    spec = templates.hardware_efficient(3, 2, reupload=False)
    x, w = angles(spec)
    q = cirq.LineQubit.range(3)
    by_hand = cirq.Circuit(hardware_efficient_by_hand(q, 2, x, w, reupload=False))
    np.testing.assert_allclose(
        cirq_expectation(spec, x, w), values_of(by_hand, z_of_all(q)), rtol=0, atol=1e-12
    )
    assert spec != templates.hardware_efficient(3, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", range(1, 9))
class TestClosedForms:
    def test_rx_ring(self, n, seed):
        spec = templates.rx_ring(n)
        x, w = angles(spec, seed)
        c = np.cos(x + w)
        expected = np.cumprod(c)
        if n > 2:
            expected[0] = np.prod(c[1:])
        np.testing.assert_allclose(cirq_expectation(spec, x, w), expected, rtol=0, atol=1e-12)

    def test_ry_ring(self, n, seed):
        spec = templates.ry_ring(n)
        x, w = angles(spec, seed)
        if n <= 2:
            expected = np.cumprod(np.cos(x) * np.cos(w))
        else:
            f = np.sin(x) * np.cos(w) + np.cos(x) * np.sin(w) ** 2
            expected = np.array([f[0] * f[-1], *f[1:]])
        np.testing.assert_allclose(cirq_expectation(spec, x, w), expected, rtol=0, atol=1e-12)


class TestCounts:
    @pytest.mark.parametrize("n", [1, 2, 3, 8, 384])
    @pytest.mark.parametrize("layers", [1, 2])
    def test_rx_ring(self, n, layers):
        spec = templates.rx_ring(n, layers)
        assert spec.weight_shape == (layers, n)
        assert (spec.num_inputs, spec.num_observables, spec.num_qubits) == (n, n, n)

    @pytest.mark.parametrize("n", [1, 2, 3, 8, 384])
    def test_ry_ring_has_one_weight_a_qubit(self, n):
        spec = templates.ry_ring(n)
        assert spec.weight_shape == (1, n)
        assert (spec.num_inputs, spec.num_observables, spec.num_qubits) == (n, n, n)

    @pytest.mark.parametrize("n", [1, 2, 3, 8])
    @pytest.mark.parametrize("layers", [1, 2, 3])
    def test_hardware_efficient_lacks_the_dead_rotations(self, n, layers):
        spec = templates.hardware_efficient(n, layers)
        assert spec.weight_shape == (3 * n * layers - n,)
        assert (spec.num_inputs, spec.num_observables, spec.num_qubits) == (n, n, n)

    # Kawase's printed numbers of parameters, for 4, 9 and 16 patches.
    @pytest.mark.parametrize(
        ("d", "printed"),
        [(50, (10112, 22752, 40448)), (100, (19712, 44352, 78848))],
    )
    def test_patch_as_printed(self, d, printed):
        spec = templates.patch(d)
        assert tuple(patches * spec.num_weights for patches in (4, 9, 16)) == printed

    @pytest.mark.parametrize("d", [1, 2, 5])
    def test_patch(self, d):
        spec = templates.patch(d)
        assert spec.weight_shape == (8 * (6 * d + 16),)
        assert (spec.num_qubits, spec.num_inputs, spec.num_observables) == (8, 64, 10)

    def test_names_of_symbols(self):
        for spec in (templates.rx_ring(3, 2), templates.hardware_efficient(2), templates.patch(1)):
            assert [s.name for s in spec.inputs] == [f"x{i}" for i in range(spec.num_inputs)]
            assert [s.name for s in spec.weights] == [f"w{i}" for i in range(spec.num_weights)]

    def test_cz_rings_are_shallow(self):
        # Encoding and three rotations, and the ring in two moments (three where n is odd).
        assert templates.hardware_efficient(6, 1).depth == 3 + 2
        assert templates.hardware_efficient(384, 3).depth == 4 + 2 + 4 + 2 + 3 + 2


def gates_on(spec: CircuitSpec, qubit: cirq.Qid) -> list:
    """What happens to a qubit, in order; a ring's CZs, which commute, as one set."""
    events = []
    for operation in spec.circuit.all_operations():
        if qubit not in operation.qubits:
            continue
        if operation.gate == cirq.CZ:
            (partner,) = set(operation.qubits) - {qubit}
            if not events or not isinstance(events[-1], set):
                events.append(set())
            assert partner.x not in events[-1]
            events[-1].add(partner.x)
        else:
            (symbol,) = (sympy.pi * operation.gate.exponent).free_symbols
            assert sympy.simplify(sympy.pi * operation.gate.exponent - symbol) == 0
            events.append((type(operation.gate), symbol.name))
    return events


def patch_by_hand(q, d, x, w):
    """SPEC.md section 5 for any number of qubits and features, with numbers."""
    n, w, x = len(q), list(w), list(x)
    each = -(-len(x) // (2 * n))

    def entangle(rings=True):
        for rotation in (cirq.rx, cirq.ry):
            yield [rotation(w.pop(0))(qubit) for qubit in q]
        if rings:
            yield ring()

    def ring():
        return [cirq.CZ(q[i], q[j]) for i, j in pairs(n)]

    def read(features):
        for i in range(n):
            for j, feature in enumerate(features[i * each : (i + 1) * each]):
                around, within = (cirq.rx, cirq.ry) if j % 2 else (cirq.ry, cirq.rx)
                yield around(w.pop(0))(q[i]), within(feature)(q[i]), around(w.pop(0))(q[i])
        yield ring()

    for features in (x[: each * n], x[each * n :]):
        for _ in range(d):
            yield entangle()
        yield read(features)
    for block in range(d):
        yield entangle(rings=block < d - 1)
    assert not w


class TestPatch:
    @pytest.mark.parametrize("d", [1, 2, 3])
    @pytest.mark.parametrize("i", [0, 3, 7])
    def test_gates_are_in_kawases_order(self, d, i):
        def block(first):
            return [(cirq.Rx, f"w{first + i}"), (cirq.Ry, f"w{first + 8 + i}"), ring]

        def data(first_weight, first_feature):
            weight = iter(range(first_weight + 8 * i, first_weight + 8 * i + 8))
            gates = []
            for j in range(4):
                outer, inner = (cirq.Ry, cirq.Rx) if j in (0, 2) else (cirq.Rx, cirq.Ry)
                gates += [(outer, f"w{next(weight)}"), (inner, f"x{first_feature + 4 * i + j}")]
                gates += [(outer, f"w{next(weight)}")]
            return [*gates, ring]

        ring = {(i - 1) % 8, (i + 1) % 8}
        expected = []
        for group in range(3):
            start = group * (16 * d + 64)
            for b in range(d):
                expected += block(start + 16 * b)
            if group < 2:
                expected += data(start + 16 * d, 32 * group)
        assert expected.pop() == ring  # the very last ring is left out
        assert gates_on(templates.patch(d), cirq.LineQubit(i)) == expected

    def test_the_sources_sizes_are_the_default(self):
        assert templates.patch(1) is templates.patch(1, 8, 64, 10)
        assert templates.patch(1) == templates.patch(
            num_blocks=1, num_qubits=8, num_features=64, num_values=10
        )

    @pytest.mark.parametrize(
        ("d", "n", "features", "values"),
        [
            (1, 4, 16, 3),
            (2, 3, 18, 6),
            (1, 2, 9, 4),  # an odd number: the second block has less to read
            (1, 3, 7, 2),  # the last qubit reads nothing in the second block
            (2, 5, 4, 5),  # the second block reads nothing at all
            (1, 1, 5, 2),
            (1, 2, 4, 1),
        ],
    )
    def test_other_sizes_are_the_circuit_written_by_hand(self, d, n, features, values):
        spec = templates.patch(d, num_qubits=n, num_features=features, num_values=values)
        assert spec.weight_shape == (6 * d * n + 2 * features,)
        assert (spec.num_qubits, spec.num_inputs) == (n, features)
        x, w = angles(spec)
        q = cirq.LineQubit.range(n)
        circuit = cirq.Circuit(patch_by_hand(q, d, x, w))
        read = [cirq.X(a) for a in q[: (values + 1) // 2]] + [cirq.Z(a) for a in q[: values // 2]]
        assert spec.observables == tuple(cirq.PauliSum() + one for one in read)
        np.testing.assert_allclose(
            cirq_expectation(spec, x, w), values_of(circuit, read), rtol=0, atol=1e-12
        )

    def test_read_out(self):
        q = cirq.LineQubit.range(5)
        expected = [cirq.X(a) for a in q] + [cirq.Z(a) for a in q]
        assert templates.patch(1).observables == tuple(cirq.PauliSum() + p for p in expected)


def influence(spec: CircuitSpec) -> np.ndarray:
    """|∂⟨O_i⟩/∂x_j| in float64, at a random point: (num_observables, num_inputs)."""
    x, w = angles(spec)
    step = 1e-5
    columns = [
        (cirq_expectation(spec, x + e, w) - cirq_expectation(spec, x - e, w)) / (2 * step)
        for e in step * np.eye(spec.num_inputs)
    ]
    return np.abs(np.stack(columns, axis=-1))


class TestMixing:
    """What hardware_efficient's docstring says about how far features reach."""

    N = 5
    DISTANCE = np.array([[min((i - j) % 5, (j - i) % 5) for j in range(5)] for i in range(5)])

    @pytest.mark.parametrize(("num_layers", "reach"), [(1, 0), (2, 1), (3, 2)])
    @pytest.mark.parametrize("reupload", [True, False])
    def test_each_layer_after_the_first_reaches_one_qubit_further(
        self, num_layers, reach, reupload
    ):
        found = influence(templates.hardware_efficient(self.N, num_layers, reupload))
        assert found[self.DISTANCE <= reach].min() > 1e-6
        if reach < 2:
            assert found[self.DISTANCE > reach].max() < 1e-9

    def test_three_layers_are_the_default(self):
        assert templates.hardware_efficient(5) is templates.hardware_efficient(5, 3, True)


TEMPLATES = [
    *(templates.rx_ring(n, layers) for n in range(1, 6) for layers in (1, 2)),
    *(templates.ry_ring(n) for n in range(1, 6)),
    *(templates.hardware_efficient(n, layers) for n in range(1, 4) for layers in (1, 2, 3)),
    templates.hardware_efficient(5),
    templates.hardware_efficient(3, reupload=False),
]


@pytest.mark.parametrize("spec", TEMPLATES, ids=str)
def test_every_angle_gets_a_gradient(spec):
    x, w = angles(spec, seed=1)
    upstream = np.random.default_rng(2).normal(size=spec.num_observables)
    assert np.abs(cirq_gradient(spec, x, w, upstream)).min() > 1e-4


@pytest.mark.parametrize("d", [1, 2])
def test_every_angle_of_patch_but_the_listed_ones_gets_a_gradient(d):
    """The listed ones are those of the docstring, and they do not get one."""
    spec = templates.patch(d)
    x, w = angles(spec, seed=1)
    last, second_data, features = spec.num_weights - 16, 16 * 2 * d + 64, 64
    dead = {features + last + offset + i for offset in (0, 8) for i in (5, 6, 7)}
    if d == 1:
        dead |= {features + second_data + 8 * 6 + k for k in range(8)} | {56, 57, 58, 59}
    else:
        dead |= {features + last - 16 + 6, features + last - 8 + 6}
    # Inputs are sampled, and with d = 2 what precedes the second data block is left out.
    first = 0 if d == 1 else second_data
    columns = [*range(54, 64), *range(features + first, features + spec.num_weights)]
    upstream = np.random.default_rng(2).normal(size=spec.num_observables)
    gradient = np.abs(cirq_gradient(spec, x, w, upstream, columns))
    zero = np.array([column in dead for column in columns])
    assert gradient[zero].max() < 1e-9
    assert gradient[~zero].min() > 1e-5


class TestBuilding:
    def test_a_template_is_built_once(self):
        assert templates.rx_ring(4) is templates.rx_ring(num_qubits=4, num_layers=1)
        assert templates.rx_ring(np.int64(4)) is templates.rx_ring(4)
        assert templates.patch(1) is templates.patch(num_blocks=1)

    def test_round_trip(self):
        for spec in [*TEMPLATES, templates.patch(1)]:
            assert CircuitSpec.from_json(spec.to_json()) == spec

    @pytest.mark.parametrize("name", templates.list())
    def test_a_wide_one_is_built_in_about_a_second(self, name):
        start = time.process_time()
        spec = templates.get(name, 383)  # a width that no other test has built
        assert time.process_time() - start < 2.0
        assert spec.num_qubits == 383

    def test_get(self):
        assert templates.list() == (
            "hardware_efficient",
            "hardware_efficient_once",
            "rx_ring",
            "ry_ring",
        )
        assert templates.get("rx_ring", 3, 2) is templates.rx_ring(3, 2)
        assert templates.get("ry_ring", 3) is templates.ry_ring(3)
        assert templates.get("hardware_efficient_once", 3, num_layers=2) is (
            templates.hardware_efficient(3, 2, reupload=False)
        )
        assert templates.get("hardware_efficient", 3, num_layers=2) is (
            templates.hardware_efficient(3, 2)
        )

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (
                lambda: templates.get("qft", 3),
                ValueError,
                "are hardware_efficient, hardware_efficient_once, rx_ring, ry_ring. "
                "Received: name='qft'$",
            ),
            (lambda: templates.get("patch", 8), ValueError, "Received: name='patch'$"),
            (lambda: templates.get(["rx_ring"], 8), TypeError, r"Received: name=\['rx_ring'\]$"),
            (
                lambda: templates.get("ry_ring", 3, 2),
                ValueError,
                "one layer. Received: num_layers=2$",
            ),
            (lambda: templates.get("rx_ring", 0), ValueError, "Received: num_qubits=0$"),
            (lambda: templates.rx_ring(0), ValueError, "at least 1. Received: num_qubits=0$"),
            (lambda: templates.rx_ring(3, 0), ValueError, "at least 1. Received: num_layers=0$"),
            (lambda: templates.rx_ring(3.0), TypeError, "integer. Received: num_qubits=3.0$"),
            (lambda: templates.rx_ring(True), TypeError, "integer. Received: num_qubits=True$"),
            (lambda: templates.rx_ring([3]), TypeError, r"integer. Received: num_qubits=\[3\]$"),
            (lambda: templates.ry_ring(-1), ValueError, "at least 1. Received: num_qubits=-1$"),
            (lambda: templates.hardware_efficient("4"), TypeError, "num_qubits='4'$"),
            (lambda: templates.hardware_efficient(4, 0), ValueError, "num_layers=0$"),
            (lambda: templates.hardware_efficient(4, 3, 1), TypeError, "True or False.*upload=1$"),
            (lambda: templates.patch(0), ValueError, "at least 1. Received: num_blocks=0$"),
            (lambda: templates.patch(None), TypeError, "integer. Received: num_blocks=None$"),
            (lambda: templates.patch(1, 0), ValueError, "at least 1. Received: num_qubits=0$"),
            (lambda: templates.patch(1, 8, 0), ValueError, "Received: num_features=0$"),
            (lambda: templates.patch(1, 8, 2.0), TypeError, "Received: num_features=2.0$"),
            (lambda: templates.patch(1, 2, 4, 0), ValueError, "Received: num_values=0$"),
            (
                lambda: templates.patch(1, 2, 4, 5),
                ValueError,
                "are 2 \\* num_qubits values. Received: num_values=5 with num_qubits=2$",
            ),
        ],
    )
    def test_bad_arguments(self, call, error, words):
        with pytest.raises(error, match=words):
            call()
