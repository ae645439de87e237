"""Show the backlog, annotator quality, dead letters and held withdrawals, for ``labelloop label``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labelloop.domain.class_names import printable, shortened
from labelloop.domain.hold_ups import PROBLEM_CHARS
from labelloop.domain.ids import RequestId
from labelloop.domain.proportion import Proportion
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.oracle.v1.oracle_pb2 import (
    AcceptWithdrawalsRequest,
    Backlog,
    ClassAlias,
    DeadLetter,
    DiscardDeadLettersRequest,
    GetBacklogRequest,
    ListDeadLettersRequest,
    ListHeldWithdrawalsRequest,
    ListHeldWithdrawalsResponse,
    ReplayDeadLettersRequest,
)
from rich.table import Column, Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.output import hold_ups
from labelloop_cli.output.console import console
from labelloop_cli.output.documents import plain, print_json
from labelloop_cli.output.local_time import local_time
from labelloop_cli.sample_names import SampleNames


async def show_backlog(run_id: str, *, as_json: bool = False) -> None:
    """Print the backlog and the annotators' quality of a run, or of all runs if ``run_id`` is empty."""
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.GetBacklog(GetBacklogRequest(run_id=run_id))
    if as_json:
        print_json(plain(response))
        return
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
            console.print(printable(text), style="yellow", highlight=False, soft_wrap=True)
        if run.dead_letters:
            told = f"{run.dead_letters} results for {run.run_id} could not be taken"
            console.print(
                f"{told}: see `labelloop label dead {run.run_id}`", style="yellow", highlight=False, soft_wrap=True
            )
        if run.annotators:
            console.print(annotators_of(run))
        for told in agreement_lines(run):
            console.print(told, highlight=False, soft_wrap=True)
    others = response.dead_letters - sum(run.dead_letters for run in response.runs)
    if others > 0:
        told = f"{others} results for no run listed here could not be taken: see `labelloop label dead`"
        console.print(told, style="yellow", highlight=False, soft_wrap=True)


def standing(run: Backlog) -> list[str]:
    """Return lines on a run's hold-ups, without those of tools; if there are none, on its progress towards a batch."""
    held_up = [each for each in hold_ups.faults(list(run.held_up)) if not each.tool]
    whole = {notice[:PROBLEM_CHARS]: notice for notice in (f"{run.tool}: {each}" for each in run.notices)}
    for each in held_up:
        each.problem = whole.get(each.problem, each.problem)
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


async def show_dead(run_id: str, *, all_: bool = False, as_json: bool = False) -> None:
    """Print dead letters, newest first: those of a run, or of all if ``run_id`` is empty; one page, or ``all_``."""
    shown, request = 0, ListDeadLettersRequest(run_id=run_id)
    letters: list[DeadLetter] = []
    async with connect(Endpoints()) as clients:
        while True:
            response = await clients.oracle.ListDeadLetters(request)
            if as_json:
                letters += response.letters
                if not all_ or not response.letters:
                    print_json({"letters": [_document(each) for each in letters], "total": response.total})
                    return
                request.after_id = response.letters[-1].id
                continue
            names = await _names(clients, response.letters)
            for letter in response.letters:
                _show(letter, names.get(letter.id, ""))
            shown += len(response.letters)
            if not all_ or not response.letters:
                break
            request.after_id = response.letters[-1].id
    count = f"{shown}" if shown >= response.total else f"{shown} of {response.total:,} (--all shows them all)"
    console.print(f"{count} dead letters; `labelloop label replay` tries them again")


def _document(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as programs read it, with its data as text."""
    return plain(letter) | {"data": letter.data.decode(errors="replace")}


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


async def replay_dead(letter_ids: list[str], run_id: str, renamed: list[str]) -> None:
    """Try to record dead letters again; all if ``letter_ids`` is empty.

    Args:
        run_id: Only letters of this run; empty for all.
        renamed: Class names that were refused, each with the class it means, as ``NEW=OLD``.
    """
    aliases = [_alias(text) for text in renamed]
    request = ReplayDeadLettersRequest(ids=letter_ids, run_id=run_id, class_aliases=aliases)
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.ReplayDeadLetters(request)
    for letter in response.refused:
        console.print(f"{letter.id} still cannot be taken: {letter.message}")
    console.print(f"{response.taken} dead letters taken")


def _alias(text: str) -> ClassAlias:
    new, separator, old = (part.strip() for part in text.partition("="))
    if not (new and separator and old) or "=" in old:
        message = f"{shortened(text)!r} does not say which class is meant: write NEW=OLD"
        raise InvalidInput("BAD_ALIAS", message, field="class")
    return ClassAlias(name=new, class_name=old)


async def accept_withdrawals(run_id: str, ask: Callable[[int], bool] | None) -> None:
    """Withdraw the results that are no longer in a run's tool, after showing them.

    Args:
        ask: Asks whether to withdraw so many; None to ask for nothing.
    """
    async with connect(Endpoints()) as clients:
        held = await clients.oracle.ListHeldWithdrawals(ListHeldWithdrawalsRequest(run_id=run_id))
        if not held.total:
            console.print("no withdrawals wait to be accepted")
            return
        sample_ids = [each.sample_id for each in held.withdrawals]
        _show_held(held, await SampleNames(clients.oracle, run_id).own(sample_ids))
        if ask and not ask(held.total):
            console.print("nothing was withdrawn")
            return
        request = AcceptWithdrawalsRequest(run_id=run_id, digest=held.digest)
        accepted = await clients.oracle.AcceptWithdrawals(request)
    console.print(f"{accepted.withdrawn} results withdrawn")
    if accepted.refused:
        console.print(f"{accepted.refused} stay: somebody else answered since, or the run has ended")


def _show_held(held: ListHeldWithdrawalsResponse, names: Mapping[int, str]) -> None:
    table = Table("sample", "annotator", "class")
    for each in held.withdrawals:
        sample = printable(shortened(names.get(each.sample_id, str(each.sample_id))))
        table.add_row(sample, printable(each.annotator) or "–", printable(each.class_name) or "skipped")
    console.print(table)
    if held.total > len(held.withdrawals):
        console.print(f"and {held.total - len(held.withdrawals)} more")
    told = f"{held.total} of the {held.standing} results that stand are no longer in the tool. Withdrawn samples of the"
    console.print(f"{told} open batch are asked for again; others leave the training set.", soft_wrap=True)
