"""Explicit Runge-Kutta methods as Butcher tableaus, in exact fractions.

A tableau is data. The functions beside it turn that data into arithmetic on anything that adds
and multiplies: NumPy arrays, and the tensors of every Keras backend.
"""

from __future__ import annotations

import builtins
import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

OUTPUT_RULES = ("weights", "learned", "gated")

Row = tuple[Fraction, ...]


def _fraction(value: Any, where: str) -> Fraction:
    # A float is refused: float 1/3 is not a third, so no order condition could hold exactly.
    if isinstance(value, numbers.Rational | str) and not isinstance(value, bool):
        try:
            return Fraction(value)
        except (ValueError, ZeroDivisionError):
            pass
    raise TypeError(
        f"{where} must be exact: an int, a fractions.Fraction or a string such as '1/3'. "
        f"Received: {value!r} of type {type(value).__name__}"
    )


def _row(values: Any, where: str) -> Row:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{where} must be a sequence of numbers. Received: {values!r}")
    return tuple(_fraction(value, where) for value in values)


def _dot(left: Row, right: Row) -> Fraction:
    return sum((x * y for x, y in zip(left, right, strict=True)), Fraction(0))


def _times(matrix: tuple[Row, ...], vector: Row) -> Row:
    return tuple(_dot(row, vector) for row in matrix)


def _order_conditions(
    a: tuple[Row, ...], b: Row
) -> dict[int, builtins.list[tuple[str, Fraction, Fraction]]]:
    """Every rooted tree up to order 4: its name, the tableau's sum, and the sum it must have."""
    c = tuple(sum(row, Fraction(0)) for row in a)
    c2 = tuple(x**2 for x in c)
    c3 = tuple(x**3 for x in c)
    ac = _times(a, c)
    return {
        1: [("sum(b)", sum(b, Fraction(0)), Fraction(1))],
        2: [("b.c", _dot(b, c), Fraction(1, 2))],
        3: [("b.c^2", _dot(b, c2), Fraction(1, 3)), ("b.Ac", _dot(b, ac), Fraction(1, 6))],
        4: [
            ("b.c^3", _dot(b, c3), Fraction(1, 4)),
            ("b.(c*Ac)", _dot(b, tuple(x * y for x, y in zip(c, ac, strict=True))), Fraction(1, 8)),
            ("b.Ac^2", _dot(b, _times(a, c2)), Fraction(1, 12)),
            ("b.AAc", _dot(b, _times(a, ac)), Fraction(1, 24)),
        ],
    }


