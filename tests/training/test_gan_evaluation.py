"""Measuring images by a feature network."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.linalg import sqrtm

from qrkt_keras.training import measure_images

RNG = np.random.default_rng(0)
REAL = RNG.integers(0, 200, (60, 4, 4, 1), dtype=np.uint8)
FAKE = RNG.integers(30, 256, (40, 4, 4, 1), dtype=np.uint8)


class Pixels:
    """Features: the first four pixels; logits: the first three."""

    name = "pixels"

    def features(self, images):
        flat = images.reshape(len(images), -1)[:, :4] / 64.0
        return flat, flat[:, :3]


def test_measures_against_their_formulas():
    measures = measure_images(Pixels(), REAL, FAKE)
    real, fake = Pixels().features(REAL)[0], Pixels().features(FAKE)[0]
    covariances = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    fid = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(
        sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real
    )
    assert measures.fid == pytest.approx(fid, rel=1e-8)

    def kernel(x, y):
        return (x @ y.T / 4 + 1) ** 3

    def mean_of_pairs(x):
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    kid = mean_of_pairs(real) + mean_of_pairs(fake) - 2 * kernel(real, fake).mean()
    assert measures.kid == pytest.approx(kid, rel=1e-8)
    logits = Pixels().features(FAKE)[1]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    divergence = (shares * np.log(shares / shares.mean(0))).sum(1).mean()
    assert measures.inception_score == pytest.approx(np.exp(divergence), rel=1e-8)


def test_they_name_what_they_were_measured_by():
    fields = measure_images(Pixels(), REAL, FAKE).to_dict()
    assert fields["feature_network"] == "pixels"
    assert (fields["num_real"], fields["num_generated"]) == (60, 40)
    # One block has no error: JSON has no NaN.
    assert fields["kid_error"] is None
    json.dumps(fields, allow_nan=False)


def test_a_single_image_is_refused():
    with pytest.raises(ValueError, match="Received: "):
        measure_images(Pixels(), REAL, FAKE[:1])
