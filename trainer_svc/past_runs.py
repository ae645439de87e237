"""Read archived runs: their status from the log, everything else from the artifact with their events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice

from google.protobuf.message import DecodeError
from labelloop.artifacts.archive_file import unpack
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import Corrupt
from labelloop.eventlog.archived_runs import ArchivedRun
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.runtime.async_cache import AsyncCache
from labelloop.trainer.v1.trainer_pb2 import RunStatus

from trainer_svc.domain.run_state import RunState

_KEPT_RUNS = 2  # a run of 100,000 labels takes 150 MB
LISTED_MAX = 500  # in one response, of a few kilobytes each


class PastRuns:
    """Reads archived runs; keeps the states of those read last."""

    def __init__(self, projections: RunProjections[RunState], artifacts: ArtifactStore) -> None:
        self._projections, self._artifacts = projections, artifacts
        self._states: AsyncCache[tuple[str, int], RunState] = AsyncCache(self._state, kept=_KEPT_RUNS)

    def __len__(self) -> int:
        return len(self._projections.archived.runs)

    async def state(self, run_id: str) -> RunState:
        """Return the state of a run, archived or not.

        Raises:
            NotFound: If there is no such run, or no artifact with its events.
            Corrupt: If the archive is damaged.
            WrongState: If the run was deleted.
        """
        archived = self._projections.archived.readable(run_id)
        if archived is None:
            return self._projections.get(run_id)
        return await self._states.get((run_id, archived.sequence))

    async def _state(self, key: tuple[str, int]) -> RunState:
        archived = self._projections.archived.runs[key[0]]
        events = await self.events(archived)
        return await asyncio.to_thread(_folded, archived, events)  # a large run would hold up the event loop

    async def events(self, archived: ArchivedRun) -> list[Event]:
        """Return the events of an archived run, ``run_started`` first. Raises NotFound, Corrupt or WrongState."""
        self._projections.archived.readable(archived.run_id)
        data = await self._artifacts.get(archived.facts.archive_sha256)
        return await asyncio.to_thread(_events, archived, data)

    def listed(self, after: str, limit: int) -> tuple[list[RunStatus], bool]:
        """Return up to ``limit`` archived runs behind ``after``, oldest archive first, and whether more follow."""
        count = min(limit or LISTED_MAX, LISTED_MAX)
        runs = self._projections.archived.runs
        order = list(runs)
        start = order.index(after) + 1 if after in runs else 0
        found = [listed_status(runs[run_id]) for run_id in islice(order, start, start + count)]
        return found, start + count < len(order)


def short_status(status: RunStatus) -> RunStatus:
    """Return what lists show of an archived run: without gold samples, which may be many, and guidelines."""
    short = RunStatus()
    short.CopyFrom(status)
    short.spec.queue.ClearField("gold")
    return without_guidelines(short)


def without_guidelines(status: RunStatus) -> RunStatus:
    """Return what lists show of a run: without guidelines, which are long and which a list does not need."""
    if not status.spec.queue.guidelines:
        return status
    short = RunStatus()
    short.CopyFrom(status)
    short.spec.queue.ClearField("guidelines")
    return short


def listed_status(archived: ArchivedRun) -> RunStatus:
    """Return what lists show of an archived run."""
    try:
        status = RunStatus.FromString(archived.facts.status)
    except DecodeError as error:
        status = RunStatus(message=f"what its archive says of it cannot be read: {error}")
    status.run_id, status.archived = archived.run_id, True
    if archived.deleted:
        status.deleted, status.message = True, archived.deleted.reason or "no reason given"
    return status


def _events(archived: ArchivedRun, data: bytes) -> list[Event]:
    events: list[Event] = []
    for number, packed in enumerate(unpack(data, archived.facts.event_count), start=1):
        try:
            event = Event.FromString(packed)
        except DecodeError as error:
            raise _corrupt(archived, number, str(error)) from error
        if event.run_id != archived.run_id or event.HasField("run_started") != (number == 1):
            raise _corrupt(archived, number, "it is not the next of this run")
        if fault := shape_fault(event):
            raise _corrupt(archived, number, fault)
        events.append(event)
    return events


def _folded(archived: ArchivedRun, events: Iterable[Event]) -> RunState:
    first, *others = events
    state = RunState.begin(first, Recorded(first, 0).at)
    for number, event in enumerate(others, start=2):
        if fault := state.run_log.fault(event):
            raise _corrupt(archived, number, fault)
        state.apply(event, Recorded(event, 0).at)
    return state


def _corrupt(archived: ArchivedRun, number: int, fault: str) -> Corrupt:
    digest = archived.facts.archive_sha256
    message = f"event {number} in the archive {digest} of run {archived.run_id!r} is none: {fault}"
    return Corrupt("BAD_ARCHIVE", f"{message}; restore the artifact from a backup", artifact=digest)
