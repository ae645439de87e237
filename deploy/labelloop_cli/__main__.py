"""Define the operator's command, ``labelloop``.

The modules that declare commands (this one and those in :mod:`labelloop_cli.commands`) import only the command-line
library at the top: help must not wait for numpy or gRPC. A command's implementation is imported when the command runs.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.commands import artifacts, broker, export, keys, label, pool, run
from labelloop_cli.commands.arguments import RunId
from labelloop_cli.commands.help_panels import from_command_line
from labelloop_cli.output.interrupts import carry_out
from labelloop_cli.usage_errors import usage_fault

_PORTS = ("trainer_port", "scorer_port", "oracle_port")
_SETTINGS = {"token": "LABELLOOP_HTTP_TOKEN", "remote_pools": "LABELLOOP_REMOTE_POOLS"}  # of the oracle, by option

app = typer.Typer(
    name="labelloop",
    help="Active learning as a service: label the samples that matter, auto-label the confident rest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # loading rich takes three times as long as everything else that help needs
)
app.add_typer(pool.app, name="pool")
app.add_typer(run.app, name="run")
app.add_typer(export.app, name="export")
app.add_typer(label.app, name="label")
app.add_typer(keys.app, name="keys")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(broker.app, name="broker")


def _show_version(asked: bool) -> None:
    if asked:
        from labelloop import __version__

        typer.echo(f"labelloop {__version__}")
        raise typer.Exit


@app.callback()
def labelloop(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Active learning as a service: label the samples that matter, auto-label the confident rest."""


@app.command()
def up(
    context: typer.Context,
    store: Annotated[Path, typer.Option(help="Folder for all that must last.")] = Path("labelloop-data"),
    nats: Annotated[str, typer.Option(help="Use the broker at this URL instead of starting one.")] = "",
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the broker; 0 for any.")] = 4222,
    trainer_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50051,
    scorer_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50052,
    oracle_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50053,
    annotate: Annotated[bool, typer.Option("--annotate", help="Serve the page that people label on.")] = False,
    page_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The page's port; 0 for the one that it had, or any.",
            show_default="the one that it had, or 8080",
        ),
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            envvar="LABELLOOP_HTTP_TOKEN",
            help="The secret that opens the page and signs links to samples.",
            show_default="one that is kept in the store",
        ),
    ] = "",
    remote_pools: Annotated[
        str,
        typer.Option(
            envvar="LABELLOOP_REMOTE_POOLS",
            help="Let runs name pools below these URLs, separated by commas: s3://bucket/sets/, gs://bucket, "
            "https://host/sets/. They are read with the credentials of this terminal.",
            show_default="none",
        ),
    ] = "",
) -> None:
    """Start a broker and the three services here, until Ctrl-C."""
    from labelloop_cli.extras import check_installed

    ports = (trainer_port, scorer_port, oracle_port)
    options = from_command_line(context)
    taken = {} if nats else {"nats_port": nats_port}
    taken |= dict(zip(_PORTS, ports, strict=True)) | ({"page_port": page_port} if annotate and page_port else {})
    _check_ports(options, taken)
    if not annotate and (idle := options & {"page_port", "token"}):
        raise typer.BadParameter("has no effect without --annotate", param_hint=_option(min(idle)))
    _check_oracle(options, token, remote_pools)
    _check_folder(store)
    check_installed("trainer", "scorer", "oracle")
    from labelloop_cli.local.up import up

    carry_out(
        up(
            store,
            nats,
            nats_port,
            ports,
            annotate=annotate,
            page_port=page_port,
            token=token,
            remote_pools=remote_pools,
            options=_variables(options),
        ),
        interrupted="everything stopped; `labelloop up` goes on from here",
    )


def _check_ports(options: set[str], ports: dict[str, int]) -> None:
    """Refuse one port for two services. Ports of 0 are any free ones."""
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if port and port in seen:
            both = f"{_option(seen[port])} is {port} too: choose another port, or 0 for any"
            raise typer.BadParameter(both, param_hint=_option(name if name in options else seen[port]))
        seen[port] = name


def _check_oracle(options: set[str], token: str, remote_pools: str) -> None:
    """Refuse what the oracle would refuse, without the seconds that it takes to ask it."""
    from labelloop.domain.limits import TOKEN_CHARACTERS_MIN
    from labelloop.domain.remote_urls import parsed_prefixes

    if token and len(token) < TOKEN_CHARACTERS_MIN:
        raise typer.BadParameter(
            f"it must have {TOKEN_CHARACTERS_MIN} characters or more", param_hint=_named("token", options)
        )
    try:
        parsed_prefixes(remote_pools)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=_named("remote_pools", options)) from error


