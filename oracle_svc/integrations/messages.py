"""Encode requests, hand over results and survive outages, for all message queue integrations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import structlog
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from labelloop.errors import LabelloopError
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelVerdict
from labelloop.runtime.backoff import Backoff
from labelloop.runtime.cancellation import without_losing_cancellation

from oracle_svc.integrations.base import ResultSink

PREFETCH = 50  # unacknowledged results at once
BY_LINK = "have samples sent as links: set LABELLOOP_HTTP_URL, or lower LABELLOOP_INLINE_BYTES_MAX where it is set"
"""Advice for a request that is too large for a tool."""
BACKOFF = Backoff(0.5, 15.0)
_AGAIN_AFTER_S = 1.0
_LASTED_S = 10.0

log = structlog.get_logger()


def request_document(request: LabelRequest) -> dict[str, Any]:
    """Return a request as what JSON holds: numbers and lists also if they are 0 or empty, texts unless they are."""
    return _without_empty_texts(document(request))


def document(message: Message) -> dict[str, Any]:
    """Return a message as what JSON holds: every field but those that say that they are absent."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def to_json(request: LabelRequest) -> str:
    """Encode a request as a message body, in ASCII."""
    return json.dumps(request_document(request))


def verdict_json(verdict: LabelVerdict) -> str:
    """Encode a verdict as a message body, in ASCII."""
    return json.dumps(document(verdict))


def _without_empty_texts(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_empty_texts(value) if isinstance(value, dict) else value
        for name, value in found.items()
        if value != ""
    }


def asking(request: LabelRequest) -> str:
    """Return a message id: the same if a push is repeated, another if the request is asked again."""
    if not (request.next_revision or request.attempt):
        return request.request_id
    return f"{request.request_id}#{request.next_revision}.{request.attempt}"


async def hand_over(result_sink: ResultSink, data: bytes, *, tries: int, tool: str) -> LabelVerdict | float:
    """Hand the result in ``data`` to the sink, on its ``tries``-th delivery.

    Returns:
        The verdict once the result may be forgotten; else seconds until it should be delivered again.
    """
    try:
        return await result_sink.take_json(data)
    except LabelloopError as error:
        again_s = max(BACKOFF.pause_s(tries), error.retry_after_s)
        log.warning("result_returned_to_queue", tool=tool, reason=error.reason, problem=error.message, again_s=again_s)
        return again_s


async def outlive(
    tool: str, work: Callable[[], Awaitable[None]], away: tuple[type[Exception], ...], result_sink: ResultSink
) -> None:
    """Run ``work`` until cancelled; restart it a second after it returned or raised one of ``away``.

    ``result_sink`` is told of what it raised. That results are read again, ``work`` itself must tell.
    """
    said, began_s = "", 0.0
    while True:
        if monotonic() - began_s > _LASTED_S:
            said = ""  # a new outage: log one line for each, not one a second
        began_s = monotonic()
        try:
            await without_losing_cancellation(work())
        except* away as errors:
            text = describe(errors)
            if text != said:
                log.warning("queue_unreachable", tool=tool, problem=text)
            said = text
            result_sink.note_reading(text)
        await asyncio.sleep(_AGAIN_AFTER_S)


def describe(error: BaseException) -> str:
    """Describe the first underlying error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
