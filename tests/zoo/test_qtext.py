"""QText: its published counts, padding, what it takes and refuses, and what is exported."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from qrkt_keras import serving, training, zoo
from qrkt_keras.zoo import QText

TEXTS = ["a good film", "bad film , a bad film", "good"]

# SPEC.md section 4: IMDb, V 19,769, L 512, K 2.
IMDB = {"vocab_size": 19769, "max_length": 512, "num_heads": 2}
COUNTS = [
    # h, m, (encoders, Runge-Kutta blocks, decoders), quantum, weights, qubits
    (6, 4, (3, 1, 1), True, 244212, 230),
    (12, 6, (10, 1, 1), False, 499316, 0),
    (6, 3, (4, 0, 1), True, 243896, 141),
    (6, 3, (4, 0, 0), True, 122096, 4 * 27),
    (8, 4, (4, 0, 0), False, 163866, 0),
]


def small(**changes):
    arguments = {
        "vocab_size": 12,
        "max_length": 6,
        "hidden_dim": 4,
        "num_heads": 2,
        "mlp_dim": 3,
        "num_encoder_blocks": 1,
        "num_ode_blocks": 1,
        "num_decoder_blocks": 1,
        "solver": "rk2",
        "label_names": ["neg", "pos"],
    }
    return QText(2, **{**arguments, **changes})


def adapted(**changes):
    model = small(**changes)
    model.adapt(TEXTS)
    return model


@pytest.mark.parametrize("hidden, mlp, blocks, quantum, weights, qubits", COUNTS)
def test_published_counts(hidden, mlp, blocks, quantum, weights, qubits):
    names = ("num_encoder_blocks", "num_ode_blocks", "num_decoder_blocks")
    model = QText(
        2,
        **IMDB,
        hidden_dim=hidden,
        mlp_dim=mlp,
        **dict(zip(names, blocks, strict=True)),
        solver="rk4_enhanced",
        quantum=quantum,
    )
    assert (model.count_params(), model.num_qubits) == (weights, qubits)


class TestPadding:
    @pytest.mark.parametrize("changes", [{}, {"project_cross_attention": True}, {"quantum": False}])
    def test_padding_changes_nothing(self, changes):
        model = small(**changes)
        words = np.array([[3, 4, 5], [6, 0, 0]], "int32")
        longer = np.pad(words, [(0, 0), (0, 3)])
        np.testing.assert_allclose(model(words), model(longer), atol=1e-6)
        # It is not that words are ignored as well.
        longer[:, 3] = 7
        assert np.abs(np.asarray(model(words)) - np.asarray(model(longer))).max() > 1e-3

    def test_padding_gets_no_gradient(self):
        import tensorflow as tf

        model = small()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(np.array([[3, 4, 0, 0]], "int32")) ** 2)
        table = model.get_layer("source_embedding").embedding.embeddings
        gradient = tf.convert_to_tensor(tape.gradient(loss, table.value)).numpy()
        assert np.abs(gradient[3:5]).min() > 0
        np.testing.assert_allclose(gradient[0], 0, atol=1e-7)


class TestTexts:
    def test_vectorize(self):
        model = adapted()
        # By frequency: film 3, bad 2 and a 2 and good 2.
        assert model.vocabulary[0] == "film" and set(model.vocabulary) == {
            "film",
            "bad",
            "a",
            "good",
        }
        numbers = {word: number for number, word in enumerate(model.vocabulary, start=2)}
        vectors = model.vectorize(["GOOD<br />film!", "", "what film"])
        assert vectors.dtype == np.int32 and vectors.shape == (3, 6)
        assert vectors[0].tolist() == [numbers["good"], numbers["film"], 0, 0, 0, 0]
        assert vectors[1].tolist() == [1, 0, 0, 0, 0, 0]
        assert vectors[2].tolist() == [1, numbers["film"], 0, 0, 0, 0]

    def test_neighbours(self):
        model = small(vocab_size=20, ngrams=2)
        model.adapt(TEXTS)
        assert "bad film" in model.vocabulary
        vector = model.vectorize(["bad film"])[0]
        assert [model.vocabulary[number - 2] for number in vector[:3]] == [
            "bad",
            "film",
            "bad film",
        ]

    def test_letters_of_other_languages(self):
        model = small()
        model.adapt(["ÇOK güzel", "çok KÖTÜ", "很 好"])
        assert {"çok", "güzel", "kötü", "很"} <= set(model.vocabulary)

    def test_texts_and_numbers_give_the_same(self):
        model = adapted()
        logits = model.predict(TEXTS, verbose=0)
        np.testing.assert_allclose(logits, model(model.vectorize(TEXTS)), atol=1e-6)
        np.testing.assert_allclose(logits, model(keras.ops.convert_to_tensor(TEXTS)), atol=1e-6)
        np.testing.assert_allclose(
            logits, model.predict(np.array(TEXTS, object), verbose=0), atol=1e-6
        )

    def test_an_empty_text_and_none(self):
        model = adapted()
        assert np.isfinite(model.predict(["", "  ", "<br />"], verbose=0)).all()
        assert model.predict([], verbose=0).shape == (0, 2)

    def test_a_long_text_is_cut_and_said_so(self):
        model = adapted()
        long = "good " * 6 + "bad"
        with pytest.warns(UserWarning, match="1 of 2 texts have more than 6 words"):
            logits = model.predict([long, "a"], verbose=0)
        np.testing.assert_allclose(logits[:1], model.predict(["good " * 6], verbose=0), atol=1e-6)

    @pytest.mark.parametrize(
        "texts, error, message",
        [
            ("a film", TypeError, "Received: the text 'a film'$"),
            ([["a"]], TypeError, r"Received: shape \(1, 1\)$"),
            (["a", 3], TypeError, "Received: 3 at place 1$"),
        ],
    )
    def test_refused(self, texts, error, message):
        with pytest.raises(error, match=message):
            adapted().vectorize(texts)

    def test_no_vocabulary_yet(self):
        with pytest.raises(ValueError, match="Received: vocabulary=None$"):
            small().predict(TEXTS, verbose=0)


class TestScales:
    def test_a_large_epsilon_leaves_small_embeddings_small(self):
        def difference(epsilon):
            model = small(epsilon=epsilon, embedding_stddev=0.01, num_ode_blocks=0)
            norms = [
                layer
                for layer in model._flatten_layers()
                if isinstance(layer, keras.layers.LayerNormalization)
            ]
            assert len(norms) == 6 and {layer.epsilon for layer in norms} == {epsilon}
            tokens = model.get_layer("source_embedding")(np.array([[1, 2, 3]]))
            return float(np.std(norms[0](tokens)))

        assert difference(1e-6) > 0.9 and difference(1.0) < 0.02

    def test_the_config_has_them(self):
        config = json.loads(json.dumps(small(epsilon=0.5, embedding_stddev=0.25).get_config()))
        assert (config["epsilon"], config["embedding_stddev"]) == (0.5, 0.25)
        assert QText.from_config(config).get_layer("source_embedding").stddev == 0.25

    @pytest.mark.parametrize("name", ["epsilon", "embedding_stddev"])
    def test_refused(self, name):
        with pytest.raises(ValueError, match=f"{name}=-1$"):
            small(**{name: -1})


class TestSaving:
    def test_the_config_has_the_vocabulary(self):
        model = adapted()
        again = QText.from_config(json.loads(json.dumps(model.get_config())))
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(
            again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0)
        )

    def test_keras_file_and_preset(self, tmp_path):
        model = adapted()
        expected = model.predict(TEXTS, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again.predict(TEXTS, verbose=0), expected)
        folder = model.save_to_preset(tmp_path / "preset")
        np.testing.assert_array_equal(zoo.from_preset(folder).predict(TEXTS, verbose=0), expected)

    @pytest.mark.parametrize("ngrams", [None, 2])
    @pytest.mark.filterwarnings("ignore:.*texts have more")
    def test_the_saved_model_takes_texts(self, tmp_path, ngrams):
        model = adapted(ngrams=ngrams)
        model.export(tmp_path / "served")
        assert serving.foreign_ops(tmp_path / "served") == ()
        served = serving.load_saved_model(tmp_path / "served").signatures["serving_default"]
        texts = [*TEXTS, "", "unheard-of " * 9]
        answer = served(texts=keras.ops.convert_to_tensor(texts))
        logits = model.predict(texts, verbose=0)
        expected = training.probabilities_from_logits(logits)
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
        names = [("neg", "pos")[row.argmax()].encode() for row in expected]
        assert answer["label_name"].numpy().tolist() == names

    def test_engines_agree(self):
        model = adapted()
        exact = model.predict(TEXTS, verbose=0)
        model.set_engine("state_vector")
        np.testing.assert_allclose(model.predict(TEXTS, verbose=0), exact, atol=1e-5)


class TestTraining:
    def test_fit_takes_texts(self, tmp_path):
        random = np.random.default_rng(0)
        words = [["awful", "boring"], ["lovely", "great"]]
        labels = random.integers(0, 2, 96).astype("int32")
        texts = np.array(
            [" ".join([*random.choice(words[label], 2), "film"]) for label in labels], object
        )
        data = {"train": (texts[:64], labels[:64]), "validation": (texts[64:], labels[64:])}
        keras.utils.set_random_seed(0)
        model = small(vocab_size=20, num_decoder_blocks=0)
        recipe = training.Recipe(epochs=20, batch_size=16, learning_rate=0.03)
        result = training.fit(model, data, recipe, output_dir=tmp_path / "run", progress=False)
        assert set(model.vocabulary) == {"awful", "boring", "lovely", "great", "film"}
        assert result.scores["validation"].accuracy == 1
        assert model.predict(["boring"], verbose=0).argmax() == 0


@pytest.mark.parametrize(
    "arguments, received",
    [
        ({"vocab_size": 2}, "vocab_size=2$"),
        ({"vocab_size": 3, "vocabulary": ["a", "b"]}, "2 words with vocab_size=3$"),
        ({"max_length": 0}, "max_length=0$"),
        ({"ngrams": 0}, "ngrams=0$"),
        ({"label_names": ["neg"]}, r"label_names=\['neg'\]$"),
        ({"hidden_dim": 5}, "num_heads=2 with hidden_dim=5$"),
    ],
)
def test_arguments(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        small(**arguments)
