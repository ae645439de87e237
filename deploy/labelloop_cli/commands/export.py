"""Define ``labelloop export``: labels as a table, the model as ONNX, a whole run as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.choices import LabelKind
from labelloop_cli.commands.arguments import RunId
from labelloop_cli.commands.help_panels import from_command_line
from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="Take labels, models and whole runs out.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def whole_run(
    context: typer.Context,
    run_id: Annotated[
        str, typer.Option("--run", help="Write this whole run, every event and artifact, for `labelloop import`.")
    ] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write with --run.")] = Path("run.zip"),
) -> None:
    """Take labels, models and whole runs out."""
    if not run_id:
        if from_command_line(context) or not context.invoked_subcommand:
            raise typer.BadParameter("name the run to write", param_hint="--run")
        return
    from labelloop.errors import InvalidInput

    from labelloop_cli.operations.archive import export_run

    if context.invoked_subcommand:
        raise InvalidInput("BAD_USAGE", "--run writes the whole run: leave the command behind it out", field="run")
    carry_out(export_run(run_id, output))


@app.command()
def labels(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .csv or .parquet file.")] = Path("labels.csv"),
    kind: Annotated[LabelKind, typer.Option(help="Which: labels somebody gave, auto-labels, or both.")] = LabelKind.all,
) -> None:
    """Write a run's labels as a table.

    Its columns are id, the sample's name if it has one, class, class_name, source, annotator, round, time, confidence,
    and why each label was asked for. Samples that equal a labelled one have its class, the source "duplicate", and the
    labelled one's id in the column equal_to. Later answers that contradict labels are in the column contradicted_by.
    `labelloop label submit`, --gold and --truth read it back.
    """
    from labelloop_cli.operations.export import write_labels

    carry_out(write_labels(run_id, output, kind))


@app.command()
def unlabelled(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .csv or .parquet file.")] = Path("unlabelled.csv"),
) -> None:
    """Write the samples without a label, least confident first.

    They are what auto-labelling left to people.
    """
    from labelloop_cli.operations.export import write_unlabelled

    carry_out(write_unlabelled(run_id, output))


@app.command()
def model(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("model.onnx"),
    round_: Annotated[
        int, typer.Option("--round", min=0, max=2**31 - 1, help="The round that the model began; 0: newest.")
    ] = 0,
    as_recorded: Annotated[
        bool,
        typer.Option(
            "--as-recorded", help="Leave it as it is in the log: flat samples, no metadata, the digest holds."
        ),
    ] = False,
) -> None:
    """Write a run's model as ONNX.

    It takes samples as the pool holds them and gives probabilities. Its metadata names the classes, the shape and
    layout of samples, the run, its round, labels, temperature and digest.
    """
    from labelloop_cli.operations.export import write_model

    carry_out(write_model(run_id, output, round_, described=not as_recorded))
