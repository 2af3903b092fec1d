from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from fractions import Fraction as Q

import numpy as np
import pytest

from qrkt_keras import solvers
from qrkt_keras.solvers import ButcherTableau
from qrkt_keras.solvers import tableau as tableau_module

# SPEC section 3, written down a second time: offsets of the stage inputs, then output weights.
PUBLISHED = {
    "rk1": ([{}], [1]),
    "rk2": ([{}, {0: 1}], [Q(1, 2), Q(1, 2)]),
    "rk3": ([{}, {0: Q(1, 2)}, {1: Q(3, 4)}], [Q(2, 9), Q(3, 9), Q(4, 9)]),
    "rk3_kutta": ([{}, {0: Q(1, 2)}, {0: -1, 1: 2}], [Q(1, 6), Q(4, 6), Q(1, 6)]),
    "rk4": (
        [{}, {0: Q(1, 2)}, {1: Q(1, 2)}, {2: 1}],
        [Q(1, 6), Q(2, 6), Q(2, 6), Q(1, 6)],
    ),
    "rk4_enhanced": ([{}, {0: 1}, {1: 1}, {2: 1}], [1, 0, 0, 1]),
    "rk2_learned": ([{}, {0: 1}], [1, 1]),
    "rk2_gated": ([{}, {0: 1}], [Q(1, 2), Q(1, 2)]),
}
OUTPUT = {"rk2_learned": "learned", "rk2_gated": "gated"}
FIXED_CONSISTENT = {"rk1": 1, "rk2": 2, "rk3": 3, "rk3_kutta": 3, "rk4": 4}


def make(**changes):
    """Heun's method, with changes."""
    arguments = {"name": "mine", "a": [[0, 0], [1, 0]], "b": ["1/2", "1/2"], "order": 2}
    return ButcherTableau(**{**arguments, **changes})


def test_the_list_is_exactly_the_published_one():
    assert set(solvers.list()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_is_the_published_one(name):
    offsets, weights = PUBLISHED[name]
    tableau = solvers.get(name)
    size = len(weights)
    assert tableau.name == name
    assert tableau.num_stages == size
    assert tableau.a == tuple(tuple(Q(row.get(j, 0)) for j in range(size)) for row in offsets)
    assert tableau.b == tuple(weights)
    assert tableau.c == tuple(sum(row.values(), Q(0)) for row in offsets)
    assert tableau.output == OUTPUT.get(name, "weights")
    assert tableau.consistent == (sum(weights) == 1)
    assert tableau.reference


@pytest.mark.parametrize(("name", "order"), FIXED_CONSISTENT.items())
def test_slope_of_log_error_is_the_order(name, order):
    # dy/dt = -y^2 + 1/4 (nonlinear): y = tanh((t + s)/2)/2 with y(0) = tanh(s/2)/2.
    shift = 0.3

    def exact(t):
        return 0.5 * np.tanh((t + shift) / 2)

    tableau = solvers.get(name)
    counts = np.array([8, 16, 32, 64])
    errors = []
    for count in counts:
        y = np.float64(exact(0.0))
        for _ in range(count):
            y = solvers.step(tableau, lambda _, u: 0.25 - u * u, y, step=2.0 / count)
        errors.append(abs(y - exact(2.0)))
    slope = np.polyfit(np.log(2.0 / counts), np.log(errors), 1)[0]
    assert tableau.order == order
    assert abs(slope - order) < 0.12, (slope, errors)


@pytest.mark.parametrize("name", FIXED_CONSISTENT)
def test_the_order_claimed_is_the_highest(name):
    tableau = solvers.get(name)
    if tableau.order < 4:
        with pytest.raises(ValueError, match="does not hold"):
            dataclasses.replace(tableau, order=tableau.order + 1)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in OUTPUT])
