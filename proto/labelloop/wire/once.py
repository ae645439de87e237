"""Streams as all writers want them: a write that only the first writer of a subject makes, and enough replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from labelloop.wire.patience import patiently

_EXPECT_LAST, _ANOTHER_STANDS = "Nats-Expected-Last-Subject-Sequence", 10071
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


async def publish_once(
    js: JetStreamContext, subject: str, data: bytes, headers: Mapping[str, str] = _NO_HEADERS
) -> int | None:
    """The new message's sequence, or None where something stands under ``subject`` already; then nothing is written."""
    return await publish_over(js, subject, data, 0, headers)


async def publish_over(
    js: JetStreamContext, subject: str, data: bytes, last: int, headers: Mapping[str, str] = _NO_HEADERS
) -> int | None:
    """The same where the message with the sequence ``last``, nothing for 0, is what stands under ``subject``."""
    try:
        return int((await js.publish(subject, data, headers={**headers, _EXPECT_LAST: str(last)})).seq)
    except APIError as error:
        if error.err_code != _ANOTHER_STANDS:
            raise
        return None


async def ensure_replicas(js: JetStreamContext, standing: StreamConfig, replicas: int) -> None:
    """Give a stream that has fewer replicas as many."""
    if (standing.num_replicas or 1) < replicas:
        await patiently(lambda: js.update_stream(replace(standing, num_replicas=replicas)))
