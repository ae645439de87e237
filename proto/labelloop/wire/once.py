"""Streams as all writers want them: a write that only the first writer of a subject makes, and enough replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from labelloop.wire.patience import patiently

SUBJECT_TAKEN = 10071
EXPECT_LAST = "Nats-Expected-Last-Subject-Sequence"
_EXPECT_NOTHING = {EXPECT_LAST: "0"}


async def publish_once(
    js: JetStreamContext, subject: str, data: bytes, headers: Mapping[str, str] = MappingProxyType({})
) -> int | None:
    """The new message's sequence, or None where something stands under ``subject`` already; then nothing is written."""
    try:
        return int((await js.publish(subject, data, headers={**headers, **_EXPECT_NOTHING})).seq)
    except APIError as error:
        if error.err_code != SUBJECT_TAKEN:
            raise
        return None


async def ensure_replicas(js: JetStreamContext, standing: StreamConfig, replicas: int) -> None:
    """Give a stream that has fewer replicas as many."""
    if (standing.num_replicas or 1) < replicas:
        await patiently(lambda: js.update_stream(replace(standing, num_replicas=replicas)))
