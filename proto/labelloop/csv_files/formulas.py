"""Keep spreadsheets from taking text in a CSV for a formula, so that it can be read back exactly. Pure functions.

A spreadsheet evaluates a cell that begins with ``=``, ``+``, ``-``, ``@`` or a tab, which may send data elsewhere. Such
text gets an apostrophe in front, and so does text that would look like that, so that no two texts become one.
"""

from __future__ import annotations

import re

_BEGINNING = r"([=+\-@]|[\t\r]\s*\S)"  # a cell of spaces alone is empty
_FORMULA = re.compile(f"'*{_BEGINNING}")
_GUARDED = re.compile(f"'+{_BEGINNING}")


def guarded(text: str) -> str:
    """Return ``text`` as it is written into a cell."""
    return f"'{text}" if _FORMULA.match(text) else text


def meanings(cell: str) -> tuple[str, ...]:
    """Return the texts that a cell may stand for: what :func:`guarded` made it of, then the cell as it is."""
    return (cell[1:], cell) if _GUARDED.match(cell) else (cell,)
