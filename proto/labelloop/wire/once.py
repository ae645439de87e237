"""Streams as all writers want them: a write that only the first writer of a subject makes, and enough replicas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from labelloop.wire.patience import patiently

_EXPECT_LAST, _ANOTHER_STANDS = "Nats-Expected-Last-Subject-Sequence", 10071
_NAME_IN_USE, _SUBJECTS_OVERLAP = 10058, 10065
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


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


async def read_or_make(read: Callable[[], Awaitable[T]], make: Callable[[], Awaitable[T]]) -> T:
    """Return what ``read`` returns, after ``make`` where it finds nothing. Several clients may do so at once.

    To all but one of those that make the same stream at the same time, nats-server 2.9 may answer that its subjects
    overlap with those of an existing stream: with the very one that was made meanwhile.
    """
    try:
        return await read()
    except NotFoundError:
        pass
    try:
        return await make()
    except APIError as error:
        if error.err_code not in (_NAME_IN_USE, _SUBJECTS_OVERLAP):
            raise
        try:
            return await read()
        except NotFoundError:
            raise error from None  # the overlap is with another stream


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    """Return the stream's info, after making it by ``config`` where there is none."""
    name = config.name
    assert name is not None, "streams have names"
    return await read_or_make(lambda: js.stream_info(name), lambda: js.add_stream(config))


async def ensure_replicas(js: JetStreamContext, standing: StreamConfig, replicas: int) -> None:
    """Give a stream that has fewer replicas as many."""
    if (standing.num_replicas or 1) < replicas:
        await patiently(lambda: js.update_stream(replace(standing, num_replicas=replicas)))
