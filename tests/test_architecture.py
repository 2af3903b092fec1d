"""The import directions of docs/architecture.md, and what the package's code must not contain.

Read from the source, so that imports inside functions count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qrkt_keras

PACKAGE = Path(qrkt_keras.__file__).resolve().parent

# Each may import only itself and what stands before it.
ORDER = [
    "circuits",
    "execution",
    "solvers",
    "layers",
    "data",
    "training",
    "serving",
    "zoo",
    "analysis",
    "hardware",
    "tuning",
    "cli",
]

# Modules at the top that stand outside the order, and what of the package each may import.
BESIDE = {"__init__": set(ORDER) - {"cli"}, "__main__": {"cli"}, "quiet": set()}
USES_QUIET = {"cli"}

TENSORFLOW = {
    "tensorflow",
    "tensorflow_quantum",
    "tensorflow_datasets",
    "tensorflow_gan",
    "tensorflow_probability",
    "tf_keras",
}
KERAS = {"keras", "keras_tuner"}
OTHER_BACKENDS = {"jax", "torch"}

# Modules of these, given as (package, or package.module), may not import those, not even locally.
FORBIDDEN = {
    "circuits": KERAS | TENSORFLOW | OTHER_BACKENDS,
    "solvers": KERAS | TENSORFLOW | OTHER_BACKENDS,
    "execution": TENSORFLOW | OTHER_BACKENDS,
    "layers": TENSORFLOW | OTHER_BACKENDS,
}
EXEMPT = {
    "execution.tfq": {"tensorflow", "tensorflow_quantum"},
    "execution.host_call": {"tensorflow", "jax"},
}
# Elsewhere TensorFlow may be imported, but inside functions only: under another backend of Keras
# the models work without it.

# What can run code that came with a file, and the names under which it is called.
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "enable_unsafe_deserialization"}
UNSAFE_ARGUMENTS = {"safe_mode=False", "allow_pickle=True"}


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Yields (line, absolute dotted name) of every import, `if TYPE_CHECKING:` included.

    `from a import b` yields `a.b`, as b may be a module. `package` resolves relative imports.
    A bare `import qrkt_keras` loads nothing; naming `qrkt_keras.zoo` after it does, and counts.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name != "qrkt_keras" or alias.asname:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "qrkt_keras":
            yield node.lineno, f"qrkt_keras.{node.attr}"
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def deferred_lines(tree: ast.Module) -> set[int]:
    """The lines that an import of the module does not execute: functions, `if TYPE_CHECKING:`."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for line in range(node.body[0].lineno, node.body[-1].end_lineno + 1)
    }


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def complaints(module: str, source: str, is_package: bool = False) -> list[str]:
    """Everything that a module's source does against the rules.

    `module` is dotted and relative to qrkt_keras: "layers.pqc", "layers" for `layers/__init__.py`,
    "__init__" for the top one.
    """
    tree = ast.parse(source)
    part = module.partition(".")[0]
    dotted = "qrkt_keras" if module == "__init__" else f"qrkt_keras.{module}"
    package = dotted if is_package else dotted.rpartition(".")[0]
    found = []

    if part in ORDER:
        allowed = set(ORDER[: ORDER.index(part) + 1])
        allowed |= {"quiet"} if part in USES_QUIET else set()
    elif part in BESIDE:
        allowed = BESIDE[part]
    else:
        allowed = set()
        found.append(f"{module}: is not in the order {', '.join(ORDER)}")

    exempt = EXEMPT.get(module, set())
    forbidden = FORBIDDEN.get(part, set()) - exempt
    deferred = deferred_lines(tree)
    for line, name in imports(tree, package):
        top, _, rest = name.partition(".")
        if top == "qrkt_keras":
            target = rest.partition(".")[0]
            if target not in allowed and not target.startswith("__"):
                found.append(f"{module}:{line}: must not import {name}")
        elif top in forbidden or top in UNSAFE_MODULES or "pickle" in name.split("."):
            found.append(f"{module}:{line}: must not import {name}")
        elif top in TENSORFLOW - exempt and line not in deferred:
            found.append(f"{module}:{line}: must import {name} inside a function")

    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = _called(node)
            # `ast.literal_eval` and methods such as `cirq.X.eval` have other names or an owner.
            if called in UNSAFE_CALLS and (isinstance(node.func, ast.Name) or "unsafe" in called):
                found.append(f"{module}:{node.lineno}: must not call {called}")
            for keyword in node.keywords:
                if ast.unparse(keyword) in UNSAFE_ARGUMENTS:
                    found.append(f"{module}:{node.lineno}: must not pass {ast.unparse(keyword)}")

    if not module.rpartition(".")[2].startswith("_") or module == "__init__":
        if not ast.get_docstring(tree):
            found.append(f"{module}: has no docstring")
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name relative to it."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        names[".".join(parts)] = path
    return names


