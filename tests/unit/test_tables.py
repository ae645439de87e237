"""Exported tables as files."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.wire.errors import InvalidInput, WrongState
from labelloop_cli.tables import Column, Table, writer

AT = datetime(2026, 11, 28, 22, 5, 7, 45)
TABLE: Table = {
    "id": Column("uint32", np.array([3, 4_294_967_295], np.uint32)),
    "class_name": Column("string", ['a "b", c', "été"]),
    "auto_labelled": Column("bool", [True, False]),
    "time": Column("time", [AT, AT]),
    "confidence": Column("float32", [float(np.float32(0.9)), None]),
}


def no_pyarrow() -> Any:
    raise ImportError("No module named 'pyarrow'")


def test_csv_needs_no_pyarrow_and_keeps_every_value(tmp_path: Path) -> None:
    output = tmp_path / "new/labels.csv"
    writer(output, no_pyarrow)(TABLE)
    with output.open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)] == [
            ["id", "class_name", "auto_labelled", "time", "confidence"],
            ["3", 'a "b", c', "true", "2026-11-28 22:05:07.000045Z", "0.9"],
            ["4294967295", "été", "false", "2026-11-28 22:05:07.000045Z", ""],
        ]


def test_parquet_keeps_every_value_and_its_type(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    output = tmp_path / "new/labels.parquet"
    writer(output)(TABLE)
    table = parquet.read_table(output)
    assert table.to_pylist()[0] == {
        "id": 3,
        "class_name": 'a "b", c',
        "auto_labelled": True,
        "time": AT.replace(tzinfo=UTC),
        "confidence": float(np.float32(0.9)),
    }
    assert [str(field.type) for field in table.schema] == ["uint32", "string", "bool", "timestamp[us, tz=UTC]", "float"]


def test_parquet_without_pyarrow_names_the_extra() -> None:
    with pytest.raises(WrongState, match=r"labelloop\[parquet\]"):
        writer(Path("labels.parquet"), no_pyarrow)


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\.csv or \.parquet"):
        writer(Path("labels.txt"))
