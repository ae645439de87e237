"""Run an ASGI application with uvicorn in the event loop of a service's process, within limits of connections."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from labelloop.http.connections import Guard

_ACCEPTED_AT_ONCE = 256  # before any of them can be closed; asyncio accepts as many as may queue
_TICKS_A_SECOND = 10  # of uvicorn's main loop


class HttpServer:
    """Serves ``app`` between :meth:`start` and :meth:`stop`.

    Args:
        app: The application.
        guard: Limits of its connections.
        most: Connections at once.
        drain_s: Seconds that requests in flight may take once it stops.
        proxies: Addresses and networks of reverse proxies, whose X-Forwarded-For says who asks.
        tls: The context of TLS connections; None for plain HTTP.
    """

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        most: int,
        drain_s: float,
        *,
        proxies: list[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _Server(
            uvicorn.Config(
                app,
                http=guard.protocol(),
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",  # a line for each malformed request would let anybody fill the disk
                access_log=False,
                server_header=False,
                proxy_headers=proxies is not None,
                forwarded_allow_ips=proxies or [],
                backlog=min(_ACCEPTED_AT_ONCE, most),
                timeout_graceful_shutdown=math.ceil(drain_s),
                ssl_context_factory=(lambda config, default: tls) if tls else None,
            ),
            guard,
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self, listening: socket.socket) -> None:
        """Take connections to a listening socket."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({up, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():  # it failed before it was up: raise its error
            up.cancel()
            await self._serving

    async def stop(self) -> None:
        """Stop taking requests, and let those in flight finish within ``drain_s``; safe to call at any time."""
        if self._serving is None:
            return
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """Uvicorn server that leaves signals to its process; ``up`` is set once it answers."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self.up, self._guard = asyncio.Event(), guard

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            self._guard.close_overdue(asyncio.get_running_loop().time())
        return await super().on_tick(counter)
