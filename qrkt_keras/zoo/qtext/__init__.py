"""QText: a quantum transformer for texts."""

from qrkt_keras.zoo.qtext.model import QText

__all__ = ["QText"]
