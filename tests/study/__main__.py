"""``python -m tests.study``: strategies x features x seeds through the services; what is done is not done again."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.wire.errors import LabelloopError, WrongState
from labelloop_cli.clients import Clients, connect
from labelloop_cli.stack import running
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.study.page import page
from tests.study.plan import Cell, cells, chosen, spec
from tests.study.results import Row, by_group, rows_of, table

_TOGETHER = len(os.sched_getaffinity(0)) + 1  # one more than fit at once: while they fit it ranks
console = Console()


async def study(planned: list[Cell], output: Path) -> None:
    """Writes results.json after every run and the page at the end."""
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.json"
    rows: list[Row] = json.loads(results.read_text()) if results.exists() else []
    done = {(row["pool"], row["features"], row["strategy"], row["seed"]) for row in rows}
    left = [cell for cell in planned if (cell.pool, cell.features, cell.strategy, cell.seed) not in done]
    console.print(f"{len(left)} of {len(planned)} runs to do; {_TOGETHER} at a time")
    if left:
        async with running(output / "store") as up, connect(up.endpoints) as clients:
            await up.while_up(_work(clients, left, rows, results))
    found = {(row["pool"], row["features"], row["strategy"], row["seed"]) for row in rows}
    whole = all((cell.pool, cell.features, cell.strategy, cell.seed) in found for cell in cells(quick=False))
    (output / "report.html").write_text(page(rows, whole=whole))
    _show(rows)
    console.print(f"curves: {output / 'report.html'}; figures: {results}")


async def _work(clients: Clients, left: list[Cell], rows: list[Row], results: Path) -> None:
    gate = asyncio.Semaphore(_TOGETHER)
    with _progress() as progress:
        bar = progress.add_task("runs", total=len(left), note="")

        async def gated(cell: Cell) -> None:
            async with gate:
                found = await _carry_out(clients, cell)
            rows.extend(found)
            draft = results.with_suffix(".draft")
            draft.write_text(json.dumps(rows, indent=1) + "\n")
            draft.replace(results)  # whoever stops the study finds all runs that ended
            note = f"{cell.run_id} {found[-1]['accuracy']:.4f}"
            progress.update(bar, advance=1, note=note)
            if not console.is_terminal:
                console.print(note)

        async with asyncio.TaskGroup() as tasks:
            for cell in left:
                tasks.create_task(gated(cell))


async def _carry_out(clients: Clients, cell: Cell) -> list[Row]:
    await clients.trainer.StartRun(pb.StartRunRequest(run_id=cell.run_id, spec=spec(cell)), wait_for_ready=True)
    async for status in clients.watch(cell.run_id):
        if status.phase in (pb.Phase.PHASE_FAILED, pb.Phase.PHASE_CANCELLED):
            raise WrongState("RUN_FAILED", f"run {cell.run_id} did not finish: {status.message}")
        if status.pool.stand_in:
            raise WrongState("STAND_IN", "the study needs MNIST itself: set LABELLOOP_DATA_DIR, or connect to a mirror")
    whole = await clients.trainer.GetRun(pb.GetRunRequest(run_id=cell.run_id))
    return rows_of(cell, [(result.labels, result.evaluation.value) for result in whole.rounds])


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _show(rows: list[Row]) -> None:
    for (pool, features), curves in sorted(by_group(rows).items()):
        console.print(f"[bold]{pool}, {features}")
        for line in table(curves):
            at = "  ".join(f"{labels}: {mean:.4f}" for labels, (mean, _) in line["at"].items())
            console.print(f"  {line['strategy']:18} {line['seeds']:2} seeds  {at}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="default strategy and random, 3 seeds, the pool of 4,000")
    parser.add_argument("--only", default="", help="words that the run's name must hold, as in 'mnist-4000 patches'")
    parser.add_argument("--output", type=Path, default=Path("out/study"))
    options = parser.parse_args()
    planned = list(chosen(cells(quick=options.quick), options.only))
    if not planned:
        sys.exit(f"no run of the study is named like {options.only!r}")
    try:
        asyncio.run(study(planned, options.output))
    except* LabelloopError as group:
        sys.exit(str(group.exceptions[0]))
    except* KeyboardInterrupt:
        sys.exit("stopped; `make study` goes on from here")


if __name__ == "__main__":
    main()
