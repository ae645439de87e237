"""Open a table that programs and spreadsheets write: CSV, TSV or Parquet."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .file_access import open_file
from .parquet_parts import SUFFIXES, is_parquet_folder
from .row import Row
from .rows_csv import UTF_8, csv_header, read_csv
from .rows_parquet import parquet_columns, read_parquet

_CSV = (".csv", ".tsv")
_WESTERN = "cp1252"  # what Excel writes on Windows where it is not asked for UTF-8; includes Latin-1's letters
_BYTES_AT_ONCE = 1024 * 1024


def is_table(path: Path) -> bool:
    """Return whether the file's suffix is that of a table, or the folder holds parts of one."""
    return path.suffix.lower() in (*_CSV, *SUFFIXES) or is_parquet_folder(path)


@dataclass(frozen=True)
class TableFile:
    """A table on disk.

    Attributes:
        path: The file, or the folder of its parts.
        setting: The setting that names it, for errors.
        header: Names of its columns.
        decimal_comma: Whether ``1,5`` may be a number, since cells are not separated by commas.
        encoding: How the bytes of CSV are read as text; empty for Parquet.
    """

    path: Path
    setting: str
    header: tuple[str, ...]
    decimal_comma: bool
    encoding: str

    @classmethod
    def at(cls, path: Path, setting: str) -> TableFile:
        """Read the header. Raises InvalidInput, Corrupt, LimitExceeded or OSError if the file is no such table."""
        if path.suffix.lower() in SUFFIXES or is_parquet_folder(path):
            return cls(path, setting, tuple(parquet_columns(path, setting)), False, "")
        encoding = UTF_8 if _is_utf8(path) else _WESTERN
        header, delimiter = csv_header(path, setting, encoding)
        return cls(path, setting, tuple(header), delimiter != ",", encoding)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield the rows with their cells in ``columns``. Raises InvalidInput for a column that is not there."""
        if not self.encoding:
            return read_parquet(self.path, columns, self.setting)
        return read_csv(self.path, columns, self.setting, self.encoding)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.encoding != _WESTERN:
            return ()
        return (f"{self.path} is not UTF-8, and is read as Windows-1252 (Western European): check accented letters",)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_file(path) as file:
            while part := file.read(_BYTES_AT_ONCE):
                decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
