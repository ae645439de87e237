"""Read Parquet files, where pyarrow is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from labelloop.errors import Corrupt, InvalidInput

from .reading import check_size
from .row import Row, places_of

_AT_ONCE_ROWS = 1_000


def read_parquet(path: Path, columns: Sequence[str], field: str) -> Iterator[Row]:
    """Yield all rows. See :func:`oracle_svc.datasets.rows.read_rows`; Corrupt if the file is damaged."""
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise _no_pyarrow(path, field) from error
    try:
        with parquet.ParquetFile(path) as file:
            places_of(columns, file.schema_arrow.names, path, field)
            check_size(_unpacked_bytes(file.metadata, columns), str(path))
            number = 0
            for batch in file.iter_batches(batch_size=_AT_ONCE_ROWS, columns=list(columns)):
                values = [batch.column(batch.schema.get_field_index(column)).to_pylist() for column in columns]
                for cells in zip(*values, strict=True):
                    number += 1
                    yield Row(number, cells)
    except (ArrowException, UnicodeDecodeError) as error:
        raise _damaged(path, field, error) from error


def parquet_columns(path: Path, field: str) -> list[str]:
    """Return the names of the columns. Raises as :func:`read_parquet` does."""
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise _no_pyarrow(path, field) from error
    try:
        with parquet.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
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
