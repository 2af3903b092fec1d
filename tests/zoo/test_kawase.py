"""The script that makes zoo/patch_qnn/README.md: runs to tables and pictures, on small data."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from qrkt_keras import analysis, data, zoo
from qrkt_keras.training import Recipe, fit
from qrkt_keras.zoo import runs

SCRIPT = Path(__file__).resolve().parents[2] / "zoo/patch_qnn/kawase.py"
CARD = SCRIPT.parent / "README.md"
TABLES = ("results", "spectra", "densities", "agreement")
RECIPE = Recipe(
    epochs=3,
    batch_size=400,
    optimizer="adam",
    learning_rate=0.05,
    schedule="epoch_cosine",
    cycle_epochs=4,
    weight_decay=0,
    clip_norm=None,
    hold_out=False,
    snapshots=True,
    monitor="train_loss",
)

_spec = importlib.util.spec_from_file_location("kawase", SCRIPT)
kawase = importlib.util.module_from_spec(_spec)
sys.modules["kawase"] = kawase  # where dataclasses look for their names
_spec.loader.exec_module(kawase)

FIRST = kawase.ALL_RUNS[0]
WORK = kawase.Work(samples=2, probes=2, steps=4)


def training_images(number):
    """Digits; the sample is every second of them."""
    images, labels = data.arrays("digits", "train")
    step = 2 if number == kawase.SAMPLE else 1
    return images[:200:step], labels[:200:step]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two finished runs: that of which all is computed, and another."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    for run in (FIRST, kawase.BY_NAME["p4_d50_seed1"]):
        keras.utils.set_random_seed(run.seed)
        model = zoo.PatchQNN(
            (8, 8, 1),
            pool_size=2,
            patch_size=2,
            stride=2,
            num_blocks=1,
            num_qubits_per_circuit=5,
        )
        recipe = dataclasses.replace(RECIPE, seed=run.seed)
        folder = run.folder(root)
        options = {"progress": False, "jit_compile": False}
        result = fit(model, "digits", recipe, output_dir=folder, **options)
        zoo.save_to_preset(
            model,
            folder / runs.PRESET,
            recipe=recipe,
            data="digits",
            scores=result.to_scores(),
            command=f"qrkt train {run.preset} --seed {run.seed}",
            seed=run.seed,
        )
        made[run] = folder
    return made


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Where the script's results go, which has the card's places and nothing else."""
    folder = tmp_path_factory.mktemp("zoo") / "patch_qnn"
    folder.mkdir()
    places = [f"<!-- kawase.py {name} -->\n<!-- end of {name} -->\n" for name in TABLES]
    (folder / "README.md").write_text("\n".join(places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kawase, "HERE", folder)
        patch.setattr(kawase, "ANALYSIS", folder / "analysis")
        patch.setattr(kawase, "training_images", training_images)
        patch.setattr(kawase, "NUM_POINTS", 3)
        patch.setattr(kawase, "NUM_COMPARED", 2)
        patch.setattr(kawase, "NUM_EIGENVALUES", 2)
        yield folder


@pytest.fixture(scope="module")
def analysed(here, folders):
    """The folder of results when all is done: analysed before reported, as a user may."""
    kawase.analyse(folders, kawase.PARTS, WORK)
    kawase.report(folders)
    return here


def read(here, name):
    return json.loads((here / "analysis" / f"{name}.json").read_text())


def table(here, name):
    """A table's rows as lists of cells, without its head."""
    text = (here / "README.md").read_text()
    body = text.split(f"<!-- kawase.py {name} -->")[1].split(f"<!-- end of {name} -->")[0]
    rows = [line.strip("| ").split(" | ") for line in body.strip().splitlines()]
    return rows[2:]


def loss_of(model, images, labels):
    """The mean cross-entropy, in float64."""
    logits = model.predict(images, verbose=0).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -logarithms[np.arange(len(labels)), labels].mean()


def test_the_printed_figures_are_the_sources():
    """SPEC.md, section 5."""
    assert kawase.PRINTED == {
        (4, 50): (0.06607, 0.9798, 15.99),
        (4, 100): (0.06385, 0.9818, 22.54),
        (9, 50): (0.05552, 0.9823, 4.482),
        (16, 50): (0.04957, 0.9840, 3.341),
    }


def test_the_card_is_what_is_recorded():
    rows = {
        "results": kawase.results_table(),
        "spectra": kawase.spectra_table(),
        "densities": kawase.densities_table(),
        "agreement": kawase.agreement_table(FIRST),
    }
    for name, lines in rows.items():
        written = "\n".join([f"<!-- kawase.py {name} -->", *lines, f"<!-- end of {name} -->"])
        assert written in CARD.read_text()


def test_the_sample_is_that_of_the_command(monkeypatch):
    """`qrkt analyse … --examples 20` draws each class by its share, with the seed 0."""
    labels = np.repeat([0, 1, 2], [30, 18, 12])
    everything = np.arange(60), labels
    monkeypatch.setattr(kawase, "SAMPLE", 20)
    monkeypatch.setattr(kawase, "ALL_IMAGES", 60)
    asked = []
    monkeypatch.setattr(data, "arrays", lambda *names: asked.append(names) or everything)
    kawase.training_images.cache_clear()
    try:
        numbers, drawn = kawase.training_images(20)
        every, _ = kawase.training_images(60)
    finally:
        kawase.training_images.cache_clear()
    assert asked == [("mnist", "train+validation")] * 2
    assert every.tolist() == [*range(60)]
    assert np.bincount(drawn).tolist() == [10, 6, 4]
    assert (labels[numbers] == drawn).all()
    assert numbers.tolist() == data.stratified_split(labels, 20, 0)[1].tolist()


def test_every_part_is_of_the_weights_and_images_that_it_says(analysed, folders):
    assert {path.name for path in (analysed / "analysis").iterdir()} == {
        *(f"{FIRST.name}_{part}.json" for part in (*kawase.PARTS, "training")),
        "p4_d50_seed1_power.json",
        "p4_d50_seed1_training.json",
    }
    for run, folder in folders.items():
        metadata = json.loads((folder / "preset/metadata.json").read_text())
        for part in (*run.parts, "training"):
            assert read(analysed, f"{run.name}_{part}")["sha256"] == metadata["sha256"]
    model = zoo.PatchQNN.from_preset(folders[FIRST] / "preset")
    of_sample, of_all = (
        loss_of(model, *training_images(number)) for number in (kawase.SAMPLE, kawase.ALL_IMAGES)
    )
    for part in kawase.PARTS:
        found = read(analysed, f"{FIRST.name}_{part}")
        number, wanted = (200, of_all) if part.endswith("_all") else (100, of_sample)
        assert (found["part"], found["num_images"]) == (part, number)
        assert found["loss"] == pytest.approx(wanted, rel=1e-5)
        words = "--samples 2 --steps 4"
        assert found["command"].endswith(f"--only {FIRST.name} --parts {part} {words}")


def test_eigenvalues_agree_between_the_parts(analysed):
    power, lanczos = (
        read(analysed, f"{FIRST.name}_{part}")["eigenvalues"] for part in ("power", "lanczos")
    )
    assert power[0] == pytest.approx(lanczos[0], rel=0.02) and lanczos[0] > lanczos[1]
    assert np.shape(read(analysed, f"{FIRST.name}_density")["nodes"]) == (2, 4)


def test_the_card_has_the_scores_and_eigenvalues(analysed, folders):
    rows = table(analysed, "results")
    assert [row[3] for row in rows] == ["0", "1"]
    for row, (run, folder) in zip(rows, folders.items(), strict=True):
        scores = json.loads((folder / "scores.json").read_text())
        history = json.loads((folder / "history.json").read_text())
        assert row[:5] == ["4", "50", "10,112", str(run.seed), str(history["best_epoch"])]
        assert row[5] == f"{min(history['history']['train_loss']):.5f}"
        # Printed: SPEC.md, section 5.
        assert row[6:10] == [
            f"{scores['test']['loss']:.5f}",
            "0.06607",
            f"{scores['test']['accuracy']:.2%}",
            "97.98%",
        ]
        power = read(analysed, f"{run.name}_power")["eigenvalues"][0]
        assert row[10] == f"{power:.4g}" and row[12] == "15.99"
    of_all = read(analysed, f"{FIRST.name}_power_all")["eigenvalues"][0]
    assert [row[11] for row in rows] == [f"{of_all:.4g}", "–"]
    assert (analysed.parent / "results.csv").read_text().count(
        "patch_qnn_p4_d50_mnist,quantum"
    ) == 2


def test_the_card_has_the_spectra(analysed):
    rows = table(analysed, "spectra")
    assert [(row[2], row[3]) for row in rows] == [("0", "100"), ("0", "200"), ("1", "100")]
    landscape = read(analysed, f"{FIRST.name}_landscape")
    assert rows[0][9] == f"{sum(landscape['explained_ratios']):.1%}" and rows[1][9] == "–"
    seconds = [read(analysed, f"{FIRST.name}_{part}")["seconds"] for part in kawase.PARTS[:5]]
    assert rows[0][10] == f"{sum(seconds):,.0f}"
    assert "(2×4)" in rows[0][8] and rows[1][8] == "–"


def test_the_card_compares_the_sample_with_all_images(analysed, folders):
    rows = {row[0]: row[1:] for row in table(analysed, "agreement")}
    assert len(rows) == 5
    model = zoo.PatchQNN.from_preset(folders[FIRST] / "preset")
    wanted = []
    for number in (kawase.SAMPLE, kawase.ALL_IMAGES):
        loss = analysis.DataLoss(model, *training_images(number))
        vector = np.random.default_rng(kawase.SEED).choice([-1.0, 1.0], loss.size)
        product = loss.hessian_vector_product(vector) / np.sqrt(loss.size)
        vector /= np.sqrt(loss.size)
        wanted.append((vector @ product, product @ product))
    for name, (of_sample, of_all) in zip(
        ("mean eigenvalue", "mean square of the eigenvalues"),
        zip(*wanted, strict=True),
        strict=True,
    ):
        cells = [float(cell) for cell in rows[f"{name}, by one random vector"]]
        assert cells == pytest.approx([of_sample, of_all, of_sample / of_all], rel=2e-3)
    landscape = read(analysed, f"{FIRST.name}_landscape")
    compared = read(analysed, f"{FIRST.name}_landscape_all")
    corners = np.array(landscape["values"])[::2, ::2]
    np.testing.assert_allclose(compared["values_of_sample"], corners, rtol=1e-5)
    ratios = corners / np.array(compared["values"])
    told = rows["loss on 4 points of the plane"][2]
    assert told == f"{ratios.min():.3f} to {ratios.max():.3f}"


def test_pictures_are_of_all_that_is_recorded(analysed):
    for name in ("history", "densities", f"landscape_{FIRST.name}"):
        assert (analysed / f"{name}.png").stat().st_size > 10_000
    before = (analysed / "history.png").read_bytes()
    kawase.report({})
    assert (analysed / "history.png").read_bytes() == before


def test_what_is_there_is_not_computed_again(analysed, folders, monkeypatch):
    computed = []
    monkeypatch.setattr(kawase, "_analyse_run", lambda run, *rest: computed.append((run, rest[1])))
    kawase.analyse(folders, kawase.PARTS, WORK)
    assert computed == []
    (analysed / "analysis" / f"{FIRST.name}_trace.json").rename(analysed / "trace.json")
    kawase.analyse(folders, kawase.PARTS, WORK)
    (analysed / "trace.json").rename(analysed / "analysis" / f"{FIRST.name}_trace.json")
    assert computed == [(FIRST, ["trace"])]


def test_figures_of_other_weights_are_neither_told_nor_kept(analysed, folders, monkeypatch):
    path = analysed / "analysis" / f"{FIRST.name}_power.json"
    whole = path.read_text()
    computed = []
    monkeypatch.setattr(kawase, "_analyse_run", lambda run, *rest: computed.append((run, rest[1])))
    try:
        path.write_text(json.dumps({**json.loads(whole), "sha256": "0" * 64}))
        assert kawase.results_table()[2].split(" | ")[10] == "–"
        kawase.analyse(folders, kawase.PARTS, WORK)
        assert computed == [(FIRST, ["power"])]
    finally:
        path.write_text(whole)
    assert kawase.results_table()[2].split(" | ")[10] != "–"


def test_what_is_not_here_is_analysed_by_the_packages_weights(
    analysed, folders, monkeypatch, tmp_path, capsys
):
    source = zoo.read_preset(folders[FIRST] / "preset")
    path = analysed / "analysis" / f"{FIRST.name}_power.json"
    whole = json.loads(path.read_text())
    landscape = analysed / "analysis" / f"{FIRST.name}_landscape.json"
    training = analysed / "analysis" / f"{FIRST.name}_training.json"
    kept = [(one, one.read_text()) for one in (path, landscape, training)]
    monkeypatch.setattr(kawase, "read_preset", lambda preset: source)
    try:
        path.unlink()
        landscape.unlink()
        kawase.analyse({FIRST: tmp_path}, ["power", "landscape"], WORK)
        found = json.loads(path.read_text())
        for name in ("sha256", "epoch", "loss", "eigenvalues", "command"):
            assert found[name] == whole[name]
        assert not landscape.exists()
        needed = f"{FIRST.name}: landscape needs the run's snapshots, and there is no {tmp_path}.\n"
        assert capsys.readouterr().out.startswith(needed)
        # The package has other weights than those that are recorded.
        path.unlink()
        training.write_text(json.dumps({**json.loads(kept[2][1]), "sha256": "0" * 64}))
        kawase.analyse({FIRST: tmp_path}, ["power"], WORK)
        training.unlink()
        kawase.analyse({FIRST: tmp_path}, ["power"], WORK)
        assert not path.exists()
        told = f"{FIRST.name}: no finished run in {tmp_path}, nor its weights in the package.\n"
        assert capsys.readouterr().out == 2 * told
    finally:
        for one, text in kept:
            one.write_text(text)


def test_an_interrupted_part_is_told_and_leaves_no_file(analysed, folders, monkeypatch):
    power = analysis.power_iteration

    def interrupted(*arguments, **options):
        return dataclasses.replace(power(*arguments, **options), is_interrupted=True)

    path = analysed / "analysis" / "p4_d50_seed1_power.json"
    whole = path.read_text()
    path.unlink()
    root = folders[FIRST].parent
    assert not [*root.glob("*.npz")]
    try:
        with monkeypatch.context() as patch:
            patch.setattr(analysis, "power_iteration", interrupted)
            with pytest.raises(KeyboardInterrupt, match=r"^Interrupted\. So far: .*eigenvalues"):
                kawase.analyse(folders, ["power"], WORK)
        assert not path.exists()
        # Continued, without a product that was made before.
        (products,) = root.glob("p4_d50_seed1_power_*.npz")
        with monkeypatch.context() as patch:
            patch.setattr(analysis.DataLoss, "hessian_vector_product", None)
            kawase.analyse(folders, ["power"], WORK)
        found = json.loads(path.read_text())
        assert found["continued"] and not products.exists()
        assert found["eigenvalues"] == json.loads(whole)["eigenvalues"]
    finally:
        path.write_text(whole)
