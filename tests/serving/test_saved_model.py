"""SavedModels: stock operations only, two signatures, and answers without any of our packages."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_disk import small_disk
from support.tensorflow_only import run_with_tensorflow_only

from qrkt_keras import serving
from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC
from qrkt_keras.serving import UnportableModelError, foreign_ops, stock_ops
from qrkt_keras.zoo import QViT

ROOT = Path(__file__).parents[2]
LABELS = ["null", "één", "two words"]


def classifier(**changes):
    arguments = {
        "image_shape": (4, 4, 1),
        "num_classes": 3,
        "patch_size": 2,
        "hidden_dim": 3,
        "num_heads": 1,
        "mlp_dim": 2,
        "num_encoder_blocks": 0,
        "num_ode_blocks": 1,
        "num_decoder_blocks": 1,
        "solver": "rk1",
        "mean": 0.3,
        "std": 0.7,
        "label_names": LABELS,
    }
    return QViT(**{**arguments, **changes})


def images(count=5):
    return np.random.default_rng(3).integers(0, 256, (count, 4, 4, 1)).astype("uint8")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    return classifier()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return serving.export_saved_model(model, tmp_path_factory.mktemp("served") / "model")


class TestSignatures:
    def test_forms(self, exported):
        served = serving.load_saved_model(exported)
        assert sorted(served.signatures) == ["serving_default", "serving_uint8"]
        for name, dtype in (("serving_default", tf.float32), ("serving_uint8", tf.uint8)):
            signature = served.signatures[name]
            _, inputs = signature.structured_input_signature
            assert inputs["images"].shape.as_list() == [None, 4, 4, 1]
            assert inputs["images"].dtype == dtype
            outputs = signature.structured_outputs
            assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in outputs.items()} == {
                "probabilities": ([None, 3], tf.float32),
                "label": ([None], tf.int64),
                "label_name": ([None], tf.string),
            }

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_values(self, model, exported, count):
        served = serving.load_saved_model(exported).signatures
        whole = images(count)
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(whole, verbose=0)))
        floats = tf.constant(whole / 255, tf.float32)
        for answer in (
            served["serving_uint8"](images=tf.constant(whole)),
            served["serving_default"](images=floats),
        ):
            np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
            np.testing.assert_array_equal(answer["label"], expected.argmax(-1))
            names = [name.decode() for name in answer["label_name"].numpy()]
            assert names == [LABELS[label] for label in expected.argmax(-1)]

    def test_labels_are_numbers_by_default(self, tmp_path):
        model = classifier(label_names=None)
        model.export(tmp_path / "served")
        served = serving.load_saved_model(tmp_path / "served")
        answer = served.signatures["serving_uint8"](images=tf.constant(images(1)))
        assert answer["label_name"].numpy()[0].decode() == str(answer["label"].numpy()[0])

    def test_half_precision_answers_in_float32(self, tmp_path):
        model = classifier(dtype="mixed_float16")
        model.export(tmp_path / "served")
        served = serving.load_saved_model(tmp_path / "served")
        answer = served.signatures["serving_uint8"](images=tf.constant(images()))
        assert answer["probabilities"].dtype == tf.float32
        expected = keras.ops.softmax(model(images()))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-2)


SERVE = """
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
answer = served.signatures["serving_uint8"](images=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{key: value.numpy() for key, value in answer.items()})
"""


class TestOutside:
    def test_in_a_process_with_only_tensorflow(self, model, exported, tmp_path):
        whole = images()
        np.save(tmp_path / "images.npy", whole)
        files = (tmp_path / "images.npy", tmp_path / "answer.npz")
        run_with_tensorflow_only(SERVE, tmp_path, exported, *files)
        answer = np.load(tmp_path / "answer.npz", allow_pickle=True)
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(whole, verbose=0)))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
        np.testing.assert_array_equal(answer["label"], expected.argmax(-1))

    def command(self, *arguments, folder):
        tool = Path(sys.executable).with_name("saved_model_cli")
        done = subprocess.run(
            [str(tool), *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def test_saved_model_cli(self, model, exported, tmp_path):
        shown = self.command("show", "--dir", exported, "--all", folder=tmp_path)
        for words in ("signature_def['serving_default']", "signature_def['serving_uint8']"):
            assert words in shown
        whole = images()
        np.save(tmp_path / "images.npy", whole)
        self.command(
            *("run", "--dir", exported, "--tag_set", "serve"),
            *("--signature_def", "serving_uint8", "--inputs", "images=images.npy"),
            *("--outdir", tmp_path),
            folder=tmp_path,
        )
        expected = keras.ops.softmax(model.predict(whole, verbose=0))
        probabilities = np.load(tmp_path / "probabilities.npy")
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)

    def test_as_tensorflow_serving_looks_for_it(self, model, tmp_path):
        folder = serving.export_for_serving(model, tmp_path / "digits", version=3)
        assert folder == tmp_path / "digits" / "3"
        assert (folder / "saved_model.pb").is_file()
        for version in (0, -1, "1", True, 1.0):
            with pytest.raises(ValueError, match="Received: version="):
                serving.export_for_serving(model, tmp_path / "digits", version=version)


class TestEngines:
    def test_stock_operations_only(self, exported):
        assert foreign_ops(exported) == ()

    def test_a_tfq_model_is_exported_without_tfq_and_left_as_it_is(self, tmp_path):
        model = classifier(num_decoder_blocks=0)
        expected = keras.ops.softmax(model(images()))
        model.set_engine("tfq")
        executors = [layer._executor for layer in model.pqcs]
        model.export(tmp_path / "served")
        assert model.engine == "tfq"
        assert [layer._executor for layer in model.pqcs] == executors
        assert foreign_ops(tmp_path / "served") == ()
        served = serving.load_saved_model(tmp_path / "served")
        answer = served.signatures["serving_uint8"](images=tf.constant(images()))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)

    def test_insisting_on_tfq(self, tmp_path):
        """A process that imported only `qrkt_keras.serving` can load it and run it."""
        model = classifier(num_decoder_blocks=0)
        path = tmp_path / "served"
        model.export(path, engine="tfq")
        assert "TfqSimulateExpectation" in foreign_ops(path)
        expected = keras.ops.softmax(model(images()))
        np.save(tmp_path / "images.npy", images())
        script = (
            "import sys, json, numpy as np\n"
            "from qrkt_keras import serving\n"
            "served = serving.load_saved_model(sys.argv[1])\n"
            "import tensorflow as tf\n"
            "images = tf.constant(np.load(sys.argv[2]))\n"
            "answer = served.signatures['serving_uint8'](images=images)\n"
            "print(json.dumps(answer['probabilities'].numpy().tolist()))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(tmp_path / "images.npy")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)

    def test_one_circuit_that_was_changed_alone_is_found(self, tmp_path):
        model = classifier(num_decoder_blocks=0)
        model.pqcs[0].set_engine("tfq")
        with pytest.raises(UnportableModelError, match="Received: Tfq.*TfqSimulateExpectation"):
            model.export(tmp_path / "served")
        assert files(tmp_path) == []

    def test_another_exact_engine(self, tmp_path):
        model = classifier(num_decoder_blocks=0)
        model.export(tmp_path / "served", engine="state_vector")
        assert model.engine == "auto"
        served = serving.load_saved_model(tmp_path / "served")
        answer = served.signatures["serving_uint8"](images=tf.constant(images()))
        expected = keras.ops.softmax(model(images()))
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        with pytest.raises(ValueError, match="Received: 'fast'"):
            model.export(tmp_path / "other", engine="fast")


class TestForeignOps:
    def save(self, path, function):
        module = tf.Module()
        module.run = tf.function(
            function, input_signature=[tf.TensorSpec((None,), tf.float32, name="x")]
        )
        tf.saved_model.save(module, str(path))

    def test_python_functions_cannot_leave_the_process(self, tmp_path):
        self.save(tmp_path / "a", lambda x: tf.numpy_function(np.sin, [x], tf.float32))
        assert foreign_ops(tmp_path / "a") == ("PyFunc",)

    def test_inside_branches_and_called_functions(self, tmp_path):
        @tf.function
        def inner(x):
            return tf.py_function(lambda y: y + 1, [x], tf.float32)

        self.save(tmp_path / "a", lambda x: tf.cond(x[0] > 0, lambda: inner(x), lambda: x))
        assert foreign_ops(tmp_path / "a") == ("EagerPyFunc",)

    def test_stock_ones(self, tmp_path):
        self.save(tmp_path / "a", lambda x: tf.while_loop(lambda y: y[0] < 9, tf.exp, [x])[0])
        assert foreign_ops(tmp_path / "a") == ()

    def test_any_operation_that_stock_tensorflow_lacks(self, exported, tmp_path):
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        message = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
        message.meta_graphs[0].graph_def.library.function[0].node_def.add(op="MyOwnOp", name="n")
        (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
        assert foreign_ops(tmp_path) == ("MyOwnOp",)

    @pytest.mark.parametrize("content", [None, b"", b"\xff\xff not a protobuf"])
    def test_what_is_no_saved_model(self, tmp_path, content):
        if content is not None:
            (tmp_path / "saved_model.pb").write_bytes(content)
        for read in (foreign_ops, serving.load_saved_model):
            with pytest.raises(ValueError, match=f"Received: {tmp_path}"):
                read(tmp_path)


class TestWriting:
    def test_a_really_full_disk(self, model, tmp_path):
        with small_disk(tmp_path, "64k") as disk:
            with pytest.raises(OSError, match="nothing was changed") as error:
                serving.export_for_serving(model, disk / "mine")
            assert error.value.errno == errno.ENOSPC
            assert os.listdir(disk) == []

    def test_an_existing_path(self, model, exported, tmp_path):
        path = tmp_path / "served"
        model.export(path)
        before = (path / "saved_model.pb").read_bytes()
        with pytest.raises(ValueError, match="overwrite=True replaces it.*Received: .*served"):
            model.export(path)
        assert (path / "saved_model.pb").read_bytes() == before
        other = classifier(num_decoder_blocks=0)
        other.export(path, overwrite=True)
        served = serving.load_saved_model(path).signatures["serving_uint8"]
        np.testing.assert_allclose(
            served(images=tf.constant(images()))["probabilities"],
            keras.ops.softmax(other(images())),
            atol=1e-6,
        )
        assert os.listdir(tmp_path) == ["served"]

    def test_only_a_saved_model_is_replaced(self, model, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(ValueError, match="a SavedModel may be replaced"):
            model.export(tmp_path, overwrite=True)
        assert files(tmp_path) == ["thesis.txt"]

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_full_disk(self, model, exported, tmp_path, monkeypatch, exists):
        path = tmp_path / "served"
        if exists:
            model.export(path)
        before = files(tmp_path)

        def full(module, folder, signatures):
            Path(folder, "saved_model.pb").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tf.saved_model, "save", full)
        with pytest.raises(OSError, match="No space left on device"):
            model.export(path, overwrite=True)
        assert files(tmp_path) == before
        if exists:
            assert foreign_ops(path) == ()

    def test_nothing_stays_of_a_refused_model(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(stock_ops, "_PYTHON_OPS", frozenset({"Softmax"}))
        with pytest.raises(UnportableModelError, match="Received: Softmax"):
            model.export(tmp_path / "served")
        assert files(tmp_path) == []

    def test_no_absolute_paths_or_python_objects(self, exported):
        content = (exported / "saved_model.pb").read_bytes()
        assert str(exported.parent).encode() not in content
        assert b"optimizer" not in content

    def test_keras_arguments(self, model, tmp_path, capsys):
        for format in ("onnx", "litert", "h5", None):
            with pytest.raises(ValueError, match="Received: format="):
                model.export(tmp_path / "served", format=format)
        with pytest.raises(ValueError, match="Received: input_signature="):
            model.export(tmp_path / "served", input_signature=[tf.TensorSpec((None, 4, 4, 1))])
        assert files(tmp_path) == []
        model.export(str(tmp_path / "served"), "tf_saved_model", verbose=True)
        assert "served" in capsys.readouterr().out
        layer = keras.layers.TFSMLayer(
            str(tmp_path / "served"), call_endpoint="serving_uint8", dtype="uint8"
        )
        expected = keras.ops.softmax(model(images()))
        np.testing.assert_allclose(layer(images())["probabilities"], expected, atol=1e-6)

    def test_other_models(self, tmp_path):
        plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        # A layer with circuits has an engine, but no signatures.
        circuit = PQC(templates.ry_ring(2))
        for wrong in (plain, circuit, "model", None):
            with pytest.raises(TypeError, match="Received: "):
                serving.export_saved_model(wrong, tmp_path / "served")

    def test_another_backend(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
        with pytest.raises(ValueError, match="Received: KERAS_BACKEND=torch"):
            serving.export_saved_model(model, tmp_path / "served")
