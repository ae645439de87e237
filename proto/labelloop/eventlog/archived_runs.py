"""Keep track of archived runs while the log is read.

``run_archived`` decides: what stands of the run before it lies in the archive and may be purged, and what comes after
it is no part of the run. So no service, however late, can start the run anew, and no answer that comes late is taken
up. Events that follow are held, since ``run_restored`` makes them the run's again, provided that they are complete.

A later ``run_deleted`` is final: the run cannot be restored, and events that follow are not held. Its
``run_archived`` stays, so that no other run can have its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from labelloop.domain.run_end import ABOUT_ARCHIVES
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import Event, PoolPublished, RunArchived, RunDeleted

if TYPE_CHECKING:
    from labelloop.eventlog.log import Recorded

log = structlog.get_logger()


@dataclass(frozen=True)
class ArchivedRun:
    """A run that lies in an archive.

    Attributes:
        run_id: The run.
        generation: How often it was restored before.
        sequence: Sequence of its ``run_archived``; nothing before that is needed any more.
        facts: What ``run_archived`` says of it.
        late: Events that followed: those of a restoration under way, or of writers that came too late.
        deleted: What ``run_deleted`` says; None unless the run was deleted.
    """

    run_id: str
    generation: int
    sequence: int
    facts: RunArchived
    late: list[tuple[Recorded, Event]] = field(default_factory=list)
    deleted: RunDeleted | None = None

    @property
    def pool(self) -> PoolPublished | None:
        """The run's pool; None if it had none."""
        return self.facts.pool if self.facts.HasField("pool") else None


class ArchivedRuns:
    """The archived runs that a service knows of, in the order in which they were archived.

    Attributes:
        runs: Each archived run.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ArchivedRun] = {}
        self._generations: dict[str, int] = {}
        self._restored: dict[str, int] = {}

    def facts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of each run's newest archive, and after which sequence events of restored runs are."""
        return dict(self._generations), dict(self._restored)

    def go_on_from(self, runs: Iterable[ArchivedRun], facts: tuple[Mapping[str, int], Mapping[str, int]]) -> None:
        """Take over archived runs, and what :meth:`facts` returned of them."""
        self.runs = {run.run_id: run for run in runs}
        self._generations, self._restored = dict(facts[0]), dict(facts[1])

    def __contains__(self, run_id: object) -> bool:
        return run_id in self.runs

    def readable(self, run_id: str) -> ArchivedRun | None:
        """Return an archived run; None if there is none of that id. Raises WrongState if it was deleted."""
        archived = self.runs.get(run_id)
        if archived and archived.deleted:
            raise refusal(archived)
        return archived

    def next_generation(self, run_id: str) -> int:
        """Return the generation that the run's next archive has."""
        return self._generations.get(run_id, -1) + 1

    def before(self, run_id: str) -> int:
        """Return the sequence behind which the events of a run that is there stand; 0 unless it was restored."""
        return self._restored.get(run_id, 0)

    def archive(self, recorded: Recorded, event: Event) -> str:
        """Take in ``run_archived``; return why it cannot stand, or an empty string."""
        if event.run_id in self.runs and self.runs[event.run_id].deleted:
            return "the run was deleted"
        if event.round < self.next_generation(event.run_id):
            return f"the run's next archive is number {self.next_generation(event.run_id)}"
        self._generations[event.run_id] = event.round
        self.runs.pop(event.run_id, None)  # so that the order is that of archiving
        self.runs[event.run_id] = ArchivedRun(event.run_id, event.round, recorded.sequence, event.run_archived)
        return ""

    def hold(self, recorded: Recorded, event: Event) -> None:
        """Hold an event that follows ``run_archived``; drop it if the run was deleted."""
        archived = self.runs[event.run_id]
        if archived.deleted:
            log.info("event_of_deleted_run_ignored", run=event.run_id, sequence=recorded.sequence)
            return
        if not archived.late:
            log.warning("event_of_archived_run_ignored", run=event.run_id, sequence=recorded.sequence)
        archived.late.append((recorded, event))

    def delete(self, event: Event) -> str:
        """Take in ``run_deleted``; return why it cannot stand, or an empty string."""
        archived = self.runs.get(event.run_id)
        if archived is None or archived.generation != event.round:
            return f"the run has no archive number {event.round} that could be deleted"
        if archived.deleted:
            return "the run was deleted before"
        self.runs[event.run_id] = replace(archived, deleted=event.run_deleted, late=[])
        return ""

    def fault_of_restoration(self, event: Event) -> str:
        """Return why ``run_restored`` cannot stand; empty if it can."""
        archived = self.runs.get(event.run_id)
        if archived is None or archived.generation != event.round:
            return f"the run has no archive number {event.round} that it could take back"
        if archived.deleted:
            return "the run was deleted"
        if len(archived.late) != event.run_restored.event_count:
            return (
                f"{len(archived.late)} events follow the archive where there must be {event.run_restored.event_count}"
            )
        return "" if archived.late[0][1].HasField("run_started") else "the events do not begin with run_started"

    def restore(self, run_id: str) -> list[tuple[Recorded, Event]]:
        """Forget that the run is archived and return its events, in order."""
        archived = self.runs.pop(run_id)
        self._restored[run_id] = archived.sequence
        return archived.late


def is_about_archives(recorded: Recorded) -> bool:
    """Return whether an event is no part of its run, but says where that lies."""
    return recorded.event is not None and recorded.event.WhichOneof("payload") in ABOUT_ARCHIVES


def refusal(archived: ArchivedRun) -> WrongState:
    """Return the error for a run that lies in an archive where only one that is there will do."""
    run_id = archived.run_id
    if archived.deleted:
        message = f"run {run_id!r} was deleted ({archived.deleted.reason or 'no reason given'}): nobody can read it"
        return WrongState("RUN_DELETED", message, run_id=run_id)
    message = (
        f"run {run_id!r} is archived: `labelloop report`, `export` and `run list --archived` read it, and "
        f"`labelloop run restore {run_id}` brings it back"
    )
    return WrongState("RUN_ARCHIVED", message, run_id=run_id)
