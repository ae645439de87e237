"""Traces, where OTEL_EXPORTER_OTLP_ENDPOINT names an OpenTelemetry collector; all else about them is said by
OpenTelemetry's own variables too. Where none is named, nothing of OpenTelemetry is imported, and nothing costs time.

A run is one trace: each event carries, in its message's headers, the span that it was written in, and whoever carries
the run on does so in a span below that of the run's newest event. The bytes of events know nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelloop.wire.spans import Spans, Stream, Unary

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_spans: Spans | None = None


def set_up(service: str) -> None:
    """Send spans of ``service`` from here on, where a collector is named."""
    global _spans
    if any(os.environ.get(name) for name in _ENDPOINTS):
        from labelloop.wire.spans import Spans

        _spans = Spans(service)


def shut_down() -> None:
    """Send what is still unsent; gives up after two seconds."""
    if _spans:
        _spans.shut_down()


def span(name: str, carrier: Mapping[str, str], **attributes: str | int) -> AbstractContextManager[object]:
    """What is done meanwhile is a span below the one that ``carrier`` tells of, or below the one we are in where it
    tells of none."""
    return _spans.span(name, carrier, attributes) if _spans else nullcontext()


def headers() -> dict[str, str]:
    """What tells of the span we are in; empty where there is none."""
    return _spans.headers() if _spans else {}


def carrier(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """What a message's headers tell of the span it was written in."""
    return _spans.carrier(headers) if _spans and headers else {}


def unary(call: Unary, service: str, method: str) -> Unary:
    """``call``, the handler of an rpc of ours, in a span below its caller's."""
    return _spans.unary(call, f"{service}/{method}") if _spans and _is_ours(service) else call


def stream(call: Stream, service: str, method: str) -> Stream:
    """The same for a handler that answers with a stream."""
    return _spans.stream(call, f"{service}/{method}") if _spans and _is_ours(service) else call


def _is_ours(service: str) -> bool:
    """Health is asked for all the time."""
    return service.startswith("labelloop.")


def interceptors() -> list[Any]:
    """For a channel: its calls are spans, of which the server is told. None where nothing is traced."""
    return [_spans.interceptor()] if _spans else []
