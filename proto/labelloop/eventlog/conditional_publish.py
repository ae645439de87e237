"""Publish to a subject only if it is unchanged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NotFoundError

from labelloop.eventlog.broker_answers import Handling, StoresNothing, handling_of
from labelloop.eventlog.retry import retry_while_undecided
from labelloop.eventlog.streams import stream_of

_EXPECT_LAST = "Nats-Expected-Last-Subject-Sequence"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


async def publish_once(
    js: JetStreamContext, subject: str, data: bytes, headers: Mapping[str, str] = _NO_HEADERS
) -> int | None:
    """Publish a message if there is none under ``subject`` yet.

    Returns:
        The sequence of the new message; None if there was one already, and nothing was written.
    """
    return await publish_over(js, subject, data, 0, headers)


async def publish_over(
    js: JetStreamContext, subject: str, data: bytes, last: int, headers: Mapping[str, str] = _NO_HEADERS
) -> int | None:
    """Publish a message if the newest one under ``subject`` has the sequence ``last``; 0 if there must be none.

    While a replicated stream is still busy with another write of the subject, which may fail, this tries again: the
    answer is decided only then.

    Returns:
        The sequence of the new message; None if another message was the newest, and nothing was written.
    """
    expecting = {**headers, _EXPECT_LAST: str(last)}
    try:
        return int((await retry_while_undecided(lambda: _publish(js, subject, data, expecting))).seq)
    except APIError as error:
        if handling_of(error) is not Handling.READ_BACK:
            raise
        return None


async def _publish(js: JetStreamContext, subject: str, data: bytes, headers: dict[str, str]) -> PubAck:
    """Publish a message. Raises StoresNothing if that is not answered although the stream's settings can be read."""
    try:
        return await js.publish(subject, data, headers=headers)
    except NatsTimeoutError as error:
        try:
            await js.stream_info(stream_of(subject))
        except NatsError:
            raise error from None
        raise StoresNothing from error


async def read_or_make(read: Callable[[], Awaitable[T]], make: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``read``, or of ``make`` if it finds nothing. Several clients may do so at once.

    If several clients create the same stream at the same time, nats-server 2.9 may tell all but one of them that its
    subjects overlap with those of an existing stream, which is the one just created.
    """
    try:
        return await read()
    except NotFoundError:
        pass
    try:
        return await make()
    except APIError as error:
        if handling_of(error) is not Handling.READ_BACK:
            raise
        try:
            return await read()
        except NotFoundError:
            raise error from None  # the overlap is with another stream