def test_step_is_the_published_formula(name):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 3))
    base = rng.normal(size=3)

    def function(k, u):
        return np.sin(matrix @ u) + k

    offsets, weights = PUBLISHED[name]
    values = []
    for k, row in enumerate(offsets):
        u = base + sum((float(q) * values[j] for j, q in row.items()), np.zeros(3))
        values.append(function(k, u))
    expected = base + sum(float(q) * value for q, value in zip(weights, values, strict=True))
    tableau = solvers.get(name)
    np.testing.assert_allclose(solvers.stages(tableau, function, base), values, atol=1e-14)
    np.testing.assert_allclose(solvers.step(tableau, function, base), expected, atol=1e-14)


def test_enhanced_rk4_adds_the_first_and_the_last_stage():
    values = [np.array([float(10**k)]) for k in range(4)]
    result = solvers.combine(solvers.get("rk4_enhanced"), np.array([5.0]), values)
    assert result == 5 + 1 + 1000


def test_step_size_scales_offsets_and_output():
    seen = []

    def function(k, u):
        seen.append(u)
        return 8.0

    assert solvers.step(solvers.get("rk4"), function, 1.0, step=0.25) == 3.0
    assert seen == [1.0, 2.0, 2.0, 3.0]


class Counting:
    """A number that counts the arithmetic done on it."""

    operations: list[str] = []

    def __init__(self, value):
        self.value = value

    def _make(self, name, value):
        Counting.operations.append(name)
        return Counting(value)

    def __add__(self, other):
        return self._make("+", self.value + other.value)

    def __sub__(self, other):
        return self._make("-", self.value - other.value)

    def __rmul__(self, other):
        return self._make("*", other * self.value)


@pytest.mark.parametrize(
    ("name", "operations"),
    # rk4: 2 halves and 1 whole for the offsets; (F1 + F4)/6 + (F2 + F3)/3 for the output.
    [("rk1", "+"), ("rk4", "*+*++" + "++*+*+"), ("rk4_enhanced", "+++" + "++")],
)
def test_no_needless_operations(name, operations):
    Counting.operations = []
    solvers.step(solvers.get(name), lambda k, u: Counting(1.0), Counting(1.0))
    assert sorted(Counting.operations) == sorted(operations)


@pytest.mark.parametrize("name", PUBLISHED)
def test_config_round_trip_is_json(name):
    tableau = solvers.get(name)
    config = json.loads(json.dumps(tableau.get_config()))
    assert ButcherTableau.from_config(config) == tableau
    assert solvers.get(config) == tableau


def test_get_returns_a_tableau_as_it_is():
    tableau = make()
    assert solvers.get(tableau) is tableau


