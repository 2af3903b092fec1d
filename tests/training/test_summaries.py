import numpy as np
import tensorflow as tf

from qrkt_keras.training.summaries import HistorySummaries, Summaries


def events(folder):
    """What is in a folder's logs: (step, name, number or shape), file by file."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                if value.metadata.plugin_data.plugin_name == "images":
                    found.append((event.step, value.tag, tf.io.decode_png(tensor[2]).shape))
                else:
                    found.append((event.step, value.tag, float(tensor)))
    return found


def test_numbers_and_pictures_are_written(tmp_path):
    summaries = Summaries(tmp_path / "logs")
    summaries.write(3, {"loss": 0.5, "fid": float("nan")}, {"roc": np.zeros((4, 6, 3), np.uint8)})
    assert sorted(events(tmp_path / "logs")) == [(3, "loss", 0.5), (3, "roc", (4, 6, 3))]
    # Closed, it goes on in another file.
    summaries.close()
    summaries.write(4, {"loss": 0.25})
    assert (4, "loss", 0.25) in events(tmp_path / "logs")
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_a_continued_history_has_every_epoch_once(tmp_path):
    first = HistorySummaries(Summaries(tmp_path), {})
    first.on_epoch_end(0, {"loss": 3.0})
    # Killed after this was written, and before the checkpoint was, or the other way round.
    first.on_epoch_end(1, {"loss": 2.0})
    (tmp_path / "other.txt").touch()
    later = HistorySummaries(Summaries(tmp_path), {"loss": [3.0], "rate": [float("nan")]})
    later.on_epoch_end(1, {"loss": 1.5, "rate": 0.5})
    wanted = [(1, "loss", 3.0), (2, "loss", 1.5), (2, "rate", 0.5)]
    assert sorted(events(tmp_path)) == wanted
    assert (tmp_path / "other.txt").exists()
