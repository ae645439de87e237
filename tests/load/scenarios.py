"""The scenarios of the load test, run one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from labelloop.errors import NotFound
from labelloop.scorer.v1.scorer_pb2 import ScoreResponse
from labelloop_cli.load.calls import Calls, Outcomes, rank_calls, rank_request, score_calls
from labelloop_cli.load.open_loop import constant_rate
from labelloop_cli.load.sending import sending

from tests.load.closed_loop import USERS, closed_loop
from tests.load.cross_check import cross_check
from tests.load.inference_calls import infer_calls
from tests.load.other_generators import beside_others
from tests.load.overload import overload
from tests.load.results import Result, checked, watching
from tests.load.runs import Runs
from tests.load.target import Target

SHARE = 0.5  # of the closed loop's rate: an open loop above that measures the client's queue
_NO_TRAINER = "it needs a run: name TRAINER and RUN"

Say = Callable[[str], None]


class Load:
    """Runs the scenarios against a target.

    Attributes:
        target: What to put under load.
        seconds: How long each loop lasts.
        say: Prints progress.
        share: The rate of open loops, as a share of the closed loop's.
    """

    def __init__(self, target: Target, seconds: float, say: Say, share: float = SHARE) -> None:
        self._target, self._seconds, self._say, self._share = target, seconds, say, share

    def plan(self) -> dict[str, Calls]:
        """Return the requests of every scenario that needs no run to advance."""
        images, model = self._target.images, self._target.model
        infer = {"infer 1": infer_calls(images, 1, self._run_id, model)} if self._run_id else {}
        return infer | {
            "unary 1": score_calls(images, 1, model=model),
            "unary 64": score_calls(images, 64, model=model),
            "stream 64": score_calls(images, 64, model=model, stream=True),
        }

    async def results(self, only: str) -> AsyncIterator[Result]:
        """Yield the results of all scenarios whose names contain ``only``."""
        for name, calls in self.plan().items():
            if only in name:
                async for result in self._both_loops(name, calls, self._run_id):
                    yield result
        for name, work in (("RankPool during a run", self._rank), ("model swap under load", self._swap)):
            if only not in name:
                continue
            if self._target.runs is None:
                yield Result(name, "skipped", _NO_TRAINER)
                continue
            async for result in work(name, self._target.runs):
                yield result
        checks = [("4x overload", self._overload), ("cross-check by h2load", self._cross_check)]
        if self._run_id:
            checks.append(("infer by h2load and perf_analyzer", self._beside_others))
        for name, check in checks:
            if only in name:
                yield await _or_skipped(name, check)

    @property
    def _run_id(self) -> str:
        return self._target.runs.run.run_id if self._target.runs else ""

    async def _rank(self, name: str, runs: Runs) -> AsyncIterator[Result]:
        request = rank_request(runs.run.pool.pool_sha256, self._target.model)
        unloaded = await runs.clients.scorer.RankPool(request)
        calls = rank_calls(request, unloaded.sample_ids)
        async with runs.live_run():
            async for result in self._both_loops(name, calls, self._run_id):
                yield result

    async def _swap(self, name: str, runs: Runs) -> AsyncIterator[Result]:
        async with runs.live_run() as live:
            calls = score_calls(self._target.images, 1, run_id=live)
            async for result in self._both_loops(name, calls, live, note=_swaps):
                yield result

    async def _both_loops(
        self, name: str, calls: Calls, run_id: str, note: Callable[[Outcomes], str] = lambda _: ""
    ) -> AsyncIterator[Result]:
        self._say(f"{name}: closed loop of {USERS} users")
        with watching(self._target) as share:
            outcomes = await closed_loop(self._target.scorer, name, calls, self._seconds)
        figures = await checked(self._target, calls, outcomes, run_id)
        yield Result(name, "closed", note(outcomes), None, figures, outcomes, share)
        rate_s = max(1.0, self._share * figures["rate_s"])
        self._say(f"{name}: open loop of {rate_s:,.0f} calls a second")
        with watching(self._target) as share:
            async with sending(self._target.scorer, calls) as send:
                outcomes = await constant_rate(send, len(calls.bodies), rate_s, self._seconds)
        figures = await checked(self._target, calls, outcomes, run_id)
        yield Result(name, "open", note(outcomes), rate_s, figures, outcomes, share)

    async def _overload(self, name: str) -> Result:
        return await overload(self._target, name, self.plan()["unary 1"], self._seconds, self._say)

    async def _cross_check(self, name: str) -> Result:
        return await cross_check(self._target, name, self.plan()["unary 1"], self._say)

    async def _beside_others(self, name: str) -> Result:
        return await beside_others(self._target, name, self._run_id, self.plan()["infer 1"], self._say)


async def _or_skipped(name: str, work: Callable[[str], Awaitable[Result]]) -> Result:
    try:
        return await work(name)
    except NotFound as error:
        return Result(name, "skipped", error.message)


def _swaps(outcomes: Outcomes) -> str:
    """Return a note of how many models answered."""
    models = {ScoreResponse.FromString(data).model_sha256 for _, data in outcomes.answers}
    return f"{len(models)} models answered" if len(models) > 1 else "no new model came meanwhile: nothing was swapped"
