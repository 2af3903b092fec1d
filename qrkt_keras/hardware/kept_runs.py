"""Runs of a sampler, kept in a folder, so that what was paid for is not paid for twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cirq
import numpy as np

from qrkt_keras.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint

_KIND = "runs of a sampler"
# Exponents of two equal jobs differ by rounding only.
_SAME = 1e-4


class KeptRuns(cirq.Sampler):
    """A sampler whose answers are kept, one file a `run_batch`, and given again when asked again.

    A job that was interrupted, killed or left by its sampler is started again with `resume=True`:
    it asks for the same batches in the same order, and those that have an answer cost nothing. A
    virtual machine's random numbers go on where they were, so the results are those of a job that
    was never interrupted.

    Args:
        sampler: what runs circuits.
        folder: made if it is not there.
        resume: whether to go on with what the folder has.

    Raises:
        ValueError: the folder has runs, and `resume` is not asked for.
        CheckpointError: when run: a file is damaged, or of another job.

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
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume and any(self.folder.glob("run_*.npz")):
            raise ValueError(
                "The folder has runs already: go on with them with resume=True, or choose another "
                f"one. Received: folder={self.folder}"
            )
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
        sweeps = [
            list(cirq.to_resolvers(params)) for params in params_list or [None] * len(programs)
        ]
        if isinstance(repetitions, int):
            repetitions = [repetitions] * len(programs)
        request = _request(programs, sweeps, repetitions)
        path = self.folder / f"run_{self._next:06d}.npz"
        number = sum(map(len, sweeps))
        if path.exists():
            results = self._read(path, request, sweeps)
            self.num_kept += number
        else:
            results = self.sampler.run_batch(programs, sweeps, list(repetitions))
            self._write(path, request, results)
            self.num_circuits += number
            pairs = zip(sweeps, repetitions, strict=True)
            self.num_shots += sum(len(sweep) * shots for sweep, shots in pairs)
        self._next += 1
        return results

    def _write(self, path: Path, request: dict[str, Any], results: Any) -> None:
        arrays, shapes = dict(request["arrays"]), []
        for index, sweep in enumerate(results):
            keys = sorted(sweep[0].measurements) if len(sweep) else []
            shapes.append({})
            for key in keys:
                outcomes = np.stack([result.measurements[key] for result in sweep])
                shapes[-1][key] = list(outcomes.shape)
                arrays[f"outcomes/{index}/{key}"] = np.packbits(outcomes.astype(np.uint8))
        state = getattr(self.sampler, "num_runs", None)
        metadata = {"kind": _KIND, **request["facts"], "shapes": shapes, "num_runs": state}
        write_checkpoint(path, arrays, metadata)

    def _read(
        self, path: Path, request: dict[str, Any], sweeps: Sequence[Sequence[cirq.ParamResolver]]
    ) -> list[list[cirq.Result]]:
        checkpoint = read_checkpoint(path)
        facts = {name: checkpoint.metadata.get(name) for name in request["facts"]}
        wanted = request["arrays"]
        same = facts == request["facts"] and all(
            name in checkpoint.arrays
            and checkpoint.arrays[name].shape == array.shape
            and np.allclose(checkpoint.arrays[name], array, rtol=0, atol=_SAME)
            for name, array in wanted.items()
        )
        if checkpoint.metadata.get("kind") != _KIND or not same:
            raise CheckpointError(
                "The kept run is of another job: use the options, data and model that it was begun "
                f"with, or another folder. Received: {path}"
            )
        results = []
        for index, sweep in enumerate(sweeps):
            measured = {}
            for key, shape in checkpoint.metadata["shapes"][index].items():
                bits = np.unpackbits(checkpoint.arrays[f"outcomes/{index}/{key}"])
                measured[key] = bits[: np.prod(shape)].reshape(shape)
            results.append(
                [
                    cirq.ResultDict(
                        params=resolver,
                        measurements={key: rows[point] for key, rows in measured.items()},
                    )
                    for point, resolver in enumerate(sweep)
                ]
            )
        if checkpoint.metadata["num_runs"] is not None:
            self.sampler.num_runs = checkpoint.metadata["num_runs"]
        return results


def _request(
    programs: Sequence[cirq.AbstractCircuit],
    sweeps: Sequence[Sequence[cirq.ParamResolver]],
    repetitions: Sequence[int],
) -> dict[str, Any]:
    """What is asked for: facts that must be equal, and arrays that may differ by rounding."""
    arrays, symbols = {}, []
    for index, sweep in enumerate(sweeps):
        names = sorted(cirq.parameter_names(programs[index]))
        symbols.append(names)
        values = [[float(resolver.value_of(name)) for name in names] for resolver in sweep]
        arrays[f"parameters/{index}"] = np.array(values).reshape(len(sweep), len(names))
    facts = {
        "circuits": [[len(program), len(program.all_qubits())] for program in programs],
        "symbols": symbols,
        "repetitions": list(repetitions),
    }
    return {"facts": facts, "arrays": arrays}
