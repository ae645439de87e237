"""Start, show, list, watch and cancel runs, for ``labelloop run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import DatasetSource
from labelloop.trainer.v1 import trainer_pb2 as pb
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.operations.pool import described_dataset
from labelloop_cli.operations.pool_uploads import upload_paths
from labelloop_cli.operations.run_removal import purge_import
from labelloop_cli.output import hold_ups, run_summary
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.documents import plain, print_csv, print_json
from labelloop_cli.output.pool_summary import brief
from labelloop_cli.run_options import chosen_features, word
from labelloop_cli.run_spec.file import write_spec
from labelloop_cli.run_spec.request import WantedRun, continued
from labelloop_cli.sample_names import SampleNames


async def start(wanted: WantedRun, *, watched: bool, uploaded: bool | None = None) -> None:
    """Start a run after completing its spec from the dataset, and say what was read.

    Args:
        wanted: The run to start.
        watched: Show the run's progress until it ends.
        uploaded: Whether to upload the files that it names; None if they are here and the services elsewhere.
    """
    tell(wanted.notes)
    endpoints = Endpoints()
    async with connect(endpoints) as clients:
        run = await started(clients, endpoints, wanted, uploaded, _say)
        console.print(f"run {run.run_id} started")
        if watched:
            await _watch(clients, run.run_id)


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


async def started(
    clients: Clients, endpoints: Endpoints, wanted: WantedRun, uploaded: bool | None, said: Callable[[str], None]
) -> pb.RunStatus:
    """Complete the spec of a run from its dataset, start it, and return where it stands.

    Args:
        uploaded: Whether to upload the files that it names; None if they are here and the services elsewhere.
        said: Called with each sentence about what was uploaded, read and chosen.
    """
    await upload_paths(clients.oracle, endpoints.oracle, wanted.request.spec.dataset, uploaded, said)
    source = await _dataset(clients, wanted.request)
    described = await described_dataset(clients, source)
    names = SampleNames(clients.oracle, dataset=source)
    gold = await labelled_samples(wanted.gold or (), described.classes, names)
    wanted.complete(described, gold, await labelled_samples(wanted.known or (), described.classes, names))
    why = (chosen_features(described)[1],) if wanted.choose_features else ()
    for line in (brief(described, wanted.request.spec.features), *described.notes, *why):
        said(line)
    return (await clients.trainer.StartRun(wanted.request)).run


async def _dataset(clients: Clients, request: pb.StartRunRequest) -> DatasetSource:
    """Return the dataset of a run to start: that of the run to continue where the spec names none."""
    if request.spec.dataset.name or not request.continues:
        return request.spec.dataset
    parent = (await clients.trainer.GetRun(pb.GetRunRequest(run_id=request.continues))).run
    return continued(parent.spec.dataset, request.spec.dataset)


async def show_spec(run_id: str) -> None:
    """Print the spec of a run as YAML, with what is not part of it as a comment."""
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(pb.GetRunRequest(run_id=run_id))).run
    continued = f"; to continue {run.continues} again, add --continues {run.continues}" if run.continues else ""
    typer.echo(
        f"# spec of run {run_id}, for `labelloop run start -f FILE`{continued}\n{write_spec(run.spec)}", nl=False
    )


async def list_(
    choose: Callable[[Sequence[pb.RunStatus]], list[pb.RunStatus]] = list, *, form: str = "", archived: bool = False
) -> None:
    """Print runs that are not archived, or those that are.

    Args:
        choose: Returns those of all runs to print, in their order.
        form: json, csv, or empty for a table.
    """
    async with connect(Endpoints()) as clients:
        response = await listing(clients, archived=archived)
    runs = choose(response.runs)
    if form == "csv":
        print_csv([run_summary.row(run) for run in runs], run_summary.COLUMNS)
        return
    if form == "json":
        document = {
            "runs": [run_summary.document(run) for run in runs],
            "unreadable_events": response.unreadable_events,
            "archived": response.archived,
            "unfinished_imports": [plain(each) for each in response.unfinished_imports],
        }
        print_json(document)
        return
    if response.runs and not runs:
        console.print(f"none of {len(response.runs)} runs is of that kind")
    elif not runs and archived:
        console.print("no run is archived; archive runs that have ended with `labelloop run archive`")
    elif not runs:
        console.print("no runs yet; start one with `labelloop run start`")
    else:
        console.print(listed(runs))
    for run in runs:
        for said in standing(run):
            console.print(f"{run.run_id}: {said}", highlight=False, soft_wrap=True)
    if response.archived and not archived:
        console.print(f"{response.archived} archived runs are not shown; see them with --archived")
    tell(map(run_summary.unfinished, response.unfinished_imports))
    if response.unreadable_events:
        told = f"{response.unreadable_events} events on the stream cannot be read and are passed over"
        console.print(told, style="yellow")


def standing(run: pb.RunStatus) -> list[str]:
    """Return lines on a run's hold-ups; if there are none, why it ended, or its current step."""
    held_up = [f"held up {hold_ups.told(each)}" for each in hold_ups.faults(list(run.held_up))]
    return held_up or [said for said in [run.message or run.progress] if said]


