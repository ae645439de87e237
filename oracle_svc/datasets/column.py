"""Collect the cells of one column of a table: numbers as long as all are, and categories as long as they are few."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .row import Row

CATEGORIES_MAX = 200
CATEGORY_CHARACTERS_MAX = 200
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d{1,4})?", re.ASCII)
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "#n/a"})
_NAN = float("nan")


class Column:
    """The cells of a column, in the order in which they are added.

    Attributes:
        why_no_number: The first cell that is no number and its row; empty if all are numbers.
        missing_count: How many cells are empty or say that a value is missing.
        has_commas: Whether a number was written with a decimal comma.
    """

    def __init__(self, name: str, *, decimal_comma: bool) -> None:
        self.name, self._decimal_comma = name, decimal_comma
        self.why_no_number, self.missing_count, self.has_commas = "", 0, False
        self._numbers, self._codes = array("d"), array("h")
        self._categories: dict[str, int] | None = {}

    def add(self, cell: Any, row: Row) -> None:
        cell = _plain(cell)
        missing = cell is None or cell != cell or (isinstance(cell, str) and cell.lower() in _MISSING)
        self.missing_count += missing
        if not self.why_no_number:
            number = _NAN if missing else self._number(cell)
            if number is None:
                self.why_no_number = f"{row.place} holds {str(cell)[:40]!r}"
                self._numbers = array("d")
            else:
                self._numbers.append(number)
        if self._categories is not None:
            self._codes.append(-1 if missing else self._code(str(cell)))

    def _number(self, cell: Any) -> float | None:
        if not isinstance(cell, str):
            return float(cell)
        if _NUMBER.fullmatch(cell):
            return float(cell)
        if self._decimal_comma and _DECIMAL_COMMA.fullmatch(cell):
            self.has_commas = True
            return float(cell.replace(",", "."))
        return None

    def _code(self, category: str) -> int:
        assert self._categories is not None
        code = self._categories.setdefault(category, len(self._categories))
        if code >= CATEGORIES_MAX or len(category) > CATEGORY_CHARACTERS_MAX:
            self._categories, self._codes = None, array("h")
            return 0
        return code

    @property
    def has_few(self) -> bool:
        """Whether few enough different cells occur to be categories."""
        return self._categories is not None

    @property
    def fault(self) -> str:
        """Why models cannot see this column; empty if they can."""
        if not self.why_no_number or self.has_few:
            return ""
        return f"it is no column of numbers, since {self.why_no_number}, and has more than {CATEGORIES_MAX} categories"

    def categories(self) -> tuple[str, ...]:
        """Return the names of the categories, sorted; empty for a column of numbers, or without any value."""
        return self.spellings() if self.why_no_number else ()

    def spellings(self) -> tuple[str, ...]:
        """Return the different cells that are not missing, if they are few."""
        return tuple(sorted(self._categories or ()))

    def numbers(self) -> NDArray[np.float32]:
        """Return the numbers, with NaN for what is missing."""
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused later
            return np.frombuffer(self._numbers, np.float64).astype(np.float32)

    def codes(self, categories: Sequence[str]) -> NDArray[np.float32]:
        """Return the place of each cell in ``categories``, with NaN for what is missing there or in the column."""
        place = {name: code for code, name in enumerate(categories)}
        of_code = [float(place.get(name, _NAN)) for name in self._categories or ()]
        return np.array([*of_code, _NAN], np.float32)[np.frombuffer(self._codes, np.int16)]


def _plain(cell: Any) -> Any:
    """Return a cell as a stripped string, a number, or None; dates as seconds since 1970, in UTC."""
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or (isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)):
        return cell
    if isinstance(cell, datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day, tzinfo=UTC).timestamp()
    return str(cell)
