"""`qrkt analyse`, in this process, on the small digits."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from qrkt_keras import cli, data


def qrkt(*arguments):
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})


def done(*arguments):
    """What a command that succeeds shows."""
    finished = qrkt(*arguments)
    assert finished.exit_code == 0, finished.output
    return finished.stdout


def refused(*arguments):
    """The one line in which a command says why it does not do it."""
    finished = qrkt(*arguments)
    assert finished.exit_code == 1 and isinstance(finished.exception, SystemExit), finished.output
    (line,) = finished.stderr.splitlines()
    return line


def results(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def patch_qnn(**changes):
    from qrkt_keras import zoo

    # Four patches of 2×2 averages.
    arguments = {"pool_size": 2, "patch_size": 2, "stride": 2, "num_blocks": 1}
    arguments |= {"num_qubits_per_circuit": 5, "scale": 10.0}
    return zoo.PatchQNN((8, 8, 1), 10, **arguments | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a run of two epochs leaves that an analysis reads; the first was the best.

    Steps at random stand for training, which takes longer than all that is tested here.
    """
    from qrkt_keras import training, zoo
    from qrkt_keras.training.snapshots import Snapshots

    folder = tmp_path_factory.mktemp("runs") / "patches"
    folder.mkdir()
    recipe = training.Recipe(
        epochs=2, monitor="train_loss", weight_decay=0, hold_out=False, snapshots=True
    )
    model, generator = patch_qnn(), np.random.default_rng(0)
    snapshots = Snapshots(folder)
    snapshots.set_model(model)
    for epoch in range(2):
        snapshots.on_epoch_begin(epoch)
        for variable in model.trainable_variables:
            variable.assign_add(generator.normal(0, 0.3, variable.shape))
        snapshots.on_epoch_end(epoch)
        if epoch == 0:
            zoo.save_to_preset(model, folder / "preset", recipe=recipe, data="digits")
    (folder / "history.json").write_text('{"best_epoch": 1}')
    return folder


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """The preset of a model without circuits, of which everything is quick."""
    from qrkt_keras import training, zoo

    return zoo.save_to_preset(
        patch_qnn(quantum=False),
        tmp_path_factory.mktemp("presets") / "twin",
        recipe=training.Recipe(epochs=1, label_smoothing=0.1),
        data="digits",
    )


@contextlib.contextmanager
def interrupted(method, number):
    """Has a method of `DataLoss` interrupted at a call of it, as by ctrl-C."""
    from qrkt_keras.analysis import DataLoss

    calls, own = [], getattr(DataLoss, method)

    def counted(*arguments, **options):
        calls.append(None)
        if len(calls) == number:
            raise KeyboardInterrupt
        return own(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataLoss, method, counted)
        yield


def cross_entropy(logits, labels, smoothing=0.0):
    """The mean over examples, in float64."""
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=1, keepdims=True)
    logarithms = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    shares = np.eye(logits.shape[1])[labels] * (1 - smoothing) + smoothing / logits.shape[1]
    return -(shares * logarithms).sum(axis=1).mean()


# --- hessian -------------------------------------------------------------------------------


def test_hessian_of_a_run(run, tmp_path):
    output = tmp_path / "out"
    words = ("--examples", 60, "--weights", "circuits", "--eigenvalues", 2, "--trace", 2)
    words += ("--density", 1, "--steps", 20, "--tolerance", 0.01)
    shown = done("analyse", "hessian", run, *words, "--output", output, "--quiet")
    found = results(output, "hessian")
    # One circuit a patch, of 6 n d + 2 F angles.
    assert found["num_weights"] == 4 * (6 * 5 + 2 * 4)
    # Nothing was held out of training.
    assert (found["data"], found["split"], found["num_examples"]) == (
        "digits",
        "train+validation",
        60,
    )
    assert found["weights"] == "circuits" and found["method"] == "lanczos"
    assert found["is_converged"] and max(found["residuals"]) < 0.01
    first, second = found["eigenvalues"]
    assert first > second and len(found["residuals"]) == 2
    assert f"{first:.4g}" in shown and f"{second:.4g}" in shown
    assert found["trace"]["num_samples"] == 2 and found["trace"]["standard_error"] > 0
    nodes = np.array(found["density"]["nodes"])
    assert nodes.shape == (1, 20) == np.shape(found["density"]["weights"])
    # The largest Ritz value of another random vector.
    assert nodes.max() == pytest.approx(first, rel=0.05)
    assert (output / "density.png").stat().st_size > 10_000
    assert found["seconds"] > 0 and found["seed"] == 0
    # The command is one that can be given again.
    assert shlex.split(found["command"])[:4] == ["qrkt", "analyse", "hessian", str(run)]
    assert refused(*shlex.split(found["command"])[1:]).endswith(f"{output}/hessian.json")


