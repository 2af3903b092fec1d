import keras
import numpy as np
import pytest

from qrkt_keras.analysis import DataLoss, circuit_variables
from qrkt_keras.analysis.loss import identity_of
from qrkt_keras.circuits import templates
from qrkt_keras.layers import PQC
from qrkt_keras.zoo import QText, QViT


def linear(dtype, batch_size=3, units=2):
    """A linear model with mean squared error on 7 examples, and its inputs with a column of 1."""
    random = np.random.RandomState(0)
    x, y = random.randn(7, 3).astype(dtype), random.randn(7, units).astype(dtype)
    layer = keras.layers.Dense(units, dtype=dtype, bias_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((3,), dtype=dtype), layer])
    loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError(), batch_size=batch_size)
    return loss, np.concatenate([x, np.ones((7, 1))], axis=1).astype(np.float64), y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quadratic_by_its_closed_form(dtype):
    # Batches of 3, 3 and 1: a mean of the batches' means would be another number.
    loss, inputs, labels = linear(dtype)
    close = {"float32": 2e-6, "float64": 1e-13}[dtype]
    assert (loss.size, loss.num_examples) == (8, 7)
    weights = loss.point().reshape(4, 2)
    assert weights.dtype == np.float64
    errors = inputs @ weights - labels
    assert loss.value() == pytest.approx((errors**2).mean(), rel=close)
    # By the weights in the order of the variables: the kernel row by row, then the bias.
    np.testing.assert_allclose(loss.gradient(), (inputs.T @ errors / 7).ravel(), atol=close)
    hessian = np.kron(inputs.T @ inputs / 7, np.eye(2))
    columns = [loss.hessian_vector_product(unit) for unit in np.eye(8)]
    np.testing.assert_allclose(columns, hessian, atol=close)
    assert columns[0].dtype == np.float64


def test_nothing_depends_on_the_batches():
    losses = [linear("float64", batch_size)[0] for batch_size in (1, 4, 7, 1000)]
    point, vector = np.random.RandomState(1).randn(2, 8)
    for other in losses[1:]:
        assert other.value(point) == pytest.approx(losses[0].value(point), rel=1e-14)
        np.testing.assert_allclose(other.gradient(point), losses[0].gradient(point), atol=1e-14)
        np.testing.assert_allclose(
            other.hessian_vector_product(vector, point),
            losses[0].hessian_vector_product(vector, point),
            atol=1e-14,
        )


def test_a_network_against_nested_tapes():
    import tensorflow as tf

    random = np.random.RandomState(2)
    x, y = random.randn(10, 3), random.randint(0, 4, 10)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="float64"),
            keras.layers.Dense(3, activation="tanh", dtype="float64"),
            keras.layers.Dense(4, dtype="float64"),
        ]
    )
    loss = DataLoss(model, x, y, batch_size=4)
    watched = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            logits = model(x)
            top = tf.math.log_softmax(logits)
            mean = -tf.reduce_mean(tf.gather(top, y, batch_dims=1))
        gradient = inner.gradient(mean, watched)
        gradient = tf.concat([tf.reshape(part, [-1]) for part in gradient], 0)
    rows = [outer.jacobian(gradient, value, experimental_use_pfor=False) for value in watched]
    hessian = np.concatenate([row.numpy().reshape(loss.size, -1) for row in rows], axis=1)
    np.testing.assert_allclose(loss.value(), mean, rtol=1e-13)
    np.testing.assert_allclose(loss.gradient(), gradient, atol=1e-14)
    products = [loss.hessian_vector_product(unit) for unit in np.eye(loss.size)]
    np.testing.assert_allclose(products, hessian, atol=1e-13)


class Offsets(keras.layers.Layer):
    """Adds a learned number to every feature."""

    def build(self, shape):
        self.offsets = self.add_weight(shape=shape[-1:], initializer="zeros", name="offsets")

    def call(self, inputs):
        return inputs + self.offsets


