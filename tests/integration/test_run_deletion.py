"""Runs that are deleted, and imports that are purged, on a real broker, with crashes between any two steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.artifacts.store import ErasableStore, JetStreamArtifacts, chunk_subject, chunks_name, digest_of
from labelloop.errors import InvalidInput, NotAllowed, NotFound, WrongState
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.streams import ARTIFACTS
from labelloop.events.v1 import events_pb2 as pb
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.operations.run_deletion import RunDeletion
from labelloop_cli.operations.run_removal import purge_given_up
from nats.aio.client import Client

from tests.bench.log_events import fill, run_events
from tests.integration.production_broker import Node
from tests.integration.test_access import connected
from tests.integration.test_access import node as node  # a fixture
from tests.integration.test_archiving import LATE, Begin, Crash, Trainer, subjects
from tests.integration.test_archiving import begin as begin  # a fixture
from tests.integration.test_archiving_access import archive as archive_as_trainer
from tests.patience import PATIENCE_S

T = TypeVar("T")
LARGE = bytes(3 * 512 * 1024)
LEFT = ["labelloop.v1.r.0.run_archived", "labelloop.v1.r.0.run_deleted"]


async def stored_run(store: ErasableStore, run_id: str, *, ended: bool = True) -> tuple[list[pb.Event], set[str]]:
    """Store the artifacts of a run; return its events, and the digests of those that it alone needs."""
    shard = await store.put(LARGE)
    manifest = PoolManifest(dtype="uint8", shape=(1,), shards=(Shard(sha256=shard, sample_count=60_000),))
    pool, own = await store.put(manifest.to_bytes()), set[str]()
    events = list(run_events(run_id, 6, 3, ended=ended))
    for event in events:
        if event.HasField("pool_published"):
            event.pool_published.pool_sha256 = pool
        if event.HasField("model_trained"):
            event.model_trained.model_sha256 = await store.put(f"model {event.round} of {run_id}".encode())
            own.add(event.model_trained.model_sha256)
    return events, own


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "test")
    yield client
    await client.close()


@pytest.fixture
async def own(client: Client) -> set[str]:
    """The artifacts that run r alone needs; run s shares its pool."""
    store = JetStreamArtifacts(client)
    events, own = await stored_run(store, "r")
    others, _ = await stored_run(store, "s", ended=False)
    await fill(client, iter([*events, *others]))
    return own


async def delete(log: EventLog, store: ErasableStore, run_id: str = "r") -> int:
    deletion = RunDeletion(log, store, [run_id])
    plan = await deletion.plan()
    await deletion.record("asked for")
    return await deletion.remove(plan.artifacts)


async def test_a_deleted_run_leaves_two_events_and_none_of_its_own_artifacts(
    client: Client, own: set[str], begin: Begin
) -> None:
    trainer, store = await begin(), JetStreamArtifacts(client)
    with pytest.raises(WrongState, match="archive it first"):
        await delete(EventLog(client), store)
    archived = await trainer.archiving.archive("r")
    held = {*await store.listed()}
    assert await delete(EventLog(client), store) == len(own) + 1
    assert [subject for subject in await subjects(trainer) if ".r." in subject] == LEFT
    assert {*await store.listed()} == held - own - {archived.facts.archive_sha256}
    assert await store.get(digest_of(LARGE)) == LARGE
    for each in (await trainer.caught_up(), await begin()):
        for ask in (each.past_runs.state, each.archiving.restore, each.archiving.archive):
            with pytest.raises(WrongState) as caught:
                await ask("r")
            assert caught.value.reason == "RUN_DELETED"
        [status] = each.past_runs.listed("", 10)[0]
        assert (status.run_id, status.archived, status.deleted, status.message) == ("r", True, True, "asked for")
        assert "s" in each.projections.runs


async def test_late_writers_of_a_deleted_run_are_without_effect_and_cleared_away(
    client: Client, own: set[str], begin: Begin
) -> None:
    trainer, log = await begin(), EventLog(client)
    await trainer.archiving.archive("r")
    await delete(log, JetStreamArtifacts(client))
    recorded = await trainer.log.append_once(pb.Event(run_id="r", round=1, label_provided=LATE))
    with pytest.raises(WrongState) as caught:
        await trainer.projections.wait_for_append(recorded)
    assert caught.value.reason == "RUN_DELETED"
    await delete(log, JetStreamArtifacts(client))
    assert len(await log.read_run("r")) == 3  # the newest event of all stays: readers wait for it
    await (await begin()).caught_up()
    await fill(client, run_events("next", 3, 3, ended=True))
    await log.purge_void("r")
    assert len(await log.read_run("r")) == 2
    await trainer.caught_up()
    trainer.log._rollback_guard.suspect = True
    await trainer.log._rollback_guard.check()


async def test_nothing_is_purged_of_an_id_that_has_a_run(client: Client, own: set[str]) -> None:
    with pytest.raises(WrongState, match="nothing of it was purged"):
        await EventLog(client).purge_void("s")


class CrashingLog(EventLog):
    """A log whose process ends before its ``at``-th write, or just after it; so does the store's."""

    def __init__(self, client: Client, at: int, *, after: bool) -> None:
        super().__init__(client)
        self._at, self._after, self.writes = at, after, 0

    async def _write_as(self, sequence: int, subject: str, data: bytes) -> int | None:
        return await self.counted(super()._write_as(sequence, subject, data))

    async def purge_archived(self, run_id: str, sequence: int) -> None:
        await self.counted(super().purge_archived(run_id, sequence))

    async def purge_void(self, run_id: str) -> None:
        await self.counted(super().purge_void(run_id))

    async def counted(self, work: Coroutine[Any, Any, T]) -> T:
        self.writes += 1
        if self.writes == self._at and not self._after:
            work.close()
            raise Crash
        done = await work
        if self.writes == self._at:
            raise Crash
        return done


