"""What is tried, one after the other, and what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from labelloop.scorer.v1.scorer_pb2 import ScoreResponse
from labelloop.wire.errors import NotFound

from tests.load import foreign
from tests.load.calls import Calls, Outcomes, rank_calls, score_calls
from tests.load.checking import Reference
from tests.load.closed_loop import USERS, closed_loop
from tests.load.counters import counted_by_the_server
from tests.load.figures import figures
from tests.load.open_loop import constant_rate
from tests.load.sending import sending
from tests.load.target import Target

_SHARE = 0.5  # of what the closed loop reached: an open loop beyond that measures the client's queue
_OVERLOAD, _SAMPLED_SHARE = 4, 0.1
_CAPACITY_CALLS = 5_000


@dataclass(frozen=True)
class Result:
    """``figures`` are None where the scenario was skipped, for the reason in ``note``."""

    name: str
    mode: str
    note: str = ""
    asked_rate_s: float | None = None
    figures: dict[str, Any] | None = None
    outcomes: Outcomes | None = None

    @property
    def wrong(self) -> int:
        return sum(self.figures["wrong"].values()) if self.figures else 0


Say = Callable[[str], None]


class Load:
    """``seconds`` is how long each loop lasts."""

    def __init__(self, target: Target, seconds: float, say: Say) -> None:
        self._target, self._seconds, self._say = target, seconds, say

    async def plan(self) -> dict[str, Calls]:
        """The requests of every scenario that needs no run to advance."""
        run = self._target.run
        model = run.latest.model_sha256
        return {
            "unary 1": score_calls(self._target.images, 1, model=model),
            "unary 64": score_calls(self._target.images, 64, model=model),
            "stream 64": score_calls(self._target.images, 64, model=model, stream=True),
        }

    async def results(self, only: str) -> AsyncIterator[Result]:
        """Of all scenarios whose names hold ``only``."""
        run = self._target.run
        for name, calls in (await self.plan()).items():
            if only in name:
                async for result in self._both_loops(name, calls, run.run_id):
                    yield result
        if only in (name := "RankPool during a run"):
            calls = rank_calls(run.pool.pool_sha256, run.latest.model_sha256)
            async with self._target.live_run():
                async for result in self._both_loops(name, calls, run.run_id):
                    yield result
        if only in (name := "model swap under load"):
            async with self._target.live_run() as live:
                calls = score_calls(self._target.images, 1, run_id=live)
                async for result in self._both_loops(name, calls, live):
                    yield result
        for name, work in (("4x overload", self._overload), ("cross-check by h2load", self._cross_check)):
            if only in name:
                yield await self._or_skipped(name, work)

    async def _both_loops(self, name: str, calls: Calls, run_id: str) -> AsyncIterator[Result]:
        self._say(f"{name}: closed loop of {USERS} users")
        outcomes = await closed_loop(self._target.scorer, name, calls, self._seconds)
        closed = await self._result(name, "closed", calls, outcomes, run_id)
        yield closed
        assert closed.figures is not None, "it was not skipped"
        rate_s = max(1.0, _SHARE * closed.figures["rate_s"])
        self._say(f"{name}: open loop of {rate_s:.0f} calls a second")
        async with sending(self._target.scorer, calls) as send:
            outcomes = await constant_rate(send, len(calls.bodies), rate_s, self._seconds)
        yield await self._result(name, "open", calls, outcomes, run_id, rate_s)

    async def _result(
        self, name: str, mode: str, calls: Calls, outcomes: Outcomes, run_id: str, rate_s: float | None = None
    ) -> Result:
        models = await self._target.models(run_id)
        reference = Reference(self._target.images, models)
        wrong = await asyncio.to_thread(reference.wrong, calls, outcomes.answers)
        note = _swaps(outcomes) if "swap" in name else ""
        return Result(name, mode, note, rate_s, figures(outcomes, calls.images, wrong), outcomes)

    async def _overload(self, name: str) -> Result:
        """Does a server that is asked for four times what it can do say so at once, and what of those it takes?

        h2load offers most of it; some of the calls are ours, at a constant rate, a sample of what every caller sees.
        """
        tool = await foreign.program()
        calls = (await self.plan())["unary 1"]
        capacity = await foreign.by_count(tool, self._target.scorer, calls, _CAPACITY_CALLS)
        offered = _OVERLOAD * capacity.rate_s
        self._say(f"{name}: {offered:.0f} calls a second where {capacity.rate_s:.0f} can be answered")
        sampled = _SAMPLED_SHARE * capacity.rate_s
        async with sending(self._target.scorer, calls) as send:
            background, outcomes = await asyncio.gather(
                foreign.by_rate(tool, self._target.scorer, calls, offered - sampled, self._seconds),
                constant_rate(send, len(calls.bodies), sampled, self._seconds),
            )
        result = await self._result(name, "open", calls, outcomes, self._target.run.run_id, sampled)
        note = (
            f"capacity {capacity.rate_s:.0f}/s, offered {offered:.0f}/s, of which {sampled:.0f}/s are shown; "
            f"h2load had {background.rate_s:.0f}/s answered, refusals included"
        )
        return Result(name, "open", note, sampled, result.figures, outcomes)

    async def _cross_check(self, name: str) -> Result:
        tool = await foreign.program()
        calls = (await self.plan())["unary 1"]
        self._say(f"{name}: {_CAPACITY_CALLS} calls")
        if self._target.stack is None:
            seen = await foreign.by_count(tool, self._target.scorer, calls, _CAPACITY_CALLS)
            return Result(name, "closed", f"{seen.rate_s:.0f} calls/s; a foreign server's counters are not compared")
        async with counted_by_the_server(self._target.stack) as (address, counts):
            seen = await foreign.by_count(tool, address, calls, _CAPACITY_CALLS)
        same = counts == {"OK": seen.calls}
        note = f"{seen.rate_s:.0f} calls/s, {seen.calls} answers seen; the server counted {counts}"
        wrong = {} if same else {"the server counted otherwise": abs(seen.calls - counts.get("OK", 0)) or 1}
        statuses = dict(counts)
        seconds = seen.calls / seen.rate_s
        shown = {"rate_s": seen.rate_s, "calls": seen.calls, "seconds": seconds, "statuses": statuses, "wrong": wrong}
        return Result(name, "closed", note, None, shown)

    async def _or_skipped(self, name: str, work: Callable[[str], Awaitable[Result]]) -> Result:
        try:
            return await work(name)
        except NotFound as error:
            return Result(name, "skipped", error.message)


def _swaps(outcomes: Outcomes) -> str:
    """How many models answered."""
    models = {ScoreResponse.FromString(data).model_sha256 for _, data in outcomes.answers}
    return f"{len(models)} models answered" if len(models) > 1 else "no new model came meanwhile: nothing was swapped"
