"""The plan's choices and what it says of them."""

from __future__ import annotations

import pytest

from qrkt_keras.circuits import templates
from qrkt_keras.execution import (
    ENGINES,
    StateVector,
    UnsupportedCircuitError,
    make_engine,
    plan,
    state_vector,
)


@pytest.mark.parametrize("template", ["rx_ring", "ry_ring"])
@pytest.mark.parametrize("num_qubits", [1, 6, 384])
def test_shallow_circuits_need_no_state(template, num_qubits):
    spec = getattr(templates, template)(num_qubits)
    assert plan(spec).engine == make_engine(spec).name == "pauli_propagation"


def test_deep_circuits_take_the_state_vector():
    chosen = plan(templates.hardware_efficient(8, num_layers=6), batch=10)
    assert chosen.engine == "state_vector"
    text = chosen.explain()
    assert "Pauli strings" in text and "* state_vector" in text
    assert all(engine in text for engine in ENGINES[1:])
    assert "batch: 10" in text and "multiply-adds" in text and "MB" in text


def test_costs_grow_with_the_batch():
    small, large = (plan(templates.ry_ring(4), batch=batch).candidates for batch in (8, 80))
    for one, ten in zip(small, large, strict=True):
        assert ten.multiply_adds == pytest.approx(10 * one.multiply_adds)
        assert one.seconds < ten.seconds <= 10 * one.seconds
        # TFQ holds a few states at a time, whatever the batch.
        assert one.num_bytes <= ten.num_bytes <= 10 * one.num_bytes


def test_local_observables_of_wide_circuits_run_on_light_cones():
    spec = templates.hardware_efficient(20, num_layers=3)
    chosen = plan(spec)
    assert chosen.engine == "state_vector"
    assert "20 light cones of 5 qubits" in chosen.explain()
    assert make_engine(spec).cones.amplitudes == 640
    offer = next(c for c in chosen.candidates if c.engine == "state_vector")
    assert offer.num_bytes == state_vector._STATES * chosen.batch * 640 * 8


def test_light_cones_only_where_they_are_faster():
    # Eight cones of five qubits are more to do than one state of eight.
    engine = make_engine(templates.hardware_efficient(8, num_layers=3), "state_vector")
    assert isinstance(engine, StateVector)


def test_more_than_the_memory_says_how_much_it_would_take():
    with pytest.raises(UnsupportedCircuitError, match=r"value and gradient of one example .* GB"):
        plan(templates.rx_ring(40, num_layers=3), engine="state_vector")


def test_an_engine_asked_for_is_kept_or_refused():
    assert plan(templates.rx_ring(4), engine="tfq").engine == "tfq"
    with pytest.raises(UnsupportedCircuitError, match="engine='state_vector'.*num_qubits=30"):
        plan(templates.rx_ring(30), engine="state_vector")


def test_when_nothing_fits_every_reason_is_given():
    with pytest.raises(UnsupportedCircuitError) as error:
        plan(templates.hardware_efficient(80, num_layers=30))
    assert all(engine in str(error.value) for engine in ENGINES[1:])


@pytest.mark.parametrize("batch", [-1, 2.5, "64"])
def test_bad_batch(batch):
    with pytest.raises(ValueError, match=f"Received: {batch!r}"):
        plan(templates.rx_ring(2), batch=batch)


def test_not_a_spec():
    with pytest.raises(TypeError, match="Received: 'rx_ring'"):
        plan("rx_ring")


def test_unknown_engine():
    with pytest.raises(ValueError, match="Received: 'statevector'"):
        plan(templates.rx_ring(2), engine="statevector")
