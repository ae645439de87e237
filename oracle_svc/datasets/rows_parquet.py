"""Read Parquet files, where pyarrow is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelloop.errors import Corrupt, InvalidInput

from .file_access import is_folder, open_file
from .parquet_parts import other_columns, parts_of
from .reading import check_size
from .row import Row, places_of

_AT_ONCE_ROWS = 1_000


def read_parquet(path: Path, columns: Sequence[str], field: str) -> Iterator[Row]:
    """Yield all rows of a file, or of the files in a folder. See :func:`oracle_svc.datasets.rows.read_rows`.

    Raises InvalidInput if the files have different columns, Corrupt if one is damaged.
    """
    parts, unpacked = parts_of(path, field), 0
    places_of(columns, parquet_columns(path, field), parts[0], field)
    for part in parts:
        with _opened(part, field) as file:
            unpacked += _unpacked_bytes(file.metadata, columns)
            check_size(unpacked, str(path))
    for part in parts:
        yield from _rows(part, columns, field, part.name if is_folder(path) else "")


def _rows(path: Path, columns: Sequence[str], field: str, name: str) -> Iterator[Row]:
    with _opened(path, field) as file:
        number = 0
        for batch in file.iter_batches(batch_size=_AT_ONCE_ROWS, columns=list(columns)):
            values = [batch.column(batch.schema.get_field_index(column)).to_pylist() for column in columns]
            for cells in zip(*values, strict=True):
                number += 1
                yield Row(number, cells, file=name)


def parquet_columns(path: Path, field: str) -> list[str]:
    """Return the names of the columns. Raises as :func:`read_parquet` does."""
    first, *others = parts_of(path, field)
    with _opened(first, field) as file:
        schema = file.schema_arrow
    for part in others:
        with _opened(part, field) as file:
            if not schema.equals(file.schema_arrow):
                raise other_columns(part, first, _difference(schema, file.schema_arrow), field)
    return list(schema.names)


def _difference(first: Any, other: Any) -> str:
    """Return the first difference between two schemas in words."""
    for name in dict.fromkeys((*first.names, *other.names)):
        if (name in first.names) != (name in other.names):
            return f"it has {'no' if name in first.names else 'a'} column {name!r}"
    for wanted, found in zip(first, other, strict=False):
        if wanted.name == found.name and wanted.type != found.type:
            return f"its column {found.name!r} is {found.type}, not {wanted.type}"
    return "its columns are in another order, or differ in whether values may be missing"


@contextmanager
def _opened(path: Path, field: str) -> Iterator[Any]:
    """Open a file; errors of its reader within the block say that it is damaged."""
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise _no_pyarrow(path, field) from error
    try:
        with open_file(path) as opened, parquet.ParquetFile(opened) as file:
            yield file
    except (ArrowException, UnicodeDecodeError) as error:
        raise _damaged(path, field, error) from error


def _no_pyarrow(path: Path, field: str) -> InvalidInput:
    message = f"{path}: Parquet files need pyarrow, which is not installed: pip install 'labelloop[parquet]'"
    return InvalidInput("NO_PYARROW", message, field=field, path=path)


def _damaged(path: Path, field: str, error: Exception) -> Corrupt:
    message = f"{path} cannot be read as Parquet ({error}): replace it with a whole copy"
    return Corrupt("PARQUET_DAMAGED", message, field=field, path=path)


def _unpacked_bytes(metadata: Any, columns: Sequence[str]) -> int:
    """Return how many bytes the columns take when decompressed, as the file says."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
