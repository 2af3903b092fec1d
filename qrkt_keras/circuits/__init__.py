"""What a circuit is: specs, the named templates, their lowering and their drawings."""

from qrkt_keras.circuits import templates
from qrkt_keras.circuits.clifford import absorb_cliffords
from qrkt_keras.circuits.lowering import Rotation, Unitary, UnsupportedGateError, lower
from qrkt_keras.circuits.spec import CircuitSpec

__all__ = [
    "CircuitSpec",
    "Rotation",
    "Unitary",
    "UnsupportedGateError",
    "absorb_cliffords",
    "lower",
    "templates",
]
