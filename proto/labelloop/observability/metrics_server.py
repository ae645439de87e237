"""Serve metrics over HTTP in a thread of its own, however many connections ask nothing.

The server that comes with prometheus-client gives each connection a thread and no deadline; without descriptors left,
it takes a core.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import structlog

from labelloop.runtime.connection_table import ConnectionTable
from labelloop.runtime.descriptors import listener_budget

CONNECTIONS_MAX = 64
_BACKLOG = 256  # accepted at once before any of them can be closed
_HEADER_BYTES_MAX = 16 * 1024
_HEADER_S, _READ_S = 5.0, 30.0

Wsgi = Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]

log = structlog.get_logger()


class MetricsServer:
    """Answers each request with ``app`` and closes the connection, until the process ends."""

    def __init__(self, app: Wsgi, header_s: float = _HEADER_S, read_s: float = _READ_S) -> None:
        self._app, self._header_s, self._read_s = app, header_s, read_s
        self._open: ConnectionTable[asyncio.StreamWriter] = ConnectionTable(listener_budget(CONNECTIONS_MAX))

    @property
    def connections(self) -> int:
        return len(self._open)

    def start(self, listening: socket.socket) -> None:
        """Serve connections to a listening socket from now on."""
        threading.Thread(target=lambda: asyncio.run(self._serve(listening)), name="metrics", daemon=True).start()

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._connected, sock=listening, limit=_HEADER_BYTES_MAX, backlog=_BACKLOG)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        free, displaced = self._open.room_for(None)
        if displaced:
            self._open.remove(displaced)
            displaced.transport.abort()
        if not free:
            writer.transport.abort()
            return
        self._open.add(writer, None)
        try:
            await self._exchange(reader, writer)
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.debug("metrics_connection_ended", problem=str(error) or type(error).__name__)
        finally:
            self._open.remove(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._header_s):
            header = await reader.readuntil(b"\r\n\r\n")
        self._open.works(writer)
        writer.write(self._answer(header.decode("latin-1")))
        async with asyncio.timeout(self._read_s):
            writer.close()
            await writer.wait_closed()

    def _answer(self, header: str) -> bytes:
        status, headers, body = "500 Internal Server Error", [("Content-Type", "text/plain")], b""

        def begin(given_status: str, given_headers: list[tuple[str, str]]) -> None:
            nonlocal status, headers
            status, headers = given_status, given_headers

        try:
            body = b"".join(self._app(environ_of(header), begin))
        except Exception:  # of a collector: the next scrape is answered all the same
            log.exception("metrics_failed")
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1") + body


def environ_of(header: str) -> dict[str, Any]:
    """Return what prometheus-client asks of a WSGI environment, from the header of a request."""
    request, *lines = header.split("\r\n")
    method, _, rest = request.partition(" ")
    path, _, query = rest.partition(" ")[0].partition("?")
    fields = {
        name.strip().upper().replace("-", "_"): value.strip()
        for name, _, value in (each.partition(":") for each in lines)
    }
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote(path),
        "QUERY_STRING": query,
        **{f"HTTP_{name}": value for name, value in fields.items() if name},
    }
