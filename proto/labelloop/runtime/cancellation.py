"""Keep the cancellation of a task from being lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def was_cancelled() -> bool:
    """Return whether this task was cancelled: a CancelledError may also come from a future that several tasks await."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def without_losing_cancellation(work: Awaitable[T]) -> T:
    """Await ``work``, and raise CancelledError if this task was cancelled meanwhile, whatever ``work`` did about that.

    Use it around calls into libraries, and around work in a loop that continues after any error. A cancellation may be
    lost in ``wait_for`` of Python 3.11, if it arrives together with the result; in ``TaskGroup`` before Python 3.13, if
    it arrives together with the error of a child; and in nats-py, which suppresses it while it flushes.
    """
    task = asyncio.current_task()
    assert task is not None, "heeded runs in a task"
    before = task.cancelling()  # not zero if a cancelled task awaits something in its clean-up
    try:
        return await work
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError
