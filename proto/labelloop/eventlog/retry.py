"""Retry idempotent work while the broker or another service is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError, NotFoundError
from tenacity import AsyncRetrying, retry_if_exception

from labelloop.runtime.backoff import Backoff

T = TypeVar("T")

_BACKOFF = Backoff(0.1, 2.0, jitter_s=1.0)
_TOO_FEW_NODES_YET = 10005  # for the requested replicas: a cluster that is starting up is not complete yet


def broker_is_away(error: BaseException) -> bool:
    """Return whether a retry may help: the broker is away, slow, or has no leader at the moment."""
    if isinstance(error, (NotFoundError, MaxPayloadError)):
        return False
    if isinstance(error, APIError):
        return error.code == 503 or error.err_code == _TOO_FEW_NODES_YET
    return isinstance(error, (NatsError, OSError))


async def retry_while_away(
    work: Callable[[], Awaitable[T]], passes: Callable[[BaseException], bool] = broker_is_away
) -> T:
    """Return the result of ``work``; retry at growing intervals for as long as ``passes`` is true of its error."""
    try:
        return await work()  # nearly always enough, and a hundred microseconds faster than through tenacity
    except Exception as error:
        if not passes(error):
            raise

    async def again() -> T:  # tenacity awaits only functions declared async, which a lambda is not
        return await work()

    return await AsyncRetrying(retry=retry_if_exception(passes), wait=_BACKOFF, reraise=True)(again)
