"""The connection to NATS, which waits for the broker at the start and outlives its absences."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from labelloop.wire.errors import Unready

_RECONNECT_WAIT_S = 1
_REQUEST_TIMEOUT_S = 3
_REACH_TIMEOUT_S = 3

log = structlog.get_logger()


async def connect(url: str, name: str) -> Client:
    """A connection to the broker at ``url``, or to any of several nodes separated by commas; waits until there is one,
    however long that takes."""
    said: set[str] = set()

    async def on_error(error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text not in said:  # one line for an absence, not four a second
            log.warning("waiting for the broker", url=url, error=text)
        said.add(text)

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("the broker went away", url=url)

    async def on_reconnect() -> None:
        said.clear()
        log.info("the broker is back", url=url)

    client = Client()
    await client.connect(
        url.split(","),
        name=name,
        connect_timeout=2,
        reconnect_time_wait=_RECONNECT_WAIT_S,
        max_reconnect_attempts=-1,
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        ping_interval=5,
        max_outstanding_pings=2,
    )
    return client


async def check_reachable(url: str) -> None:
    """Unready where no broker answers at ``url`` right now."""

    async def quietly(error: Exception) -> None:
        log.debug("no broker", url=url, error=str(error))

    client = Client()
    try:
        async with asyncio.timeout(_REACH_TIMEOUT_S):
            await client.connect(url.split(","), allow_reconnect=False, error_cb=quietly)
    except (OSError, NatsError) as error:  # TimeoutError is an OSError
        message = f"no NATS server answers at {url}: start one there, or leave the URL out and one is started here"
        raise Unready("NO_BROKER", message, url=url) from error
    await client.close()


def jetstream(client: Client) -> JetStreamContext:
    return client.jetstream(timeout=_REQUEST_TIMEOUT_S)
