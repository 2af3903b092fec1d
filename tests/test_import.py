"""What a start does: `import qrkt_keras` leaves the caller as it was; the command line is quiet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import qrkt_keras
from qrkt_keras.quiet import is_chatter

PARTS = sorted(set(qrkt_keras.__all__) - {"__version__"})


def in_fresh_process(code: str) -> dict:
    """Runs code which prints one JSON object, in a Python that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_import_changes_nothing_and_loads_nothing() -> None:
    seen = in_fresh_process(
        """
import json, os, sys, time, warnings
environment, path, filters = dict(os.environ), list(sys.path), list(warnings.filters)
before = set(sys.modules)
begin = time.perf_counter()
import qrkt_keras
seconds = time.perf_counter() - begin
print(json.dumps({
    "seconds": seconds,
    "environment": dict(os.environ) == environment,
    "path": sys.path == path,
    "filters": warnings.filters == filters,
    "loaded": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
}))
"""
    )
    assert seen["seconds"] < 0.5
    assert seen["environment"] and seen["path"] and seen["filters"]
    assert set(seen["loaded"]) <= {"qrkt_keras", *sys.stdlib_module_names}


def test_a_part_is_loaded_when_it_is_named() -> None:
    seen = in_fresh_process(
        """
import json, sys
import qrkt_keras
before = "qrkt_keras.solvers" in sys.modules
names = qrkt_keras.solvers.list()
print(json.dumps({
    "before": before,
    "after": "qrkt_keras.solvers" in sys.modules,
    "names": list(names),
    "heavy": sorted({"keras", "tensorflow", "jax"} & set(sys.modules)),
}))
"""
    )
    assert not seen["before"] and seen["after"]
    assert "rk4" in seen["names"]
    assert seen["heavy"] == []


@pytest.mark.parametrize("part", PARTS)
def test_every_part_named_is_there(part: str) -> None:
    assert getattr(qrkt_keras, part).__name__ == f"qrkt_keras.{part}"


def test_every_package_is_named() -> None:
    folder = Path(qrkt_keras.__file__).parent
    assert PARTS == sorted(entry.parent.name for entry in folder.glob("*/__init__.py"))


def test_dir_and_unknown_names() -> None:
    assert dir(qrkt_keras) == sorted(qrkt_keras.__all__)
    with pytest.raises(AttributeError, match="'qrkt_keras' has no attribute 'quantum'"):
        qrkt_keras.quantum  # noqa: B018


CHATTER = """\
2026-11-20 20:57:59.418255: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
2026-11-20 20:57:50.258313: E external/local_xla/cuda_fft.cc:477] Unable to register cuFFT factory
2026-11-20 20:57:54.072490: E external/local_xla/cuda_driver.cc:152] failed call to cuInit: 303
2026-11-20 20:57:54.072490: W tensorflow/core/local_rendezvous.cc:404] OUT_OF_RANGE
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
E0000 00:00:1795208270.307752    5102 cuda_dnn.cc:8310] Unable to register cuDNN factory: again
I0000 00:00:1795208274.824825    5112 service.cc:148] XLA service 0x7f74 initialized
I0000 00:00:1795208275.298881    5112 device_compiler.h:188] Compiled cluster using XLA!
""".splitlines()
WORTH_READING = """\
2026-11-20 20:57:54.072490: E tensorflow/core/framework/op_kernel.cc:1] Resource exhausted
2026-11-20 20:57:54.072490: F tensorflow/core/platform/tensor.cc:9] Check failed: dims == 2
E0000 00:00:1795208275.298881    5112 client.cc:188] out of memory
F0000 00:00:1795208275.298881    5112 client.cc:188] Check failed
Fatal Python error: Segmentation fault
I0000 is a word of mine
epoch 3/10 loss 0.1
""".splitlines()


@pytest.mark.parametrize("line", CHATTER)
def test_chatter(line: str) -> None:
    assert is_chatter(line.encode())


@pytest.mark.parametrize("line", WORTH_READING)
def test_what_is_worth_reading(line: str) -> None:
    assert not is_chatter(line.encode())


def quietly(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs code, with its indentation taken off, inside `quiet_tensorflow` in a fresh process."""
    clean = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    indented = "\n".join(f"    {line}" for line in code.strip().splitlines())
    program = f"""
import os, sys, time
from qrkt_keras.quiet import quiet_tensorflow
with quiet_tensorflow():
{indented}
"""
    return subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        timeout=120,
        env=clean | environment,
    )


def test_the_start_and_the_first_compiled_call_are_quiet() -> None:
    done = quietly(
        """
import tensorflow as tf
print(int(tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(1))))
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_whoever_asks_for_the_log_gets_it() -> None:
    code = f"os.write(2, {CHATTER[-1].encode()!r})"
    assert quietly(code).stderr == ""
    assert quietly(code, TF_CPP_MIN_LOG_LEVEL="0").stderr == CHATTER[-1]


def test_everything_else_passes_unchanged() -> None:
    lines = [line for pair in zip(CHATTER, WORTH_READING, strict=False) for line in pair]
    many = [f"line {i} " + "." * 200 for i in range(2000)]
    text = "\n".join([*lines, *many]) + "\nno line break at the end"
    done = quietly(f"data = {text!r}.encode()\nwhile data: data = data[os.write(2, data):]")
    assert done.stderr == "\n".join([*WORTH_READING, *many]) + "\nno line break at the end"


def test_a_question_without_a_line_break_shows_at_once() -> None:
    done = quietly("os.write(2, b'well? ')\ntime.sleep(1)\nsys.stderr.write('yes')")
    assert done.stderr == "well? yes"


def test_pythons_own_stderr_does_not_pass_the_filter() -> None:
    done = quietly(f"sys.stderr.write({CHATTER[-1]!r})")
    assert done.stderr == CHATTER[-1]


def test_an_exception_shows_its_traceback() -> None:
    done = quietly("os.write(2, b'from C\\n')\nraise ValueError('the reason')")
    assert done.returncode == 1
    assert done.stderr.startswith("from C\nTraceback")
    assert done.stderr.endswith("ValueError: the reason\n")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os._exit(3)", 3),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_the_last_words_are_shown_however_it_ends(end: str, status: int) -> None:
    done = quietly(f"os.write(2, {WORTH_READING[1].encode()!r})\n{end}")
    assert done.returncode == status
    assert done.stderr == WORTH_READING[1]


def test_afterwards_everything_is_as_before() -> None:
    seen = in_fresh_process(
        """
import json, os, sys
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
environment, stream, target = dict(os.environ), sys.stderr, os.fstat(2)
from qrkt_keras.quiet import quiet_tensorflow
with quiet_tensorflow():
    inside = os.fstat(2) != target and sys.stderr is not stream
print(json.dumps({
    "inside": inside,
    "environment": dict(os.environ) == environment,
    "stream": sys.stderr is stream,
    "target": os.path.samestat(os.fstat(2), target),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
}))
"""
    )
    assert seen == {
        "inside": True,
        "environment": True,
        "stream": True,
        "target": True,
        "descriptors": [0, 1, 2],
    }
