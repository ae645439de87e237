"""Progress lines that ``labelloop demo`` prints while a block runs."""

from __future__ import annotations

import asyncio
import re
from io import StringIO

from labelloop_cli.demo.heartbeat import heartbeat
from rich.console import Console


async def test_lines_are_printed_until_the_block_ends() -> None:
    told, third = StringIO(), asyncio.Event()
    count = 0

    def say() -> str:
        nonlocal count
        count += 1
        if count == 3:
            third.set()
        return f"step {count}"

    async with asyncio.timeout(10), heartbeat(Console(file=told), say, every_s=0.001):
        await third.wait()
    lines = told.getvalue().splitlines()
    assert [re.sub(r"^ +\d+\.\d s  ", "", line) for line in lines[:3]] == ["step 1", "step 2", "step 3"]
    await asyncio.sleep(0.01)
    assert told.getvalue().splitlines() == lines


async def test_a_short_block_prints_nothing() -> None:
    told = StringIO()
    async with heartbeat(Console(file=told), lambda: "still at it", every_s=60):
        pass
    assert told.getvalue() == ""