def patches(num_blocks, num_qubits, num_examples):
    """Two circuits that read a patch each, learned offsets before them, in float64."""
    num_features = {4: 16, 8: 64}[num_qubits]
    inputs = keras.Input((2, num_features), dtype="float64")
    circuits = PQC(
        templates.patch(num_blocks, num_qubits, num_features, num_values=3),
        copies=2,
        per_copy_inputs=True,
        initializer=keras.initializers.RandomUniform(0.0, np.pi, seed=1),
        dtype="float64",
    )
    values = circuits(Offsets(dtype="float64")(inputs))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D(dtype="float64")(values))
    random = np.random.RandomState(3)
    x = random.uniform(0, 0.8, (num_examples, 2, num_features))
    return model, x, random.randint(0, 3, num_examples)


@pytest.mark.parametrize(
    ("num_blocks", "num_qubits", "num_examples"),
    [
        # The engine loops over 10 blocks, and makes them one matrix where the batch is large.
        (10, 4, 80),
        # The zoo's own form of circuit; tracing takes half a minute.
        pytest.param(2, 8, 600, marks=pytest.mark.slow),
    ],
)
def test_circuits_against_central_differences(num_blocks, num_qubits, num_examples):
    model, x, y = patches(num_blocks, num_qubits, num_examples)
    loss = DataLoss(model, x, y)
    assert loss.size == x.shape[-1] + model.layers[2].count_params()
    point, step = loss.point(), 1e-5
    vector = np.random.RandomState(4).randn(loss.size)
    ahead, behind = point + step * vector, point - step * vector
    slope = (loss.value(ahead) - loss.value(behind)) / (2 * step)
    assert loss.gradient() @ vector == pytest.approx(slope, rel=1e-7, abs=1e-9)
    product = (loss.gradient(ahead) - loss.gradient(behind)) / (2 * step)
    found = loss.hessian_vector_product(vector)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(found, product, atol=1e-8)


def normalised(layer):
    inputs = keras.Input((3, 4), dtype="float64")
    x = layer(keras.layers.Dense(4, dtype="float64")(inputs))
    x = keras.layers.Flatten(dtype="float64")(keras.layers.Activation("tanh", dtype="float64")(x))
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float64")(x)), inputs.shape[1:]


def vision_transformer(**changes):
    shape = {"hidden_dim": 4, "num_heads": 2, "mlp_dim": 4, "dtype": "float64"}
    blocks = {"num_encoder_blocks": 1, "num_ode_blocks": 1, "num_decoder_blocks": 1}
    model = QViT((4, 4, 1), 3, patch_size=2, **shape, **blocks, **changes)
    return model, model.image_shape


def text_classifier():
    shape = {"vocab_size": 9, "max_length": 3, "hidden_dim": 4, "num_heads": 2, "mlp_dim": 4}
    blocks = {"num_encoder_blocks": 1, "num_ode_blocks": 1, "num_decoder_blocks": 1}
    model = QText(**shape, **blocks, dtype="float64")
    return model, None


@pytest.mark.parametrize(
    "build",
    [
        lambda: normalised(keras.layers.LayerNormalization(dtype="float64")),
        lambda: normalised(keras.layers.GroupNormalization(2, dtype="float64")),
        lambda: normalised(keras.layers.BatchNormalization(dtype="float64")),
        lambda: normalised(keras.layers.RMSNormalization(dtype="float64")),
        lambda: vision_transformer(quantum=False),
        vision_transformer,
        text_classifier,
    ],
    ids=["layer", "group", "batch", "rms", "twin", "QViT", "QText"],
)
def test_normalisations_and_embeddings_against_central_differences(build):
    """TensorFlow's own moments have first derivatives alone, and an embedding's are slices."""
    keras.utils.set_random_seed(0)
    model, shape = build()
    random = np.random.RandomState(0)
    x = random.randint(1, 9, (5, 3)) if shape is None else random.rand(5, *shape)
    loss = DataLoss(model, x, random.randint(0, model.output_shape[-1], 5))
    point, vector, step = loss.point(), random.randn(loss.size), 1e-6
    found = loss.hessian_vector_product(vector)
    ahead, behind = (loss.gradient(point + sign * step * vector) for sign in (1, -1))
    assert np.abs(found).max() > 0.1
    product = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(found, product, atol=1e-7 * np.abs(product).max())


