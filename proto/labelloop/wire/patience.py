"""Waiting out a broker that is away: safe wherever what is tried again is idempotent."""

from __future__ import annotations

from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential_jitter


def passes(error: BaseException) -> bool:
    """Whether trying again may help: the broker is away, slow, or has no leader just now."""
    if isinstance(error, NotFoundError):
        return False
    if isinstance(error, APIError):
        return error.code == 503
    return isinstance(error, (NatsError, OSError))


def patiently() -> AsyncRetrying:
    """Tries again for as long as that may help."""
    wait = wait_exponential_jitter(multiplier=0.1, max=2.0)
    return AsyncRetrying(retry=retry_if_exception(passes), wait=wait, reraise=True)
