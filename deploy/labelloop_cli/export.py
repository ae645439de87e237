"""What ``labelloop export`` does: labels as a table, the model as ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunRequest, LabelRecord
from labelloop.wire.errors import WrongState
from pyroaring import BitMap

from labelloop_cli.choices import Kind
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.console import console
from labelloop_cli.ranked import ranked_rest
from labelloop_cli.specs import word
from labelloop_cli.tables import Column, Table, writer


async def write_labels(run_id: str, output: Path, kind: Kind) -> None:
    """Write a run's labels of ``kind`` to a .csv or .parquet file."""
    write = writer(output)
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        records = await clients.labels(run_id)
    if kind is not Kind.all:
        records = [record for record in records if record.auto_labelled == (kind is Kind.auto_labels)]
    write(label_table(records, list(run.pool.classes)))
    console.print(f"{len(records)} labels of run {run_id} written to {output}")


def label_table(records: list[LabelRecord], classes: list[str]) -> Table:
    """One row a label, in the order given."""
    return {
        "id": Column("uint32", [record.sample_id for record in records]),
        "class": Column("uint32", [record.label for record in records]),
        "class_name": Column("string", [classes[record.label] for record in records]),
        "auto_labelled": Column("bool", [record.auto_labelled for record in records]),
        "source": Column("string", [record.source for record in records]),
        "annotator": Column("string", [record.annotator for record in records]),
        "round": Column("uint32", [record.round for record in records]),
        "time": Column("time", [record.recorded_at.ToDatetime() for record in records]),
        "confidence": Column("float32", [_given(record, "confidence") for record in records]),
        "purpose": Column(
            "string", [word(Purpose.Name(record.purpose)) if record.purpose else None for record in records]
        ),
        "score": Column("float32", [_given(record, "score") for record in records]),
    }


def _given(record: LabelRecord, name: str) -> float | None:
    return getattr(record, name) if record.HasField(name) else None  # type: ignore[arg-type]


async def write_unlabelled(run_id: str, output: Path) -> None:
    """Write the samples without a label to a .csv or .parquet file. WrongState where the run has no model."""
    write = writer(output)
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
        if not run.head_sha256:
            raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: all of its samples are unlabelled")
        taken = BitMap([record.sample_id for record in await clients.labels(run_id)])
        pages = [page async for page in ranked_rest(clients, run, taken)]
    table = ranked_table(pages, list(run.pool.classes))
    write(table)
    count = len(table["id"].values)
    console.print(f"{count} samples that run {run_id} leaves without a label written to {output}")


def ranked_table(pages: list[RankPoolResponse], classes: list[str]) -> Table:
    """One row a sample, in the order given."""
    return {
        "id": Column("uint32", np.concatenate([np.asarray(page.sample_ids, np.uint32) for page in pages])),
        "predicted": Column("string", [classes[each] for page in pages for each in page.predicted]),
        "confidence": Column("float32", np.concatenate([np.asarray(page.confidence, np.float32) for page in pages])),
    }


async def write_model(run_id: str, output: Path, round_: int) -> None:
    """Write the model that began ``round_``, or the newest for 0, as ONNX."""
    async with connect(Endpoints()) as clients:
        response = await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=round_))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(response.model)
    console.print(f"model {response.model_sha256[:12]} of run {run_id} written to {output}")
