"""Jobs on a sampler: figures against what is computed by hand, failures, and training."""

from __future__ import annotations

import cirq
import keras
import numpy as np
import pytest
from support.reference import cirq_expectation

from qrkt_keras import zoo
from qrkt_keras.circuits import templates
from qrkt_keras.execution import SamplerError
from qrkt_keras.hardware import (
    KeptRuns,
    as_data,
    compile_for,
    estimate,
    evaluate,
    sampled,
    train,
    virtual_machine,
)
from qrkt_keras.layers import PQC

TINY = {
    "patch_size": 4,
    "hidden_dim": 4,
    "num_heads": 1,
    "mlp_dim": 4,
    "num_encoder_blocks": 0,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 0,
    "solver": "rk1",
    "pooling": "depthwise",
    "dropout": 0.0,
}


def tiny():
    keras.utils.set_random_seed(0)
    return zoo.QViT((8, 8, 1), 2, **TINY)


def images(number=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % 2
    x = rng.uniform(0, 0.3, (number, 8, 8, 1)).astype("float32")
    x[labels == 1, :, 4:] += 0.7
    return x, labels


class Flaky(cirq.Sampler):
    """A virtual machine whose line goes dead after a number of circuits."""

    def __init__(self, runs):
        self.machine, self.runs = virtual_machine("weber", seed=0), runs

    @property
    def identity(self):
        return self.machine.identity

    @property
    def num_runs(self):
        return self.machine.num_runs

    @num_runs.setter
    def num_runs(self, value):
        self.machine.num_runs = value

    def run_sweep(self, program, params, repetitions=1):
        if not self.runs:
            raise ConnectionError("the line is dead")
        self.runs -= 1
        return self.machine.run_sweep(program, params, repetitions)


def test_figures_are_those_of_the_model():
    model = tiny()
    x, labels = images()
    engines = [layer._executor for layer in model.pqcs]
    result = evaluate(
        model, x, labels, cirq.Simulator(seed=0), repetitions=500, batch_size=4, progress=False
    )
    assert (result.num_examples, result.num_circuits, result.num_shots) == (6, 6 * 20, 6 * 20 * 500)
    exact = model.predict(x, verbose=0).argmax(-1)
    assert result.exact_accuracy == np.mean(exact == labels)
    # Values of one qubit vary by at most 1: the mean of |error| is below the standard error.
    assert 0 < result.mean_error < 1 / np.sqrt(500) < result.max_error < 6 / np.sqrt(500)
    assert [layer._executor for layer in model.pqcs] == engines and model.engine == "auto"
    assert as_data(result)["num_shots"] == result.num_shots


def test_it_is_the_sampled_model_that_is_scored():
    model, (x, labels) = tiny(), images()
    options = {"repetitions": 3, "batch_size": 6}
    result = evaluate(model, x, labels, cirq.Simulator(seed=0), progress=False, **options)
    with sampled(model, cirq.Simulator(seed=0), repetitions=3):
        logits = np.asarray(model(x, training=False))
    assert result.accuracy == np.mean(logits.argmax(-1) == labels)
    assert result.agreement == np.mean(logits.argmax(-1) == model.predict(x, verbose=0).argmax(-1))


def test_expectation_errors_are_against_the_circuits_own_angles():
    spec = templates.ry_ring(2)
    model = keras.Sequential([keras.Input((2,)), PQC(spec)])
    x = np.random.default_rng(0).uniform(-1, 1, (3, 2)).astype("float32")
    result = evaluate(
        model, x, [0, 1, 0], cirq.Simulator(seed=0), repetitions=40, progress=False, batch_size=3
    )
    with sampled(model, cirq.Simulator(seed=0), repetitions=40):
        values = np.asarray(model(x))
    weights = model.get_weights()[0]
    exact = np.array([cirq_expectation(spec, row, weights) for row in x])
    assert result.mean_error == pytest.approx(np.abs(values - exact).mean(), abs=1e-6)
    assert result.max_error == pytest.approx(np.abs(values - exact).max(), abs=1e-6)


def test_a_failing_sampler_leaves_what_was_done_and_the_job_goes_on(tmp_path):
    model, (x, labels) = tiny(), images()
    compiled = compile_for(model, "weber", "cz")
    options = {"compiled": compiled, "repetitions": 50, "batch_size": 2, "progress": False}
    whole = evaluate(model, x, labels, virtual_machine("weber", seed=0), **options)

    message = "The sampler Flaky failed. Received: ConnectionError: the line is dead"
    with pytest.raises(SamplerError, match=message):
        evaluate(model, x, labels, KeptRuns(Flaky(5), tmp_path), **options)
    assert len(list(tmp_path.glob("run_*.npz"))) == 5
    # The engine is the model's own again.
    assert {layer.engine for layer in model.pqcs} == {"auto"}
    kept = KeptRuns(Flaky(1000), tmp_path, resume=True)
    result = evaluate(model, x, labels, kept, **options)
    assert kept.num_kept > 0 and kept.num_kept + kept.num_circuits == whole.num_circuits
    theirs, ours = as_data(whole), as_data(result)
    theirs.pop("seconds"), ours.pop("seconds")
    assert ours == theirs


def test_training_lowers_the_loss_on_the_virtual_machine(tmp_path):
    model, (x, labels) = tiny(), images(12)
    weights = model.get_weights()
    compiled = compile_for(model, "weber", "cz")
    options = {
        "compiled": compiled,
        "repetitions": 300,
        "num_steps": 4,
        "batch_size": 8,
        "learning_rate": 0.05,
        "progress": False,
    }
    assert model.num_quantum_params <= 20
    result = train(
        model, x, labels, KeptRuns(virtual_machine("weber", seed=0), tmp_path), **options
    )
    assert result.exact_losses[-1] < result.exact_losses[0] / 2
    assert len(result.sampled_losses) == 4 and len(result.exact_losses) == 5
    changed = [np.any(a != b) for a, b in zip(weights, model.get_weights(), strict=True)]
    assert all(changed)
    # The same call again runs nothing.
    again = tiny()
    kept = KeptRuns(Flaky(0), tmp_path, resume=True)
    replayed = train(again, x, labels, kept, **options)
    assert replayed.exact_losses == result.exact_losses and kept.num_circuits == 0
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("gradients", [False, True])
def test_the_estimate_counts_what_runs(gradients):
    model, (x, labels) = tiny(), images(4)
    machine = virtual_machine("weber", seed=0)
    options = {"compiled": compile_for(model, "weber", "cz"), "repetitions": 10}
    found = estimate(model, 4, gradients=gradients, trial=machine, **options)
    assert found.shots_per_circuit == (10,)
    assert estimate(model, 4, gradients=gradients, **options).seconds is None
    if gradients:
        ran = train(model, x, labels, machine, num_steps=1, batch_size=4, progress=False, **options)
        # The first layer's data have no gradient by the circuits, so a little less is run.
        assert 0.6 * found.num_circuits < ran.num_circuits <= found.num_circuits
    else:
        ran = evaluate(model, x, labels, machine, progress=False, **options)
        assert (found.num_circuits, found.num_shots) == (ran.num_circuits, ran.num_shots)
    assert found.seconds > 0


def test_exact_figures_ask_no_sampler(tmp_path):
    """Also where the model samples already: the exact engine is the exact engine."""
    model, (x, labels) = tiny(), images()
    exact = model.predict(x, verbose=0).argmax(-1)
    model.set_engine("sampling", sampler=Flaky(0), compiled=compile_for(model, "weber", "cz"))
    options = {"repetitions": 30, "progress": False}
    result = evaluate(model, x, labels, cirq.Simulator(seed=0), **options)
    assert result.exact_accuracy == np.mean(exact == labels)
    train(model, x, labels, cirq.Simulator(seed=0), num_steps=1, batch_size=2, **options)
    assert model.engine == "sampling"
    with pytest.raises(SamplerError, match="the line is dead"):
        model.predict(x, verbose=0)


def test_compiled_functions_follow_the_engine():
    model, (x, _) = tiny(), images()
    exact = model.predict(x, verbose=0)
    with sampled(model, cirq.Simulator(seed=0), repetitions=20):
        within = model.predict(x, verbose=0)
        with pytest.raises(SamplerError, match="the line is dead"), sampled(model, Dead()):
            model.predict(x, verbose=0)
    assert np.abs(within - exact).max() > 1e-3
    np.testing.assert_allclose(model.predict(x, verbose=0), exact, atol=1e-6)
    assert not model.run_eagerly


class Dead(cirq.Sampler):
    def run_sweep(self, program, params, repetitions=1):
        raise ConnectionError("the line is dead")


def test_training_leaves_how_the_model_is_compiled():
    model, (x, labels) = tiny(), images()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer = model.optimizer
    train(
        model, x, labels, cirq.Simulator(seed=0), num_steps=1, batch_size=2, repetitions=10,
        progress=False,
    )  # fmt: skip
    assert model.optimizer is optimizer and not model.run_eagerly
    model.fit(x, labels, epochs=1, verbose=0)


def test_bad_examples():
    model, (x, labels) = tiny(), images()
    for arguments in ((x[:0], labels[:0]), (x, labels[:3])):
        with pytest.raises(ValueError, match="There must be examples.* Received: "):
            evaluate(model, *arguments, cirq.Simulator(), progress=False)
    with pytest.raises(ValueError, match="num_steps must be .* Received: 0"):
        train(model, x, labels, cirq.Simulator(), num_steps=0)
    with pytest.raises(ValueError, match="batch_size must be .* Received: 0"):
        evaluate(model, x, labels, cirq.Simulator(), batch_size=0)
    dense = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="The model has no circuits"):
        evaluate(dense, x, labels, cirq.Simulator(), progress=False)


def test_progress_is_shown(capsys):
    model, (x, labels) = tiny(), images(4)
    evaluate(model, x, labels, cirq.Simulator(seed=0), repetitions=5, batch_size=2)
    assert "examples 4/4  80 circuits" in capsys.readouterr().out


def test_texts_too():
    model = zoo.QText(
        vocab_size=20,
        max_length=4,
        hidden_dim=2,
        num_heads=1,
        mlp_dim=2,
        num_encoder_blocks=1,
        num_ode_blocks=0,
        num_decoder_blocks=0,
        dropout=0.0,
    )
    tokens = np.random.default_rng(0).integers(1, 20, (3, 4))
    result = evaluate(
        model, tokens, [0, 1, 0], cirq.Simulator(seed=0), repetitions=20, progress=False
    )
    assert result.num_circuits == 3 * model.circuits_per_example
