"""Keep spreadsheets from taking text in a CSV for a formula, so that it can be read back exactly. Pure functions.

A spreadsheet evaluates a cell that begins with ``=``, ``+``, ``-``, ``@``, their wide forms or a tab, which may send
data elsewhere. Such text gets an apostrophe in front, and so does text that would look like that, so that no two texts
become one. Negative numbers stay as they are: they compute nothing.
"""

from __future__ import annotations

import re

_BEGINNING = r"([=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]\s*\S)"  # a cell of spaces alone is empty
_NEGATIVE = re.compile(r"-[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")
_FORMULA = re.compile(f"'*{_BEGINNING}")
_GUARDED = re.compile(f"'+{_BEGINNING}")


def guarded(text: str) -> str:
    """Return ``text`` as it is written into a cell."""
    return f"'{text}" if _FORMULA.match(text) and not _NEGATIVE.fullmatch(text) else text


def meanings(cell: str) -> tuple[str, ...]:
    """Return the texts that a cell may stand for: what :func:`guarded` made it of, then the cell as it is."""
    return (cell[1:], cell) if _GUARDED.match(cell) else (cell,)
