import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from qrkt_keras.training import classification_scores, macro_auc, probabilities_from_logits


def example(n, k, seed, decimals=None):
    random = np.random.RandomState(seed)
    labels = random.randint(0, k, n)
    # Rounded logits repeat, so that ranks tie.
    logits = random.randn(n, k) + 1.5 * np.eye(k)[labels]
    if decimals is not None:
        logits = logits.round(decimals)
    return labels, probabilities_from_logits(logits)


@settings(max_examples=60)
@given(
    n=st.integers(20, 200),
    k=st.integers(2, 10),
    seed=st.integers(0, 10**6),
    decimals=st.sampled_from([None, 1, 0]),
)
def test_auc_is_scikit_learns(n, k, seed, decimals):
    labels, probabilities = example(n, k, seed, decimals)
    present = [c for c in range(k) if 0 < (labels == c).sum() < n]
    theirs = np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in present])
    assert macro_auc(labels, probabilities) == pytest.approx(theirs, abs=1e-12)
    if len(present) == k > 2:
        whole = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert macro_auc(labels, probabilities) == pytest.approx(whole, abs=1e-12)


def test_scores_by_hand():
    # Predictions 0 0 1 2 2 2 for labels 0 1 1 2 2 0.
    eye = np.eye(3)
    probabilities = 0.7 * eye[[0, 0, 1, 2, 2, 2]] + 0.1
    scores = classification_scores([0, 1, 1, 2, 2, 0], probabilities)
    assert scores.num_examples == 6
    assert scores.confusion == ((1, 0, 1), (1, 1, 0), (0, 0, 2))
    assert scores.accuracy == pytest.approx(4 / 6)
    # F1 = 2 TP / (2 TP + FP + FN): 2/4, 2/3, 4/5.
    assert scores.macro_f1 == pytest.approx((1 / 2 + 2 / 3 + 4 / 5) / 3)
    assert scores.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6)
    # The share of pairs in which the right class' example has the higher probability.
    by_pairs = []
    for c in range(3):
        p, labels = probabilities[:, c], np.array([0, 1, 1, 2, 2, 0])
        pairs = [(a > b) + 0.5 * (a == b) for a in p[labels == c] for b in p[labels != c]]
        by_pairs.append(np.mean(pairs))
    assert scores.macro_auc == pytest.approx(np.mean(by_pairs))


def test_loss_is_scikit_learns():
    labels, probabilities = example(300, 5, seed=1)
    scores = classification_scores(labels, probabilities)
    assert scores.loss == pytest.approx(log_loss(labels, probabilities), rel=1e-12)


def test_a_class_that_does_not_occur():
    labels, probabilities = example(100, 4, seed=2)
    labels[labels == 3] = 0
    scores = classification_scores(labels, probabilities)
    areas = [roc_auc_score(labels == c, probabilities[:, c]) for c in range(3)]
    assert scores.macro_auc == pytest.approx(np.mean(areas), abs=1e-12)
    assert len(scores.confusion) == 4 and sum(scores.confusion[3]) == 0


def test_one_class_only_has_no_auc():
    scores = classification_scores([1, 1], [[0.2, 0.8], [0.4, 0.6]])
    assert math.isnan(scores.macro_auc)
    assert scores.accuracy == scores.macro_f1 == 1.0
    assert scores.to_dict()["macro_auc"] is None
    json.dumps(scores.to_dict(), allow_nan=False)


def test_an_impossible_right_class_is_an_infinite_loss():
    scores = classification_scores([0], [[0.0, 1.0]])
    assert scores.loss == math.inf
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["loss"] is None


def test_scores_as_json():
    scores = classification_scores(*example(50, 3, seed=3))
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict() | {
        "confusion": [list(row) for row in scores.confusion]
    }


def test_softmax_of_extreme_logits():
    probabilities = probabilities_from_logits(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    assert probabilities.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_float32_softmax_of_many_classes_is_accepted():
    logits = np.random.RandomState(0).randn(50, 1000).astype("float32") * 5
    powers = np.exp(logits - logits.max(1, keepdims=True))
    classification_scores(np.zeros(50, int), powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize("function", [classification_scores, macro_auc])
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"Received: shapes \(2,\) and \(1, 2\)$"),
        ([0], [0.5], r"Received: shapes \(1,\) and \(1,\)$"),
        ([], np.zeros((0, 2)), r"Received: shapes \(0,\) and \(0, 2\)$"),
        ([0.0], [[0.5, 0.5]], r"Received: dtype float64$"),
        ([2], [[0.5, 0.5]], r"0 to 1\. Received: label 2$"),
        ([-1], [[0.5, 0.5]], r"0 to 1\. Received: label -1$"),
        ([0, 0], [[1, 0], [float("nan"), 1]], r"Received: \[nan, 1\.0\] in row 1$"),
        ([0], [[-0.1, 1.1]], r"Received: \[-0\.1, 1\.1\] in row 0$"),
        ([0], [[3.0, -2.0]], r"Received: \[3\.0, -2\.0\] in row 0$"),
        ([0], [[0.5, 0.6]], r"Received: \[0\.5, 0\.6\] in row 0$"),
    ],
)
def test_bad_input_is_refused(function, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        function(labels, probabilities)
