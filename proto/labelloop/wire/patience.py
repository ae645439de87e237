"""Waiting out somebody who is away: safe wherever what is tried again is idempotent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError, NotFoundError
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential_jitter

T = TypeVar("T")

_TOO_FEW_NODES_YET = 10005  # for the replicas asked for: a cluster that starts with us is still coming together


def broker_is_away(error: BaseException) -> bool:
    """Whether trying again may help: the broker is away, slow, or has no leader just now."""
    if isinstance(error, (NotFoundError, MaxPayloadError)):
        return False
    if isinstance(error, APIError):
        return error.code == 503 or error.err_code == _TOO_FEW_NODES_YET
    return isinstance(error, (NatsError, OSError))


async def patiently(work: Callable[[], Awaitable[T]], passes: Callable[[BaseException], bool] = broker_is_away) -> T:
    """What ``work`` comes to, tried again ever more slowly for as long as its error is one that ``passes``."""
    try:
        return await work()  # nearly always: a hundred microseconds less than through the retries
    except Exception as error:
        if not passes(error):
            raise

    async def again() -> T:  # tenacity awaits only what is declared async, which a lambda is not
        return await work()

    wait = wait_exponential_jitter(multiplier=0.1, max=2.0)
    return await AsyncRetrying(retry=retry_if_exception(passes), wait=wait, reraise=True)(again)