@pytest.fixture(scope="module")
def ring():
    """A circuit without a state (the engine is Pauli propagation), offsets before it."""
    inputs = keras.Input((3,), dtype="float64")
    circuit = PQC(templates.ry_ring(3), dtype="float64")
    model = keras.Model(inputs, circuit(Offsets(dtype="float64")(inputs)))
    random = np.random.RandomState(3)
    return model, random.uniform(0, 3, (5, 3)), random.randint(0, 3, 5)


def test_weights_are_selectable_and_in_their_order(ring):
    model, x, y = ring
    (angles,) = circuit_variables(model)
    (offsets,) = (v for v in model.trainable_variables if v is not angles)
    whole = DataLoss(model, x, y)
    assert [v is w for v, w in zip(whole.variables, (offsets, angles), strict=True)] == [True, True]
    turned = DataLoss(model, x, y, variables=[angles, offsets])
    only = DataLoss(model, x, y, variables=circuit_variables(model))
    assert (whole.size, turned.size, only.size) == (6, 6, 3)
    np.testing.assert_array_equal(only.point(), angles.value.numpy().ravel())
    np.testing.assert_array_equal(turned.point(), np.roll(whole.point(), -3))
    np.testing.assert_allclose(turned.gradient(), np.roll(whole.gradient(), -3), atol=1e-15)
    np.testing.assert_allclose(only.gradient(), whole.gradient()[3:], atol=1e-15)

    point, step = whole.point(), 1e-5
    columns = [
        (whole.gradient(point + s) - whole.gradient(point - s)) / (2 * step)
        for s in step * np.eye(6)
    ]
    assert np.abs(columns).max() > 0.01
    hessian = np.array([whole.hessian_vector_product(unit) for unit in np.eye(6)])
    np.testing.assert_allclose(hessian, columns, atol=1e-9)
    np.testing.assert_allclose(
        [only.hessian_vector_product(unit) for unit in np.eye(3)], hessian[3:, 3:], atol=1e-14
    )
    # Other weights of the model are not touched.
    only.value(np.zeros(3))
    np.testing.assert_array_equal(whole.point(), point)


def test_weights_that_are_not_trained_can_be_chosen():
    loss, *_ = linear("float64")
    loss.model.trainable = False
    assert not loss.model.trainable_variables
    chosen = DataLoss(
        loss.model, loss.examples, loss.labels, loss=loss.loss, variables=loss.model.variables[1:]
    )
    np.testing.assert_allclose(chosen.gradient(), loss.gradient()[6:], atol=1e-15)
    assert np.abs(chosen.gradient()).min() > 1e-3


def test_a_weight_without_influence_has_no_slope():
    inputs = keras.Input((2,))
    unused = keras.layers.Dense(2, name="unused")(inputs)
    outputs = keras.layers.Dense(1)(inputs) + 0.0 * keras.ops.stop_gradient(unused)[:, :1]
    loss = DataLoss(
        keras.Model(inputs, outputs),
        np.ones((2, 2)),
        np.ones((2, 1)),
        loss=keras.losses.mean_squared_error,
    )
    unused = np.concatenate(
        [np.full(v.value.numpy().size, "unused" in v.path) for v in loss.variables]
    )
    assert unused.sum() == 6
    assert not loss.gradient()[unused].any() and loss.gradient()[~unused].all()
    assert not loss.hessian_vector_product(np.ones(9))[unused].any()


