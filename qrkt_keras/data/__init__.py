"""Data sets as arrays and as `tf.data`, resumable training batches, and image files."""

from qrkt_keras.data.batches import steps_per_epoch, training_batches
from qrkt_keras.data.errors import (
    DatasetNotFoundError,
    DownloadInterrupted,
    InvalidDatasetError,
    UnreadableImageError,
)
from qrkt_keras.data.images import read_image, resized
from qrkt_keras.data.info import DatasetInfo
from qrkt_keras.data.registry import SPLITS, arrays, find, info, is_path, list, load, option_names
from qrkt_keras.data.splits import stratified_split
from qrkt_keras.data.text_file import read_texts

__all__ = [
    "SPLITS",
    "DatasetInfo",
    "DatasetNotFoundError",
    "DownloadInterrupted",
    "InvalidDatasetError",
    "UnreadableImageError",
    "arrays",
    "find",
    "info",
    "is_path",
    "list",
    "load",
    "option_names",
    "read_image",
    "read_texts",
    "resized",
    "steps_per_epoch",
    "stratified_split",
    "training_batches",
]
