"""Import a run: check all that is sent, then write it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from itertools import chain, zip_longest

from labelloop.artifacts.named_artifacts import named_by_event
from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import LimitExceeded, Unready
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ImportRunRequest

from trainer_svc.domain.run_state import RunState
from trainer_svc.imports.artifacts import IncomingArtifacts
from trainer_svc.imports.events import IncomingEvents
from trainer_svc.imports.faults import bad, given_up, other_import, taken
from trainer_svc.imports.limits import ImportLimits
from trainer_svc.imports.spool import Spool
from trainer_svc.run_archive import RunArchive, without_import

_RETRY_S = 2.0


class RunImport:
    """Imports runs, one at a time.

    Attributes:
        run_id: Id of the run whose import is being written; empty if there is none.
    """

    def __init__(
        self,
        projections: RunProjections[RunState],
        log: EventLog,
        artifacts: ArtifactStore,
        archive: RunArchive,
        limits: ImportLimits,
    ) -> None:
        self._projections, self._log, self._artifacts, self._archive = projections, log, artifacts, archive
        self._limits, self._under_way = limits, False
        self.run_id = ""

    async def take_in(self, parts: AsyncIterator[ImportRunRequest]) -> str:
        """Import a run and return its id.

        Nothing is written before all parts are checked: then artifacts, ``run_started`` and the other events, in
        this order. If that is cut short, there is no run, and a repetition completes it.

        Raises:
            InvalidInput: If the parts are not a valid export.
            LimitExceeded: If there is more than ``limits`` allow, or it takes longer.
            WrongState: If another run has the id, or its import was given up.
            Unready: If another import is under way.
            NotAllowed: If the broker does not let this trainer write all kinds of events.
        """
        with self._alone():
            try:
                async with asyncio.timeout(self._limits.limit_s) as deadline:
                    return await self._take_in(parts)
            except TimeoutError as error:
                if deadline.expired():
                    raise self._too_slow() from error
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._under_way:
            message = "another import is under way, and each waits for the one before: try again in a while"
            raise Unready("IMPORT_UNDER_WAY", message, retry_after_s=_RETRY_S)
        self._under_way = True
        try:
            yield
        finally:
            self._under_way, self.run_id = False, ""

    def _too_slow(self) -> LimitExceeded:
        limit_s = self._limits.limit_s
        written = f"; part of run {self.run_id!r} stands: import it again to complete it" if self.run_id else ""
        message = f"the import took longer than {limit_s:g} s{written}: ask to raise LABELLOOP_IMPORT_S"
        return LimitExceeded("IMPORT_TOO_SLOW", message, most=limit_s)

    async def _take_in(self, parts: AsyncIterator[ImportRunRequest]) -> str:
        spool = Spool(self._limits.folder, self._limits.bytes_max)
        try:
            events = IncomingEvents(spool, self._limits.events_max, self._log.event_bytes_max)
            artifacts = IncomingArtifacts(spool)
            await self._receive(parts, events, artifacts)
            self.run_id = events.run_id
            if not await self._stands(events):
                await self._write(events, artifacts)
            return events.run_id
        finally:
            spool.close()

    async def _receive(
        self, parts: AsyncIterator[ImportRunRequest], events: IncomingEvents, artifacts: IncomingArtifacts
    ) -> None:
        only_artifacts = False
        async for part in self._heard(parts):
            if part.HasField("artifact"):
                only_artifacts = True
                await artifacts.take(part.artifact)
            elif not part.HasField("event"):
                raise bad("a part is empty")
            elif only_artifacts:
                raise bad("an event comes after artifacts", "event")
            else:
                events.take(part.event)
                artifacts.expect(named_by_event(part.event))
        await artifacts.check_complete(self._artifacts)

    async def _heard(self, parts: AsyncIterator[ImportRunRequest]) -> AsyncIterator[ImportRunRequest]:
        """Yield parts for as long as the client does not fall silent."""
        while True:
            try:
                async with asyncio.timeout(self._limits.silence_s):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                message = f"nothing of the import came for {self._limits.silence_s:g} s: import it again"
                raise LimitExceeded("IMPORT_TOO_SLOW", message, most=self._limits.silence_s) from error
            yield part

    async def _stands(self, events: IncomingEvents) -> bool:
        """Return whether the run stands already.

        Raises:
            WrongState: If other events stand under its id, or an import of it was given up.
        """
        run_id = events.run_id
        await self._projections.wait_for(await self._log.newest(run_id))
        if run_id in self._projections.beginnings.cleared:
            raise given_up(run_id)
        if run_id in self._projections.archived:
            raise taken(run_id)
        if run_id not in self._projections.runs:
            await self._check_beginning(events)
            return False
        if self._projections.runs[run_id].run_log.started == events.start.run_started:
            return True  # and may have gone on since
        standing = await self._archive.events(run_id)
        if not await asyncio.to_thread(_are_equal, standing, chain([without_import(events.start)], events.rest())):
            raise taken(run_id)
        return True

    async def _check_beginning(self, events: IncomingEvents) -> None:
        """Raise WrongState unless what stands of the import is its beginning."""
        ours = events.rest()
        async with aclosing(self._log.read_on(events.run_id)) as standing:
            async for recorded in standing:
                starts = recorded.event is not None and recorded.event.HasField("run_started")
                if recorded.event != (events.start if starts else next(ours, None)):
                    raise other_import(events.run_id)

    async def _write(self, events: IncomingEvents, artifacts: IncomingArtifacts) -> None:
        for subject in events.subjects:
            await self._log.check_may_append(subject)
        async for data in artifacts.sent():
            await self._artifacts.put(data)
        sequence = await self._append(events.start)
        for event in events.rest():
            sequence = await self._append(event)
        await self._projections.wait_for(sequence)
        if events.run_id not in self._projections.runs:
            cleared = events.run_id in self._projections.beginnings.cleared
            raise given_up(events.run_id) if cleared else other_import(events.run_id)

    async def _append(self, event: Event) -> int:
        recorded = await self._log.append_once(event)
        if recorded.event != event:
            raise taken(event.run_id)
        return recorded.sequence


def _are_equal(some: Iterable[Event], others: Iterable[Event]) -> bool:
    return all(one == other for one, other in zip_longest(some, others))
