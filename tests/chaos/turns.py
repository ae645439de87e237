"""An event loop without IO and time: ready callbacks run in order, and sleeping tasks never wake.

Services run on it unchanged; its owner decides what happens next by settling the futures that they await.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from labelloop.eventlog import waiting

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Turns(asyncio.AbstractEventLoop):
    """``executor`` in ``run_in_executor`` is a function from the work to the future of its result.

    The default executor, that of ``asyncio.to_thread``, carries work out at once.
    """

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._handle = asyncio.Handle(print, (), self)  # never cancelled
        self._asleep: list[asyncio.TimerHandle] = []

    def turn(self) -> None:
        """Run until all tasks wait for external futures."""
        if not self._ready:
            return
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while self._ready:
                callback, args = self._ready.popleft()
                callback(*args)
        finally:
            asyncio._set_running_loop(before)

    @property
    def sleepers(self) -> int:
        """The number of timers that wake sleeping tasks, without those that say what is waited for; none ever fires."""
        return sum(handle._callback.__module__ != waiting.__name__ for handle in self._asleep)  # type: ignore[attr-defined]

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._ready.append((callback, args))
        return self._handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(0.0, callback, args, self, context)
        self._asleep.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle in self._asleep:
            self._asleep.remove(handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name or "task", context=context)

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._done(func, *args) if executor is None else executor(func, *args)
        return future

    def _done(self, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def time(self) -> float:
        return 0.0

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore errors, as tasks of killed services are abandoned; faults are found by the log."""
