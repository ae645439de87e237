"""Run the labelling page's web server in the event loop of the oracle's process.

It serves plain HTTP: for access over a network, a reverse proxy in front of it terminates TLS.
"""

from __future__ import annotations

import socket

import structlog
from labelloop.errors import port_in_use
from labelloop.http.connections import Guard
from labelloop.http.deadlines import Deadlines
from labelloop.http.server import HttpServer
from labelloop.runtime.descriptors import listener_budget
from labelloop.runtime.listening import listening_socket
from starlette.applications import Starlette

from oracle_svc.web.settings import WebSettings

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
        self._server = HttpServer(app, self._guard, most, settings.drain_s, proxies=settings.proxies)
        self._started = False
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
        await self._server.start(listening)
        self._started = True
        log.info("page_ready", url=f"http://{_in_url(host)}:{self.port}/")

    async def stop(self) -> None:
        """Stop taking requests, end the event streams, and let requests in flight finish within ``drain_s``."""
        if self._started:
            self._app.state.streams.end()
            await self._server.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise port_in_use(host, port, "LABELLOOP_HTTP_PORT") from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
