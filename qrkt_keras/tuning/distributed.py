"""A search on many machines: KerasTuner's chief and workers, which neither wait nor hang for ever.

Environment variables, as KerasTuner has them, say who is who: `KERASTUNER_ORACLE_IP` and
`KERASTUNER_ORACLE_PORT` where the chief listens, and `KERASTUNER_TUNER_ID`, which is different on
each machine and has "chief" in it on one of them. The chief gives trials out; workers train them.
All see the same folder.

To KerasTuner's protocol this adds: a worker tells again and again that it is at work, and says who
it is and in which search with each call; a chief refuses the workers of other searches, gives the
trial of a silent worker to another one, and refuses the silent one when it comes back; calls that
are not answered, for the chief is being restarted, are made again, for so long; and an error on the
chief ends it, instead of leaving its lock behind.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient

from qrkt_keras.tuning.trial_process import TrialLostError

CHIEF, WORKER = "chief", "worker"

_IP, _PORT = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
_ID = "KERASTUNER_TUNER_ID"

# How calls say which worker makes them, of which search, and why a trial failed, of which
# KerasTuner's say nothing; "-bin" is gRPC's mark for what is not ASCII.
_WHO, _WHICH, _REASON = "tuner-id", "search-id", "reason-bin"
# Seconds between looks at the state of things, and of one attempt of a call.
_POLL, _ATTEMPT = 0.5, 20.0
# What a call ends with whose chief is away, is being ended, or had an error that ends it.
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)
# What a call ends with whose worker belongs to another search.
_OTHER_SEARCH = grpc.StatusCode.INVALID_ARGUMENT
# Seconds after which a worker asks again that was told to wait.
_IDLE = 1.0


class ChiefLostError(ConnectionError):
    """The chief does not answer."""


class _OverError(TrialLostError):
    """The search is over, and its chief is gone."""


class WorkersLostError(ConnectionError):
    """No worker is left, and trials are."""


def role(is_distributed: bool) -> str | None:
    """What this process is in a search: `CHIEF`, `WORKER`, or None where it is alone.

    Raises:
        ValueError: If the environment does not say it, or says what was not asked for.
    """
    named = [name for name in (_IP, _PORT, _ID) if os.environ.get(name)]
    if not is_distributed:
        if _IP in os.environ:  # as KerasTuner asks
            raise ValueError(
                "The environment names the chief of a search on many machines: ask for such a "
                f"search (is_distributed=True, or --distributed), or unset {_IP}. "
                f"Received: {_IP}={os.environ[_IP]}"
            )
        return None
    missing = [name for name in (_IP, _PORT, _ID) if name not in named]
    if missing:
        raise ValueError(
            f"A search on many machines is told by {_IP}, {_PORT} and {_ID}. "
            f"Received: no {', '.join(missing)}"
        )
    if not os.environ[_PORT].isdecimal():
        raise ValueError(f"{_PORT} must be a number. Received: {os.environ[_PORT]!r}")
    return CHIEF if "chief" in os.environ[_ID] else WORKER


def address() -> str:
    """Where the chief listens."""
    return f"{os.environ[_IP]}:{os.environ[_PORT]}"


def wait_for(file: Path, timeout: float) -> None:
    """Waits until the chief has written a file.

    Raises:
        ChiefLostError: If it does not.
    """
    until = time.monotonic() + timeout
    while not file.exists():
        if time.monotonic() > until:
            raise ChiefLostError(
                f"The chief has not begun the search within {timeout:.0f} s, or its folder is not "
                f"shared with this machine. Received: no {file}"
            )
        time.sleep(_POLL)


def serve(
    oracle: keras_tuner.Oracle,
    address: str,
    *,
    on_trial_end: Callable[[Trial], None],
    worker_timeout: float,
    timeout: float,
    search_id: str = "",
) -> None:
    """Gives out an oracle's trials until none is left, and all workers know it.

    Args:
        oracle: Of `oracles.make_oracle`, with `is_shared=True`.
        address: Where to listen.
        on_trial_end: Called with each trial that has ended.
        worker_timeout: Seconds of silence after which a worker's trial is given to another one.
        timeout: Seconds to wait for any worker.
        search_id: What its workers call the search.

    Raises:
        WorkersLostError: If no worker came for so long, and trials are left.
        OSError: If the address is taken.
    """
    servicer = _Servicer(oracle, on_trial_end, search_id)
    # Two chiefs at one port would share the calls.
    options = [("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=options)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"The chief cannot listen there ({error}). Received: {address}") from error
    if not port:
        raise OSError(f"The chief cannot listen there. Received: {address}")
    last = time.monotonic()
    server.start()
    try:
        while True:
            time.sleep(_POLL)
            if servicer.error is not None:
                raise servicer.error
            now = time.monotonic()
            last = max([last, *list(servicer.heard.values())])
            servicer.lose_silent(worker_timeout)
            if servicer.stop_triggered and not oracle.ongoing_trials and not oracle.tuner_ids:
                return
            if oracle.is_over() and now - last > worker_timeout:
                return  # nobody is left who would ask
            if now - last > timeout:
                raise WorkersLostError(
                    "No worker has been heard of, and the search is not over: start one, and "
                    f"continue it. Received: no call at {address} for {timeout:.0f} s"
                )
    finally:
        # The answer that tells the last worker may be under way.
        server.stop(grace=5.0).wait()


class _Servicer(OracleServicer):
    """KerasTuner's, which knows its workers."""

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        on_trial_end: Callable[[Trial], None],
        search_id: str,
    ) -> None:
        super().__init__(oracle)
        self._search_id = search_id
        # When each worker was heard of last.
        self.heard = dict.fromkeys(oracle.tuner_ids, time.monotonic())
        self.error: BaseException | None = None
        self._on_trial_end = on_trial_end
        self._lock = threading.Lock()

    def lose_silent(self, worker_timeout: float) -> None:
        """Gives the trials of silent workers to those that ask next."""
        with self._lock:
            now = time.monotonic()
            silent = [who for who, when in self.heard.items() if now - when > worker_timeout]
            for who in silent if self.error is None else ():
                del self.heard[who]
                self.oracle.release(who)

    def CreateTrial(self, request, context):
        return self._answer(super().CreateTrial, request, context)

    def UpdateTrial(self, request, context):
        return self._answer(super().UpdateTrial, request, context, request.trial_id)

    def GetTrial(self, request, context):
        return self._answer(super().GetTrial, request, context, request.trial_id)

    def EndTrial(self, request, context):
        key, end = request.trial.trial_id, super().EndTrial
        if key in self.oracle.end_order:  # told twice, for the answer was lost
            return self._answer(end, request, context)

        def end_with_reason(request, context):
            reason = dict(context.invocation_metadata()).get(_REASON, b"").decode()
            self.oracle.reasons[key] = reason
            return end(request, context)

        answer = self._answer(end_with_reason, request, context, key)
        with self._caught(context):
            self._on_trial_end(self.oracle.trials[key])
        return answer

    def _answer(self, call, request, context, trial_id=None):
        told = dict(context.invocation_metadata())
        who = told.get(_WHO)
        if told.get(_WHICH, "") != self._search_id:
            context.abort(_OTHER_SEARCH, f"{who} is of another search")
        with self._lock, self._caught(context):
            if who is not None:
                self.heard[who] = time.monotonic()
            if trial_id is not None:
                own = self.oracle.ongoing_trials.get(who)
                if own is None or own.trial_id != trial_id:
                    context.abort(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"trial {trial_id} was given to another worker than {who}",
                    )
            return call(request, context)

    @contextlib.contextmanager
    def _caught(self, context):
        """Ends the chief on an error of ours, for KerasTuner's lock is not given back then."""
        try:
            yield
        except Exception as error:
            if context.code() is None:  # no refusal
                self.error = self.error or error
            raise


