"""The operator's command: ``labelloop``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
from labelloop.wire.errors import InvalidInput, LabelloopError, NotFound
from labelloop.wire.telemetry import set_up_logs
from platformdirs import user_cache_path
from rich.text import Text

from labelloop_cli import backlog, export, keys, label, ledger, runs
from labelloop_cli import doctor as doctor_checks
from labelloop_cli.console import console, errors
from labelloop_cli.interrupts import carry_out

if TYPE_CHECKING:
    from labelloop_cli.stack import Page

app = typer.Typer(
    name="labelloop",
    help="Active learning as a service: label the samples that matter, auto-label the confident rest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(runs.app, name="run")
app.add_typer(export.app, name="export")
app.command("import")(ledger.import_)
for command in (backlog.backlog, backlog.dead, backlog.replay):
    label.app.command()(command)
app.add_typer(label.app, name="label")
app.add_typer(keys.app, name="keys")

_USAGE = (InvalidInput, NotFound)


@app.command()
def up(
    store: Annotated[Path, typer.Option(help="Folder for all that must last.")] = Path("labelloop-data"),
    nats: Annotated[str, typer.Option(help="Use the broker at this URL instead of starting one.")] = "",
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the broker; 0 for any.")] = 4222,
    trainer_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50051,
    scorer_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50052,
    oracle_port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 50053,
    annotate: Annotated[bool, typer.Option("--annotate", help="Serve the page that people label on.")] = False,
    page_port: Annotated[int, typer.Option(min=0, max=65535, help="The page's port; 0 for any.")] = 8080,
    token: Annotated[
        str,
        typer.Option(
            envvar="LABELLOOP_HTTP_TOKEN",
            help="The secret that opens the page and signs links to samples; a new one at each start without.",
        ),
    ] = "",
) -> None:
    """Start a broker and the three services here, and keep them running until Ctrl-C."""
    from labelloop_cli.stack import Page

    ports = (trainer_port, scorer_port, oracle_port)
    page = (Page(page_port, token) if token else Page(page_port)) if annotate else None
    carry_out(
        _up(store, nats, nats_port, ports, page), interrupted="everything stopped; `labelloop up` goes on from here"
    )


async def _up(store: Path, nats: str, nats_port: int, ports: tuple[int, int, int], page: Page | None) -> None:
    from labelloop_cli.stack import running

    async with running(store, nats_url=nats, nats_port=nats_port, ports=ports, page=page) as stack:
        console.print(f"broker   {stack.nats_url}")
        for name, service in stack.services.items():
            console.print(f"{name:<8} {service.address}")
        if stack.page_url:
            console.print(f"page     {stack.page_url}", soft_wrap=True)
        console.print(f"data and logs in {store}; Ctrl-C stops everything, `labelloop up` goes on from there")
        await stack.keep_up()


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
    """Run the article's experiments on MNIST, and more, through the services; write a report."""
    from labelloop_cli.demo.human import run_human_demo
    from labelloop_cli.demo.plan import QUICK, WHOLE
    from labelloop_cli.demo.run import run_demo

    if human:
        if connect:
            raise InvalidInput("HUMAN_CONNECTS", "--human starts services of its own: leave --connect out")
        carry_out(run_human_demo(output.parent / "human"), interrupted="stopped; `labelloop demo --human` goes on here")
        return
    carry_out(
        run_demo(output, connect, QUICK if quick else WHOLE), interrupted="stopped; `labelloop demo` goes on from here"
    )


@app.command()
def report(
    run_id: runs.RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    price: Annotated[
        float | None,
        typer.Option(min=0, help="What a label costs: says what was saved in money too.", show_default="the run's own"),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The pool's true classes, to judge auto-labels by: a .npy, IDX or .csv (id, class) file.",
            show_default="the dataset's own labels, if they lie on this machine",
        ),
    ] = None,
) -> None:
    """Write a run's report: learning curve, labels saved, auto-labels, stopping, calibration, labels by class, what was
    asked for and why. One self-contained HTML file."""
    from labelloop_cli.reporting.run_report import write_report

    carry_out(write_report(run_id, output, price, truth))
    console.print(f"report of run {run_id} written to {output}")


@app.command()
def doctor() -> None:
    """Say what is missing here, and how to get it."""
    data_dir = os.environ.get("LABELLOOP_DATA_DIR")
    found = doctor_checks.checks(user_cache_path("labelloop"), Path(data_dir) if data_dir else None, Path.cwd())
    console.print(doctor_checks.render(found))
    raise typer.Exit(doctor_checks.exit_code(found))


def _first(error: BaseException) -> BaseException:
    """What went wrong first, in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> None:
    """Run the command: 0 when done, 2 for bad usage, 1 for a failure, 130 after Ctrl-C. A line says what was wrong."""
    set_up_logs("labelloop", "text", "warning")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: everything we started is stopped
    try:
        app()
    except (LabelloopError, BaseExceptionGroup) as error:
        first = _first(error)
        if not isinstance(first, LabelloopError):
            raise
        structlog.get_logger().debug("failed", reason=first.reason)
        errors.print(Text.assemble(("error:", "red"), f" {first.message}"), highlight=False)
        sys.exit(2 if isinstance(first, _USAGE) else 1)


if __name__ == "__main__":
    main()
