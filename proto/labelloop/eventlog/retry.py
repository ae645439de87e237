"""Retry idempotent work while the broker or another service is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.js.errors import APIError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_never
from tenacity.stop import StopBaseT

from labelloop.eventlog.broker_answers import Handling, RefusedByBroker, handling_of, problem_of
from labelloop.eventlog.waiting import waiting
from labelloop.runtime.backoff import Backoff

T = TypeVar("T")

BROKER = "the broker"

_BACKOFF = Backoff(0.1, 2.0, jitter_s=1.0)
_SOON = Backoff(0.005, 0.2, jitter_s=0.005)
_SOON_TRIES = 20  # three seconds: no write stays in flight for longer while there is a leader


def broker_is_away(error: BaseException) -> bool:
    """Return whether a retry may help: the broker is away, slow, or has no leader at the moment."""
    return handling_of(error) in (Handling.WAIT, Handling.RETRY_SOON)


def is_undecided(error: BaseException) -> bool:
    """Return whether the broker cannot say yet who was first."""
    return handling_of(error) is Handling.RETRY_SOON


async def retry_while_away(
    work: Callable[[], Awaitable[T]], passes: Callable[[BaseException], bool] = broker_is_away, what: str = BROKER
) -> T:
    """Return the result of ``work``; retry at growing intervals for as long as ``passes`` is true of its error.

    After some seconds it is said that ``what`` is waited for, and why.

    Raises:
        RefusedByBroker: If the broker's settings or limits forbid it. Other errors of the last try pass through.
    """
    try:
        return await _retry(work, passes, _BACKOFF, stop_never, what)
    except APIError as error:
        if handling_of(error) is Handling.REFUSED:
            raise RefusedByBroker(error) from error
        raise


async def retry_while_undecided(work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``work``; retry after 5, 10, 20 ms and so on while the broker cannot say who was first.

    After three seconds that error is raised, which :func:`broker_is_away` holds for temporary too.
    """
    return await _retry(work, is_undecided, _SOON, stop_after_attempt(_SOON_TRIES), BROKER)


async def _retry(
    work: Callable[[], Awaitable[T]],
    passes: Callable[[BaseException], bool],
    pauses: Backoff,
    stop: StopBaseT,
    what: str,
) -> T:
    try:
        return await work()  # nearly always enough, and a hundred microseconds faster than through tenacity
    except Exception as error:
        if not passes(error):
            raise
        problem = problem_of(error)
    with waiting(what) as wait:
        wait.problem = problem

        def may_pass(error: BaseException) -> bool:
            wait.problem = problem_of(error)
            return passes(error)

        async def again() -> T:  # tenacity awaits only functions declared async, which a lambda is not
            return await work()

        return await AsyncRetrying(retry=retry_if_exception(may_pass), wait=pauses, stop=stop, reraise=True)(again)
