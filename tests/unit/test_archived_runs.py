"""Projections of runs that are archived, restored, and written to too late."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import InvalidInput, WrongState
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb

from tests.bench.log_events import run_events
from tests.examples import examples
from trainer_svc.domain.run_state import RunState
from trainer_svc.imports.events import IncomingEvents
from trainer_svc.imports.spool import Spool

SHA = "a" * 64
EVENTS = list(run_events("r", 6, 3, ended=True))


def archived(generation: int = 0, run_id: str = "r") -> pb.Event:
    facts = pb.RunArchived(archive_sha256=SHA, event_count=len(EVENTS), last_sequence=len(EVENTS))
    return pb.Event(run_id=run_id, round=generation, run_archived=facts)


def restored(generation: int = 0, count: int = len(EVENTS)) -> pb.Event:
    return pb.Event(run_id="r", round=generation, run_restored=pb.RunRestored(event_count=count))


def projections_of(events: list[pb.Event], after: int = 0) -> RunProjections[RunState]:
    """Apply events with their sequences; those up to sequence ``after`` were purged."""
    projections = RunProjections(RunState.begin)
    for sequence, event in enumerate(events, start=1):
        if sequence > after:
            projections.apply(Recorded(event, sequence))
    return projections


def held(projections: RunProjections[Any]) -> str:
    return repr((projections.runs, [*projections.archived.runs], projections.refused))


def test_an_archived_run_leaves_memory_and_says_where_it_is() -> None:
    projections = projections_of([*EVENTS, archived()])
    assert not projections.runs
    with pytest.raises(WrongState, match="labelloop run restore r") as caught:
        projections.get("r")
    assert caught.value.reason == "RUN_ARCHIVED"


def test_no_late_event_is_taken_up_and_the_run_cannot_be_started_anew() -> None:
    label = next(event for event in EVENTS if event.HasField("label_provided"))
    projections = projections_of([*EVENTS, archived(), label, EVENTS[0], *EVENTS], after=len(EVENTS))
    assert not projections.runs
    assert not projections.refused  # such events are late, not wrong


@pytest.mark.parametrize("event", [archived(), restored(), pb.Event(run_id="r", run_deleted=pb.RunDeleted())])
def test_an_export_cannot_say_that_its_run_is_archived_or_restored(event: pb.Event, tmp_path: Path) -> None:
    with closing(Spool(tmp_path, 1_000_000)) as spool:
        incoming = IncomingEvents(spool, 1_000, 1_000_000)
        for each in EVENTS:
            incoming.take(each)
        with pytest.raises(InvalidInput, match="no part of one"):
            incoming.take(event)


async def test_a_writer_that_comes_too_late_is_told() -> None:
    projections = projections_of([*EVENTS, archived(), EVENTS[0]])
    with pytest.raises(WrongState, match="archived"):
        await projections.wait_for_append(Recorded(EVENTS[0], len(EVENTS) + 2, ours=True))


@given(st.integers(0, len(EVENTS)))
@settings(max_examples=examples(20), deadline=None)
def test_whatever_was_purged_or_read_before_all_readers_agree(purged: int) -> None:
    stream = [*EVENTS, archived(), EVENTS[3], restored(count=1)]
    whole, late = projections_of(stream), projections_of(stream, after=purged)
    slept = RunProjections(RunState.begin)
    for sequence, event in enumerate(stream, start=1):
        if sequence <= purged // 2 or sequence > len(EVENTS):  # read some, then missed what was purged meanwhile
            slept.apply(Recorded(event, sequence))
    assert held(whole) == held(late) == held(slept)


def test_a_restored_run_is_what_it_was() -> None:
    before = projections_of(EVENTS).get("r")
    after = projections_of([*EVENTS, archived(), *EVENTS, restored()], after=len(EVENTS)).get("r")
    assert repr(after) == repr(before)


@pytest.mark.parametrize("written", [[], EVENTS[:1], EVENTS[:-1], EVENTS[1:], [*EVENTS, EVENTS[2]], EVENTS[::-1]])
def test_a_half_restored_run_stays_archived(written: list[pb.Event]) -> None:
    projections = projections_of([*EVENTS, archived(), *written, restored()], after=len(EVENTS))
    assert not projections.runs
    assert "r" in projections.archived


def test_a_run_can_be_archived_again_after_it_was_restored() -> None:
    stream = [*EVENTS, archived(), *EVENTS, restored(), archived(1)]
    projections = projections_of(stream)
    assert not projections.runs
    assert projections.archived.runs["r"].generation == 1
    assert projections.archived.next_generation("r") == 2


def test_an_archive_that_was_taken_back_is_not_taken_up_again() -> None:
    projections = projections_of([*EVENTS, archived(), *EVENTS, restored(), archived(0)])
    assert "r" in projections.runs
    assert projections.refused


def test_events_between_two_archives_are_void() -> None:
    projections = projections_of([*EVENTS, archived(), EVENTS[3], archived(1), *EVENTS, restored(1)])
    assert projections.get("r").over


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (archived(2_000_000), "as often"),
        (pb.Event(run_id="r", run_archived=pb.RunArchived(archive_sha256=SHA)), "empty"),
        (pb.Event(run_id="r", run_archived=pb.RunArchived(event_count=1, last_sequence=1)), "SHA-256"),
        (restored(count=0), "no events"),
    ],
)
def test_malformed_archives_have_a_shape_fault(event: pb.Event, fault: str) -> None:
    assert fault in shape_fault(event)
    assert not shape_fault(archived())


def test_the_time_of_the_start_is_kept_by_a_restoration() -> None:
    after = projections_of([*EVENTS, archived(), *EVENTS, restored()]).get("r")
    assert isinstance(after.started_at, datetime)
    assert after.started_at == Recorded(EVENTS[0], 1).at


def deleted(generation: int = 0) -> pb.Event:
    return pb.Event(run_id="r", round=generation, run_deleted=pb.RunDeleted(reason="asked for by the hospital"))


def test_a_deleted_run_says_so_wherever_it_is_asked_for() -> None:
    projections = projections_of([*EVENTS, archived(), deleted()])
    for ask in (projections.get, projections.archived.readable):
        with pytest.raises(WrongState, match="was deleted") as caught:
            ask("r")
        assert caught.value.reason == "RUN_DELETED"


@pytest.mark.parametrize(
    "later", [[*EVENTS, restored()], [EVENTS[3]], [archived(1)], [archived(1), *EVENTS, restored(1)], [deleted()]]
)
def test_nothing_that_follows_brings_a_deleted_run_back(later: list[pb.Event]) -> None:
    projections = projections_of([*EVENTS, archived(), deleted(), *later])
    assert not projections.runs
    assert projections.archived.runs["r"].deleted
    assert not projections.archived.runs["r"].late


@pytest.mark.parametrize("before", [EVENTS, [*EVENTS, archived(), *EVENTS, restored()], [*EVENTS, archived(3)], []])
def test_only_the_archive_that_is_named_is_deleted(before: list[pb.Event]) -> None:
    projections = projections_of([*before, deleted()])
    assert len(before) + 1 in projections.refused
    assert not any(each.deleted for each in projections.archived.runs.values())


async def test_a_writer_that_comes_after_the_deletion_is_told() -> None:
    projections = projections_of([*EVENTS, archived(), deleted(), EVENTS[0]])
    with pytest.raises(WrongState) as caught:
        await projections.wait_for_append(Recorded(EVENTS[0], len(EVENTS) + 3, ours=True))
    assert caught.value.reason == "RUN_DELETED"