def test_eigenvalues_are_those_of_the_loss_that_was_trained(twin, tmp_path):
    import tensorflow as tf

    from qrkt_keras import zoo
    from qrkt_keras.data.splits import stratified_split

    words = ("--examples", 120, "--seed", 7, "--tolerance", 1e-4, "--max-iterations", 200)
    for method in ("lanczos", "power"):
        output = tmp_path / method
        shown = done("analyse", "hessian", twin, *words, "--method", method, "--output", output)
        # How far it is, in lines, for this is no terminal.
        assert "1/200" in shown
    found = [results(tmp_path / method, "hessian") for method in ("lanczos", "power")]
    assert [one["is_converged"] for one in found] == [True, True]

    # The same examples whatever the seed; a dense Hessian of the recipe's loss, by all weights.
    images, labels = data.arrays("digits", "train")
    _, drawn = stratified_split(labels, 120, seed=0)
    assert set(np.bincount(labels[drawn])) == {12}
    model = zoo.from_preset(twin)
    shares = tf.one_hot(labels[drawn], 10) * 0.9 + 0.01
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            logits = model(images[drawn])
            losses = tf.nn.softmax_cross_entropy_with_logits(shares, logits)
            loss = tf.reduce_mean(losses)
        variables = [variable.value for variable in model.trainable_variables]
        gradient = tf.concat([tf.reshape(g, [-1]) for g in inner.gradient(loss, variables)], 0)
    rows = [tf.reshape(j, [len(gradient), -1]) for j in outer.jacobian(gradient, variables)]
    largest = np.linalg.eigvalsh(np.concatenate(rows, axis=1).astype(np.float64))[-1]
    for one in found:
        assert one["split"] == "train" and one["num_weights"] == len(gradient)
        assert one["loss"] == pytest.approx(float(loss), rel=1e-5)
        assert one["eigenvalues"] == pytest.approx([largest], rel=2e-3)


def test_an_interrupted_hessian_keeps_what_it_found(twin, tmp_path):
    words = ("--examples", 50, "--density", 1, "--output", tmp_path, "--quiet")
    with interrupted("hessian_vector_product", 4):
        finished = qrkt("analyse", "hessian", twin, *words)
    assert finished.exit_code == 130
    assert "Interrupted" in finished.stderr
    found = results(tmp_path, "hessian")
    assert found["num_iterations"] == 3 and not found["is_converged"]
    assert len(found["eigenvalues"]) == len(found["residuals"]) == 1
    # What was to come after it was not begun.
    assert "density" not in found
    left = {"hessian.json", "hessian_products.npz"}
    assert {file.name for file in tmp_path.iterdir()} == left


