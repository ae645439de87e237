"""Archive runs and restore them, for ``labelloop run archive`` and ``labelloop run restore``.

The trainer writes the archive and records it. What stands of the run in the log is removed here, as an operator of the
broker: no service may. Before, it is compared with the artifact, both read from where they lie: a trainer that is not
what it should be can hide a run, but have nothing removed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from labelloop.artifacts.archive_file import unpack
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.run_log import RunLog
from labelloop.errors import Corrupt, WrongState
from labelloop.eventlog.archived_runs import is_about_archives
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1 import trainer_pb2 as pb

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.operator_connection import operator_of
from labelloop_cli.operations.run import listing
from labelloop_cli.output.console import console

_ENDED = (pb.Phase.PHASE_FINISHED, pb.Phase.PHASE_CANCELLED, pb.Phase.PHASE_FAILED)


async def archive(run_ids: Sequence[str], ended_before: datetime | None, sync_s: float) -> None:
    """Archive runs, or all that ended before ``ended_before``, and remove what stands of archived runs in the log.

    Nothing is removed before ``sync_s`` seconds have passed: until the broker has written its data to the disk, a loss
    of power could take the archive away, and leave the removal. What an earlier try left to remove is removed too.

    Raises:
        LabelloopError: If a run cannot be archived; those before it are.
    """
    endpoints = Endpoints()
    async with operator_of(endpoints) as client, connect(endpoints) as clients:
        log, store = EventLog(client), open_store(endpoints.artifacts_url, client)
        left = await _left_to_remove(clients, log)
        chosen = [*run_ids, *(await _ended(clients, ended_before) if ended_before else ())]
        for run_id in dict.fromkeys(chosen):
            made = await clients.trainer.ArchiveRun(pb.ArchiveRunRequest(run_id=run_id))
            console.print(_told(run_id, made), highlight=False, soft_wrap=True)
        if not chosen and not left:
            console.print("no run has ended before then")
        elif sync_s:
            console.print(f"waiting {sync_s:.0f} s for the broker to write to its disk")
            await asyncio.sleep(sync_s)
        for run_id in dict.fromkeys([*left, *chosen]):
            console.print(f"{await purge(log, store, run_id)} events of run {run_id} removed from the log")


async def _left_to_remove(clients: Clients, log: EventLog) -> list[str]:
    """Return the archived runs of which the log holds more than that they are archived."""
    archived = (await listing(clients, archived=True)).runs
    standing = await log.started_runs() if archived else frozenset()
    return [run.run_id for run in archived if run.run_id in standing and not run.deleted]


def _told(run_id: str, made: pb.ArchiveRunResponse) -> str:
    left = f", {made.left_out} that broke its rules or could not be read left out" if made.left_out else ""
    return f"run {run_id} archived: {made.events} events{left}"


async def restore(run_ids: Sequence[str]) -> None:
    """Bring archived runs back."""
    async with connect(Endpoints()) as clients:
        for run_id in run_ids:
            run = (await clients.trainer.RestoreRun(pb.RestoreRunRequest(run_id=run_id))).run
            console.print(f"run {run.run_id} restored: round {run.round}, {run.labels_paid} labels")


async def _ended(clients: Clients, before: datetime) -> list[str]:
    runs = (await clients.trainer.ListRuns(pb.ListRunsRequest())).runs
    return [run.run_id for run in runs if run.phase in _ENDED and run.changed_at.ToDatetime(UTC) < before]


async def purge(log: EventLog, store: ArtifactStore, run_id: str) -> int:
    """Remove what stands of a run before its newest ``run_archived``, and return how many events.

    Raises:
        WrongState: If the run is not archived, or was deleted.
        NotFound: If its archive is missing.
        Corrupt: If its archive is damaged, or lacks an event that stands in the log.
    """
    everything = [each async for each in log.read_all(run_id)]
    archived = _projected(everything).archived.readable(run_id)
    if archived is None:
        raise WrongState("RUN_NOT_ARCHIVED", f"run {run_id!r} is not archived: nothing was removed", run_id=run_id)
    if standing := [each for each in everything if each.sequence < archived.sequence]:
        facts = archived.facts
        archive = await store.get(facts.archive_sha256)
        check_kept(run_id, standing, unpack(archive, facts.event_count), facts.left_out)
        await log.purge_archived(run_id, archived.sequence)
    return len(standing)


def check_kept(run_id: str, standing: Iterable[Recorded], archived: Iterable[bytes], left_out: int) -> None:
    """Raise Corrupt unless ``archived`` has each event in ``standing`` that the services take for the run's.

    What is left of a purge that was cut short does not say which these are: there, as many may be missing as were
    ``left_out``.
    """
    kept, read = Counter(archived), list(standing)
    events = events_of_run(run_id, read)
    if whole := events is not None:
        left_out = 0
    else:
        events = [each.event for each in read if each.event and not is_about_archives(each)]
    lost = sum(not kept[event.SerializeToString(deterministic=True)] for event in events or ())
    if lost > left_out:
        message = (
            f"the archive of run {run_id!r} lacks {lost} events that stand in the log: nothing was removed. Report "
            "this, and keep the log"
        )
        raise Corrupt("ARCHIVE_INCOMPLETE", message, run_id=run_id, lost=lost, whole=whole)


@dataclass
class _Kept:
    """The events of a run, as services project it."""

    run_log: RunLog
    events: list[Event]

    @property
    def over(self) -> bool:
        return self.run_log.over

    def apply(self, event: Event, at: datetime) -> None:
        self.run_log.apply(event)
        self.events.append(event)


def _projections() -> RunProjections[_Kept]:
    return RunProjections(lambda event, _: _Kept(RunLog(event.run_started), [event]))


def _projected(everything: Iterable[Recorded]) -> RunProjections[_Kept]:
    projections = _projections()
    for recorded in everything:
        projections.apply(recorded)
    return projections


def events_of_run(run_id: str, standing: Iterable[Recorded]) -> list[Event] | None:
    """Return the events that services take for the run's before it was archived last; None if its start is missing."""
    projections = _projections()
    found: list[Event] | None = None
    for recorded in standing:
        projections.apply(recorded)
        run = projections.runs.get(run_id)
        found = run.events if run else found
    return found
