"""Presets: what is in them, what comes out of them, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from support.gans import small_gan
from support.small_disk import small_disk

from qrkt_keras import data, zoo
from qrkt_keras.training import THESIS, GANRecipe, Recipe
from qrkt_keras.zoo import FreshWeightsWarning, PresetError, QViT, presets

ARGUMENTS = {
    "image_shape": (4, 4, 1),
    "num_classes": 3,
    "patch_size": 2,
    "hidden_dim": 4,
    "num_heads": 2,
    "mlp_dim": 3,
    "num_encoder_blocks": 1,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 1,
    "solver": "rk2",
    "mean": 0.3,
    "label_names": ["a", "b  b", "[c]"],
}
RECIPE = Recipe(epochs=3, warmup_steps=7)


def images(count=3):
    return np.random.default_rng(3).integers(0, 256, (count, 4, 4, 1)).astype("uint8")


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def nobody_was_warned(monkeypatch):
    monkeypatch.setattr(presets, "_warned", set())


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(4)
    return QViT(**ARGUMENTS)


@pytest.fixture
def folder(model, tmp_path):
    return model.save_to_preset(
        tmp_path / "mine",
        recipe=RECIPE,
        data="digits",
        scores={"test": {"accuracy": 0.5}},
        command="qrkt train mine",
        seed=7,
    )


@contextlib.contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FreshWeightsWarning)
        yield


class TestThePackagedOnes:
    def test_the_thesis_models(self):
        """SPEC.md section 4: quantum, 3 Runge-Kutta blocks and 1 decoder block."""
        counts = {}
        for name in zoo.list_presets("qvit_rk*_mnist"):
            preset = zoo.read_preset(name)
            assert (preset.recipe, preset.data) == (THESIS, "mnist")
            assert preset.config["dropout"] == 0.1
            assert (preset.config["mean"], preset.config["std"]) == (0.1307, 0.3081)
            counts[name] = zoo.from_preset(name, load_weights=False).count_params()
        assert counts == {
            "qvit_rk1_mnist": 2872,
            "qvit_rk2_mnist": 3088,
            "qvit_rk3_mnist": 3304,
            "qvit_rk4_mnist": 3520,
            "qvit_rk4_enhanced_mnist": 3520,
            # Three blocks: two weights of the learned rule each, or 2h + 1 of the gate.
            "qvit_rk2_learned_mnist": 3088 + 3 * 2,
            "qvit_rk2_gated_mnist": 3088 + 3 * 13,
        }

    @pytest.mark.parametrize(
        ("name", "parameters", "printed"),
        [
            ("qvit_3k_mnist", 3378, 3520),
            ("qvit_10k_mnist", 6362, 10_112),
            ("qvit_20k_cifar10", 18_274, 20_590),
            ("qtext_120k_imdb", 120_356, 122_096),
        ],
    )
    def test_ours_have_at_most_the_parameters_of_the_printed_ones(self, name, parameters, printed):
        model = zoo.from_preset(name, load_weights=False)
        assert model.count_params() == parameters <= printed
        # Circuits with weights in attention and in the feed-forward parts of every block.
        assert len(model.pqcs) == 3 * model.num_encoder_blocks
        assert all(layer.trainable_weights for layer in model.pqcs)

    @pytest.mark.parametrize("name", zoo.list_presets())
    def test_each_fits_its_data_set(self, name):
        preset = zoo.read_preset(name)
        info = data.info(preset.data)
        shape = preset.config.get("image_shape")
        shape = None if shape is None else tuple(shape)
        if preset.class_name.endswith("GAN"):
            # Images are resized for a GAN.
            assert shape[2] == info.image_shape[2] and shape[0] <= info.image_shape[0]
        else:
            assert shape == info.image_shape
            assert preset.config["num_classes"] == info.num_classes
        if preset.class_name in ("QViT", "QText"):
            assert tuple(preset.config["label_names"]) == info.label_names
        assert preset.name == name

    def test_list(self):
        assert "qvit_rk4_digits" in zoo.list_presets()
        assert zoo.list_presets("qvit*_digits") == ("qvit_rk4_digits", "qvit_tuned_digits")
        assert zoo.list_presets("*no-such-thing*") == ()
        solvers = {"rk1", "rk2", "rk3", "rk4", "rk4_enhanced", "rk2_learned", "rk2_gated"}
        for name in ("mnist", "cifar10", "cifar100", "imagenet"):
            expected = {f"qvit_{solver}_{name}" for solver in solvers}
            assert expected == set(zoo.list_presets(f"qvit_rk*_{name}"))
        assert {f"qtext_{solver}_imdb" for solver in solvers} == set(zoo.list_presets("qtext_rk*"))
        assert list(zoo.list_presets()) == sorted(zoo.list_presets())

    def test_only_data_in_the_package(self):
        """Every file of every preset is JSON or the weights; none else is read."""
        root = Path(presets.__file__).parent
        names = {path.name for path in root.glob("*/presets/*/*")}
        assert names <= {"config.json", "recipe.json", "metadata.json", "model.weights.h5"}

    def test_commands_name_no_path_of_one_machine(self):
        files = Path(presets.__file__).parent.glob("*/presets/*/metadata.json")
        commands = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))["command"]
            for path in files
        }
        assert "patch_qnn_p4_d50_mnist" in commands
        for command in commands.values():
            assert not [word for word in shlex.split(command) if Path(word).is_absolute()]


class TestRoundTrip:
    def test_everything_comes_back(self, model, folder):
        preset = zoo.read_preset(folder)
        assert (preset.recipe, preset.data) == (RECIPE, "digits")
        assert preset.metadata["scores"] == {"test": {"accuracy": 0.5}}
        assert (preset.metadata["command"], preset.metadata["seed"]) == ("qrkt train mine", 7)
        assert preset.metadata["versions"]["keras"] == keras.__version__
        assert preset.weights == folder / "model.weights.h5"
        digest = hashlib.sha256(preset.weights.read_bytes()).hexdigest()
        assert preset.metadata["sha256"] == digest
        with no_warning():
            for again in (
                QViT.from_preset(folder),
                QViT.from_preset(str(folder)),
                zoo.from_preset(preset),
            ):
                assert type(again) is QViT
                config, wanted = again.get_config(), model.get_config()
                assert config == wanted
                np.testing.assert_array_equal(again(images()), model(images()))

    def test_the_files(self, folder):
        assert set(files(folder)) == {
            "config.json",
            "recipe.json",
            "metadata.json",
            "model.weights.h5",
        }
        text = (folder / "config.json").read_text()
        assert '"image_shape": [4, 4, 1]' in text
        # What belongs to a session is not saved, nor is a path of this machine.
        assert not {"name", "dtype", "trainable"} & set(json.loads(text)["config"])
        for name in ("config.json", "recipe.json", "metadata.json"):
            assert str(folder.parent) not in (folder / name).read_text()

    def test_how_the_data_is_read(self, model, folder, tmp_path):
        assert zoo.read_preset(folder).data_options == {}
        assert "data_options" not in (folder / "recipe.json").read_text()
        options = {"image_size": [4, 4], "channels": 1}
        own = model.save_to_preset(
            tmp_path / "own", recipe=RECIPE, data="./photos", data_options=options
        )
        preset = zoo.read_preset(own)
        assert (preset.data, preset.data_options, preset.recipe) == ("./photos", options, RECIPE)

    def test_a_recipe_of_its_own(self, folder, tmp_path):
        file = tmp_path / "recipe.json"
        file.write_text(RECIPE.to_json())
        for source in (file, str(file), folder, folder / "recipe.json"):
            assert zoo.read_recipe(source) == RECIPE
        assert zoo.read_recipe("qvit_rk4_mnist") == THESIS
        assert zoo.read_recipe("qrkt_gan_mnist", GANRecipe).num_critic_steps >= 1
        with pytest.raises(PresetError, match="have a Recipe. .*'qrkt_gan_mnist' with GANRecipe$"):
            zoo.read_recipe("qrkt_gan_mnist")
        with pytest.raises(PresetError, match=r"no such file\. Received: 'none\.json'$"):
            zoo.read_recipe("none.json")
        file.write_text('{"recipe": 3}')
        with pytest.raises(PresetError, match=r"is a JSON object\. Received: .* with 3$"):
            zoo.read_recipe(file)
        file.write_text('{"epochs": 3, "hook": "os.system"}')
        with pytest.raises(ValueError, match="Received: hook$"):
            zoo.read_recipe(file)

    def test_the_twin_and_a_list_of_solvers(self, tmp_path):
        model = QViT(
            **{**ARGUMENTS, "quantum": False, "num_ode_blocks": 2, "solver": ["rk1", "rk4"]}
        )
        again = QViT.from_preset(model.save_to_preset(tmp_path / "twin"))
        np.testing.assert_array_equal(again(images()), model(images()))
        assert zoo.read_preset(tmp_path / "twin").recipe is None

    def test_without_weights(self, model, tmp_path):
        folder = model.save_to_preset(tmp_path / "fresh", include_weights=False)
        assert set(files(folder)) == {"config.json"}
        assert zoo.read_preset(folder).weights is None

    def test_the_optimizers_stay_behind(self, tmp_path):
        gan = small_gan(quantum=False)
        gan.compile(keras.optimizers.Adam(), keras.optimizers.Adam(), gradient_penalty_weight=0.0)
        gan.train_on_batch(np.zeros((2, 8, 8, 1), "uint8"))
        folder = gan.save_to_preset(tmp_path / "gan")
        with h5py.File(folder / "model.weights.h5") as file:
            assert not [name for name in file if "optimizer" in name]
        made = gan.generate(2)
        np.testing.assert_array_equal(zoo.from_preset(folder).generate(2), made)
        # Presets of before have them.
        gan.save_weights(folder / "model.weights.h5")
        digest = hashlib.sha256((folder / "model.weights.h5").read_bytes()).hexdigest()
        (folder / "metadata.json").write_text(json.dumps({"sha256": digest}))
        np.testing.assert_array_equal(zoo.from_preset(folder).generate(2), made)

    def test_an_engine_of_this_machine_does_not_matter(self, model, folder):
        again = QViT.from_preset(folder, engine="state_vector")
        again.save_to_preset(folder.parent / "again")
        third = QViT.from_preset(folder.parent / "again", engine="auto")
        np.testing.assert_allclose(third(images()), model(images()), atol=1e-6)


class TestOverrides:
    @pytest.mark.parametrize(
        "overrides",
        [
            {"engine": "state_vector"},
            {"dropout": 0.4},
            {"label_names": ["x", "y", "z"]},
            {"name": "other"},
            {"dtype": "float32"},
            {"mlp_dim": 3},
            {"image_shape": (4, 4, 1), "solver": "rk2"},
        ],
        ids=str,
    )
    def test_that_keep_the_weights(self, model, folder, overrides):
        with no_warning():
            again = QViT.from_preset(folder, **overrides)
        for name, value in overrides.items():
            if name != "dtype":
                assert again.get_config()[name] == presets._plain(value)
        np.testing.assert_allclose(again(images()), model(images()), atol=1e-6)

    @pytest.mark.parametrize(
        "overrides",
        [
            {"mlp_dim": 4},
            {"num_classes": 4, "label_names": None},
            {"solver": "rk4"},
            {"solver": "rk4_enhanced", "engine": "auto"},
            {"quantum": False},
            {"residual": "normalized"},
            {"mean": 0.0},
        ],
        ids=str,
    )
    def test_that_make_fresh_weights(self, model, folder, overrides):
        with pytest.warns(FreshWeightsWarning, match=f"'mine' .*{next(iter(overrides))}"):
            again = QViT.from_preset(folder, **overrides)
        assert not np.array_equal(
            again.get_layer("logits").kernel, model.get_layer("logits").kernel
        )

    def test_the_seed_of_a_gan_keeps_the_weights(self, tmp_path):
        gan = small_gan(quantum=False)
        folder = gan.save_to_preset(tmp_path / "gan")
        with no_warning():
            again = zoo.from_preset(folder, seed=3)
        assert again.seed == 3
        np.testing.assert_array_equal(again.generate(2), gan.generate(2))

    def test_an_argument_that_the_preset_is_older_than(self, model, folder):
        content = json.loads((folder / "config.json").read_text())
        assert content["config"].pop("variant") == "corrected"
        (folder / "config.json").write_text(json.dumps(content))
        with no_warning():
            again = QViT.from_preset(folder, variant="corrected")
        np.testing.assert_array_equal(again(images()), model(images()))
        with pytest.warns(FreshWeightsWarning, match="variant"):
            QViT.from_preset(folder, variant="thesis")

    def test_no_weights_asked_for(self, model, folder):
        with no_warning():
            again = QViT.from_preset(folder, load_weights=False)
            QViT.from_preset("qvit_rk1_mnist", load_weights=False)
        assert not np.array_equal(
            again.get_layer("logits").kernel, model.get_layer("logits").kernel
        )

    def test_warned_once_a_process_and_preset(self):
        with pytest.warns(FreshWeightsWarning, match="'qvit_rk1_mnist' has no trained weights"):
            QViT.from_preset("qvit_rk1_mnist")
        with no_warning():
            QViT.from_preset("qvit_rk1_mnist")
        with pytest.warns(FreshWeightsWarning, match="'qvit_rk2_mnist'") as warned:
            QViT.from_preset("qvit_rk2_mnist")
        assert warned[0].filename == __file__

    def test_bad_overrides_are_the_callers_error(self, folder):
        with pytest.raises(ValueError, match="Received: num_heads=3 with hidden_dim=4") as error:
            QViT.from_preset(folder, num_heads=3)
        assert not isinstance(error.value, PresetError)
        with pytest.raises(TypeError, match="no_such_argument"):
            QViT.from_preset(folder, no_such_argument=3)


class TestRefused:
    def test_an_unknown_override(self, folder):
        with pytest.raises(TypeError, match=r"hidden_dim.*Received: width=8"):
            QViT.from_preset(folder, width=8)

    def test_an_unknown_name(self):
        with pytest.raises(PresetError) as error:
            QViT.from_preset("qvit_rk4_digit")
        for name in zoo.list_presets():
            assert name in str(error.value)
        assert "Did you mean 'qvit_rk4_digits'?" in str(error.value)
        assert str(error.value).endswith("Received: 'qvit_rk4_digit'")

    @pytest.mark.parametrize("preset", ["./no/such/folder", Path("qvit_rk4_digits")])
    def test_no_folder(self, preset):
        with pytest.raises(PresetError, match="no such folder. Received: "):
            QViT.from_preset(preset)

    def test_neither_name_nor_folder(self):
        with pytest.raises(TypeError, match="Received: 4"):
            QViT.from_preset(4)

    def refuse(self, folder, file, words):
        with pytest.raises(PresetError) as error:
            QViT.from_preset(folder)
        assert words in str(error.value)
        assert str(folder / file) in str(error.value).split("Received: ")[-1]

    @pytest.mark.parametrize("file", ["config.json", "metadata.json", "model.weights.h5"])
    def test_a_missing_file(self, folder, file):
        (folder / file).unlink()
        words = "incomplete" if file == "model.weights.h5" else f"has the file {file}"
        self.refuse(folder, file, words)

    @pytest.mark.parametrize("file", ["config.json", "recipe.json", "metadata.json"])
    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
    def test_a_damaged_file(self, folder, file, content):
        (folder / file).write_bytes(content)
        words = "must hold a JSON object" if content in (b"[]", b"null") else "damaged"
        self.refuse(folder, file, words)

    @pytest.mark.parametrize("damage", ["truncated", "one bit", "another model's"])
    def test_damaged_weights(self, folder, damage):
        file = folder / "model.weights.h5"
        content = bytearray(file.read_bytes())
        if damage == "truncated":
            content = content[:-100]
        elif damage == "one bit":
            content[len(content) // 2] ^= 1
        else:
            QViT(**ARGUMENTS).save_weights(file)
            content = file.read_bytes()
        file.write_bytes(bytes(content))
        self.refuse(folder, "model.weights.h5", "truncated or altered")

    def test_weights_that_do_not_fit(self, folder):
        """Hash and all are right, but they belong to another configuration."""
        config = json.loads((folder / "config.json").read_text())
        config["config"]["mlp_dim"] = 5
        (folder / "config.json").write_text(json.dumps(config))
        self.refuse(folder, "model.weights.h5", "do not fit")

    @pytest.mark.parametrize(
        "changes, received",
        [
            ({"class_name": "os.system"}, "class_name='os.system'"),
            ({"class_name": "Model"}, "class_name='Model'"),
            ({"class_name": None}, "class_name=None"),
            ({"class_name": ["QViT"]}, "class_name=['QViT']"),
            ({"format": 2}, "format=2"),
            ({"format": None}, "format=None"),
            ({"config": None}, "config=None"),
            ({"config": {"image_shape": [4, 4, 1]}}, "missing 1 required"),
            ({"config": {**ARGUMENTS, "patch_size": 3}}, "patch_size=3"),
            ({"config": {**ARGUMENTS, "unknown": 3}}, "'unknown'"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_a_configuration_of_something_else(self, folder, changes, received):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        self.refuse(folder, "config.json", received)

    @pytest.mark.parametrize(
        "content",
        [
            {"recipe": RECIPE.to_dict()},
            {"data": "digits"},
            {"data": 3, "recipe": RECIPE.to_dict()},
            {"data": "digits", "data_options": ["a"], "recipe": RECIPE.to_dict()},
            {"data": "digits", "recipe": {"epochs": -1}},
            {"data": "digits", "recipe": {"epochs": 3, "hook": "os.system"}},
        ],
    )
    def test_a_bad_recipe(self, folder, content):
        (folder / "recipe.json").write_text(json.dumps(content))
        self.refuse(folder, "recipe.json", "")

    def test_a_preset_of_another_class(self, folder):
        class Special(QViT):
            pass

        with pytest.raises(PresetError, match="Special.*Received: 'mine'"):
            Special.from_preset(folder)


class TestWriting:
    def test_an_existing_folder(self, model, folder):
        before = files(folder)
        with pytest.raises(ValueError, match="overwrite=True replaces it.*Received: .*mine"):
            model.save_to_preset(folder)
        assert files(folder) == before
        model.save_to_preset(folder, overwrite=True)
        assert set(files(folder)) == {"config.json", "metadata.json", "model.weights.h5"}

    def test_only_a_preset_is_replaced(self, model, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(ValueError, match="a preset may be replaced"):
            model.save_to_preset(tmp_path, overwrite=True)
        assert set(files(tmp_path)) == {"thesis.txt"}

    @pytest.mark.parametrize("exists", [False, True])
    @pytest.mark.parametrize("moment", ["weights", "metadata"])
    def test_a_full_disk(self, model, folder, monkeypatch, exists, moment):
        if not exists:
            shutil.rmtree(folder)
        before = files(folder.parent)

        def full(*arguments, **more):
            if moment == "weights":
                Path(arguments[1]).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        if moment == "weights":
            monkeypatch.setattr(QViT, "save_weights", full)
        else:
            monkeypatch.setattr(presets, "_sha256", full)
        with pytest.raises(OSError, match="No space left on device") as error:
            model.save_to_preset(folder, recipe=RECIPE, data="digits", overwrite=True)
        assert error.value.errno == errno.ENOSPC
        assert files(folder.parent) == before
        assert os.listdir(folder.parent) == (["mine"] if exists else [])

    def test_a_really_full_disk(self, tmp_path):
        """In a process of its own: HDF5 would take this one down at its end."""
        script = (
            "import sys, errno\n"
            "from qrkt_keras.zoo import QViT\n"
            "model = QViT.from_preset('qvit_rk4_digits', load_weights=False)\n"
            "try:\n"
            "    model.save_to_preset(sys.argv[1] + '/mine')\n"
            "except OSError as error:\n"
            "    sys.exit(error.errno != errno.ENOSPC)\n"
            "sys.exit('the disk was not full')\n"
        )
        with small_disk(tmp_path, "128k") as disk:
            done = subprocess.run(
                [sys.executable, "-c", script, str(disk)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert os.listdir(disk) == []

    def test_what_cannot_be_a_preset(self, model, tmp_path):
        with pytest.raises(TypeError, match="Received: <class 'keras"):
            zoo.save_to_preset(keras.Sequential(), tmp_path / "x")
        with pytest.raises(ValueError, match="Received: recipe=Recipe.*data=None"):
            model.save_to_preset(tmp_path / "x", recipe=RECIPE)
        with pytest.raises(ValueError, match="data_options={'channels': 1}$"):
            model.save_to_preset(tmp_path / "x", data_options={"channels": 1})
        with pytest.raises(TypeError, match="JSON"):
            model.save_to_preset(tmp_path / "x", scores={"test": object()})
        with pytest.raises(ValueError):
            model.save_to_preset(tmp_path / "x", scores={"test": float("nan")})
        assert os.listdir(tmp_path) == []
