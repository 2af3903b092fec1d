"""DiffAugment against loops over pixels in NumPy, and its draws against their distributions."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from support.layer_test import run_layer_test

from qrkt_keras.layers import DiffAugment
from qrkt_keras.layers.diff_augment import (
    brightness,
    contrast,
    cut_out,
    saturation,
    translate,
)

SHAPE = (4, 6, 5, 3)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def normal(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# The operations once more, pixel by pixel.


def translated(images, dy, dx):
    result = np.zeros_like(images)
    _, height, width, _ = images.shape
    for b, i, j in np.ndindex(images.shape[:3]):
        if 0 <= i - dy[b] < height and 0 <= j - dx[b] < width:
            result[b, i, j] = images[b, i - dy[b], j - dx[b]]
    return result


def with_hole(images, y, x, sides):
    result = images.copy()
    _, height, width, _ = images.shape
    for b in range(len(images)):
        for i in range(y[b] - sides[0] // 2, y[b] - sides[0] // 2 + sides[0]):
            for j in range(x[b] - sides[1] // 2, x[b] - sides[1] // 2 + sides[1]):
                if 0 <= i < height and 0 <= j < width:
                    result[b, i, j] = 0
    return result


def brightened(images, shift):
    return np.stack([image + s for image, s in zip(images, shift, strict=True)])


def saturated(images, factor):
    result = images.copy()
    for b, i, j in np.ndindex(images.shape[:3]):
        mean = sum(images[b, i, j]) / images.shape[3]
        for c in range(images.shape[3]):
            result[b, i, j, c] = (images[b, i, j, c] - mean) * factor[b] + mean
    return result


def contrasted(images, factor):
    result = images.copy()
    for b, image in enumerate(images):
        mean = image.sum() / image.size
        result[b] = (image - mean) * factor[b] + mean
    return result


def cases():
    """Function, the same in NumPy, draws for the batch of SHAPE, and static arguments."""
    rng = np.random.default_rng(1)
    yield brightness, brightened, [rng.uniform(-0.5, 0.5, 4)], []
    yield saturation, saturated, [rng.uniform(0, 2, 4)], []
    yield contrast, contrasted, [rng.uniform(0.5, 1.5, 4)], []
    yield translate, translated, [np.array([2, -1, 0, 1]), np.array([-1, 2, 1, -2])], []
    yield cut_out, with_hole, [np.array([0, 6, 3, 2]), np.array([4, 0, 2, 1])], [(2, 3)]


IDS = ["brightness", "saturation", "contrast", "translate", "cut_out"]
each_operation = pytest.mark.parametrize("function, reference, draws, static", [*cases()], ids=IDS)


# --- the operations ------------------------------------------------------------------------


@each_operation
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-14)])
def test_values(function, reference, draws, static, dtype, tolerance):
    images = normal().astype(dtype)
    result = function(images, *draws, *static)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    expected = reference(normal(), *draws, *static)
    np.testing.assert_allclose(array(result), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(5, 4), (1, 7), (6, 6)])
def test_every_shift(size):
    # Up to one beyond the side, after which nothing is left.
    shifts = [np.arange(-length - 1, length + 2) for length in size]
    dy, dx = (grid.ravel() for grid in np.meshgrid(*shifts, indexing="ij"))
    images = normal((len(dy), *size, 2)).astype("float32")
    result = array(translate(images, dy, dx))
    np.testing.assert_array_equal(result, translated(images, dy, dx))


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (1, 3)])
@pytest.mark.parametrize("sides", [(0, 0), (1, 1), (2, 3), (3, 2), (4, 4), (5, 6)])
def test_every_hole(size, sides):
    # Centres beyond the border, too: what is outside is nothing.
    y, x = (
        grid.ravel() for grid in np.meshgrid(np.arange(-1, size[0] + 2), np.arange(-1, size[1] + 2))
    )
    images = normal((len(y), *size, 2)).astype("float32")
    result = array(cut_out(images, y, x, sides))
    np.testing.assert_array_equal(result, with_hole(images, y, x, sides))


@each_operation
def test_gradient_is_the_transposed_map(function, reference, draws, static):
    images, direction = tf.constant(normal()), normal(seed=2)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(function(images, *draws, *static) * direction)
    gradient = tape.gradient(loss, images).numpy()
    zero = reference(np.zeros(SHAPE), *draws, *static)
    for index in np.ndindex(*SHAPE):
        unit = np.zeros(SHAPE)
        unit[index] = 1
        column = reference(unit, *draws, *static) - zero
        np.testing.assert_allclose(gradient[index], (column * direction).sum(), atol=1e-13)


# --- the layer as a Keras layer ------------------------------------------------------------


def test_contract():
    # What it does where it is not switched off is random; that is tested below.
    run_layer_test(
        DiffAugment,
        {
            "policy": "color,translation",
            "translation": 0.3,
            "cutout": 0.25,
            "cutout_probability": 0.5,
            "seed": 3,
        },
        inputs={"inputs": (3, 4, 6, 3)},
        output_shape=(3, 4, 6, 3),
        num_params=0,
        num_trainable_weights=0,
        num_seed_generators=1,
        call_arguments={"training": False},
    )


def test_is_applied_unless_switched_off():
    images = normal().astype("float32")
    layer = DiffAugment(seed=1)
    np.testing.assert_array_equal(array(layer(images, training=False)), images)
    first = array(DiffAugment(seed=1)(images))
    assert np.abs(first - images).max() > 0.1
    np.testing.assert_array_equal(array(layer(images, training=True)), first)
    model = keras.Sequential([DiffAugment(seed=1)])
    np.testing.assert_array_equal(array(model(images, training=True)), first)
    np.testing.assert_array_equal(model.predict(images, verbose=0), images)


def test_empty_policy_and_empty_batch():
    images = normal().astype("float32")
    np.testing.assert_array_equal(array(DiffAugment("")(images, training=True)), images)
    assert DiffAugment()(images[:0]).shape == (0, *SHAPE[1:])


@pytest.mark.parametrize("policy", ["cutout,color", "color,cutout"])
def test_order_is_that_of_the_policy(policy):
    result = array(DiffAugment(policy, seed=1)(np.full((50, 8, 8, 3), 0.7, "float32")))
    # Colour first: the holes stay black. Cutout first: what was black is coloured.
    assert (result == 0).any() == (policy == "color,cutout")


def test_settings_of_transgan():
    config = DiffAugment(**DiffAugment.TRANSGAN).get_config()
    assert config["policy"] == "translation,cutout,color"
    assert (config["translation"], config["cutout"]) == (0.2, 0.5)
    assert config["cutout_probability"] == 0.3


def test_saved_and_loaded_config():
    layer = DiffAugment("color", translation=0, cutout=1, cutout_probability=0.3, seed=5)
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(data)
    assert again.get_config() == layer.get_config()
    images = normal().astype("float32")
    np.testing.assert_array_equal(array(again(images)), array(layer(images)))


# --- the draws -----------------------------------------------------------------------------


def augmented(images, calls=1, **settings):
    """The images augmented `calls` times over, in one array."""
    layer = DiffAugment(seed=11, **settings)
    compiled = tf.function(layer)
    return np.concatenate([compiled(tf.constant(images)).numpy() for _ in range(calls)])


def assert_uniform(drawn, least, most):
    """Integers: all of them occur, nothing else does, and none is favoured."""
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(least, most + 1))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "fraction, size, most",
    # 0.15 of 10 pixels is one and a half: it goes up.
    [(0.2, (32, 32), (6, 6)), (0.125, (32, 12), (4, 2)), (0.15, (10, 20), (2, 3))],
)
def test_translations(fraction, size, most):
    images = np.zeros((4000, *size, 1), "float32")
    centre = size[0] // 2, size[1] // 2
    images[:, *centre] = 1
    result = augmented(images, policy="translation", translation=fraction)
    sample, row, column, _ = np.nonzero(result)
    np.testing.assert_array_equal(sample, np.arange(4000))
    assert_uniform(row - centre[0], -most[0], most[0])
    assert_uniform(column - centre[1], -most[1], most[1])
    assert abs(np.corrcoef(row, column)[0, 1]) < 0.06


@pytest.mark.parametrize(
    "fraction, size, sides",
    # 0.3 of 15 pixels is four and a half: it goes up.
    [(0.5, (32, 16), (16, 8)), (0.5, (10, 14), (5, 7)), (0.3, (15, 10), (5, 3))],
)
def test_cutouts(fraction, size, sides):
    images = np.ones((6000, *size, 1), "float32")
    zero = augmented(images, policy="cutout", cutout=fraction)[..., 0] == 0
    rows, columns = zero.any(axis=2), zero.any(axis=1)
    np.testing.assert_array_equal(zero, rows[:, :, None] & columns[:, None, :])
    centres = []
    for covered, length, side in ((rows, size[0], sides[0]), (columns, size[1], sides[1])):
        # Every centre covers rows of its own.
        centre = np.arange(length + 1 - side % 2)[:, None]
        offset = np.arange(length) - (centre - side // 2)
        expected = (offset >= 0) & (offset < side)
        which = (covered[:, None] == expected).all(axis=2)
        assert (which.sum(axis=1) == 1).all()
        centres.append(which.argmax(axis=1))
        assert_uniform(centres[-1], 0, length - side % 2)
    assert abs(np.corrcoef(*centres)[0, 1]) < 0.05


def test_colors():
    image = np.array([[[1, 1], [-1, -1], [1, -1]]], "float64")
    result = augmented(np.tile(image, (6000, 1, 1, 1)), policy="color", dtype="float64")
    shift = result.mean(axis=(1, 2, 3))
    factor_of_contrast = (result[:, 0, 0, 0] - result[:, 0, 1, 0]) / 2
    np.testing.assert_array_equal(result[:, 0, :2, 0], result[:, 0, :2, 1])
    factor_of_both = (result[:, 0, 2, 0] - result[:, 0, 2, 1]) / 2
    draws = [
        (shift, -0.5, 0.5),
        (factor_of_both / factor_of_contrast, 0, 2),
        (factor_of_contrast, 0.5, 1.5),
    ]
    for drawn, least, most in draws:
        assert drawn.min() >= least - 1e-9 and drawn.max() <= most + 1e-9
        assert scipy.stats.kstest(drawn, "uniform", (least, most - least)).pvalue > 1e-3
    correlations = np.corrcoef([drawn for drawn, _, _ in draws])
    assert np.abs(correlations - np.eye(3)).max() < 0.05


def test_one_color_a_sample():
    image = normal((1, 8, 8, 3)).astype("float32")
    result = augmented(np.tile(image, (20, 1, 1, 1)), policy="color")
    assert len(np.unique(result.reshape(20, -1), axis=0)) == 20


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_cutout_is_decided_once_a_batch(probability):
    batch, calls = 5, 400
    images = np.ones((batch, 6, 6, 1), "float32")
    result = augmented(images, calls, policy="cutout", cutout_probability=probability)
    cut = (result == 0).any(axis=(1, 2, 3)).reshape(calls, batch)
    np.testing.assert_array_equal(cut.all(axis=1), cut.any(axis=1))
    decided = cut.all(axis=1).sum()
    assert scipy.stats.binomtest(int(decided), calls, probability).pvalue > 1e-3
    # Within a batch the holes differ.
    assert probability == 0 or len(np.unique(result.reshape(calls * batch, -1), axis=0)) > 9


def test_seeds():
    images = normal().astype("float32")
    layer, twin, other = DiffAugment(seed=1), DiffAugment(seed=1), DiffAugment(seed=2)
    first, second = array(layer(images)), array(layer(images))
    np.testing.assert_array_equal(array(twin(images)), first)
    np.testing.assert_array_equal(array(twin(images)), second)
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first - array(other(images))).max() > 0.1

    state = array(layer.seed_generator.state)
    third = array(layer(images))
    other.seed_generator.state.assign(state)
    np.testing.assert_array_equal(array(other(images)), third)
    assert [variable.path for variable in layer.variables] == [layer.seed_generator.state.path]


# --- derivatives, compilation, precision ---------------------------------------------------


def penalty(layer, images):
    """A gradient penalty through the layer, for a critic that is no quadratic, and its slope."""
    state = array(layer.seed_generator.state)
    weights = normal(seed=3)
    with tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as inner:
            inner.watch(images)
            score = tf.reduce_sum(tf.tanh(layer(images)) * weights, axis=(1, 2, 3))
        slope = inner.gradient(score, images)
        norms = tf.sqrt(tf.reduce_sum(slope**2, axis=(1, 2, 3)))
        value = tf.reduce_sum((norms - 1) ** 2)
    # The next evaluation makes the same draws.
    layer.seed_generator.state.assign(state)
    return value.numpy(), outer.gradient(value, images).numpy(), slope.numpy()


def test_first_and_second_derivatives():
    layer = DiffAugment(dtype="float64", translation=0.3, seed=5)
    images, direction, step = normal(), normal(seed=4), 1e-5
    state = array(layer.seed_generator.state)
    value, gradient, slope = penalty(layer, tf.constant(images))
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0.01
    above, below = (images + step * direction, images - step * direction)
    values = [penalty(layer, tf.constant(moved))[0] for moved in (above, below)]
    expected = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-7)

    scores = []
    for moved in (above, below):
        layer.seed_generator.state.assign(state)
        scores.append((np.tanh(array(layer(moved))) * normal(seed=3)).sum())
    expected = (scores[0] - scores[1]) / (2 * step)
    np.testing.assert_allclose((slope * direction).sum(), expected, rtol=1e-7)


@pytest.mark.parametrize("batch", [4, None])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled(batch, jit_compile):
    layer = DiffAugment(**DiffAugment.TRANSGAN, seed=5)

    def value_and_gradients(images):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                result = layer(images)
                score = tf.reduce_sum(tf.tanh(result))
            slope = inner.gradient(score, images)
            value = tf.reduce_sum(slope**2)
        return result, slope, outer.gradient(value, images)

    signature = [tf.TensorSpec((batch, *SHAPE[1:]), "float32")]
    compiled = tf.function(value_and_gradients, signature, jit_compile=jit_compile)
    images = tf.constant(normal().astype("float32"))
    # Enough calls for both outcomes of cutout's draw.
    results = [compiled(images) for _ in range(8)]
    layer.seed_generator.state.assign([5, 0])
    for result in results:
        for one, other in zip(result, value_and_gradients(images), strict=True):
            np.testing.assert_allclose(array(one), array(other), rtol=1e-5, atol=1e-5)
    assert len({array(result).tobytes() for result, _, _ in results}) == 8


def test_fitted_with_compilation():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), DiffAugment(seed=1), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse", jit_compile=True)
    history = model.fit(normal((12, 8, 8, 3)), np.ones(12), batch_size=5, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    # Three batches of two translations, two centres, one decision and three colours.
    assert array(model.layers[0].seed_generator.state)[1] == 3 * 8


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_lost_only_at_the_ends(half):
    # Rounded beforehand, so that the only difference is how the result is rounded.
    images = keras.ops.cast(normal((4, 32, 32, 3)), half)
    result = DiffAugment(seed=1, dtype=f"mixed_{half}")(images)
    assert keras.backend.standardize_dtype(result.dtype) == half
    full = DiffAugment(seed=1)(keras.ops.cast(images, "float32"))
    expected = keras.ops.cast(full, half)
    np.testing.assert_array_equal(
        array(keras.ops.cast(result, "float32")), array(keras.ops.cast(expected, "float32"))
    )


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, received",
    [
        ({"policy": "colour"}, "policy='colour'"),
        ({"policy": "color, cutout"}, "policy='color, cutout'"),
        ({"policy": "color,color"}, "policy='color,color'"),
        ({"policy": "color,"}, "policy='color,'"),
        ({"policy": None}, "policy=None"),
        ({"policy": ["color"]}, r"policy=\['color'\]"),
        ({"translation": -0.1}, "translation=-0.1"),
        ({"translation": "0.1"}, "translation='0.1'"),
        ({"cutout": 1.5}, "cutout=1.5"),
        ({"cutout": float("nan")}, "cutout=nan"),
        ({"cutout_probability": True}, "cutout_probability=True"),
        ({"cutout_probability": 2}, "cutout_probability=2"),
        ({"seed": 1.0}, "seed=1.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_refused_arguments(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        DiffAugment(**arguments)


@pytest.mark.parametrize("training", [True, False])
def test_refused_images(training):
    with pytest.raises(ValueError, match=r"Received: input shape \(2, 28, 28\)$"):
        DiffAugment()(np.zeros((2, 28, 28), "float32"), training=training)
    with pytest.raises(ValueError, match=r"Received: input shape \(None, None, 28, 1\)$"):
        DiffAugment()(keras.Input((None, 28, 1)), training=training)
