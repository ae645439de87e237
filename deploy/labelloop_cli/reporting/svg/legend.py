"""Draw the legend: swatch and name of each labelled mark, in rows above the panels so that nothing is covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labelloop_cli.reporting.svg.marks import SWATCH, Mark
from labelloop_cli.reporting.svg.markup import FONT, shortened, text_element, text_width

_ROW, _GAP, _BETWEEN = 18.0, 6.0, 18.0


@dataclass(frozen=True)
class Entry:
    """A legend entry: its mark, its row, its left end ``x`` and its text, shortened if necessary."""

    mark: Mark
    row: int
    x: float
    text: str


def entries(marks: Sequence[Mark], width: float) -> list[Entry]:
    """Set the first mark of each label in rows of ``width``."""
    named: dict[str, Mark] = {}
    for mark in marks:
        if mark.label:
            named.setdefault(mark.label, mark)
    placed: list[Entry] = []
    row, x = 0, 0.0
    for mark in named.values():
        text = shortened(mark.label, width - SWATCH - _GAP)
        taken = SWATCH + _GAP + text_width(text)
        if x and x + taken > width:
            row, x = row + 1, 0.0
        placed.append(Entry(mark, row, x, text))
        x += taken + _BETWEEN
    return placed


def height(placed: Sequence[Entry]) -> float:
    return _ROW * (placed[-1].row + 1) + 4 if placed else 0.0


def draw(placed: Sequence[Entry]) -> list[str]:
    drawn = []
    for entry in placed:
        middle = _ROW * (entry.row + 0.5)
        drawn += entry.mark.swatch(entry.x, middle)
        at = entry.x + SWATCH + _GAP, middle + 0.35 * FONT
        drawn.append(text_element(entry.text, *at, full=entry.mark.label))
    return drawn
