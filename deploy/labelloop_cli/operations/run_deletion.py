"""Delete archived runs: record it, remove the artifacts that only they need, and what stands of them in the log.

``run_deleted`` is written first, so that no service reads them from then on. What names an artifact is removed after
it, and a run's archive last of its artifacts: whenever a deletion is cut short, another finds what is left to remove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labelloop.artifacts.archive_file import unpack
from labelloop.artifacts.store import ErasableStore
from labelloop.errors import Corrupt, LabelloopError, NotFound, Unready, WrongState
from labelloop.eventlog.archived_runs import ArchivedRun
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import check_run_id
from labelloop.events.v1.events_pb2 import Event, RunDeleted

from labelloop_cli.operations.run_survey import RunSurvey


@dataclass(frozen=True)
class ToRemove:
    """What the deletion of runs removes.

    Attributes:
        events: Events of each run, in its archive.
        artifacts: Digests, in the order of their removal.
        shared: How many artifacts that they name stay, because other runs need them.
        notes: What could not be read, or is not known.
    """

    events: dict[str, int]
    artifacts: Sequence[str]
    shared: int
    notes: Sequence[str]


class RunDeletion:
    """Deletes runs. What was cut short is completed by another try.

    Args:
        log: The log, with the operator's key.
        store: Where the artifacts lie, with a key that may remove some.
        run_ids: The runs.
    """

    def __init__(self, log: EventLog, store: ErasableStore, run_ids: Sequence[str]) -> None:
        self._log, self._store, self._survey = log, store, RunSurvey(log, store)
        self._run_ids = [check_run_id(run_id) for run_id in dict.fromkeys(run_ids)]

    async def plan(self) -> ToRemove:
        """Return what is to be removed, and change nothing.

        Raises:
            NotFound: If there is no such run.
            WrongState: If a run is not archived, or the stream allows no purge.
            Unready: If a run or an import is under way that may come to need one of the artifacts.
            LabelloopError: If it cannot be told what another run needs.
        """
        await self._log.check_purge_allowed()
        await self._survey.catch_up()
        runs = {run_id: self._archived(run_id) for run_id in self._run_ids}
        self._survey.check_quiet()
        needed = await self._survey.needed(self._run_ids)
        own, notes = await self._own()
        own = {**dict.fromkeys(await self._strays({*needed, *own})), **own}
        if self._survey.unreadable:
            notes.append(f"{self._survey.unreadable} events in the log cannot be read: what they need is not known")
        return ToRemove(
            events={run_id: run.facts.event_count for run_id, run in runs.items()},
            artifacts=[digest for digest in own if digest not in needed],
            shared=sum(digest in needed for digest in own),
            notes=notes,
        )

    def _archived(self, run_id: str) -> ArchivedRun:
        projections = self._survey.projections
        if run_id in projections.archived.runs:
            return projections.archived.runs[run_id]
        if run_id in projections.runs:
            message = f"run {run_id!r} is not archived: archive it first, with `labelloop run archive {run_id}`"
            raise WrongState("RUN_NOT_ARCHIVED", message, field="run_id", run_id=run_id)
        message = f"there is no run {run_id!r}: `labelloop run list --archived` shows those that can be deleted"
        raise NotFound("UNKNOWN_RUN", message, field="run_id", run_id=run_id)

    async def _own(self) -> tuple[dict[str, None], list[str]]:
        """Return what the runs name, in the order of removal, and notes."""
        own: dict[str, None] = {}
        archives: list[str] = []
        notes: list[str] = []
        for run_id in self._run_ids:
            run = self._archived(run_id)
            named, problems = await self._survey.own(run_id)
            archives.append(run.facts.archive_sha256)
            for digest in reversed(named):
                own.pop(digest, None)  # another of the runs names it through what is removed later
                own[digest] = None
            if not run.deleted:  # otherwise, an earlier try removed them after all that they named
                notes += [f"what this names for run {run_id!r} stays: {problem}" for problem in problems]
        for digest in archives:
            own.pop(digest, None)
            own[digest] = None
        return own, notes

    async def _strays(self, known: set[str]) -> list[str]:
        """Return archives of the runs that no event names: of earlier times, or of tries that were cut short."""
        return [digest for digest in await self._store.listed() if digest not in known and await self._is_stray(digest)]

    async def _is_stray(self, digest: str) -> bool:
        try:
            first = Event.FromString(next(unpack(await self._store.get(digest), 1)))
        except (LabelloopError, ValueError):
            return False  # no archive, or gone meanwhile
        return first.run_id in self._run_ids

    async def record(self, reason: str) -> None:
        """Write ``run_deleted`` of each run. From then on nobody reads them.

        Raises:
            Unready: If events of a run keep coming.
            WrongState: If a run was restored meanwhile.
        """
        for run_id in self._run_ids:
            last = await self._log.newest(run_id)
            await self._survey.catch_up()
            if (run := self._archived(run_id)).deleted:
                continue
            event = Event(run_id=run_id, round=run.generation, run_deleted=RunDeleted(reason=reason))
            recorded = await self._log.append_behind(event, last)
            await self._survey.catch_up()
            if recorded is None or not self._archived(run_id).deleted:
                message = f"run {run_id!r} is not deleted, as events of it keep coming: try again later"
                raise Unready("RUN_BUSY", message, retry_after_s=1, run_id=run_id)

    async def remove(self, artifacts: Sequence[str]) -> int:
        """Remove artifacts, and then what stands of the runs in the log; return how many artifacts were there.

        Those that a run came to need since :meth:`plan` stay.

        Raises:
            Unready: If a run or an import has begun that may come to need one of the artifacts.
            Corrupt: If a run came to need one at the very moment at which it was removed.
        """
        needed, removed = set[str](), set[str]()
        for digest in artifacts:
            needed |= await self._survey.needed_since(self._run_ids)
            self._survey.check_quiet()
            if digest not in needed and await self._store.remove(digest):
                removed.add(digest)
        for run_id in self._run_ids:
            await self._log.purge_archived(run_id, self._archived(run_id).sequence)
            await self._log.purge_void(run_id)
        if taken := (needed | await self._survey.needed_since(self._run_ids)) & removed:
            message = f"a run began to need artifact {min(taken)} while it was removed: restore it from a backup"
            raise Corrupt("REMOVED_TOO_MUCH", message, artifact=min(taken))
        return len(removed)
