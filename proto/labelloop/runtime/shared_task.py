"""Await one piece of work in several tasks, and cancel it when the last of them has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedTask(Generic[T]):
    """Work that begins at once, and ends when it is done or nobody waits for it any more.

    Args:
        work: What to await.
        ended: Called once the task has ended, with the task.

    Attributes:
        abandoned: Whether the last one who waited has left before the end, so that there will be no result.
    """

    def __init__(self, work: Coroutine[Any, Any, T], ended: Callable[[asyncio.Future[T]], None]) -> None:
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(ended)
        self._waiting = 0
        self.abandoned = False

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def result_so_far(self) -> T | None:
        """The result, None until there is one and if the work failed."""
        task = self._task
        return None if not task.done() or task.cancelled() or task.exception() else task.result()

    async def result(self) -> T:
        """Return the result of the work, or raise its error."""
        if self._task.done():  # nearly always
            return self._task.result()
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self.abandoned = True
                self._task.cancel()
