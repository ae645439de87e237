"""Export a whole run: its events, and the artifacts that they name. Imports are in :mod:`trainer_svc.imports`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from labelloop.artifacts.artifact_walk import all_named
from labelloop.artifacts.named_artifacts import named_by_event
from labelloop.artifacts.store import ArtifactStore
from labelloop.eventlog.archived_runs import is_about_archives
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ExportRunResponse

from trainer_svc.domain.run_state import RunState
from trainer_svc.past_runs import PastRuns

_PIECE_BYTES = 1024 * 1024


class RunArchive:
    """Exports runs."""

    def __init__(self, projections: RunProjections[RunState], log: EventLog, artifacts: ArtifactStore) -> None:
        self._projections, self._log, self._artifacts = projections, log, artifacts
        self._past_runs = PastRuns(projections, artifacts)

    async def export(self, run_id: str) -> AsyncIterator[ExportRunResponse]:
        """Yield a run's events, beginning with ``run_started``, and then its artifacts in pieces.

        Raises:
            NotFound: If the run is unknown or an artifact is missing.
        """
        if run_id not in self._projections.archived:
            self._projections.get(run_id)  # before the id becomes part of a subject
        events = await self.events(run_id)
        for event in events:
            yield ExportRunResponse(event=event)
        for digest in await self._named(events):
            for piece in _pieces(digest, await self._artifacts.get(digest)):
                yield ExportRunResponse(artifact=piece)

    async def named(self, run_id: str) -> list[str]:
        """Return the digests of all artifacts that a run names; NotFound if a manifest or an index is missing."""
        return await self._named(await self.events(run_id))

    async def events(self, run_id: str) -> list[Event]:
        """Return the events of a run that obey its rules, ``run_started`` first, without traces of an import."""
        if archived := self._projections.archived.readable(run_id):
            return [without_import(event) for event in await self._past_runs.events(archived)]
        before = self._projections.archived.before(run_id)
        standing = [each async for each in self._log.read_on(run_id, before) if not is_about_archives(each)]
        refused = self._projections.refused
        events = [each.event for each in standing if each.event and each.sequence not in refused]
        return sorted(map(without_import, events), key=lambda event: not event.HasField("run_started"))

    async def _named(self, events: Iterable[Event]) -> list[str]:
        """Return the digests of all artifacts that ``events`` name, each once, after the one that names it."""
        named = [each for event in events for each in named_by_event(event)]
        return list(await all_named(self._artifacts, named))


def without_import(event: Event) -> Event:
    """Return ``event`` as it was before an import added to ``run_started`` what belongs to it."""
    if not event.run_started.HasField("imported"):
        return event
    plain = Event()
    plain.CopyFrom(event)
    plain.run_started.ClearField("imported")
    return plain


def _pieces(digest: str, data: bytes) -> Iterator[ArtifactPiece]:
    for start in range(0, max(1, len(data)), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        yield ArtifactPiece(sha256=digest, data=data[start:end], last=end >= len(data))
