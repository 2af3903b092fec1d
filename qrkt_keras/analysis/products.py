"""Products with a Hessian, kept in a file, so that what needs many can be stopped and continued."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from qrkt_keras.analysis.loss import SAME_VALUE, DataLoss, array_of, identity_of
from qrkt_keras.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from qrkt_keras.training.job import fingerprint

_KIND = "hessian products"
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
# Units in the last place: vectors are rounded to the weights' precision before they are multiplied.
_SAME_VECTOR = 16


class KeptProducts:
    """A loss whose products with its Hessian are kept in a file, and made once.

    `power_iteration`, `lanczos`, `trace` and `spectral_density` take it in the loss' place. What
    was interrupted, or killed, goes on: the same call asks for the same vectors again, and a vector
    whose product is kept costs nothing. So a call with more steps or probes only makes what is new.

    A product with a vector is the kept one where the two vectors differ, relative to their length,
    by 16 units in the last place of the weights' precision at most. The file is written when 30
    seconds have gone by since the last time, and at the end of a `with` block, whatever ends it; it
    has two float64 vectors of all weights for each product. `mean_loss` is the loss' value.

    Args:
        loss: The loss. Its model must keep the weights that it has now.
        path: The file.
        resume: Whether to go on with the file that is there, if there is one.

    Raises:
        ValueError: If the file exists and `resume` is not asked for, or its folder does not exist.
        CheckpointError: If the file is damaged, or is of other data, weights or another loss.

    Example:

    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x, y = np.diag([1.0, 3.0]).astype("float32"), np.zeros((2, 1), "float32")
    >>> loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with KeptProducts(loss, f"{folder}/products.npz") as kept:
    ...         product = kept.hessian_vector_product([0.0, 1.0])
    ...     again = KeptProducts(loss, f"{folder}/products.npz", resume=True)
    >>> again.num_kept, again.hessian_vector_product([0.0, 1.0])
    (1, array([0., 9.]))
    """

    def __init__(
        self, loss: DataLoss, path: str | os.PathLike[str], *, resume: bool = False
    ) -> None:
        self.loss = loss
        self.path = Path(path)
        self._vectors: list[np.ndarray] = []
        self._products: list[np.ndarray] = []
        self._identity = {**identity_of(loss), "weights": fingerprint([loss.point()])}
        precisions = [ml_dtypes.finfo(array_of(variable).dtype).eps for variable in loss.variables]
        self._tolerance = _SAME_VECTOR * float(max(precisions))
        if not self.path.parent.is_dir():
            raise ValueError(
                f"The file must be in a folder that exists. Received: path={self.path}"
            )
        if self.path.exists() and not resume:
            raise ValueError(
                "The file exists already: go on with it with resume=True, or choose another one. "
                f"Received: path={self.path}"
            )
        self.mean_loss = loss.value()
        if self.path.exists():
            self._read()
        self._num_saved, self._saved = self.num_kept, time.monotonic()

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.loss.size

    @property
    def num_kept(self) -> int:
        """The number of products that there are."""
        return len(self._products)

    def hessian_vector_product(self, vector: Sequence[float] | np.ndarray) -> np.ndarray:
        """The Hessian of the mean loss, times a vector: the kept one, or else made and kept.

        Args:
            vector: `(size,)`.

        Returns:
            `H v`, `(size,)` float64.

        Raises:
            ValueError: As for `DataLoss.hessian_vector_product`.
        """
        vector = np.array(vector, np.float64)
        for kept, product in zip(self._vectors, self._products, strict=True):
            if kept.shape != vector.shape:
                break  # the loss refuses it
            if np.linalg.norm(kept - vector) <= self._tolerance * np.linalg.norm(kept):
                return product.copy()
        product = self.loss.hessian_vector_product(vector)
        self._vectors.append(vector)
        self._products.append(product)
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS:
            self.save()
        return product.copy()

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        kept = (self.num_kept, self.size)
        arrays = {
            "vectors": np.reshape(self._vectors, kept),
            "products": np.reshape(self._products, kept),
        }
        metadata = {"kind": _KIND, "identity": self._identity, "loss": self.mean_loss}
        write_checkpoint(self.path, arrays, metadata)
        self._num_saved, self._saved = self.num_kept, time.monotonic()

    def _read(self) -> None:
        checkpoint = read_checkpoint(self.path)
        metadata = checkpoint.metadata
        if metadata.get("kind") != _KIND:
            raise CheckpointError(
                "The checkpoint is not one of products with a Hessian. "
                f"Received: kind={metadata.get('kind')!r} in {self.path}"
            )
        kept = metadata["identity"]
        other = [what for what, digest in self._identity.items() if kept.get(what) != digest]
        if not np.isclose(
            self.mean_loss, metadata["loss"], rtol=SAME_VALUE, atol=0, equal_nan=True
        ):
            other.append(f"loss: {self.mean_loss:.6g}, where it has {metadata['loss']:.6g}")
        if other:
            raise CheckpointError(
                f"The products in {self.path} are of another Hessian. "
                f"Received: other {', other '.join(other)}"
            )
        self._vectors = [*checkpoint.arrays["vectors"]]
        self._products = [*checkpoint.arrays["products"]]

    def __enter__(self) -> KeptProducts:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.num_kept > self._num_saved:
            self.save()
