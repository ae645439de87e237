"""Things that are costly to load, kept by key."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Loaded(Generic[K, T]):
    """The ``kept`` things used last. One that is asked for twice at once is loaded once; a failure is not kept."""

    def __init__(self, load: Callable[[K], Awaitable[T]], *, kept: int) -> None:
        self._load, self._kept = load, kept
        self._loads: OrderedDict[K, asyncio.Future[T]] = OrderedDict()

    async def get(self, key: K) -> T:
        """What ``load`` makes of ``key``, or its error."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.ensure_future(self._load(key))
        self._loads.move_to_end(key)
        while len(self._loads) > self._kept:
            self._loads.popitem(last=False)
        try:
            return await asyncio.shield(load)  # whoever else waits for it still gets it
        except Exception:
            if self._loads.get(key) is load:
                del self._loads[key]
            raise