@pytest.mark.parametrize("point", [None, np.linspace(-1, 1, 8)])
def test_each_function_is_traced_once_a_size_of_batch(point):
    traces = []

    def loss_function(labels, outputs):
        traces.append(outputs.shape[0])
        return keras.ops.mean((labels - outputs) ** 2)

    model = linear("float64")[0]
    loss = DataLoss(model.model, model.examples, model.labels, loss=loss_function, batch_size=3)
    for _ in range(3):
        loss.value(point)
    assert traces == [3, 1]
    for _ in range(3):
        loss.gradient(point)
    assert traces == [3, 1] * 2
    for vector in np.eye(8)[:3]:
        loss.hessian_vector_product(vector, point)
    assert traces == [3, 1] * 3
    # A function that reduces is as good as one that does not.
    assert loss.value() == pytest.approx(model.value(), rel=1e-14)


@pytest.mark.parametrize("reduction", ["sum", "none", "mean"])
def test_a_losses_own_reduction_does_not_matter(reduction):
    loss, *_ = linear("float64")
    other = keras.losses.MeanSquaredError(reduction=None if reduction == "none" else reduction)
    other = DataLoss(loss.model, loss.examples, loss.labels, loss=other, batch_size=3)
    assert other.value() == loss.value()


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_labels_are_cast_for_a_function_as_keras_does(dtype):
    loss, inputs, labels = linear("float32")
    labels = labels.round().astype(dtype)
    assert labels.any()
    function = DataLoss(
        loss.model,
        loss.examples,
        labels,
        loss=lambda labels, outputs: keras.ops.mean((labels - outputs) ** 2, axis=-1),
    )
    own = DataLoss(loss.model, loss.examples, labels, loss=keras.losses.MeanSquaredError())
    assert function.value() == own.value()
    assert function.value() == pytest.approx(
        ((inputs @ loss.point().reshape(4, -1) - labels) ** 2).mean(), rel=1e-5
    )


def test_float64_stays_float64():
    # Keras' own losses cast to float32, which is off by 1e-8 or so.
    loss, inputs, labels = linear("float64", units=3)
    classes = np.argmax(labels, axis=1)
    entropy = DataLoss(loss.model, loss.examples, classes)
    logits = inputs @ loss.point().reshape(4, 3)
    by_hand = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(7), classes]
    assert entropy.value() == pytest.approx(by_hand.mean(), rel=1e-14)


def test_half_precision_has_a_float32_loss():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, dtype="mixed_bfloat16")])
    x, y = np.random.RandomState(0).randn(5, 2), np.arange(5) % 3
    loss = DataLoss(model, x, y)
    logits = model(x).numpy().astype(np.float64)
    by_hand = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), y]
    assert loss.value() == pytest.approx(by_hand.mean(), rel=1e-6)
    assert np.isfinite(loss.hessian_vector_product(np.ones(loss.size))).all()


def test_neither_dropout_nor_regularisers():
    layers = [
        keras.Input((3,)),
        keras.layers.Dropout(0.9),
        keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(100.0)),
    ]
    model = keras.Sequential(layers)
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")
    loss = DataLoss(model, x, y, loss=keras.losses.MeanSquaredError())
    assert loss.value(np.ones(4)) == pytest.approx(16.0)
    np.testing.assert_allclose(loss.gradient(np.ones(4)), 8.0, rtol=1e-6)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_has_its_own_weights_again(error):
    loss, *_ = linear("float32")
    before = loss.model.get_weights()
    with pytest.raises(error):
        with loss.at(np.arange(8)):
            np.testing.assert_array_equal(loss.point(), np.arange(8))
            raise error
    loss.value(np.zeros(8)), loss.gradient(np.zeros(8))
    loss.hessian_vector_product(np.ones(8), np.zeros(8))
    for own, now in zip(before, loss.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, now)


def test_what_is_no_number_is_returned():
    loss, *_ = linear("float32")
    point = np.zeros(8)
    point[2] = np.nan
    assert np.isnan(loss.value(point)) and np.isnan(loss.gradient(point)).any()
    assert np.isinf(loss.value(np.full(8, 1e30)))
    assert np.isfinite(loss.value())


