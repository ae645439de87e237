"""Define ``labelloop run``: start, list, watch, cancel, archive and delete runs, and show their specs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelloop_cli.choices import SortKey
from labelloop_cli.commands.arguments import AsJson, RunId
from labelloop_cli.commands.help_panels import PanelledCommand, flattened, given
from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.output.interrupts import carry_out

if TYPE_CHECKING:
    from labelloop.trainer.v1.trainer_pb2 import RunStatus

app = typer.Typer(help="Start, watch, cancel, archive and delete runs; give up imports.", no_args_is_help=True)
SyncSeconds = Annotated[
    float,
    typer.Option(
        min=0,
        max=86_400,
        help="Seconds to wait before anything is removed: the broker's sync_interval, within which it writes to its "
        "disk. 0 if that is `always`, as in production.",
    ),
]
_STILL_GOING = "stopped watching; the run goes on"


@app.command(cls=PanelledCommand)
@flattened(SpecOptions)
def start(
    context: typer.Context,
    options: SpecOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Read the spec from this YAML or JSON file, as `labelloop run spec` prints it. Fields that it leaves "
            "out have the defaults of the options; options given on the command line win over it. Relative paths in "
            "it start from its folder.",
        ),
    ] = None,
    run_id: Annotated[str, typer.Option(help="Name of the run.", show_default="a new name")] = "",
    continues: Annotated[str, typer.Option(help="Continue from the end of this run, with its labels and model.")] = "",
    known: Annotated[
        Path | None,
        typer.Option(
            help="CSV file (columns id or name, and class or class_name) of labels that exist: they cost nothing, and "
            "the first model is fitted on them."
        ),
    ] = None,
    upload: Annotated[
        bool | None,
        typer.Option(
            help="Upload the files that the run names, or let the oracle read them where it runs.",
            show_default="upload if they are here and the oracle is on another machine",
        ),
    ] = None,
    watch: Annotated[bool, typer.Option(help="Show the run's progress until it ends.")] = True,
) -> None:
    """Start a run, described by options, by a spec file (-f), or by both.

    The run goes on if this command ends; `labelloop run watch` shows its progress again.
    """
    from labelloop_cli.operations import run
    from labelloop_cli.run_spec.file import read_spec
    from labelloop_cli.run_spec.layers import combined
    from labelloop_cli.run_spec.request import start_request

    document = combined(options, given(context), read_spec(file) if file else {})
    wanted = start_request(document, run_id=run_id, continues=continues, known_file=known)
    carry_out(run.start(wanted, watched=watch, uploaded=upload), interrupted=_STILL_GOING)


@app.command()
def spec(run_id: RunId) -> None:
    """Print a run's spec as YAML, for `labelloop run start -f`."""
    from labelloop_cli.operations import run

    carry_out(run.show_spec(run_id))


@app.command("list")
def list_(
    state: Annotated[
        list[str] | None,
        typer.Option(help="Show only runs in this state, for example labelling; may be given several times."),
    ] = None,
    search: Annotated[str, typer.Option(help="Show only runs whose id or dataset holds this text.")] = "",
    sort: Annotated[SortKey | None, typer.Option(help="Sort by this, ascending.", show_default="the start")] = None,
    last: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Show only so many, from the end of the list; 0: all.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a CSV instead.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Show archived runs, and no others.")] = False,
) -> None:
    """Show all runs, but for archived ones."""
    from labelloop_cli.operations import run
    from labelloop_cli.output.run_filter import chosen_runs

    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")

    def choose(runs: Sequence[RunStatus]) -> list[RunStatus]:
        return chosen_runs(runs, state or (), search, sort, last)

    form = "json" if json else "csv" if csv else ""
    carry_out(run.list_(choose, form=form, archived=archived))


@app.command()
def show(run_id: RunId, json: AsJson = False) -> None:
    """Show where a run stands, and its models."""
    from labelloop_cli.operations import run_view

    carry_out(run_view.show(run_id, as_json=json))


@app.command()
def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two to ten runs.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Show runs side by side.

    First comes what they came to, then what their specs differ in.
    """
    from labelloop_cli.operations import run_view

    carry_out(run_view.compare(run_ids, as_json=json))


@app.command()
def watch(run_id: RunId) -> None:
    """Follow a run until it ends. Ctrl-C stops watching, not the run."""
    from labelloop_cli.operations import run

    carry_out(run.watch(run_id), interrupted=_STILL_GOING)


@app.command()
def archive(
    run_ids: Annotated[list[str] | None, typer.Argument(help="The runs' ids.", show_default=False)] = None,
    ended_before: Annotated[
        datetime | None, typer.Option(help="Archive all runs that ended before this day or time, in UTC.")
    ] = None,
    sync_s: SyncSeconds = 120.0,
) -> None:
    """Archive runs that have ended.

    Services drop them from memory, and the log gets smaller. Archived runs can be listed, reported, exported and
    continued as before, but take no more answers. Needs the broker (LABELLOOP_NATS_URL), and the operator's key if it
    asks for keys. If it is interrupted, run it again.
    """
    from labelloop_cli.operations import run_archive

    if not run_ids and not ended_before:
        raise typer.BadParameter("name the runs to archive, or a time with --ended-before")
    carry_out(run_archive.archive(run_ids or [], ended_before.replace(tzinfo=UTC) if ended_before else None, sync_s))


@app.command()
def restore(run_ids: Annotated[list[str], typer.Argument(help="The runs' ids.", show_default=False)]) -> None:
    """Bring archived runs back. If it is interrupted, run it again."""
    from labelloop_cli.operations import run_archive

    carry_out(run_archive.restore(run_ids))


@app.command()
def delete(
    run_ids: Annotated[list[str], typer.Argument(help="The runs' ids.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "deleted by the operator",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be removed, with every artifact; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the ids to be typed again.")] = False,
    sync_s: SyncSeconds = 120.0,
) -> None:
    """Delete archived runs for good.

    Nobody can read their labels, models and events any more, and their ids are not used again. Artifacts that other
    runs need stay, as does what a run that continues one of them took over. Needs the broker (LABELLOOP_NATS_URL), and
    the operator's key if it asks for keys. If it is interrupted, run it again. Backups, exported files and caches are
    yours to delete.
    """
    from labelloop_cli.operations import run_removal

    def ask(run_id: str) -> str:
        return str(typer.prompt(f"this cannot be taken back; type {run_id} to delete it"))

    carry_out(run_removal.delete(run_ids, reason, sync_s, None if yes else ask, dry_run=dry_run))


@app.command()
def cancel(
    run_id: RunId, reason: Annotated[str, typer.Option(help="Why, for people.")] = "cancelled by the operator"
) -> None:
    """End a run early. The labels it has stay."""
    from labelloop_cli.operations import run

    carry_out(run.cancel(run_id, reason))


@app.command()
def clear(
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "given up by the operator",
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Remove its events from the log, too. Needs the broker (LABELLOOP_NATS_URL), and the operator's key "
            "if it asks for keys.",
        ),
    ] = False,
) -> None:
    """Give up an import that was cut short. Its run id is not used again.

    `labelloop run list` shows such imports. To complete one instead, import its file again.
    """
    from labelloop_cli.operations import run

    carry_out(run.clear(run_id, reason, purged=purge))
