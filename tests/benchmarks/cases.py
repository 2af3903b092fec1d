"""What is measured, and who takes part: data alone, read by the driver and by every worker.

This module is imported in the peers' environments too, so it knows the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import circuits

# Where the package's presets are: a folder each, under a folder for each kind of model.
ZOO = Path(__file__).resolve().parents[2] / "qrkt_keras" / "zoo"

# More qubits than this are refused without trying: every peer holds whole state vectors.
LARGEST_STATE = 26


class Refused(Exception):
    """A contestant cannot do a case, and says why."""


@dataclass(frozen=True)
class Contestant:
    """One way to compute the work.

    Args:
        title: for tables.
        module: of `benchmarks.contestants`, and its class: "module:Class".
        environment: folder under `.peers`, None for this project's own `.venv`.
        packages: whose versions the table names.
        variables: of the worker's process environment.
    """

    title: str
    module: str
    environment: str | None
    packages: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_peer(self) -> bool:
        """Whether this is somebody else's simulator."""
        return self.environment is not None


_OURS = ("qrkt_keras", "keras", "tensorflow")
_JAX = {"KERAS_BACKEND": "jax"}
CONTESTANTS = {
    "qrkt-tf": Contestant("qrkt_keras, TensorFlow", "qrkt:TensorFlow", None, _OURS),
    "qrkt-tf-xla": Contestant("qrkt_keras, TensorFlow + XLA", "qrkt:TensorFlowXLA", None, _OURS),
    "qrkt-jax": Contestant(
        "qrkt_keras, JAX", "qrkt:JAX", None, ("qrkt_keras", "keras", "jax"), _JAX
    ),
    "pennylane-jax": Contestant(
        "PennyLane, JAX", "pennylane:PennyLaneJax", "pennylane", ("pennylane", "jax")
    ),
    "pennylane-lightning": Contestant(
        "PennyLane Lightning",
        "pennylane:PennyLaneLightning",
        "pennylane",
        ("pennylane", "pennylane-lightning"),
    ),
    "tensorcircuit": Contestant(
        "TensorCircuit-NG, JAX",
        "tensorcircuit:TensorCircuit",
        "tensorcircuit",
        ("tensorcircuit-ng", "jax"),
    ),
    "tensorcircuit-scan": Contestant(
        "TensorCircuit-NG, JAX, scan over layers",
        "tensorcircuit:TensorCircuitScan",
        "tensorcircuit",
        ("tensorcircuit-ng", "jax"),
    ),
    "torchquantum": Contestant(
        "TorchQuantum", "torchquantum:TorchQuantum", "torchquantum", ("torchquantum", "torch")
    ),
    "tfq": Contestant(
        "TensorFlow Quantum, adjoint", "tfq:TFQ", "tfq", ("tensorflow-quantum", "tensorflow")
    ),
    "reference": Contestant(
        "reference transformer (Flax, TensorCircuit)",
        "reference:Reference",
        "tensorcircuit",
        ("tensorcircuit-ng", "flax", "jax"),
    ),
}

