"""A model as a SavedModel: a classifier takes images or texts and answers, a GAN makes images."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from qrkt_keras.execution import check_engine, sampling, tfq
from qrkt_keras.serving.folders import atomic_folder
from qrkt_keras.serving.stock_ops import UnportableModelError, foreign_ops

if TYPE_CHECKING:
    pass


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    engine: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a model as a SavedModel that stock TensorFlow, and its Serving, can run.

    A GAN has the signature `generate`, and the same as `serving_default`, from `num` and `seed`,
    int32, to `images`, uint8. A classifier of images has two, both for any number of images:
    `serving_default` takes `images`, float32 in [0, 1], and `serving_uint8` takes `images`, uint8
    in 0..255. A classifier of texts has `serving_default`, which takes `texts`, strings. All
    return

    - `probabilities`: float32 of shape `(B, num_classes)`, the softmax of the logits;
    - `label`: int64 of shape `(B,)`, the most probable class;
    - `label_name`: string of shape `(B,)`, its name.

    The model is left as it is: where another engine must write, a copy does.

    Args:
        model: A built classifier, or a GAN, of the zoo.
        path: The folder to be made.
        engine: Engine that computes the circuits, if there are any. By default the model's own, but
            `"auto"` where that is `"tfq"`, whose operations only TensorFlow Quantum has, or
            `"sampling"`, whose sampler no file can hold; `"tfq"` insists on it.
        overwrite: Whether to replace a SavedModel that is there.

    Returns:
        The folder.

    Raises:
        ValueError: If Keras does not run on TensorFlow, or `path` holds something that must not be
            replaced.
        TypeError: If the model is none of the zoo.
        UnportableModelError: If the model needs operations that stock TensorFlow does not have;
            nothing is written then.
        OSError: If it could not be written; what was there stays whole.

    Example:

    >>> from qrkt_keras.serving import export_saved_model, load_saved_model
    >>> from qrkt_keras.zoo import QViT
    >>> model = QViT(
    ...     (4, 4, 1), 2, patch_size=2, hidden_dim=2, num_heads=1, mlp_dim=2,
    ...     num_encoder_blocks=1, num_ode_blocks=0, num_decoder_blocks=0, label_names=["no", "yes"],
    ... )
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     served = load_saved_model(export_saved_model(model, f"{folder}/yes_or_no"))
    >>> sorted(served.signatures)
    ['serving_default', 'serving_uint8']
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A SavedModel is written by TensorFlow: start Python with KERAS_BACKEND=tensorflow and "
            f"load the model there. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if not hasattr(model, "serving_signatures"):
        raise TypeError(
            "Only a model of qrkt_keras.zoo has signatures. "
            f"Received: {model!r} of type {type(model).__name__}"
        )
    if engine is None:
        engine = "auto" if model.engine in (tfq.NAME, sampling.NAME) else model.engine
    check_engine(engine)
    path = Path(path)
    if path.exists() and not (overwrite and (path / "saved_model.pb").is_file()):
        wanted = "a SavedModel may be replaced" if overwrite else "overwrite=True replaces it"
        raise ValueError(f"The path exists already ({wanted}). Received: {path}")
    if engine != model.engine:
        model = _copy(model, engine)

    import tensorflow as tf

    module = tf.Module()
    # Variables only: the model's Python objects, optimizer included, are of no use to a server.
    served = getattr(model, "ema_generator", model)
    module.weights = [variable.value for variable in served.variables]
    # And the tables of words, of a model of texts.
    module.resources = getattr(model, "serving_resources", ())
    with atomic_folder(path, replace=overwrite) as folder:
        signatures = model.serving_signatures()
        try:
            tf.saved_model.save(module, str(folder), signatures=signatures)
        except tf.errors.OpError as error:
            # TensorFlow's file system has errors of its own.
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            raise OSError(errno.ENOSPC if full else errno.EIO, error.message) from error
        foreign = foreign_ops(folder)
        if engine == tfq.NAME:
            foreign = tuple(name for name in foreign if not name.startswith("Tfq"))
        if foreign:
            raise UnportableModelError(
                "The model needs operations that stock TensorFlow does not have, so it was not "
                f"written. Received: {', '.join(foreign)}"
            )
    return path


def export_for_serving(
    model: keras.Model,
    folder: str | os.PathLike[str],
    version: int = 1,
    *,
    engine: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a model as TensorFlow Serving looks for it: `folder/version/`.

    Args:
        model: As of `export_saved_model`.
        folder: The folder of all versions of the model; its name is the model's to the server.
        version: A positive number; the server runs the highest.
        engine: As of `export_saved_model`.
        overwrite: Whether to replace this version if it is there.

    Returns:
        The folder of this version.

    Raises:
        ValueError: If the version is no positive integer, and as `export_saved_model`.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: version={version!r}")
    return export_saved_model(
        model, Path(folder) / str(version), engine=engine, overwrite=overwrite
    )


def load_saved_model(path: str | os.PathLike[str]) -> Any:
    """Loads a SavedModel, with TensorFlow Quantum's operations first if it needs them.

    Args:
        path: The folder of a SavedModel.

    Returns:
        What `tf.saved_model.load` returns; `.signatures` holds the functions.

    Raises:
        ValueError: If there is no readable SavedModel.
    """
    import tensorflow as tf

    if any(name.startswith("Tfq") for name in foreign_ops(path)):
        tfq.load_ops()
    return tf.saved_model.load(str(path))


def _copy(model: keras.Model, engine: str) -> keras.Model:
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.set_engine(engine)
    return copy
