"""Export the scorer's own metrics, and those of several workers on one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from labelloop.eventlog.projections import RunProjections
from labelloop.observability.metrics import OURS, PAGE, computed_file
from labelloop.rpc.call_metrics import BUCKETS_S
from prometheus_client import PROCESS_COLLECTOR, REGISTRY, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from scorer_svc.models.latest import LatestModel

REST_CALLS = Counter(
    "labelloop_rest_calls_total",
    "Requests of the Open Inference Protocol over HTTP, by gRPC's name of the method and by HTTP status.",
    ["method", "code"],
    registry=OURS,
)
REST_SECONDS = Histogram(
    "labelloop_rest_call_seconds",
    "What such a request took, from its header to its answer.",
    ["method"],
    buckets=BUCKETS_S,
    registry=OURS,
)


class Process(Protocol):
    """A worker process; ``pid`` is None while it does not run."""

    restarts: int

    @property
    def pid(self) -> int | None: ...


def models_in_use(projections: RunProjections[LatestModel]) -> Iterator[Metric]:
    """Yield the model that answers for each active run."""
    text = "1 for the model, by its digest, that answers for a run that goes on."
    family = GaugeMetricFamily("labelloop_model_info", text, labels=["run", "model"])
    for run in projections.runs.going():
        if run.model_sha256:
            family.add_metric([run.run_id, run.served or run.model_sha256], 1.0)
    yield family


def show_workers(folder: Path, workers: Sequence[Process]) -> None:
    """Show, from now on, the metrics that ``workers`` write into ``folder``."""
    REGISTRY.unregister(PROCESS_COLLECTOR)
    PAGE.unregister(OURS)
    PAGE.register(Workers(folder, workers))


class Workers(Collector):
    """Collects workers' metrics: counters summed over all workers, dead ones included, and each one's process metrics.

    The process metrics, such as memory and time, are shown beside those of this process.
    """

    def __init__(self, folder: Path, workers: Sequence[Process]) -> None:
        self._folder, self._workers = folder, workers

    def collect(self) -> Iterator[Metric]:
        pids = {number: pid for number, worker in enumerate(self._workers) if (pid := worker.pid)}
        yield from MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call]
        yield from self._computed(pids)
        yield from _processes(pids)
        restarts = sum(worker.restarts for worker in self._workers)
        text = "Scoring processes that died and were started again."
        yield CounterMetricFamily("labelloop_worker_restarts_total", text, restarts)

    def _computed(self, pids: dict[int, int]) -> Iterator[Metric]:
        """Merge computed gauges without repetition: all workers read one log and arrive at the same values in time."""
        families: dict[str, Metric] = {}
        for pid in pids.values():
            file = computed_file(self._folder, pid)
            for family in text_string_to_metric_families(file.read_text() if file.exists() else ""):
                known = families.setdefault(family.name, family)
                known.samples += [sample for sample in family.samples if sample not in known.samples]
        yield from families.values()


def _processes(pids: dict[int, int]) -> Iterator[Metric]:
    families = {family.name: family for family in PROCESS_COLLECTOR.collect()}
    for number, pid in pids.items():
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            told = [sample._replace(labels={"worker": str(number)}) for sample in family.samples]
            families[family.name].samples += told
    yield from families.values()
