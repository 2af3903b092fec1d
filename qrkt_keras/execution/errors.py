"""What engines say when a circuit, or a run of it, is refused or fails."""

from __future__ import annotations


class UnsupportedCircuitError(ValueError):
    """An engine does not accept this circuit; the message names the engine and the reason."""

    def __init__(self, engine: str, reason: str):
        super().__init__(f"engine={engine!r} does not accept this circuit: {reason}")
        self.engine = engine
        self.reason = reason


class RefusedRunError(ValueError):
    """What stands before a sampler refuses a run; the sampler was not asked, or is not at fault."""

    # Keras adds a layer's arguments to errors that are raised within it, unless it thinks it has.
    _keras_call_info_injected = True


class SamplerError(ConnectionError):
    """A sampler did not give what was asked for: it raised, timed out, or returned too little."""

    _keras_call_info_injected = True
