"""Await work in threads, and end it when the task that awaits it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

from labelloop.domain.abandonment import Wanted

T = TypeVar("T")


async def in_thread(executor: Executor | None, work: Callable[..., T], *arguments: object) -> T:
    """Return ``work(*arguments)``, carried out by ``executor``; by the event loop's own if that is None.

    If this is cancelled, work that has not begun never does, and work under way ends at its next
    :func:`~labelloop.domain.abandonment.check_wanted`. The thread sees this task's context variables.
    """
    wanted = Wanted()
    run = copy_context().run
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: run(wanted.run, work, *arguments))
    except asyncio.CancelledError:
        wanted.abandon()
        raise
