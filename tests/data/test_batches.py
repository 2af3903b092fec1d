import time

import numpy as np
import pytest

from qrkt_keras import data


def labels_seen(start_epoch, epochs, seed=0, n=103, batch_size=10):
    labels = np.arange(n, dtype=np.int32)
    images = (labels[:, None, None, None] % 256).astype(np.uint8)
    batches = data.training_batches(
        images, labels, batch_size=batch_size, seed=seed, start_epoch=start_epoch, epochs=epochs
    )
    assert len(batches) == (epochs - start_epoch) * (n // batch_size)
    seen = []
    for image, label in batches.as_numpy_iterator():
        assert image.shape == (batch_size, 1, 1, 1) and image.dtype == np.uint8
        assert np.array_equal(image[:, 0, 0, 0], label % 256)
        seen.append(label)
    return np.reshape(seen, (epochs - start_epoch, n // batch_size, batch_size))


def test_a_continued_job_sees_the_same_batches():
    whole = labels_seen(0, 5)
    for start in range(5):
        assert np.array_equal(labels_seen(start, 5), whole[start:])


def test_the_order_is_the_same_however_many_epochs_are_planned():
    assert np.array_equal(labels_seen(0, 2), labels_seen(0, 5)[:2])


def test_each_epoch_and_each_seed_has_its_own_order_of_distinct_examples():
    seen = np.concatenate([labels_seen(0, 4), labels_seen(0, 4, seed=1)])
    for epoch in seen:
        assert len(np.unique(epoch)) == 100
    assert len({epoch.tobytes() for epoch in seen}) == 8


def test_neighbouring_epochs_and_seeds_are_unrelated():
    # Ranks correlate by about 1/sqrt(n) = 0.016 when the orders are independent.
    orders = [
        labels_seen(epoch, epoch + 1, seed, n=4000, batch_size=4000).ravel()
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    correlations = np.corrcoef(orders) - np.eye(4)
    assert np.abs(correlations).max() < 0.08


def test_no_epochs_give_no_batches():
    assert labels_seen(3, 3).shape == (0, 10, 10)


def test_keras_fit_continues_where_it_would_have_been():
    import keras

    def fit(start):
        seen = []

        class Recorder(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(1)

            def train_step(self, batch):
                seen.append(batch[1].numpy())
                return {"loss": 0.0}

        model = Recorder()
        model.compile(run_eagerly=True, optimizer=None)
        labels = np.arange(25)
        batches = data.training_batches(
            labels[:, None].astype("float32"), labels, batch_size=10, seed=4, start_epoch=start,
            epochs=4,
        )  # fmt: skip
        model.fit(
            batches, initial_epoch=start, epochs=4, steps_per_epoch=2, shuffle=False, verbose=0
        )
        return np.array(seen)

    whole = fit(0)
    assert whole.shape == (8, 10)
    assert np.array_equal(fit(3), whole[6:])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.zeros(9)}, r"Received: 10 examples with 9 labels$"),
        ({"batch_size": 11}, r"Received: batch_size=11 with 10 examples$"),
        ({"batch_size": 0}, r"Received: batch_size=0$"),
        ({"start_epoch": 4}, r"Received: start_epoch=4, epochs=3$"),
        ({"start_epoch": -1}, r"Received: start_epoch=-1, epochs=3$"),
        ({"seed": -1}, r"Received: seed=-1$"),
        ({"lengths": np.zeros(9, int)}, r"Received: shape \(9,\), dtype int64$"),
        ({"lengths": np.zeros(10)}, r"Received: shape \(10,\), dtype float64$"),
        ({"lengths": np.full(10, 3)}, r"lie in 0\.\.2.*Received: 3\.\.3$"),
        ({"lengths": np.full(10, -1)}, r"Received: -1\.\.-1$"),
        (
            {"lengths": np.ones(10, int), "examples": np.zeros(10)},
            r"Received: examples of shape \(10,\)$",
        ),
        (
            {"lengths": np.ones(10, int), "examples": np.zeros((10, 2)), "stratified": True},
            r"or stratified\. Received: stratified=True with lengths$",
        ),
    ],
)
def test_bad_input_is_refused(changed, message):
    arguments = {
        "examples": np.zeros((10, 2, 2, 1)),
        "labels": np.zeros(10),
        "batch_size": 4,
        "seed": 0,
        "epochs": 3,
    }
    with pytest.raises(ValueError, match=message):
        data.training_batches(**(arguments | changed))


WIDTH = 300


def sequences(n):
    """Tokens that name their example and place, and their lengths; 0 is padding."""
    lengths = np.random.RandomState(0).randint(0, WIDTH + 1, n)
    places = np.arange(WIDTH)
    tokens = np.where(places < lengths[:, None], np.arange(n)[:, None] * WIDTH + places + 1, 0)
    return tokens, lengths


def bucketed(n, batch_size, seed=0, start_epoch=0, epochs=3):
    """Each epoch's batches, as lists of (tokens, labels)."""
    tokens, lengths = sequences(n)
    batches = data.training_batches(
        tokens, np.arange(n), batch_size=batch_size, seed=seed, start_epoch=start_epoch,
        epochs=epochs, lengths=lengths,
    )  # fmt: skip
    steps = n // batch_size
    seen = list(batches.as_numpy_iterator())
    assert len(seen) == len(batches) == (epochs - start_epoch) * steps
    return [seen[start : start + steps] for start in range(0, len(seen), steps)]


def order_of(epoch):
    return np.concatenate([labels for _, labels in epoch])


@pytest.mark.parametrize(("n", "batch_size"), [(1008, 8), (400, 8), (24, 8), (5, 1)])
def test_by_length_every_example_comes_whole_and_once_an_epoch(n, batch_size):
    tokens, lengths = sequences(n)
    for epoch in bucketed(n, batch_size):
        assert np.array_equal(np.sort(order_of(epoch)), np.arange(n))
        for batch, labels in epoch:
            longest = lengths[labels].max()
            width = min(max(64, int(np.ceil(longest / 64)) * 64), WIDTH)
            assert batch.shape == (batch_size, width)
            assert np.array_equal(batch, tokens[labels, :width])
            assert not tokens[labels, width:].any()


def test_by_length_the_order_is_a_function_of_seed_and_epoch():
    whole = [order_of(epoch) for epoch in bucketed(1008, 8)]
    for start in range(3):
        continued = bucketed(1008, 8, start_epoch=start)
        assert np.array_equal([order_of(epoch) for epoch in continued], whole[start:])
    others = [order_of(epoch) for epoch in bucketed(1008, 8, seed=1)]
    assert len({order.tobytes() for order in whole + others}) == 6


def test_by_length_windows_are_those_of_the_plain_order_and_are_sorted():
    n, batch_size = 1008, 8  # 126 batches: two windows and a half
    _, lengths = sequences(n)
    plain = labels_seen(0, 1, n=n, batch_size=batch_size)[0]
    found = np.reshape(order_of(bucketed(n, batch_size, epochs=1)[0]), plain.shape)
    for start in range(0, len(plain), 50):
        window = slice(start, start + 50)
        assert set(found[window].ravel()) == set(plain[window].ravel())
        ranges = sorted((lengths[one].min(), lengths[one].max()) for one in found[window])
        assert all(high <= low for (_, high), (low, _) in zip(ranges[:-1], ranges[1:], strict=True))
        # The batches themselves come in no order: ranks of 50 correlate by about 0.14.
        means = lengths[found[window]].mean(axis=1)
        if len(means) == 50:
            assert abs(np.corrcoef(means, np.arange(50))[0, 1]) < 0.5


def test_by_length_leaves_little_padding():
    _, lengths = sequences(4000)
    (epoch,) = bucketed(4000, 32, epochs=1)
    places = sum(batch.size for batch, _ in epoch)
    # Cut to multiples of 64, the examples alone would take this many places.
    needed = (np.clip(np.ceil(lengths / 64) * 64, 64, WIDTH)).sum()
    assert places < 1.05 * needed < 0.75 * 4000 * WIDTH


def test_strings_and_vectors_are_batched_too():
    words = np.array(["a", "b", "ä"], object)
    (batch,) = data.training_batches(words, np.arange(3), batch_size=3, seed=0, epochs=1)
    assert [word.decode() for word in batch[0].numpy()] == list(words[batch[1].numpy()])


def test_an_iterator_is_closed_without_waiting():
    """tf.data's autotuning would hold it for up to seconds; when, is chance."""
    took = []
    for rest in (0.1, 1.0, 2.5):
        iterator = iter(
            data.training_batches(np.zeros((99, 2)), np.zeros(99), batch_size=9, seed=0, epochs=9)
        )
        next(iterator)
        time.sleep(rest)
        next(iterator)
        start = time.perf_counter()
        del iterator
        took.append(time.perf_counter() - start)
    assert max(took) < 0.5


def labels_of(counts, seed=0):
    """So many labels of each class, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def stratified(labels, batch_size, *, seed=0, start_epoch=0, epochs=3):
    """The numbers of the examples, (epochs, steps, batch_size)."""
    n = len(labels)
    batches = data.training_batches(
        np.arange(n), labels, batch_size=batch_size, seed=seed, start_epoch=start_epoch,
        epochs=epochs, stratified=True,
    )  # fmt: skip
    assert len(batches) == (epochs - start_epoch) * (n // batch_size)
    seen = []
    for numbers, of_batch in batches.as_numpy_iterator():
        assert np.array_equal(of_batch, labels[numbers])
        seen.append(numbers)
    return np.reshape(seen, (epochs - start_epoch, n // batch_size, batch_size))


# MNIST's classes, a tenth of each.
MNIST = [592, 674, 596, 613, 584, 542, 592, 627, 585, 595]


@pytest.mark.parametrize(
    ("counts", "batch_size"),
    [
        (MNIST, 100),
        ([100] * 10, 20),
        ([50, 50], 10),
        ([97, 3], 10),
        ([10, 20, 30], 6),
        ([3, 50, 47], 10),
        # A class of one example, and a last batch that is not complete.
        ([1, 1, 98], 10),
        ([7, 13, 29, 51], 9),
        ([0, 5, 5], 2),
    ],
    ids=str,
)
def test_stratified_batches_have_each_class_in_its_share(counts, batch_size):
    labels, share = labels_of(counts), np.array(counts) / sum(counts)
    classes = np.count_nonzero(counts)
    for seed in range(4):
        batches = labels[stratified(labels, batch_size, seed=seed)]
        found = np.stack([(batches == label).sum(axis=-1) for label in range(len(counts))], axis=-1)
        off = np.abs(found - batch_size * share)
        # Derived from the positions in the docstring.
        assert (off < 1 + share * (classes - 2)).all()
        # Beyond rounding only rarely.
        assert (off < 1 + 1e-9).mean() > 0.95
        # From the epoch's beginning on, not of the batches alone.
        total = found.cumsum(axis=1)
        shares = batch_size * share * np.arange(1, found.shape[1] + 1)[:, None]
        assert (np.abs(total - shares) < 1 + share * (classes - 2)).all()


def test_a_single_class_is_a_sample_of_all():
    (epoch,) = stratified(np.full(23, 7), 4, epochs=1)
    assert len(np.unique(epoch)) == 20


def test_equal_classes_are_equal_in_every_batch():
    batches = labels_of([60] * 5)[stratified(labels_of([60] * 5), 20)]
    for label in range(5):
        assert ((batches == label).sum(axis=-1) == 4).all()


def test_without_strata_shares_differ_more():
    """So that the tests above could fail."""
    labels = labels_of(MNIST)
    plain = labels_seen(0, 1, n=len(labels), batch_size=100)[0]
    off = [np.abs((labels[plain] == label).sum(axis=-1) - MNIST[label] / 60) for label in range(10)]
    assert np.max(off) > 5 and (np.array(off) > 1).mean() > 0.5


def test_stratified_every_example_comes_once_an_epoch():
    labels = labels_of([30, 50, 20])
    for epoch in stratified(labels, 10):
        assert np.array_equal(np.sort(epoch.ravel()), np.arange(100))
    # Of a batch that is not complete, others are left out in every epoch.
    left = [set(range(100)) - set(epoch.ravel()) for epoch in stratified(labels, 30, epochs=9)]
    assert {len(numbers) for numbers in left} == {10}
    assert len(set.union(*left)) > 40


def test_stratified_the_order_is_a_function_of_seed_and_epoch():
    labels = labels_of([30, 50, 20])
    whole = stratified(labels, 10, epochs=4)
    for start in range(5):
        assert np.array_equal(stratified(labels, 10, start_epoch=start, epochs=4), whole[start:])
    assert np.array_equal(stratified(labels, 10, epochs=2), whole[:2])
    others = [*whole, *stratified(labels, 10, epochs=4, seed=1)]
    assert len({epoch.tobytes() for epoch in others}) == 8


def test_stratified_within_its_class_the_order_is_random():
    """Ranks of 2,000 correlate by about 0.022 when orders are independent."""
    labels = labels_of([2000, 2000])
    orders = [*stratified(labels, 4000, epochs=2), *stratified(labels, 4000, epochs=2, seed=1)]
    ranks = [np.argsort(order.ravel())[labels == 0] for order in orders]
    correlations = np.corrcoef([*ranks, np.arange(2000)]) - np.eye(5)
    assert np.abs(correlations).max() < 0.11


def test_labels_of_any_integer_type_and_size():
    labels = labels_of([8, 8])
    expected = stratified(labels, 4)
    assert np.array_equal(stratified((1000 * labels - 7).astype("int32"), 4), expected)
    assert np.array_equal(stratified(labels.astype("uint8"), 4), expected)
