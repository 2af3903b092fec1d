"""Scripts in a process that has TensorFlow, and none of our packages."""

from __future__ import annotations

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


def tensorflow_only(script: str) -> str:
    """The script between what blocks the packages and what makes sure that it did."""
    return _BEFORE + script + _AFTER
