"""Quantum transformers with Runge-Kutta residual blocks: a Keras 3 model zoo.

Importing the package imports nothing else and sets nothing: its parts are loaded when they are
first named (PEP 562).

Example:

    >>> import qrkt_keras
    >>> spec = qrkt_keras.circuits.templates.ry_ring(4)
    >>> spec.num_qubits
    4
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qrkt_keras import (
        analysis,
        circuits,
        data,
        execution,
        hardware,
        layers,
        serving,
        solvers,
        training,
        tuning,
        zoo,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "__version__",
    "analysis",
    "circuits",
    "data",
    "execution",
    "hardware",
    "layers",
    "serving",
    "solvers",
    "training",
    "tuning",
    "zoo",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