def test_circuit_variables(ring):
    model, *_ = ring
    assert [v.path.endswith("angles") for v in circuit_variables(model)] == [True]
    with pytest.raises(ValueError, match="must have a circuit.*Received: 'plain'"):
        circuit_variables(
            keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)], name="plain")
        )


def test_tensorflow_quantum_has_no_hessian():
    spec = templates.ry_ring(2)
    model = keras.Sequential([keras.Input((2,)), PQC(spec, engine="tfq", name="old")])
    x, y = np.full((3, 2), 0.3, "float32"), np.array([0, 1, 1])
    loss = DataLoss(model, x, y)
    with pytest.raises(ValueError, match=r"set_engine\('auto'\).*Received: engine='tfq' in old"):
        loss.hessian_vector_product(np.ones(2))
    slope = loss.gradient()
    model.layers[0].set_engine("auto")
    exact = DataLoss(model, x, y)
    np.testing.assert_allclose(slope, exact.gradient(), atol=1e-3)
    assert np.isfinite(exact.hessian_vector_product(np.ones(2))).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "model"}, TypeError, "must be a Keras model"),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, ValueError, "before it is built"),
        ({"labels": np.zeros((6, 2))}, ValueError, r"as many labels.*\(7, 3\), labels \(6, 2\)"),
        ({"examples": np.zeros((0, 3)), "labels": np.zeros((0, 2))}, ValueError, "an example"),
        ({"loss": 3}, TypeError, "Received: loss=3"),
        ({"variables": []}, ValueError, "Choose one at least"),
        ({"variables": [keras.Variable([1.0])]}, ValueError, "must be the model's own"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
    ],
)
def test_bad_arguments(change, error, message):
    loss, *_ = linear("float32")
    given = {"model": loss.model, "examples": loss.examples, "labels": loss.labels} | change
    with pytest.raises(error, match=message):
        DataLoss(**given)


def test_bad_variables_points_and_losses():
    loss, *_ = linear("float32")
    kernel = loss.model.variables[0]
    data = loss.examples, loss.labels
    with pytest.raises(ValueError, match="must not repeat"):
        DataLoss(loss.model, *data, variables=[kernel, kernel])
    counted = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
    with pytest.raises(ValueError, match="must have a trainable weight"):
        DataLoss(counted, *data)
    with pytest.raises(ValueError, match="must hold floats"):
        DataLoss(counted, *data, variables=counted.variables)
    with pytest.raises(ValueError, match=r"point must be \(8,\). Received: shape \(9,\)"):
        loss.value(np.zeros(9))
    with pytest.raises(ValueError, match="vector must be"):
        loss.hessian_vector_product(np.zeros((8, 1)))
    transposed = DataLoss(loss.model, *data, loss=lambda y, outputs: keras.ops.transpose(outputs))
    with pytest.raises(ValueError, match=r"value an example.*shape \(2, 7\) for a batch of 7"):
        transposed.value()
    inputs = keras.Input((3,))
    double = keras.Model(inputs, [keras.layers.Dense(2)(inputs)] * 2)
    with pytest.raises(ValueError, match="one output. Received: list"):
        DataLoss(double, *data).value()
    others = keras.Input((3,))
    two = keras.Model([inputs, others], keras.layers.Dense(2)(inputs + others))
    with pytest.raises(ValueError, match="must have one input. Received: 2 inputs$"):
        DataLoss(two, [data[0], data[0]], data[1])


def test_texts_are_told_apart_by_what_they_say():
    own, *_ = linear("float32")

    def identity(*texts):
        return identity_of(DataLoss(own.model, np.array(texts, object), own.labels[:2]))["data"]

    # Equal texts at other addresses.
    again = identity("".join(["so", "me"]), "".join(["wor", "ds"]))
    assert identity("some", "words") == again != identity("other", "words")
