"""Searches for the best of a model family's arguments and recipes, with KerasTuner."""

from qrkt_keras.tuning.families import default_space
from qrkt_keras.tuning.hypermodel import BudgetError, Configuration, ZooHyperModel
from qrkt_keras.tuning.search import SearchError, SearchResult, TrialRow, search
from qrkt_keras.tuning.space import Dimension, Space

__all__ = [
    "BudgetError",
    "Configuration",
    "Dimension",
    "SearchError",
    "SearchResult",
    "Space",
    "TrialRow",
    "ZooHyperModel",
    "default_space",
    "search",
]