class CrashingStore(JetStreamArtifacts):
    def __init__(self, client: Client, log: CrashingLog) -> None:
        super().__init__(client)
        self._log = log

    async def _purge(self, subject: str) -> bool:
        return await self._log.counted(super()._purge(subject))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 9, 10, 11, 12])
async def test_a_crash_between_any_two_steps_leaves_a_run_that_is_whole_or_deleted(
    client: Client, own: set[str], begin: Begin, at: int, *, after: bool
) -> None:
    trainer = await begin()
    archived = await trainer.archiving.archive("r")
    before = repr(await trainer.past_runs.state("r"))
    log = CrashingLog(client, at, after=after)
    with pytest.raises(Crash):
        await delete(log, CrashingStore(client, log))
    other = await begin()
    if at == 1 and not after:
        assert repr(await other.past_runs.state("r")) == before
    else:
        assert other.projections.archived.runs["r"].deleted
    store = JetStreamArtifacts(client)
    await delete(EventLog(client), store)
    assert [subject for subject in await subjects(trainer) if ".r." in subject] == LEFT
    assert not {*await store.listed()} & {*own, archived.facts.archive_sha256}
    assert await store.get(digest_of(LARGE)) == LARGE


def names() -> list[Any]:
    return [pytest.param(b"small", id="small"), pytest.param(LARGE, id="large")]


@pytest.mark.parametrize("data", names())
@pytest.mark.parametrize("kind", ["broker", "folder"])
async def test_an_artifact_that_was_removed_is_gone_and_can_be_stored_again(
    client: Client, tmp_path: Path, data: bytes, kind: str
) -> None:
    store: ErasableStore = JetStreamArtifacts(client) if kind == "broker" else FsspecArtifacts(f"file://{tmp_path}/a")
    assert await store.listed() == []
    digest, other = await store.put(data), await store.put(b"another")
    assert sorted(await store.listed()) == sorted([digest, other])
    assert await store.remove(digest)
    assert not await store.remove(digest)
    with pytest.raises(NotFound):
        await store.get(digest)
    assert await store.listed() == [other]
    with pytest.raises(InvalidInput):
        await store.remove("../../etc/passwd")
    assert await store.get(await store.put(data)) == data


