"""Runs are imported whole or not at all over a real broker, wherever an import is cut, and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.artifacts.store import digest_of
from labelloop.domain.limits import COUNT_MAX
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotFound, Unready, WrongState
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb
from labelloop.trainer.v1 import trainer_pb2
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ImportRunRequest, StartRunRequest
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from oracle_svc.domain.labeling_state import LabelingState
from tests.exported_run import ARTIFACTS, INDEX, MANIFEST, MODEL, SHARD, exported_events, import_parts
from tests.unused import UNUSED
from trainer_svc.domain.run_state import RunState
from trainer_svc.imports.limits import ImportLimits
from trainer_svc.service import TrainerService


class Cut(Exception):
    """The process died."""


class CutLog(EventLog):
    """An event log whose writer dies after so many appends."""

    left = COUNT_MAX

    async def append_once(self, event: pb.Event) -> Recorded:
        if not self.left:
            raise Cut
        self.left -= 1
        return await super().append_once(event)


@dataclass
class Trainer:
    """A trainer that follows the log but advances no run, and its artifacts' folder."""

    log: CutLog
    service: TrainerService
    projections: RunProjections[RunState]
    artifacts: Path

    async def take(self, parts: Iterable[ImportRunRequest]) -> trainer_pb2.RunStatus:
        return (await self.service.ImportRun(_sent(parts), UNUSED)).run

    def stored(self) -> set[str]:
        return {path.name for path in self.artifacts.rglob("*") if path.is_file()}

    async def refuses(self, kind: type[LabelloopError], match: str, parts: Iterable[ImportRunRequest]) -> None:
        """Check that an import is refused and leaves nothing behind."""
        last, before = await self.log.last_sequence(), self.stored()
        with pytest.raises(kind, match=match):
            await self.take(parts)
        assert await self.log.last_sequence() == last
        assert self.stored() == before


async def _sent(parts: Iterable[ImportRunRequest]) -> AsyncIterator[ImportRunRequest]:
    for part in parts:
        sent = ImportRunRequest()
        sent.CopyFrom(part)  # as after a way over the network: nothing is shared
        yield sent


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "test")
    await EventLog(client).ensure_stream()
    yield client
    await client.close()


@asynccontextmanager
async def running(
    client: Client, folder: Path, limits: ImportLimits | None = None, log: CutLog | None = None
) -> AsyncIterator[Trainer]:
    log, projections = log or CutLog(client), RunProjections(RunState.begin)
    artifacts = folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    store = FsspecArtifacts(f"file://{artifacts}")
    service = TrainerService(projections, log, store, UNUSED, import_limits=limits or ImportLimits())
    following = asyncio.create_task(projections.follow(log))
    try:
        await projections.wait_for(await log.last_sequence())
        yield Trainer(log, service, projections, artifacts)
    finally:
        following.cancel()
        await asyncio.wait({following})


@pytest.fixture
async def trainer(client: Client, tmp_path: Path) -> AsyncIterator[Trainer]:
    async with running(client, tmp_path) as trainer:
        yield trainer


async def oracle_sees(client: Client) -> RunProjections[LabelingState]:
    """What an oracle that starts now knows."""
    log, seen = EventLog(client), RunProjections(LabelingState.begin)
    following = asyncio.create_task(seen.follow(log))
    await seen.wait_for(await log.last_sequence())
    following.cancel()
    await asyncio.wait({following})
    return seen


async def test_an_import_is_exported_as_it_came(trainer: Trainer) -> None:
    events = exported_events()
    assert (await trainer.take(import_parts(events))).labels_paid == 3
    sent = [part async for part in trainer.service.ExportRun(trainer_pb2.ExportRunRequest(run_id="r"), UNUSED)]
    assert [part.event for part in sent if part.HasField("event")] == events
    assert {part.artifact.sha256 for part in sent if part.HasField("artifact")} == set(map(digest_of, ARTIFACTS))
    again = [ImportRunRequest.FromString(part.SerializeToString()) for part in sent]
    await trainer.take(again)  # changes nothing
    assert await trainer.log.last_sequence() == len(events)


