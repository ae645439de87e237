"""Calls at a constant rate, regardless of those before: users do not wait for each other.

A call's latency counts from the moment at which it was due. If a server or the client itself is too slow, the calls
that had to wait show it, which a closed loop leaves out (Tene's "coordinated omission").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from labelloop_cli.load.calls import Outcomes

IN_FLIGHT_MAX = 2_000  # the rest waits in the client, and its latency includes that

Send = Callable[[int], Awaitable[tuple[str, bytes]]]  # sends a request, returns status and answer


async def constant_rate(send: Send, request_count: int, rate_s: float, seconds: float) -> Outcomes:
    """Send requests 0 to ``request_count - 1`` in turn, ``rate_s`` in each second."""
    loop, outcomes, open_calls = asyncio.get_running_loop(), Outcomes(), asyncio.Semaphore(IN_FLIGHT_MAX)
    start = loop.time()

    async def call(number: int, due_s: float) -> None:
        index = number % request_count
        try:
            status, answer = await send(index)
        finally:
            open_calls.release()
        outcomes.add(due_s, loop.time() - start - due_s, status)
        if status == "OK":
            outcomes.answers[index, answer] += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate_s * seconds)):
            due_s = number / rate_s
            if (early_s := start + due_s - loop.time()) > 0:
                await asyncio.sleep(early_s)
            await open_calls.acquire()
            tasks.create_task(call(number, due_s))
    return outcomes
