"""Let a server go without a call of its clients failing as CANCELLED."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from labelloop.errors import Unready
from labelloop.runtime.cancellation import was_cancelled

QUIET_S = 0.05
SETTLE_S = 0.25
_RETRY_AFTER_S = 0.1

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Any, Any], AsyncIterator[Any]]


class Drain:
    """Holds answers back between the decision to stop and the moment in which clients have been told.

    When gRPC's server stops, calls that it has received but not handed over yet end as CANCELLED, which clients do not
    retry. A client that always has a call in flight sends the next one with each answer, so there are always some. Held
    answers give it no reason to: after :meth:`settle` nothing is underway, and answers that are sent after
    :meth:`release`, once the server has said that it goes, are followed by calls to other replicas.

    A call that ends because something which it shared with others was cancelled is UNAVAILABLE too.
    """

    def __init__(self) -> None:
        self._begun, self._released = asyncio.Event(), asyncio.Event()
        self._released.set()

    def unary(self, answer: Unary) -> Unary:
        """Wrap a handler that gives one response."""

        async def held(request: Any, context: Any) -> Any:
            async with self._holding_back():
                return await answer(request, context)

        return held

    def stream(self, answer: Stream) -> Stream:
        """Wrap a handler that gives a stream; its end is what is held back."""

        async def held(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._holding_back():
                async for response in answer(request, context):
                    yield response

        return held

    def passes(self) -> bool:
        """Note that a call begins, and return whether it may be answered now; if not, its answer must be held back."""
        self._begun.set()
        return self._released.is_set()

    @asynccontextmanager
    async def _holding_back(self) -> AsyncIterator[None]:
        """Hold the end of a call back, with its response or its error, unless the caller has cancelled it."""
        self._begun.set()
        try:
            yield
        except asyncio.CancelledError as error:
            if was_cancelled():  # by the caller, who may have left
                raise
            await self._released.wait()
            raise _stopped() from error
        except Exception:
            await self._released.wait()
            raise
        await self._released.wait()

    async def settle(self) -> None:
        """Hold answers back; return once no call has begun for 50 ms, after a quarter of a second at the latest."""
        self._released.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while await self._another_begins():
                    pass

    async def _another_begins(self) -> bool:
        """Return whether a call begins within QUIET_S."""
        self._begun.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                return await self._begun.wait()
        return False

    def release(self) -> None:
        """Send what was held back, and hold nothing from now on."""
        self._released.set()


def _stopped() -> Unready:
    message = "the service stopped the work that this call waited for; call again"
    return Unready("WORK_STOPPED", message, retry_after_s=_RETRY_AFTER_S)
