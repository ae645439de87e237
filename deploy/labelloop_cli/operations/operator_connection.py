"""Connect to the broker with the operator's key, for commands that remove something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from labelloop.errors import Unready
from labelloop.eventlog.connection import connect
from nats.aio.client import Client

from labelloop_cli.clients import Endpoints

USER = "operator"
_WITHIN_S = 10.0


@asynccontextmanager
async def operator_of(endpoints: Endpoints) -> AsyncIterator[Client]:
    """Connect to the broker as the operator. Raises Unready if the broker does not answer."""
    where, key = endpoints.nats_url, endpoints.nats_nkey_file
    try:
        async with asyncio.timeout(_WITHIN_S):
            client = await connect(where, USER, tls_dir=endpoints.tls_dir, nkey_file=key)
    except TimeoutError as error:
        message = (
            f"the broker does not answer at {where}: say where it is with LABELLOOP_NATS_URL, and give the operator's "
            "key with LABELLOOP_NATS_NKEY_FILE where it asks for keys"
        )
        raise Unready("NO_BROKER", message, url=where) from error
    try:
        yield client
    finally:
        await client.close()