OURS = tuple(name for name, contestant in CONTESTANTS.items() if not contestant.is_peer)
# The scan stands for TensorCircuit where a circuit repeats a layer: it is then the faster form.
_ONE_LAYER = (*OURS, "pennylane-jax", "pennylane-lightning", "tensorcircuit", "torchquantum", "tfq")
_LAYERS = tuple(name.replace("tensorcircuit", "tensorcircuit-scan") for name in _ONE_LAYER)
_STEPS = ("qrkt-tf", "qrkt-tf-xla")
_SWEEP = ("qrkt-tf-xla", "pennylane-jax", "tensorcircuit-scan", "torchquantum", "tfq")


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Args:
        name: unique; `make bench` selects by it.
        group: the table or the plot that it belongs to.
        kind: "circuit" (values, and the gradient of sum(values * upstream) by inputs and weights),
            "dense" (the same of a PQC layer and of a Dense layer), "training" (steps of a model
            and of its classical twin), or of a GAN and its twin "critic" and "generator" (updates
            of that network) and "gan" (whole steps).
        batch: rows, or images or texts a step.
        contestants: in the order of the table.
        template: of the circuit, see `circuits.get`.
        num_qubits: of the circuit.
        num_layers: of the circuit.
        preset: name of a model for training; without one, `model` is a whole `QViT`.
        model: constructor arguments; with a preset, those that differ from it.
        left_out: contestants that are not tried, and why.
        limit: seconds that a contestant may prepare, its compilation included.
        rounds: how often everybody's turn comes.
        quick: whether `--quick` keeps it.
    """

    name: str
    group: str
    kind: str
    batch: int
    contestants: tuple[str, ...]
    template: str = ""
    num_qubits: int = 0
    num_layers: int = 1
    preset: str = ""
    model: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    limit: float = 300.0
    rounds: int = 7
    quick: bool = False

    def circuit(self) -> circuits.Circuit:
        """The circuit, as data."""
        return circuits.get(self.template, self.num_qubits, self.num_layers)


@dataclass(frozen=True)
class Subject:
    """What a worker measures: a call, and what its seconds are worth.

    Args:
        call: computes everything and waits for it; may return arrays, see `arrays`.
        scale: seconds of a call times this are the seconds reported.
        note: stands beside the numbers.
        parameters: trainable numbers of a model.
    """

    call: Callable[[], tuple | None]
    scale: float = 1.0
    note: str = ""
    parameters: int | None = None


def arrays(case: Case):
    """Inputs, weights and upstream gradient of a circuit: the same for every contestant."""
    import numpy as np

    rng = np.random.default_rng(0)
    circuit = case.circuit()
    inputs = rng.uniform(-np.pi, np.pi, (case.batch, circuit.num_inputs))
    weights = rng.uniform(-np.pi, np.pi, circuit.num_weights)
    upstream = rng.uniform(-1, 1, (case.batch, len(circuit.observables)))
    return tuple(array.astype("float32") for array in (inputs, weights, upstream))


def _circuits() -> list[Case]:
    cases = []
    for qubits in (4, 8, 12):
        batch = 256 if qubits == 12 else 2048
        one, many = ("one layer", _ONE_LAYER), ("six layers", _LAYERS)
        if qubits == 8:  # unrolled as well: its compile time is one of the marks
            many = ("six layers", (*_LAYERS, "tensorcircuit"))
        for template, layers, (group, contestants) in (
            ("rx_ring", 1, one),
            ("hardware_efficient", 6, many),
        ):
            cases.append(
                Case(
                    f"{template}-n{qubits}-l{layers}",
                    group,
                    "circuit",
                    batch,
                    contestants,
                    template,
                    qubits,
                    layers,
                    quick=qubits != 4 and layers == 1 or qubits == 8,
                )
            )
    return cases


def _kawase() -> list[Case]:
    deep = {
        "pennylane-jax": "unrolled, it does not compile at d = 50 within the limit",
        "pennylane-lightning": "four times its time at d = 50",
        "torchquantum": "autograd keeps a state a gate: 14 GB at d = 50, four times that here",
        "tfq": "out of memory at d = 50",
    }
    memory = "its parsed copies of the circuit, one a row, take more than 18 GB"
    shallow = {
        "name": "patch-d50",
        "num_layers": 50,
        "contestants": tuple(name for name in _LAYERS if name != "tfq"),
        "left_out": {"tfq": memory},
    }
    contestants = tuple(name for name in _LAYERS if name not in deep)
    return [
        Case(
            group="Kawase's circuit",
            kind="circuit",
            batch=1000,
            template="patch",
            num_qubits=circuits.PATCH_QUBITS,
            limit=150.0,
            rounds=5,
            **fields,
        )
        for fields in (
            shallow,
            {
                "name": "patch-d200",
                "num_layers": 200,
                "contestants": contestants,
                "left_out": deep,
            },
        )
    ]


def _wide() -> list[Case]:
    return [
        Case(f"{template}-n384", "384 qubits", "dense", 4096, OURS, template, 384, quick=True)
        for template in ("ry_ring", "rx_ring")
    ]


_MNIST = {
    "image_shape": (28, 28, 1),
    "num_classes": 10,
    "patch_size": 14,
    "hidden_dim": 6,
    "num_heads": 2,
    "mlp_dim": 3,
}
_CIFAR10 = {
    "image_shape": (32, 32, 3),
    "num_classes": 10,
    "patch_size": 16,
    "hidden_dim": 12,
    "num_heads": 6,
    "mlp_dim": 6,
}


def _plain(blocks: int) -> dict:
    return {"num_encoder_blocks": blocks, "num_ode_blocks": 0, "num_decoder_blocks": 0}


def _training() -> list[Case]:
    common = ("training step", "training", 64, _STEPS)
    cases = [Case("qvit_rk4_digits", *common, preset="qvit_rk4_digits")]
    for shape, preset, whole in (
        ("thesis", "qvit_rk4_mnist", {}),
        ("plain", "", _MNIST | _plain(4)),
    ):
        for template, layers in (("ry_ring", 1), ("rx_ring", 1), ("hardware_efficient", 3)):
            cases.append(
                Case(
                    f"qvit-{shape}-{template}",
                    *common,
                    preset=preset,
                    model=whole | {"template": template, "num_ansatz_layers": layers},
                    quick=shape == "plain" and layers == 1,
                    # XLA takes minutes over the mixing circuits of all blocks.
                    limit=300.0 if layers == 1 else 120.0,
                )
            )
    return cases


def presets(measured: Collection[Case], zoo: Path = ZOO) -> dict[str, Case]:
    """The case of every classifier among the package's presets.

    Args:
        measured: cases; one that trains a preset with nothing changed is that preset's.
        zoo: the folder of the models.
    """
    cases = {}
    for file in sorted(zoo.glob("*/presets/*/config.json"), key=lambda file: file.parent.name):
        preset = json.loads(file.read_text(encoding="utf-8"))
        # Of the others, GANs and PatchQNNs have cases of their own, and feature networks no twin.
        if preset["class_name"] not in ("QText", "QViT"):
            continue
        name, config = file.parent.name, preset["config"]
        same = [
            case
            for case in measured
            if case.preset == name
            and all(config.get(key) == value for key, value in case.model.items())
        ]
        cases[name] = same[0] if same else _preset(name, file.with_name("recipe.json"))
    return cases


def _preset(name: str, recipe: Path) -> Case:
    batch = 64  # a recipe's default, and that of a preset without one
    if recipe.exists():
        batch = json.loads(recipe.read_text(encoding="utf-8"))["recipe"].get("batch_size", batch)
    return Case(
        f"preset-{name}",
        "presets",
        "training",
        # ImageNet's too: its presets read 32x32 images, so that a step is a matter of milliseconds.
        batch,
        _STEPS,
        preset=name,
        # Fewer than elsewhere: they are many, and their table has no quartiles.
        rounds=5,
        # Texts have no other case; this one has the fewest stages.
        quick=name == "qtext_rk1_imdb",
    )


def _patches() -> list[Case]:
    return [
        Case(
            f"patch_qnn_p{patches}_d50",
            "Kawase's networks",
            "training",
            1000,
            _STEPS,
            preset=f"patch_qnn_p{patches}_d50_mnist",
            rounds=5,
        )
        for patches in (4, 9, 16)
    ]


def _gans() -> list[Case]:
    cases = [
        Case(f"{preset}-{kind}", "GAN step", kind, 32, _STEPS, preset=preset)
        for preset in ("qrkt_gan_mnist", "qrkt_gan_mnist_thesis")
        for kind in ("critic", "generator")
    ]
    whole = Case(
        "qrkt_gan_cifar10",
        "GAN step",
        "gan",
        32,
        ("qrkt-tf",),
        preset="qrkt_gan_cifar10",
        rounds=3,
    )
    return [*cases, whole]


def _reference() -> list[Case]:
    contestants = (*_STEPS, "reference")
    return [
        Case(
            f"reference-{name}",
            "reference transformer",
            "training",
            64,
            contestants,
            model=shape | _plain(blocks) | {"template": "rx_ring"},
            rounds=5,
            quick=name == "mnist",
        )
        for name, shape, blocks in (("mnist", _MNIST, 4), ("cifar10", _CIFAR10, 6))
    ]


def _sweeps() -> list[Case]:
    """Points around 8 qubits, 3 layers, 256 rows; the plots are drawn along each axis."""
    points = [(qubits, 3, 256) for qubits in range(2, 15, 2)]
    points += [(8, layers, 256) for layers in (1, 6, 12, 24)]
    points += [(8, 3, batch) for batch in (64, 1024, 4096)]
    return [
        Case(
            f"sweep-n{qubits}-l{layers}-b{batch}",
            "sweep",
            "circuit",
            batch,
            _SWEEP,
            "hardware_efficient",
            qubits,
            layers,
            limit=30.0,
            rounds=3,
        )
        for qubits, layers, batch in points
    ]


_TRAINING = _training()
# Preset to case: one of its own, or the one above that measures it anyway.
PRESETS = presets(_TRAINING)
CASES = (
    *_circuits(),
    *_kawase(),
    *_wide(),
    *_TRAINING,
    *(case for case in PRESETS.values() if case not in _TRAINING),
    *_patches(),
    *_gans(),
    *_reference(),
    *_sweeps(),
)
