"""Print a progress line at intervals, so that no long operation is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console

_EVERY_S = 8.0


@asynccontextmanager
async def heartbeat(console: Console, say: Callable[[], str], *, every_s: float = _EVERY_S) -> AsyncIterator[None]:
    """Print ``say()`` every ``every_s`` seconds while the block runs, preceded by the seconds since it began."""
    begin = time.monotonic()

    async def beat() -> None:
        while True:
            await asyncio.sleep(every_s)
            console.print(f"{time.monotonic() - begin:6.1f} s  {say()}", soft_wrap=True)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