def _check_folder(store: Path) -> None:
    """Refuse a folder that cannot be made, without making it: services may not be installed here."""
    try:
        nearest = next(each for each in (store, *store.absolute().parents) if each.exists())
        fault = "" if nearest.is_dir() and os.access(nearest, os.W_OK) else f"{nearest} is no folder to write to"
    except (OSError, ValueError) as error:
        fault = str(error)
    if fault:
        raise typer.BadParameter(f"no folder can be made there: {fault}", param_hint="--store")


def _variables(options: set[str]) -> dict[str, str]:
    """Return the option that a service's setting comes from, by the setting's variable."""
    return {variable: _option(name) for name, variable in _SETTINGS.items() if name in options}


def _named(name: str, options: set[str]) -> str:
    """Return what a setting of the oracle was given by: an option or a variable."""
    return _option(name) if name in options else _SETTINGS[name]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for results.json, report.html and the store.")] = Path(
        "out/demo"
    ),
    connect: Annotated[
        bool, typer.Option("--connect", help="Use running services (LABELLOOP_TRAINER, ...) instead of starting them.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds: in a minute instead of two.")] = False,
    human: Annotated[
        bool, typer.Option("--human", help="Instead, label 50 digits by hand, and see what that bought.")
    ] = False,
) -> None:
    """Run the article's experiments on MNIST, and write a report.

    They go through the services, with more experiments beside the article's.
    """
    if human:
        if connect:
            from labelloop.errors import InvalidInput

            raise InvalidInput("HUMAN_CONNECTS", "--human starts services of its own: leave --connect out")
        from labelloop_cli.demo.human import run_human_demo

        carry_out(run_human_demo(output.parent / "human"), interrupted="stopped; `labelloop demo --human` goes on here")
        return
    from labelloop_cli.demo.plan import QUICK, WHOLE
    from labelloop_cli.demo.run import run_demo

    carry_out(
        run_demo(output, connect, QUICK if quick else WHOLE), interrupted="stopped; `labelloop demo` goes on from here"
    )


@app.command()
def report(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    price: Annotated[
        float | None,
        typer.Option(
            min=0, max=1e12, help="What a label costs: says what was saved in money too.", show_default="the run's own"
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The pool's true classes, to judge auto-labels by: a .npy, IDX or .csv (id, class) file.",
            show_default="the dataset's own labels, if they lie on this machine",
        ),
    ] = None,
) -> None:
    """Write a run's report, an HTML file that needs no other.

    It shows learning curve, labels saved, auto-labels, stopping, calibration, labels by class, what was asked for and
    why.
    """
    from labelloop_cli.reporting.run_report import write_report

    carry_out(write_report(run_id, output, price, truth))
    typer.echo(f"report of run {run_id} written to {output}")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="What `labelloop export --run` wrote.", show_default=False)],
    run_id: Annotated[str, typer.Option(help="Import it under this id.", show_default="the id that it had")] = "",
) -> None:
    """Rebuild a run from its export. It is there whole or not at all, and goes on where the export left it.

    If it is cut short, import the same file again to complete it.
    """
    from labelloop_cli.operations.archive import import_run

    carry_out(import_run(path, run_id), interrupted="stopped; there is no run yet: import the file again")


@app.command()
def load(
    run: Annotated[
        str, typer.Option(help="Run whose newest model scores.", show_default="the newest that has a model")
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long each of the two loops lasts.")] = 30.0,
    users: Annotated[int, typer.Option(min=1, max=1000, help="Users of the closed loop.")] = 8,
    images: Annotated[int, typer.Option(min=1, max=1000, help="Images in a call.")] = 1,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Rate of the open loop, as a share of what the closed loop reached.")
    ] = 0.5,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Put running scorers under load, and check every answer.

    Users that wait for answers come first (a closed loop), then calls at a constant rate (an open one). It reads only.
    """
    from labelloop_cli.operations.load import Plan, put_under_load

    carry_out(put_under_load(Plan(run, seconds, users, images, share), as_json=json))


@app.command()
def doctor(
    services: Annotated[
        bool | None,
        typer.Option(
            help="Check the services, or what this machine needs to run them.",
            show_default="the services if LABELLOOP_TRAINER, ... name other machines",
        ),
    ] = None,
) -> None:
    """Say what is missing here, or wrong with services elsewhere.

    Of services it checks that they answer, versions, clocks, certificates, broker, disks, and runs held up. Each line
    that fails says what to do. It exits with 0 if all is well.
    """
    from labelloop_cli.operations.doctor import examine

    raise typer.Exit(examine(services))


def main() -> None:
    """Run the command line; exit with 0 when done, 2 for bad usage, 1 for a failure, 130 after Ctrl-C.

    Failures and bad usage are reported in one line each.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: everything started here is stopped
    try:
        code = app(standalone_mode=False)  # the exit code of a command that ends itself, else what it returned: None
    except typer.Abort:
        code = 1
    except Exception as error:
        if wrong := usage_fault(error):
            typer.echo(wrong, err=True)
            sys.exit(2)
        from labelloop_cli.failures import reported

        code = reported(error)
        if code is None:
            raise
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
