"""Count and time the calls of a server, for Prometheus and for load tests to compare their own counts with."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter

import prometheus_client
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from labelloop.observability.metrics import OURS

# From a Score call for one image to a stream that lasts as long as its run.
BUCKETS_S = (
    *(0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_BOUNDS = [*map(floatToGoString, BUCKETS_S), "+Inf"]
_CALLS = "labelloop_grpc_calls_total", "Calls that a handler has done with, by method and status; a stream is one call."
_SECONDS = (
    "labelloop_grpc_call_seconds",
    "What a call took in its handler; of a stream, from its first to its last message.",
)

Observe = Callable[[str, float], None]
"""Takes a call's status and its seconds."""


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
    """Counts the calls of one method in plain numbers, of one thread; they are read when somebody asks for metrics.

    Attributes:
        method: Its name.
        by_status: Calls by status.
        by_duration: Calls by the place of their duration in ``BUCKETS_S``, and those that took longer.
        seconds: What all calls took.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        self.by_status: Counter[str] = Counter()
        self.by_duration, self.seconds = [0] * len(_BOUNDS), 0.0
        self._observe = _observing(self)

    def ended(self, status: str, began_s: float) -> None:
        """Count a call that ended with ``status`` and began at ``began_s`` by :func:`time.perf_counter`."""
        took_s = perf_counter() - began_s
        self.by_status[status] += 1
        if self._observe:
            self._observe(status, took_s)
        else:
            self.by_duration[bisect_left(BUCKETS_S, took_s)] += 1
            self.seconds += took_s


class _Calls(Collector):
    """Adds up the counts of all servers of this process; they are kept until it ends, since counters never fall."""

    def __init__(self) -> None:
        self.all: list[MethodCounts] = []

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(*_CALLS, labels=["method", "code"])
        seconds = HistogramMetricFamily(*_SECONDS, labels=["method"])
        counts = list(self.all)  # a server may be added meanwhile, in another thread
        for method in dict.fromkeys(each.method for each in counts):
            of_method = [each for each in counts if each.method == method]
            by_status = Counter({"OK": 0})
            for each in of_method:
                by_status.update(each.by_status.copy())
            for status, count in by_status.items():
                calls.add_metric([method, status], count)
            buckets = list(map(sum, zip(*(each.by_duration.copy() for each in of_method), strict=True)))
            cumulative = [sum(buckets[: place + 1]) for place in range(len(buckets))]
            in_all = sum(each.seconds for each in of_method)
            seconds.add_metric([method], list(zip(_BOUNDS, map(float, cumulative), strict=True)), in_all)
        yield calls
        yield seconds


def _in_files() -> Callable[[MethodCounts], Observe]:
    """Count in files, from which another process shows the metrics of several, also of those that have died."""
    calls = prometheus_client.Counter(*_CALLS, ["method", "code"], registry=OURS)
    seconds = prometheus_client.Histogram(*_SECONDS, ["method"], buckets=BUCKETS_S, registry=OURS)

    def observing(counts: MethodCounts) -> Observe:
        observe_s, of_status = seconds.labels(counts.method).observe, {"OK": calls.labels(counts.method, "OK").inc}

        def observe(status: str, took_s: float) -> None:
            observe_s(took_s)
            if status not in of_status:
                of_status[status] = calls.labels(counts.method, status).inc
            of_status[status]()

        return observe

    return observing


def _in_memory() -> Callable[[MethodCounts], None]:
    """Leave it to the counts themselves, which are collected."""
    collected = _Calls()
    OURS.register(collected)
    return collected.all.append


_observing: Callable[[MethodCounts], Observe | None] = (
    _in_files() if os.environ.get("PROMETHEUS_MULTIPROC_DIR") else _in_memory()
)
