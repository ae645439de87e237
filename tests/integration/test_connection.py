"""The connection to a real broker."""

from __future__ import annotations

import asyncio

from labelloop.eventlog.connection import connect
from labelloop_cli.local.nats.server import NatsServer

from tests.patience import PATIENCE_S


async def test_the_connection_outlives_a_ping_whose_sender_gave_up(nats_server: NatsServer) -> None:
    client = await connect(nats_server.url, "test")
    waiting = asyncio.ensure_future(client.flush())
    while not client._pongs:  # noqa: ASYNC110 - nats-py tells nobody
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with asyncio.timeout(PATIENCE_S):
        await client.flush()  # answered after the ping that was given up
    assert client._reading_task is not None
    assert not client._reading_task.done()
    await client.close()
