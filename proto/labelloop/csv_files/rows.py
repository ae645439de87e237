"""Read the rows of a CSV file by the names of its columns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from labelloop.csv_files.decoding import WESTERN, Opener, encoding_of, lines_of, open_plainly, unreadable
from labelloop.domain.class_names import comparable, shortened
from labelloop.errors import InvalidInput

_DELIMITERS = ",;\t|"
_SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        number: Its number as a spreadsheet shows it: the first row of the file is 1.
        cells: Its cells by known column, without spaces around them; empty where the row is short.
    """

    path: Path
    number: int
    cells: Mapping[str, str]

    def fault(self, problem: str, field: str = "") -> InvalidInput:
        """Return the error for this row."""
        message = f"{self.path}, row {self.number}: {problem}"
        return InvalidInput("BAD_ROW", message, field=field, path=self.path, row=self.number)


@dataclass(frozen=True)
class Sheet:
    """A CSV file.

    Attributes:
        columns: Its known columns, in the file's order.
        notes: What was assumed in reading it, a sentence each.
        rows: Its rows that are not blank, read as they are iterated over, once. Raises InvalidInput for text that is no
            CSV and for a row with more cells than there are columns.
    """

    path: Path
    columns: Sequence[str]
    notes: Sequence[str]
    rows: Iterator[Row]


def read_sheet(path: Path, known: Sequence[str], opener: Opener = open_plainly) -> Sheet:
    """Open a CSV file that has some of the columns ``known``; others are ignored.

    Commas, semicolons, tabs and bars may separate the cells, and Excel's line ``sep=;`` may come first. Case and spaces
    in names of columns do not matter.

    Raises:
        NotFound: If there is no file.
        InvalidInput: If it is no CSV, has none of the columns, or has one of them twice.
        LimitExceeded: If it is too large.
    """
    encoding = encoding_of(path, opener)
    lines = lines_of(path, encoding, opener)
    before, header = _header(lines)
    if not header:
        raise unreadable(path, f"it is empty; wanted are the columns {', '.join(known)}")
    delimiter = max(_DELIMITERS, key=lambda each: len({*_names(header, each)} & {*known}))
    columns = _names(header, delimiter)
    _check_columns(path, columns, known)
    notes = [f"{path} is not UTF-8 and was read as Windows-1252"] if encoding == WESTERN else []
    rows = _rows(path, _records(path, chain([header], lines), delimiter, before), before, columns, known)
    return Sheet(path, [name for name in columns if name in known], notes, rows)


def _header(lines: Iterable[str]) -> tuple[int, str]:
    """Return the first line with text, except Excel's note of the separator, and how many rows lie before it."""
    before = 0
    for line in lines:
        if line.strip() and not line.casefold().startswith("sep="):
            return before, line
        before += not line.casefold().startswith("sep=")
    return before, ""


def _names(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []
    return ["_".join(comparable(cell).casefold().split()) for cell in cells]


def _check_columns(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    found = [name for name in columns if name in known]
    if not found:
        listed = ", ".join(repr(shortened(name)) for name in columns[:_SHOWN_COLUMNS])
        message = f"{path} has the columns {listed}, and none of those wanted: {', '.join(known)}"
        raise InvalidInput("NO_COLUMNS", message, path=path)
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise InvalidInput("COLUMN_TWICE", f"{path} has the column {twice[0]} twice: leave one", path=path)


def _records(path: Path, lines: Iterable[str], delimiter: str, before: int) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise unreadable(path, f"line {before + reader.line_num}: {error}") from error


def _rows(
    path: Path, records: Iterator[list[str]], before: int, columns: Sequence[str], known: Sequence[str]
) -> Iterator[Row]:
    """Yield rows with the cells of known columns: a short row of a file with many columns must not take much memory."""
    places = [(place, name) for place, name in enumerate(columns) if name in known]
    next(records)
    for number, cells in enumerate(records, start=before + 2):
        stripped = [cell.strip() for cell in cells]
        if not any(stripped):
            continue
        if any(stripped[len(columns) :]):
            problem = f"it has {len(cells)} cells, but there are {len(columns)} columns: is a cell without its quotes?"
            raise Row(path, number, {}).fault(problem)
        cells_of = {name: stripped[place] if place < len(stripped) else "" for place, name in places}
        yield Row(path, number, cells_of)
