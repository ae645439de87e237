"""Cancellation that is not lost."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError where this task was cancelled. Call it in each turn of a loop that runs for ever:
    Python 3.11's ``wait_for``, which nats-py waits with, loses a cancellation that comes together with its answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
