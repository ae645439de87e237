"""The event log as the tests read it while faults are injected, over their own connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from labelloop.errors import LogRolledBack
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import Event
from nats.aio.client import Client


@dataclass(frozen=True)
class Seen:
    """An event, its sequence number and when it arrived, in seconds of the monotonic clock."""

    event: Event
    sequence: int
    at_s: float

    @property
    def kind(self) -> str:
        return self.event.WhichOneof("payload") or ""


class LogWatch:
    """Collect the events of every run as they arrive."""

    def __init__(self) -> None:
        self.runs: defaultdict[str, list[Seen]] = defaultdict(list)
        self.last = 0
        self._changed = asyncio.Condition()
        self._limits: dict[asyncio.Timeout, float] = {}

    async def follow(self, client: Client) -> None:
        """Follow the log until cancelled; start over if the broker took back events that were read."""
        while True:
            log = EventLog(client)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow(log))
                    tasks.create_task(log.watch())
            except* LogRolledBack:
                self.runs.clear()

    async def _follow(self, log: EventLog) -> None:
        async for recorded in log.follow():
            async with self._changed:
                self.last = recorded.sequence
                if recorded.event is not None:
                    seen = Seen(recorded.event, recorded.sequence, asyncio.get_running_loop().time())
                    self.runs[recorded.event.run_id].append(seen)
                    self._put_off(seen.at_s)
                self._changed.notify_all()

    @asynccontextmanager
    async def progress(self, stalled_s: float) -> AsyncIterator[None]:
        """Raise TimeoutError if no event arrives for that long: a slow machine passes, a hanging one does not."""
        async with asyncio.timeout(stalled_s) as limit:
            self._limits[limit] = stalled_s
            try:
                yield
            finally:
                del self._limits[limit]

    def _put_off(self, now_s: float) -> None:
        for limit, stalled_s in self._limits.items():
            if not limit.expired():
                limit.reschedule(now_s + stalled_s)

    async def first(self, run_id: str, wanted: Callable[[Seen], bool]) -> Seen:
        """Wait for the first event of a run that is ``wanted``, and return it."""
        async with self._changed:
            while True:
                for seen in self.runs[run_id]:
                    if wanted(seen):
                        return seen
                await self._changed.wait()

    async def news(self, within_s: float) -> None:
        """Wait for the next event of any run, or for so long: what a broker forgets, such as a lease, is no event."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait()
