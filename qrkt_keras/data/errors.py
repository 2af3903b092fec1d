"""Errors of the data package."""

from __future__ import annotations


class DatasetNotFoundError(ValueError):
    """A data set is neither on this machine nor, when asked for, could it be downloaded."""


class UnreadableImageError(ValueError):
    """A file that was given as an image cannot be read as one."""


class InvalidDatasetError(ValueError):
    """A data set is there, but holds what cannot be learned from, or is not for classification."""


class DownloadInterrupted(KeyboardInterrupt):
    """A download was interrupted; the message says how to repeat it."""
