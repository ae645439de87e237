"""Exported tables: .csv without pyarrow, .parquet with it."""

from __future__ import annotations

import csv
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli import tables
from labelloop_cli.operations import export
from labelloop_cli.reporting.unlabelled import RankedPart
from labelloop_cli.tables import Kind, Row

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
CLASSES = ["cat", 'a "dog",\nof two lines', "=1+1", "猫"]
RECORDS = [
    LabelRecord(sample_id=4_294_967_295, label=1, source="page", annotator="", round=3, confidence=0.1),
    LabelRecord(
        sample_id=0, label=2, auto_labelled=True, annotator="O'Neill, \"Ann\"", confidence=1, score=-1e-7,
        recorded_at=Timestamp(seconds=1_764_370_524, nanos=1_234_999), purpose=Purpose.PURPOSE_CHOSEN,
    ),
    LabelRecord(sample_id=7, label=3, recorded_at=Timestamp(seconds=1), purpose=Purpose.PURPOSE_AUDIT, score=2.5e20),
]  # fmt: skip


def csv_of_pyarrow(columns: list[str], rows: list[Row], schema: pa.Schema, path: Path) -> bytes:
    made = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)
    pyarrow.csv.write_csv(made, path)
    return path.read_bytes()


def test_csv_of_labels_is_byte_identical_to_that_of_pyarrow(tmp_path: Path) -> None:
    classes = [name.removeprefix("=") for name in CLASSES]  # formulas are guarded: see test_csv_formulas.py
    rows, output = list(export.label_rows(RECORDS, classes, {})), tmp_path / "new" / "labels.csv"
    tables.write(export.LABELS, rows, output)
    assert output.read_bytes() == csv_of_pyarrow(list(export.LABELS), rows, SCHEMA, tmp_path / "theirs.csv")


def test_csv_of_labels_is_read_back_unchanged(tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    tables.write(export.LABELS, export.label_rows(RECORDS, CLASSES, {}), output)
    with output.open(encoding="utf-8", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert [row["class_name"] for row in (first, second, third)] == [CLASSES[1], "'=1+1", CLASSES[3]]
    assert (second["annotator"], second["auto_labelled"], second["score"]) == ('O\'Neill, "Ann"', "true", "-1e-7")
    assert (first["purpose"], second["purpose"], third["confidence"]) == ("", "chosen", "")
    assert second["time"] == "2025-11-28 22:55:24.001234Z"


def test_parquet_of_labels_has_typed_columns(tmp_path: Path) -> None:
    output = tmp_path / "labels.parquet"
    tables.write(export.LABELS, export.label_rows(RECORDS, CLASSES, {}), output)
    table = pyarrow.parquet.read_table(output)
    assert table.schema.remove_metadata() == SCHEMA
    assert table["class_name"].to_pylist() == CLASSES[1:]
    assert table["score"].to_pylist() == [None, float(np.float32(-1e-7)), float(np.float32(2.5e20))]
    assert table["time"].to_pylist()[1] == datetime(2025, 11, 28, 22, 55, 24, 1_234, UTC)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_without_rows_has_column_names(suffix: str, tmp_path: Path) -> None:
    output = tmp_path / f"none{suffix}"
    tables.write(export.UNLABELLED, [], output)
    if suffix == ".csv":
        assert output.read_text() == '"id","predicted","confidence"\n'
    else:
        assert pyarrow.parquet.read_table(output).column_names == list(export.UNLABELLED)


def test_unlabelled_samples_keep_their_order(tmp_path: Path) -> None:
    page = RankedPart(sample_ids=[9, 2], predicted=[0, 3], confidence=[0.25, 1 / 3])
    tables.write(export.UNLABELLED, export.ranked_rows(page, CLASSES, {}), tmp_path / "rest.csv")
    lines = (tmp_path / "rest.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ['9,"cat",0.25', '2,"猫",0.33333334']


def test_real_numbers_of_any_size_are_written_as_pyarrow_writes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 5_000, dtype=np.uint32).view(np.float32)
    some = [0.0, -0.0, 1e-6, 9.9e-7, 1e9, 1e10, 9_999_999_999, 123_456_789, 3.4028235e38, 1e-45, 1 / 3]
    single = np.array([*some, *rng.random(5_000), *rng.normal(size=1_000) * 10, *bits], np.float32)
    rows: list[Row] = [(float(each),) for each in single]
    tables.write({"x": Kind.REAL}, rows, tmp_path / "ours.csv")
    schema = pa.schema([("x", pa.float32())])
    assert (tmp_path / "ours.csv").read_bytes() == csv_of_pyarrow(["x"], rows, schema, tmp_path / "theirs.csv")


def test_times_are_written_in_utc(tmp_path: Path) -> None:
    there = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    tables.write({"time": Kind.TIME}, [(there,), (there.astimezone(UTC).replace(tzinfo=None),)], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == ["2026-01-01 23:30:00.000000Z"] * 2


def test_other_formats_are_refused_before_a_file_is_created(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"end it in \.csv or \.parquet") as refused:
        tables.write({"x": Kind.REAL}, [], tmp_path / "new" / "labels.xlsx")
    assert refused.value.field == "output"
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_csv_is_written_and_parquet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    tables.write({"x": Kind.COUNT}, [(1,)], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == '"x"\n1\n'
    with pytest.raises(InvalidInput, match=r"pip install 'labelloop\[parquet\]'"):
        tables.check(tmp_path / "x.parquet")


def test_export_command_can_be_imported_without_pyarrow() -> None:
    source = "import sys; sys.modules['pyarrow'] = None; import labelloop_cli.operations.export"
    subprocess.run([sys.executable, "-c", source], check=True)


def test_tables_name_samples_behind_their_ids_where_they_have_names(tmp_path: Path) -> None:
    names = {4_294_967_295: "a\n'b.png", 0: "=1+1", 7: "猫.png"}
    output = tmp_path / "labels.csv"
    tables.write(export.named(export.LABELS, names), export.label_rows(RECORDS, CLASSES, names), output)
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["id", "name", "class"]
    assert {int(row["id"]): row["name"] for row in rows} == names | {0: "'=1+1"}
    page = RankedPart(sample_ids=[7], predicted=[1], confidence=[0.5])
    assert list(export.ranked_rows(page, CLASSES, names)) == [(7, "猫.png", CLASSES[1], 0.5)]
    assert export.named(export.UNLABELLED, {}) == export.UNLABELLED
