"""``python -m tests.load``: put the scorer under load and check every answer."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.observability.logs import set_up_logs
from rich.console import Console

from tests.load.closed_loop import web_page
from tests.load.report import write
from tests.load.results import Result, checked
from tests.load.scenarios import SHARE, Load
from tests.load.target import Target, foreign_target, own_target, scorer_alone

console = Console()


def main(
    host: Annotated[str, typer.Option(help="HOST:PORT of a scorer; none: services are started for the test.")] = "",
    trainer: Annotated[str, typer.Option(help="HOST:PORT of its trainer, asked for models to check against.")] = "",
    run: Annotated[str, typer.Option(help="A run there that has a model; it is only read.")] = "",
    model: Annotated[str, typer.Option(help="SHA-256 of a model, where no run is named.")] = "",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each loop lasts.")] = 8,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Rate of the open loops, as a share of what the closed loop reached.")
    ] = SHARE,
    only: Annotated[str, typer.Option(help="Scenarios whose names hold this.")] = "",
    ui: Annotated[
        bool, typer.Option(help="Open Locust's page instead, until Ctrl-C; then answers are checked.")
    ] = False,
    ui_port: Annotated[int, typer.Option(min=1, max=65535, help="Where on 127.0.0.1 that page is.")] = 8089,
    out: Annotated[Path, typer.Option(help="Where report.html and results.json go.")] = Path("out/load"),
) -> None:
    """Put a scorer under load: 1 and 64 images per call, a stream, the Open Inference Protocol, rankings and new models
    during a run, four times as many calls as it can answer, and other load generators as a cross-check.

    The exit code is 1 if an answer was wrong.
    """
    set_up_logs("load", "text", "error")
    try:
        target = _target(host, trainer, run, model)
        work = _page(target, ui_port) if ui else _load(target, seconds, share, only, out)
        raise typer.Exit(asyncio.run(work))
    except LabelloopError as error:
        print(f"load: {error.message}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, InvalidInput) else 1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _target(host: str, trainer: str, run: str, model: str) -> AbstractAsyncContextManager[Target]:
    match bool(host), bool(trainer), bool(run), bool(model):
        case False, False, False, False:
            return own_target()
        case True, True, True, False:
            return foreign_target(host, trainer, run)
        case (True, False, True, False) | (True, False, False, True):
            return scorer_alone(host, model, run)
    message = "for a scorer that runs already, name HOST and what to ask it for: RUN, RUN and TRAINER, or MODEL"
    raise InvalidInput("TARGET_INCOMPLETE", message)


async def _load(target: AbstractAsyncContextManager[Target], seconds: float, share: float, only: str, out: Path) -> int:
    console.print("getting ready")
    results: list[Result] = []
    async with target as ready:
        async for result in Load(ready, seconds, console.print, share).results(only):
            _show(result)
            results.append(result)
    if not results:
        raise InvalidInput("NO_SCENARIO", f"no scenario's name holds {only!r}")
    write(results, out, ready.where, checked_by_models=ready.runs is not None)
    console.print(f"report: {out / 'report.html'}")
    return 1 if any(result.wrong for result in results) else 0


def _show(result: Result) -> None:
    if result.figures is None:
        console.print(f"{result.name}: {result.mode}: {result.note}", markup=False)
        return
    rest = " ".join(f"{status} {count}" for status, count in result.figures["statuses"].items())
    p50, p99 = result.figures.get("p50_ms"), result.figures.get("p99_ms")
    times = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, " if p50 is not None and p99 is not None else ""
    wrong = f", WRONG: {result.figures['wrong']}" if result.wrong else ""
    console.print(f"  {result.figures['rate_s']:,.0f} answers a second, {times}{rest}{wrong}", markup=False)
    if result.note:
        console.print(f"  {result.note}", markup=False)


async def _page(target: AbstractAsyncContextManager[Target], port: int) -> int:
    async with target as ready:
        console.print(f"Locust: http://127.0.0.1:{port} (Ctrl-C ends it)")
        plan, wrong = Load(ready, 0, console.print).plan(), 0
        for name, outcomes in (await web_page(ready.scorer, plan, port)).items():
            run_id = ready.runs.run.run_id if ready.runs else ""
            result = Result(name, "closed", figures=await checked(ready, plan[name], outcomes, run_id))
            console.print(f"{name}:")
            _show(result)
            wrong += result.wrong
    return 1 if wrong else 0


if __name__ == "__main__":
    typer.run(main)
