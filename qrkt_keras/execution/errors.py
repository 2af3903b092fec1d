"""What an engine says when it cannot run a circuit."""

from __future__ import annotations


class UnsupportedCircuitError(ValueError):
    """An engine does not accept this circuit; the message names the engine and the reason."""

    def __init__(self, engine: str, reason: str):
        super().__init__(f"engine={engine!r} does not accept this circuit: {reason}")
        self.engine = engine
        self.reason = reason
