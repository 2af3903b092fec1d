"""Scripts in a process that has TensorFlow, and none of our packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_BEFORE = """
import importlib.machinery, sys
blocked = {"keras", "tf_keras", "cirq", "cirq_google", "tensorflow_quantum", "qrkt_keras", "sympy"}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")
    def exec_module(self, module):
        raise ImportError("blocked")

sys.meta_path.insert(0, Refusing())
for name in blocked:
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
"""

_AFTER = """
loaded = {name for name, module in sys.modules.items() if module is not None}
assert not {name for name in loaded if name.partition(".")[0] in blocked}
"""


def run_with_tensorflow_only(script: str, folder: Path, *arguments: Path) -> None:
    """Runs the script in a folder, between what blocks the packages and what checks that it did."""
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE + script + _AFTER, *map(str, arguments)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
