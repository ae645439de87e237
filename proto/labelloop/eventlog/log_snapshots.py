"""Start a service from a snapshot of what it had read of the log, and take new ones while it runs."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog

import labelloop
from labelloop.domain.summaries import Summaries
from labelloop.errors import Corrupt, LabelloopError, NotFound
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.snapshot_file import read_snapshot, remove_drafts, remove_older, write_snapshot
from labelloop.eventlog.snapshots import FORMAT, Restored, go_on_from, restored, snapshot_of
from labelloop.observability import metrics

EVENTS_BETWEEN = 20_000
"""Events after which a new snapshot is taken: half a second of reading."""
_LOOK_EVERY_S = 10.0
_ABANDONED_S = 3_600.0
_LOGS_KEPT = 4  # of brokers that a machine runs by turns

log = structlog.get_logger()


class LogSnapshots:
    """The snapshots of one service, of which ``folder`` holds the newest.

    A snapshot that cannot be used is ignored: the service then reads the whole log. Nothing depends on it but time.
    """

    def __init__(
        self, folder: Path, service: str, event_log: EventLog, projections: RunProjections[Any], summaries: Summaries
    ) -> None:
        self._folder, self._service = folder, service
        self._log, self._projections, self._summaries = event_log, projections, summaries
        self._taken = 0

    async def restore(self) -> None:
        """Take over what the newest snapshot holds, if the log is still the one that it was taken of."""
        start, file = time.monotonic(), self._file(await self._log.created())
        try:
            found = await asyncio.to_thread(self._read, file)
        except NotFound:
            return
        except (LabelloopError, OSError) as error:
            log.warning("snapshot_ignored", why=str(error), file=str(file))
            return
        position = found.snapshot.position
        if not await self._log.go_on_from(position):
            why = "the log does not hold the event that the snapshot ends with: it is another log, or was rolled back"
            log.warning("snapshot_ignored", why=why, sequence=position.sequence)
            return
        go_on_from(found, self._projections)
        self._count(found)
        self._taken = position.sequence
        took_s = round(time.monotonic() - start, 3)
        log.info("snapshot_read", sequence=position.sequence, runs=len(found.runs), took_s=took_s)

    def _count(self, found: Restored) -> None:
        """Count what was skipped, as reading it again would."""
        self._log.undecodable += found.snapshot.unreadable
        metrics.UNREADABLE.inc(found.snapshot.unreadable)
        metrics.AGAINST_THE_RULES.inc(len(found.snapshot.refused))

    def _file(self, stream_created: str) -> Path:
        """Return the file for a log: several may share a folder."""
        return self._folder / f"{self._service}-{sha256(stream_created.encode()).hexdigest()[:16]}.snapshot"

    def _read(self, file: Path) -> Restored:
        remove_drafts(file, time.time() - _ABANDONED_S)
        snapshot = read_snapshot(file)
        written_by = (snapshot.format, snapshot.release, snapshot.service)
        if written_by != (FORMAT, labelloop.__version__, self._service):
            raise Corrupt(
                "OTHER_SNAPSHOT", f"it is of format {written_by[0]}, release {written_by[1]}, {written_by[2]}"
            )
        return restored(snapshot, self._projections, self._summaries)

    async def keep(self) -> None:
        """Take a snapshot whenever enough events were read since the last one, forever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._projections.sequence - self._taken >= EVENTS_BETWEEN:
                await self.take()

    async def take(self) -> None:
        """Write a snapshot of what was read until now; say so if that is not possible."""
        newest, start = self._projections.newest, time.monotonic()
        snapshot = snapshot_of(self._projections, self._log.undecodable, self._summaries.dump)
        if newest is None or snapshot is None:
            log.info("snapshot_not_taken", why="an import is under way, or was cut short and not cleared")
            return
        self._taken = newest.sequence
        position = await self._log.position(newest)
        if position is None:
            log.warning("snapshot_not_taken", why="the newest event is gone", sequence=newest.sequence)
            return
        snapshot.release, snapshot.service = labelloop.__version__, self._service
        snapshot.position.CopyFrom(position)
        file = self._file(await self._log.created())
        try:
            size = await asyncio.to_thread(write_snapshot, file, snapshot)
            await asyncio.to_thread(remove_older, self._folder, f"{self._service}-*.snapshot", _LOGS_KEPT)
        except (LabelloopError, OSError) as error:
            log.warning("snapshot_not_taken", why=str(error), file=str(file))
            return
        took_s = round(time.monotonic() - start, 3)
        log.info("snapshot_taken", sequence=newest.sequence, bytes=size, took_s=took_s)
