import io

import numpy as np
import pytest
from rich.console import Console

from qrkt_keras.training import ProgressBar


def play(console, epochs, start=0, steps=4):
    bar = ProgressBar(console)
    bar.set_params({"epochs": epochs, "steps": steps})
    bar.on_train_begin()
    for epoch in range(start, epochs):
        bar.on_epoch_begin(epoch)
        for step in range(0, steps, 2):
            bar.on_train_batch_end(step + 1, {"loss": 1.0 / (epoch + 1), "accuracy": 0.5})
        bar.on_epoch_end(epoch, {"loss": 0.9, "accuracy": 0.5, "val_accuracy": 0.25, "val_loss": 3})
    return bar


def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=100)


@pytest.mark.parametrize(
    ("epochs", "start", "shown"),
    [
        (1, 0, [1]),
        (3, 0, [1, 2, 3]),
        (60, 0, [1, *range(6, 61, 6)]),
        (65, 0, [1, *range(6, 61, 6), 65]),
        (60, 50, [54, 60]),
    ],
)
def test_without_a_terminal_a_line_about_every_tenth(epochs, start, shown):
    console = plain()
    play(console, epochs, start).on_train_end()
    lines = console.file.getvalue().splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == shown
    assert all("loss 0.900  acc 0.500  val acc 0.250" in line for line in lines)
    assert "\x1b" not in console.file.getvalue()
    if len(shown) > 1:
        assert lines[-1].endswith("0:00 left")


def test_the_time_left_leaves_out_the_first_epoch(monkeypatch):
    from qrkt_keras.training import progress

    # Compiling and training the first epoch takes 100 s, each of the others 10 s.
    clock = iter([0.0, 100.0] + [100.0 + 10 * epoch for epoch in range(1, 4)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    console = plain()
    play(console, 4)
    ends = [line.split("  ")[-1] for line in console.file.getvalue().splitlines()]
    assert ends == ["val acc 0.250", "0:20 left", "0:10 left", "0:00 left"]


def test_on_a_terminal_a_bar_over_the_whole_job():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bar = play(console, 5)
    task = bar._bar.tasks[0]
    assert (task.completed, task.total) == (20, 20)
    bar.on_train_end()
    text = console.file.getvalue()
    for part in ("epoch 5/5", "100%", "loss 0.900", "acc 0.500", "val acc 0.250"):
        assert part in text


def test_a_continued_job_starts_where_it_was():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bar = ProgressBar(console)
    bar.set_params({"epochs": 10, "steps": 4})
    bar.on_train_begin()
    bar.on_epoch_begin(7)
    task = bar._bar.tasks[0]
    assert (task.completed, task.total) == (28, 40)
    bar.close()


def test_close_leaves_no_live_display():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bar = play(console, 3)
    bar.close()
    bar.close()
    assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_a_job_without_epochs_left_prints_nothing():
    console = plain()
    play(console, 3, start=3).on_train_end()
    assert console.file.getvalue() == ""


def test_in_keras(capsys):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.zeros((8, 2)), np.zeros(8), batch_size=4, epochs=2, verbose=0,
              callbacks=[ProgressBar(plain())])  # fmt: skip
