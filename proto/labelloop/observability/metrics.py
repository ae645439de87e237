"""Define the metrics that all services share, and serve them to Prometheus.

Metrics of a single service are in that service's own ``metrics.py``. A counter counts what this process did, so
that replicas can be summed. Labels take few values; a run's id is one only while the run goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    make_wsgi_app,
    write_to_textfile,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from labelloop.domain.hold_ups import HoldUp
from labelloop.errors import port_in_use
from labelloop.observability.metrics_server import MetricsServer
from labelloop.runtime.listening import listening_socket
from labelloop.settings import ServiceSettings

T = TypeVar("T")

log = structlog.get_logger()

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, which nobody uses

OURS = CollectorRegistry()
PAGE = CollectorRegistry()
"""All metrics that are served: labelloop's and those of the process itself."""
PAGE.register(REGISTRY)
PAGE.register(OURS)

APPENDS_LOST = Counter(
    "labelloop_appends_lost_total",
    "Events that somebody else had written already: what stands there was taken instead.",
    registry=OURS,
)
APPEND_FAILURES = Counter(
    "labelloop_append_failures_total",
    "Tries to write an event that the broker did not answer; each is tried again.",
    registry=OURS,
)
FOLLOWINGS_ANEW = Counter(
    "labelloop_followings_anew_total",
    "How often reading the log had to be resumed with a new consumer, after the last event read.",
    registry=OURS,
)
EVENTS_SEEN_AGAIN = Counter(
    "labelloop_events_seen_again_total",
    "Events of the log that came once more and were left out.",
    registry=OURS,
)
LOOP_LAG = Gauge(
    "labelloop_event_loop_lag_seconds",
    "The longest time within the last minute for which the event loop was held, so that it answered nobody.",
    registry=OURS,
    multiprocess_mode="livemax",
)
LOG_LINES_LOST = Counter(
    "labelloop_log_lines_lost_total",
    "Lines of the log that could not be written, because standard error is closed or its disk is full.",
    registry=OURS,
)
_PASSED_OVER = Counter(
    "labelloop_events_passed_over_total",
    "Events that stay in the log and count for nothing: unreadable, or against the rules of their run.",
    ["why"],
    registry=OURS,
)
UNREADABLE, AGAINST_THE_RULES = (_PASSED_OVER.labels(why) for why in ("unreadable", "against_the_rules"))


class _Computed(Collector):
    """Computes gauges when they are scraped, in another thread: the functions must copy data that may change."""

    def __init__(self) -> None:
        self._families: WeakKeyDictionary[Any, Callable[[Any], Iterable[Metric]]] = WeakKeyDictionary()

    def watch(self, owner: T, families: Callable[[T], Iterable[Metric]]) -> None:
        self._families[owner] = families

    def collect(self) -> Iterator[Metric]:
        for owner, families in list(self._families.items()):
            yield from families(owner)


_COMPUTED = _Computed()
OURS.register(_COMPUTED)


def watch(owner: T, families: Callable[[T], Iterable[Metric]]) -> None:
    """Serve the metrics that ``families`` computes from ``owner``, for as long as ``owner`` lives."""
    _COMPUTED.watch(owner, families)


def gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Build a gauge with one value for each value of ``label``."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return cast(Metric, family)


def held_up(run_ids: Iterable[str]) -> Metric:
    """Build the gauge of runs that cannot go on until the problem named in the logs is fixed."""
    text = "1 for each run that has a problem: it is tried again, and the log says what it is."
    return gauge("labelloop_run_held_up", text, "run", dict.fromkeys(run_ids, 1.0))


def held_up_seconds(found: Iterable[HoldUp]) -> Metric:
    """Build the gauge of how long runs have been held up."""
    text = "Seconds for which the problem of a run has lasted; a run without one has no value."
    since: dict[str, float] = {}
    for each in found:
        if each.run_id and not each.at_work:
            since[each.run_id] = min(each.since, since.get(each.run_id, each.since))
    now = time.time()
    return gauge("labelloop_run_held_up_seconds", text, "run", {run_id: now - at for run_id, at in since.items()})


class _Started(Collector):
    def __init__(self, service: str) -> None:
        self._service, self._at = service, time.time()

    def collect(self) -> Iterator[Metric]:
        text = "When this process began, in seconds since 1970; there is one for as long as the service is up."
        yield gauge("labelloop_start_time_seconds", text, "service", {self._service: self._at})


def serve(service: str, settings: ServiceSettings) -> None:
    """Serve the metrics under /metrics in a thread until the process ends; do nothing if no port is set.

    Raises:
        WrongState: If the port is taken.
    """
    if settings.metrics_port is None:
        return
    host, port = settings.host, settings.metrics_port
    try:
        listening = listening_socket(host.strip("[]"), port)
    except OSError as error:
        raise port_in_use(host, port, "LABELLOOP_METRICS_PORT") from error
    PAGE.register(_Started(service))
    log.info("metrics", host=host, port=listening.getsockname()[1])
    MetricsServer(make_wsgi_app(PAGE)).start(listening)


def set_down_computed() -> None:
    """Write the computed gauges to a file for the process that serves the metrics of several processes.

    Does nothing if this process serves its own. Counters are written by prometheus-client itself.
    """
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        write_to_textfile(str(computed_file(Path(folder), os.getpid())), _COMPUTED)


def computed_file(folder: Path, pid: int) -> Path:
    return folder / f"{pid}.prom"
