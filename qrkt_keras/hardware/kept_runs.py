"""Runs of a sampler, kept in a folder, so that what was paid for is not paid for twice."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cirq
import numpy as np

from qrkt_keras.execution import RefusedRunError, SamplerError
from qrkt_keras.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from qrkt_keras.training.files import lock_folder

_KIND = "runs of a sampler"
# Exponents of two equal jobs differ by rounding only; those of a pulse come back every two.
_SAME = 1e-5


class KeptRunsError(RefusedRunError):
    """A kept run is damaged, cannot be written, or is of another job."""


class KeptRuns(cirq.Sampler):
    """A sampler whose answers are kept, one file a `run_batch`, and given again when asked again.

    A job that was interrupted, killed or left by its sampler is started again with `resume=True`:
    it asks for the same batches in the same order, and those that have an answer cost nothing. A
    virtual machine's random numbers go on where they were, so the results are those of a job that
    was never interrupted. What is kept is a whole `run_batch`: one that was not finished is run
    again. An answer that is not what was asked for is not kept.

    Args:
        sampler: what runs circuits.
        folder: made if it is not there; for one job, and one process at a time.
        resume: whether to go on with what the folder has.

    Raises:
        ValueError: the folder has runs, and `resume` is not asked for.
        KeptRunsError: the folder cannot be made, or another process is at work in it.
        KeptRunsError: when run: a file is damaged, cannot be written, or is of another job: other
            circuits, angles or repetitions, or another sampler.
        SamplerError: when run: the sampler returned something else than was asked for.

    Example:
        >>> import tempfile
        >>> qubit = cirq.LineQubit(0)
        >>> circuit = cirq.Circuit(cirq.H(qubit), cirq.measure(qubit, key="m"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = KeptRuns(cirq.Simulator(), folder).run(circuit, repetitions=50)
        ...     kept = KeptRuns(cirq.Simulator(), folder, resume=True)
        ...     kept.run(circuit, repetitions=50) == first, kept.num_shots, kept.num_kept
        (True, 0, 1)
    """

    def __init__(
        self, sampler: cirq.Sampler, folder: str | os.PathLike[str], *, resume: bool = False
    ):
        self.sampler = sampler
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KeptRunsError(
                f"The folder could not be made ({error}). Received: folder={self.folder}"
            ) from error
        if not resume and any(self.folder.glob("run_*.npz")):
            raise ValueError(
                "The folder has runs already: go on with them with resume=True, or choose another "
                f"one. Received: folder={self.folder}"
            )
        try:
            self._lock = lock_folder(self.folder)
        except BlockingIOError as error:
            raise KeptRunsError(
                "Another process is at work in the folder, and both would run the same circuits: "
                f"wait for it, or choose another folder. Received: folder={folder}"
            ) from error
        self._next = 0
        # What this process had run: circuits with their angles, and repetitions of all.
        self.num_circuits = 0
        self.num_shots = 0
        # What was there already, in the same units as num_circuits.
        self.num_kept = 0

    def run_sweep(
        self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1
    ) -> Sequence[cirq.Result]:
        """Outcomes of one circuit, see `cirq.Sampler.run_sweep`."""
        return self.run_batch([program], [params], repetitions)[0]

    def run_batch(
        self,
        programs: Sequence[cirq.AbstractCircuit],
        params_list: Sequence[cirq.Sweepable] | None = None,
        repetitions: int | Sequence[int] = 1,
    ) -> Sequence[Sequence[cirq.Result]]:
        """Outcomes of several circuits, see `cirq.Sampler.run_batch`."""
        params_list = params_list or [None] * len(programs)
        sweeps = [list(cirq.to_resolvers(params)) for params in params_list]
        if isinstance(repetitions, int):
            repetitions = [repetitions] * len(programs)
        number, size = self._next, sum(map(len, sweeps))
        path = self.folder / f"run_{number:06d}.npz"
        facts, arrays = _request(self.sampler, programs, sweeps, repetitions)
        if path.exists():
            results = self._read(path, facts, arrays, sweeps)
            self.num_kept += size
        else:
            results = self.sampler.run_batch(programs, sweeps, list(repetitions))
            _check(results, sweeps, repetitions)
            self.num_circuits += size
            pairs = zip(sweeps, repetitions, strict=True)
            self.num_shots += sum(len(sweep) * shots for sweep, shots in pairs)
            # An answer that came too late for its call may have been kept meanwhile.
            if path.exists():
                results = self._read(path, facts, arrays, sweeps)
            else:
                self._write(path, facts, arrays, results)
        self._next = number + 1
        return results

    def _write(
        self, path: Path, facts: dict[str, Any], arrays: dict[str, np.ndarray], results: Any
    ) -> None:
        arrays, shapes = dict(arrays), []
        for index, sweep in enumerate(results):
            shapes.append({})
            for key in sorted(sweep[0].measurements) if len(sweep) else []:
                outcomes = np.stack([result.measurements[key] for result in sweep])
                shapes[-1][key] = list(outcomes.shape)
                arrays[f"outcomes/{index}/{key}"] = np.packbits(outcomes.astype(np.uint8))
        state = getattr(self.sampler, "num_runs", None)
        metadata = {"kind": _KIND, **facts, "shapes": shapes, "num_runs": state}
        try:
            write_checkpoint(path, arrays, metadata)
        except OSError as error:
            raise KeptRunsError(f"The run could not be kept ({error}). Received: {path}") from error

    def _read(
        self,
        path: Path,
        facts: dict[str, Any],
        arrays: dict[str, np.ndarray],
        sweeps: Sequence[Sequence[cirq.ParamResolver]],
    ) -> list[list[cirq.Result]]:
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            raise KeptRunsError(str(error)) from error
        metadata = checkpoint.metadata
        other = [name for name, fact in facts.items() if metadata.get(name) != fact]
        if not other and not all(
            _same_angles(checkpoint.arrays.get(name), array) for name, array in arrays.items()
        ):
            other.append("angles")
        if metadata.get("kind") != _KIND or other:
            raise KeptRunsError(
                "The kept run is of another job: use the options, data, model and processor that "
                "it was begun with, or another folder. "
                f"Received: other {', '.join(other)} in {path}"
            )
        results = []
        for index, sweep in enumerate(sweeps):
            measured = {}
            for key, shape in metadata["shapes"][index].items():
                bits = np.unpackbits(checkpoint.arrays[f"outcomes/{index}/{key}"])
                measured[key] = bits[: np.prod(shape)].reshape(shape).astype(np.int8)
            results.append(
                [
                    cirq.ResultDict(
                        params=resolver,
                        measurements={key: rows[point] for key, rows in measured.items()},
                    )
                    for point, resolver in enumerate(sweep)
                ]
            )
        if metadata["num_runs"] is not None:
            self.sampler.num_runs = metadata["num_runs"]
        return results


def _request(
    sampler: cirq.Sampler,
    programs: Sequence[cirq.AbstractCircuit],
    sweeps: Sequence[Sequence[cirq.ParamResolver]],
    repetitions: Sequence[int],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is asked for: facts that must be equal, and angles that may differ by rounding."""
    arrays = {}
    for index, (program, sweep) in enumerate(zip(programs, sweeps, strict=True)):
        names = sorted(cirq.parameter_names(program))
        values = [[float(resolver.value_of(name)) for name in names] for resolver in sweep]
        arrays[f"parameters/{index}"] = np.array(values).reshape(len(sweep), len(names))
    facts = {
        "sampler": getattr(sampler, "identity", type(sampler).__name__),
        "circuits": [_digest(program.freeze()) for program in programs],
        "points": [len(sweep) for sweep in sweeps],
        "repetitions": list(repetitions),
    }
    return facts, arrays


@functools.lru_cache(maxsize=256)
def _digest(circuit: cirq.FrozenCircuit) -> str:
    return hashlib.sha256(cirq.to_json(circuit).encode()).hexdigest()


def _same_angles(kept: np.ndarray | None, asked: np.ndarray) -> bool:
    if kept is None or kept.shape != asked.shape:
        return False
    differences = np.abs((kept - asked + 1) % 2 - 1)
    return bool(np.all(differences <= _SAME))


def _check(
    results: Sequence[Sequence[cirq.Result]],
    sweeps: Sequence[Sequence[cirq.ParamResolver]],
    repetitions: Sequence[int],
) -> None:
    """What is not the whole answer is not worth keeping."""
    received = [
        (len(found), sorted({len(rows) for one in found for rows in one.measurements.values()}))
        for found in results
    ]
    wanted = [
        (len(sweep), [shots] if len(sweep) else [])
        for sweep, shots in zip(sweeps, repetitions, strict=True)
    ]
    outcomes = [rows for found in results for one in found for rows in one.measurements.values()]
    if any(rows.size and not 0 <= rows.min() <= rows.max() <= 1 for rows in outcomes):
        raise SamplerError("The sampler must return outcomes of 0 and 1. Received: others")
    if received != wanted:
        raise SamplerError(
            "The sampler must return as many points, and as many shots of each, as are asked for: "
            f"{wanted}. Received: {received}"
        )
