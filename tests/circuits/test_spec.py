"""CircuitSpec: what it keeps, what it refuses, and its JSON."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys

import cirq
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from qrkt_keras.circuits import CircuitSpec, templates

A, B, C = cirq.LineQubit.range(3)
X, Y, W = sympy.symbols("x y w")


def simple_spec() -> CircuitSpec:
    circuit = cirq.Circuit(cirq.rx(X)(A), cirq.ry(W)(B), cirq.CNOT(A, B))
    return CircuitSpec(circuit, [X], [W], [cirq.Z(A), cirq.Z(B)])


def build(*operations, inputs=(), weights=(), observables=None) -> CircuitSpec:
    observables = cirq.Z(A) if observables is None else observables
    return CircuitSpec(cirq.Circuit(*operations), inputs, weights, observables)


class TestFields:
    def test_properties(self):
        spec = simple_spec()
        assert isinstance(spec.circuit, cirq.FrozenCircuit)
        assert spec.inputs == (X,)
        assert spec.weights == (W,)
        assert spec.weight_shape == (1,)
        assert spec.qubits == (A, B)
        assert (spec.num_qubits, spec.num_inputs, spec.num_weights) == (2, 1, 1)
        assert (spec.num_observables, spec.depth) == (2, 2)
        assert spec.observables == (cirq.PauliSum() + cirq.Z(A), cirq.PauliSum() + cirq.Z(B))
        assert all(isinstance(o, cirq.PauliSum) for o in spec.observables)
        assert repr(spec) == (
            "CircuitSpec(num_qubits=2, num_inputs=1, weight_shape=(1,), num_observables=2, depth=2)"
        )

    def test_frozen_circuit_names_and_single_observable(self):
        circuit = cirq.FrozenCircuit(cirq.rx(X)(A), cirq.ry(W)(A))
        spec = CircuitSpec(circuit, "x", "w", cirq.Z(A))
        assert spec == CircuitSpec(circuit.unfreeze(), [X], [W], [cirq.PauliSum() + cirq.Z(A)])

    @pytest.mark.parametrize(
        ("weights", "shape"),
        [
            (["w0", "w1", "w2", "w3", "w4", "w5"], (6,)),
            ([["w0", "w1", "w2"], ["w3", "w4", "w5"]], (2, 3)),
            (np.array([f"w{i}" for i in range(6)]).reshape(3, 1, 2), (3, 1, 2)),
            (np.array(sympy.symbols("w0:6")).reshape(3, 2), (3, 2)),
            (sympy.Matrix(2, 3, sympy.symbols("w0:6")), (2, 3)),
            (sympy.Array(sympy.symbols("w0:6"), (1, 6)), (1, 6)),
            (iter(sympy.symbols("w0:6")), (6,)),
        ],
    )
    def test_weights_of_any_shape_are_row_major(self, weights, shape):
        spec = build([cirq.rx(w)(A) for w in sympy.symbols("w0:6")], weights=weights)
        assert spec.weight_shape == shape
        assert [symbol.name for symbol in spec.weights] == [f"w{i}" for i in range(6)]
        assert CircuitSpec.from_json(spec.to_json()).weight_shape == shape

    def test_symbols_are_known_by_name(self):
        real = sympy.Symbol("x", real=True)
        spec = build(cirq.rx(real)(A), cirq.FSimGate(2 * real, 0.1)(A, B), inputs=[real])
        assert spec.inputs == (X,)
        assert spec == build(cirq.rx(X)(A), cirq.FSimGate(2 * X, 0.1)(A, B), inputs=[X])
        first = spec.circuit.moments[0].operations[0]
        assert first.gate.exponent.free_symbols == {X}

    def test_no_inputs_or_no_weights(self):
        assert build(cirq.rx(W)(A), weights=[W]).num_inputs == 0
        spec = build(cirq.rx(X)(A), inputs=[X])
        assert spec.num_weights == 0 and spec.weight_shape == (0,)
        assert CircuitSpec.from_json(spec.to_json()) == spec

    def test_observables_of_every_kind(self):
        observables = [
            cirq.X(A),
            cirq.XPowGate()(A),
            cirq.GateOperation(cirq.X, [A]),
            cirq.Z(A) * cirq.Y(B),
            cirq.DensePauliString("ZY").on(A, B),
            (cirq.Z(A) * cirq.Y(B)).mutable_copy(),
            0.5 * cirq.Z(A) - 2 * cirq.Z(B) + 1,
            cirq.I(A),
        ]
        spec = build(cirq.H(A), cirq.H(B), observables=observables)
        x, zy = cirq.PauliSum() + cirq.X(A), cirq.PauliSum() + cirq.Z(A) * cirq.Y(B)
        mixed = cirq.PauliSum.from_pauli_strings([0.5 * cirq.Z(A), -2 * cirq.Z(B)]) + 1
        assert spec.observables == (x, x, x, zy, zy, zy, mixed, cirq.PauliSum() + 1)
        assert CircuitSpec.from_json(spec.to_json()).observables == spec.observables

    def test_rounding_in_a_product_of_paulis_is_not_an_imaginary_part(self):
        observable = cirq.PauliString({A: cirq.Z}, coefficient=1 + 1e-17j)
        (read,) = build(cirq.X(A), observables=observable).observables
        assert read == cirq.PauliSum() + cirq.Z(A)

    def test_circuit_operations_are_unrolled(self):
        inner = cirq.FrozenCircuit(cirq.rx(X)(A), cirq.CNOT(A, B))
        repeated = cirq.CircuitOperation(
            inner, repetitions=2, qubit_map={B: C}, use_repetition_ids=False
        )
        outer = cirq.CircuitOperation(cirq.FrozenCircuit(repeated), use_repetition_ids=False)
        spec = build(outer.with_tags("twice"), inputs=[X])
        plain = [cirq.rx(X)(A), cirq.CNOT(A, C)]
        assert spec == build(plain, plain, inputs=[X])

    def test_global_phases_and_empty_moments_are_dropped(self):
        phase = cirq.global_phase_operation(1j)
        circuit = cirq.Circuit(cirq.Moment(), cirq.Moment(cirq.X(A), phase), cirq.Moment(phase))
        spec = CircuitSpec(circuit, (), (), cirq.Z(A))
        assert spec.circuit == cirq.FrozenCircuit(cirq.X(A))

    def test_qubits_of_all_kinds_are_sorted(self):
        names = cirq.NamedQubit("b"), cirq.NamedQubit("a"), cirq.GridQubit(1, 0), B, A
        spec = build([cirq.X(q) for q in names])
        assert spec.qubits == tuple(sorted(names))
        assert CircuitSpec.from_json(spec.to_json()).qubits == spec.qubits


class TestFrozen:
    @pytest.mark.parametrize(
        "name", ["circuit", "inputs", "weights", "observables", "weight_shape", "_text", "new"]
    )
    def test_cannot_be_changed(self, name):
        spec = simple_spec()
        with pytest.raises(AttributeError, match=f"cannot be changed.*{name}"):
            setattr(spec, name, ())
        with pytest.raises(AttributeError, match=f"cannot be changed.*{name}"):
            delattr(spec, name)

    def test_changing_an_observable_in_place_changes_a_copy(self):
        spec = simple_spec()
        observable = spec.observables[0]
        observable += cirq.X(B)
        assert len(observable) == 2
        assert spec == simple_spec() and len(spec.observables[0]) == 1

    def test_changing_what_it_was_made_of_does_not_change_it(self):
        circuit, inputs, observable = cirq.Circuit(cirq.rx(X)(A)), [X], cirq.PauliSum() + cirq.Z(A)
        spec = CircuitSpec(circuit, inputs, [], [observable])
        text = spec.to_json()
        circuit.append(cirq.Z(A))
        inputs.append(Y)
        observable += cirq.X(A)
        assert len(spec.circuit) == 1 and spec.inputs == (X,)
        assert spec.observables == (cirq.PauliSum() + cirq.Z(A),)
        assert CircuitSpec(spec.circuit, spec.inputs, [], spec.observables).to_json() == text

    def test_equality_and_hash(self):
        spec, other = simple_spec(), simple_spec()
        assert spec is not other
        assert spec == other and hash(spec) == hash(other) and len({spec, other}) == 1
        assert spec != "spec" and spec != spec.to_json()

    @pytest.mark.parametrize(
        "other",
        [
            lambda c: CircuitSpec(c, ["w"], ["x"], [cirq.Z(A), cirq.Z(B)]),
            lambda c: CircuitSpec(c, ["x"], [["w"]], [cirq.Z(A), cirq.Z(B)]),
            lambda c: CircuitSpec(c, ["x"], ["w"], [cirq.Z(B), cirq.Z(A)]),
            lambda c: CircuitSpec(c, ["x"], ["w"], [cirq.Z(A), 0.5 * cirq.Z(B)]),
            lambda c: CircuitSpec(c + cirq.H(A), ["x"], ["w"], [cirq.Z(A), cirq.Z(B)]),
        ],
    )
    def test_every_part_counts(self, other):
        spec = simple_spec()
        assert other(spec.circuit.unfreeze()) != spec

    def test_order_within_a_moment_and_a_sum_does_not_count(self):
        def make(operations, observable):
            return CircuitSpec(cirq.Circuit(cirq.Moment(operations)), (), (), observable)

        first = make([cirq.X(A), cirq.H(B)], cirq.Z(A) + cirq.X(A) * cirq.Z(B))
        second = make([cirq.H(B), cirq.X(A)], cirq.Z(B) * cirq.X(A) + cirq.Z(A))
        assert first.to_json() == second.to_json()

    def test_copies_and_pickles(self):
        spec = simple_spec()
        assert copy.copy(spec) is spec
        assert copy.deepcopy({"spec": [spec]})["spec"][0] is spec
        loaded = pickle.loads(pickle.dumps(spec))
        assert loaded == spec and hash(loaded) == hash(spec)

    def test_text_is_the_same_in_another_process(self):
        """Cirq keeps Pauli terms in sets of hashed names, and Python salts its hashes."""
        script = (
            "import cirq; from qrkt_keras.circuits import CircuitSpec\n"
            "q = [cirq.NamedQubit(n) for n in 'abcdef']\n"
            "o = sum((cirq.Z(a) * cirq.X(b) for a in q for b in q if a != b), cirq.PauliSum())\n"
            "print(CircuitSpec(cirq.Circuit(map(cirq.H, q)), (), (), o).to_json())"
        )
        texts = {
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(texts) == 1


class NotUnitary(cirq.Gate):
    def _num_qubits_(self):
        return 1

    def __str__(self):
        return "my_gate"


class Unknown(NotUnitary):
    def _unitary_(self):
        return np.eye(2)


class OwnQubit(cirq.NamedQubit):
    pass


def fixed(*operations, repetitions=1):
    circuit = cirq.FrozenCircuit(*operations)
    return cirq.CircuitOperation(circuit, repetitions=repetitions, use_repetition_ids=False)


class TestMistakes:
    """Each names the culprit."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (dict(inputs=["x"]), "listed in inputs or in weights.*unlisted symbols: w$"),
            (dict(weights=["w"]), "unlisted symbols: x$"),
            (dict(), "unlisted symbols: w, x$"),
            (dict(inputs=["x", "w"], weights=["w"]), "not both.*in weights: w$"),
            (dict(inputs=["x", "x"], weights=["w"]), "inputs must not repeat.*more than once: x$"),
            (dict(inputs=["x"], weights=[["w"], ["w"]]), "weights must not repeat.*once: w$"),
            (dict(inputs=["x", "y"], weights=["w"]), "inputs must occur.*do not: y$"),
            (dict(inputs=["x"], weights=["w", "v"]), "weights must occur.*do not: v$"),
            (dict(inputs=["x", ""], weights=["w"]), "needs a name.*Received: ''$"),
            (dict(inputs=[["x"]], weights=["w"]), r"flat sequence.*shape \(1, 1\)$"),
            (dict(inputs=["x"], weights=[["w"], ["w", "v"]]), r"rows of equal length.*\['w'\]"),
        ],
    )
    def test_symbols(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            build(cirq.rx(X)(A), cirq.ry(W)(A), **arguments)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (dict(inputs=3), r"inputs must be a sequence.*inputs=3 \(int\)$"),
            (dict(inputs=["x", 3]), r"among inputs: 3 \(int\)$"),
            (dict(inputs=["x"], weights=[X + 1]), r"among weights: x \+ 1 \(Add\)$"),
            (dict(inputs={"x"}), r"inputs must have an order.*\{'x'\} \(set\)$"),
            (dict(inputs=["x"], observables=3), r"observables=3 \(int\)$"),
            (dict(inputs=["x"], observables=[cirq.Z(A), "Z"]), r"observables\[1\]='Z' \(str\)$"),
            (dict(inputs=["x"], observables=cirq.H(A)), r"observables\[0\]=cirq.H\("),
            (dict(inputs=["x"], observables=cirq.X(A) ** 0.5), r"observables\[0\]=\(cirq.X"),
            (
                dict(inputs=["x"], observables=cirq.ProjectorSum()),
                r"observables=.*\(ProjectorSum\)$",
            ),
        ],
    )
    def test_types(self, arguments, words):
        with pytest.raises(TypeError, match=words):
            build(cirq.rx(X)(A), **arguments)

    def test_circuit_type(self):
        with pytest.raises(TypeError, match=r"circuit must be a cirq.Circuit.*\(list\)$"):
            CircuitSpec([cirq.X(A)], (), (), cirq.Z(A))

    @pytest.mark.parametrize(
        ("observable", "words"),
        [
            (cirq.Z(C), r"qubits of the circuit.*observables\[0\]=Z\(q\(2\)\) on q\(2\)$"),
            (cirq.Z(A) * cirq.Z(B) + cirq.Z(A), r"on q\(1\)$"),
            (1j * cirq.Z(A), r"Hermitian.*observables\[0\]=1j\*Z\(q\(0\)\).*coefficient 1j$"),
            (cirq.Z(A) + 1e-3j * cirq.X(A), r"Hermitian.*coefficient 0.001j$"),
            (math.nan * cirq.Z(A), "finite numbers"),
            (cirq.PauliString(cirq.Z(A), coefficient=W), r"finite numbers.*w\*Z\(q\(0\)\)$"),
            (cirq.Z(A) - cirq.Z(A), r"at least one term. Received: observables\[0\]=0$"),
            ([], "At least one observable.*Received: no observables$"),
        ],
    )
    def test_observables(self, observable, words):
        with pytest.raises(ValueError, match=words):
            build(cirq.X(A), observables=observable)

    @pytest.mark.parametrize(
        ("operations", "words"),
        [
            ([], r"at least one gate on a qubit. Received: circuit=cirq.Circuit\(\)"),
            ([cirq.global_phase_operation(1j)], "at least one gate on a qubit"),
            ([NotUnitary()(A)], r"must be unitary. Received: my_gate \(NotUnitary\) on q\(0\)$"),
            ([cirq.depolarize(0.1)(B)], r"unitary.*depolarize\(p=0.1\).*on q\(1\)$"),
            ([cirq.reset(A)], r"unitary.*reset .*on q\(0\)$"),
            (
                [cirq.MatrixGate(np.array([[1, 1], [0, 1]]), unitary_check=False)(A)],
                r"unitary.*MatrixGate\) on q\(0\)$",
            ),
            ([cirq.FSimGate(math.nan, 0.0)(A, B)], r"unitary.*nan.*on q\(0\), q\(1\)$"),
            ([cirq.rx(math.nan)(A)], r"finite.*Rx\(nanπ\).*on q\(0\)$"),
            ([cirq.X(A) ** math.inf], r"finite.*X\*\*inf.*on q\(0\)$"),
            ([cirq.measure(A, key="m"), cirq.X(A)], r"before its end.*moment 0: .*'m'.*on q\(0\)$"),
            ([cirq.X(A), cirq.measure(A, B)], r"remove the measurement.*on q\(0\), q\(1\)$"),
            ([fixed(cirq.X(A), cirq.measure(A, key="m"))], r"remove the measurement.*'m'"),
            (
                [cirq.measure(A, key="m"), cirq.X(B).with_classical_controls("m")],
                r"measured values.*classically controlled.*X\(q\(1\)\)",
            ),
            ([cirq.XPowGate(dimension=3)(cirq.LineQid(0, 3))], r"two levels.*with 3 levels$"),
            ([cirq.X(OwnQubit("mine"))], r"Cirq's own classes.*\(OwnQubit\)$"),
            ([fixed(cirq.X(A), repetitions=sympy.Symbol("n"))], r"fixed number.*loops=n"),
            ([Unknown()(A)], r"Cirq's JSON can hold.*Received: my_gate \(Unknown\) on q\(0\)$"),
            ([cirq.X(A).with_tags(range(3))], r"JSON can hold.*on q\(0\), tagged range\(0, 3\)$"),
            (
                [cirq.BooleanHamiltonianGate(["a"], ["a"], 0.1)(A)],
                r"JSON can hold.*\(BooleanHamiltonianGate\) on q\(0\)$",
            ),
            ([cirq.rx(sympy.sin(X))(A)], r"sums, products.*Received sin in.*on q\(0\)$"),
            ([cirq.rx(sympy.exp(X))(A)], r"sums, products.*Received exp in.*on q\(0\)$"),
            ([cirq.rx(sympy.I * X)(A)], r"sums, products.*Received ImaginaryUnit in.*on q\(0\)$"),
            ([cirq.rx(sympy.Dummy("x"))(A)], r"sums, products.*Received Dummy in.*on q\(0\)$"),
            ([cirq.rx(sympy.oo)(A)], r"sums, products.*Received Infinity in.*on q\(0\)$"),
            ([cirq.FSimGate(sympy.sin(X), 0.0)(A, B)], r"JSON can hold.*sin.*on q\(0\), q\(1\)$"),
            # Cirq's JSON forgets this gate's exponent, and does not name that one's symbols.
            (
                [cirq.PauliInteractionGate(cirq.X, True, cirq.Z, False, exponent=X)(A, B)],
                r"comes back changed.*\(PauliInteractionGate\) on q\(0\), q\(1\)$",
            ),
            (
                [cirq.PauliInteractionGate(cirq.X, True, cirq.Z, False, exponent=0.5)(A, B)],
                r"comes back changed.*\(PauliInteractionGate\) on q\(0\), q\(1\)$",
            ),
            (
                [cirq.PhasedFSimGate(0.1, 0.2, 0.3, 0.4, X)(A, B)],
                r"tell Cirq its symbols.*\(PhasedFSimGate\) on q\(0\), q\(1\)$",
            ),
        ],
    )
    def test_operations(self, operations, words):
        with pytest.raises(ValueError, match=words):
            CircuitSpec(cirq.Circuit(operations), ["x"], (), cirq.Z(A))

    def test_a_repeated_measurement_is_one_in_the_middle(self):
        with pytest.raises(ValueError, match="before its end"):
            build(fixed(cirq.X(A), cirq.measure(A, key="m"), repetitions=2))

    def test_long_lists_are_shortened(self):
        symbols = sympy.symbols("x0:9")
        with pytest.raises(ValueError, match="x0, x1, x2, x3, x4 and 4 more$"):
            build([cirq.rx(x)(A) for x in symbols])