@pytest.mark.parametrize("module", modules())
def test_module(module: str) -> None:
    path = modules()[module]
    source = path.read_text(encoding="utf-8")
    assert complaints(module, source, is_package=path.name == "__init__.py") == []


def test_each_part_is_one_package_or_one_module() -> None:
    tops = [
        entry.name.removesuffix(".py")
        for entry in PACKAGE.iterdir()
        if entry.suffix == ".py" or any(entry.rglob("*.py"))
    ]
    assert len(tops) == len(set(tops))
    assert set(tops) <= set(ORDER) | set(BESIDE)
    for part in tops:
        if part not in BESIDE and part != "cli":
            assert (PACKAGE / part / "__init__.py").is_file()


def test_no_cycle_is_left_to_chance() -> None:
    # The order of packages rules out cycles between them; the checks below rest on its being total.
    assert len(ORDER) == len(set(ORDER))
    assert set(FORBIDDEN) | {name.partition(".")[0] for name in EXEMPT} <= set(ORDER)


@pytest.mark.parametrize(
    ("module", "source", "culprit"),
    [
        ("circuits.spec", "from qrkt_keras import layers", "qrkt_keras.layers"),
        ("circuits.spec", "import qrkt_keras.execution.plan", "qrkt_keras.execution.plan"),
        ("circuits.spec", "from ..zoo import QViT", "qrkt_keras.zoo.QViT"),
        ("circuits.spec", "def f():\n    import keras", "keras"),
        ("circuits.spec", "import importlib\nimportlib.import_module('keras')", "keras"),
        ("solvers.tableau", "from tensorflow import function", "tensorflow.function"),
        ("execution.state_vector", "import tensorflow as tf", "tensorflow"),
        ("execution.tfq", "import tensorflow_datasets", "tensorflow_datasets"),
        ("layers.pqc", "def call():\n    import tensorflow as tf", "tensorflow"),
        ("layers.pqc", "if TYPE_CHECKING:\n    from qrkt_keras.zoo import QViT", "QViT"),
        ("circuits.spec", "import qrkt_keras\nqrkt_keras.zoo.QViT()", "qrkt_keras.zoo"),
        ("circuits.spec", "import qrkt_keras as qk", "qrkt_keras"),
        ("zoo.presets", "import tensorflow as tf", "tensorflow inside a function"),
        ("data", "try:\n    import tensorflow_datasets\nexcept E: f()", "inside a function"),
        ("training.checkpoints", "from qrkt_keras import zoo", "qrkt_keras.zoo"),
        ("zoo.presets", "from qrkt_keras import cli", "qrkt_keras.cli"),
        ("zoo.presets", "import qrkt_keras.quiet", "qrkt_keras.quiet"),
        ("quiet", "import qrkt_keras.circuits", "qrkt_keras.circuits"),
        ("helpers", "import math", "is not in the order"),
        ("zoo.presets", "import pickle", "pickle"),
        ("zoo.presets", "from joblib import load", "joblib.load"),
        ("zoo.presets", "eval('1')", "call eval"),
        ("zoo.presets", "exec('1')", "call exec"),
        ("zoo.presets", "keras.config.enable_unsafe_deserialization()", "unsafe"),
        ("zoo.presets", "keras.saving.load_model(p, safe_mode=False)", "safe_mode=False"),
        ("zoo.presets", "np.load(p, allow_pickle=True)", "allow_pickle=True"),
    ],
)
def test_the_checker_sees_it(module: str, source: str, culprit: str) -> None:
    documented = f'"""A module."""\n{source}'
    (complaint,) = complaints(module, documented)
    assert culprit in complaint


def test_the_checker_wants_docstrings() -> None:
    assert complaints("layers.pqc", "x = 1") == ["layers.pqc: has no docstring"]
    assert complaints("__init__", "x = 1", is_package=True) == ["__init__: has no docstring"]
    assert complaints("layers._shapes", "x = 1") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zoo.qvit.model", "from qrkt_keras import circuits, layers, serving"),
        ("zoo.qvit.model", "def export():\n    import tensorflow as tf"),
        ("data", "if TYPE_CHECKING:\n    import tensorflow as tf"),
        ("execution.tfq", "import tensorflow as tf, tensorflow_quantum as tfq"),
        ("layers.pqc", "import keras\nfrom . import projection"),
        ("cli", "from qrkt_keras.quiet import quiet_tensorflow"),
        ("cli", "from qrkt_keras import __version__"),
        ("zoo.presets", "import qrkt_keras\nqrkt_keras.__version__"),
        ("zoo.presets", "field(default=None)"),
        ("data", "import ast\nast.literal_eval('1')"),
    ],
)
def test_the_checker_lets_it_pass(module: str, source: str) -> None:
    assert complaints(module, f'"""A module."""\n{source}', is_package=module == "data") == []
