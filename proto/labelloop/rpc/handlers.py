"""Wrap rpc handlers with request decoding, rich error statuses, metrics, tracing and crash points.

Handlers are wrapped once, when they are registered; gRPC's interceptors would do it again at each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from labelloop.errors import InvalidInput, LabelloopError, status_of, to_status
from labelloop.observability import tracing
from labelloop.observability.logs import CALL
from labelloop.rpc.admission import CallBounds, in_turn, streamed_in_turn
from labelloop.rpc.call_metrics import CallCounts, MethodCounts
from labelloop.rpc.callers import Check, CheckOf, admit, everybody
from labelloop.rpc.drain import Drain
from labelloop.rpc.overload import Overload
from labelloop.runtime.crash_points import crash_point

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer: TypeAlias = Callable[[Any, Any], Any]  # a request and its context: an awaitable, or an iterator of responses
Take: TypeAlias = Callable[[Any], Any]
Shortcut: TypeAlias = Callable[[Any, Any], bytes | None]
"""Takes a request and its context, and returns the bytes of the response; None leaves the call to its handler. It may
raise what the handler would raise."""

_REST_TIMEOUT_S = 60.0


def guarded(
    server: grpc.aio.Server,
    counts: CallCounts,
    *,
    check_of: CheckOf = everybody,
    bounds: CallBounds | None = None,
    drain: Drain | None = None,
    shortcuts: Mapping[str, Shortcut] | None = None,
    services: list[str] | None = None,
) -> grpc.aio.Server:
    """Return a stand-in for ``server`` that wraps the handlers which the generated ``add_..._to_server`` registers.

    A LabelloopError in a handler becomes its status; any other exception is a bug, which gRPC logs with its traceback.
    Requests are decoded here because gRPC answers INTERNAL to bytes that are no message.

    Args:
        counts: Records every call.
        check_of: Returns the function that refuses callers of a method.
        bounds: Calls beyond them are refused; None for no bounds.
        drain: May hold answers back while the server ends.
        shortcuts: What answers most calls of a method in less time than its handler; only for unary methods without
            bounds. All else that is done for a call is done for these calls too.
        services: To this list the full names of the services that are registered are added.
    """
    named = [] if services is None else services
    registrar = _Registrar(server, counts, check_of, bounds, drain or Drain(), shortcuts or {}, named)
    return cast(grpc.aio.Server, registrar)


class _Registrar:
    """Wraps handlers. Generated code registers each twice, in a generic handler and by name; the latter is used."""

    def __init__(
        self,
        server: grpc.aio.Server,
        counts: CallCounts,
        check_of: CheckOf,
        bounds: CallBounds | None,
        drain: Drain,
        shortcuts: Mapping[str, Shortcut],
        services: list[str],
    ) -> None:
        self._server, self._counts, self._check_of, self._drain = server, counts, check_of, drain
        self._turns, self._shortcuts, self._services = bounds.turns() if bounds else {}, shortcuts, services

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore them: they are registered by name too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self._services.append(service)
        wrapped = {
            method: _guard(self._admitting(handler, service, method), handler, service, method, self._counts.of(method))
            for method, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def _admitting(self, handler: Any, service: str, method: str) -> Answer:
        """Return what answers requests that are bytes: those of callers that may call, in turn."""
        answer = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream
        streams = handler.response_streaming
        answer = self._drain.stream(answer) if streams else self._drain.unary(answer)
        if shortcut := self._shortcuts.get(method):
            assert handler.unary_unary
            assert method not in self._turns
            answer = _with_shortcut(answer, shortcut, self._drain)
        taking = _of_parts if handler.request_streaming else _of_whole
        answer = taking(answer, _taking(handler.request_deserializer, method))
        if turns := self._turns.get(method):
            answer = (streamed_in_turn if streams else in_turn)(answer, turns)
        return _checked(answer, self._check_of(service, method))


def _guard(answer: Answer, handler: Any, service: str, method: str, counts: MethodCounts) -> Handler:
    encode = _unless_bytes(handler.response_serializer)
    if handler.request_streaming and not handler.response_streaming:
        answer = _read_to_the_end(answer)
    if handler.response_streaming:
        streamed = tracing.stream(_stream(answer, method, counts), service, method)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(streamed, None, encode)
        return grpc.unary_stream_rpc_method_handler(streamed, None, encode)
    call = tracing.unary(_unary(answer, method, counts), service, method)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(call, None, encode)
    return grpc.unary_unary_rpc_method_handler(call, None, encode)


def _unary(
    behaviour: Callable[[Any, Any], Awaitable[Any]], method: str, counts: MethodCounts
) -> Callable[[Any, Any], Awaitable[Any]]:
    before, after = f"before serve {method}", f"after serve {method}"

    async def call(data: Any, context: Any) -> Any:
        crash_point(before)
        began_s = perf_counter()
        try:
            response = await behaviour(data, context)
        except BaseException as error:
            await _end(error, context, counts, began_s)
            raise
        counts.ended("OK", began_s)
        crash_point(after)
        return response

    return call


def _stream(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], method: str, counts: MethodCounts
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    before, after = f"before serve {method}", f"after serve {method}"

    async def call(data: Any, context: Any) -> AsyncIterator[Any]:
        crash_point(before)
        began_s = perf_counter()
        try:
            async for response in behaviour(data, context):
                yield response
                crash_point(after)
        except BaseException as error:
            await _end(error, context, counts, began_s)
            raise
        counts.ended("OK", began_s)

    return call


async def _end(error: BaseException, context: Any, counts: MethodCounts, began_s: float) -> None:
    counts.ended(status_of(error, context), began_s)
    if isinstance(error, LabelloopError):
        await context.abort_with_status(rpc_status.to_status(to_status(error)))


def _checked(behaviour: Answer, check: Check) -> Answer:
    if check is admit:
        return behaviour

    def call(data: Any, context: Any) -> Any:
        check(context)
        return behaviour(data, context)

    return call


def _with_shortcut(behaviour: Answer, shortcut: Shortcut, drain: Drain) -> Answer:
    overload = Overload()

    async def call(request: Any, context: Any) -> Any:
        if held := overload.arrive():
            await held.wait()
        if drain.passes() and (response := shortcut(request, context)) is not None:
            return response
        return await behaviour(request, context)

    return call


def _unless_bytes(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda response: response if type(response) is bytes else encode(response)


def _of_whole(behaviour: Answer, take: Take) -> Answer:
    return lambda data, context: behaviour(take(data), context)


def _of_parts(behaviour: Answer, take: Take) -> Answer:
    async def taken(parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for data in parts:
            yield take(data)

    return lambda parts, context: behaviour(taken(parts), context)


def _read_to_the_end(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Before an error, read what the client still sends, for a minute at most: while it sends, grpc.aio tells it of an
    internal error of its own instead of what the server ended the call with."""

    async def call(parts: AsyncIterator[Any], context: Any) -> Any:
        try:
            return await behaviour(parts, context)
        except LabelloopError:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REST_TIMEOUT_S):
                    async for _ in parts:
                        pass
            raise

    return call


def _taking(decode: Take, method: str) -> Take:
    """Wrap ``decode`` so that later log lines name the call: each call has a task, thus a context, of its own."""

    def take(data: Any) -> Any:
        try:
            request = decode(data)
        except DecodeError as error:
            CALL.set((method, None))
            message = f"the request is not the protobuf message it should be: {error}"
            raise InvalidInput("BAD_MESSAGE", message) from error
        CALL.set((method, request))
        return request

    return take
