"""Trace runs and calls if OTEL_EXPORTER_OTLP_ENDPOINT, or its variant for traces only, names a collector.

Everything else is configured by OpenTelemetry's own variables too. Without a collector, nothing of OpenTelemetry is
imported, and tracing costs no time.

A run is one trace: the headers of each event's message carry the span in which it was written, and a service advances
the run in a child span of that of the run's newest event. The bytes of events contain nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelloop.observability.otel import Spans, Stream, Unary

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_spans: Spans | None = None


def set_up(service: str) -> None:
    """Export the spans of ``service`` from now on, if a collector is named."""
    global _spans
    if any(os.environ.get(name) for name in _ENDPOINTS):
        from labelloop.observability.otel import Spans

        _spans = Spans(service)


def shut_down() -> None:
    """Export the remaining spans, for at most two seconds."""
    if _spans:
        _spans.shut_down()


def span(name: str, carrier: Mapping[str, str], **attributes: str | int) -> AbstractContextManager[object]:
    """Trace the enclosed work in a child span of the one in ``carrier``, or of the current one if it holds none."""
    return _spans.span(name, carrier, attributes) if _spans else nullcontext()


def headers() -> dict[str, str]:
    """Return headers that identify the current span; empty if there is none."""
    return _spans.headers() if _spans else {}


def carrier(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return those of a message's headers that identify the span in which it was written."""
    return _spans.carrier(headers) if _spans and headers else {}


def unary(call: Unary, service: str, method: str) -> Unary:
    """Wrap ``call``, the handler of a labelloop rpc, in a child span of its caller's."""
    return _spans.unary(call, f"{service}/{method}") if _spans and _is_ours(service) else call


def stream(call: Stream, service: str, method: str) -> Stream:
    """Wrap a handler that returns a stream, as :func:`unary` does."""
    return _spans.stream(call, f"{service}/{method}") if _spans and _is_ours(service) else call


def _is_ours(service: str) -> bool:
    """Return whether to trace a service: health checks, which come all the time, are not traced."""
    return service.startswith(("labelloop.", "inference."))


def interceptors() -> list[Any]:
    """Return interceptors for a channel that trace its unary calls and pass the spans on; none if tracing is off."""
    return [_spans.interceptor()] if _spans else []
