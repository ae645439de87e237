"""``labelloop label backlog``, ``dead``, ``replay``: what waits for people, how they did, what could not be taken."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from labelloop.oracle.v1.oracle_pb2 import (
    Backlog,
    GetBacklogRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from rich.table import Table

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.console import console


def backlog(run_id: Annotated[str, typer.Argument(help="The run; all where none is given.")] = "") -> None:
    """What waits for people, and how they did."""
    asyncio.run(_backlog(run_id))


async def _backlog(run_id: str) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.GetBacklog(GetBacklogRequest(run_id=run_id))
    table = Table("run", "tool", "open", "held", "disputed", "labelled", "without label", "waits since")
    for run in response.runs:
        since = run.waits_since.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if run.HasField("waits_since") else "–"
        counts = (run.open, run.leased, run.disputed, run.labelled, run.skipped)
        table.add_row(run.run_id, run.tool or "–", *map(str, counts), since)
    console.print(table if response.runs else "no run asks people for labels")
    for run in response.runs:
        if run.problem:
            told = f"{run.tool} does not take the requests of {run.run_id}: {run.problem}"
            console.print(told, style="yellow", highlight=False, soft_wrap=True)
        if run.annotators:
            console.print(_annotators(run))
    if response.dead_letters:
        told = f"{response.dead_letters} results could not be taken: see `labelloop label dead`"
        console.print(told, style="yellow")


def _annotators(run: Backlog) -> Table:
    table = Table(
        "annotator", "answers", "skips", "as the label", "gold right", "95 % interval", "seconds", title=run.run_id
    )
    for each in run.annotators:
        interval = f"{each.gold_low:.2f} to {each.gold_high:.2f}" if each.gold else "–"
        agreed, gold = f"{each.agreed}/{each.compared}", f"{each.gold_right}/{each.gold}"
        seconds = f"{each.time_spent_s:.1f}" if each.time_spent_s else "–"
        table.add_row(each.annotator or "–", str(each.answers), str(each.skips), agreed, gold, interval, seconds)
    return table


def dead() -> None:
    """Show results from tools that could not be taken."""
    asyncio.run(_dead())


async def _dead() -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.ListDeadLetters(ListDeadLettersRequest())
    for letter in response.letters:
        console.print(f"{letter.id} {letter.source} {letter.reason}: {letter.message}")
        console.print(f"  {letter.data[:200].decode(errors='replace')}", highlight=False)
    console.print(f"{len(response.letters)} dead letters; `labelloop label replay` tries them again")


def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Their ids; all where none is given.")] = None,
) -> None:
    """Try dead letters again."""
    asyncio.run(_replay(letter_ids or []))


async def _replay(letter_ids: list[str]) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.ReplayDeadLetters(ReplayDeadLettersRequest(ids=letter_ids))
    for letter in response.refused:
        console.print(f"{letter.id} still cannot be taken: {letter.message}")
    console.print(f"{response.taken} dead letters taken")
