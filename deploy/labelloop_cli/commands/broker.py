"""Define ``labelloop broker``: what only the broker's operator may do."""

from __future__ import annotations

from typing import Annotated

import typer

from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="Look after the streams on the broker, with the operator's key.", no_args_is_help=True)


@app.callback()
def broker() -> None:
    """Look after the streams on the broker, with the operator's key."""


@app.command()
def update(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    upload_gb: Annotated[
        float,
        typer.Option(
            min=0,
            max=1_000_000,
            envvar="LABELLOOP_UPLOAD_GB",
            help="As for the oracle: how much clients may upload in all.",
        ),
    ] = 2.0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and do the same each minute.")] = False,
) -> None:
    """Create missing streams, and correct the settings of the others.

    Run it at an installation, after an upgrade, and when a service says so; on a broker without users services do the
    same by themselves. Deletes no message. Reads LABELLOOP_NATS_URL, LABELLOOP_NATS_NKEY_FILE, LABELLOOP_TLS_DIR,
    LABELLOOP_REPLICAS and LABELLOOP_ARTIFACTS_URL.
    """
    from labelloop.settings import ServiceSettings, read_settings

    from labelloop_cli.operations.broker import follow_streams, update_streams

    settings, upload_bytes_max = read_settings(ServiceSettings), int(upload_gb * 1e9)
    if follow and dry_run:
        raise typer.BadParameter("--dry-run and --follow exclude each other")
    if follow:
        carry_out(follow_streams(settings, upload_bytes_max))
    else:
        carry_out(update_streams(settings, upload_bytes_max, dry_run=dry_run))
