"""Folders of Parquet files that are one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded
from pyarrow import parquet

from oracle_svc.datasets import Dataset, DatasetSource, load, parquet_parts

ROWS: dict[str, list[Any]] = {
    "key": ["a", "b", "c", "d", "e"],
    "size": [1.5, 2.0, None, 3.0, 9.0],
    "colour": ["red", "blue", "red", "red", "blue"],
    "text": ["one text", "two texts", "three texts", "four texts", "five texts"],
    "kind": ["x", "y", "x", "y", "x"],
}


def table(rows: slice, **changes: list[Any]) -> pyarrow.Table:
    return pyarrow.table({name: values[rows] for name, values in ROWS.items()} | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts, of three rows and of two, and what a program leaves beside them."""
    folder = tmp_path / "parts"
    folder.mkdir()
    parquet.write_table(table(slice(3)), folder / "part-0.parquet")
    parquet.write_table(table(slice(3, 5)), folder / "part-1.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").touch()
    return folder


def read(path: Path, **settings: Any) -> Dataset:
    source = DatasetSource(str(path), id_column="key", label_column="kind", **settings)
    return load(source, data_dir=None, cache_dir=path.parent / "cache")


def refused(path: Path, kind: type[LabelloopError] = InvalidInput, **settings: Any) -> LabelloopError:
    with pytest.raises(kind) as raised:
        read(path, **settings)
    return raised.value


@pytest.mark.parametrize("settings", [{"columns": ("size", "colour")}, {"text_column": "text"}])
def test_parts_are_read_as_the_whole_table_is(folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    parquet.write_table(table(slice(5)), tmp_path / "whole.parquet")
    whole, parts = read(tmp_path / "whole.parquet", **settings), read(folder, **settings)
    np.testing.assert_array_equal(whole.samples, parts.samples)
    assert whole.labels is not None
    assert parts.labels is not None
    assert whole.labels.tolist() == parts.labels.tolist()
    assert (whole.names, whole.classes, whole.layout) == (parts.names, parts.classes, parts.layout)
    assert parts.notes[0] == (
        "2 Parquet files are one table, in the order of their names from 'part-0.parquet'; "
        "2 that begin with '.' or '_' are left out"
    )
    assert parts.notes[1:] == whole.notes


def test_an_evaluation_set_may_be_a_folder_too(folder: Path) -> None:
    dataset = read(folder, columns=("size", "colour"), evaluation=str(folder))
    np.testing.assert_array_equal(dataset.samples, dataset.evaluation_samples)


def test_errors_name_file_and_row(folder: Path) -> None:
    twice = folder / "part-2.parquet"
    parquet.write_table(table(slice(2)), twice)
    fault = refused(folder, columns=("size",))
    assert "row 1 of part-2.parquet: its id 'a' is that of row 1 of part-0.parquet too" in fault.message
    assert "row 2 of part-2.parquet: its id 'b' is that of row 2 of part-0.parquet too" in fault.message
    assert "row 2 of part-2.parquet: its id" in refused(folder, text_column="text").message
    parquet.write_table(table(slice(1), key=["z"], size=[1e30]), twice)
    assert "row 1 of part-2.parquet, column 'size'" in refused(folder, columns=("size",)).message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": [1.0]}, "it has a column 'more'"),
        ({"size": [1]}, "its column 'size' is int64, not double"),
    ],
)
@pytest.mark.parametrize("settings", [{"columns": ("colour",)}, {"text_column": "text"}])
def test_parts_with_other_columns_are_refused(
    folder: Path, changes: dict[str, list[Any]], said: str, settings: dict[str, Any]
) -> None:
    parquet.write_table(table(slice(1), **changes), folder / "part-2.parquet")
    fault = refused(folder, **settings)
    assert fault.reason == "OTHER_COLUMNS"
    assert f"part-2.parquet does not belong to the table of part-0.parquet: {said}" in fault.message
    assert fault.field == "name"


def test_a_part_that_lacks_a_column_or_orders_them_otherwise_is_refused(folder: Path) -> None:
    whole = table(slice(1))
    parquet.write_table(whole.drop_columns(["size"]), folder / "part-2.parquet")
    assert "it has no column 'size'" in refused(folder).message
    parquet.write_table(whole.select([*reversed(whole.column_names)]), folder / "part-2.parquet")
    assert "in another order" in refused(folder).message


def test_a_damaged_part_is_named(folder: Path) -> None:
    (folder / "part-1.parquet").write_bytes(b"PAR1 but no more")
    fault = refused(folder, Corrupt)
    assert fault.reason == "PARQUET_DAMAGED"
    assert "part-1.parquet" in fault.message


def test_settings_of_pictures_and_too_many_parts_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(folder, size="8x8").reason == "NOT_PICTURES"
    monkeypatch.setattr(parquet_parts, "_PARTS_MAX", 1)
    assert refused(folder, LimitExceeded).reason == "TOO_MANY_FILES"


def test_parts_together_are_within_the_memory_for_one_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [parquet.ParquetFile(path).metadata.row_group(0).column(3).total_uncompressed_size for path in
             sorted(folder.glob("*.parquet"))]  # fmt: skip
    monkeypatch.setattr("oracle_svc.datasets.reading.DATA_BYTES_MAX", sum(sizes) - 1)
    source = DatasetSource(str(folder), text_column="text", classes=("x", "y"))
    with pytest.raises(LimitExceeded) as raised:
        load(source, data_dir=None, cache_dir=folder)
    assert raised.value.reason == "DATA_TOO_LARGE"


def test_a_folder_with_other_files_is_no_table(folder: Path) -> None:
    (folder / "read.me").write_text("about")
    assert not parquet_parts.is_parquet_folder(folder)
    assert not parquet_parts.is_parquet_folder(folder / "part-0.parquet")
    assert not parquet_parts.is_parquet_folder(folder / "absent")
