"""Export a run's labels and unlabelled samples as tables, and its models as ONNX."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from labelloop.errors import NotFound, WrongState
from labelloop.events.v1.events_pb2 import LabelSource, Purpose
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunRequest, LabelRecord, RunStatus
from pyroaring import BitMap

from labelloop_cli import choices, tables
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.contradictions import contradicted, late_words
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.replacement import MODEL, check_replaceable
from labelloop_cli.reporting.unlabelled import RankedPart, ranked_rest
from labelloop_cli.run_options import word
from labelloop_cli.sample_names import SampleNames
from labelloop_cli.shared_labels import shared_labels
from labelloop_cli.tables import Columns, Kind, Row

Names = Mapping[int, str]
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


async def write_labels(run_id: str, output: Path, kind: choices.LabelKind) -> None:
    """Write a run's labels of ``kind`` to a .csv or .parquet file."""
    tables.check(output)
    async with connect(Endpoints()) as clients:
        table, written = await label_table(clients, run_id, kind)
    tables.write(table.columns, table.rows, output)
    equal = f", {written} of them of samples that equal a labelled one" if written else ""
    console.print(f"{len(table.rows)} labels of run {run_id}{equal} written to {output}")


async def label_table(clients: Clients, run_id: str, kind: choices.LabelKind) -> tuple[tables.Table, int]:
    """Return a run's labels of ``kind``, and how many of them are of samples that equal a labelled one."""
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    records = await clients.labels(run_id)
    samples = SampleNames(clients.oracle, run_id)
    shared = [*shared_labels(records, await samples.first_equal(run.pool))]
    equal_to = {record.sample_id: labelled for record, labelled in shared}
    records = [record for record in (*records, *(record for record, _ in shared)) if _is_of(kind, record)]
    names = await samples.own([record.sample_id for record in records])
    later = await _contradicted(clients, run)
    columns = with_equal(named(LABELS, names)) if run.pool.duplicate_count else named(LABELS, names)
    rows = [*label_rows(records, list(run.pool.classes), names, equal_to if run.pool.duplicate_count else None)]
    if later:
        columns = {**columns, "contradicted_by": Kind.TEXT}
        rows = [(*row, later.get(record.sample_id)) for row, record in zip(rows, records, strict=True)]
    return tables.Table(columns, rows), sum(record.sample_id in equal_to for record in records)


async def _contradicted(clients: Clients, run: RunStatus) -> Names:
    """Return what later answers say that contradict a label of the run, in words, by sample."""
    if run.spec.label_source != LabelSource.LABEL_SOURCE_QUEUE:
        return {}
    try:
        found = await contradicted(clients, run.run_id)
    except (NotFound, WrongState) as error:  # the run is archived, for example
        tell([f"answers that contradict labels are left out: {error.message}"])
        return {}
    classes = list(run.pool.classes)
    return {
        sample_id: "; ".join(late_words(late, classes) for late in answers.contradicting)
        for sample_id, answers in found.items()
    }


def _is_of(kind: choices.LabelKind, record: LabelRecord) -> bool:
    return kind is choices.LabelKind.all or record.auto_labelled == (kind is choices.LabelKind.auto_labels)


def named(columns: Columns, names: Names) -> Columns:
    """Return ``columns`` with one for the sample's name behind its id, if there are ``names``."""
    return {"id": Kind.COUNT, "name": Kind.TEXT, **columns} if names else columns


def with_equal(columns: Columns) -> Columns:
    """Return ``columns`` with one for the labelled sample that a sample equals."""
    return {**columns, "equal_to": Kind.COUNT}


def label_rows(
    records: Iterable[LabelRecord], classes: Sequence[str], names: Names, equal_to: Mapping[int, int] | None = None
) -> Iterator[Row]:
    """Yield one row per label, with the columns of ``LABELS``, in the order given.

    Args:
        records: The labels.
        classes: Class names, index = class.
        names: The name of each sample by its id, or nothing where they have none.
        equal_to: The labelled sample that others equal, by their id, for the column of :func:`with_equal`; None without
            that column.
    """
    for record in records:
        yield (
            *_sample(record.sample_id, names),
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
            *(() if equal_to is None else (equal_to.get(record.sample_id),)),
        )


async def write_unlabelled(run_id: str, output: Path) -> None:
    """Write samples without a label to a .csv or .parquet file, least confident first.

    Raises WrongState if the run has no model yet.
    """
    tables.check(output)
    async with connect(Endpoints()) as clients:
        columns, rows, count = await unlabelled_rows(clients, run_id)
    tables.write(columns, rows, output)
    console.print(f"{count} samples that run {run_id} leaves without a label written to {output}")


async def unlabelled_rows(clients: Clients, run_id: str) -> tuple[Columns, Iterator[Row], int]:
    """Return the columns and rows of samples without a label, least confident first, and how many there are.

    Raises WrongState if the run has no model yet.
    """
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    if not run.head_sha256:
        raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: all of its samples are unlabelled")
    records, samples = await clients.labels(run_id), SampleNames(clients.oracle, run_id)
    shared = shared_labels(records, await samples.first_equal(run.pool))
    taken = BitMap([record.sample_id for record in (*records, *(record for record, _ in shared))])
    pages = [page async for page in ranked_rest(clients, run, taken)]
    left = array("I", (sample_id for page in pages for sample_id in page.sample_ids))
    names = await samples.own(left)
    classes = list(run.pool.classes)
    rows = (row for page in pages for row in ranked_rows(page, classes, names))
    return named(UNLABELLED, names), rows, len(left)


def ranked_rows(page: RankedPart, classes: Sequence[str], names: Names) -> Iterator[Row]:
    """Yield one row per sample, with the columns of ``UNLABELLED``, in the order of ``page``."""
    for sample_id, predicted, confidence in zip(page.sample_ids, page.predicted, page.confidence, strict=True):
        yield *_sample(sample_id, names), classes[predicted], confidence


def _sample(sample_id: int, names: Names) -> Row:
    return (sample_id, names[sample_id]) if names else (sample_id,)


async def write_model(run_id: str, output: Path, round_: int, *, described: bool = True) -> None:
    """Write a run's model as ONNX: the one with which ``round_`` began, or the newest if it is 0.

    Args:
        described: Whether it gets metadata and an input of the samples' own shape; without, it is as it was recorded.
    """
    check_replaceable(output, MODEL)
    async with connect(Endpoints()) as clients:
        response = await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=round_, described=described))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(response.model)
    console.print(f"model {response.model_sha256[:12]} of run {run_id} written to {output}")
