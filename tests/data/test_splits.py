import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from qrkt_keras import data
from qrkt_keras.data import splits


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_disjoint_complete_and_proportional(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    if len(labels) < 2:
        return
    size = int(np.clip(round(share * len(labels)), 1, len(labels) - 1))
    rest, drawn = data.stratified_split(labels, size, seed)
    assert len(drawn) == size
    assert np.array_equal(np.sort(np.concatenate([rest, drawn])), np.arange(len(labels)))
    got = np.bincount(labels[drawn], minlength=len(counts))
    # Largest remainder never strays a whole example from the exact share.
    assert np.all(np.abs(got - size * np.array(counts) / len(labels)) < 1)


def test_class_shares_are_those_of_scikit_learn():
    labels = np.repeat(np.arange(4), [50, 100, 150, 200])
    _, drawn = data.stratified_split(labels, 100, seed=3)
    _, theirs = train_test_split(labels, test_size=100, stratify=labels, random_state=3)
    assert np.array_equal(np.bincount(labels[drawn]), np.bincount(theirs))


def test_the_draw_depends_on_the_seed_only():
    labels = np.repeat(np.arange(3), 30)
    first = data.stratified_split(labels, 30, seed=1)[1]
    assert np.array_equal(first, data.stratified_split(labels, 30, seed=1)[1])
    assert not np.array_equal(first, data.stratified_split(labels, 30, seed=2)[1])


@pytest.mark.parametrize("size", [0, 6, 7, -1])
def test_a_split_that_leaves_a_part_empty_is_refused(size):
    with pytest.raises(ValueError, match=rf"Received: size={size} of 6 examples$"):
        data.stratified_split(np.arange(6) % 2, size, seed=0)


def test_labels_that_are_not_classes_are_refused():
    with pytest.raises(ValueError, match=r"Received: shape=\(4,\), dtype=float64$"):
        data.stratified_split(np.zeros(4), 2, seed=0)


@pytest.mark.parametrize("parts", [[], ["test"], ["validation"], ["test", "validation"]])
def test_a_tenth_is_held_out_for_each_part(parts):
    labels = np.random.RandomState(0).randint(0, 3, 203)
    found = splits.held_out(labels, parts)
    assert sorted(found) == sorted(["train", *parts])
    assert all(len(found[part]) == 20 for part in parts)
    assert np.array_equal(np.sort(np.concatenate([*found.values()])), np.arange(203))
    for part in parts:
        shares = np.bincount(labels[found[part]]) - np.bincount(labels) * 20 / 203
        assert np.abs(shares).max() <= 1


def test_validation_alone_is_the_draw_of_the_named_sets():
    labels = np.arange(100) % 4
    rest, drawn = data.stratified_split(labels, 10, 0)
    found = splits.held_out(labels, ["validation"])
    assert np.array_equal(found["train"], rest) and np.array_equal(found["validation"], drawn)


def test_parts_that_are_named_are_kept():
    parts = np.array(["test", "train", "validation"] + ["train"] * 20)
    found = splits.divided(np.arange(23) % 2, parts)
    assert (found["test"].tolist(), found["validation"].tolist()) == ([0], [2])
    assert found["train"].tolist() == [1, *range(3, 23)]


def test_parts_that_nobody_names_are_drawn_from_train():
    parts = np.array(["test"] * 3 + ["train"] * 20)
    found = splits.divided(np.arange(23) % 2, parts)
    assert found["test"].tolist() == [0, 1, 2]
    assert len(found["validation"]) == 2 and len(found["train"]) == 18
    everything = np.sort(np.concatenate([*found.values()]))
    assert np.array_equal(everything, np.arange(23))
