"""Trace with OpenTelemetry, for :mod:`labelloop.observability.tracing`, which imports this only if tracing is on."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
from opentelemetry import context as current
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from labelloop.errors import status_of
from labelloop.observability.logs import run_of_call

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Any, Any], AsyncIterator[Any]]

_SHUT_DOWN_S = 2.0
_OUR_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Spans:
    """Creates and exports the spans of a process, which has one instance."""

    def __init__(self, service: str) -> None:
        self._provider = TracerProvider(resource=_resource(service))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("labelloop")

    def shut_down(self) -> None:
        # The exporter would retry an unreachable collector for as long as it has spans.
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_SHUT_DOWN_S)

    def span(
        self, name: str, carrier: Mapping[str, str], attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(
            name,
            context=propagate.extract(carrier) if carrier else None,
            kind=SpanKind.CONSUMER if carrier else SpanKind.INTERNAL,
            attributes={f"labelloop.{key}": value for key, value in attributes.items()},
        )

    def headers(self) -> dict[str, str]:
        told: dict[str, str] = {}
        propagate.inject(told)
        return told

    def carrier(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {name: headers[name] for name in propagate.get_global_textmap().fields if name in headers}

    def unary(self, call: Unary, name: str) -> Unary:
        async def traced(data: Any, context: Any) -> Any:
            with self._serving(name, context):
                return await call(data, context)

        return traced

    def stream(self, call: Stream, name: str) -> Stream:
        async def traced(data: Any, context: Any) -> AsyncIterator[Any]:
            with self._serving(name, context):
                async for response in call(data, context):
                    yield response

        return traced

    @contextmanager
    def _serving(self, name: str, context: Any) -> Iterator[None]:
        """Trace one call. Each is answered in a task of its own, so that the span need not be detached."""
        told = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        span = self._tracer.start_span(name, propagate.extract(told), SpanKind.SERVER, {"rpc.system": "grpc"})
        current.attach(trace.set_span_in_context(span))
        status = "OK"
        try:
            yield
        except BaseException as error:
            status = status_of(error, context)
            raise
        finally:
            if run_id := run_of_call():
                span.set_attribute("labelloop.run", run_id)
            _end(span, status)

    def interceptor(self) -> grpc.aio.UnaryUnaryClientInterceptor:
        return _Calling(self._tracer)


class _Calling(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    async def intercept_unary_unary(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        method = client_call_details.method
        name = (method.decode() if isinstance(method, bytes) else method).lstrip("/")
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes={"rpc.system": "grpc"})
        told: dict[str, str] = {}
        propagate.inject(told, trace.set_span_in_context(span))
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), *told.items())
        status = "CANCELLED"
        try:
            call = await continuation(client_call_details._replace(metadata=metadata), request)
            status = (await call.code()).name
        finally:
            _end(span, status)
        return call


def _end(span: Span, status: str) -> None:
    span.set_attribute("rpc.grpc.status", status)
    if status in _OUR_FAULTS:
        span.set_status(StatusCode.ERROR)
    span.end()


def _resource(service: str) -> Resource:
    """Describe the service as OpenTelemetry's variables do; if they do not name it, use labelloop's name for it."""
    told = Resource.create()
    named = not str(told.attributes[SERVICE_NAME]).startswith("unknown_service")
    return told if named else told.merge(Resource({SERVICE_NAME: f"labelloop-{service}"}))
