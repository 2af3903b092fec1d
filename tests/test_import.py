"""`import qrkt_keras` is lazy and leaves the caller's process as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import qrkt_keras

PARTS = sorted(set(qrkt_keras.__all__) - {"__version__"})


def in_fresh_process(code: str) -> dict:
    """Runs code which prints one JSON object, in a Python that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_import_changes_nothing_and_loads_nothing() -> None:
    seen = in_fresh_process(
        """
import json, os, sys, time, warnings
environment, path, filters = dict(os.environ), list(sys.path), list(warnings.filters)
before = set(sys.modules)
begin = time.perf_counter()
import qrkt_keras
seconds = time.perf_counter() - begin
print(json.dumps({
    "seconds": seconds,
    "environment": dict(os.environ) == environment,
    "path": sys.path == path,
    "filters": warnings.filters == filters,
    "loaded": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
}))
"""
    )
    assert seen["seconds"] < 0.5
    assert seen["environment"] and seen["path"] and seen["filters"]
    assert set(seen["loaded"]) <= {"qrkt_keras", *sys.stdlib_module_names}


def test_a_part_is_loaded_when_it_is_named() -> None:
    seen = in_fresh_process(
        """
import json, sys
import qrkt_keras
before = "qrkt_keras.solvers" in sys.modules
names = qrkt_keras.solvers.list()
print(json.dumps({
    "before": before,
    "after": "qrkt_keras.solvers" in sys.modules,
    "names": list(names),
    "heavy": sorted({"keras", "tensorflow", "jax"} & set(sys.modules)),
}))
"""
    )
    assert not seen["before"] and seen["after"]
    assert "rk4" in seen["names"]
    assert seen["heavy"] == []


@pytest.mark.parametrize("part", PARTS)
def test_every_part_named_is_there(part: str) -> None:
    assert getattr(qrkt_keras, part).__name__ == f"qrkt_keras.{part}"


def test_every_package_is_named() -> None:
    folder = Path(qrkt_keras.__file__).parent
    assert PARTS == sorted(entry.parent.name for entry in folder.glob("*/__init__.py"))


def test_dir_and_unknown_names() -> None:
    assert dir(qrkt_keras) == sorted(qrkt_keras.__all__)
    with pytest.raises(AttributeError, match="'qrkt_keras' has no attribute 'quantum'"):
        qrkt_keras.quantum  # noqa: B018
