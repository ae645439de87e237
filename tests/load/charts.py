"""A scenario in two pictures: how long its calls took, and how many were answered when. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from labelloop_cli.reporting.charts import COLOURS, PALE, STYLE, svg
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.load.calls import Outcomes
from tests.load.figures import latency_by_share, throughput
from tests.load.results import Result

_MODES = {"closed": COLOURS[0], "open": COLOURS[1]}
_MARKS = {1: "all", 0.5: "half", 0.1: "1 in 10", 0.01: "1 in 100", 0.001: "1 in 1,000", 0.0001: "1 in 10,000"}


def latency_and_throughput(results: Sequence[Result]) -> str:
    """Latency by the share of calls that took at least as long, and throughput over time; empty where nothing was
    measured."""
    measured = [(result.mode, result.outcomes) for result in results if result.outcomes and result.outcomes.sent_s]
    if not measured:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        slow, over_time = figure.subplots(1, 2)
        for mode, outcomes in measured:
            _draw_latency(slow, mode, outcomes)
            _draw_throughput(over_time, mode, outcomes)
        slow.set(xscale="log", yscale="log", xlabel="share of calls that take at least as long", ylabel="latency, ms")
        slow.invert_xaxis()
        least = min(slow.get_xlim())
        slow.set_xticks([share for share in _MARKS if share >= least], minor=False)
        slow.set_xticklabels([mark for share, mark in _MARKS.items() if share >= least])
        slow.minorticks_off()
        slow.yaxis.set_major_formatter(lambda times, _: f"{times:,g}")
        over_time.set(xlabel="time, s", ylabel="calls a second", ylim=(0, None))
        over_time.yaxis.set_major_formatter(lambda rate, _: f"{rate:,.0f}")
        over_time.legend(loc="best")
        return svg(figure)


def _draw_latency(axes: Axes, mode: str, outcomes: Outcomes) -> None:
    shares, times = latency_by_share(outcomes)
    axes.plot(shares, times, color=_MODES[mode], label=f"{mode} loop")


def _draw_throughput(axes: Axes, mode: str, outcomes: Outcomes) -> None:
    seconds, rates = throughput(outcomes)
    axes.plot(seconds, rates, color=_MODES[mode], label=f"{mode} loop, answered OK")
    if set(outcomes.status) - {"OK"}:
        seconds, rates = throughput(outcomes, ok=False)
        axes.plot(seconds, rates, color=PALE, linestyle="--", label=f"{mode} loop, refused")
