"""Results as a page and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import matplotlib as mpl
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from labelloop_cli.reporting.charts import COLOURS, STYLE, svg
from matplotlib.figure import Figure

from tests.load.calls import Outcomes
from tests.load.figures import PERCENTILES, latency_by_share, throughput
from tests.load.scenarios import Result

_MODES = {"closed": COLOURS[0], "open": COLOURS[1]}


def write(results: Sequence[Result], folder: Path, where: str) -> None:
    """``results.json`` and ``report.html`` in ``folder``; ``where`` says what was under load."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [_shown(result) for result in results]
    (folder / "results.json").write_text(json.dumps(shown, indent=2) + "\n")
    names = list(dict.fromkeys(result.name for result in results))
    charts = {name: _chart([result for result in results if result.name == name]) for name in names}
    loader = ChoiceLoader(
        [FileSystemLoader(Path(__file__).with_name("templates")), PackageLoader("labelloop_cli.reporting")]
    )
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template("load.html.j2").render(
        results=results, charts=charts, machine=machine(), where=where, percentiles=PERCENTILES
    )
    (folder / "report.html").write_text(page)


def _shown(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "mode": result.mode,
        "note": result.note,
        "asked_rate_s": result.asked_rate_s,
        **(result.figures or {}),
    }


def machine() -> str:
    """This machine and what it runs, in a line."""
    return (
        f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, grpcio {grpc.__version__}, "
        f"onnxruntime {version('onnxruntime')}, locust {version('locust')}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _chart(results: Sequence[Result]) -> str:
    """Latency by the share of calls that took at least as long, and throughput over time; empty where nothing was
    measured."""
    measured = [(result.mode, result.outcomes) for result in results if result.outcomes and result.outcomes.sent_s]
    if not measured:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        slow, over_time = figure.subplots(1, 2)
        for mode, outcomes in measured:
            _draw(slow, over_time, mode, outcomes)
        slow.set(xscale="log", yscale="log", xlabel="share of calls that take at least as long", ylabel="latency, ms")
        slow.invert_xaxis()
        slow.xaxis.set_major_formatter(lambda share, _: f"1 in {1 / share:,.0f}" if share < 1 else "all")
        slow.yaxis.set_major_formatter(lambda times, _: f"{times:,g}")
        over_time.set(xlabel="seconds", ylabel="answers a second", ylim=(0, None))
        slow.legend(loc="upper left")
        return svg(figure)


def _draw(slow: Any, over_time: Any, mode: str, outcomes: Outcomes) -> None:
    shares, times = latency_by_share(outcomes)
    slow.plot(shares, times, color=_MODES[mode], label=f"{mode} loop")
    seconds, rates = throughput(outcomes)
    over_time.plot(seconds, rates, color=_MODES[mode])
