"""A gRPC server as every service runs it: health, errors as rich statuses, a drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from labelloop.wire.call_counts import CallCounts
from labelloop.wire.guarding import guarded
from labelloop.wire.ports import port_in_use
from labelloop.wire.probes import Probes
from labelloop.wire.settings import ServiceSettings
from labelloop.wire.tls import server_credentials

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]
REQUEST_BYTES_MAX = 8 * 1024 * 1024  # decoded, a request may take twenty times its bytes; only answers are large
_PENDING_CALLS = 256  # some 50 ms of small calls
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # clients may ask every other second whether we live
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls queue inside gRPC, before any code of ours: it takes them one by one. From the first number on it ends some
    # of those that come, beyond the second all, as CANCELLED; without, a call may wait there for seconds.
    ("grpc.server.max_pending_requests", _PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", 2 * _PENDING_CALLS),
]

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Server:
    """``grpc`` takes servicers. :meth:`live` first, then :meth:`start`, :meth:`ready` and :meth:`serve`, which serves
    until SIGTERM or SIGINT, or until the work fails.

    A port in use is an error, unless it is a ``shared_port``: then several processes listen there side by side.
    """

    def __init__(self, settings: ServiceSettings, service_name: str, *, shared_port: bool = False) -> None:
        self._settings, self._service_name = settings, service_name
        self._server = grpc.aio.server(options=[*_SERVER_OPTIONS, ("grpc.so_reuseport", int(shared_port))])
        self._counts = CallCounts()
        self.grpc = guarded(self._server, self._counts)
        self._probes = Probes(settings, service_name)
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self.port = 0

    async def live(self) -> None:
        """Tell probes that the process lives. WrongState where their port is taken."""
        await self._probes.start()

    async def start(self) -> None:
        """Listen. WrongState where the port is taken, InvalidInput for certificates that cannot be used."""
        host, port, tls_dir = self._settings.host, self._settings.port, self._settings.tls_dir
        credentials = server_credentials(tls_dir) if tls_dir else None
        try:
            if credentials:
                self.port = self._server.add_secure_port(f"{host}:{port}", credentials)
            else:
                self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise port_in_use(host, port) from error
        await self._server.start()

    async def ready(self, **more_ports: int) -> None:
        """Say to whoever asks that the service can work; the ready file names its ports."""
        for name in ("", self._service_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._probes.ready()
        if self._settings.ready_file:
            write_whole(self._settings.ready_file, json.dumps({"port": self.port, **more_ports}))
        log.info("ready", host=self._settings.host, port=self.port)

    async def serve(self, work: asyncio.Task[None]) -> None:
        """Serve until cancelled; then no more ``work`` of its own, and a drain.

        What calls in flight lean on, as the log's follower, must run until this is over.
        """
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            work.cancel()
            await self.stop()
            log.info("calls served", calls=self._counts.by_method())

    async def stop(self) -> None:
        """Refuse new calls and let those in flight end, for at most ``drain_s``."""
        await self._probes.draining()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_s)
        await self._probes.stop()


def write_whole(path: Path, text: str) -> None:
    """Whoever reads ``path`` finds all of ``text`` or none."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


async def until_signal_or_end(work: Awaitable[None]) -> None:
    """Run ``work`` until it ends or SIGTERM or SIGINT comes; an error of the work is raised."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    tasks = [asyncio.ensure_future(work), asyncio.create_task(asked.wait())]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    for task in (*done, *waiting):
        if not task.cancelled():
            task.result()
