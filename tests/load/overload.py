"""Four times as many calls as a server can answer: how it refuses them, and how it answers those it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext

from labelloop_cli.load.calls import Calls, Outcomes
from labelloop_cli.load.open_loop import constant_rate
from labelloop_cli.load.sending import sending

from tests.bench.h2load_program import Program
from tests.load import foreign
from tests.load.counters import Counted, counted_scorer
from tests.load.machine import Share
from tests.load.results import Result, checked
from tests.load.target import Target

_OVERLOAD, _SAMPLED_SHARE = 4, 0.1


async def overload(target: Target, name: str, calls: Calls, seconds: float, say: Callable[[str], None]) -> Result:
    """Measure answers under overload. h2load offers most calls, as one Python client cannot; ours, at a constant rate,
    are a sample of what every caller sees. NotFound without h2load."""
    tool = await foreign.program()
    say(f"{name}: closed loop of h2load, to find the capacity")
    capacity_s = (await foreign.for_seconds(tool, target.scorer, calls, seconds)).rate_s
    say(f"{name}: {_OVERLOAD * capacity_s:,.0f} calls a second where {capacity_s:,.0f} can be answered")
    async with counted_scorer(target) as scorer:
        outcomes, took_s, share = await _flood(tool, scorer, calls, capacity_s, seconds)
    figures = await checked(target, calls, outcomes, target.runs.run.run_id if target.runs else "")
    goodput_s = scorer.calls["OK"] / took_s if scorer.calls is not None else None
    figures |= {"capacity_s": capacity_s, "offered_s": _OVERLOAD * capacity_s, "goodput_s": goodput_s}
    note = _note(outcomes, capacity_s, goodput_s)
    return Result(name, "open", note, _SAMPLED_SHARE * capacity_s, figures, outcomes, share)


async def _flood(
    tool: Program, scorer: Counted, calls: Calls, capacity_s: float, seconds: float
) -> tuple[Outcomes, float, Share | None]:
    """Outcomes of the sample, seconds until all was answered, and who used the server's cores."""
    ours_s = _SAMPLED_SHARE * capacity_s
    theirs_s = _OVERLOAD * capacity_s - ours_s
    began = time.monotonic()
    with scorer.watched.share() if scorer.watched else nullcontext() as share:
        async with sending(scorer.address, calls) as send:
            _, outcomes = await asyncio.gather(
                foreign.by_rate(tool, scorer.address, calls, theirs_s, seconds),
                constant_rate(send, len(calls.bodies), ours_s, seconds),
            )
    return outcomes, time.monotonic() - began, share


def _note(outcomes: Outcomes, capacity_s: float, goodput_s: float | None) -> str:
    statuses = sorted(set(outcomes.status), key=outcomes.status.count, reverse=True)
    shares = ", ".join(f"{outcomes.status.count(each) / len(outcomes.status):.1%} {each}" for each in statuses)
    goodput = (
        f"Goodput: {goodput_s:,.0f}/s, {goodput_s / capacity_s:.0%} of the capacity, by the server's own counters. "
        if goodput_s is not None
        else ""
    )
    return (
        f"Capacity, by a closed loop: {capacity_s:,.0f} calls/s. Offered: {_OVERLOAD * capacity_s:,.0f}/s, of which "
        f"{_SAMPLED_SHARE * capacity_s:,.0f}/s are shown here; the rest comes from h2load. {goodput}"
        f"Of the calls shown: {shares}."
    )
