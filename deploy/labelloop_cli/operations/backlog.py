"""Show the backlog, annotator quality and dead letters: ``labelloop label backlog``, ``dead`` and ``replay``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from labelloop.domain.class_names import printable, shortened
from labelloop.domain.ids import RequestId
from labelloop.domain.proportion import Proportion
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.oracle.v1.oracle_pb2 import (
    Backlog,
    DeadLetter,
    DiscardDeadLettersRequest,
    GetBacklogRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from rich.table import Column, Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.output import hold_ups
from labelloop_cli.output.console import console
from labelloop_cli.output.local_time import local_time
from labelloop_cli.sample_names import SampleNames


async def show_backlog(run_id: str) -> None:
    """Print the backlog and the annotators' quality of a run, or of all runs if ``run_id`` is empty."""
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.GetBacklog(GetBacklogRequest(run_id=run_id))
    table = Table("run", "tool", "open", "held", "disputed", "labelled", "without label", "waits since")
    for run in response.runs:
        since = local_time(run.waits_since) if run.HasField("waits_since") else "–"
        counts = (run.open, run.leased, run.disputed, run.labelled, run.skipped)
        table.add_row(run.run_id, run.tool or "–", *map(str, counts), since)
    console.print(table if response.runs else "no run asks people for labels")
    for away in response.tools_away:
        console.print(hold_ups.tool_away(away), style="yellow", highlight=False, soft_wrap=True)
    for run in response.runs:
        for text in standing(run):
            console.print(text, style="yellow", highlight=False, soft_wrap=True)
        if run.annotators:
            console.print(annotators_of(run))
        for told in agreement_lines(run):
            console.print(told, highlight=False, soft_wrap=True)
    if response.dead_letters:
        told = f"{response.dead_letters} results could not be taken: see `labelloop label dead`"
        console.print(told, style="yellow")


def standing(run: Backlog) -> list[str]:
    """Return what holds a run up, apart from tools that are away, or else what is done before it asks for samples."""
    held_up = [each for each in hold_ups.faults(list(run.held_up)) if not each.tool]
    if held_up:
        return [f"{run.run_id} is held up {hold_ups.told(each)}" for each in held_up]
    if run.problem:  # of an oracle of an earlier release
        return [f"{run.tool} does not take the requests of {run.run_id}: {run.problem}"]
    at_work = [each.problem for each in run.held_up if each.at_work]
    return [f"{run.run_id}: {text}" for text in at_work or [run.progress] if text]


def agreement_lines(run: Backlog) -> list[str]:
    """Return what is to be said of a run's annotators together."""
    told = []
    if run.shared_samples:
        beyond = f"alpha {run.alpha:.2f}" if run.HasField("alpha") else "too few to tell how much is chance"
        samples = f"{run.shared_samples} sample" + "s" * (run.shared_samples != 1)
        told.append(f"{run.run_id}: {run.pair_agreement:.0%} of pairs of answers agree, {beyond} ({samples})")
    if run.contradicted:
        samples = f"{run.contradicted} sample" + "s" * (run.contradicted != 1)
        command = f"`labelloop label contradicted {run.run_id}`"
        told.append(f"{run.run_id}: later answers contradict what stands of {samples}; {command} shows them")
    return told


def annotators_of(run: Backlog) -> Table:
    """Build a table of the annotators' quality: counts, and the interval of their share of gold samples."""
    who = Column("annotator", no_wrap=True)  # do not break names in a narrow terminal
    late = ["contradicting"] if any(each.contradicting for each in run.annotators) else []
    table = Table(
        who, "answers", "skips", "as the label", "gold right", "95 % interval", "seconds", *late, title=run.run_id
    )
    for each in run.annotators:
        interval = Proportion(each.gold_right, each.gold).interval if each.gold else "–"
        agreed, gold = f"{each.agreed}/{each.compared}", f"{each.gold_right}/{each.gold}"
        seconds = f"{each.time_spent_s:.1f}" if each.time_spent_s else "–"
        row = (str(each.answers), str(each.skips), agreed, gold, interval, seconds)
        table.add_row(each.annotator or "–", *row, *([str(each.contradicting)] if late else []))
    return table


async def discard_dead(letter_ids: list[str]) -> None:
    """Discard dead letters for good."""
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.DiscardDeadLetters(DiscardDeadLettersRequest(ids=letter_ids))
    console.print(f"{response.discarded} dead letters put aside")


async def show_dead(run_id: str, *, all_: bool = False) -> None:
    """Print dead letters, newest first: those of a run, or of all if ``run_id`` is empty; one page, or ``all_``."""
    shown, request = 0, ListDeadLettersRequest(run_id=run_id)
    async with connect(Endpoints()) as clients:
        while True:
            response = await clients.oracle.ListDeadLetters(request)
            names = await _names(clients, response.letters)
            for letter in response.letters:
                _show(letter, names.get(letter.id, ""))
            shown += len(response.letters)
            if not all_ or not response.letters:
                break
            request.after_id = response.letters[-1].id
    count = f"{shown}" if shown >= response.total else f"{shown} of {response.total:,} (--all shows them all)"
    console.print(f"{count} dead letters; `labelloop label replay` tries them again")


def _show(letter: DeadLetter, name: str) -> None:
    told = f"{letter.id} {letter.source} {letter.reason}: {letter.message}"
    console.print(told, soft_wrap=True)
    if name:
        console.print(f"  sample {printable(shortened(name))}", highlight=False, soft_wrap=True)
    console.print(f"  {letter.data[:200].decode(errors='replace')}", highlight=False)


async def _names(clients: Clients, letters: Iterable[DeadLetter]) -> dict[str, str]:
    """Return the names of the samples that letters are for, by the letter's id, where there are such samples."""
    by_run: dict[str, dict[str, int]] = {}
    for letter in letters:
        if request := _request_of(letter):
            by_run.setdefault(request.run_id, {})[letter.id] = request.sample_id
    found: dict[str, str] = {}
    for run_id, sample_ids in by_run.items():
        try:
            names = await SampleNames(clients.oracle, run_id).own([*sample_ids.values()])
        except LabelloopError:  # such a letter may be dead because its run or sample does not exist
            continue
        found |= {letter_id: names[sample_id] for letter_id, sample_id in sample_ids.items() if names}
    return found


def _request_of(letter: DeadLetter) -> RequestId | None:
    """Return the request that a letter is an answer to; None if it does not say."""
    try:
        return RequestId.parse(str(json.loads(letter.data)["request_id"]))
    except (ValueError, LookupError, TypeError, RecursionError, InvalidInput):
        return None


async def replay_dead(letter_ids: list[str]) -> None:
    """Try to record dead letters again; all if ``letter_ids`` is empty."""
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.ReplayDeadLetters(ReplayDeadLettersRequest(ids=letter_ids))
    for letter in response.refused:
        console.print(f"{letter.id} still cannot be taken: {letter.message}")
    console.print(f"{response.taken} dead letters taken")
