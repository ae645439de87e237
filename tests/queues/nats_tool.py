"""A tool on the broker's own queue."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from labelloop.errors import WrongState
from labelloop.eventlog.connection import connect, jetstream
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Stack
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from oracle_svc.integrations.nats import CONSUMER, REQUESTS, RESULTS, STREAM

_ANNOTATORS = "annotators"
_AT_ONCE = 100
_REDELIVER_S = 1.0  # a message may reach a fetch that has just timed out: the default of 30 s outlasts a deadline


class NatsTool:
    """Reads requests of all runs with one durable consumer. ``go_down`` stops the log too: it is one broker."""

    name = "nats"

    def __init__(self, server: NatsServer, client: Client) -> None:
        self.environment = {"LABELLOOP_NATS_URL": server.url}
        self._server, self._client, self._js = server, client, jetstream(client)
        self._brought: set[int] = set()

    async def connect(self, stack: Stack) -> None:
        """Do nothing: it is connected."""

    async def requests(self) -> list[dict[str, Any]]:
        filters = ConsumerConfig(
            durable_name=_ANNOTATORS,
            filter_subject=f"{REQUESTS}.>",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_REDELIVER_S,
        )
        try:
            await self._js.add_consumer(STREAM, filters)
        except NotFoundError:
            return []
        subscription = await self._js.pull_subscribe_bind(_ANNOTATORS, STREAM)
        try:
            messages = await subscription.fetch(_AT_ONCE, timeout=0.3)
        except TimeoutError:
            return []
        finally:
            await subscription.unsubscribe()
        for message in messages:
            await message.ack_sync()
        # A killed broker forgets its last acknowledgements, and delivers the same messages again.
        fresh = [message for message in messages if message.metadata.sequence.stream not in self._brought]
        self._brought.update(message.metadata.sequence.stream for message in fresh)
        return [json.loads(message.data) for message in fresh]

    async def answer(self, result: dict[str, Any]) -> None:
        await self.send(json.dumps(result).encode())

    async def send(self, data: bytes) -> None:
        await self._js.publish(f"{RESULTS}.run-1", data)

    async def results_left(self) -> int:
        info = await self._js.consumer_info(STREAM, CONSUMER)
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def go_down(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)
        try:
            await self._server.wait()
        except WrongState:
            return

    async def come_back(self) -> None:
        await self._server.start()
        await self._client.force_reconnect()  # its connection may not have noticed yet


@asynccontextmanager
async def nats_tool(server: NatsServer) -> AsyncIterator[NatsTool]:
    client = await connect(server.url, "tool")
    try:
        yield NatsTool(server, client)
    finally:
        await client.close()