@pytest.mark.parametrize("cut", range(1, len(exported_events())))
async def test_an_import_cut_at_any_event_is_no_run_and_can_be_repeated(
    client: Client, tmp_path: Path, cut: int
) -> None:
    events = exported_events()
    async with running(client, tmp_path) as dying:
        dying.log.left = cut
        with pytest.raises(Cut):
            await dying.take(import_parts(events))
    async with running(client, tmp_path) as trainer:
        assert not trainer.projections.runs
        assert not (await oracle_sees(client)).runs
        listed = await trainer.service.ListRuns(trainer_pb2.ListRunsRequest(), UNUSED)
        assert not listed.runs
        assert [each.events for each in listed.unfinished_imports] == [cut]
        spec = pb.RunSpec(dataset=pb.DatasetSource(name="mnist"))
        with pytest.raises(WrongState, match="choose another run id") as refused:
            await trainer.service.StartRun(StartRunRequest(run_id="r", spec=spec), UNUSED)
        assert refused.value.reason == "RUN_EXISTS"
        await trainer.refuses(WrongState, "another import|another run", import_parts(exported_events(seed=1)))
        assert (await trainer.take(import_parts(events))).labels_paid == 3
        assert (await oracle_sees(client)).get("r").run_log.labelled == {0, 1, 2}


@pytest.mark.parametrize("cut", range(1, len(exported_events())))
async def test_an_import_cut_at_any_event_can_be_cleared_for_good(client: Client, tmp_path: Path, cut: int) -> None:
    async with running(client, tmp_path) as trainer:
        trainer.log.left = cut
        with pytest.raises(Cut):
            await trainer.take(import_parts(exported_events()))
        trainer.log.left = COUNT_MAX
        request = trainer_pb2.ClearImportRequest(run_id="r")
        assert (await trainer.service.ClearImport(request, UNUSED)).events == cut
        assert (await trainer.service.ClearImport(request, UNUSED)).events == 0
        await trainer.refuses(WrongState, "--run-id", import_parts(exported_events()))
        with pytest.raises(WrongState, match="not used again"):
            await trainer.service.StartRun(StartRunRequest(run_id="r"), UNUSED)
        assert not (await trainer.service.ListRuns(trainer_pb2.ListRunsRequest(), UNUSED)).unfinished_imports
        assert (await trainer.take(import_parts(exported_events("other")))).labels_paid == 3
        assert set((await oracle_sees(client)).runs) == {"other"}


async def test_events_that_an_earlier_release_left_are_no_run_and_completed_by_a_repetition(trainer: Trainer) -> None:
    events = exported_events()
    for event in events[1:4]:
        await trainer.log.append_once(event)
    with pytest.raises(WrongState, match="choose another run id"):
        await trainer.service.StartRun(StartRunRequest(run_id="r"), UNUSED)
    await trainer.refuses(WrongState, "another import", import_parts(exported_events(seed=1)))
    assert (await trainer.take(import_parts(events))).labels_paid == 3


async def test_only_imports_that_were_cut_short_can_be_cleared(trainer: Trainer) -> None:
    request = trainer_pb2.ClearImportRequest(run_id="r")
    with pytest.raises(NotFound, match="labelloop run list"):
        await trainer.service.ClearImport(request, UNUSED)
    await trainer.take(import_parts(exported_events()))
    with pytest.raises(WrongState, match="labelloop run cancel"):
        await trainer.service.ClearImport(request, UNUSED)
    with pytest.raises(InvalidInput, match="characters"):
        await trainer.service.ClearImport(trainer_pb2.ClearImportRequest(run_id="r", reason="x" * 1_001), UNUSED)


async def test_an_import_is_there_after_its_run_has_gone_on(trainer: Trainer) -> None:
    events = exported_events()
    await trainer.take(import_parts(events))
    late = pb.Event(run_id="r", run_cancelled=pb.RunCancelled(reason="enough"))
    await trainer.log.append_once(late)
    assert (await trainer.take(import_parts(events))).labels_paid == 3


