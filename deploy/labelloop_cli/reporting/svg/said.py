"""Describe a panel in words, for screen readers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from labelloop_cli.reporting.svg.marks import Band, Bars, Dots, Line, Mark, Rule
from labelloop_cli.reporting.svg.markup import plain
from labelloop_cli.reporting.svg.panels import NOTHING, Panel

_LISTED_MAX = 12  # values listed per mark; of more, only the first, last, least and greatest


def described(panel: Panel) -> str:
    """Describe the axes, and each mark in one sentence."""
    shown = ". ".join(part for part in (panel.title, _axes(panel)) if part)
    told = [f"{shown}."] if shown else []
    if panel.empty:
        return " ".join([*told, f"{NOTHING.capitalize()}."])
    return " ".join([*told, *_sentences(panel)])


def _axes(panel: Panel) -> str:
    if panel.x.title and panel.y.title:
        return f"{panel.y.title} by {panel.x.title}"
    return panel.x.title or panel.y.title


def _sentences(panel: Panel) -> Iterator[str]:
    for mark in panel.marks:
        said = _said(panel, mark)
        if said:
            yield f"{mark.label}: {said}." if mark.label else f"{said[0].upper()}{said[1:]}."


def _said(panel: Panel, mark: Mark) -> str:
    """Describe a mark; empty for marks that only repeat others, such as spans and unnamed bands."""
    if isinstance(mark, Rule):
        return f"at {plain(mark.at)}"
    found = [(x, *ends) for x, *ends in _ends(mark) if all(panel.holds(x, end) for end in ends)]
    points = [(high, f"{_reach(low, high)} at {_named(panel, x)}") for x, low, high in found]
    if len(points) <= _LISTED_MAX:
        return ", ".join(text for _, text in points)
    least, greatest = (extreme(points, key=lambda point: point[0])[1] for extreme in (min, max))
    return f"{len(points):,} points, from {points[0][1]} to {points[-1][1]}, least {least}, greatest {greatest}"


def _ends(mark: Mark) -> list[tuple[float, float, float]]:
    """Return, for each x of the mark, x and the values that it reaches from and to."""
    if isinstance(mark, Band) and mark.label:
        return list(zip(mark.x, mark.low, mark.high, strict=True))
    if isinstance(mark, Line | Dots | Bars):
        ys = mark.heights if isinstance(mark, Bars) else mark.y
        return list(zip(mark.x, ys, ys, strict=True))
    return []


def _reach(low: float, high: float) -> str:
    return plain(high) if low == high else f"{plain(low)} to {plain(high)}"


def _named(panel: Panel, x: float) -> str:
    return panel.x.names[int(x)] if panel.x.names else plain(x)
