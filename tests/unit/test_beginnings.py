"""An imported run is there whole or not at all, wherever its import is cut, and nothing of it joins another run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.imported_events import EventsDigest
from labelloop.domain.run_log import RunLog
from labelloop.errors import NotFound
from labelloop.eventlog.beginnings import Unfinished
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb
from structlog.testing import capture_logs

from oracle_svc.domain.labeling_state import LabelingState
from scorer_svc.models.latest import LatestModel
from tests.unit.drawn_runs import drawn_run
from trainer_svc.domain.run_state import RunState

DRAWN = [drawn_run(seed) for seed in (1, 5, 9)]


def service_views() -> list[RunProjections[Any]]:
    """What trainer, oracle and scorer keep of all runs."""
    begins: list[Callable[..., Any]] = [
        RunState.begin,
        LabelingState.begin,
        lambda event, _: LatestModel(RunLog(event.run_started), event.run_id, lambda _: None),
    ]
    return [RunProjections(begin) for begin in begins]


def sound(seed: int) -> list[pb.Event]:
    """Return the events of a drawn run that obey the rules, as an export has them."""
    view = RunProjections(RunState.begin)
    with capture_logs():
        for recorded in DRAWN[seed]:
            view.apply(recorded)
    return [each.event for each in DRAWN[seed] if each.event and each.sequence not in view.refused]


def announced(events: Sequence[pb.Event]) -> pb.Event:
    """Return ``run_started`` of an import of ``events``, of which it is the first."""
    digest = EventsDigest()
    for event in events[1:]:
        digest.add(event.SerializeToString(deterministic=True))
    start = pb.Event()
    start.CopyFrom(events[0])
    start.run_started.imported.CopyFrom(digest.imported())
    return start


def imported(events: Sequence[pb.Event]) -> list[pb.Event]:
    return [announced(events), *events[1:]]


def own(spec_of: pb.Event) -> pb.Event:
    """Return ``run_started`` of another run of the same id that is started here."""
    start = pb.Event(run_id=spec_of.run_id, run_started=pb.RunStarted(spec=spec_of.run_started.spec))
    start.run_started.spec.label_budget += 1
    start.run_started.imported.SetInParent()
    return start


def cleared() -> pb.Event:
    return pb.Event(run_id="r", import_cleared=pb.ImportCleared(reason="given up"))


def shown(events: Iterable[pb.Event]) -> list[RunProjections[Any]]:
    views = service_views()
    with capture_logs():
        for sequence, event in enumerate(events, start=1):
            for view in views:
                view.apply(Recorded(event, sequence))
    return views


@pytest.mark.parametrize("seed", range(len(DRAWN)))
def test_an_import_cut_at_any_event_is_no_run_and_complete_after_a_repetition(seed: int) -> None:
    events = imported(sound(seed))
    for cut in range(1, len(events)):
        for view in shown(events[:cut]):
            assert not view.runs
            assert view.beginnings.unfinished("r") == Unfinished("r", cut, len(events), damaged=False)
            with pytest.raises(NotFound, match="labelloop run clear r"):
                view.get("r")
    for view, plain in zip(shown(events), shown(sound(seed)), strict=True):
        assert list(view.beginnings.all_unfinished()) == []
        assert not view.refused
        assert view.get("r").run_log.taken == plain.get("r").run_log.taken
        assert view.get("r").run_log.labelled == plain.get("r").run_log.labelled
        assert view.get("r").run_log.ended == plain.get("r").run_log.ended


def test_events_before_a_run_that_is_started_here_are_no_part_of_it() -> None:
    events = sound(0)
    for cut in range(2, len(events)):
        for view in shown([*events[1:cut], own(events[0])]):
            state = view.get("r")
            assert state.run_log.pool is None
            assert not state.run_log.labelled
            assert view.refused == {*range(1, cut)}


def test_an_import_of_an_earlier_release_is_still_read() -> None:
    events = sound(0)
    for view in shown([*events[1:], events[0]]):
        assert view.get("r").run_log.pool == events[1].pool_published
        assert not view.refused


def test_an_import_goes_on_after_events_that_an_earlier_release_wrote_first() -> None:
    events = sound(1)
    for cut in range(1, len(events) + 1):
        for view in shown([*events[1:cut], announced(events), *events[cut:]]):
            assert view.get("r").run_log.pool == events[1].pool_published
            assert not view.refused


def test_other_events_than_announced_are_no_run() -> None:
    events = imported(sound(0))
    events[2].recorded_at.nanos += 1
    for view in shown(events):
        assert not view.runs
        assert view.beginnings.unfinished("r") == Unfinished("r", len(events), len(events), damaged=True)


def test_events_after_a_damaged_import_are_refused() -> None:
    events = imported(sound(0))
    events[2].recorded_at.nanos += 1
    late = pb.Event(run_id="r", run_cancelled=pb.RunCancelled())
    for view in shown([*events, late]):
        assert view.refused == {len(events) + 1}


def test_a_cleared_import_stays_void_whatever_follows() -> None:
    events = imported(sound(0))
    for cut in range(1, len(events)):
        for view in shown([*events[:cut], cleared(), *events[cut:]]):
            assert not view.runs
            assert not list(view.beginnings.all_unfinished())
            assert view.refused == {*range(cut + 2, len(events) + 2)}
            with pytest.raises(NotFound, match="given up"):
                view.get("r")


def test_a_complete_run_cannot_be_cleared() -> None:
    events = imported(sound(0))
    for view in shown([*events, cleared()]):
        assert view.get("r").run_log.pool == events[1].pool_published
        assert view.refused == {len(events) + 1}


def test_events_without_a_start_are_an_unfinished_import_of_unknown_length() -> None:
    for view in shown(sound(0)[1:4]):
        assert list(view.beginnings.all_unfinished()) == [Unfinished("r", 3, 0, damaged=False)]


@pytest.mark.parametrize(
    "imported_events",
    [pb.ImportedEvents(sha256="0" * 64), pb.ImportedEvents(count=1), pb.ImportedEvents(count=1, sha256="../x")],
)
def test_a_start_that_announces_nonsense_is_no_event(imported_events: pb.ImportedEvents) -> None:
    spec = pb.RunSpec(batch_size=1, report_every=1)
    spec.protocol, spec.label_source = pb.PROTOCOL_HONEST, pb.LABEL_SOURCE_QUEUE
    start = pb.Event(run_id="r", run_started=pb.RunStarted(spec=spec))
    assert not shape_fault(start)
    start.run_started.imported.CopyFrom(imported_events)
    assert shape_fault(start)
