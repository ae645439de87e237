"""Run a service's gRPC server with health checks, rich error statuses and a drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from labelloop.diagnostics.v1.diagnostics_pb2_grpc import add_DiagnosticsServiceServicer_to_server
from labelloop.errors import port_in_use
from labelloop.rpc.admission import CallBounds
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.callers import check_of
from labelloop.rpc.connection_limits import connection_limits
from labelloop.rpc.diagnostics import Diagnostics
from labelloop.rpc.drain import Drain
from labelloop.rpc.handlers import Shortcut, guarded
from labelloop.rpc.health import Probes
from labelloop.rpc.reflection import add_reflection
from labelloop.rpc.tls import server_credentials
from labelloop.settings import ServiceSettings

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]
# A server that hangs, or a dead connection, is given up within seconds: its calls fail as UNAVAILABLE.
OUTLIVE_A_DEAD_PEER = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),  # the decisive one: it is a minute by default
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also the time limit for connecting
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
REQUEST_BYTES_MAX = 8 * 1024 * 1024  # decoded, a request may take twenty times its size; only responses are large
_PENDING_CALLS = 256  # about 50 ms of small calls
SHORTCUT_PENDING_CALLS = 4_096  # about 8 KB each: :mod:`labelloop.rpc.overload` refuses calls long before
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # clients may ping every other second
    ("grpc.keepalive_permit_without_calls", 1),
]

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Server:
    """A service's gRPC server: call :meth:`live`, :meth:`start`, :meth:`ready` and :meth:`serve`, in this order.

    It serves until SIGTERM or SIGINT, or until the service's own work fails. A port in use is an error, unless it is a
    ``shared_port``, on which several processes listen side by side. Calls beyond ``bounds`` are refused. gRPC ends
    calls as CANCELLED where more than about ``pending_calls`` wait for it to hand them over.

    Attributes:
        grpc: The server to add servicers to.
        diagnostics: What it says of itself to operators.
        port: The port it listens on; 0 before :meth:`start`.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        service_name: str,
        *,
        shared_port: bool = False,
        bounds: CallBounds | None = None,
        pending_calls: int = _PENDING_CALLS,
    ) -> None:
        self._settings, self._service_name = settings, service_name
        ages = _ages(settings.connection_age_s)
        options = [
            *_SERVER_OPTIONS,
            *_pending(pending_calls),
            *connection_limits(),
            ("grpc.so_reuseport", int(shared_port)),
            *ages,
        ]
        self._server = grpc.aio.server(options=options)
        self._counts = CallCounts()
        self._drain = Drain()
        self._bounds, self._services = bounds, list[str]()
        self.grpc = self.with_shortcuts({})
        self._probes = Probes(settings, service_name)
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self.diagnostics = Diagnostics(settings, service_name)
        add_DiagnosticsServiceServicer_to_server(self.diagnostics, self.grpc)
        self.port, self._stopping = 0, False

    def with_shortcuts(self, shortcuts: Mapping[str, Shortcut]) -> grpc.aio.Server:
        """Return the server to add a servicer to whose methods have ``shortcuts``."""
        return guarded(
            self._server,
            self._counts,
            check_of=check_of(self._settings),
            bounds=self._bounds,
            drain=self._drain,
            shortcuts=shortcuts,
            services=self._services,
        )

    async def live(self) -> None:
        """Tell probes that the process is live; raise WrongState if their port is taken."""
        await self._probes.start()

    async def start(self) -> None:
        """Start to listen.

        Raises:
            WrongState: If the port is taken.
            InvalidInput: If the certificates cannot be used, or the library for reflection is missing.
        """
        host, port, tls_dir = self._settings.host, self._settings.port, self._settings.tls_dir
        credentials = server_credentials(tls_dir) if tls_dir else None
        if self._settings.reflection:
            add_reflection(self.grpc, self._services)
        try:
            if credentials:
                self.port = self._server.add_secure_port(f"{host}:{port}", credentials)
            else:
                self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise port_in_use(host, port) from error
        await self._server.start()

    async def ready(self, **more_ports: int) -> None:
        """Report that the service is ready, to health checks and in the ready file, which names its ports."""
        for name in ("", self._service_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._probes.ready()
        if self._settings.ready_file:
            write_whole(self._settings.ready_file, json.dumps({"port": self.port, **more_ports}))
        log.info("ready", host=self._settings.host, port=self.port)

    async def serve(self, work: asyncio.Task[None]) -> None:
        """Serve until cancelled, then cancel the service's own ``work`` and drain.

        Tasks that calls in flight depend on, such as the one that follows the log, must run until this returns.
        """
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            work.cancel()
            await self.stop()
            log.info("calls_served", calls=self._counts.by_method())

    async def stop(self) -> None:
        """Refuse new calls and let those in flight end, for at most ``drain_s`` seconds.

        Who calls meanwhile is answered, and calls elsewhere next; what does not end in time is UNAVAILABLE.
        """
        await self._probes.draining()
        await self._health.enter_graceful_shutdown()
        if self.port and not self._stopping:
            self._stopping = True
            await self._drain.settle()
        asyncio.get_running_loop().call_soon(self._drain.release)  # runs once stop() has told clients, and waits
        await self._server.stop(self._settings.drain_s)
        await self._probes.stop()


def _pending(calls: int) -> list[tuple[str, int]]:
    """Return the options that bound gRPC's queue of calls.

    gRPC queues calls before any of our code sees them, and hands them over one by one. Above the first limit it ends
    some new calls as CANCELLED, above the second all of them; without limits, a call may wait there for seconds.
    """
    return [
        ("grpc.server.max_pending_requests", calls),
        ("grpc.server.max_pending_requests_hard_limit", 2 * calls),
    ]


def _ages(connection_age_s: float) -> list[tuple[str, int]]:
    """Return the options that end connections after about this time; 0 for none.

    gRPC varies the time by a tenth, so that clients do not all return together. Calls on an aged connection, such as
    streams, may last as long as they like, because no time is set after which gRPC would end them.
    """
    return [("grpc.max_connection_age_ms", max(1, round(1_000 * connection_age_s)))] if connection_age_s else []


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically: a reader finds all of it or none."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
