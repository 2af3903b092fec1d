"""How a circuit's expectation values are computed: one engine a file, one contract.

`expectation(inputs (B, C, num_inputs), weights (copies, num_weights)) -> (B, copies, K)`, with
C = 1 (all copies see the same inputs) or C = copies.
"""

from qrkt_keras.execution.components import Split
from qrkt_keras.execution.errors import (
    RefusedRunError,
    SamplerError,
    UnsupportedCircuitError,
)
from qrkt_keras.execution.light_cone import LightCone
from qrkt_keras.execution.pauli_propagation import PauliPropagation
from qrkt_keras.execution.plan import (
    ENGINES,
    Candidate,
    Plan,
    check_engine,
    check_engine_options,
    make_engine,
    plan,
    saved_engine,
)
from qrkt_keras.execution.sampling import Sampling
from qrkt_keras.execution.state_vector import StateVector
from qrkt_keras.execution.tfq import TFQ

__all__ = [
    "ENGINES",
    "TFQ",
    "Candidate",
    "LightCone",
    "PauliPropagation",
    "Plan",
    "RefusedRunError",
    "SamplerError",
    "Sampling",
    "Split",
    "StateVector",
    "UnsupportedCircuitError",
    "check_engine",
    "check_engine_options",
    "make_engine",
    "plan",
    "saved_engine",
]
