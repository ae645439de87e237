"""Define ``labelloop pool``: see what a run would read, and upload pools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.commands.arguments import AsJson
from labelloop_cli.commands.help_panels import PanelledCommand, flattened, given
from labelloop_cli.commands.spec_options import DataOptions, SpecOptions
from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="See what a run would read, and upload pools.", no_args_is_help=True)


@app.callback()
def pool() -> None:
    """See what a run would read, and upload pools."""


@app.command(cls=PanelledCommand)
@flattened(DataOptions)
def inspect(
    context: typer.Context,
    options: DataOptions,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Read a pool as `labelloop run start` would, and say what it holds. Starts nothing.

    It lists samples, layout, classes, duplicates, what was left out or assumed, features, memory and
    time.
    """
    from labelloop_cli.operations.pool import inspect_pool
    from labelloop_cli.run_spec.layers import combined
    from labelloop_cli.run_spec.request import start_request

    document = combined(SpecOptions(**asdict(options)), given(context), {})
    carry_out(inspect_pool(start_request(document, run_id="", continues=""), as_json=json))


@app.command()
def push(
    path: Annotated[Path, typer.Argument(help="A file or folder on this machine.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name to list it by.", show_default="the name of the path")] = "",
) -> None:
    """Upload a pool to services on another machine.

    Only what they lack is sent: after an interruption the command goes on where it was, and files that have not changed
    are not sent again.
    """
    from labelloop_cli.operations.pool_uploads import push as push_pool

    carry_out(push_pool(path, name), interrupted="stopped; the same command goes on from here")


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Show all uploads."""
    from labelloop_cli.operations import pool_uploads

    carry_out(pool_uploads.list_(as_json=json))


@app.command()
def rm(
    upload: Annotated[str, typer.Argument(help="Its id, the beginning of it, or its name.", show_default=False)],
) -> None:
    """Remove an upload. Runs that have read it keep their pools."""
    from labelloop_cli.operations.pool_uploads import remove

    carry_out(remove(upload))
