"""The reference transformer: github salcc/QuantumTransformers, Flax on TensorCircuit.

It is imported from the checkout that QRKT_REFERENCE names; nothing of it is copied here. Its own
training loop is written for an older JAX, so the step is ours: AdamW, a clipped gradient, jitted.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from benchmarks.cases import Case, Refused, Subject

STEPS = 3


class Reference:
    """Its VisionTransformer with its default circuit, and the same without circuits."""

    def __init__(self):
        import jax
        import optax
        import tensorcircuit

        tensorcircuit.set_backend("jax")
        tensorcircuit.set_dtype("complex64")
        self._jax, self._optax = jax, optax

    def prepare(self, case: Case) -> dict[str, Subject]:
        """Steps of the quantum model and of its twin."""
        folder = os.environ.get("QRKT_REFERENCE")
        if not folder:
            raise Refused("QRKT_REFERENCE names no checkout of github salcc/QuantumTransformers")
        # Without its __init__, which loads data sets that are of no use here.
        package = types.ModuleType("quantum_transformers")
        package.__path__ = [str(Path(folder) / "quantum_transformers")]
        sys.modules.setdefault("quantum_transformers", package)
        from quantum_transformers.quantum_layer import get_circuit

        circuits = {"quantum": get_circuit(), "twin": None}
        return {variant: self._subject(case, circuit) for variant, circuit in circuits.items()}

    def _subject(self, case: Case, circuit) -> Subject:
        import numpy as np
        from quantum_transformers.transformers import VisionTransformer

        jax, optax, shape = self._jax, self._optax, case.model
        model = VisionTransformer(
            num_classes=shape["num_classes"],
            patch_size=shape["patch_size"],
            hidden_size=shape["hidden_dim"],
            num_heads=shape["num_heads"],
            num_transformer_blocks=shape["num_encoder_blocks"],
            mlp_hidden_size=shape["mlp_dim"],
            quantum_attn_circuit=circuit,
            quantum_mlp_circuit=circuit,
        )
        rng = np.random.default_rng(0)
        images = rng.uniform(size=(case.batch, *shape["image_shape"])).astype("float32")
        labels = rng.integers(0, shape["num_classes"], case.batch)
        weights = model.init(jax.random.key(0), images, train=False)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))

        @jax.jit
        def step(state):
            weights, moments, key = state
            key, dropout = jax.random.split(key)

            def loss(weights):
                logits = model.apply(weights, images, train=True, rngs={"dropout": dropout})
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            updates, moments = optimizer.update(jax.grad(loss)(weights), moments, weights)
            return optax.apply_updates(weights, updates), moments, key

        state = (weights, optimizer.init(weights), jax.random.key(1))

        def call():
            nonlocal state
            for _ in range(STEPS):
                state = step(state)
            jax.block_until_ready(state)

        parameters = sum(leaf.size for leaf in jax.tree.leaves(weights))
        return Subject(call, 1 / STEPS, parameters=parameters)
