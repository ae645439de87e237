"""Represent a row of a table, and report the columns that a table lacks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelloop.errors import InvalidInput

CELL_CHARACTERS_MAX = 1_000_000  # of one cell; more is a file of another kind, or a quote that nobody closed
_NAMED_MAX = 20


@dataclass(frozen=True)
class Row:
    """The cells asked for of one row.

    Attributes:
        number: As people count them: lines of JSON Lines from 1, rows of CSV from 2, below the header, and rows of
            Parquet from 1.
        cells: The values in the order asked for: str from CSV, any JSON value, or what Parquet holds; None if absent.
        fault: Why the row cannot be used; empty if it can. Its cells are empty then.
        file: The name of its file, where a table has several.
    """

    number: int
    cells: tuple[Any, ...] = ()
    fault: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        """The row's number, and its file where there are several, for errors."""
        return place(self.number, self.file)


def place(number: int, file: str) -> str:
    return f"row {number} of {file}" if file else f"row {number}"


def places_of(columns: Sequence[str], header: Sequence[str], path: Path, field: str) -> list[int]:
    """Return the index of each of ``columns`` in ``header``. InvalidInput if one is missing or stands there twice."""
    for column in columns:
        if header.count(column) != 1:
            found = f"the column {column!r} twice" if column in header else f"no column {column!r}"
            known = ", ".join(map(repr, header[:_NAMED_MAX])) + (", ..." if len(header) > _NAMED_MAX else "")
            raise InvalidInput(
                "NO_COLUMN",
                f"{path} has {found}: its columns are {known or 'none'}",
                field=field,
                path=path,
                column=column,
            )
    return [header.index(column) for column in columns]


def not_unicode(text: str) -> bool:
    """Return whether ``text`` holds surrogates, which stand for bytes that are not UTF-8, or for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
