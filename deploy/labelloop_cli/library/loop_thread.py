"""Run coroutines from synchronous code, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started by the first call.

    The caller's own loop is left alone, so that it works in notebooks, which run one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="labelloop-client", daemon=True)
        self._lock, self._started, self._closed = Lock(), False, False

    @property
    def closed(self) -> bool:
        """Whether the thread was ended."""
        return self._closed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``. Ctrl-C cancels it."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("this client is closed: make another")
            if not self._started:
                self._thread.start()
                self._started = True
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items of an asynchronous generator."""
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except _Exhausted:
                    return
        finally:
            if not self._closed:
                self.run(_close(items))

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._started:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()


class _Exhausted(Exception):
    """There are no more items; StopAsyncIteration cannot leave a future."""


async def _next(items: AsyncIterator[T]) -> T:
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise _Exhausted from None


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
