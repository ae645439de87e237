"""Cache values that are costly to load, by key."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from labelloop.runtime.shared_task import SharedTask

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class AsyncCache(Generic[K, T]):
    """Loads values by key and keeps the ``kept`` most recently used ones.

    Concurrent calls for the same key load its value once; a failure is not cached. A load that nobody waits for any
    more is cancelled.
    """

    def __init__(self, load: Callable[[K], Coroutine[Any, Any, T]], *, kept: int) -> None:
        self._load, self._kept = load, kept
        self._loads: OrderedDict[K, SharedTask[T]] = OrderedDict()

    async def get(self, key: K) -> T:
        """Return the value that ``load`` returns for ``key``, or raise its error."""
        load = self._loads.get(key)
        if load is None or load.abandoned:
            load = self._loads[key] = self._begun(key)
        self._loads.move_to_end(key)
        while len(self._loads) > self._kept:
            self._loads.popitem(last=False)
        return await load.result()

    def at_hand(self, key: K) -> T | None:
        """Return the value of ``key`` if it is loaded, None otherwise: nothing is loaded for it."""
        load = self._loads.get(key)
        if load is None or (value := load.result_so_far) is None:
            return None
        self._loads.move_to_end(key)
        return value

    def _begun(self, key: K) -> SharedTask[T]:
        def ended(task: asyncio.Future[T]) -> None:
            """Forget a load that failed, also if each of its callers was cancelled before."""
            if (task.cancelled() or task.exception()) and self._loads.get(key) is load:
                del self._loads[key]

        load = SharedTask(self._load(key), ended)
        return load
