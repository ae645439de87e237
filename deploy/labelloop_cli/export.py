"""``labelloop export``: labels as a table, the model as ONNX."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunRequest, LabelRecord
from labelloop.wire.errors import InvalidInput, WrongState
from pyroaring import BitMap

from labelloop_cli import tables
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.console import console
from labelloop_cli.interrupts import carry_out
from labelloop_cli.ledger import export_run
from labelloop_cli.ranked import ranked_rest
from labelloop_cli.runs import RunId
from labelloop_cli.specs import word
from labelloop_cli.tables import Columns, Kind, Row

app = typer.Typer(help="Take labels, models and whole runs out.", no_args_is_help=True)

LABELS: Columns = {
    "id": Kind.COUNT,
    "class": Kind.COUNT,
    "class_name": Kind.TEXT,
    "auto_labelled": Kind.FLAG,
    "source": Kind.TEXT,
    "annotator": Kind.TEXT,
    "round": Kind.COUNT,
    "time": Kind.TIME,
    "confidence": Kind.REAL,
    "purpose": Kind.TEXT,
    "score": Kind.REAL,
}
UNLABELLED: Columns = {"id": Kind.COUNT, "predicted": Kind.TEXT, "confidence": Kind.REAL}


class Which(StrEnum):
    all = "all"
    labels = "labels"
    auto_labels = "auto-labels"


@app.callback(invoke_without_command=True)
def whole_run(
    context: typer.Context,
    run_id: Annotated[
        str, typer.Option("--run", help="Write this whole run, every event and artifact, for `labelloop import`.")
    ] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write with --run.")] = Path("run.zip"),
) -> None:
    """Take labels, models and whole runs out."""
    if run_id and context.invoked_subcommand:
        raise InvalidInput("BAD_USAGE", "--run writes the whole run: leave the command behind it out", field="run")
    if run_id:
        carry_out(export_run(run_id, output))


@app.command()
def labels(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .csv or .parquet file.")] = Path("labels.csv"),
    kind: Annotated[Which, typer.Option(help="Which: labels somebody gave, auto-labels, or both.")] = Which.all,
) -> None:
    """Write a run's labels: id, class, source, annotator, round, time, confidence, and why each was asked for."""
    tables.check(output)
    count = asyncio.run(_labels(run_id, output, kind))
    console.print(f"{count} labels of run {run_id} written to {output}")


async def _labels(run_id: str, output: Path, kind: Which) -> int:
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        records = await clients.labels(run_id)
    if kind is not Which.all:
        records = [record for record in records if record.auto_labelled == (kind is Which.auto_labels)]
    tables.write(LABELS, label_rows(records, list(run.pool.classes)), output)
    return len(records)


def label_rows(records: Iterable[LabelRecord], classes: Sequence[str]) -> Iterator[Row]:
    """The columns of ``LABELS``, one row a label, in the order given."""
    for record in records:
        yield (
            record.sample_id,
            record.label,
            classes[record.label],
            record.auto_labelled,
            record.source,
            record.annotator,
            record.round,
            record.recorded_at.ToDatetime(),
            record.confidence if record.HasField("confidence") else None,
            word(Purpose.Name(record.purpose)) if record.purpose else None,
            record.score if record.HasField("score") else None,
        )


@app.command()
def unlabelled(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .csv or .parquet file.")] = Path("unlabelled.csv"),
) -> None:
    """Write the samples that nobody has labelled, least confident first: what auto-labelling left to people."""
    tables.check(output)
    count = asyncio.run(_unlabelled(run_id, output))
    console.print(f"{count} samples that run {run_id} leaves without a label written to {output}")


async def _unlabelled(run_id: str, output: Path) -> int:
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        if not run.head_sha256:
            raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: all of its samples are unlabelled")
        taken = BitMap([record.sample_id for record in await clients.labels(run_id)])
        classes = list(run.pool.classes)
        rows = [row async for page in ranked_rest(clients, run, taken) for row in ranked_rows(page, classes)]
    tables.write(UNLABELLED, rows, output)
    return len(rows)


def ranked_rows(page: RankPoolResponse, classes: Sequence[str]) -> Iterator[Row]:
    """The columns of ``UNLABELLED``, in the order of ``page``."""
    for sample_id, predicted, confidence in zip(page.sample_ids, page.predicted, page.confidence, strict=True):
        yield sample_id, classes[predicted], confidence


@app.command()
def model(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("model.onnx"),
    round_: Annotated[int, typer.Option("--round", min=0, help="The round that the model began; 0: newest.")] = 0,
) -> None:
    """Write a run's model as ONNX: samples as the pool holds them in, probabilities out."""
    digest = asyncio.run(_model(run_id, output, round_))
    console.print(f"model {digest[:12]} of run {run_id} written to {output}")


async def _model(run_id: str, output: Path, round_: int) -> str:
    async with connect(Endpoints()) as clients:
        response = await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=round_))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(response.model)
    return response.model_sha256
