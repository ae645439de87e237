"""List and change who is who among annotators, for ``labelloop label annotators``."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Iterator

import grpc
from labelloop.errors import InvalidInput, from_rpc
from labelloop.events.v1.events_pb2 import AnnotatorAlias, AnnotatorRemoval
from labelloop.oracle.v1.oracle_pb2 import (
    AnnotatorRecord,
    Backlog,
    ChangeAnnotatorsRequest,
    ChangeAnnotatorsResponse,
    GetBacklogRequest,
)
from rich.table import Column, Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.documents import plain, print_json

Changed = list[tuple[str, ChangeAnnotatorsResponse]]


async def show_annotators(run_id: str, *, as_json: bool = False) -> None:
    """Print the annotators of a run, or of all runs if ``run_id`` is empty, and names that look like one person's."""
    async with connect(Endpoints()) as clients:
        backlog = await clients.oracle.GetBacklog(GetBacklogRequest(run_id=run_id))
    if as_json:
        print_json({run.run_id: [plain(each) for each in run.annotators] for run in backlog.runs})
        return
    for run in backlog.runs:
        console.print(_table(run) if run.annotators else f"nobody has answered in run {run.run_id} yet")
        tell(look_alikes(run.annotators, run.run_id))
    if not backlog.runs:
        console.print("no run asks people for labels")


def _table(run: Backlog) -> Table:
    table = Table(Column("annotator", no_wrap=True), "other names", "answers", "takes part", title=run.run_id)
    for each in run.annotators:
        table.add_row(
            each.annotator or "–", ", ".join(each.aliases), str(each.answers), "removed" if each.removed else "yes"
        )
    return table


def look_alikes(annotators: Iterable[AnnotatorRecord], run_id: str) -> Iterator[str]:
    """Yield a sentence for each annotator whose name differs from an earlier one's in case, spaces or a mail domain."""
    seen: dict[str, str] = {}
    for each in annotators:
        first = seen.setdefault(_comparable(each.annotator), each.annotator)
        if first != each.annotator:
            yield (
                f"{each.annotator!r} and {first!r} may be one person: `labelloop label annotators alias "
                f"{each.annotator!r} --is {first!r} --run {run_id}` says so"
            )


def _comparable(name: str) -> str:
    local = name.partition("@")[0] or name
    return "".join(local.replace(".", " ").replace("_", " ").split()).casefold()


async def declare_alias(name: str, same_as: str, run_id: str, by: str, *, all_open: bool) -> None:
    """Declare two names to be one person's, or a name to be a person of its own again if they are equal."""
    request = ChangeAnnotatorsRequest(alias=AnnotatorAlias(name=name, same_as=same_as))
    for run, response in await _change(request, run_id, by, all_open=all_open):
        if not response.recorded:
            console.print(f"{run}: it was so already", highlight=False)
        elif name == same_as:
            console.print(f"{run}: {name!r} is a person of its own again", highlight=False)
        else:
            told = f"{run}: {name!r} is listed as {response.annotator!r}, with the {response.answers} answers given so"
            console.print(told, highlight=False)
            _tell_unknown(run, name, response)


async def remove_annotator(name: str, run_id: str, by: str, *, withdraw: bool, all_open: bool) -> None:
    """Remove somebody, and withdraw what they said if asked to."""
    request = ChangeAnnotatorsRequest(removal=AnnotatorRemoval(name=name, withdraw=withdraw))
    for run, response in await _change(request, run_id, by, all_open=all_open):
        if not response.recorded:
            console.print(f"{run}: {response.annotator!r} was removed already", highlight=False)
            continue
        become = "are withdrawn" if withdraw else "hold"
        told = f"{run}: {response.annotator!r} is removed; the {response.answers} answers they gave {become}"
        console.print(told, highlight=False)
        _tell_unknown(run, name, response)


async def restore_annotator(name: str, run_id: str, by: str, *, all_open: bool) -> None:
    """Let somebody who was removed take part again."""
    request = ChangeAnnotatorsRequest(restored=name)
    for run, response in await _change(request, run_id, by, all_open=all_open):
        become = "takes part again" if response.recorded else "was not removed"
        console.print(f"{run}: {response.annotator!r} {become}", highlight=False)


def _tell_unknown(run_id: str, name: str, response: ChangeAnnotatorsResponse) -> None:
    if not response.answers:
        tell([f"nobody named {name!r} has an answer in run {run_id}: is it spelled so?"])


async def _change(request: ChangeAnnotatorsRequest, run_id: str, by: str, *, all_open: bool) -> Changed:
    """Make a change in a run, or in all runs that are open. Raises InvalidInput unless exactly one is chosen."""
    if bool(run_id) == all_open:
        raise InvalidInput("WHICH_RUN", "name a run with --run, or all that are open with --all-open", field="run")
    request.changed_by = by or getpass.getuser()
    async with connect(Endpoints()) as clients:
        if run_id:
            return [(run_id, await _change_one(clients, request, run_id))]
        backlog = await clients.oracle.GetBacklog(GetBacklogRequest())
        changed: Changed = []
        for run in backlog.runs:
            try:
                changed.append((run.run_id, await _change_one(clients, request, run.run_id)))
            except grpc.aio.AioRpcError as error:
                if (ours := from_rpc(error)) is None or ours.reason != "RUN_OVER":
                    raise
    if not changed:
        console.print("no run is open")
    return changed


async def _change_one(clients: Clients, request: ChangeAnnotatorsRequest, run_id: str) -> ChangeAnnotatorsResponse:
    request.run_id = run_id
    return await clients.oracle.ChangeAnnotators(request)
