"""The event log on a cluster of the newest broker: writers of one subject, and leaders that are behind or wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from labelloop.errors import LogRolledBack
from labelloop.eventlog.conditional_publish import publish_once
from labelloop.eventlog.connection import connect, jetstream
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.rollback_guard import RollbackGuard
from labelloop.eventlog.stream_leaders import StreamLeaders
from labelloop.eventlog.subjects import STREAM, subject_of
from labelloop.events.v1.events_pb2 import Event, RunFinished
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from tests.integration.production_broker import Node, make_streams, new_enough, running, three_nodes, version_of
from tests.patience import PATIENCE_S

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
        await make_streams(nodes[0], NODES)
        for node in nodes:
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

    await EventLog(clients[0]).append_once(said_by(0, SUBJECTS))  # which waits until the stream has a leader
    said = [await asyncio.gather(*(write(client, run) for client in clients)) for run in range(SUBJECTS)]
    assert {code for codes in said for code in codes} >= {0, IN_FLIGHT}


async def test_exactly_one_of_several_conditional_writes_succeeds(clients: list[Client]) -> None:
    for run in range(SUBJECTS):
        subject = f"labelloop.v1.q{run}.1.run_finished"
        written = await asyncio.gather(*(publish_once(jetstream(client), subject, b"") for client in clients))
        assert [sequence is None for sequence in written].count(False) == 1


class BehindAtFirst:
    """A leader that has not applied the newest message yet; the leaders who are asked afterwards have."""

    async def get_msg(self, stream: str, sequence: int, **_: object) -> Any:
        raise NotFoundError(code=404, err_code=10037)


def message(sequence: int, event: Event) -> Msg:
    """Return the message of ``event``, as a consumer would deliver it."""
    reply = f"$JS.ACK.{STREAM}.consumer.1.{sequence}.1.0.0"
    return Msg(
        cast(Any, None), subject=subject_of(event), reply=reply, data=event.SerializeToString(deterministic=True)
    )


def suspicious(client: Client, *read: Msg) -> RollbackGuard:
    guard = RollbackGuard(cast(Any, BehindAtFirst()), STREAM, StreamLeaders(client, STREAM))
    for each in read:
        guard.record(each)
    guard.suspect = True
    return guard


async def test_a_healthy_cluster_is_not_accused_because_one_answer_came_too_early(clients: list[Client]) -> None:
    log, events = EventLog(clients[0]), [said_by(0, run) for run in range(3)]
    read = [message((await log.append_once(event)).sequence, event) for event in events]
    for client in clients:
        guard = suspicious(client, *read)
        await guard.check()
        assert not guard.suspect


async def test_a_message_that_all_leaders_hold_otherwise_was_taken_back(clients: list[Client]) -> None:
    sequence = (await EventLog(clients[0]).append_once(said_by(0, 0))).sequence
    with pytest.raises(LogRolledBack, match=f"event {sequence}"):
        await suspicious(clients[1], message(sequence, said_by(1, 0))).check()


async def test_a_message_beyond_the_end_was_taken_back_once_the_stream_stays_there(clients: list[Client]) -> None:
    sequence = (await EventLog(clients[0]).append_once(said_by(0, 0))).sequence
    with pytest.raises(LogRolledBack, match=f"event {sequence + 1}"):
        await suspicious(clients[1], message(sequence + 1, said_by(1, 1))).check()


async def test_a_message_that_a_slow_leader_gets_later_was_not_taken_back(clients: list[Client]) -> None:
    sequence = (await EventLog(clients[0]).append_once(said_by(0, 0))).sequence
    early = said_by(0, 1)
    early.recorded_at.GetCurrentTime()
    checking = asyncio.create_task(suspicious(clients[1], message(sequence + 1, early)).check())
    done, _ = await asyncio.wait({checking}, timeout=2.5)
    assert not done, "the stream ends before it, and may grow"
    await EventLog(clients[0]).append_once(early)
    await checking


OLD = 1_200  # more than a guard remembers


async def restart(nodes: Sequence[Node], stores: Path | None = None) -> None:
    """Kill all nodes, replace their stores by those in ``stores`` if it is given, and start them."""
    for node in nodes:
        node.kill()
        if stores:
            shutil.rmtree(node.folder)
            shutil.copytree(stores / node.name, node.folder)
        node.start()
    for node in nodes:
        await node.ready()


async def test_a_read_of_many_old_events_does_not_hide_a_rollback(binary: Path, tmp_path: Path) -> None:
    """The broker goes back to a copy of its stores, as after a restored snapshot of its volumes."""
    nodes = three_nodes(binary, tmp_path)
    with running(nodes):
        for node in nodes:
            await node.ready()
        await make_streams(nodes[0], NODES)
        url = ",".join(node.url for node in nodes)
        client = await connect(url, "trainer", nkey_file=nodes[0].access.seed("trainer"))
        log = EventLog(client)
        for i in range(OLD):
            old = Event(run_id="old", round=i, run_finished=RunFinished(reason="old"))
            await jetstream(client).publish(subject_of(old), old.SerializeToString())
        for node in nodes:
            node.kill()
            shutil.copytree(node.folder, tmp_path / "copies" / node.name)
        await restart(nodes)
        async with aclosing(log.follow()) as events:
            await log.append_once(said_by(0, 0))
            while (await anext(events)).sequence <= OLD:
                pass
            assert len(await log.read_run("old")) == OLD
            await restart(nodes, tmp_path / "copies")
            with pytest.raises(LogRolledBack, match=f"event {OLD + 1}"):
                async with asyncio.timeout(PATIENCE_S):
                    await anext(events)
        await client.close()
