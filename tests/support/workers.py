"""Processes that train together on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from qrkt_keras.training import read_checkpoint


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits for what must become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, though nobody may have reaped it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def epochs_done(trial: Path) -> int:
    """How many epochs of the trial in a folder are in its checkpoint."""
    checkpoint = trial / "run" / "checkpoint.npz"
    return read_checkpoint(checkpoint).metadata["epoch"] if checkpoint.exists() else 0


def trains(trial: Path, beyond: int = 0) -> bool:
    """Whether a trial has trained more than so many epochs, and has no result yet."""
    return epochs_done(trial) > beyond and not (trial / "result.json").exists()


def tf_configs(num: int = 2) -> list[str]:
    """`TF_CONFIG` of each of so many workers, at ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(num)
    ]


def stop(processes: Sequence[subprocess.Popen]) -> None:
    """Ends those that have not ended; what waits for another would wait for long."""
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(*processes: subprocess.Popen, patience: float) -> list[tuple[str, str]]:
    """Waits for processes, which must end well, and gives what they printed on both streams."""
    outputs = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=patience)
            assert process.returncode == 0, (output + errors)[-6000:]
            outputs.append((output, errors))
    finally:
        stop(processes)
    return outputs
