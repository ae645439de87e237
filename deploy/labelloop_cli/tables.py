"""Tables as .csv files, or as .parquet files where pyarrow is installed.

The CSV is that of pyarrow, byte for byte: texts always in quotes, so that a spreadsheet takes none of them for a number
or a date, missing values empty, and real numbers with the digits that single precision needs. The ``csv`` module of
Python 3.11 cannot write it: it quotes missing values as well, or no texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from labelloop.wire.errors import InvalidInput

_FIXED = range(-6, 10)  # powers of ten of numbers that are written without an exponent
_PLAIN = 1e-4, 1e6  # the range within which numpy writes the same


class Kind(Enum):
    """What a column holds: whole numbers of 32 bits from 0 on, truths, texts, times in UTC, reals of single
    precision."""

    COUNT = "count"
    FLAG = "flag"
    TEXT = "text"
    TIME = "time"
    REAL = "real"


Columns = Mapping[str, Kind]
Row = Sequence[Any]  # a value for each column, None where it is missing


def check(output: Path) -> None:
    """InvalidInput unless ``output`` ends in .csv, or in .parquet where such files can be written."""
    if output.suffix not in {".csv", ".parquet"}:
        message = f"cannot tell the format of {output}: end it in .csv or .parquet"
        raise InvalidInput("UNKNOWN_FORMAT", message, field="output")
    if output.suffix == ".parquet":
        _pyarrow()


def write(columns: Columns, rows: Iterable[Row], output: Path) -> None:
    """The table as ``output``, in the format that its name says; its folder is made where it is missing."""
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
    pa = _pyarrow()
    import pyarrow.parquet

    types = {
        Kind.COUNT: pa.uint32(),
        Kind.FLAG: pa.bool_(),
        Kind.TEXT: pa.string(),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
        Kind.REAL: pa.float32(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)
    pyarrow.parquet.write_table(table, output)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        message = "writing .parquet files takes pyarrow: pip install 'labelloop[parquet]', or name a .csv file"
        raise InvalidInput("PARQUET_MISSING", message, field="output") from error
    return pyarrow


def _text(value: str) -> str:
    escaped = value.replace('"', '""')
    return f'"{escaped}"'


def _time(value: datetime) -> str:
    """``value`` is taken for UTC where it has no time zone."""
    utc = value.astimezone(UTC) if value.tzinfo else value
    return f"{utc:%Y-%m-%d %H:%M:%S.%f}Z"


def _real(value: float) -> str:
    """The fewest digits that stand for no other number of single precision."""
    import numpy as np  # not at the top, for the sake of commands that write no table

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
