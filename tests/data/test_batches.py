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
        ({"labels": np.zeros(9)}, r"Received: 10 images with 9 labels$"),
        ({"batch_size": 11}, r"Received: batch_size=11 with 10 examples$"),
        ({"batch_size": 0}, r"Received: batch_size=0$"),
        ({"start_epoch": 4}, r"Received: start_epoch=4, epochs=3$"),
        ({"start_epoch": -1}, r"Received: start_epoch=-1, epochs=3$"),
        ({"seed": -1}, r"Received: seed=-1$"),
    ],
)
def test_bad_input_is_refused(changed, message):
    arguments = {
        "images": np.zeros((10, 2, 2, 1)),
        "labels": np.zeros(10),
        "batch_size": 4,
        "seed": 0,
        "epochs": 3,
    }
    with pytest.raises(ValueError, match=message):
        data.training_batches(**(arguments | changed))
