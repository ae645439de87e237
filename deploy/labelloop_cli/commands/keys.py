"""Define ``labelloop keys``: make the keys and certificates by which services authenticate."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make keys and certificates: for the broker's users, for TLS.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Where to write; made where it is not there.")]


@app.command("nats")
def nats_(folder: Folder) -> None:
    """Make a key for each user of the broker, and the next one.

    FOLDER/<user>.seed is for LABELLOOP_NATS_NKEY_FILE, FOLDER/<user>.public for the broker's environment
    (NATS_NKEY_<USER>), FOLDER/<user>-next.public too (NATS_NKEY_<USER>_NEXT).
    """
    from labelloop_cli.operations import keys

    keys.nats_(folder)


@app.command()
def tls(
    folder: Folder,
    host: Annotated[
        list[str] | None, typer.Option(help="A name or number that services answer under; may be given again.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long the certificates are good.")] = 90,
) -> None:
    """Make certificates for development.

    An authority, and FOLDER/<service> for LABELLOOP_TLS_DIR of each service, with `client` for whoever calls them. In
    production let cert-manager do it.
    """
    from labelloop_cli.operations import keys

    keys.tls(folder, host or (), days)


@app.command()
def cluster() -> None:
    """Make or complete the Secrets nkey-<user>, from within Kubernetes.

    They belong to the namespace of this pod. Keys that are there stay.
    """
    from labelloop_cli.operations import keys

    keys.cluster()


@app.command()
def follow(
    folder: Annotated[Path, typer.Argument(help="The certificates as they are renewed: see LABELLOOP_TLS_DIR.")],
    into: Annotated[Path, typer.Argument(help="Where the broker reads them: its files are under INTO/current.")],
    pid_file: Annotated[Path, typer.Option(help="The broker's file of its process id.")],
    every_s: Annotated[float, typer.Option(min=0.01, max=86_400, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Keep the broker's certificates up to date, without a restart.

    Joins all authorities to trust in one file, and tells the broker to read its files again once they change. Runs
    until it is stopped.
    """
    from labelloop_cli.operations import keys

    with suppress(KeyboardInterrupt):  # SIGTERM as well: there is nothing to undo
        keys.follow(folder, into, pid_file, every_s)
