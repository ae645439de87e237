"""Hold the HTTP connections of a listener to limits and deadlines.

Uvicorn has a deadline for idle connections alone, and its limit of concurrency counts connections that ask nothing, so
that opening them keeps everybody out. Here a subclass of its protocol reports what each connection does, and a
:class:`Guard` closes those that take too long or are too many; parsing and answering stay uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, cast

import h11
import prometheus_client
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from labelloop.http.deadlines import Deadlines, Progress
from labelloop.observability.metrics import OURS
from labelloop.runtime.client_addresses import client_group
from labelloop.runtime.connection_table import ConnectionTable

BODIES_BYTES_MAX = 128 * 1024 * 1024
CALLER = "caller"
"""Under this name, a request's state has the common names in the certificate of its connection."""
_TELL_S = 10.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: 48\r\n\r\ntoo many connections are open: try again in 5 s\n"
)

CONNECTIONS_CLOSED = prometheus_client.Counter(
    "labelloop_http_connections_closed_total",
    "Connections to the HTTP port that were closed: past a deadline, for want of room, or not let in.",
    ["why"],
    registry=OURS,
)

log = structlog.get_logger()


class Guard:
    """Limits of one listener.

    Args:
        most: Connections at once.
        most_of_one: Connections at once of one address, or of one /64 network of IPv6; None for no such limit.
        exempt: Returns whether an address, such as a reverse proxy's, may have as many as there are.
        bodies_bytes_max: Bytes at once of request bodies that are not whole yet; the one that began first is given up.
    """

    def __init__(
        self,
        most: int,
        most_of_one: int | None = None,
        deadlines: Deadlines | None = None,
        exempt: Callable[[str], bool] = lambda address: False,
        bodies_bytes_max: int | None = None,
    ) -> None:
        self._table: ConnectionTable[GuardedConnection] = ConnectionTable(most, most_of_one)
        self._deadlines, self._exempt = deadlines or Deadlines(), exempt
        self._bodies_bytes_max, self._bodies_bytes = bodies_bytes_max or BODIES_BYTES_MAX, 0
        self._bodies: dict[GuardedConnection, int] = {}
        self._closed: Counter[str] = Counter()
        self._told_at = -_TELL_S

    def __len__(self) -> int:
        return len(self._table)

    def protocol(self) -> type[H11Protocol]:
        """Return the protocol class for uvicorn's configuration."""
        return type("GuardedProtocol", (GuardedConnection,), {"guard": self})

    def admit(self, connection: GuardedConnection, address: str) -> bool:
        """Add a connection, closing another if there must be room; return False if there is none."""
        group = None if self._exempt(address) else client_group(address)
        free, displaced = self._table.room_for(group)
        if displaced:
            self._close(displaced, "displaced")
        if free:
            self._table.add(connection, group)
        else:
            self._note("refused")
        return free

    def changed(self, connection: GuardedConnection) -> None:
        """Note what a connection waits for after bytes came or an answer was given."""
        if connection.progress.awaits_client:
            self._table.waits(connection)
        else:
            self._table.works(connection)
        before = self._bodies.pop(connection, 0)
        held = connection.progress.body_bytes if connection.progress.body_since is not None else 0
        if held:
            self._bodies[connection] = held
        self._bodies_bytes += held - before
        while self._bodies_bytes > self._bodies_bytes_max:
            self._close(min(self._bodies, key=lambda each: each.progress.body_since or 0.0), "bodies")

    def left(self, connection: GuardedConnection) -> None:
        self._table.remove(connection)
        self._bodies_bytes -= self._bodies.pop(connection, 0)

    def close_overdue(self, now_s: float) -> None:
        """Close connections that are past a deadline; call it about every second."""
        for connection in list(self._table):
            connection.progress.unread_now(connection.unread_bytes, now_s)
            if fault := self._deadlines.fault(connection.progress, now_s):
                self._close(connection, fault)
        self._tell(now_s)

    def _close(self, connection: GuardedConnection, why: str) -> None:
        self.left(connection)
        connection.transport.abort()
        self._note(why)

    def _note(self, why: str) -> None:
        CONNECTIONS_CLOSED.labels(why).inc()
        self._closed[why] += 1

    def _tell(self, now_s: float) -> None:
        """Log what was closed, in one line every ten seconds at most: a flood must not fill the disk."""
        if self._closed and now_s >= self._told_at + _TELL_S:
            log.warning("http_connections_closed", open=len(self._table), **self._closed)
            self._closed.clear()
            self._told_at = now_s


class GuardedConnection(H11Protocol):
    """An HTTP connection that reports its progress to ``guard``."""

    guard: ClassVar[Guard]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.progress = Progress()

    @property
    def unread_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.app_state = {**self.app_state, CALLER: common_names(transport)}
        self.progress.header_since = self.loop.time()
        if not self.guard.admit(self, self.client[0] if self.client else ""):
            self.transport.write(_FULL)
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._note(len(data))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.left(self)
        super().connection_lost(exc)

    def _note(self, size: int) -> None:
        """Note what the client is to send next, after ``size`` bytes more of it."""
        now_s, progress, ended = self.loop.time(), self.progress, self.transport.is_closing()
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY and not ended:
            progress.body_since = now_s if progress.body_since is None else progress.body_since
            progress.body_bytes += size
        else:
            progress.body_since, progress.body_bytes = None, 0
        if self.conn.their_state is h11.IDLE and not answering and not ended:
            progress.header_since = now_s if progress.header_since is None else progress.header_since
        else:
            progress.header_since = None
        self.guard.changed(self)


def common_names(transport: asyncio.BaseTransport) -> list[str]:
    """Return the common names in the certificate that the peer presented; none without TLS."""
    certificate = transport.get_extra_info("peercert") or {}
    named = [pair for part in certificate.get("subject", ()) for pair in part]
    return [value for key, value in named if key == "commonName"]
