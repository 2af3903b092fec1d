"""Generator and discriminator as one Keras model, with the step that trains them."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from qrkt_keras.execution import check_engine_options, make_engine, sampling, tfq
from qrkt_keras.layers import PQC
from qrkt_keras.layers.pqc import circuit_layers
from qrkt_keras.layers.projection import positive_integer, positive_number
from qrkt_keras.serving import export_saved_model
from qrkt_keras.training import GANLoss, GANRecipe, drift_penalty, gradient_penalty
from qrkt_keras.zoo import presets

if TYPE_CHECKING:
    import tensorflow as tf


# So many batches at most are made operation by operation.
_MOST_EAGER = 8


@keras.saving.register_keras_serializable(package="qrkt_keras")
class GAN(keras.Model):
    """A generator and a discriminator that are trained against each other.

    One step of `fit` takes a batch of `num_critic_steps` parts of images, updates the discriminator
    once on each part, then the generator once, and then the generator's moving average

    `w_ema <- beta w_ema + (1 - beta) w`, `beta = 0.5^(B / min(ema_images, 0.1 * images seen))`,

    which is what `generate` uses. Of an epoch's last batch, if it has fewer images than parts, some
    serve again. Source: Karras et al., *Training Generative Adversarial Networks
    with Limited Data*, NeurIPS 2020 (the average); Gulrajani et al., *Improved Training of
    Wasserstein GANs*, NeurIPS 2017 (the order of steps).

    Args:
        generator: A model from noise `(B, latent_dim)`, and labels `(B,)` if it has a second input,
            to images `(B, height, width, channels)` in [-1, 1]. One with labels has an `Embedding`
            of them called `"classes"`, which tells their number.
        discriminator: A model from such images, and labels, to logits `(B, 1)`.
        seed: Seed of noise, augmentation and interpolation.
        name: Name of the model.
        **kwargs: As of `keras.Model`: `dtype`, `trainable`.

    Call arguments:
        inputs: Noise of shape `(B, latent_dim)`; with classes `[noise, labels]`.

    Returns:
        Images of shape `(B, height, width, channels)`, by the averaged generator.

    Raises:
        ValueError: If the two do not fit each other, or a generator with labels does not tell how
            many there are.

    Example:

    >>> import keras
    >>> from qrkt_keras.zoo import GAN
    >>> generator = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(16), keras.layers.Reshape((4, 4, 1))])
    >>> discriminator = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    >>> gan = GAN(generator, discriminator)
    >>> gan.generate(3, seed=7).shape
    (3, 4, 4, 1)
    """

    recipe_class = GANRecipe

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        *,
        seed: int = 0,
        name: str | None = "gan",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        shapes = generator.output_shape[1:], discriminator.inputs[0].shape[1:]
        if shapes[0] != tuple(shapes[1]) or len(shapes[0]) != 3:
            raise ValueError(
                "The generator must make the images that the discriminator takes. Received: "
                f"images of shape {shapes[0]} for a discriminator of {tuple(shapes[1])}"
            )
        if len(generator.inputs) != len(discriminator.inputs):
            raise ValueError(
                "Generator and discriminator must both take labels, or neither. Received: "
                f"{len(generator.inputs)} and {len(discriminator.inputs)} inputs"
            )
        self.generator = generator
        self.discriminator = discriminator
        self.ema_generator = keras.models.clone_model(generator)
        self.ema_generator.set_weights(generator.get_weights())
        self.ema_generator.trainable = False
        self.image_shape = tuple(shapes[0])
        self.latent_dim = generator.inputs[0].shape[-1]
        self.num_classes = _num_classes(generator)
        engines = {layer.engine for layer in self.pqcs}
        self.engine = engines.pop() if len(engines) == 1 else "auto"
        self._jit_set_aside = False
        self._generate_function = None
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.images_seen = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="images_seen"
        )
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.ema_generator(inputs, training=training)

    # --- training ------------------------------------------------------------------------

    def compile(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        discriminator_optimizer: keras.optimizers.Optimizer,
        loss: str | GANLoss = "wasserstein",
        *,
        num_critic_steps: int = 1,
        generator_batch_size: int | None = None,
        gradient_penalty_weight: float = 10.0,
        gradient_penalty_target: float = 1.0,
        gradient_penalty_one_sided: bool = False,
        drift: float = 0.0,
        augment: keras.layers.Layer | None = None,
        flip: bool = False,
        ema_images: float = 500_000,
        jit_compile: bool | str = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Says how to train. A refused call changes nothing.

        Args:
            generator_optimizer, discriminator_optimizer: Keras optimizers, one for each network.
            loss: `"wasserstein"`, `"non_saturating"`, `"minimax"`, `"hinge"`, `"least_squares"`, or
                a `GANLoss`.
            num_critic_steps: Updates of the discriminator for one of the generator.
            generator_batch_size: Images of the generator's update; by default those of one of the
                discriminator's.
            gradient_penalty_weight: Of the gradient penalty; 0 for none.
            gradient_penalty_target: The norm that the penalty asks for.
            gradient_penalty_one_sided: Whether only larger norms are penalised.
            drift: Weight of the squared mean of the real logits.
            augment: A layer applied to real and generated images before the discriminator, such as
                `DiffAugment`.
            flip: Whether real images are mirrored, left to right, at random.
            ema_images: The average's half-life: how many images later a weight counts half as much
                in it. At the beginning it is shorter, a tenth of the images seen.
            jit_compile: Whether to compile the step with XLA, which on a CPU makes it slower;
                `"auto"` as in `keras.Model.compile`. Never with an engine that XLA cannot compile.
            run_eagerly, steps_per_execution: As of `keras.Model.compile`.

        Raises:
            TypeError: If an optimizer is not an object of Keras', or `augment` is no layer.
            ValueError: If a value is out of range, both networks have the same optimizer, or a
                gradient penalty is asked of circuits on TensorFlow Quantum's operations, which have
                no second derivative.
        """
        num_critic_steps = positive_integer("num_critic_steps", num_critic_steps)
        if generator_batch_size is not None:
            generator_batch_size = positive_integer("generator_batch_size", generator_batch_size)
        loss = loss if isinstance(loss, GANLoss) else GANLoss(loss)
        gradient_penalty_weight = _at_least_0("gradient_penalty_weight", gradient_penalty_weight)
        gradient_penalty_target = positive_number(
            "gradient_penalty_target", gradient_penalty_target
        )
        drift = _at_least_0("drift", drift)
        ema_images = positive_number("ema_images", ema_images)
        _check_optimizers(generator_optimizer, discriminator_optimizer)
        if augment is not None and not isinstance(augment, keras.layers.Layer):
            raise TypeError(f"`augment` must be a layer or None. Received: augment={augment!r}")
        if gradient_penalty_weight:
            _check_second_derivatives(layer.engine for layer in circuit_layers(self.discriminator))
        super().compile(
            optimizer=None,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )
        self._jit_set_aside = False
        self.num_critic_steps = num_critic_steps
        self.generator_batch_size = generator_batch_size
        self.loss_function = loss
        self.gradient_penalty_weight = gradient_penalty_weight
        self.gradient_penalty_target = gradient_penalty_target
        self.gradient_penalty_one_sided = bool(gradient_penalty_one_sided)
        self.drift = drift
        self.augment = augment
        self.flip = bool(flip)
        self.ema_images = ema_images
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)
        names = ["generator_loss", "discriminator_loss", "real_logits", "fake_logits", "diversity"]
        if self.gradient_penalty_weight:
            names.append("penalty")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self._discriminator_function = None

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`, which a `.keras` file keeps."""
        if not self.compiled:
            return {}
        names = [*inspect.signature(GAN.compile).parameters][1:]
        return {
            **{name: getattr(self, name) for name in names if name != "loss"},
            "loss": dataclasses.asdict(self.loss_function),
            "jit_compile": self.jit_compile or self._jit_set_aside,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Calls `compile` as `get_compile_config` says."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**{**config, "loss": GANLoss(**config["loss"])})

    @property
    def optimizers(self) -> Mapping[str, keras.optimizers.Optimizer]:
        """The optimizers by the network that they train, for checkpoints."""
        return {
            "generator": self.generator_optimizer,
            "discriminator": self.discriminator_optimizer,
        }

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What `fit` logs, and resets before every epoch."""
        return [*getattr(self, "trackers", {}).values()]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Updates the discriminator `num_critic_steps` times, and the generator once."""
        import tensorflow as tf

        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        labels = self._training_labels(labels)
        if self._discriminator_function is None:
            # One graph for all updates: it is the larger part of what has to be traced.
            self._discriminator_function = tf.function(self._update_discriminator, autograph=False)
        count = images.shape[0]
        if count is None:
            # An epoch's last batch may have fewer images than there are updates: some serve again.
            count = tf.maximum(tf.shape(images)[0], self.num_critic_steps)
            chosen = tf.range(count) % tf.shape(images)[0]
            images = tf.gather(images, chosen)
            labels = None if labels is None else tf.gather(labels, chosen)
        elif count < self.num_critic_steps:
            raise ValueError(
                "A batch must have an image for every update of the discriminator. Received: "
                f"{count} images with num_critic_steps={self.num_critic_steps}"
            )
        size = count // self.num_critic_steps
        for step in range(self.num_critic_steps):
            part = slice(step * size, (step + 1) * size)
            own = None if labels is None else labels[part]
            self._discriminator_function(self._scaled(images[part]), own)
        self._update_generator(self.generator_batch_size or size, labels)
        self.images_seen.assign_add(float(self.num_critic_steps) * tf.cast(size, tf.float32))
        self._update_average(tf.cast(size, tf.float32))
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def _training_labels(self, labels: Any) -> Any:
        """Labels as the networks take them, checked; None without classes."""
        import tensorflow as tf

        if self.num_classes is None:
            return None
        if labels is None or len(labels.shape) != 1:
            received = "labels=None" if labels is None else f"labels of shape {labels.shape}"
            raise ValueError(
                "With classes, a batch is images and their labels, integers of shape (B,). "
                f"Received: {received}"
            )
        labels = tf.cast(labels, tf.int32)
        good = tf.reduce_all((labels >= 0) & (labels < self.num_classes))
        words = f"Labels must be integers from 0 to {self.num_classes - 1}. Received: labels="
        # Of no effect under XLA, which has no assertions.
        with tf.control_dependencies([tf.debugging.Assert(good, [words, labels])]):
            return tf.identity(labels)

    def _scaled(self, images: Any) -> Any:
        """Images as the networks have them: floats in [-1, 1]."""
        import tensorflow as tf

        if images.dtype == tf.uint8:
            images = tf.cast(images, tf.float32) / 127.5 - 1.0
        if self.flip:
            shape = (tf.shape(images)[0], 1, 1, 1)
            mirrored = keras.random.uniform(shape, seed=self.seed_generator) < 0.5
            images = tf.where(mirrored, tf.reverse(images, [2]), images)
        return images

    def _fakes(self, size: Any, labels: Any, training: bool) -> Any:
        noise = keras.random.normal((size, self.latent_dim), seed=self.seed_generator)
        return self.generator(noise if labels is None else [noise, labels], training=training)

    def _logits(self, images: Any, labels: Any) -> Any:
        if self.augment is not None:
            images = self.augment(images, training=True)
        inputs = images if labels is None else [images, labels]
        return self.discriminator(inputs, training=True)[:, 0]

    def _update_discriminator(self, real: tf.Tensor, labels: tf.Tensor | None) -> None:
        import tensorflow as tf

        size = tf.shape(real)[0] if real.shape[0] is None else real.shape[0]
        fake = tf.stop_gradient(self._fakes(size, labels, training=True))
        penalty = None
        with tf.GradientTape() as tape:
            real_logits, fake_logits = self._logits(real, labels), self._logits(fake, labels)
            loss = self.loss_function.discriminator(real_logits, fake_logits)
            total = loss
            if self.gradient_penalty_weight:
                penalty = gradient_penalty(
                    lambda images: self._logits(images, labels),
                    real,
                    fake,
                    keras.random.uniform((size, 1, 1, 1), seed=self.seed_generator),
                    weight=self.gradient_penalty_weight,
                    target=self.gradient_penalty_target,
                    one_sided=self.gradient_penalty_one_sided,
                )
                total = total + penalty
            if self.drift:
                total = total + drift_penalty(real_logits, self.drift)
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(total, variables), variables)
        self.trackers["discriminator_loss"].update_state(loss)
        self.trackers["real_logits"].update_state(tf.reduce_mean(real_logits))
        self.trackers["fake_logits"].update_state(tf.reduce_mean(fake_logits))
        # Of one image alone it is not known: NaN, or of no weight where others have more.
        known = 1.0 if real.shape[0] is not None else tf.cast(size > 1, tf.float32)
        spreads = tf.math.divide_no_nan if real.shape[0] is None else tf.divide
        self.trackers["diversity"].update_state(spreads(_spread(fake), _spread(real)), known)
        if penalty is not None:
            self.trackers["penalty"].update_state(penalty)

    def _update_generator(self, size: Any, labels: Any) -> None:
        import tensorflow as tf

        if labels is not None:
            labels = tf.gather(labels, tf.range(size) % tf.shape(labels)[0])
        with tf.GradientTape() as tape:
            logits = self._logits(self._fakes(size, labels, training=True), labels)
            loss = self.loss_function.generator(logits)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        self.trackers["generator_loss"].update_state(loss)

    def _update_average(self, size: Any) -> None:
        import tensorflow as tf

        reach = tf.minimum(self.ema_images, 0.1 * self.images_seen.value)
        beta = tf.pow(0.5, size / reach)
        pairs = zip(self.ema_generator.weights, self.generator.weights, strict=True)
        for average, weight in pairs:
            average.assign(weight + tf.cast(beta, average.dtype) * (average - weight))

    # --- use -----------------------------------------------------------------------------

    def generate(
        self,
        num: int,
        seed: int = 0,
        truncation: float | None = None,
        *,
        labels: Any = None,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Makes images.

        Args:
            num: How many.
            seed: Seed of the noise, from 0 to 2**31 - 1: the same seed gives the same images.
            truncation: The largest absolute value of the noise, drawn from the normal distribution
                cut off there (Brock et al., *BigGAN*, ICLR 2019): smaller values give better and
                more alike images. None for no limit.
            labels: With classes, `(num,)` integers; by default all classes in turn.
            batch_size: Images made at a time.

        Returns:
            uint8 images of shape `(num, height, width, channels)`.

        Raises:
            ValueError: If an argument is out of range, or there are labels but no classes.
            FloatingPointError: If the generator's weights have become NaN or infinite.
        """
        import tensorflow as tf

        num = positive_integer("num", num)
        batch_size = positive_integer("batch_size", batch_size)
        whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
        if not whole or not 0 <= seed < 2**31:
            raise ValueError(
                f"`seed` must be an integer from 0 to 2**31 - 1. Received: seed={seed!r}"
            )
        if truncation is not None:
            truncation = positive_number("truncation", truncation)
        noise = latent_noise(num, self.latent_dim, seed, truncation)
        labels = self._checked_labels(num, labels)
        inputs = [noise] if labels is None else [noise, tf.constant(labels)]
        make = self._make_images
        if num > _MOST_EAGER * batch_size:
            # Compiling takes as long as some batches; measurements make a hundred and more.
            if self._generate_function is None:
                specs = [
                    tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in inputs
                ]
                self._generate_function = tf.function(
                    make, input_signature=[specs], autograph=False
                )
            make = self._generate_function
        images = []
        for start in range(0, num, batch_size):
            made = make([tensor[start : start + batch_size] for tensor in inputs])
            if not np.isfinite(made).all():
                raise FloatingPointError(
                    "The generator no longer makes numbers, for its training has diverged: take an "
                    f"earlier checkpoint. Received: NaN or infinite pixels of seed={seed}"
                )
            images.append(to_uint8(made).numpy())
        return np.concatenate(images)

    def _make_images(self, inputs: list[Any]) -> Any:
        return self.ema_generator(inputs if len(inputs) > 1 else inputs[0], training=False)

    def _checked_labels(self, num: int, labels: Any) -> np.ndarray | None:
        if self.num_classes is None:
            if labels is not None:
                raise ValueError(f"This GAN has no classes. Received: labels={labels!r}")
            return None
        if labels is None:
            return np.arange(num, dtype="int32") % self.num_classes
        values = np.asarray(labels)
        whole = values.shape == (num,) and np.issubdtype(values.dtype, np.integer)
        if not whole or values.min() < 0 or values.max() >= self.num_classes:
            raise ValueError(
                f"`labels` must be {num} integers from 0 to {self.num_classes - 1}. "
                f"Received: labels={labels!r}"
            )
        return values.astype("int32")

    def serving_signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of a SavedModel: `(num, seed)` to uint8 images."""
        import tensorflow as tf

        def generate(num: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
            noise = latent_noise(num, self.latent_dim, seed)
            inputs = noise
            if self.num_classes is not None:
                inputs = [noise, tf.range(num) % self.num_classes]
            return {"images": to_uint8(self.ema_generator(inputs, training=False))}

        function = tf.function(generate, autograph=False).get_concrete_function(
            tf.TensorSpec((), tf.int32, name="num"), tf.TensorSpec((), tf.int32, name="seed")
        )
        return {"serving_default": function, "generate": function}

    def export(
        self, filepath: str | os.PathLike[str], *, overwrite: bool = False, **kwargs: Any
    ) -> None:
        """Writes a SavedModel that stock TensorFlow can run, with a signature `generate`.

        Args:
            filepath: The folder to be made.
            overwrite: Whether to replace a SavedModel that is there.
            **kwargs: `engine`, as of `serving.export_saved_model`.

        Raises:
            As `serving.export_saved_model`.
        """
        export_saved_model(self, filepath, overwrite=overwrite, **kwargs)

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike[str], load_weights: bool = True, **overrides: Any
    ) -> GAN:
        """Makes the GAN of a preset, see `zoo.from_preset`."""
        return presets.from_preset(preset, load_weights=load_weights, expected=cls, **overrides)

    def save_to_preset(self, folder: str | os.PathLike[str], **kwargs: Any) -> Path:
        """Writes the GAN as a preset, see `zoo.save_to_preset`."""
        return presets.save_to_preset(self, folder, **kwargs)

    # --- circuits ------------------------------------------------------------------------

    @property
    def pqcs(self) -> tuple[PQC, ...]:
        """All circuits of both networks, as layers; not those of the average."""
        return circuit_layers(self.generator) + circuit_layers(self.discriminator)

    @property
    def num_qubits(self) -> int:
        """Qubits of all circuits of both networks together; 0 for a classical GAN."""
        return sum(layer.num_qubits for layer in self.pqcs)

    @property
    def num_quantum_params(self) -> int:
        """How many weights of both networks are angles of circuits."""
        return sum(layer.count_params() for layer in self.pqcs)

    def set_engine(self, engine: str, **sampled: Any) -> None:
        """Changes how the circuits are computed; no weight changes.

        If it is refused, all stay as they were. Functions that Keras has compiled are compiled anew
        at their next use, under XLA only where the engine allows it.

        Args:
            engine: One of `qrkt_keras.execution.ENGINES`, or `"sampling"`.
            **sampled: Of `"sampling"`, see `Classifier.set_engine`.

        Raises:
            ValueError: If there is no such engine, or it has no second derivatives and the model
                was compiled with a gradient penalty.
            UnsupportedCircuitError: If the engine refuses a circuit.
        """
        check_engine_options(engine, sampled)
        for layer in self.pqcs:
            make_engine(layer.spec, engine, **sampled)
        if self.compiled and self.gradient_penalty_weight and circuit_layers(self.discriminator):
            _check_second_derivatives([engine])
        jit_compile = self.jit_compile or self._jit_set_aside
        self.engine = engine
        for network in (self.generator, self.discriminator, self.ema_generator):
            # Those inside a nested model too.
            for layer in network._flatten_layers(include_self=False):
                # A sampler is for the circuits alone; no configuration holds it.
                if isinstance(layer, PQC) or (
                    engine != sampling.NAME and hasattr(layer, "set_engine")
                ):
                    layer.set_engine(engine, **sampled)
        supports_jit = all(layer.supports_jit for layer in self.pqcs)
        self.jit_compile = jit_compile and supports_jit
        self._jit_set_aside = jit_compile and not supports_jit
        self.train_function = self.test_function = self.predict_function = None
        self._discriminator_function = self._generate_function = None

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "generator": serialize(self.generator),
            "discriminator": serialize(self.discriminator),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GAN:
        deserialize = keras.saving.deserialize_keras_object
        networks = {name: deserialize(config[name]) for name in ("generator", "discriminator")}
        return cls(**{**config, **networks})


def latent_noise(num: Any, latent_dim: int, seed: Any, truncation: float | None = None) -> Any:
    """Normal noise `(num, latent_dim)`, a function of the seed; cut off at `truncation`."""
    import tensorflow as tf

    shape, key = tf.stack([num, latent_dim]), tf.stack([tf.cast(seed, tf.int32), 0])
    if truncation is None:
        return tf.random.stateless_normal(shape, key)
    # Phi(t): where the distribution function is cut.
    tail = 0.5 * (1 + math.erf(truncation / math.sqrt(2)))
    uniform = tf.random.stateless_uniform(shape, key, 1 - tail, tail, dtype=tf.float64)
    return tf.cast(tf.math.ndtri(uniform), tf.float32)


def to_uint8(images: Any) -> Any:
    """Images in [-1, 1] as bytes; what is outside is clipped."""
    import tensorflow as tf

    return tf.cast(tf.round(tf.clip_by_value((images + 1.0) * 127.5, 0.0, 255.0)), tf.uint8)


def _spread(images: Any) -> Any:
    """How much the images of a batch differ: the mean over pixels of the standard deviation."""
    import tensorflow as tf

    return tf.reduce_mean(tf.math.reduce_std(images, axis=0))


def _num_classes(generator: keras.Model) -> int | None:
    """The number of classes of a generator with labels, else None."""
    if len(generator.inputs) == 1:
        return None
    named = {layer.name: layer for layer in generator.layers}
    shapes = [tuple(given.shape) for given in generator.inputs]
    good = len(shapes) == 2 and len(shapes[1]) == 1
    if not good or not isinstance(named.get("classes"), keras.layers.Embedding):
        raise ValueError(
            "A generator with labels takes noise (B, latent_dim) and labels (B,), and has an "
            "Embedding called 'classes' that tells their number. "
            f"Received: inputs of shapes {shapes}, layers {[*named]}"
        )
    return named["classes"].input_dim


def _check_optimizers(generator: Any, discriminator: Any) -> None:
    for name, optimizer in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                f"`{name}_optimizer` must be an optimizer such as keras.optimizers.Adam(1e-4). "
                f"Received: {name}_optimizer={optimizer!r}"
            )
    if generator is discriminator:
        raise ValueError(
            f"Each network needs an optimizer of its own. Received: the same {generator!r} for both"
        )


def _check_second_derivatives(engines: Iterable[str]) -> None:
    without = {tfq.NAME, sampling.NAME} & set(engines)
    if without:
        raise ValueError(
            "A gradient penalty needs second derivatives, which TensorFlow Quantum's operations "
            "and samplers do not have: choose another engine for the discriminator, or "
            f"gradient_penalty_weight=0. Received: engine='{without.pop()}'"
        )


def _at_least_0(name: str, value: Any) -> float:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not good or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={value!r}")
    return float(value)
