"""Measure how long a service's event loop was held by one piece of work, during which it answers nobody."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event, Thread, get_ident
from types import TracebackType

import structlog

from labelloop.observability.metrics import LOOP_LAG

EVERY_S = 0.05
WINDOW_S = 60.0  # at least as long as the time between two scrapes
HELD_S = 0.2  # what a service's event loop must not exceed
_TOLD_S = 1.0  # a hold of so long is logged, with what the loop was doing
_WATCH_EVERY_S = 0.5
_FRAMES = 12

log = structlog.get_logger()


class LoopLag:
    """The longest time in the last ``window_s`` seconds by which the event loop was late, one that goes on included.

    A task of the loop ticks; a thread compares, because a loop that is held cannot tell. All times are of
    :func:`time.monotonic`, in seconds.
    """

    def __init__(self, window_s: float = WINDOW_S, now: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._now = window_s, now
        self._due = now() + EVERY_S
        self._late: deque[tuple[float, float]] = deque()  # ends of holds and their lengths, the longest first

    def tick(self) -> None:
        """Note that the loop runs, at the time that was due or later."""
        now = self._now()
        late_s = max(0.0, now - self._due)
        while self._late and self._late[-1][1] <= late_s:
            self._late.pop()
        self._late.append((now, late_s))
        self._due = now + EVERY_S

    def going_on_s(self) -> float:
        """Return for how long the loop has been late by now; 0 if it is not."""
        return max(0.0, self._now() - self._due)

    def longest_s(self) -> float:
        """Return the longest time in seconds."""
        since = self._now() - self._window_s
        recent = [late_s for at, late_s in list(self._late) if at >= since]
        return max(self.going_on_s(), max(recent, default=0.0))

    def drop_old(self) -> None:
        """Forget holds that ended before the window."""
        while self._late and self._late[0][0] < self._now() - self._window_s:
            self._late.popleft()


class LoopWatch(Thread):
    """Sets the gauge of the loop's lag, and logs what the loop's thread is doing while it is held for a second."""

    def __init__(self, lag: LoopLag, thread: int, show: Callable[[float], None] = LOOP_LAG.set) -> None:
        super().__init__(name="loop-watch", daemon=True)
        self._lag, self._thread, self._show = lag, thread, show
        self._ended, self._told = Event(), False

    def run(self) -> None:
        while not self._ended.wait(_WATCH_EVERY_S):
            self._show(self._lag.longest_s())
            self._tell(self._lag.going_on_s())

    def _tell(self, late_s: float) -> None:
        held = late_s >= _TOLD_S
        if held and not self._told:
            frame = sys._current_frames().get(self._thread)
            doing = [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_stack(frame)[-_FRAMES:]]
            log.warning("event_loop_held", held_s=round(late_s, 3), doing=doing)
        self._told = held

    def __enter__(self) -> LoopWatch:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join()


@asynccontextmanager
async def loop_lag(window_s: float = WINDOW_S) -> AsyncIterator[LoopLag]:
    """Measure the lag of the running event loop within the context, and show it as the metric of this process."""
    lag = LoopLag(window_s)

    async def tick() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            lag.tick()
            lag.drop_old()

    ticking = asyncio.create_task(tick())
    try:
        with LoopWatch(lag, get_ident()):
            yield lag
    finally:
        ticking.cancel()
