import importlib
import json
import os
import subprocess
import sys
import types

import pytest

from qrkt_keras.training import tfgan
from qrkt_keras.training.tfgan import tfgan_modules

# `tfgan_modules` without its memory of what it has imported before.
import_anew = tfgan_modules.__wrapped__

# What a user sees of `import tensorflow_gan`, as (error type, message); None is success.
USER_IMPORT = """
def user_import():
    try:
        import tensorflow_gan
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None

def loaded():
    return {name: id(module) for name, module in sys.modules.items()
            if name.partition(".")[0] == "tensorflow_gan"}
"""
OURS_FIRST = """
import contextlib, io, json, sys, warnings
import tensorflow
from qrkt_keras.training.tfgan import tfgan_modules
said = io.StringIO()
with (warnings.catch_warnings(record=True) as warned,
      contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)):
    warnings.simplefilter("always")
    tfgan_modules()
left = sorted(loaded())
print(json.dumps([said.getvalue(), [str(w.message) for w in warned], left, user_import()]))
"""
USER_FIRST = """
import json, sys
error = user_import()
before = loaded()
from qrkt_keras.training.tfgan import tfgan_modules
loss = tfgan_modules().losses_impl.wasserstein_generator_loss([2.0])
print(json.dumps([error, float(loss), before == loaded()]))
"""


def ours():
    return {name for name in sys.modules if name.partition(".")[0] == "tensorflow_gan"}


def in_a_process(script, repository):
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + USER_IMPORT + script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_four_modules():
    modules = tfgan_modules()
    assert callable(modules.losses_impl.wasserstein_hinge_discriminator_loss)
    assert callable(modules.classifier_metrics.classifier_score_from_logits)
    assert callable(modules.sliced_wasserstein.sliced_wasserstein_distance)
    assert callable(modules.eval_utils.image_grid)
    for name, module in modules._asdict().items():
        assert module.__name__.startswith("tensorflow_gan.python.")
        assert module.__file__.endswith(f"{name}.py")
    assert tfgan_modules() is modules


def test_a_users_import_does_what_it_would_have_done(repository):
    error, loss, untouched = in_a_process(USER_FIRST, repository)
    assert (loss, untouched) == (-2.0, True)
    said, warned, left, error_after_ours = in_a_process(OURS_FIRST, repository)
    assert (said, warned, left) == ("", [], [])
    assert error_after_ours == error


def test_without_tfgan(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_gan", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install tensorflow-gan\. Received: no "):
        import_anew()
    assert sys.modules["tensorflow_gan"] is None


def test_a_failure_leaves_nothing_behind(monkeypatch):
    def fail(name):
        if name.endswith("classifier_metrics"):
            raise ImportError("no tensorflow_probability")
        return importlib.import_module(name)

    before = ours()
    monkeypatch.setattr(
        tfgan, "importlib", types.SimpleNamespace(import_module=fail, util=importlib.util)
    )
    with pytest.raises(ImportError, match="^no tensorflow_probability$"):
        import_anew()
    assert ours() == before
    monkeypatch.undo()
    assert import_anew().losses_impl.wasserstein_generator_loss([2.0]) == -2.0


def test_what_a_failed_import_left_is_kept(monkeypatch):
    part = types.ModuleType("tensorflow_gan.python.contrib_utils")
    monkeypatch.setitem(sys.modules, part.__name__, part)
    modules = import_anew()
    assert modules.losses_impl.contrib is not part
    assert sys.modules[part.__name__] is part
    assert ours() == {part.__name__}


def test_a_tfgan_that_imports_is_used(monkeypatch):
    names = [
        "tensorflow_gan",
        "tensorflow_gan.python.losses.losses_impl",
        "tensorflow_gan.python.eval.classifier_metrics",
        "tensorflow_gan.python.eval.sliced_wasserstein",
        "tensorflow_gan.python.eval.eval_utils",
    ]
    real = {name: types.ModuleType(name) for name in names}
    for name, module in real.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert list(import_anew()) == [real[name] for name in names[1:]]
    assert all(sys.modules[name] is module for name, module in real.items())
