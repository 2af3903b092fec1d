"""The Inception network of published FID, KID and Inception Scores, from files that the user has.

Loaded as the SavedModel that it is: TensorFlow Hub, which fetches it, is not needed to use it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qrkt_keras.layers.projection import positive_integer

ENVIRONMENT_VARIABLE = "QRKT_INCEPTION"
HANDLE = "https://tfhub.dev/tensorflow/tfgan/eval/inception/1"

_CACHE_VARIABLE = "TFHUB_CACHE_DIR"
_FILE = "saved_model.pb"
_SIZE = 299
# The outputs' names, and how many numbers each has for one image: features, then logits.
_OUTPUTS = {"pool_3": 2048, "logits": 1008}
_SIGNATURES = ("serving_default", "default")


class InceptionError(ValueError):
    """The Inception network is not on this machine, cannot be read, or is another network."""


class InceptionFeatures:
    """The Inception network that the literature's FID, KID and Inception Score are measured on.

    Images are resized to 299x299 pixels, scaled to `(x - 128) / 128`, and go through the network of
    Szegedy et al. 2016 (arXiv 1512.00567) with the weights of Salimans et al. 2016 (1606.03498) and
    Heusel et al. 2017 (1706.08500), as TF-GAN has published it on TensorFlow Hub. The features are
    its last pooling layer. Grey images are repeated to three channels.

    Nothing is downloaded. The network is a folder with `saved_model.pb`, and the first of these
    that is set says which:

    - `path`;
    - the environment variable `QRKT_INCEPTION`;
    - TensorFlow Hub's cache, `TFHUB_CACHE_DIR` or else `tfhub_modules` in the folder of temporary
      files, where `tensorflow_hub.load` left it.

    A SavedModel is a program that TensorFlow runs: use none from a source that you do not trust.

    Resizing is TF-GAN's, of TensorFlow 1: bilinear, with pixels counted from their corners. The
    default of `tf.image.resize` counts from their centres, moves the picture by half a pixel of the
    small image, and so changes the measures.

    Args:
        path: The network's folder.
        batch_size: Images that go through the network at once.

    Raises:
        InceptionError: If there is no such folder, if it cannot be read, or if what it holds does
            not turn images into `pool_3` and `logits` of these sizes.
        ValueError: If `batch_size` is not a positive integer, or images are of another form.

    Attributes:
        name: Which network this is, to stand with every number measured on it.
        path: The folder that it was loaded from.
    """

    name = "Inception (tfgan/eval/inception/1)"

    def __init__(self, path: str | os.PathLike[str] | None = None, *, batch_size: int = 64) -> None:
        self._batch_size = positive_integer("batch_size", batch_size)
        self.path = find(path)
        # Kept, as it owns the variables: a signature alone would let go of them.
        self._loaded = _load(self.path)
        self._apply = _with_preprocessing(_function(self._loaded, self.path))
        _check(self._apply, self.path)

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What images are measured by.

        Args:
            images: uint8 images `(n, height, width, 1 or 3)`, with `n` at least 1.

        Returns:
            Features `(n, 2048)` and logits `(n, 1008)`, float32.
        """
        images = np.asarray(images)
        form_fits = images.ndim == 4 and images.shape[-1] in (1, 3) and images.size
        if not form_fits or images.dtype != np.uint8:
            raise ValueError(
                "The images must be uint8 of shape (n, height, width, 1 or 3), with n at least 1. "
                f"Received: shape {images.shape}, dtype {images.dtype}"
            )
        parts = [
            self._batch(images[start : start + self._batch_size])
            for start in range(0, len(images), self._batch_size)
        ]
        features, logits = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(logits)

    def _batch(self, images: np.ndarray) -> list[np.ndarray]:
        if images.shape[-1] == 1:
            images = np.repeat(images, 3, axis=-1)
        outputs = self._apply(images)
        # TF-GAN flattens too: a pooling layer may leave one pixel, `(n, 1, 1, 2048)`.
        return [outputs[name].numpy().reshape(len(images), -1) for name in _OUTPUTS]


