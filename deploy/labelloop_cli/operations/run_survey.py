"""Find out, from the log and the archives, which runs there are and which artifacts they need.

Read by the operator's own key: what the trainer says is not taken for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import DecodeError
from labelloop.artifacts.archive_file import unpack
from labelloop.artifacts.artifact_walk import all_named
from labelloop.artifacts.named_artifacts import Named, named_by_event
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.run_log import RunLog
from labelloop.domain.run_view import RunView
from labelloop.errors import Corrupt, LabelloopError, NotFound, Unready
from labelloop.eventlog.archived_runs import ArchivedRun
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event


@dataclass
class Followed(RunView):
    """A run, without what is known of its samples once it has ended."""

    def apply(self, event: Event, at: datetime) -> None:
        self.run_log.apply(event)
        if self.over and not self.run_log.closed:
            self.run_log.close()


class RunSurvey:
    """All runs, and what they name. Takes about as much memory as a service that follows the log.

    Attributes:
        projections: The runs.
        unreadable: How many events in the log cannot be read. What they name is not known.
    """

    def __init__(self, log: EventLog, store: ArtifactStore) -> None:
        self._log, self._store = log, store
        self.projections = RunProjections(lambda event, _: Followed(RunLog(event.run_started)))
        self.unreadable = 0
        self._named: dict[str, dict[Named, None]] = {}
        self._new: list[tuple[str, Named]] = []

    async def catch_up(self) -> None:
        """Read what the log has now."""
        last, before = await self._log.last_sequence(), self.projections.sequence
        if last <= before:
            return
        async with aclosing(self._log.follow(after=before)) as events:
            async for recorded in events:
                self._take(recorded)
                if recorded.sequence >= last:
                    return

    def _take(self, recorded: Recorded) -> None:
        self.projections.apply(recorded)
        if recorded.event is None:
            self.unreadable += 1
            return
        run_id, named = recorded.event.run_id, list(named_by_event(recorded.event))
        self._named.setdefault(run_id, {}).update(dict.fromkeys(named))
        self._new.extend((run_id, each) for each in named)

    def check_quiet(self) -> None:
        """Raise Unready if a run or an import may come to need an artifact that no event names yet.

        A run without a pool is about to name one, and its shards may stand already, as those of another run.
        """
        runs = self.projections.runs.items()
        if waiting := [run_id for run_id, run in runs if not run.over and run.pool is None]:
            message = f"run {waiting[0]!r} has no pool yet, and may share artifacts: wait until it has, or cancel it"
            raise Unready("RUN_WITHOUT_POOL", message, retry_after_s=10, run_id=waiting[0])
        if unfinished := next(self.projections.beginnings.all_unfinished(), None):
            run_id = unfinished.run_id
            message = (
                f"the import of run {run_id!r} has not ended, and may share artifacts: wait for its end, or give it up "
                f"with `labelloop run clear {run_id}`"
            )
            raise Unready("IMPORT_UNDER_WAY", message, retry_after_s=10, run_id=run_id)

    def counts(self, run_id: str) -> bool:
        """Return whether a run needs its artifacts: one that was deleted, or an import that was given up, does not."""
        archived = self.projections.archived.runs.get(run_id)
        given_up = run_id in self.projections.beginnings.cleared and run_id not in self.projections.runs
        return not (archived.deleted if archived else given_up)

    async def needed(self, apart_from: Collection[str]) -> dict[str, Named]:
        """Return the artifacts that any run needs, ``apart_from`` some.

        Raises:
            LabelloopError: If an archive, a manifest or an index cannot be read, so that its artifacts are unknown.
        """
        needed: dict[str, Named] = {}
        self._new.clear()
        for run_id in self._named:
            if run_id not in apart_from and self.counts(run_id):
                try:
                    named = [*self._named[run_id], *await self._named_in_archive(run_id)]
                    await all_named(self._store, named, needed)
                except LabelloopError as error:
                    message = f"what run {run_id!r} needs is not known: {error.message}; nothing was removed"
                    retry_after_s = error.retry_after_s
                    raise type(error)(error.reason, message, retry_after_s=retry_after_s, run_id=run_id) from error
        return needed

    async def needed_since(self, apart_from: Collection[str]) -> set[str]:
        """Return the artifacts that runs came to need since this or :meth:`needed` was called last."""
        await self.catch_up()
        new = [named for run_id, named in self._new if run_id not in apart_from and self.counts(run_id)]
        self._new.clear()
        return {*await all_named(self._store, new, lost={})}

    async def own(self, run_id: str) -> tuple[dict[str, Named], list[str]]:
        """Return the artifacts that a run names, each after the first naming it, and what cannot be read of them."""
        named, lost = list(self._named.get(run_id, ())), dict[str, LabelloopError]()
        try:
            named += await self._named_in_archive(run_id)
        except (NotFound, Corrupt) as error:
            lost["archive"] = error
        found = await all_named(self._store, named, lost=lost)
        return found, [error.message for error in lost.values()]

    async def _named_in_archive(self, run_id: str) -> list[Named]:
        archived = self.projections.archived.runs.get(run_id)
        if archived is None:
            return []
        data = await self._store.get(archived.facts.archive_sha256)
        return await asyncio.to_thread(_named_by_archive, archived, data)


def _named_by_archive(archived: ArchivedRun, data: bytes) -> list[Named]:
    found: dict[Named, None] = {}
    for number, packed in enumerate(unpack(data, archived.facts.event_count), start=1):
        found.update(dict.fromkeys(named_by_event(_event(archived, number, packed))))
    return list(found)


def _event(archived: ArchivedRun, number: int, packed: bytes) -> Event:
    try:
        event = Event.FromString(packed)
        fault = shape_fault(event) or ("" if event.run_id == archived.run_id else "it belongs to another run")
    except DecodeError as error:
        fault = str(error)
    if fault:
        message = f"event {number} in the archive of run {archived.run_id!r} is none: {fault}"
        raise Corrupt("BAD_ARCHIVE", message, run_id=archived.run_id)
    return event
