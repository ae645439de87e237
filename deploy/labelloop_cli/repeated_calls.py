"""Repeat calls that a service could not answer for now, as channel interceptors, for all commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from labelloop.errors import LimitExceeded, from_rpc
from labelloop.rpc.statuses import is_away
from labelloop.runtime.backoff import Backoff

from labelloop_cli.operations.addresses import is_this_machine

# Methods that read, or that change nothing when they are called again with the same request.
REPEATABLE = frozenset(
    f"/labelloop.{service}.v1.{service.capitalize()}Service/{method}"
    for service, methods in {
        "trainer": "GetRun ListRuns ListLabels GetModel ExportRun StartRun ClearImport SweepArtifacts ArchiveRun "
        "RestoreRun",
        "scorer": "RankPool RankPoolStream GetSamples ClusterPool LearnFeatures ExtractFeatures Score "
        "FindFetchedShards",
        "oracle": "DescribeDataset FindSamples ListOpenSamples SubmitLabels SkipSamples LeaseNext SubmitResults "
        "ChangeAnnotators GetBacklog ListAnswers ListDeadLetters ListHeldWithdrawals ListRequests FindMissingParts "
        "PutParts PutUpload ListUploads",
    }.items()
    for method in methods.split()
)
_START = "/labelloop.trainer.v1.TrainerService/StartRun"
_KNOWN_WITHIN_S = 10.0  # replicas read the same log, each at its own pace
_BACKOFF = Backoff(0.1, 2.0)

T = TypeVar("T")


@dataclass
class Patience:
    """How long calls of one command are repeated, and what was learned from their answers.

    Attributes:
        limit_s: Seconds for which a service that does not answer is asked again; 0 for not at all.
        tell: Called with a sentence when a wait begins.
        trainer_knows: Returns whether the trainer knows a run.
        started: Ids of runs that were started here: all services will know them.
    """

    limit_s: float
    tell: Callable[[str], None]
    trainer_knows: Callable[[str], Awaitable[bool]]
    started: set[str] = field(default_factory=set)

    def interceptors(self, service: str, address: str) -> list[grpc.aio.ClientInterceptor]:
        """Return interceptors for the channel to a service."""
        calls = _Calls(self, service, address)
        return [_Unary(calls), _Stream(calls)]


class _Calls:
    """Repeats calls to one service.

    A service on this machine that has not answered yet is not waited for: most likely nobody has started it.
    """

    def __init__(self, patience: Patience, service: str, address: str) -> None:
        self._patience, self._service, self._address = patience, service, address
        self._worth_a_wait = not is_this_machine(address)

    async def repeat(self, method: str, request: Any, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``attempt``; repeat it while the service is away or does not know a new run yet."""
        began_s, tries, told = time.monotonic(), 0, ""
        while True:
            try:
                result = await attempt()
            except grpc.aio.AioRpcError as error:
                why, limit_s = await self._reason_to_wait(method, request, error)
                tries += 1
                pause_s = _BACKOFF.pause_s(tries)
                if not why or time.monotonic() - began_s + pause_s > limit_s:
                    raise
                if why != told:
                    self._patience.tell(f"{why}; trying again for {limit_s:.0f} s")
                told = why
                await asyncio.sleep(pause_s)
            else:
                self._worth_a_wait = True
                return result

    async def _reason_to_wait(self, method: str, request: Any, error: grpc.aio.AioRpcError) -> tuple[str, float]:
        """Return why a call may succeed if it is repeated, and for how many seconds; empty if it will not."""
        ours = from_rpc(error)
        if ours or error.code() != grpc.StatusCode.UNAVAILABLE:  # it is there
            self._worth_a_wait = True
        if ours and ours.reason == "UNKNOWN_RUN":
            run_id = ours.values.get("run_id", "")
            if not await self._exists(run_id):
                return "", 0.0
            return f"the {self._service} has not heard of run {run_id} yet", min(
                _KNOWN_WITHIN_S, self._patience.limit_s
            )
        if isinstance(ours, LimitExceeded) and ours.retry_after_s:  # refused before anything was done
            return f"the {self._service} has too much to do", self._patience.limit_s
        if not is_away(error) or not self._worth_a_wait or not _repeatable(method, request):
            return "", 0.0
        problem = ours.message if ours else f"the {self._service} at {self._address} does not answer"
        return problem, self._patience.limit_s

    async def _exists(self, run_id: str) -> bool:
        if run_id in self._patience.started:
            return True
        return self._service != "trainer" and await self._patience.trainer_knows(run_id)

    def answered(self, method: str, response: Any) -> None:
        """Take note of a response."""
        if method == _START:
            self._patience.started.add(response.run.run_id)


def _repeatable(method: str, request: Any) -> bool:
    """Return whether repeating a call changes nothing. A run without an id gets a new one at each call."""
    return method in REPEATABLE and (method != _START or bool(request.run_id))


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        method = _text(details.method)

        async def attempt() -> Any:
            call = await continuation(details, request)
            try:
                self._calls.answered(method, await call)
            except asyncio.CancelledError:
                call.cancel()
                raise
            return call

        return await self._calls.repeat(method, request, attempt)


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    """Repeats calls that fail before their first response: what was received cannot be taken back."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        async def attempt() -> Any:
            call = await continuation(details, request)
            try:
                return call, await call.read()
            except asyncio.CancelledError:
                call.cancel()
                raise

        return _responses(*await self._calls.repeat(_text(details.method), request, attempt))


async def _responses(call: Any, first: Any) -> AsyncIterator[Any]:
    try:
        response = first
        while response is not grpc.aio.EOF:
            yield response
            response = await call.read()
    finally:
        call.cancel()  # changes nothing once the call has ended


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
