"""What the command compares before it removes a run's events from the log."""

from __future__ import annotations

import pytest
from labelloop.errors import Corrupt
from labelloop.eventlog.log import Recorded
from labelloop.events.v1 import events_pb2 as pb
from labelloop_cli.operations.run_archive import check_kept, events_of_run

from tests.bench.log_events import run_events

EVENTS = list(run_events("r", 6, 3, ended=True))


def stream(*events: pb.Event | None) -> list[Recorded]:
    return [Recorded(event, sequence) for sequence, event in enumerate(events, start=1)]


def packed(events: list[pb.Event]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]


def test_a_whole_archive_passes() -> None:
    check_kept("r", stream(*EVENTS), packed(EVENTS), 0)


def test_what_is_left_of_a_purge_that_was_cut_short_passes() -> None:
    check_kept("r", stream(*EVENTS[4:9]), packed(EVENTS), 0)


@pytest.mark.parametrize("missing", range(len(EVENTS)))
def test_an_archive_that_lacks_an_event_is_told_before_anything_is_removed(missing: int) -> None:
    archived = packed(EVENTS[:missing] + EVENTS[missing + 1 :])
    with pytest.raises(Corrupt, match="lacks 1 events"):
        check_kept("r", stream(*EVENTS), archived, 0)


def test_an_event_that_differs_is_missing() -> None:
    changed = pb.Event()
    changed.CopyFrom(EVENTS[3])
    changed.label_provided.label += 1
    with pytest.raises(Corrupt):
        check_kept("r", stream(*EVENTS), packed([*EVENTS[:3], changed, *EVENTS[4:]]), 0)


def test_events_that_no_service_took_up_need_not_be_in_the_archive() -> None:
    wrong = pb.Event(run_id="r", round=7, label_provided=pb.LabelProvided(sample_id=99))
    check_kept("r", stream(*EVENTS[:4], None, wrong, *EVENTS[4:]), packed(EVENTS), 0)


def test_what_the_archive_claims_to_leave_out_excuses_nothing() -> None:
    with pytest.raises(Corrupt):
        check_kept("r", stream(*EVENTS), packed(EVENTS[:3]), len(EVENTS))


def test_what_came_after_an_archive_is_the_runs_only_if_it_was_restored() -> None:
    facts = pb.RunArchived(archive_sha256="a" * 64, event_count=1, last_sequence=1)
    archived, again = (pb.Event(run_id="r", round=number, run_archived=facts) for number in (0, 1))
    restored = pb.Event(run_id="r", round=1, run_restored=pb.RunRestored(event_count=len(EVENTS)))
    assert events_of_run("r", stream(*EVENTS, archived, EVENTS[3])) == EVENTS
    assert events_of_run("r", stream(archived, EVENTS[3], again, *EVENTS, restored)) == EVENTS
    assert events_of_run("r", stream(*EVENTS[2:])) is None