def hand_made(**changes) -> str:
    document = json.loads(simple_spec().to_json())
    document.update(changes)
    return json.dumps({key: value for key, value in document.items() if value is not ...})


class TestJson:
    def test_it_is_plain_json_with_the_shape(self):
        document = json.loads(templates.rx_ring(2, 3).to_json())
        assert document["format"] == 1
        assert document["inputs"] == ["x0", "x1"]
        assert document["weights"] == [f"w{i}" for i in range(6)]
        assert document["weight_shape"] == [3, 2]
        assert cirq.read_json(json_text=json.dumps(document["circuit"])) == (
            templates.rx_ring(2, 3).circuit.unfreeze()
        )

    def test_layout_of_the_text_does_not_count(self):
        spec = simple_spec()
        text = json.dumps(json.loads(spec.to_json()), indent=4, sort_keys=True)
        assert text != spec.to_json()
        assert CircuitSpec.from_json(text) == spec
        assert CircuitSpec.from_json(text).to_json() == spec.to_json()

    def test_every_truncation_is_refused(self):
        text = simple_spec().to_json()
        for length in range(0, len(text), 7):
            with pytest.raises(ValueError, match="not the JSON text of a CircuitSpec.*Received"):
                CircuitSpec.from_json(text[:length])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[1, 2]", r"object with the keys format, circuit.*\(list\)$"),
            ("{}", r"object with the keys.*Received: \[\]$"),
            (hand_made(weights=...), r"object with the keys.*Received: \['circuit', 'format'"),
            (hand_made(surplus=1), "object with the keys.*surplus"),
            (hand_made(format=2), "format 1. Received: format=2$"),
            (hand_made(circuit=[]), r"holds a Circuit.*Received: \[\] \(list\)$"),
            (
                hand_made(circuit={"cirq_type": "LineQubit", "x": 0}),
                r"holds a Circuit.*\(LineQubit\)$",
            ),
            (hand_made(circuit={"cirq_type": "Circuit"}), "not the JSON text"),
            (hand_made(circuit={"cirq_type": "Circuit", "moments": [3]}), "not the JSON text"),
            (hand_made(circuit={"cirq_type": "NoSuchGate"}), "'NoSuchGate'"),
            (hand_made(inputs="x"), r"a list under 'inputs'. Received: 'x' \(str\)$"),
            (hand_made(inputs=[3]), r"names under 'inputs'. Received: 3 \(int\)$"),
            (hand_made(weights=[["w"]]), r"names under 'weights'. Received: \['w'\] \(list\)$"),
            (hand_made(weight_shape=[2]), r"weight_shape=\[2\] with 1 weights$"),
            (hand_made(weight_shape=[-1, -1]), r"weight_shape=\[-1, -1\] with 1 weights$"),
            (hand_made(weight_shape=[1.0]), r"weight_shape=\[1.0\] with 1 weights$"),
            (hand_made(weights=["v"]), "unlisted symbols: w$"),
            (hand_made(observables=[]), "At least one observable"),
            (hand_made(observables=["Z"]), r"observables\[0\]='Z'"),
            ("[" * 100_000, "not the JSON text"),
        ],
    )
    def test_malformed_text_is_refused(self, text, words):
        with pytest.raises(ValueError, match=words):
            CircuitSpec.from_json(text)

    @pytest.mark.parametrize("text", [None, b"{}", {}])
    def test_not_text(self, text):
        with pytest.raises(TypeError, match="the text that to_json wrote. Received"):
            CircuitSpec.from_json(text)

    @pytest.mark.parametrize(
        "hostile",
        [
            lambda code: {"cirq_type": "sympy.Indexed", "args": ["a", code]},
            lambda code: {"cirq_type": "sympy.Not", "args": [code]},
            lambda code: {"cirq_type": "sympy.Add", "args": [code, 1]},
            lambda code: {"cirq_type": "sympy.Pow", "args": [1, code]},
            lambda code: {"cirq_type": "sympy.Rational", "p": code, "q": 1},
            lambda code: {
                "cirq_type": "BooleanHamiltonianGate",
                "parameter_names": ["a"],
                "boolean_strs": [code],
                "theta": 0.1,
            },
            lambda code: {"cirq_type": "pandas.DataFrame", "data": [], "columns": [], "index": []},
            lambda code: {"cirq_type": "cirq.google.EngineProcessorRecord", "processor_id": "p"},
        ],
    )
    def test_nothing_in_the_text_is_executed(self, hostile, tmp_path):
        """Cirq's own reader runs the code of the first two."""
        trace = tmp_path / "trace"
        code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
        document = json.loads(simple_spec().to_json())
        gate = document["circuit"]["moments"][0]["operations"][0]["gate"]
        gate["rads"] = hostile(code)
        with pytest.raises(ValueError):
            CircuitSpec.from_json(json.dumps(document))
        assert not trace.exists()

    def test_gates_of_googles_processors(self):
        cirq_google = pytest.importorskip("cirq_google")
        spec = build(
            cirq_google.SYC(A, B),
            cirq.rz(X)(A).with_tags(cirq_google.PhysicalZTag()),
            inputs=[X],
        )
        # In a process that has not imported cirq_google.
        script = (
            "import sys; from qrkt_keras.circuits import CircuitSpec\n"
            "assert 'cirq_google' not in sys.modules\n"
            "print(CircuitSpec.from_json(sys.stdin.read()).to_json())"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            input=spec.to_json(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == spec.to_json()


NUMBERS = st.floats(-10, 10, allow_nan=False)


@st.composite
def parameters(draw):
    """Numbers, and sums, products and powers of the symbols x0 … x2."""
    if draw(st.booleans()):
        return draw(NUMBERS)
    expression = sympy.Symbol(f"x{draw(st.integers(0, 2))}")
    for _ in range(draw(st.integers(0, 2))):
        other = draw(
            st.one_of(
                NUMBERS.filter(lambda value: abs(value) > 1e-3),
                st.sampled_from([sympy.Rational(1, 3), sympy.pi, *sympy.symbols("x0:3")]),
            )
        )
        expression = draw(st.sampled_from([expression + other, expression * other]))
    return expression**2 if draw(st.integers(0, 5)) == 0 else expression


ONE = [cirq.rx, cirq.ry, cirq.rz, lambda p: cirq.X**p, lambda p: cirq.Z**p, lambda p: cirq.H**p]
ONE += [lambda p: cirq.PhasedXPowGate(phase_exponent=p, exponent=0.3)]
ONE += [lambda p: cirq.PhasedXZGate(x_exponent=p, z_exponent=0.1, axis_phase_exponent=p)]
ONE += [lambda p: cirq.T, lambda p: cirq.Y, lambda p: cirq.I, lambda p: cirq.S**-1]
TWO = [lambda p: cirq.CZ**p, lambda p: cirq.CNOT**p, lambda p: cirq.ISWAP**p, lambda p: cirq.ZZ**p]
TWO += [lambda p: cirq.XX**p, lambda p: cirq.SWAP**p, lambda p: cirq.FSimGate(p, 0.7), cirq.ms]
TWO += [lambda p: cirq.rx(p).controlled(), lambda p: cirq.ry(p).controlled(control_values=[0])]
TWO += [lambda p: cirq.CNOT, lambda p: cirq.CZ, cirq.givens, cirq.cphase]
THREE = [lambda p: cirq.CCZ**p, lambda p: cirq.CCX, lambda p: cirq.CSWAP]


@st.composite
def circuits(draw):
    qubits = draw(st.sampled_from([cirq.LineQubit.range(3), cirq.GridQubit.square(2)[:3]]))
    operations = []
    for _ in range(draw(st.integers(1, 6))):
        gates = draw(st.sampled_from([ONE, TWO, THREE]))
        size = {id(ONE): 1, id(TWO): 2, id(THREE): 3}[id(gates)]
        gate = draw(st.sampled_from(gates))(draw(parameters()))
        operations.append(gate(*draw(st.permutations(qubits))[:size]))
    return cirq.Circuit(operations, [cirq.I(q) for q in qubits])


@st.composite
def observables(draw, qubits):
    sums = []
    for _ in range(draw(st.integers(1, 3))):
        total = cirq.PauliSum()
        for _ in range(draw(st.integers(1, 3))):
            paulis = draw(
                st.dictionaries(
                    st.sampled_from(qubits), st.sampled_from([cirq.X, cirq.Y, cirq.Z]), min_size=1
                )
            )
            total += cirq.PauliString(paulis, coefficient=draw(st.floats(0.1, 3)))
        sums.append(total)
    return sums


@given(data=st.data())
@settings(max_examples=150)
def test_random_circuits_round_trip(data):
    circuit = data.draw(circuits())
    sums = data.draw(observables(sorted(circuit.all_qubits())))
    names = sorted(cirq.parameter_names(circuit))
    cut = data.draw(st.integers(0, len(names)))
    spec = CircuitSpec(circuit, names[:cut], names[cut:], sums)
    loaded = CircuitSpec.from_json(spec.to_json())
    assert loaded == spec and hash(loaded) == hash(spec)
    assert loaded.to_json() == spec.to_json()
    assert (loaded.inputs, loaded.weights) == (spec.inputs, spec.weights)
    # Neither making nor reading a spec changes what the user's circuit does.
    values = {name: 0.1 + 0.3 * index for index, name in enumerate(names)}
    for kept in (spec, loaded):
        np.testing.assert_allclose(
            cirq.unitary(cirq.resolve_parameters(kept.circuit, values)),
            cirq.unitary(cirq.resolve_parameters(circuit, values)),
            rtol=0,
            atol=1e-12,
        )
        matrices = [o.matrix(spec.qubits) for o in kept.observables]
        for matrix, total in zip(matrices, sums, strict=True):
            np.testing.assert_allclose(matrix, total.matrix(spec.qubits), rtol=0, atol=1e-12)