async def test_an_artifact_whose_removal_was_cut_short_is_stored_whole(client: Client) -> None:
    store = JetStreamArtifacts(client)
    digest = await store.put(LARGE)

    class Broken(JetStreamArtifacts):
        async def _purge(self, subject: str) -> bool:
            if subject == chunk_subject(chunks_name(digest)):
                raise Crash
            return await super()._purge(subject)

    with pytest.raises(Crash):
        await Broken(client).remove(digest)
    assert await store.listed() == []
    assert await store.get(await store.put(LARGE)) == LARGE


async def test_only_the_operator_deletes_runs(node: Node) -> None:
    operator, importer = await connected(node, "operator"), await connected(node, "import")
    await EventLog(operator).ensure_stream()
    events, _ = await stored_run(JetStreamArtifacts(importer), "r")
    for event in events:
        await EventLog(importer).append_once(event)
    trainer = await connected(node, "trainer")
    await archive_as_trainer(trainer)
    with pytest.raises(NotAllowed):
        await delete(EventLog(trainer), JetStreamArtifacts(trainer))
    assert "run_deleted" not in {
        each.event.WhichOneof("payload") for each in await EventLog(trainer).read_run("r") if each.event
    }
    with pytest.raises(NotAllowed):
        await JetStreamArtifacts(trainer).remove(digest_of(LARGE))
    assert await delete(EventLog(operator), JetStreamArtifacts(operator)) == 5
    assert len(await EventLog(operator).read_run("r")) == 2
    info = await operator.jetstream().stream_info(ARTIFACTS)
    assert info.state.messages == 0
    for each in (operator, importer, trainer):
        await each.close()


def half_import() -> list[pb.Event]:
    start, *others = run_events("half", 6, 3, ended=True)
    start.run_started.imported.count, start.run_started.imported.sha256 = 100, "a" * 64
    return [start, *others]


async def caught(trainer: Trainer) -> Trainer:
    async with asyncio.timeout(PATIENCE_S):
        return await trainer.caught_up()


async def test_an_import_that_was_given_up_leaves_one_event(client: Client, begin: Begin) -> None:
    log, trainer = EventLog(client), await begin()
    await fill(client, iter(half_import()))
    with pytest.raises(WrongState, match="nothing was removed"):
        await purge_given_up(log, "half")
    await log.append_once(pb.Event(run_id="half", import_cleared=pb.ImportCleared(reason="given up")))
    assert await purge_given_up(log, "half") == len(half_import())
    assert await purge_given_up(log, "half") == 0
    assert [each.event.WhichOneof("payload") for each in await log.read_run("half") if each.event] == ["import_cleared"]
    for each in (await caught(trainer), await begin()):
        assert "half" in each.projections.beginnings.cleared
        assert not each.projections.runs
    trainer.log._rollback_guard.suspect = True
    await trainer.log._rollback_guard.check()
    late = await log.append_once(half_import()[0])
    assert late.ours
    assert not (await caught(trainer)).projections.runs


async def test_a_run_whose_import_was_cleared_too_late_is_not_purged(client: Client) -> None:
    log = EventLog(client)
    await fill(client, run_events("r", 6, 3, ended=True))
    await log.append_once(pb.Event(run_id="r", import_cleared=pb.ImportCleared()))
    before = len(await log.read_run("r"))
    with pytest.raises(WrongState) as refused:
        await purge_given_up(log, "r")
    assert refused.value.reason == "IMPORT_NOT_CLEARED"
    assert len(await log.read_run("r")) == before
