"""GANs: QRKT-GAN, TransGAN, and what trains them."""

from qrkt_keras.zoo.gan.gan import GAN
from qrkt_keras.zoo.gan.qrkt_gan import QRKTGAN
from qrkt_keras.zoo.gan.trans_gan import TransGAN

__all__ = ["GAN", "QRKTGAN", "TransGAN"]
