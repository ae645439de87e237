"""Serve liveness and readiness probes on a port of their own, in plain text."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from labelloop.errors import port_in_use
from labelloop.rpc.connection_limits import connection_limits
from labelloop.settings import ServiceSettings

LIVE = "live"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Probes:
    """Serves gRPC's health service on ``health_port``, if that is set.

    The port is separate because Kubernetes' probes do not support TLS, and begin at once, while a service still reads
    the log and answers no calls. ``live`` is SERVING while the event loop runs; ``service_name`` is SERVING between
    :meth:`ready` and :meth:`draining`.
    """

    def __init__(self, settings: ServiceSettings, service_name: str) -> None:
        self._host, self._port, self._service_name = settings.host, settings.health_port, service_name
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Start to answer probes; raise WrongState if the port is taken."""
        if self._port is None:
            return
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *connection_limits()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            self.port = server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise port_in_use(self._host, self._port, "LABELLOOP_HEALTH_PORT") from error
        await self._health.set(LIVE, _SERVING)
        await self._health.set(self._service_name, _NOT_SERVING)
        await server.start()
        self._server = server

    async def ready(self) -> None:
        await self._health.set(self._service_name, _SERVING)

    async def draining(self) -> None:
        await self._health.set(self._service_name, _NOT_SERVING)

    async def stop(self) -> None:
        """Stop answering probes; safe to call at any time."""
        if self._server:
            await self._server.stop(None)
