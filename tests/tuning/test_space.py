"""Search spaces: text, JSON and KerasTuner's form of one space, and what is refused."""

from __future__ import annotations

import json

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrkt_keras.tuning import Dimension, Space, default_space
from qrkt_keras.zoo import model_classes

SPACE = Space(
    (
        Dimension("template", "choice", ("ry_ring", "hardware_efficient")),
        Dimension(
            "num_ansatz_layers", "int", low=1, high=3, when=(("template", ("hardware_efficient",)),)
        ),
        Dimension("patch_stride", "choice", (None, 2, 4)),
        Dimension("share_weights", "choice", (False, True)),
        Dimension("hidden_dim", "int", low=8, high=24, step=4),
        Dimension("recipe.learning_rate", "float", low=1e-4, high=1e-2, log=True),
        Dimension("recipe.augment.rotation", "float", low=0.0, high=15.0),
        Dimension("solver", "choice", ("rk1", ("rk2", "rk4")), when=(("share_weights", (True,)),)),
    )
)


def drawn(space, number=60, seed=0):
    """What KerasTuner draws from a space, as the space reads it."""
    hyperparameters = space.to_hyperparameters()
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "max"), hyperparameters=hyperparameters, seed=seed
    )
    found = []
    for _ in range(number):
        trial = hyperparameters.copy()
        trial.values = oracle._random_values()
        # As it comes to a worker.
        trial = keras_tuner.HyperParameters.from_proto(trial.to_proto())
        found.append(space.values(trial))
    return found


def test_what_is_drawn_is_in_the_space():
    rows = drawn(SPACE)
    for row in rows:
        assert row["template"] in ("ry_ring", "hardware_efficient")
        assert ("num_ansatz_layers" in row) == (row["template"] == "hardware_efficient")
        assert row.get("num_ansatz_layers", 1) in (1, 2, 3)
        assert row["patch_stride"] in (None, 2, 4) and row["share_weights"] in (False, True)
        assert row["hidden_dim"] in range(8, 25, 4) and type(row["hidden_dim"]) is int
        assert 1e-4 <= row["recipe.learning_rate"] <= 1e-2
        assert 0 <= row["recipe.augment.rotation"] <= 15
        assert ("solver" in row) == row["share_weights"]
    for name, values in {
        "patch_stride": {None, 2, 4},
        "hidden_dim": {8, 12, 16, 20, 24},
        "num_ansatz_layers": {1, 2, 3},
        "solver": {"rk1", ("rk2", "rk4")},
    }.items():
        assert {row[name] for row in rows if name in row} == values
    # Half of a logarithmic range is below its geometric mean.
    below = sum(row["recipe.learning_rate"] < 1e-3 for row in rows)
    assert 15 < below < 45


def test_json_and_text_say_the_same():
    assert Space.from_json(SPACE.to_json()) == SPACE
    assert json.loads(SPACE.to_json())[0] == {
        "name": "template",
        "kind": "choice",
        "values": ["ry_ring", "hardware_efficient"],
    }
    again = SPACE.overridden(SPACE.to_texts())
    assert again == SPACE  # conditions stay
    text = str(SPACE)
    assert "0.0001..0.01:log" in text and "template is hardware_efficient" in text
    assert '["rk2", "rk4"]' in text and "null,2,4" in text


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-99, 99),
            st.sampled_from([0.1, 0.5, 1.0, 2.0]),
            st.sampled_from(["a", "true", "1", "x,y"]),
        ),
        min_size=1,
        max_size=5,
        unique_by=json.dumps,
    )
)
def test_any_choice_survives_its_text_and_keras_tuner(values):
    dimension = Dimension("x", "choice", tuple(values))
    read = Dimension.parse(f"x={dimension.to_text()}")
    assert list(map(json.dumps, read.values)) == list(map(json.dumps, dimension.values))
    space = Space((dimension,))
    hyperparameters = space.to_hyperparameters()
    for kept, value in zip(dimension.kept(), dimension.values, strict=True):
        hyperparameters.values["x"] = kept
        copy = keras_tuner.HyperParameters.from_proto(hyperparameters.to_proto())
        assert json.dumps(space.values(copy)["x"]) == json.dumps(value)


@pytest.mark.parametrize(
    "text, kind, told",
    [
        ("hidden_dim=8..24:4", "int", (8, 24, 4, False)),
        ("dropout=0..0.3:0.1", "float", (0, 0.3, 0.1, False)),
        ("recipe.l2=1e-6..1e-3:log", "float", (1e-6, 1e-3, None, True)),
        ("num_blocks=1..50:log", "int", (1, 50, None, True)),
        ("x=-1.5..2", "float", (-1.5, 2, None, False)),
        ("x=.1..+0.30", "float", (0.1, 0.3, None, False)),
        ("x=01..05", "int", (1, 5, None, False)),
    ],
)
def test_ranges_from_text(text, kind, told):
    dimension = Dimension.parse(text)
    assert (dimension.kind, (dimension.low, dimension.high, dimension.step, dimension.log)) == (
        kind,
        told,
    )
    assert Dimension.parse(f"{dimension.name}={dimension.to_text()}") == dimension


