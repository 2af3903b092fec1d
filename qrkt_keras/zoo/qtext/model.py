"""QText: a quantum transformer that tells the class of a text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from qrkt_keras.circuits import CircuitSpec
from qrkt_keras.layers import TokenEmbedding
from qrkt_keras.layers.projection import positive_integer, positive_number
from qrkt_keras.zoo.classifier import (
    TransformerClassifier,
    dtype_policy,
    logits,
    mean_over_tokens,
    names_of_labels,
    number_of_classes,
)
from qrkt_keras.zoo.images import dtype_name
from qrkt_keras.zoo.qtext.vectorizer import PADDING, Vectorizer
from qrkt_keras.zoo.transformer import Solver, Transformer, listed

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="qrkt_keras")
class QText(TransformerClassifier):
    """A text transformer whose projections are quantum circuits, with Runge-Kutta blocks.

    With embeddings `src` and `trg` of the words and their positions, E encoder blocks, R
    Runge-Kutta blocks and D decoder blocks,

    `memory = LN(RK_R(... RK_1(ENC_E(... ENC_1(src)))))`,
    `logits = W mean_words(DEC_D(... DEC_1(trg, memory), memory)) + b`

    With D = 0 there is no target, and `logits = W mean_words(memory) + b`; with R = 0 too, this is
    the plain quantum transformer. Padding is masked in attention and in the mean. Sources:
    C.-A. Ripanu, *QRKT-GAN*, UPB Bucharest 2024 (the model; its code gives every decoder the source
    for a target, here the target is one); Comajoan Cara et al., *Quantum vision transformers for
    quark-gluon classification*, Axioms 2024 (the plain one). Neither masks padding.

    The model takes texts, or the numbers of their words as `vectorize` gives them. Texts need a
    vocabulary: a trained preset has one, otherwise `adapt` takes it from the training texts, as
    `training.fit` does. Outputs are logits.

    Args:
        num_classes: Number of classes K, at least 2.
        vocab_size: Numbers of words, 0 for padding and 1 for unknown words included.
        max_length: The most words of a text; what follows is cut off.
        ngrams: Up to how many neighbouring words count as words too; they follow the words. `None`
            for words alone.
        vocabulary: The words, most frequent first, at most `vocab_size - 2`.
        hidden_dim: Width of a token, and qubits of a projection, at least 2.
        num_heads: Number of attention heads; it must divide `hidden_dim`.
        mlp_dim: Width inside the feed-forward parts, and qubits of their circuits.
        num_encoder_blocks: Encoder blocks E, see `layers.TransformerEncoderBlock`.
        num_ode_blocks: Runge-Kutta blocks R, see `layers.RungeKuttaTransformerBlock`.
        num_decoder_blocks: Decoder blocks D, see `layers.TransformerDecoderBlock`.
        solver, share_weights, residual, variant: As of `QViT`. The thesis' variant mixes words
            across a text, padding included.
        project_cross_attention, attention_scale: As of `QViT`.
        quantum, template, num_ansatz_layers, trainable_encoding, trainable_circuits, engine: As of
            `QViT`.
        dropout: Rate of dropout after the embedding, on the attention weights and on each branch.
        epsilon: Of all layer normalisations. What varies less than its root is hardly scaled up:
            with 1 a word that training has hardly met stays as small as its embedding.
        embedding_stddev: Standard deviation of embeddings and positions as they are drawn, as of
            `layers.TokenEmbedding`.
        label_names: Names of the classes, for SavedModels. By default their numbers.
        dtype: Dtype policy; by default Keras' global one.
        name: Name of the model.
        trainable: Whether the weights are trained.

    Call arguments:
        inputs: Texts of shape `(B,)`, or int32 numbers of words of shape `(B, T)`, T at most
            `max_length`, 0 at padding.
        training: Whether dropout is applied.

    Returns:
        Logits, a float tensor of shape `(B, num_classes)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or does not fit another one, or a text comes
            before there is a vocabulary.
        UnsupportedCircuitError: If the engine refuses a circuit.

    Example:

    >>> from qrkt_keras.zoo import QText
    >>> model = QText(
    ...     2, vocab_size=20, max_length=8, hidden_dim=4, num_heads=2, mlp_dim=3,
    ...     num_encoder_blocks=1, num_ode_blocks=0, num_decoder_blocks=0,
    ... )
    >>> model.adapt(["a good film", "a bad film"])
    >>> model.vectorize(["A <b>good</b> film!", "unheard-of"])[:, :4].tolist()
    [[3, 4, 2, 0], [1, 1, 0, 0]]
    >>> model.predict(["a good film", ""], verbose=0).shape
    (2, 2)
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        vocab_size: int,
        max_length: int = 512,
        ngrams: int | None = None,
        vocabulary: Sequence[str] | None = None,
        hidden_dim: int,
        num_heads: int,
        mlp_dim: int,
        num_encoder_blocks: int,
        num_ode_blocks: int,
        num_decoder_blocks: int,
        solver: Solver | Sequence[Solver] = "rk4",
        share_weights: bool = False,
        residual: str | None = None,
        variant: str = "corrected",
        project_cross_attention: bool = False,
        attention_scale: float | None = None,
        quantum: bool = True,
        template: str | CircuitSpec | Mapping[str, str] = "ry_ring",
        num_ansatz_layers: int = 1,
        trainable_encoding: bool = False,
        trainable_circuits: bool = True,
        engine: str = "auto",
        dropout: float = 0.1,
        epsilon: float = 1e-6,
        embedding_stddev: float | None = None,
        label_names: Sequence[str] | None = None,
        dtype: Any = None,
        name: str | None = "qtext",
        trainable: bool = True,
    ) -> None:
        num_classes = number_of_classes(num_classes)
        vocab_size = positive_integer("vocab_size", vocab_size)
        if vocab_size < 3:
            raise ValueError(
                "`vocab_size` must be at least 3: padding, unknown words and a word. "
                f"Received: vocab_size={vocab_size}"
            )
        max_length = positive_integer("max_length", max_length)
        ngrams = None if ngrams is None else positive_integer("ngrams", ngrams)
        if embedding_stddev is not None:
            embedding_stddev = positive_number("embedding_stddev", embedding_stddev)
        transformer = Transformer(
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            num_encoder_blocks=num_encoder_blocks,
            num_ode_blocks=num_ode_blocks,
            num_decoder_blocks=num_decoder_blocks,
            solver=solver,
            share_weights=share_weights,
            residual=residual,
            variant=variant,
            project_cross_attention=project_cross_attention,
            attention_scale=attention_scale,
            quantum=quantum,
            template=template,
            num_ansatz_layers=num_ansatz_layers,
            trainable_encoding=trainable_encoding,
            trainable_circuits=trainable_circuits,
            engine=engine,
            dropout=dropout,
            epsilon=epsilon,
        )
        label_names = names_of_labels(label_names, num_classes)
        policy = dtype_policy(dtype)
        vectorizer = Vectorizer(vocab_size, max_length, ngrams, vocabulary)

        def embedding(name: str) -> TokenEmbedding:
            return TokenEmbedding(
                vocab_size,
                max_length,
                transformer.hidden_dim,
                dropout=transformer.dropout,
                stddev=embedding_stddev,
                dtype=policy,
                name=name,
            )

        words = keras.Input((None,), dtype="int32", name="words")
        mask = ops.not_equal(words, PADDING)
        tokens = transformer.encode(embedding("source_embedding")(words), policy, mask)
        if transformer.num_decoder_blocks:
            target = embedding("target_embedding")(words)
            tokens = transformer.decode(target, tokens, policy, mask)
        super().__init__(
            words,
            logits(mean_over_tokens(tokens, policy, mask), num_classes, policy),
            transformer,
            num_classes=num_classes,
            label_names=label_names,
            policy=policy,
            name=name,
            trainable=trainable,
        )
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.ngrams = ngrams
        self.embedding_stddev = embedding_stddev
        self.vectorizer = vectorizer

    @property
    def num_tokens(self) -> int:
        """Tokens of one text, at most."""
        return self.max_length

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words, most frequent first; `None` before `adapt`."""
        return self.vectorizer.vocabulary

    def adapt(self, texts: Sequence[str] | np.ndarray) -> None:
        """Takes the most frequent words of the training texts as the vocabulary.

        Args:
            texts: The texts.

        Raises:
            TypeError: If they are no texts.
        """
        self.vectorizer.adapt(_checked_texts(texts))

    def vectorize(self, texts: Sequence[str] | np.ndarray) -> np.ndarray:
        """Returns the numbers of the texts' words, as the model takes them.

        Texts that are longer than `max_length` are cut, and a `UserWarning` tells how many.

        Args:
            texts: The texts.

        Returns:
            An int32 array of shape `(number of texts, max_length)`, 0 at padding and 1 where a word
            is not in the vocabulary; a text without a word is one such word.

        Raises:
            TypeError: If they are no texts.
            ValueError: If there is no vocabulary yet.
        """
        texts = _checked_texts(texts)
        numbers, cut = self.vectorizer.vectorize(texts)
        if cut:
            warnings.warn(
                f"{cut:,} of {len(texts):,} texts have more than {self.max_length} words: what "
                "follows is not read.",
                stacklevel=2,
            )
        return numbers

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if _are_texts(inputs):
            inputs = self.vectorizer(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """Returns the logits of many texts.

        Args:
            x: Texts, or what `vectorize` returned, or anything else that `keras.Model.predict`
                takes.
            *args, **kwargs: As of `keras.Model.predict`.

        Returns:
            An array of shape `(number of texts, num_classes)`.

        Raises:
            TypeError: If there is something else among the texts.
            ValueError: If there is no vocabulary yet.
        """
        if _are_texts(x) or isinstance(x, list | tuple):
            x = self.vectorize(x)
        return super().predict(x, *args, **kwargs)

    @property
    def serving_resources(self) -> tuple[Any, ...]:
        """What a SavedModel must hold beside the weights: the table of the words."""
        return self.vectorizer.resources

    def _serving_inputs(self) -> dict[str, tf.TensorSpec]:
        import tensorflow as tf

        return {"serving_default": tf.TensorSpec((None,), tf.string, name="texts")}

    def _own_config(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "ngrams": self.ngrams,
            "embedding_stddev": self.embedding_stddev,
            "vocabulary": listed(self.vocabulary),
        }


def _are_texts(inputs: Any) -> bool:
    if isinstance(inputs, list | tuple):
        return len(inputs) > 0 and all(isinstance(text, str) for text in inputs)
    if isinstance(inputs, np.ndarray):
        return inputs.dtype.kind in "OSU"
    return hasattr(inputs, "dtype") and dtype_name(inputs) == "string"


def _checked_texts(texts: Any) -> np.ndarray:
    if isinstance(texts, str):
        raise TypeError(f"Texts come as a list. Received: the text {texts[:40]!r}")
    if hasattr(texts, "numpy"):
        texts = texts.numpy()
    texts = np.asarray(texts, dtype=object)
    if texts.ndim != 1:
        raise TypeError(f"Texts come as a list. Received: shape {texts.shape}")
    for place, text in enumerate(texts):
        if not isinstance(text, str | bytes):
            raise TypeError(f"Only texts can be read. Received: {text!r} at place {place}")
    return texts
