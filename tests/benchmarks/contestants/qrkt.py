"""This project, on TensorFlow with and without XLA, and on Keras with JAX."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cases import Case, Refused, Subject, arrays

# Steps of a model in one call, so that what Keras does around them does not count.
STEPS = 50


class _Qrkt:
    """What does not depend on the backend."""

    def prepare(self, case: Case) -> dict[str, Subject]:
        """The case's subjects by variant; the quantum one comes first."""
        from qrkt_keras.execution import UnsupportedCircuitError

        makers = {"circuit": self._circuit, "dense": self._dense, "training": self._training}
        makers |= dict.fromkeys(("critic", "generator", "gan"), self._gan)
        try:
            return makers[case.kind](case)
        except UnsupportedCircuitError as error:
            raise Refused(str(error)) from error

    def _circuit(self, case: Case) -> dict[str, Subject]:
        from qrkt_keras.execution import make_engine

        engine = make_engine(_spec(case))

        def values(inputs, weights):
            return engine.expectation(inputs[:, None], weights[None])[:, 0]

        inputs, weights, upstream = arrays(case)
        call = self._gradient(values, upstream, inputs, weights)
        return {"quantum": Subject(call, note=engine.name), **self._limit(engine, case)}

    def _dense(self, case: Case) -> dict[str, Subject]:
        import keras
        import numpy as np

        from qrkt_keras.layers import PQC

        layers = {"quantum": PQC(_spec(case)), "twin": keras.layers.Dense(case.num_qubits)}
        rng = np.random.default_rng(0)
        inputs = rng.uniform(-1, 1, (case.batch, case.num_qubits)).astype("float32")
        upstream = rng.uniform(-1, 1, (case.batch, case.num_qubits)).astype("float32")
        subjects = {}
        for variant, layer in layers.items():
            layer.build(inputs.shape)

            def values(inputs, *weights, layer=layer):
                return layer.stateless_call(weights, [], inputs)[0]

            # Not the layers' own draws, which differ between backends.
            weights = [
                rng.uniform(-1, 1, weight.shape).astype("float32")
                for weight in layer.trainable_variables
            ]
            subjects[variant] = Subject(self._gradient(values, upstream, inputs, *weights))
        return subjects

    def _limit(self, engine, case: Case) -> dict[str, Subject]:
        return {}

    def _training(self, case: Case) -> dict[str, Subject]:
        raise Refused("training steps are measured on TensorFlow")

    def _gan(self, case: Case) -> dict[str, Subject]:
        raise Refused("GANs are trained on TensorFlow")

    def _gradient(self, function: Callable, upstream, *operands) -> Callable:
        raise NotImplementedError