class Client(OracleClient):
    """A worker's oracle, which asks the chief, and asks again.

    Args:
        oracle: What the worker would ask without a chief.
        timeout: Seconds that an answer may take, over all attempts.
        is_over: Tells whether the search is, when the chief may be gone.
        search_id: What its chief calls the search.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        *,
        timeout: float,
        is_over: Callable[[], bool] = lambda: False,
        search_id: str = "",
    ) -> None:
        super().__init__(oracle)
        # A chief that was restarted is found again within seconds, not minutes.
        options = [
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        channel = grpc.insecure_channel(address(), options)
        stub = protos.get_service_grpc().OracleStub(channel)
        metadata = ((_WHO, self.tuner_id), (_WHICH, search_id))
        self.stub = _PatientStub(stub, metadata, timeout, is_over)
        self._messages = protos.get_service()

    def create_trial(self, tuner_id: str) -> Trial:
        try:
            trial = super().create_trial(tuner_id)
        except _OverError:
            return Trial(keras_tuner.HyperParameters(), status="STOPPED")
        if trial.status == "IDLE":
            time.sleep(_IDLE)
        return trial

    def end_trial(self, trial: Trial) -> None:
        request = self._messages.EndTrialRequest(trial=trial.to_proto())
        # What comes with a call must be short.
        self.stub.EndTrial(request, reason=(trial.message or "")[:1000])

    @contextlib.contextmanager
    def heard(self, trial_id: str, *, every: float) -> Iterator[Callable[[], bool]]:
        """Lets the chief know of a trial's worker; gives what tells whether it still is its own."""
        is_over, is_lost = threading.Event(), threading.Event()
        request = self._messages.GetTrialRequest(trial_id=trial_id)

        def call() -> None:
            while not is_over.wait(min(every, 10.0)):
                try:
                    self.stub.once("GetTrial", request)
                except grpc.RpcError as error:
                    # A chief that is away may come back while we train.
                    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                        is_lost.set()
                        return

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        try:
            yield lambda: not is_lost.is_set()
        finally:
            is_over.set()
            thread.join()


class _PatientStub:
    """Calls that are made again until they are answered, or for too long."""

    def __init__(
        self,
        stub: Any,
        metadata: tuple[tuple[str, str], ...],
        timeout: float,
        is_over: Callable[[], bool],
    ) -> None:
        self._stub, self._metadata = stub, metadata
        self._timeout, self._is_over = timeout, is_over

    def once(self, name: str, request: Any, reason: str | None = None) -> Any:
        """One attempt."""
        metadata = self._metadata
        if reason:
            metadata = (*metadata, (_REASON, reason.encode()))
        call = getattr(self._stub, name)
        seconds = min(_ATTEMPT, self._timeout)
        return call(request, timeout=seconds, wait_for_ready=True, metadata=metadata)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(request: Any, reason: str | None = None, **options: Any) -> Any:
            begun = time.monotonic()
            while True:
                if self._is_over():
                    raise _OverError("The search is over")
                try:
                    return self.once(name, request, reason)
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                        raise TrialLostError(error.details()) from error
                    if error.code() == _OTHER_SEARCH:
                        raise ChiefLostError(
                            "There is the chief of another search: give each search an address "
                            f"of its own. Received: {address()}"
                        ) from error
                    waited = time.monotonic() - begun
                    if error.code() not in _AGAIN or waited > self._timeout:
                        raise ChiefLostError(
                            f"The chief does not answer ({error.code().name}: {error.details()}). "
                            f"Received: nothing from {address()} in {waited:.0f} s"
                        ) from error
                    time.sleep(_POLL)

        return call
