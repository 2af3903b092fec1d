"""What a trained model's loss looks like: Hessian spectrum, landscape, gradient variance."""

from qrkt_keras.analysis.hessian import (
    Eigenpairs,
    SpectralDensity,
    TraceEstimate,
    density_picture,
    lanczos,
    power_iteration,
    spectral_density,
    trace,
)
from qrkt_keras.analysis.landscape import (
    Landscape,
    Plane,
    ScanInterrupted,
    landscape_picture,
    pca_plane,
    random_plane,
    scan,
)
from qrkt_keras.analysis.loss import DataLoss, circuit_variables
from qrkt_keras.analysis.products import KeptProducts
from qrkt_keras.analysis.trainability import (
    Trainability,
    gradient_variance,
    trainability_picture,
)

__all__ = [
    "DataLoss",
    "Eigenpairs",
    "KeptProducts",
    "Landscape",
    "Plane",
    "ScanInterrupted",
    "SpectralDensity",
    "TraceEstimate",
    "Trainability",
    "circuit_variables",
    "density_picture",
    "gradient_variance",
    "lanczos",
    "landscape_picture",
    "pca_plane",
    "power_iteration",
    "random_plane",
    "scan",
    "spectral_density",
    "trace",
    "trainability_picture",
]
