"""Google's processors: the same trained model, on a virtual machine or on the real one.

`compile_for` makes a processor's circuits of a model's; `virtual_machine` and `processor` are
samplers that run them; `evaluate` and `train` are jobs on a sampler, whose runs `KeptRuns` keeps.
"""

from qrkt_keras.hardware.circuit_counts import rows_per_example
from qrkt_keras.hardware.compilation import (
    CompiledCircuit,
    CompiledCircuits,
    CompiledProgram,
    Report,
    compile_for,
    fits,
)
from qrkt_keras.hardware.drawing import placement_picture, repetitions_picture, training_picture
from qrkt_keras.hardware.engine import CredentialsError, EngineError, EngineSampler, processor
from qrkt_keras.hardware.jobs import (
    Estimate,
    Evaluation,
    Training,
    as_data,
    estimate,
    evaluate,
    sampled,
    train,
)
from qrkt_keras.hardware.kept_runs import KeptRuns, KeptRunsError
from qrkt_keras.hardware.mitigation import measured_readout_errors
from qrkt_keras.hardware.processors import (
    GATESETS,
    Processor,
    ProcessorError,
    get_processor,
    list_processors,
)
from qrkt_keras.hardware.virtual_machine import VirtualMachine, virtual_machine

__all__ = [
    "GATESETS",
    "CompiledCircuit",
    "CompiledCircuits",
    "CompiledProgram",
    "CredentialsError",
    "EngineError",
    "EngineSampler",
    "Estimate",
    "Evaluation",
    "KeptRuns",
    "KeptRunsError",
    "Processor",
    "ProcessorError",
    "Report",
    "Training",
    "VirtualMachine",
    "as_data",
    "compile_for",
    "estimate",
    "evaluate",
    "fits",
    "get_processor",
    "list_processors",
    "measured_readout_errors",
    "placement_picture",
    "processor",
    "repetitions_picture",
    "rows_per_example",
    "sampled",
    "train",
    "training_picture",
    "virtual_machine",
]
