"""Three writers of the same subjects on a cluster of the newest broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from labelloop.eventlog.conditional_publish import publish_once
from labelloop.eventlog.connection import connect, jetstream
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import Event, RunFinished
from nats.aio.client import Client
from nats.js.errors import APIError

from tests.integration.production_broker import new_enough, running, three_nodes, version_of

NODES, SUBJECTS = 3, 20
IN_FLIGHT = 10164
SAYS_SO_SINCE = (2, 12)


@pytest.fixture(scope="module")
def binary(nats_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_enough(nats_binary, tmp_path_factory.mktemp("nats"))


@pytest.fixture
async def clients(binary: Path, tmp_path: Path) -> AsyncIterator[list[Client]]:
    """A client of each node, of a cluster that has the stream."""
    nodes = three_nodes(binary, tmp_path)
    async with AsyncExitStack() as stack:
        stack.enter_context(running(nodes))
        made = []
        for node in nodes:
            await node.ready()
            client = await connect(node.url, "trainer", nkey_file=node.access.seed("trainer"))
            stack.push_async_callback(client.close)
            made.append(client)
        await EventLog(made[0]).ensure_stream(NODES)
        yield made


def said_by(writer: int, run: int) -> Event:
    return Event(run_id=f"r{run}", round=1, run_finished=RunFinished(reason=f"writer {writer}"))


async def test_writers_of_one_subject_all_get_the_event_of_the_first(clients: list[Client]) -> None:
    logs = [EventLog(client) for client in clients]
    for run in range(SUBJECTS):
        appended = await asyncio.gather(*(log.append_once(said_by(i, run)) for i, log in enumerate(logs)))
        assert sum(recorded.ours for recorded in appended) == 1
        assert len({(recorded.sequence, str(recorded.event)) for recorded in appended}) == 1
        assert not any(log._rollback_guard.suspect for log in logs)


async def test_the_broker_says_that_a_write_is_in_flight(binary: Path, clients: list[Client]) -> None:
    """Otherwise the test above proves nothing."""
    if version_of(binary) < SAYS_SO_SINCE:
        pytest.skip("needs nats-server 2.12 or newer: older ones queue such writes")

    async def write(client: Client, run: int) -> int:
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
        try:
            await jetstream(client).publish(f"labelloop.v1.r{run}.1.run_finished", b"", headers=headers)
        except APIError as error:
            return error.err_code or 0
        return 0

    said = [await asyncio.gather(*(write(client, run) for client in clients)) for run in range(SUBJECTS)]
    assert {code for codes in said for code in codes} >= {0, IN_FLIGHT}


async def test_exactly_one_of_several_conditional_writes_succeeds(clients: list[Client]) -> None:
    for run in range(SUBJECTS):
        subject = f"labelloop.v1.q{run}.1.run_finished"
        written = await asyncio.gather(*(publish_once(jetstream(client), subject, b"") for client in clients))
        assert [sequence is None for sequence in written].count(False) == 1