def test_tableaus_are_values():
    assert make() == make(a=((0, 0), (Q(1), 0)), b=(Q(1, 2), "2/4"))
    assert len({make(), make()}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().order = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": [[0, 0]]}, r"Received: rows of lengths \[2\]$"),
        ({"a": [[0, 0], [1]]}, r"Received: rows of lengths \[2, 1\]$"),
        ({"a": [], "b": []}, r"at least one stage. Received: b=\(\)$"),
        ({"a": [[0, 0], [1, "1/2"]]}, r"explicit.*Received: a\[1\]\[1\]=1/2$"),
        ({"a": [[0, 1], [1, 0]]}, r"explicit.*Received: a\[0\]\[1\]=1$"),
        ({"b": [1, 1]}, r"sum to 1; say consistent=False.*Received: sum\(b\)=2$"),
        ({"consistent": False, "order": 0}, r"is consistent. Received: consistent=False$"),
        ({"b": [1, 1], "consistent": False, "order": 1}, r"\[0\]. Received: order=1$"),
        ({"order": 0}, r"Received: order=0$"),
        ({"order": 5}, r"Received: order=5$"),
        ({"order": True}, r"Received: order=True$"),
        ({"order": 3}, r"order 3, b.c\^2 = 1/3, does not hold. Received: b.c\^2=1/2$"),
        ({"b": ["1/3", "2/3"]}, r"order 2, b.c = 1/2, does not hold. Received: b.c=2/3$"),
        ({"output": "sum"}, r"Received: output='sum'$"),
        ({"name": ""}, r"Received: name=''$"),
    ],
)
def test_refused_tableaus(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_gated_tableau_has_two_stages():
    with pytest.raises(ValueError, match="Received: 1 stages$"):
        ButcherTableau(name="mine", a=[[0]], b=[1], order=1, output="gated")


# All rooted trees up to order 4, a tree being the tuple of its root's subtrees.
LEAF = ()
TREES = {
    1: [LEAF],
    2: [(LEAF,)],
    3: [(LEAF, LEAF), ((LEAF,),)],
    4: [(LEAF, LEAF, LEAF), (LEAF, (LEAF,)), ((LEAF, LEAF),), (((LEAF,),),)],
}


def nodes(tree):
    return 1 + sum(nodes(subtree) for subtree in tree)


def density(tree):
    return nodes(tree) * math.prod(density(subtree) for subtree in tree)


def stage_weights(tree, a):
    below = [stage_weights(subtree, a) for subtree in tree]
    return [
        math.prod(sum(q * weights[j] for j, q in enumerate(row)) for weights in below) for row in a
    ]


def test_order_conditions_are_those_of_all_rooted_trees():
    random = np.random.default_rng(1)
    a = tuple(
        tuple(Q(int(random.integers(-5, 6)), 7) if j < k else Q(0) for j in range(5))
        for k in range(5)
    )
    b = tuple(Q(int(value), 11) for value in random.integers(1, 9, size=5))
    for order, conditions in tableau_module._order_conditions(a, b).items():
        expected = [
            (sum(q * w for q, w in zip(b, stage_weights(tree, a), strict=True)), density(tree))
            for tree in TREES[order]
        ]
        assert [(value, 1 / wanted) for _, value, wanted in conditions] == expected


@pytest.mark.parametrize(("row", "column"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_every_entry_of_rk4_is_checked(row, column):
    a = [[*values] for values in solvers.get("rk4").a]
    a[row][column] += Q(1, 100)
    with pytest.raises(ValueError, match="does not hold"):
        dataclasses.replace(solvers.get("rk4"), a=a)


def test_a_right_fourth_order_table_is_taken():
    three_eighths = ButcherTableau(
        name="rk4_38",
        a=[[0] * 4, ["1/3", 0, 0, 0], ["-1/3", 1, 0, 0], [1, -1, 1, 0]],
        b=["1/8", "3/8", "3/8", "1/8"],
        order=4,
    )
    assert three_eighths.c == (0, Q(1, 3), Q(2, 3), 1)


@pytest.mark.parametrize("value", [0.5, 1 / 3, True, None, "a half", "1/0"])
def test_coefficients_are_exact(value):
    with pytest.raises(TypeError, match="must be exact.*Received: "):
        make(b=[value, "1/2"])


@pytest.mark.parametrize("changes", [{"a": "00"}, {"a": 1}, {"a": ["00", "10"]}, {"b": "11"}])
def test_rows_are_sequences(changes):
    with pytest.raises(TypeError, match="must be a sequence.*Received: "):
        make(**changes)


def test_unknown_solver_lists_the_known():
    with pytest.raises(ValueError, match=r"rk1, rk2, .*rk2_gated. Received: 'rk5'$"):
        solvers.get("rk5")
    with pytest.raises(TypeError, match="Received: 4 of type int$"):
        solvers.get(4)


@pytest.mark.parametrize("name", OUTPUT)
def test_learned_output_rules_have_no_fixed_combination(name):
    tableau = solvers.get(name)
    with pytest.raises(ValueError, match=f"Received: output='{OUTPUT[name]}'$"):
        solvers.step(tableau, lambda k, u: u, 1.0)


def test_combine_counts_the_values():
    with pytest.raises(ValueError, match="combines 4 stage values. Received: 3$"):
        solvers.combine(solvers.get("rk4"), 0.0, [1.0, 1.0, 1.0])


def test_package_loads_no_framework():
    code = (
        "import sys, qrkt_keras.solvers as s; s.get('rk4');"
        "print(sorted({'keras', 'tensorflow', 'jax', 'cirq', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
