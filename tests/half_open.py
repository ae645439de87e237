"""Open connections that ask nothing, or not to the end, as an attacker would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_AT_ONCE = 100


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


class Half:
    """A connection that the test drives by hand."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @classmethod
    async def open(cls, address: tuple[str, int], sent: bytes, source: str) -> Half:
        loop = asyncio.get_running_loop()
        made = socket.socket()
        made.setblocking(False)
        made.bind((source, 0))
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
