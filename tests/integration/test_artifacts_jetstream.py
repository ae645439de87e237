"""Artifacts in the object store of a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from labelloop.artifacts.store import JetStreamArtifacts, digest_of
from labelloop.errors import Corrupt, InvalidInput, NotFound, Unready
from labelloop.eventlog import conditional_publish
from labelloop.eventlog.connection import connect
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop.runtime.backoff import Backoff
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client
from nats.js.errors import NotFoundError

STREAM = f"OBJ_{ARTIFACT_BUCKET}"
SMALL, LARGE = b"a model", bytes(range(256)) * 8_000


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "test")
    yield client
    await client.close()


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "one chunk", "many chunks"])
async def test_artifacts_are_read_back(client: Client, data: bytes) -> None:
    store = JetStreamArtifacts(client)
    digest = await store.put(data)
    assert digest == digest_of(data)
    assert await JetStreamArtifacts(client).get(digest) == data


@pytest.mark.parametrize("text", ["*", ">", "", "a" * 3_000_000, f"{digest_of(SMALL)}\n", digest_of(SMALL).upper()])
async def test_what_is_no_digest_reaches_no_subject(client: Client, text: str) -> None:
    store = JetStreamArtifacts(client)
    await store.put(SMALL)
    with pytest.raises(InvalidInput, match="no SHA-256") as caught:
        await store.get(text)
    assert caught.value.reason == "BAD_DIGEST"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(("answers", "is_stored"), [(3, True), (1_000, False)])
async def test_nodes_that_have_not_heard_of_the_bucket_are_asked_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, answers: int, is_stored: bool
) -> None:
    store = JetStreamArtifacts(client)
    await store.put(b"another")
    publish, told = store._js.publish, iter(range(answers))

    async def answer(*arguments: Any, **options: Any) -> Any:
        if next(told, None) is not None:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        return await publish(*arguments, **options)

    monkeypatch.setattr(store._js, "publish", answer)
    monkeypatch.setattr("labelloop.eventlog.retry._BACKOFF", Backoff(0.01, 0.01))
    if is_stored:
        assert await store.get(await store.put(SMALL)) == SMALL
        return
    with pytest.raises(Unready, match="stream not found"):
        await store.put(SMALL)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one chunk", "many chunks"])
async def test_storing_again_writes_nothing(client: Client, data: bytes) -> None:
    store = JetStreamArtifacts(client)
    await store.put(data)
    before = (await client.jetstream().stream_info(f"OBJ_{ARTIFACT_BUCKET}")).state.last_seq
    await asyncio.gather(*(store.put(data) for _ in range(5)))
    assert (await client.jetstream().stream_info(f"OBJ_{ARTIFACT_BUCKET}")).state.last_seq == before


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one chunk", "many chunks"])
async def test_artifacts_are_ordinary_objects(client: Client, data: bytes) -> None:
    digest = await JetStreamArtifacts(client).put(data)
    bucket = await client.jetstream().object_store(ARTIFACT_BUCKET)
    assert (await bucket.get(digest)).data == data


async def test_artifacts_that_nats_py_stored_are_read_and_not_stored_again(client: Client) -> None:
    """As earlier versions did. Their bucket took rollups, by which one message deletes others; it no longer does."""
    store, js = JetStreamArtifacts(client), client.jetstream()
    bucket = await js.create_object_store(ARTIFACT_BUCKET)
    await bucket.put(digest_of(LARGE), LARGE)
    await store.put(SMALL)
    assert not (await js.stream_info(STREAM)).config.allow_rollup_hdrs
    before = (await js.stream_info(STREAM)).state.last_seq
    assert await store.get(await store.put(LARGE)) == LARGE
    assert (await js.stream_info(STREAM)).state.last_seq == before


class Interrupted(Exception):
    pass


async def broken_off(client: Client, data: bytes, chunks: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Store ``chunks`` chunks of an artifact, then break off; return its digest."""
    publish, left = conditional_publish.publish_over, chunks

    async def publish_some(*arguments: Any) -> int | None:
        nonlocal left
        if not left:
            raise Interrupted
        left -= 1
        return await publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("labelloop.artifacts.store.publish_over", publish_some)
        with pytest.raises(Interrupted):
            await JetStreamArtifacts(client).put(data)
    return digest_of(data)


async def test_an_upload_that_broke_off_goes_on_where_it_was(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = await broken_off(client, LARGE, 3, monkeypatch)
    with pytest.raises(NotFound):
        await JetStreamArtifacts(client).get(digest)
    before = (await client.jetstream().stream_info(STREAM)).state.messages
    assert before == 3
    await JetStreamArtifacts(client).put(LARGE)
    assert await JetStreamArtifacts(client).get(digest) == LARGE
    assert (await client.jetstream().stream_info(STREAM)).state.messages == -(-len(LARGE) // (512 * 1024)) + 1


async def test_several_that_store_the_same_artifact_store_it_once(client: Client) -> None:
    stores = [JetStreamArtifacts(client) for _ in range(5)]
    await asyncio.gather(*(store.put(LARGE) for store in stores))
    assert await stores[0].get(digest_of(LARGE)) == LARGE
    assert (await client.jetstream().stream_info(STREAM)).state.messages == -(-len(LARGE) // (512 * 1024)) + 1


async def test_a_broker_that_does_not_store_is_named_as_the_cause(client: Client) -> None:
    js, store = client.jetstream(), JetStreamArtifacts(client)
    await store.put(SMALL)
    standing = (await js.stream_info(STREAM)).config
    await js.update_stream(replace(standing, max_bytes=1_100_000))
    with pytest.raises(Unready, match=r"does not store artifact .*maximum bytes exceeded"):
        await store.put(LARGE)
    await js.update_stream(replace(standing, max_bytes=-1))
    assert await store.get(await store.put(LARGE)) == LARGE


async def test_an_unknown_digest_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="holds no"):
        await JetStreamArtifacts(client).get("0" * 64)


async def test_altered_bytes_are_never_handed_out(client: Client) -> None:
    store, digest = JetStreamArtifacts(client), digest_of(SMALL)
    await store.put(b"another")
    await client.jetstream().publish(f"$O.{ARTIFACT_BUCKET}.C.{digest}", b"A model")
    with pytest.raises(Corrupt, match="other bytes"):
        await store.get(digest)
    await store.put(SMALL)
    assert await store.get(digest) == SMALL


async def test_bytes_that_are_written_over_an_artifact_are_passed_over(client: Client) -> None:
    store = JetStreamArtifacts(client)
    digest = await store.put(SMALL)
    await client.jetstream().publish(f"$O.{ARTIFACT_BUCKET}.C.{digest}", b"A model")
    assert await store.get(digest) == SMALL
