"""Keeps a tool supplied with what runs ask of it, and takes back what nobody needs any more.

What the tool holds is leased to it. A lease is taken before a request is put into the tool, for a short while, and
renewed behind that for longer: an oracle that dies between the two leaves a request that is put there once more, by
whichever oracle finds the lease expired. What no answer comes to is put there again when the long lease ends, and what
is answered in a way that cannot be taken, sooner.

All oracles hold leases under the tool's name, so that any of them can take back what another put there. They hear of
leases and of the log by separate ways: what to do about a lease is decided behind all that the log says by then.

A tool that is away is left alone for a while, with all its runs. A run whose requests the tool refuses waits by itself;
the log says why, its desk, and with that the backlog and the gauge of runs that are held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import structlog
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop.wire.cancelling import heeded
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import LabelloopError, Unready
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook

from oracle_svc.asking import Ask, for_tool, is_asked, revision_for_anybody
from oracle_svc.counter import Counter, tool_holder
from oracle_svc.desk import Desk
from oracle_svc.leases import Leases
from oracle_svc.queues.queue import Intake, Queue

_PUSH_WITHIN_S = 20.0  # a part is put into the tool, or given up: well within its leases
_PUSH_S = 30.0
_PART = 50
_LOOK_EVERY_S = 30.0
_PAUSE_S, _PAUSE_MAX_S = 1.0, 30.0
_TOGETHER_S = 0.05  # what changes within is looked at once

log = structlog.get_logger()


def _asked_s(error: Exception) -> float:
    """For how long a tool asked to be left alone, in seconds; 0 where it did not."""
    return error.retry_after_s if isinstance(error, Unready) else 0.0


@dataclass(frozen=True)
class _Refused:
    """A run whose requests are tried again at ``again_at_s`` of the monotonic clock."""

    pause_s: float
    again_at_s: float


@dataclass(frozen=True)
class _Claim:
    """A request that is leased for being put into the tool until ``until``, in seconds since the epoch."""

    ask: Ask
    request: LabelRequest
    until: float


class Pump:
    """``resend_s`` is how long a request may lie in the tool without an answer before it is put there again,
    ``push_within_s`` how long the tool may take to take some in."""

    def __init__(
        self,
        queue: Queue,
        intake: Intake,
        book: RunBook[Desk],
        log: EventLog,
        leases: Leases,
        counter: Counter,
        resend_s: float,
        push_within_s: float = _PUSH_WITHIN_S,
    ) -> None:
        self._queue, self._intake, self._book, self._log = queue, intake, book, log
        self._leases, self._counter = leases, counter
        self._resend_s, self._push_within_s = resend_s, push_within_s
        self._holder = tool_holder(queue.name)
        self._refused: dict[str, _Refused] = {}

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
            asked_s = 0.0
            try:
                await heeded(self._queue.serve(self._intake))
            except Exception as error:
                self._say("results do not come", error)
                asked_s = _asked_s(error)
            await asyncio.sleep(max(pause_s, asked_s))
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _supply(self) -> None:
        pause_s = _PAUSE_S
        with self._book.bell() as bell:
            while True:
                bell.clear()
                try:
                    await heeded(self._supply_runs())
                except Exception as error:
                    self._say("requests do not get there", error)
                    await asyncio.sleep(max(pause_s, _asked_s(error)))
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                    continue
                pause_s = _PAUSE_S
                await asyncio.sleep(_TOGETHER_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._look_in_s()):
                        await bell.wait()

    def _look_in_s(self) -> float:
        """Until something may be due that rings no bell."""
        waits_s = [refused.again_at_s - monotonic() for refused in self._refused.values()]
        return max(0.0, min([_LOOK_EVERY_S, self._leases.ends_in_s(self._holder), *waits_s]))

    def _say(self, what: str, error: Exception, **more: str) -> None:
        if isinstance(error, LabelloopError):
            log.warning(what, tool=self._queue.name, reason=error.reason, problem=error.message, **more)
        else:
            log.exception(what, tool=self._queue.name, **more)

    async def _supply_runs(self) -> None:
        """Raises where the tool is away, or for a fault of ours; what it refuses of one run holds up no other."""
        for desk in list(self._book.runs.values()):
            if desk.spec.queue.tool != self._queue.name or not desk.for_people or not desk.pool:
                continue
            refused = self._refused.get(desk.run_id)
            if refused and refused.again_at_s > monotonic():
                continue
            try:
                await self._supply_run(desk)
            except Unready:
                raise
            except LabelloopError as error:
                self._say("the tool refuses requests", error, run=desk.run_id)
                pause_s = min(2 * refused.pause_s, _PAUSE_MAX_S) if refused else _PAUSE_S
                desk.refusal = error.message
                self._refused[desk.run_id] = _Refused(pause_s, monotonic() + pause_s)
            else:
                desk.refusal = ""
                self._refused.pop(desk.run_id, None)

    async def _supply_run(self, desk: Desk) -> None:
        await self._retract(desk)
        free = self._free(self._wanted(desk))
        for i in range(0, len(free), _PART):
            await self._push(desk, self._free(free[i : i + _PART]))

    def _wanted(self, desk: Desk) -> Iterator[Ask]:
        return for_tool(desk, whole_samples=self._queue.whole_samples)

    def _free(self, asks: Iterable[Ask]) -> list[Ask]:
        return [ask for ask in asks if not self._leases.holder(ask.lease)]

    async def _catch_up(self) -> None:
        """With all that the log says by now."""
        await self._book.reach(await self._log.last_sequence())

    async def _push(self, desk: Desk, asks: Sequence[Ask]) -> None:
        made = [(ask, await self._counter.request(desk, ask)) for ask in asks]  # reading a dataset may take its time
        claims: list[_Claim] = []
        try:
            async with asyncio.timeout(self._push_within_s):
                for ask, request in made:
                    if until := await self._claim(ask.lease):
                        claims.append(_Claim(ask, request, until))
                if not claims:
                    return
                await self._catch_up()
                asked = [claim for claim in claims if is_asked(desk, claim.ask)]
                crash_point("before push")
                if asked:
                    await self._queue.push([self._numbered(desk, claim) for claim in asked])
                crash_point("after push")
        except Exception as error:
            await self._release(claims)
            if isinstance(error, TimeoutError):
                message = f"{self._queue.name} did not take {len(made)} requests within {self._push_within_s:g} s"
                raise Unready("TOOL_SLOW", message, tool=self._queue.name) from error
            raise
        await self._release(claim for claim in claims if claim not in asked)
        await asyncio.gather(*(self._confirm(claim) for claim in asked))

    async def _claim(self, lease: str) -> float:
        """Until when it is ours, 0.0 where it is not: another oracle may have taken it since we looked."""
        return 0.0 if self._leases.holder(lease) else await self._leases.take(lease, self._holder, _PUSH_S)

    async def _release(self, claims: Iterable[_Claim]) -> None:
        for claim in claims:
            await self._leases.release(claim.ask.lease, self._holder)

    async def _confirm(self, claim: _Claim) -> None:
        await self._leases.confirm(claim.ask.lease, self._holder, claim.until, self._resend_s)

    def _numbered(self, desk: Desk, claim: _Claim) -> LabelRequest:
        claim.request.next_revision = revision_for_anybody(desk, claim.ask.sample_id)
        claim.request.attempt = self._leases.pushes(claim.ask.lease)
        return claim.request

    async def _retract(self, desk: Desk) -> None:
        """Those that were put into the tool and that are answered, or no longer asked for."""
        if not self._unwanted(desk):
            return
        await self._catch_up()
        if not (done := self._unwanted(desk)):
            return
        crash_point("before retract")
        await self._queue.retract([self._request_id(key) for key in done])
        crash_point("after retract")
        for key in done:
            await self._leases.release(key, self._holder)

    def _unwanted(self, desk: Desk) -> list[str]:
        """What is held in vain; of samples whose answers wait to be settled, more may be asked for in a moment."""
        wanted = {ask.lease for ask in self._wanted(desk)}
        held = self._leases.held_by(self._holder, f"{desk.run_id}.")
        return [key for key in held if key not in wanted and int(key.split(".")[2]) not in desk.unsettled]

    def _request_id(self, lease: str) -> str:
        run_id, round_, sample_id, slot = lease.split(".")
        place = f"{run_id}/{round_}/{sample_id}"
        return place if self._queue.whole_samples else f"{place}/{slot.partition('-')[0]}"
