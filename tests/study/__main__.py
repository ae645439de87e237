"""``python -m tests.study``: run strategies x features x seeds through the services; finished runs are skipped."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from labelloop.errors import LabelloopError, WrongState
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import running
from rich.console import Console

from tests.bench.peers.strategy_rows import Loop
from tests.study.page import page
from tests.study.plan import Cell, cells, chosen, spec
from tests.study.results import Row, rows_of
from tests.study.telling import tell
from tests.study.texts import stages, study_texts
from tests.study.working import TOGETHER, Tell, left_of, read_rows, work

console = Console()


async def study(planned: list[Cell], output: Path) -> None:
    """Carry out the runs; write results.json after each, and the page at the end."""
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.json"
    rows = read_rows(results)
    left = left_of(planned, rows)
    console.print(f"{len(left)} of {len(planned)} runs to do; {TOGETHER} at a time")
    if left:
        async with running(output / "store") as up, connect(up.endpoints) as clients:
            await up.while_up(work(lambda cell, told: _carry_out(clients, cell, told), left, rows, results, console))
    (output / "report.html").write_text(page(rows, whole=not left_of(cells(quick=False), rows)))
    tell(rows, console)
    console.print(f"curves: {output / 'report.html'}; figures: {results}")


async def _carry_out(clients: Clients, cell: Cell, told: Tell) -> list[Row]:
    await clients.trainer.StartRun(pb.StartRunRequest(run_id=cell.run_id, spec=spec(cell)), wait_for_ready=True)
    async for status in clients.watch(cell.run_id):
        if status.phase in (pb.Phase.PHASE_FAILED, pb.Phase.PHASE_CANCELLED):
            raise WrongState("RUN_FAILED", f"run {cell.run_id} did not finish: {status.message}")
        if status.pool.stand_in:
            raise WrongState("STAND_IN", "the study needs MNIST itself: set LABELLOOP_DATA_DIR, or connect to a mirror")
        told(status.round)
    whole = await clients.trainer.GetRun(pb.GetRunRequest(run_id=cell.run_id))
    return rows_of(cell, [(result.labels, result.evaluation.value) for result in whole.rounds])


async def _study_all(planned: list[Cell], of_texts: list[list[Loop]], output: Path) -> None:
    if planned:
        await study(planned, output)
    await study_texts(of_texts, output, console)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="default strategy and random, 3 seeds, the pool of 4,000")
    parser.add_argument("--only", default="", help="words that the run's name must hold, as in 'mnist-4000 patches'")
    parser.add_argument("--output", type=Path, default=Path("out/study"))
    options = parser.parse_args()
    planned = list(chosen(cells(quick=options.quick), options.only))
    of_texts = stages(quick=options.quick, only=options.only)
    if not planned and not of_texts:
        sys.exit(f"no run of the study is named like {options.only!r}")
    for number in (signal.SIGINT, signal.SIGTERM):  # background jobs ignore SIGINT; SIGTERM would orphan services
        signal.signal(number, signal.default_int_handler)
    try:
        asyncio.run(_study_all(planned, of_texts, options.output))
    except* LabelloopError as group:
        sys.exit(str(group.exceptions[0]))
    except* KeyboardInterrupt:
        sys.exit("stopped; `make study` goes on from here")


if __name__ == "__main__":
    main()
