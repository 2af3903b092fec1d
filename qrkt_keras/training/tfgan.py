"""TF-GAN's losses and measures under a TensorFlow for which TF-GAN was not written.

`import tensorflow_gan` fails under TensorFlow 2.16 and later: it loads all of TF-GAN, and the
estimators among it need `tf.estimator`, which is gone. The modules with the formulas need nothing
that is gone. This file imports them alone; nothing else in the project knows how.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import threading
import types
import warnings
from typing import NamedTuple

_NAME = "tensorflow_gan"
# The packages on the way to the modules: their own code is what fails.
_PACKAGES = (_NAME, f"{_NAME}.python", f"{_NAME}.python.losses", f"{_NAME}.python.eval")

# `sys.modules` is one for all threads.
_LOCK = threading.Lock()


class TFGANModules(NamedTuple):
    """The modules of TF-GAN that work without `tf.estimator`, under TF-GAN's own names."""

    losses_impl: types.ModuleType
    classifier_metrics: types.ModuleType
    sliced_wasserstein: types.ModuleType
    eval_utils: types.ModuleType


@functools.cache
def tfgan_modules() -> TFGANModules:
    """Imports TF-GAN's losses and measures, without the rest of TF-GAN.

    While the modules are imported, empty packages stand in `sys.modules` for those whose own code
    fails. Afterwards `sys.modules` has no more of TF-GAN than before: a later
    `import tensorflow_gan` does what it would have done, and fails by itself where it must. Where
    `tensorflow_gan` is already imported, its own modules are returned.

    Returns:
        The modules; later calls return the same ones.

    Raises:
        ModuleNotFoundError: If tensorflow-gan is not installed.
        ImportError: If one of the modules cannot be imported, as it was raised.

    Example:

    >>> tfgan_modules().losses_impl.wasserstein_generator_loss([1.0, 3.0]).numpy().item()
    -2.0
    """
    with _LOCK:
        if sys.modules.get(_NAME) is not None:
            return _import_modules()
        spec = importlib.util.find_spec(_NAME)
        if spec is None:
            raise ModuleNotFoundError(
                "The losses and measures of GANs need TF-GAN: pip install tensorflow-gan. "
                f"Received: no installed package {_NAME!r}",
                name=_NAME,
            )
        # An `import tensorflow_gan` that failed leaves parts behind. They are not ours to lose.
        before = _loaded()
        try:
            for name in before:
                del sys.modules[name]
            for name in _PACKAGES:
                package = types.ModuleType(name)
                package.__path__ = [
                    os.path.join(root, *name.split(".")[1:])
                    for root in spec.submodule_search_locations
                ]
                sys.modules[name] = package
            return _import_modules()
        finally:
            for name in _loaded():
                del sys.modules[name]
            sys.modules.update(before)


def _import_modules() -> TFGANModules:
    with warnings.catch_warnings():
        # TensorFlow Probability, which TF-GAN imports, asks distutils for versions.
        warnings.simplefilter("ignore")
        return TFGANModules(
            losses_impl=importlib.import_module("tensorflow_gan.python.losses.losses_impl"),
            classifier_metrics=importlib.import_module(
                "tensorflow_gan.python.eval.classifier_metrics"
            ),
            sliced_wasserstein=importlib.import_module(
                "tensorflow_gan.python.eval.sliced_wasserstein"
            ),
            eval_utils=importlib.import_module("tensorflow_gan.python.eval.eval_utils"),
        )


def _loaded() -> dict[str, types.ModuleType]:
    # A copy of the dictionary first: another thread may import while this one looks through it.
    return {
        name: module
        for name, module in sys.modules.copy().items()
        if name == _NAME or name.startswith(f"{_NAME}.")
    }
