"""Write tables as .csv files, or as .parquet files if pyarrow is installed.

The CSV equals that of pyarrow, byte for byte, except for text that a spreadsheet would take for a formula, which has an
apostrophe in front (see :mod:`labelloop.csv_files.formulas`). Text is always quoted, so that a spreadsheet does not
take it for a number or a date; missing values are empty; real numbers have the digits that single precision needs. The
``csv`` module of Python 3.11 cannot write this format: it either quotes missing values as well or leaves text unquoted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

from labelloop.csv_files.formulas import guarded
from labelloop.errors import InvalidInput

from labelloop_cli.output.replacement import PARQUET, TABLE, check_replaceable

_FIXED = range(-6, 10)  # exponents of ten of numbers that are written out in full
_ROWS_AT_ONCE = 100_000  # of a Parquet file
_PLAIN = 1e-4, 1e6  # range in which the text of numpy is the same


class Kind(Enum):
    """The type of a column.

    Attributes:
        COUNT: Unsigned 32-bit integers.
        FLAG: Booleans.
        TEXT: Strings.
        TIME: Times in UTC.
        REAL: Single-precision numbers.
    """

    COUNT = "count"
    FLAG = "flag"
    TEXT = "text"
    TIME = "time"
    REAL = "real"


Columns = Mapping[str, Kind]
Row = Sequence[Any]  # one value per column, None if it is missing


@dataclass(frozen=True)
class Table:
    """A table in memory; each row has one value per column."""

    columns: Columns
    rows: Sequence[Row]


def check(output: Path) -> None:
    """Raise InvalidInput unless ``output`` ends in .csv, or in .parquet and pyarrow is installed.

    Raises it too if a file is there that is no such table.
    """
    if output.suffix not in {".csv", ".parquet"}:
        message = f"cannot tell the format of {output}: end it in .csv or .parquet"
        raise InvalidInput("UNKNOWN_FORMAT", message, field="output")
    if output.suffix == ".parquet":
        _pyarrow()
    check_replaceable(output, PARQUET if output.suffix == ".parquet" else TABLE)


def write(columns: Columns, rows: Iterable[Row], output: Path) -> None:
    """Write a table in the format given by the suffix of ``output``, creating its folder if it is missing."""
    check(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        _write_csv(columns, rows, output)
    else:
        _write_parquet(columns, rows, output)


def _write_csv(columns: Columns, rows: Iterable[Row], output: Path) -> None:
    formats = [_FORMATS[kind] for kind in columns.values()]
    with output.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(map(_text, columns)) + "\n")
        for row in rows:
            cells = ("" if value is None else as_text(value) for as_text, value in zip(formats, row, strict=True))
            file.write(",".join(cells) + "\n")


def _write_parquet(columns: Columns, rows: Iterable[Row], output: Path) -> None:
    schema = _schema(columns)
    import pyarrow.parquet

    rows, is_empty = iter(rows), True
    with pyarrow.parquet.ParquetWriter(output, schema) as writer:
        while (some := list(islice(rows, _ROWS_AT_ONCE))) or is_empty:
            is_empty = False
            writer.write_table(_arrow(columns, some, schema))


def arrow(table: Table) -> Any:
    """Return a ``pyarrow.Table``. Raises InvalidInput without pyarrow."""
    return _arrow(table.columns, table.rows, _schema(table.columns))


def _arrow(columns: Columns, rows: Iterable[Row], schema: Any) -> Any:
    return _pyarrow().Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)


def _schema(columns: Columns) -> Any:
    pa = _pyarrow()
    types = {
        Kind.COUNT: pa.uint32(),
        Kind.FLAG: pa.bool_(),
        Kind.TEXT: pa.string(),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
        Kind.REAL: pa.float32(),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        message = "Parquet and Arrow take pyarrow: pip install 'labelloop[parquet]', or name a .csv file"
        raise InvalidInput("PARQUET_MISSING", message, field="output") from error
    return pyarrow


def _text(value: str) -> str:
    escaped = guarded(value).replace('"', '""')
    return f'"{escaped}"'


def _time(value: datetime) -> str:
    """Format a time in UTC; a value without a time zone is taken as UTC."""
    utc = value.astimezone(UTC) if value.tzinfo else value
    return f"{utc:%Y-%m-%d %H:%M:%S.%f}Z"


def _real(value: float) -> str:
    """Format with the fewest digits that distinguish a number from all others of single precision."""
    import numpy as np  # deferred: most commands write no table

    single = np.float32(value)
    if not np.isfinite(single) or _PLAIN[0] <= abs(single) < _PLAIN[1]:
        return str(single).removesuffix(".0")
    digits, _, power = np.format_float_scientific(single, trim="-").partition("e")
    return f"{Decimal(f'{digits}e{power}'):f}" if int(power) in _FIXED else f"{digits}e{int(power):+d}"


_FORMATS: Mapping[Kind, Callable[[Any], str]] = {
    Kind.COUNT: str,
    Kind.FLAG: lambda value: "true" if value else "false",
    Kind.TEXT: _text,
    Kind.TIME: _time,
    Kind.REAL: _real,
}
