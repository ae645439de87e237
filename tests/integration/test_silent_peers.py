"""Peers that fall silent over TLS, as a machine that dies: no packet arrives any more, and nothing is closed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import Event, RunFinished
from labelloop.scorer.v1.scorer_pb2 import Strategy
from nats.aio.client import Client
from nats.errors import ConnectionReconnectingError

from tests.chaos.proxy import Proxy
from tests.integration.production_broker import Node, make_streams, new_enough, running, three_nodes
from tests.integration.scorers import Pool
from tests.integration.tls_scorers import Behind, tls_scorers

NODES = 3
NEXT_EVENT_WITHIN_S = 15.0  # the aim is ten, and seven were measured; the rest is room for a busy machine
CLOSED_WITHIN_S = 10.0  # two seconds, and room for a busy machine; 30 without the abort
WRITE_EVERY_S = 0.05
ASKED_AGAIN_WITHIN_S = 25.0  # a scorer that failed is avoided for ten


@dataclass
class Cluster:
    """Three nodes over TLS, with a proxy in front of each."""

    nodes: list[Node]
    ways: list[Proxy]

    async def connect(self, user: str, *, direct: bool = False) -> Client:
        """Connect past the proxies, to the last node alone, if ``direct``."""
        ports = [self.nodes[-1].port] if direct else [way.port for way in self.ways]
        url = ",".join(f"tls://127.0.0.1:{port}" for port in ports)
        access = self.nodes[0].access
        return await connect(url, user, tls_dir=access.tls_dir(user), nkey_file=access.seed(user))

    def way_of(self, client: Client) -> Proxy:
        assert client.connected_url is not None, "it is connected"
        return next(way for way in self.ways if way.port == client.connected_url.port)


@pytest.fixture
async def cluster(nats_binary: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    nodes = three_nodes(new_enough(nats_binary, tmp_path / "packages"), tmp_path, tls=True)
    async with AsyncExitStack() as stack:
        stack.enter_context(running(nodes))
        for node in nodes:
            await node.ready()
        await make_streams(nodes[0], NODES)
        yield Cluster(nodes, [await stack.enter_async_context(Proxy(node.port)) for node in nodes])


def event(number: int) -> Event:
    return Event(run_id=f"r{number}", round=1, run_finished=RunFinished(reason="x"))


async def write_on(log: EventLog) -> None:
    for number in itertools.count():
        await log.append_once(event(number))
        await asyncio.sleep(WRITE_EVERY_S)


async def test_events_go_on_within_seconds_after_a_node_fell_silent(cluster: Cluster) -> None:
    reader, writer = await cluster.connect("scorer"), await cluster.connect("trainer", direct=True)
    await EventLog(writer).ensure_stream(NODES)
    writing = asyncio.create_task(write_on(EventLog(writer)))
    silent_at_s = 0.0
    async with aclosing(EventLog(reader).follow()) as events:
        async for recorded in events:
            if recorded.sequence == 5:
                written = await EventLog(writer).last_sequence()
                cluster.way_of(reader).silence()
                silent_at_s = time.monotonic()
            elif silent_at_s and recorded.sequence > written + 1:
                break
    assert time.monotonic() - silent_at_s < NEXT_EVENT_WITHIN_S
    writing.cancel()
    await asyncio.gather(reader.close(), writer.close())


async def test_an_append_goes_on_within_seconds_after_a_node_fell_silent(cluster: Cluster) -> None:
    client = await cluster.connect("trainer")
    log = EventLog(client)
    await log.ensure_stream(NODES)
    cluster.way_of(client).silence()
    silent_at_s = time.monotonic()
    assert (await log.append_once(event(0))).sequence == 1
    assert time.monotonic() - silent_at_s < NEXT_EVENT_WITHIN_S
    await client.close()


async def test_a_request_on_a_lost_connection_fails_when_it_is_given_up(cluster: Cluster) -> None:
    client = await cluster.connect("trainer")
    cluster.way_of(client).silence()
    with pytest.raises(ConnectionReconnectingError):
        await client.request("$JS.API.INFO", timeout=60)
    await client.close()


async def test_a_client_closes_at_once_though_its_node_is_silent(cluster: Cluster) -> None:
    client = await cluster.connect("trainer")
    cluster.way_of(client).silence()
    closing_at_s = time.monotonic()
    await client.close()
    assert time.monotonic() - closing_at_s < CLOSED_WITHIN_S


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    shards = [40] * 24  # so many that no scorer is left without any, whatever its address is
    async with tls_scorers(Pool(*shards), tmp_path) as made:
        yield made


async def ranked(behind: Behind) -> list[int]:
    found = await behind.client.rank(behind.pool.digest, "m", Strategy.STRATEGY_MARGIN, 10, (), 0)
    return list(found.sample_ids)


async def test_ranking_goes_on_within_seconds_after_a_scorer_fell_silent(behind: Behind) -> None:
    whole = await ranked(behind)
    assert all(scorer.asked for scorer in behind.scorers)
    behind.ways[0].silence()
    silent_at_s = time.monotonic()
    assert await ranked(behind) == whole
    assert time.monotonic() - silent_at_s < NEXT_EVENT_WITHIN_S


async def test_no_ranking_waits_long_for_a_scorer_that_stays_silent(behind: Behind) -> None:
    """It is asked again from time to time, as it may be back."""
    whole = await ranked(behind)
    behind.ways[0].silence()
    ends_at_s = time.monotonic() + ASKED_AGAIN_WITHIN_S
    while time.monotonic() < ends_at_s:
        began_s = time.monotonic()
        assert await ranked(behind) == whole
        assert time.monotonic() - began_s < NEXT_EVENT_WITHIN_S
        await asyncio.sleep(WRITE_EVERY_S)
