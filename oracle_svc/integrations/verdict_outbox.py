"""Send verdicts to a tool in the background, so that sending them holds up no result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import structlog

from oracle_svc.integrations.messages import BACKOFF, describe

_WAITING_MAX = 2_000
_TRIES = 5
_SEND_WITHIN_S = 20.0

log = structlog.get_logger()

Reply = TypeVar("Reply")


class VerdictOutbox(Generic[Reply]):
    """Sends replies in the order in which they are put in, while it is running.

    A verdict is a courtesy: the result is in the log, or is a dead letter. What cannot be sent within a few tries, or
    does not fit beside the 2,000 that wait, is dropped, and the service's log says so.

    Args:
        tool: The tool's name, for the service's log.
        send: Sends some replies, or raises.
        together: How many are sent at once, at most.
    """

    def __init__(self, tool: str, send: Callable[[Sequence[Reply]], Awaitable[None]], together: int) -> None:
        self._tool, self._send, self._together = tool, send, together
        self._waiting: asyncio.Queue[Reply] = asyncio.Queue(_WAITING_MAX)
        self._dropped = 0

    def put(self, reply: Reply) -> None:
        """Have a reply sent; never waits."""
        try:
            self._waiting.put_nowait(reply)
        except asyncio.QueueFull:
            if not self._dropped:
                log.warning("verdicts_dropped", tool=self._tool, problem=f"{_WAITING_MAX} wait to be sent already")
            self._dropped += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send within this context."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            replies = [await self._waiting.get()]
            while len(replies) < self._together and not self._waiting.empty():
                replies.append(self._waiting.get_nowait())
            await self._try(replies)

    async def _try(self, replies: Sequence[Reply]) -> None:
        for tries in range(1, _TRIES + 1):
            try:
                async with asyncio.timeout(_SEND_WITHIN_S):
                    await self._send(replies)
            except Exception as error:  # whatever it is, results go on
                problem = describe(error)
                if tries < _TRIES:
                    await asyncio.sleep(BACKOFF.pause_s(tries))
            else:
                self._dropped = 0
                return
        log.warning("verdicts_dropped", tool=self._tool, count=len(replies), problem=problem)
