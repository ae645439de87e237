"""Cache values that are costly to load, by key."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class AsyncCache(Generic[K, T]):
    """Loads values by key and keeps the ``kept`` most recently used ones.

    Concurrent calls for the same key load its value once; a failure is not cached.
    """

    def __init__(self, load: Callable[[K], Awaitable[T]], *, kept: int) -> None:
        self._load, self._kept = load, kept
        self._loads: OrderedDict[K, asyncio.Future[T]] = OrderedDict()

    async def get(self, key: K) -> T:
        """Return the value that ``load`` returns for ``key``, or raise its error."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.ensure_future(self._load(key))
            load.add_done_callback(lambda done: self._drop_failed(key, done))
        self._loads.move_to_end(key)
        while len(self._loads) > self._kept:
            self._loads.popitem(last=False)
        return await asyncio.shield(load)  # if this caller is cancelled, others still get the value

    def _drop_failed(self, key: K, load: asyncio.Future[T]) -> None:
        """Forget a load that failed, also if each of its callers was cancelled before."""
        if (load.cancelled() or load.exception()) and self._loads.get(key) is load:
            del self._loads[key]
