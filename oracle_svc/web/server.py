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
from starlette.applications import Starlette

from oracle_svc.web.settings import WebSettings

log = structlog.get_logger()


class WebServer:
    """Serves the page between :meth:`start` and :meth:`stop`. ``port`` is the one it listens on."""

    def __init__(self, app: Starlette, settings: WebSettings) -> None:
        self._app, self._settings = app, settings
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=math.ceil(settings.drain_s),
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

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

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise port_in_use(host, port, "LABELLOOP_HTTP_PORT") from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
