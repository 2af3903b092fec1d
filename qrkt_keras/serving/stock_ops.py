"""Which operations a SavedModel needs that stock TensorFlow does not have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

# Stock by name, but they call back into the Python process that wrote the model.
_PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})


class UnportableModelError(ValueError):
    """A SavedModel needs operations that stock TensorFlow does not have."""


def foreign_ops(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the operations of a SavedModel that stock TensorFlow cannot run.

    The graph and its whole library of functions are read, not executed. Stock are the operations
    of `tf.raw_ops`, which, unlike TensorFlow's registry, does not grow when a library of operations
    is loaded into the process; those that call Python are not counted.

    Args:
        path: The folder of a SavedModel.

    Returns:
        Their names, sorted; empty for a model that stock TensorFlow can serve.

    Raises:
        ValueError: If there is no readable SavedModel.
    """
    import tensorflow as tf

    names: set[str] = set()
    for meta_graph in _read(Path(path)).meta_graphs:
        library = meta_graph.graph_def.library.function
        nodes = [*meta_graph.graph_def.node]
        for function in library:
            nodes.extend(function.node_def)
        # A node may name a function of the library in place of an operation.
        functions = {function.signature.name for function in library}
        names |= {node.op for node in nodes} - functions
    return tuple(
        sorted(name for name in names if name in _PYTHON_OPS or not hasattr(tf.raw_ops, name))
    )


def _read(path: Path) -> SavedModel:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = path / "saved_model.pb"
    message = SavedModel()
    try:
        message.ParseFromString(file.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"There is no SavedModel in this folder. Received: {path}") from error
    except (DecodeError, OSError) as error:
        raise ValueError(f"The SavedModel is damaged ({error}). Received: {file}") from error
    if not message.meta_graphs:
        raise ValueError(f"The SavedModel is damaged (it is empty). Received: {file}")
    return message
