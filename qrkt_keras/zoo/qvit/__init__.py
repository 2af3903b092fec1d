"""The quantum vision transformer with Runge-Kutta blocks."""

from qrkt_keras.zoo.qvit.model import QViT

__all__ = ["QViT"]
