"""Read the rows of a table: CSV, TSV, JSON Lines or Parquet. The file's suffix determines the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from labelloop.errors import InvalidInput

from .parquet_parts import is_parquet_folder
from .row import Row
from .rows_csv import read_csv
from .rows_jsonl import read_jsonl
from .rows_parquet import read_parquet

Reader = Callable[[Path, Sequence[str], str], Iterator[Row]]
_READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
    ".pq": read_parquet,
}


def read_rows(path: Path, columns: Sequence[str], field: str) -> Iterator[Row]:
    """Yield the rows of the file, each with its cells in ``columns``, in the order of the file.

    Rows that cannot be read are yielded with their fault. ``field`` names the setting at fault in errors.

    Raises:
        InvalidInput: The file is of another kind, lacks a column, or is not made as its suffix says.
        LimitExceeded: A cell or line is too long to be one.
        OSError: It cannot be read.
    """
    reader = read_parquet if is_parquet_folder(path) else _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(
            "ROWS_FORMAT",
            f"{path} is not a table that can be read: save it as {', '.join(_READERS)}, with that suffix",
            field=field,
            path=path,
        )
    return reader(path, columns, field)
