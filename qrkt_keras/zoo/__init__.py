"""The models, and their presets."""

from qrkt_keras.zoo.qvit import QViT

__all__ = ["QViT"]
