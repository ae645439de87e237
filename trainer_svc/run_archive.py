"""Export and import a whole run: its events, and the artifacts that they name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from labelloop.artifacts.formats import PoolManifest, SampleIndex
from labelloop.artifacts.store import ArtifactStore, digest_of
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.run_log import RunLog
from labelloop.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.eventlog.archived_runs import is_about_archives
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.subjects import check_run_id, subject_of
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ExportRunResponse, ImportRunRequest

from trainer_svc.domain.run_state import RunState
from trainer_svc.past_runs import PastRuns

_PIECE_BYTES = 1024 * 1024
_ARTIFACT_BYTES_MAX = 1024 * _PIECE_BYTES


class RunArchive:
    """Exports and imports runs."""

    def __init__(self, projections: RunProjections[RunState], log: EventLog, artifacts: ArtifactStore) -> None:
        self._projections, self._log, self._artifacts = projections, log, artifacts
        self._past_runs = PastRuns(projections, artifacts)

    async def export(self, run_id: str) -> AsyncIterator[ExportRunResponse]:
        """Yield a run's events, beginning with ``run_started``, and then its artifacts in pieces.

        Raises:
            NotFound: If the run is unknown or an artifact is missing.
        """
        events = await self._sound_events(run_id)
        if not events:
            self._projections.get(run_id)
        for event in events:
            yield ExportRunResponse(event=event)
        for digest in await self._named(events):
            for piece in _pieces(digest, await self._artifacts.get(digest)):
                yield ExportRunResponse(artifact=piece)

    async def named(self, run_id: str) -> list[str]:
        """Return the digests of all artifacts that a run names; NotFound if a manifest or an index is missing."""
        return await self._named(await self._sound_events(run_id))

    async def _sound_events(self, run_id: str) -> list[Event]:
        if archived := self._projections.archived.runs.get(run_id):
            return await self._past_runs.events(archived)
        before = self._projections.archived.before(run_id)
        standing = [each async for each in self._log.read_on(run_id, before) if not is_about_archives(each)]
        refused = self._projections.refused
        events = [each.event for each in standing if each.event and each.sequence not in refused]
        return sorted(events, key=lambda event: not event.HasField("run_started"))  # an import writes it last

    async def _named(self, events: list[Event]) -> list[str]:
        """Return the digests of all artifacts that ``events`` name, each once."""
        digests: dict[str, None] = {}
        for event in events:
            pool, model = event.pool_published, event.model_trained
            for manifest in filter(None, (pool.pool_sha256, pool.shown.pool_sha256)):
                digests.update(dict.fromkeys(await self._of_pool(manifest)))
            taken_over = event.run_started.inheritance
            named = (
                *(pool.pool_sha256, pool.evaluation_sha256, pool.graph_sha256, pool.labels_sha256),
                *(pool.duplicates_sha256, pool.shown.pool_sha256),
                event.features_learned.features_sha256,
                *(model.model_sha256, model.head_sha256, model.training_state_sha256),
                *(taken_over.model_sha256, taken_over.training_state_sha256),
                *(taken_over.head_sha256, taken_over.features_sha256),
            )
            digests.update(dict.fromkeys(named))
        digests.pop("", None)
        return list(digests)

    async def _of_pool(self, pool_sha256: str) -> list[str]:
        """Return the digests of all artifacts that a pool's manifest and its indexes name."""
        manifest = PoolManifest.from_bytes(await self._artifacts.get(pool_sha256))
        digests = list(manifest.artifacts)
        for shard in manifest.shards:
            if shard.index:
                index = SampleIndex.from_bytes(await self._artifacts.get(shard.index), shard.sample_count)
                digests += index.originals
        return digests

    async def take_in(self, parts: AsyncIterator[ImportRunRequest]) -> str:
        """Import a run and return its id.

        Events are written in order, except that ``run_started`` comes last: until it is written, all services ignore
        the run.

        Raises:
            InvalidInput: If the parts are not a valid export.
            LimitExceeded: If an artifact is larger than 1 GiB.
            WrongState: If another run has the id.
        """
        incoming = _Incoming()
        async for part in parts:
            if whole := incoming.take(part):
                await self._artifacts.put(whole)
        events, run_id = incoming.checked(), incoming.run_id
        if run_id in self._projections.archived:
            raise _taken(run_id)
        if run_id in self._projections.runs and await self._sound_events(run_id) != events:
            raise _taken(run_id)
        await self._check_complete(events)
        for event in (*events[1:], events[0]):
            recorded = await self._log.append_once(event)
            if recorded.event != event:
                raise _taken(run_id)
        await self._projections.wait_for(recorded.sequence)
        return run_id

    async def _check_complete(self, events: list[Event]) -> None:
        try:
            for digest in await self._named(events):
                await self._artifacts.get(digest)
        except NotFound as error:
            raise InvalidInput("BAD_LEDGER", f"an artifact is missing from the import: {error.message}") from error


def _taken(run_id: str) -> WrongState:
    message = f"there is another run {run_id!r} here already, or it is archived: import this one on another broker"
    return WrongState("RUN_EXISTS", message, run_id=run_id)


def _pieces(digest: str, data: bytes) -> Iterator[ArtifactPiece]:
    for start in range(0, max(1, len(data)), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        yield ArtifactPiece(sha256=digest, data=data[start:end], last=end >= len(data))


def _bad(message: str) -> InvalidInput:
    return InvalidInput("BAD_LEDGER", f"this is no sound export of a run: {message}", field="part")


class _Incoming:
    """The parts of an import that have been received so far."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._pieces: list[bytes] = []
        self._digest = ""

    @property
    def run_id(self) -> str:
        return self._events[0].run_id

    def take(self, part: ImportRunRequest) -> bytes:
        """Take the next part and return the artifact that it completes, or empty bytes."""
        match part.WhichOneof("part"):
            case "event":
                self._events.append(part.event)
            case "artifact":
                return self._take_piece(part.artifact)
            case None:
                raise _bad("a part is empty")
        return b""

    def _take_piece(self, piece: ArtifactPiece) -> bytes:
        if not self._pieces:
            self._digest = piece.sha256
        self._pieces.append(piece.data)
        if sum(map(len, self._pieces)) > _ARTIFACT_BYTES_MAX:
            message = f"artifact {piece.sha256} has more than {_ARTIFACT_BYTES_MAX} bytes"
            raise LimitExceeded("ARTIFACT_TOO_LARGE", message, most=_ARTIFACT_BYTES_MAX)
        if not piece.last:
            return b""
        whole, self._pieces = b"".join(self._pieces), []
        if digest_of(whole) != self._digest:
            raise _bad(f"artifact {self._digest!r} holds other bytes")
        return whole

    def checked(self) -> list[Event]:
        """Return the events, or raise InvalidInput unless they are a valid sequence of one run, from its start."""
        if not self._events or not self._events[0].HasField("run_started"):
            raise _bad("it does not begin with run_started")
        check_run_id(self.run_id)
        rules = RunLog(self._events[0].run_started)
        subjects = set()
        for number, event in enumerate(self._events):
            fault = "it belongs to another run" if event.run_id != self.run_id else shape_fault(event)
            fault = fault or (rules.fault(event) if number else "")
            if fault or not event.WhichOneof("payload") or subject_of(event) in subjects:
                raise _bad(f"event {number + 1}: {fault or 'it says nothing new'}")
            subjects.add(subject_of(event))
            rules.apply(event)
        return self._events
