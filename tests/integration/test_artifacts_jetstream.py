"""Artifacts in the object store of a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from labelloop.artifacts.store import JetStreamArtifacts, digest_of
from labelloop.errors import Corrupt, NotFound
from labelloop.eventlog.connection import connect
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

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


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one chunk", "many chunks"])
async def test_storing_again_writes_nothing(client: Client, data: bytes) -> None:
    store = JetStreamArtifacts(client)
    await store.put(data)
    before = (await client.jetstream().stream_info(f"OBJ_{ARTIFACT_BUCKET}")).state.last_seq
    await asyncio.gather(*(store.put(data) for _ in range(5)))
    assert (await client.jetstream().stream_info(f"OBJ_{ARTIFACT_BUCKET}")).state.last_seq == before


async def test_artifacts_are_ordinary_objects(client: Client) -> None:
    digest = await JetStreamArtifacts(client).put(SMALL)
    bucket = await client.jetstream().object_store(ARTIFACT_BUCKET)
    assert (await bucket.get(digest)).data == SMALL


async def test_an_unknown_digest_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="holds no"):
        await JetStreamArtifacts(client).get("0" * 64)


async def test_altered_bytes_are_never_handed_out(client: Client) -> None:
    store = JetStreamArtifacts(client)
    digest = await store.put(SMALL)
    await client.jetstream().publish(f"$O.{ARTIFACT_BUCKET}.C.{digest}", b"A model")
    with pytest.raises(Corrupt, match="other bytes"):
        await store.get(digest)
