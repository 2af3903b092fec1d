"""Runge-Kutta methods as data: tableaus that check themselves."""

from qrkt_keras.solvers.tableau import ButcherTableau, combine, get, list, stages, step

__all__ = ["ButcherTableau", "combine", "get", "list", "stages", "step"]
