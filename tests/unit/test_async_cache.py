"""AsyncCache does not keep failures, also if nobody waits for the load any more."""

from __future__ import annotations

import asyncio

import pytest
from labelloop.runtime.async_cache import AsyncCache


class Source:
    """Fails at the first load, once ``released`` is set; later loads return at once."""

    def __init__(self) -> None:
        self.begun, self.released, self.loads = asyncio.Event(), asyncio.Event(), 0

    async def load(self, key: str) -> str:
        self.loads += 1
        if self.loads > 1:
            return key
        self.begun.set()
        await self.released.wait()
        raise OSError("away")


async def test_a_failure_is_not_cached() -> None:
    source = Source()
    cache = AsyncCache(source.load, kept=1)
    source.released.set()
    with pytest.raises(OSError, match="away"):
        await cache.get("a")
    assert await cache.get("a") == "a"


async def test_a_load_whose_only_caller_was_cancelled_is_given_up_and_not_cached() -> None:
    source = Source()
    cache = AsyncCache(source.load, kept=1)
    caller = asyncio.create_task(cache.get("a"))
    await source.begun.wait()
    caller.cancel()
    await asyncio.wait({caller})
    if loads := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(loads)
    assert not source.released.is_set(), "it did not end by itself"
    assert await cache.get("a") == "a"
    assert source.loads == 2
