"""Charts of a load scenario: latency, and throughput over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop_cli.load.calls import Outcomes
from labelloop_cli.load.figures import latency_by_share, throughput
from labelloop_cli.reporting.charts import COLOURS, PALE
from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.marks import Line, Mark
from labelloop_cli.reporting.svg.panels import Panel
from labelloop_cli.reporting.svg.picture import picture

from tests.load.results import Result

_MODES = {"closed": COLOURS[0], "open": COLOURS[1]}
_SHARES = {1: "all", 0.5: "half", 0.1: "1 in 10", 0.01: "1 in 100", 0.001: "1 in 1,000", 0.0001: "1 in 10,000"}
_WIDTH = 860.0


def latency_and_throughput(results: Sequence[Result]) -> str:
    """Draw latency by the share of calls that took at least as long, and throughput over time. Empty without
    measurements."""
    measured = [(result.mode, result.outcomes) for result in results if result.outcomes and result.outcomes.sent_s]
    if not measured:
        return ""
    share = Axis("share of calls that take at least as long", log=True, reverse=True, texts=_SHARES)
    slow = Panel([_latency(*each) for each in measured], share, Axis("latency, ms", log=True))
    rates = [line for each in measured for line in _throughput(*each)]
    over_time = Panel(rates, Axis("time, s"), Axis("calls a second", include=(0,)))
    return picture(
        "Latency by share of calls, and calls a second over time", [slow, over_time], width=_WIDTH, beside=True
    )


def _latency(mode: str, outcomes: Outcomes) -> Mark:
    shares, times = latency_by_share(outcomes)
    return Line(shares.tolist(), times.tolist(), _MODES[mode])


def _throughput(mode: str, outcomes: Outcomes) -> list[Mark]:
    seconds, rates = throughput(outcomes)
    lines: list[Mark] = [Line(seconds.tolist(), rates.tolist(), _MODES[mode], f"{mode} loop, answered OK")]
    if set(outcomes.status) - {"OK"}:
        seconds, rates = throughput(outcomes, ok=False)
        lines.append(Line(seconds.tolist(), rates.tolist(), PALE, f"{mode} loop, refused", dash="5 4"))
    return lines
