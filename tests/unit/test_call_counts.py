"""Counts of calls are shown as Prometheus shows counters and histograms, by one process or by several."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from labelloop.observability.metrics import OURS
from labelloop.rpc.call_metrics import BUCKETS_S, CallCounts, MethodCounts
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

METHOD = "CountedHere"


def lines(registry: CollectorRegistry, method: str = METHOD) -> list[str]:
    return sorted(line for line in generate_latest(registry).decode().splitlines() if f'method="{method}"' in line)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[MethodCounts, str, float], None]:
    """End a call that took so many seconds."""

    def end(counts: MethodCounts, status: str, took_s: float) -> None:
        monkeypatch.setattr("labelloop.rpc.call_metrics.perf_counter", lambda: took_s)
        counts.ended(status, 0.0)

    return end


def test_the_page_is_that_of_a_counter_and_a_histogram(ended: Callable[[MethodCounts, str, float], None]) -> None:
    theirs = CollectorRegistry()
    calls = Counter("labelloop_grpc_calls_total", "Calls.", ["method", "code"], registry=theirs)
    seconds = Histogram("labelloop_grpc_call_seconds", "Took.", ["method"], buckets=BUCKETS_S, registry=theirs)
    servers = [CallCounts().of(METHOD), CallCounts().of(METHOD)]
    calls.labels(METHOD, "OK")
    seconds.labels(METHOD)
    assert lines(OURS) == lines(theirs)
    for place, took_s in enumerate([0.0, *BUCKETS_S, *(each * 1.5 for each in BUCKETS_S), 1e6]):
        status = ["OK", "NOT_FOUND"][place % 2]
        ended(servers[place % 3 == 0], status, took_s)
        calls.labels(METHOD, status).inc()
        seconds.labels(METHOD).observe(took_s)
    ours, expected = lines(OURS), lines(theirs)
    assert [line for line in ours if "_sum" not in line] == [line for line in expected if "_sum" not in line]
    [our_sum], [their_sum] = ([float(line.split()[-1]) for line in each if "_sum" in line] for each in (ours, expected))
    assert our_sum == pytest.approx(their_sum)


def test_counts_of_a_server_that_is_gone_stay() -> None:
    CallCounts().of("OfOneThatIsGone").ended("OK", time.perf_counter())
    assert 'labelloop_grpc_calls_total{code="OK",method="OfOneThatIsGone"} 1.0' in lines(OURS, "OfOneThatIsGone")


WORKER = """
import time
from labelloop.rpc.call_metrics import CallCounts
counts = CallCounts().of("CountedHere")
for status in ("OK", "OK", "NOT_FOUND"):
    counts.ended(status, time.perf_counter())
"""
PAGE = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_another_process_shows_the_counts_of_several_that_have_ended(tmp_path: Path) -> None:
    def run(program: str) -> str:
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
        return subprocess.run([sys.executable, "-c", program], env=environment, check=True, text=True, stdout=-1).stdout

    run(WORKER)
    run(WORKER)
    page = run(PAGE)
    assert 'labelloop_grpc_calls_total{code="OK",method="CountedHere"} 4.0' in page
    assert 'labelloop_grpc_calls_total{code="NOT_FOUND",method="CountedHere"} 2.0' in page
    assert 'labelloop_grpc_call_seconds_count{method="CountedHere"} 6.0' in page
