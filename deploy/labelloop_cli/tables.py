"""Tables in files: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from labelloop.wire.errors import InvalidInput, WrongState
from numpy.typing import NDArray

Kind = Literal["uint32", "float32", "bool", "string", "time"]


@dataclass(frozen=True)
class Column:
    """Values of one kind, or None; a ``time`` is a datetime in UTC, without a time zone."""

    kind: Kind
    values: Sequence[Any] | NDArray[Any]


Table = dict[str, Column]


def _pyarrow() -> Any:
    """150 MB that a CSV does without."""
    import pyarrow.parquet

    return pyarrow


def writer(output: Path, load: Callable[[], Any] = _pyarrow) -> Callable[[Table], None]:
    """What writes a table to ``output``, in the format of its suffix.

    InvalidInput for another suffix than .csv and .parquet, WrongState for .parquet without pyarrow: both are raised
    before there is anything to write.
    """
    if output.suffix == ".csv":
        return lambda table: _write_csv(table, output)
    if output.suffix != ".parquet":
        message = f"cannot tell the format of {output}: end it in .csv or .parquet"
        raise InvalidInput("UNKNOWN_FORMAT", message, field="output")
    try:
        pa = load()
    except ImportError as error:
        message = "Parquet needs pyarrow: pip install 'labelloop[parquet]', or end the file's name in .csv"
        raise WrongState("NO_PARQUET", message) from error
    return lambda table: pa.parquet.write_table(_as_arrow(pa, table), _in_folder(output))


def _write_csv(table: Table, output: Path) -> None:
    with _in_folder(output).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(table)
        texts = (map(_TEXT.get(column.kind, _as_it_is), column.values) for column in table.values())
        rows.writerows(zip(*texts, strict=True))


def _in_folder(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


def _as_it_is(value: Any) -> Any:
    return value


_TEXT: dict[Kind, Callable[[Any], Any]] = {
    "float32": lambda value: None if value is None else str(np.float32(value)),  # as few digits as tell it
    "bool": lambda value: "true" if value else "false",
    "time": lambda value: f"{value:%Y-%m-%d %H:%M:%S.%f}Z",
}


def _as_arrow(pa: Any, table: Table) -> Any:
    kinds = {
        "uint32": pa.uint32(),
        "float32": pa.float32(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    return pa.table({name: pa.array(column.values, kinds[column.kind]) for name, column in table.items()})