def bad_events() -> Iterator[tuple[str, list[pb.Event]]]:
    events = exported_events()
    yield "no event", []
    yield "begins with run_started", events[1:]
    yield "begins with run_started", [events[0], *events]
    yield "another run", [*events[:3], *exported_events("other")[3:]]
    yield "nothing new", [*events[:4], events[3]]
    yield "no pool", [events[0], *events[2:]]
    yield "begins with run_started", [pb.Event(run_id="r", import_cleared=pb.ImportCleared())]
    yield "complete", [events[0], pb.Event(run_id="r", import_cleared=pb.ImportCleared())]
    yield "says nothing", [events[0], pb.Event(run_id="r")]
    for run_id in ("", "../x", "a.b", "*", "x" * 65):
        yield "run id", exported_events(run_id)


@pytest.mark.parametrize(("why", "events"), list(bad_events()))
async def test_events_are_checked_as_they_come(trainer: Trainer, why: str, events: list[pb.Event]) -> None:
    await trainer.refuses(InvalidInput, why, import_parts(events))


async def test_an_import_of_nothing_is_refused(trainer: Trainer) -> None:
    await trainer.refuses(InvalidInput, "no events", [])


def piece(data: bytes, *, sha256: str = "", last: bool = True) -> ImportRunRequest:
    return ImportRunRequest(artifact=ArtifactPiece(sha256=sha256 or digest_of(data), data=data, last=last))


def bad_artifacts() -> Iterator[tuple[str, list[ImportRunRequest]]]:
    whole = [piece(data) for data in ARTIFACTS]
    yield "no event, manifest or index", [piece(b"nobody names this"), *whole]
    yield "no event, manifest or index", [piece(SHARD), *whole]
    yield "no event, manifest or index", [piece(b"", sha256="../../etc/passwd"), *whole]
    yield "there twice", [*whole, piece(MODEL)]
    yield "other bytes", [piece(b"other", sha256=digest_of(MODEL))]
    yield "cut short", [*whole[:-1], piece(MODEL, last=False)]
    yield "cut short", [piece(b"{", sha256=digest_of(MANIFEST.to_bytes()), last=False), *whole[1:]]
    yield "is empty", [piece(b"", sha256=digest_of(MODEL), last=False)]
    yield "is missing", whole[:-1]
    yield "is missing", [each for each in whole if each.artifact.sha256 != digest_of(INDEX.to_bytes())][:2]
    yield "a part is empty", [ImportRunRequest()]
    yield "after artifacts", [*whole, ImportRunRequest(event=exported_events()[0])]


@pytest.mark.parametrize(("why", "artifacts"), list(bad_artifacts()))
async def test_artifacts_are_taken_only_if_something_names_them(
    trainer: Trainer, why: str, artifacts: list[ImportRunRequest]
) -> None:
    await trainer.refuses(InvalidInput, why, [*import_parts(exported_events(), ()), *artifacts])


async def test_what_an_event_names_must_be_what_it_is_named_for(trainer: Trainer) -> None:
    events = exported_events()
    events[1].pool_published.pool_sha256 = digest_of(b"no manifest")
    await trainer.refuses(InvalidInput, "manifest", [*import_parts(events, ()), piece(b"no manifest")])