def test_ranges_with_steps_have_their_upper_end():
    texts = ["a=0..0.3:0.1", "b=0.1..0.7:0.2", "c=0..0.25:0.1", "d=8..25:4", "e=0..0.7:0.1"]
    space = Space(()).overridden(texts)
    rows = drawn(space, 200)
    expected = {
        "a": [0, 0.1, 0.2, 0.3],
        "b": [0.1, 0.3, 0.5, 0.7],
        "c": [0, 0.1, 0.2],
        "d": [8, 12, 16, 20, 24],
        "e": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    }
    for dimension in space:
        assert dimension.stepped() == expected[dimension.name]
        assert sorted({row[dimension.name] for row in rows}) == expected[dimension.name]
    # What lies between steps is nothing to begin with.
    begins = space.values(space.to_hyperparameters({"a": 0.3, "b": 0.2, "d": 10}))
    assert (begins["a"], begins["b"], begins["d"]) == (0.3, 0.1, 8)


def test_what_depends_on_what_is_gone_is_gone_too():
    chain = Space(
        (
            Dimension("a", "choice", (1, 2)),
            Dimension("b", "choice", (1, 2), when=(("a", (2,)),)),
            Dimension("c", "choice", (1, 2), when=(("b", (1,)),)),
        )
    )
    assert drawn(chain.overridden(["a=1"]), 3) == [{"a": 1}] * 3


def test_a_space_is_overridden():
    space = SPACE.overridden(["template=ry_ring", "hidden_dim=16", "engine=auto,state_vector"])
    assert [dimension.name for dimension in space][-1] == "engine"
    # With the choice narrowed, what depended on it is never there.
    assert all("num_ansatz_layers" not in row for row in drawn(space, 20))
    assert {row["hidden_dim"] for row in drawn(space, 20)} == {16}


def test_defaults_are_the_presets():
    values = {"template": "hardware_efficient", "hidden_dim": 12, "patch_stride": 4, "solver": "?"}
    hyperparameters = SPACE.to_hyperparameters(values)
    found = SPACE.values(hyperparameters)
    assert (found["template"], found["hidden_dim"], found["patch_stride"]) == (
        "hardware_efficient",
        12,
        4,
    )
    assert found["num_ansatz_layers"] == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("solver", "Received: 'solver'"),
        ("solver=", "Received: 'solver='"),
        ("=1,2", "name of an argument"),
        ("x=1,1", "different values"),
        ("x=5..1", "rises from low to high"),
        ("x=0..1:log", "positive numbers"),
        ("x=1..5:0", "rises from low to high"),
        ('x=["a"', "JSON, or a word"),
        ('x={"a": 1}', "without objects"),
        ("x=a,,b", "JSON, or a word"),
        ("x=8..", "LOW..HIGH of numbers, .* Received: 'x=8..'"),
        ("x=8..16:x", "LOW..HIGH of numbers"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Dimension.parse(text)


def test_spaces_that_are_refused():
    one = Dimension("a", "choice", (1, 2))
    with pytest.raises(ValueError, match="'a' twice"):
        Space((one, one))
    child = Dimension("b", "int", low=1, high=2, when=(("a", (1,)),))
    with pytest.raises(ValueError, match="choices that come before it. Received: 'a'"):
        Space((child, one))
    with pytest.raises(ValueError, match="when is pairs .* Received: {'a': "):
        Dimension("b", "choice", (1,), when={"a": [1]})
    with pytest.raises(ValueError, match="of integers between integers"):
        Dimension("b", "int", low=0.5, high=2)
    with pytest.raises(ValueError, match="kind must be one of"):
        Dimension("b", "set", (1,))
    with pytest.raises(ValueError, match="a choice has no range"):
        Dimension("b", "choice", (1,), low=1, high=2)
    for text in ("{}", "[1]", '[{"name": "a"}]', "?"):
        with pytest.raises(ValueError, match="JSON list of dimensions"):
            Space.from_json(text)


def test_every_family_has_a_space():
    for name in model_classes():
        if name == "FeatureNetwork":
            with pytest.raises(ValueError, match="Received: 'FeatureNetwork'"):
                default_space(name)
        else:
            assert len(default_space(name)) >= 5
