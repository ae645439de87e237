"""``labelloop export``: labels as a table, the model as ONNX."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import typer
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunRequest, LabelRecord
from labelloop.wire.errors import InvalidInput, WrongState
from pyroaring import BitMap

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.console import console
from labelloop_cli.interrupts import carry_out
from labelloop_cli.ledger import export_run
from labelloop_cli.ranked import ranked_rest
from labelloop_cli.runs import RunId
from labelloop_cli.specs import word

app = typer.Typer(help="Take labels, models and whole runs out.", no_args_is_help=True)

SCHEMA = pa.schema(
    [
        ("id", pa.uint32()),
        ("class", pa.uint32()),
        ("class_name", pa.string()),
        ("auto_labelled", pa.bool_()),
        ("source", pa.string()),
        ("annotator", pa.string()),
        ("round", pa.uint32()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("confidence", pa.float32()),
        ("purpose", pa.string()),
        ("score", pa.float32()),
    ]
)


class Kind(StrEnum):
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
    kind: Annotated[Kind, typer.Option(help="Which: labels somebody gave, auto-labels, or both.")] = Kind.all,
) -> None:
    """Write a run's labels: id, class, source, annotator, round, time, confidence, and why each was asked for."""
    _check_suffix(output)
    count = asyncio.run(_labels(run_id, output, kind))
    console.print(f"{count} labels of run {run_id} written to {output}")


async def _labels(run_id: str, output: Path, kind: Kind) -> int:
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        records = await clients.labels(run_id)
    if kind is not Kind.all:
        records = [record for record in records if record.auto_labelled == (kind is Kind.auto_labels)]
    _write(label_table(records, list(run.pool.classes)), output)
    return len(records)


def label_table(records: list[LabelRecord], classes: list[str]) -> pa.Table:
    """One row a label, in the order given."""
    return pa.Table.from_pylist([_row(record, classes) for record in records], SCHEMA)


def _row(record: LabelRecord, classes: list[str]) -> dict[str, Any]:
    return {
        "id": record.sample_id,
        "class": record.label,
        "class_name": classes[record.label],
        "auto_labelled": record.auto_labelled,
        "source": record.source,
        "annotator": record.annotator,
        "round": record.round,
        "time": record.recorded_at.ToDatetime(),
        "confidence": record.confidence if record.HasField("confidence") else None,
        "purpose": word(Purpose.Name(record.purpose)) if record.purpose else None,
        "score": record.score if record.HasField("score") else None,
    }


@app.command()
def unlabelled(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .csv or .parquet file.")] = Path("unlabelled.csv"),
) -> None:
    """Write the samples that nobody has labelled, least confident first: what auto-labelling left to people."""
    _check_suffix(output)
    count = asyncio.run(_unlabelled(run_id, output))
    console.print(f"{count} samples that run {run_id} leaves without a label written to {output}")


async def _unlabelled(run_id: str, output: Path) -> int:
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        if not run.head_sha256:
            raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: all of its samples are unlabelled")
        taken = BitMap([record.sample_id for record in await clients.labels(run_id)])
        classes = list(run.pool.classes)
        tables = [_ranked_table(page, classes) async for page in ranked_rest(clients, run, taken)]
    table = pa.concat_tables(tables)
    _write(table, output)
    return int(table.num_rows)


def _ranked_table(page: RankPoolResponse, classes: list[str]) -> pa.Table:
    rows = {
        "id": pa.array(page.sample_ids, pa.uint32()),
        "predicted": pa.array([classes[each] for each in page.predicted], pa.string()),
        "confidence": pa.array(page.confidence, pa.float32()),
    }
    return pa.table(rows)


def _check_suffix(output: Path) -> None:
    if output.suffix not in {".csv", ".parquet"}:
        message = f"cannot tell the format of {output}: end it in .csv or .parquet"
        raise InvalidInput("UNKNOWN_FORMAT", message, field="output")


def _write(table: pa.Table, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        pyarrow.csv.write_csv(table, output)
    else:
        pyarrow.parquet.write_table(table, output)


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
