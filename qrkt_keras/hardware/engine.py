"""A real processor, through Google's Quantum Engine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import cirq

from qrkt_keras.hardware.processors import Processor, of_calibration


class EngineError(ValueError):
    """The Quantum Engine does not give a processor; the message says why."""


class CredentialsError(EngineError):
    """There is no project, or there are no credentials; the message says what is missing."""


class EngineSampler(cirq.Sampler):
    """A processor of the Quantum Engine as a sampler, with what is known of it.

    Args:
        processor: Device and calibration.
        sampler: cirq-google's own.
    """

    def __init__(self, processor: Processor, sampler: cirq.Sampler):
        self.processor = processor
        self.sampler = sampler
        # What tells its outcomes from another one's.
        self.identity = f"EngineSampler({processor.name!r})"

    def run_sweep(
        self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1
    ) -> Sequence[cirq.Result]:
        """Outcomes of one circuit, see `cirq.Sampler.run_sweep`."""
        return self.sampler.run_sweep(program, params, repetitions)

    def run_batch(
        self,
        programs: Sequence[cirq.AbstractCircuit],
        params_list: Sequence[cirq.Sweepable] | None = None,
        repetitions: int | Sequence[int] = 1,
    ) -> Sequence[Sequence[cirq.Result]]:
        """Outcomes of several circuits, see `cirq.Sampler.run_batch`."""
        return self.sampler.run_batch(programs, params_list, repetitions)


def processor(project_id: str | None, processor_id: str, *, engine: Any = None) -> EngineSampler:
    """A real processor as a sampler, with its device and its latest calibration.

    Args:
        project_id: A Google Cloud project with access to the Quantum Computing Service; None takes
            the environment's `GOOGLE_CLOUD_PROJECT`.
        processor_id: The processor's id.
        engine: A `cirq_google` engine in place of the service, such as a simulated one.

    Returns:
        A sampler for `compile_for` and `execution.Sampling`.

    Raises:
        CredentialsError: If no project is named, or there are no credentials.
        EngineError: If the service does not give the processor, or its calibration cannot be used.

    Example:

    >>> from cirq_google.engine import create_noiseless_virtual_engine_from_latest_templates
    >>> local = create_noiseless_virtual_engine_from_latest_templates()
    >>> processor("my-project", "rainbow", engine=local).processor
    Processor('rainbow', num_qubits=23)
    """
    if engine is None:
        project_id = project_id or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if not project_id:
            raise CredentialsError(
                "A real processor needs a Google Cloud project with access to the Quantum "
                "Computing Service: name it, or set GOOGLE_CLOUD_PROJECT. "
                "Received: project_id=None"
            )
        engine = _engine(project_id)
    try:
        found = engine.get_processor(processor_id)
        device, calibration = found.get_device(), found.get_current_calibration()
        sampler = found.get_sampler()
    # What the service raises is of many libraries: transport, permissions, a wrong name.
    except Exception as error:
        raise EngineError(
            f"The Quantum Engine does not give {processor_id!r} to project {project_id!r}: check "
            "both names, the project's access, and the connection. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    if calibration is None:
        raise EngineError(
            "The processor has no calibration, from which qubits are chosen. "
            f"Received: processor_id={processor_id!r}"
        )
    try:
        known = of_calibration(processor_id, device, calibration)
    except (KeyError, ValueError) as error:
        raise EngineError(
            f"The calibration of {processor_id!r} cannot be used. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    return EngineSampler(known, sampler)


def _engine(project_id: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import cirq_google
        import google.auth

        # Asked first: the engine itself looks for credentials when it is used, with many tries.
        try:
            google.auth.default()
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise CredentialsError(
                "A real processor needs credentials of Google Cloud, and there are none: log in "
                "with `gcloud auth application-default login`, or set "
                f"GOOGLE_APPLICATION_CREDENTIALS. Received: {str(error).splitlines()[0]}"
            ) from error
        return cirq_google.Engine(project_id=project_id)