def test_a_stopped_hessian_is_continued(twin, tmp_path, monkeypatch):
    from qrkt_keras.analysis import DataLoss

    words = ("analyse", "hessian", twin, "--examples", 50, "--eigenvalues", 2)
    words += ("--tolerance", 0.1, "--trace", 3, "--density", 1, "--steps", 4)
    done(*words, "--output", tmp_path / "whole", "--quiet")
    whole = results(tmp_path / "whole", "hessian")
    assert not (tmp_path / "whole" / "hessian_products.npz").exists()

    output, made = tmp_path / "halves", whole["num_iterations"] + 1
    with interrupted("hessian_vector_product", made + 1):
        stopped = qrkt(*words, "--output", output)
    assert stopped.exit_code == 130
    *_, command = stopped.stderr.splitlines()
    assert command.endswith("--resume")
    assert refused(*words, "--output", output).startswith("There are results already: --resume")
    own, calls = DataLoss.hessian_vector_product, []

    def counted(loss, vector):
        calls.append(None)
        return own(loss, vector)

    monkeypatch.setattr(DataLoss, "hessian_vector_product", counted)
    done(*shlex.split(command)[1:])
    assert len(calls) == 3 - 1 + 4
    halves = results(output, "hessian")
    # How long the first part took is not known.
    assert whole.pop("seconds") > 0 and halves.pop("seconds") is None
    assert whole.pop("command") != halves.pop("command")
    assert halves == whole
    assert {file.name for file in output.iterdir()} == {"hessian.json", "density.png"}
    # Results without products are not continued, and not replaced.
    told = refused(*words, "--output", output, "--resume")
    assert told.startswith("There are results already: --overwrite replaces them")


@pytest.mark.parametrize("part", ["trace", "density"])
def test_a_hessian_interrupted_between_two_parts_keeps_the_first(twin, tmp_path, part):
    words = ("--examples", 50, "--max-iterations", 3, "--output", tmp_path, "--quiet")
    with interrupted("hessian_vector_product", 4):
        finished = qrkt("analyse", "hessian", twin, *words, f"--{part}", 2)
    assert finished.exit_code == 130
    assert "Interrupted" in finished.stderr
    found = results(tmp_path, "hessian")
    assert found["num_iterations"] == 3 and len(found["eigenvalues"]) == 1
    assert part not in found


@pytest.mark.parametrize(
    ("words", "number"), [(("--trace", 3), 3), (("--density", 3, "--steps", 2), 5)]
)
def test_a_hessian_interrupted_within_a_part_keeps_what_is_done_of_it(
    words, number, twin, tmp_path
):
    words += ("--examples", 50, "--eigenvalues", 0, "--output", tmp_path, "--quiet")
    with interrupted("hessian_vector_product", number):
        finished = qrkt("analyse", "hessian", twin, *words)
    assert finished.exit_code == 130
    assert "Interrupted" in finished.stderr
    found = results(tmp_path, "hessian")
    if "trace" in found:
        assert found["trace"]["num_samples"] == 2
    else:
        assert np.shape(found["density"]["nodes"]) == (2, 2)
        assert (tmp_path / "density.png").exists()


def test_the_seed_is_that_of_what_is_drawn(twin, tmp_path):
    words = ("--examples", 50, "--eigenvalues", 0, "--trace", 1, "--density", 1, "--steps", 1)
    found = []
    for number, seed in enumerate((0, 0, 1)):
        output = tmp_path / str(number)
        done("analyse", "hessian", twin, *words, "--seed", seed, "--output", output, "--quiet")
        found.append(results(output, "hessian"))
    same, again, other = ((one["trace"]["mean"], one["density"]["nodes"]) for one in found)
    assert same == again
    assert same[0] != other[0] and same[1] != other[1]


def test_a_hessian_interrupted_at_once_writes_nothing(twin, tmp_path):
    words = ("--examples", 50, "--eigenvalues", 0, "--output", tmp_path / "out", "--quiet")
    with interrupted("hessian_vector_product", 1):
        finished = qrkt("analyse", "hessian", twin, *words, "--trace", 2)
    assert finished.exit_code == 130 and not [*(tmp_path / "out").iterdir()]


def test_an_eigenvalue_that_is_not_exact_yet_is_told(twin, tmp_path):
    words = ("--examples", 50, "--max-iterations", 2, "--output", tmp_path, "--quiet")
    finished = qrkt("analyse", "hessian", twin, *words)
    assert finished.exit_code == 0
    assert "Not converged after 2 products" in finished.stderr
    # With more products it is, and the first two are not made again.
    with interrupted("hessian_vector_product", 2):
        more = qrkt("analyse", "hessian", twin, *words[:2], *words[4:], "--resume")
    assert more.exit_code == 130 and results(tmp_path, "hessian")["num_iterations"] == 3
    # And overwritten where that is asked for, with the picture that would not belong to it.
    (tmp_path / "density.png").write_bytes(b"")
    qrkt("analyse", "hessian", twin, *words, "--eigenvalues", 0, "--trace", 1, "--overwrite")
    found = results(tmp_path, "hessian")
    assert "eigenvalues" not in found and found["trace"]["standard_error"] is None
    assert not (tmp_path / "density.png").exists()


