"""Another load generator on the same server: do it and the server count the same calls?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from labelloop_cli.load.calls import Calls

from tests.load import foreign
from tests.load.counters import counted_scorer
from tests.load.results import Result
from tests.load.target import Target

_CALLS = 5_000


async def cross_check(target: Target, name: str, calls: Calls, say: Callable[[str], None]) -> Result:
    """The server's counters must show as many answers, all OK: h2load does not read gRPC's statuses. NotFound without
    h2load."""
    tool = await foreign.program()
    say(f"{name}: {_CALLS:,} calls")
    async with counted_scorer(target) as scorer:
        seen = await foreign.by_count(tool, scorer.address, calls, _CALLS)
    said = f"h2load: {seen.calls:,} answers, {seen.rate_s:,.0f} a second. "
    figures = {"rate_s": seen.rate_s, "calls": seen.calls, "seconds": seen.calls / seen.rate_s}
    if scorer.calls is None:
        note = said + "The counters of a server that somebody else runs were not compared."
        return Result(name, "closed", note, None, {**figures, "statuses": {}, "wrong": {}})
    astray = (scorer.calls - Counter({"OK": seen.calls})).total() + max(0, seen.calls - scorer.calls["OK"])
    wrong = {"the server counted otherwise": astray} if astray else {}
    counted = ", ".join(f"{status} {count:,}" for status, count in scorer.calls.items()) or "none"
    note = f"{said}The server counted: {counted}."
    return Result(name, "closed", note, None, {**figures, "statuses": dict(scorer.calls), "wrong": wrong})
