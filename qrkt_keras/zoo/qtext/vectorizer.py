"""Texts to numbers of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

PADDING, UNKNOWN = 0, 1

# Texts that are taken apart at once.
_AT_ONCE = 1000


class Vectorizer:
    """A `keras.layers.TextVectorization`, which is no layer of a model: it has no weights.

    Markup such as `<br />` and everything but letters, digits and apostrophes separates words;
    upper and lower case are the same. A text without a word becomes one unknown word, for the mean
    over no words is no number.

    Args:
        vocab_size: The most numbers, padding (0) and the unknown word (1) included.
        max_length: The most words of a text; what follows is cut off.
        ngrams: Up to how many neighbouring words make an entry of their own; they come after the
            words. `None` for words alone.
        vocabulary: The words, most frequent first, if they are known.

    Raises:
        ValueError: If there are more words than numbers.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        ngrams: int | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.ngrams = ngrams
        self._layer = None
        if vocabulary is not None:
            self._layer = self._vectorization(list(vocabulary))

    def _vectorization(self, vocabulary: Sequence[str] | None) -> keras.layers.TextVectorization:
        if vocabulary is not None and len(vocabulary) > self.vocab_size - 2:
            raise ValueError(
                "There must be a number for each word, for padding and for the unknown word. "
                f"Received: {len(vocabulary)} words with vocab_size={self.vocab_size}"
            )
        return keras.layers.TextVectorization(
            max_tokens=self.vocab_size,
            standardize=None,
            split="whitespace",
            ngrams=self.ngrams,
            ragged=True,
            vocabulary=vocabulary,
        )

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words, most frequent first; `None` before they are known."""
        if self._layer is None:
            return None
        return tuple(self._layer.get_vocabulary(include_special_tokens=False))

    @property
    def resources(self) -> tuple[Any, ...]:
        """What TensorFlow must store along with a function that calls this."""
        return () if self._layer is None else (self._layer._lookup_layer.lookup_table,)

    def adapt(self, texts: np.ndarray) -> None:
        """Takes the most frequent words of these texts as the vocabulary."""
        layer = self._vectorization(None)
        layer.adapt(np.concatenate([_cleaned(part).numpy() for part in _parts(texts)]))
        # Made anew, with a table that is constant, as one from a preset.
        self._layer = self._vectorization(layer.get_vocabulary(include_special_tokens=False))

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Numbers of words, int32 `(B, T)`; T is the longest text's, at most `max_length`."""
        return self._padded(self._ragged(texts))

    def vectorize(self, texts: np.ndarray) -> tuple[np.ndarray, int]:
        """Numbers of words, int32 `(n, max_length)`, and of how many texts the end was cut off."""
        numbers = np.zeros((len(texts), self.max_length), np.int32)
        cut, start = 0, 0
        for part in _parts(texts):
            ragged = self._ragged(part)
            padded = self._padded(ragged).numpy()
            numbers[start : start + len(padded), : padded.shape[1]] = padded
            cut += int((ragged.row_lengths().numpy() > self.max_length).sum())
            start += len(padded)
        return numbers, cut

    def _ragged(self, texts: Any) -> tf.RaggedTensor:
        if self._layer is None:
            raise ValueError(
                "The model has no vocabulary yet: `adapt` takes it from training texts. "
                "Received: vocabulary=None"
            )
        return self._layer(_cleaned(texts))

    def _padded(self, ragged: tf.RaggedTensor) -> tf.Tensor:
        import tensorflow as tf

        # One column more, so that there is one even if no text has a word.
        padded = tf.pad(ragged.to_tensor(), [[0, 0], [0, 1]])[:, : self.max_length]
        first = tf.where(ragged.row_lengths() == 0, tf.cast(UNKNOWN, padded.dtype), padded[:, 0])
        return tf.cast(tf.concat([first[:, None], padded[:, 1:]], axis=1), tf.int32)


def _parts(texts: np.ndarray) -> list[np.ndarray]:
    return [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]


def _cleaned(texts: Any) -> tf.Tensor:
    import tensorflow as tf

    if not tf.is_tensor(texts):
        texts = tf.constant([*texts], tf.string)
    texts = tf.strings.lower(texts, encoding="utf-8")
    texts = tf.strings.regex_replace(texts, "<[^>]*>", " ")
    return tf.strings.regex_replace(texts, r"[^\p{L}\p{M}\p{N}' ]", " ")
