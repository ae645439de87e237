"""Count and time the calls of a server, for Prometheus and for load tests to compare their own counts with."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from labelloop.observability.metrics import CALL_SECONDS, CALLS


class CallCounts:
    """Counts calls by method and status when their handler has finished; a stream is one call.

    Calls that gRPC itself refuses, such as those above its limit of pending calls, are not counted: they reach no
    handler.
    """

    def __init__(self) -> None:
        self._methods: dict[str, MethodCounts] = {}

    def of(self, method: str) -> MethodCounts:
        return self._methods.setdefault(method, MethodCounts(method))

    def by_method(self) -> dict[str, dict[str, int]]:
        """Return the number of calls by called method and status, such as OK or NOT_FOUND, in alphabetical order."""
        return {
            method: dict(sorted(counts.by_status.items()))
            for method, counts in sorted(self._methods.items())
            if counts.by_status
        }


class MethodCounts:
    """Counts the calls of one method, looking up metric labels once instead of at each call."""

    def __init__(self, method: str) -> None:
        self.by_status: Counter[str] = Counter()
        self._calls = {code: CALLS.labels(method, code) for code in ("OK",)}
        self._method, self._observe_s = method, CALL_SECONDS.labels(method).observe

    def ended(self, status: str, began_s: float) -> None:
        """Count a call that ended with ``status`` and began at ``began_s`` by :func:`time.perf_counter`."""
        self.by_status[status] += 1
        self._observe_s(perf_counter() - began_s)
        calls = self._calls.get(status)
        if calls is None:
            calls = self._calls[status] = CALLS.labels(self._method, status)
        calls.inc()
