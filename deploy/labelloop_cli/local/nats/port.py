"""Check a port on the loopback interface: whether it is free, and whether a NATS server answers on it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from errno import EADDRINUSE

from labelloop.errors import WrongState

HOST = "127.0.0.1"


def check_free(port: int) -> None:
    """Raise WrongState if something listens on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: only listeners count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise port_in_use(port) from None


def port_in_use(port: int) -> WrongState:
    message = (
        f"port {port} on {HOST}, for the broker, is in use: end what uses it (`lsof -i :{port}` names it), "
        "or choose another port"
    )
    return WrongState("PORT_IN_USE", message, port=port)


async def greets(port: int) -> bool:
    """Return whether a NATS server with JetStream greets clients on ``port``."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        verb, _, info = (await reader.readline()).partition(b" ")
        return verb == b"INFO" and bool(json.loads(info).get("jetstream"))
    except (OSError, ValueError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
