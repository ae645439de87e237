"""What stands around every rpc: requests decoded, errors turned into rich statuses, calls counted, places to crash at.

Handlers are wrapped once, when they are registered: gRPC's interceptors would do it anew at each call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from labelloop.wire.call_counts import CallCounts
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import InvalidInput, LabelloopError, to_status

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Decode: TypeAlias = Callable[[bytes], Any]


def guarded(server: grpc.aio.Server, counts: CallCounts) -> grpc.aio.Server:
    """``server`` as the generated ``add_..._to_server`` is to see it. Each LabelloopError of a handler then turns into
    its status; anything else is a fault of ours, which gRPC logs with its trace. ``counts`` gets every call.

    Requests are decoded here, not by gRPC, which answers INTERNAL to bytes that are no message.
    """
    return cast(grpc.aio.Server, _Registrar(server, counts))


class _Registrar:
    """Generated code registers each handler twice: as one of a generic handler, and by name. The latter will do."""

    def __init__(self, server: grpc.aio.Server, counts: CallCounts) -> None:
        self._server, self._counts = server, counts

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Not needed."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        wrapped = {method: _guard(handler, method, self._counts) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


def _guard(handler: Any, method: str, counts: CallCounts) -> Handler:
    decode, encode = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, decode, method, counts), None, encode)
    if handler.stream_unary:
        behaviour = _of_parts(handler.stream_unary, decode)
        return grpc.stream_unary_rpc_method_handler(_unary(behaviour, _as_it_is, method, counts), None, encode)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, decode, method, counts), None, encode)
    behaviour = _of_parts(handler.stream_stream, decode)
    return grpc.stream_stream_rpc_method_handler(_stream(behaviour, _as_it_is, method, counts), None, encode)


def _unary(
    behaviour: Callable[[Any, Any], Awaitable[Any]], decode: Decode, method: str, counts: CallCounts
) -> Callable[[Any, Any], Awaitable[Any]]:
    before, after = f"before serve {method}", f"after serve {method}"

    async def call(data: Any, context: Any) -> Any:
        crash_point(before)
        try:
            with counts.call(method, context):
                response = await behaviour(_decoded(decode, data), context)
        except LabelloopError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        crash_point(after)
        return response

    return call


def _stream(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], decode: Decode, method: str, counts: CallCounts
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    before, after = f"before serve {method}", f"after serve {method}"

    async def call(data: Any, context: Any) -> AsyncIterator[Any]:
        crash_point(before)
        try:
            with counts.call(method, context):
                async for response in behaviour(_decoded(decode, data), context):
                    yield response
                    crash_point(after)
        except LabelloopError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    return call


def _of_parts(behaviour: Callable[[Any, Any], Any], decode: Decode) -> Callable[[Any, Any], Any]:
    return lambda parts, context: behaviour((_decoded(decode, data) async for data in parts), context)


def _as_it_is(parts: Any) -> Any:
    return parts


def _decoded(decode: Decode, data: Any) -> Any:
    try:
        return decode(data)
    except DecodeError as error:
        raise InvalidInput("BAD_MESSAGE", f"the request is not the protobuf message it should be: {error}") from error
