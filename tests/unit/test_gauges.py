"""Gauges that are computed from the projections of the event log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, LabelProvided, LabelsRequested, RunCancelled, RunStarted
from labelloop.observability.metrics import OURS, watch
from prometheus_client.core import Metric

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.metrics import queue_gauges
from tests.blobs import Blobs, spec, write_blobs

AGO_S = 100.0


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


class Log:
    """Write events into projections, as if recorded some time ago."""

    def __init__(self, projections: RunProjections[Any]) -> None:
        self._projections, self._sequence = projections, 0

    def write(self, event: Event, ago_s: float = AGO_S) -> None:
        self._sequence += 1
        event.recorded_at.FromDatetime(datetime.now(UTC) - timedelta(seconds=ago_s))
        self._projections.apply(Recorded(event, self._sequence))

    def begin(self, blobs: Blobs, run_id: str, source: int) -> None:
        """Write the events up to the request for the first two samples."""
        self.write(Event(run_id=run_id, run_started=RunStarted(spec=spec(blobs, label_source=source))))
        published = Event(run_id=run_id)
        pool = published.pool_published
        pool.pool_sha256, pool.sample_count, pool.dtype = "a" * 64, 300, "uint8"
        pool.classes.extend(["x", "y"])
        pool.shape.append(6)
        self.write(published)
        self.write(Event(run_id=run_id, labels_requested=LabelsRequested(sample_ids=[1, 2], score=[0, 0])))

    def label(self, run_id: str, sample_id: int) -> None:
        self.write(Event(run_id=run_id, label_provided=LabelProvided(sample_id=sample_id, label=1)))


def values(families: list[Metric]) -> dict[str, dict[str, float]]:
    return {
        family.name: {next(iter(sample.labels.values())): sample.value for sample in family.samples}
        for family in families
    }


def test_queue_gauges_count_open_samples_and_the_age_of_the_oldest_batch(blobs: Blobs) -> None:
    projections = RunProjections(LabelingState.begin)
    log = Log(projections)
    log.begin(blobs, "a", source=2)
    log.begin(blobs, "b", source=1)
    log.label("a", 1)
    found = values(list(queue_gauges(projections)))
    assert found["labelloop_open_samples"] == {"queue": 1, "dataset": 2}
    ages = found["labelloop_oldest_request_age_seconds"]
    assert all(AGO_S <= ages[source] < AGO_S + 30 for source in ("queue", "dataset"))
    log.label("a", 2)
    log.write(Event(run_id="b", run_cancelled=RunCancelled(reason="enough")))
    found = values(list(queue_gauges(projections)))
    assert found["labelloop_open_samples"] == found["labelloop_oldest_request_age_seconds"]
    assert set(found["labelloop_open_samples"].values()) == {0}


def test_a_run_is_held_up_until_its_problem_is_solved_or_it_ends(blobs: Blobs) -> None:
    projections = RunProjections(LabelingState.begin)
    log = Log(projections)
    for run_id in ("a", "b"):
        log.begin(blobs, run_id, source=2)
        projections.set_problem(run_id, "no disk")
    assert values(list(queue_gauges(projections)))["labelloop_run_held_up"] == {"a": 1, "b": 1}
    projections.set_problem("a", "")
    log.write(Event(run_id="b", run_cancelled=RunCancelled(reason="enough")))
    assert values(list(queue_gauges(projections)))["labelloop_run_held_up"] == {}


class Owner: ...


@pytest.mark.parametrize("keeps", [True, False])
def test_gauges_are_exported_only_while_their_owner_exists(keeps: bool) -> None:
    owner: Owner | None = Owner()
    watch(owner, lambda each: [Metric("labelloop_test", "in this test", "gauge")])
    if not keeps:
        owner = None
    shown = [family.name for family in OURS.collect() if family.name == "labelloop_test"]
    assert shown == (["labelloop_test"] if owner else [])


def test_a_scrape_in_another_thread_is_safe_while_runs_are_added(blobs: Blobs) -> None:
    projections = RunProjections(LabelingState.begin)
    log, errors = Log(projections), list[BaseException]()

    def scrape(go_on: Callable[[], bool]) -> None:
        try:
            while go_on():
                list(queue_gauges(projections))
        except BaseException as error:
            errors.append(error)

    done = threading.Event()
    scraping = threading.Thread(target=scrape, args=(lambda: not done.is_set(),))
    scraping.start()
    for number in range(300):
        log.begin(blobs, f"run{number}", source=2)
        projections.set_problem(f"run{number}", "no disk")
    done.set()
    scraping.join()
    assert not errors
