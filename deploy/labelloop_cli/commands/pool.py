"""Define ``labelloop pool``: see what a run would read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from labelloop_cli.commands.help_panels import PanelledCommand, flattened, given
from labelloop_cli.commands.spec_options import DataOptions, SpecOptions
from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="See what a run would read.", no_args_is_help=True)


@app.callback()
def pool() -> None:
    """See what a run would read."""


@app.command(cls=PanelledCommand)
@flattened(DataOptions)
def inspect(
    context: typer.Context,
    options: DataOptions,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Read a pool as `labelloop run start` would, and say what it holds. Starts nothing.

    It lists samples, layout, classes, duplicates, what was left out or assumed, features and memory.
    """
    from labelloop_cli.operations.pool import inspect_pool
    from labelloop_cli.run_spec.layers import combined
    from labelloop_cli.run_spec.request import start_request

    document = combined(SpecOptions(**asdict(options)), given(context), {})
    carry_out(inspect_pool(start_request(document, run_id="", continues=""), as_json=json))
