"""Keeps a tool supplied with what runs ask of it, and takes back what nobody needs any more.

What the tool holds is leased to it. A lease is taken before a request is put into the tool, for a short while, and
renewed behind that for longer: an oracle that dies between the two leaves a request that is put there once more, by
whichever oracle finds the lease expired. What no answer comes to is put there again when the long lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog
from labelloop.wire.cancelling import heed_cancellation
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import LabelloopError
from labelloop.wire.run_book import RunBook

from oracle_svc.asking import Ask, for_tool
from oracle_svc.counter import Counter
from oracle_svc.desk import Desk
from oracle_svc.leases import Leases
from oracle_svc.queues.queue import Intake, Queue

_PUSH_S = 20.0  # for a part to be put into the tool
_PART = 50
_LOOK_EVERY_S = 30.0
_PAUSE_S, _PAUSE_MAX_S = 1.0, 30.0
_TOGETHER_S = 0.05  # what changes within is looked at once

log = structlog.get_logger()


class Pump:
    """``resend_s`` is how long a request may lie in the tool without an answer before it is put there again."""

    def __init__(
        self, queue: Queue, intake: Intake, book: RunBook[Desk], leases: Leases, counter: Counter, resend_s: float
    ) -> None:
        self._queue, self._intake, self._book = queue, intake, book
        self._leases, self._counter, self._resend_s = leases, counter, resend_s
        self._holder = f"tool:{queue.name}"

    @property
    def tool(self) -> str:
        return self._queue.name

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve())
            tasks.create_task(self._supply())

    async def _serve(self) -> None:
        pause_s = _PAUSE_S
        while True:
            heed_cancellation()
            try:
                await self._queue.serve(self._intake)
            except Exception as error:
                self._say("results do not come", error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _supply(self) -> None:
        pause_s = _PAUSE_S
        with self._book.bell() as bell:
            while True:
                heed_cancellation()
                bell.clear()
                try:
                    for desk in list(self._book.runs.values()):
                        if desk.spec.queue.tool == self._queue.name and desk.for_people and desk.pool:
                            await self._supply_run(desk)
                except Exception as error:
                    self._say("requests do not get there", error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                    continue
                pause_s = _PAUSE_S
                await asyncio.sleep(_TOGETHER_S)
                with suppress(TimeoutError):  # leases of others may have expired meanwhile
                    await asyncio.wait_for(bell.wait(), _LOOK_EVERY_S)

    def _say(self, what: str, error: Exception) -> None:
        if isinstance(error, LabelloopError):
            log.warning(what, tool=self._queue.name, reason=error.reason, problem=error.message)
        else:
            log.exception(what, tool=self._queue.name)

    async def _supply_run(self, desk: Desk) -> None:
        wanted = list(for_tool(desk, whole_samples=self._queue.whole_samples))
        await self._retract(desk, {ask.lease for ask in wanted})
        free = [ask for ask in wanted if not self._leases.holder(ask.lease)]
        for i in range(0, len(free), _PART):
            await self._push(desk, free[i : i + _PART])

    async def _push(self, desk: Desk, asks: Sequence[Ask]) -> None:
        ours = [ask for ask in asks if await self._leases.take(ask.lease, self._holder, _PUSH_S)]
        if not ours:
            return
        try:
            requests = [await self._counter.request(desk, ask) for ask in ours]
            crash_point("before push")
            await self._queue.push(requests)
            crash_point("after push")
        except Exception:
            for ask in ours:
                await self._leases.release(ask.lease, self._holder)
            raise
        await asyncio.gather(*(self._leases.take(ask.lease, self._holder, self._resend_s) for ask in ours))

    async def _retract(self, desk: Desk, wanted: set[str]) -> None:
        """Those that were put into the tool and that are answered, or no longer asked for."""
        held = self._leases.held_by(self._holder, f"{desk.run_id}.")
        done = [key for key in held if key not in wanted]
        if not done:
            return
        await self._queue.retract([self._request_id(key) for key in done])
        for key in done:
            await self._leases.release(key, self._holder)

    def _request_id(self, lease: str) -> str:
        run_id, round_, sample_id, slot = lease.split(".")
        place = f"{run_id}/{round_}/{sample_id}"
        return place if self._queue.whole_samples else f"{place}/{slot}"
