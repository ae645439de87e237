"""How the calls of a server ended, and how long they took: what a load test holds its own counts against, and what
Prometheus is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

import grpc
from google.rpc import code_pb2

from labelloop.wire.errors import LabelloopError
from labelloop.wire.metrics import CALL_SECONDS, CALLS


class CallCounts:
    """Calls by method and status, counted when a handler of ours is done with them. Those that gRPC refuses itself, as
    beyond its bound of pending calls, reach no handler and are not among them. A stream is one call."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodCounts] = {}

    def of(self, method: str) -> MethodCounts:
        return self._methods.setdefault(method, MethodCounts(method))

    def by_method(self) -> dict[str, dict[str, int]]:
        """Method to status, as OK or NOT_FOUND, to calls; in alphabetical order; of methods that were called."""
        return {
            method: dict(sorted(counts.by_status.items()))
            for method, counts in sorted(self._methods.items())
            if counts.by_status
        }


class MethodCounts:
    """Calls of one method: labels are looked up here once, not at each call."""

    def __init__(self, method: str) -> None:
        self.by_status: Counter[str] = Counter()
        self._calls = {code: CALLS.labels(method, code) for code in ("OK",)}
        self._method, self._observe_s = method, CALL_SECONDS.labels(method).observe

    def ended(self, status: str, began_s: float) -> None:
        """A call that began at ``began_s`` by :func:`time.perf_counter` is over."""
        self.by_status[status] += 1
        self._observe_s(perf_counter() - began_s)
        calls = self._calls.get(status)
        if calls is None:
            calls = self._calls[status] = CALLS.labels(self._method, status)
        calls.inc()


def status_of(error: BaseException, context: Any) -> str:
    """The name of the status that a handler's ``error`` turns into."""
    if isinstance(error, LabelloopError):
        return str(code_pb2.Code.Name(error.code))
    if isinstance(error, grpc.aio.AbortError):
        return str(context.code().name)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "CANCELLED"
    return "UNKNOWN"  # what gRPC makes of any other exception