async def listing(clients: Clients, *, archived: bool) -> pb.ListRunsResponse:
    """Return all pages of the list as one."""
    whole = await clients.trainer.ListRuns(pb.ListRunsRequest(archived=archived))
    more = whole.more
    while more:
        request = pb.ListRunsRequest(archived=archived, after=whole.runs[-1].run_id)
        page = await clients.trainer.ListRuns(request)
        whole.runs.extend(page.runs)
        more = page.more
    return whole


def listed(runs: list[pb.RunStatus]) -> Table:
    """Build a table of runs that fits into 80 characters for ids of up to 25, without columns that are all empty.

    Words and numbers are never broken; longer ids are.
    """
    columns: dict[str, Callable[[pb.RunStatus], str]] = {
        "run": lambda run: run.run_id,
        "state": run_summary.state,
        "round": lambda run: f"{run.round}/{run.planned_rounds}",
        "labels": run_summary.labels,
        "auto": lambda run: run_summary.auto_labels(run).partition("/")[0],
        "accuracy": run_summary.short_accuracy,
    }
    cells = {name: [of(run) for run in runs] for name, of in columns.items()}
    told = {name: column for name, column in cells.items() if {*column} - {run_summary.NONE, ""}}
    table = Table(
        *(Column(name, overflow="fold", no_wrap=name != "run") for name in told),
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    return table


async def watch(run_id: str) -> None:
    """Show a run's progress until it ends. Raises WrongState if it fails."""
    async with connect(Endpoints()) as clients:
        await _watch(clients, run_id)


async def _watch(clients: Clients, run_id: str) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("round"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(run_id, total=None, note="")
        async for run in clients.watch(run_id):
            progress.update(bar, completed=run.round, total=run.planned_rounds or 1, note=_note(run))
    if run.phase == pb.Phase.PHASE_FAILED:
        raise WrongState("RUN_FAILED", f"run {run_id} failed: {run.message}", run_id=run_id)
    archived = "; it is archived and takes no more answers" if run.archived else ""
    outcome = f"run {run_id} {word(pb.Phase.Name(run.phase))}: {run.message}; {run_summary.accuracy(run)}"
    console.print(f"{outcome}{archived}", soft_wrap=True)


def _note(run: pb.RunStatus) -> str:
    note = f"{run_summary.paid(run)}, {run_summary.accuracy(run)}"
    if run.labels_open and run.phase == pb.Phase.PHASE_LABELLING:
        note += f", waiting for {run.labels_open} labels"
    if run.progress:
        note += f", {run.progress}"
    return f"{note}, held up: {run.message}" if run.message and run.phase < pb.Phase.PHASE_FINISHED else note


async def cancel(run_id: str, reason: str) -> None:
    """Cancel a run, and print how many labels it has paid for."""
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.CancelRun(pb.CancelRunRequest(run_id=run_id, reason=reason))).run
    console.print(f"run {run_id} cancelled with {run_summary.paid(run)}")


async def clear(run_id: str, reason: str, *, purged: bool = False) -> None:
    """Give up an import that was cut short, and print how many events are void.

    If they are to be ``purged``, remove them from the log as the broker's operator.
    """
    async with connect(Endpoints()) as clients:
        cleared = await clients.trainer.ClearImport(pb.ClearImportRequest(run_id=run_id, reason=reason))
    console.print(f"the import of run {run_id} is given up: {cleared.events} events are void, and its id is used up")
    if purged:
        await purge_import(run_id)
