"""SavedModels that stock TensorFlow can serve, and what checks them."""

from qrkt_keras.serving.folders import atomic_folder
from qrkt_keras.serving.saved_model import (
    export_for_serving,
    export_saved_model,
    load_saved_model,
)
from qrkt_keras.serving.stock_ops import UnportableModelError, foreign_ops

__all__ = [
    "UnportableModelError",
    "atomic_folder",
    "export_for_serving",
    "export_saved_model",
    "foreign_ops",
    "load_saved_model",
]
