"""What a circuit is: specs, the named templates and their drawings."""

from qrkt_keras.circuits import templates
from qrkt_keras.circuits.spec import CircuitSpec

__all__ = ["CircuitSpec", "templates"]
