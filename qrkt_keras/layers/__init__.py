"""Keras 3 layers: circuits, quantum attention and feed-forward, Runge-Kutta residuals, blocks."""

from qrkt_keras.layers.class_token import ClassToken
from qrkt_keras.layers.cutout import Cutout
from qrkt_keras.layers.diff_augment import DiffAugment
from qrkt_keras.layers.global_depthwise_pooling import GlobalDepthwisePooling
from qrkt_keras.layers.image_patches import ImagePatches
from qrkt_keras.layers.patch_embedding import PatchEmbedding
from qrkt_keras.layers.pixel_bias import PixelBias
from qrkt_keras.layers.pixel_shuffle import PixelShuffle
from qrkt_keras.layers.position_embedding import PositionEmbedding
from qrkt_keras.layers.pqc import PQC
from qrkt_keras.layers.quantum_feed_forward import QuantumFeedForward
from qrkt_keras.layers.quantum_multi_head_attention import QuantumMultiHeadAttention
from qrkt_keras.layers.random_shift import RandomShift
from qrkt_keras.layers.relative_position_bias import RelativePositionBias
from qrkt_keras.layers.runge_kutta_residual import RungeKuttaResidual
from qrkt_keras.layers.runge_kutta_transformer_block import RungeKuttaTransformerBlock
from qrkt_keras.layers.source_attention import SourceAttention
from qrkt_keras.layers.token_embedding import TokenEmbedding
from qrkt_keras.layers.token_noise import TokenNoise
from qrkt_keras.layers.transformer_decoder_block import TransformerDecoderBlock
from qrkt_keras.layers.transformer_encoder_block import TransformerEncoderBlock

__all__ = [
    "ClassToken",
    "Cutout",
    "DiffAugment",
    "GlobalDepthwisePooling",
    "ImagePatches",
    "PQC",
    "PatchEmbedding",
    "PixelBias",
    "PixelShuffle",
    "PositionEmbedding",
    "QuantumFeedForward",
    "QuantumMultiHeadAttention",
    "RandomShift",
    "RelativePositionBias",
    "RungeKuttaResidual",
    "RungeKuttaTransformerBlock",
    "SourceAttention",
    "TokenEmbedding",
    "TokenNoise",
    "TransformerDecoderBlock",
    "TransformerEncoderBlock",
]
