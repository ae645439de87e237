"""Cancelled tasks end, at whatever moment they are cancelled, even together with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from labelloop.errors import Unready
from labelloop.eventlog.connection import check_reachable, connect, jetstream, next_message
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import STREAM
from labelloop.events.v1.events_pb2 import Event, LabelProvided
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from tests.ports import free_port

TURNS = 60  # more than lie between a request and its answer
_ENDS_WITHIN_S = 5.0


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "test")
    yield client
    await client.close()


async def turns(count: int) -> None:
    """Let the event loop run ``count`` turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ends(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and return whether that ends it; if not, cancel it again so as not to hang."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=_ENDS_WITHIN_S)
    task.cancel()
    await asyncio.wait([task])
    return bool(done) and task.cancelled()


async def for_ever(work: Any) -> None:
    """Repeat ``work`` after any error, ignoring cancellation, as the loops of services do."""
    while True:
        with suppress(Exception):
            await work()


async def drain(log: EventLog) -> None:
    async for _ in log.follow():
        pass


async def test_a_follower_ends_when_cancelled_together_with_an_answer(client: Client) -> None:
    log = EventLog(client)
    await log.ensure_stream()
    for count in range(TURNS):
        following = asyncio.create_task(drain(log))
        event = Event(run_id="r", label_provided=LabelProvided(sample_id=count))
        writing = asyncio.create_task(log.append_once(event))
        await turns(count)
        assert await ends(following), count
        await writing


async def test_a_request_ends_when_cancelled_in_the_turn_of_its_answer(client: Client) -> None:
    await EventLog(client).ensure_stream()
    asking = asyncio.create_task(jetstream(client).stream_info(STREAM))
    while not client._resp_map:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)
    [answer] = client._resp_map.values()
    accepted: list[bool] = []
    answer.add_done_callback(lambda _: accepted.append(asking.cancel()))
    await asyncio.wait([asking])
    assert [asking.cancelled()] == accepted


@pytest.mark.parametrize("count", range(6))
async def test_waiting_for_a_message_ends_when_cancelled_together_with_one(client: Client, count: int) -> None:
    subscription = await client.subscribe("anything")
    waiting = asyncio.create_task(next_message(subscription, 10))
    await turns(6)
    subscription._pending_queue.put_nowait(Msg(client, "anything"))
    await turns(count)
    assert waiting.done() or await ends(waiting)


async def test_a_writer_ends_when_cancelled_while_the_flush_queue_is_full(client: Client) -> None:
    """nats-py suppresses the cancellation where it waits for its flusher."""
    queue = client._flush_queue
    assert queue is not None
    while not queue.full():
        queue.put_nowait(asyncio.Future())
    writing = asyncio.create_task(for_ever(lambda: client.publish("anything")))
    await asyncio.sleep(0)
    assert await ends(writing)


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that refuses everyone."""
    writer.write(b'INFO {"version": "2.10.0", "auth_required": true, "max_payload": 1048576}\r\n')
    writer.write(b"-ERR 'Authorization Violation'\r\n")
    with suppress(OSError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def absent_url() -> str:
    return f"nats://{HOST}:{free_port()}"


@pytest.fixture
async def refusing_url() -> AsyncIterator[str]:
    server = await asyncio.start_server(refusing, HOST, 0)
    async with server:
        yield f"nats://{HOST}:{server.sockets[0].getsockname()[1]}"


async def test_connecting_ends_when_cancelled_at_any_moment(nats_server: NatsServer, refusing_url: str) -> None:
    for url in (nats_server.url, refusing_url, absent_url()):
        for count in range(TURNS):
            connecting = asyncio.create_task(connect(url, "test"))
            await turns(count)
            if connecting.done():
                await connecting.result().close()
            else:
                assert await ends(connecting), (url, count)


async def test_looking_for_a_broker_ends_when_cancelled_at_any_moment(refusing_url: str) -> None:
    for url in (refusing_url, absent_url()):
        for count in range(TURNS):
            looking = asyncio.create_task(check_reachable(url))
            await turns(count)
            if looking.done():
                assert isinstance(looking.exception(), Unready)
            else:
                assert await ends(looking), (url, count)


async def test_closing_ends_attempts_to_reconnect_at_any_moment(nats_server: NatsServer, refusing_url: str) -> None:
    for count in range(TURNS):
        client = await connect(nats_server.url, "test")
        server = client._current_server
        assert server is not None
        server.uri = server.uri._replace(netloc=refusing_url.removeprefix("nats://"))
        await client.force_reconnect()
        await turns(count)
        attempts = client._reconnection_task
        await client.close()
        if attempts is not None:
            done, _ = await asyncio.wait([attempts], timeout=_ENDS_WITHIN_S)
            assert done, count


async def test_close_works_after_another_close_was_cancelled_at_any_moment(nats_server: NatsServer) -> None:
    for count in range(TURNS):
        client = await connect(nats_server.url, "test")
        transport = client._transport
        assert isinstance(transport, TcpTransport)
        assert transport._io_writer is not None
        closing = asyncio.create_task(client.close())
        await turns(count)
        closing.cancel()
        await asyncio.wait([closing])
        await client.close()
        assert transport._io_writer.is_closing(), count
