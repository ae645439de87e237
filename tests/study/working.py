"""Carry out runs of the study, several at a time; finished runs are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from labelloop.runtime.cores import usable_cores
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.study.plan import ROUNDS, Cell
from tests.study.results import Row

TOGETHER = usable_cores() + 1  # one more than can fit at once: it ranks meanwhile
Tell = Callable[[int], None]
CarryOut = Callable[[Cell, Tell], Awaitable[list[Row]]]


def read_rows(results: Path) -> list[Row]:
    return list(json.loads(results.read_text())) if results.exists() else []


def left_of(planned: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Cells without a row."""
    done = {(row["pool"], row["features"], row["strategy"], row["seed"]) for row in rows}
    return [cell for cell in planned if (cell.pool, cell.features, cell.strategy, cell.seed) not in done]


async def work(carry_out: CarryOut, left: Sequence[Cell], rows: list[Row], results: Path, console: Console) -> None:
    """Add to ``rows``, and write them to ``results`` after every run. ``carry_out`` reports each round."""
    slots = asyncio.Semaphore(TOGETHER)
    with _progress(console) as progress:
        bar = progress.add_task("rounds", total=len(left) * ROUNDS, runs=f"0/{len(left)}", note="")
        ended = 0

        async def gated(cell: Cell) -> None:
            nonlocal ended
            told = 0

            def tell(round_: int) -> None:
                nonlocal told
                progress.update(bar, advance=max(0, round_ - told))
                told = max(told, round_)

            async with slots:
                found = await carry_out(cell, tell)
            tell(ROUNDS)
            rows.extend(found)
            _write(rows, results)
            ended += 1
            note = f"{cell.run_id}: {100 * found[-1]['accuracy']:.2f} %"
            progress.update(bar, runs=f"{ended}/{len(left)}", note=note)
            if not console.is_terminal:
                console.print(f"{ended}/{len(left)} {note}")

        async with asyncio.TaskGroup() as tasks:
            for cell in left:
                tasks.create_task(gated(cell))


def _write(rows: Sequence[Row], results: Path) -> None:
    """Write atomically: an interrupted study keeps all runs that ended."""
    draft = results.with_suffix(".draft")
    draft.write_text(json.dumps(rows, indent=1) + "\n")
    draft.replace(results)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.fields[runs]} runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
