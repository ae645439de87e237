"""Run the labelling page's web server in the event loop of the oracle's process.

It serves plain HTTP: for access over a network, a reverse proxy in front of it terminates TLS.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from labelloop.errors import port_in_use
from labelloop.runtime.descriptors import listener_budget
from labelloop.runtime.listening import listening_socket
from starlette.applications import Starlette

from oracle_svc.http.connections import Guard
from oracle_svc.http.deadlines import Deadlines
from oracle_svc.web.settings import WebSettings

_ACCEPTED_AT_ONCE = 256  # before any of them can be closed; asyncio accepts as many as may queue
_TICKS_A_SECOND = 10  # of uvicorn's main loop

log = structlog.get_logger()


class WebServer:
    """Serves the page between :meth:`start` and :meth:`stop`. ``port`` is the one it listens on."""

    def __init__(self, app: Starlette, settings: WebSettings, deadlines: Deadlines | None = None) -> None:
        self._app, self._settings = app, settings
        most = listener_budget(settings.http_connections)
        of_one = None if settings.http_user_header else min(most, settings.http_connections_of_one)
        self._guard = Guard(most, of_one, deadlines, settings.is_proxy)
        if most < settings.http_connections:
            action = "holding fewer connections: raise the limit of open files of the process"
            log.warning("few_descriptors", action=action, connections=most, wanted=settings.http_connections)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=self._guard.protocol(),
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",  # a line for each malformed request would let anybody fill the disk
                access_log=False,
                server_header=False,
                forwarded_allow_ips=settings.proxies,
                backlog=min(_ACCEPTED_AT_ONCE, most),
                timeout_graceful_shutdown=math.ceil(settings.drain_s),
            ),
            self._guard,
        )
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._guard)

    async def start(self) -> None:
        """Listen for connections. Raises WrongState if the port is taken."""
        host = self._settings.listen_host.strip("[]")
        listening = _listen(host, self._settings.http_port or 0)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({up, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():  # it failed before it was up: raise its error
            up.cancel()
            await self._serving
        log.info("page_ready", url=f"http://{_in_url(host)}:{self.port}/")

    async def stop(self) -> None:
        """Stop taking requests, end the event streams, and let requests in flight finish within ``drain_s``."""
        if self._serving is None:
            return
        self._app.state.streams.end()
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


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise port_in_use(host, port, "LABELLOOP_HTTP_PORT") from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