@dataclasses.dataclass(frozen=True)
class ButcherTableau:
    """An explicit Runge-Kutta method for `dy/dt = F(y)`, checked when it is made.

    One step of size `h` from `y` evaluates the stages and combines them:

    `F_k = F(y + h * sum_{j<k} a_kj F_j)`,  `y_next = y + h * sum_k b_k F_k`

    The numbers are exact fractions, and the order conditions of all rooted trees up to the
    claimed order (Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*,
    section II.2) are verified exactly.

    Args:
        name: Name of the method, a word such as `"rk4"`.
        a: Square matrix of stage coefficients, strictly lower triangular; entries are ints,
            `fractions.Fraction` or strings such as `"1/3"`.
        b: Output weights, one a stage. With `output="learned"` their initial values, with
            `output="gated"` their values where the gate is one half.
        order: Claimed order of convergence, 1 to 4; 0 for a method that is not consistent.
        consistent: Must be said to be `False` for a method whose weights do not sum to 1, which
            therefore does not approximate the differential equation.
        output: How the stages are combined: `"weights"` (by `b`), `"learned"` (by one trainable
            weight a stage) or `"gated"` (two stages, `g F_1 + (1 - g) F_2` with a gate `g`
            computed from both).
        reference: Where the method comes from.

    Raises:
        TypeError: If a coefficient is not exact.
        ValueError: If the shapes do not fit, the method is implicit, `consistent` contradicts the
            weights, or an order condition of the claimed order does not hold.

    Example:

    >>> from qrkt_keras.solvers import ButcherTableau
    >>> midpoint = ButcherTableau(
    ...     name="midpoint", a=[[0, 0], ["1/2", 0]], b=[0, 1], order=2, reference="Runge 1895"
    ... )
    >>> midpoint.num_stages, midpoint.c
    (2, (Fraction(0, 1), Fraction(1, 2)))
    """

    name: str
    a: tuple[Row, ...]
    b: Row
    order: int
    consistent: bool = True
    output: str = "weights"
    reference: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"A tableau needs a name, a word. Received: name={self.name!r}")
        b = _row(self.b, f"The weights b of '{self.name}'")
        if isinstance(self.a, str) or not isinstance(self.a, Sequence):
            raise TypeError(
                f"The matrix a of '{self.name}' must be a sequence of rows. Received: a={self.a!r}"
            )
        a = tuple(
            _row(row, f"Row {index} of the matrix a of '{self.name}'")
            for index, row in enumerate(self.a)
        )
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)
        self._check_shapes()
        self._check_output()
        self._check_consistency()
        self._check_order()

    def _check_shapes(self) -> None:
        size = len(self.b)
        if size == 0:
            raise ValueError(f"'{self.name}' needs at least one stage. Received: b={self.b}")
        lengths = [len(row) for row in self.a]
        if lengths != [size] * size:
            raise ValueError(
                f"'{self.name}' has {size} weights, so its matrix a must have {size} rows of "
                f"{size} entries. Received: rows of lengths {lengths}"
            )
        for k, row in enumerate(self.a):
            for j in range(k, size):
                if row[j] != 0:
                    raise ValueError(
                        f"'{self.name}' must be explicit: its matrix a may have entries below "
                        f"the diagonal only. Received: a[{k}][{j}]={row[j]}"
                    )

    def _check_output(self) -> None:
        if self.output not in OUTPUT_RULES:
            raise ValueError(
                f"The output rule of '{self.name}' must be one of {OUTPUT_RULES}. "
                f"Received: output={self.output!r}"
            )
        if self.output == "gated" and self.num_stages != 2:
            raise ValueError(
                f"'{self.name}' is gated, and a gate chooses between exactly two stages. "
                f"Received: {self.num_stages} stages"
            )

    def _check_consistency(self) -> None:
        total = sum(self.b, Fraction(0))
        if self.consistent and total != 1:
            raise ValueError(
                f"The weights of '{self.name}' must sum to 1; say consistent=False if that is "
                f"meant. Received: sum(b)={total}"
            )
        if not self.consistent and total == 1:
            raise ValueError(
                f"The weights of '{self.name}' sum to 1, so it is consistent. "
                "Received: consistent=False"
            )

    def _check_order(self) -> None:
        allowed = range(1, 5) if self.consistent else range(1)
        if isinstance(self.order, bool) or self.order not in allowed:
            kind = "consistent" if self.consistent else "inconsistent"
            raise ValueError(
                f"The order of '{self.name}', which is {kind}, must be one of {[*allowed]}. "
                f"Received: order={self.order!r}"
            )
        conditions = _order_conditions(self.a, self.b)
        for order in range(1, self.order + 1):
            for tree, value, wanted in conditions[order]:
                if value != wanted:
                    raise ValueError(
                        f"'{self.name}' claims order {self.order}, but its condition of order "
                        f"{order}, {tree} = {wanted}, does not hold. Received: {tree}={value}"
                    )

    @property
    def c(self) -> Row:
        """The times of the stages, the row sums of `a`."""
        return tuple(sum(row, Fraction(0)) for row in self.a)

    @property
    def num_stages(self) -> int:
        """How often a step evaluates the function."""
        return len(self.b)

    def get_config(self) -> dict[str, Any]:
        """Returns the tableau as plain JSON data; `get` and `from_config` read it back."""
        return {
            "name": self.name,
            "a": [[str(value) for value in row] for row in self.a],
            "b": [str(value) for value in self.b],
            "order": self.order,
            "consistent": self.consistent,
            "output": self.output,
            "reference": self.reference,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ButcherTableau:
        """Makes the tableau that `get_config` described."""
        return cls(**config)


_ODE_TRANSFORMER = "Li et al. 2022, ODE Transformer, arXiv 2203.09176"

_TABLEAUS = {
    tableau.name: tableau
    for tableau in (
        ButcherTableau(name="rk1", a=[[0]], b=[1], order=1, reference="Euler 1768"),
        ButcherTableau(
            name="rk2",
            a=[[0, 0], [1, 0]],
            b=["1/2", "1/2"],
            order=2,
            reference="Heun 1900",
        ),
        ButcherTableau(
            name="rk3",
            a=[[0, 0, 0], ["1/2", 0, 0], [0, "3/4", 0]],
            b=["2/9", "3/9", "4/9"],
            order=3,
            reference="Ralston 1962",
        ),
        ButcherTableau(
            name="rk3_kutta",
            a=[[0, 0, 0], ["1/2", 0, 0], [-1, 2, 0]],
            b=["1/6", "4/6", "1/6"],
            order=3,
            reference="Kutta 1901",
        ),
        ButcherTableau(
            name="rk4",
            a=[[0, 0, 0, 0], ["1/2", 0, 0, 0], [0, "1/2", 0, 0], [0, 0, 1, 0]],
            b=["1/6", "2/6", "2/6", "1/6"],
            order=4,
            reference="Kutta 1901",
        ),
        # Its weights sum to 2: motivated by training, not by the differential equation.
        ButcherTableau(
            name="rk4_enhanced",
            a=[[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
            b=[1, 0, 0, 1],
            order=0,
            consistent=False,
            reference="Ripanu 2024, QRKT-GAN ('optimised RK4')",
        ),
        ButcherTableau(
            name="rk2_learned",
            a=[[0, 0], [1, 0]],
            b=[1, 1],
            order=0,
            consistent=False,
            output="learned",
            reference=_ODE_TRANSFORMER,
        ),
        # g + (1 - g) = 1 whatever the gate says, so order 1 is certain; 2 only where g = 1/2.
        ButcherTableau(
            name="rk2_gated",
            a=[[0, 0], [1, 0]],
            b=["1/2", "1/2"],
            order=1,
            output="gated",
            reference=_ODE_TRANSFORMER,
        ),
    )
}


def list() -> tuple[str, ...]:
    """Returns the names of the known solvers.

    Example:

    >>> from qrkt_keras import solvers
    >>> solvers.list()[:3]
    ('rk1', 'rk2', 'rk3')
    """
    return tuple(_TABLEAUS)


def get(solver: str | ButcherTableau | Mapping[str, Any]) -> ButcherTableau:
    """Returns the tableau of a solver.

    Args:
        solver: A name out of `list()`, a tableau (returned as it is), or what
            `ButcherTableau.get_config` returned.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.
        TypeError: If `solver` is none of the three.

    Example:

    >>> from qrkt_keras import solvers
    >>> solvers.get("rk4").order
    4
    """
    if isinstance(solver, ButcherTableau):
        return solver
    if isinstance(solver, Mapping):
        return ButcherTableau.from_config(solver)
    if not isinstance(solver, str):
        raise TypeError(
            "A solver is a name or a ButcherTableau. "
            f"Received: {solver!r} of type {type(solver).__name__}"
        )
    if solver not in _TABLEAUS:
        raise ValueError(
            f"Unknown solver; the known ones are {', '.join(_TABLEAUS)}. Received: {solver!r}"
        )
    return _TABLEAUS[solver]


def _add_scaled(base: Any, values: Sequence[Any], scales: Sequence[float]) -> Any:
    """`base + sum(scale * value)`, values of one scale added before they are multiplied."""
    sums: dict[float, Any] = {}
    for value, scale in zip(values, scales, strict=True):
        if scale != 0.0:
            sums[scale] = value if scale not in sums else sums[scale] + value
    for scale, total in sums.items():
        if scale == 1.0:
            base = base + total
        elif scale == -1.0:
            base = base - total
        else:
            base = base + scale * total
    return base


def stages(
    tableau: ButcherTableau,
    function: Callable[[int, Any], Any],
    base: Any,
    step: float = 1.0,
) -> builtins.list[Any]:
    """Evaluates the stages `F_k = function(k, base + step * sum_j a_kj F_j)`.

    Zero coefficients cost nothing, and unit ones no multiplication.

    Args:
        tableau: The method.
        function: Called as `function(k, u)`, k counted from 0, once a stage and in order.
        base: Array or tensor, where the step starts.
        step: Step size.

    Returns:
        The list of the `num_stages` values `F_k`.
    """
    values: builtins.list[Any] = []
    for k, row in enumerate(tableau.a):
        scales = [float(value) * step for value in row[:k]]
        values.append(function(k, _add_scaled(base, values, scales)))
    return values


def combine(tableau: ButcherTableau, base: Any, values: Sequence[Any], step: float = 1.0) -> Any:
    """Returns `base + step * sum_k b_k F_k` for stage values made by `stages`.

    Raises:
        ValueError: If the tableau's output rule is not `"weights"`, or the number of values is
            not the number of stages.
    """
    if tableau.output != "weights":
        raise ValueError(
            f"'{tableau.name}' has no fixed output weights; RungeKuttaResidual holds its "
            f"trainable ones. Received: output={tableau.output!r}"
        )
    if len(values) != tableau.num_stages:
        raise ValueError(
            f"'{tableau.name}' combines {tableau.num_stages} stage values. Received: {len(values)}"
        )
    return _add_scaled(base, values, [float(value) * step for value in tableau.b])


def step(
    tableau: ButcherTableau,
    function: Callable[[int, Any], Any],
    base: Any,
    step: float = 1.0,
) -> Any:
    """Makes one step of the method: `combine` of `stages`.

    Args:
        tableau: The method, one with fixed output weights.
        function: Called as `function(k, u)`, k counted from 0, once a stage and in order.
        base: Array or tensor, where the step starts.
        step: Step size.

    Returns:
        The value at the end of the step, with the shape of `base`.

    Raises:
        ValueError: If the tableau's output rule is not `"weights"`.

    Example:

    >>> from qrkt_keras import solvers
    >>> round(solvers.step(solvers.get("rk4"), lambda k, y: -y, 1.0, step=0.5), 4)
    0.6068
    """
    return combine(tableau, base, stages(tableau, function, base, step), step)
