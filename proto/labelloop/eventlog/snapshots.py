"""Convert what a service has folded from the log to a message, and back. No I/O.

A snapshot holds the events of runs, not their states: these are folded from the events by the release that reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from labelloop.domain.summaries import Summaries
from labelloop.errors import Corrupt
from labelloop.eventlog.archived_runs import ArchivedRun
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.packed_events import PackedEvents
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.run_states import KeptRun, RunStates
from labelloop.events.v1.events_pb2 import Event
from labelloop.snapshots.v1 import snapshots_pb2 as pb

FORMAT = 1
"""Number of what a snapshot holds: raise it when a fold refuses other events, or summaries change."""


class Restored(NamedTuple):
    """What a snapshot held."""

    snapshot: pb.Snapshot
    runs: RunStates[Any]
    archived: list[ArchivedRun]


def snapshot_of(projections: RunProjections[Any], unreadable: int, dump: Callable[[Any], bytes]) -> pb.Snapshot | None:
    """Return what was folded so far, without its position; None while an import is unfinished."""
    if any(projections.beginnings.all_unfinished()):
        return None
    generations, restored = projections.archived.facts()
    return pb.Snapshot(
        format=FORMAT,
        unreadable=unreadable,
        refused=sorted(projections.refused),
        runs=[_run(kept, projections.carriers.get(kept.run_id, {}), dump) for kept in projections.runs.kept()],
        archives=[_archive(each) for each in projections.archived.runs.values()],
        generations=generations,
        restored=restored,
        cleared=sorted(projections.beginnings.cleared),
    )


def _run(kept: KeptRun, carrier: Any, dump: Callable[[Any], bytes]) -> pb.RunEvents:
    summary = None if kept.summary is None else dump(kept.summary)
    return pb.RunEvents(
        run_id=kept.run_id, blocks=kept.events.blocks(), count=kept.events.count, summary=summary, carrier=carrier
    )


def _archive(archived: ArchivedRun) -> pb.Archive:
    late = [
        pb.LateEvent(sequence=each.sequence, data=each.data or event.SerializeToString(deterministic=True))
        for each, event in archived.late
    ]
    return pb.Archive(
        run_id=archived.run_id,
        generation=archived.generation,
        sequence=archived.sequence,
        facts=archived.facts,
        late=late,
    )


def restored(snapshot: pb.Snapshot, projections: RunProjections[Any], summaries: Summaries) -> Restored:
    """Check a snapshot and fold the runs that go on. Takes seconds for a large one; ``projections`` is not changed.

    Raises:
        Corrupt: If it holds what no service wrote.
    """
    run_id = ""
    try:
        runs = []
        for each in snapshot.runs:
            run_id = each.run_id
            runs.append(_kept(each, summaries))
        archived = [_archived(each) for each in snapshot.archives]
    except (ValueError, DecodeError, zlib.error) as error:
        message = f"the snapshot's run {run_id!r} cannot be read: {error}"
        raise Corrupt("BAD_SNAPSHOT", message, field="runs", run_id=run_id) from error
    if len({each.run_id for each in snapshot.runs}) < len(snapshot.runs):
        raise Corrupt("BAD_SNAPSHOT", "the snapshot names a run twice", field="runs")
    return Restored(snapshot, projections.runs.taken_over(runs), archived)


def _kept(run: pb.RunEvents, summaries: Summaries) -> KeptRun:
    events = PackedEvents.checked(run.blocks, run.count, run.run_id)
    return KeptRun(run.run_id, events, summaries.load(run.summary) if run.HasField("summary") else None)


def _archived(archive: pb.Archive) -> ArchivedRun:
    late = []
    for each in archive.late:
        event = Event.FromString(each.data)
        late.append((Recorded(event, each.sequence, data=each.data), event))
    return ArchivedRun(archive.run_id, archive.generation, archive.sequence, archive.facts, late)


def go_on_from(found: Restored, projections: RunProjections[Any]) -> None:
    """Make ``projections``, which has applied nothing yet, what it was when the snapshot was taken."""
    snapshot = found.snapshot
    projections.go_on_from(snapshot.position.sequence, found.runs)
    projections.refused.update(snapshot.refused)
    projections.beginnings.cleared.update(snapshot.cleared)
    projections.carriers.update({each.run_id: dict(each.carrier) for each in snapshot.runs if each.carrier})
    projections.archived.go_on_from(found.archived, (snapshot.generations, snapshot.restored))