class TensorFlow(_Qrkt):
    """One `tf.function`."""

    jit_compile = False

    def __init__(self):
        import keras
        import tensorflow

        import qrkt_keras.execution  # noqa: F401
        import qrkt_keras.zoo  # noqa: F401

        assert keras.backend.backend() == "tensorflow"
        self._tf = tensorflow

    def _gradient(self, function: Callable, upstream, *operands) -> Callable:
        tf = self._tf

        @tf.function(jit_compile=self.jit_compile)
        def gradient(upstream, *operands):
            with tf.GradientTape() as tape:
                tape.watch(operands)
                values = function(*operands)
            return values, *tape.gradient(values, operands, output_gradients=upstream)

        tensors = [tf.constant(array) for array in (upstream, *operands)]
        return lambda: tuple(array.numpy() for array in gradient(*tensors))

    def _limit(self, engine, case: Case) -> dict[str, Subject]:
        """The engine's matrix products and nothing else: value and gradient take three times each.

        They run at the shapes used, on operands that stay in the cache, and no engine that is made
        of them can be faster.
        """
        shapes = getattr(engine, "matrix_products", None)
        if shapes is None or not (shapes := shapes(case.batch)):
            return {}
        tf = self._tf
        products = [
            (tf.random.normal((rows, inner)), tf.random.normal((inner, columns)), count)
            for rows, inner, columns, count in shapes
        ]

        def call():
            for left, right, count in products:
                for _ in range(3 * count):
                    tf.linalg.matmul(left, right)

        return {"limit": Subject(call)}

    def _training(self, case: Case) -> dict[str, Subject]:
        import keras
        import numpy as np

        from qrkt_keras import zoo

        tf, subjects = self._tf, {}
        for variant in ("quantum", "twin"):
            keras.utils.set_random_seed(0)
            options = {**case.model, "quantum": variant == "quantum"}
            if case.preset:
                model = zoo.from_preset(case.preset, load_weights=False, **options)
            else:
                model = zoo.QViT(**options)
            rng = np.random.default_rng(0)
            if isinstance(model, zoo.QText):
                # As `vectorize` gives them, and none shorter than what the model reads at most.
                shape = (case.batch, model.max_length)
                examples = rng.integers(1, model.vocab_size, shape, dtype=np.int32)
                steps = 1  # one takes seconds
            else:
                shape = (case.batch, *model.image_shape)
                examples = rng.uniform(size=shape).astype("float32")
                steps = 1 if isinstance(model, zoo.PatchQNN) else STEPS  # or one takes seconds
            labels = rng.integers(0, model.num_classes, case.batch)
            model.compile(
                keras.optimizers.AdamW(1e-3, global_clipnorm=1.0),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=self.jit_compile,
                steps_per_execution=steps,
            )
            # Keras' own compiled steps, without what `fit` does once an epoch.
            model.make_train_function()
            batches = iter(tf.data.Dataset.from_tensors((examples, labels)).repeat())

            def call(train=model.train_function, batches=batches):
                for value in train(batches).values():
                    float(value)

            subjects[variant] = Subject(call, 1 / steps, parameters=model.count_params())
        return subjects

    def _gan(self, case: Case) -> dict[str, Subject]:
        import keras
        import numpy as np

        from qrkt_keras.training.train_gan import compile_arguments
        from qrkt_keras.zoo import QRKTGAN, read_preset

        # Of the full size the memory counts: one model a process.
        whole = case.kind == "gan"
        tf, subjects = self._tf, {}
        for variant in ("quantum",) if whole else ("quantum", "twin"):
            keras.utils.set_random_seed(0)
            recipe = read_preset(case.preset).recipe
            model = QRKTGAN.from_preset(
                case.preset, load_weights=False, quantum=variant == "quantum", **case.model
            )
            model.compile(**compile_arguments(recipe))
            rows = case.batch * (recipe.num_critic_steps if whole else 1)
            rng = np.random.default_rng(0)
            images = tf.constant(rng.integers(0, 256, (rows, *model.image_shape), dtype=np.uint8))

            @tf.function(jit_compile=self.jit_compile)
            def step(images, model=model):
                if whole:
                    model.train_step(images)
                elif case.kind == "critic":
                    model._update_discriminator(model._scaled(images), None)
                else:
                    model._update_generator(case.batch, None)

            steps = 1 if whole else STEPS // 10

            def call(step=step, images=images, model=model, steps=steps):
                for _ in range(steps):
                    step(images)
                float(model.trackers["generator_loss"].result())

            networks = model.generator, model.discriminator
            parameters = sum(network.count_params() for network in networks)
            subjects[variant] = Subject(call, 1 / steps, parameters=parameters)
        return subjects


class TensorFlowXLA(TensorFlow):
    """One `tf.function` compiled by XLA."""

    jit_compile = True

    def _limit(self, engine, case: Case) -> dict[str, Subject]:
        """Measured once, beside TensorFlow without XLA."""
        return {}


class JAX(_Qrkt):
    """Keras on JAX, jitted."""

    def __init__(self):
        import jax
        import keras

        import qrkt_keras.execution
        import qrkt_keras.layers  # noqa: F401

        assert keras.backend.backend() == "jax"
        self._jax = jax

    def _gradient(self, function: Callable, upstream, *operands) -> Callable:
        jax = self._jax

        @jax.jit
        def gradient(upstream, *operands):
            values, pull_back = jax.vjp(function, *operands)
            return values, *pull_back(upstream)

        tensors = [jax.numpy.asarray(array) for array in (upstream, *operands)]
        return lambda: jax.block_until_ready(gradient(*tensors))


def _spec(case: Case):
    from qrkt_keras.circuits import templates

    if case.template == "patch":
        return templates.patch(case.num_layers)
    return templates.get(case.template, case.num_qubits, case.num_layers)
