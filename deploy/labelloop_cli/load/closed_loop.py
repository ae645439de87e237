"""Users that each send a request after the answer to the one before."""

from __future__ import annotations

import asyncio
from itertools import count

from labelloop_cli.load.calls import Outcomes
from labelloop_cli.load.open_loop import Send


async def closed_loop(send: Send, request_count: int, users: int, seconds: float) -> Outcomes:
    """Send requests 0 to ``request_count - 1`` in turn by ``users`` users; none begins after ``seconds`` seconds."""
    loop, outcomes, numbers = asyncio.get_running_loop(), Outcomes(), count()
    start = loop.time()

    async def user() -> None:
        while (sent_s := loop.time() - start) < seconds:
            index = next(numbers) % request_count
            status, answer = await send(index)
            outcomes.add(sent_s, loop.time() - start - sent_s, status)
            if status == "OK":
                outcomes.answers[index, answer] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(users):
            tasks.create_task(user())
    return outcomes
