"""Parts that broken-off uploads left on a real broker, and the sweep that removes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from labelloop.artifacts.leftovers import Leftover, Leftovers
from labelloop.artifacts.store import JetStreamArtifacts, chunk_subject, chunks_name, digest_of, meta_subject
from labelloop.errors import InvalidInput, NotAllowed, WrongState
from labelloop.eventlog.connection import connect
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop.trainer.v1.trainer_pb2 import LeftoverParts, SweepArtifactsRequest, SweepArtifactsResponse
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.operations import artifacts as command
from nats.aio.client import Client

from tests.integration.production_broker import lone_node, make_streams, new_enough, running
from tests.integration.test_artifacts_jetstream import LARGE, SMALL, STREAM
from tests.unused import UNUSED
from trainer_svc.artifact_sweep import ArtifactSweep
from trainer_svc.domain.run_state import RunState
from trainer_svc.run_archive import RunArchive
from trainer_svc.service import TrainerService

AT_ONCE = timedelta(seconds=-60)  # parts of the future too: clocks of broker and test are one


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "test")
    yield client
    await client.close()


async def leave_parts(client: Client, name: str, count: int = 2) -> None:
    for _ in range(count):
        await client.jetstream().publish(chunk_subject(name), b"part")


async def stand_in_for_an_earlier_version(client: Client) -> None:
    """Store an artifact as nats-py does, under a name of its own, and leave parts of another."""
    js = client.jetstream()
    await js.update_stream(replace((await js.stream_info(STREAM)).config, allow_rollup_hdrs=True))
    bucket = await js.object_store(ARTIFACT_BUCKET)
    await bucket.put(digest_of(b"old"), b"old")
    await leave_parts(client, "NIOJuIsOkgPV6uKyrCLLMZ", 3)


async def test_where_nothing_was_ever_stored_nothing_is_found(client: Client) -> None:
    assert await Leftovers(client).find(AT_ONCE) == []


async def test_only_parts_that_belong_to_no_artifact_are_found(client: Client) -> None:
    store = JetStreamArtifacts(client)
    await store.put(SMALL)
    await store.put(LARGE)
    digest = digest_of(b"another")
    await leave_parts(client, chunks_name(digest))
    await leave_parts(client, digest_of(b"small"), 1)
    await stand_in_for_an_earlier_version(client)
    found = await Leftovers(client).find(AT_ONCE)
    assert {(each.name, each.digest, each.parts) for each in found} == {
        (chunks_name(digest), digest, 2),
        (digest_of(b"small"), digest_of(b"small"), 1),
        ("NIOJuIsOkgPV6uKyrCLLMZ", "", 3),
    }
    assert all(abs(each.newest_at - datetime.now(UTC)) < timedelta(minutes=5) for each in found)


async def test_younger_parts_are_left_alone(client: Client) -> None:
    await JetStreamArtifacts(client).put(SMALL)
    await leave_parts(client, chunks_name(digest_of(b"another")))
    assert await Leftovers(client).find(timedelta(hours=1)) == []


async def test_parts_are_removed_and_artifacts_stay(client: Client) -> None:
    store, leftovers = JetStreamArtifacts(client), Leftovers(client)
    digests = [await store.put(SMALL), await store.put(LARGE)]
    await leave_parts(client, chunks_name(digest_of(b"another")))
    await stand_in_for_an_earlier_version(client)
    before = (await client.jetstream().stream_info(STREAM)).state.messages
    assert [await leftovers.remove(each) for each in await leftovers.find(AT_ONCE)] == [True, True]
    assert (await client.jetstream().stream_info(STREAM)).state.messages == before - 5
    assert await leftovers.find(AT_ONCE) == []
    assert [await JetStreamArtifacts(client).get(digest) for digest in digests] == [SMALL, LARGE]
    assert await store.get(digest_of(b"old")) == b"old"


@pytest.mark.parametrize("subject", [chunk_subject(chunks_name(digest_of(b"x"))), meta_subject(digest_of(b"x"))])
async def test_parts_that_somebody_goes_on_with_are_kept(client: Client, subject: str) -> None:
    leftovers = Leftovers(client)
    await JetStreamArtifacts(client).put(SMALL)
    await leave_parts(client, chunks_name(digest_of(b"x")))
    [found] = await leftovers.find(AT_ONCE)
    await client.jetstream().publish(subject, b"more")
    assert not await leftovers.remove(found)
    assert (await client.jetstream().get_last_msg(STREAM, chunk_subject(found.name))).data in (b"part", b"more")


async def test_parts_that_were_removed_are_stored_again(client: Client) -> None:
    store, leftovers = JetStreamArtifacts(client), Leftovers(client)
    await store.put(SMALL)
    await client.jetstream().publish(
        chunk_subject(chunks_name(digest_of(LARGE))), LARGE[: 512 * 1024], headers={"Labelloop-Chunk": "1"}
    )
    assert [await leftovers.remove(each) for each in await leftovers.find(AT_ONCE)] == [True]
    assert await store.get(await store.put(LARGE)) == LARGE


async def test_only_the_key_for_imports_may_remove_parts(nats_binary: Path, tmp_path: Path) -> None:
    node = lone_node(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    with running([node]):
        await node.ready()
        await make_streams(node)
        trainer = await connect(node.url, "trainer", nkey_file=node.access.seed("trainer"))
        await JetStreamArtifacts(trainer).put(SMALL)
        await leave_parts(trainer, chunks_name(digest_of(b"another")))
        [found] = await Leftovers(trainer).find(AT_ONCE)
        with pytest.raises(NotAllowed, match="does not let trainer publish"):
            await Leftovers(trainer).remove(found)
        operator = await connect(node.url, "trainer", nkey_file=node.access.seed("import"))
        assert await Leftovers(operator).remove(found)
        await trainer.close()
        await operator.close()


class Found:
    """Leftovers as a sweep sees them."""

    def __init__(self, leftovers: Sequence[Leftover]) -> None:
        self._leftovers, self.removed = leftovers, list[str]()

    async def find(self, older_than: timedelta) -> Sequence[Leftover]:
        assert older_than >= timedelta(hours=1)
        return self._leftovers

    async def remove(self, leftover: Leftover) -> bool:
        self.removed.append(leftover.name)
        return True


class Archive:
    """A run that names an artifact."""

    async def named(self, run_id: str) -> list[str]:
        return [digest_of(b"named")] if run_id == "r" else []


def sweeping(found: Found) -> ArtifactSweep:
    projections = RunProjections[RunState](RunState.begin)
    projections.runs = cast(Any, {"r": UNUSED, "s": UNUSED})
    return ArtifactSweep(cast(Leftovers, found), projections, cast(RunArchive, Archive()))


def leftover(data: bytes) -> Leftover:
    return Leftover(chunks_name(digest_of(data)), digest_of(data), 2, datetime(2026, 11, 29, tzinfo=UTC), 7)


async def test_what_a_run_names_is_never_removed() -> None:
    found = Found([leftover(b"named"), leftover(b"free")])
    [named, free] = await sweeping(found).sweep(SweepArtifactsRequest(remove=True))
    assert found.removed == [chunks_name(digest_of(b"free"))]
    assert (named.removed, named.kept) == (False, "a run names the artifact: restore it from a backup")
    assert (free.removed, free.kept) == (True, "")


async def test_nothing_is_removed_unless_asked() -> None:
    found = Found([leftover(b"free")])
    [free] = await sweeping(found).sweep(SweepArtifactsRequest())
    assert (found.removed, free.removed, free.parts) == ([], False, 2)


async def test_an_upload_that_may_be_under_way_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidInput, match="ask for older ones"):
        await sweeping(Found([])).sweep(SweepArtifactsRequest(older_than_s=3_599))


async def test_where_artifacts_lie_elsewhere_there_is_nothing_to_sweep() -> None:
    service = TrainerService(RunProjections(RunState.begin), UNUSED, UNUSED, UNUSED)
    with pytest.raises(WrongState, match="not kept on the broker"):
        await service.SweepArtifacts(SweepArtifactsRequest(), UNUSED)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (LeftoverParts(name="a", parts=3), "a: 3 parts, the newest of 1970-01-01 00:00 UTC\nnothing was removed"),
        (LeftoverParts(name="a", parts=3, kept="a run names it"), "UTC; kept: a run names it"),
        (None, "nothing was left behind"),
    ],
)
async def test_the_command_says_what_it_found(
    parts: LeftoverParts | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.fake_services import FakeOracle, FakeTrainer, served
    from tests.finding import FakeFinder

    class Trainer(FakeTrainer):
        async def SweepArtifacts(self, request: SweepArtifactsRequest, context: object) -> SweepArtifactsResponse:  # noqa: N802
            assert (request.remove, request.older_than_s) == (False, 7_200)
            return SweepArtifactsResponse(leftovers=[parts] if parts else [])

    async with served(Trainer(UNUSED), FakeOracle(FakeFinder([])), monkeypatch):  # type: ignore[abstract]
        await command.sweep_artifacts(7_200, remove=False)
    assert said in capsys.readouterr().out
