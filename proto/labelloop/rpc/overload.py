"""Refuse small calls once too many wait, with an error that says so.

gRPC queues calls before any of our code sees them, and hands them over one by one, about as fast as small calls are
answered: none pile up on our side, however many wait. So they are counted now and then: for some milliseconds, calls
that come are held, and gRPC hands over what waits. If that is more than may wait, as many calls as were held are
refused next. A refusal takes nearly as long as an answer: were more refused, less would be answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from labelloop.errors import LimitExceeded

WAITING_MAX = 512  # about 100 ms of small calls
_EVERY_S = 1.0  # as often are calls counted at most
_FEW = 256  # fewer that came meanwhile are not worth it
_STEP_S = 0.002  # without a call, nothing waits any more
_GAP_S = 0.05  # so long without a call, and the backlog is gone
_RETRY_S = 0.1


class Overload:
    """Counts and refuses the calls of one method, in the event loop that serves them."""

    def __init__(self, most: int = WAITING_MAX, now: Callable[[], float] = monotonic) -> None:
        self._most, self._now = most, now
        self._held: asyncio.Event | None = None
        self._came = self._seen = self._to_refuse = 0
        self._began_s = self._last_s = now()

    def arrive(self) -> asyncio.Event | None:
        """Note a call; return what it waits for while calls are counted, None if it may go on.

        Raises:
            LimitExceeded: More calls wait than may.
        """
        now, last_s = self._now(), self._last_s
        self._last_s = now
        if self._to_refuse:
            self._to_refuse = 0 if now - last_s > _GAP_S else self._to_refuse - 1
            if self._to_refuse:
                raise self._refusal()
            self._count(now)
        self._came += 1
        if self._held is None:
            if now - self._began_s < _EVERY_S:
                return None
            if self._came < _FEW:
                self._began_s, self._came = now, 0
                return None
            self._count(now)
        elif self._came >= self._most:
            self._to_refuse = self._most
            self._let_go()
        return self._held

    def _count(self, now: float) -> None:
        self._held, self._began_s, self._came, self._seen = asyncio.Event(), now, 0, 0
        asyncio.get_running_loop().call_later(_STEP_S, self._look, self._held)

    def _look(self, held: asyncio.Event) -> None:
        if self._held is not held:
            return
        if self._came > self._seen:
            self._seen = self._came
            asyncio.get_running_loop().call_later(_STEP_S, self._look, held)
        else:
            self._let_go()

    def _let_go(self) -> None:
        assert self._held
        self._held.set()
        self._held, self._came = None, 0

    def _refusal(self) -> LimitExceeded:
        message = f"more than {self._most} calls wait already: try again after {_RETRY_S:g} s, or elsewhere"
        return LimitExceeded("OVERLOADED", message, retry_after_s=_RETRY_S, most=self._most)
