"""Open connections that ask nothing, or not to the end, as an attacker would."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_AT_ONCE = 100
_PORTS = itertools.cycle(range(10_000, 20_000))
"""Below those that the kernel gives to servers: one that other tests start again finds its port free."""


@asynccontextmanager
async def half_open(url: str, count: int, sent: bytes = b"", source: str = "127.0.0.1") -> AsyncIterator[list[Half]]:
    """Open ``count`` connections from the address ``source``, send ``sent`` on each, and close them at the end."""
    parts, halves = urlsplit(url), []
    address = (str(parts.hostname), int(parts.port or 80))
    try:
        for begin in range(0, count, _AT_ONCE):
            made = [Half.open(address, sent, source) for _ in range(min(_AT_ONCE, count - begin))]
            halves += await asyncio.gather(*made)
        yield halves
    finally:
        for half in halves:
            half.socket.close()


def _bound(source: str) -> socket.socket:
    """Return a socket at a port of ``source`` that no other uses."""
    while True:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also where a connection has just ended
        try:
            made.bind((source, next(_PORTS)))
        except OSError:
            made.close()
        else:
            return made


class Half:
    """A connection that the test drives by hand."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @classmethod
    async def open(cls, address: tuple[str, int], sent: bytes, source: str) -> Half:
        loop = asyncio.get_running_loop()
        made = _bound(source)
        await loop.sock_connect(made, address)
        half = cls(made)
        await half.send(sent)
        return half

    async def send(self, data: bytes) -> bool:
        """Send ``data``; return whether the connection is still open."""
        try:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
        except (ConnectionResetError, BrokenPipeError):
            return False
        return True

    async def closed(self) -> bytes:
        """Return what was received once the server closes the connection."""
        received = b""
        try:
            while part := await asyncio.get_running_loop().sock_recv(self.socket, 65_536):
                received += part
        except ConnectionResetError:
            pass
        return received
