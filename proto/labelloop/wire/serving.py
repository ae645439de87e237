"""A gRPC server as every service runs it: health, errors as rich statuses, a drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_status import rpc_status

from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import InvalidInput, LabelloopError, WrongState, to_status
from labelloop.wire.settings import ServiceSettings

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]
REQUEST_BYTES_MAX = 8 * 1024 * 1024  # decoded, a request may take twenty times its bytes; only answers are large
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # clients may ask every other second whether we live
    ("grpc.keepalive_permit_without_calls", 1),
]

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns each LabelloopError into its status; anything else is a fault of ours, logged with its trace.

    Requests are decoded here, not by gRPC, which answers INTERNAL to bytes that are no message.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method.rpartition("/")[2]
        encode = handler.response_serializer
        if handler.unary_stream:
            behaviour = _decoded(handler.unary_stream, handler.request_deserializer)
            return grpc.unary_stream_rpc_method_handler(_guarded_stream(behaviour, method), None, encode)
        if handler.stream_stream:
            behaviour = _decoded_parts(handler.stream_stream, handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(_guarded_stream(behaviour, method), None, encode)
        if handler.stream_unary:
            behaviour = _decoded_parts(handler.stream_unary, handler.request_deserializer)
            return grpc.stream_unary_rpc_method_handler(_guarded(behaviour, method), None, encode)
        behaviour = _decoded(handler.unary_unary, handler.request_deserializer)
        return grpc.unary_unary_rpc_method_handler(_guarded(behaviour, method), None, encode)


def _decode(deserializer: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return deserializer(data)
    except DecodeError as error:
        raise InvalidInput("BAD_MESSAGE", f"the request is not the protobuf message it should be: {error}") from error


def _decoded(behaviour: Callable[[Any, Any], Any], deserializer: Callable[[bytes], Any]) -> Callable[[Any, Any], Any]:
    return lambda data, context: behaviour(_decode(deserializer, data), context)


def _decoded_parts(
    behaviour: Callable[[Any, Any], Any], deserializer: Callable[[bytes], Any]
) -> Callable[[Any, Any], Any]:
    def call(parts: AsyncIterator[bytes], context: Any) -> Any:
        return behaviour((_decode(deserializer, data) async for data in parts), context)

    return call


def _guarded(behaviour: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        crash_point(f"before serve {method}")
        try:
            response = await behaviour(request, context)
        except LabelloopError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        crash_point(f"after serve {method}")
        return response

    return call


def _guarded_stream(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], method: str
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        crash_point(f"before serve {method}")
        try:
            async for response in behaviour(request, context):
                yield response
                crash_point(f"after serve {method}")
        except LabelloopError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    return call


class Server:
    """``add(server)`` registers servicers; :meth:`run` serves until SIGTERM or SIGINT, or until the work fails."""

    def __init__(self, settings: ServiceSettings, service_name: str) -> None:
        self._settings, self._service_name = settings, service_name
        self.grpc = grpc.aio.server(interceptors=[ErrorInterceptor()], options=_SERVER_OPTIONS)
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self.port = 0

    async def start(self) -> None:
        """Listen. WrongState where the port is taken."""
        host, port = self._settings.host, self._settings.port
        try:
            self.port = self.grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            message = f"cannot listen on {host}:{port}: is something else there? Set LABELLOOP_PORT to a free port"
            raise WrongState("PORT_IN_USE", message, host=host, port=port) from error
        await self.grpc.start()

    async def ready(self) -> None:
        """Say to whoever asks that the service can work."""
        for name in ("", self._service_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        if self._settings.ready_file:
            _write_whole(self._settings.ready_file, json.dumps({"port": self.port}))
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

    async def stop(self) -> None:
        """Refuse new calls and let those in flight end, for at most ``drain_s``."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(self._settings.drain_s)


def _write_whole(path: Path, text: str) -> None:
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
