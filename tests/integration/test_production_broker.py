"""The broker's production settings on real servers, with the event log and the artifact store."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from labelloop.artifacts.store import JetStreamArtifacts
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import ARTIFACT_BUCKET, STREAM
from labelloop.events.v1.events_pb2 import Event, RunFinished
from nats.aio.client import Client

from tests.integration.production_broker import (
    CONFIG,
    Node,
    lone_node,
    make_streams,
    new_enough,
    running,
    three_nodes,
)

MB = 1024 * 1024
CHUNK_BYTES = MB // 2
NODES = 3
SECOND_NS = 10**9
PROMISED = {
    "max_payload": 8 * MB,
    "max_pending": 64 * MB,
    "max_connections": 1000,
    "write_deadline": 10 * SECOND_NS,
    "ping_interval": 10 * SECOND_NS,
    "ping_max": 2,
}


@pytest.fixture(scope="module")
def binary(nats_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_enough(nats_binary, tmp_path_factory.mktemp("nats"))


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[Client]:
    client = await connect(node.url, "trainer", nkey_file=node.access.seed("trainer"))
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def alone(binary: Path, tmp_path: Path) -> AsyncIterator[Node]:
    node = lone_node(binary, tmp_path)
    with running([node]):
        await node.ready()
        await make_streams(node)
        yield node


@pytest.fixture
async def cluster(binary: Path, tmp_path: Path) -> AsyncIterator[list[Node]]:
    nodes = three_nodes(binary, tmp_path)
    with running(nodes):
        for node in nodes:
            await node.ready()
        await make_streams(nodes[0], len(nodes))
        yield nodes


def finished(reason: str) -> Event:
    return Event(run_id="r", round=1, run_finished=RunFinished(reason=reason))


async def check_log(client: Client, replicas: int = 1) -> None:
    """Check that a second write to a subject returns the first event."""
    log = EventLog(client)
    await log.ensure_stream(replicas)
    first, second = await log.append_once(finished("first")), await log.append_once(finished("second"))
    assert second.event == first.event
    assert second.sequence == first.sequence == await log.last_sequence()


async def check_artifacts(client: Client, replicas: int = 1) -> None:
    """Check artifacts below, at and above the size of a chunk."""
    for size in (1_000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * MB):
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        digest = await JetStreamArtifacts(client, replicas).put(data)
        assert await JetStreamArtifacts(client).get(digest) == data


async def test_the_server_reports_the_promised_settings(alone: Node) -> None:
    said = await alone.monitor("varz")
    assert {name: said[name] for name in PROMISED} == PROMISED
    store = (await alone.monitor("jsz?config=true"))["config"]
    assert store["sync_always"]
    assert (store["max_storage"], store["max_memory"]) == (1024 * MB, 256 * MB)
    assert Path(store["store_dir"]).is_relative_to(alone.folder)


async def test_the_event_log_and_artifacts_work_on_a_single_node(alone: Node) -> None:
    async with connected(alone) as client:
        await check_log(client)
        await check_artifacts(client)


async def test_an_event_above_the_default_payload_limit_is_stored(alone: Node) -> None:
    large = finished("x" * (2 * MB))
    async with connected(alone) as client:
        log = EventLog(client)
        await log.ensure_stream()
        await log.append_once(large)
        assert (await log.append_once(finished("another"))).event == large


async def test_acknowledged_events_survive_a_kill(alone: Node) -> None:
    async with connected(alone) as client:
        await check_log(client)
    alone.kill()
    alone.start()
    await alone.ready()
    async with connected(alone) as client:
        standing = await EventLog(client).append_once(finished("third"))
        assert standing.event is not None
        assert standing.event.run_finished.reason == "first"


def test_the_error_for_a_missing_variable_names_it(binary: Path, tmp_path: Path) -> None:
    environment = lone_node(binary, tmp_path).environment
    environment.pop("NATS_STORE_DIR")
    checked = subprocess.run([binary, "-t", "-c", CONFIG], env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode != 0
    assert "NATS_STORE_DIR" in checked.stderr


async def test_three_nodes_form_a_cluster_with_three_replicas(cluster: list[Node]) -> None:
    for node in cluster:
        assert (await node.monitor("jsz"))["meta_cluster"]["cluster_size"] == NODES
        assert (await node.monitor("varz"))["cluster"]["name"] == "labelloop"
    async with connected(cluster[0]) as client:
        await check_log(client, NODES)
        await check_artifacts(client, NODES)
        for stream in (STREAM, f"OBJ_{ARTIFACT_BUCKET}"):
            assert (await client.jetstream().stream_info(stream)).config.num_replicas == NODES


async def test_a_cluster_accepts_events_after_its_leader_is_killed(cluster: list[Node]) -> None:
    async with connected(cluster[0]) as client:
        await check_log(client, NODES)
        state = (await client.jetstream().stream_info(STREAM)).cluster
    leader = next(node for node in cluster if state and node.name == state.leader)
    left = next(node for node in cluster if node is not leader)
    async with connected(left) as client:
        leader.kill()
        log = EventLog(client)
        standing = (await log.append_once(finished("third"))).event  # waits until another node leads
        assert standing is not None
        assert standing.run_finished.reason == "first"
        assert (await log.append_once(Event(run_id="s", round=1, run_finished=RunFinished(reason="on two")))).sequence
