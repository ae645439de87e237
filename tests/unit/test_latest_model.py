"""What a scorer keeps of runs."""

from __future__ import annotations

import tracemalloc

from labelloop.domain.run_log import RunLog
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb

from scorer_svc.models.latest import LatestModel
from tests.bench.log_events import run_events

LATE = [
    pb.Event(run_id="r", round=1, label_provided=pb.LabelProvided(sample_id=5, label=2, revision=1)),
    pb.Event(run_id="r", round=7, label_provided=pb.LabelProvided(sample_id=99, label=2)),
]


def projected(events: list[pb.Event]) -> RunProjections[LatestModel]:
    projections = RunProjections(lambda event, _: LatestModel(RunLog(event.run_started), event.run_id, lambda _: None))
    for sequence, event in enumerate(events, start=1):
        projections.apply(Recorded(event, sequence))
    return projections


def test_labels_that_come_after_the_end_of_a_run_change_nothing_and_are_no_fault() -> None:
    events = list(run_events("r", 6, 3, ended=True))
    projections = projected([*events, *LATE])
    run = projections.get("r")
    assert run.over
    assert run.model_sha256 == events[-2].model_trained.model_sha256
    assert not projections.refused


def test_memory_for_a_run_that_has_ended_does_not_grow_with_its_labels() -> None:
    held = []
    for labels in (100, 2_000):
        events = list(run_events("r", labels, 50, ended=True))
        tracemalloc.start()
        projections = projected(events)
        del events
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert projections.get("r").over
    assert held[1] < 1.5 * held[0]