# --- landscape -----------------------------------------------------------------------------


def test_landscape_of_a_run(run, tmp_path):
    from qrkt_keras import zoo

    output = tmp_path / "out"
    words = ("--examples", 50, "--points", 3, "--margin", 0.5, "--output", output, "--quiet")
    shown = done("analyse", "landscape", run, *words)
    found = results(output, "landscape")
    assert found["weights"] == "circuits" and found["num_weights"] == 4 * (6 * 5 + 2 * 4)
    assert found["best_epoch"] == 1
    assert np.shape(found["coordinates"]) == (3, 2)
    # Two components of three points.
    assert sum(found["explained_ratios"]) == pytest.approx(1)
    first, second = found["explained_ratios"]
    assert f"{first:.1%} and {second:.1%}" in shown
    for axis, column in (("x", 0), ("y", 1)):
        places = np.array(found["coordinates"])[:, column]
        ends = places.min() - 0.5, places.max() + 0.5
        assert found[axis] == pytest.approx(np.linspace(*ends, 3))
    assert (output / "landscape.png").stat().st_size > 10_000

    with np.load(output / "landscape.npz") as arrays:
        assert arrays["values"].tolist() == found["values"]
        # The best epoch is at the place of its own weights, and the biases are as they were there.
        model = zoo.from_preset(run / "preset")
        own = np.concatenate([np.ravel(layer.angles.value) for layer in model.pqcs])
        x, y = found["coordinates"][found["best_epoch"]]
        inside = arrays["origin"] + x * arrays["directions"][0] + y * arrays["directions"][1]
        assert inside == pytest.approx(own, abs=1e-4)
        corner = arrays["origin"] + found["x"][2] * arrays["directions"][0]
        corner += found["y"][0] * arrays["directions"][1]
    (layer,) = model.pqcs
    layer.angles.assign(corner.reshape(layer.angles.shape))
    images, labels = data.arrays("digits", "train+validation")
    from qrkt_keras.data.splits import stratified_split

    _, drawn = stratified_split(labels, 50, seed=0)
    expected = cross_entropy(model(images[drawn]), labels[drawn])
    assert found["values"][0][2] == pytest.approx(expected, rel=1e-4)


def test_an_interrupted_scan_is_continued(twin, tmp_path):
    words = ("analyse", "landscape", twin, "--random", "--examples", 50, "--points", 3, "--seed", 2)
    done(*words, "--output", tmp_path / "whole")
    whole = results(tmp_path / "whole", "landscape")
    assert whole["weights"] == "all" and whole["explained_ratios"] is None
    assert whole["x"] == [-1, 0, 1] and whole["best_epoch"] is None and whole["num_missing"] == 0

    output = tmp_path / "halves"
    with interrupted("value", 5):
        stopped = qrkt(*words, "--output", output)
    assert stopped.exit_code == 130
    *_, command = stopped.stderr.splitlines()
    assert refused(*words, "--output", output).startswith("There are results already: --resume")
    assert command.endswith("--resume")
    shown = done(*shlex.split(command)[1:])
    assert "scan 9/9" in shown and "scan 1/9" not in shown
    halves = results(output, "landscape")
    assert halves["values"] == whole["values"]
    # How long the first part took is not known.
    assert whole["seconds"] > 0 and halves["seconds"] is None
    # Results without a scan are not continued, and not replaced.
    (output / "landscape_scan.npz").unlink()
    told = refused(*words, "--output", output, "--resume")
    assert told.startswith("There are results already: --overwrite replaces them")
    assert results(output, "landscape") == halves


