"""Define ``labelloop artifacts``: look after what runs keep on the broker."""

from __future__ import annotations

from typing import Annotated

import typer

from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="Look after the artifacts that runs keep on the broker.", no_args_is_help=True)


@app.callback()
def artifacts() -> None:
    """Look after the artifacts that runs keep on the broker."""


@app.command()
def sweep(
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is found; otherwise it is only listed.")
    ] = False,
    older_than_h: Annotated[
        float, typer.Option(min=1, max=100_000, help="Hours since the newest part was stored, at least.")
    ] = 1.0,
) -> None:
    """Find parts that broken-off uploads left on the broker.

    What a run names is never removed. To remove the rest, the trainer that answers needs the key for imports: no
    service's own key may delete.
    """
    from labelloop_cli.operations.artifacts import sweep_artifacts

    carry_out(sweep_artifacts(round(older_than_h * 3_600), remove=remove))
