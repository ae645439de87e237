"""Other projects' load generators on one server: h2load and Triton's perf_analyzer, by the Open Inference Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from labelloop.errors import NotFound, WrongState
from labelloop_cli.load.calls import Calls

from tests.bench.h2load_program import Program
from tests.clients import perf_analyzer
from tests.load import foreign
from tests.load.counters import counted_scorer
from tests.load.results import Result
from tests.load.target import Target

_CALLS, _IN_FLIGHT = 5_000, 16


async def beside_others(target: Target, name: str, run_id: str, calls: Calls, say: Callable[[str], None]) -> Result:
    """Measure h2load and perf_analyzer on one server; it must count no call but with OK. NotFound without either."""
    tools = [tool for tool in (await _h2load(), await _perf_analyzer()) if isinstance(tool, list | Program)]
    if not tools:
        raise NotFound("NO_LOAD_GENERATOR", "there is neither h2load nor perf_analyzer")
    told, rates = [], []
    async with counted_scorer(target, "ModelInfer") as scorer:
        for tool in tools:
            say(f"{name}: {_CALLS:,} calls")
            if isinstance(tool, Program):
                seen = await foreign.by_count(tool, scorer.address, calls, _CALLS)
                told.append(f"h2load: {seen.rate_s:,.0f} a second")
                rates.append(seen.rate_s)
                continue
            options = ("-i", "grpc", "--request-count", str(_CALLS), "--concurrency-range", str(_IN_FLIGHT))
            found = await perf_analyzer.measured(tool, scorer.address, run_id, *options)
            told.append(
                f"perf_analyzer: {found.rate_s:,.0f} a second, p50 {found.p50_ms:.1f}, p99 {found.p99_ms:.1f} ms"
            )
            rates.append(found.rate_s)
    figures = {"rate_s": max(rates), "calls": _CALLS, "seconds": _CALLS / max(rates), "statuses": {}, "wrong": {}}
    if scorer.calls is not None:
        failed = scorer.calls.total() - scorer.calls["OK"]
        few = max(0, _CALLS * len(tools) - scorer.calls["OK"])
        wrong = {"the server counted otherwise": failed + few} if failed + few else {}
        figures |= {"statuses": dict(scorer.calls), "wrong": wrong}
    missing = "" if len(tools) == 2 else " The other of h2load and perf_analyzer cannot be had here."
    return Result(name, "closed", "; ".join(told) + "." + missing, None, figures)


async def _h2load() -> Program | None:
    try:
        return await foreign.program()
    except NotFound:
        return None


async def _perf_analyzer() -> list[str] | None:
    try:
        return await asyncio.to_thread(perf_analyzer.find_or_get)
    except WrongState:
        return None
