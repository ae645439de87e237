"""Archive runs that have ended, and restore them."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop.artifacts.archive_file import pack, unpack
from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import Corrupt, Unready, WrongState
from labelloop.eventlog.archived_runs import ArchivedRun, is_about_archives
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, RunArchived, RunRestored

from trainer_svc.domain.run_state import RunState
from trainer_svc.past_runs import PastRuns, short_status
from trainer_svc.status import status_of

_TRIES = 20


class Archiving:
    """Archives and restores runs. What was cut short is completed by another try, by this trainer or another.

    Args:
        projections: The runs.
        log: The log that they are recorded in.
        artifacts: Where archives are stored.
        past_runs: Reads archives.
    """

    def __init__(
        self,
        projections: RunProjections[RunState],
        log: EventLog,
        artifacts: ArtifactStore,
        past_runs: PastRuns,
    ) -> None:
        self._projections, self._log, self._artifacts, self._past_runs = projections, log, artifacts, past_runs

    async def archive(self, run_id: str) -> ArchivedRun:
        """Archive a run, or return the archive that it lies in.

        An archived run with events that came too late is archived once more, so that these can be purged.

        Raises:
            WrongState: If the run has not ended or was deleted, or the stream allows no purge.
            Unready: If events of the run keep coming.
        """
        await self._log.check_purge_allowed()
        for _ in range(_TRIES):
            await self._projections.wait_for(await self._log.last_sequence())
            standing = self._projections.archived.readable(run_id)
            if standing and not standing.late:
                return standing
            last, facts = await (self._facts_again(standing) if standing else self._facts(run_id))
            generation = self._projections.archived.next_generation(run_id)
            recorded = await self._log.append_behind(Event(run_id=run_id, round=generation, run_archived=facts), last)
            if recorded:
                await self._projections.wait_for(recorded.sequence)
        message = f"run {run_id!r} is not archived, as events of it keep coming: try again later"
        raise Unready("RUN_BUSY", message, retry_after_s=1, run_id=run_id)

    async def _facts_again(self, standing: ArchivedRun) -> tuple[int, RunArchived]:
        return await self._log.newest(standing.run_id), standing.facts

    async def _facts(self, run_id: str) -> tuple[int, RunArchived]:
        """Store the archive of a run; return the sequence of its newest event, and what to record."""
        state = self._projections.get(run_id)
        if not state.over:
            message = f"run {run_id!r} has not ended: wait for its end, or cancel it first"
            raise WrongState("RUN_NOT_ENDED", message, run_id=run_id)
        last, before = await self._log.newest(run_id), self._projections.archived.before(run_id)
        standing = [each async for each in self._log.read_all(run_id, before) if not is_about_archives(each)]
        await self._projections.wait_for(last)
        refused = self._projections.refused
        events = [each.event for each in standing if each.event and each.sequence not in refused]
        events.sort(key=lambda event: not event.HasField("run_started"))  # an import writes it last
        return last, RunArchived(
            archive_sha256=await self._stored(events),
            event_count=len(events),
            left_out=len(standing) - len(events),
            last_sequence=last,
            pool=state.pool,
            model_sha256=state.model_sha256,
            status=short_status(status_of(state)).SerializeToString(deterministic=True),
        )

    async def _stored(self, events: Sequence[Event]) -> str:
        """Store an archive and compare what the store then returns, event by event."""
        written = [event.SerializeToString(deterministic=True) for event in events]
        digest = await self._artifacts.put(pack(written))
        for number, data in enumerate(unpack(await self._artifacts.get(digest), len(written))):
            if data != written[number]:
                message = f"event {number + 1} in the archive {digest} is not what was stored: check the artifact store"
                raise Corrupt("BAD_ARCHIVE", message, artifact=digest)
        return digest

    async def restore(self, run_id: str) -> None:
        """Bring an archived run back; one that is there is left as it is.

        Raises:
            NotFound: If there is no such run.
            WrongState: If an event that came late stands in the place of one of the run's, or the run was deleted.
        """
        await self._projections.wait_for(await self._log.last_sequence())
        archived = self._projections.archived.readable(run_id)
        if archived is None:
            self._projections.get(run_id)
            return
        events = await self._past_runs.events(archived)
        last = await self._write(archived, events)
        back = RunRestored(event_count=len(events))
        recorded = await self._log.append_behind(
            Event(run_id=run_id, round=archived.generation, run_restored=back), last
        )
        if recorded is None:
            raise _occupied(run_id)
        await self._projections.wait_for(recorded.sequence)
        if run_id in self._projections.archived:
            raise _occupied(run_id)

    async def _write(self, archived: ArchivedRun, events: Sequence[Event]) -> int:
        """Write the events that do not stand yet, in order, and return the sequence of the last one."""
        standing = [recorded async for recorded in self._log.read_all(archived.run_id, archived.sequence)]
        if [each.event for each in standing] != list(events[: len(standing)]):
            raise _occupied(archived.run_id)
        last = standing[-1].sequence if standing else archived.sequence
        for event in events[len(standing) :]:
            recorded = await self._log.append_once(event)
            if recorded.event != event or recorded.sequence <= archived.sequence:
                raise _occupied(archived.run_id)
            last = max(last, recorded.sequence)
        return last


def _occupied(run_id: str) -> WrongState:
    message = (
        f"run {run_id!r} cannot be restored over what stands in the log: `labelloop run archive {run_id}` clears that "
        "away; then restore it"
    )
    return WrongState("ARCHIVE_OCCUPIED", message, run_id=run_id)
