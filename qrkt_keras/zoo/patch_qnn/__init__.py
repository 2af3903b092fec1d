"""PatchQNN: one circuit for every patch of an image."""

from qrkt_keras.zoo.patch_qnn.model import PatchQNN

__all__ = ["PatchQNN"]