async def test_an_import_is_bounded(client: Client, tmp_path: Path) -> None:
    parts = import_parts(exported_events())
    size = sum(len(part.event.SerializeToString()) for part in parts if part.HasField("event"))
    for limits, why in (
        (ImportLimits(events_max=len(exported_events()) - 1), "LABELLOOP_IMPORT_EVENTS"),
        (ImportLimits(bytes_max=size // 2), "LABELLOOP_IMPORT_GB"),
        (ImportLimits(bytes_max=size), "LABELLOOP_IMPORT_GB"),
    ):
        async with running(client, tmp_path, limits) as trainer:
            await trainer.refuses(LimitExceeded, why, parts)
    fitting = ImportLimits(events_max=len(exported_events()), bytes_max=size + sum(map(len, ARTIFACTS)))
    async with running(client, tmp_path, fitting) as trainer:
        await trainer.take(parts)


@pytest.mark.parametrize("at", [0, 3])
async def test_an_event_that_the_broker_would_refuse_is_refused_before_any_is_written(
    trainer: Trainer, at: int
) -> None:
    events = exported_events()
    events[0].run_started.spec.dataset.name = "x" * 2_000_000 if at == 0 else ""
    events[3].label_provided.source_event_id = "x" * 2_000_000 if at == 3 else ""
    await trainer.refuses(LimitExceeded, "max_payload", import_parts(events))


async def test_a_folder_that_cannot_be_written_is_said(client: Client, tmp_path: Path) -> None:
    async with running(client, tmp_path, ImportLimits(folder=tmp_path / "missing")) as trainer:
        await trainer.refuses(Unready, "LABELLOOP_IMPORT_DIR", import_parts(exported_events()))


class Slow:
    """Parts of which the last does not come before ``go_on`` is set."""

    def __init__(self, parts: list[ImportRunRequest]) -> None:
        self._parts, self.waits, self.go_on = parts, asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[ImportRunRequest]:
        for part in self._parts[:-1]:
            yield part
        self.waits.set()
        await self.go_on.wait()
        yield self._parts[-1]


async def test_one_run_is_imported_at_a_time(trainer: Trainer) -> None:
    slow = Slow(import_parts(exported_events()))
    first = asyncio.create_task(trainer.service.ImportRun(aiter(slow), UNUSED))
    await slow.waits.wait()
    with pytest.raises(Unready, match="another import") as refused:
        await trainer.take(import_parts(exported_events("second")))
    assert refused.value.retry_after_s
    slow.go_on.set()
    assert (await first).run.labels_paid == 3
    await trainer.take(import_parts(exported_events("second")))


async def test_a_client_that_goes_away_makes_room_for_the_next(trainer: Trainer) -> None:
    slow = Slow(import_parts(exported_events()))
    first = asyncio.create_task(trainer.service.ImportRun(aiter(slow), UNUSED))
    await slow.waits.wait()
    first.cancel()
    await asyncio.wait({first})
    await trainer.take(import_parts(exported_events("second")))


@pytest.mark.parametrize("limits", [ImportLimits(limit_s=0.2), ImportLimits(silence_s=0.2)])
async def test_a_client_that_sends_nothing_more_is_not_waited_for(
    client: Client, tmp_path: Path, limits: ImportLimits
) -> None:
    async with running(client, tmp_path, limits) as trainer:
        slow = Slow(import_parts(exported_events()))
        with pytest.raises(LimitExceeded, match=r"0\.2 s") as refused:
            await trainer.service.ImportRun(aiter(slow), UNUSED)
        assert refused.value.reason == "IMPORT_TOO_SLOW"
        assert not trainer.stored()
        assert await trainer.log.newest("r") == 0
    async with running(client, tmp_path, replace(limits, limit_s=60, silence_s=60)) as trainer:
        await trainer.take(import_parts(exported_events()))


async def test_events_that_stand_are_not_the_beginning_of_a_run_started_here(trainer: Trainer) -> None:
    """Also where a trainer of an earlier release writes them between the check and the start."""
    events = exported_events()
    for event in events[1:5]:
        await trainer.log.append_once(event)
    started = pb.RunStarted(spec=events[0].run_started.spec)
    started.imported.SetInParent()
    recorded = await trainer.log.append_once(pb.Event(run_id="r", run_started=started))
    await trainer.projections.wait_for(recorded.sequence)
    assert trainer.projections.get("r").run_log.labelled == set()


class RestartedLog(CutLog):
    """An event log whose broker is restarted before the fourth append."""

    def __init__(self, client: Client, server: NatsServer) -> None:
        super().__init__(client)
        self._server = server

    async def append_once(self, event: pb.Event) -> Recorded:
        if self.left == COUNT_MAX - 3:
            await self._server.stop()
            await self._server.start()
        return await super().append_once(event)


async def test_an_import_goes_on_when_the_broker_comes_back(
    client: Client, nats_server: NatsServer, tmp_path: Path
) -> None:
    log = RestartedLog(client, nats_server)
    async with running(client, tmp_path, log=log) as trainer:
        assert (await trainer.take(import_parts(exported_events()))).labels_paid == 3
        assert log.left == COUNT_MAX - len(exported_events())
    assert (await oracle_sees(client)).get("r").run_log.labelled == {0, 1, 2}
