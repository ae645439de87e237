"""Cancellation that is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def was_cancelled() -> bool:
    """Whether somebody cancelled this task: a CancelledError may also come from a future that several await."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def heeded(work: Awaitable[T]) -> T:
    """Await ``work``, and raise CancelledError if this task was cancelled meanwhile, whatever ``work`` made of that.

    Put it around calls into libraries, and around what a loop goes on after whatever its errors. A cancellation may
    get lost in: ``wait_for`` of Python 3.11, when it comes together with the answer; ``TaskGroup`` before Python 3.13,
    when it comes together with the error of a child; nats-py, which suppresses it where it flushes.
    """
    task = asyncio.current_task()
    assert task is not None, "heeded runs in a task"
    before = task.cancelling()  # not zero where a cancelled task awaits something in its clean-up
    try:
        return await work
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError
