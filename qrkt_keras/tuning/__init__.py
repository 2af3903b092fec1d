"""Searches for the best of a model family's arguments and recipes, with KerasTuner."""

from qrkt_keras.tuning.budgets import BudgetError
from qrkt_keras.tuning.distributed import ChiefLostError, WorkersLostError
from qrkt_keras.tuning.families import FAMILIES, default_space, family_preset
from qrkt_keras.tuning.hypermodel import Configuration, ZooHyperModel
from qrkt_keras.tuning.oracles import TUNERS
from qrkt_keras.tuning.report import pareto_front, trials_table, write_report
from qrkt_keras.tuning.results import BEST, OBJECTIVES, SearchResult, TrialRow
from qrkt_keras.tuning.search import SearchError, read_search, search
from qrkt_keras.tuning.space import Dimension, Space

__all__ = [
    "BEST",
    "BudgetError",
    "ChiefLostError",
    "Configuration",
    "Dimension",
    "FAMILIES",
    "OBJECTIVES",
    "SearchError",
    "SearchResult",
    "Space",
    "TUNERS",
    "TrialRow",
    "WorkersLostError",
    "ZooHyperModel",
    "default_space",
    "family_preset",
    "pareto_front",
    "read_search",
    "search",
    "trials_table",
    "write_report",
]
