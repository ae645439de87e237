"""The connection to NATS, which waits for the broker at the start and outlives its absences."""

from __future__ import annotations

import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

_RECONNECT_WAIT_S = 1
_REQUEST_TIMEOUT_S = 5

log = structlog.get_logger()


async def connect(url: str, name: str) -> Client:
    """A connection to the broker at ``url``; waits until there is one, however long that takes."""
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
        url,
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


def jetstream(client: Client) -> JetStreamContext:
    return client.jetstream(timeout=_REQUEST_TIMEOUT_S)
