"""Read CSV and TSV files, as spreadsheets and programs write them: UTF-8, with commas, semicolons or tabs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import IO

from labelloop.errors import InvalidInput, LimitExceeded

from .file_access import open_file
from .row import CELL_CHARACTERS_MAX, Row, not_unicode, places_of

UTF_8 = "utf-8-sig"  # with or without a byte-order mark
_AT_ONCE_ROWS = 1_000
_HEADER_CHARACTERS = 64 * 1024
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t"
_field_limit_lock = Lock()


def read_csv(path: Path, columns: Sequence[str], field: str, encoding: str = UTF_8) -> Iterator[Row]:
    """Yield the rows below the header; blank lines are none. See :func:`oracle_svc.datasets.rows.read_rows`."""
    with _opened(path, encoding, field) as file:
        rows = _parsed(file, _delimiter(path, file), path, field)
        header = _header(rows, path, field)
        places = places_of(columns, header, path, field)
        yield from (_row(number, cells, places, len(header)) for number, cells in rows if cells)


def csv_header(path: Path, field: str, encoding: str = UTF_8) -> tuple[list[str], str]:
    """Return the names of the columns, and what separates cells. Raises as :func:`read_csv` does."""
    with _opened(path, encoding, field) as file:
        delimiter = _delimiter(path, file)
        return _header(_parsed(file, delimiter, path, field), path, field), delimiter


@contextmanager
def _opened(path: Path, encoding: str, field: str) -> Iterator[IO[str]]:
    with open_file(path) as binary:
        if binary.read(2) in _UTF16_MARKS:
            raise _bad(path, 1, "it is UTF-16: save it as CSV UTF-8", field)
    with TextIOWrapper(open_file(path), encoding, "surrogateescape", "") as file:
        yield file


def _header(rows: Iterator[tuple[int, list[str]]], path: Path, field: str) -> list[str]:
    header = next(rows, (1, []))[1]
    if any(map(not_unicode, header)):
        raise _bad(path, 1, "the header is not UTF-8: save the file as CSV UTF-8", field)
    return [name.strip() for name in header]


def _row(number: int, cells: list[str], places: list[int], width: int) -> Row:
    if len(cells) != width:
        return Row(number, fault=f"it has {len(cells)} cells, but the header has {width}")
    wanted = tuple(cells[place] for place in places)
    if any(map(not_unicode, wanted)):
        return Row(number, fault="it is not UTF-8: save the file as CSV UTF-8")
    return Row(number, wanted)


def _parsed(file: IO[str], delimiter: str, path: Path, field: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row. A quote that is not closed, or closed twice, is an error."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    number = 0
    while True:
        rows: list[list[str]] = []
        try:
            with _long_cells():
                rows.extend(islice(reader, _AT_ONCE_ROWS))
        except csv.Error as error:
            raise _bad(path, reader.line_num, f"the line cannot be parsed ({error}): mend its quotes", field) from error
        if not rows:
            return
        for cells in rows:
            number += 1
            yield number, cells


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module take cells of up to ``CELL_CHARACTERS_MAX``: its limit is one for all readers."""
    with _field_limit_lock:
        before = csv.field_size_limit(CELL_CHARACTERS_MAX)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _delimiter(path: Path, file: IO[str]) -> str:
    """Return what separates the header's cells: of comma, semicolon and tab the most frequent one outside quotes."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    head = file.readline(_HEADER_CHARACTERS)
    file.seek(0)
    if len(head) >= _HEADER_CHARACTERS:
        message = (
            f"{path}: the first line has more than {_HEADER_CHARACTERS} characters: give it a header of column names"
        )
        raise LimitExceeded("HEADER_TOO_LONG", message, path=path)
    outside = "".join(head.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _bad(path: Path, line: int, why: str, field: str) -> InvalidInput:
    return InvalidInput("BAD_CSV", f"{path}, line {line}: {why}", field=field, path=path, line=line)