def places(path: str | os.PathLike[str] | None) -> list[tuple[str, Path | None]]:
    """Where the network may be, in order: the argument, the environment, TensorFlow Hub's cache."""
    environment = os.environ.get(ENVIRONMENT_VARIABLE)
    cache = os.environ.get(_CACHE_VARIABLE) or os.path.join(tempfile.gettempdir(), "tfhub_modules")
    # The handle alone names the folder. The query `?tf-hub-format=compressed` is appended when it
    # is fetched, after that.
    folder = hashlib.sha1(HANDLE.encode(), usedforsecurity=False).hexdigest()
    return [
        ("path", Path(path).expanduser() if path is not None else None),
        (ENVIRONMENT_VARIABLE, Path(environment).expanduser() if environment else None),
        (f"TensorFlow Hub's cache ({_CACHE_VARIABLE})", Path(cache, folder)),
    ]


def find(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the Inception network.

    Args:
        path: The folder, if the environment is not to say.

    Returns:
        The folder, which has a `saved_model.pb`.

    Raises:
        InceptionError: If it has none. A folder that was named is not replaced by another one:
            numbers of a network that was not asked for are worse than none.
    """
    searched = places(path)
    chosen, folder = next((why, place) for why, place in searched if place is not None)
    if (folder / _FILE).is_file():
        return folder
    lines = "".join(f"\n  {why}: {_state(why, place, chosen)}" for why, place in searched)
    raise InceptionError(
        f"The Inception network is not on this machine. Looked in{lines}\n"
        f"To get it, give path or {ENVIRONMENT_VARIABLE} the folder of its SavedModel, the one "
        f"that holds {_FILE}, or let TensorFlow Hub fetch it (needs the internet): "
        f"python -c \"import tensorflow_hub; tensorflow_hub.load('{HANDLE}')\"\n"
        "Without it, zoo.FeatureNetwork measures too, but its numbers compare with each other "
        f"only.\nReceived: path={str(path) if path is not None else None!r}"
    )


def _state(why: str, place: Path | None, chosen: str) -> str:
    if place is None:
        return "not set"
    if why != chosen:
        return f"{place} (left out, as {chosen} is set)"
    if not place.is_dir():
        return f"{place} (no such folder)"
    return f"{place} (no {_FILE} in it)"


def _load(folder: Path) -> Any:
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(folder))
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise InceptionError(
            f"The SavedModel of the Inception network cannot be read: {error}\nReceived: {folder}"
        ) from error


def _function(loaded: Any, folder: Path) -> Callable[[Any], Any]:
    """What of a SavedModel turns float images into outputs."""
    if callable(loaded):
        return loaded
    signatures = getattr(loaded, "signatures", {})
    signature = next((signatures[name] for name in _SIGNATURES if name in signatures), None)
    inputs = [] if signature is None else [*signature.structured_input_signature[1]]
    if len(inputs) != 1:
        raise InceptionError(
            "The SavedModel of the Inception network must be callable with images, or have a "
            f"signature {' or '.join(_SIGNATURES)} of one input. "
            f"Received: signatures {[*signatures]}, inputs {inputs}, from {folder}"
        )
    return lambda images: signature(**{inputs[0]: images})


def _with_preprocessing(network: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    # One trace for images of all sizes, and for the last batch.
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    def apply(images: tf.Tensor) -> Any:
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(images, tf.float32),
            size=(_SIZE, _SIZE),
            align_corners=False,
            half_pixel_centers=False,
        )
        return network((resized - 128.0) / 128.0)

    return apply


def _check(apply: Callable[[np.ndarray], Any], folder: Path) -> None:
    """Tries a network on a black image."""
    import tensorflow as tf

    try:
        outputs = apply(np.zeros((1, 2, 2, 3), np.uint8))
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise InceptionError(
            f"The SavedModel of the Inception network must take float32 images (n, {_SIZE}, "
            f"{_SIZE}, 3), and does not: {error}\nReceived: {folder}"
        ) from error
    found = type(outputs).__name__
    if isinstance(outputs, Mapping):
        found = {name: tuple(np.shape(value)) for name, value in outputs.items()}
        if all(
            name in found and found[name][:1] == (1,) and np.prod(found[name]) == size
            for name, size in _OUTPUTS.items()
        ):
            return
    wanted = " and ".join(f"{name!r} (n, {size})" for name, size in _OUTPUTS.items())
    raise InceptionError(
        f"The SavedModel of the Inception network must give a dictionary with {wanted}. "
        f"Received: outputs {found} for one image, from {folder}"
    )
