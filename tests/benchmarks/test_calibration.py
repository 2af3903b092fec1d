"""The plan's coefficients are those of the measured table, and choose the fastest engine there."""

from __future__ import annotations

import json

import pytest
from benchmarks import calibrate

from qrkt_keras.execution import plan
from qrkt_keras.execution.plan import COEFFICIENTS

ROWS = json.loads(calibrate.TABLE.read_text())["rows"]


def test_the_plan_holds_the_tables_coefficients():
    fitted = calibrate.fit(ROWS)
    assert fitted.keys() == COEFFICIENTS.keys()
    for engine, coefficients in fitted.items():
        assert COEFFICIENTS[engine] == pytest.approx(coefficients)


def test_explain_is_right_in_nine_of_ten_circuits():
    results = calibrate.right_winners(ROWS, COEFFICIENTS)
    assert len(results) >= 20
    assert sum(right for _, right, _, _ in results) >= 0.9 * len(results)
    # Not because one engine always wins.
    assert len({fastest for *_, fastest in results}) == 3


def test_the_plan_chooses_as_the_table_is_judged():
    for circuit, _, chosen, _ in calibrate.right_winners(ROWS, COEFFICIENTS):
        *arguments, batch = circuit
        found = plan(calibrate.spec_of(*arguments), batch=batch)
        expected = "state_vector" if chosen == "light_cone" else chosen
        assert found.engine == expected, circuit
