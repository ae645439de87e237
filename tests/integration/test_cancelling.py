"""What is cancelled at any moment ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from labelloop.events.v1.events_pb2 import Event, LabelProvided
from labelloop.wire.broker import connect
from labelloop.wire.eventlog import EventLog
from labelloop_cli.nats_server import NatsServer


async def drain(log: EventLog) -> None:
    async for _ in log.follow():
        pass


async def test_a_follower_ends_when_cancelled_together_with_an_answer(nats_server: NatsServer) -> None:
    client = await connect(nats_server.url, "test")
    try:
        log = EventLog(client)
        await log.ensure_stream()
        for turns in range(60):  # so many turns of the event loop lie between the question and its answer
            following = asyncio.create_task(drain(log))
            label = LabelProvided(sample_id=turns)
            writing = asyncio.create_task(log.append_once(Event(run_id="r", label_provided=label)))
            for _ in range(turns):
                await asyncio.sleep(0)
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(following, 5)
            await writing
    finally:
        await client.close()


async def test_attempts_to_reconnect_end_where_one_of_them_lost_the_cancellation(nats_server: NatsServer) -> None:
    """As happens where a refusal comes in at the moment of the cancellation."""
    client = await connect(nats_server.url, "test")
    server = client._current_server
    assert server is not None

    async def attempt() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        await client._connect_to_server(server)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(attempt())
    await client.close()