def test_a_new_scan_takes_the_place_of_another(twin, tmp_path):
    words = ("analyse", "landscape", twin, "--random", "--examples", 50, "--points", 2, "--quiet")
    words += ("--output", tmp_path)
    done(*words)
    first = results(tmp_path, "landscape")
    done(*words, "--seed", 1, "--overwrite")
    second = results(tmp_path, "landscape")
    assert second["x"] == first["x"]
    assert not np.isclose(second["values"], first["values"], rtol=1e-6).any()
    # Where the new one has not come to its end, nothing of the old one is beside it.
    with interrupted("value", 2):
        stopped = qrkt(*words, "--overwrite")
    assert stopped.exit_code == 130
    assert [file.name for file in tmp_path.iterdir()] == ["landscape_scan.npz"]


def test_weights_of_no_epoch_are_not_called_the_best(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "history.json").write_text('{"best_epoch": 2}')
    words = ("--examples", 50, "--points", 2, "--output", tmp_path / "out", "--quiet")
    finished = qrkt("analyse", "landscape", copy, *words)
    assert finished.exit_code == 0
    assert "the trained weights are none of the trajectory's" in finished.stderr
    assert results(tmp_path / "out", "landscape")["best_epoch"] is None


def test_a_model_of_texts(tmp_path):
    from qrkt_keras import training, zoo

    texts = [f"{word} film number {i}" for i in range(20) for word in ("good", "bad")]
    rows = [f'"{text}",{text.split()[0]}' for text in texts]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    model = zoo.QText(
        2,
        vocab_size=8,
        max_length=5,
        hidden_dim=4,
        num_heads=1,
        mlp_dim=4,
        num_encoder_blocks=1,
        num_ode_blocks=0,
        num_decoder_blocks=0,
        quantum=False,
        label_names=["bad", "good"],
    )
    model.adapt(texts)
    preset = zoo.save_to_preset(
        model,
        tmp_path / "texts",
        recipe=training.Recipe(epochs=1),
        data=str(tmp_path / "texts.csv"),
    )
    words = ("--trace", 1, "--eigenvalues", 0, "--output", tmp_path / "out", "--quiet")
    done("analyse", "hessian", preset, *words)
    found = results(tmp_path / "out", "hessian")
    inputs, labels = data.arrays(str(tmp_path / "texts.csv"), "train")
    assert found["num_examples"] == len(labels)
    logits = model(model.vectorize(inputs), training=False)
    assert found["loss"] == pytest.approx(cross_entropy(logits, labels), rel=1e-4)


def test_a_scan_with_missing_values(twin, tmp_path, monkeypatch):
    from qrkt_keras.analysis import DataLoss

    own, calls = DataLoss.value, []

    def value(loss, point=None):
        calls.append(point)
        return np.nan if len(calls) in (2, 3) else own(loss, point)

    monkeypatch.setattr(DataLoss, "value", value)
    words = ("analyse", "landscape", twin, "--random", "--examples", 50, "--points", 3)
    shown = done(*words, "--output", tmp_path, "--quiet")
    assert "At 2 of them it is not finite." in shown
    found = results(tmp_path, "landscape")
    assert found["num_missing"] == 2 and found["values"][0][1:] == [None, None]


# --- trainability --------------------------------------------------------------------------


