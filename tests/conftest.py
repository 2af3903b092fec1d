"""What all tests share. It loads neither Keras nor TensorFlow; a test that needs them does."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

# Before anything imports TensorFlow or matplotlib.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# `make test` has a worker for each of two cores, and a second thread of one takes the other's.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from support import tfds

# A shell starts a background job with interrupts ignored, and so would be all processes of ours.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]

# The first call of an example compiles; CI draws the same examples every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers for every test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def tfds_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real TFDS data sets, with TFDS_DATA_DIR set to it; without one, skips."""
    folder = tfds.folder()
    if folder is None:
        pytest.skip(f"no TFDS data: none of {', '.join(map(str, tfds.folders()))} is there")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def figures(monkeypatch):
    """The figures that a test saves, as Matplotlib has them."""
    from matplotlib.figure import Figure

    saved, save = [], Figure.savefig

    def keep(self, *arguments, **options):
        saved.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved
