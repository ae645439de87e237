"""Listen for the Open Inference Protocol over HTTP."""

from __future__ import annotations

import asyncio

import structlog
from labelloop.errors import port_in_use
from labelloop.http.connections import Guard
from labelloop.http.server import HttpServer
from labelloop.http.tls import server_context
from labelloop.rpc.callers import check_of
from labelloop.runtime.descriptors import listener_budget
from labelloop.runtime.listening import listening_socket

from scorer_svc.config import ScorerSettings
from scorer_svc.inference.engine import Inference
from scorer_svc.inference.rest_app import rest_app

_CONNECTIONS_MAX = 1_000

log = structlog.get_logger()


class RestServer:
    """Serves ``inference`` on ``rest_port`` between :meth:`start` and :meth:`stop`, if that is set.

    Over TLS, clients are those of gRPC.

    Attributes:
        port: The port it listens on; 0 before :meth:`start` and if none is set.
    """

    def __init__(self, inference: Inference, settings: ScorerSettings, *, shared_port: bool = False) -> None:
        self._settings, self._shared_port, self._inference = settings, shared_port, inference
        self._server: HttpServer | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen for connections; do nothing if no port is set.

        Raises:
            WrongState: The port is taken.
            InvalidInput: The certificates cannot be used.
        """
        settings = self._settings
        if settings.rest_port is None:
            return
        tls = server_context(settings.tls_dir) if settings.tls_dir else None
        most = listener_budget(_CONNECTIONS_MAX)
        app = rest_app(self._inference, check_of(settings))
        self._server = HttpServer(app, Guard(most), most, settings.drain_s, tls=tls)
        try:
            listening = listening_socket(settings.host.strip("[]"), settings.rest_port, shared=self._shared_port)
        except OSError as error:
            raise port_in_use(settings.host, settings.rest_port, "LABELLOOP_REST_PORT") from error
        self.port = listening.getsockname()[1]
        await self._server.start(listening)
        log.info("rest_ready", host=settings.host, port=self.port)

    async def serve(self) -> None:
        """Serve until cancelled, then stop."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Let requests in flight finish; safe to call at any time."""
        if self._server:
            await self._server.stop()