def test_trainability_of_a_template(tmp_path):
    output = tmp_path / "out"
    shown = done(
        *(
            "analyse",
            "trainability",
            "rx_ring",
            "--qubits",
            2,
            3,
            4,
            "--depths",
            1,
            "--samples",
            50,
        ),
        *("--all-parameters", "--seed", 3, "--output", output),
    )
    found = results(output, "trainability")
    assert (found["num_qubits"], found["depths"], found["num_samples"]) == ([2, 3, 4], [1], 50)
    # <Z_0> of rx_ring is one cosine, and then products of two and of three (SPEC.md, section 1).
    error = np.array(found["standard_errors"][0])
    assert (np.abs(np.array(found["variances"][0]) - [1 / 2, 1 / 4, 1 / 8]) < 4 * error).all()
    assert found["rates"] == pytest.approx([np.log(2)], abs=0.3)
    assert "gradients 150/150" in shown and f"{found['variances'][0][2]:.2e}" in shown
    assert (output / "trainability.png").stat().st_size > 10_000
    words = "--qubits 2 3 4 --depths 1 --samples 50 --observable 0 --all-parameters"
    assert words in found["command"]
    assert refused("analyse", "trainability", "rx_ring", "--output", output).endswith(
        "trainability.json"
    )
    # The seed is that of what is drawn.
    words = ("--qubits", 2, "--depths", 1, "--samples", 5, "--overwrite", "--output", output)
    drawn = []
    for seed in (0, 0, 1):
        done("analyse", "trainability", "rx_ring", *words, "--seed", seed)
        drawn.append(results(output, "trainability")["variances"])
    assert drawn[0] == drawn[1] != drawn[2]


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["hessian", "landscape"])
def test_a_preset_must_be_a_trained_classifiers(command, tmp_path, monkeypatch):
    from qrkt_keras import training, zoo

    monkeypatch.chdir(tmp_path)
    untrained = zoo.save_to_preset(
        patch_qnn(quantum=False),
        tmp_path / "untrained",
        recipe=training.Recipe(epochs=1),
        data="digits",
        include_weights=False,
    )
    assert "no trained weights yet" in refused("analyse", command, untrained)
    assert "must be a classifier's" in refused("analyse", command, "qrkt_gan_digits")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hessian", "--weights", "circuits"), "must have a circuit"),
        (("hessian", "--examples", 2000), "has 1,293 examples. Received: --examples 2000"),
        (("hessian", "--split", "dev"), "'dev'"),
        (("hessian", "--data", "imdb_reviews"), "imdb_reviews has texts"),
        (("hessian", "--eigenvalues", 800, "--max-iterations", 800), "Received: --eigenvalues 800"),
        (("landscape",), 'recipe has "snapshots": true'),
    ],
    ids=str,
)
def test_what_is_refused(words, said, twin, tmp_path):
    command, *rest = words
    assert said in refused("analyse", command, twin, *rest, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensorflow_quantum_has_no_second_derivative(run, tmp_path):
    with interrupted("value", 1):  # before anything is computed
        line = refused("analyse", "hessian", run, "--engine", "tfq", "--output", tmp_path / "out")
    assert "have no second derivative: --engine auto" in line


@pytest.mark.parametrize(
    "words", [("hessian", "qvit_rk4_digits"), ("landscape", "p", "--random"), ("trainability", "p")]
)
def test_results_need_a_folder_before_anything_is_computed(words, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "inside"):
        line = refused("analyse", *words, "--output", output)
        assert line == f"The results need a folder that can be written. Received: {output}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hessian", "p", "--method", "power", "--eigenvalues", 3), "finds one eigenvalue"),
        (("hessian", "p", "--eigenvalues", 0), "Nothing is asked for"),
        (("hessian", "p", "--weights", "some"), "--weights"),
        (("hessian", "p", "--eigenvalues", 5, "--max-iterations", 3), "as many as --eigenvalues"),
        (("hessian", "p", "--tolerance", 0), "--tolerance must be a positive number"),
        (("hessian", "p", "--tolerance", "nan"), "--tolerance must be a positive number"),
        (("landscape", "p", "--resume", "--overwrite"), "exclude each other"),
        (("hessian", "p", "--resume", "--overwrite"), "exclude each other"),
        (("landscape", "p", "--overwrite", "--margin", "inf"), "--margin must be finite"),
        (("trainability", "rx_ring", "--qubits", 0), "--qubits"),
        ((), "trainability"),
    ],
    ids=str,
)
def test_wrong_usage_has_status_2(words, said):
    finished = qrkt("analyse", *words)
    assert finished.exit_code == 2
    assert said in finished.output


def test_a_template_must_be_there(tmp_path):
    words = ("--qubits", 2, "--output", tmp_path / "out")
    message = refused("analyse", "trainability", "rx_rnig", *words)
    assert "name='rx_rnig'" in message and "rx_ring, ry_ring, patch" in message
    assert "num_layers=2" in refused("analyse", "trainability", "ry_ring", *words, "--depths", 2)
